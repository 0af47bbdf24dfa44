// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The least that any pool could need: buffers of the thread's own, in an array that is popped and pushed inline. Nothing is
 * shared, nothing checked but that the array is not empty, and nobody is known to hold anything.
 *
 *   limit    the top of the array stays in a register: no pool can be that, since it must find its array again at each
 *            call. Each pop waits for the push before it to come through memory, about 5 cycles
 *   object   the same array and its top in a thread-local object, loaded and stored by each call
 *
 * In the work `cross`, buffers come back to the producer's array 256 at a time; `ring` hands over pointers that
 * nobody leases or gives back. `clock` is no pool: an empty interval, measured as single leases are. */
#include "bench.h"

#include "pool/subject.h"
#include "pool/ticks.h"

typedef struct stack {
    void *items[POOL_LOCAL];
    size_t top;
} stack;

/* In the work `cross`, the way back: as much at once as the ring takes. */
typedef struct batch {
    size_t count;
    void *items[POOL_RING];
} batch;
#define FULL    (POOL_BUFFERS / POOL_RING)
#define BATCHES (FULL + 2) /* either side has one at hand */

typedef struct limit {
    pool_memory memory;
    stack shares[POOL_THREADS_MAX];
    pool_ring full, empty;
    batch batches[BATCHES], *sending, *receiving;
} limit;

static __thread stack object;

static void *limit_open(const pool_subject *self, size_t bytes, size_t count) {
    (void)self;
    limit *l = aligned_alloc(128, (sizeof *l + 127) & ~(size_t)127);
    if (l == NULL || count < POOL_BUFFERS) return NULL;
    memset(l, 0, sizeof *l);
    if (!pool_memory_open(&l->memory, bytes, POOL_BUFFERS)) return NULL;
    for (size_t i = 0; i < POOL_BUFFERS; i++)
        l->shares[i / POOL_LOCAL].items[i % POOL_LOCAL] = pool_memory_at(&l->memory, i);
    for (size_t t = 0; t < POOL_THREADS_MAX; t++) l->shares[t].top = POOL_LOCAL;
    for (size_t i = 0; i < POOL_BUFFERS; i++) {
        batch *b = &l->batches[i / POOL_RING];
        b->items[b->count++] = pool_memory_at(&l->memory, i);
    }
    for (size_t b = 1; b < FULL; b++) pool_ring_push(&l->full, &l->batches[b]);
    l->sending = &l->batches[0];
    l->receiving = &l->batches[FULL];
    pool_ring_push(&l->empty, &l->batches[FULL + 1]);
    pool_ring_flush(&l->full);
    pool_ring_flush(&l->empty);
    return l;
}

static void limit_close(void *context) {
    limit *l = context;
    pool_memory_close(&l->memory);
    free(l);
}

static stack *my_share(limit *l) { return &l->shares[workers_number]; }

/* What a loop keeps, at a known place in its page: loads wait for stores to the same place in another page, and the first
 * bytes of the buffers on top of a share lie in the second half of theirs (see limit_open). */
typedef struct local {
    stack stack;
    void *held[POOL_BURST];
} local;
_Static_assert(sizeof(local) <= 2048, "half a page");
#define AT_A_PAGE __attribute__((__aligned__(4096)))

/* gcc 12 and clang 14, -O2: a load and a store of the array and the write to the buffer; the top is in a register. */
static void limit_pair(void *context, size_t pairs) {
    local AT_A_PAGE l;
    l.stack = *my_share(context);
    size_t top = l.stack.top;
    for (size_t i = 0; i < pairs; i++) {
        void *p = top > 0 ? l.stack.items[--top] : NULL;
        if (POOL_UNLIKELY(p == NULL)) pool_fail("limit", "is empty");
        pool_touch(p);
        POOL_FORGET(p);
        POOL_FORGET(top);
        l.stack.items[top++] = p;
    }
}

static void limit_burst(void *context, size_t pairs) {
    local AT_A_PAGE l;
    l.stack = *my_share(context);
    size_t top = l.stack.top;
    void **all = l.held;
    for (size_t i = 0; i < pairs; i += POOL_BURST) {
        for (size_t k = 0; k < POOL_BURST; k++) {
            void *p = top > 0 ? l.stack.items[--top] : NULL;
            if (POOL_UNLIKELY(p == NULL)) pool_fail("limit", "is empty");
            pool_touch(p);
            l.held[k] = p;
        }
        POOL_FORGET(all);
        POOL_FORGET(top);
        for (size_t k = 0; k < POOL_BURST; k++) {
            void *p = all[k];
            POOL_OPAQUE(p); /* else copied by 16 bytes, which wait for the writes of their halves */
            l.stack.items[top++] = p;
        }
    }
}

