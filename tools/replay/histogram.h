// SPDX-License-Identifier: Apache-2.0 OR MIT
/* histogram.h: latencies in a log-linear histogram of fixed size, exact to three significant digits.
 *
 * Values below 2^11 have a bucket each; above, every power of two is cut into 2^10 equal buckets, as in HdrHistogram
 * (Tene 2012), so that a bucket is never wider than 1/1024 of its values. One thread each; merged at the end. */
#ifndef REPLAY_HISTOGRAM_H
#define REPLAY_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 10
#define HISTOGRAM_MAX_BITS 42 /* of nanoseconds: 73 minutes; larger values count as the largest */
#define HISTOGRAM_BUCKETS  ((HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

typedef struct histogram {
    uint64_t count;
    uint64_t largest;
    uint64_t buckets[HISTOGRAM_BUCKETS];
} histogram; /* all zero: empty */

/* O(1). */
void histogram_add(histogram *h, uint64_t value);

/* Adds all of `from` to h. O(buckets). */
void histogram_merge(histogram *h, const histogram *from);

/* The smallest value that a share of at least q (0 to 1) of the values does not exceed, rounded up to the end of its bucket
 * but not above the largest value; 0 when empty. O(buckets). */
uint64_t histogram_quantile(const histogram *h, double q);

#endif
