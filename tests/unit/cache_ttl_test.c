// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Time to live, seen from outside: entries whose time ended leave with later writes, a few at a time, whether anybody asks
 * for them or not; and never before their time. */
#include "cache_fixture.h"

/* Entries that one write may find to be over. The bound is what matters, not the figure. */
#define FEW 64

static unsigned told[6];
static void on_evict(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size, void *context) {
    (void)key, (void)key_len, (void)context;
    (void)value, (void)size;
    told[reason]++;
}

/* Other keys are put until so many entries have left because their time ended; the puts that it took. */
static size_t puts_until(uint64_t expirations) {
    size_t puts = 0;
    for (; stats().expirations < expirations; puts++) {
        uint64_t before = stats().expirations;
        assert_ok(put_number((uint64_t)1 << 60 | puts % 100, 10));
        assert_true(stats().expirations - before <= FEW);
        assert_true(puts < 40 * expirations + 1000);
    }
    return puts;
}

static void what_is_over_leaves_by_later_puts_a_few_at_a_time(void **state) {
    (void)state;
    for (unsigned shards = 1; shards <= 4; shards *= 4) {
        open_cache(.budget_bytes = 4 * MIB, .shard_count = shards);
        for (uint64_t i = 0; i < 5000; i++) assert_ok(put_number_for(i, 100, 200 + i % 50));
        for (uint64_t i = 5000; i < 6000; i++) assert_ok(put_number(i, 100));
        pass_ms(199);
        for (uint64_t i = 0; i < 100; i++) assert_ok(put_number((uint64_t)1 << 60 | i, 10));
        assert_int_equal(nm_cache_count(cache), 6100);
        assert_int_equal(stats().expirations, 0);
        pass_ms(100);
        size_t puts = puts_until(5000);
        print_message("%u shards: 5000 entries left in the course of %zu puts\n", shards, puts);
        assert_true(puts >= 5000 / FEW);
        assert_int_equal(nm_cache_count(cache), 1100);
        for (uint64_t i = 5000; i < 6000; i++) assert_true(get_number(i));
        close_cache();
    }
}

static void other_writes_find_what_is_over_as_well(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB, .shard_count = 1);
    for (int way = 0; way < 4; way++) {
        uint64_t before = stats().expirations;
        assert_ok(put_text("number", "1"));
        for (uint64_t i = 0; i < 500; i++) assert_ok(put_number_for(i, 10, 100));
        pass_ms(200);
        for (int i = 0; i < 20000 && stats().expirations - before < 500; i++) {
            nm_entry room;
            if (way == 0) assert_status(remove_number(77777), NM_ENOTFOUND);
            if (way == 1) assert_ok(nm_cache_touch(cache, "number", 6, NM_TTL_NEVER));
            if (way == 2) assert_ok(nm_cache_increment(cache, "number", 6, 1, NULL));
            if (way == 3) {
                assert_ok(nm_cache_reserve(cache, "r", 1, 10, &room));
                nm_cache_abort(&room);
            }
        }
        assert_int_equal(stats().expirations - before, 500);
        assert_int_equal(nm_cache_count(cache), 1);
    }
    close_cache();
}

static void touch_makes_it_longer_shorter_and_endless(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB, .shard_count = 1);
    for (uint64_t i = 0; i < 400; i++) assert_ok(put_number_for(i, 50, 1000));
    for (uint64_t i = 0; i < 400; i++) {
        static const uint64_t ttls[] = {5000, 100, NM_TTL_NEVER};
        if (i % 4 < 3) assert_ok(nm_cache_touch(cache, &i, sizeof i, ttls[i % 4]));
    }
    pass_ms(150);
    puts_until(100);
    for (int i = 0; i < 200; i++) assert_ok(put_number((uint64_t)1 << 60, 10));
    assert_int_equal(stats().expirations, 100);
    for (uint64_t i = 0; i < 400; i++) assert_int_equal(has_number(i), i % 4 != 1);
    pass_ms(900);
    puts_until(200);
    for (uint64_t i = 0; i < 400; i++) assert_int_equal(has_number(i), i % 4 == 0 || i % 4 == 2);
    pass_ms(4000);
    puts_until(300);
    for (uint64_t i = 0; i < 400; i++) assert_int_equal(has_number(i), i % 4 == 2);
    pass_ms((uint64_t)1 << 45);
    for (int i = 0; i < 500; i++) assert_ok(put_number((uint64_t)1 << 60, 10));
    assert_int_equal(stats().expirations, 300);
    close_cache();
}

