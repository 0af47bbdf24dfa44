// SPDX-License-Identifier: Apache-2.0 OR MIT
/* shadow.h: a cache without entries, run on a sample of the keys, that tells what a policy would have hit (mini-simulation:
 * Waldspurger, Saemundsson, Ahmad, Park 2017).
 *
 * How to use it: choose a share of the keys by their hash (nm__sample_of(hash) < threshold, so the share is threshold / 2^32); open
 * shadows with that share of the budgets in question as their rooms; tell every one of them each request for such a key:
 *     nm__shadow_use     a look-up that hit in the cache; true: it would have hit here
 *     nm__shadow_look    one that missed in the cache
 *     nm__shadow_put     the entry was put
 *     nm__shadow_remove  ... or taken away
 * A shadow that runs out of nodes before it runs out of room says so (`crowded`): lower the threshold, tell all shadows with
 * nm__shadow_thin, and give them their smaller rooms.
 * One thread at a time. Memory is the caller's; no call allocates. */
#ifndef NM_SRC_CACHE_SHADOW_H
#define NM_SRC_CACHE_SHADOW_H

#include "cache/eviction.h"

/* The 32 bits of a hash that decide whether its key is in a sample. Spread: the cache's shards and buckets use the bits as they are. */
static inline uint32_t nm__sample_of(uint64_t hash) {
    hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93u;
    return (uint32_t)(hash >> 32);
}

typedef struct nm__shadow_node {
    nm__node node;
    uint32_t weight; /* not above the room when it came, nor above 4 GiB */
    uint32_t hash;   /* the low half, spread */
    uint16_t chain;  /* the next in its bucket; of a free node: the next free one */
    uint16_t bucket; /* not of this node: the head of the bucket with its number */
} nm__shadow_node;

typedef struct nm__shadow {
    nm__shadow_node *nodes; /* [0] is none */
    uint32_t node_count;    /* of nodes, without [0] */
    uint32_t used_count;
    uint32_t free;
    uint32_t tables_for; /* nodes that the ghosts are many enough for */
    size_t largest;      /* entry that a cache of this size takes in */
    bool crowded;        /* a node was evicted for want of nodes, not of room; the user clears it */
    nm__policy policy;
} nm__shadow;

/* Most nodes of a shadow. */
#define NM__SHADOW_NODES_MAX 65535u

/* The memory for so many nodes, with the policy's tables: 26.5 bytes a node at most. */
size_t nm__shadow_bytes(nm_cache_policy policy, uint32_t nodes);

/* `memory`: nm__shadow_bytes, zeroed, aligned to 64. nodes: 1 to NM__SHADOW_NODES_MAX. The room is 0 until set. */
void nm__shadow_open(nm__shadow *s, nm_cache_policy policy, nm_cache_objective objective, unsigned protected_percent,
                     void *memory, uint32_t nodes);

/* The room may change at any time; what does not fit any more goes at the next puts. Entries above `largest` are refused; others that are
 * above the room, as that is a part of the cache's, take all of it. O(1). */
void nm__shadow_set_room(nm__shadow *s, size_t bytes, size_t largest);

/* O(1). weight_out, may be NULL: of the one that hit. */
bool nm__shadow_look(nm__shadow *s, uint64_t hash, size_t *weight_out);

/* A look-up, of an entry with this weight, which is kept if it is absent. O(evicted). */
bool nm__shadow_use(nm__shadow *s, uint64_t hash, size_t weight);

/* It is kept if it is absent; else it has this weight now and is the most recent of its rank, as in the cache. True: it was there.
 * O(evicted). */
bool nm__shadow_put(nm__shadow *s, uint64_t hash, size_t weight);
/* Nothing if it is absent. */
void nm__shadow_remove(nm__shadow *s, uint64_t hash);

/* Drops the keys whose sample is not below the threshold. nm__sample_of must be of the hashes given. O(nodes). */
void nm__shadow_thin(nm__shadow *s, uint32_t threshold);

/* Of all nodes. O(1). */
size_t nm__shadow_used_bytes(const nm__shadow *s);

/* The node of a key, 0: absent. For who wants to see its state. O(1). */
uint32_t nm__shadow_find(const nm__shadow *s, uint64_t hash);

#endif
