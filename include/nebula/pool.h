// SPDX-License-Identifier: Apache-2.0 OR MIT
/* nebula/pool.h: fixed-size buffers, leased and released by any thread without a lock.
 *
 * A pool commits memory for its buffers in steps, charged to its scope. A lease is the right to use one buffer until it
 * is released. Nothing of the pool's lies inside a buffer: who holds it, since which generation and from which line of
 * the program, stands in a descriptor out of line, so that a second release is recognised, in release builds too, as
 * long as the root scope lives. */
#ifndef NEBULA_POOL_H
#define NEBULA_POOL_H

#include <string.h>

#include "nebula/base.h"
#include "nebula/scope.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nm_pool nm_pool;

/* A value: copy it freely, but release it once, through one of the copies. */
typedef struct nm_lease {
    void *data;  /* NULL: no lease, see nm_lease_ok */
    size_t size; /* bytes of the buffer, .chunk_bytes of the pool */
    struct nm__slot *slot;
    uint64_t generation;
} nm_lease;

typedef struct nm_pool_options {
    size_t struct_size;    /* filled in by NM_POOL_OPTIONS and nm_pool_options_init */
    size_t chunk_bytes;    /* size of a buffer, 1 byte to 1 GiB; no default */
    size_t prealloc_count; /* buffers committed by the open; default 0 */
    size_t max_count;      /* most buffers that there may be; 0 = as the budget allows. At most 2^24 - 1 */
    size_t align_bytes;    /* alignment of a buffer, a power of two up to 2 MiB; 0 and all below 64 count as 64, so that
                              no two buffers share a cache line */
    const char *name;      /* copied, cut at 31 bytes; default "" */
} nm_pool_options;

#define NM_POOL_OPTIONS(...) (&(nm_pool_options){.struct_size = sizeof(nm_pool_options), __VA_ARGS__})
static inline nm_pool_options nm_pool_options_init(void) {
    nm_pool_options o;
    memset(&o, 0, sizeof o);
    o.struct_size = sizeof o;
    return o;
}

/* Opens a pool in `scope`, which is charged for the buffers as they are committed, for a page of descriptors with every
 * 64 of them, and for the pool's own pages: two, one more with every 10,000 buffers. A buffer occupies chunk_bytes
 * rounded up to the alignment, and a 32nd more at most where that is odd; address space is reserved for max_count of
 * them (0: for what the limits above allow, at most 64 GiB, and less where the system refuses that much).
 * *out lives until nm_pool_close or the scope's close, and is NULL unless NM_OK.
 * NM_EINVAL: an option out of range. NM_EBUDGET: no budget for the pool or for prealloc_count buffers. NM_ENOMEM: the
 * system refused memory, or the addresses for max_count. NM_ECAPACITY: the root is out of descriptors. Nothing is left
 * open then. Cost: some system calls. */
NM_API NM_NODISCARD nm_status nm_pool_open(nm_pool **out, nm_scope *scope, const nm_pool_options *options);
NM_API NM_NODISCARD nm_status nm_pool_open_at(nm_pool **out, nm_scope *scope, const nm_pool_options *options,
                                              const char *site);
#define nm_pool_open(out, scope, options) nm_pool_open_at(out, scope, options, NM_SITE)

/* Leases a buffer now or not at all; grows the pool when no buffer is free: by one buffer or what fills its pages, and
 * beyond that, while no soft limit is near, by as much as there is already, up to 256 KiB. Contents undefined. An empty
 * lease (data NULL): nm_pool_try_lease tells why. With max_count = N exactly N leases can be out: the N+1st is refused,
 * never an earlier one, whatever other threads grow or trim meanwhile.
 * Any thread. Cost: one compare-and-swap and a store in the descriptor; a lock and a system call when it grows, a lock
 * when it is refused. */
NM_API NM_NODISCARD nm_lease nm_pool_lease(nm_pool *pool);
NM_API NM_NODISCARD nm_lease nm_pool_lease_at(nm_pool *pool, const char *site);
#define nm_pool_lease(pool) nm_pool_lease_at(pool, NM_SITE)

/* The same, with the reason. *out is an empty lease unless NM_OK.
 * NM_ECAPACITY: max_count leases are out, or the root is out of descriptors (2^24). NM_EBUDGET: the hard limit of the
 * scope or of one above it, after reclaim. NM_ENOMEM: the system refused. NM_EINVAL: a NULL. */
