// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Reservations: a chunk that is in no index, pinned by a slot until it is published or dropped. */
#include "cache/cache_internal.h"
#include "check/check.h"

static nm_status reserve_locked(nm__shard *shard, nm__reader *reader, const nm__put *put, size_t value_len,
                                nm_entry *out, const char *site, nm__doomed *doomed) {
    uint32_t units, at;
    nm_status status = nm__put_size(shard->cache, put->key_len, value_len, put->more, 0, &units);
    if (status != NM_OK) return status;
    nm__slot *slot = nm__slot_make(shard, reader, doomed);
    if (slot == NULL) return NM_ECAPACITY;
    status = nm__place(shard, units, 0, doomed, &at);
    if (status != NM_OK) {
        nm__slot_give(shard->cache, reader, slot);
        return status;
    }
    nm__put_write(shard, put, at, value_len, put->more, false);
    nm__entry *e = nm__entry_at(shard, at);
    e->node.prev = NM__OFF_RESERVED;
    nm__entry_mark(e, NM__ENTRY_FIXED, 0);
    nm__chunk_fix(shard, at);
    nm__entry_describe(shard, at, out);
    nm__slot_issue(shard, slot, (nm__place_of){.offset = at}, NM__SLOT_RESERVATION, site, out);
    nm__counts_pin(shard->cache, reader, 1, (int64_t)nm__entry_weight(e));
    return NM_OK;
}

static nm_status reserve(nm_cache *cache, const void *key, size_t key_len, size_t value_len, nm_entry *out,
                         const char *site) {
    nm__put put = {.key = key, .key_len = key_len, .ttl_ms = cache->ttl_ms};
    put.hash = nm__cache_hash(cache, key, key_len);
    put.more = nm__put_wants_more(cache, &put);
    nm__shard *shard = nm__shard_of(cache, put.hash);
    nm__reader *reader = nm__reader_get(cache);
    nm__doomed doomed = {0};
    nm__shard_lock(shard);
    nm__evict_prepare(shard);
    (void)nm__put_begin(shard, &doomed);
    nm_status status = reserve_locked(shard, reader, &put, value_len, out, site, &doomed);
    if (status != NM_OK) shard->rejections++;
    nm__shard_unlock(shard, &doomed);
    nm__put_refused(cache, &put, value_len, 0, status);
    return status;
}

static nm_status key_check(const nm_cache *cache, const void *key, size_t key_len) {
    if (cache == NULL || key == NULL || key_len == 0) return NM_EINVAL;
    if (nm_atomic_load(&cache->closing, NM_RELAXED)) return NM_ECLOSED; /* relaxed: set by the thread that asks */
    return key_len <= NM_CACHE_KEY_MAX ? NM_OK : NM_ETOOLARGE;
}

nm_status(nm_cache_reserve)(nm_cache *cache, const void *key, size_t key_len, size_t value_len, nm_entry *out) {
    return nm_cache_reserve_at(cache, key, key_len, value_len, out, "?");
}

nm_status nm_cache_reserve_at(nm_cache *cache, const void *key, size_t key_len, size_t value_len, nm_entry *out,
                              const char *site) {
    if (out == NULL) return NM_EINVAL;
    memset(out, 0, sizeof *out);
    nm_status status = key_check(cache, key, key_len);
    return status == NM_OK ? reserve(cache, key, key_len, value_len, out, site) : status;
}

nm_status(nm_cache_reserve_in)(nm_cache *cache, nm_scope *holder, const void *key, size_t key_len, size_t value_len,
                               nm_entry *out) {
    return nm_cache_reserve_in_at(cache, holder, key, key_len, value_len, out, "?");
}

