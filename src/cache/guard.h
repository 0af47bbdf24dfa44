// SPDX-License-Identifier: Apache-2.0 OR MIT
/* guard.h: is what the cache has learned of yesterday?
 *
 * Entries that were small and popular stay long in NM_CACHE_ADAPTIVE where only large ones are asked for now, and its shadows, whose samples
 * were taken for many small entries, see few of the large. An LRU forgets within a turnover. So one is simulated, with a sample of its own
 * that follows what it holds. If it hits far more than the cache did of the same sample, or if its entries are of another size altogether, the
 * cache should do as an LRU does and learn anew.
 *
 * How to use it: open it, set the room; tell it each request whose sample is below `threshold`; when one of the calls returns true,
 * nm__adapt_restart. One thread at a time. No call allocates. */
#ifndef NM_SRC_CACHE_GUARD_H
#define NM_SRC_CACHE_GUARD_H

#include "cache/shadow.h"

typedef struct nm__guard {
    nm__shadow shadow;  /* the LRU */
    uint32_t threshold; /* a key is sampled if its sample is below; UINT32_MAX: all */
    nm_cache_objective objective;
    size_t room, largest; /* of the whole cache */
    uint32_t until_fade;  /* requests */
    uint32_t grace;       /* turnovers that do not count */
    uint32_t settled;     /* threshold of late; 0: not known */
    /* Decayed, of requests. */
    double missed; /* by the cache */
    double lead;   /* hits of the LRU less those of the cache */
} nm__guard;

/* More would hardly be nearer to the LRU that they stand for. */
#define NM__GUARD_NODES_MAX 1000u

/* The memory beside the struct for so many nodes. */
size_t nm__guard_bytes(uint32_t nodes);

/* `memory`: nm__guard_bytes, zeroed, aligned to 64. The room is 0 until set. */
void nm__guard_open(nm__guard *g, nm_cache_objective objective, void *memory, uint32_t nodes);
/* Bytes that the entries of the whole cache may have, and the largest of them. */
void nm__guard_set_room(nm__guard *g, size_t bytes, size_t largest);

/* A look-up that hit an entry of this weight; one that missed; an entry that was put; one that was taken away; all went. Of any key.
 * True: the cache should learn anew, and so does this. O(1) but for the nodes, when the sample changes, which is seldom. */
bool nm__guard_hit(nm__guard *g, uint64_t hash, size_t weight);
bool nm__guard_miss(nm__guard *g, uint64_t hash);
void nm__guard_put(nm__guard *g, uint64_t hash, size_t weight);
void nm__guard_remove(nm__guard *g, uint64_t hash);
void nm__guard_clear(nm__guard *g);

/* The threshold for a sample of which an LRU would hold so many. */
uint32_t nm__guard_threshold_for(const nm__guard *g, uint32_t nodes);

#endif
