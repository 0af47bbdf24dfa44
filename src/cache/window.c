// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Physical room: finding a run of chunks, none of them fixed, and emptying it. */
#include "cache/cache_internal.h"

/* Windows are not made larger than this, in units: a put may move so much and no more. */
static uint32_t window_max(uint32_t units) {
    return units <= NM__PAGE_UNITS ? 4 * units + 64 : nm__min(units, NM__UNITS_MAX / 16) * 12;
}

/* An entry so much smaller than what is wanted finds a hole of its own easily; for small ones any smaller one does, as the
 * holes are what was just evicted. */
static bool is_small(uint32_t size, uint32_t units) {
    return units <= NM__SMALL_UNITS ? size < units : size <= units / 2;
}

static void relink(nm__shard *shard, uint32_t from, uint32_t to) {
    nm__index_move(&shard->index, from, to);
    nm__segments_move(&shard->segments, to);
}

/* Size and the size before are the place's own. */
static bool move_out(nm__shard *shard, uint32_t at) {
    nm__heap *heap = &shard->heap;
    const nm__entry *e = nm__heap_at(heap, at);
    uint32_t to = nm__heap_take(heap, e->size);
    if (to == 0) return false;
    memcpy((unsigned char *)nm__heap_at(heap, to) + offsetof(nm__entry, hash),
           (const unsigned char *)e + offsetof(nm__entry, hash), nm__entry_bytes(e) - offsetof(nm__entry, hash));
    relink(shard, at, to);
    nm__heap_hold(heap, at);
    return true;
}

/* The entries in [lo, hi), all movable, close ranks downwards; the rest becomes one free chunk. */
static void close_ranks(nm__shard *shard, uint32_t lo, uint32_t hi, uint32_t units) {
    nm__heap *heap = &shard->heap;
    for (uint32_t at = lo; at < hi; at += nm__heap_size(heap, at))
        if (nm__heap_is_free(heap, at)) nm__heap_hold(heap, at);
    for (uint32_t at = lo; at < hi; at += nm__heap_size(heap, at))
        if (!nm__heap_is_held(heap, at) && is_small(nm__heap_size(heap, at), units)) move_out(shard, at);
    uint32_t to = lo, before = nm__heap_at(heap, lo)->before & ~NM__CHUNK_HELD;
    for (uint32_t at = lo, next; at < hi; at = next) {
        uint32_t size = nm__heap_size(heap, at);
        next = at + size;
        if (nm__heap_is_held(heap, at)) continue;
        if (to != at) {
            memmove(nm__heap_at(heap, to), nm__heap_at(heap, at), (size_t)size * NM__UNIT_BYTES);
            relink(shard, at, to);
        }
        nm__heap_at(heap, to)->before = before;
        before = size;
        to += size;
    }
    nm__heap_rest(heap, to, hi, before);
}

bool nm__window_compact(nm__shard *shard, uint32_t seed, uint32_t units) {
    nm__heap *heap = &shard->heap;
    uint32_t low = seed, high = seed + nm__heap_size(heap, seed), gain = high - low, most = window_max(units);
    while (gain < units) {
        uint32_t before = nm__heap_before(heap, low);
        bool down = before != 0 && nm__chunk_movable(shard, before);
        bool up = high != heap->end && nm__chunk_movable(shard, high);
        if (!down && !up) break;
        uint32_t size_down = down ? nm__heap_size(heap, before) : 0, size_up = up ? nm__heap_size(heap, high) : 0;
        /* A free neighbour costs nothing; of two entries the smaller one is moved. */
        if (down && up) {
            uint32_t cost_down = nm__heap_is_free(heap, before) ? 0 : size_down;
            uint32_t cost_up = nm__heap_is_free(heap, high) ? 0 : size_up;
            down = cost_down < cost_up;
        }
        uint32_t at = down ? before : high, size = down ? size_down : size_up;
        if (nm__heap_is_free(heap, at) || is_small(size, units)) gain += size;
        if (down)
            low = at;
        else
            high = at + size;
        if (high - low > most) break; /* what was won so far is where the next attempt begins */
    }
    close_ranks(shard, low, high, units);
    return nm__heap_fits(heap, units);
}

