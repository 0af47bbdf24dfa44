// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The account: how much of the budget is granted. Every byte in it is charged to the scope as well, so the two agree (but for
 * objects that somebody else has charged). */
#include "cache/cache_internal.h"

bool nm__account_take(nm_cache *cache, size_t bytes) {
    size_t granted = nm_atomic_load(&cache->granted_bytes, NM_RELAXED);
    do {
        /* relaxed: a resize that lowers the limit then passes through all locks under which takes are made */
        size_t limit = nm_atomic_load(&cache->limit_bytes, NM_RELAXED);
        if (granted > limit || bytes > limit - granted) return false;
    } while (!nm_atomic_cas_weak(&cache->granted_bytes, &granted, granted + bytes, NM_RELAXED, NM_RELAXED));
    return true;
}

void nm__account_give(nm_cache *cache, size_t bytes) { nm_atomic_sub(&cache->granted_bytes, bytes, NM_RELAXED); }

size_t nm__account_left(const nm_cache *cache) {
    size_t limit = nm_atomic_load(&cache->limit_bytes, NM_RELAXED);
    size_t granted = nm_atomic_load(&cache->granted_bytes, NM_RELAXED);
    return granted < limit ? limit - granted : 0;
}

nm_status nm__shard_commit(void *context, void *address, size_t bytes) {
    nm__shard *shard = context;
    nm_cache *cache = shard->cache;
    if (!nm__account_take(cache, bytes)) return NM_ECAPACITY;
    nm_status status = nm__range_commit(cache->scope, address, bytes, cache->grant_mode, &cache->holder);
    if (status != NM_OK) {
        nm__account_give(cache, bytes);
        /* The word is ours for "the account": whatever the scope means by it is a refusal of the scope. */
        return status == NM_ECAPACITY ? NM_EBUDGET : status;
    }
    shard->unsettled = true;
    return NM_OK;
}

bool nm__shard_decommit(void *context, void *address, size_t bytes) {
    nm__shard *shard = context;
    if (!nm__range_decommit(shard->cache->scope, address, bytes)) return false;
    nm__account_give(shard->cache, bytes);
    shard->given_bytes += bytes;
    return true;
}

/* A system that refuses to take pages back once may take them the next time. One that never does keeps them, charged. */
#define NM__DROP_TRIES 8

void nm__range_drop(nm_scope *scope, void *address, size_t committed, size_t reserved) {
    if (address == NULL) return;
    bool gone = committed == 0;
    for (int i = 0; i < NM__DROP_TRIES && !gone; i++) gone = nm__range_decommit(scope, address, committed);
    if (gone) nm__range_release(address, reserved);
}

nm_status nm__object_charge(nm__shard *shard, size_t bytes) {
    nm_cache *cache = shard->cache;
    if (bytes == 0) return NM_OK;
    if (!nm__account_take(cache, bytes)) return NM_ECAPACITY;
    if (!cache->objects_charged_elsewhere) {
        nm_status status = nm__outside_charge(cache->scope, bytes, cache->grant_mode, &cache->holder);
        if (status != NM_OK) {
            nm__account_give(cache, bytes);
            return status == NM_ECAPACITY ? NM_EBUDGET : status;
        }
        shard->unsettled = true;
    }
    shard->object_bytes += bytes;
    return NM_OK;
}

void nm__object_uncharge(nm__shard *shard, size_t bytes) {
    if (bytes == 0) return;
    shard->object_bytes -= bytes;
    shard->given_bytes += bytes;
    if (!shard->cache->objects_charged_elsewhere) nm__outside_uncharge(shard->cache->scope, bytes);
    nm__account_give(shard->cache, bytes);
}