NM_API NM_NODISCARD nm_status nm_pool_try_lease(nm_pool *pool, nm_lease *out);
NM_API NM_NODISCARD nm_status nm_pool_try_lease_at(nm_pool *pool, nm_lease *out, const char *site);
#define nm_pool_try_lease(pool, out) nm_pool_try_lease_at(pool, out, NM_SITE)

/* A lease held by `holder`: it goes back when that scope closes, if not before; and that is no leak, unless the scope
 * was opened NM_LEAKS_STRICT. It may be released before by any thread. The holder must be of the pool's own root.
 * Further errors: NM_EINVAL: no holder, or one of another root. NM_ECAPACITY: also the holder's held_limit_bytes.
 * NM_EBUDGET, NM_ENOMEM: also when the holder has no room to note it (16 bytes, in steps of 256). */
NM_API NM_NODISCARD nm_status nm_pool_lease_in(nm_pool *pool, nm_scope *holder, nm_lease *out);
NM_API NM_NODISCARD nm_status nm_pool_lease_in_at(nm_pool *pool, nm_scope *holder, nm_lease *out, const char *site);
#define nm_pool_lease_in(pool, holder, out) nm_pool_lease_in_at(pool, holder, out, NM_SITE)

static inline bool nm_lease_ok(nm_lease lease) { return lease.data != NULL; }

/* Gives the buffer back and empties the lease; an empty one is ignored. A lease that is no longer out (a copy of it was
 * released, its pool or the scope that held it was closed) is misuse: nothing is released, the handler is called.
 * Any thread. Cost: two compare-and-swaps. */
NM_API void nm_lease_release(nm_lease *lease);
NM_API void nm_lease_release_at(nm_lease *lease, const char *site);
#define nm_lease_release(lease) nm_lease_release_at(lease, NM_SITE)

/* Releases by address, where only the address travelled: the first byte of a buffer of this pool that is leased.
 * Another address, another pool's buffer or a free one is misuse. A buffer that was released and leased again meanwhile
 * is not recognised: the address carries no generation. NULL is ignored. Any thread. O(1). */
NM_API void nm_pool_release_data(nm_pool *pool, void *data);
NM_API void nm_pool_release_data_at(nm_pool *pool, void *data, const char *site);
#define nm_pool_release_data(pool, data) nm_pool_release_data_at(pool, data, NM_SITE)

/* Declares `nm_lease name` and leases it; released when the C block ends, however it is left. */
#define NM_LEASE_SCOPED(name, pool) nm_lease name __attribute__((__cleanup__(nm__lease_end))) = nm_pool_lease(pool)

typedef struct nm_pool_stats {
    size_t total_count;     /* buffers that have memory: free_count + leased_count */
    size_t free_count;      /* of these, free to lease without growing */
    size_t leased_count;    /* leases out */
    size_t peak_count;      /* most buffers that ever had memory at one time */
    size_t max_count;       /* most that there may be */
    size_t chunk_bytes;     /* as opened */
    size_t granted_bytes;   /* charged to the scope: buffers, descriptors, the pool's own page */
    uint64_t grow_count;    /* times that memory was committed */
    uint64_t refused_count; /* leases refused */
    char name[NM_NAME_BYTES];
} nm_pool_stats;

/* A snapshot, exact at quiet points. Any thread. O(buffers): leases are counted by looking at every descriptor, so that
 * no lease pays for it. */
NM_API void nm_pool_get_stats(const nm_pool *pool, nm_pool_stats *out);
NM_API void nm_pool_get_stats_sized(const nm_pool *pool, nm_pool_stats *out, size_t out_bytes);
#define nm_pool_get_stats(pool, out) nm_pool_get_stats_sized(pool, out, sizeof(nm_pool_stats))

/* Gives the memory of free buffers back, highest addresses first, and leaves keep_free of them, or all if there are
 * fewer. More are left where buffers share pages: a page goes only when all buffers that touch it are free and may go.
 * Returns the bytes given back, which are no longer charged; their descriptors stay. Leases that find no free buffer
 * meanwhile wait for it. NULL: 0. Any thread. O(buffers / 64 + free buffers), a system call for each run of buffers. */
NM_API size_t nm_pool_trim(nm_pool *pool, size_t keep_free);

/* Closes the pool and gives its memory back. NULL is ignored. NM_EBUSY: leases are out; nothing is closed. (The scope's
 * close forces it, and reports them.) One thread, and no other may use the pool. O(buffers), system calls. */
NM_API NM_NODISCARD nm_status nm_pool_close(nm_pool *pool);

NM_API void nm__lease_end(nm_lease *lease);

#ifdef __cplusplus
}
#endif

#endif
