// SPDX-License-Identifier: Apache-2.0 OR MIT
/* talloc: a pool of memory from malloc, with a header for each allocation in it; reset is talloc_free_children, a mark is an
 * empty child. A pool does not grow: what does not fit comes from malloc one by one, so the pool is made large enough where
 * talloc allows (it refuses anything of 256 MiB). */
#include "peers/peers.h"

#include <malloc.h>
#include <talloc.h>

#define HEADER_BYTES 112 /* what talloc 2.4 keeps before an allocation, with the rounding to 16 */
#define POOL_MAX     (((size_t)256 << 20) - 4096)

static void *region_open(const peer_need *need) {
    size_t bytes = need->total_bytes + (need->count + 8) * HEADER_BYTES;
    return talloc_pool(NULL, bytes < POOL_MAX ? bytes : POOL_MAX);
}

static void *region_alloc(void *pool, size_t n) { return talloc_named_const(pool, n, "bench"); }

static void *region_reset(void *pool) {
    talloc_free_children(pool);
    return pool;
}

static void *region_mark(void *pool, void **mark) { return *mark = talloc_named_const(pool, 0, "mark"); }

static void region_rewind(void *inner, void *mark) {
    (void)inner;
    talloc_free(mark);
}

static void region_close(void *pool) { talloc_free(pool); }

static void region_tidy(void) { malloc_trim(0); }

void peer_talloc(peer_region *out) {
    *out = (peer_region){"talloc",    region_open,   region_alloc, region_reset,
                         region_mark, region_rewind, region_close, region_tidy};
}
