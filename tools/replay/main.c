// SPDX-License-Identifier: Apache-2.0 OR MIT
/* nebula-replay: replays request traces through the whole library. See README.md beside this file, and the manual page. */
#include "footprint.h"
#include "options.h"
#include "points.h"
#include "report.h"
#include "run.h"
#include "units.h"

/* A cache of fewer entries than this says nothing about a policy. */
#define LEAST_ENTRIES 10

static uint64_t budget_of(const replay_budget *budget, uint64_t footprint_bytes) {
    if (budget->percent == 0) return budget->bytes;
    double bytes = (double)footprint_bytes * (budget->percent / 100.0);
    return bytes < (double)INT64_MAX ? (uint64_t)bytes : INT64_MAX;
}

/* Says in `why` why a point makes no sense. */
static bool makes_sense(const run_plan *plan, const footprint *f, char *why, size_t why_bytes) {
    char bytes[UNITS_TEXT_BYTES];
    nm_cache_options cache = run_cache_options(plan);
    size_t least_bytes = nm_cache_min_bytes(&cache);
    if (plan->budget_bytes < least_bytes)
        snprintf(why, why_bytes, "below the cache's least budget of %s (%zu bytes)", units_bytes(bytes, least_bytes),
                 least_bytes);
    else if (plan->budget_bytes > OPTIONS_BUDGET_MAX)
        snprintf(why, why_bytes, "above the largest budget of %s", units_bytes(bytes, OPTIONS_BUDGET_MAX));
    else if (plan->budget_bytes / LEAST_ENTRIES < f->average_bytes)
        snprintf(why, why_bytes, "below %d average entries of %s", LEAST_ENTRIES, units_bytes(bytes, f->average_bytes));
    else
        return true;
    return false;
}

/* Runs a point, or says why not. */
static void replay_point(report *r, trace *t, const footprint *f, const run_plan *plan, run_result *out) {
    char why[128];
    *out = (run_result){0};
    if (makes_sense(plan, f, why, sizeof why)) {
        run_replay(plan, t, out);
        report_run(r, t->name, plan, out);
    } else {
        report_skip(r, t->name, plan, why);
    }
}

static void plan_asked(points *list, const replay_options *o, const footprint *f) {
    for (size_t b = 0; b < o->budget_count; b++) {
        for (size_t p = 0; p < o->policy_count; p++) {
            run_plan plan = {
                .policy = o->policies[p],
                .budget_bytes = budget_of(&o->budgets[b], f->bytes),
                .objective = o->objective,
                .shard_count = o->shard_count,
                .thread_count = o->thread_count,
                .default_size = o->default_size,
                .all_ones = f->all_ones,
                .request_count = f->request_count,
                .line_count = f->request_count + f->bad_count,
                .quiet = o->quiet,
            };
            points_add(list, &plan);
        }
    }
}

/* With --curve the list grows while it is worked off: by the budgets of which a cache has just told. */
static void replay_points(report *r, trace *t, const footprint *f) {
    points list = {0};
    plan_asked(&list, r->options, f);
    report_trace(r, t, f);
    for (size_t i = 0; i < list.count; i++) {
        run_plan plan = list.plans[i];
        run_result result;
        replay_point(r, t, f, &plan, &result);
        if (r->options->curve && !plan.for_curve) points_add_curve(&list, &plan, &result);
    }
    report_curve(r, t->name);
    if (list.no_memory) report_bad_trace(r, t->name, "out of memory for the list of its runs");
    points_clear(&list);
}

static void replay_trace(report *r, const char *path) {
    const replay_options *o = r->options;
    trace t;
    bool ok = path != NULL ? trace_open(&t, path, o->format) : trace_open_builtin(&t, o->request_count, o->seed);
    if (!ok) {
        report_bad_trace(r, path != NULL ? path : t.name, t.error);
        return;
    }
    progress bar;
    progress_start(&bar, o->quiet, 0, t.name, "counting");
    nm_cache_options cache = nm_cache_options_init();
    cache.policy = o->policies[0]->policy;
    cache.shard_count = o->shard_count;
    footprint f;
    ok = footprint_measure(&f, &t, &cache, o->default_size, o->skip_bad, &bar);
    progress_end(&bar);
    if (ok)
        replay_points(r, &t, &f);
    else
        report_bad_trace(r, path != NULL ? path : t.name, t.error);
    trace_close(&t);
}

int main(int argc, char **argv) {
    replay_options options;
    options_parse(&options, argc, argv);
    report r;
    if (!report_open(&r, &options)) return 1;
    if (options.trace_count == 0) replay_trace(&r, NULL);
    for (size_t i = 0; i < options.trace_count; i++) replay_trace(&r, options.traces[i]);
    return report_close(&r);
}
