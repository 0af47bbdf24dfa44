// SPDX-License-Identifier: Apache-2.0 OR MIT
/* trace.h: where requests come from: a file (plain, .gz, .xz, .zst), standard input, or the built-in workload.
 *
 * A trace is streamed, never held in memory, and can be read any number of times; what cannot be read twice (a pipe) is
 * first copied to an unlinked temporary file. One thread at a time. */
#ifndef REPLAY_TRACE_H
#define REPLAY_TRACE_H

#include "record.h"

#define TRACE_ERROR_BYTES 320

typedef struct trace {
    const char *name;              /* for tables: the last part of the path, "-" or "built-in" */
    record_format format;          /* of its lines */
    char error[TRACE_ERROR_BYTES]; /* says why, after a refusal */
    struct trace_source *source;
} trace;

typedef struct trace_line {
    const char *text; /* without newline; lives until the next call; not terminated */
    size_t len;       /* RECORD_LINE_MAX + 1 stands for all longer lines */
    uint64_t number;  /* line or record, from 1 */
} trace_line;

typedef enum trace_status { TRACE_LINE, TRACE_END, TRACE_ERROR } trace_status;

/* Opens a file ("-": standard input), which `path` must outlive, or the built-in workload. False: *t holds the error, and
 * needs no close. Neither reads the trace, but for the copy of a pipe. */
bool trace_open(trace *t, const char *path, record_format format);
bool trace_open_builtin(trace *t, uint64_t request_count, uint64_t seed);

/* Back to the first line; needed before the first. False: the error says why. */
bool trace_rewind(trace *t);

/* The next line. TRACE_ERROR: unreadable or damaged; the error says where and why. O(line). */
trace_status trace_next(trace *t, trace_line *out);

void trace_close(trace *t);

#endif