bool nm__window_compact_any(nm__shard *shard, uint32_t units) {
    const nm__heap *heap = &shard->heap;
    if (heap->free_units < units) return false;
    uint32_t low = NM__HEAP_FIRST, free = 0, best_low = 0, best_high = 0;
    for (uint32_t at = NM__HEAP_FIRST; at < heap->end;) {
        uint32_t next = at + nm__heap_size(heap, at);
        if (!nm__chunk_movable(shard, at)) {
            low = next;
            free = 0;
        } else if (nm__heap_is_free(heap, at)) {
            free += next - at;
        }
        /* The shortest window that ends here: what it does not need is left out at its low end. */
        while (free >= units) {
            uint32_t size = nm__heap_size(heap, low), less = nm__heap_is_free(heap, low) ? size : 0;
            if (free - less < units) {
                if (best_high == 0 || next - low < best_high - best_low) {
                    best_low = low;
                    best_high = next;
                }
                break;
            }
            free -= less;
            low += size;
        }
        at = next;
    }
    if (best_high == 0) return false;
    close_ranks(shard, best_low, best_high, 0);
    return true;
}

bool nm__window_scan(const nm__shard *shard, uint32_t units, uint32_t *lo, uint32_t *hi) {
    const nm__heap *heap = &shard->heap;
    uint32_t low = NM__HEAP_FIRST;
    for (uint32_t at = NM__HEAP_FIRST; at < heap->end;) {
        uint32_t next = at + nm__heap_size(heap, at);
        if (!nm__chunk_movable(shard, at)) {
            low = next;
        } else if (next - low >= units) {
            *lo = low;
            *hi = next;
            return true;
        }
        at = next;
    }
    return false;
}

uint32_t nm__window_top(const nm__shard *shard, uint32_t most) {
    const nm__heap *heap = &shard->heap;
    uint32_t at = heap->end;
    while (heap->end - at < most) {
        uint32_t before = nm__heap_before(heap, at);
        if (before == 0 || !nm__chunk_movable(shard, before)) break;
        at = before;
    }
    return at;
}

/* Nothing in the window is free: free chunks are held, entries go one by one. */
void nm__window_claim(nm__shard *shard, uint32_t lo, uint32_t hi, nm_evict_reason reason, nm__doomed *doomed) {
    nm__heap *heap = &shard->heap;
    for (uint32_t at = lo; at < hi; at += nm__heap_size(heap, at))
        if (nm__heap_is_free(heap, at)) nm__heap_hold(heap, at);
    for (uint32_t at = lo; at < hi; at += nm__heap_size(heap, at)) {
        if (nm__heap_is_held(heap, at)) continue;
        nm__entry *e = nm__heap_at(heap, at);
        if (move_out(shard, at)) continue;
        nm__entry_detach(shard, at, nm__reason_of(e, reason));
        if (shard->cache->on_evict == NULL) {
            nm__object_uncharge(shard, nm__entry_object_bytes(e));
            nm__heap_hold(heap, at);
        } else {
            e->node.state = NM__DOOMED | NM__CLAIMED | (e->node.state & NM__REASON);
            e->node.next = doomed->head;
            doomed->head = at;
        }
    }
    doomed->claim_lo = lo;
    doomed->claim_hi = hi;
    shard->fixed_count++;
    shard->fixed_units += hi - lo;
    if (doomed->head == 0) nm__heap_join(heap, lo, hi);
}

void nm__claim_give(nm__shard *shard, nm__doomed *doomed) {
    if (doomed->claim_hi == 0) return;
    nm__chunk_unfix(shard, doomed->claim_lo);
    doomed->seed = nm__heap_give(&shard->heap, doomed->claim_lo);
    doomed->claim_lo = doomed->claim_hi = 0;
}
