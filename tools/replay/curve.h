// SPDX-License-Identifier: Apache-2.0 OR MIT
/* curve.h: what the caches of the runs predicted for other budgets, beside what was measured there. Pure functions. */
#ifndef REPLAY_CURVE_H
#define REPLAY_CURVE_H

#include "row.h"

typedef struct curve_line {
    const row *from; /* the run whose cache predicted */
    const nm_curve_point *point;
    const row *measured; /* the run of the same trace and policy at the point's budget; NULL: there is none */
    /* Its miss ratios over the requests that the prediction stands for: the latest count most. */
    double object_miss_ratio, byte_miss_ratio;
} curve_line;

/* All predictions of all rows that were asked for (plan.for_curve are not: those are what predictions are compared with), in the
 * rows' order. To be freed; NULL with *line_count = 0: there are none, or no memory (*no_memory). The rows must outlive them. */
curve_line *curve_lines(const row *rows, size_t row_count, size_t *line_count, bool *no_memory);

/* The miss ratios of a run if its last requests count most, as a cache weighs them that predicts (nm_curve_point.request_count is the sum
 * of the weights). 0 where there is nothing to divide by. */
void curve_weigh(const run_result *run, double weights, double *object_miss_ratio, double *byte_miss_ratio);

/* How far predicted object miss ratios lie from measured ones, from 1/4 to 4 times the predicting cache's own budget, and that left out: it
 * was measured. */
typedef struct curve_error {
    size_t compared;
    double mean, worst;
} curve_error;

curve_error curve_error_of(const curve_line *lines, size_t line_count);

#endif
