// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "report.h"

#include <stdlib.h>
#include <string.h>

#include "chart.h"
#include "curve.h"
#include "output.h"
#include "units.h"

static int name_width(const replay_options *options) {
    size_t widest = strlen("built-in");
    for (size_t i = 0; i < options->trace_count; i++) {
        const char *slash = strrchr(options->traces[i], '/');
        size_t len = strlen(slash != NULL ? slash + 1 : options->traces[i]);
        if (len > widest) widest = len;
    }
    return widest > 40 ? 40 : (int)widest;
}

static bool complain_of_chart(const char *why) {
    fprintf(stderr, "nebula-replay: chart: %s\n", why);
    return false;
}

bool report_open(report *r, const replay_options *options) {
    const char *const outputs[] = {options->csv_path, options->json_path, options->chart_path, options->curve_path};
    *r = (report){.options = options, .table = stdout, .name_width = name_width(options)};
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
        if (options_is_stdout(outputs[i])) r->table = stderr;
        if (outputs[i] != NULL && !output_check(outputs[i])) return false;
    }
    char why[GNUPLOT_WHY_BYTES];
    return options->chart_path == NULL || gnuplot_check(why) || complain_of_chart(why);
}

void report_bad_trace(report *r, const char *path, const char *why) {
    fflush(r->table);
    fprintf(stderr, "nebula-replay: %s: %s\n", strcmp(path, "-") == 0 ? "standard input" : path, why);
    r->failures++;
}

void report_trace(report *r, const trace *t, const footprint *f) {
    char bytes[UNITS_TEXT_BYTES], average[UNITS_TEXT_BYTES], size[UNITS_TEXT_BYTES];
    fprintf(r->table, "# %s: %llu requests of %llu keys, footprint %s, average entry %s", t->name,
            (unsigned long long)f->request_count, (unsigned long long)f->key_count, units_bytes(bytes, f->bytes),
            units_bytes(average, f->average_bytes));
    if (r->options->trace_count == 0) fprintf(r->table, ", seed %llu", (unsigned long long)r->options->seed);
    if (f->all_ones) fprintf(r->table, ", all sizes are 1: taken as %s", units_bytes(size, r->options->default_size));
    if (f->bad_count > 0) fprintf(r->table, ", %llu broken lines skipped", (unsigned long long)f->bad_count);
    fputc('\n', r->table);
    fflush(r->table);
    r->bad_lines += f->bad_count;
}

static void print_header(report *r) {
    if (r->has_header) return;
    r->has_header = true;
    fprintf(r->table, "%-*s %-8s %9s %9s %7s %7s %9s %8s %9s %9s %9s %7s %8s %8s %8s %5s\n", r->name_width, "trace",
            "policy", "budget", "requests", "miss", "byte m.", "evicted", "rejected", "used", "granted", "rss peak",
            "req/s", "p50", "p99", "p999", "leaks");
}

static void print_point(report *r, const char *name, const run_plan *plan) {
    char budget[UNITS_TEXT_BYTES];
    print_header(r);
    fprintf(r->table, "%-*s %-8s %9s ", r->name_width, name, plan->policy->name,
            units_bytes(budget, plan->budget_bytes));
}

void report_skip(report *r, const char *name, const run_plan *plan, const char *why) {
    print_point(r, name, plan);
    fprintf(r->table, "skipped: %s\n", why);
    fflush(r->table);
    r->skipped_points++;
}

static void keep_row(report *r, const char *name, const run_plan *plan, const run_result *result) {
    if (r->row_count == r->row_room) {
        size_t room = r->row_room == 0 ? 64 : r->row_room * 2;
        row *rows = realloc(r->rows, room * sizeof *rows);
        if (rows == NULL) {
            report_bad_trace(r, name, "out of memory for its row");
            return;
        }
        r->rows = rows;
        r->row_room = room;
    }
    r->rows[r->row_count++] = (row){.trace = name, .plan = *plan, .result = *result};
}

static void print_figures(report *r, const run_result *result) {
    char used[UNITS_TEXT_BYTES], granted[UNITS_TEXT_BYTES], rss[UNITS_TEXT_BYTES], rate[UNITS_TEXT_BYTES];
    char p50[UNITS_TEXT_BYTES], p99[UNITS_TEXT_BYTES], p999[UNITS_TEXT_BYTES];
    fprintf(r->table, "%9llu %7.4f %7.4f %9llu %8llu %9s %9s %9s %7s %8s %8s %8s %5llu\n",
            (unsigned long long)result->request_count, result->object_miss_ratio, result->byte_miss_ratio,
            (unsigned long long)result->evictions, (unsigned long long)result->rejections,
            units_bytes(used, result->used_bytes), units_bytes(granted, result->granted_bytes),
            units_bytes(rss, result->rss_peak_bytes), units_rate(rate, result->requests_per_second),
            units_duration(p50, result->p50_ns), units_duration(p99, result->p99_ns),
            units_duration(p999, result->p999_ns), (unsigned long long)result->leaks);
}

static void explain(const char *name, const run_plan *plan, const run_result *result) {
    fprintf(stderr, "nebula-replay: %s, %s, %llu bytes: %s%s\n", name, plan->policy->name,
            (unsigned long long)plan->budget_bytes, result->failed ? "" : "law broken: ", result->why);
}

void report_run(report *r, const char *name, const run_plan *plan, const run_result *result) {
    print_point(r, name, plan);
    if (result->failed)
        fprintf(r->table, "failed\n");
    else
        print_figures(r, result);
    fflush(r->table);
    if (result->why[0] != '\0') explain(name, plan, result);
    if (result->leaks > 0) nm_leak_report_print(&result->leak_report, stderr);

    if (result->failed)
        r->failures++;
    else
        keep_row(r, name, plan, result);
    r->leaks += result->leaks;
    r->broken_laws += result->broken_laws;
    r->held_bytes += result->held_bytes;
    if (result->peak_bytes > r->peak_bytes) r->peak_bytes = result->peak_bytes;
}

