// SPDX-License-Identifier: Apache-2.0 OR MIT
/* nebula/pool.h: fixed-size buffers, leased and released by any thread; no release waits for another thread.
 *
 * A pool commits memory for its buffers in steps, charged to its scope. A lease is the right to use one buffer until it
 * is released. Nothing of the pool's lies inside a buffer: who holds it, since which generation and from which line of
 * the program, stands in a descriptor out of line, so that a second release is recognised, in release builds too, as
 * long as the root scope lives. A thread that uses a pool often keeps some free buffers in front of it; whoever is short
 * of buffers can take them from there. */
#ifndef NEBULA_POOL_H
#define NEBULA_POOL_H

#include <string.h>

#include "nebula/base.h"
#include "nebula/scope.h"

struct iovec;

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nm_pool nm_pool;

/* A value: copy it freely, but release it once, through one of the copies. */
typedef struct nm_lease {
    void *data;  /* NULL: no lease, see nm_lease_ok */
    size_t size; /* bytes that may be used there: .chunk_bytes of the pool; of a slice, the slice's */
    struct nm__slot *slot;
    uint64_t generation;
} nm_lease;

typedef struct nm_pool_options {
    size_t struct_size;    /* filled in by NM_POOL_OPTIONS and nm_pool_options_init */
    size_t chunk_bytes;    /* size of a buffer, 1 byte to 1 GiB; no default */
    size_t prealloc_count; /* buffers committed by the open; default 0 */
    size_t max_count;      /* most buffers that there may be; 0 = as the budget allows. At most 2^24 - 1 */
    size_t align_bytes;    /* alignment of a buffer, a power of two up to 2 MiB; 0 and all below 64 count as 64, so that
                              no two buffers share a cache line. Below 4096, in a pool for 32 MiB or more, buffers of
                              whole pages lie up to a 32nd more than their size apart, so that their first lines do not
                              compete for the same place in the processor's caches */
    const char *name;      /* copied, cut at 31 bytes; default "" */
    /* Most free buffers that a thread keeps in its magazine, a power of two up to 256. Default: 256, but no more than 8 MiB of
     * them, or 8 if that is more; and less where all threads together would keep more than an eighth of the cap. 1: none. */
    size_t magazine_count;
    bool zero_on_release; /* a buffer is zero when it is leased: zeroed when its last holder releases it */
    bool huge_pages;      /* asks the system for huge pages; needs align_bytes of 2 MiB */
} nm_pool_options;

#define NM_POOL_OPTIONS(...) (&(nm_pool_options){.struct_size = sizeof(nm_pool_options), __VA_ARGS__})
static inline nm_pool_options nm_pool_options_init(void) {
    nm_pool_options o;
    memset(&o, 0, sizeof o);
    o.struct_size = sizeof o;
    return o;
}

/* Opens a pool in `scope`, which is charged for the buffers as they are committed, for a page of descriptors with every
 * 64 of them, for the pool's own pages (two, one more with every 10,000 buffers), and for two pages of each thread that uses
 * the pool often. A buffer occupies chunk_bytes rounded up to the alignment, and a 32nd more at most where that makes it
 * odd or spreads it; address space is reserved for max_count of them (0: for what the limits above allow, at most 64 GiB,
 * and less where the system refuses that much).
 * *out lives until nm_pool_close or the scope's close, and is NULL unless NM_OK.
 * NM_EINVAL: an option out of range. NM_EBUDGET: no budget for the pool or for prealloc_count buffers. NM_ENOMEM: the
 * system refused memory, or the addresses for max_count. NM_ECAPACITY: the root is out of descriptors. Nothing is left
 * open then. Cost: some system calls. */
NM_API NM_NODISCARD nm_status nm_pool_open(nm_pool **out, nm_scope *scope, const nm_pool_options *options);
NM_API NM_NODISCARD nm_status nm_pool_open_at(nm_pool **out, nm_scope *scope, const nm_pool_options *options,
                                              const char *site);
#define nm_pool_open(out, scope, options) nm_pool_open_at(out, scope, options, NM_SITE)

