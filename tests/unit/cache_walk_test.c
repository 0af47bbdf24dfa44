// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Walks: every entry that is there from the first step to the last is met, whatever happens meanwhile. */
#include <pthread.h>

#include "cache_fixture.h"

#define STAYERS 3000u
#define OTHERS  ((uint64_t)1 << 40)

static unsigned met[STAYERS];
static size_t met_others;

/* Notes what was met, and gives it back. False at the end of the walk. */
static bool walk_step(nm_cursor *cursor) {
    nm_entry e;
    nm_status st = nm_cache_next(cache, cursor, &e);
    if (st == NM_ENOTFOUND) {
        assert_null(e.slot);
        return false;
    }
    assert_ok(st);
    uint64_t number;
    assert_int_equal(e.key_len, sizeof number);
    memcpy(&number, e.key, sizeof number);
    assert_true(filled(e.value, number, e.value_len));
    assert_false(e.negative);
    if (number < STAYERS)
        met[number]++;
    else
        met_others++;
    nm_entry_release(&e);
    return true;
}

static void forget(void) {
    memset(met, 0, sizeof met);
    met_others = 0;
}

static size_t walk_all(void) {
    nm_cursor cursor = {0};
    size_t steps = 0;
    while (walk_step(&cursor)) assert_true(++steps < 10000000);
    assert_false(walk_step(&cursor)); /* it stays at its end */
    return steps;
}

static void put_stayers(void) {
    for (uint64_t i = 0; i < STAYERS; i++) assert_ok(put_number(i, 20 + i % 90));
}
static void assert_all_met(void) {
    for (uint64_t i = 0; i < STAYERS; i++) {
        assert_true(has_number(i)); /* else the test has pushed it out, and says nothing */
        if (met[i] == 0) fail_msg("%llu was there all the time and was not met", (unsigned long long)i);
    }
}

static void a_quiet_walk_meets_each_entry_once(void **state) {
    (void)state;
    static const size_t counts[] = {0, 1, 2, 7, 8, 9, 17, 100, 2999};
    for (unsigned shards = 1; shards <= 16; shards *= 4) {
        open_cache(.budget_bytes = 4 * MIB, .shard_count = shards);
        size_t count = 0;
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            for (; count < counts[c]; count++) assert_ok(put_number(count, count % 200));
            forget();
            assert_int_equal(walk_all(), count);
            for (size_t i = 0; i < STAYERS; i++) assert_int_equal(met[i], i < count);
        }
        for (uint64_t i = 0; i < count; i += 2) assert_ok(remove_number(i));
        forget();
        assert_int_equal(walk_all(), count / 2);
        for (size_t i = 0; i < count; i++) assert_int_equal(met[i], i % 2);
        assert_int_equal(stats().pinned_count, 0);
        close_cache();
    }
}

static void bad_arguments_are_refused(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB);
    nm_entry e;
    nm_cursor c = {0};
    assert_status(nm_cache_next(NULL, &c, &e), NM_EINVAL);
    assert_status(nm_cache_next(cache, NULL, &e), NM_EINVAL);
    assert_status(nm_cache_next(cache, &c, NULL), NM_EINVAL);
    assert_status((nm_cache_next)(cache, &c, &e), NM_ENOTFOUND);
    nm_cursor wild = {UINT64_MAX, UINT32_MAX, UINT32_MAX}; /* no cursor that was ever handed out, but no harm */
    assert_status(nm_cache_next(cache, &wild, &e), NM_ENOTFOUND);
    close_cache();
}

static void stayers_are_met_while_the_index_grows(void **state) {
    (void)state;
    for (unsigned shards = 1; shards <= 4; shards *= 4) {
        open_cache(.budget_bytes = 16 * MIB, .shard_count = shards);
        put_stayers();
        forget();
        nm_cursor cursor = {0};
        uint64_t next = OTHERS;
        size_t index_before = stats().index_bytes;
        while (walk_step(&cursor)) {
            for (int i = 0; i < (next < OTHERS + 60000 ? 20 : 0); i++) assert_ok(put_number(next++, 10));
        }
        assert_true(stats().index_bytes > 2 * index_before);
        assert_all_met();
        assert_int_equal(stats().evictions, 0);
        close_cache();
    }
}

static void stayers_are_met_while_the_index_shrinks(void **state) {
    (void)state;
    for (unsigned shards = 1; shards <= 4; shards *= 4) {
        open_cache(.budget_bytes = 16 * MIB, .shard_count = shards);
        put_stayers();
        for (uint64_t i = 0; i < 60000; i++) assert_ok(put_number(OTHERS + i, 10));
        forget();
        nm_cursor cursor = {0};
        uint64_t next = 0;
        size_t index_before = stats().index_bytes;
        while (walk_step(&cursor)) {
            for (int i = 0; i < 20 && next < 60000; i++) (void)remove_number(OTHERS + next++);
            if (next >= 60000) /* steps on with each write, whichever */
                assert_ok(put_number(OTHERS, 10));
        }
        print_message("index: %zu bytes at first, %zu at last\n", index_before, (size_t)stats().index_bytes);
        assert_all_met();
        close_cache();
    }
}