nm_status nm_cache_reserve_in_at(nm_cache *cache, nm_scope *holder, const void *key, size_t key_len, size_t value_len,
                                 nm_entry *out, const char *site) {
    if (out == NULL) return NM_EINVAL;
    memset(out, 0, sizeof *out);
    nm_status status = key_check(cache, key, key_len);
    if (status == NM_OK && (holder == NULL || !nm__same_root(holder, cache->scope))) status = NM_EINVAL;
    uint32_t units;
    nm__put put = {.key = key, .key_len = key_len, .ttl_ms = cache->ttl_ms};
    if (status != NM_OK) return status;
    put.more = nm__put_wants_more(cache, &put);
    status = nm__put_size(cache, key_len, value_len, put.more, 0, &units);
    if (status != NM_OK) {
        put.hash = nm__cache_hash(cache, key, key_len);
        nm__put_refused(cache, &put, value_len, 0, status);
        return status;
    }
    size_t bytes = (size_t)units * NM__UNIT_BYTES;
    status = nm__hold_prepare(holder, bytes);
    if (status != NM_OK) return status;
    status = reserve(cache, key, key_len, value_len, out, site);
    if (status != NM_OK) {
        nm__hold_cancel(holder, bytes);
        return status;
    }
    nm__hold(holder, out->slot, out->generation, bytes);
    return NM_OK;
}

/* A reservation without room for what the options ask is copied to a chunk that has it. */
static nm_status with_more(nm__shard *shard, const nm__put *put, const nm__entry *e, nm__doomed *doomed, uint32_t *at) {
    uint32_t units;
    size_t value_len = nm__entry_value_len(e);
    nm_status status = nm__put_size(shard->cache, put->key_len, value_len, true, 0, &units);
    if (status == NM_OK) status = nm__place(shard, units, 0, doomed, at);
    if (status != NM_OK) return status;
    nm__put_write(shard, put, *at, value_len, true, false);
    memcpy(nm__entry_value(nm__entry_at(shard, *at)), nm__entry_value(e), value_len);
    return NM_OK;
}

/* `at` is complete but for what the options ask. */
static nm_status publish(nm__shard *shard, nm__put *put, uint32_t at, nm__place_of old, nm__doomed *doomed) {
    nm__entry *e = nm__entry_at(shard, at);
    nm__entry_more *more = nm__entry_more_of(e);
    if (more != NULL) {
        /* relaxed: published by the index */
        nm_atomic_store(&more->timer.expires_ms, nm__expiry_of(put->ttl_ms), NM_RELAXED);
        more->flags = put->flags;
    }
    return nm__put_publish(shard, put, at, old, doomed);
}

/* *lost: another thread ended the reservation meanwhile. */
static nm_status commit_locked(nm__shard *shard, nm_entry *entry, nm__put *put, const char *site, nm__doomed *doomed,
                               bool *lost) {
    nm__entry *e = entry->slot->data;
    put->key = nm__entry_key(e);
    put->key_len = nm__entry_key_len(e);
    put->hash = nm__entry_hash(shard, e);
    nm__place_of old;
    uint32_t copy = 0, at = nm__offset_of(shard, e);
    nm_status status = nm__put_check(shard, put, doomed, &old);
    if (status != NM_OK) return status;
    bool wants = put->ttl_ms != NM_TTL_NEVER || put->flags != 0;
    if (wants && !(nm__node_state(&e->node) & NM__ENTRY_MORE)) {
        status = with_more(shard, put, e, doomed, &copy);
        if (status == NM_OK) {
            status = nm__put_check(shard, put, doomed, &old);
            if (status == NM_ENOTFOUND && !doomed->dropped) status = NM_OK; /* evicted for the copy */
        } else {
            shard->rejections++;
        }
    }
    *lost = status == NM_OK && !nm__slot_end(entry->slot, entry->generation, site);
    if (*lost) status = NM_ESTALE;
    if (status == NM_OK && copy == 0) {
        nm__chunk_unfix(shard, at);
        nm__entry_mark(e, 0, NM__ENTRY_FIXED);
    }
    if (status == NM_OK) {
        put->at = copy != 0 ? copy : at;
        status = publish(shard, put, put->at, old, doomed);
        if (NM_UNLIKELY(status != NM_OK)) { /* no place in the index: the reservation goes on */
            shard->rejections++;
            if (copy == 0) {
                nm__chunk_fix(shard, at);
                nm__entry_mark(e, NM__ENTRY_FIXED, 0);
            }
            nm_atomic_store(&entry->slot->generation, entry->generation, NM_RELEASE); /* as in nm__slot_issue */
        }
    }
    if (status != NM_OK && copy != 0) doomed->seed = nm__heap_give(&shard->heap, copy);
    if (status == NM_OK && copy != 0) {
        nm__chunk_unfix(shard, at);
        doomed->seed = nm__heap_give(&shard->heap, at);
    }
    return status;
}