static void a_replaced_entry_has_the_time_of_the_new_one(void **state) {
    (void)state;
    memset(told, 0, sizeof told);
    open_cache(.budget_bytes = MIB, .shard_count = 1, .on_evict = on_evict);
    for (uint64_t i = 0; i < 300; i++) {
        static const uint64_t first[] = {100, 100, NM_TTL_NEVER}, second[] = {NM_TTL_NEVER, 1000, 100};
        assert_ok(put_number_for(i, 50, first[i % 3]));
        if (i % 2 == 0) {
            assert_ok(put_number_for(i, 50, second[i % 3]));
        } else {
            nm_entry room;
            assert_ok(nm_cache_reserve(cache, &i, sizeof i, 50, &room));
            fill(room.value, i, 50);
            assert_ok(nm_cache_commit(&room, NM_PUT_OPTIONS(.ttl_ms = second[i % 3])));
        }
    }
    assert_int_equal(told[NM_EVICT_REPLACED], 300);
    pass_ms(200);
    puts_until(100);
    for (int i = 0; i < 200; i++) assert_ok(put_number((uint64_t)1 << 60, 10));
    for (uint64_t i = 0; i < 300; i++) assert_int_equal(get_number(i), i % 3 != 2);
    pass_ms(1000);
    puts_until(200);
    for (uint64_t i = 0; i < 300; i++) assert_int_equal(get_number(i), i % 3 == 0);
    assert_int_equal(told[NM_EVICT_EXPIRED], 200);
    close_cache();
}

static void a_pinned_entry_whose_time_ends_stays_readable(void **state) {
    (void)state;
    memset(told, 0, sizeof told);
    open_cache(.budget_bytes = MIB, .shard_count = 1, .on_evict = on_evict);
    nm_entry pins[50], e;
    for (uint64_t i = 0; i < 50; i++) {
        assert_ok(put_number_for(i, 100, 100));
        assert_true(pin_number(i, &pins[i]));
    }
    pass_ms(100 + NM__WHEEL_TICK_MS);
    for (uint64_t i = 0; i < 10; i++) assert_false(pin_number(i, &e));
    for (int i = 0; i < 2000; i++) assert_ok(put_number((uint64_t)1 << 60 | (unsigned)i % 2, 10));
    assert_int_equal(stats().expirations, 50);
    assert_int_equal(nm_cache_count(cache), 2);
    assert_int_equal(told[NM_EVICT_EXPIRED], 0);
    for (uint64_t i = 0; i < 50; i++) {
        assert_true(filled(pins[i].value, i, 100));
        nm_entry_release(&pins[i]);
        assert_int_equal(told[NM_EVICT_EXPIRED], i + 1);
    }
    close_cache();
}

static void clear_forgets_times_too(void **state) {
    (void)state;
    for (int callback = 0; callback < 2; callback++) {
        open_cache(.budget_bytes = MIB, .shard_count = 2, .on_evict = callback ? on_evict : NULL);
        for (uint64_t i = 0; i < 2000; i++) assert_ok(put_number_for(i, 50, 100 + i % 3 * 1000));
        nm_cache_clear(cache);
        assert_int_equal(nm_cache_used(cache), 0);
        for (uint64_t i = 0; i < 1000; i++) assert_ok(put_number_for(i, 50, 500));
        cache_check(cache);
        pass_ms(499);
        for (int i = 0; i < 3000; i++) assert_ok(put_number((uint64_t)1 << 60 | (unsigned)i % 2, 10));
        assert_int_equal(stats().expirations, 0); /* what was cleared was removed, not over */
        for (uint64_t i = 0; i < 1000; i++) assert_true(get_number(i));
        pass_ms(1 + NM__WHEEL_TICK_MS);
        puts_until(1000);
        pass_ms(5000);
        for (int i = 0; i < 3000; i++) assert_ok(put_number((uint64_t)1 << 60 | (unsigned)i % 2, 10));
        assert_int_equal(stats().expirations, 1000);
        assert_true(nm_cache_count(cache) <= 100); /* those of puts_until */
        close_cache();
    }
}

