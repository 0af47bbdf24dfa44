// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A pool of fixed buffers with leases. */
#include <nebula/memory.h>
#include <stdio.h>

int main(void) {
    nm_scope *io;
    nm_pool *pool;
    if (nm_scope_open(&io, NULL, NM_SCOPE_OPTIONS(.name = "io", .hard_bytes = 1 << 20)) != NM_OK) return 1;
    if (nm_pool_open(&pool, io, NM_POOL_OPTIONS(.chunk_bytes = 16 << 10, .max_count = 2)) != NM_OK) return 1;
    {
        NM_LEASE_SCOPED(a, pool); /* goes back at the end of this block */
        nm_lease b = nm_pool_lease(pool), c;
        if (!nm_lease_ok(a) || !nm_lease_ok(b)) return 1;
        snprintf(a.data, a.size, "two buffers of %zu bytes", a.size);
        puts(a.data);
        nm_status refused = nm_pool_try_lease(pool, &c);
        if (refused != NM_ECAPACITY) return 1;
        printf("a third: %s\n", nm_status_text(refused));
        nm_lease_release(&b); /* by any thread; a second time would be caught */
    }
    nm_pool_stats stats;
    nm_pool_get_stats(pool, &stats);
    if (stats.leased_count != 0 || stats.free_count != 2) return 1;
    printf("%zu leased, %zu free\n", stats.leased_count, stats.free_count);
    return nm_scope_close(io, NULL) == 0 ? 0 : 1; /* closes the pool too */
}
