// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What does an allocation in an arena cost, next to the least that it could, and next to what people use instead?
 *
 * How to read the table. A row is one subject doing one work; ns_per_op is nanoseconds for one allocation, its share of
 * opening, reset and close included, as the median of the rounds. `ratio` is to the row's `register`, `ratio_object` to its
 * `object`; both are of the same run, and only ratios should be carried from one machine to another.
 *
 *   register   a bump loop written out by hand over memory that is there already, with a bounds check; the cursor stays in a
 *              register. Nobody's arena can be that: it is the floor, not a rival. In the row of requests it opens nothing;
 *              in the rows of services it takes a header and a block
 *   object     the same loop with the cursor in an object in memory, loaded and stored at each allocation: what a hand-made
 *              arena costs as soon as it is passed by pointer. Each allocation waits for the store of the one before, about
 *              5 cycles, and has two stores where `register` has one, which tells when memory is cold. So this can be slower
 *              than an arena whose cursor the compiler may keep in a register over several allocations. Some processors
 *              pass such a store on without the wait, in one loop and not in the next: ratio_object then jumps between
 *              rows and compilers, while `ratio` does not
 *   nebula     the library as a program uses it: the inline path of nebula/arena.h, everything else out of line
 *   glibc, jemalloc, mimalloc                       allocations freed one by one, in the order in which they were made
 *   mimalloc_heap, talloc, apr_pool, obstack        regions, undone as a whole as nebula's are
 *
 * All subjects take the same sizes, look at each pointer for NULL and store a word through it; the last word of each batch is
 * read back. The store is volatile, so that none is left out, and typed, so that it says nothing about other memory: a
 * subject that may keep something in a register over it is allowed to. Alignment is 16 for all but apr_pool, which has 8.
 * Peers are called through pointers (peers/peers.h says why that is fair).
 *
 * What the compilers make of it is noted at each loop; look again (objdump -d) after a change. */
#include "bench.h"

#include "nebula/memory.h"
#include "peers/peers.h"

#define ALLOCATIONS ((size_t)1 << 20)
#define REQUEST     50 /* allocations of a request */

/* n allocations in batches, each undone as a whole. */
typedef struct batch_work {
    size_t total, batch;
} batch_work;

typedef struct bump {
    unsigned char *start, *ptr, *end;
} bump;

static bump buffer; /* of the hand-made loops */
static nm_scope *root;
static nm_arena *arena;
static size_t first_block; /* of `arena`; 0 = the default */
static uint16_t *sizes;    /* of the work at hand */
static void **pointers;    /* for those that free one by one */

_Noreturn static void fail(const char *what) {
    fprintf(stderr, "arena: %s\n", what);
    exit(1);
}

static inline size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* The one store: all subjects do it, so that memory is touched and no allocation can be left out. */
static inline void store(void *p, size_t i) {
    if (p == NULL) fail("an allocation was refused");
    *(volatile size_t *)p = i;
}

/* What was stored last must be where it was put. */
static inline void check(const void *p, size_t i) {
    if (*(const volatile size_t *)p != i) fail("what was stored is not there");
}

/* `b` is a variable of the function: as anybody would write who has only this loop.
 * gcc 12 and clang 14, -O2: ptr and end are in registers, the only store of a round is that of the value. */
static inline void *register_alloc(bump *b, size_t n) {
    size_t bytes = (n + 15) & ~(size_t)15;
    unsigned char *p = b->ptr;
    if (bytes > (size_t)(b->end - p)) fail("the buffer is too small");
    b->ptr = p + bytes;
    return p;
}

/* `b` is an object somewhere. Volatile stands for what an arena's user cannot promise the compiler: that nothing between
 * two allocations looks at the arena.
 * Both compilers: one load and one store of the cursor more than above in each round; `end` is in a register. */
static inline void *object_alloc(bump *b, size_t n) {
    unsigned char *volatile *cursor = &b->ptr;
    size_t bytes = (n + 15) & ~(size_t)15;
    unsigned char *p = *cursor;
    if (bytes > (size_t)(b->end - p)) fail("the buffer is too small");
    *cursor = p + bytes;
    return p;
}

/* ---- n allocations, then one reset ------------------------------------------------------------------------------- */

static void register_batches(void *context) {
    const uint16_t *wanted = sizes;
    const batch_work w = *(const batch_work *)context;
    bump b = buffer;
    for (size_t i = 0; i < w.total;) {
        void *p = NULL;
        for (size_t stop = least(i + w.batch, w.total); i < stop; i++) store(p = register_alloc(&b, wanted[i]), i);
        check(p, i - 1);
        b.ptr = b.start;
        bench_keep(b.ptr);
    }
}

