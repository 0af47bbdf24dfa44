// SPDX-License-Identifier: Apache-2.0 OR MIT
/* options.h: the command line. */
#ifndef REPLAY_OPTIONS_H
#define REPLAY_OPTIONS_H

#include <nebula/cache.h>

#include "record.h"

#define OPTIONS_LIST_MAX    64 /* entries of a list */
#define OPTIONS_THREADS_MAX 256
#define OPTIONS_SHARDS_MAX  256 /* what nm_cache_options takes */

/* The largest budget: the addresses that x86-64 gives a process. */
#define OPTIONS_BUDGET_MAX ((uint64_t)128 << 40)

typedef struct replay_policy {
    const char *name;
    nm_cache_policy policy;
} replay_policy;

typedef struct replay_objective {
    const char *name;
    nm_cache_objective objective;
} replay_objective;

typedef struct replay_budget {
    double percent; /* of the trace's footprint; 0: the bytes are given */
    uint64_t bytes;
} replay_budget;

typedef struct replay_options {
    const replay_policy *policies[OPTIONS_LIST_MAX];
    size_t policy_count;
    replay_budget budgets[OPTIONS_LIST_MAX];
    size_t budget_count;
    const replay_objective *objective;
    unsigned shard_count; /* 0: the cache's own choice */
    unsigned thread_count;
    const char *csv_path; /* NULL: none; "-": standard output */
    const char *json_path;
    const char *chart_path;
    bool curve;             /* replay at the budgets that the caches predict for, and compare */
    const char *curve_path; /* NULL: only the table */
    record_format format;
    uint64_t default_size;
    bool skip_bad;
    bool quiet;
    uint64_t seed; /* of the built-in workload */
    uint64_t request_count;
    char **traces; /* of argv; none: the built-in workload */
    size_t trace_count;
} replay_options;

/* True if an output's path is "-". NULL: there is no such output. */
bool options_is_stdout(const char *path);

/* Reads argv. Ends the process itself: with 0 after --help and --version, with 2 and an error line after a usage error. */
void options_parse(replay_options *options, int argc, char **argv);

#endif
