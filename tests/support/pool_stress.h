// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Threads that do with one pool all that can be done with it, in random order, and a shadow that knows who holds what: a count
 * of holders for each buffer, by its index, apart from the pool's own bookkeeping. */
#ifndef NM_TESTS_SUPPORT_POOL_STRESS_H
#define NM_TESTS_SUPPORT_POOL_STRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nebula/pool.h"

enum { STRESS_THREADS = 8 };

/* Faults of this program's own, which it must find. */
typedef enum stress_plant { STRESS_SOUND, STRESS_SECOND_HOLDER, STRESS_LATE_WRITE, STRESS_LOST_LEASE } stress_plant;

typedef struct stress {
    nm_pool_options pool; /* .max_count up to 65536; leases are refused now and then where threads want more */
    size_t hard_bytes;    /* of the pool's scope; 0: none */
    size_t threads;       /* up to STRESS_THREADS */
    size_t hand;          /* most leases that a thread has in its hand, up to 512 */
    unsigned
        bursts; /* of 100 steps so many are a few leases and their release, one after the other, and nothing else */
    stress_plant plant;
    uint64_t leases; /* run until so many have been taken */
    uint64_t seed;
    /* Called now and then on the thread that called stress_run; NULL: never. */
    void (*progress)(uint64_t leases, void *context);
    void *context;
} stress;

typedef struct stress_counts {
    uint64_t leases, refused, shares, waited, timed_out, passed_on, held, trims, threads; /* what was done */
    uint64_t wrong;                                                                       /* what was found wrong */
    char first[200];                                                                      /* the first of it */
} stress_counts;

/* Runs it below `root`, and closes the pool. True: nothing was wrong, each lease was released
 * once, and all sums are right at the end. */
bool stress_run(nm_scope *root, const stress *s, stress_counts *out);

#endif
