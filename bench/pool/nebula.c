// SPDX-License-Identifier: Apache-2.0 OR MIT
/* nebula's pool, in the ways in which a program may use it:
 *
 *   nebula           the inline path; the lease is a local variable, or an element of an array that it is leased into
 *   nebula_capped    the same with max_count: exactly as many buffers as the peers have, where `nebula` may grow. All threads
 *                    together may keep an eighth of the cap in front, so that each has fewer
 *   nebula_stored    the lease goes from the variable into an array, and from there into another variable before its
 *                    release: field by field, as compilers do it
 *   nebula_copied    the lease is written to memory, copied into an array, and out of it into other memory before its
 *                    release, as through a queue of the program's own: copied 16 bytes at a time while the words of which
 *                    they consist are still on their way to memory
 *   nebula_calls     the plain functions, (nm_pool_lease)(pool), as a binding of another language calls them
 *   nebula_by_data   in the work `cross`: the buffer's address travels, and nm_pool_release_data releases it; in the
 *                    others `nebula` hands over a pointer to the lease
 *
 * gcc 12 and clang 14, -O2: in the loop of `pair` there is no call and no locked instruction while the thread has buffers in
 * front, and the lease stays in registers.
 *
 * In every row the pool notes who leased each buffer and when, in the release who released it, and recognises a second
 * release. */
#include "bench.h"

#include "nebula/memory.h"
#include "pool/subject.h"
#include "pool/ticks.h"

typedef struct setup {
    nm_scope *root;
    nm_pool *pool;
} setup;

static const char capped; /* its address is the tag of a pool with a cap */

static void *nebula_open(const pool_subject *self, size_t bytes, size_t count) {
    size_t most = self->tag == &capped ? count : 0;
    setup *c = malloc(sizeof *c);
    if (c == NULL || nm_scope_open(&c->root, NULL, NM_SCOPE_OPTIONS(.name = "bench")) != NM_OK ||
        nm_pool_open(&c->pool, c->root,
                     NM_POOL_OPTIONS(.chunk_bytes = bytes, .prealloc_count = count, .max_count = most)) != NM_OK)
        return NULL;
    return c;
}

static void nebula_close(void *context) {
    setup *c = context;
    if (nm_pool_close(c->pool) != NM_OK || nm_scope_close(c->root, NULL) != 0) pool_fail("nebula", "leaked");
    free(c);
}

/* The three words that a lease consists of in registers; its size is a constant of the pool's. */
static inline void forget(nm_lease *lease) {
    POOL_FORGET(lease->data);
    POOL_FORGET(lease->slot);
    POOL_FORGET(lease->generation);
}

static inline bool take_stored(nm_pool *pool, nm_lease *out) {
    nm_lease lease = nm_pool_lease(pool);
    *out = lease;
    return nm_lease_ok(lease);
}

static inline void give_stored(const nm_lease *held) {
    nm_lease lease = *held;
    nm_lease_release(&lease);
}

/* Memory, whatever the compiler would rather do: the address has left. */
static inline bool take_copied(nm_pool *pool, nm_lease *out) {
    nm_lease lease = nm_pool_lease(pool), *there = &lease;
    POOL_FORGET(there);
    *out = *there;
    return nm_lease_ok(*out);
}

static inline void give_copied(const nm_lease *held) {
    nm_lease lease = *held, *there = &lease;
    POOL_FORGET(there);
    nm_lease_release(there);
}

#define SUBJECT            nebula
#define HANDLE             nm_lease
#define LOCALS(c)          nm_pool *pool = ((const setup *)(c))->pool
#define TAKE(h)            nm_lease_ok(*(h) = nm_pool_lease(pool))
#define TAKE_NEW(name)     nm_lease name = nm_pool_lease(pool)
#define TAKE_MANY(held, n) nm_pool_lease_many(pool, held, n)
#define GIVE_MANY(held, n) nm_lease_release_many(held, n)
#define DATA(h)            ((h)->data)
#define FORGET(h)          forget(h)
#define GIVE(h)            nm_lease_release(h)
#define SEND(h)            (h)
#define ARRIVE(p)          ((void)pool, nm_lease_release((nm_lease *)(p)))
#include "pool/loops.h"

#define SUBJECT   nebula_stored
#define HANDLE    nm_lease
#define LOCALS(c) nm_pool *pool = ((const setup *)(c))->pool
#define TAKE(h)   take_stored(pool, h)
#define IN_MEMORY
#define DATA(h)   ((h)->data)
#define FORGET(h) POOL_FORGET(h)
#define GIVE(h)   give_stored(h)
#define SEND(h)   (h)
#define ARRIVE(p) ((void)pool, give_stored((nm_lease *)(p)))
#include "pool/loops.h"

#define SUBJECT   nebula_copied
#define HANDLE    nm_lease
#define LOCALS(c) nm_pool *pool = ((const setup *)(c))->pool
#define TAKE(h)   take_copied(pool, h)
#define IN_MEMORY
#define DATA(h)   ((h)->data)
#define FORGET(h) POOL_FORGET(h)
#define GIVE(h)   give_copied(h)
#define SEND(h)   (h)
#define ARRIVE(p) ((void)pool, give_copied((nm_lease *)(p)))
#include "pool/loops.h"

#define SUBJECT        nebula_calls
#define HANDLE         nm_lease
#define LOCALS(c)      nm_pool *pool = ((const setup *)(c))->pool
#define TAKE(h)        nm_lease_ok(*(h) = (nm_pool_lease)(pool))
#define TAKE_NEW(name) nm_lease name = (nm_pool_lease)(pool)
#define DATA(h)        ((h)->data)
#define FORGET(h)      POOL_FORGET(h)
#define GIVE(h)        (nm_lease_release)(h)
#define SEND(h)        (h)
#define ARRIVE(p)      ((void)pool, (nm_lease_release)((nm_lease *)(p)))
#include "pool/loops.h"

#define SUBJECT        nebula_by_data
#define HANDLE         nm_lease
#define LOCALS(c)      nm_pool *pool = ((const setup *)(c))->pool
#define TAKE(h)        nm_lease_ok(*(h) = nm_pool_lease(pool))
#define TAKE_NEW(name) nm_lease name = nm_pool_lease(pool)
#define DATA(h)        ((h)->data)
#define FORGET(h)      forget(h)
#define GIVE(h)        nm_pool_release_data(pool, (h)->data)
#define SEND(h)        ((h)->data)
#define ARRIVE(p)      nm_pool_release_data(pool, p)
#include "pool/loops.h"

static void add(pool_list *list, void (*loops)(pool_subject *)) {
    pool_subject subject = {.holder = "yes", .travels = "lease*", .open = nebula_open, .close = nebula_close};
    loops(&subject);
    /* Only what the row is there to tell; each of the others has its own. */
    if (loops == nebula_by_data_loops) {
        subject.travels = "address";
        subject.handle_bytes = sizeof(void *);
        subject.pair = subject.burst = NULL;
        subject.latency = NULL;
    }
    if (loops == nebula_stored_loops || loops == nebula_copied_loops || loops == nebula_calls_loops) {
        subject.send = NULL;
        subject.receive = NULL;
        subject.latency = NULL;
    }
    pool_list_add(list, &subject);
    if (loops == nebula_loops) {
        subject.name = "nebula_capped";
        subject.tag = &capped;
        subject.capped = true;
        pool_list_add(list, &subject);
    }
}

void pool_add_nebula(pool_list *list) {
    add(list, nebula_loops);
    add(list, nebula_stored_loops);
    add(list, nebula_copied_loops);
    add(list, nebula_calls_loops);
    add(list, nebula_by_data_loops);
}
