// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A shard's heap: one contiguous range, committed from the bottom up to `end`, cut into chunks with boundary tags.
 *
 * Free chunks are in two-level segregated lists (Masmano, Ripoll, Crespo, Real 2004): a good fit, not only in O(1) but with
 * a waste that is bounded for every mix of sizes. No lock of its own. */
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

#define NM__HEAP_ROWS  28 /* sizes 1..15 in row 0, then a row for each power of two up to 2^30 units */
#define NM__HEAP_COLS  16
#define NM__PAGE_UNITS ((uint32_t)256)

typedef struct nm__heap {
    unsigned char *base;
    const nm__pages *pages;
    uint32_t end;        /* offset of the closing mark: 256 times the committed pages */
    uint32_t limit;      /* what end may become */
    uint32_t free_units; /* in free chunks */
    uint32_t rows;       /* bit r: row r has a chunk */
    uint16_t cols[NM__HEAP_ROWS];
    uint32_t free[NM__HEAP_ROWS][NM__HEAP_COLS];
} nm__heap;

/* A heap over `reserved` bytes at base (whole pages); its first page is committed. */
nm_status nm__heap_open(nm__heap *heap, void *base, size_t reserved, const nm__pages *pages);

static inline nm__entry *nm__heap_at(const nm__heap *heap, uint32_t offset) {
    return (nm__entry *)(void *)(heap->base + ((size_t)offset * NM__UNIT_BYTES - 8));
}
static inline size_t nm__heap_bytes(const nm__heap *heap) { return (size_t)heap->end * NM__UNIT_BYTES; }
static inline uint32_t nm__heap_size(const nm__heap *heap, uint32_t offset) {
    return nm__heap_at(heap, offset)->size & ~NM__CHUNK_FREE;
}
static inline bool nm__heap_is_free(const nm__heap *heap, uint32_t offset) {
    return (nm__heap_at(heap, offset)->size & NM__CHUNK_FREE) != 0;
}
static inline bool nm__heap_is_held(const nm__heap *heap, uint32_t offset) {
    return (nm__heap_at(heap, offset)->before & NM__CHUNK_HELD) != 0;
}
/* The chunk in front; 0 at the bottom. The one behind is offset + size; it is heap->end at the top. */
static inline uint32_t nm__heap_before(const nm__heap *heap, uint32_t offset) {
    uint32_t size = nm__heap_at(heap, offset)->before & ~NM__CHUNK_HELD;
    return size != 0 ? offset - size : 0;
}
#define NM__HEAP_FIRST ((uint32_t)1)

/* Takes a chunk of exactly `units`; 0: no free chunk is large enough. Its size is set, the rest of the header is not. */
uint32_t nm__heap_take(nm__heap *heap, uint32_t units);
/* Would nm__heap_take find one? */
bool nm__heap_fits(const nm__heap *heap, uint32_t units);
/* Frees a chunk that is an entry or held, and joins it with free neighbours; the offset of the whole. */
uint32_t nm__heap_give(nm__heap *heap, uint32_t offset);
/* Cuts a taken or held chunk to `units`, which makes it a taken one, and frees the rest. */
void nm__heap_cut(nm__heap *heap, uint32_t offset, uint32_t units);

/* A free chunk of the largest class that has one; 0: nothing is free. */
uint32_t nm__heap_largest(const nm__heap *heap);
/* Units of the free chunk at the top. */
uint32_t nm__heap_top_free(const nm__heap *heap);
/* Commits `want` bytes more at the top, or `least`. Whole pages. NM_ETOOLARGE: the range ends; else as pages->commit. */
nm_status nm__heap_grow(nm__heap *heap, size_t least, size_t want);
/* Gives free pages at the top back, at most `bytes`; the first page stays. The bytes given. */
size_t nm__heap_trim(nm__heap *heap, size_t bytes);

/* A chunk that is free or a dead entry is taken out of all lists, for who empties the window around it. */
void nm__heap_hold(nm__heap *heap, uint32_t offset);
/* What is left of a window [.., hi) behind the chunk of `before` units that now ends at `from` becomes free. */
void nm__heap_rest(nm__heap *heap, uint32_t from, uint32_t hi, uint32_t before);
/* All chunks from lo up to hi, none of them free, become one held chunk. */
void nm__heap_join(nm__heap *heap, uint32_t lo, uint32_t hi);

#endif