/* Entries are moved while a cache shrinks, and their place in the wheel with them. */
static void times_move_with_entries_that_a_resize_moves(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    open_cache(.budget_bytes = 4 * MIB, .shard_count = 1);
    for (uint64_t i = 0; i < 10000; i++) assert_ok(put_number_for(i, test_below(&seed, 600), 1000 + i % 1000));
    for (uint64_t i = 0; i < 10000; i++)
        if (i % 4 != 0) (void)remove_number(i);
    assert_ok(nm_cache_resize(cache, 2 * MIB));
    cache_check(cache);
    assert_ok(nm_cache_resize(cache, MIB + MIB / 4));
    cache_check(cache);
    size_t count = nm_cache_count(cache);
    assert_true(count > 1000);
    pass_ms(1500);
    for (uint64_t i = 0; i < 10000; i++) /* i % 1000 is its time beyond a second */
        if (i % 1000 <= 500) assert_false(has_number(i));
    for (int i = 0; i < 20000; i++) assert_ok(put_number((uint64_t)1 << 60, 10));
    size_t rest = 0;
    for (uint64_t i = 0; i < 10000; i++) rest += get_number(i);
    assert_int_equal(stats().expirations, count - rest);
    assert_true(rest > 0 && rest < count);
    pass_ms(1000);
    puts_until(count);
    assert_int_equal(nm_cache_used(cache), nm_cache_charge(NULL, 8, 10) * nm_cache_count(cache));
    close_cache();
}

static void times_far_apart_are_exact_to_the_millisecond(void **state) {
    (void)state;
    static const uint64_t ttls[] = {1,     2,       15,         16,         17,          31,
                                    500,   16000,   600000,     86400000,   31536000000, 3153600000000,
                                    60000, 5000000, 2000000000, 20000000000};
    enum { TTLS = sizeof ttls / sizeof *ttls };
    open_cache(.budget_bytes = MIB, .shard_count = 1);
    for (uint64_t i = 0; i < TTLS; i++) assert_ok(put_number_for(i, 50, ttls[i]));
    assert_ok(put_number_for(100, 50, NM_TTL_NEVER - 1)); /* the end of it cannot be told from never */
    uint64_t start = clock_read(), gone = 0;
    for (size_t n = 0; n < TTLS; n++) { /* to the next end, in order */
        uint64_t next = UINT64_MAX;
        for (size_t i = 0; i < TTLS; i++)
            if (start + ttls[i] > clock_read() && ttls[i] < next) next = ttls[i];
        pass_ms(start + next - 1 - clock_read());
        for (int i = 0; i < 3; i++) assert_ok(put_number((uint64_t)1 << 60, 10));
        for (uint64_t i = 0; i < TTLS; i++) assert_int_equal(has_number(i), ttls[i] >= next);
        assert_true(stats().expirations <= gone);
        pass_ms(1);
        nm_entry e;
        for (uint64_t i = 0; i < TTLS; i++) assert_int_equal(has_number(i), ttls[i] > next);
        for (uint64_t i = 0; i < TTLS; i++)
            if (ttls[i] == next && i % 2 == 0) assert_false(pin_number(i, &e));
        gone++;
    }
    pass_ms(100);
    puts_until(TTLS);
    assert_true(get_number(100));
    close_cache();
}