static void object_batches(void *context) {
    const uint16_t *wanted = sizes;
    const batch_work w = *(const batch_work *)context;
    bump *b = &buffer;
    bench_forget(b);
    for (size_t i = 0; i < w.total;) {
        void *p = NULL;
        for (size_t stop = least(i + w.batch, w.total); i < stop; i++) store(p = object_alloc(b, wanted[i]), i);
        check(p, i - 1);
        *(unsigned char *volatile *)&b->ptr = b->start;
    }
}

/* Allocates and stores for i up to stop; the last pointer. A function that is given the arena, as a program's own are: where a
 * variable was passed by address to nm_arena_open, the compiler must load it, and with it ptr, for each allocation anew.
 * Both compilers: a store of ptr and a load of end in each round, but no load of ptr, which stays in a register from one
 * allocation to the next; a prefetch; the call of the slow path is out of the way. */
static inline void *arena_fill(nm_arena *a, const uint16_t *wanted, size_t i, size_t stop) {
    void *p = NULL;
    for (; i < stop; i++) store(p = nm_arena_alloc(a, wanted[i]), i);
    return p;
}

static void arena_batches(void *context) {
    const uint16_t *wanted = sizes;
    const batch_work w = *(const batch_work *)context;
    nm_arena *a = arena;
    for (size_t i = 0; i < w.total;) {
        size_t stop = least(i + w.batch, w.total);
        check(arena_fill(a, wanted, i, stop), stop - 1);
        nm_arena_reset(a);
        i = stop;
    }
}

/* A peer at some work. */
typedef struct peer_job {
    const peer_heap *heap;
    const peer_region *region_peer;
    void *region;
    void *work;
    peer_need need; /* of one region */
} peer_job;

static void heap_batches(void *context) {
    const uint16_t *wanted = sizes;
    const peer_job *job = context;
    const batch_work w = *(const batch_work *)job->work;
    void *(*allocate)(size_t) = job->heap->malloc;
    void (*release)(void *) = job->heap->free;
    for (size_t i = 0; i < w.total;) {
        size_t first = i;
        for (size_t stop = least(i + w.batch, w.total); i < stop; i++) store(pointers[i] = allocate(wanted[i]), i);
        check(pointers[i - 1], i - 1);
        for (size_t k = first; k < i; k++) release(pointers[k]);
    }
}

static void region_batches(void *context) {
    const uint16_t *wanted = sizes;
    peer_job *job = context;
    const batch_work w = *(const batch_work *)job->work;
    void *(*allocate)(void *, size_t) = job->region_peer->alloc;
    void *region = job->region;
    for (size_t i = 0; i < w.total;) {
        void *p = NULL;
        for (size_t stop = least(i + w.batch, w.total); i < stop; i++) store(p = allocate(region, wanted[i]), i);
        check(p, i - 1);
        region = job->region_peer->reset(region);
        if (region == NULL) fail("a peer refused a region");
    }
    job->region = region;
}

/* ---- a request: scope, arena, 50 allocations, close -------------------------------------------------------------- */

typedef struct request_work {
    size_t count;
    nm_leak_mode leaks;
    nm_leak_report *report; /* for the close to fill in, or NULL */
} request_work;

static void arena_requests(void *context) {
    const uint16_t *wanted = sizes;
    const request_work w = *(const request_work *)context;
    for (size_t r = 0; r < w.count; r++) {
        nm_scope *scope;
        nm_arena *a;
        if (nm_scope_open(&scope, root,
                          NM_SCOPE_OPTIONS(.name = "request", .kind = NM_SCOPE_REQUEST, .soft_bytes = 65536,
                                           .hard_bytes = 131072, .leak_report = w.leaks)) != NM_OK ||
            nm_arena_open(&a, scope, NM_ARENA_OPTIONS(.name = "request")) != NM_OK)
            fail("a request was refused");
        check(arena_fill(a, wanted, r * REQUEST, (r + 1) * REQUEST), (r + 1) * REQUEST - 1);
        if (nm_scope_close(scope, w.report) != 0) fail("a request leaked");
    }
}

