// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Pools shared by threads. What a thread finds wrong it counts; the main thread asserts when all have ended. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "nebula/memory.h"

#define THREADS ((size_t)4)
#define ROUNDS  ((size_t)10000)

static uint64_t seed;

static uint64_t next_random(uint64_t *x) { /* xorshift (Marsaglia 2003) */
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

typedef struct world {
    nm_scope *root, *scope;
    nm_pool *pool, *other;
    pthread_barrier_t barrier;
    size_t share; /* leases that each thread may have out */
    NM_ATOMIC(size_t) wrong;
    NM_ATOMIC(size_t) refused;
    NM_ATOMIC(size_t) count;
    NM_ATOMIC(bool) stop;
} world;

typedef struct worker {
    world *w;
    size_t number;
    pthread_t thread;
    nm_lease handed;
} worker;

static void wrong_if(world *w, bool condition) {
    if (condition) nm_atomic_add(&w->wrong, 1, NM_RELAXED);
}

static void world_open(world *w, size_t hard_bytes) {
    memset(w, 0, sizeof *w);
    assert_int_equal(nm_scope_open(&w->root, NULL, NULL), NM_OK);
    assert_int_equal(nm_scope_open(&w->scope, w->root, NM_SCOPE_OPTIONS(.hard_bytes = hard_bytes)), NM_OK);
    assert_int_equal(pthread_barrier_init(&w->barrier, NULL, (unsigned)THREADS), 0);
}

static void world_close(world *w) {
    nm_scope_stats stats;
    nm_leak_report report;
    assert_int_equal(w->wrong, 0);
    if (w->pool != NULL) assert_int_equal(nm_pool_close(w->pool), NM_OK);
    if (w->other != NULL) assert_int_equal(nm_pool_close(w->other), NM_OK);
    nm_scope_get_stats(w->scope, &stats);
    assert_int_equal(stats.granted_bytes, 0);
    assert_int_equal(nm_scope_close(w->scope, NULL), 0);
    assert_int_equal(nm_scope_close(w->root, &report), 0);
    pthread_barrier_destroy(&w->barrier);
}

static void run(world *w, worker workers[THREADS], void *(*fn)(void *)) {
    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (worker){.w = w, .number = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, fn, &workers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
}

static void start(pthread_t *thread, world *w, void *(*fn)(void *)) {
    assert_int_equal(pthread_create(thread, NULL, fn, w), 0);
}

static void stop(pthread_t thread, world *w) {
    nm_atomic_store(&w->stop, true, NM_RELAXED);
    pthread_join(thread, NULL);
}

/* ---- one holder -------------------------------------------------------------------------------------------------- */

/* Writes who it is at both ends of the buffer and looks again before the release. */
static void mark(const nm_lease *l, size_t who) {
    memcpy(l->data, &who, sizeof who);
    memcpy((char *)l->data + l->size - sizeof who, &who, sizeof who);
}
static bool marked(const nm_lease *l, size_t who) {
    return memcmp(l->data, &who, sizeof who) == 0 &&
           memcmp((char *)l->data + l->size - sizeof who, &who, sizeof who) == 0;
}

static void *churn(void *arg) {
    worker *me = arg;
    world *w = me->w;
    nm_lease leases[16] = {0};
    uint64_t random = seed + me->number * 7919 + 1;
    for (size_t i = 0; i < ROUNDS * 8; i++) {
        size_t k = next_random(&random) % 16, who = me->number << 32 | i << 5 | k;
        if (nm_lease_ok(leases[k])) {
            size_t there;
            memcpy(&there, leases[k].data, sizeof there);
            wrong_if(w, !marked(&leases[k], there) || there >> 32 != me->number || (there & 31) != k);
            if (i % 3 == 0)
                nm_pool_release_data(w->pool, leases[k].data), leases[k] = (nm_lease){0};
            else
                nm_lease_release(&leases[k]);
        } else {
            leases[k] = nm_pool_lease(w->pool);
            wrong_if(w, !nm_lease_ok(leases[k]));
            if (nm_lease_ok(leases[k])) mark(&leases[k], who);
        }
    }
    for (size_t k = 0; k < 16; k++) nm_lease_release(&leases[k]);
    return NULL;
}

static void *trim_until_stopped(void *arg) {
    world *w = arg;
    nm_pool_stats stats;
    for (size_t i = 0; !nm_atomic_load(&w->stop, NM_RELAXED); i++) {
        if (i % 2 == 0)
            nm_pool_trim(w->pool, i % 7);
        else
            nm_scope_reclaim(w->root, 16384);
        nm_pool_get_stats(w->pool, &stats);
        wrong_if(w, stats.total_count > stats.max_count || stats.leased_count > stats.total_count);
    }
    return NULL;
}

static void a_buffer_has_one_holder_while_others_grow_and_trim(void **state) {
    (void)state;
    static const size_t chunks[] = {64, 1500, 4096};
    for (size_t c = 0; c < 3; c++) {
        world w;
        worker workers[THREADS];
        pthread_t trimmer;
        world_open(&w, 0);
        assert_int_equal(
            nm_pool_open(&w.pool, w.scope, NM_POOL_OPTIONS(.chunk_bytes = chunks[c], .max_count = THREADS * 16)),
            NM_OK);
        start(&trimmer, &w, trim_until_stopped);
        run(&w, workers, churn);
        stop(trimmer, &w);
        world_close(&w);
    }
}

/* ---- the capacity promise ---------------------------------------------------------------------------------------- */

static void *lease_all_of_ones_share(void *arg) {
    worker *me = arg;
    world *w = me->w;
    nm_lease leases[64], one_more;
    for (size_t i = 0; i < ROUNDS / 8; i++) {
        for (size_t k = 0; k < w->share; k++) wrong_if(w, nm_pool_try_lease(w->pool, &leases[k]) != NM_OK);
        if (i % 4 == 0) { /* all are out: nobody gets one more */
            pthread_barrier_wait(&w->barrier);
            wrong_if(w, nm_pool_try_lease(w->pool, &one_more) != NM_ECAPACITY);
            pthread_barrier_wait(&w->barrier);
        }
        for (size_t k = 0; k < w->share; k++) nm_lease_release(&leases[k]);
    }
    return NULL;
}

static void exactly_max_count_leases_can_be_out_whatever_trims_and_grows(void **state) {
    (void)state;
    static const struct { size_t chunk, share; } shapes[] = {{4096, 1}, {4096, 25}, {64, 33}, {1500, 20}, {100000, 2}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        world w;
        worker workers[THREADS];
        pthread_t trimmer;
        world_open(&w, 0);
        w.share = shapes[s].share;
        assert_int_equal(
            nm_pool_open(&w.pool, w.scope,
                         NM_POOL_OPTIONS(.chunk_bytes = shapes[s].chunk, .max_count = THREADS * shapes[s].share)),
            NM_OK);
        start(&trimmer, &w, trim_until_stopped);
        run(&w, workers, lease_all_of_ones_share);
        stop(trimmer, &w);
        world_close(&w);
    }
}

static void *lease_and_keep(void *arg) {
    worker *me = arg;
    pthread_barrier_wait(&me->w->barrier);
    wrong_if(me->w, nm_pool_try_lease(me->w->pool, &me->handed) != NM_OK);
    return NULL;
}

static void threads_that_grow_at_once_share_the_last_page_of_the_budget(void **state) {
    (void)state;
    for (int i = 0; i < 200; i++) {
        world w;
        worker workers[THREADS];
        /* The pool, its groups, 64 descriptors, one page for 64 buffers: who comes second must wait for the first. */
        world_open(&w, (size_t)4 * 4096);
        assert_int_equal(nm_pool_open(&w.pool, w.scope, NM_POOL_OPTIONS(.chunk_bytes = 64)), NM_OK);
        run(&w, workers, lease_and_keep);
        for (size_t k = 0; k < THREADS; k++) nm_lease_release(&workers[k].handed);
        world_close(&w);
    }
}

/* ---- across threads ---------------------------------------------------------------------------------------------- */

static void *lease_and_exit(void *arg) {
    worker *me = arg;
    me->handed = nm_pool_lease(me->w->pool);
    wrong_if(me->w, !nm_lease_ok(me->handed));
    if (nm_lease_ok(me->handed)) mark(&me->handed, me->number);
    return NULL;
}

static void release_from_another_thread_after_its_owner_exited(void **state) {
    (void)state;
    world w;
    worker workers[THREADS];
    world_open(&w, 0);
    assert_int_equal(nm_pool_open(&w.pool, w.scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .max_count = THREADS)), NM_OK);
    for (int round = 0; round < 20; round++) {
        run(&w, workers, lease_and_exit);
        assert_false(nm_lease_ok(nm_pool_lease(w.pool)));
        for (size_t i = 0; i < THREADS; i++) {
            assert_true(marked(&workers[i].handed, i));
            nm_lease_release(&workers[i].handed);
        }
    }
    world_close(&w);
}

typedef struct mailbox {
    NM_ATOMIC(uint32_t) full;
    nm_lease lease;
} mailbox;
static mailbox boxes[8];

static void *send_leases(void *arg) {
    world *w = ((worker *)arg)->w;
    for (size_t i = 0; i < ROUNDS * 4; i++) {
        mailbox *box = &boxes[i % 8];
        /* acquire, release: the mailbox passes from one thread to the other */
        while (nm_atomic_load(&box->full, NM_ACQUIRE) != 0) sched_yield();
        box->lease = nm_pool_lease(w->pool);
        wrong_if(w, !nm_lease_ok(box->lease));
        if (nm_lease_ok(box->lease)) mark(&box->lease, i);
        nm_atomic_store(&box->full, 1, NM_RELEASE);
    }
    return NULL;
}

static void *receive_leases(void *arg) {
    world *w = ((worker *)arg)->w;
    for (size_t i = 0; i < ROUNDS * 4; i++) {
        mailbox *box = &boxes[i % 8];
        while (nm_atomic_load(&box->full, NM_ACQUIRE) == 0) sched_yield();
        wrong_if(w, !marked(&box->lease, i));
        nm_lease_release(&box->lease);
        nm_atomic_store(&box->full, 0, NM_RELEASE);
    }
    return NULL;
}

static void *send_or_receive(void *arg) {
    worker *me = arg;
    return me->number == 0 ? send_leases(arg) : me->number == 1 ? receive_leases(arg) : NULL;
}

static void leases_travel_from_thread_to_thread(void **state) {
    (void)state;
    world w;
    worker workers[THREADS];
    world_open(&w, 0);
    assert_int_equal(nm_pool_open(&w.pool, w.scope, NM_POOL_OPTIONS(.chunk_bytes = 256, .max_count = 8)), NM_OK);
    run(&w, workers, send_or_receive);
    world_close(&w);
}

static NM_ATOMIC(size_t) misuse_count;
static void count_misuse(const nm_misuse *misuse, void *context) {
    (void)misuse, (void)context;
    nm_atomic_add(&misuse_count, 1, NM_RELAXED);
}

static nm_lease raced;
static void *release_a_copy(void *arg) {
    worker *me = arg;
    for (size_t i = 0; i < ROUNDS; i++) {
        if (me->number == 0) raced = nm_pool_lease(me->w->pool);
        pthread_barrier_wait(&me->w->barrier);
        nm_lease copy = raced;
        nm_lease_release(&copy);
        pthread_barrier_wait(&me->w->barrier);
    }
    return NULL;
}

static void of_copies_released_at_once_one_is_the_release_and_the_others_are_misuse(void **state) {
    (void)state;
    world w;
    worker workers[THREADS];
    world_open(&w, 0);
    assert_int_equal(nm_pool_open(&w.pool, w.scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .max_count = 2)), NM_OK);
    nm_atomic_store(&misuse_count, 0, NM_RELAXED);
    nm_set_misuse_handler(count_misuse, NULL);
    run(&w, workers, release_a_copy);
    nm_set_misuse_handler(NULL, NULL);
    assert_int_equal(misuse_count, (THREADS - 1) * ROUNDS);
    world_close(&w);
}