/* Against a plain array of ends. The clock jumps by nothing, by little, and by hours. */
static void a_hundred_thousand_entries_with_random_times(void **state) {
    (void)state;
    enum { MANY = TEST_SLOW ? 20000 : 100000 };
    static uint64_t ends[MANY];
    uint64_t seed = test_seed();
    open_cache(.budget_bytes = 32 * MIB, .shard_count = 4);
    for (uint64_t i = 0; i < MANY; i++) {
        uint64_t ttl = 1 + (test_random(&seed) >> (64 - 1 - test_below(&seed, 24)));
        if (i % 10 == 0) ttl = NM_TTL_NEVER;
        assert_ok(put_number_for(i, 10 + i % 50, ttl));
        ends[i] = ttl == NM_TTL_NEVER ? ttl : clock_read() + ttl;
        if (i % 1000 == 0) pass_ms(test_below(&seed, 30));
    }
    assert_int_equal(stats().evictions, 0);
    cache_check(cache);
    for (int step = 0; step < MANY; step++) {
        uint64_t r = test_random(&seed), number = (r >> 20) % MANY;
        if (r % 8 == 0) pass_ms((r >> 8) % (r % 4096 == 0 ? 3600000 : 20));
        bool there = ends[number] > clock_read();
        switch ((r >> 4) % 8) {
        case 0: {
            uint64_t ttl = r % 64 == 4 ? NM_TTL_NEVER : 1 + (r >> 40) % 100000;
            assert_status(nm_cache_touch(cache, &number, sizeof number, ttl), there ? NM_OK : NM_ENOTFOUND);
            if (there) ends[number] = ttl == NM_TTL_NEVER ? ttl : clock_read() + ttl;
            break;
        }
        case 1:
            assert_ok(put_number_for(number, 30, 1 + (r >> 40) % 100000));
            ends[number] = clock_read() + 1 + (r >> 40) % 100000;
            break;
        case 2:
            assert_status(remove_number(number), there ? NM_OK : NM_ENOTFOUND);
            ends[number] = 0;
            break;
        case 3: assert_int_equal(has_number(number), there); break;
        default: assert_int_equal(get_number(number), there);
        }
        if (step % (MANY / 10) == 0) cache_check(cache);
    }
    size_t left = 0;
    for (uint64_t i = 0; i < MANY; i++) {
        assert_int_equal(has_number(i), ends[i] > clock_read());
        left += ends[i] == NM_TTL_NEVER;
    }
    assert_int_equal(stats().evictions, 0);
    pass_ms(100000000);
    for (uint64_t i = 0; i < 100; i++) assert_ok(put_number((uint64_t)1 << 60 | i, 10));
    /* Only puts: all that was over goes. */
    for (int i = 0; i < 40 * MANY && nm_cache_count(cache) > left + 100; i++)
        assert_ok(put_number((uint64_t)1 << 60 | (unsigned)i % 100, 10));
    assert_int_equal(nm_cache_count(cache), left + 100);
    close_cache();
}

static void entries_put_without_a_time_have_the_caches(void **state) {
    (void)state;
    static int object;
    open_cache(.budget_bytes = MIB, .ttl_ms = 300);
    nm_entry room;
    assert_ok(put_text("put", "v"));
    assert_ok(nm_cache_put_object(cache, "object", 6, &object, 10));
    assert_ok(nm_cache_reserve(cache, "room", 4, 1, &room));
    pass_ms(100); /* the time of a reservation begins with its commit */
    memcpy(room.value, "v", 1);
    assert_ok(nm_cache_commit(&room, NULL));
    assert_ok(nm_cache_put_with(cache, "never", 5, "v", 1, NM_PUT_OPTIONS(.ttl_ms = NM_TTL_NEVER)));
    pass_ms(199);
    assert_true(has_text("put") && has_text("object") && has_text("room"));
    pass_ms(1);
    assert_false(has_text("put") || has_text("object"));
    assert_true(has_text("room"));
    pass_ms(100);
    assert_false(has_text("room"));
    assert_true(has_text("never"));
    close_cache();
}

/* A clock that another thread read a little sooner, or a machine that sleeps. */
static void a_clock_that_stands_or_jumps_far_is_no_harm(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB, .shard_count = 1);
    for (uint64_t i = 0; i < 100; i++) assert_ok(put_number_for(i, 10, 1000));
    pass_ms((uint64_t)1 << 50);
    assert_false(has_number(5));
    for (uint64_t i = 100; i < 200; i++) assert_ok(put_number_for(i, 10, 1000));
    for (uint64_t i = 100; i < 200; i++) assert_true(get_number(i));
    puts_until(100);
    for (uint64_t i = 100; i < 200; i++) assert_true(get_number(i));
    pass_ms(-(uint64_t)40); /* not later than the latest that the wheel was told */
    for (uint64_t i = 100; i < 200; i++) assert_ok(nm_cache_touch(cache, &i, sizeof i, 500));
    for (int i = 0; i < 1000; i++) assert_ok(put_number((uint64_t)1 << 60, 10));
    for (uint64_t i = 100; i < 200; i++) assert_true(get_number(i));
    pass_ms(600);
    puts_until(200);
    close_cache();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_is_over_leaves_by_later_puts_a_few_at_a_time), TEST(other_writes_find_what_is_over_as_well),
        TEST(touch_makes_it_longer_shorter_and_endless),         TEST(a_replaced_entry_has_the_time_of_the_new_one),
        TEST(a_pinned_entry_whose_time_ends_stays_readable),     TEST(clear_forgets_times_too),
        TEST(times_move_with_entries_that_a_resize_moves),       TEST(times_far_apart_are_exact_to_the_millisecond),
        TEST(a_hundred_thousand_entries_with_random_times),      TEST(entries_put_without_a_time_have_the_caches),
        TEST(a_clock_that_stands_or_jumps_far_is_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