static void region_requests(void *context) {
    const uint16_t *wanted = sizes;
    const peer_job *job = context;
    const request_work w = *(const request_work *)job->work;
    const peer_region *peer = job->region_peer;
    void *(*allocate)(void *, size_t) = peer->alloc;
    for (size_t r = 0; r < w.count; r++) {
        void *region = peer->open(&job->need), *p = NULL;
        if (region == NULL) fail("a peer refused a region");
        for (size_t i = r * REQUEST; i < (r + 1) * REQUEST; i++) store(p = allocate(region, wanted[i]), i);
        check(p, (r + 1) * REQUEST - 1);
        peer->close(region);
    }
}

/* ---- four nested marks with 10 allocations each, rewound one by one ---------------------------------------------- */

#define MARKS  ((size_t)4)
#define INSIDE ((size_t)10)
#define CYCLES (ALLOCATIONS / (MARKS * INSIDE))

static void register_marks(void *context) {
    const uint16_t *wanted = sizes;
    (void)context;
    bump b = buffer;
    size_t i = 0;
    for (size_t c = 0; c < CYCLES; c++) {
        unsigned char *marks[MARKS];
        void *p = NULL;
        for (size_t m = 0; m < MARKS; m++) {
            marks[m] = b.ptr;
            for (size_t k = 0; k < INSIDE; k++, i++) store(p = register_alloc(&b, wanted[i]), i);
        }
        check(p, i - 1);
        for (size_t m = MARKS; m-- > 0;) {
            b.ptr = marks[m];
            bench_keep(b.ptr);
        }
    }
}

static void object_marks(void *context) {
    const uint16_t *wanted = sizes;
    (void)context;
    bump *b = &buffer;
    bench_forget(b);
    unsigned char *volatile *cursor = &b->ptr;
    size_t i = 0;
    for (size_t c = 0; c < CYCLES; c++) {
        unsigned char *marks[MARKS];
        void *p = NULL;
        for (size_t m = 0; m < MARKS; m++) {
            marks[m] = *cursor;
            for (size_t k = 0; k < INSIDE; k++, i++) store(p = object_alloc(b, wanted[i]), i);
        }
        check(p, i - 1);
        for (size_t m = MARKS; m-- > 0;) *cursor = marks[m];
    }
}

static void arena_marks(void *context) {
    const uint16_t *wanted = sizes;
    (void)context;
    nm_arena *a = arena;
    size_t i = 0;
    for (size_t c = 0; c < CYCLES; c++) {
        nm_mark marks[MARKS];
        void *p = NULL;
        for (size_t m = 0; m < MARKS; m++) {
            marks[m] = nm_arena_mark(a);
            for (size_t k = 0; k < INSIDE; k++, i++) store(p = nm_arena_alloc(a, wanted[i]), i);
        }
        check(p, i - 1);
        for (size_t m = MARKS; m-- > 0;)
            if (nm_arena_rewind(a, marks[m]) != NM_OK) fail("a rewind was refused");
    }
    nm_arena_reset(a);
}

/* They have no marks: what was allocated is freed, last first. */
static void heap_marks(void *context) {
    const uint16_t *wanted = sizes;
    const peer_job *job = context;
    void *(*allocate)(size_t) = job->heap->malloc;
    void (*release)(void *) = job->heap->free;
    size_t i = 0;
    for (size_t c = 0; c < CYCLES; c++) {
        size_t first = i;
        for (; i < first + MARKS * INSIDE; i++) store(pointers[i] = allocate(wanted[i]), i);
        check(pointers[i - 1], i - 1);
        for (size_t k = i; k > first;) release(pointers[--k]);
    }
}

static void region_marks(void *context) {
    const uint16_t *wanted = sizes;
    const peer_job *job = context;
    const peer_region *peer = job->region_peer;
    void *(*allocate)(void *, size_t) = peer->alloc;
    size_t i = 0;
    for (size_t c = 0; c < CYCLES; c++) {
        void *inner[MARKS + 1] = {job->region}, *marks[MARKS], *p = NULL;
        for (size_t m = 0; m < MARKS; m++) {
            inner[m + 1] = peer->mark(inner[m], &marks[m]);
            if (inner[m + 1] == NULL) fail("a peer refused a mark");
            for (size_t k = 0; k < INSIDE; k++, i++) store(p = allocate(inner[m + 1], wanted[i]), i);
        }
        check(p, i - 1);
        for (size_t m = MARKS; m-- > 0;) peer->rewind(inner[m + 1], marks[m]);
    }
}

/* ---- a scope with a block of 64 KiB, opened when its memory has left the caches ---------------------------------- */

