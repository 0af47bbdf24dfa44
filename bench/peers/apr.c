// SPDX-License-Identifier: Apache-2.0 OR MIT
/* APR pools. Their allocator, which keeps idle blocks, is one of our own without a mutex, as a server has it for each
 * thread; a region is a pool below one root, a mark is a child pool. Allocations are aligned to 8 only, which packs them
 * closer than the other subjects may. Blocks are 8 KiB at least; there is no option for the first one. */
#include "peers/peers.h"

#include <apr_allocator.h>
#include <apr_general.h>
#include <apr_pools.h>
#include <malloc.h>
#include <stdlib.h>

static apr_pool_t *root;

static void *region_open(const peer_need *need) {
    (void)need;
    apr_pool_t *pool;
    return apr_pool_create(&pool, root) == APR_SUCCESS ? pool : NULL;
}

static void *region_alloc(void *pool, size_t n) { return apr_palloc(pool, n); }

static void *region_reset(void *pool) {
    apr_pool_clear(pool);
    return pool;
}

static void *region_mark(void *pool, void **mark) {
    apr_pool_t *child;
    if (apr_pool_create(&child, pool) != APR_SUCCESS) return NULL;
    return *mark = child;
}

static void region_rewind(void *inner, void *mark) {
    (void)inner;
    apr_pool_destroy(mark);
}

static void region_close(void *pool) { apr_pool_destroy(pool); }

/* Idle blocks stay with the allocator until it is destroyed: apr_allocator_max_free_set counts only what comes after it. */
static void region_tidy(void) { malloc_trim(0); }

void peer_apr(peer_region *out) {
    apr_allocator_t *allocator;
    if (apr_initialize() != APR_SUCCESS || apr_allocator_create(&allocator) != APR_SUCCESS ||
        apr_pool_create_ex(&root, NULL, NULL, allocator) != APR_SUCCESS)
        peer_fail("apr_pool", "cannot be initialised");
    *out = (peer_region){"apr_pool",  region_open,   region_alloc, region_reset,
                         region_mark, region_rewind, region_close, region_tidy};
}
