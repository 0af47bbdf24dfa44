// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What a pool costs beside its buffers, as docs/guide/pools.md has it. */
#include <nebula/memory.h>
#include <stdio.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s: not so: %s\n", NM_SITE, #what);                                                       \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

#define PAGE ((size_t)4096)

static int cost(nm_scope *root, size_t count, size_t chunk_bytes, size_t align_bytes) {
    size_t align = align_bytes > 64 ? align_bytes : 64, rounded = (chunk_bytes + align - 1) / align * align;
    /* What the guide says that a pool's scope should have, for one thread. */
    size_t enough = count * (rounded + rounded / 32 + 64) + (128 << 10) + 2 * PAGE;
    nm_scope *io;
    nm_pool *pool;
    CHECK(nm_scope_open(&io, root, NM_SCOPE_OPTIONS(.name = "io", .hard_bytes = enough)) == NM_OK);
    CHECK(nm_pool_open(&pool, io,
                       NM_POOL_OPTIONS(.chunk_bytes = chunk_bytes, .prealloc_count = count, .max_count = count,
                                       .align_bytes = align_bytes)) == NM_OK);
    for (int i = 0; i < 100; i++) { /* its thread may have a place of its own */
        nm_lease lease = nm_pool_lease(pool);
        CHECK(nm_lease_ok(lease));
        nm_lease_release(&lease);
    }
    nm_pool_stats stats;
    nm_pool_get_stats(pool, &stats);
    size_t buffers = count * chunk_bytes, beside = stats.granted_bytes - buffers;
    printf("%5zu buffers of %7zu bytes: %8zu + %7zu, %6.1f a buffer, %3.1f %%\n", count, chunk_bytes, buffers, beside,
           (double)beside / (double)count, 100.0 * (double)beside / (double)buffers);
    CHECK(nm_scope_close(io, NULL) == 0);
    return 0;
}

int main(void) {
    nm_scope *root;
    CHECK(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "costs", .hard_bytes = (size_t)1 << 30)) == NM_OK);
    CHECK(cost(root, 64, 2048, 0) == 0);
    CHECK(cost(root, 64, 4096, 0) == 0);
    CHECK(cost(root, 1000, 1500, 0) == 0);
    CHECK(cost(root, 1000, 16384, 0) == 0);
    CHECK(cost(root, 1000, 65536, 0) == 0);
    CHECK(cost(root, 1000, 65536, 4096) == 0);
    CHECK(cost(root, 16, 2 << 20, 2 << 20) == 0);
    return nm_scope_close(root, NULL) == 0 ? 0 : 1;
}
