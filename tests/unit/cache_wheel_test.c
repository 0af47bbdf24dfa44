// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/wheel.h"

#include "testing.h"

#define PLACES     4096u
#define TICK       ((uint64_t)NM__WHEEL_TICK_MS)
#define SECOND     ((uint64_t)1000)
#define DAY        (86400 * SECOND)
#define YEAR       (365 * DAY)
#define BUDGET_ALL 1000000u

/* The owner's side: places that have a timer, and which of them are taken. */
static nm__timer timers[PLACES];
static bool taken[PLACES];
static size_t taken_count;
static unsigned looks; /* at timers */
static nm__wheel wheel;

static nm__timer *at(void *context, uint32_t number) {
    assert_ptr_equal(context, timers);
    assert_in_range(number, 1, PLACES - 1);
    looks++;
    return &timers[number];
}

static int set_up(void **state) {
    (void)state;
    memset(timers, 0xdd, sizeof timers);
    memset(taken, 0, sizeof taken);
    taken_count = 0;
    nm__wheel_open(&wheel, at, timers, 5 * DAY + 3);
    return 0;
}

static uint32_t any_free(uint64_t *seed) {
    uint32_t number = 1 + (uint32_t)test_below(seed, PLACES - 1);
    while (taken[number]) number = number == PLACES - 1 ? 1 : number + 1;
    return number;
}
static uint32_t any_taken(uint64_t *seed) {
    uint32_t number = 1 + (uint32_t)test_below(seed, PLACES - 1);
    while (!taken[number]) number = number == PLACES - 1 ? 1 : number + 1;
    return number;
}

static void add(uint32_t number, uint64_t expires_ms, uint64_t now_ms) {
    assert_false(taken[number]);
    taken[number] = true;
    taken_count++;
    timers[number].expires_ms = expires_ms;
    nm__wheel_add(&wheel, number, now_ms);
}

static void forget(uint32_t number) {
    assert_true(taken[number]);
    taken[number] = false;
    taken_count--;
    memset(&timers[number], 0xdd, sizeof timers[number]);
}

/* All that the wheel hands out; each was in it, and is over. */
static size_t drain(uint64_t now_ms, unsigned budget) {
    size_t count = 0;
    for (uint32_t number; (number = nm__wheel_next_expired(&wheel, now_ms, &budget)) != 0; count++) {
        assert_in_range(timers[number].expires_ms, 0, now_ms);
        forget(number);
    }
    return count;
}

/* After all has been handed out: nothing is left that is over by a tick or more, and the next time to look is not too
 * late. */
static void check_rest(uint64_t now_ms) {
    uint64_t next_ms = nm__wheel_next_ms(&wheel);
    for (uint32_t i = 1; i < PLACES; i++) {
        if (!taken[i]) continue;
        uint64_t expires_ms = timers[i].expires_ms;
        if (expires_ms <= now_ms && now_ms - expires_ms >= TICK)
            fail_msg("%u is %" PRIu64 " ms late", i, now_ms - expires_ms);
        if (next_ms >= expires_ms && next_ms - expires_ms >= TICK)
            fail_msg("%u is over at %" PRIu64 ", next look at %" PRIu64, i, expires_ms, next_ms);
    }
    if (taken_count == 0) assert_int_equal(next_ms, UINT64_MAX);
    assert_false(nm__wheel_has_work(&wheel, now_ms));
    assert_true(next_ms > now_ms);
    if (next_ms != UINT64_MAX) assert_true(nm__wheel_has_work(&wheel, next_ms));
}

static void an_entry_comes_out_at_its_time_or_less_than_a_tick_later(void **state) {
    static const uint64_t spans[] = {0, 1, 15, 16, 17, 511, 512, 513, 16384, 16385, DAY, 40 * DAY, YEAR, 30 * YEAR};
    for (uint64_t shift = 0; shift < 20; shift++) {
        for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
            set_up(state);
            uint64_t begin = 5 * DAY + 3 + shift, expires_ms = begin + spans[i], now_ms = begin;
            unsigned steps = 0;
            add(7, expires_ms, begin);
            while (taken[7]) {
                uint64_t next_ms = nm__wheel_next_ms(&wheel);
                assert_in_range(next_ms, 0, expires_ms + TICK - 1);
                if (next_ms > now_ms) {
                    assert_int_equal(drain(next_ms - 1, BUDGET_ALL), 0);
                    now_ms = next_ms;
                }
                drain(now_ms, BUDGET_ALL);
                assert_in_range(++steps, 1, 10);
            }
            assert_in_range(now_ms, expires_ms, expires_ms + TICK - 1);
            check_rest(now_ms);
        }
    }
}

