// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A shard's heap: one contiguous range, committed from the bottom up to `end`, cut into chunks.
 *
 * Free chunks are in two-level segregated lists (Masmano, Ripoll, Crespo, Real 2004): a good fit, not only in O(1) but with
 * a waste that is bounded for every mix of sizes. A chunk says how long it is, and whether the one in front is free; only a
 * free one says its length at its end as well. To walk down over chunks that are not free, the heap notes for each page the
 * first chunk that begins in it. A chunk can only be that if the one in front begins in another page: all others come and go
 * without a look at the map.
 *
 * A free chunk of one unit has no room for links: it is in no list, cannot be taken, and waits for a neighbour to be freed.
 * No two free chunks are neighbours. So that one that grew by joining can still tell its size, a unit is held for ever at each
 * 4 GiB: a fence. No lock of its own. */
#ifndef NM_SRC_CACHE_HEAP_H
#define NM_SRC_CACHE_HEAP_H

#include "cache/entry.h"
#include "nebula/base.h"

/* Where pages come from: asked before a page is committed, told after it went. */
typedef struct nm__pages {
    nm_status (*commit)(void *context, void *address, size_t bytes);
    bool (*decommit)(void *context, void *address, size_t bytes);
    void *context;
} nm__pages;

#define NM__HEAP_ROWS  26 /* sizes 1..15 in row 0, then a row for each power of two up to 2^28 units */
#define NM__HEAP_COLS  16 /* classes of a row */
#define NM__PAGE_UNITS ((uint32_t)512)
#define NM__SPAN_UNITS (NM__UNITS_MAX + 1) /* from fence to fence */

typedef struct nm__heap {
    unsigned char *base;
    uint16_t *map; /* for each page 1 + the unit in it where its first chunk begins; 0: none does */
    const nm__pages *pages;
    size_t map_bytes;    /* committed */
    uint32_t end;        /* offset of the closing mark: 512 times the committed pages */
    uint32_t limit;      /* what end may become */
    uint32_t free_units; /* in free chunks */
    uint32_t rows;       /* bit r: row r has a chunk */
    uint16_t cols[NM__HEAP_ROWS];
    uint32_t free[NM__HEAP_ROWS * NM__HEAP_COLS]; /* the first of each class */
} nm__heap;

/* A heap over `reserved` bytes at base (whole pages), whose map lies at map_base, nm__heap_map_bytes(reserved) bytes that are
 * zero when committed. The first page of each is committed; nothing is if one is refused. */
nm_status nm__heap_open(nm__heap *heap, void *base, size_t reserved, void *map_base, const nm__pages *pages);

static inline nm__entry *nm__heap_at(const nm__heap *heap, uint32_t offset) {
    return (nm__entry *)(void *)(heap->base + ((size_t)offset * NM__UNIT_BYTES - 4));
}
static inline size_t nm__heap_bytes(const nm__heap *heap) { return (size_t)heap->end * NM__UNIT_BYTES; }
/* Of the map of a heap of so many bytes: whole pages, and at least one. */
static inline size_t nm__heap_map_bytes(size_t heap_bytes) {
    size_t page = (size_t)NM__PAGE_UNITS * NM__UNIT_BYTES, pages = nm__max(heap_bytes / page, 1);
    return nm__round_up(pages * sizeof(uint16_t), page);
}
/* Fences in it. Each is a held chunk that no window can hold. */
static inline uint32_t nm__heap_fences(const nm__heap *heap) { return (heap->end - 1) / NM__SPAN_UNITS; }
static inline uint32_t nm__heap_size(const nm__heap *heap, uint32_t offset) {
    return nm__chunk_units(nm__heap_at(heap, offset));
}
static inline bool nm__heap_has(const nm__heap *heap, uint32_t offset, uint32_t mark) {
    /* relaxed: under the lock; atomic for readers of the size of an entry they have pinned */
    return (nm_atomic_load(&nm__heap_at(heap, offset)->size, NM_RELAXED) & mark) != 0;
}
static inline bool nm__heap_is_free(const nm__heap *heap, uint32_t offset) {
    return nm__heap_has(heap, offset, NM__CHUNK_FREE);
}
static inline bool nm__heap_is_held(const nm__heap *heap, uint32_t offset) {
    return nm__heap_has(heap, offset, NM__CHUNK_HELD);
}
/* The chunk in front; 0 at the bottom. The one behind is offset + size; it is heap->end at the top. Cost: O(1) if that is free,
 * else O(chunks of a page) and a look at the map for each page that a large one covers. */
uint32_t nm__heap_before(const nm__heap *heap, uint32_t offset);
#define NM__HEAP_FIRST ((uint32_t)1)

/* Takes a chunk of exactly `units`; 0: no free chunk is large enough. Its size is set, the rest of the header is not. */
uint32_t nm__heap_take(nm__heap *heap, uint32_t units);
/* Would nm__heap_take find one? */
bool nm__heap_fits(const nm__heap *heap, uint32_t units);
/* Frees a chunk that is an entry or held, and joins it with free neighbours; the offset of the whole. */
uint32_t nm__heap_give(nm__heap *heap, uint32_t offset);
/* Cuts a taken or held chunk to `units`, which makes it a taken one, and frees the rest. */
void nm__heap_cut(nm__heap *heap, uint32_t offset, uint32_t units);

/* A free chunk of the largest class that has one; 0: none is larger than a unit. */
uint32_t nm__heap_largest(const nm__heap *heap);
/* Units of the free chunk at the top. */
uint32_t nm__heap_top_free(const nm__heap *heap);
/* Commits `want` bytes more at the top, or `least`, and what the map needs for them, or nothing. Whole pages. What is new joins
 * what is free at the top, unless a fence comes between. NM_ETOOLARGE: the range ends; else as pages->commit. */
nm_status nm__heap_grow(nm__heap *heap, size_t least, size_t want);
/* Gives free pages at the top back, at most `bytes`; the first page stays. The bytes given. */
size_t nm__heap_trim(nm__heap *heap, size_t bytes);

/* A chunk that is free or a dead entry is taken out of all lists, for who empties the window around it. */
void nm__heap_hold(nm__heap *heap, uint32_t offset);
/* All chunks from lo up to hi, none of them free, become one held chunk. */
void nm__heap_join(nm__heap *heap, uint32_t lo, uint32_t hi);
/* The chunks from lo up to hi, none of them free, are about to be laid out anew, by each of these three and in the order of
 * addresses: a chunk stays where it was; one of `units` now begins here; what lies from here up to `end` is free. Meanwhile
 * free chunks outside may be taken, but nm__heap_before knows nothing of what lies inside. */
void nm__heap_relay(nm__heap *heap, uint32_t lo, uint32_t hi);
void nm__heap_relay_keep(nm__heap *heap, uint32_t offset);
void nm__heap_relay_chunk(nm__heap *heap, uint32_t lo, uint32_t offset, uint32_t units);
void nm__heap_relay_free(nm__heap *heap, uint32_t lo, uint32_t offset, uint32_t end);

#endif