/* ---- scopes ------------------------------------------------------------------------------------------------------ */

static void *requests(void *arg) {
    worker *me = arg;
    world *w = me->w;
    uint64_t random = seed + me->number + 1;
    for (size_t i = 0; i < ROUNDS / 4; i++) {
        nm_scope *request;
        nm_lease lease;
        if (nm_scope_open(&request, w->root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)) != NM_OK) {
            wrong_if(w, true);
            continue;
        }
        size_t count = next_random(&random) % 12;
        for (size_t k = 0; k < count; k++) {
            wrong_if(w, nm_pool_lease_in(w->pool, request, &lease) != NM_OK);
            if (nm_lease_ok(lease) && k % 2 == 0) nm_lease_release(&lease);
        }
        wrong_if(w, nm_scope_close(request, NULL) != 0);
    }
    return NULL;
}

static void requests_of_many_threads_give_back_what_they_held(void **state) {
    (void)state;
    world w;
    worker workers[THREADS];
    pthread_t trimmer;
    world_open(&w, 0);
    assert_int_equal(nm_pool_open(&w.pool, w.scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .max_count = THREADS * 12)),
                     NM_OK);
    start(&trimmer, &w, trim_until_stopped);
    run(&w, workers, requests);
    stop(trimmer, &w);
    world_close(&w);
}

