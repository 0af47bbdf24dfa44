// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Clearing: everything is gone at once for all who ask, at a cost that does not depend on how much there was; the room
 * comes back with later calls. */
#include "cache_fixture.h"

static void gone_at_once_for_all_who_ask(void **state) {
    (void)state;
    for (unsigned shards = 1; shards <= 4; shards *= 4) {
        open_cache(.budget_bytes = 4 * MIB, .shard_count = shards);
        for (uint64_t i = 0; i < 5000; i++) assert_ok(put_number_for(i, i % 300, i % 3 == 0 ? 1000 : 0));
        assert_ok(put_text("number", "1"));
        nm_cache_clear(cache);
        assert_int_equal(nm_cache_used(cache), 0);
        assert_int_equal(nm_cache_count(cache), 0);
        cache_law(cache, scope);
        cache_check(cache);
        nm_cursor cursor = {0};
        nm_entry e;
        assert_status(nm_cache_next(cache, &cursor, &e), NM_ENOTFOUND);
        nm_cache_stats st = stats();
        assert_int_equal(st.used_bytes, 0);
        assert_int_equal(st.entry_count, 0);
        assert_int_equal(st.probation_bytes + st.protected_bytes + st.window_bytes, 0);
        for (uint64_t i = 0; i < 5000; i++) {
            switch (i % 5) {
            case 0: assert_false(has_number(i)); break;
            case 1: assert_false(get_number(i)); break;
            case 2: assert_status(remove_number(i), NM_ENOTFOUND); break;
            case 3: assert_status(nm_cache_touch(cache, &i, sizeof i, 5), NM_ENOTFOUND); break;
            default:
                assert_ok(nm_cache_put_with(cache, &i, sizeof i, NULL, 0, NM_PUT_OPTIONS(.mode = NM_PUT_ADD)));
                assert_ok(remove_number(i));
            }
            if (i % 500 == 0) cache_check(cache);
        }
        assert_status(nm_cache_increment(cache, "number", 6, 1, NULL), NM_ENOTFOUND);
        assert_int_equal(nm_cache_used(cache), 0);
        assert_int_equal(nm_cache_count(cache), 0);
        assert_int_equal(stats().evictions, 0);
        assert_int_equal(stats().expirations, 0);
        close_cache();
    }
    nm_cache_clear(NULL);
}

static void an_empty_cache_is_cleared_and_works(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB);
    for (int i = 0; i < 5; i++) nm_cache_clear(cache);
    assert_ok(put_number(1, 100));
    assert_true(get_number(1));
    close_cache();
}

/* What is dead makes room before anything that lives is evicted. */
static void dead_pages_are_reused_before_anybody_is_evicted(void **state) {
    (void)state;
    for (unsigned shards = 1; shards <= 4; shards *= 4) {
        /* Others want pages for ghosts, at the price of what lies there. */
        open_cache(.budget_bytes = 2 * MIB, .shard_count = shards, .policy = NM_CACHE_SLRU);
        uint64_t next = 0;
        for (int round = 0; round < 6; round++) {
            size_t bytes = round % 2 == 0 ? 200 : 2000;
            uint64_t first = next;
            uint64_t evictions = stats().evictions;
            /* A little less than there is room for: by shards, by chance, one may be full. */
            for (size_t total = 0; total < MIB + MIB / 4; total += bytes + 40) {
                assert_ok(put_number(next++, bytes));
                cache_law(cache, scope);
            }
            if (shards == 1) assert_int_equal(stats().evictions, evictions);
            for (uint64_t i = first; shards == 1 && i < next; i++) assert_true(get_number(i));
            for (uint64_t i = first - first / 2; i < first; i++) assert_false(get_number(i));
            cache_check(cache);
            nm_cache_clear(cache);
            assert_int_equal(nm_cache_used(cache), 0);
            assert_true(nm_cache_granted(cache) <= nm_cache_budget(cache));
            cache_check(cache);
        }
        close_cache();
    }
}

static void a_large_entry_finds_room_among_the_dead(void **state) {
    (void)state;
    open_cache(.budget_bytes = 2 * MIB, .shard_count = 1);
    for (uint64_t i = 0; i < 20000; i++) assert_ok(put_number(i, 100));
    nm_cache_clear(cache);
    assert_ok(put_number(1000000, 3 * MIB / 2));
    assert_true(get_number(1000000));
    close_cache();
}

static void pinned_entries_stay_readable_for_their_holders(void **state) {
    (void)state;
    nm_entry pins[100], room;
    open_cache(.budget_bytes = MIB, .shard_count = 2);
    for (uint64_t i = 0; i < 2000; i++) assert_ok(put_number(i, 200));
    for (uint64_t i = 0; i < 100; i++) assert_true(pin_number(i * 7, &pins[i]));
    assert_ok(nm_cache_reserve(cache, "room", 4, 5, &room));
    nm_cache_clear(cache);
    assert_int_equal(nm_cache_used(cache), 0);
    assert_int_equal(stats().pinned_count, 101);
    cache_check(cache);
    for (uint64_t i = 0; i < 20000; i++) assert_ok(put_number(100000 + i, 200));
    for (uint64_t i = 0; i < 100; i++) {
        assert_true(filled(pins[i].value, i * 7, 200));
        assert_false(has_number(i * 7));
        assert_ok(put_number(i * 7, 50)); /* the same key once more, beside the one that is held */
        nm_entry_release(&pins[i]);
        assert_true(get_number(i * 7));
    }
    memcpy(room.value, "room!", 5);
    assert_ok(nm_cache_commit(&room, NULL)); /* what is put after a clear is not cleared */
    assert_text("room", "room!");
    assert_int_equal(stats().pinned_count, 0);
    close_cache();
}

