// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "../../tools/replay/curve.c"
#include "../../tools/replay/points.c"

#include <math.h>

#include "testing.h"

static const replay_policy lru = {"lru", NM_CACHE_LRU}, slru = {"slru", NM_CACHE_SLRU};
static const char first[] = "first", second[] = "second";

static row row_of(const char *name, const replay_policy *policy, uint64_t budget, double miss, double late) {
    return (row){.trace = name,
                 .plan = {.policy = policy, .budget_bytes = budget},
                 .result = {.object_miss_ratio = miss, .late_object_miss_ratio = late}};
}

static void predict(row *r, size_t budget, double miss) {
    r->result.curve[r->result.curve_count++] = (nm_curve_point){.budget_bytes = budget, .hit_ratio = 1 - miss};
}

static void a_prediction_stands_beside_the_run_of_its_trace_policy_and_budget(void **state) {
    (void)state;
    row rows[] = {
        row_of(first, &lru, 100, 0.5, 0.4),  row_of(first, &slru, 100, 0.6, 0.5), row_of(first, &lru, 200, 0.3, 0.2),
        row_of(second, &lru, 200, 0.9, 0.9), row_of(first, &slru, 50, 0.8, 0.8),
    };
    predict(&rows[0], 50, 0.7);
    predict(&rows[0], 100, 0.5);
    predict(&rows[0], 200, 0.2);
    predict(&rows[1], 50, 0.7);
    rows[4].plan.for_curve = true;
    predict(&rows[4], 100, 0.1); /* of a run that was not asked for: not shown */
    size_t count;
    bool no_memory;
    curve_line *lines = curve_lines(rows, sizeof rows / sizeof *rows, &count, &no_memory);
    assert_non_null(lines);
    assert_false(no_memory);
    assert_int_equal(count, 4);
    assert_null(lines[0].measured); /* only slru was run with 50 */
    assert_ptr_equal(lines[1].measured, &rows[0]);
    assert_ptr_equal(lines[2].measured, &rows[2]);
    assert_ptr_equal(lines[3].measured, &rows[4]);
    assert_ptr_equal(lines[3].from, &rows[1]);

    curve_error e = curve_error_of(lines, count);
    assert_int_equal(e.compared, 3);
    assert_true(fabs(e.mean - (0 + 0.1 + 0.1) / 3) < 1e-9 && fabs(e.worst - 0.1) < 1e-9);
    assert_true(fabs(e.late_mean - (0.1 + 0 + 0.1) / 3) < 1e-9 && fabs(e.late_worst - 0.1) < 1e-9);
    free(lines);
}

static void without_predictions_there_is_nothing_to_compare(void **state) {
    (void)state;
    row rows[] = {row_of(first, &lru, 100, 0.5, 0.4)};
    size_t count = 9;
    bool no_memory = true;
    assert_null(curve_lines(rows, 1, &count, &no_memory));
    assert_int_equal(count, 0);
    assert_false(no_memory);
    assert_int_equal(curve_error_of(NULL, 0).compared, 0);
}

static void a_curve_adds_the_budgets_that_are_not_planned(void **state) {
    (void)state;
    points list = {0};
    run_plan plan = {.policy = &lru, .budget_bytes = 100, .thread_count = 3};
    points_add(&list, &plan);
    plan.budget_bytes = 200;
    points_add(&list, &plan);
    plan.policy = &slru;
    points_add(&list, &plan);
    row r = row_of(first, &lru, 100, 0.5, 0.4);
    for (size_t budget = 25; budget <= 200; budget *= 2) predict(&r, budget, 0.5);
    run_plan from = list.plans[0];
    points_add_curve(&list, &from, &r.result);
    points_add_curve(&list, &from, &r.result); /* the second time adds nothing */
    assert_int_equal(list.count, 5);
    assert_int_equal(list.plans[3].budget_bytes, 25);
    assert_int_equal(list.plans[4].budget_bytes, 50);
    for (size_t i = 0; i < list.count; i++) {
        assert_true(list.plans[i].for_curve == (i >= 3));
        assert_int_equal(list.plans[i].thread_count, 3);
    }
    assert_ptr_equal(list.plans[4].policy, &lru);
    for (uint64_t i = 0; i < 1000; i++) {
        plan.budget_bytes = 1000 + i;
        points_add(&list, &plan);
    }
    assert_int_equal(list.count, 1005);
    assert_int_equal(list.plans[1004].budget_bytes, 1999);
    assert_false(list.no_memory);
    points_clear(&list);
    assert_null(list.plans);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prediction_stands_beside_the_run_of_its_trace_policy_and_budget),
        cmocka_unit_test(without_predictions_there_is_nothing_to_compare),
        cmocka_unit_test(a_curve_adds_the_budgets_that_are_not_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
