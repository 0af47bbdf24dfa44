// SPDX-License-Identifier: Apache-2.0 OR MIT
/* export.h: the finished rows as CSV and as JSON, for other programs. */
#ifndef REPLAY_EXPORT_H
#define REPLAY_EXPORT_H

#include "run.h"

typedef struct export_row {
    const char *trace;
    run_plan plan;
    run_result result;
} export_row;

typedef enum export_format { EXPORT_CSV, EXPORT_JSON } export_format;

/* True if `path` could be written now: so that a long replay does not end with rows that nobody gets. Prints the error. */
bool export_check(const char *path);

/* Writes all rows to `path`; "-" is standard output. A file appears whole or not at all: it is written under another name
 * beside its place, and renamed. False: not written, and the error is printed. */
bool export_rows(const char *path, export_format format, const export_row *rows, size_t count);

#endif