/* A ring of `length` scopes is kept open; a cycle closes the oldest one and opens another, which takes the block just given
 * back. With a ring of 512 each block was touched last 512 cycles ago: 512 times 100 stored lines and what lies beside
 * them are more than a processor's own caches hold, and so are the headers. With a ring of one it is the block of a moment
 * ago: the same work, warm.
 * The hand-made subjects do likewise: a free list of their own of blocks from malloc, linked through the blocks, and a
 * header from malloc. They count nothing and name nothing. */
#define OPENED          100 /* allocations of a cycle */
#define OPENED_CYCLES   (ALLOCATIONS / OPENED)
#define OPENED_BLOCK    ((size_t)64 << 10)
#define OPENED_RING_MAX 512

typedef struct free_block {
    struct free_block *next;
} free_block;

typedef struct opened_work {
    size_t length, at;
    void *ring[OPENED_RING_MAX]; /* of heaps: arrays of pointers */
    free_block *blocks;          /* of the hand-made subjects */
} opened_work;

static inline void **next_in_ring(opened_work *w) {
    w->at = w->at + 1 < w->length ? w->at + 1 : 0;
    return &w->ring[w->at];
}

static inline bump *bump_open(opened_work *w) {
    bump *b = malloc(sizeof *b);
    free_block *block = w->blocks;
    if (block != NULL)
        w->blocks = block->next;
    else
        block = malloc(OPENED_BLOCK);
    if (b == NULL || block == NULL) fail("not enough memory");
    b->start = b->ptr = (unsigned char *)block;
    b->end = b->start + OPENED_BLOCK;
    return b;
}

static inline void bump_close(opened_work *w, bump *b) {
    if (b == NULL) return;
    free_block *block = (free_block *)(void *)b->start;
    block->next = w->blocks;
    w->blocks = block;
    free(b);
}

static void register_opened(void *context) {
    const uint16_t *wanted = sizes;
    opened_work *w = context;
    for (size_t i = 0; i < OPENED_CYCLES * OPENED;) {
        void **slot = next_in_ring(w), *p = NULL;
        bump_close(w, *slot);
        bump *header = *slot = bump_open(w), b = *header;
        for (size_t stop = i + OPENED; i < stop; i++) store(p = register_alloc(&b, wanted[i]), i);
        check(p, i - 1);
        header->ptr = b.ptr;
    }
}

static void object_opened(void *context) {
    const uint16_t *wanted = sizes;
    opened_work *w = context;
    for (size_t i = 0; i < OPENED_CYCLES * OPENED;) {
        void **slot = next_in_ring(w), *p = NULL;
        bump_close(w, *slot);
        bump *b = *slot = bump_open(w);
        for (size_t stop = i + OPENED; i < stop; i++) store(p = object_alloc(b, wanted[i]), i);
        check(p, i - 1);
    }
}

static void arena_opened(void *context) {
    const uint16_t *wanted = sizes;
    opened_work *w = context;
    for (size_t i = 0; i < OPENED_CYCLES * OPENED;) {
        void **slot = next_in_ring(w);
        nm_scope *scope;
        nm_arena *a;
        if (nm_scope_close(*slot, NULL) != 0) fail("a service leaked");
        if (nm_scope_open(&scope, root, NM_SCOPE_OPTIONS(.name = "service", .kind = NM_SCOPE_SERVICE)) != NM_OK ||
            nm_arena_open(&a, scope, NM_ARENA_OPTIONS(.name = "service", .block_bytes = OPENED_BLOCK)) != NM_OK)
            fail("a service was refused");
        *slot = scope;
        check(arena_fill(a, wanted, i, i + OPENED), i + OPENED - 1);
        i += OPENED;
    }
}

static void heap_opened(void *context) {
    const uint16_t *wanted = sizes;
    const peer_job *job = context;
    opened_work *w = job->work;
    void *(*allocate)(size_t) = job->heap->malloc;
    void (*release)(void *) = job->heap->free;
    for (size_t i = 0; i < OPENED_CYCLES * OPENED;) {
        void **slot = next_in_ring(w), **held = *slot;
        if (held == NULL)
            *slot = held = malloc(OPENED * sizeof *held);
        else
            for (size_t k = 0; k < OPENED; k++) release(held[k]);
        if (held == NULL) fail("not enough memory");
        for (size_t k = 0; k < OPENED; k++, i++) store(held[k] = allocate(wanted[i]), i);
        check(held[OPENED - 1], i - 1);
    }
}