/* Leases a buffer now or not at all; grows the pool when no buffer is free: by one buffer or what fills its pages, and
 * beyond that, while no soft limit is near, by as much as there is already, up to 256 KiB. Contents undefined, unless the
 * pool zeroes. An empty lease (data NULL): nm_pool_try_lease tells why. With max_count = N exactly N buffers can be out:
 * the N+1st is refused, never an earlier one, whatever other threads hold idle, grow or trim meanwhile.
 * Any thread. Cost: inline, no locked instruction, while the thread's own buffers in front last; a compare-and-swap for up
 * to 32 buffers when they are used up; a lock and system calls when the pool grows; before a refusal, a lock and a barrier
 * on all processors (some microseconds). */
static inline NM_NODISCARD nm_lease nm_pool_lease_at(nm_pool *pool, const char *site);
NM_API NM_NODISCARD nm_lease nm_pool_lease(nm_pool *pool);
#define nm_pool_lease(pool) nm_pool_lease_at(pool, NM_SITE)

/* The same, with the reason. *out is an empty lease unless NM_OK.
 * NM_ECAPACITY: max_count leases are out, or the root is out of descriptors (2^24). NM_EBUDGET: the hard limit of the
 * scope or of one above it, after reclaim. NM_ENOMEM: the system refused. NM_EINVAL: a NULL. */
static inline NM_NODISCARD nm_status nm_pool_try_lease_at(nm_pool *pool, nm_lease *out, const char *site);
NM_API NM_NODISCARD nm_status nm_pool_try_lease(nm_pool *pool, nm_lease *out);
#define nm_pool_try_lease(pool, out) nm_pool_try_lease_at(pool, out, NM_SITE)

/* Up to n leases at once, into out[0] to out[n - 1]; returns how many, and leaves the rest of `out` empty. Fewer only
 * where the next one would be refused. Any thread. Cost: as n single leases, less what they have in common. */
NM_API NM_NODISCARD size_t nm_pool_lease_many(nm_pool *pool, nm_lease *out, size_t n);
NM_API NM_NODISCARD size_t nm_pool_lease_many_at(nm_pool *pool, nm_lease *out, size_t n, const char *site);
#define nm_pool_lease_many(pool, out, n) nm_pool_lease_many_at(pool, out, n, NM_SITE)

/* Leases a buffer; where none is to be had, waits for one, timeout_ns nanoseconds at most (0: not at all; UINT64_MAX: for
 * ever). Who waits longest is served first, before any call that does not wait. *out is an empty lease unless NM_OK.
 * NM_ETIMEDOUT: the time ran out. Else as nm_pool_try_lease, but a refusal that can pass (NM_ECAPACITY, NM_EBUDGET, NM_ENOMEM)
 * is waited out, unless the pool has no buffer at all that could come back. Any thread; the pool must not be closed
 * meanwhile. Cost: as nm_pool_lease; system calls where it waits. */
NM_API NM_NODISCARD nm_status nm_pool_lease_wait(nm_pool *pool, nm_lease *out, uint64_t timeout_ns);
NM_API NM_NODISCARD nm_status nm_pool_lease_wait_at(nm_pool *pool, nm_lease *out, uint64_t timeout_ns,
                                                    const char *site);
#define nm_pool_lease_wait(pool, out, timeout_ns) nm_pool_lease_wait_at(pool, out, timeout_ns, NM_SITE)

/* A lease held by `holder`: it goes back when that scope closes, if not before; and that is no leak, unless the scope
 * was opened NM_LEAKS_STRICT. It may be released before by any thread. The holder must be of the pool's own root.
 * Further errors: NM_EINVAL: no holder, or one of another root. NM_ECAPACITY: also the holder's held_limit_bytes.
 * NM_EBUDGET, NM_ENOMEM: also when the holder has no room to note it (16 bytes, in steps of 256). */
NM_API NM_NODISCARD nm_status nm_pool_lease_in(nm_pool *pool, nm_scope *holder, nm_lease *out);
NM_API NM_NODISCARD nm_status nm_pool_lease_in_at(nm_pool *pool, nm_scope *holder, nm_lease *out, const char *site);
#define nm_pool_lease_in(pool, holder, out) nm_pool_lease_in_at(pool, holder, out, NM_SITE)

static inline bool nm_lease_ok(nm_lease lease) { return lease.data != NULL; }

/* Gives the buffer back and empties the lease; an empty one is ignored. A lease that is no longer out (a copy of it was
 * released, its pool or the scope that held it was closed) is misuse: nothing is released, the handler is called. Where
 * two threads release copies at the same moment, the one that is wrong may be found a little later: what a thread gave back
 * for another is looked at together, at the latest when a thread ends, or the pool is trimmed or closed.
 * Any thread. Cost: inline, no locked instruction, on the thread that leased it; on another, a compare-and-swap for up to
 * 32 of them. Never waits. */