static void what_is_over_already_comes_out_at_once(void **state) {
    (void)state;
    add(1, 0, 6 * DAY);
    add(2, 6 * DAY, 6 * DAY);
    add(3, 5 * DAY, 6 * DAY);
    assert_true(nm__wheel_has_work(&wheel, 6 * DAY));
    assert_in_range(drain(6 * DAY, BUDGET_ALL), 2, 3);
    drain(6 * DAY + TICK, BUDGET_ALL);
    assert_int_equal(taken_count, 0);
}

/* As between two threads that looked at the clock in one order and came to the lock in the other. */
static void a_clock_that_is_behind_moves_nothing_back(void **state) {
    (void)state;
    add(1, 6 * DAY, 5 * DAY + 3);
    assert_int_equal(drain(6 * DAY - TICK, BUDGET_ALL), 0);
    add(2, 6 * DAY + 50, 6 * DAY - 10 * TICK);
    assert_int_equal(drain(4 * DAY, BUDGET_ALL), 0);
    assert_int_equal(drain(0, BUDGET_ALL), 0);
    assert_int_equal(drain(6 * DAY + TICK, BUDGET_ALL), 1);
    assert_int_equal(drain(6 * DAY + 50 + TICK, BUDGET_ALL), 1);
    check_rest(6 * DAY + 50 + TICK);
}

static void a_jump_by_years_costs_no_more_than_the_entries(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (int i = 0; i < 1000; i++) add(any_free(&seed), 5 * DAY + test_random(&seed) % YEAR, 5 * DAY + 3);
    looks = 0;
    assert_int_equal(drain(700 * YEAR, 2 * 1000), 1000); /* none has to fall first */
    assert_in_range(looks, 1000, 3 * 1000);
    check_rest(700 * YEAR);
}

static void a_jump_over_an_empty_wheel_leaves_it_as_new(void **state) {
    (void)state;
    uint64_t far_ms =
        5 * DAY + 3 + (TICK << 40); /* 557 years: a round number in every digit, so nothing is carried below */
    unsigned budget = 10;
    add(1, far_ms + 40, far_ms);
    assert_int_equal(nm__wheel_next_expired(&wheel, far_ms + 39, &budget), 0);
    assert_int_equal(budget, 10);
    assert_int_equal(drain(far_ms + 40 + TICK, 2), 1); /* its bucket and itself: no way to fall */
}

static void an_entry_for_ever_and_a_day_is_kept(void **state) {
    (void)state;
    add(1, UINT64_MAX - 1, 5 * DAY);
    add(2, UINT64_MAX - 1 - YEAR, 5 * DAY);
    add(3, 100 * YEAR, 5 * DAY);
    assert_int_equal(drain(99 * YEAR, BUDGET_ALL), 0);
    check_rest(99 * YEAR);
    assert_int_equal(drain(100 * YEAR + TICK, BUDGET_ALL), 1);
    nm__wheel_remove(&wheel, 1);
    forget(1);
    nm__wheel_remove(&wheel, 2);
    forget(2);
    drain(101 * YEAR, BUDGET_ALL);
    check_rest(101 * YEAR);
}

/* A day's worth of entries in one bucket of the fourth level falls in small portions. */
static void no_call_does_more_than_its_budget(void **state) {
    (void)state;
    const uint64_t begin = 5 * DAY + 3;
    const size_t count = PLACES - 1;
    for (uint32_t i = 1; i <= count; i++) add(i, begin + DAY + i % 61, begin);
    size_t calls = 0;
    for (; taken_count != 0; calls++) {
        unsigned budget = 8, before = looks;
        uint32_t number;
        while ((number = nm__wheel_next_expired(&wheel, begin + DAY + 61 + TICK, &budget)) != 0) {
            assert_true(timers[number].expires_ms <= begin + DAY + 61 + TICK);
            forget(number);
        }
        assert_int_equal(budget, taken_count != 0 ? 0 : budget);
        assert_in_range(looks - before, 0, 3 * 8);
        assert_in_range(calls, 0, 16 * count / 8);
    }
    check_rest(begin + DAY + 61 + TICK);
}

