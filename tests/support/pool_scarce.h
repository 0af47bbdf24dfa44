// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A pool of which one buffer is left. */
#ifndef NM_TESTS_SUPPORT_POOL_SCARCE_H
#define NM_TESTS_SUPPORT_POOL_SCARCE_H

#include "pool_fixture.h"

/* Of one buffer alone, where threads keep nothing in front; or of 128, 127 of them leased, where they may. */
static const size_t scarce_shapes[] = {1, 128};
#define SCARCE_SHAPES COUNT(scarce_shapes)

typedef struct scarce {
    nm_pool *pool;
    nm_lease others[127];
    size_t count;
} scarce;

static inline nm_lease lease_of(nm_pool *pool) {
    nm_lease lease;
    assert_ok(nm_pool_try_lease(pool, &lease));
    return lease;
}

static inline void scarce_open(scarce *s, nm_scope *scope, size_t max_count) {
    s->pool = open_pool(scope, NM_POOL_OPTIONS(.chunk_bytes = 1000, .max_count = max_count, .name = "rx"));
    s->count = max_count - 1;
    for (size_t i = 0; i < s->count; i++) s->others[i] = lease_of(s->pool);
}

static inline void scarce_close(scarce *s) {
    nm_lease_release_many(s->others, s->count);
    check_whole(s->pool, s->count + 1);
    close_pool(s->pool);
}

#endif
