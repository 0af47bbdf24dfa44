// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The scope's own structures; other parts see scope/holder.h and scope/slot.h. */
#ifndef NM_SRC_SCOPE_SCOPE_INTERNAL_H
#define NM_SRC_SCOPE_SCOPE_INTERNAL_H

#include <pthread.h>

#include "base/atomic.h"
#include "base/math.h"
#include "base/process.h"
#include "block/block.h"
#include "nebula/scope.h"
#include "scope/holder.h"

typedef struct nm__root nm__root;
typedef struct nm__ready nm__ready;
typedef struct nm__deferred nm__deferred;
typedef struct nm__held nm__held;
typedef struct nm__malloc nm__malloc;

/* Above the bytes, `granted` has a bit that is set while the limits change (whoever would charge then waits for the change)
 * and a count of such changes, so that a charge checked against the old limits does not go through under the new ones. */
#define NM__FROZEN         ((size_t)1 << 63)
#define NM__LIMITS_CHANGED ((size_t)1 << 57)
#define NM__GRANTED_MASK   (NM__LIMITS_CHANGED - 1)

/* Where, in a block of its own, a request scope has room for an arena; see ready.h. */
#define NM__PLACE_OFFSET NM__RECORD_BYTES

/* No limit. */
#define NM__UNLIMITED SIZE_MAX

struct nm_scope {
    nm__root *root;
    nm_scope *parent;          /* NULL: this is the root */
    NM_ATOMIC(size_t) granted; /* bytes, and the marks above. Of the root: what is committed */
    NM_ATOMIC(size_t) hard;    /* NM__UNLIMITED = none of its own */
    NM_ATOMIC(size_t) soft;    /* 0 = none */
    NM_ATOMIC(size_t) peak;
    NM_ATOMIC(nm__ready *) ready;   /* of a process or service scope, from the first request below it on; ready.h */
    NM_ATOMIC(uint64_t) fail_after; /* grants until one is refused; 0 = off */
    NM_ATOMIC(uint64_t) refused_count;
    NM_ATOMIC(uint32_t) soft_count;
    NM_ATOMIC(bool) over_soft;    /* the soft limit was crossed and `granted` has not fallen below the headroom since */
    NM_ATOMIC(bool) soft_pending; /* crossed, and nobody has reacted yet */
    NM_ATOMIC(bool) hook_running;
    uint8_t kind;
    uint8_t leak_mode : 2;
    uint8_t debug : 6; /* nm_debug_flags, the parent's included */
    bool defers_ran;
    uint8_t block_order;               /* of a request scope in a block of its own: log2 of the block's bytes; else 0 */
    NM_ATOMIC(bool) is_open;           /* likewise: not lying ready */
    NM_ATOMIC(uint8_t) away;           /* likewise: nm__away; changed under the tree lock */
    uint8_t sample_log2;               /* log2 of the bytes between samples; 0 = none */
    NM_ATOMIC(uint8_t) refused_status; /* of the last refusal, negated; 0 = none; refusal.c */
    NM_ATOMIC(uint8_t) refused_above;  /* whose limit it was: 1 = its own, 2 = the parent's, ...; 0 = nobody's */
    NM_ATOMIC(size_t) refused_wanted;
    NM_ATOMIC(nm__malloc *) heap; /* of nm_scope_malloc; NULL before the first allocation */
    nm_pressure_fn *on_pressure;
    void *context;
    const char *site; /* where opened */
    /* under the root's tree lock */
    nm_scope *first_child; /* but for those in blocks of their own: they are in a nm__ready's list */
    nm_scope *next_sibling, *previous_sibling; /* in the parent's list or that one */
    nm__holder *holders;                       /* newest first; but for an arena in the scope's own block */
    nm_scope *dump_next;
    NM_ATOMIC(uint32_t) child_count; /* of a one-thread scope all; else without those in blocks of their own */
    NM_ATOMIC(uint32_t) placed;      /* granted for the arena in the scope's own block; 0 = there is none */
    /* of the scope's thread; under the tree lock if the kind is shared */
    uint32_t held_free, held_reserved, held_sweep_at;
    uint32_t dump_depth; /* under the tree lock, with dump_next: of the dump at work; see dump_prometheus.c */
    nm__held *held;
    size_t held_bytes, held_limit;
    nm__deferred *deferred;
    char name[NM_NAME_BYTES];
};
_Static_assert(sizeof(struct nm_scope) <= NM__RECORD_BYTES, "a scope's header is one record");

