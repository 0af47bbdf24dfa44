// SPDX-License-Identifier: Apache-2.0 OR MIT
/* workload.h: the built-in request stream, for a machine without traces. The same seed gives the same stream.
 *
 * Three kinds of requests are mixed, as the front of a shop or a wiki sees them:
 *   item   7 of 10: 400,000 keys by Zipf's law with exponent 0.9, the steady popularity of a catalogue
 *   hot    3 of 10: 1,000 keys, all as likely, that move on by 250 every 25,000 requests: today's news
 *   scan   from every 100,000th request on, every second request reads the next of 10,000 keys that nobody else wants:
 *          a crawler or a nightly job; the eighth scan comes back to the keys of the first
 * Sizes belong to the key: lognormal, median 1.5 KiB, sigma 1.2; one key in fifty has a Pareto tail instead (index 1.1, from
 * 32 KiB on); none above WORKLOAD_SIZE_MAX. */
#ifndef REPLAY_WORKLOAD_H
#define REPLAY_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORKLOAD_REQUESTS 1000000 /* default length: makes `make run` last some ten seconds */
#define WORKLOAD_SEED     1
#define WORKLOAD_SIZE_MAX (UINT64_C(4) << 20)
#define WORKLOAD_LINE_MAX 64 /* a line is shorter than this */

typedef struct workload {
    uint64_t request_count; /* as started with */
    uint64_t seed;
    uint64_t done; /* requests given out */
    uint64_t random;
    struct {
        double low, high, first_accept;
    } zipf;
} workload;

void workload_start(workload *w, uint64_t request_count, uint64_t seed);

/* Writes the next request as a line "key size", without newline or final 0, and returns its length; 0 at the end. O(1). */
size_t workload_next(workload *w, char line[WORKLOAD_LINE_MAX]);

#endif
