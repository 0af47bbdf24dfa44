// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache_check.h"
#include "nebula/cache.h"
#include "os_counter.h"
#include "testing.h"

#define KIB ((size_t)1 << 10)

static nm_scope *root, *scope;
static nm_cache *cache;
static unsigned left_count, misuse_count;
static const char *last_misuse, *last_released_at;

static void on_evict(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size, void *context) {
    (void)reason, (void)key, (void)key_len, (void)value, (void)size, (void)context;
    left_count++;
}

static void on_misuse(const nm_misuse *misuse, void *context) {
    (void)context;
    misuse_count++;
    last_misuse = misuse->what;
    last_released_at = misuse->released_at;
}

static int set_up(void **state) {
    (void)state;
    left_count = misuse_count = 0;
    nm_set_misuse_handler(on_misuse, NULL);
    os_counter_install();
    return nm_scope_open(&root, NULL, NULL) == NM_OK &&
                   nm_scope_open(&scope, root, NM_SCOPE_OPTIONS(.name = "cache")) == NM_OK &&
                   nm_cache_open(&cache, scope,
                                 NM_CACHE_OPTIONS(.budget_bytes = 256 * KIB, .shard_count = 1, .name = "pages",
                                                  .on_evict = on_evict)) == NM_OK
               ? 0
               : -1;
}

static int tear_down(void **state) {
    (void)state;
    nm_set_misuse_handler(NULL, NULL);
    nm_scope_close(root, NULL);
    return os_counter_remove() ? 0 : -1;
}

static nm_cache_stats stats(void) {
    nm_cache_stats st;
    nm_cache_get_stats(cache, &st);
    return st;
}

static nm_status put_filled(uint64_t number, size_t bytes, int byte) {
    static unsigned char value[1 << 20];
    memset(value, byte, bytes);
    return nm_cache_put(cache, &number, sizeof number, value, bytes);
}

static bool all(const nm_entry *e, int byte) {
    for (size_t i = 0; i < e->value_len; i++)
        if (((const unsigned char *)e->value)[i] != byte) return false;
    return true;
}

static void a_pinned_entry_stays_readable_removed_replaced_cleared_and_resized(void **state) {
    (void)state;
    nm_entry pins[4];
    for (uint64_t i = 0; i < 4; i++) {
        assert_ok(put_filled(i, 1000, 'a' + (int)i));
        assert_true(nm_cache_get(cache, &i, sizeof i, &pins[i]));
    }
    uint64_t number = 0;
    assert_ok(nm_cache_remove(cache, &number, sizeof number));
    assert_false(nm_cache_contains(cache, &number, sizeof number));
    assert_ok(put_filled(1, 500, 'z'));
    cache_check(cache);
    assert_int_equal(left_count, 0);
    for (uint64_t i = 100; i < 3000; i++) assert_ok(put_filled(i, 500, 'x'));
    nm_cache_clear(cache);
    assert_int_equal(nm_cache_count(cache), 0);
    assert_int_equal(nm_cache_used(cache), 0);
    nm_status st = nm_cache_resize(cache, 100 * KIB);
    assert_true(st == NM_OK || st == NM_EBUSY);
    unsigned before = left_count;
    for (int i = 0; i < 4; i++) assert_true(all(&pins[i], 'a' + i));
    assert_int_equal(stats().pinned_count, 4);
    assert_int_equal(stats().pinned_bytes, 4 * nm_cache_charge(NULL, 8, 1000));
    cache_check(cache);
    for (int i = 0; i < 4; i++) nm_entry_release(&pins[i]);
    assert_int_equal(left_count, before + 4);
    assert_int_equal(stats().pinned_count, 0);
    assert_int_equal(stats().pinned_bytes, 0);
    cache_check(cache);
}

