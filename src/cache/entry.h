// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The entry, which is a chunk of its shard's heap. Addresses inside a shard are offsets in units of 8 bytes, so that a link
 * costs 4 bytes; three bits of a size are marks, so a chunk ends at 4 GiB and a heap at 32 GiB.
 *
 *   0        4        8        12       16       20                                                      multiple of 8
 *   +--------+--------+--------+--------+--------+-------+----------------+--------+----------+-----------------+
 *   | size   | next   | prev   | state  | version| shift | value          | key    | slack    | more: expiry,   |
 *   | marks  |        policy's node     |        | 0 or 8|                |        | 0..7     | flags (optional)|
 *   +--------+--------+--------+--------+--------+-------+----------------+--------+----------+-----------------+
 * A chunk begins 4 bytes in front of a multiple of 8, so the value, first behind the header, lies on a multiple of 8. Where its
 * length is a multiple of 16 it lies on a multiple of 16 as well (no type that is larger needs that and has another size):
 * such an entry is `wide`, with 8 bytes of room to shift it when it lies at an odd unit. The value's length is what the others
 * leave of the size. From 1 KiB on an entry has no slack, and a gap of 4 bytes or more in front of its key, the last 4 of which say
 * how long it is: sizes are rounded there, so that the hole of one entry fits the next of about the same length. A free
 * chunk has size, next and prev, and its size once more in its last 4 bytes.
 *
 * Readers without a lock look at size, state and version of an entry that they have pinned, while its neighbours and its
 * rank may change under the lock: these three words go through relaxed atomics. What readers take from them is constant. */
#ifndef NM_SRC_CACHE_ENTRY_H
#define NM_SRC_CACHE_ENTRY_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/atomic.h"
#include "base/math.h"
#include "cache/node.h"
#include "cache/wheel.h"
#include "nebula/base.h"

typedef struct nm__entry {
    NM_ATOMIC(uint32_t) size; /* of the chunk in units; NM__CHUNK_ marks */
    nm__node node;            /* off the lists: next is a count or link, prev says what it is */
    NM_ATOMIC(uint32_t) version;
} nm__entry;
static_assert(sizeof(nm__entry) == 20, "the value begins on a multiple of 8");

/* At the end of the chunk, where an entry needs it. */
typedef struct nm__entry_more {
    nm__timer timer; /* expires_ms, read without the lock; NM_TTL_NEVER: it does not. Else it is in the shard's wheel */
    uint32_t flags;
    NM_ATOMIC(uint32_t) access_ms; /* of the last get, modulo 2^32 */
    NM_ATOMIC(uint16_t) bits;
    uint16_t key_len; /* of a key longer than 255 bytes */
} nm__entry_more;
#define NM__MORE_BYTES ((size_t)28) /* without the padding that C adds */
/* In its bits. */
#define NM__MORE_FETCHED  1u
#define NM__MORE_STALE    2u
#define NM__MORE_WON      4u /* stale, and somebody was told to bring it up to date */
#define NM__MORE_NEGATIVE 8u
#define NM__MORE_UNTIMED  16u /* its time ended, and the wheel has given it up */
static_assert(offsetof(nm__entry_more, key_len) + sizeof(uint16_t) == NM__MORE_BYTES, "it ends with the chunk");

typedef struct nm__object {
    void *address;
    uint64_t bytes;
} nm__object;

/* In size. Held: neither free nor an entry, belongs to who empties that window. */
#define NM__CHUNK_FREE        0x80000000u
#define NM__CHUNK_BEHIND_FREE 0x40000000u /* the chunk in front is free, and its size stands in front of this one */
#define NM__CHUNK_HELD        0x20000000u
#define NM__UNITS_MAX         0x1fffffffu
#define NM__CHUNK_LEAST       ((uint32_t)3) /* units */
#define NM__GAP_UNITS         ((uint32_t)128)
#define NM__HEAP_MAX          ((size_t)32 << 30)

/* In node.state, above the policy's 16 bits. */
#define NM__ENTRY_WIDE    0x00010000u
#define NM__ENTRY_FIXED   0x00020000u /* known to be pinned, or off the lists: it cannot be moved */
#define NM__ENTRY_OBJECT  0x00040000u
#define NM__ENTRY_MORE    0x00080000u
#define NM__ENTRY_OFF     0x00100000u /* in no list of the policy: node.prev says what it is, node.next is its own */
#define NM__SLACK_SHIFT   21          /* 3 bits */
#define NM__KEY_LEN_SHIFT 24          /* 8 bits; 0: in `more` */

/* In node.prev of an entry that is off. */
#define NM__OFF_DOOMED       1u  /* left the cache; waits for its callback */
#define NM__OFF_ZOMBIE       2u  /* left the cache; node.next pins hold it */
#define NM__OFF_RESERVED     4u  /* not in the cache yet */
#define NM__OFF_CLAIMED      8u  /* doomed, and its bytes belong to a window */
#define NM__OFF_MOVED        16u /* did not leave: another chunk has its contents */
#define NM__OFF_REASON_SHIFT 8   /* why it left */

/* What a wide entry has more, to shift its value: of these 8 bytes, those in front of the value are the 8 of the address
 * where it would begin else, and the others are behind the slack. */
