// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/heap.h"

#include <string.h>

#include "os/os.h"

_Static_assert(NM__PAGE_BYTES == NM__PAGE_UNITS * NM__UNIT_BYTES, "a page of the heap is a page of the system");

/* How many chunks of the request's own class are looked at. That class holds sizes on both sides of the request, so the
 * lists above it alone would miss the hole that an equal entry just left. */
#define NM__HEAP_LOOK 16

/* ---- sizes and marks ---- */

static uint32_t word_at(const nm__heap *heap, uint32_t offset) {
    return nm_atomic_load(&nm__heap_at(heap, offset)->size, NM_RELAXED);
}

/* relaxed, all of them: under the lock; atomic for readers of the size of an entry that they have pinned */
static void set_word(nm__heap *heap, uint32_t offset, uint32_t word) {
    nm_atomic_store(&nm__heap_at(heap, offset)->size, word, NM_RELAXED);
}

static uint32_t *foot_of(const nm__heap *heap, uint32_t end) {
    return (uint32_t *)(void *)((unsigned char *)nm__heap_at(heap, end) - sizeof(uint32_t));
}

static void mark_behind(nm__heap *heap, uint32_t end, bool is_free) {
    uint32_t word = word_at(heap, end), marked = word & ~NM__CHUNK_BEHIND_FREE;
    if (is_free) marked |= NM__CHUNK_BEHIND_FREE;
    if (marked != word) set_word(heap, end, marked);
}

/* ---- the map ---- */

static bool same_page(uint32_t a, uint32_t b) { return (a ^ b) < NM__PAGE_UNITS; }

static void map_set(nm__heap *heap, uint32_t offset) {
    heap->map[offset / NM__PAGE_UNITS] = (uint16_t)(offset % NM__PAGE_UNITS + 1);
}

/* A chunk begins there, right behind the one at `front`. */
static void map_add(nm__heap *heap, uint32_t front, uint32_t offset) {
    if (!same_page(front, offset)) map_set(heap, offset);
}

/* None does any more: the one at `front` now ends at `next`. */
static void map_remove(nm__heap *heap, uint32_t front, uint32_t offset, uint32_t next) {
    if (same_page(front, offset)) return;
    if (same_page(offset, next))
        map_set(heap, next);
    else
        heap->map[offset / NM__PAGE_UNITS] = 0;
}

/* As map_add where it is not known what lies in front. */
static void map_note(nm__heap *heap, uint32_t offset) {
    uint16_t first = heap->map[offset / NM__PAGE_UNITS];
    if (first == 0 || offset % NM__PAGE_UNITS + 1 < first) map_set(heap, offset);
}

/* No chunk begins between the two. */
static void map_clear(nm__heap *heap, uint32_t lo, uint32_t hi) {
    if (same_page(lo, hi)) return;
    uint32_t from = lo / NM__PAGE_UNITS + 1, to = hi / NM__PAGE_UNITS;
    memset(&heap->map[from], 0, (to - from) * sizeof *heap->map);
    if (hi != heap->end) map_set(heap, hi);
}

uint32_t nm__heap_before(const nm__heap *heap, uint32_t offset) {
    if (offset == NM__HEAP_FIRST) return 0;
    if (nm__heap_has(heap, offset, NM__CHUNK_BEHIND_FREE)) return offset - *foot_of(heap, offset);
    uint32_t page = offset / NM__PAGE_UNITS;
    if (offset == heap->end || heap->map[page] == 0 || heap->map[page] > offset % NM__PAGE_UNITS) {
        /* The first page has the first chunk. */
        do page--;
        while (heap->map[page] == 0);
    }
    uint32_t at = page * NM__PAGE_UNITS + heap->map[page] - 1, next;
    while ((next = at + nm__heap_size(heap, at)) != offset) at = next;
    return at;
}

/* ---- lists of free chunks; one of a single unit has no room for links, and waits for a neighbour ---- */

/* The four bits behind the highest one are the column; sizes below 32 have a class each. */
static unsigned class_of(uint32_t units) {
    unsigned shift = 27u - (unsigned)__builtin_clz(units | NM__HEAP_COLS);
    return shift * NM__HEAP_COLS + (units >> shift);
}

