// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Giving back: a shard gives up pages from the top of its heap, after it moved or evicted what lay there. */
#include "cache/cache_internal.h"

/* Bounds of one squeeze, and so of the time that a lock is held: entries evicted, bytes of the window emptied. */
#define NM__SQUEEZE_ENTRIES 256
#define NM__SQUEEZE_BYTES   ((size_t)64 << 10)

static bool empty_top(nm__shard *shard, size_t bytes, nm_evict_reason reason, nm__doomed *doomed, bool *more) {
    nm__heap *heap = &shard->heap;
    if (heap->end <= NM__PAGE_UNITS) return false;
    uint32_t want = (uint32_t)(nm__round_up(nm__min(bytes, NM__SQUEEZE_BYTES), NM__PAGE_BYTES) / NM__UNIT_BYTES);
    uint32_t most = nm__heap_top_free(heap) + want;
    if (most > heap->end - NM__PAGE_UNITS) most = heap->end - NM__PAGE_UNITS;
    uint32_t lo = nm__window_top(shard, most);
    if (lo == heap->end) return false;
    /* A large entry that reaches below what is wanted stays if a page is won without it. */
    uint32_t behind = lo + nm__heap_size(heap, lo);
    if (heap->end - lo > most && heap->end - behind >= NM__PAGE_UNITS &&
        nm__round_up(behind, NM__PAGE_UNITS) < heap->end)
        lo = behind;
    if (nm__round_up(lo, NM__PAGE_UNITS) >= heap->end) return false;
    if (!nm__window_claim(shard, lo, heap->end, reason, doomed)) {
        *more = true; /* what is pinned is known now: the next call stays above it */
        return false;
    }
    nm__doomed_finish(shard, doomed);
    nm__claim_give(shard, doomed);
    return true;
}

size_t nm__shard_squeeze(nm__shard *shard, size_t bytes, nm_evict_reason reason, nm__doomed *doomed, bool *more) {
    nm__heap *heap = &shard->heap;
    size_t start = shard->given_bytes, pending = 0;
    *more = false;
    shard->given_bytes += nm__desk_trim(shard->cache);
    if (shard->given_bytes - start < bytes)
        nm__heap_trim(heap, nm__round_up(bytes - (shard->given_bytes - start), NM__PAGE_BYTES));
    for (int i = 0; i < NM__SQUEEZE_ENTRIES; i++) {
        size_t have = shard->given_bytes - start + pending + (size_t)heap->free_units * NM__UNIT_BYTES;
        /* What is dead goes first, also where it only makes holes for what lies at the top. */
        if (have >= bytes && shard->dead.tail == 0) break;
        uint32_t units = nm__evict_one(shard, 0, reason, doomed);
        if (units == 0) break;
        (void)nm__index_step(&shard->index); /* follows the entries down */
        if (doomed->head != 0) {
            const nm__entry *e = nm__heap_at(heap, doomed->head);
            pending += nm__entry_weight(e);
        }
        *more = true;
    }
    nm__doomed_finish(shard, doomed);
    nm__tables_shrink(shard);
    if (shard->given_bytes - start < bytes) {
        size_t rest = bytes - (shard->given_bytes - start);
        nm__heap_trim(heap, nm__round_up(rest, NM__PAGE_BYTES));
        rest = shard->given_bytes - start < bytes ? bytes - (shard->given_bytes - start) : 0;
        if (rest != 0 && empty_top(shard, rest, reason, doomed, more))
            nm__heap_trim(heap, nm__round_up(rest, NM__PAGE_BYTES));
    }
    size_t got = shard->given_bytes - start;
    if (got != 0) {
        *more = true;
        nm__shard_share(shard);
    }
    return got;
}

static size_t even_share(const nm_cache *cache) {
    size_t limit = nm_atomic_load(&cache->limit_bytes, NM_RELAXED); /* relaxed: a goal, not a bound */
    return limit > cache->least_bytes ? (limit - cache->least_bytes) / cache->shard_count : 0;
}

