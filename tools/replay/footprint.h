// SPDX-License-Identifier: Apache-2.0 OR MIT
/* footprint.h: the first pass over a trace: what it holds, and how many bytes a cache of all of it would use. */
#ifndef REPLAY_FOOTPRINT_H
#define REPLAY_FOOTPRINT_H

#include <nebula/cache.h>

#include "progress.h"
#include "trace.h"

typedef struct footprint {
    uint64_t request_count; /* broken lines apart */
    uint64_t bad_count;     /* broken lines, skipped */
    uint64_t key_count;     /* distinct */
    uint64_t bytes;         /* sum of nm_cache_charge over the keys, each with its largest size */
    uint64_t average_bytes; /* of these; at least 1 */
    bool all_ones;          /* every size in the trace is 1, so the default size stands for all of them */
} footprint;

/* Reads the whole trace. `options` are the cache's, for the charge; default_size as the command line says.
 * False: unreadable, a broken line (counted instead with skip_bad) or no request at all; t->error says where and why. */
bool footprint_measure(footprint *out, trace *t, const nm_cache_options *options, uint64_t default_size, bool skip_bad,
                       progress *bar);

/* The size of a request's object. */
static inline uint64_t footprint_size(bool all_ones, uint64_t default_size, const record *r) {
    return r->has_size && !all_ones ? r->size : default_size;
}

#endif
