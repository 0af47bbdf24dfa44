// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the pool's files share: the pool itself, its depot, and the threads' stations. README.md has the picture and the
 * argument. */
#ifndef NM_SRC_POOL_POOL_INTERNAL_H
#define NM_SRC_POOL_POOL_INTERNAL_H

#include <pthread.h>
#include <stdalign.h>

#include "base/atomic.h"
#include "base/fault.h"
#include "base/math.h"
#include "base/process.h"
#include "nebula/pool.h"
#include "os/os.h"
#include "scope/holder.h"
#include "scope/slot.h"

/* The head of the depot: number of the first free slot (0 = none) below, a tag above that goes up with every change. 40
 * bits of tag come round after hours of nothing but leases, 16 would in milliseconds. */
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
    uint64_t idle; /* trim's notes: taken from the depot; 0 outside a trim */
} nm__group;

/* ---- stations ------------------------------------------------------------------------------------------------------
 * What a thread that uses the pool often has of its own: its magazine, the releases of others' leases that it has not sent
 * yet, and an inbox for the releases of its own leases by others. */

#define NM__STATIONS_MAX   ((size_t)255)
#define NM__LETTERS        ((size_t)32)
#define NM__PARCELS        ((size_t)8)
#define NM__STATION_OFFSET ((size_t)512) /* in its page: page-aligned buffers are used at theirs (README, "Aliasing") */

/* A release: number of the slot above, 40 bits of the generation below. */
#define NM__LETTER_GENERATION (((uint64_t)1 << 40) - 1)

/* Releases on their way to the station that the leases were taken through. */
struct nm__station;
typedef struct nm__parcel nm__parcel;
struct nm__parcel {
    nm__parcel *next;
    struct nm__station *home; /* whose it is when it is empty */
    size_t count;
    uint64_t letters[NM__LETTERS];
};
/* Most buffers that go from a ring into the depot, or out of it, at once: what one of them takes the longest. */
#define NM__BATCH ((size_t)32)

typedef struct nm__station {
    nm__magazine magazine; /* first */
    /* Odd while the owner moves buffers between ring, letters, inbox and depot, and some of them are nowhere. */
    NM_ATOMIC(uint64_t) moves;
    size_t room;        /* most buffers of the ring */
    size_t letters_max; /* most letters of `out` */
    size_t allowance;   /* of the pool's front_allowance */
    nm__parcel *empties;
    /* Letters not sent yet: a ring like the magazine's. */
    NM_ATOMIC(uint64_t) out_bottom;
    NM_ATOMIC(uint64_t) out_top;
    NM_ATOMIC(uint64_t) out[NM__LETTERS];
    /* Written by others. Nobody takes one parcel, all are taken at once: so there is no ABA. */
    alignas(64) NM_ATOMIC(nm__parcel *) inbox;
    alignas(64) NM_ATOMIC(nm__parcel *) returned; /* own parcels, empty */
    alignas(64) nm__parcel parcels[NM__PARCELS];
} nm__station;
#define NM__STATION_BYTES (2 * NM__PAGE_BYTES)
_Static_assert(sizeof(nm__station) <= NM__STATION_BYTES - NM__STATION_OFFSET, "a station is two pages");

/* Somebody who waits for a buffer; on its own stack. */
typedef struct nm__waiter {
    struct nm__waiter *older, *newer;
    nm__slot *slot;
    NM_ATOMIC(uint32_t) served;
} nm__waiter;

/* ---- the pool ------------------------------------------------------------------------------------------------------ */

struct nm_pool {
    /* Read by every lease, written hardly ever. */
    nm__pool_face face;
    nm__slot *slots; /* slot number n of the root is slots + n; set before the first slot is in the depot */
    /* What leases are taken from by threads that have no station: a magazine without its ring, which nobody touches. */
    alignas(8) unsigned char nobody[offsetof(nm__magazine, ring)];
    bool watched; /* by a checker: free buffers are poisoned */
    bool zeroing;
    bool fixed; /* all buffers have memory for ever */
    bool stations_on;
    uint16_t magazine_count;
    NM_ATOMIC(size_t) station_count; /* made so far */