static void list_add(nm__heap *heap, uint32_t offset, uint32_t units) {
    heap->free_units += units;
    if (units == 1) return;
    nm__node *node = &nm__heap_at(heap, offset)->node;
    unsigned class = class_of(units), row = class / NM__HEAP_COLS;
    uint32_t head = heap->free[class];
    heap->free[class] = offset;
    node->next = head;
    node->prev = 0;
    if (head != 0) {
        nm__heap_at(heap, head)->node.prev = offset;
        return;
    }
    heap->rows |= 1u << row;
    heap->cols[row] |= (uint16_t)(1u << class % NM__HEAP_COLS);
}

static void list_remove(nm__heap *heap, uint32_t offset, uint32_t units) {
    heap->free_units -= units;
    if (units == 1) return;
    const nm__node *node = &nm__heap_at(heap, offset)->node;
    uint32_t next = node->next, prev = node->prev;
    if (next != 0) nm__heap_at(heap, next)->node.prev = prev;
    if (prev != 0) {
        nm__heap_at(heap, prev)->node.next = next;
        return;
    }
    unsigned class = class_of(units), row = class / NM__HEAP_COLS;
    heap->free[class] = next;
    if (next != 0) return;
    heap->cols[row] &= (uint16_t) ~(1u << class % NM__HEAP_COLS);
    if (heap->cols[row] == 0) heap->rows &= ~(1u << row);
}

/* `behind`: NM__CHUNK_BEHIND_FREE or 0. */
static void make_free(nm__heap *heap, uint32_t offset, uint32_t units, uint32_t behind) {
    set_word(heap, offset, units | NM__CHUNK_FREE | behind);
    *foot_of(heap, offset + units) = units;
    mark_behind(heap, offset + units, true);
    list_add(heap, offset, units);
}

/* ---- opening ---- */

/* The mark behind the last chunk is a size of 0, which ends the last page. */
static void close_at(nm__heap *heap, uint32_t end) {
    heap->end = end;
    set_word(heap, end, 0);
}

nm_status nm__heap_open(nm__heap *heap, void *base, size_t reserved, void *map_base, const nm__pages *pages) {
    memset(heap, 0, sizeof *heap);
    nm_status status = pages->commit(pages->context, map_base, NM__PAGE_BYTES);
    if (status != NM_OK) return status;
    heap->map = map_base;
    heap->map_bytes = NM__PAGE_BYTES;
    heap->pages = pages;
    status = pages->commit(pages->context, base, NM__PAGE_BYTES);
    if (status != NM_OK) {
        if (pages->decommit(pages->context, map_base, NM__PAGE_BYTES)) heap->map_bytes = 0;
        return status;
    }
    heap->base = base;
    heap->limit = (uint32_t)(nm__min(reserved, NM__HEAP_MAX - NM__PAGE_BYTES) / NM__UNIT_BYTES);
    close_at(heap, NM__PAGE_UNITS);
    map_set(heap, NM__HEAP_FIRST);
    make_free(heap, NM__HEAP_FIRST, NM__PAGE_UNITS - NM__HEAP_FIRST, 0);
    return NM_OK;
}

/* ---- take and give ---- */

/* The first chunk of a higher class, where every chunk is large enough. */
static uint32_t find_above(const nm__heap *heap, unsigned class) {
    unsigned row = class / NM__HEAP_COLS;
    uint32_t cols = heap->cols[row] & (uint32_t)(0xfffeu << class % NM__HEAP_COLS);
    if (cols == 0) {
        uint32_t rows = heap->rows & (uint32_t)(0xfffffffeu << row);
        if (rows == 0) return 0;
        row = (unsigned)__builtin_ctz(rows);
        cols = heap->cols[row];
    }
    return heap->free[row * NM__HEAP_COLS + (unsigned)__builtin_ctz(cols)];
}

static uint32_t find(const nm__heap *heap, uint32_t units) {
    unsigned class = class_of(units);
    uint32_t found = heap->free[class];
    for (int look = 1; found != 0 && nm__heap_size(heap, found) < units; look++)
        found = look < NM__HEAP_LOOK ? nm__heap_at(heap, found)->node.next : 0;
    return found != 0 ? found : find_above(heap, class);
}

