// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the pool's files share: the pool itself and its free list. README.md has the picture and the argument. */
#ifndef NM_SRC_POOL_POOL_INTERNAL_H
#define NM_SRC_POOL_POOL_INTERNAL_H

#include <pthread.h>
#include <stdalign.h>

#include "base/atomic.h"
#include "base/math.h"
#include "nebula/pool.h"
#include "os/os.h"
#include "scope/holder.h"
#include "scope/slot.h"

/* The head of the free list: number of the first free slot (0 = none) below, a tag above that goes up with every
 * change. 40 bits of tag come round after hours of nothing but leases, 16 would in milliseconds. */
#define NM__HEAD_TAG_ONE     ((uint64_t)1 << NM__SLOT_NUMBER_BITS)
#define NM__HEAD_NUMBER_MASK (NM__HEAD_TAG_ONE - 1)

#define NM__POOL_COUNT_MAX   (((size_t)1 << NM__SLOT_NUMBER_BITS) - 1)
#define NM__POOL_CHUNK_MAX   ((size_t)1 << 30)
#define NM__POOL_ALIGN_MAX   ((size_t)2 << 20)
#define NM__POOL_ALIGN_LEAST ((size_t)64)        /* buffers share no cache line; 64 of them are whole pages */
#define NM__POOL_STEP_BYTES  ((size_t)256 << 10) /* most that growth commits beyond the one buffer that is wanted */
#define NM__POOL_RANGE_BYTES ((size_t)64 << 30)  /* address space that a pool without max_count reserves at most */
/* Rounds of making room and trying again before a refusal: other threads may take what was made free. */
#define NM__POOL_ROUNDS 4
#define NM__GROUP_COUNT ((size_t)NM__SLOTS_PER_PAGE)

/* 64 buffers, whose slots have consecutive numbers. Under the pool's lock, but for `slots`, which is written before
 * group_count says that there is one more group, and never again. */
typedef struct nm__group {
    nm__slot *slots;
    uint64_t warm; /* a bit per buffer: it has memory */
    uint64_t idle; /* trim's notes: taken off the free list; 0 outside a trim */
} nm__group;

/* One page. What every lease touches lies at its end: the first slots of a page, which are in use most, and
 * page-aligned buffers lie at the beginning of theirs, and a load that agrees with an earlier store in the low 12 bits
 * of its address waits for it (README, "Aliasing"). */
struct nm_pool {
    nm__holder holder; /* .scope: who is charged */

    /* constant */
    unsigned char *base; /* of the buffers' range */
    size_t stride;
    size_t cap;        /* buffers that the range has room for, and the most that there will ever be */
    size_t unit_count; /* buffers of a unit, a power of two up to 64: the fewest that fill whole pages */
    size_t
        unit_bytes; /* memory that a unit needs; less than unit_count * stride where alignment leaves gaps of pages */
    size_t range_bytes; /* of the buffers */
    size_t own_bytes;   /* of this struct's range: its page, then the groups */
    size_t group_max;
    nm__group *groups;
    char name[NM_NAME_BYTES];

    /* Growth and trim. */
    pthread_mutex_t lock;
    size_t cold_hint;    /* no group before this one has a buffer without memory */
    size_t groups_bytes; /* committed of `groups` */
    NM_ATOMIC(size_t) group_count;
    NM_ATOMIC(size_t) total_count; /* buffers that have memory */
    NM_ATOMIC(size_t) peak_count;
    NM_ATOMIC(size_t) granted_bytes;
    NM_ATOMIC(uint64_t) grow_count;
    NM_ATOMIC(uint64_t) refused_count;

    /* Read by every lease; constant, but for `slots`, which is set before the first slot is on the free list. */
    alignas(NM__PAGE_BYTES / 2) char gap_[NM__PAGE_BYTES / 2 - 256];
    nm__slot *slots; /* slot number n of the root is slots + n */
    size_t chunk_bytes;
    bool watched; /* by a checker: free buffers are poisoned */

    /* The one word that all threads write, on a line of its own and without a neighbour: processors fetch lines in
     * pairs. */
    alignas(128) NM_ATOMIC(uint64_t) head;
};
_Static_assert(sizeof(nm_pool) == NM__PAGE_BYTES, "a pool is one page");
#define NM__POOL_BYTES NM__PAGE_BYTES

