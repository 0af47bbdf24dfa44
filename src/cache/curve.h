// SPDX-License-Identifier: Apache-2.0 OR MIT
/* curve.h: what would a cache hit with other budgets? Small caches of these budgets, simulated on a sample of the keys (mini-simulation:
 * Waldspurger, Saemundsson, Ahmad, Park 2017), tell it while the cache runs.
 *
 * Each has nodes of its own and as large a share of the keys as they reach for: everything until they are used up. For NM_CACHE_ADAPTIVE
 * each adapts itself, as a cache of that size would: another setting is best for another size.
 *
 * A sample is for more or fewer requests than its share, by the few keys that most requests are for, and has more or fewer misses. The
 * plain SHARDS-adj (Waldspurger, Park, Garthwaite, Ahmad 2015) takes what is missing for hits. Here more is known: which of
 * the sampled requests the cache itself missed, and how many it missed in all. A sample with too many of these has too many misses of the
 * other budgets too, by a slope that shows between parts of the sample (the regression estimator of survey sampling: Cochran 1977). In
 * place of SHARDS-adj that halves the error: with 1,000 nodes from 0.0042 to 0.0016 on the mean of the traces of bench/policies.
 *
 * How to use it: open it, set the rooms; for each request whose sample is below nm__curve_threshold call what happened; now and then
 * nm__curve_count with the whole cache's figures. One thread at a time. No call allocates. */
#ifndef NM_SRC_CACHE_CURVE_H
#define NM_SRC_CACHE_CURVE_H

#include "cache/adapt.h"
#include "cache/shadow.h"

#define NM__CURVE_POINTS 7u /* 1/8, 1/4 ... 8 times the budget */
#define NM__CURVE_SELF   3u /* the cache itself, which needs no simulation */
/* Parts of a sample. 16 and 32 give the same errors. */
#define NM__CURVE_PARTS 16u

typedef struct nm__mini {
    nm__shadow *shadow;   /* one of the two is NULL, of the point of the cache itself both */
    nm__adapt *adapt;     /* of NM_CACHE_ADAPTIVE, unless that was too dear: then it follows the cache's setting */
    size_t room, largest; /* of a whole cache of this size */
    uint32_t threshold;   /* of `shadow`: UINT32_MAX are all keys */
    /* All decayed, a request for as many as its sample stands for. By part: what it missed, what the cache missed. */
    float misses[NM__CURVE_PARTS], cache_misses[NM__CURVE_PARTS];
    double hits, hit_bytes, missed, missed_bytes; /* to know the weight of a hit and that of a miss */
} nm__mini;

typedef struct nm__curve {
    nm__mini minis[NM__CURVE_POINTS];
    double requests, misses, seconds; /* of the whole cache, decayed */
    double each; /* requests of its sample that one of those told stands for: above 1 if some were not told */
    uint64_t seen_requests, seen_misses, seen_ns;
    uint64_t unfaded; /* requests since the last step of decay */
} nm__curve;

/* Nodes of a point's cache: those of a small one come from a larger share of the keys, so that fewer are as good, and cost as much. */
uint32_t nm__curve_nodes(unsigned point, uint32_t nodes);

/* The memory beside the struct for so many nodes a point. `adapting`: each point adapts itself. */
size_t nm__curve_bytes(nm_cache_policy policy, bool adapting, uint32_t nodes);

/* `memory`: nm__curve_bytes, zeroed, aligned to 64. nodes: 1 to NM__SHADOW_NODES_MAX; if adapting, so that nm__curve_nodes are between
 * NM__ADAPT_NODES_MIN and NM__ADAPT_NODES_MAX. The rooms are 0 until set. */
void nm__curve_open(nm__curve *c, nm_cache_policy policy, nm_cache_objective objective, unsigned protected_percent,
                    bool adapting, void *memory, uint32_t nodes);

/* Bytes that the entries of a cache of each size may have, and the largest of them. */
void nm__curve_set_rooms(nm__curve *c, const size_t rooms[NM__CURVE_POINTS], const size_t largest[NM__CURVE_POINTS]);

/* For points that do not adapt themselves. */
void nm__curve_follow(nm__curve *c, const nm__setting *setting);

/* Keys with a sample from here on are in none of the points' samples. */
uint32_t nm__curve_threshold(const nm__curve *c);

/* A look-up that hit an entry of this weight; one that missed; an entry that was put; one that was taken away by the user or its time. */
void nm__curve_hit(nm__curve *c, uint64_t hash, size_t weight);
void nm__curve_miss(nm__curve *c, uint64_t hash);
void nm__curve_put(nm__curve *c, uint64_t hash, size_t weight);
void nm__curve_remove(nm__curve *c, uint64_t hash);

/* From these figures of the cache on its requests count. */
void nm__curve_begin(nm__curve *c, uint64_t requests, uint64_t misses, uint64_t now_ns);
/* Requests and misses of the whole cache so far, the time, and after how many requests one counts half. */
void nm__curve_count(nm__curve *c, uint64_t requests, uint64_t misses, uint64_t now_ns, uint64_t half_life);
/* What was counted speaks of another budget. */
void nm__curve_forget(nm__curve *c);
/* All entries went: of one point after the other. O(nodes). */
void nm__curve_clear(nm__curve *c, unsigned point);

typedef struct nm__prediction {
    double hit_ratio, byte_hit_ratio;
} nm__prediction;

/* Ascending with the budget: more memory is no harm, and where a sample says so it is chance. */
void nm__curve_read(const nm__curve *c, nm__prediction out[NM__CURVE_POINTS]);

#endif
