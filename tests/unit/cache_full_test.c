// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What cannot be: an entry larger than the budget, a put where all is pinned, one pin more than an entry can have. Each is refused
 * at once, and nothing has been evicted for it. */
#include "cache_fixture.h"

static unsigned told;
static void on_evict(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size, void *context) {
    (void)reason, (void)key, (void)key_len, (void)value, (void)size, (void)context;
    told++;
}

/* Of this thread's work: what else the machine does is not counted. */
static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The number of entries, and of bytes, is what it was. */
typedef struct before {
    size_t count, used;
    uint64_t evictions, rejections;
    unsigned told;
} before;
static before look(void) {
    nm_cache_stats st = stats();
    return (before){st.entry_count, st.used_bytes, st.evictions, st.rejections, told};
}
static void assert_nothing_left(before was, uint64_t rejections) {
    before now = look();
    assert_int_equal(now.count, was.count);
    assert_int_equal(now.used, was.used);
    assert_int_equal(now.evictions, was.evictions);
    assert_int_equal(now.told, was.told);
    assert_int_equal(now.rejections, was.rejections + rejections);
    cache_law(cache, scope);
}

static void an_entry_larger_than_the_budget_is_too_large_and_evicts_nothing(void **state) {
    (void)state;
    static unsigned char value[4 * MIB];
    static int object;
    for (unsigned shards = 1; shards <= 16; shards *= 4)
        for (int callback = 0; callback < 2; callback++) {
            told = 0;
            open_cache(.budget_bytes = 2 * MIB, .shard_count = shards, .on_evict = callback ? on_evict : NULL);
            for (uint64_t i = 0; i < 20000; i++) assert_ok(put_number(i, 100));
            assert_ok(put_text("k", "value"));
            before was = look();
            nm_entry room;
            assert_status(nm_cache_put(cache, "k", 1, value, 2 * MIB), NM_ETOOLARGE);
            assert_status(nm_cache_put(cache, "new", 3, value, 4 * MIB), NM_ETOOLARGE);
            assert_status(nm_cache_put_with(cache, "k", 1, value, 2 * MIB, NM_PUT_OPTIONS(.ttl_ms = 5)), NM_ETOOLARGE);
            assert_status(nm_cache_put_object(cache, "k", 1, &object, 2 * MIB), NM_ETOOLARGE);
            assert_status(nm_cache_reserve(cache, "k", 1, 2 * MIB, &room), NM_ETOOLARGE);
            assert_null(room.slot);
            assert_nothing_left(was, 5);
            assert_text("k", "value");
            close_cache();
        }
}

static void a_smaller_budget_makes_entries_too_large(void **state) {
    (void)state;
    open_cache(.budget_bytes = 2 * MIB, .shard_count = 1);
    assert_ok(put_number(1, MIB));
    assert_ok(nm_cache_resize(cache, 512 * KIB));
    assert_false(has_number(1));
    for (uint64_t i = 2; i < 100; i++) assert_ok(put_number(i, 100));
    before was = look();
    assert_status(put_number(1, MIB), NM_ETOOLARGE);
    assert_nothing_left(was, 1);
    assert_ok(nm_cache_resize(cache, 2 * MIB));
    assert_ok(put_number(1, MIB));
    close_cache();
}

static nm_entry pins[120000];

/* Slots to pin with, so that it is the room for entries that ends first. */
static void make_slots(size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint64_t number = (uint64_t)1 << 50 | i / 60000;
        if (i % 60000 == 0) assert_ok(put_number(number, 1));
        assert_true(pin_number(number, &pins[i]));
    }
    while (n > 0) nm_entry_release(&pins[--n]);
}

/* Everything pinned, down to the last hole of every shard: `small` entries, then whatever fits; how many. */
static size_t pin_all(size_t small) {
    size_t count = 0, slots = small + small / 8 + 500;
    assert_true(slots < sizeof pins / sizeof *pins);
    make_slots(slots);
    uint64_t number = 0;
    for (; count < small; count++, number++) {
        assert_ok(put_number(number, 30));
        assert_true(pin_number(number, &pins[count]));
    }
    for (size_t bytes = 4 * MIB;; bytes /= 2) {
        for (int refused = 0; refused < 50; number++) {
            nm_status st = put_number(number, bytes);
            if (st != NM_OK) {
                assert_true(st == NM_ECAPACITY || st == NM_ETOOLARGE);
                refused++;
                continue;
            }
            assert_true(count < slots);
            assert_true(pin_number(number, &pins[count++]));
        }
        if (bytes == 0) return count;
    }
}

