// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What a cache learns from a sample of its requests: the curve, and with NM_CACHE_ADAPTIVE the setting of its policy. One for a cache, with a
 * lock of its own; most requests of a large cache are told nobody: one multiplication and one compare.
 *
 * Its memory counts in the budget. It goes when a single entry or a resize wants so much that nothing else is left, and comes back with
 * the next resize or after some misses; what the shards' policies have been set to stays meanwhile. */
#ifndef NM_SRC_CACHE_SAMPLER_H
#define NM_SRC_CACHE_SAMPLER_H

#include "base/lock.h"
#include "cache/curve.h"

typedef struct nm__sampler_plan {
    uint32_t adapt_nodes; /* of NM_CACHE_ADAPTIVE; 0: it does not adapt */
    uint32_t curve_nodes; /* a point, see nm__curve_nodes; 0: no curve */
    bool adapting;        /* each of the curve's points */
    size_t bytes;         /* of all; 0: there is none */
} nm__sampler_plan;

/* How a cache of that budget would have it. Pure. */
nm__sampler_plan nm__sampler_plan_for(nm_cache_policy policy, size_t budget_bytes);

typedef struct nm__sampler {
    nm__lock lock;
    NM_ATOMIC(size_t) bytes;     /* taken; 0: it is closed. Written under the lock */
    NM_ATOMIC(uint32_t) skipped; /* sampled requests that found another thread at work here */
    NM_ATOMIC(uint32_t) missed;  /* while it was closed for want of memory */
    NM_ATOMIC(uint32_t) unclear; /* steps of a clear that are still to do */
    NM_ATOMIC(uint32_t) setting; /* version of the setting that was told last */
    uint32_t pause;              /* misses until its memory is asked for again */
    nm__sampler_plan plan;
    void *memory;
    uint32_t ticks;   /* sampled requests since the last tick */
    uint32_t version; /* from which the next adaptation counts its settings */
    double usable;    /* of what the budget leaves beside tables of fixed size, the share that entries had */
    size_t limit;     /* that rooms and counts are for */
    double left[NM__CURVE_POINTS]; /* of such a budget and those of the curve, beside tables of fixed size */
    nm__curve *curve;              /* NULL: none */
    nm__adapt *adapt;              /* NULL: none */
} nm__sampler;

/* Of a cache that is zeroed. Takes no memory. */
void nm__sampler_open(nm_cache *cache);
void nm__sampler_close(nm_cache *cache);

/* As the budget is now: takes memory if that can be had, evicting a few entries if it must; gives back what is too much. No lock held.
 * True: it took some, and nm__settle is due. */
bool nm__sampler_fit(nm_cache *cache);
/* Gives its memory back, for somebody who needs it more. The bytes. Any lock may be held but the sampler's; not wait: nothing happens if
 * that is held. */
size_t nm__sampler_drop(nm_cache *cache, bool wait);

/* Drops it for ever: for benchmarks, and before the first use. */
void nm__sampler_stop(nm_cache *cache);

/* A look-up of a sampled key that hit an entry of this weight; that missed; an entry that was put; one that was taken away by the user or by
 * time. Any lock may be held but the sampler's; at a miss none. */
void nm__sampler_hit(nm_cache *cache, uint64_t hash, size_t weight);
void nm__sampler_miss(nm_cache *cache, uint64_t hash);
void nm__sampler_put(nm_cache *cache, uint64_t hash, size_t weight);
void nm__sampler_remove(nm_cache *cache, uint64_t hash);
/* All entries went. O(1): the rest with the next requests. */
void nm__sampler_clear(nm_cache *cache);
/* The setting that the shards' policies should have, if it is another than that of *version. Any lock may be held but the sampler's. */
bool nm__sampler_setting(nm_cache *cache, uint32_t *version, nm__setting *out);

#endif
