// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Putting: check, place, write, publish. The new entry is placed before the old one goes, so that a refusal loses nothing. */
#include "base/options.h"
#include "cache/cache_internal.h"

nm_status nm__put_read(const nm_cache *cache, const nm_put_options *options, nm__put *put) {
    nm_put_options o = nm_put_options_init();
    if (options != NULL) {
        nm_status status = nm__options_read(&o, sizeof o, options);
        if (status != NM_OK) return status;
    }
    if ((unsigned)o.mode > NM_PUT_REPLACE) return NM_EINVAL;
    put->ttl_ms = o.ttl_ms != 0 ? o.ttl_ms : cache->ttl_ms;
    put->flags = o.flags;
    put->mode = o.mode;
    put->cas = o.cas;
    put->cas_out = o.cas_out;
    return NM_OK;
}

nm_status nm__put_size(const nm_cache *cache, size_t key_len, size_t value_len, bool more, size_t object_bytes,
                       uint32_t *units) {
    *units = nm__entry_units(key_len, value_len, more);
    size_t limit = nm_atomic_load(&cache->limit_bytes, NM_RELAXED); /* relaxed: the account decides in the end */
    size_t room = nm__round_down(limit - nm__min(limit, cache->least_bytes), NM__PAGE_BYTES);
    if (*units == 0 || object_bytes > room) return NM_ETOOLARGE;
    /* Beside that the shard's first page, which is part of the least budget, but for the chunk that closes it. */
    size_t heap_room = nm__round_down(room - object_bytes, NM__PAGE_BYTES) + NM__PAGE_BYTES - NM__UNIT_BYTES;
    return (size_t)*units * NM__UNIT_BYTES <= nm__min(heap_room, cache->shards[0].heap_reserved - NM__UNIT_BYTES)
               ? NM_OK
               : NM_ETOOLARGE;
}

nm_status nm__put_check(nm__shard *shard, const nm__put *put, nm__doomed *doomed, uint32_t *old) {
    uint32_t at = nm__index_find(&shard->index, (uint32_t)put->hash, put->key, put->key_len);
    const nm__entry *e = at != 0 ? nm__heap_at(&shard->heap, at) : NULL;
    if (e != NULL && nm__entry_expired(e, nm__now_if_needed(e))) {
        nm__entry_leave(shard, at, NM_EVICT_EXPIRED, doomed);
        at = 0;
        e = NULL;
    }
    *old = at;
    if (put->mode == NM_PUT_ADD && e != NULL) return NM_EEXISTS;
    if ((put->mode == NM_PUT_REPLACE || put->cas != 0) && e == NULL) return NM_ENOTFOUND;
    return put->cas != 0 && put->cas != e->cas ? NM_ESTALE : NM_OK;
}

static void write_more(const nm__entry *e, const nm__put *put) {
    nm__entry_more *more = nm__entry_more_of(e);
    if (more == NULL) return;
    more->expires_ms = NM_TTL_NEVER;
    if (put->ttl_ms != NM_TTL_NEVER) {
        uint64_t now = nm__os_get()->clock_coarse_ms();
        more->expires_ms = put->ttl_ms < NM_TTL_NEVER - now ? now + put->ttl_ms : NM_TTL_NEVER - 1;
    }
    more->flags = put->flags;
    more->unused = 0;
}

void nm__put_write(nm__shard *shard, const nm__put *put, uint32_t offset, size_t value_len, bool more, bool object) {
    nm__entry *e = nm__heap_at(&shard->heap, offset);
    e->hash = (uint32_t)put->hash;
    e->chain = 0;
    e->node = (nm__node){0};
    e->key_len = (uint16_t)put->key_len;
    e->bits = (uint8_t)((more ? NM__HAS_MORE : 0) | (object ? NM__IS_OBJECT : 0));
    e->slack = (uint8_t)(nm__entry_bytes(e) - sizeof *e - nm__entry_more_bytes(e) - value_len - put->key_len);
    e->cas = 0;
    memcpy(nm__entry_key(e), put->key, put->key_len);
}

void nm__put_publish(nm__shard *shard, const nm__put *put, uint32_t offset, uint32_t old, nm__doomed *doomed) {
    nm__entry *e = nm__heap_at(&shard->heap, offset);
    nm__segment segment = NM__PROBATION;
    if (old != 0) {
        /* A replaced entry keeps its rank: a put alone is not a second use. */
        if (nm__heap_at(&shard->heap, old)->node.state & NM__NODE_PROTECTED) segment = NM__PROTECTED;
        nm__entry_leave(shard, old, NM_EVICT_REPLACED, doomed);
    }
    write_more(e, put);
    e->cas = ++shard->version;
    e->node.state = 0;
    shard->puts++;
    if (put->cas_out != NULL) *put->cas_out = e->cas;
    nm__entry_enter(shard, offset, old != 0, segment);
    nm__shard_index_grow(shard, doomed);
}