    /* Why releases must look beyond their station: changed together with the stations' FROZEN. */
    NM_ATOMIC(uint32_t) waiting; /* threads that wait */
    NM_ATOMIC(uint32_t) armed;   /* a lease was refused since the event was signalled last */
    NM_ATOMIC(uint32_t) frozen;  /* all stations are; written under the lock */
    NM_ATOMIC(uint32_t) again;   /* somebody wants what the holder of the lock does to be done again */
    NM_ATOMIC(int) event_fd;

    /* constant */
    unsigned char *base; /* of the buffers' range */
    size_t stride;
    size_t cap;        /* buffers that the range has room for, and the most that there will ever be */
    size_t unit_count; /* buffers of a unit, a power of two up to 64: the fewest that fill whole pages */
    size_t
        unit_bytes; /* memory that a unit needs; less than unit_count * stride where alignment leaves gaps of pages */
    size_t range_bytes; /* of the buffers */
    unsigned char *own; /* range of this struct: its page, the stations' pages, then the groups */
    size_t own_bytes;
    size_t group_max;
    nm__group *groups;
    char name[NM_NAME_BYTES];
    nm__holder holder; /* .scope: who is charged */
    nm__member member;

    /* Growth, trim, stations, freezing, share slots. */
    pthread_mutex_t lock;
    size_t cold_hint;                  /* no group before this one has a buffer without memory */
    size_t groups_bytes;               /* committed of `groups` */
    size_t resting_count;              /* stations that are nobody's */
    NM_ATOMIC(size_t) front_allowance; /* buffers that more stations may keep; written under the lock */
    nm__slot *share_pages; /* the first slot of each page, which holds the next page in `data` and is not used */
    NM_ATOMIC(size_t) group_count;
    NM_ATOMIC(size_t) total_count; /* buffers that have memory */
    NM_ATOMIC(size_t) peak_count;
    NM_ATOMIC(size_t) granted_bytes;
    NM_ATOMIC(size_t) shared_count; /* shares out */
    NM_ATOMIC(size_t) orphan_count; /* buffers of which only shares are out */
    NM_ATOMIC(uint64_t) grow_count;
    NM_ATOMIC(uint64_t) refused_count;
    NM_ATOMIC(uint64_t) wait_count;

    /* Who waits, first come first. */
    pthread_mutex_t wait_lock;
    nm__waiter *oldest, *newest;

    /* Words that all threads write, each on a line of its own and without a neighbour: processors fetch lines in pairs. */
    alignas(128) NM_ATOMIC(uint64_t) head;   /* of the depot */
    alignas(128) NM_ATOMIC(uint64_t) shares; /* free slots for shares */
    char end_[120];
};
/* In the pool's page, above what page-aligned buffers are mostly used at. */
#define NM__POOL_OFFSET ((size_t)1664)
_Static_assert(sizeof(nm_pool) <= NM__PAGE_BYTES - NM__POOL_OFFSET, "a pool is one page");
#define NM__POOL_BYTES NM__PAGE_BYTES

static inline nm__station *nm__station_at(const nm_pool *pool, size_t index) {
    return (nm__station *)(void *)(pool->own + NM__POOL_BYTES + index * NM__STATION_BYTES + NM__STATION_OFFSET);
}

static inline nm__magazine *nm__nobody(nm_pool *pool) { return (nm__magazine *)(void *)pool->nobody; }

/* The owner, while it moves buffers or as the inline path does; there is room.
 * release: pairs with the acquire in nm__pool_collect */
static inline void nm__magazine_push(nm__magazine *magazine, nm__slot *slot) {
    uint64_t at = nm_atomic_load(&magazine->bottom, NM_RELAXED);
    nm_atomic_store(&magazine->ring[at % NM__MAGAZINE_RING], slot, NM_RELAXED);
    nm_atomic_store(&magazine->bottom, at + 1, NM_RELEASE);
}
/* How many there are; exact for the owner. */
static inline size_t nm__magazine_count(const nm__magazine *magazine) {
    uint64_t top = nm_atomic_load(&magazine->top, NM_RELAXED) & ~NM__MAGAZINE_FROZEN;
    return (size_t)(nm_atomic_load(&magazine->bottom, NM_RELAXED) - top);
}