bool nm__heap_fits(const nm__heap *heap, uint32_t units) { return find(heap, units) != 0; }

uint32_t nm__heap_take(nm__heap *heap, uint32_t units) {
    uint32_t found = find(heap, units);
    if (found == 0) return 0;
    uint32_t size = nm__heap_size(heap, found), rest = size - units;
    list_remove(heap, found, size);
    set_word(heap, found, units); /* in front of a free chunk lies none that is free */
    if (rest == 0) {
        mark_behind(heap, found + size, false);
    } else {
        map_add(heap, found, found + units);
        make_free(heap, found + units, rest, 0);
    }
    return found;
}

uint32_t nm__heap_give(nm__heap *heap, uint32_t offset) {
    uint32_t word = word_at(heap, offset), start = offset, behind = offset + (word & NM__UNITS_MAX), end = behind;
    uint32_t next = word_at(heap, behind);
    if (next & NM__CHUNK_FREE) {
        list_remove(heap, behind, next & NM__UNITS_MAX);
        end += next & NM__UNITS_MAX;
    }
    if (word & NM__CHUNK_BEHIND_FREE) {
        uint32_t size = *foot_of(heap, offset);
        start -= size;
        list_remove(heap, start, size);
        map_remove(heap, start, offset, end);
    }
    if (end != behind) map_remove(heap, start, behind, end);
    make_free(heap, start, end - start, 0);
    return start;
}

void nm__heap_cut(nm__heap *heap, uint32_t offset, uint32_t units) {
    uint32_t word = word_at(heap, offset), rest = (word & NM__UNITS_MAX) - units;
    set_word(heap, offset, units | (word & NM__CHUNK_BEHIND_FREE));
    if (rest == 0) return;
    set_word(heap, offset + units, rest);
    map_add(heap, offset, offset + units);
    nm__heap_give(heap, offset + units);
}

uint32_t nm__heap_largest(const nm__heap *heap) {
    if (heap->rows == 0) return 0;
    unsigned row = 31u - (unsigned)__builtin_clz(heap->rows);
    return heap->free[row * NM__HEAP_COLS + 31u - (unsigned)__builtin_clz(heap->cols[row])];
}

/* ---- the top ---- */

uint32_t nm__heap_top_free(const nm__heap *heap) {
    return nm__heap_has(heap, heap->end, NM__CHUNK_BEHIND_FREE) ? *foot_of(heap, heap->end) : 0;
}

static nm_status commit_both(nm__heap *heap, size_t bytes) {
    const nm__pages *pages = heap->pages;
    /* More than needed is there if it could not be given back. */
    size_t have = heap->map_bytes, need = nm__heap_map_bytes(nm__heap_bytes(heap) + bytes);
    unsigned char *map_end = (unsigned char *)heap->map + have;
    nm_status status = need > have ? pages->commit(pages->context, map_end, need - have) : NM_OK;
    if (status != NM_OK) return status;
    heap->map_bytes = nm__max(need, have);
    status = pages->commit(pages->context, heap->base + nm__heap_bytes(heap), bytes);
    if (status != NM_OK && need > have && pages->decommit(pages->context, map_end, need - have)) heap->map_bytes = have;
    return status;
}

nm_status nm__heap_grow(nm__heap *heap, size_t least, size_t want) {
    size_t left = (size_t)(heap->limit - heap->end) * NM__UNIT_BYTES;
    if (least > left) return NM_ETOOLARGE;
    want = nm__max(least, nm__min(want, left));
    nm_status status = commit_both(heap, want);
    if (status != NM_OK && want > least) status = commit_both(heap, want = least);
    if (status != NM_OK) return status;
    uint32_t at = heap->end, end = at + (uint32_t)(want / NM__UNIT_BYTES), behind = word_at(heap, at);
    close_at(heap, end);
    while (at != end) {
        behind &= NM__CHUNK_BEHIND_FREE;
        map_set(heap, at);
        if (at % NM__SPAN_UNITS == 0) {
            set_word(heap, at, 1 | NM__CHUNK_HELD | behind);
            behind = 0;
            at++;
        }
        uint32_t units = (uint32_t)nm__min(end - at, NM__SPAN_UNITS - at % NM__SPAN_UNITS);
        if (at + units != end) set_word(heap, at + units, 0);
        set_word(heap, at, units | behind);
        nm__heap_give(heap, at);
        at += units;
        behind = word_at(heap, at);
    }
    return NM_OK;
}