static void pins_of_the_dead_are_released_before_anything_else_happens(void **state) {
    (void)state;
    nm_entry pins[100];
    open_cache(.budget_bytes = MIB, .shard_count = 1);
    for (uint64_t i = 0; i < 100; i++) {
        assert_ok(put_number(i, 200));
        assert_true(pin_number(i, &pins[i]));
    }
    nm_cache_clear(cache);
    for (uint64_t i = 0; i < 100; i++) nm_entry_release(&pins[i]);
    cache_check(cache);
    assert_int_equal(stats().pinned_bytes, 0);
    for (uint64_t i = 0; i < 100; i++) assert_false(get_number(i));
    nm_cache_clear(cache);
    close_cache();
}

static void clears_on_top_of_each_other(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    open_cache(.budget_bytes = 512 * KIB, .shard_count = 2);
    nm_entry pin = {0};
    uint64_t pinned = 0;
    for (int round = 0; round < 300; round++) {
        size_t n = test_below(&seed, 400);
        uint64_t base = (uint64_t)round << 20;
        for (size_t i = 0; i < n; i++) assert_ok(put_number_for(base + i, 100, i % 5 == 0 ? 50 : 0));
        assert_int_equal(nm_cache_count(cache), n); /* never so many that one would have to go */
        for (size_t i = 0; i < n; i++) assert_true(has_number(base + i));
        if (n > 0 && round % 3 == 0) {
            if (pin.slot != NULL) assert_true(filled(pin.value, pinned, pin.value_len));
            nm_entry_release(&pin);
            pinned = base + test_below(&seed, n);
            assert_true(pin_number(pinned, &pin));
        }
        nm_cache_clear(cache);
        if (round % 2 == 0) nm_cache_clear(cache);
        if (round % 7 == 0) pass_ms(60);
        cache_check(cache);
        assert_int_equal(nm_cache_used(cache), 0);
    }
    nm_entry_release(&pin);
    assert_int_equal(stats().evictions, 0);
    close_cache();
}

/* Versions tell what was put before the clear from what was put since: also where they begin again. */
static void versions_that_wrap_tell_the_dead_from_the_living(void **state) {
    (void)state;
    for (uint32_t start = UINT32_MAX - 20; start != 5; start++) {
        open_cache(.budget_bytes = MIB, .shard_count = 1);
        cache->shards[0].version = start;
        for (uint64_t i = 0; i < 10; i++) assert_ok(put_number(i, 50));
        nm_cache_clear(cache);
        for (uint64_t i = 5; i < 25; i++) assert_ok(put_number(i, 50));
        for (uint64_t i = 0; i < 25; i++) {
            nm_entry e;
            assert_int_equal(get_number(i), i >= 5);
            if (i < 5) continue;
            assert_true(pin_number(i, &e));
            assert_int_not_equal(e.cas, 0);
            nm_entry_release(&e);
        }
        close_cache();
    }
}

/* Versions are compared by their difference, which is right as long as the dead are gone before 2^31 more were given. */
static void the_dead_go_with_later_puts_whether_room_is_wanted_or_not(void **state) {
    (void)state;
    for (int way = 0; way < 3; way++) {
        open_cache(.budget_bytes = 4 * MIB, .shard_count = 1);
        for (uint64_t i = 0; i < 2000; i++) assert_ok(put_number(i, 50));
        nm_cache_clear(cache);
        assert_ok(put_text("k", "1"));
        for (int i = 0; i < 2000; i++) {
            if (way == 0) assert_ok(put_text("k", "1")); /* in place */
            if (way == 1) assert_ok(nm_cache_increment(cache, "k", 1, 1, NULL));
            if (way == 2) assert_ok(put_number(10000 + (uint64_t)i, 50));
        }
        assert_int_equal(cache->shards[0].dead_count, 0);
        cache->shards[0].version += (uint32_t)1 << 31;
        assert_ok(put_text("new", "value"));
        assert_text("new", "value");
        close_cache();
    }
}

