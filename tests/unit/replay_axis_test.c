// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "../../tools/replay/axis.c"
#include "../../tools/replay/units.c"

#include "testing.h"

#define KIB 1024.0
#define MIB (1024.0 * KIB)

static size_t labels_of(const axis *a) {
    size_t count = 0;
    for (size_t i = 0; i < a->tick_count; i++) count += a->ticks[i].label[0] != '\0';
    return count;
}

static const axis_tick *tick_at(const axis *a, double at) {
    for (size_t i = 0; i < a->tick_count; i++)
        if (fabs(a->ticks[i].at - at) <= fabs(at) * 1e-9) return &a->ticks[i];
    fail_msg("no tick at %g", at);
    return NULL;
}

/* What holds of every axis. */
static void check_axis(const axis *a, double least, double most) {
    assert_true(a->low < a->high);
    assert_true(a->low <= least && most <= a->high);
    assert_true(labels_of(a) >= 2 && labels_of(a) <= 12);
    for (size_t i = 0; i < a->tick_count; i++) {
        assert_true(a->ticks[i].at >= a->low - 1e-6 && a->ticks[i].at <= a->high * (1 + 1e-9) + 1e-6);
        if (i > 0) assert_true(a->ticks[i].at > a->ticks[i - 1].at);
    }
}

static void budgets_that_span_get_powers_of_two(void **state) {
    (void)state;
    axis a;
    axis_bytes(&a, 512 * KIB, 16 * MIB);
    check_axis(&a, 512 * KIB, 16 * MIB);
    assert_true(a.log);
    assert_int_equal(a.tick_count, 6);
    assert_string_equal(a.ticks[0].label, "512 KiB");
    assert_string_equal(a.ticks[1].label, "1 MiB");
    assert_string_equal(a.ticks[5].label, "16 MiB");
}

static void a_wide_span_labels_every_second_or_fifth_power(void **state) {
    (void)state;
    axis a;
    axis_bytes(&a, 1 * MIB, 1024 * MIB);
    check_axis(&a, 1 * MIB, 1024 * MIB);
    assert_int_equal(a.tick_count, 11);
    assert_string_equal(tick_at(&a, 4 * MIB)->label, "4 MiB");
    assert_string_equal(tick_at(&a, 8 * MIB)->label, "");
    assert_string_equal(tick_at(&a, 1024 * MIB)->label, "1 GiB");
    axis_bytes(&a, 1, 0x1p47);
    check_axis(&a, 1, 0x1p47);
    assert_string_equal(tick_at(&a, 1)->label, "1 B");
    assert_string_equal(tick_at(&a, 0x1p40)->label, "1 TiB");
}

static void budgets_close_together_get_round_steps(void **state) {
    (void)state;
    axis a;
    axis_bytes(&a, 10 * MIB, 20 * MIB);
    check_axis(&a, 10 * MIB, 20 * MIB);
    assert_false(a.log);
    assert_string_equal(a.ticks[0].label, "10 MiB");
    assert_string_equal(tick_at(&a, 12 * MIB)->label, "12 MiB");
    axis_bytes(&a, 1 * MIB, 2 * MIB);
    check_axis(&a, 1 * MIB, 2 * MIB);
    assert_string_equal(tick_at(&a, 1.2 * MIB)->label, "1.2 MiB");
    axis_bytes(&a, 5, 7); /* no fractions of a byte */
    check_axis(&a, 5, 7);
    assert_string_equal(a.ticks[0].label, "5 B");
    assert_int_equal(a.tick_count, 3);
}

static void a_single_budget_stands_in_the_middle(void **state) {
    (void)state;
    axis a;
    axis_bytes(&a, 15 * MIB, 15 * MIB);
    check_axis(&a, 15 * MIB, 15 * MIB);
    assert_true(a.log);
    assert_string_equal(tick_at(&a, 8 * MIB)->label, "8 MiB");
    assert_string_equal(tick_at(&a, 16 * MIB)->label, "16 MiB");
}

static void shares_begin_at_0_where_that_wastes_little(void **state) {
    (void)state;
    axis a;
    axis_percent(&a, 0.38, 0.87);
    check_axis(&a, 38, 87);
    assert_true(a.low == 0 && a.high == 100);
    assert_string_equal(tick_at(&a, 20)->label, "20");
    axis_percent(&a, 0.905, 0.943);
    check_axis(&a, 90.5, 94.3);
    assert_true(a.low == 90 && a.high == 95);
    axis_percent(&a, 0.0012, 0.0031);
    check_axis(&a, 0.12, 0.31);
    assert_true(a.low == 0 && a.high <= 1);
}

static void noise_is_not_blown_up(void **state) {
    (void)state;
    static const double levels[] = {0, 0.004, 0.5, 0.9999, 1};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        axis a;
        axis_percent(&a, levels[i], levels[i]);
        check_axis(&a, levels[i] * 100, levels[i] * 100);
        assert_true(a.high - a.low >= 0.99);
        assert_true(a.low >= 0 && a.high <= 100);
    }
}

static void any_pair_of_ends_gives_an_axis_that_can_be_read(void **state) {
    (void)state;
    uint64_t random = test_seed();
    for (int i = 0; i < 20000; i++) {
        axis a;
        double least = exp2((double)test_below(&random, 4000) / 100),
               factor = exp2((double)test_below(&random, 700) / 100);
        if (least < 64) least = 64; /* a budget is never less */
        least = floor(least);
        double most = floor(least * factor);
        axis_bytes(&a, least, most);
        check_axis(&a, least, most);
        double low = (double)test_below(&random, 1000001) / 1e6;
        double high = low + (1 - low) * (double)test_below(&random, 1000001) / 1e6;
        axis_percent(&a, low, high);
        check_axis(&a, low * 100 + 1e-9, high * 100 - 1e-9);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budgets_that_span_get_powers_of_two),
        cmocka_unit_test(a_wide_span_labels_every_second_or_fifth_power),
        cmocka_unit_test(budgets_close_together_get_round_steps),
        cmocka_unit_test(a_single_budget_stands_in_the_middle),
        cmocka_unit_test(shares_begin_at_0_where_that_wastes_little),
        cmocka_unit_test(noise_is_not_blown_up),
        cmocka_unit_test(any_pair_of_ends_gives_an_axis_that_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