static void region_opened(void *context) {
    const uint16_t *wanted = sizes;
    const peer_job *job = context;
    opened_work *w = job->work;
    const peer_region *peer = job->region_peer;
    void *(*allocate)(void *, size_t) = peer->alloc;
    for (size_t i = 0; i < OPENED_CYCLES * OPENED;) {
        void **slot = next_in_ring(w), *p = NULL;
        if (*slot != NULL) peer->close(*slot);
        void *region = *slot = peer->open(&job->need);
        if (region == NULL) fail("a peer refused a region");
        for (size_t stop = i + OPENED; i < stop; i++) store(p = allocate(region, wanted[i]), i);
        check(p, i - 1);
    }
}

/* Closes what the last round left in the ring. */
static void empty_ring(opened_work *w, const bench_subject *subject, const peer_job *job) {
    for (size_t k = 0; k < w->length; k++) {
        void *open = w->ring[k];
        if (open == NULL) continue;
        if (subject->run == arena_opened) {
            if (nm_scope_close(open, NULL) != 0) fail("a service leaked");
        } else if (job->heap != NULL) {
            for (size_t p = 0; p < OPENED; p++) job->heap->free(((void **)open)[p]);
            free(open);
        } else if (job->region_peer != NULL) {
            job->region_peer->close(open);
        } else {
            bump_close(w, open);
        }
    }
    while (w->blocks != NULL) {
        free_block *block = w->blocks;
        w->blocks = block->next;
        free(block);
    }
}

/* ---- the rows ---------------------------------------------------------------------------------------------------- */

typedef struct row {
    bench_subject subjects[BENCH_SUBJECTS_MAX];
    peer_job jobs[BENCH_SUBJECTS_MAX];
    size_t count;
} row;

static void add(row *r, const char *name, void (*run)(void *), void *context) {
    if (r->count == BENCH_SUBJECTS_MAX) fail("too many subjects");
    r->subjects[r->count++] = (bench_subject){name, run, context};
}

/* Regions are opened here, unless the work opens its own. */
static void add_peers(row *r, void (*heap_run)(void *), void (*region_run)(void *), void *work, peer_need need,
                      bool opens_its_own) {
    size_t heaps, regions;
    const peer_heap *heap = peers_heaps(&heaps);
    const peer_region *region = peers_regions(&regions);
    for (size_t h = 0; h < heaps; h++) {
        peer_job *job = &r->jobs[r->count];
        *job = (peer_job){.heap = &heap[h], .work = work};
        add(r, heap[h].name, heap_run, job);
    }
    for (size_t k = 0; k < regions; k++) {
        peer_job *job = &r->jobs[r->count];
        *job = (peer_job){.region_peer = &region[k], .work = work, .need = need};
        if (!opens_its_own && (job->region = region[k].open(&need)) == NULL) fail("a peer refused a region");
        add(r, region[k].name, region_run, job);
    }
}

/* Prints the row. A fresh arena for each: none may live on the blocks that another work made it take. */
static void finish(row *r, const char *work, size_t operations, size_t rounds) {
    if (nm_arena_open(&arena, root, NM_ARENA_OPTIONS(.block_bytes = first_block)) != NM_OK)
        fail("cannot open an arena");
    bench_compare_to_two(work, operations, rounds, r->subjects, r->count);
    nm_arena_close(arena);
    for (size_t s = 0; s < r->count; s++)
        if (r->jobs[s].region != NULL) r->jobs[s].region_peer->close(r->jobs[s].region);
}

static void draw_sizes(size_t smallest, size_t largest) {
    uint64_t state = 20240229;
    for (size_t i = 0; i < ALLOCATIONS; i++)
        sizes[i] = (uint16_t)(smallest + (bench_random(&state) >> 32) % (largest - smallest + 1));
}

static peer_need need_of(size_t count) {
    peer_need need = {.count = count};
    for (size_t i = 0; i < count; i++) need.total_bytes += ((size_t)sizes[i] + 15) & ~(size_t)15;
    return need;
}

static void batches(const char *work, size_t batch, size_t rounds) {
    batch_work w = {ALLOCATIONS - ALLOCATIONS % batch, batch};
    row r = {.count = 0};
    add(&r, "register", register_batches, &w);
    add(&r, "object", object_batches, &w);
    add(&r, "nebula", arena_batches, &w);
    add_peers(&r, heap_batches, region_batches, &w, need_of(batch), false);
    finish(&r, work, w.total, rounds);
}