static void a_budget_of_nothing_does_nothing(void **state) {
    (void)state;
    add(1, 5 * DAY + 10, 5 * DAY + 3);
    unsigned budget = 0, before = looks;
    assert_int_equal(nm__wheel_next_expired(&wheel, 6 * DAY, &budget), 0);
    assert_int_equal(looks, before);
    assert_int_equal(drain(6 * DAY, BUDGET_ALL), 1);
}

static void clear_forgets_all_without_a_look(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (int i = 0; i < 500; i++)
        add(any_free(&seed), 5 * DAY + (test_random(&seed) >> (20 + test_below(&seed, 40))), 5 * DAY);
    unsigned budget = 3;
    uint32_t half_way = nm__wheel_next_expired(&wheel, 5 * DAY + SECOND, &budget);
    (void)half_way;
    unsigned before = looks;
    nm__wheel_clear(&wheel, 9 * DAY);
    assert_int_equal(looks, before);
    memset(timers, 0xdd, sizeof timers);
    memset(taken, 0, sizeof taken);
    taken_count = 0;
    check_rest(9 * DAY);
    assert_int_equal(drain(50 * YEAR, BUDGET_ALL), 0);
    add(9, 50 * YEAR + SECOND, 50 * YEAR);
    assert_int_equal(drain(50 * YEAR + SECOND - 1, BUDGET_ALL), 0);
    assert_int_equal(drain(50 * YEAR + SECOND + TICK, BUDGET_ALL), 1);
}

static uint64_t any_span(uint64_t *seed) {
    return test_random(seed) >> (23 + test_below(seed, 41)); /* up to 69 years */
}

static void move(uint64_t *seed) {
    uint32_t from = any_taken(seed), to = any_free(seed);
    timers[to] = timers[from];
    taken[to] = true;
    taken_count++;
    forget(from);
    nm__wheel_moved(&wheel, from, to);
}

/* Against a model that looks at every entry: whatever is added, removed, moved and put off by small budgets, all that
 * is over comes out, and nothing before. */
static void any_sequence_agrees_with_the_model(void **state) {
    uint64_t seed = test_seed();
    for (int round = 0; round < (TEST_SLOW ? 10 : 60); round++) {
        set_up(state);
        uint64_t now_ms = 5 * DAY + 3;
        for (int step = 0; step < 2000; step++) {
            unsigned what = (unsigned)test_below(&seed, 100);
            if (what < 45) {
                uint64_t span = any_span(&seed);
                if (taken_count < PLACES / 2)
                    add(any_free(&seed), what < 3 ? now_ms - span % now_ms : now_ms + span, now_ms);
            } else if (what < 55) {
                if (taken_count == 0) continue;
                uint32_t number = any_taken(&seed);
                nm__wheel_remove(&wheel, number);
                forget(number);
            } else if (what < 70) {
                if (taken_count != 0) move(&seed);
            } else if (what < 90) {
                now_ms += what < 75 ? 0 : any_span(&seed) >> 10;
                drain(now_ms, (unsigned)test_below(&seed, 12));
            } else if (what < 99) {
                now_ms += any_span(&seed) >> 12;
                drain(now_ms, BUDGET_ALL);
                check_rest(now_ms);
            } else {
                now_ms += any_span(&seed); /* many a bucket on the way */
                drain(now_ms, BUDGET_ALL);
                check_rest(now_ms);
            }
        }
        for (int i = 0; i < 100; i++) drain(now_ms += any_span(&seed), BUDGET_ALL);
        check_rest(now_ms);
        drain(now_ms += 200 * YEAR, BUDGET_ALL);
        assert_int_equal(taken_count, 0);
        check_rest(now_ms);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_entry_comes_out_at_its_time_or_less_than_a_tick_later, set_up),
        cmocka_unit_test_setup(what_is_over_already_comes_out_at_once, set_up),
        cmocka_unit_test_setup(a_clock_that_is_behind_moves_nothing_back, set_up),
        cmocka_unit_test_setup(a_jump_by_years_costs_no_more_than_the_entries, set_up),
        cmocka_unit_test_setup(a_jump_over_an_empty_wheel_leaves_it_as_new, set_up),
        cmocka_unit_test_setup(an_entry_for_ever_and_a_day_is_kept, set_up),
        cmocka_unit_test_setup(no_call_does_more_than_its_budget, set_up),
        cmocka_unit_test_setup(a_budget_of_nothing_does_nothing, set_up),
        cmocka_unit_test_setup(clear_forgets_all_without_a_look, set_up),
        cmocka_unit_test_setup(any_sequence_agrees_with_the_model, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