static void an_entry_pinned_twice_needs_two_releases(void **state) {
    (void)state;
    uint64_t number = 1;
    nm_entry a, b;
    assert_ok(put_filled(number, 10, 'q'));
    assert_true(nm_cache_get(cache, &number, sizeof number, &a));
    assert_true(nm_cache_get(cache, &number, sizeof number, &b));
    assert_ptr_equal(a.value, b.value);
    assert_ok(nm_cache_remove(cache, &number, sizeof number));
    nm_entry_release(&a);
    assert_true(all(&b, 'q'));
    assert_int_equal(left_count, 0);
    nm_entry_release(&b);
    assert_int_equal(left_count, 1);
}

static void a_second_release_is_misuse_and_harms_nothing(void **state) {
    (void)state;
    uint64_t number = 1;
    nm_entry e;
    assert_ok(put_filled(number, 10, 'q'));
    assert_true(nm_cache_get(cache, &number, sizeof number, &e));
    nm_entry copy = e;
    nm_entry_release(&e);
    nm_entry_release(&e);
    nm_entry_release(NULL);
    assert_int_equal(misuse_count, 0);
    nm_entry again;
    assert_true(nm_cache_get(cache, &number, sizeof number, &again));
    nm_entry_release_at(&copy, "late.c:1");
    assert_int_equal(misuse_count, 1);
    assert_string_equal(last_misuse, "entry released twice");
    assert_int_equal(stats().pinned_count, 1);
    nm_entry_release(&again);
    cache_check(cache);
}

static void everything_pinned_refuses_at_once_and_nothing_is_evicted(void **state) {
    (void)state;
    static nm_entry pins[4000];
    uint64_t count = 0;
    while (count < 4000) {
        nm_status st = put_filled(count, 400, 'p');
        if (st != NM_OK) {
            assert_status(st, NM_ECAPACITY);
            break;
        }
        if (!nm_cache_get(cache, &count, sizeof count, &pins[count])) break;
        count++;
        cache_law(cache, scope);
    }
    print_message("%d entries pinned\n", (int)count);
    assert_in_range(count, 300, 3999);
    unsigned left = left_count;
    size_t entries = nm_cache_count(cache);
    assert_status(put_filled(99999, 5000, 'n'), NM_ECAPACITY);
    assert_int_equal(left_count, left);
    assert_int_equal(nm_cache_count(cache), entries);
    assert_status(nm_cache_resize(cache, 64 * KIB), NM_EBUSY);
    assert_int_equal(nm_cache_budget(cache), 256 * KIB);
    assert_status(nm_cache_close(cache), NM_EBUSY);
    cache_check(cache);
    for (uint64_t i = 0; i < count; i++) {
        assert_true(all(&pins[i], 'p'));
        nm_entry_release(&pins[i]);
    }
    assert_ok(put_filled(99999, 200 * KIB, 'n'));
    cache_check(cache);
    assert_ok(nm_cache_resize(cache, 64 * KIB));
    assert_ok(nm_cache_close(cache));
}

static void a_large_entry_finds_the_run_between_pinned_ones(void **state) {
    (void)state;
    nm_entry pins[3];
    for (uint64_t i = 0; i < 400; i++) assert_ok(put_filled(i, 400, 'f'));
    static const uint64_t pinned[3] = {20, 40, 300}; /* leaves a run of about 260 entries */
    for (int i = 0; i < 3; i++) assert_true(nm_cache_get(cache, &pinned[i], sizeof *pinned, &pins[i]));
    assert_ok(put_filled(1000, 90000, 'L'));
    for (uint64_t i = 1000000; i < 1000400; i++) assert_ok(put_filled(i, 400, 'f'));
    unsigned left = left_count;
    assert_status(put_filled(1001, 180000, 'L'), NM_ECAPACITY);
    assert_int_equal(left_count, left);
    for (int i = 0; i < 3; i++) assert_true(all(&pins[i], 'f'));
    cache_check(cache);
    for (int i = 0; i < 3; i++) nm_entry_release(&pins[i]);
    assert_ok(put_filled(1001, 180000, 'L'));
    cache_check(cache);
}

