// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the files of the arena share. The picture is in README.md.
 *
 * Three lists of blocks, each linked from the newest to the oldest:
 *   block  what is being filled; the newest is the current one, where `ptr` is
 *   spare  kept by a reset or a rewind, taken before the scope is asked
 *   large  blocks that serve one large allocation each */
#ifndef NM_SRC_ARENA_ARENA_INTERNAL_H
#define NM_SRC_ARENA_ARENA_INTERNAL_H

#include "base/atomic.h"
#include "base/math.h"
#include "check/check.h"
#include "nebula/arena.h"
#include "scope/holder.h"

#define NM__ARENA_FIRST_ORDER       12
#define NM__ARENA_BLOCK_FIRST_BYTES ((size_t)1 << NM__ARENA_FIRST_ORDER)
#define NM__ARENA_BLOCK_LAST_BYTES  ((size_t)1 << 20) /* blocks double up to this */
#define NM__ARENA_BLOCK_MAX_BYTES   ((size_t)2 << 20) /* the largest first block that may be asked for */

/* Requests up to a quarter of this never get a block of their own, however small the next block is: a stream of 2 KiB
 * requests to a fresh arena would otherwise take a 4 KiB block for each, and the blocks would never grow. */
#define NM__ARENA_LARGE_STEP_MIN_BYTES ((size_t)16 << 10)

/* The quarantine of one arena, where it is switched on: at most so much, and that share of the limit that the scope is under. */
#define NM__ARENA_QUARANTINE_BYTES ((size_t)1 << 20)
#define NM__ARENA_QUARANTINE_SHARE 256

/* At the start of each block of the chain. Bytes are raw here: with the red zones of a checked arena. */
typedef struct nm__arena_block {
    nm__block block;
    struct nm__arena_block *previous;
    size_t used_before; /* handed out in the blocks before this one */
} nm__arena_block;
#define NM__ARENA_BLOCK_HEADER_BYTES ((size_t)48)
_Static_assert(sizeof(nm__arena_block) <= NM__ARENA_BLOCK_HEADER_BYTES, "the payload begins behind the header");

typedef struct nm__arena_large {
    nm__block block;
    struct nm__arena_large *previous;
    unsigned char *data;
    size_t bytes;     /* handed out, a multiple of NM_ALIGN */
    uint64_t mark_id; /* of the newest mark when it was taken, 0 without one: a rewind to that mark undoes it */
} nm__arena_large;
#define NM__ARENA_LARGE_HEADER_BYTES ((size_t)64)
_Static_assert(sizeof(nm__arena_large) <= NM__ARENA_LARGE_HEADER_BYTES, "the data begin behind the header");

/* What a mark leaves in the arena. A checked arena adds what was not charged to the user up to here, and how long its log was. */
typedef struct nm__arena_record {
    struct nm__arena_record *previous;
    uint64_t id;
} nm__arena_record;
typedef struct nm__arena_checked_record {
    nm__arena_record record;
    size_t extra_bytes;
    size_t log_count;
} nm__arena_checked_record;
_Static_assert(sizeof(nm__arena_record) == NM_ALIGN, "a mark costs 16 bytes");
_Static_assert(sizeof(nm__arena_checked_record) == (size_t)2 * NM_ALIGN, "and 16 more that do not count");

typedef struct nm__arena_deferred {
    void (*fn)(void *arg);
    void *arg;
    struct nm__arena_deferred *previous;
    uint64_t mark_id; /* as in nm__arena_large */
} nm__arena_deferred;

/* What a reset has to do. EASY: one block in the chain, nothing deferred, nothing large, nobody watches, so that `end` is
 * right for an empty block too; the high-water mark may say that memory is to go. TINY: not even that. */
typedef enum nm__arena_ease { NM__RESET_HARD, NM__RESET_EASY, NM__RESET_TINY } nm__arena_ease;

typedef struct nm__arena_watch nm__arena_watch; /* watch.h */

