// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What an entry tells beside its value: that it is stale, that there is no such thing, when it was read last. */
#include <pthread.h>

#include "cache_fixture.h"

static unsigned told[6];
static void on_evict(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size, void *context) {
    (void)key, (void)key_len, (void)value, (void)size, (void)context;
    told[reason]++;
}
static unsigned told_all(void) {
    unsigned all = 0;
    for (int i = 0; i < 6; i++) all += told[i];
    return all;
}

static NM_ATOMIC(uint32_t) wrong;

/* ---- stale ---- */

static void a_stale_entry_is_won_once_and_ends_with_a_put(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB);
    nm_entry e;
    uint64_t cas;
    assert_status(nm_cache_mark_stale(cache, "k", 1, 0, 0), NM_ENOTFOUND);
    assert_status(nm_cache_mark_stale(NULL, "k", 1, 0, 0), NM_EINVAL);
    assert_ok(nm_cache_put_with(cache, "k", 1, "old", 3, NM_PUT_OPTIONS(.cas_out = &cas)));
    assert_true(pin_text("k", &e));
    assert_false(e.stale || e.won);
    nm_entry_release(&e);
    assert_status(nm_cache_mark_stale(cache, "k", 1, 0, cas + 1), NM_ESTALE);
    assert_true(pin_text("k", &e));
    assert_false(e.stale || e.won);
    nm_entry_release(&e);
    for (int round = 0; round < 2; round++) { /* marked again, it is won again */
        assert_ok(nm_cache_mark_stale(cache, "k", 1, 0, round == 0 ? cas : 0));
        for (int reader = 0; reader < 3; reader++) {
            assert_true(pin_text("k", &e));
            assert_value(&e, "old");
            assert_true(e.stale);
            assert_int_equal(e.won, reader == 0);
            assert_int_equal(e.cas, cas);
            assert_int_equal(e.expires_ms, NM_TTL_NEVER);
            nm_entry_release(&e);
        }
    }
    assert_ok(put_text("k", "new"));
    assert_true(pin_text("k", &e));
    assert_value(&e, "new");
    assert_false(e.stale || e.won);
    nm_entry_release(&e);
    /* a commit is a put too */
    nm_entry room;
    assert_ok(nm_cache_mark_stale(cache, "k", 1, 0, 0));
    assert_ok(nm_cache_reserve(cache, "k", 1, 3, &room));
    memcpy(room.value, "two", 3);
    assert_ok(nm_cache_commit(&room, NULL));
    assert_true(pin_text("k", &e));
    assert_false(e.stale || e.won);
    nm_entry_release(&e);
    close_cache();
}

static void a_stale_entry_lives_as_long_as_the_mark_says(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB);
    nm_entry e;
    assert_ok(nm_cache_put_with(cache, "a", 1, "v", 1, NM_PUT_OPTIONS(.ttl_ms = 10000, .flags = 3)));
    assert_ok(nm_cache_put_with(cache, "b", 1, "v", 1, NM_PUT_OPTIONS(.ttl_ms = 10000)));
    assert_ok(put_text("c", "v"));
    assert_ok(nm_cache_mark_stale(cache, "a", 1, 500, 0));
    assert_ok(nm_cache_mark_stale(cache, "b", 1, 0, 0));
    assert_ok(nm_cache_mark_stale(cache, "c", 1, 500, 0));
    pass_ms(499);
    assert_true(pin_text("a", &e));
    assert_int_equal(e.expires_ms, 1);
    assert_int_equal(e.flags, 3);
    assert_true(e.stale && e.won);
    nm_entry_release(&e);
    assert_true(has_text("c"));
    pass_ms(1);
    assert_false(has_text("a"));
    assert_false(has_text("c"));
    assert_true(pin_text("b", &e));
    assert_int_equal(e.expires_ms, 9500);
    nm_entry_release(&e);
    assert_status(nm_cache_mark_stale(cache, "a", 1, 0, 0), NM_ENOTFOUND);
    close_cache();
}

#define RACERS 4
#define RACES  (TEST_SLOW ? 200 : 2000)
static pthread_barrier_t line;
static NM_ATOMIC(uint32_t) winners;

