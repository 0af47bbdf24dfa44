// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/heap.h"

#include <string.h>

#include "os/os.h"

/* How many chunks of the request's own class are looked at. That class holds sizes on both sides of the request, so the
 * lists above it alone would miss the hole that an equal entry just left. */
#define NM__HEAP_LOOK 16

static void class_of(uint32_t units, unsigned *row, unsigned *col) {
    if (units < NM__HEAP_COLS) {
        *row = 0;
        *col = units;
        return;
    }
    unsigned log = 31u - (unsigned)__builtin_clz(units);
    *row = log - 3;
    *col = (units >> (log - 4)) & (NM__HEAP_COLS - 1);
}

static void set_size(nm__heap *heap, uint32_t offset, uint32_t units, uint32_t mark) {
    nm__heap_at(heap, offset)->size = units | mark;
    nm__entry *behind = nm__heap_at(heap, offset + units);
    behind->before = (behind->before & NM__CHUNK_HELD) | units;
}

static void list_add(nm__heap *heap, uint32_t offset) {
    nm__entry *e = nm__heap_at(heap, offset);
    uint32_t units = e->size & ~NM__CHUNK_FREE;
    unsigned row, col;
    class_of(units, &row, &col);
    uint32_t *head = &heap->free[row][col];
    e->hash = *head;
    e->chain = 0;
    if (*head != 0) nm__heap_at(heap, *head)->chain = offset;
    *head = offset;
    heap->rows |= 1u << row;
    heap->cols[row] |= (uint16_t)(1u << col);
    heap->free_units += units;
}

static void list_remove(nm__heap *heap, uint32_t offset) {
    const nm__entry *e = nm__heap_at(heap, offset);
    uint32_t units = e->size & ~NM__CHUNK_FREE;
    unsigned row, col;
    class_of(units, &row, &col);
    if (e->hash != 0) nm__heap_at(heap, e->hash)->chain = e->chain;
    if (e->chain != 0) {
        nm__heap_at(heap, e->chain)->hash = e->hash;
    } else if ((heap->free[row][col] = e->hash) == 0) {
        heap->cols[row] &= (uint16_t) ~(1u << col);
        if (heap->cols[row] == 0) heap->rows &= ~(1u << row);
    }
    heap->free_units -= units;
}

static void make_free(nm__heap *heap, uint32_t offset, uint32_t units) {
    nm__heap_at(heap, offset)->before &= ~NM__CHUNK_HELD;
    set_size(heap, offset, units, NM__CHUNK_FREE);
    list_add(heap, offset);
}

/* The mark behind the last chunk is a chunk of size 0 whose 8 bytes end the last page. */
static void close_at(nm__heap *heap, uint32_t end, uint32_t before) {
    nm__entry *mark = nm__heap_at(heap, end);
    mark->size = 0;
    mark->before = before;
    heap->end = end;
}

nm_status nm__heap_open(nm__heap *heap, void *base, size_t reserved, const nm__pages *pages) {
    memset(heap, 0, sizeof *heap);
    nm_status status = pages->commit(pages->context, base, NM__PAGE_BYTES);
    if (status != NM_OK) return status;
    heap->base = base;
    heap->pages = pages;
    heap->limit = (uint32_t)(nm__min(reserved, NM__HEAP_MAX - NM__PAGE_BYTES) / NM__UNIT_BYTES);
    close_at(heap, NM__PAGE_UNITS, 0);
    nm__heap_at(heap, NM__HEAP_FIRST)->before = 0;
    make_free(heap, NM__HEAP_FIRST, NM__PAGE_UNITS - NM__HEAP_FIRST);
    return NM_OK;
}

/* The first chunk of a higher class, where every chunk is large enough. */
static uint32_t find_above(const nm__heap *heap, unsigned row, unsigned col) {
    uint32_t cols = heap->cols[row] & (uint32_t)(0xfffeu << col);
    if (cols == 0) {
        uint32_t rows = heap->rows & (uint32_t)(0xfffffffeu << row);
        if (rows == 0) return 0;
        row = (unsigned)__builtin_ctz(rows);
        cols = heap->cols[row];
    }
    return heap->free[row][__builtin_ctz(cols)];
}

static uint32_t find(const nm__heap *heap, uint32_t units) {
    unsigned row, col;
    class_of(units, &row, &col);
    uint32_t found = heap->free[row][col];
    for (int look = 1; found != 0 && nm__heap_size(heap, found) < units; look++)
        found = look < NM__HEAP_LOOK ? nm__heap_at(heap, found)->hash : 0;
    return found != 0 ? found : find_above(heap, row, col);
}

bool nm__heap_fits(const nm__heap *heap, uint32_t units) { return find(heap, units) != 0; }