static void pins_held_by_a_scope_go_back_with_it(void **state) {
    (void)state;
    uint64_t number = 1;
    nm_scope *request;
    nm_entry e, none;
    assert_ok(put_filled(number, 1000, 'h'));
    assert_ok(nm_scope_open(&request, root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST, .held_limit_bytes = 2500)));
    assert_true(nm_cache_get_in(cache, request, &number, sizeof number, &e));
    assert_true(nm_cache_get_in(cache, request, &number, sizeof number, &e));
    assert_false(nm_cache_get_in(cache, request, &number, sizeof number, &none));
    assert_null(none.slot);
    assert_int_equal(stats().pinned_count, 2);
    assert_status(nm_cache_reserve_in(cache, request, "r", 1, 1000, &none), NM_ECAPACITY);
    assert_ok(nm_cache_reserve_in(cache, request, "r", 1, 100, &none));
    assert_int_equal(stats().pinned_count, 3);
    assert_int_equal(nm_scope_close(request, NULL), 0);
    assert_int_equal(stats().pinned_count, 0);
    nm_entry_release(&e);
    assert_int_equal(misuse_count, 1);
    assert_false(nm_cache_get_in(cache, NULL, &number, sizeof number, &e));
    assert_status(nm_cache_reserve_in(cache, NULL, "r", 1, 1, &e), NM_EINVAL);
    nm_scope *foreign;
    assert_ok(nm_scope_open(&foreign, NULL, NULL));
    assert_false(nm_cache_get_in(cache, foreign, &number, sizeof number, &e));
    assert_status(nm_cache_reserve_in(cache, foreign, "r", 1, 1, &e), NM_EINVAL);
    nm_scope_close(foreign, NULL);
    cache_check(cache);
}

static void a_forced_close_reports_pins_and_late_releases_are_misuse(void **state) {
    (void)state;
    uint64_t number = 1;
    nm_entry pin, room;
    assert_ok(put_filled(number, 1000, 'h'));
    assert_true(nm_cache_get_at(cache, &number, sizeof number, &pin, "reply.c:88"));
    assert_ok(nm_cache_reserve_at(cache, "r", 1, 100, &room, "load.c:9"));
    assert_status(nm_cache_close(cache), NM_EBUSY);
    nm_leak_report report;
    assert_int_equal(nm_scope_close_at(scope, &report, sizeof report, "end.c:1"), 2);
    assert_int_equal(report.site_count, 2);
    for (unsigned i = 0; i < 2; i++) {
        bool is_pin = report.sites[i].kind == NM_LEAK_PIN;
        assert_string_equal(report.sites[i].site, is_pin ? "reply.c:88" : "load.c:9");
        assert_string_equal(report.sites[i].name, "pages");
        assert_int_equal(report.sites[i].bytes, nm_cache_charge(NULL, is_pin ? 8 : 1, is_pin ? 1000 : 100));
    }
    assert_int_equal(left_count, 1);
    nm_entry_release(&pin);
    assert_int_equal(misuse_count, 1);
    assert_string_equal(last_released_at, "end.c:1");
    assert_status(nm_cache_commit(&room, NULL), NM_ESTALE);
    assert_int_equal(misuse_count, 2);
}

/* ---- reservations ---- */

static void a_reservation_is_seen_by_nobody_until_its_commit(void **state) {
    (void)state;
    nm_entry room, e;
    uint64_t cas = 0;
    assert_ok(nm_cache_reserve(cache, "key", 3, 1000, &room));
    assert_int_equal(room.value_len, 1000);
    assert_int_equal((uintptr_t)room.value % 8, 0);
    assert_memory_equal(room.key, "key", 3);
    memset(room.value, 'w', 1000);
    assert_false(nm_cache_contains(cache, "key", 3));
    assert_int_equal(nm_cache_used(cache), 0);
    assert_ok(nm_cache_put(cache, "key", 3, "old", 3));
    cache_check(cache);
    assert_ok(nm_cache_commit(&room, NM_PUT_OPTIONS(.cas_out = &cas)));
    assert_null(room.slot);
    assert_true(nm_cache_get(cache, "key", 3, &e));
    assert_true(all(&e, 'w'));
    assert_int_equal(e.value_len, 1000);
    assert_int_equal(e.cas, cas);
    nm_entry_release(&e);
    assert_int_equal(nm_cache_count(cache), 1);
    assert_int_equal(nm_cache_used(cache), nm_cache_charge(NULL, 3, 1000));
    assert_int_equal(left_count, 1);
    cache_check(cache);
}

