// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What changes an entry that is there: remove by version, touch, counting; and keys and values of every length. */
#include <pthread.h>

#include "cache_fixture.h"

/* Asks for no more words than it has, whatever the value: so many bytes more does an entry cost that has them. */
static size_t charge(size_t key_len, size_t value_len, bool more) {
    return nm_cache_charge(more ? NM_CACHE_OPTIONS(.ttl_ms = 1000) : NULL, key_len, value_len);
}

/* ---- who was told ---- */

static unsigned told[6];
static char told_value[32];

static void on_evict(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size, void *context) {
    (void)key, (void)key_len, (void)context;
    told[reason]++;
    memset(told_value, 0, sizeof told_value);
    memcpy(told_value, value, size < sizeof told_value ? size : sizeof told_value - 1);
}
static unsigned told_all(void) {
    unsigned all = 0;
    for (int i = 0; i < 6; i++) all += told[i];
    return all;
}

/* ---- remove_if ---- */

static void remove_if_takes_only_the_version_that_it_names(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB);
    uint64_t first, second;
    assert_status(nm_cache_remove_if(cache, "k", 1, 5), NM_ENOTFOUND);
    assert_ok(nm_cache_put_with(cache, "k", 1, "one", 3, NM_PUT_OPTIONS(.cas_out = &first)));
    assert_ok(nm_cache_put_with(cache, "k", 1, "two", 3, NM_PUT_OPTIONS(.cas_out = &second)));
    assert_status(nm_cache_remove_if(cache, "k", 1, first), NM_ESTALE);
    assert_status(nm_cache_remove_if(cache, "k", 1, second + 1), NM_ESTALE);
    assert_status(nm_cache_remove_if(NULL, "k", 1, second), NM_EINVAL);
    assert_status(nm_cache_remove_if(cache, NULL, 1, second), NM_EINVAL);
    assert_status(nm_cache_remove_if(cache, "k", 0, second), NM_EINVAL);
    assert_text("k", "two");
    assert_ok(nm_cache_remove_if(cache, "k", 1, second));
    assert_false(has_text("k"));
    assert_status(nm_cache_remove_if(cache, "k", 1, second), NM_ENOTFOUND);
    assert_int_equal(nm_cache_used(cache), 0);
    close_cache();
}

/* ---- versions ---- */

static void every_change_of_the_value_is_a_new_version_and_nothing_else_is(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB);
    uint64_t seen[8], n = 0;
    nm_entry room;
    assert_ok(put_text("k", "1"));
    seen[n++] = version_of("k");
    assert_ok(put_text("k", "1"));
    seen[n++] = version_of("k");
    assert_ok(nm_cache_increment(cache, "k", 1, 1, NULL));
    seen[n++] = version_of("k");
    assert_ok(nm_cache_touch(cache, "k", 1, 5000));
    assert_int_equal(version_of("k"), seen[n - 1]);
    assert_ok(nm_cache_mark_stale(cache, "k", 1, 0, 0));
    assert_int_equal(version_of("k"), seen[n - 1]);
    assert_ok(nm_cache_increment(cache, "k", 1, 100, NULL)); /* in another chunk */
    seen[n++] = version_of("k");
    assert_ok(nm_cache_reserve(cache, "k", 1, 4, &room));
    memcpy(room.value, "room", 4);
    assert_status(nm_cache_commit(&room, NM_PUT_OPTIONS(.cas = seen[0])), NM_ESTALE);
    uint64_t committed;
    assert_ok(nm_cache_commit(&room, NM_PUT_OPTIONS(.cas = seen[n - 1], .cas_out = &committed)));
    seen[n++] = version_of("k");
    assert_int_equal(seen[n - 1], committed);
    assert_ok(nm_cache_remove(cache, "k", 1));
    assert_ok(put_text("k", "1"));
    seen[n++] = version_of("k");
    nm_cache_clear(cache);
    assert_ok(put_text("k", "1"));
    seen[n++] = version_of("k");
    for (uint64_t i = 0; i < n; i++) {
        assert_int_not_equal(seen[i], 0);
        for (uint64_t j = 0; j < i; j++) assert_int_not_equal(seen[i], seen[j]);
    }
    assert_status(nm_cache_put_with(cache, "k", 1, "x", 1, NM_PUT_OPTIONS(.cas = seen[n - 2])), NM_ESTALE);
    assert_status(nm_cache_mark_stale(cache, "k", 1, 0, seen[n - 2]), NM_ESTALE);
    assert_ok(nm_cache_put_with(cache, "k", 1, "x", 1, NM_PUT_OPTIONS(.cas = seen[n - 1])));
    assert_text("k", "x");
    close_cache();
}