static void granted_goes_down_when_it_is_asked_for(void **state) {
    (void)state;
    open_cache(.budget_bytes = 4 * MIB, .elastic = true, .floor_bytes = 256 * KIB, .shard_count = 2);
    for (uint64_t i = 0; i < 30000; i++) assert_ok(put_number(i, 100));
    assert_true(nm_cache_granted(cache) > 3 * MIB);
    nm_cache_clear(cache);
    size_t before = nm_cache_granted(cache), got = nm_scope_reclaim(scope, 3 * MIB);
    assert_int_equal(before - nm_cache_granted(cache), got);
    assert_true(nm_cache_granted(cache) <= MIB);
    cache_check(cache);
    assert_ok(put_number(1, 100));
    close_cache();
    open_cache(.budget_bytes = 4 * MIB, .shard_count = 2);
    for (uint64_t i = 0; i < 20000; i++) assert_ok(put_number(i, 100));
    assert_int_equal(stats().evictions, 0);
    nm_cache_clear(cache);
    assert_ok(nm_cache_resize(cache, 200 * KIB));
    assert_true(nm_cache_granted(cache) <= 200 * KIB);
    assert_int_equal(stats().evictions, 0);
    close_cache();
}

/* ---- who was told ---- */

#define NUMBERS 3000u
static unsigned told[6], told_number[NUMBERS];
static void on_evict(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size, void *context) {
    uint64_t number;
    (void)context;
    assert_int_equal(key_len, sizeof number);
    memcpy(&number, key, sizeof number);
    assert_true(filled(value, number, size));
    told_number[number]++;
    told[reason]++;
}

static void each_is_told_once_and_the_count_is_exact(void **state) {
    (void)state;
    nm_entry pins[10];
    memset(told, 0, sizeof told);
    memset(told_number, 0, sizeof told_number);
    open_cache(.budget_bytes = 2 * MIB, .shard_count = 4, .on_evict = on_evict);
    for (uint64_t i = 0; i < NUMBERS; i++) assert_ok(put_number(i, 100));
    for (uint64_t i = 0; i < 10; i++) assert_true(pin_number(i, &pins[i]));
    assert_int_equal(told[NM_EVICT_SPACE], 0);
    nm_cache_clear(cache);
    assert_int_equal(nm_cache_used(cache), 0);
    assert_int_equal(nm_cache_count(cache), 0);
    assert_int_equal(told[NM_EVICT_REMOVED], NUMBERS - 10);
    cache_check(cache);
    for (int i = 0; i < 10; i++) nm_entry_release(&pins[i]);
    assert_int_equal(told[NM_EVICT_REMOVED], NUMBERS);
    for (size_t i = 0; i < NUMBERS; i++) assert_int_equal(told_number[i], 1);
    nm_cache_clear(cache);
    assert_int_equal(told[NM_EVICT_REMOVED], NUMBERS);
    assert_ok(put_number(1, 100));
    close_cache();
    assert_int_equal(told[NM_EVICT_CLOSED], 1);
}

static size_t granted_to_scope(void) {
    nm_scope_stats st;
    nm_scope_get_stats(scope, &st);
    return st.granted_bytes;
}

static void objects_are_no_longer_charged(void **state) {
    (void)state;
    static int object;
    open_cache(.budget_bytes = 8 * MIB, .shard_count = 2);
    size_t before = granted_to_scope();
    for (uint64_t i = 0; i < 20; i++) assert_ok(nm_cache_put_object(cache, &i, sizeof i, &object, 200000));
    assert_int_equal(granted_to_scope() - before >= 20 * 200000, true);
    nm_cache_clear(cache);
    assert_int_equal(nm_cache_used(cache), 0);
    assert_int_equal(nm_cache_count(cache), 0);
    assert_true(granted_to_scope() - before < 100000);
    cache_check(cache);
    close_cache();
}

/* ---- the cost ---- */

static uint64_t cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The least of a few attempts. */
static uint64_t cost_of_clear(uint64_t entries) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 5; i++) {
        for (uint64_t n = 0; n < entries; n++) assert_ok(put_number(n, 10));
        uint64_t start = cpu_ns();
        nm_cache_clear(cache);
        uint64_t took = cpu_ns() - start;
        if (took < least) least = took;
    }
    return least;
}

static void a_clear_costs_the_same_whatever_there_is(void **state) {
    (void)state;
    uint64_t many = TEST_SLOW ? 20000 : 200000;
    open_cache(.budget_bytes = 32 * MIB, .shard_count = 4);
    uint64_t few_ns = cost_of_clear(10), many_ns = cost_of_clear(many);
    print_message("10 entries: %" PRIu64 " ns; %" PRIu64 " entries: %" PRIu64 " ns\n", few_ns, many, many_ns);
    assert_true(many_ns < few_ns * 5 + 50000);
    close_cache();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(gone_at_once_for_all_who_ask),
        TEST(an_empty_cache_is_cleared_and_works),
        TEST(dead_pages_are_reused_before_anybody_is_evicted),
        TEST(a_large_entry_finds_room_among_the_dead),
        TEST(pinned_entries_stay_readable_for_their_holders),
        TEST(pins_of_the_dead_are_released_before_anything_else_happens),
        TEST(clears_on_top_of_each_other),
        TEST(versions_that_wrap_tell_the_dead_from_the_living),
        TEST(the_dead_go_with_later_puts_whether_room_is_wanted_or_not),
        TEST(granted_goes_down_when_it_is_asked_for),
        TEST(each_is_told_once_and_the_count_is_exact),
        TEST(objects_are_no_longer_charged),
        TEST(a_clear_costs_the_same_whatever_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
