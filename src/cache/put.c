// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Putting: check, place, write, publish. The new entry is placed before the old one goes, so that a refusal loses nothing. */
#include "base/options.h"
#include "cache/cache_internal.h"

nm_status nm__put_read(const nm_cache *cache, const nm_put_options *options, nm__put *put) {
    put->ttl_ms = cache->ttl_ms;
    if (options == NULL) return NM_OK;
    nm_put_options o = nm_put_options_init();
    nm_status status = nm__options_read(&o, sizeof o, options);
    if (status != NM_OK) return status;
    if ((unsigned)o.mode > NM_PUT_REPLACE) return NM_EINVAL;
    if (o.ttl_ms != 0) put->ttl_ms = o.ttl_ms;
    put->flags = o.flags;
    put->mode = o.mode;
    put->cas = o.cas;
    put->cas_out = o.cas_out;
    return NM_OK;
}

nm_status nm__put_size(const nm_cache *cache, size_t key_len, size_t value_len, bool more, size_t object_bytes,
                       uint32_t *units) {
    *units = nm__entry_units(key_len, value_len, more);
    /* Any cache has a page for entries. */
    if (NM_LIKELY(*units < NM__PAGE_UNITS - 1 && *units != 0 && object_bytes == 0)) return NM_OK;
    size_t limit = nm_atomic_load(&cache->limit_bytes, NM_RELAXED); /* relaxed: the account decides in the end */
    size_t room = nm__round_down(limit - nm__min(limit, cache->least_bytes), NM__PAGE_BYTES);
    if (*units == 0 || object_bytes > room) return NM_ETOOLARGE;
    room -= object_bytes;
    /* What the heap's map needs beside its first page. */
    room -= nm__min(room, nm__heap_map_bytes(room) - NM__PAGE_BYTES);
    /* Beside that the shard's first page, which is part of the least budget, but for what lies at both ends of the heap. */
    size_t heap_room = nm__round_down(room, NM__PAGE_BYTES) + NM__PAGE_BYTES - 2 * NM__UNIT_BYTES;
    return (size_t)*units * NM__UNIT_BYTES <= nm__min(heap_room, cache->shards[0].heap_reserved - 2 * NM__UNIT_BYTES)
               ? NM_OK
               : NM_ETOOLARGE;
}

void nm__put_refused(nm_cache *cache, const nm__put *put, size_t value_len, size_t object_bytes, nm_status status) {
    if (status != NM_ETOOLARGE || !nm__is_sampled(cache, put->hash)) return;
    size_t bytes = (size_t)nm__entry_units(put->key_len, value_len, put->more) * NM__UNIT_BYTES;
    if (bytes != 0) nm__sampler_put(cache, put->hash, bytes + object_bytes);
}

static bool is_negative(const nm__entry *e) {
    const nm__entry_more *more = nm__entry_more_of(e);
    return more != NULL && (nm_atomic_load(&more->bits, NM_RELAXED) & NM__MORE_NEGATIVE) != 0;
}

nm_status nm__put_check(nm__shard *shard, const nm__put *put, nm__doomed *doomed, nm__place_of *old) {
    bool found = nm__shard_find(shard, put->hash, put->key, put->key_len, doomed, old);
    if (NM_UNLIKELY(put->load != NULL && nm__load_is_overtaken(put->load))) return NM_EEXISTS;
    if (NM_LIKELY(put->mode == NM_PUT_SET && put->cas == 0)) return NM_OK;
    const nm__entry *e = found ? nm__entry_at(shard, old->offset) : NULL;
    if (e != NULL && is_negative(e)) e = NULL; /* it is there, for saying that it is not */
    if (put->mode == NM_PUT_ADD && e != NULL) return NM_EEXISTS;
    if ((put->mode == NM_PUT_REPLACE || put->cas != 0) && e == NULL) return NM_ENOTFOUND;
    return put->cas != 0 && put->cas != e->version ? NM_ESTALE : NM_OK;
}

uint64_t nm__expiry_of(uint64_t ttl_ms) {
    if (ttl_ms == NM_TTL_NEVER) return NM_TTL_NEVER;
    uint64_t now = nm__os_get()->clock_coarse_ms();
    return ttl_ms < NM_TTL_NEVER - now ? now + ttl_ms : NM_TTL_NEVER - 1;
}

