// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The ghosts of a shard follow the count of its entries, and their memory is in the budget. */
#include "cache_fixture.h"

static size_t ghosts(void) { return cache->shards[0].policy.ghosts.line_count * NM__GHOST_LINE; }

/* Each is used often enough to stay. */
static void put_many(uint64_t first, size_t count, size_t bytes) {
    for (uint64_t i = 0; i < count; i++) {
        assert_ok(put_number(first + i, bytes));
        for (int use = 0; use < 3; use++) assert_true(get_number(first + i));
        if (i % 500 == 0) cache_law(cache, scope);
    }
}

/* Five for four entries, as of the last time that they were fitted; a line more or less. */
static void assert_fitting(void) {
    size_t entries = nm_cache_count(cache);
    assert_in_range(ghosts(), entries - NM__GHOST_LINE, entries * 5 / 2 + NM__GHOST_LINE);
    assert_in_range(cache->shards[0].tables_bytes, ghosts() * 2, ghosts() * 2 + NM__PAGE_BYTES - 1);
}

static void ghosts_follow_the_count_of_entries(void **state) {
    (void)state;
    static const nm_cache_policy with_ghosts[] = {NM_CACHE_S3FIFO, NM_CACHE_ADAPTIVE};
    for (size_t i = 0; i < sizeof with_ghosts / sizeof *with_ghosts; i++) {
        open_cache(.budget_bytes = 4 * MIB, .policy = with_ghosts[i], .shard_count = 1);
        assert_int_equal(ghosts(), 0); /* nobody left yet */
        put_many(1, 3000, 4 * KIB);
        assert_in_range(nm_cache_count(cache), 900, 1024);
        assert_fitting();
        /* The heap has all of the budget by now: pages for more ghosts have to be won from it. */
        put_many(10000, 100000, 100);
        assert_true(nm_cache_count(cache) > 20000);
        assert_fitting();
        nm_cache_clear(cache);
        put_many(200000, 3000, 4 * KIB);
        assert_true(nm_cache_count(cache) <= 1024);
        assert_fitting();
        close_cache();
    }
}

static void segmented_lru_has_none(void **state) {
    (void)state;
    open_cache(.budget_bytes = 1 * MIB, .policy = NM_CACHE_SLRU, .shard_count = 1);
    put_many(1, 20000, 100);
    assert_int_equal(ghosts(), 0);
    assert_int_equal(cache->shards[0].tables_bytes, 0);
    close_cache();
}

static void the_least_budget_has_no_room_for_ghosts(void **state) {
    (void)state;
    nm_cache_options options = nm_cache_options_init();
    options.policy = NM_CACHE_S3FIFO;
    options.shard_count = 1;
    options.budget_bytes = 2 * MIB;
    assert_ok(nm_cache_open(&cache, scope, &options));
    put_many(1, 40000, 100);
    assert_fitting();
    assert_ok(
        nm_cache_resize(cache, nm_cache_min_bytes(&options) + NM__PAGE_BYTES)); /* this thread has a page of its own */
    assert_int_equal(ghosts(), 0);
    cache_law(cache, scope);
    put_many(100000, 2000, 100);
    assert_ok(nm_cache_resize(cache, 2 * MIB));
    put_many(200000, 40000, 100);
    assert_fitting();
    close_cache();
}

/* What S3-FIFO is for: a loop twice as large as the cache. With ghosts of all its keys it would let every one of them in, and keep none. */
static void a_loop_of_large_values_finds_some_of_them(void **state) {
    (void)state;
    open_cache(.budget_bytes = 4 * MIB, .policy = NM_CACHE_S3FIFO, .shard_count = 1);
    unsigned hits = 0;
    for (int round = 0; round < 20; round++)
        for (uint64_t key = 1; key <= 4000; key++)
            if (get_number(key))
                hits++;
            else
                assert_ok(put_number(key, 4 * KIB));
    print_message("%u of 80000 hit\n", hits);
    assert_true(hits > 80000 / 10);
    close_cache();
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(ghosts_follow_the_count_of_entries), TEST(segmented_lru_has_none),
                                       TEST(the_least_budget_has_no_room_for_ghosts),
                                       TEST(a_loop_of_large_values_finds_some_of_them)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
