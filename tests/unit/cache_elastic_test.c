// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache_check.h"
#include "nebula/cache.h"
#include "os_counter.h"
#include "testing.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static nm_scope *root;
static nm_cache *cache;

static int open_root(size_t soft, size_t hard) {
    os_counter_install();
    return nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.soft_bytes = soft, .hard_bytes = hard)) == NM_OK ? 0 : -1;
}

static int set_up(void **state) {
    (void)state;
    return open_root(0, 4 * MIB);
}

static int tear_down(void **state) {
    (void)state;
    nm_scope_close(root, NULL);
    return os_counter_remove() ? 0 : -1;
}

static size_t granted_to(const nm_scope *s) {
    nm_scope_stats st;
    nm_scope_get_stats(s, &st);
    return st.granted_bytes;
}

static void fill_with(size_t bytes, size_t total, uint64_t base) {
    static unsigned char value[64 * 1024];
    for (uint64_t i = 0; i < total / (bytes + 56); i++) {
        uint64_t number = base + i;
        assert_ok(nm_cache_put(cache, &number, sizeof number, value, bytes));
        assert_true(nm_cache_granted(cache) <= nm_cache_budget(cache));
    }
}

static void it_gives_back_what_reclaim_wants_down_to_its_floor(void **state) {
    (void)state;
    for (unsigned shards = 1; shards <= 4; shards *= 4) {
        assert_ok(nm_cache_open(&cache, root,
                                NM_CACHE_OPTIONS(.budget_bytes = 2 * MIB, .shard_count = shards, .elastic = true,
                                                 .floor_bytes = 512 * KIB)));
        fill_with(200, 3 * MIB, 0);
        size_t before = nm_cache_granted(cache), charged = granted_to(root);
        assert_true(before > 2 * MIB - 64 * KIB);
        size_t freed = nm_scope_reclaim(root, 300 * KIB);
        assert_true(freed >= 300 * KIB);
        cache_check(cache);
        assert_true(nm_cache_granted(cache) <= before - 300 * KIB + 64 * KIB);
        assert_true(granted_to(root) <= charged - 300 * KIB);
        nm_cache_stats st;
        nm_cache_get_stats(cache, &st);
        assert_true((double)st.used_bytes > 0.75 * (double)st.granted_bytes);
        (void)nm_scope_reclaim(root, 100 * MIB);
        cache_check(cache);
        assert_in_range(nm_cache_granted(cache), 512 * KIB - 64 * KIB, 512 * KIB + 64 * KIB);
        assert_int_equal(nm_scope_reclaim(root, 100 * MIB), 0);
        fill_with(200, 3 * MIB, 1000000);
        assert_true(nm_cache_granted(cache) > 2 * MIB - 64 * KIB);
        cache_check(cache);
        assert_ok(nm_cache_close(cache));
    }
}

static void one_that_is_not_elastic_gives_nothing(void **state) {
    (void)state;
    assert_ok(nm_cache_open(&cache, root, NM_CACHE_OPTIONS(.budget_bytes = MIB)));
    fill_with(200, 2 * MIB, 0);
    size_t before = nm_cache_granted(cache);
    (void)nm_scope_reclaim(root, 100 * MIB);
    assert_int_equal(nm_cache_granted(cache), before);
}

static void another_scope_that_needs_the_bytes_gets_them_and_the_cache_grows_again(void **state) {
    (void)state;
    nm_scope *request;
    nm_cache *other, *elastic;
    assert_ok(nm_scope_open(&request, root, NULL));
    assert_ok(nm_cache_open(&elastic, root, NM_CACHE_OPTIONS(.budget_bytes = 8 * MIB, .elastic = true)));
    cache = elastic;
    fill_with(500, 8 * MIB, 0);
    assert_true(nm_cache_granted(cache) > 3 * MIB);
    /* Another holder that takes 2 MiB: all that it may have without being refused once. */
    assert_ok(nm_cache_open(&other, request, NM_CACHE_OPTIONS(.budget_bytes = 2 * MIB)));
    cache = other;
    fill_with(500, 4 * MIB, 0);
    assert_true(nm_cache_granted(other) > 2 * MIB - 64 * KIB);
    assert_true(nm_cache_granted(elastic) < 2 * MIB);
    assert_true(granted_to(root) <= 4 * MIB);
    cache_check(elastic);
    assert_int_equal(nm_scope_close(request, NULL), 0);
    cache = elastic;
    fill_with(500, 8 * MIB, 1000000);
    assert_true(nm_cache_granted(elastic) > 3 * MIB);
    cache_check(elastic);
}