static void where_all_is_pinned_every_put_is_refused_at_once(void **state) {
    (void)state;
    enum { TRIES = TEST_SLOW ? 16 : 100 };
    static int object;
    for (unsigned shards = 1; shards <= 4; shards *= 4)
        for (int few = 0; few < 2; few++) {
            open_cache(.budget_bytes = few         ? 512 * KIB
                                       : TEST_SLOW ? 2 * MIB
                                                   : 24 * MIB,
                       .shard_count = shards, .on_evict = on_evict);
            size_t count = pin_all(few ? 300 : TEST_SLOW ? 5000 : 100000);
            before was = look();
            assert_int_equal(was.count, count);
            uint64_t start = now_ns();
            for (uint64_t i = 0; i < TRIES; i++) {
                nm_entry room;
                size_t bytes = 1000 << i % 8;
                assert_status(put_number(1000000 + i, bytes), NM_ECAPACITY);
                assert_status(put_number(i, bytes), NM_ECAPACITY); /* over one that is there */
                assert_status(nm_cache_reserve(cache, &i, sizeof i, bytes, &room), NM_ECAPACITY);
                assert_status(nm_cache_put_object(cache, &i, sizeof i, &object, bytes), NM_ECAPACITY);
            }
            double ms = (double)(now_ns() - start) / 1e6 / (4 * TRIES);
            print_message("%u shards, %zu pinned: refused in %.3f ms\n", shards, count, ms);
            assert_true(ms < (TEST_SLOW ? 200 : 20));
            assert_nothing_left(was, 4 * TRIES);
            assert_int_equal(stats().pinned_count, count);
            cache_check(cache);
            size_t bytes = pins[7].value_len;
            nm_entry_release(&pins[7]);        /* with one pin less there is room for one like it */
            for (uint64_t i = 0; i < 300; i++) /* in its shard */
                if (put_number(2000000 + i, bytes) == NM_OK) break;
            assert_false(has_number(7));
            for (size_t i = 0; i < count; i++) {
                if (i == 7) continue;
                uint64_t number;
                memcpy(&number, pins[i].key, sizeof number);
                assert_true(filled(pins[i].value, number, pins[i].value_len));
                nm_entry_release(&pins[i]);
            }
            assert_ok(put_number(3000000, 100000));
            close_cache();
        }
}

static void an_entry_has_65535_pins_and_not_one_more(void **state) {
    (void)state;
    enum { MOST = 65535 };
    open_cache(.budget_bytes = 16 * MIB, .shard_count = 1);
    assert_ok(put_text("k", "value"));
    assert_ok(put_text("other", "value"));
    for (int i = 0; i < MOST; i++) assert_true(pin_text("k", &pins[i]));
    assert_int_equal(stats().pinned_count, MOST);
    nm_entry e;
    for (int i = 0; i < 3; i++) {
        assert_false(pin_text("k", &e));
        assert_null(e.slot);
        assert_false(nm_cache_get_in(cache, scope, "k", 1, &e));
        assert_false(nm_cache_get_touch(cache, "k", 1, NM_TTL_NEVER, &e));
    }
    assert_int_equal(stats().pinned_count, MOST);
    assert_true(has_text("k"));
    assert_text("other", "value");
    cache_check(cache);
    /* one goes, one comes */
    nm_entry_release(&pins[100]);
    assert_true(pin_text("k", &pins[100]));
    assert_false(pin_text("k", &e));
    /* What changes it does so beside the one that is held. */
    assert_ok(put_text("k", "1"));
    assert_text("k", "1");
    assert_ok(nm_cache_increment(cache, "k", 1, 1, NULL));
    assert_text("k", "2");
    assert_int_equal(stats().pinned_count, MOST);
    cache_check(cache);
    for (int i = 0; i < MOST; i++) {
        assert_value(&pins[i], "value");
        nm_entry_release(&pins[i]);
    }
    assert_int_equal(stats().pinned_bytes, 0);
    close_cache();
}

static void the_last_pin_of_many_lets_a_held_entry_go(void **state) {
    (void)state;
    enum { MOST = 65535 };
    open_cache(.budget_bytes = 16 * MIB, .shard_count = 1, .on_evict = on_evict);
    told = 0;
    assert_ok(put_text("k", "value"));
    for (int i = 0; i < MOST; i++) assert_true(pin_text("k", &pins[i]));
    assert_ok(nm_cache_remove(cache, "k", 1));
    assert_int_equal(told, 0);
    for (int i = 0; i < MOST; i++) {
        assert_int_equal(told, 0);
        nm_entry_release(&pins[i]);
    }
    assert_int_equal(told, 1);
    close_cache();
}

/* 65535 hold it: it is there, so there is nothing to load; but it cannot be handed out. */
static nm_status never(nm_cache *of, const void *key, size_t key_len, nm_entry *room, nm_put_options *options,
                       void *arg) {
    (void)of, (void)key, (void)key_len, (void)room, (void)options;
    ++*(unsigned *)arg;
    return NM_ESYSTEM;
}
static void an_entry_that_cannot_be_pinned_is_not_loaded(void **state) {
    (void)state;
    enum { MOST = 65535 };
    unsigned loads = 0;
    nm_entry e;
    open_cache(.budget_bytes = 16 * MIB, .shard_count = 1);
    assert_ok(put_text("k", "value"));
    for (int i = 0; i < MOST; i++) assert_true(pin_text("k", &pins[i]));
    assert_status(nm_cache_get_or_load(cache, "k", 1, never, &loads, UINT64_MAX, &e), NM_ECAPACITY);
    assert_null(e.slot);
    assert_int_equal(loads, 0);
    for (int i = 0; i < MOST; i++) nm_entry_release(&pins[i]);
    assert_text("k", "value");
    close_cache();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_entry_larger_than_the_budget_is_too_large_and_evicts_nothing),
        TEST(a_smaller_budget_makes_entries_too_large),
        TEST(where_all_is_pinned_every_put_is_refused_at_once),
        TEST(an_entry_has_65535_pins_and_not_one_more),
        TEST(the_last_pin_of_many_lets_a_held_entry_go),
        TEST(an_entry_that_cannot_be_pinned_is_not_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
