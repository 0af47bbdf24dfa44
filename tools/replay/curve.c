// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "curve.h"

#include <math.h>
#include <stdlib.h>

/* What a request counts so many requests before the end, with that half-life; over a slice on the mean. */
static double mean_weight(double from, double to, double half_life) {
    double rate = log(2) / half_life, width = (to - from) * rate;
    return width > 1e-9 ? exp(-from * rate) * -expm1(-width) / width : exp(-from * rate);
}

/* The half-life at which so many requests have these weights in all. */
static double half_life_of(double requests, double weights) {
    double low = 1e-3, high = 1e6 * requests + 1;
    for (int i = 0; i < 200; i++) {
        double middle = sqrt(low * high);
        if (mean_weight(0, requests, middle) * requests < weights)
            low = middle;
        else
            high = middle;
    }
    return high;
}

void curve_weigh(const run_result *run, double weights, double *object_miss_ratio, double *byte_miss_ratio) {
    double half_life = half_life_of((double)run->request_count, weights), after = 0;
    double requests = 0, misses = 0, bytes = 0, missed_bytes = 0;
    for (unsigned i = RUN_SLICES; i-- > 0;) {
        const run_slice *s = &run->slices[i];
        double weight = mean_weight(after, after + (double)s->request_count, half_life);
        after += (double)s->request_count;
        requests += weight * (double)s->request_count;
        misses += weight * (double)s->miss_count;
        bytes += weight * s->requested_bytes;
        missed_bytes += weight * s->missed_bytes;
    }
    *object_miss_ratio = requests > 0 ? misses / requests : 0;
    *byte_miss_ratio = bytes > 0 ? missed_bytes / bytes : 0;
}

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
            curve_line *line = &lines[(*line_count)++];
            *line = (curve_line){
                .from = from, .point = point, .measured = find_measured(rows, row_count, from, point->budget_bytes)};
            if (line->measured != NULL)
                curve_weigh(&line->measured->result, point->request_count, &line->object_miss_ratio,
                            &line->byte_miss_ratio);
        }
    }
    return lines;
}

/* Budgets are rounded to bytes. */
static bool is_judged(const curve_line *line) {
    double times = (double)line->point->budget_bytes / (double)line->from->plan.budget_bytes;
    return line->measured != NULL && line->measured != line->from && times > 0.24 && times < 4.1;
}

curve_error curve_error_of(const curve_line *lines, size_t line_count) {
    curve_error e = {0};
    for (size_t i = 0; i < line_count; i++) {
        if (!is_judged(&lines[i])) continue;
        double error = fabs(1 - lines[i].point->hit_ratio - lines[i].object_miss_ratio);
        e.compared++;
        e.mean += error;
        e.worst = fmax(e.worst, error);
    }
    if (e.compared > 0) e.mean /= (double)e.compared;
    return e;
}