static inline void nm_lease_release_at(nm_lease *lease, const char *site);
NM_API void nm_lease_release(nm_lease *lease);
#define nm_lease_release(lease) nm_lease_release_at(lease, NM_SITE)

/* The same for n leases; empty ones among them are ignored. */
NM_API void nm_lease_release_many(nm_lease *leases, size_t n);
NM_API void nm_lease_release_many_at(nm_lease *leases, size_t n, const char *site);
#define nm_lease_release_many(leases, n) nm_lease_release_many_at(leases, n, NM_SITE)

/* One more holder of the same bytes, with a generation and a site of its own; released like any other, in any order. The
 * buffer goes back with its last holder. The first form shows what `lease` shows, the second `n` bytes of it from `offset`
 * on. `lease` must be out and stay so during the call; one that is not out is misuse. *out is an empty lease unless NM_OK.
 * NM_EINVAL: an empty lease, or bytes beyond its end. NM_ESTALE: misuse. NM_EBUDGET, NM_ENOMEM, NM_ECAPACITY: no descriptor
 * for it (a page for 64); NM_ECAPACITY also: 2^24 holders. Any thread. O(1); a lock. */
NM_API NM_NODISCARD nm_status nm_lease_share(const nm_lease *lease, nm_lease *out);
NM_API NM_NODISCARD nm_status nm_lease_share_at(const nm_lease *lease, nm_lease *out, const char *site);
#define nm_lease_share(lease, out) nm_lease_share_at(lease, out, NM_SITE)
NM_API NM_NODISCARD nm_status nm_lease_slice(const nm_lease *lease, size_t offset, size_t n, nm_lease *out);
NM_API NM_NODISCARD nm_status nm_lease_slice_at(const nm_lease *lease, size_t offset, size_t n, nm_lease *out,
                                                const char *site);
#define nm_lease_slice(lease, offset, n, out) nm_lease_slice_at(lease, offset, n, out, NM_SITE)

/* Releases by address, where only the address travelled: the first byte of a buffer of this pool that is leased.
 * Another address, another pool's buffer or a free one is misuse. A buffer that was released and leased again meanwhile
 * is not recognised: the address carries no generation. Of a shared buffer it releases the lease that was there first.
 * NULL is ignored. Any thread. O(1). */
NM_API void nm_pool_release_data(nm_pool *pool, void *data);
NM_API void nm_pool_release_data_at(nm_pool *pool, void *data, const char *site);
#define nm_pool_release_data(pool, data) nm_pool_release_data_at(pool, data, NM_SITE)

/* A file descriptor for event loops: readable once a buffer has come free after a lease was refused, until the next refusal.
 * To use it: when a lease is refused, wait until it is readable, try again. A loop that watches it all the time, and is the
 * only one, reads 8 bytes from it first; where several wait none of them reads, for that might be another's. It belongs to
 * the pool, which closes it; every call gives the same. -1: the system has none left. Any thread. A system call. */
NM_API int nm_pool_event_fd(nm_pool *pool);

/* Declares `nm_lease name` and leases it; released when the C block ends, however it is left. */
#define NM_LEASE_SCOPED(name, pool) nm_lease name __attribute__((__cleanup__(nm__lease_end))) = nm_pool_lease(pool)

typedef struct nm_pool_stats {
    size_t total_count;     /* buffers that have memory: free_count + leased_count */
    size_t free_count;      /* of these, free to lease without growing */
    size_t leased_count;    /* buffers out */
    size_t peak_count;      /* most buffers that ever had memory at one time */
    size_t max_count;       /* most that there may be */
    size_t chunk_bytes;     /* as opened */
    size_t granted_bytes;   /* charged to the scope: buffers, descriptors, the pool's own pages */
    uint64_t grow_count;    /* times that memory was committed */
    uint64_t refused_count; /* leases refused */
    char name[NM_NAME_BYTES];
    uint64_t wait_count;  /* calls of nm_pool_lease_wait that had to wait */
    size_t waiting_count; /* of these, waiting now */
    size_t shared_count;  /* holders beyond the first of a buffer, now */
    size_t front_count;   /* of free_count, kept in front by threads */
    size_t thread_count;  /* threads that keep some */
} nm_pool_stats;