static void it_stays_below_the_soft_limit_of_its_scope(void **state) {
    (void)state;
    nm_scope *soft;
    assert_ok(nm_scope_open(&soft, root, NM_SCOPE_OPTIONS(.soft_bytes = MIB, .hard_bytes = 2 * MIB)));
    assert_ok(nm_cache_open(&cache, soft, NM_CACHE_OPTIONS(.budget_bytes = 2 * MIB, .elastic = true)));
    fill_with(300, 6 * MIB, 0);
    assert_true(granted_to(soft) <= MIB);
    assert_true(nm_cache_used(cache) > 700 * KIB);
    nm_scope_stats st;
    nm_scope_get_stats(soft, &st);
    assert_int_equal(st.soft_count, 0);
    cache_check(cache);
}

static unsigned left_count;

static void on_evict(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size, void *context) {
    (void)key, (void)key_len, (void)value, (void)size, (void)context;
    left_count += reason == NM_EVICT_RECLAIM;
    assert_true(reason == NM_EVICT_RECLAIM || reason == NM_EVICT_CLOSED);
}

static void reclaim_tells_each_entry_that_it_takes(void **state) {
    (void)state;
    left_count = 0;
    assert_ok(
        nm_cache_open(&cache, root, NM_CACHE_OPTIONS(.budget_bytes = 2 * MIB, .elastic = true, .on_evict = on_evict)));
    fill_with(200, MIB, 0);
    size_t count = nm_cache_count(cache);
    assert_true(nm_scope_reclaim(root, 400 * KIB) >= 400 * KIB);
    assert_int_equal(nm_cache_count(cache) + left_count, count);
    assert_true(left_count > 0);
    cache_check(cache);
    (void)nm_scope_reclaim(root, 2 * MIB);
    assert_int_equal(nm_cache_count(cache) + left_count, count);
    cache_check(cache);
}

static void objects_are_given_back_as_well(void **state) {
    (void)state;
    static int thing;
    assert_ok(nm_cache_open(&cache, root, NM_CACHE_OPTIONS(.budget_bytes = 3 * MIB, .elastic = true)));
    for (uint64_t i = 0; i < 100; i++) assert_ok(nm_cache_put_object(cache, &i, sizeof i, &thing, 20000));
    assert_int_equal(nm_cache_count(cache), 100);
    size_t charged = granted_to(root);
    assert_true(nm_scope_reclaim(root, 500000) >= 500000);
    assert_true(granted_to(root) <= charged - 500000);
    assert_in_range(nm_cache_count(cache), 1, 99);
    cache_check(cache);
}

static void pinned_entries_stay_where_they_are(void **state) {
    (void)state;
    static unsigned char value[1000];
    nm_entry pins[10];
    assert_ok(
        nm_cache_open(&cache, root, NM_CACHE_OPTIONS(.budget_bytes = 2 * MIB, .shard_count = 1, .elastic = true)));
    memset(value, 'v', sizeof value);
    for (uint64_t i = 0; i < 1200; i++) {
        assert_ok(nm_cache_put(cache, &i, sizeof i, value, sizeof value));
        if (i % 120 == 0) assert_true(nm_cache_get(cache, &i, sizeof i, &pins[i / 120]));
    }
    (void)nm_scope_reclaim(root, 2 * MIB);
    cache_check(cache);
    for (int i = 0; i < 10; i++) assert_memory_equal(pins[i].value, value, sizeof value);
    for (int i = 0; i < 10; i++) nm_entry_release(&pins[i]);
    assert_true(nm_scope_reclaim(root, 2 * MIB) > 0);
    cache_check(cache);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(it_gives_back_what_reclaim_wants_down_to_its_floor),
        TEST(one_that_is_not_elastic_gives_nothing),
        TEST(another_scope_that_needs_the_bytes_gets_them_and_the_cache_grows_again),
        TEST(it_stays_below_the_soft_limit_of_its_scope),
        TEST(reclaim_tells_each_entry_that_it_takes),
        TEST(objects_are_given_back_as_well),
        TEST(pinned_entries_stay_where_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
