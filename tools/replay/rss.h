// SPDX-License-Identifier: Apache-2.0 OR MIT
/* rss.h: the most memory that the process had resident during a run. */
#ifndef REPLAY_RSS_H
#define REPLAY_RSS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct rss_peak {
    bool from_kernel; /* the kernel's own peak, set back at the start; else the largest sample */
    uint64_t bytes;   /* so far, by samples */
} rss_peak;

/* Sets the kernel's peak back (Linux: "5" to /proc/self/clear_refs), or takes the first sample where that is refused. */
void rss_start(rss_peak *peak);

/* Takes a sample where the kernel keeps no peak. One thread at a time; some microseconds. */
void rss_sample(rss_peak *peak);

/* The peak since the start, in bytes, what the program itself needs included; 0 where there is no /proc. */
uint64_t rss_read(rss_peak *peak);

#endif
