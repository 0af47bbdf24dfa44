// SPDX-License-Identifier: Apache-2.0 OR MIT
/* An elastic cache that holds all that is free stands in nobody's way. */
#include "nebula/memory.h"
#include "os_counter.h"
#include "testing.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static nm_scope *root;
static nm_cache *cache;

static int open_full_root(void **state) {
    (void)state;
    os_counter_install();
    assert_ok(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "root", .hard_bytes = MIB)));
    assert_ok(
        nm_cache_open(&cache, root, NM_CACHE_OPTIONS(.budget_bytes = MIB, .elastic = true, .floor_bytes = 64 * KIB)));
    static const char value[500];
    for (int i = 0; i < 5000; i++) {
        char key[16];
        size_t key_len = (size_t)snprintf(key, sizeof key, "%d", i);
        assert_ok(nm_cache_put(cache, key, key_len, value, sizeof value));
    }
    nm_scope_stats st;
    nm_scope_get_stats(root, &st);
    assert_true(st.hard_bytes - st.granted_bytes < 4096);
    return 0;
}

static int close_full_root(void **state) {
    (void)state;
    nm_scope_stats st;
    nm_scope_get_stats(root, &st);
    assert_true(st.granted_bytes <= MIB);
    assert_int_equal(st.refused_count, 0);
    assert_int_equal(nm_scope_close(root, NULL), 0);
    return os_counter_remove() ? 0 : -1;
}

static void many_scopes_open(void **state) {
    (void)state;
    nm_scope *scopes[200];
    for (int i = 0; i < 200; i++) assert_ok(nm_scope_open(&scopes[i], root, NULL));
    for (int i = 0; i < 200; i++) assert_int_equal(nm_scope_close(scopes[i], NULL), 0);
}

static void nothing(void *arg) { (void)arg; }

static void functions_are_deferred(void **state) {
    (void)state;
    for (int i = 0; i < 500; i++) assert_ok(nm_scope_defer(root, nothing, NULL));
}

static void an_arena_grows_to_what_the_floor_leaves(void **state) {
    (void)state;
    nm_arena *a;
    assert_ok(nm_arena_open(&a, root, NULL));
    size_t got = 0;
    while (got < 700 * KIB) {
        assert_non_null(nm_arena_alloc(a, 1000));
        got += 1000;
    }
    assert_ok(nm_arena_status(a));
    nm_arena_close(a);
}

static void one_large_allocation_fits(void **state) {
    (void)state;
    nm_arena *a;
    assert_ok(nm_arena_open(&a, root, NULL));
    assert_non_null(nm_arena_alloc(a, 500 * KIB));
    nm_arena_close(a);
}

static void a_pool_opens_and_leases(void **state) {
    (void)state;
    nm_pool *pool;
    nm_lease leases[40];
    assert_ok(nm_pool_open(&pool, root, NM_POOL_OPTIONS(.chunk_bytes = 16 * KIB, .prealloc_count = 2)));
    for (int i = 0; i < 40; i++) assert_ok(nm_pool_try_lease(pool, &leases[i]));
    for (int i = 0; i < 40; i++) nm_lease_release(&leases[i]);
    assert_ok(nm_pool_close(pool));
}

static void another_cache_opens(void **state) {
    (void)state;
    nm_cache *other;
    assert_ok(nm_cache_open(&other, root, NM_CACHE_OPTIONS(.budget_bytes = 300 * KIB)));
    assert_ok(nm_cache_put(other, "key", 3, "value", 5));
    assert_ok(nm_cache_close(other));
}

static void a_smaller_budget_is_set(void **state) {
    (void)state;
    assert_ok(nm_scope_set_budget(root, 0, 300 * KIB));
    nm_scope_stats st;
    nm_scope_get_stats(root, &st);
    assert_true(st.granted_bytes <= 300 * KIB);
    assert_true(nm_cache_count(cache) > 0);
}

/* and when the others have gone, the cache grows again */
static void the_cache_grows_back(void **state) {
    (void)state;
    assert_true(nm_scope_reclaim(root, MIB) > 0);
    size_t low = nm_cache_granted(cache);
    assert_true(low <= 128 * KIB);
    static const char value[500];
    for (int i = 0; i < 5000; i++) {
        char key[16];
        size_t key_len = (size_t)snprintf(key, sizeof key, "%d", i);
        assert_ok(nm_cache_put(cache, key, key_len, value, sizeof value));
    }
    assert_true(nm_cache_granted(cache) > 700 * KIB);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_full_root, close_full_root)
    const struct CMUnitTest tests[] = {
        TEST(many_scopes_open),          TEST(functions_are_deferred),  TEST(an_arena_grows_to_what_the_floor_leaves),
        TEST(one_large_allocation_fits), TEST(a_pool_opens_and_leases), TEST(another_cache_opens),
        TEST(a_smaller_budget_is_set),   TEST(the_cache_grows_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