static void write_more(nm__entry *e, const nm__put *put) {
    nm__entry_more *more = nm__entry_more_of(e);
    if (more == NULL) return;
    /* relaxed, all here: published by the index */
    nm_atomic_store(&more->timer.expires_ms, nm__expiry_of(put->ttl_ms), NM_RELAXED);
    more->timer.next = more->timer.prev = 0;
    more->flags = put->flags;
    nm_atomic_store(&more->access_ms, (uint32_t)nm__os_get()->clock_coarse_ms(), NM_RELAXED);
    nm_atomic_store(&more->bits, (uint16_t)(put->negative ? NM__MORE_NEGATIVE : 0), NM_RELAXED);
}

/* As memcpy(), without its call for keys of 8 to 16 bytes. */
static inline void copy_key(unsigned char *to, const void *from, size_t n) {
    if (NM_UNLIKELY(n - 8 > 8)) {
        memcpy(to, from, n);
        return;
    }
    uint64_t first, last; /* which overlap, or are the same */
    memcpy(&first, from, 8);
    memcpy(&last, (const unsigned char *)from + n - 8, 8);
    memcpy(to, &first, 8);
    memcpy(to + n - 8, &last, 8);
}

/* What the header says of a chunk's contents, and the gap between value and key. keep: bits of the state that are set as well. Where
 * the key goes. */
static inline unsigned char *set_shape(nm__entry *e, uint32_t keep, size_t key_len, size_t value_len, bool more,
                                       bool object) {
    size_t bytes = nm__entry_bytes(e), wide = nm__value_is_wide(value_len) ? 8 : 0;
    size_t rest = bytes - sizeof(nm__entry) - wide - (more ? NM__MORE_BYTES : 0) - value_len - key_len;
    uint32_t short_len = key_len <= UINT8_MAX ? (uint32_t)key_len : 0;
    uint32_t state = keep | short_len << NM__KEY_LEN_SHIFT | (wide != 0 ? NM__ENTRY_WIDE : 0) |
                     (more ? NM__ENTRY_MORE : 0) | (object ? NM__ENTRY_OBJECT : 0);
    unsigned char *key = (unsigned char *)(e + 1) + (wide & (uintptr_t)(e + 1)) + value_len;
    if (NM_UNLIKELY(nm__entry_has_gap(nm__chunk_units(e)))) {
        uint32_t gap = (uint32_t)rest;
        key += gap;
        memcpy(key - sizeof gap, &gap, sizeof gap);
        rest = 0;
    }
    nm__node_set_state(&e->node, state | (uint32_t)rest << NM__SLACK_SHIFT);
    if (NM_UNLIKELY(more)) nm__entry_more_of(e)->key_len = (uint16_t)key_len;
    return key;
}

static void next_version(nm__shard *shard, nm__entry *e, const nm__put *put) {
    if (++shard->version == 0) shard->version = 1; /* 0 is no version */
    nm_atomic_store(&e->version, shard->version, NM_RELAXED);
    shard->puts++;
    if (put->cas_out != NULL) *put->cas_out = shard->version;
}

void nm__put_write(nm__shard *shard, const nm__put *put, uint32_t offset, size_t value_len, bool more, bool object) {
    nm__entry *e = nm__entry_at(shard, offset);
    copy_key(set_shape(e, NM__ENTRY_OFF, put->key_len, value_len, more, object), put->key, put->key_len);
    e->node.next = e->node.prev = 0;
    nm_atomic_store(&e->version, 0u, NM_RELAXED);
    if (NM_UNLIKELY(more)) write_more(e, put);
}

/* Both buckets and the stash are full, and the index cannot grow now: somebody has to leave there. */
static nm_status enter_crowded(nm__shard *shard, uint64_t hash, uint32_t offset, nm__doomed *doomed) {
    uint32_t crowd[2 * NM__BUCKET_WORDS];
    shard->crowded = true;
    unsigned count = nm__index_crowd(&shard->index, hash, crowd);
    for (unsigned i = 0; i < count; i++) {
        nm__place_of place;
        if (!nm__entry_seize(shard, crowd[i], &place)) continue;
        nm__entry_leave(shard, place, nm__reason_of(shard, nm__entry_at(shard, crowd[i]), NM_EVICT_SPACE), doomed);
        return nm__entry_enter(shard, hash, offset);
    }
    return NM_ECAPACITY;
}

