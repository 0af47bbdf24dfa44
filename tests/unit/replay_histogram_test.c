// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "../../tools/replay/histogram.c"

#include "testing.h"

static histogram *new_histogram(void) {
    histogram *h = calloc(1, sizeof *h);
    assert_non_null(h);
    return h;
}

static void an_empty_one_answers_0(void **state) {
    (void)state;
    histogram *h = new_histogram();
    assert_int_equal(histogram_quantile(h, 0.5), 0);
    free(h);
}

static void small_values_are_exact(void **state) {
    (void)state;
    histogram *h = new_histogram();
    for (uint64_t v = 1; v <= 1000; v++) histogram_add(h, v);
    assert_int_equal(histogram_quantile(h, 0.0), 1);
    assert_int_equal(histogram_quantile(h, 0.5), 500);
    assert_int_equal(histogram_quantile(h, 0.99), 990);
    assert_int_equal(histogram_quantile(h, 0.999), 999);
    assert_int_equal(histogram_quantile(h, 1.0), 1000);
    free(h);
}

/* Every value lies in a bucket of its own order: not below the value before it, not wider than 1/1024. */
static void buckets_meet_without_gap_or_overlap(void **state) {
    (void)state;
    uint64_t first = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t last = last_value_of(i);
        assert_true(last >= first);
        assert_int_equal(index_of(first), i);
        assert_int_equal(index_of(last), i);
        assert_true((last - first) * 1024 <= first);
        first = last + 1;
    }
    assert_int_equal(first, VALUE_MAX + 1);
}

static void a_quantile_is_right_to_three_digits(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    static uint64_t values[10000];
    histogram *h = new_histogram();
    for (size_t i = 0; i < 10000; i++) {
        values[i] = test_random(&seed) >> (22 + test_below(&seed, 40));
        histogram_add(h, values[i]);
    }
    for (size_t i = 1; i < 10000; i++)
        for (size_t j = i; j > 0 && values[j - 1] > values[j]; j--) {
            uint64_t swap = values[j];
            values[j] = values[j - 1];
            values[j - 1] = swap;
        }
    static const struct {
        double q;
        size_t rank;
    } cases[] = {{0.5, 5000}, {0.99, 9900}, {0.999, 9990}, {1.0, 10000}};
    for (size_t i = 0; i < 4; i++) {
        uint64_t exact = values[cases[i].rank - 1], got = histogram_quantile(h, cases[i].q);
        assert_true(got >= exact);
        assert_true(got - exact <= exact / 1000);
    }
    free(h);
}

static void merging_is_adding_all_to_one(void **state) {
    (void)state;
    histogram *a = new_histogram(), *b = new_histogram(), *both = new_histogram();
    for (uint64_t v = 1; v < 5000000; v += v / 7 + 1) {
        histogram_add(v % 2 == 0 ? a : b, v);
        histogram_add(both, v);
    }
    histogram_merge(a, b);
    assert_memory_equal(a, both, sizeof *a);
    free(a);
    free(b);
    free(both);
}

static void a_value_beyond_the_range_counts_as_the_largest(void **state) {
    (void)state;
    histogram *h = new_histogram();
    histogram_add(h, UINT64_MAX);
    histogram_add(h, 0);
    assert_int_equal(histogram_quantile(h, 1.0), VALUE_MAX);
    assert_int_equal(histogram_quantile(h, 0.5), 0);
    assert_int_equal(h->count, 2);
    free(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_answers_0),
        cmocka_unit_test(small_values_are_exact),
        cmocka_unit_test(buckets_meet_without_gap_or_overlap),
        cmocka_unit_test(a_quantile_is_right_to_three_digits),
        cmocka_unit_test(merging_is_adding_all_to_one),
        cmocka_unit_test(a_value_beyond_the_range_counts_as_the_largest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