typedef struct nm__record_page nm__record_page;

/* A root is a scope and the memory manager of all below it. Lies at the start of its range; slots follow. */
struct nm__root {
    nm_scope scope; /* first: slot numbers count from here */
    /* Read by every request and seldom written: not on the line of what every charge writes. */
    _Alignas(64) NM_ATOMIC(uint32_t) crossings; /* scopes whose soft_pending is set */
    NM_ATOMIC(uint32_t) rare; /* reasons to leave the fast paths: scopes whose fail_after is set, checkers that watch */
    size_t range_bytes;
    nm__ready *readies; /* under the tree lock, as the next one */
    nm__holder *reclaimable;
    NM_ATOMIC(uint64_t) leaked_count; /* what the closes of scopes below have found so far */
    NM_ATOMIC(uint64_t) leaked_bytes;
    uint32_t slot_pages, slot_pages_max; /* made so far; that fit the range */
    NM_ATOMIC(int) pressure_fd;          /* -1: none was asked for yet */
    int unused_;
    _Alignas(64)
        NM_ATOMIC(size_t) handed;  /* bytes charged to scopes and holders; of `granted` the part that is not idle */
    pthread_mutex_t limits;        /* held while limits change */
    pthread_mutex_t tree;          /* children, holders, reclaim list, held lists of shared scopes */
    pthread_cond_t visited;        /* a holder's last visitor left; with `tree` */
    pthread_mutex_t pressure;      /* held while the descriptor is made */
    pthread_mutex_t records;       /* the next three, and slot_pages */
    nm__record_page *record_pages; /* with at least one record free */
    nm__slot *free_slot_pages;
    size_t own_bytes; /* committed for this struct, headers of record pages and the table of sites */
    struct {
        NM_ATOMIC(void *) table; /* NULL until the first note */
        NM_ATOMIC(uint64_t) tries, other_count, other_bytes;
    } sites;           /* sites.c */
    nm__blocks blocks; /* has its own lock */
    nm__member member;
};

/* fork.c */
extern const nm__member_class nm__root_member_class;

/* A root with a smaller limit gets no huge pages: in steps of 2 MiB its memory would mostly lie idle. */
#define NM__HUGE_LEAST_BYTES ((size_t)64 << 20)

/* This struct's pages. */
#define NM__ROOT_BYTES (nm__round_up(sizeof(nm__root), NM__PAGE_BYTES))

/* Elastic growth stops, and a crossing is over, this far below the soft limit: else a cache and a request would push each
 * other across it with every block. */
#define NM__SOFT_HEADROOM_SHARE 16

static inline size_t nm__granted(const nm_scope *s) {
    return nm_atomic_load(&s->granted, NM_RELAXED) & NM__GRANTED_MASK;
}
static inline size_t nm__soft_rest(size_t soft) { return soft - soft / NM__SOFT_HEADROOM_SHARE; }
static inline bool nm__is_below(const nm_scope *s, const nm_scope *ancestor) {
    /* relaxed: a request scope that lay ready gets another parent; whoever walks here holds the tree lock, under which no
     * parent goes away */
    while (s != NULL && s != ancestor) s = nm_atomic_load(&s->parent, NM_RELAXED);
    return s != NULL;
}
static inline bool nm__is_shared(const nm_scope *s) { return s->kind <= NM_SCOPE_SERVICE; }

/* For what belongs to the scope's thread, or to all where there is no such thread. */
static inline void nm__lock_if_shared(nm_scope *s) {
    if (nm__is_shared(s)) pthread_mutex_lock(&s->root->tree);
}
static inline void nm__unlock_if_shared(nm_scope *s) {
    if (nm__is_shared(s)) pthread_mutex_unlock(&s->root->tree);
}

/* Rounds of reclaim and retry before a refusal: other threads may take what was made free. */
#define NM__GRANT_ROUNDS 4

/* budget.c */
typedef struct nm__refusal {
    nm_scope *at;  /* whose limit refused */
    bool injected; /* by nm_scope_fail_after */
} nm__refusal;

