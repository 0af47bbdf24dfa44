// SPDX-License-Identifier: Apache-2.0 OR MIT
/* report.h: what the user sees: the table while it grows, error lines, and the sums of the whole invocation. */
#ifndef REPLAY_REPORT_H
#define REPLAY_REPORT_H

#include <stdio.h>

#include "export.h"
#include "footprint.h"

typedef struct report {
    const replay_options *options;
    FILE *table;
    int name_width;
    bool has_header;
    row *rows; /* finished runs */
    size_t row_count, row_room;
    uint64_t skipped_points;
    uint64_t failures; /* traces that could not be read, runs that did not end, files not written */
    uint64_t bad_lines;
    uint64_t leaks, broken_laws, held_bytes, peak_bytes;
} report;

/* False: an output file cannot be written; said so, and nothing to close. */
bool report_open(report *r, const replay_options *options);

/* A trace was measured. */
void report_trace(report *r, const trace *t, const footprint *f);

/* A trace could not be opened or read. */
void report_bad_trace(report *r, const char *path, const char *why);

/* A point was not run. */
void report_skip(report *r, const char *name, const run_plan *plan, const char *why);

/* All runs of a trace have ended: with --curve, what its caches predicted beside what was measured. */
void report_curve(report *r, const char *name);

/* A run has ended, well or not. `name` must live until the close. */
void report_run(report *r, const char *name, const run_plan *plan, const run_result *result);

/* Prints the last lines and writes the files. The exit status: 0, or 1 if anything failed, leaked or broke. */
int report_close(report *r);

#endif