/* A snapshot, exact at quiet points. Any thread. O(buffers): leases are counted by looking at every descriptor, so that
 * no lease pays for it. */
NM_API void nm_pool_get_stats(const nm_pool *pool, nm_pool_stats *out);
NM_API void nm_pool_get_stats_sized(const nm_pool *pool, nm_pool_stats *out, size_t out_bytes);
#define nm_pool_get_stats(pool, out) nm_pool_get_stats_sized(pool, out, sizeof(nm_pool_stats))

/* Gives the memory of free buffers back, those that threads keep in front too, highest addresses first, and leaves
 * keep_free of them, or all if there are fewer. More are left where buffers share pages: a page goes only when all buffers
 * that touch it are free and may go. Returns the bytes given back, which are no longer charged; their descriptors stay.
 * Leases that find no free buffer meanwhile wait for it. NULL: 0. Any thread. O(buffers / 64 + free buffers), a barrier on
 * all processors, a system call for each run of buffers. */
NM_API size_t nm_pool_trim(nm_pool *pool, size_t keep_free);

/* For io_uring's registered buffers and the like: the addresses and sizes of all buffers, in the order of nm_lease_index.
 * Needs a pool whose prealloc_count is its max_count, so that all of them have memory for ever (such a pool is never
 * trimmed). Writes the first n into `out`, which may be NULL if n is 0, and returns how many there are; 0: not such a pool.
 * Any thread. O(n). */
NM_API size_t nm_pool_iovecs(const nm_pool *pool, struct iovec *out, size_t n);
/* The index of the lease's buffer there: 0 to max_count - 1. UINT32_MAX: an empty lease. Any thread. O(1). */
NM_API uint32_t nm_lease_index(const nm_lease *lease);

/* Closes the pool and gives its memory back. NULL is ignored. NM_EBUSY: leases are out; nothing is closed. (The scope's
 * close forces it, and reports them by site, oldest first.) One thread, and no other may use the pool; threads that used
 * it need not have ended, and may end later. O(buffers), system calls. */
NM_API NM_NODISCARD nm_status nm_pool_close(nm_pool *pool);

/* ---- the inline path ----------------------------------------------------------------------------------------------
 * What follows is private, and public only to be inlined. src/pool/README.md has the picture, the protocol and the
 * argument for each access. */

/* Reads and writes of words that threads share. In one place, so that a test can put a switch point at each. */
#ifndef nm__word_load
#define nm__word_load(p, order)         __atomic_load_n((p), (order))
#define nm__word_store(p, value, order) __atomic_store_n((p), (value), (order))
/* Keeps the compiler from moving the store before it and the load behind it past each other; the processor is kept from
 * it by whoever looks from another thread, with a barrier on all processors. */
#define nm__word_order() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#endif

/* Makes the compiler forget what it knows about a pointer. */
#define nm__forget(pointer) __asm__("" : "+r"(pointer))

/* Compilers find these too long to inline, though most of each is never run. */
#define NM__INLINE static inline __attribute__((__always_inline__))

/* The first fields of a pool. */
typedef struct nm__pool_face {
    uint64_t id;      /* of this pool alone, as long as the process lives */
    size_t in_thread; /* where a thread looks for its magazine of this pool: an offset in nm__thread */
    size_t chunk_bytes;
    nm__halves stamp; /* for a slot's `begun`: no mark, and the coarse time with the kind of slot */
} nm__pool_face;

/* A thread's free buffers of one pool: a stack in a ring that only its owner pushes to and pops from. `top` is the one
 * word that makes the owner leave its inline path: no buffer left, or frozen by somebody who is short of buffers or waits
 * for one. */
#define NM__MAGAZINE_RING   256u
#define NM__MAGAZINE_FROZEN ((uint64_t)1 << 62)
typedef struct nm__magazine {
    /* Also read by threads that release its leases: on a line that is hardly ever written. */
    const void *thread; /* the owner: its nm__thread; NULL: nobody */
    nm_pool *pool;
    unsigned char apart_[48];
    uint64_t bottom; /* one above the newest buffer; only the owner writes it */
    uint64_t top;    /* the oldest buffer; NM__MAGAZINE_FROZEN is added while others have the ring */
    uint64_t limit;  /* the owner's: at this `bottom` it is time to look whether the ring is full; 0: each time */
    struct nm__slot *ring[NM__MAGAZINE_RING];
} nm__magazine;