static void a_refused_commit_leaves_the_reservation(void **state) {
    (void)state;
    nm_entry room, e;
    assert_ok(nm_cache_reserve(cache, "key", 3, 10, &room));
    memset(room.value, 'w', 10);
    assert_status(nm_cache_commit(&room, NM_PUT_OPTIONS(.mode = NM_PUT_REPLACE)), NM_ENOTFOUND);
    assert_status(nm_cache_commit(&room, NM_PUT_OPTIONS(.cas = 5)), NM_ENOTFOUND);
    assert_status(nm_cache_commit(&room, NM_PUT_OPTIONS(.mode = (nm_put_mode)9)), NM_EINVAL);
    assert_ok(nm_cache_put(cache, "key", 3, "old", 3));
    assert_status(nm_cache_commit(&room, NM_PUT_OPTIONS(.mode = NM_PUT_ADD)), NM_EEXISTS);
    assert_status(nm_cache_commit(&room, NM_PUT_OPTIONS(.cas = UINT64_MAX)), NM_ESTALE);
    assert_true(nm_cache_get(cache, "key", 3, &e));
    assert_memory_equal(e.value, "old", 3);
    nm_entry_release(&e);
    assert_int_equal(stats().pinned_count, 1);
    assert_ok(nm_cache_commit(&room, NM_PUT_OPTIONS(.mode = NM_PUT_REPLACE, .flags = 5, .ttl_ms = 100000)));
    assert_true(nm_cache_get(cache, "key", 3, &e));
    assert_true(all(&e, 'w'));
    assert_int_equal(e.flags, 5);
    assert_true(e.expires_ms <= 100000);
    nm_entry_release(&e);
    assert_int_equal(stats().pinned_count, 0);
    cache_check(cache);
}

static void an_aborted_reservation_gives_its_room_back_without_a_callback(void **state) {
    (void)state;
    nm_entry room;
    size_t granted = nm_cache_granted(cache);
    assert_ok(nm_cache_reserve(cache, "key", 3, 1000, &room));
    nm_entry copy = room;
    nm_cache_abort(&room);
    nm_cache_abort(&room);
    nm_cache_abort(NULL);
    assert_int_equal(misuse_count, 0);
    assert_int_equal(left_count, 0);
    assert_int_equal(stats().pinned_bytes, 0);
    nm_cache_abort(&copy);
    assert_int_equal(misuse_count, 1);
    assert_int_equal(nm_cache_granted(cache), granted);
    assert_ok(nm_cache_reserve(cache, "key", 3, 0, &room));
    copy = room;
    assert_ok(nm_cache_commit(&room, NULL));
    assert_status(nm_cache_commit(&copy, NULL), NM_ESTALE);
    assert_status(nm_cache_commit(&room, NULL), NM_ESTALE);
    assert_int_equal(misuse_count, 3);
    assert_status(nm_cache_commit(NULL, NULL), NM_EINVAL);
    cache_check(cache);
}

static void commit_and_abort_of_a_pin_are_misuse_and_leave_it(void **state) {
    (void)state;
    uint64_t number = 1;
    nm_entry e;
    assert_ok(put_filled(number, 10, 'q'));
    assert_true(nm_cache_get(cache, &number, sizeof number, &e));
    assert_status(nm_cache_commit(&e, NULL), NM_ESTALE);
    nm_cache_abort(&e);
    assert_int_equal(misuse_count, 2);
    assert_int_equal(stats().pinned_count, 1);
    nm_entry_release(&e);
    assert_int_equal(stats().pinned_count, 0);
}