/* ---- touch ---- */

static void touch_changes_the_time_and_nothing_else(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB, .ttl_ms = 7000);
    nm_entry e;
    uint64_t cas;
    assert_status(nm_cache_touch(cache, "k", 1, 5), NM_ENOTFOUND);
    assert_status(nm_cache_touch(NULL, "k", 1, 5), NM_EINVAL);
    assert_status(nm_cache_touch(cache, NULL, 1, 5), NM_EINVAL);
    assert_ok(nm_cache_put_with(cache, "k", 1, "value", 5, NM_PUT_OPTIONS(.flags = 9, .cas_out = &cas)));
    static const uint64_t ttls[] = {100, 0, NM_TTL_NEVER, 3, NM_TTL_NEVER - 1, 0};
    for (size_t i = 0; i < sizeof ttls / sizeof *ttls; i++) {
        pass_ms(2);
        assert_ok(nm_cache_touch(cache, "k", 1, ttls[i]));
        assert_true(pin_text("k", &e));
        if (ttls[i] < NM_TTL_NEVER - 1) assert_int_equal(e.expires_ms, ttls[i] == 0 ? 7000 : ttls[i]);
        if (ttls[i] == NM_TTL_NEVER) assert_int_equal(e.expires_ms, NM_TTL_NEVER);
        if (ttls[i] == NM_TTL_NEVER - 1) assert_true(e.expires_ms > (uint64_t)1 << 60);
        assert_value(&e, "value");
        assert_int_equal(e.cas, cas);
        assert_int_equal(e.flags, 9);
        assert_false(e.stale);
        nm_entry_release(&e);
        cache_check(cache);
    }
    pass_ms(6999);
    assert_true(has_text("k"));
    pass_ms(1);
    assert_false(has_text("k"));
    assert_status(nm_cache_touch(cache, "k", 1, 5), NM_ENOTFOUND);
    close_cache();
}

static void the_first_touch_adds_words_and_later_ones_do_not(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB);
    for (size_t bytes = 0; bytes < 100; bytes++) assert_ok(put_number(bytes, bytes));
    size_t used = nm_cache_used(cache);
    for (size_t bytes = 0; bytes < 100; bytes++) {
        uint64_t number = bytes;
        assert_ok(nm_cache_touch(cache, &number, sizeof number, NM_TTL_NEVER)); /* what it has already */
        assert_int_equal(nm_cache_used(cache), used);
        assert_ok(nm_cache_touch(cache, &number, sizeof number, 1000));
        used += charge(8, bytes, true) - charge(8, bytes, false);
        assert_int_equal(nm_cache_used(cache), used);
        assert_ok(nm_cache_touch(cache, &number, sizeof number, 2000));
        assert_int_equal(nm_cache_used(cache), used);
        assert_true(get_number(number));
    }
    assert_int_equal(nm_cache_count(cache), 100);
    assert_int_equal(stats().puts, 100);
    cache_check(cache);
    pass_ms(1999);
    for (size_t i = 0; i < 100; i++) assert_true(get_number(i));
    pass_ms(1);
    for (size_t i = 0; i < 100; i++) assert_false(get_number(i));
    assert_int_equal(stats().expirations, 100);
    assert_int_equal(nm_cache_used(cache), 0);
    close_cache();
}

static void nobody_is_told_of_a_touch_or_a_mark_for_nothing_left(void **state) {
    (void)state;
    memset(told, 0, sizeof told);
    open_cache(.budget_bytes = MIB, .on_evict = on_evict);
    nm_entry pin;
    assert_ok(put_text("a", "value"));
    assert_ok(put_text("b", "value"));
    assert_ok(put_text("c", "value"));
    assert_true(pin_text("c", &pin));
    assert_ok(nm_cache_touch(cache, "a", 1, 1000));
    assert_ok(nm_cache_mark_stale(cache, "b", 1, 0, 0));
    assert_ok(nm_cache_touch(cache, "c", 1, 1000));
    assert_int_equal(told_all(), 0);
    nm_entry_release(&pin);
    assert_int_equal(told_all(), 0);
    assert_int_equal(nm_cache_count(cache), 3);
    assert_text("c", "value");
    close_cache();
    assert_int_equal(told[NM_EVICT_CLOSED], 3);
    assert_int_equal(told_all(), 3);
}