extern const nm__slot_class nm__pool_slot_class;

/* ---- the free list ------------------------------------------------------------------------------------------------
 * A stack (Treiber 1986), its head tagged against ABA (as IBM's System/370 Principles of Operation of 1983 proposes). */

static inline nm__slot *nm__pool_pop(nm_pool *pool) {
    /* acquire: pairs with the release in nm__pool_push_chain, here and where the exchange below reads a new head; shows
     * the slot's `next` and fields, and all that its last holder did to the buffer. Every change of the head is one
     * read-modify-write, so the pushes below the top are in the same release sequence. */
    uint64_t head = nm_atomic_load(&pool->head, NM_ACQUIRE);
    for (;;) {
        uint64_t number = head & NM__HEAD_NUMBER_MASK;
        if (NM_UNLIKELY(number == 0)) return NULL;
        nm__slot *slot = pool->slots + number;
        /* relaxed: ordered by the acquire of `head`. Another thread may have taken the slot and be writing this field:
         * the exchange fails then, for the tag has moved, and slots are never unmapped. */
        uint64_t next = nm_atomic_load(&slot->next, NM_RELAXED);
        uint64_t below = ((head & ~NM__HEAD_NUMBER_MASK) + NM__HEAD_TAG_ONE) | next;
        if (NM_LIKELY(nm_atomic_cas_weak(&pool->head, &head, below, NM_ACQUIRE, NM_ACQUIRE))) return slot;
    }
}

/* Puts the chain first .. last, linked by `next`, on the list. */
static inline void nm__pool_push_chain(nm_pool *pool, nm__slot *first, nm__slot *last) {
    uint64_t head = nm_atomic_load(&pool->head, NM_RELAXED);
    uint64_t above;
    do {
        /* relaxed: published by the exchange */
        nm_atomic_store(&last->next, (uint32_t)(head & NM__HEAD_NUMBER_MASK), NM_RELAXED);
        above = ((head & ~NM__HEAD_NUMBER_MASK) + NM__HEAD_TAG_ONE) | first->number;
        /* release: pairs with the acquire in nm__pool_pop; publishes the links, the slots' fields and the last holder's
         * use of the buffers. Failure may be relaxed: nothing is read through the number. */
    } while (NM_UNLIKELY(!nm_atomic_cas_weak(&pool->head, &head, above, NM_RELEASE, NM_RELAXED)));
}

/* Takes the whole list: number of its first slot, 0 = none. */
static inline uint32_t nm__pool_pop_all(nm_pool *pool) {
    uint64_t head = nm_atomic_load(&pool->head, NM_RELAXED);
    for (;;) {
        if ((head & NM__HEAD_NUMBER_MASK) == 0) return 0;
        uint64_t empty = (head & ~NM__HEAD_NUMBER_MASK) + NM__HEAD_TAG_ONE;
        /* acquire: pairs with the release in nm__pool_push_chain, as in nm__pool_pop */
        if (nm_atomic_cas_weak(&pool->head, &head, empty, NM_ACQUIRE, NM_RELAXED))
            return (uint32_t)(head & NM__HEAD_NUMBER_MASK);
    }
}

/* ---- extent.c ---------------------------------------------------------------------------------------------------- */

/* With the pool's lock held: gives memory to `count` buffers or, where the group ends before, to fewer, at least one;
 * takes one for the caller (*out) and puts the others on the free list. `ahead`: commits more than asked for if that is
 * easy. NM_ECAPACITY: all have memory. NM_EBUDGET, NM_ENOMEM: nothing changed; *wanted is how many bytes should be made
 * room for before the next try, 0 if that is no use. */
nm_status nm__pool_grow(nm_pool *pool, size_t count, bool ahead, size_t *wanted, nm__slot **out);

/* With the pool's lock held: gives back the memory of free buffers, about wanted_bytes, and leaves keep_free at least,
 * if there are so many. Returns the bytes. */
size_t nm__pool_trim_locked(nm_pool *pool, size_t keep_free, size_t wanted_bytes);

/* For the close: all memory and slots go back, then the pool's own pages. No slot is out. */
void nm__pool_destroy(nm_pool *pool);

static inline nm__slot *nm__pool_slot_of_index(const nm_pool *pool, size_t index) {
    return pool->groups[index / NM__GROUP_COUNT].slots + index % NM__GROUP_COUNT;
}

#endif