/* The slot is out, or its pool open. */
static inline nm__magazine *nm__magazine_of(const nm__slot *slot) {
    return (nm__magazine *)nm_atomic_load(&slot->owner, NM_RELAXED);
}
static inline nm_pool *nm__pool_of(const nm__slot *slot) { return nm__magazine_of(slot)->pool; }
static inline bool nm__is_share(const nm__slot *slot) {
    return (nm_atomic_load(&slot->nm__stamp, NM_RELAXED) & ((1u << NM__SLOT_KIND_BITS) - 1)) == NM__SLOT_SHARE;
}

/* ---- depot ---------------------------------------------------------------------------------------------------------
 * A stack (Treiber 1986), its head tagged against ABA (as IBM's System/370 Principles of Operation of 1983 proposes). The
 * same for the slots of shares. */

/* The tag of the next head. */
static inline uint64_t nm__head_tag_after(uint64_t head) {
    uint64_t tag = (head & ~NM__HEAD_NUMBER_MASK) + NM__HEAD_TAG_ONE;
    if (NM__FAULT(depot_untagged)) tag = 0;
    if (NM__FAULT(depot_tag_narrow)) tag &= NM__HEAD_TAG_ONE;
    return tag;
}

static inline nm__slot *nm__depot_pop(const nm_pool *pool, NM_ATOMIC(uint64_t) * at) {
    /* acquire: pairs with the release in nm__depot_push, here and where the exchange below reads a new head; shows
     * the slot's `link` and fields, and all that its last holder did to the buffer. Every change of the head is one
     * read-modify-write, so the pushes below the top are in the same release sequence. */
    uint64_t head = nm_atomic_load(at, NM_ACQUIRE);
    for (;;) {
        uint64_t number = head & NM__HEAD_NUMBER_MASK;
        if (NM_UNLIKELY(number == 0)) return NULL;
        nm__slot *slot = pool->slots + number;
        /* relaxed: ordered by the acquire of the head. Another thread may have taken the slot and be writing this field:
         * the exchange fails then, for the tag has moved, and slots are never unmapped. */
        uint64_t next = nm_atomic_load(&slot->nm__link, NM_RELAXED) & NM__HEAD_NUMBER_MASK;
        uint64_t below = nm__head_tag_after(head) | next;
        if (NM_LIKELY(nm_atomic_cas_weak(at, &head, below, NM_ACQUIRE, NM_ACQUIRE))) {
            nm_atomic_store(&slot->nm__link, 0u, NM_RELAXED); /* as long as it is in no list: its holders; none */
            return slot;
        }
    }
}

/* Takes up to `most` slots; returns how many. */
static inline size_t nm__depot_pop_some(nm_pool *pool, nm__slot **out, size_t most) {
    uint64_t head = nm_atomic_load(&pool->head, NM_ACQUIRE);
    for (;;) {
        uint64_t number = head & NM__HEAD_NUMBER_MASK, seen = head;
        size_t count = 0;
        while (number != 0 && count < most) {
            nm__slot *slot = pool->slots + number;
            uint64_t next = nm_atomic_load(&slot->nm__link, NM_RELAXED) & NM__HEAD_NUMBER_MASK;
            /* acquire: the link is read before. While the head is the same the link was one: else it is a number of
             * holders, and no slot need have it. */
            seen = nm_atomic_load(&pool->head, NM_ACQUIRE);
            if (seen != head) break;
            out[count++] = slot;
            number = next;
        }
        if (seen != head) {
            head = seen;
            continue;
        }
        if (count == 0) return 0;
        uint64_t below = nm__head_tag_after(head) | number;
        if (!nm_atomic_cas(&pool->head, &head, below, NM_ACQUIRE, NM_ACQUIRE)) continue;
        for (size_t i = 0; i < count; i++) nm_atomic_store(&out[i]->nm__link, 0u, NM_RELAXED);
        return count;
    }
}