static void a_touched_entry_that_is_pinned_stays_where_its_holder_sees_it(void **state) {
    (void)state;
    open_cache(.budget_bytes = 128 * KIB, .shard_count = 1);
    nm_entry before, after;
    assert_ok(put_text("k", "value"));
    assert_true(pin_text("k", &before));
    assert_ok(nm_cache_touch(cache, "k", 1, 1000));
    assert_value(&before, "value");
    assert_true(pin_text("k", &after));
    assert_int_equal(after.cas, before.cas);
    assert_int_equal(after.expires_ms, 1000);
    cache_check(cache);
    for (uint64_t i = 0; i < 2000; i++) assert_ok(put_number(i, 500));
    assert_value(&before, "value");
    assert_value(&after, "value");
    nm_entry_release(&before);
    nm_entry_release(&after);
    assert_int_equal(stats().pinned_count, 0);
    close_cache();
}

static void an_object_can_be_touched_and_marked_and_is_told_once(void **state) {
    (void)state;
    memset(told, 0, sizeof told);
    open_cache(.budget_bytes = MIB, .on_evict = on_evict);
    static char thing[] = "thing";
    nm_entry e;
    assert_ok(nm_cache_put_object(cache, "k", 1, thing, sizeof thing));
    assert_ok(nm_cache_touch(cache, "k", 1, 1000));
    assert_ok(nm_cache_mark_stale(cache, "k", 1, 0, 0));
    assert_true(pin_text("k", &e));
    assert_ptr_equal(e.value, thing);
    assert_int_equal(e.value_len, sizeof thing);
    assert_true(e.stale);
    assert_int_equal(e.expires_ms, 1000);
    nm_entry_release(&e);
    assert_int_equal(told_all(), 0);
    cache_check(cache);
    pass_ms(1000);
    assert_false(pin_text("k", &e));
    assert_int_equal(told[NM_EVICT_EXPIRED], 1);
    assert_int_equal(told_all(), 1);
    close_cache();
}

static void get_touch_reads_and_moves_the_time(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB);
    nm_entry e;
    assert_false(nm_cache_get_touch(cache, "k", 1, 1000, &e));
    assert_null(e.slot);
    assert_false(nm_cache_get_touch(cache, "k", 1, 1000, NULL));
    assert_false(nm_cache_get_touch(NULL, "k", 1, 1000, &e));
    assert_ok(put_text("k", "value"));
    assert_true(nm_cache_get_touch(cache, "k", 1, 1000, &e));
    assert_value(&e, "value");
    assert_int_equal(e.expires_ms, 1000);
    nm_entry_release(&e);
    pass_ms(999);
    assert_true((nm_cache_get_touch)(cache, "k", 1, 500, &e));
    assert_int_equal(e.expires_ms, 500);
    nm_entry_release(&e);
    pass_ms(499);
    assert_true(nm_cache_get_touch(cache, "k", 1, NM_TTL_NEVER, &e));
    assert_int_equal(e.expires_ms, NM_TTL_NEVER);
    nm_entry_release(&e);
    pass_ms(100000000);
    assert_text("k", "value");
    close_cache();
}

/* ---- counting ---- */

