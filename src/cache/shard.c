// SPDX-License-Identifier: Apache-2.0 OR MIT
/* How entries come, leave and are freed. */
#include "cache/cache_internal.h"

uint64_t nm__cache_hash(const nm_cache *cache, const void *key, size_t key_len) {
    return nm__siphash13(cache->hash_key, key, key_len);
}

nm__shard *nm__shard_of(const nm_cache *cache, uint64_t hash) {
    /* Two shifts: one by 64 is undefined, and that is the case of one shard. */
    return (nm__shard *)&cache->shards[hash >> 1 >> (cache->shard_shift - 1)];
}

void nm__shard_lock(nm__shard *shard) { pthread_mutex_lock(&shard->lock); }

/* More than an eighth of the heap is free, and a few steps: after a large entry left, not in the normal course. */
#define NM__IDLE_SHARE 8
#define NM__IDLE_STEPS 4

static void note_idle(nm__shard *shard) {
    nm_cache *cache = shard->cache;
    size_t free_bytes = (size_t)shard->heap.free_units * NM__UNIT_BYTES;
    bool idle =
        free_bytes > nm__heap_bytes(&shard->heap) / NM__IDLE_SHARE && free_bytes > NM__IDLE_STEPS * cache->step_bytes;
    /* relaxed, here and where they are read: hints, which order nothing */
    if (NM_LIKELY(idle == nm_atomic_load(&shard->idle, NM_RELAXED))) return;
    nm_atomic_store(&shard->idle, idle, NM_RELAXED);
    nm_atomic_add(&cache->idle_shards, idle ? 1u : -1u, NM_RELAXED);
}

void nm__shard_unlock(nm__shard *shard, nm__doomed *doomed) {
    nm__doomed_finish(shard, doomed);
    note_idle(shard);
    bool unsettled = shard->unsettled;
    shard->unsettled = false;
    nm_cache *cache = shard->cache;
    pthread_mutex_unlock(&shard->lock);
    if (unsettled) nm__settle(cache->scope, &cache->holder);
}

void nm__chunk_fix(nm__shard *shard, uint32_t offset) {
    shard->fixed_count++;
    shard->fixed_units += nm__heap_size(&shard->heap, offset);
}

void nm__chunk_unfix(nm__shard *shard, uint32_t offset) {
    shard->fixed_count--;
    shard->fixed_units -= nm__heap_size(&shard->heap, offset);
}

static void use(nm__shard *shard, size_t add, size_t sub) {
    /* relaxed: figures for readers without the lock, which order nothing */
    nm_atomic_store(&shard->used_bytes, shard->used_bytes + add - sub, NM_RELAXED);
}

void nm__entry_enter(nm__shard *shard, uint32_t offset, bool inherit, nm__segment segment) {
    nm__entry *e = nm__heap_at(&shard->heap, offset);
    nm__index_add(&shard->index, offset);
    if (inherit)
        nm__segments_add_to(&shard->segments, offset, segment);
    else
        nm__segments_add(&shard->segments, offset);
    use(shard, nm__entry_weight(e), 0);
    nm_atomic_store(&shard->entry_count, shard->index.entry_count, NM_RELAXED); /* relaxed: a figure, see use() */
}

static void free_entry(nm__shard *shard, uint32_t offset, nm__doomed *doomed) {
    nm__object_uncharge(shard, nm__entry_object_bytes(nm__heap_at(&shard->heap, offset)));
    doomed->seed = nm__heap_give(&shard->heap, offset);
}

void nm__entry_retire(nm__shard *shard, uint32_t offset, nm__doomed *doomed) {
    nm__entry *e = nm__heap_at(&shard->heap, offset);
    if (shard->cache->on_evict == NULL) {
        free_entry(shard, offset, doomed);
        return;
    }
    e->node.state = NM__DOOMED | (e->node.state & NM__REASON);
    e->node.next = doomed->head;
    doomed->head = offset;
    nm__chunk_fix(shard, offset);
}

bool nm__entry_detach(nm__shard *shard, uint32_t offset, nm_evict_reason reason) {
    nm__entry *e = nm__heap_at(&shard->heap, offset);
    bool pinned = (e->node.state & NM__PINS) != 0;
    nm__index_remove(&shard->index, offset);
    nm__index_shrink(&shard->index);
    nm__segments_remove(&shard->segments, offset, pinned);
    use(shard, 0, nm__entry_weight(e));
    nm_atomic_store(&shard->entry_count, shard->index.entry_count, NM_RELAXED); /* relaxed: a figure, see use() */
    if (reason == NM_EVICT_SPACE || reason == NM_EVICT_RECLAIM) shard->evictions++;
    if (reason == NM_EVICT_EXPIRED) shard->expirations++;
    e->node.state = (e->node.state & NM__PINS) | (pinned ? NM__ZOMBIE : 0) | (uint32_t)reason << NM__REASON_SHIFT;
    return pinned;
}