/* The same room serves the new value: nobody reads the old one, and nobody wants to be told that it goes. */
static bool overwrite(nm__shard *shard, const nm__put *put, uint32_t old, uint32_t units, const void *value,
                      size_t value_len) {
    nm__entry *e = nm__heap_at(&shard->heap, old);
    bool more = nm__put_wants_more(put);
    if (shard->cache->on_evict != NULL || (e->node.state & NM__PINS) != 0 || e->size != units ||
        (e->bits & (NM__HAS_MORE | NM__IS_OBJECT)) != (more ? NM__HAS_MORE : 0))
        return false;
    nm__segment segment = e->node.state & NM__NODE_PROTECTED ? NM__PROTECTED : NM__PROBATION;
    e->slack = (uint8_t)(nm__entry_bytes(e) - sizeof *e - nm__entry_more_bytes(e) - value_len - put->key_len);
    if (value_len != 0) memcpy(nm__entry_value(e), value, value_len);
    memcpy(nm__entry_key(e), put->key, put->key_len);
    write_more(e, put);
    e->cas = ++shard->version;
    shard->puts++;
    if (put->cas_out != NULL) *put->cas_out = e->cas;
    nm__segments_remove(&shard->segments, old, false);
    nm__segments_add_to(&shard->segments, old, segment);
    return true;
}

static nm_status put_locked(nm__shard *shard, const nm__put *put, const void *value, size_t value_len,
                            size_t object_bytes, bool object, nm__doomed *doomed) {
    bool more = nm__put_wants_more(put);
    uint32_t units, old, at;
    nm_status status = nm__put_check(shard, put, doomed, &old);
    if (status != NM_OK) return status;
    status = nm__put_size(shard->cache, put->key_len, value_len, more, object_bytes, &units);
    if (status == NM_OK && old != 0 && !object && overwrite(shard, put, old, units, value, value_len)) return NM_OK;
    if (status == NM_OK) status = nm__place(shard, units, object_bytes, doomed, &at);
    if (status != NM_OK) {
        shard->rejections++;
        return status;
    }
    /* The old entry may have been evicted for the new one, or another thread may have put it meanwhile. */
    status = nm__put_check(shard, put, doomed, &old);
    if (status == NM_ENOTFOUND && !doomed->dropped) status = NM_OK; /* evicted by ourselves: it was there when asked */
    if (status != NM_OK) {
        nm__object_uncharge(shard, object_bytes);
        doomed->seed = nm__heap_give(&shard->heap, at);
        return status;
    }
    nm__put_write(shard, put, at, value_len, more, object);
    if (value_len != 0) memcpy(nm__entry_value(nm__heap_at(&shard->heap, at)), value, value_len);
    nm__put_publish(shard, put, at, old, doomed);
    return NM_OK;
}

static nm_status put(nm_cache *cache, const void *key, size_t key_len, const void *value, size_t value_len,
                     size_t object_bytes, bool object, const nm_put_options *options) {
    nm__put put = {.key = key, .key_len = key_len};
    if (cache == NULL || key == NULL || key_len == 0 || (value == NULL && value_len != 0)) return NM_EINVAL;
    nm_status status = nm__put_read(cache, options, &put);
    if (status != NM_OK) return status;
    if (nm_atomic_load(&cache->closing, NM_RELAXED)) return NM_ECLOSED; /* relaxed: set by the thread that asks */
    if (key_len > NM_CACHE_KEY_MAX) return NM_ETOOLARGE;
    put.hash = nm__cache_hash(cache, key, key_len);
    nm__shard *shard = nm__shard_of(cache, put.hash);
    nm__doomed doomed = {0};
    nm__shard_lock(shard);
    status = put_locked(shard, &put, value, value_len, object_bytes, object, &doomed);
    nm__shard_unlock(shard, &doomed);
    return status;
}

nm_status nm_cache_put(nm_cache *cache, const void *key, size_t key_len, const void *value, size_t value_len) {
    return put(cache, key, key_len, value, value_len, 0, false, NULL);
}

nm_status nm_cache_put_with(nm_cache *cache, const void *key, size_t key_len, const void *value, size_t value_len,
                            const nm_put_options *options) {
    return put(cache, key, key_len, value, value_len, 0, false, options);
}

nm_status nm_cache_put_object(nm_cache *cache, const void *key, size_t key_len, void *object, size_t size_bytes) {
    nm__object held = {.address = object, .bytes = size_bytes};
    return put(cache, key, key_len, &held, sizeof held, size_bytes, true, NULL);
}
