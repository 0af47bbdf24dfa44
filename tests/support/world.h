// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A world of random operations over a tree of scopes with arenas, pools and caches, and a model of it that only adds
 * numbers. */
#ifndef NM_TESTS_SUPPORT_WORLD_H
#define NM_TESTS_SUPPORT_WORLD_H

#include "nebula/memory.h"

enum {
    WORLD_NODES = 48,  /* scopes open at one time */
    WORLD_HOLDERS = 4, /* arenas, and pools, and caches in each of them */
    WORLD_LEASES = 96, /* leases, and pins, out at one time */
    WORLD_DEPTH = 6,
};

typedef struct world world;

/* A world below `top`, in which nothing else is opened. Bytes of objects put into its caches are added to *outside. */
world *world_new(nm_scope *top, uint64_t seed, size_t *outside);
/* The on_evict of every cache that a world uses: its context is the world's `outside`. */
void world_object_left(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size,
                       void *context);
/* A pool and a cache that several worlds use at once. */
void world_share(world *w, nm_pool *pool, nm_cache *cache);

/* One random operation; false, with a message, if its outcome is not what the model says. */
bool world_step(world *w);
/* No scope of the world, nor one above, is over its hard limit. Cheap; holds at any instant, whatever other threads do. */
bool world_within_limits(const world *w);
/* Every scope of the world is granted what its holders and children add up to. For a moment when no other thread works. */
bool world_adds_up(const world *w);
/* Closes what is open, checking the count of leaks, and frees the world. */
bool world_end(world *w);

#endif