/* Charges owner and its ancestors below the root; of the root it raises `handed`. All or nothing. False: *why is set. */
bool nm__charge(nm_scope *owner, size_t bytes, nm__grant_mode mode, nm__refusal *why);
void nm__uncharge(nm_scope *owner, size_t bytes);
/* The same, past all credit. */
bool nm__charge_all(nm_scope *owner, size_t bytes, nm__grant_mode mode, nm__refusal *why);
void nm__uncharge_all(nm_scope *owner, size_t bytes);
/* The same for a part of the path: from owner up to, not including, base; for the scope alone. Quiet. */
bool nm__charge_below(nm_scope *owner, const nm_scope *base, size_t bytes);
void nm__uncharge_below(nm_scope *owner, const nm_scope *base, size_t bytes);
bool nm__charge_own(nm_scope *s, size_t bytes);
void nm__uncharge_own(nm_scope *s, size_t bytes);
/* Charges the root for committed bytes, giving up idle blocks if it must. Not to be called with the block store's lock held. */
bool nm__root_charge(nm__root *root, size_t bytes, nm__grant_mode mode);
void nm__root_uncharge(nm__root *root, size_t bytes);
/* What one block of that size may take of the root: a new slab, if it needs one, has a page for its header. */
#define NM__ROOM_FOR_BLOCK(bytes) ((bytes) + NM__BLOCK_MIN_BYTES)
/* nm__charge in the given mode with all that FULL means; NM_OK or NM_EBUDGET, counted as a refusal. */
nm_status nm__grant(nm_scope *owner, size_t bytes, nm__grant_mode mode, const nm__holder *self);
/* Charges the scope alone; FULL. */
nm_status nm__grant_own(nm_scope *s, size_t bytes);
nm_status nm__root_grant(nm__root *root, size_t bytes, nm__grant_mode mode, const nm__holder *self);
void nm__refused(nm_scope *at);
/* nm__make_room without the count, for callers that count the refusal themselves. */
bool nm__try_room(nm_scope *owner, size_t bytes, const nm__holder *self);
/* What one scope's limit has left; the root's idle blocks are as good as free. */
size_t nm__room_at(const nm_scope *s);
void nm__note_growth(nm_scope *s);
extern const nm__ledger nm__root_ledger; /* context to be filled in */

/* reclaim.c */
size_t nm__reclaim(nm_scope *below, size_t wanted, const nm__holder *self);
void nm__call_hook(nm_scope *scope, size_t wanted);

/* Where the arena is that was opened in a request scope's own block: there; moved to another scope, which pays for what it has
 * of the block, while this one is still open, or is closed and the block waits for the arena's end. */
typedef enum nm__away { NM__AWAY_NOT, NM__AWAY_OPEN, NM__AWAY_CLOSED } nm__away;

/* place.c */
bool nm__is_placed(const nm__block *block);
nm_status nm__place_extend(nm_scope *owner, nm__block *block, size_t min_bytes);
void nm__place_give(nm_scope *owner, const nm__block *block);
bool nm__place_give_record(nm_scope *owner, const void *record); /* false: it lies elsewhere */
void nm__place_leave(nm_scope *s);                               /* its arena moves: it is charged elsewhere now */
void nm__place_return(nm_scope *owner, void *record);            /* such an arena closes; `owner` pays for the record */
nm__holder *nm__placed_holder(const nm_scope *s); /* of an arena in the place, if there is one (placed != 0) */

/* record.c, slot.c */
nm_status nm__record_take_in(nm_scope *owner, nm__grant_mode mode, void **out); /* FULL or QUIET */
void nm__records_close(nm__root *root);

/* limits.c */

/* Puts the process's limit where *hard is NM_BYTES_AUTO. NM_EINVAL: not of a root. NM_ESYSTEM: it cannot be known. */
nm_status nm__hard_resolve(const nm_scope *parent, size_t *hard);
void nm__pressure_init(nm__root *root);
void nm__pressure_close(nm__root *root);

/* defer.c, held.c: at the close of the scope */
void nm__defers_run(nm_scope *scope);
void nm__held_give_back(nm_scope *scope, nm__leaks *leaks, const char *site);

/* refusal.c */

/* Remembers why something asked of `owner` was refused: by the limit of `at`, or by no limit (NULL). Any thread. */
void nm__refusal_note(nm_scope *owner, nm_status status, const nm_scope *at_or_null, size_t wanted_bytes);
void nm__refusal_read(const nm_scope *scope, nm_scope_stats *out); /* fills in last_refusal */

/* malloc_heap.c: the heap's holder, which stays last in the scope's list; NULL without one. */
nm__holder *nm__malloc_holder(const nm_scope *scope);

/* leak_report.c */
struct nm__leaks {
    nm_leak_report report;
    nm_leak_mode mode; /* of the scope whose things are noted now */
};

#endif