typedef struct nm__arena {
    nm_arena face; /* first: the public pointer is a pointer to this */
    nm__holder holder;
    nm__arena_block *block;
    nm__arena_block *first; /* the oldest of the chain, so that a reset splices it in O(1) */
    nm__arena_block *spare;
    nm__arena_large *large;
    nm__arena_record *mark;       /* the newest */
    nm__arena_deferred *deferred; /* the newest */
    uint64_t mark_id;             /* the next mark's; never used twice */
    uint64_t easy_mark_id;       /* from this mark on there is nothing to undo but `ptr`; UINT64_MAX: there always is */
    size_t capacity_bytes;       /* SIZE_MAX: none */
    size_t granted_bytes;        /* of all blocks in all lists */
    size_t spare_bytes;          /* and of the spares alone */
    size_t large_bytes;          /* handed out in large blocks */
    size_t extra_bytes;          /* red zones in the chain, which do not count as used; 0 if not checked */
    NM_ATOMIC(size_t) used_seen; /* what stats see: used at the last slow path */
    size_t high_bytes;           /* what a round needs of blocks: a maximum that decays with every reset */
    nm__arena_watch *watch;      /* what tracing, sampling, guards and quarantine need; NULL without them */
    nm_status status;
    uint8_t step_order;  /* log2 of the size of the next block */
    uint8_t first_order; /* and of the first, which it never falls below */
    uint8_t ease;        /* of a reset, see nm__arena_ease */
    bool every;          /* somebody wants to see every allocation: end == ptr at all times */
    bool checked;        /* so does a checker, and each has a red zone behind it */
    bool watched;        /* undoing is more than moving `ptr` */
    bool secret;         /* what is undone is wiped */
    bool contiguous;     /* one block, whose range has room for the whole capacity */
    bool running; /* deferred functions are at work: end == ptr, and whatever would change the arena is refused */
    bool closed;  /* kept by the quarantine, running for ever */
    char name[NM_NAME_BYTES];
} nm__arena;
_Static_assert(offsetof(nm__arena, face) == 0, "nm_arena is the start of nm__arena");
_Static_assert(sizeof(nm__arena) <= NM__RECORD_BYTES, "an arena's header is one record");

static inline nm__arena *nm__arena_of(nm_arena *arena) { return (nm__arena *)(void *)arena; }
static inline const nm__arena *nm__arena_of_const(const nm_arena *arena) {
    return (const nm__arena *)(const void *)arena;
}

/* Where ptr and end are while there is no block: an address of our own, so that end - ptr is defined and 0. */
static inline unsigned char *nm__arena_nowhere(nm__arena *a) { return (unsigned char *)a; }

static inline unsigned char *nm__arena_payload(const nm__arena_block *b) {
    return b->block.base + NM__ARENA_BLOCK_HEADER_BYTES;
}
static inline unsigned char *nm__arena_granted_end(const nm__arena_block *b) {
    return b->block.base + b->block.granted;
}

/* True if p lies in the block, header aside. Compares addresses only: p may be anything. */
static inline bool nm__arena_in_block(const nm__arena_block *b, const void *p) {
    return (uintptr_t)p >= (uintptr_t)nm__arena_payload(b) && (uintptr_t)p < (uintptr_t)nm__arena_granted_end(b);
}

/* Handed out in the chain, red zones included. Never computed from `end`. */
static inline size_t nm__arena_chain_bytes(const nm__arena *a) {
    return a->block == NULL ? 0 : a->block->used_before + (size_t)(a->face.ptr - nm__arena_payload(a->block));
}
static inline size_t nm__arena_used(const nm__arena *a) {
    return nm__arena_chain_bytes(a) - a->extra_bytes + a->large_bytes;
}

static inline uint64_t nm__arena_newest_mark_id(const nm__arena *a) { return a->mark == NULL ? 0 : a->mark->id; }

/* The bytes that an allocation of n takes: for n == 0 too an address of its own. n <= NM__BYTES_MAX */
static inline size_t nm__arena_size(size_t n) { return n == 0 ? NM_ALIGN : nm__round_up(n, NM_ALIGN); }
/* True if its memory lies in ranges of its own. */
static inline bool nm__arena_has_ranges(const nm__arena *a) { return a->secret || a->contiguous; }
static inline size_t nm__arena_red_zone(const nm__arena *a) { return a->checked ? NM__RED_ZONE_BYTES : 0; }

