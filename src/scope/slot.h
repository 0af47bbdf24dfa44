// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Slots: the descriptors of leases, pins and reservations. `struct nm__slot` itself stands in nebula/scope.h.
 *
 * Slots belong to the root and are type-stable: their memory is never used for anything else nor given back while the root
 * lives, and their generation goes on when another pool or cache reuses them. So a handle that was copied and comes late
 * is recognised, also after its pool is closed. A slot is one cache line, named by a 24-bit number or by its address. */
#ifndef NM_SRC_SCOPE_SLOT_H
#define NM_SRC_SCOPE_SLOT_H

#include "base/atomic.h"
#include "nebula/base.h"
#include "nebula/scope.h"

typedef struct nm__slot nm__slot;

/* What kind of thing a slot stands for: one constant of each part that uses slots. */
typedef struct nm__slot_class {
    const char *part;  /* "pool", "cache" */
    nm_leak_kind leak; /* kind in a report, if it is found out at a close */
    /* Gives the thing back if it is still out in that generation, else returns false and does nothing. Called by the close
     * of the scope that holds it; no lock held. */
    bool (*release)(nm__slot *slot, uint64_t generation, const char *site);
    /* Is that generation out? */
    bool (*out)(const nm__slot *slot, uint64_t generation);
    /* Name and bytes for the report. The slot is out. */
    const char *(*name)(const nm__slot *slot);
    size_t (*bytes)(const nm__slot *slot);
} nm__slot_class;

/* The lowest byte of a slot's stamp. A slot's fields are the part's that has its page, with these of the cache's: `claim`
 * is a word of its own, `own_mark` the slot's number, `link` the number of the next slot in a list. */
typedef enum nm__slot_kind {
    NM__SLOT_FREE,
    NM__SLOT_LEASE,
    NM__SLOT_SHARE,
    NM__SLOT_PIN,
    NM__SLOT_RESERVATION,
    NM__SLOT_TEST,
    NM__SLOT_KINDS
} nm__slot_kind;
#define NM__SLOT_KIND_BITS 8
_Static_assert(sizeof(nm__slot) == 64, "a slot is one cache line");

/* Says which class the slots of a kind have: the part that has them, before it takes any. Always the same. */
void nm__slot_class_set(nm__slot_kind kind, const nm__slot_class *class);
/* NULL: a slot that was never used. */
const nm__slot_class *nm__slot_class_of(const nm__slot *slot);

#define NM__SLOT_NONE        0u
#define NM__SLOTS_PER_PAGE   64u
#define NM__SLOT_NUMBER_BITS 24

/* Takes a page of 64 slots with consecutive numbers, charged to `owner` (4096 bytes). Their generations are even and below
 * 2^48. `leased_at` and `released_at` are of their last life. NM_EBUDGET, NM_ENOMEM; NM_ECAPACITY: 2^24 slots are out.
 * `quiet`: no reclaim and no hook, for callers that hold a lock. */
nm_status nm__slots_take(nm_scope *owner, bool quiet, nm__slot **out);
/* Gives the page back; no slot of it is out, and each has its number in own_mark and an even generation. */
void nm__slots_give(nm_scope *owner, nm__slot *page);

static inline uint32_t nm__slot_number(const nm__slot *slot) { return slot->nm__own_mark; }
/* The slot of that number. The number must have been handed out by this root. */
nm__slot *nm__slot_at(const nm_scope *any_scope_of_root, uint32_t number);

/* Reports a release of `slot` in a generation in which it is not out. */
void nm__slot_misuse(const nm__slot *slot, const char *what, const void *address, const char *site);

#endif