static void *compete(void *arg) {
    worker *me = arg;
    world *w = me->w;
    nm_pool *pool = me->number % 2 == 0 ? w->pool : w->other;
    nm_scope_stats stats;
    for (size_t i = 0; i < ROUNDS; i++) {
        nm_lease lease;
        nm_status st = nm_pool_try_lease(pool, &lease);
        wrong_if(w, st != NM_OK && st != NM_EBUDGET);
        if (st == NM_EBUDGET) nm_atomic_add(&w->refused, 1, NM_RELAXED);
        if (st == NM_OK) mark(&lease, i);
        nm_scope_get_stats(w->scope, &stats);
        wrong_if(w, stats.granted_bytes > stats.hard_bytes);
        wrong_if(w, st == NM_OK && !marked(&lease, i));
        nm_lease_release(&lease);
    }
    return NULL;
}

static void pools_under_one_tight_budget_reclaim_from_each_other(void **state) {
    (void)state;
    world w;
    worker workers[THREADS];
    world_open(&w, (size_t)96 << 10);
    assert_int_equal(nm_pool_open(&w.pool, w.scope, NM_POOL_OPTIONS(.chunk_bytes = 32 << 10)), NM_OK);
    assert_int_equal(nm_pool_open(&w.other, w.scope, NM_POOL_OPTIONS(.chunk_bytes = 20 << 10)), NM_OK);
    run(&w, workers, compete);
    assert_true(w.refused < THREADS * ROUNDS);
    world_close(&w);
}

int main(void) {
    const char *given = getenv("NEBULA_SEED");
    seed = given != NULL ? strtoull(given, NULL, 0) : 20240229;
    if (seed == 0) seed = 1;
    printf("NEBULA_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_has_one_holder_while_others_grow_and_trim),
        cmocka_unit_test(exactly_max_count_leases_can_be_out_whatever_trims_and_grows),
        cmocka_unit_test(threads_that_grow_at_once_share_the_last_page_of_the_budget),
        cmocka_unit_test(release_from_another_thread_after_its_owner_exited),
        cmocka_unit_test(leases_travel_from_thread_to_thread),
        cmocka_unit_test(of_copies_released_at_once_one_is_the_release_and_the_others_are_misuse),
        cmocka_unit_test(requests_of_many_threads_give_back_what_they_held),
        cmocka_unit_test(pools_under_one_tight_budget_reclaim_from_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