/* Puts the chain first .. last, linked by `link`, on top. */
static inline void nm__depot_push(const nm_pool *pool, NM_ATOMIC(uint64_t) * at, nm__slot *first, nm__slot *last) {
    uint64_t head = nm_atomic_load(at, NM_RELAXED);
    uint64_t above;
    do {
        /* relaxed: published by the exchange */
        nm_atomic_store(&last->nm__link, (uint32_t)(head & NM__HEAD_NUMBER_MASK), NM_RELAXED);
        above = nm__head_tag_after(head) | (uint64_t)(first - pool->slots);
        /* release: pairs with the acquire in nm__depot_pop; publishes the links, the slots' fields and the last holder's
         * use of the buffers. seq_cst: and whoever pushes looks for waiters behind it, who look here after they have said
         * that they wait. Failure may be relaxed: nothing is read through the number. */
    } while (NM_UNLIKELY(!nm_atomic_cas_weak(at, &head, above, NM_SEQ_CST, NM_RELAXED)));
}

/* Takes all: number of the first slot, 0 = none. */
static inline uint32_t nm__depot_pop_all(nm_pool *pool) {
    uint64_t head = nm_atomic_load(&pool->head, NM_RELAXED);
    for (;;) {
        if ((head & NM__HEAD_NUMBER_MASK) == 0) return 0;
        uint64_t empty = nm__head_tag_after(head);
        if (nm_atomic_cas_weak(&pool->head, &head, empty, NM_ACQUIRE, NM_RELAXED))
            return (uint32_t)(head & NM__HEAD_NUMBER_MASK);
    }
}

/* A chain that is being made. */
typedef struct nm__chain {
    nm__slot *first, *last;
    size_t count;
} nm__chain;

static inline void nm__chain_add(const nm_pool *pool, nm__chain *chain, nm__slot *slot) {
    if (chain->first == NULL)
        chain->last = slot;
    else
        nm_atomic_store(&slot->nm__link, (uint32_t)(chain->first - pool->slots), NM_RELAXED);
    chain->first = slot;
    chain->count++;
}

static inline void nm__chain_push(nm_pool *pool, const nm__chain *chain) {
    if (chain->count != 0) nm__depot_push(pool, &pool->head, chain->first, chain->last);
}

/* ---- extent.c ------------------------------------------------------------------------------------------------------ */

/* With the pool's lock held: gives memory to `count` buffers or, where the group ends before, to fewer, at least one;
 * takes one for the caller (*out) and puts the others into the depot. `ahead`: commits more than asked for if that is
 * easy. NM_ECAPACITY: all have memory. NM_EBUDGET, NM_ENOMEM: nothing changed; *wanted is how many bytes should be made
 * room for before the next try, 0 if that is no use. */
nm_status nm__pool_grow(nm_pool *pool, size_t count, bool ahead, size_t *wanted, nm__slot **out);

/* With the pool's lock held: gives back the memory of buffers in the depot, about wanted_bytes, and leaves keep_free at
 * least, if there are so many. Returns the bytes. */
size_t nm__pool_trim_locked(nm_pool *pool, size_t keep_free, size_t wanted_bytes);

/* For the close: all memory and slots go back, then the pool's own pages. No slot is out. */
void nm__pool_destroy(nm_pool *pool);
/* Leaves the slot as the root wants it back: free, of nobody, a generation further. */
void nm__slot_end_life(nm_pool *pool, nm__slot *slot);

static inline nm__slot *nm__pool_slot_of_index(const nm_pool *pool, size_t index) {
    return pool->groups[index / NM__GROUP_COUNT].slots + index % NM__GROUP_COUNT;
}
static inline size_t nm__pool_index_of_slot(const nm_pool *pool, const nm__slot *slot) {
    return (size_t)((unsigned char *)slot->data - pool->base) / pool->stride;
}
/* The slot of the buffer, also for a share, which has twice that one's number in own_mark: marks are odd. */
static inline nm__slot *nm__slot_of_buffer(const nm_pool *pool, nm__slot *slot) {
    if (!nm__is_share(slot)) return slot;
    return pool->slots + (nm_atomic_load(&slot->nm__own_mark, NM_RELAXED) >> 1);
}

/* ---- lease.c, release.c -------------------------------------------------------------------------------------------- */

extern const nm__slot_class nm__lease_class, nm__share_class;

/* Makes the leases' time the present. */
void nm__pool_look_at_clock(nm_pool *pool);

/* A slot by way of the lock, or the reason why there is none. */
nm__taken nm__pool_take_locked(nm_pool *pool, nm__station *station, nm_status *status);

