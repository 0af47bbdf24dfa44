// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "../../tools/replay/curve.c"
#include "../../tools/replay/points.c"

#include <math.h>

#include "testing.h"

static const replay_policy lru = {"lru", NM_CACHE_LRU}, slru = {"slru", NM_CACHE_SLRU};
static const char first[] = "first", second[] = "second";

#define SLICE 100u /* requests */

/* A run that missed one share of the requests in its first half, another in its second. */
static row row_of(const char *name, const replay_policy *policy, uint64_t budget, double early, double late) {
    row r = {.trace = name,
             .plan = {.policy = policy, .budget_bytes = budget},
             .result = {.request_count = RUN_SLICES * SLICE, .object_miss_ratio = (early + late) / 2}};
    for (unsigned i = 0; i < RUN_SLICES; i++) {
        double miss = i < RUN_SLICES / 2 ? early : late;
        r.result.slices[i] = (run_slice){.request_count = SLICE,
                                         .miss_count = (uint64_t)lround(miss * SLICE),
                                         .requested_bytes = 10 * SLICE,
                                         .missed_bytes = 5 * miss * SLICE};
    }
    return r;
}

static void predict(row *r, size_t budget, double miss) {
    r->result.curve[r->result.curve_count++] = (nm_curve_point){
        .budget_bytes = budget, .hit_ratio = 1 - miss, .request_count = (double)r->result.request_count};
}

static void a_prediction_stands_beside_the_run_of_its_trace_policy_and_budget(void **state) {
    (void)state;
    row rows[] = {
        row_of(first, &lru, 100, 0.5, 0.4),  row_of(first, &slru, 100, 0.6, 0.5), row_of(first, &lru, 200, 0.3, 0.2),
        row_of(second, &lru, 200, 0.9, 0.9), row_of(first, &slru, 50, 0.8, 0.8),  row_of(first, &lru, 800, 0.1, 0.1),
    };
    predict(&rows[0], 50, 0.7);
    predict(&rows[0], 100, 0.5);
    predict(&rows[0], 200, 0.2);
    predict(&rows[0], 800, 0.9);
    predict(&rows[1], 50, 0.7);
    rows[4].plan.for_curve = true;
    predict(&rows[4], 100, 0.1); /* of a run that was not asked for: not shown */
    size_t count;
    bool no_memory;
    curve_line *lines = curve_lines(rows, sizeof rows / sizeof *rows, &count, &no_memory);
    assert_non_null(lines);
    assert_false(no_memory);
    assert_int_equal(count, 5);
    assert_null(lines[0].measured); /* only slru was run with 50 */
    assert_ptr_equal(lines[1].measured, &rows[0]);
    assert_ptr_equal(lines[2].measured, &rows[2]);
    assert_ptr_equal(lines[3].measured, &rows[5]);
    assert_ptr_equal(lines[4].measured, &rows[4]);
    assert_ptr_equal(lines[4].from, &rows[1]);
    assert_true(fabs(lines[2].object_miss_ratio - 0.25) < 1e-6); /* each request counts as much */

    curve_error e = curve_error_of(lines, count);
    assert_int_equal(e.compared, 2); /* not its own budget, which was measured, and not one of 8 times that */
    assert_true(fabs(e.mean - (0.05 + 0.1) / 2) < 1e-6 && fabs(e.worst - 0.1) < 1e-6);
    free(lines);
}

static void the_latest_requests_count_most(void **state) {
    (void)state;
    row r = row_of(first, &lru, 100, 1, 0);
    double object, byte, requests = RUN_SLICES * SLICE;
    curve_weigh(&r.result, requests, &object, &byte);
    assert_true(fabs(object - 0.5) < 1e-6 && fabs(byte - 0.25) < 1e-6);
    /* With a half-life of half the run its requests weigh half / log(2) * (1 - 1 / 4), and those of its first half a third. */
    curve_weigh(&r.result, requests / 2 / log(2) * 0.75, &object, &byte);
    assert_true(fabs(object - 1.0 / 3) < 1e-6 && fabs(byte - 1.0 / 6) < 1e-6);
    curve_weigh(&r.result, requests / 100, &object, &byte);
    assert_true(object < 1e-6);
    curve_weigh(&r.result, requests * 2, &object, &byte); /* more than there are: as many */
    assert_true(fabs(object - 0.5) < 1e-3);
    r.result = (run_result){0};
    curve_weigh(&r.result, 0, &object, &byte);
    assert_true(object == 0 && byte == 0);
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
        cmocka_unit_test(the_latest_requests_count_most),
        cmocka_unit_test(without_predictions_there_is_nothing_to_compare),
        cmocka_unit_test(a_curve_adds_the_budgets_that_are_not_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