static void numbers_wrap_above_and_stop_at_zero_below(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB);
    uint64_t n = 7;
    assert_status(nm_cache_increment(cache, "k", 1, 1, &n), NM_ENOTFOUND);
    assert_status(nm_cache_decrement(cache, "k", 1, 1, &n), NM_ENOTFOUND);
    assert_status(nm_cache_increment(NULL, "k", 1, 1, &n), NM_EINVAL);
    assert_status(nm_cache_increment(cache, NULL, 1, 1, &n), NM_EINVAL);
    assert_false(has_text("k"));
    assert_ok(put_text("k", "18446744073709551615"));
    assert_ok(nm_cache_increment(cache, "k", 1, 0, &n));
    assert_true(n == UINT64_MAX);
    assert_ok(nm_cache_increment(cache, "k", 1, 1, &n));
    assert_true(n == 0);
    assert_text("k", "0                   ");
    assert_ok(nm_cache_decrement(cache, "k", 1, 1, &n));
    assert_true(n == 0);
    assert_ok(nm_cache_increment(cache, "k", 1, UINT64_MAX, &n));
    assert_true(n == UINT64_MAX);
    assert_text("k", "18446744073709551615");
    assert_ok(nm_cache_increment(cache, "k", 1, UINT64_MAX, &n));
    assert_true(n == UINT64_MAX - 1);
    assert_ok(nm_cache_decrement(cache, "k", 1, UINT64_MAX, &n));
    assert_true(n == 0);
    assert_ok(put_text("k", "10"));
    assert_ok(nm_cache_decrement(cache, "k", 1, 1, NULL));
    assert_text("k", "9 ");
    assert_ok(nm_cache_increment(cache, "k", 1, 3, &n));
    assert_text("k", "12");
    assert_true(n == 12);
    assert_ok(nm_cache_decrement(cache, "k", 1, 12, &n));
    assert_text("k", "0 ");
    close_cache();
}

static void what_is_no_number_is_refused_and_stays(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB);
    static const char *const texts[] = {"",
                                        " ",
                                        "-1",
                                        "+1",
                                        "1a",
                                        "a1",
                                        " 1",
                                        "1 2",
                                        "0x10",
                                        "1.0",
                                        "1\n",
                                        "1\t",
                                        "１",
                                        "12-",
                                        "1e3",
                                        "000000000000000000001",
                                        "18446744073709551616",
                                        "99999999999999999999",
                                        "100000000000000000000"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        uint64_t n = 77;
        assert_ok(put_text("k", texts[i]));
        uint64_t cas = version_of("k");
        assert_status(nm_cache_increment(cache, "k", 1, 1, &n), NM_EINVAL);
        assert_status(nm_cache_decrement(cache, "k", 1, 1, &n), NM_EINVAL);
        assert_int_equal(n, 77);
        assert_text("k", texts[i]);
        assert_int_equal(version_of("k"), cas);
    }
    assert_ok(nm_cache_put(cache, "k", 1, "1\0", 2));
    assert_status(nm_cache_increment(cache, "k", 1, 1, NULL), NM_EINVAL);
    static char number[] = "5";
    assert_ok(nm_cache_put_object(cache, "o", 1, number, 1));
    assert_status(nm_cache_increment(cache, "o", 1, 1, NULL), NM_EINVAL);
    assert_string_equal(number, "5");
    close_cache();
}

/* Through all lengths, of which 16 is laid out otherwise, with and without words at the end of the entry. */
static void numbers_grow_by_digits_and_keep_time_and_flags(void **state) {
    (void)state;
    for (int more = 0; more < 2; more++) {
        open_cache(.budget_bytes = MIB, .shard_count = 1);
        uint64_t n, wanted = 9;
        assert_ok(nm_cache_put_with(cache, "k", 1, "9", 1,
                                    NM_PUT_OPTIONS(.flags = more ? 33u : 0u, .ttl_ms = more ? 100000u : 0u)));
        for (unsigned digits = 2; digits <= 20; digits++) {
            char text[32];
            assert_ok(nm_cache_increment(cache, "k", 1, 1, &n)); /* 10...0 */
            assert_true(n == ++wanted);
            snprintf(text, sizeof text, "%" PRIu64, wanted);
            assert_int_equal(strlen(text), digits);
            assert_text("k", text);
            assert_int_equal(nm_cache_used(cache), charge(1, digits, more));
            cache_check(cache);
            if (digits == 20) break;
            assert_ok(nm_cache_increment(cache, "k", 1, wanted * 9 - 1, &n)); /* 9...9 */
            wanted = wanted * 10 - 1;
            assert_true(n == wanted);
        }
        nm_entry e;
        assert_true(pin_text("k", &e));
        assert_int_equal(e.flags, more ? 33 : 0);
        assert_true(e.expires_ms == (more ? 100000 : NM_TTL_NEVER));
        nm_entry_release(&e);
        pass_ms(99999);
        assert_true(has_text("k"));
        pass_ms(1);
        assert_int_equal(has_text("k"), !more);
        for (uint64_t i = 0; i < 20; i++) assert_ok(put_number(i, 10)); /* puts find what has run out */
        assert_int_equal(stats().expirations, more);
        close_cache();
    }
}