/* nebula_leak_report: with the report on, the number of leaks looked at; ..._read: with the report filled in, too. */
static void requests(size_t rounds) {
    static nm_leak_report report;
    batch_work w = {ALLOCATIONS - ALLOCATIONS % REQUEST, REQUEST};
    request_work off = {w.total / REQUEST, NM_LEAKS_OFF, NULL}, on = off, read = off;
    on.leaks = read.leaks = NM_LEAKS_DEFAULT;
    read.report = &report;
    row r = {.count = 0};
    add(&r, "register", register_batches, &w);
    add(&r, "object", object_batches, &w);
    add(&r, "nebula", arena_requests, &off);
    add(&r, "nebula_leak_report", arena_requests, &on);
    add(&r, "nebula_leak_report_read", arena_requests, &read);
    size_t first_peer = r.count;
    add_peers(&r, heap_batches, region_requests, NULL, need_of(REQUEST), true);
    for (size_t s = first_peer; s < r.count; s++) r.jobs[s].work = r.jobs[s].heap != NULL ? (void *)&w : (void *)&off;
    finish(&r, "open_request_50_allocations_close", w.total, rounds);
    if (strcmp(report.scope_name, "request") != 0) fail("the report is not the request's");
}

/* With a first block that holds a cycle, as the loops by hand have it; and with small blocks to begin with, where a cycle goes
 * on in a second block and each rewind to the first mark takes it off again. */
static void marks(const char *work, size_t block_bytes, size_t rounds) {
    first_block = block_bytes;
    row r = {.count = 0};
    add(&r, "register", register_marks, NULL);
    add(&r, "object", object_marks, NULL);
    add(&r, "nebula", arena_marks, NULL);
    add_peers(&r, heap_marks, region_marks, NULL, need_of(MARKS * INSIDE), false);
    finish(&r, work, CYCLES * MARKS * INSIDE, rounds);
    first_block = 0;
}

static void opened(const char *work, size_t length, size_t rounds) {
    static opened_work works[BENCH_SUBJECTS_MAX]; /* each subject has a ring of its own */
    memset(works, 0, sizeof works);
    row r = {.count = 0};
    add(&r, "register", register_opened, NULL);
    add(&r, "object", object_opened, NULL);
    add(&r, "nebula", arena_opened, NULL);
    size_t first_peer = r.count;
    peer_need need = need_of(OPENED);
    need.block_bytes = OPENED_BLOCK;
    add_peers(&r, heap_opened, region_opened, NULL, need, true);
    for (size_t s = 0; s < r.count; s++) {
        works[s].length = length;
        if (s < first_peer)
            r.subjects[s].context = &works[s];
        else
            r.jobs[s].work = &works[s];
    }
    finish(&r, work, OPENED_CYCLES * OPENED, rounds);
    for (size_t s = 0; s < r.count; s++) empty_ring(&works[s], &r.subjects[s], &r.jobs[s]);
}

int main(int argc, char **argv) {
    size_t rounds = bench_rounds(argc, argv), buffer_bytes = ALLOCATIONS * 256;
    if (!bench_pin(0)) fprintf(stderr, "arena: not pinned to one processor\n");
    sizes = malloc(ALLOCATIONS * sizeof *sizes);
    pointers = calloc(ALLOCATIONS, sizeof *pointers);
    buffer.start = buffer.ptr = aligned_alloc(4096, buffer_bytes);
    if (sizes == NULL || pointers == NULL || buffer.start == NULL) fail("not enough memory");
    buffer.end = buffer.start + buffer_bytes;
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "bench")) != NM_OK) fail("cannot open a root");

    bench_header_two("object");
    draw_sizes(8, 256);
    batches("1M_allocations_8_to_256_one_reset", ALLOCATIONS, rounds);
    batches("1M_allocations_8_to_256_reset_every_1000", 1000, rounds);
    draw_sizes(16, 512);
    batches("50_allocations_16_to_512_reset_each_time", REQUEST, rounds);
    requests(rounds);
    marks("4_nested_marks_10_allocations_each", (size_t)64 << 10, rounds);
    marks("4_nested_marks_10_allocations_each_small_blocks", 0, rounds);
    opened("cold_open_service_64KiB_arena_100_allocations_close", OPENED_RING_MAX, rounds);
    opened("warm_open_service_64KiB_arena_100_allocations_close", 1, rounds);
    draw_sizes(16, 16);
    batches("1M_allocations_of_16_one_reset", ALLOCATIONS, rounds);

    size_t leaks = nm_scope_close(root, NULL);
    free(buffer.start);
    free(pointers);
    free(sizes);
    return leaks == 0 ? 0 : 1;
}