void nm__entry_leave(nm__shard *shard, uint32_t offset, nm_evict_reason reason, nm__doomed *doomed) {
    if (!nm__entry_detach(shard, offset, reason)) nm__entry_retire(shard, offset, doomed);
}

uint64_t nm__now_if_needed(const nm__entry *e) {
    const nm__entry_more *more = nm__entry_more_of(e);
    return more != NULL && more->expires_ms != NM_TTL_NEVER ? nm__os_get()->clock_coarse_ms() : 0;
}

bool nm__entry_expired(const nm__entry *e, uint64_t now_ms) {
    const nm__entry_more *more = nm__entry_more_of(e);
    return more != NULL && more->expires_ms != NM_TTL_NEVER && more->expires_ms <= now_ms;
}

nm_evict_reason nm__reason_of(const nm__entry *e, nm_evict_reason reason) {
    return nm__entry_expired(e, nm__now_if_needed(e)) ? NM_EVICT_EXPIRED : reason;
}

uint32_t nm__evict_one(nm__shard *shard, nm_evict_reason reason, nm__doomed *doomed) {
    uint32_t victim = nm__segments_victim(&shard->segments);
    if (victim == 0) return 0;
    const nm__entry *e = nm__heap_at(&shard->heap, victim);
    uint32_t units = e->size;
    nm__entry_leave(shard, victim, nm__reason_of(e, reason), doomed);
    return units;
}

void nm__doomed_finish(nm__shard *shard, nm__doomed *doomed) {
    if (doomed->head == 0) return;
    const nm_cache *cache = shard->cache;
    nm__heap *heap = &shard->heap;
    uint32_t list = doomed->head;
    doomed->head = 0;
    doomed->dropped = true;
    pthread_mutex_unlock(&shard->lock);
    for (uint32_t at = list; at != 0; at = nm__heap_at(heap, at)->node.next) {
        const nm__entry *e = nm__heap_at(heap, at);
        void *value = nm__entry_value(e);
        size_t size = nm__entry_value_len(e);
        if (e->bits & NM__IS_OBJECT) {
            const nm__object *object = value;
            size = (size_t)object->bytes;
            value = object->address;
        }
        cache->on_evict((nm_evict_reason)((e->node.state & NM__REASON) >> NM__REASON_SHIFT), nm__entry_key(e),
                        e->key_len, value, size, cache->context);
    }
    nm__shard_lock(shard);
    for (uint32_t at = list, next; at != 0; at = next) {
        const nm__entry *e = nm__heap_at(heap, at);
        next = e->node.next;
        if (e->node.state & NM__CLAIMED) {
            nm__object_uncharge(shard, nm__entry_object_bytes(e));
        } else {
            nm__chunk_unfix(shard, at);
            free_entry(shard, at, doomed);
        }
    }
    if (doomed->claim_hi != 0) nm__heap_join(heap, doomed->claim_lo, doomed->claim_hi);
}

/* ---- shares ---- */

void nm__shard_share(nm__shard *shard) {
    const nm_cache *cache = shard->cache;
    size_t share = nm__heap_bytes(&shard->heap) + shard->object_bytes;
    if (cache->policy == NM_CACHE_LRU) {
        share = 0;
    } else if (!shard->grown_out) {
        size_t limit = nm_atomic_load(&cache->limit_bytes, NM_RELAXED); /* relaxed: a goal, not a bound */
        size_t least = cache->least_bytes;
        share = nm__max(share, limit > least ? (limit - least) / cache->shard_count : 0);
    }
    nm__segments_limit(&shard->segments, share / 100 * cache->protected_percent);
}

/* While the heap holds the whole budget the index can only get a page that the heap gives up. Tried once in so many
 * entries: chains that are a little long cost less than emptying a page. */
#define NM__INDEX_PATIENCE 64

void nm__shard_index_grow(nm__shard *shard, nm__doomed *doomed) {
    nm_status status = nm__index_grow(&shard->index);
    if (status != NM_ECAPACITY || shard->version % NM__INDEX_PATIENCE != 0) return;
    bool more;
    /* A squeeze that drops the lock for a callback is finished here as well: the entry that was put is linked already. */
    if (nm__shard_squeeze(shard, NM__PAGE_BYTES, NM_EVICT_SPACE, doomed, &more) >= NM__PAGE_BYTES)
        nm__index_grow(&shard->index);
}