size_t nm__cache_gather(nm_cache *cache, const nm__shard *except, size_t bytes, nm_evict_reason reason,
                        nm__gather_mode mode) {
    size_t total = 0, even = even_share(cache);
    unsigned count = cache->shard_count;
    uint32_t start = nm_atomic_add(&cache->turn, 1, NM_RELAXED); /* relaxed: spreads the load, orders nothing */
    /* Each round gives bytes or evicts entries; the bound is for entries that others put meanwhile. */
    size_t rounds = 64 + bytes / NM__PAGE_BYTES * 2;
    for (bool more = true; more && total < bytes && rounds > 0; rounds--) {
        more = false;
        for (unsigned i = 0; i < count && total < bytes; i++) {
            nm__shard *shard = &cache->shards[(start + i) & (count - 1)];
            if (shard == except) continue;
            if (mode == NM__GATHER_IDLE && !nm_atomic_load(&shard->idle, NM_RELAXED)) continue; /* relaxed: a hint */
            if (mode != NM__GATHER_TRY)
                nm__shard_lock(shard);
            else if (!nm__lock_try(&shard->lock))
                continue;
            nm__doomed doomed = {0};
            size_t part = nm__max((bytes - total) / count, nm__min(bytes - total, NM__PAGE_BYTES));
            if (mode == NM__GATHER_IDLE) part = bytes - total;
            bool again = false;
            if (mode != NM__GATHER_RICH || nm__heap_bytes(&shard->heap) > even)
                total += nm__shard_squeeze(shard, part, reason, &doomed, &again);
            nm__shard_unlock(shard, &doomed);
            more |= again;
        }
        if (mode == NM__GATHER_RICH || mode == NM__GATHER_IDLE) return total;
    }
    if (total < bytes) total += nm__sampler_drop(cache, mode != NM__GATHER_TRY);
    return total;
}

size_t nm__cache_spare(nm_cache *cache, const nm__shard *except) {
    nm__counts out;
    nm__counts_sum(cache, &out);
    size_t spare = 0, pinned_bytes = (size_t)out.pinned_bytes;
    for (unsigned i = 0; i < cache->shard_count; i++) {
        nm__shard *shard = &cache->shards[i];
        if (shard == except) continue;
        nm__shard_lock(shard);
        nm__pins_discover(shard);
        bool free = shard->fixed_count == 0;
        uint32_t top = free ? NM__HEAP_FIRST : nm__window_top(shard, NM__UNITS_MAX);
        spare += (shard->heap.end - nm__round_up(top, NM__PAGE_UNITS)) * NM__UNIT_BYTES;
        if (shard->object_bytes > pinned_bytes) spare += shard->object_bytes - pinned_bytes;
        size_t pages = shard->index.page_count - 1;
        size_t kept = free ? 0 : 1 + shard->fixed_count / (NM__PAGE_BUCKETS * NM__BUCKET_WORDS / 4);
        if (pages > kept) spare += (pages - kept) * NM__PAGE_BYTES;
        if (free) spare += shard->tables_bytes; /* they go with the entries */
        nm__lock_give(&shard->lock);
    }
    return spare + nm_atomic_load(&cache->sampler.bytes, NM_RELAXED); /* relaxed: a guess */
}

size_t nm__cache_reclaim(nm__holder *holder, size_t wanted_bytes) {
    nm_cache *cache = (nm_cache *)(void *)holder;
    size_t floor = nm__cache_floor(cache);
    size_t granted = nm_atomic_load(&cache->granted_bytes, NM_RELAXED); /* relaxed: a goal, not a bound */
    if (granted <= floor || wanted_bytes == 0) return 0;
    return nm__cache_gather(cache, NULL, nm__min(wanted_bytes, granted - floor), NM_EVICT_RECLAIM, NM__GATHER_TRY);
}
