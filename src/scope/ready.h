// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What a process or service scope has ready for its threads: request scopes, and credit.
 *
 * A request or task scope lies in one block with its arena and that arena's first block:
 *
 *   0            256            512                              4 KiB to 64 KiB
 *   +-------------+-------------+------------------------------------+
 *   | the scope   | the arena   | the arena's first block            |
 *   +-------------+-------------+------------------------------------+
 *
 * The block is charged to the nearest shared scope above (its base) and all above that, once, when it is made; a request that
 * closes leaves it ready for the next. So opening and closing a request touches no counter, no lock and no list that threads
 * share: it takes the block out of a slot of this thread's line, and puts it back. What lies ready is granted to the base as
 * credit and is given up before anything is refused.
 *
 * Credit proper is bytes that a thread's line holds, charged ahead for what is opened below the base (.credit_bytes). */
#ifndef NM_SRC_SCOPE_READY_H
#define NM_SRC_SCOPE_READY_H

#include "base/thread.h"
#include "scope/scope_internal.h"

#define NM__READY_SLOTS       5u
#define NM__LINES_PER_RECORD  4u
#define NM__READY_BYTES_LEAST NM__BLOCK_MIN_BYTES
#define NM__READY_BYTES_MOST  ((size_t)64 << 10)

/* One stripe of threads'. Slots and credit may be exchanged out by anybody who is short of memory. */
typedef struct nm__line {
    NM_ATOMIC(nm_scope *) slot[NM__READY_SLOTS];
    NM_ATOMIC(size_t) credit;
    NM_ATOMIC(uint32_t) used_peak; /* most that an arena used of its place since the last maintain */
    NM_ATOMIC(uint32_t) touched;   /* used since the last maintain */
    size_t unused_;
} nm__line;
_Static_assert(sizeof(nm__line) == 64 && sizeof(nm__line) * NM__LINES_PER_RECORD == NM__RECORD_BYTES,
               "a line of a thread is one cache line");

struct nm__ready {
    nm_scope *base;
    nm__ready *next, *previous;    /* in the root; under the tree lock */
    nm_scope *first;               /* all blocks, ready or open; under the tree lock */
    size_t credit_bytes;           /* 0 = none; constant */
    NM_ATOMIC(size_t) block_bytes; /* of the next block */
    NM_ATOMIC(uint32_t) keep;      /* blocks that may lie ready in all lines together */
    NM_ATOMIC(bool) closing;       /* the base closes: nothing is kept any more */
    NM_ATOMIC(nm__line *) lines[NM__STRIPES / NM__LINES_PER_RECORD]; /* records; NULL until a thread needs it */
};
_Static_assert(sizeof(nm__ready) <= NM__RECORD_BYTES, "lies in a record");

/* A block of its own for a request under `parent`, open and charged, its limits and names not yet filled in. NULL: there is
 * none and none could be made without reclaim; nothing was counted. O(1), or a block taken. */
nm_scope *nm__ready_take(nm_scope *parent);
/* The scope has nothing left in it: its block lies ready for the next. `used`: what its arena used of its place. */
void nm__ready_give(nm_scope *s, size_t used);

/* Makes the structure for a scope with credit. NM_EBUDGET, NM_ENOMEM. */
nm_status nm__ready_open(nm_scope *base, size_t credit_bytes);
/* The base closes: gives up what lies ready, keeps nothing more. Then, once nothing below is open, the rest. */
void nm__ready_begin_close(nm_scope *base);
void nm__ready_end_close(nm_scope *base);

/* A scope in a block of its own whose parent is this; NULL: none. */
nm_scope *nm__ready_child(nm_scope *parent);

/* Bytes of credit that this thread's line of `base` has are taken, or given back to it. False: it has not so many, or not
 * the room. nm__credit_refill takes more from the ancestors after a miss. */
bool nm__credit_take(nm__ready *ready, size_t bytes);
bool nm__credit_give(nm__ready *ready, size_t bytes);
void nm__credit_refill(nm__ready *ready);

/* Gives up what lies ready in scopes at or below `below`, until `wanted` bytes are gone. */
size_t nm__ready_recall(nm_scope *below, size_t wanted);
/* How much may lie ready follows the limits: after a change of them. */
void nm__ready_limits_changed(nm_scope *below);
/* Gives up what no thread has used since the last call, and lets blocks become smaller. True: something still lies ready. */
bool nm__ready_decay(nm__root *root);

/* Bytes granted in `top` and below it ahead of need. The tree lock is held. */
size_t nm__ready_credit(const nm_scope *top);

#endif
