// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What arena, pool and cache see of a scope: how they are charged, asked to give back, and closed. They do not know each
 * other; they meet here. */
#ifndef NM_SRC_SCOPE_HOLDER_H
#define NM_SRC_SCOPE_HOLDER_H

#include "base/atomic.h"
#include "nebula/scope.h"
#include "scope/slot.h"

/* ---- holders ----------------------------------------------------------------------------------------------------- */

typedef struct nm__holder nm__holder;
typedef struct nm__leaks nm__leaks;

typedef enum nm__reclaim_rank { NM__RECLAIM_NEVER, NM__RECLAIM_POOL, NM__RECLAIM_CACHE } nm__reclaim_rank;

typedef struct nm__holder_class {
    const char *part; /* "arena", "pool", "cache" */
    /* Gives back about `wanted` bytes and returns how many were uncharged. Called on any thread with no lock held, also
     * while other threads use the holder; takes its own locks by trying only. NULL where the rank is NEVER. */
    size_t (*reclaim)(nm__holder *holder, size_t wanted_bytes);
    /* The scope closes: notes what leaked, gives everything back, and frees the holder itself. nm__holder_remove has been
     * called. Must not fail. */
    void (*close)(nm__holder *holder, nm__leaks *leaks, const char *site);
    /* Bytes handed out, for stats. Any thread. */
    size_t (*used)(const nm__holder *holder);
    /* Of an arena in its scope's own block: the bytes that it used, if all of it lies there and nothing is to be done when
     * it closes; else SIZE_MAX. Others: NULL. */
    size_t (*used_in_place)(const nm__holder *holder);
} nm__holder_class;

/* Embedded in each arena, pool and cache. The fields are the scope's. */
struct nm__holder {
    const nm__holder_class *class;
    nm_scope *scope;
    const char *name;                            /* in the holder's own memory */
    nm__holder *next, *previous;                 /* in the scope */
    nm__holder *reclaim_next, *reclaim_previous; /* in the root, if the rank is not NEVER */
    uint32_t visitors;                           /* reclaims at work in it */
    uint8_t rank;
    bool leaving;
    bool placed; /* in the scope's own block, and in no list */
    bool away;   /* was so, and was moved to another scope since */
};

/* Makes the holder known to the scope: it is closed with it, and asked to give back as its rank says. O(1). */
void nm__holder_add(nm_scope *scope, nm__holder *holder, nm__reclaim_rank rank);
/* The holder closes by itself: waits until no reclaim is at work in it, after that none will be. */
void nm__holder_remove(nm__holder *holder);

/* Gives back the record in which an arena lies, wherever that is. The arena has left its scope. */
void nm__holder_give_record(nm__holder *holder, void *record);

/* Makes `to` the holder's scope, and charges it for the `bytes` that the holder was granted in all; no longer its scope
 * before. NM_EINVAL: another root. NM_EBUDGET: no room, after reclaim and hooks; unchanged then. */
nm_status nm__holder_move(nm__holder *holder, nm_scope *to, size_t bytes);

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

typedef enum nm__grant_mode {
    NM__GRANT_FULL,    /* reclaims, calls hooks, retries; the caller holds no lock */
    NM__GRANT_QUIET,   /* now or not at all, no callback; under the caller's lock. nm__settle follows when it is gone */
    NM__GRANT_ELASTIC, /* as quiet, and refused where a soft limit's headroom would be touched: growth that can wait */
} nm__grant_mode;

/* A record: 256 bytes, aligned to 64, not zeroed, charged to `owner`. For headers and bookkeeping. FULL mode. */
#define NM__RECORD_BYTES ((size_t)256)
nm_status nm__record_take(nm_scope *owner, void **out);
void nm__record_give(nm_scope *owner, void *record);

/* A block for an arena. It may be granted in part: the scope is charged for `granted` of its `bytes`, and no byte beyond may
 * be handed out before nm__block_extend has granted it. */
typedef struct nm__block {
    unsigned char *base;
    size_t bytes;
    size_t granted;
} nm__block;

/* A block of nm__block_bytes(want_bytes), of which want_bytes, in whole pages, are granted; or, where a limit leaves no room for that, a smaller
 * one or less of it, of at least min_bytes. FULL mode. NM_EBUDGET, NM_ENOMEM; NM_ETOOLARGE: above NM__BYTES_MAX. */