/* The buffer is free and the caller's: into the station's ring, else into the depot; then whoever waits gets it. */
void nm__pool_put(nm_pool *pool, nm__station *station, nm__slot *slot);
/* What becomes of the buffer's bytes when it is free; before it is put anywhere. */
void nm__buffer_rest(const nm_pool *pool, nm__slot *slot);

/* Tells of a lease that is not out (any more): twice, or too late. */
void nm__lease_misuse(const nm__slot *slot, const char *what, const void *data, const char *site);

/* Releases that were found wrong while others' releases were looked at: told when no lock is held and nothing is on its
 * way. */
typedef struct nm__late {
    size_t count, more;
    nm__slot *slots[16];
} nm__late;
static inline void nm__late_note(nm__late *late, nm__slot *slot) {
    if (late->count < sizeof late->slots / sizeof late->slots[0])
        late->slots[late->count++] = slot;
    else
        late->more++;
}
void nm__late_tell(const nm_pool *pool, const nm__late *late);

/* ---- station.c ----------------------------------------------------------------------------------------------------- */

/* This thread's station; NULL: it has none. `want`: makes one if that can be done without waiting. Makes it at hand. */
nm__station *nm__station_find(nm_pool *pool, bool want);
/* The same for a lease that found nothing at hand: a thread gets a station when it has come a few times. */
nm__station *nm__station_of_lease(nm_pool *pool);
static inline bool nm__station_is_frozen(const nm__station *station) {
    return (nm_atomic_load(&station->magazine.top, NM_ACQUIRE) & NM__MAGAZINE_FROZEN) != 0;
}
/* Owner: takes from the ring; first from inbox and depot into it, if it is empty. NULL: nothing there, or frozen. */
nm__slot *nm__station_take(nm__station *station);
/* Owner: the buffer is free. False: frozen. */
bool nm__station_put(nm__station *station, nm__slot *slot);
/* Owner: begins and ends a move of buffers. False: frozen, nothing begun. */
bool nm__station_move_begin(nm__station *station);
void nm__station_move_end(nm__station *station);

/* This thread's station, if it has one, becomes nobody's; what it keeps goes into the depot. */
void nm__pool_thread_ends(nm_pool *pool);

/* ---- fork.c -------------------------------------------------------------------------------------------------------- */

extern const nm__member_class nm__pool_member_class;

/* ---- letters.c ----------------------------------------------------------------------------------------------------- */

/* Owner: notes the release of a lease that was taken through another station. False: frozen, or no room; not noted. */
bool nm__letter_post(nm__station *station, nm__slot *slot, uint64_t generation);
/* Owner: takes in what others released of its leases. Moves have begun. */
void nm__inbox_take(nm__station *station, nm__chain *rest, nm__late *late);
/* Anybody: ends generations that another station's owner could be ending at this moment. */
bool nm__end_far_now(nm__slot *slot, uint64_t generation);
/* Anybody who has these parcels, and letters, to himself: the same for all of them together. */
void nm__letters_end(nm_pool *pool, nm__parcel *parcels, uint64_t *letters, size_t count, nm__chain *won,
                     nm__late *late);
/* Anybody: sends the letters to their stations. Moves have begun. */
void nm__letters_send(nm__station *from, uint64_t *letters, size_t count, nm__chain *won, nm__late *late);

/* ---- collect.c ----------------------------------------------------------------------------------------------------- */

void nm__pool_lock(nm_pool *pool);
bool nm__pool_trylock(nm_pool *pool);
/* Thaws what nobody needs frozen any more; does again what others wanted meanwhile. */
void nm__pool_unlock(nm_pool *pool);
/* With the lock: all that threads keep goes into the depot; the stations are frozen until the lock is given back, or
 * longer, while somebody waits. */
void nm__pool_collect(nm_pool *pool, nm__late *late);
/* Is there anything in a station, or on its way? False is certain: there was nothing at one moment of the call, nor in the
 * depot. */
bool nm__pool_is_idle_kept(nm_pool *pool);
/* nm__pool_answer (nebula/pool.h), after a buffer was put into the depot, or the caller's ring turned out frozen: serves
 * who waits. Never waits itself. */

/* ---- wait.c -------------------------------------------------------------------------------------------------------- */

void nm__waiters_serve(nm_pool *pool);