/* A thread finds its magazine here, if the pool is one of the last that it has used. */
#define NM__THREAD_MAGAZINES 8u
typedef struct nm__thread_magazine {
    uint64_t pool_id;
    nm__magazine *magazine;
} nm__thread_magazine;
typedef struct nm__thread_pools {
    nm__thread_magazine magazines[NM__THREAD_MAGAZINES];
} nm__thread_pools;
extern NM_API __thread nm__thread_pools nm__thread __attribute__((__tls_model__("initial-exec")));

/* A free slot and the magazine through which it is leased; slot NULL: refused, and `status` says why. */
typedef struct nm__taken {
    struct nm__slot *slot;
    nm__magazine *magazine;
} nm__taken;
NM_API nm__taken nm__pool_take_slow(nm_pool *pool, nm_status *status_or_null);
/* True: the lease is released. */
NM_API bool nm__lease_release_slow(void *data, struct nm__slot *slot, uint64_t generation, const char *site);
NM_API bool nm__lease_release_tied(void *data, struct nm__slot *slot, uint64_t generation, const char *site);
NM_API void nm__lease_end(nm_lease *lease);
/* After a push that may have gone into a frozen magazine, where nobody looks. */
NM_API void nm__pool_answer(nm_pool *pool);
/* An empty lease; not a constant of the compiler's, which would warn of its use on ways that are never gone. */
extern NM_API const nm_lease nm__no_lease;

/* This thread's magazine of the pool; NULL: it has none, or it is not at hand. */
NM__INLINE nm__magazine *nm__magazine_at_hand(const nm__pool_face *face) {
    const nm__thread_magazine *mine =
        (const nm__thread_magazine *)(const void *)((const char *)&nm__thread + face->in_thread);
    if (NM_UNLIKELY(mine->pool_id != face->id)) return NULL;
    if (mine->magazine == NULL) __builtin_unreachable();
    return mine->magazine;
}

/* Takes the newest buffer of this thread's magazine; NULL: there is none, or it is frozen. */
NM__INLINE struct nm__slot *nm__magazine_pop(nm__magazine *magazine) {
    uint64_t at = nm__word_load(&magazine->bottom, __ATOMIC_RELAXED) - 1;
    /* First the claim, then the look, as the owner of a work-stealing deque does (Chase and Lev 2005); who freezes the
     * magazine first freezes, then has a barrier on all processors, then looks at `bottom`. */
    nm__word_store(&magazine->bottom, at, __ATOMIC_RELAXED);
    nm__word_order();
    if (NM_LIKELY((int64_t)(at - nm__word_load(&magazine->top, __ATOMIC_RELAXED)) >= 0)) {
        struct nm__slot *slot = nm__word_load(&magazine->ring[at % NM__MAGAZINE_RING], __ATOMIC_RELAXED);
        if (slot == NULL) __builtin_unreachable();
        return slot;
    }
    nm__word_store(&magazine->bottom, at + 1, __ATOMIC_RELAXED);
    return NULL;
}

/* The slot is free and the caller's alone. A new generation makes it out. */
NM__INLINE nm_lease nm__slot_lease(const nm__pool_face *face, nm__magazine *magazine, struct nm__slot *slot,
                                   const char *site) {
    nm__forget(face); /* else gcc warns of NULL passed as a constant, which never comes here */
    uint64_t generation = nm__word_load(&slot->generation, __ATOMIC_RELAXED) + 2;
    nm__word_store(&slot->leased_at, site, __ATOMIC_RELAXED);
    nm__word_store(&slot->owner, (void *)magazine, __ATOMIC_RELAXED);
    nm__word_store(&slot->generation, generation, __ATOMIC_RELEASE);
    /* After it: an old copy must not see its own generation without the mark of its end. `rare` is 0 already. */
    nm__word_store(&slot->begun.both, nm__word_load(&face->stamp.both, __ATOMIC_RELAXED), __ATOMIC_RELEASE);
    nm_lease lease;
    lease.data = slot->data;
    lease.size = face->chunk_bytes;
    lease.slot = slot;
    lease.generation = generation;
    return lease;
}