static void *race(void *arg) {
    (void)arg;
    for (int i = 0; i < RACES; i++) {
        pthread_barrier_wait(&line);
        nm_entry e;
        if (!pin_text("k", &e) || !e.stale) nm_atomic_store(&wrong, 1, NM_RELAXED);
        if (e.won) nm_atomic_add(&winners, 1, NM_RELAXED);
        nm_entry_release(&e);
        if (pthread_barrier_wait(&line) == PTHREAD_BARRIER_SERIAL_THREAD) {
            if (nm_atomic_load(&winners, NM_RELAXED) != 1) nm_atomic_store(&wrong, 2, NM_RELAXED);
            nm_atomic_store(&winners, 0, NM_RELAXED);
            if (i % 2 == 0 && put_text("k", "again") != NM_OK) nm_atomic_store(&wrong, 3, NM_RELAXED);
            if (nm_cache_mark_stale(cache, "k", 1, 0, 0) != NM_OK) nm_atomic_store(&wrong, 4, NM_RELAXED);
        }
    }
    return NULL;
}

static void of_threads_that_read_at_once_one_wins(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB);
    pthread_t ids[RACERS];
    wrong = winners = 0;
    pthread_barrier_init(&line, NULL, RACERS);
    assert_ok(put_text("k", "v"));
    assert_ok(nm_cache_mark_stale(cache, "k", 1, 0, 0));
    for (int i = 0; i < RACERS; i++) assert_int_equal(pthread_create(&ids[i], NULL, race, NULL), 0);
    for (int i = 0; i < RACERS; i++) pthread_join(ids[i], NULL);
    pthread_barrier_destroy(&line);
    assert_int_equal(wrong, 0);
    close_cache();
}

/* ---- negative entries ---- */

static void a_negative_entry_is_absent_for_all_and_known_for_get(void **state) {
    (void)state;
    memset(told, 0, sizeof told);
    open_cache(.budget_bytes = MIB, .on_evict = on_evict);
    nm_entry e;
    assert_status(nm_cache_put_negative(NULL, "k", 1, 0), NM_EINVAL);
    assert_status(nm_cache_put_negative(cache, NULL, 1, 0), NM_EINVAL);
    assert_status(nm_cache_put_negative(cache, "k", 0, 0), NM_EINVAL);
    assert_false(pin_text("k", &e));
    assert_false(e.negative);
    assert_ok(nm_cache_put_negative(cache, "k", 1, 0));
    assert_false(pin_text("k", &e));
    assert_true(e.negative);
    assert_null(e.slot);
    assert_null(e.value);
    nm_entry_release(&e);
    assert_false(nm_cache_get_in(cache, scope, "k", 1, &e));
    assert_false(nm_cache_get_touch(cache, "k", 1, 5, &e));
    assert_false(has_text("k"));
    assert_status(nm_cache_touch(cache, "k", 1, 5), NM_ENOTFOUND);
    assert_status(nm_cache_mark_stale(cache, "k", 1, 5, 0), NM_ENOTFOUND);
    assert_status(nm_cache_increment(cache, "k", 1, 1, NULL), NM_ENOTFOUND);
    assert_status(nm_cache_put_with(cache, "k", 1, "v", 1, NM_PUT_OPTIONS(.mode = NM_PUT_REPLACE)), NM_ENOTFOUND);
    assert_status(nm_cache_put_with(cache, "k", 1, "v", 1, NM_PUT_OPTIONS(.cas = 1)), NM_ENOTFOUND);
    assert_false(pin_text("k", &e));
    assert_true(e.negative);
    assert_status(nm_cache_remove_if(cache, "k", 1, 1), NM_ENOTFOUND);
    assert_status(nm_cache_remove(cache, "k", 1), NM_ENOTFOUND);
    assert_false(pin_text("k", &e));
    assert_false(e.negative); /* removed: nothing is known any more */
    assert_int_equal(stats().pinned_count, 0);
    close_cache();
    assert_int_equal(told_all(), 0); /* of nothing that anybody has put */
}

static void any_put_replaces_a_negative_entry_and_it_replaces_any(void **state) {
    (void)state;
    memset(told, 0, sizeof told);
    open_cache(.budget_bytes = MIB, .on_evict = on_evict);
    nm_entry e, pin, room;
    for (int way = 0; way < 3; way++) {
        assert_ok(nm_cache_put_negative(cache, "k", 1, 0));
        if (way == 0) assert_ok(put_text("k", "v"));
        if (way == 1) assert_ok(nm_cache_put_with(cache, "k", 1, "v", 1, NM_PUT_OPTIONS(.mode = NM_PUT_ADD)));
        if (way == 2) {
            assert_ok(nm_cache_reserve(cache, "k", 1, 1, &room));
            memcpy(room.value, "v", 1);
            assert_ok(nm_cache_commit(&room, NM_PUT_OPTIONS(.mode = NM_PUT_ADD)));
        }
        assert_text("k", "v");
        assert_int_equal(nm_cache_count(cache), 1);
        assert_true(pin_text("k", &pin));
        assert_false(pin.negative);
        assert_ok(nm_cache_put_negative(cache, "k", 1, 0));
        assert_value(&pin, "v");
        assert_false(pin_text("k", &e));
        assert_true(e.negative);
        nm_entry_release(&pin);
        assert_int_equal(told[NM_EVICT_REPLACED], way + 1);
        cache_check(cache);
    }
    assert_ok(nm_cache_put_negative(cache, "k", 1, 0));
    close_cache();
    assert_int_equal(told_all(), 3);
}

