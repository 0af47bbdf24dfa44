// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Physical room: finding a run of chunks, none of them fixed, and emptying it. */
#include "cache/cache_internal.h"

bool nm__window_around(const nm__shard *shard, uint32_t seed, uint32_t units, uint32_t *lo, uint32_t *hi) {
    const nm__heap *heap = &shard->heap;
    uint32_t low = seed, high = seed + nm__heap_size(heap, seed);
    while (high - low < units) {
        uint32_t before = nm__heap_before(heap, low);
        bool down = before != 0 && nm__chunk_movable(shard, before);
        bool up = high != heap->end && nm__chunk_movable(shard, high);
        if (!down && !up) return false;
        /* A free neighbour costs nothing; of two entries the smaller one is moved. */
        if (down && up) {
            uint32_t cost_down = nm__heap_is_free(heap, before) ? 0 : nm__heap_size(heap, before);
            uint32_t cost_up = nm__heap_is_free(heap, high) ? 0 : nm__heap_size(heap, high);
            down = cost_down < cost_up;
        }
        if (down)
            low = before;
        else
            high += nm__heap_size(heap, high);
    }
    *lo = low;
    *hi = high;
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
        uint32_t to = nm__heap_take(heap, e->size);
        if (to != 0) {
            /* size and the size before are the place's own */
            nm__entry *copy = nm__heap_at(heap, to);
            memcpy((unsigned char *)copy + offsetof(nm__entry, hash), (unsigned char *)e + offsetof(nm__entry, hash),
                   nm__entry_bytes(e) - offsetof(nm__entry, hash));
            nm__index_move(&shard->index, at, to);
            nm__segments_move(&shard->segments, to);
            nm__heap_hold(heap, at);
            continue;
        }
        nm__entry_detach(shard, at, nm__reason_of(e, reason));
        if (shard->cache->on_evict == NULL) {
            nm__object_uncharge(shard, nm__entry_object_bytes(e));
            nm__heap_hold(heap, at);
        } else {
            e->node.state = NM__DOOMED;
            e->bits |= NM__CLAIMED;
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