static void stayers_are_met_in_a_random_mix(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (int round = 0; round < (TEST_SLOW ? 3 : 12); round++) {
        open_cache(.budget_bytes = 16 * MIB, .shard_count = 1u << round % 4);
        put_stayers();
        forget();
        nm_cursor cursor = {0};
        uint64_t span = 1 + test_below(&seed, 50000), walks = 0;
        int busy = 1 + (int)test_below(&seed, TEST_SLOW ? 6 : 30);
        for (;;) {
            if (!walk_step(&cursor)) {
                assert_all_met();
                if (++walks == 3) break;
                cursor = (nm_cursor){0};
                forget();
            }
            for (int i = 0; i < busy; i++) {
                uint64_t r = test_random(&seed), other = OTHERS + (r >> 20) % span, stayer = (r >> 8) % STAYERS;
                switch (r % 8) {
                case 0:
                case 1:
                case 2: assert_ok(put_number(other, (r >> 8) % 60)); break;
                case 3:
                case 4:
                case 5: (void)remove_number(other); break;
                case 6: /* it stays, in another chunk */
                    if (r % 64 == 6) assert_ok(put_number(stayer, 20 + (r >> 8) % 200));
                    break;
                default: /* and with words at its end */
                    if (r % 64 == 7) assert_ok(nm_cache_touch(cache, &stayer, sizeof stayer, 1000000));
                }
            }
        }
        assert_int_equal(stats().evictions, 0);
        assert_int_equal(stats().pinned_count, 0);
        close_cache();
    }
}

static void stayers_are_met_while_the_cache_is_resized(void **state) {
    (void)state;
    for (unsigned shards = 1; shards <= 4; shards *= 4) {
        open_cache(.budget_bytes = 16 * MIB, .shard_count = shards);
        put_stayers();
        for (uint64_t i = 0; i < 30000; i++) assert_ok(put_number(OTHERS + i, 100));
        for (uint64_t i = 0; i < STAYERS; i++) assert_true(get_number(i)); /* the last ones to go */
        forget();
        nm_cursor cursor = {0};
        size_t steps = 0;
        while (walk_step(&cursor))
            if (++steps % 100 == 0) assert_ok(nm_cache_resize(cache, steps % 200 == 0 ? 16 * MIB : 2 * MIB));
        assert_all_met();
        assert_true(stats().evictions > 0);
        close_cache();
    }
}

static void a_walk_ends_after_a_clear_and_what_it_holds_stays(void **state) {
    (void)state;
    open_cache(.budget_bytes = 4 * MIB, .shard_count = 2);
    put_stayers();
    forget();
    nm_cursor cursor = {0};
    for (int i = 0; i < 500; i++) assert_true(walk_step(&cursor));
    nm_entry held;
    assert_ok(nm_cache_next(cache, &cursor, &held));
    uint64_t number;
    memcpy(&number, held.key, sizeof number);
    nm_cache_clear(cache);
    assert_false(walk_step(&cursor));
    assert_true(filled(held.value, number, held.value_len));
    cursor = (nm_cursor){0};
    assert_false(walk_step(&cursor));
    /* Cleared in the middle, and filled again: what is new and stays is met from the next beginning on. */
    put_stayers();
    cursor = (nm_cursor){0};
    for (int i = 0; i < 500; i++) assert_true(walk_step(&cursor));
    nm_cache_clear(cache);
    put_stayers();
    forget();
    assert_int_equal(walk_all(), STAYERS);
    assert_all_met();
    assert_true(filled(held.value, number, held.value_len));
    nm_entry_release(&held);
    close_cache();
}

static void a_walk_is_no_use(void **state) {
    (void)state;
    open_cache(.budget_bytes = 128 * KIB, .shard_count = 1, .policy = NM_CACHE_LRU, .track_access = true);
    uint64_t next = 0;
    while (stats().evictions == 0) assert_ok(put_number(next++, 100));
    nm_cache_stats before = stats();
    uint64_t oldest = 0;
    while (!has_number(oldest)) oldest++;
    pass_ms(1000);
    nm_cursor cursor = {0};
    nm_entry e;
    size_t count = 0;
    while (nm_cache_next(cache, &cursor, &e) == NM_OK) {
        assert_false(e.fetched);
        nm_entry_release(&e);
        count++;
    }
    assert_int_equal(count, before.entry_count);
    assert_int_equal(stats().hits, before.hits);
    assert_int_equal(stats().misses, before.misses);
    /* The oldest ones still are the first to go. */
    for (int i = 0; i < 100; i++) {
        size_t was = nm_cache_count(cache);
        assert_ok(put_number(next++, 100));
        size_t gone = was + 1 - nm_cache_count(cache);
        for (size_t g = 0; g < gone; g++) assert_false(has_number(oldest++));
    }
    assert_true(has_number(oldest));
    close_cache();
}