static void a_negative_entry_ends_with_its_time(void **state) {
    (void)state;
    nm_entry e;
    open_cache(.budget_bytes = MIB, .ttl_ms = 3000, .negative_ttl_ms = 200);
    assert_ok(nm_cache_put_negative(cache, "own", 3, 50));
    assert_ok(nm_cache_put_negative(cache, "the cache's", 11, 0));
    pass_ms(49);
    assert_false(pin_text("own", &e));
    assert_true(e.negative);
    pass_ms(1);
    assert_false(pin_text("own", &e));
    assert_false(e.negative);
    pass_ms(149);
    assert_false(pin_text("the cache's", &e));
    assert_true(e.negative);
    pass_ms(1);
    assert_false(pin_text("the cache's", &e));
    assert_false(e.negative);
    assert_int_equal(nm_cache_count(cache), 0);
    close_cache();
    open_cache(.budget_bytes = MIB, .ttl_ms = 3000);
    assert_ok(nm_cache_put_negative(cache, "k", 1, 0));
    pass_ms(2999);
    assert_false(pin_text("k", &e));
    assert_true(e.negative);
    pass_ms(1);
    assert_false(pin_text("k", &e));
    assert_false(e.negative);
    close_cache();
}

/* ---- uses ---- */

static void track_access_tells_when_an_entry_was_read_last(void **state) {
    (void)state;
    nm_entry e;
    nm_cursor c = {0};
    open_cache(.budget_bytes = MIB, .track_access = true);
    assert_int_equal(nm_cache_charge(NM_CACHE_OPTIONS(.track_access = true), 1, 5),
                     nm_cache_charge(NM_CACHE_OPTIONS(.ttl_ms = 1000), 1, 5));
    assert_ok(put_text("k", "value"));
    assert_int_equal(nm_cache_used(cache), nm_cache_charge(NM_CACHE_OPTIONS(.ttl_ms = 1000), 1, 5));
    pass_ms(30);
    assert_true(has_text("k")); /* no use */
    assert_ok(nm_cache_next(cache, &c, &e));
    nm_entry_release(&e);
    assert_true(pin_text("k", &e));
    assert_false(e.fetched);
    nm_entry_release(&e);
    pass_ms(50);
    assert_true(has_text("k"));
    pass_ms(20);
    assert_true(pin_text("k", &e));
    assert_true(e.fetched);
    assert_int_equal(e.last_access_ms, 70);
    nm_entry_release(&e);
    assert_true(pin_text("k", &e));
    assert_int_equal(e.last_access_ms, 0);
    nm_entry_release(&e);
    assert_ok(put_text("k", "again"));
    assert_true(pin_text("k", &e));
    assert_false(e.fetched);
    nm_entry_release(&e);
    /* a use by get_in and get_touch too */
    pass_ms(5);
    assert_true(nm_cache_get_in(cache, scope, "k", 1, &e));
    assert_int_equal(e.last_access_ms, 5);
    nm_entry_release(&e);
    pass_ms(6);
    assert_true(nm_cache_get_touch(cache, "k", 1, 1000, &e));
    assert_int_equal(e.last_access_ms, 6);
    assert_true(e.fetched);
    nm_entry_release(&e);
    close_cache();
    open_cache(.budget_bytes = MIB);
    assert_ok(put_text("k", "value"));
    for (int i = 0; i < 2; i++) {
        assert_true(pin_text("k", &e));
        assert_true(e.last_access_ms == NM_TTL_NEVER);
        assert_false(e.fetched);
        nm_entry_release(&e);
    }
    close_cache();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_stale_entry_is_won_once_and_ends_with_a_put),
        TEST(a_stale_entry_lives_as_long_as_the_mark_says),
        TEST(of_threads_that_read_at_once_one_wins),
        TEST(a_negative_entry_is_absent_for_all_and_known_for_get),
        TEST(any_put_replaces_a_negative_entry_and_it_replaces_any),
        TEST(a_negative_entry_ends_with_its_time),
        TEST(track_access_tells_when_an_entry_was_read_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