/* ---- grow.c ------------------------------------------------------------------------------------------------------ */

/* Puts `end` where the next thing must happen, and tells stats what is used. After every change of ptr or blocks. */
void nm__arena_settle(nm__arena *a);

/* Takes size bytes (a multiple of NM_ALIGN) and, behind them, extra ones that count neither as used nor against the capacity.
 * In a checked arena all of them are still poisoned. Does not touch the sticky status. Unchanged if not NM_OK. */
nm_status nm__arena_place(nm__arena *a, size_t size, size_t align, size_t extra, unsigned char **out);

/* Grants at least min_bytes more of a block of the chain or of a large one, giving up idle blocks if need be. */
nm_status nm__arena_extend(nm__arena *a, nm__block *block, size_t min_bytes);

/* The size of the next block. */
static inline size_t nm__arena_step(const nm__arena *a) { return (size_t)1 << a->step_order; }

/* Makes it the current block. Needs nm__arena_settle. */
void nm__arena_push_block(nm__arena *a, nm__arena_block *b);
/* Undoes the newest block and takes it off the chain; ptr goes back to where the one before it was left. Needs nm__arena_settle. */
nm__arena_block *nm__arena_pop_block(nm__arena *a);
void nm__arena_give_block(nm__arena *a, nm__arena_block *b); /* or puts it into the quarantine */
void nm__arena_give(nm__arena *a, const nm__block *block);
void nm__arena_give_spare(nm__arena *a); /* the newest */
/* Gives the newest large block back. */
void nm__arena_pop_large(nm__arena *a);

/* At a reset, when all of the chain are spares but for an empty current block: gives back what the high-water mark does not
 * ask for. Needs nm__arena_settle. */
void nm__arena_trim(nm__arena *a);

/* The next block shall have room for that much, within the sizes that blocks have. */
void nm__arena_step_to(nm__arena *a, size_t bytes);

/* True if a reset gives memory back. A quarter more than the high-water mark is kept, for the tails of blocks differ from
 * round to round; and up to four times as much, so that rounds of changing size do not take and give blocks all the time. */
static inline size_t nm__arena_keep(const nm__arena *a) { return a->high_bytes + a->high_bytes / 4; }
static inline bool nm__arena_is_excessive(const nm__arena *a) { return a->granted_bytes / 4 > nm__arena_keep(a); }
static inline void nm__arena_note_round(nm__arena *a, size_t needed_bytes) {
    a->high_bytes = nm__max(a->high_bytes - a->high_bytes / 8, needed_bytes);
}
static inline bool nm__arena_is_tiny(const nm__arena *a) { return a->granted_bytes >> a->first_order <= 4; }

/* ---- undo.c ------------------------------------------------------------------------------------------------------ */

/* The bytes are handed out no more: wipes and poisons them as the arena's options ask for. Only where it is watched. */
void nm__arena_undo(nm__arena *a, unsigned char *p, size_t bytes);
/* The same for all that was handed out in the chain. */
void nm__arena_undo_chain(nm__arena *a);

/* ---- range.c ----------------------------------------------------------------------------------------------------- */

/* As nm__block_take, nm__block_extend and nm__block_give, in ranges of the arena's own. */
nm_status nm__arena_range_take(nm__arena *a, size_t min_bytes, size_t want_bytes, nm__block *out);
nm_status nm__arena_range_extend(nm__arena *a, nm__block *block, size_t min_bytes);
void nm__arena_range_give(nm__arena *a, const nm__block *block);
/* Reserves the one range of a contiguous arena and makes it the current block. */
nm_status nm__arena_range_open(nm__arena *a);
/* At a reset of a contiguous arena: gives back the pages that the high-water mark does not ask for. */
void nm__arena_range_trim(nm__arena *a);

/* ---- mark.c ------------------------------------------------------------------------------------------------------ */

/* Runs what was deferred since the mark of that id was taken, last first; 0: everything. Needs nm__arena_settle. */
void nm__arena_run_deferred(nm__arena *a, uint64_t mark_id);

#endif
