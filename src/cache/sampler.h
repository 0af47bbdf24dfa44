// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What a cache learns from a sample of its requests: the curve, by caches of other sizes that are simulated on the sample (mini-simulation:
 * Waldspurger, Saemundsson, Ahmad, Park 2017), and with NM_CACHE_ADAPTIVE the setting of its policy.
 *
 * Each of the curve's points has as many nodes and its own share of the keys: the smaller the cache, the more of its keys. Everything is
 * sampled until the nodes are used up. So most requests of a large cache are told nobody: one multiplication and one compare. */
#ifndef NM_SRC_CACHE_SAMPLER_H
#define NM_SRC_CACHE_SAMPLER_H

#include "base/lock.h"
#include "cache/adapt.h"
#include "cache/shadow.h"

#define NM__CURVE_POINTS 7u

typedef struct nm__curve_shadow {
    nm__shadow shadow;
    uint64_t threshold; /* a key is in the sample if nm__sample_of is below; 2^32: all are */
    uint64_t counted;   /* requests of the whole cache up to which `expected` is counted */
    /* Decayed: requests that the sample should have had by its share; that it had; their bytes. */
    double expected, looks, hits, look_bytes, hit_bytes;
} nm__curve_shadow;

typedef struct nm__sampler {
    nm__lock lock;
    uint32_t ticks;               /* sampled requests since the last tick */
    double usable;                /* share of the budget that entries can have */
    uint64_t last_count, last_ns; /* requests and time when the counts were halved last */
    double rate;                  /* requests a second */
    size_t bytes;                 /* of all this */
    uint32_t adapted;             /* version of the setting that the points have */
    nm__curve_shadow points[NM__CURVE_POINTS];
    nm__adapt adapt; /* of NM_CACHE_ADAPTIVE */
} nm__sampler;

/* Opens it if the cache can spare the memory; else the cache goes without. */
void nm__sampler_open(nm_cache *cache);
void nm__sampler_close(nm_cache *cache);
/* A look-up of a sampled key that hit an entry of this weight; that missed; an entry that was put. Any lock may be held but the sampler's. */
void nm__sampler_hit(nm_cache *cache, uint64_t hash, size_t weight);
void nm__sampler_miss(nm_cache *cache, uint64_t hash);
void nm__sampler_put(nm_cache *cache, uint64_t hash, size_t weight);
/* The setting that the shards' policies should have, if it is another than that of *version. Any lock may be held but the sampler's. */
bool nm__sampler_setting(nm_cache *cache, uint32_t *version, nm__setting *out);

#endif
