// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "curve.h"

#include <math.h>
#include <stdlib.h>

static const row *find_measured(const row *rows, size_t row_count, const row *from, size_t budget_bytes) {
    for (size_t i = 0; i < row_count; i++) {
        const run_plan *p = &rows[i].plan;
        if (rows[i].trace == from->trace && p->policy == from->plan.policy && p->budget_bytes == budget_bytes)
            return &rows[i];
    }
    return NULL;
}

curve_line *curve_lines(const row *rows, size_t row_count, size_t *line_count, bool *no_memory) {
    size_t wanted = 0;
    for (size_t i = 0; i < row_count; i++)
        if (!rows[i].plan.for_curve) wanted += rows[i].result.curve_count;
    *line_count = 0;
    *no_memory = false;
    if (wanted == 0) return NULL;
    curve_line *lines = calloc(wanted, sizeof *lines);
    if (lines == NULL) {
        *no_memory = true;
        return NULL;
    }
    for (size_t i = 0; i < row_count; i++) {
        const row *from = &rows[i];
        if (from->plan.for_curve) continue;
        for (size_t k = 0; k < from->result.curve_count; k++) {
            const nm_curve_point *point = &from->result.curve[k];
            lines[(*line_count)++] = (curve_line){
                .from = from,
                .point = point,
                .measured = find_measured(rows, row_count, from, point->budget_bytes),
            };
        }
    }
    return lines;
}

curve_error curve_error_of(const curve_line *lines, size_t line_count) {
    curve_error e = {0};
    for (size_t i = 0; i < line_count; i++) {
        if (lines[i].measured == NULL) continue;
        double predicted = 1 - lines[i].point->hit_ratio;
        double whole = fabs(predicted - lines[i].measured->result.object_miss_ratio);
        double late = fabs(predicted - lines[i].measured->result.late_object_miss_ratio);
        e.compared++;
        e.mean += whole;
        e.late_mean += late;
        e.worst = fmax(e.worst, whole);
        e.late_worst = fmax(e.late_worst, late);
    }
    if (e.compared > 0) {
        e.mean /= (double)e.compared;
        e.late_mean /= (double)e.compared;
    }
    return e;
}