static void limit_many(void *context, size_t pairs) {
    local AT_A_PAGE l;
    l.stack = *my_share(context);
    size_t top = l.stack.top;
    void **all = l.held;
    for (size_t i = 0; i < pairs; i += POOL_BURST) {
        if (POOL_UNLIKELY(top < POOL_BURST)) pool_fail("limit", "is empty");
        top -= POOL_BURST;
        memcpy(l.held, &l.stack.items[top], sizeof l.held);
        for (size_t k = 0; k < POOL_BURST; k++) pool_touch(l.held[k]);
        POOL_FORGET(all);
        POOL_FORGET(top);
        memcpy(&l.stack.items[top], all, sizeof l.held);
        top += POOL_BURST;
    }
}

static void limit_send(void *context, pool_ring *ring, size_t n) {
    limit *l = context;
    batch *mine = l->sending;
    for (size_t i = 0; i < n; i++) {
        if (mine->count == 0) {
            pool_ring_push(&l->empty, mine);
            pool_ring_flush(&l->empty);
            mine = pool_ring_pop(&l->full);
        }
        void *p = mine->items[--mine->count];
        pool_touch(p);
        pool_ring_push(ring, p);
    }
    l->sending = mine;
}

static void limit_receive(void *context, pool_ring *ring) {
    limit *l = context;
    batch *mine = l->receiving;
    for (void *item; (item = pool_ring_pop(ring)) != NULL;) {
        mine->items[mine->count++] = item;
        if (mine->count == POOL_RING) {
            pool_ring_push(&l->full, mine);
            pool_ring_flush(&l->full);
            mine = pool_ring_pop(&l->empty);
        }
    }
    l->receiving = mine;
}

/* ---- the same array behind a thread-local object ----------------------------------------------------------------- */

static void object_enter(void *context) { object = *my_share(context); }

static void object_leave(void *context) {
    (void)context;
    object.top = 0;
}

static inline bool object_take(void **out) {
    if (POOL_UNLIKELY(object.top == 0)) return false;
    *out = object.items[--object.top];
    return true;
}

static inline void object_give(void *p) { object.items[object.top++] = p; }

#define SUBJECT         object
#define LOCALS(context) (void)(context)
#define TAKE(h)         object_take(h)
#define GIVE(h)         object_give(*(h))
#include "pool/loops.h"

/* ---- the ring and the clock alone -------------------------------------------------------------------------------- */

static void *nothing_open(const pool_subject *self, size_t bytes, size_t count) {
    static char nothing;
    (void)self, (void)bytes, (void)count;
    return &nothing;
}

static void nothing_close(void *context) { (void)context; }

static void ring_send(void *context, pool_ring *ring, size_t n) {
    for (size_t i = 0; i < n; i++) pool_ring_push(ring, context);
}

static void ring_receive(void *context, pool_ring *ring) {
    (void)context;
    while (pool_ring_pop(ring) != NULL) {
    }
}

static void clock_latency(void *context, uint32_t *ticks, size_t n) {
    (void)context;
    for (size_t i = 0; i < n; i++) {
        uint64_t begin = ticks_begin(), took = ticks_end() - begin;
        ticks[i] = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
    }
}

void pool_add_limit(pool_list *list) {
    pool_subject subject = {.open = limit_open, .close = limit_close};
    subject.holder = "no";
    subject.travels = "address";
    pool_subject behind = subject;
    subject.name = "limit";
    subject.handle_bytes = sizeof(void *);
    subject.pair = limit_pair;
    subject.burst = limit_burst;
    subject.many = limit_many;
    subject.send = limit_send;
    subject.receive = limit_receive;
    pool_list_add(list, &subject);

    object_loops(&behind);
    behind.enter = object_enter;
    behind.leave = object_leave;
    behind.send = NULL;
    behind.receive = NULL;
    pool_list_add(list, &behind);

    pool_list_add(list, &(pool_subject){.name = "ring",
                                        .holder = "no",
                                        .travels = "address",
                                        .open = nothing_open,
                                        .close = nothing_close,
                                        .send = ring_send,
                                        .receive = ring_receive});
    pool_list_add(list, &(pool_subject){.name = "clock",
                                        .holder = "no",
                                        .travels = "-",
                                        .open = nothing_open,
                                        .close = nothing_close,
                                        .latency = clock_latency});
}
