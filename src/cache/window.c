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

/* The contents of an entry, which is seized, go to another chunk of as many units. Up to where the old one lies the two may overlap. */
static void copy_entry(nm__shard *shard, uint32_t from, uint32_t to) {
    const nm__entry *e = nm__entry_at(shard, from);
    nm__entry *copy = nm__entry_at(shard, to);
    const unsigned char *value = nm__entry_value(e);
    size_t bytes = (size_t)(nm__entry_key(e) - value) + nm__entry_key_len(e), chunk = nm__entry_bytes(e);
    bool more = (nm__node_state(&e->node) & NM__ENTRY_MORE) != 0;
    /* Downwards: in the order of addresses nothing is written over before it is read. */
    copy->node.next = e->node.next;
    copy->node.prev = e->node.prev;
    nm__node_set_state(&copy->node, nm__node_state(&e->node));
    nm_atomic_store(&copy->version, nm_atomic_load(&e->version, NM_RELAXED), NM_RELAXED);
    memmove(nm__entry_value(copy), value, bytes);
    if (more)
        memmove((unsigned char *)copy + chunk - NM__MORE_BYTES, (const unsigned char *)e + chunk - NM__MORE_BYTES,
                NM__MORE_BYTES);
}

/* Who names the entry names the copy from now on. */
static void relink(nm__shard *shard, nm__place_of place, uint32_t to) {
    const nm__entry *e = nm__entry_at(shard, to);
    if (nm__entry_dead(shard, e))
        nm__dead_moved(shard, to);
    else
        nm__policy_moved(&shard->policy, to);
    if (nm__entry_is_timed(e)) nm__wheel_moved(&shard->wheel, place.offset, to);
    nm__index_settle(&shard->index, place, to);
}

/* Moves a seized entry into a hole elsewhere; its chunk is held. False: there is none. */
static bool move_out(nm__shard *shard, nm__place_of place) {
    nm__heap *heap = &shard->heap;
    uint32_t to = nm__heap_take(heap, nm__heap_size(heap, place.offset));
    if (to == 0) return false;
    copy_entry(shard, place.offset, to);
    relink(shard, place, to);
    nm__heap_hold(heap, place.offset);
    return true;
}

/* The entries in [lo, hi) that are not pinned close ranks downwards; what is won is free. */
static void close_ranks(nm__shard *shard, uint32_t lo, uint32_t hi, uint32_t units) {
    nm__heap *heap = &shard->heap;
    for (uint32_t at = lo; at < hi; at += nm__heap_size(heap, at))
        if (nm__heap_is_free(heap, at)) nm__heap_hold(heap, at);
    uint32_t to = lo;
    nm__heap_relay(heap, lo, hi);
    for (uint32_t at = lo, next; at < hi; at = next) {
        uint32_t size = nm__heap_size(heap, at);
        nm__place_of place;
        next = at + size;
        if (nm__heap_is_held(heap, at)) continue;
        if (!nm__entry_seize(shard, at, &place)) {
            if (to < at) nm__heap_relay_free(heap, lo, to, at);
            nm__heap_relay_keep(heap, at);
            to = next;
        } else if (is_small(size, units) && move_out(shard, place)) {
            continue;
        } else if (to == at) {
            nm__heap_relay_keep(heap, at);
            nm__index_settle(&shard->index, place, at);
            to = next;
        } else {
            copy_entry(shard, at, to);
            nm__heap_relay_chunk(heap, lo, to, size);
            relink(shard, place, to);
            to += size;
        }
    }
    if (to < hi) nm__heap_relay_free(heap, lo, to, hi);
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

/* All entries of the window, or none. */
static bool seize_all(nm__shard *shard, uint32_t lo, uint32_t hi) {
    const nm__heap *heap = &shard->heap;
    nm__place_of place;
    for (uint32_t at = lo; at < hi; at += nm__heap_size(heap, at)) {
        if (nm__heap_is_free(heap, at) || nm__entry_seize(shard, at, &place)) continue;
        for (uint32_t back = lo; back < at; back += nm__heap_size(heap, back)) {
            if (nm__heap_is_free(heap, back)) continue;
            place = nm__entry_place(shard, back, nm__entry_hash(shard, nm__entry_at(shard, back)));
            nm__index_settle(&shard->index, place, back);
        }
        return false;
    }
    return true;
}

/* Nothing in the window is free: free chunks are held, entries go one by one. */
bool nm__window_claim(nm__shard *shard, uint32_t lo, uint32_t hi, nm_evict_reason reason, nm__doomed *doomed) {
    nm__heap *heap = &shard->heap;
    if (!seize_all(shard, lo, hi)) return false;
    for (uint32_t at = lo; at < hi; at += nm__heap_size(heap, at))
        if (nm__heap_is_free(heap, at)) nm__heap_hold(heap, at);
    for (uint32_t at = lo; at < hi; at += nm__heap_size(heap, at)) {
        if (nm__heap_is_held(heap, at)) continue;
        nm__entry *e = nm__entry_at(shard, at);
        nm__place_of place = nm__entry_place(shard, at, nm__entry_hash(shard, e));
        if (move_out(shard, place)) continue;
        (void)nm__entry_detach(shard, place, nm__reason_of(shard, e, reason)); /* it is seized, so it has no pins */
        if (shard->cache->on_evict == NULL) {
            nm__object_uncharge(shard, nm__entry_object_bytes(e));
            nm__heap_hold(heap, at);
        } else {
            e->node.prev |= NM__OFF_DOOMED | NM__OFF_CLAIMED;
            e->node.next = doomed->head;
            nm__entry_mark(e, NM__ENTRY_FIXED, 0);
            doomed->head = at;
        }
    }
    doomed->claim_lo = lo;
    doomed->claim_hi = hi;
    shard->fixed_count++;
    shard->fixed_units += hi - lo;
    if (doomed->head == 0) nm__heap_join(heap, lo, hi);
    return true;
}

void nm__claim_give(nm__shard *shard, nm__doomed *doomed) {
    if (doomed->claim_hi == 0) return;
    nm__chunk_unfix(shard, doomed->claim_lo);
    doomed->seed = nm__heap_give(&shard->heap, doomed->claim_lo);
    doomed->claim_lo = doomed->claim_hi = 0;
}