uint32_t nm__heap_take(nm__heap *heap, uint32_t units) {
    uint32_t found = find(heap, units);
    if (found == 0) return 0;
    list_remove(heap, found);
    uint32_t rest = nm__heap_size(heap, found) - units;
    set_size(heap, found, units, 0);
    if (rest != 0) make_free(heap, found + units, rest);
    return found;
}

uint32_t nm__heap_give(nm__heap *heap, uint32_t offset) {
    uint32_t units = nm__heap_size(heap, offset);
    uint32_t behind = offset + units, before = nm__heap_before(heap, offset);
    if (nm__heap_is_free(heap, behind)) {
        list_remove(heap, behind);
        units += nm__heap_size(heap, behind);
    }
    if (before != 0 && nm__heap_is_free(heap, before)) {
        list_remove(heap, before);
        units += nm__heap_size(heap, before);
        offset = before;
    }
    make_free(heap, offset, units);
    return offset;
}

void nm__heap_cut(nm__heap *heap, uint32_t offset, uint32_t units) {
    uint32_t rest = nm__heap_size(heap, offset) - units;
    nm__heap_at(heap, offset)->before &= ~NM__CHUNK_HELD;
    set_size(heap, offset, units, 0);
    if (rest == 0) return;
    nm__heap_at(heap, offset + units)->before = units;
    set_size(heap, offset + units, rest, 0);
    nm__heap_give(heap, offset + units);
}

uint32_t nm__heap_largest(const nm__heap *heap) {
    if (heap->rows == 0) return 0;
    unsigned row = 31u - (unsigned)__builtin_clz(heap->rows);
    return heap->free[row][31u - (unsigned)__builtin_clz(heap->cols[row])];
}

uint32_t nm__heap_top_free(const nm__heap *heap) {
    uint32_t last = nm__heap_before(heap, heap->end);
    return last != 0 && nm__heap_is_free(heap, last) ? nm__heap_size(heap, last) : 0;
}

nm_status nm__heap_grow(nm__heap *heap, size_t least, size_t want) {
    size_t left = (size_t)(heap->limit - heap->end) * NM__UNIT_BYTES;
    if (least > left) return NM_ETOOLARGE;
    want = nm__max(least, nm__min(want, left));
    void *top = heap->base + nm__heap_bytes(heap);
    nm_status status = heap->pages->commit(heap->pages->context, top, want);
    if (status != NM_OK && want > least) status = heap->pages->commit(heap->pages->context, top, want = least);
    if (status != NM_OK) return status;
    uint32_t old = heap->end, units = (uint32_t)(want / NM__UNIT_BYTES);
    close_at(heap, old + units, units);
    set_size(heap, old, units, 0);
    nm__heap_give(heap, old);
    return NM_OK;
}

size_t nm__heap_trim(nm__heap *heap, size_t bytes) {
    uint32_t units = nm__heap_top_free(heap), first = heap->end - units;
    uint32_t end = (uint32_t)nm__round_up(first, NM__PAGE_UNITS);
    size_t most = nm__round_down(bytes, NM__PAGE_BYTES);
    if (end < NM__PAGE_UNITS) end = NM__PAGE_UNITS;
    if (end >= heap->end) return 0;
    size_t give = (size_t)(heap->end - end) * NM__UNIT_BYTES;
    if (give > most) give = most;
    if (give == 0) return 0;
    end = heap->end - (uint32_t)(give / NM__UNIT_BYTES);
    /* Off the list before the pages go: its links may lie in them. */
    list_remove(heap, first);
    uint32_t before = nm__heap_at(heap, first)->before;
    if (!heap->pages->decommit(heap->pages->context, heap->base + (size_t)end * NM__UNIT_BYTES, give)) {
        list_add(heap, first);
        return 0;
    }
    close_at(heap, end, end == first ? before : end - first);
    if (end > first) make_free(heap, first, end - first);
    return give;
}

void nm__heap_hold(nm__heap *heap, uint32_t offset) {
    nm__entry *e = nm__heap_at(heap, offset);
    if (e->size & NM__CHUNK_FREE) {
        list_remove(heap, offset);
        e->size &= ~NM__CHUNK_FREE;
    }
    e->before |= NM__CHUNK_HELD;
}

void nm__heap_join(nm__heap *heap, uint32_t lo, uint32_t hi) {
    set_size(heap, lo, hi - lo, 0);
    nm__heap_at(heap, lo)->before |= NM__CHUNK_HELD;
}

void nm__heap_rest(nm__heap *heap, uint32_t from, uint32_t hi, uint32_t before) {
    if (from == hi) {
        nm__entry *behind = nm__heap_at(heap, hi);
        behind->before = (behind->before & NM__CHUNK_HELD) | before;
        return;
    }
    nm__heap_at(heap, from)->before = before;
    set_size(heap, from, hi - from, 0);
    nm__heap_give(heap, from);
}