static void plain_functions_do_as_the_macros(void **state) {
    (void)state;
    nm_entry e;
    assert_ok((nm_cache_reserve)(cache, "a", 1, 3, &e));
    memcpy(e.value, "abc", 3);
    assert_ok((nm_cache_commit)(&e, NULL));
    assert_true((nm_cache_get)(cache, "a", 1, &e));
    assert_memory_equal(e.value, "abc", 3);
    (nm_entry_release)(&e);
    assert_true((nm_cache_get_in)(cache, scope, "a", 1, &e));
    (nm_entry_release)(&e);
    assert_ok((nm_cache_reserve_in)(cache, scope, "b", 1, 3, &e));
    (nm_cache_abort)(&e);
    nm_cache_stats st;
    (nm_cache_get_stats)(cache, &st);
    assert_int_equal(st.entry_count, 1);
}

/* Pins, reservations and zombies come and go at random; the books are checked against the memory all along. */
static void a_random_run_of_pins_keeps_the_books(void **state) {
    (void)state;
    enum { HANDS = 150 };
    static nm_entry hands[HANDS];
    static int marks[HANDS];
    memset(hands, 0, sizeof hands);
    uint64_t seed = test_seed();
    for (int step = 0; step < 40000; step++) {
        uint64_t r = test_random(&seed), number = (r >> 32) % 500;
        unsigned h = (unsigned)(r >> 16) % HANDS;
        int mark = (int)(number % 200);
        if (hands[h].slot != NULL) {
            assert_true(marks[h] < 0 || all(&hands[h], marks[h]));
            if (marks[h] < 0 && r % 2 == 0) {
                memset(hands[h].value, -1 - marks[h], hands[h].value_len);
                assert_ok(nm_cache_commit(&hands[h], r % 4 == 0 ? NM_PUT_OPTIONS(.flags = 1) : NULL));
            } else {
                nm_entry_release(&hands[h]);
            }
        } else if (r % 4 == 0) {
            marks[h] = mark;
            if (!nm_cache_get(cache, &number, sizeof number, &hands[h])) assert_null(hands[h].slot);
        } else if (r % 4 == 1) {
            nm_status st = nm_cache_reserve(cache, &number, sizeof number, (r >> 8) % 1500, &hands[h]);
            assert_true(st == NM_OK || st == NM_ECAPACITY);
            marks[h] = -1 - mark;
        } else {
            nm_status st = put_filled(number, (r >> 8) % (r % 64 == 2 ? 20000 : 800), mark);
            assert_true(st == NM_OK || st == NM_ECAPACITY);
        }
        if (r % 97 == 0) (void)nm_cache_remove(cache, &number, sizeof number);
        if (r % 9973 == 0) nm_cache_clear(cache);
        cache_law(cache, scope);
        if (step % 200 == 0) cache_check(cache);
    }
    for (int h = 0; h < HANDS; h++) nm_entry_release(&hands[h]);
    cache_check(cache);
    assert_int_equal(misuse_count, 0);
    assert_ok(nm_cache_close(cache));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_pinned_entry_stays_readable_removed_replaced_cleared_and_resized),
        TEST(an_entry_pinned_twice_needs_two_releases),
        TEST(a_second_release_is_misuse_and_harms_nothing),
        TEST(everything_pinned_refuses_at_once_and_nothing_is_evicted),
        TEST(a_large_entry_finds_the_run_between_pinned_ones),
        TEST(pins_held_by_a_scope_go_back_with_it),
        TEST(a_forced_close_reports_pins_and_late_releases_are_misuse),
        TEST(a_reservation_is_seen_by_nobody_until_its_commit),
        TEST(a_refused_commit_leaves_the_reservation),
        TEST(an_aborted_reservation_gives_its_room_back_without_a_callback),
        TEST(commit_and_abort_of_a_pin_are_misuse_and_leave_it),
        TEST(plain_functions_do_as_the_macros),
        TEST(a_random_run_of_pins_keeps_the_books),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