static void what_is_no_entry_for_others_is_not_met(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB, .shard_count = 1);
    nm_entry room, pin;
    uint64_t number = 500;
    for (uint64_t i = 0; i < 100; i++) assert_ok(put_number_for(i, 10, i < 50 ? 100 : 1000));
    for (uint64_t i = 100; i < 150; i++) assert_ok(nm_cache_put_negative(cache, &i, sizeof i, 0));
    assert_ok(nm_cache_reserve(cache, &number, sizeof number, 10, &room));
    assert_true(pin_number(99, &pin));
    assert_ok(remove_number(99));
    pass_ms(100);
    forget();
    assert_int_equal(walk_all(), 49);
    for (size_t i = 0; i < STAYERS; i++) assert_int_equal(met[i], i >= 50 && i < 99);
    nm_cache_abort(&room);
    nm_entry_release(&pin);
    close_cache();
}

/* The cursor is a value: a copy goes on from the same place. */
static void a_copied_cursor_goes_on_from_where_it_was(void **state) {
    (void)state;
    open_cache(.budget_bytes = 4 * MIB, .shard_count = 4);
    put_stayers();
    nm_cursor cursor = {0};
    for (int i = 0; i < 1234; i++) assert_true(walk_step(&cursor));
    nm_cursor copy = cursor;
    forget();
    while (walk_step(&cursor)) {
    }
    while (walk_step(&copy)) {
    }
    size_t rest = 0;
    for (size_t i = 0; i < STAYERS; i++) {
        assert_true(met[i] == 0 || met[i] == 2);
        rest += met[i] == 2;
    }
    assert_int_equal(rest, STAYERS - 1234);
    close_cache();
}

static void where_a_pin_cannot_be_noted_the_cursor_stays(void **state) {
    (void)state;
    static nm_entry pins[2000];
    nm_entry e;
    open_cache(.budget_bytes = nm_cache_min_bytes(NM_CACHE_OPTIONS(.shard_count = 1)), .shard_count = 1);
    assert_ok(put_number(0, 10));
    assert_ok(put_number(1, 10));
    size_t count = 0;
    while (count < 2000 && pin_number(count % 2, &pins[count])) count++;
    assert_in_range(count, 3, 1999);
    nm_cursor cursor = {0};
    for (int i = 0; i < 3; i++) {
        assert_status(nm_cache_next(cache, &cursor, &e), NM_ECAPACITY);
        assert_null(e.slot);
    }
    nm_entry_release(&pins[--count]);
    forget();
    assert_true(walk_step(&cursor));
    assert_true(walk_step(&cursor));
    assert_false(walk_step(&cursor));
    assert_int_equal(met[0], 1);
    assert_int_equal(met[1], 1);
    while (count > 0) nm_entry_release(&pins[--count]);
    close_cache();
}

/* ---- threads ---- */

static NM_ATOMIC(uint32_t) stop, wrong;

static void *disturb(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg, base = OTHERS + (seed << 20);
    unsigned char value[64];
    while (!nm_atomic_load(&stop, NM_ACQUIRE)) {
        /* grows to many and shrinks to none */
        for (int way = 0; way < 2; way++)
            for (uint64_t i = 0; i < 20000 && !nm_atomic_load(&stop, NM_RELAXED); i++) {
                uint64_t number = base + i;
                fill(value, number, 20);
                nm_status st = way == 0 ? nm_cache_put(cache, &number, sizeof number, value, 20)
                                        : nm_cache_remove(cache, &number, sizeof number);
                if (st != NM_OK) nm_atomic_store(&wrong, 1, NM_RELAXED);
            }
    }
    return NULL;
}

static void stayers_are_met_while_threads_put_and_remove(void **state) {
    (void)state;
    pthread_t ids[3];
    open_cache(.budget_bytes = 16 * MIB, .shard_count = 2);
    put_stayers();
    stop = wrong = 0;
    for (uintptr_t i = 0; i < 3; i++) assert_int_equal(pthread_create(&ids[i], NULL, disturb, (void *)(i + 1)), 0);
    for (int walk = 0; walk < (TEST_SLOW ? 3 : 20); walk++) {
        forget();
        (void)walk_all();
        assert_all_met();
    }
    nm_atomic_store(&stop, 1, NM_RELEASE);
    for (int i = 0; i < 3; i++) pthread_join(ids[i], NULL);
    assert_int_equal(wrong, 0);
    assert_int_equal(stats().evictions, 0);
    assert_int_equal(stats().pinned_count, 0);
    close_cache();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_quiet_walk_meets_each_entry_once),
        TEST(bad_arguments_are_refused),
        TEST(stayers_are_met_while_the_index_grows),
        TEST(stayers_are_met_while_the_index_shrinks),
        TEST(stayers_are_met_in_a_random_mix),
        TEST(stayers_are_met_while_the_cache_is_resized),
        TEST(a_walk_ends_after_a_clear_and_what_it_holds_stays),
        TEST(a_walk_is_no_use),
        TEST(what_is_no_entry_for_others_is_not_met),
        TEST(a_copied_cursor_goes_on_from_where_it_was),
        TEST(where_a_pin_cannot_be_noted_the_cursor_stays),
        TEST(stayers_are_met_while_threads_put_and_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