static void trim_map(nm__heap *heap) {
    size_t needed = nm__heap_map_bytes(nm__heap_bytes(heap));
    if (heap->map_bytes <= needed) return;
    unsigned char *from = (unsigned char *)heap->map + needed;
    if (heap->pages->decommit(heap->pages->context, from, heap->map_bytes - needed)) heap->map_bytes = needed;
}

/* Down to the last fence, which goes as well if all behind it does. */
static size_t trim_span(nm__heap *heap, size_t bytes) {
    uint32_t units = nm__heap_top_free(heap), first = heap->end - units;
    bool fenced = first % NM__SPAN_UNITS == 1 && first != NM__HEAP_FIRST;
    uint32_t end = fenced ? first - 1 : (uint32_t)nm__round_up(first, NM__PAGE_UNITS);
    size_t give = nm__min((size_t)(heap->end - end) * NM__UNIT_BYTES, nm__round_down(bytes, NM__PAGE_BYTES));
    if (give == 0) return 0;
    end = heap->end - (uint32_t)(give / NM__UNIT_BYTES);
    /* Off the list before the pages go: its links may lie in them. In front of it lies none that is free. */
    list_remove(heap, first, units);
    if (!heap->pages->decommit(heap->pages->context, heap->base + (size_t)end * NM__UNIT_BYTES, give)) {
        list_add(heap, first, units);
        return 0;
    }
    if (end <= first) heap->map[end / NM__PAGE_UNITS] = 0;
    uint32_t behind = end < first ? word_at(heap, end) & NM__CHUNK_BEHIND_FREE : 0;
    close_at(heap, end);
    set_word(heap, end, behind);
    if (end > first) make_free(heap, first, end - first, 0);
    return give;
}

size_t nm__heap_trim(nm__heap *heap, size_t bytes) {
    size_t given = 0, got;
    do given += got = trim_span(heap, bytes - given);
    while (got != 0);
    if (given != 0) trim_map(heap);
    return given;
}

/* ---- windows ---- */

void nm__heap_hold(nm__heap *heap, uint32_t offset) {
    uint32_t word = word_at(heap, offset);
    if (word & NM__CHUNK_FREE) {
        uint32_t units = word & NM__UNITS_MAX;
        list_remove(heap, offset, units);
        mark_behind(heap, offset + units, false);
    }
    set_word(heap, offset, (word & ~NM__CHUNK_FREE) | NM__CHUNK_HELD);
}

void nm__heap_join(nm__heap *heap, uint32_t lo, uint32_t hi) {
    map_clear(heap, lo, hi);
    set_word(heap, lo, (hi - lo) | NM__CHUNK_HELD | (word_at(heap, lo) & NM__CHUNK_BEHIND_FREE));
}

void nm__heap_relay(nm__heap *heap, uint32_t lo, uint32_t hi) { map_clear(heap, lo, hi); }

void nm__heap_relay_keep(nm__heap *heap, uint32_t offset) { map_note(heap, offset); }

/* What lies in front of lo may be taken meanwhile: its mark is kept up to date in the word there. Behind that, each chunk is
 * laid behind one that is not free. */
void nm__heap_relay_chunk(nm__heap *heap, uint32_t lo, uint32_t offset, uint32_t units) {
    set_word(heap, offset, units | (offset == lo ? word_at(heap, lo) & NM__CHUNK_BEHIND_FREE : 0));
    map_note(heap, offset);
}

void nm__heap_relay_free(nm__heap *heap, uint32_t lo, uint32_t offset, uint32_t end) {
    nm__heap_relay_chunk(heap, lo, offset, end - offset);
    nm__heap_give(heap, offset);
}
