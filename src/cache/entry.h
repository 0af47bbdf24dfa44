// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The entry, which is a chunk of its shard's heap. Addresses inside a shard are offsets in units of 16 bytes; sizes keep one
 * bit for a mark, so a heap ends at 32 GiB.
 *
 *   0        8       16       24       32       40
 *   +--------+--------+--------+--------+--------+---------------+---------+-------+-----------------+
 *   | size   | hash   | next   | state  | cas    | value         | key     | slack | expiry, flags   |
 *   | before | chain  | prev   | lengths|        |               |         | 0..15 | (16, optional)  |
 *   +--------+--------+--------+--------+--------+---------------+---------+-------+-----------------+
 * A chunk begins 8 bytes past a multiple of 16, so that the value, first behind the header, lies on NM_ALIGN without
 * padding; the key, which needs no alignment, follows it. The value's length is what the others leave of the size. A free
 * chunk has the first 16 bytes only. */
#ifndef NM_SRC_CACHE_ENTRY_H
#define NM_SRC_CACHE_ENTRY_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/math.h"
#include "cache/policy.h"

typedef struct nm__entry {
    uint32_t size;   /* of the chunk in units; NM__CHUNK_FREE */
    uint32_t before; /* size of the chunk in front, 0 at the bottom; NM__CHUNK_HELD */
    uint32_t hash;   /* low half; of a free chunk: the next in its list */
    uint32_t chain;  /* next in the bucket; of a free chunk: the one before in its list */
    nm__node node;
    uint16_t key_len;
    uint8_t slack; /* unused bytes at the end */
    uint8_t bits;
    uint64_t cas;
} nm__entry;
static_assert(sizeof(nm__entry) == 40, "the value begins on a multiple of 16");

typedef struct nm__entry_more {
    uint64_t expires_ms; /* NM_TTL_NEVER: flags only */
    uint32_t flags;
    uint32_t unused;
} nm__entry_more;
static_assert(sizeof(nm__entry_more) == 16, "one unit");

typedef struct nm__object {
    void *address;
    uint64_t bytes;
} nm__object;

#define NM__CHUNK_FREE 0x80000000u /* in size */
#define NM__CHUNK_HELD 0x80000000u /* in before: neither free nor an entry, belongs to who empties that window */
#define NM__UNITS_MAX  0x7fffffffu
#define NM__HEAP_MAX   ((size_t)32 << 30)

/* node.state, below NM__NODE_PROTECTED. Only read and written under the lock, unlike the rest of the header, which is constant
 * while the entry is pinned. */
#define NM__DOOMED       0x40000000u /* left the cache; waits for its callback */
#define NM__ZOMBIE       0x20000000u /* left the cache; waits for its last unpin */
#define NM__RESERVED     0x10000000u /* not in the cache yet */
#define NM__CLAIMED      0x08000000u /* doomed, and its bytes belong to a window */
#define NM__REASON       0x07000000u /* why it left */
#define NM__REASON_SHIFT 24
#define NM__PINS         0x00ffffffu /* as many as there are slots */

/* bits */
#define NM__HAS_MORE  0x01u
#define NM__IS_OBJECT 0x02u

static inline size_t nm__entry_bytes(const nm__entry *e) {
    return (size_t)(e->size & ~NM__CHUNK_FREE) * NM__UNIT_BYTES;
}
static inline size_t nm__entry_more_bytes(const nm__entry *e) {
    return e->bits & NM__HAS_MORE ? sizeof(nm__entry_more) : 0;
}
static inline unsigned char *nm__entry_value(const nm__entry *e) { return (unsigned char *)(uintptr_t)(e + 1); }
static inline size_t nm__entry_value_len(const nm__entry *e) {
    return nm__entry_bytes(e) - sizeof(nm__entry) - nm__entry_more_bytes(e) - e->key_len - e->slack;
}
static inline unsigned char *nm__entry_key(const nm__entry *e) { return nm__entry_value(e) + nm__entry_value_len(e); }
static inline nm__entry_more *nm__entry_more_of(const nm__entry *e) {
    if (!(e->bits & NM__HAS_MORE)) return NULL;
    return (nm__entry_more *)(void *)((unsigned char *)(uintptr_t)e + nm__entry_bytes(e) - sizeof(nm__entry_more));
}
static inline size_t nm__entry_object_bytes(const nm__entry *e) {
    return e->bits & NM__IS_OBJECT ? (size_t)((const nm__object *)(const void *)nm__entry_value(e))->bytes : 0;
}
/* What it counts in `used` and in its segment. */
static inline size_t nm__entry_weight(const nm__entry *e) { return nm__entry_bytes(e) + nm__entry_object_bytes(e); }

/* Units of an entry; 0 if no heap can hold it. */
static inline uint32_t nm__entry_units(size_t key_len, size_t value_len, bool more) {
    if (value_len >= NM__HEAP_MAX || key_len > UINT16_MAX) return 0;
    size_t bytes = sizeof(nm__entry) + (more ? sizeof(nm__entry_more) : 0) + value_len + key_len;
    size_t units = (bytes + NM__UNIT_BYTES - 1) / NM__UNIT_BYTES;
    return units <= NM__UNITS_MAX - 256 ? (uint32_t)units : 0;
}

#endif