static void a_pinned_number_stays_as_its_holder_read_it(void **state) {
    (void)state;
    memset(told, 0, sizeof told);
    for (int callback = 0; callback < 2; callback++) {
        open_cache(.budget_bytes = MIB, .on_evict = callback ? on_evict : NULL);
        nm_entry first, second;
        assert_ok(put_text("k", "41"));
        assert_true(pin_text("k", &first));
        assert_ok(nm_cache_increment(cache, "k", 1, 1, NULL));
        assert_true(pin_text("k", &second));
        assert_ok(nm_cache_decrement(cache, "k", 1, 40, NULL));
        assert_value(&first, "41");
        assert_value(&second, "42");
        assert_text("k", "2 ");
        assert_true(first.cas != second.cas);
        assert_int_equal(nm_cache_count(cache), 1);
        nm_entry_release(&first);
        assert_value(&second, "42");
        nm_entry_release(&second);
        close_cache();
    }
    /* 41 and 42 were replaced, 2 went with the cache */
    assert_int_equal(told[NM_EVICT_REPLACED], 2);
    assert_int_equal(told[NM_EVICT_CLOSED], 1);
}

static void who_is_told_sees_each_number_that_was_replaced(void **state) {
    (void)state;
    memset(told, 0, sizeof told);
    open_cache(.budget_bytes = MIB, .on_evict = on_evict);
    assert_ok(put_text("k", "7"));
    for (unsigned i = 0; i < 50; i++) {
        char text[16];
        snprintf(text, sizeof text, "%u", 7 + i);
        assert_ok(nm_cache_increment(cache, "k", 1, 1, NULL));
        assert_int_equal(told[NM_EVICT_REPLACED], i + 1);
        assert_string_equal(told_value, text);
    }
    assert_int_equal(told_all(), 50);
    close_cache();
}

#define COUNTERS 4
#define COUNTS   (TEST_SLOW ? 3000u : 20000u)
static NM_ATOMIC(uint32_t) wrong;
static NM_ATOMIC(uint32_t) counting;

static void *count_up(void *arg) {
    (void)arg;
    uint64_t last = 0, n;
    for (unsigned i = 0; i < COUNTS; i++) {
        if (nm_cache_increment(cache, "k", 1, 1, &n) != NM_OK || n <= last) nm_atomic_store(&wrong, 1, NM_RELAXED);
        last = n;
    }
    nm_atomic_sub(&counting, 1, NM_RELEASE);
    return NULL;
}

static void *watch_numbers(void *arg) {
    (void)arg;
    uint64_t last = 0;
    while (nm_atomic_load(&counting, NM_ACQUIRE) != 0) {
        nm_entry e;
        char text[32] = "";
        if (!pin_text("k", &e)) {
            nm_atomic_store(&wrong, 2, NM_RELAXED);
            break;
        }
        memcpy(text, e.value, e.value_len);
        uint64_t n = strtoull(text, NULL, 10);
        if (n < last || strspn(text, "0123456789") != e.value_len) nm_atomic_store(&wrong, 3, NM_RELAXED);
        last = n;
        nm_entry_release(&e);
    }
    return NULL;
}

static void on_evict_of_threads(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size,
                                void *context) {
    (void)key, (void)key_len, (void)value, (void)size, (void)context;
    if (reason != NM_EVICT_REPLACED && reason != NM_EVICT_CLOSED) nm_atomic_store(&wrong, 4, NM_RELAXED);
}

static void threads_that_count_lose_no_count(void **state) {
    (void)state;
    for (int callback = 0; callback < 2; callback++) {
        open_cache(.budget_bytes = MIB, .on_evict = callback ? on_evict_of_threads : NULL);
        pthread_t ids[COUNTERS + 1];
        wrong = 0;
        nm_atomic_store(&counting, COUNTERS, NM_RELEASE);
        assert_ok(put_text("k", "0"));
        assert_int_equal(pthread_create(&ids[COUNTERS], NULL, watch_numbers, NULL), 0);
        for (int i = 0; i < COUNTERS; i++) assert_int_equal(pthread_create(&ids[i], NULL, count_up, NULL), 0);
        for (int i = 0; i <= COUNTERS; i++) pthread_join(ids[i], NULL);
        assert_int_equal(wrong, 0);
        uint64_t n;
        assert_ok(nm_cache_increment(cache, "k", 1, 0, &n));
        assert_int_equal(n, COUNTERS * COUNTS);
        assert_int_equal(stats().pinned_count, 0);
        close_cache();
    }
}