nm_status nm__block_take(nm_scope *owner, size_t min_bytes, size_t want_bytes, nm__block *out);
/* Grants more of it: at least min_bytes more, as much as there is room for, at most all. Same errors; unchanged then. */
nm_status nm__block_extend(nm_scope *owner, nm__block *block, size_t min_bytes);
void nm__block_give(nm_scope *owner, const nm__block *block);
/* Keeps the grant of the first keep_bytes only; nm__block_extend grants the rest again. */
void nm__block_shrink(nm_scope *owner, nm__block *block, size_t keep_bytes);

/* The place for an arena in the own block of a request scope; its holder begins NM__PLACE_HOLDER bytes into the record. True: the
 * scope is charged for the record and as much of the block as its limits allow now (nm__block_extend grants the rest). False:
 * the scope has no such place, or it is taken, or a limit leaves no room. Given back with nm__block_give and nm__record_give,
 * like any other. No reclaim. O(1). */
#define NM__PLACE_HOLDER ((size_t)2 * sizeof(void *))
bool nm__place_take(nm_scope *scope, size_t min_bytes, void **record, nm__block *block);
void nm__holder_place(nm_scope *scope, nm__holder *holder, const nm__holder_class *class);

/* Address space of one's own, committed page by page. Reserving is free of charge; commit charges owner and root. Sizes and
 * addresses are multiples of NM__PAGE_BYTES (align: a power of two, at least that). */
nm_status nm__range_reserve(size_t bytes, size_t align, void **out);
void nm__range_release(void *address, size_t bytes); /* all of it must have been decommitted */
nm_status nm__range_commit(nm_scope *owner, void *address, size_t bytes, nm__grant_mode mode, const nm__holder *self);
/* False: the system refused; the pages stay committed and charged. */
bool nm__range_decommit(nm_scope *owner, void *address, size_t bytes);

/* Bytes that lie outside the library's memory but count: charged to owner and all ancestors, root included. */
nm_status nm__outside_charge(nm_scope *owner, size_t bytes, nm__grant_mode mode, const nm__holder *self);
void nm__outside_uncharge(nm_scope *owner, size_t bytes);

/* To be called after quiet or elastic grants, with no lock held: if a soft limit was crossed, reclaims and calls its hook.
 * O(1) if none was. */
void nm__settle(nm_scope *scope, const nm__holder *self);

/* Reclaims below the scope whose limit refused `bytes` to `owner` last (the nearest one now that has no room for them),
 * from other holders than `self`; then that scope's hook. True if it is worth trying again; false counts as a refusal by
 * that scope. No lock held. */
bool nm__make_room(nm_scope *owner, size_t bytes, const nm__holder *self);

/* The most that `owner` could be granted now under all limits above it; what it could be granted at all, if everything else
 * below those limits went away. SIZE_MAX without a limit. */
size_t nm__room(const nm_scope *owner);
size_t nm__own_room(const nm_scope *owner); /* under its own hard limit alone */
size_t nm__limit(const nm_scope *owner);

/* True if both hang on the same root. */
bool nm__same_root(const nm_scope *a, const nm_scope *b);

/* What a checking run wants to see of the scope: nm_debug_flags; an allocation by its site for so many bytes, 0 = none. */
#define NM__DEBUG_ALL ((unsigned)(NM_DEBUG_TRACE | NM_DEBUG_FILL | NM_DEBUG_QUARANTINE | NM_DEBUG_GUARD))
unsigned nm__debug(const nm_scope *scope);
size_t nm__sample_bytes(const nm_scope *scope);

/* ---- things held by a scope (the _in functions) ------------------------------------------------------------------ */

/* Makes room in `scope` for one more note and checks held_limit_bytes; then notes the slot, which cannot fail. Where the thing
 * cannot be had after the preparation, nm__hold_cancel. In between anything may happen, other preparations for the same
 * scope included. NM_EBUDGET, NM_ENOMEM, NM_ECAPACITY (the held limit). */
nm_status nm__hold_prepare(nm_scope *scope, size_t bytes);
void nm__hold(nm_scope *scope, nm__slot *slot, uint64_t generation, size_t bytes);
void nm__hold_cancel(nm_scope *scope, size_t bytes);

/* ---- leaks -------------------------------------------------------------------------------------------------------- */

/* Notes `count` leaks of `bytes` each; equal kind, name and site are merged. */
void nm__leaks_note(nm__leaks *leaks, nm_leak_kind kind, const char *name, size_t count, size_t bytes,
                    const char *site);

#endif