/* ---- ending a generation -------------------------------------------------------------------------------------------
 * README.md, "Who ends a lease". The caller has seen that it is out. True: ended by this call and no other. */

/* The generation is ended, and own_mark says so: the next lease expects `rare` to be 0. */
static inline void nm__far_mark_settle(nm__slot *slot) {
    if (nm_atomic_load(&slot->nm__far_mark, NM_RELAXED) != 0) nm_atomic_store(&slot->nm__far_mark, 0u, NM_RELEASE);
}

/* The owner of the station that it was leased through. */
static inline bool nm__end_own(nm__slot *slot, uint64_t generation) {
    nm_atomic_store(&slot->nm__own_mark, nm__generation_mark(generation), NM_RELAXED);
    nm__word_order();
    uint64_t claim = nm_atomic_load(&slot->claim, NM_RELAXED);
    if (NM_LIKELY(claim - generation > 1)) return true;
    /* Another has claimed it. Who decides first has it; that one decides only if it has not seen our mark. */
    claim = generation;
    return nm_atomic_cas(&slot->claim, &claim, generation + 1, NM_ACQ_REL, NM_ACQUIRE);
}

/* Anybody else, first half. */
static inline bool nm__end_claim(nm__slot *slot, uint64_t generation) {
    uint64_t seen = nm_atomic_load(&slot->claim, NM_ACQUIRE);
    do {
        if (seen - generation <= 1) return false;
        if (nm_atomic_load(&slot->generation, NM_ACQUIRE) != generation) return false;
    } while (!nm_atomic_cas(&slot->claim, &seen, generation, NM_SEQ_CST, NM_ACQUIRE));
    return true;
}
/* Second half, after a barrier on all processors. */
static inline bool nm__end_decide(nm__slot *slot, uint64_t generation) {
    bool early = NM__FAULT(generation_before_mark) && nm_atomic_load(&slot->generation, NM_ACQUIRE) == generation;
    /* The mark first: the next lease writes the generation before it takes the mark away. */
    if (nm_atomic_load(&slot->nm__own_mark, NM_ACQUIRE) == nm__generation_mark(generation) ||
        (!early && nm_atomic_load(&slot->generation, NM_ACQUIRE) != generation))
        return false;
    uint64_t claim = generation;
    return nm_atomic_cas(&slot->claim, &claim, generation + 1, NM_ACQ_REL, NM_ACQUIRE) ||
           NM__FAULT(decide_without_compare);
}

/* A lease that was taken through no station. */
static inline bool nm__end_common(nm__slot *slot, uint64_t generation) {
    uint64_t seen = nm_atomic_load(&slot->claim, NM_ACQUIRE);
    do {
        if (seen - generation <= 1) return false;
        if (nm_atomic_load(&slot->generation, NM_ACQUIRE) != generation) return false;
    } while (!nm_atomic_cas(&slot->claim, &seen, generation + 1, NM_ACQ_REL, NM_ACQUIRE));
    /* A share's own_mark is the buffer's number. */
    uint32_t *mark = nm__is_share(slot) ? &slot->nm__far_mark : &slot->nm__own_mark;
    nm_atomic_store(mark, nm__generation_mark(generation), NM_RELEASE);
    return true;
}

/* The buffer's own lease has ended. True: it was the only holder or the last, the buffer is free.
 * acquire, release: what the other holders did to the buffer is done. */
static inline bool nm__lease_leaves(nm_pool *pool, nm__slot *buffer) {
    if (NM_LIKELY(nm_atomic_load(&buffer->nm__link, NM_ACQUIRE) == 0)) return true;
    /* Before it goes: else a share that ends at the same time might count off what was not counted yet. */
    nm_atomic_add(&pool->orphan_count, 1, NM_RELAXED);
    if (nm_atomic_sub(&buffer->nm__link, 1, NM_ACQ_REL) != 1) return false;
    nm_atomic_sub(&pool->orphan_count, 1, NM_RELAXED);
    return true;
}
/* One that shares it has ended. */
static inline bool nm__share_leaves(nm_pool *pool, nm__slot *buffer) {
    if (nm_atomic_sub(&buffer->nm__link, 1, NM_ACQ_REL) != 1) return false;
    nm_atomic_sub(&pool->orphan_count, 1, NM_RELAXED);
    return true;
}

#endif