/* ---- keys of every length, and where values lie ---- */

static void long_keys_do_all_that_short_ones_do(void **state) {
    (void)state;
    static const size_t lengths[] = {1, 254, 255, 256, 257, 4096, 65534, 65535};
    static unsigned char key[NM_CACHE_KEY_MAX];
    open_cache(.budget_bytes = 2 * MIB, .shard_count = 1);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t len = lengths[i];
        nm_entry e;
        uint64_t n;
        fill(key, i, len);
        assert_ok(nm_cache_put(cache, key, len, "9", 1));
        assert_int_equal(nm_cache_used(cache), nm_cache_charge(NULL, len, 1));
        assert_ok(nm_cache_increment(cache, key, len, 1, &n));
        assert_int_equal(n, 10);
        assert_ok(nm_cache_touch(cache, key, len, 1000));
        assert_ok(nm_cache_mark_stale(cache, key, len, 0, 0));
        assert_true(nm_cache_get(cache, key, len, &e));
        assert_value(&e, "10");
        assert_int_equal(e.key_len, len);
        assert_memory_equal(e.key, key, len);
        assert_true(e.stale && e.won);
        assert_int_equal(e.expires_ms, 1000);
        nm_entry_release(&e);
        assert_ok(nm_cache_put(cache, key, len, "0123456789abcdef", 16));
        assert_int_equal(nm_cache_count(cache), 1);
        key[len - 1] ^= 1; /* another key, which differs at its end only */
        assert_false(nm_cache_contains(cache, key, len));
        assert_ok(nm_cache_put(cache, key, len, NULL, 0));
        assert_int_equal(nm_cache_count(cache), 2);
        if (len > 1) assert_false(nm_cache_contains(cache, key, len - 1));
        nm_cursor c = {0};
        for (int met = 0; met < 2; met++) {
            assert_ok(nm_cache_next(cache, &c, &e));
            assert_int_equal(e.key_len, len);
            assert_memory_equal(e.key, key, len - 1);
            nm_entry_release(&e);
        }
        assert_status(nm_cache_next(cache, &c, &e), NM_ENOTFOUND);
        cache_check(cache);
        assert_ok(nm_cache_remove(cache, key, len));
        key[len - 1] ^= 1;
        assert_ok(nm_cache_remove(cache, key, len));
        assert_int_equal(nm_cache_count(cache), 0);
    }
    close_cache();
}

static size_t alignment_of(size_t value_len) { return value_len % 16 == 0 ? 16 : 8; }

/* Also of entries that were moved, touched, counted, and of room that is reserved. */
static void values_lie_where_their_length_says(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    open_cache(.budget_bytes = 300 * KIB, .shard_count = 1);
    for (int step = 0; step < (TEST_SLOW ? 5000 : 30000); step++) {
        unsigned char key[40];
        uint64_t r = test_random(&seed), number = (r >> 40) % 600;
        size_t key_len = 8 + number % 30, bytes = (r >> 8) % (r % 64 == 0 ? 20000 : 200);
        nm_entry e;
        memset(key, 'k', sizeof key);
        memcpy(key, &number, sizeof number);
        if (r % 4 == 0) {
            assert_ok(nm_cache_reserve(cache, key, key_len, bytes, &e));
            if (bytes != 0) assert_int_equal((uintptr_t)e.value % alignment_of(bytes), 0);
            if (bytes != 0) memset(e.value, (int)bytes, bytes);
            assert_ok(nm_cache_commit(&e, r % 8 == 0 ? NM_PUT_OPTIONS(.flags = 1) : NULL));
        }
        if (r % 4 == 1) {
            nm_status st = nm_cache_touch(cache, key, key_len, 100000);
            assert_true(st == NM_OK || st == NM_ENOTFOUND);
        }
        if (r % 4 > 1 && nm_cache_get(cache, key, key_len, &e)) {
            if (e.value_len != 0) assert_int_equal((uintptr_t)e.value % alignment_of(e.value_len), 0);
            for (size_t i = 0; i < e.value_len; i++)
                assert_int_equal(((unsigned char *)e.value)[i], (unsigned char)e.value_len);
            nm_entry_release(&e);
        }
    }
    close_cache();
}