/* ---- curves --------------------------------------------------------------------------------------------------------- */

static void print_curve_line(report *r, const char *name, const curve_line *line) {
    char from[UNITS_TEXT_BYTES], budget[UNITS_TEXT_BYTES];
    const nm_curve_point *point = line->point;
    fprintf(r->table, "%-*s %-8s %9s %9s", r->name_width, name, line->from->plan.policy->name,
            units_bytes(from, line->from->plan.budget_bytes), units_bytes(budget, point->budget_bytes));
    if (line->measured != NULL)
        fprintf(r->table, " %9.4f %8.4f %8.4f %9.4f %8.4f %8.4f\n", 1 - point->hit_ratio, line->object_miss_ratio,
                line->measured->result.object_miss_ratio, 1 - point->byte_hit_ratio, line->byte_miss_ratio,
                line->measured->result.byte_miss_ratio);
    else
        fprintf(r->table, " %9.4f %8s %8s %9.4f %8s %8s\n", 1 - point->hit_ratio, "-", "-", 1 - point->byte_hit_ratio,
                "-", "-");
}

static void print_curve(report *r, const char *name, const curve_line *lines, size_t count) {
    fprintf(r->table, "# what the caches predicted for other budgets, and what was measured over the requests that "
                      "this stands for: the "
                      "latest most; whole: over the trace\n");
    fprintf(r->table, "%-*s %-8s %9s %9s %9s %8s %8s %9s %8s %8s\n", r->name_width, "trace", "policy", "cache of",
            "budget", "predicted", "miss", "whole", "predicted", "byte m.", "whole");
    for (size_t i = 0; i < count; i++) print_curve_line(r, name, &lines[i]);
    curve_error e = curve_error_of(lines, count);
    if (e.compared > 0)
        fprintf(
            r->table,
            "# %zu predictions of object misses at 1/4 to 4 times the budget: off by %.4f on the mean, %.4f at most\n",
            e.compared, e.mean, e.worst);
}

void report_curve(report *r, const char *name) {
    if (!r->options->curve) return;
    size_t first = r->row_count, count;
    while (first > 0 && r->rows[first - 1].trace == name) first--;
    bool no_memory;
    curve_line *lines = curve_lines(r->rows + first, r->row_count - first, &count, &no_memory);
    if (no_memory)
        report_bad_trace(r, name, "out of memory for its curve");
    else if (count > 0)
        print_curve(r, name, lines, count);
    else if (r->row_count > first)
        fprintf(r->table, "# %s: no cache told of other budgets: too few requests, or too small for samples\n", name);
    fflush(r->table);
    free(lines);
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

static void print_sums(report *r) {
    char peak[UNITS_TEXT_BYTES];
    fprintf(r->table, "# %zu runs, %u %s, objective %s; %llu failed, %llu points skipped, %llu broken lines skipped\n",
            r->row_count, r->options->thread_count, r->options->thread_count == 1 ? "thread" : "threads",
            r->options->objective->name, (unsigned long long)r->failures, (unsigned long long)r->skipped_points,
            (unsigned long long)r->bad_lines);
    fprintf(r->table, "# leaks: %llu, broken laws: %llu\n", (unsigned long long)r->leaks,
            (unsigned long long)r->broken_laws);
    fprintf(r->table, "# root scope: %llu bytes held at the end, peak %llu bytes (%s)\n",
            (unsigned long long)r->held_bytes, (unsigned long long)r->peak_bytes, units_bytes(peak, r->peak_bytes));
}

static bool write_text(FILE *to, const void *what) { return fputs(what, to) != EOF; }

static bool write_chart(const report *r) {
    char why[GNUPLOT_WHY_BYTES];
    char *svg = chart_draw(r->rows, r->row_count, why);
    if (svg == NULL) return complain_of_chart(why);
    bool ok = output_write(r->options->chart_path, write_text, svg);
    free(svg);
    return ok;
}

static bool write_curve(const report *r) {
    size_t count;
    bool no_memory;
    curve_line *lines = curve_lines(r->rows, r->row_count, &count, &no_memory);
    bool ok = !no_memory && export_curve(r->options->curve_path, lines, count);
    if (no_memory) fprintf(stderr, "nebula-replay: %s: out of memory\n", r->options->curve_path);
    free(lines);
    return ok;
}

static void write_files(report *r) {
    const replay_options *o = r->options;
    if (o->csv_path != NULL && !export_rows(o->csv_path, EXPORT_CSV, r->rows, r->row_count)) r->failures++;
    if (o->json_path != NULL && !export_rows(o->json_path, EXPORT_JSON, r->rows, r->row_count)) r->failures++;
    if (o->curve_path != NULL && !write_curve(r)) r->failures++;
    if (o->chart_path != NULL && !write_chart(r)) r->failures++;
}

int report_close(report *r) {
    print_sums(r);
    bool table_ok = fflush(r->table) == 0 && ferror(r->table) == 0;
    if (!table_ok) report_bad_trace(r, "standard output", "cannot write the table");
    /* Where every run failed, what an earlier invocation wrote is worth more than a file without rows. */
    if (r->row_count > 0 || r->failures == 0) write_files(r);
    free(r->rows);
    r->rows = NULL;
    return r->failures > 0 || r->leaks > 0 || r->broken_laws > 0 || r->held_bytes > 0 ? 1 : 0;
}