NM__INLINE nm__taken nm__pool_take(nm_pool *pool, nm_status *status_or_null) {
    const nm__pool_face *face = (const nm__pool_face *)pool;
    nm__magazine *magazine = NM_LIKELY(face != NULL) ? nm__magazine_at_hand(face) : NULL;
    if (NM_LIKELY(magazine != NULL)) {
        nm__taken taken = {nm__magazine_pop(magazine), magazine};
        if (NM_LIKELY(taken.slot != NULL)) return taken;
    }
    return nm__pool_take_slow(pool, status_or_null);
}

NM__INLINE nm_lease nm_pool_lease_at(nm_pool *pool, const char *site) {
    nm__taken taken = nm__pool_take(pool, NULL);
    if (NM_UNLIKELY(taken.slot == NULL)) return nm__no_lease;
    return nm__slot_lease((const nm__pool_face *)pool, taken.magazine, taken.slot, site);
}

NM__INLINE nm_status nm_pool_try_lease_at(nm_pool *pool, nm_lease *out, const char *site) {
    nm_status status = NM_EINVAL;
    if (NM_UNLIKELY(out == NULL)) return status;
    nm__taken taken = nm__pool_take(pool, &status);
    if (NM_UNLIKELY(taken.slot == NULL)) {
        *out = nm__no_lease;
        return status;
    }
    *out = nm__slot_lease((const nm__pool_face *)pool, taken.magazine, taken.slot, site);
    return NM_OK;
}

NM__INLINE void nm_lease_release_at(nm_lease *lease, const char *site) {
    void *data = lease->data;
    struct nm__slot *slot = lease->slot;
    uint64_t generation = lease->generation;
    if (NM_UNLIKELY(data == NULL)) return;
    nm__forget(slot); /* else gcc warns of the slot of an empty lease, which is never looked at */
    /* Not shared, not released, and out? The generation last, for the next lease writes it before it takes the mark away.
     * acquire: that, and what other holders, who are gone, did to the buffer. */
    if (NM_LIKELY(nm__word_load(&slot->rare.both, __ATOMIC_ACQUIRE) == 0 &&
                  nm__word_load(&slot->nm__own_mark, __ATOMIC_ACQUIRE) == 0 &&
                  nm__word_load(&slot->generation, __ATOMIC_RELAXED) == generation)) {
        nm__magazine *magazine = (nm__magazine *)nm__word_load(&slot->owner, __ATOMIC_RELAXED);
        uint64_t at;
        /* Leased by this thread, and the ring has room? The owner first: another thread must not touch the line of `bottom`. */
        if (NM_LIKELY(nm__word_load(&magazine->thread, __ATOMIC_RELAXED) == (const void *)&nm__thread &&
                      (at = nm__word_load(&magazine->bottom, __ATOMIC_RELAXED)) < magazine->limit)) {
            nm__word_store(&slot->nm__own_mark, nm__generation_mark(generation), __ATOMIC_RELAXED);
            nm__word_order();
            if (NM_LIKELY(nm__word_load(&slot->claim, __ATOMIC_RELAXED) - generation > 1)) {
                nm__word_store(&slot->released_at, site, __ATOMIC_RELAXED);
                nm__word_store(&magazine->ring[at % NM__MAGAZINE_RING], slot, __ATOMIC_RELAXED);
                nm__word_store(&magazine->bottom, at + 1, __ATOMIC_RELEASE);
                lease->data = NULL;
                nm__word_order();
                if (NM_UNLIKELY(nm__word_load(&magazine->top, __ATOMIC_RELAXED) >= NM__MAGAZINE_FROZEN))
                    nm__pool_answer(magazine->pool);
            } else if (nm__lease_release_tied(data, slot, generation, site)) {
                lease->data = NULL;
            }
            return;
        }
    }
    if (nm__lease_release_slow(data, slot, generation, site)) lease->data = NULL;
}

/* Is that generation out, as far as this thread can see? */
static inline bool nm__slot_is_out(const struct nm__slot *slot, uint64_t generation) {
    uint32_t mark = nm__generation_mark(generation);
    /* In this order: own_mark takes the place of far_mark when the release has been looked at. */
    return nm__word_load(&slot->nm__far_mark, __ATOMIC_ACQUIRE) != mark &&
           nm__word_load(&slot->nm__own_mark, __ATOMIC_ACQUIRE) != mark &&
           nm__word_load(&slot->generation, __ATOMIC_ACQUIRE) == generation;
}

#ifdef __cplusplus
}
#endif

#endif
