// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Look-ups: get, contains, remove. */
#include "cache/cache_internal.h"

static bool key_valid(const void *key, size_t key_len) {
    return key != NULL && key_len != 0 && key_len <= NM_CACHE_KEY_MAX;
}

/* Finds and pins; `site` goes to the slot. *weight: what the entry counts. */
static bool get(nm_cache *cache, const void *key, size_t key_len, nm_entry *out, size_t *weight, const char *site) {
    uint64_t hash = nm__cache_hash(cache, key, key_len);
    nm__shard *shard = nm__shard_of(cache, hash);
    nm__doomed doomed = {0};
    nm__shard_lock(shard);
    /* The slot before the look-up: making room for one may evict. */
    bool ready = shard->free_slot != NULL || nm__slot_ready(shard, &doomed);
    uint32_t at = nm__index_find(&shard->index, (uint32_t)hash, key, key_len);
    if (at != 0) {
        const nm__entry *e = nm__heap_at(&shard->heap, at);
        if (nm__entry_expired(e, nm__now_if_needed(e))) {
            nm__entry_leave(shard, at, NM_EVICT_EXPIRED, &doomed);
            at = 0;
        }
    }
    bool hit = at != 0 && ready && !nm_atomic_load(&cache->closing, NM_RELAXED); /* relaxed: set by this thread */
    if (hit) {
        shard->hits++;
        *weight = nm__entry_weight(nm__heap_at(&shard->heap, at));
        nm__entry_describe(shard, at, out);
        nm__slot_lease(shard, at, NM__SLOT_PIN, site, out);
    } else {
        shard->misses++;
    }
    nm__shard_unlock(shard, &doomed);
    return hit;
}

bool(nm_cache_get)(nm_cache *cache, const void *key, size_t key_len, nm_entry *out) {
    return nm_cache_get_at(cache, key, key_len, out, "?");
}

bool nm_cache_get_at(nm_cache *cache, const void *key, size_t key_len, nm_entry *out, const char *site) {
    if (out == NULL) return false;
    memset(out, 0, sizeof *out);
    size_t weight;
    return cache != NULL && key_valid(key, key_len) && get(cache, key, key_len, out, &weight, site);
}

bool(nm_cache_get_in)(nm_cache *cache, nm_scope *holder, const void *key, size_t key_len, nm_entry *out) {
    return nm_cache_get_in_at(cache, holder, key, key_len, out, "?");
}

bool nm_cache_get_in_at(nm_cache *cache, nm_scope *holder, const void *key, size_t key_len, nm_entry *out,
                        const char *site) {
    if (out == NULL) return false;
    memset(out, 0, sizeof *out);
    if (cache == NULL || holder == NULL || !key_valid(key, key_len) || !nm__same_root(holder, cache->scope))
        return false;
    size_t bytes;
    if (!get(cache, key, key_len, out, &bytes, site)) return false;
    /* What it weighs is known once it is found, so the note comes second. */
    if (nm__hold_prepare(holder, bytes) != NM_OK) {
        nm_entry_release_at(out, site);
        return false;
    }
    nm__hold(holder, out->slot, out->generation, bytes);
    return true;
}

nm_status nm_cache_remove(nm_cache *cache, const void *key, size_t key_len) {
    if (cache == NULL || !key_valid(key, key_len)) return NM_EINVAL;
    uint64_t hash = nm__cache_hash(cache, key, key_len);
    nm__shard *shard = nm__shard_of(cache, hash);
    nm__doomed doomed = {0};
    nm__shard_lock(shard);
    uint32_t at = nm__index_find(&shard->index, (uint32_t)hash, key, key_len);
    nm_evict_reason reason = NM_EVICT_REMOVED;
    if (at != 0) {
        reason = nm__reason_of(nm__heap_at(&shard->heap, at), reason);
        nm__entry_leave(shard, at, reason, &doomed);
    }
    nm__shard_unlock(shard, &doomed);
    return at != 0 && reason == NM_EVICT_REMOVED ? NM_OK : NM_ENOTFOUND;
}

bool nm_cache_contains(const nm_cache *cache, const void *key, size_t key_len) {
    if (cache == NULL || !key_valid(key, key_len)) return false;
    uint64_t hash = nm__cache_hash(cache, key, key_len);
    nm__shard *shard = nm__shard_of(cache, hash);
    nm__shard_lock(shard);
    uint32_t at = nm__index_find(&shard->index, (uint32_t)hash, key, key_len);
    const nm__entry *e = at != 0 ? nm__heap_at(&shard->heap, at) : NULL;
    bool present = e != NULL && !nm__entry_expired(e, nm__now_if_needed(e));
    pthread_mutex_unlock(&shard->lock);
    return present;
}