/* ---- no room ---- */

/* All is pinned, down to the last hole: what needs a larger chunk is refused at once, and the entry is as it was. */
static void where_there_is_no_room_the_entry_stays_as_it_was(void **state) {
    (void)state;
    enum { MOST = 60 };
    nm_entry pins[MOST], number, text;
    size_t count = 0;
    open_cache(.budget_bytes = 128 * KIB, .shard_count = 1);
    assert_ok(put_text("99", "99"));
    assert_ok(put_text("text", "value"));
    assert_true(pin_text("99", &number));
    assert_true(pin_text("text", &text));
    for (size_t bytes = 64 * KIB;; bytes /= 2) {
        while (put_number(count, bytes) == NM_OK) {
            assert_true(count < MOST);
            assert_true(pin_number(count, &pins[count]));
            count++;
        }
        if (bytes == 0) break;
    }
    /* Holes that are too small even for these keys. */
    for (char key[2] = "a"; put_text(key, "") == NM_OK; key[0]++) {
        assert_true(count < MOST);
        assert_true(pin_text(key, &pins[count++]));
    }
    size_t used = nm_cache_used(cache), entries = nm_cache_count(cache);
    for (int turn = 0; turn < 3; turn++) {
        assert_status(nm_cache_increment(cache, "99", 2, 1, NULL), NM_ECAPACITY);
        assert_status(nm_cache_touch(cache, "text", 4, 1000), NM_ECAPACITY);
        assert_status(nm_cache_mark_stale(cache, "text", 4, 0, 0), NM_ECAPACITY);
        assert_status(nm_cache_put_negative(cache, "text", 4, 0), NM_ECAPACITY);
        nm_entry e;
        assert_false(nm_cache_get_touch(cache, "text", 4, 1000, &e));
        assert_null(e.slot);
        assert_int_equal(nm_cache_used(cache), used);
        assert_int_equal(nm_cache_count(cache), entries);
        assert_int_equal(stats().pinned_count, count + 2);
        cache_check(cache);
    }
    assert_int_equal(stats().evictions, 0);
    nm_entry again;
    assert_true(pin_text("text", &again));
    assert_value(&again, "value");
    assert_int_equal(again.cas, text.cas);
    assert_false(again.stale);
    assert_true(again.expires_ms == NM_TTL_NEVER);
    nm_entry_release(&again);
    assert_text("99", "99");
    assert_status(nm_cache_increment(cache, "99", 2, 0, NULL), NM_ECAPACITY); /* pinned: it would be a copy */
    nm_entry_release(&number);
    assert_ok(nm_cache_decrement(cache, "99", 2, 1, NULL)); /* in place now */
    assert_text("99", "98");
    for (size_t i = 0; i < count; i++) nm_entry_release(&pins[i]);
    assert_ok(nm_cache_touch(cache, "text", 4, 1000));
    assert_ok(nm_cache_increment(cache, "99", 2, 2, NULL));
    assert_text("99", "100");
    assert_value(&text, "value");
    nm_entry_release(&text);
    close_cache();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(remove_if_takes_only_the_version_that_it_names),
        TEST(every_change_of_the_value_is_a_new_version_and_nothing_else_is),
        TEST(touch_changes_the_time_and_nothing_else),
        TEST(the_first_touch_adds_words_and_later_ones_do_not),
        TEST(nobody_is_told_of_a_touch_or_a_mark_for_nothing_left),
        TEST(a_touched_entry_that_is_pinned_stays_where_its_holder_sees_it),
        TEST(an_object_can_be_touched_and_marked_and_is_told_once),
        TEST(get_touch_reads_and_moves_the_time),
        TEST(numbers_wrap_above_and_stop_at_zero_below),
        TEST(what_is_no_number_is_refused_and_stays),
        TEST(numbers_grow_by_digits_and_keep_time_and_flags),
        TEST(a_pinned_number_stays_as_its_holder_read_it),
        TEST(who_is_told_sees_each_number_that_was_replaced),
        TEST(threads_that_count_lose_no_count),
        TEST(long_keys_do_all_that_short_ones_do),
        TEST(values_lie_where_their_length_says),
        TEST(where_there_is_no_room_the_entry_stays_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