static inline size_t nm__wide_bytes(uint32_t state) { return (state & NM__ENTRY_WIDE) / (NM__ENTRY_WIDE / 8); }
static inline uint32_t nm__chunk_units(const nm__entry *e) {
    return nm_atomic_load(&e->size, NM_RELAXED) & NM__UNITS_MAX;
}
static inline size_t nm__entry_bytes(const nm__entry *e) { return (size_t)nm__chunk_units(e) * NM__UNIT_BYTES; }
static inline nm__entry_more *nm__entry_more_in(const nm__entry *e, uint32_t state) {
    if (!(state & NM__ENTRY_MORE)) return NULL;
    return (nm__entry_more *)(void *)((unsigned char *)(uintptr_t)e + nm__entry_bytes(e) - NM__MORE_BYTES);
}
static inline nm__entry_more *nm__entry_more_of(const nm__entry *e) {
    return nm__entry_more_in(e, nm__node_state(&e->node));
}
/* relaxed: a time, which readers take as it was or as it is */
static inline uint64_t nm__more_expires(const nm__entry_more *more) {
    return nm_atomic_load(&more->timer.expires_ms, NM_RELAXED);
}
static inline size_t nm__key_len_in(const nm__entry *e, uint32_t state) {
    uint32_t len = state >> NM__KEY_LEN_SHIFT;
    return NM_LIKELY(len != 0) ? len : nm__entry_more_in(e, state)->key_len;
}
static inline size_t nm__entry_key_len(const nm__entry *e) { return nm__key_len_in(e, nm__node_state(&e->node)); }
static inline unsigned char *nm__entry_value(const nm__entry *e) {
    uintptr_t at = (uintptr_t)(e + 1);
    return (unsigned char *)(at + (nm__wide_bytes(nm__node_state(&e->node)) & at));
}
/* Found from the end of the chunk. Of a wide value's 8 bytes of room, those that are not in front of it are behind the slack. */
static inline unsigned char *nm__entry_key(const nm__entry *e) {
    uint32_t state = nm__node_state(&e->node);
    size_t behind = (nm__wide_bytes(state) & ~(uintptr_t)(e + 1)) + (state >> NM__SLACK_SHIFT & 7);
    size_t key_len = state >> NM__KEY_LEN_SHIFT;
    if (NM_UNLIKELY(state & NM__ENTRY_MORE)) {
        behind += NM__MORE_BYTES;
        key_len = nm__key_len_in(e, state);
    }
    return (unsigned char *)(uintptr_t)e + nm__entry_bytes(e) - behind - key_len;
}
static inline bool nm__entry_has_gap(uint32_t units) { return units >= NM__GAP_UNITS; }
static inline size_t nm__entry_gap(const nm__entry *e) {
    uint32_t gap = 0;
    if (nm__entry_has_gap(nm__chunk_units(e))) memcpy(&gap, nm__entry_key(e) - sizeof gap, sizeof gap);
    return gap;
}
static inline size_t nm__entry_value_len(const nm__entry *e) {
    uint32_t state = nm__node_state(&e->node);
    return nm__entry_bytes(e) - sizeof(nm__entry) - (state & NM__ENTRY_WIDE ? 8 : 0) -
           (state & NM__ENTRY_MORE ? NM__MORE_BYTES : 0) - nm__entry_key_len(e) - (state >> NM__SLACK_SHIFT & 7) -
           nm__entry_gap(e);
}
static inline size_t nm__entry_object_bytes(const nm__entry *e) {
    if (!(nm__node_state(&e->node) & NM__ENTRY_OBJECT)) return 0;
    return (size_t)((const nm__object *)(const void *)nm__entry_value(e))->bytes;
}
/* What it counts in `used` and in its segment. */
static inline size_t nm__entry_weight(const nm__entry *e) { return nm__entry_bytes(e) + nm__entry_object_bytes(e); }

static inline bool nm__value_is_wide(size_t value_len) { return value_len != 0 && value_len % 16 == 0; }

/* To a 64th, and at most to a page: with keys of many lengths before values of one there are then one or two sizes of entries instead of
 * dozens, each of which could only use its own holes and the sums of others. Two units less than a multiple, as a heap's pages hold. */
#define NM__GRAIN_SHIFT 6
#define NM__GRAIN_MAX   9
#define NM__GRAIN_LESS  2
static inline size_t nm__units_rounded(size_t units) {
    size_t all = units + NM__GRAIN_LESS;
    unsigned shift = 63u - (unsigned)__builtin_clzll(all) - NM__GRAIN_SHIFT;
    size_t grain = (size_t)1 << (shift < NM__GRAIN_MAX ? shift : NM__GRAIN_MAX);
    return ((all + grain - 1) & ~(grain - 1)) - NM__GRAIN_LESS;
}

/* Units of an entry; 0 if no chunk can hold it. */
static inline uint32_t nm__entry_units(size_t key_len, size_t value_len, bool more) {
    if (value_len >= (size_t)NM__UNITS_MAX * NM__UNIT_BYTES || key_len > UINT16_MAX) return 0;
    size_t bytes =
        sizeof(nm__entry) + (nm__value_is_wide(value_len) ? 8 : 0) + (more ? NM__MORE_BYTES : 0) + value_len + key_len;
    size_t units = (bytes + NM__UNIT_BYTES - 1) / NM__UNIT_BYTES;
    if (units >= NM__GAP_UNITS)
        units = nm__units_rounded((bytes + sizeof(uint32_t) + NM__UNIT_BYTES - 1) / NM__UNIT_BYTES);
    return units <= NM__UNITS_MAX ? (uint32_t)units : 0;
}

#endif