nm_status nm__put_publish(nm__shard *shard, const nm__put *put, uint32_t offset, nm__place_of old, nm__doomed *doomed) {
    nm__entry *e = nm__entry_at(shard, offset);
    uint32_t version = shard->version;
    next_version(shard, e, put);
    nm__entry_mark(e, 0, NM__ENTRY_OFF);
    if (put->load == NULL) nm__flight_put_seen(&shard->cache->flight, put->hash, put->key, put->key_len);
    if (nm__is_sampled(shard->cache, put->hash)) nm__sampler_put(shard->cache, put->hash, nm__entry_weight(e));
    if (old.offset != 0) {
        nm__entry_replace(shard, old, offset, false, doomed);
        return NM_OK;
    }
    nm_status status = nm__entry_enter(shard, put->hash, offset);
    if (NM_UNLIKELY(status != NM_OK)) status = enter_crowded(shard, put->hash, offset, doomed);
    if (NM_UNLIKELY(status != NM_OK)) {
        shard->version = version;
        shard->puts--;
        nm__entry_mark(e, NM__ENTRY_OFF, 0);
        return status;
    }
    return NM_OK;
}

nm__reader *nm__put_begin(nm__shard *shard, nm__doomed *doomed) {
    if (shard->cache->policy == NM_CACHE_ADAPTIVE) {
        nm__setting setting;
        if (nm__sampler_setting(shard->cache, &shard->setting, &setting)) nm__policy_set(&shard->policy, &setting);
    }
    nm__reader *reader = nm__shard_drain(shard);
    nm__shard_expire(shard, doomed);
    nm__shard_bury(shard, doomed);
    /* Before there is a new entry, which might be the one that has to go for it. */
    nm__shard_index_grow(shard, doomed);
    if (NM_UNLIKELY(nm__tables_misfit(shard))) nm__tables_fit(shard, doomed);
    return reader;
}

/* The same room serves the new value: nobody reads the old one, and nobody wants to be told that it goes. */
static bool overwrite(nm__shard *shard, const nm__put *put, nm__place_of old, uint32_t units, const void *value,
                      size_t value_len) {
    nm__entry *e = nm__entry_at(shard, old.offset);
    uint32_t state = nm__node_state(&e->node);
    if (shard->cache->on_evict != NULL || nm__chunk_units(e) != units ||
        (state & (NM__ENTRY_MORE | NM__ENTRY_OBJECT)) || put->more || !nm__index_seize(&shard->index, old))
        return false;
    uint32_t kept = state & (NM__NODE_POLICY_BITS | NM__ENTRY_FIXED);
    copy_key(set_shape(e, kept, put->key_len, value_len, false, false), put->key, put->key_len);
    if (value_len != 0) memcpy(nm__entry_value(e), value, value_len);
    next_version(shard, e, put);
    nm__flight_put_seen(&shard->cache->flight, put->hash, put->key, put->key_len);
    /* Most recent of its rank: a put alone is not a second use. */
    if (!nm__hit_is_settled(nm__policy_settled(&shard->policy), state)) {
        nm__policy_remove(&shard->policy, old.offset);
        nm__policy_add_as(&shard->policy, old.offset, state);
    }
    nm__index_settle(&shard->index, old, old.offset);
    if (nm__is_sampled(shard->cache, put->hash)) nm__sampler_put(shard->cache, put->hash, nm__entry_weight(e));
    return true;
}

