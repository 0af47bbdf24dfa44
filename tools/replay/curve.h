// SPDX-License-Identifier: Apache-2.0 OR MIT
/* curve.h: what the caches of the runs predicted for other budgets, beside what was measured there. Pure functions. */
#ifndef REPLAY_CURVE_H
#define REPLAY_CURVE_H

#include "row.h"

typedef struct curve_line {
    const row *from; /* the run whose cache predicted */
    const nm_curve_point *point;
    const row *measured; /* the run of the same trace and policy at the point's budget; NULL: there is none */
} curve_line;

/* All predictions of all rows that were asked for (plan.for_curve are not: those are what predictions are compared with), in the
 * rows' order. To be freed; NULL with *line_count = 0: there are none, or no memory (*no_memory). The rows must outlive them. */
curve_line *curve_lines(const row *rows, size_t row_count, size_t *line_count, bool *no_memory);

/* How far predicted object miss ratios lie from measured ones. */
typedef struct curve_error {
    size_t compared;
    double mean, worst;           /* over the whole run */
    double late_mean, late_worst; /* over its second half */
} curve_error;

curve_error curve_error_of(const curve_line *lines, size_t line_count);

#endif
