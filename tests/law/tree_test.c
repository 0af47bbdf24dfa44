// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The budget law and the law of the close, under random operations: 10^6 of them (or NEBULA_LAW_OPS), with one thread at
 * every step, with 2, 4 and 8 threads at every step for the limits and at every halt for the sums. */
#include <pthread.h>

#include "os_counter.h"
#include "scope/scope_internal.h"
#include "testing.h"
#include "world.h"

static size_t operations(void) {
    const char *given = getenv("NEBULA_LAW_OPS");
    return given != NULL ? strtoull(given, NULL, 0) : 1000000;
}

/* All that the system has given is granted to the root, and nothing else but the objects that lie outside. */
static bool root_is_right(const nm_scope *root, size_t outside) {
    nm_scope_stats st;
    nm_scope_get_stats(root, &st);
    size_t committed = os_counter_committed();
    if (st.granted_bytes == committed + outside && st.granted_bytes <= st.hard_bytes) return true;
    print_error("the root is granted %zu of %zu; the system has committed %zu, objects have %zu\n", st.granted_bytes,
                st.hard_bytes, committed, outside);
    return false;
}

static void one_thread_keeps_both_laws_at_every_step(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    os_counter_install();
    nm_scope *root;
    assert_ok(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "root", .hard_bytes = (size_t)12 << 20)));
    size_t outside = 0;
    world *w = world_new(root, seed, &outside);
    for (size_t i = operations(); i > 0; i--)
        if (!world_step(w) || !world_within_limits(w) || !world_adds_up(w) || !root_is_right(root, outside))
            fail_msg("seed %llu", (unsigned long long)seed);
    assert_true(world_end(w));
    assert_int_equal(outside, 0);
    nm_scope_stats st;
    nm_scope_get_stats(root, &st);
    assert_int_equal(st.granted_bytes, st.own_bytes + st.idle_bytes + st.credit_bytes);
    assert_int_equal(nm_scope_close(root, NULL), 0);
    assert_true(os_counter_remove());
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

enum { THREADS = 8, STEPS_BETWEEN_HALTS = 2000 };

static struct {
    pthread_barrier_t halt;
    nm_scope *root;
    size_t outside;
    world *worlds[THREADS];
    int threads;
    size_t rounds;
    NM_ATOMIC(bool) broken;
} shared;

static void check_at_halt(void) {
    bool right = root_is_right(shared.root, shared.outside);
    for (int t = 0; t < shared.threads; t++) right = right && world_adds_up(shared.worlds[t]);
    if (!right) nm_atomic_store(&shared.broken, true, NM_RELAXED);
}

static void *work(void *arg) {
    world *w = arg;
    for (size_t round = 0; round < shared.rounds; round++) {
        for (int i = 0; i < STEPS_BETWEEN_HALTS && !nm_atomic_load(&shared.broken, NM_RELAXED); i++)
            if (!world_step(w) || !world_within_limits(w)) nm_atomic_store(&shared.broken, true, NM_RELAXED);
        if (pthread_barrier_wait(&shared.halt) == PTHREAD_BARRIER_SERIAL_THREAD) check_at_halt();
        pthread_barrier_wait(&shared.halt);
    }
    return NULL;
}

static void keep_the_laws(int count) {
    uint64_t seed = test_seed();
    os_counter_install();
    memset(&shared, 0, sizeof shared);
    shared.threads = count;
    shared.rounds = operations() / 2 / ((size_t)count * STEPS_BETWEEN_HALTS) + 1;
    pthread_barrier_init(&shared.halt, NULL, (unsigned)count);
    assert_ok(nm_scope_open(&shared.root, NULL, NM_SCOPE_OPTIONS(.name = "root", .hard_bytes = (size_t)24 << 20)));
    nm_scope *common, *listener;
    nm_pool *pool;
    nm_cache *cache;
    assert_ok(nm_scope_open(&common, shared.root, NM_SCOPE_OPTIONS(.name = "common")));
    assert_ok(nm_pool_open(&pool, common, NM_POOL_OPTIONS(.chunk_bytes = 4096, .max_count = 50)));
    assert_ok(nm_cache_open(&cache, common,
                            NM_CACHE_OPTIONS(.budget_bytes = (size_t)1 << 20, .shard_count = 4, .elastic = true,
                                             .on_evict = world_object_left, .context = &shared.outside)));
    assert_ok(nm_scope_open(&listener, shared.root, NM_SCOPE_OPTIONS(.name = "listener", .credit_bytes = 16384)));
    pthread_t threads[THREADS];
    nm_scope *tops[THREADS];
    for (int t = 0; t < count; t++) {
        /* half of them below one scope, whose ready requests and credit they share */
        assert_ok(nm_scope_open(&tops[t], t % 2 == 0 ? listener : shared.root,
                                NM_SCOPE_OPTIONS(.name = "top", .hard_bytes = (size_t)8 << 20,
                                                 .kind = t % 4 == 0 ? NM_SCOPE_SESSION : NM_SCOPE_SERVICE)));
        shared.worlds[t] = world_new(tops[t], seed + (uint64_t)t, &shared.outside);
        world_share(shared.worlds[t], pool, cache);
    }
    for (int t = 0; t < count; t++) assert_int_equal(pthread_create(&threads[t], NULL, work, shared.worlds[t]), 0);
    for (int t = 0; t < count; t++) pthread_join(threads[t], NULL);
    if (shared.broken) fail_msg("seed %llu", (unsigned long long)seed);
    for (int t = 0; t < count; t++) {
        assert_true(world_end(shared.worlds[t]));
        assert_int_equal(nm_scope_close(tops[t], NULL), 0);
    }
    assert_ok(nm_pool_close(pool));
    assert_ok(nm_cache_close(cache));
    assert_int_equal(shared.outside, 0);
    nm_scope_stats st;
    nm_scope_get_stats(common, &st);
    assert_int_equal(st.granted_bytes, 0);
    assert_int_equal(nm_scope_close(common, NULL), 0);
    nm_scope_get_stats(listener, &st);
    assert_int_equal(st.granted_bytes, st.credit_bytes);
    assert_int_equal(nm_scope_close(listener, NULL), 0);
    nm_scope_get_stats(shared.root, &st);
    assert_int_equal(st.granted_bytes, st.own_bytes + st.idle_bytes + st.credit_bytes);
    assert_int_equal(nm_scope_close(shared.root, NULL), 0);
    assert_true(os_counter_remove());
    pthread_barrier_destroy(&shared.halt);
}

static void two_threads_keep_the_limits_at_every_step_and_the_sums_at_every_halt(void **state) {
    (void)state;
    keep_the_laws(2);
}
static void four_threads_keep_the_limits_at_every_step_and_the_sums_at_every_halt(void **state) {
    (void)state;
    keep_the_laws(4);
}
static void eight_threads_keep_the_limits_at_every_step_and_the_sums_at_every_halt(void **state) {
    (void)state;
    keep_the_laws(8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_keeps_both_laws_at_every_step),
        cmocka_unit_test(two_threads_keep_the_limits_at_every_step_and_the_sums_at_every_halt),
        cmocka_unit_test(eight_threads_keep_the_limits_at_every_step_and_the_sums_at_every_halt),
        cmocka_unit_test(four_threads_keep_the_limits_at_every_step_and_the_sums_at_every_halt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
