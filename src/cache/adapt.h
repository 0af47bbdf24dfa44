// SPDX-License-Identifier: Apache-2.0 OR MIT
/* adapt.h: finds the setting of NM_CACHE_ADAPTIVE. One for a cache, not for a shard.
 *
 * Shadows run each way to choose a victim on a sample of the keys; the one that hit most lately is the setting of the shards. It is
 * also told here what entries are worth (history.h).
 *
 * How to use it: for a request whose hash is sampled (one multiplication and one compare; nothing else for the others), under a lock of the
 * caller's: nm__adapt_hit, or nm__adapt_miss and nm__adapt_put when the entry comes. When nm__adapt_version has changed, give
 * nm__adapt_setting (under that lock) to the policy of each shard, at the next occasion (under the shard's). */
#ifndef NM_SRC_CACHE_ADAPT_H
#define NM_SRC_CACHE_ADAPT_H

#include "cache/history.h"
#include "cache/shadow.h"

#define NM__WAYS 4u

typedef struct nm__adapt {
    NM_ATOMIC(uint32_t) threshold; /* a key is sampled if its sample is below; 0: off */
    NM_ATOMIC(uint32_t) version;   /* changes with the setting */
    nm_cache_objective objective;
    unsigned way;         /* in force */
    size_t room, largest; /* of the whole cache */
    uint64_t clock;
    uint32_t until_worth, until_fade, until_halve; /* requests until that is due */
    double requests;                               /* decayed, and so are the scores: hits or bytes */
    double scores[NM__WAYS];
    nm__history history;
    nm__shadow shadows[NM__WAYS]; /* each with its way's setting */
} nm__adapt;

/* Sampled residents. All shadows are off alike, so that few tell which is best: on the traces of bench/policies the mean reduction of
 * LRU's misses is 0.135 with 100 of them, 0.140 with 500, 0.141 with 4,000. */
#define NM__ADAPT_NODES_MIN 20u
#define NM__ADAPT_NODES_MAX 4000u

/* The memory that it wants for so many nodes. */
size_t nm__adapt_bytes(uint32_t nodes);

/* `memory`: zeroed, aligned to 64. With less than nm__adapt_bytes(NM__ADAPT_NODES_MIN) it stays off, and the setting is a segmented LRU
 * for ever; more than for NM__ADAPT_NODES_MAX is not used. */
void nm__adapt_open(nm__adapt *a, nm_cache_objective objective, unsigned protected_percent, void *memory, size_t bytes);

/* The bytes that the entries of the whole cache may have, and the largest of them. */
void nm__adapt_set_room(nm__adapt *a, size_t bytes, size_t largest);

/* Any thread. */
static inline bool nm__adapt_sampled(const nm__adapt *a, uint64_t hash) {
    return nm__sample_of(hash) <
           nm_atomic_load(&a->threshold, NM_RELAXED); /* relaxed: a stale one samples a few others */
}
static inline uint32_t nm__adapt_version(const nm__adapt *a) { return nm_atomic_load(&a->version, NM_RELAXED); }

/* A look-up that hit an entry of this weight; one that missed; an entry that was put, whether it was there or not; one that was taken away.
 * Of sampled keys only. True: the shadow of the way in force had it. weight_out, may be NULL: what it weighed there. O(1) but for a few
 * thousand nodes when the sample changes, which is seldom. */
bool nm__adapt_hit(nm__adapt *a, uint64_t hash, size_t weight);
bool nm__adapt_miss(nm__adapt *a, uint64_t hash, size_t *weight_out);
bool nm__adapt_put(nm__adapt *a, uint64_t hash, size_t weight);
void nm__adapt_remove(nm__adapt *a, uint64_t hash);
/* All entries went; what was learned stays. O(nodes). */
void nm__adapt_clear(nm__adapt *a);

/* A miss with the put that belongs to it. */
static inline void nm__adapt_request(nm__adapt *a, uint64_t hash, size_t weight, bool hit) {
    if (hit) {
        (void)nm__adapt_hit(a, hash, weight);
        return;
    }
    (void)nm__adapt_miss(a, hash, NULL);
    (void)nm__adapt_put(a, hash, weight);
}

static inline const nm__setting *nm__adapt_setting(const nm__adapt *a) { return &a->shadows[a->way].policy.setting; }

#endif
