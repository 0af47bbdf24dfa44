// SPDX-License-Identifier: Apache-2.0 OR MIT
/* After how long are keys used again, by how often they were used before?
 *
 * Kept for a sample of keys, whether they are in a cache or not: so it sees what a cache that evicted them could not, such as that
 * a loop comes round. From it follows what an entry is worth: the most uses that can be had for a unit of time by keeping it from
 * now on, for as long as that is best (the index of Gittins 1979; hit density is the same for a fixed time: Beckmann, Chen,
 * Cidon 2018). */
#ifndef NM_SRC_CACHE_HISTORY_H
#define NM_SRC_CACHE_HISTORY_H

#include "cache/eviction.h"

/* Beyond what nodes can tell apart, up to 2^12 units of time: 256 turnovers. */
#define NM__HISTORY_BINS 44u

typedef struct nm__trail {
    uint32_t sample; /* of the key's hash */
    uint16_t time;   /* of its last use; 0 with sample 0: none */
    uint8_t rank;    /* that the use gave it */
    uint8_t open;    /* a look-up was counted, and the put that belongs to it is still to come */
} nm__trail;

typedef struct nm__history {
    nm__trail (*buckets)[8]; /* a line each */
    size_t bucket_count;
    float used[NM__RANKS];                     /* uses that gave this rank */
    float reused[NM__RANKS][NM__HISTORY_BINS]; /* of these, after what time the key was used again */
} nm__history;

/* `bytes` of zeroed memory, aligned to 64, at least 64. */
void nm__history_open(nm__history *h, void *memory, size_t bytes);

/* A look-up. */
void nm__history_look(nm__history *h, uint32_t sample, uint16_t time);
/* ... and, at once or with a put that follows, the rank that it gave. `hit`: no put follows. */
void nm__history_rank(nm__history *h, uint32_t sample, uint16_t time, unsigned rank, bool hit);

/* What was seen so far counts half from now on. */
void nm__history_halve(nm__history *h);
/* ... or nothing, and no key is known. O(bytes). */
void nm__history_forget(nm__history *h);

/* O(ranks * bins * bins). */
void nm__history_worth(const nm__history *h, float worth[NM__RANKS][NM__AGE_BINS]);

#endif