static nm_status put_locked(nm__shard *shard, const nm__put *put, const void *value, size_t value_len,
                            size_t object_bytes, bool object, nm__doomed *doomed) {
    uint32_t units, at;
    nm__place_of old;
    nm__evict_prepare(shard);
    (void)nm__put_begin(shard, doomed);
    nm_status status = nm__put_check(shard, put, doomed, &old);
    if (status != NM_OK) return status;
    status = nm__put_size(shard->cache, put->key_len, value_len, put->more, object_bytes, &units);
    if (status == NM_OK && old.offset != 0 && !object && overwrite(shard, put, old, units, value, value_len))
        return NM_OK;
    if (status == NM_OK) status = nm__place(shard, units, object_bytes, doomed, &at);
    if (status != NM_OK) {
        shard->rejections++;
        nm__put_refused(shard->cache, put, value_len, object_bytes, status);
        return status;
    }
    /* The old entry may have been evicted for the new one, or moved, or another thread may have put it meanwhile. */
    if (old.offset != 0 || doomed->dropped) status = nm__put_check(shard, put, doomed, &old);
    if (status == NM_ENOTFOUND && !doomed->dropped) status = NM_OK; /* evicted by ourselves: it was there when asked */
    if (status == NM_OK) {
        nm__put_write(shard, put, at, value_len, put->more, object);
        if (value_len != 0) memcpy(nm__entry_value(nm__entry_at(shard, at)), value, value_len);
        status = nm__put_publish(shard, put, at, old, doomed);
        if (status == NM_OK) return NM_OK;
        shard->rejections++;
    }
    nm__object_uncharge(shard, object_bytes);
    doomed->seed = nm__heap_give(&shard->heap, at);
    return status;
}

static nm_status put_entry(nm_cache *cache, nm__put *put, const void *value, size_t value_len, size_t object_bytes,
                           bool object) {
    if (nm_atomic_load(&cache->closing, NM_RELAXED)) return NM_ECLOSED; /* relaxed: set by the thread that asks */
    if (put->key_len > NM_CACHE_KEY_MAX) return NM_ETOOLARGE;
    put->hash = nm__cache_hash_inline(cache, put->key, put->key_len);
    put->more = nm__put_wants_more(cache, put);
    nm__shard *shard = nm__shard_of(cache, put->hash);
    nm__doomed doomed = {0};
    nm__index_prefetch(&shard->index, put->hash);
    nm__shard_lock(shard);
    nm_status status = put_locked(shard, put, value, value_len, object_bytes, object, &doomed);
    nm__shard_unlock(shard, &doomed);
    return status;
}

static nm_status put_value(nm_cache *cache, const void *key, size_t key_len, const void *value, size_t value_len,
                           const nm_put_options *options) {
    nm__put put = {.key = key, .key_len = key_len};
    if (cache == NULL || key == NULL || key_len == 0 || (value == NULL && value_len != 0)) return NM_EINVAL;
    nm_status status = nm__put_read(cache, options, &put);
    return status == NM_OK ? put_entry(cache, &put, value, value_len, 0, false) : status;
}

nm_status nm_cache_put(nm_cache *cache, const void *key, size_t key_len, const void *value, size_t value_len) {
    return put_value(cache, key, key_len, value, value_len, NULL);
}

nm_status nm_cache_put_with(nm_cache *cache, const void *key, size_t key_len, const void *value, size_t value_len,
                            const nm_put_options *options) {
    return put_value(cache, key, key_len, value, value_len, options);
}

nm_status nm_cache_put_object(nm_cache *cache, const void *key, size_t key_len, void *object, size_t size_bytes) {
    if (cache == NULL || key == NULL || key_len == 0) return NM_EINVAL;
    nm__object held = {.address = object, .bytes = size_bytes};
    nm__put put = {.key = key, .key_len = key_len, .ttl_ms = cache->ttl_ms};
    nm_atomic_store(&cache->had_objects, true, NM_RELAXED); /* relaxed: read under the lock that the put takes */
    return put_entry(cache, &put, &held, sizeof held, size_bytes, true);
}

nm_status nm__put_nothing(nm_cache *cache, const void *key, size_t key_len, uint64_t ttl_ms, nm__load *load) {
    nm__put put = {
        .key = key, .key_len = key_len, .ttl_ms = ttl_ms, .mode = NM_PUT_ADD, .negative = true, .load = load};
    return put_entry(cache, &put, NULL, 0, 0, false);
}

nm_status nm_cache_put_negative(nm_cache *cache, const void *key, size_t key_len, uint64_t ttl_ms) {
    if (cache == NULL || key == NULL || key_len == 0) return NM_EINVAL;
    nm__put put = {.key = key, .key_len = key_len, .negative = true};
    put.ttl_ms = ttl_ms != 0 ? ttl_ms : cache->negative_ttl_ms != 0 ? cache->negative_ttl_ms : cache->ttl_ms;
    return put_entry(cache, &put, NULL, 0, 0, false);
}
