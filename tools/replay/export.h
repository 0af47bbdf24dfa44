// SPDX-License-Identifier: Apache-2.0 OR MIT
/* export.h: the finished rows as CSV and as JSON, for other programs. */
#ifndef REPLAY_EXPORT_H
#define REPLAY_EXPORT_H

#include "curve.h"
#include "row.h"

typedef enum export_format { EXPORT_CSV, EXPORT_JSON } export_format;

/* Write all rows to `path`; "-" is standard output. Like output_write: whole or not at all; false: the error is printed. */
bool export_rows(const char *path, export_format format, const row *rows, size_t count);
bool export_curve(const char *path, const curve_line *lines, size_t count);

#endif
