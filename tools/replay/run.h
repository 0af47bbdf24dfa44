// SPDX-License-Identifier: Apache-2.0 OR MIT
/* run.h: one replay of one trace with one policy and one budget, through the whole library. */
#ifndef REPLAY_RUN_H
#define REPLAY_RUN_H

#include <nebula/memory.h>

#include "options.h"
#include "trace.h"

/* What the root scope may hold beyond the cache's budget: the pool's buffers, the scopes and arenas of the requests under
 * way, the library's own bookkeeping and idle blocks. */
#define RUN_ALLOWANCE_BYTES        ((size_t)4 << 20)
#define RUN_THREAD_ALLOWANCE_BYTES ((size_t)1 << 20)

#define RUN_TEXT_BYTES 256

#define RUN_CURVE_POINTS 16 /* more than nm_cache_curve gives */

/* A part of the trace, of RUN_SLICES with equally many lines. */
typedef struct run_slice {
    uint64_t request_count, miss_count;
    double requested_bytes, missed_bytes;
} run_slice;
#define RUN_SLICES 256

typedef struct run_plan {
    const replay_policy *policy;
    uint64_t budget_bytes;
    const replay_objective *objective;
    unsigned shard_count; /* 0: the cache's own choice */
    unsigned thread_count;
    uint64_t default_size;
    bool all_ones;          /* the default size stands for all sizes of the trace */
    uint64_t request_count; /* what the trace must hold */
    uint64_t line_count;    /* requests and broken lines */
    bool for_curve;         /* not asked for, but to be compared with a prediction */
    bool quiet;
} run_plan;

typedef struct run_result {
    bool failed; /* the run did not come to its end: `why` says it, and the figures up to `leaks` are not valid */
    uint64_t request_count;
    double object_miss_ratio;
    double byte_miss_ratio;
    uint64_t evictions;
    uint64_t rejections; /* objects that were missed and not taken in */
    uint64_t used_bytes; /* by the cache, at the end */
    uint64_t granted_bytes;
    uint64_t rss_peak_bytes;
    double requests_per_second;
    uint64_t p50_ns, p99_ns, p999_ns;
    size_t curve_count;
    nm_curve_point curve[RUN_CURVE_POINTS]; /* what the cache predicted for other budgets, at the end */
    run_slice slices[RUN_SLICES];           /* in the trace's order */
    uint64_t leaks;
    uint64_t broken_laws;
    uint64_t held_bytes;        /* by the root scope when all below it was closed */
    uint64_t peak_bytes;        /* of the root scope */
    char why[RUN_TEXT_BYTES];   /* the first failure or broken law; "" if none */
    nm_leak_report leak_report; /* the first one with a leak */
} run_result;

/* The options with which the plan opens its cache. */
nm_cache_options run_cache_options(const run_plan *plan);

/* Replays the trace, and takes the tree down again whatever happened. */
void run_replay(const run_plan *plan, trace *t, run_result *out);

#endif