nm_status nm__commit(nm_entry *entry, const nm_put_options *options, nm__put *put, const char *site, bool *lost) {
    nm__slot *slot = entry->slot;
    nm__shard *shard = slot->owner;
    nm__doomed doomed = {0};
    nm_status status = nm__put_read(shard->cache, options, put);
    if (status != NM_OK) return status;
    size_t bytes = nm__entry_weight(slot->data);
    nm__reader *reader = nm__reader_find(shard->cache);
    nm__shard_lock(shard);
    status = commit_locked(shard, entry, put, site, &doomed, lost);
    if (status != NM_OK) {
        nm__shard_unlock(shard, &doomed);
        return status;
    }
    nm__counts_pin(shard->cache, reader, -1, -(int64_t)bytes);
    bool pinned = false;
    nm__place_of place;
    /* Callbacks may have run since it was published, and others at work: then it is looked up as any other. */
    if (put->pinned != NULL && !doomed.dropped && nm__index_locate(&shard->index, put->hash, put->at, &place))
        pinned = nm__pin_locked(shard, reader, slot, place, site, put->pinned);
    nm__shard_unlock(shard, &doomed);
    if (!pinned) nm__slot_give(shard->cache, reader, slot);
    memset(entry, 0, sizeof *entry); /* published, whatever became of the pin: there is nothing to drop any more */
    return put->pinned != NULL && !pinned ? NM_EEXISTS : NM_OK;
}

nm_status(nm_cache_commit)(nm_entry *entry, const nm_put_options *options) {
    return nm_cache_commit_at(entry, options, "?");
}

nm_status nm_cache_commit_at(nm_entry *entry, const nm_put_options *options, const char *site) {
    if (entry == NULL) return NM_EINVAL;
    nm__slot *slot = entry->slot;
    if (slot == NULL) {
        nm__misuse(&(nm_misuse){.what = "commit of an empty entry", .part = "cache", .site = site});
        return NM_ESTALE;
    }
    /* acquire: pairs with the release in nm__slot_issue; while the slot is out in this generation its owner stands */
    if (nm_atomic_load(&slot->generation, NM_ACQUIRE) != entry->generation || (entry->generation & 1) == 0) {
        nm__slot_misuse(slot, "reservation committed or aborted before", entry->value, site);
        return NM_ESTALE;
    }
    if (nm__slot_class_of(slot) != &nm__reservation_class) {
        nm__slot_misuse(slot, "commit of an entry that is no reservation", entry->value, site);
        return NM_ESTALE;
    }
    nm__put put = {0};
    bool lost = false;
    nm_status status = nm__commit(entry, options, &put, site, &lost);
    if (lost) nm__slot_misuse(slot, "reservation committed or aborted before", entry->value, site);
    return status;
}

void(nm_cache_abort)(nm_entry *entry) { nm_cache_abort_at(entry, "?"); }

void nm_cache_abort_at(nm_entry *entry, const char *site) {
    if (entry == NULL || entry->slot == NULL) return;
    if (nm__slot_class_of(entry->slot) != &nm__reservation_class) {
        nm__slot_misuse(entry->slot, "abort of an entry that is no reservation", entry->value, site);
        return;
    }
    nm_entry_release_at(entry, site);
}
