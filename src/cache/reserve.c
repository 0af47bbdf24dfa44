// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Reservations: a chunk that is in no index, pinned by a slot until it is published or dropped. */
#include "cache/cache_internal.h"
#include "check/check.h"

static nm_status reserve(nm_cache *cache, const void *key, size_t key_len, size_t value_len, nm_entry *out,
                         const char *site) {
    nm__put put = {.key = key, .key_len = key_len, .ttl_ms = cache->ttl_ms};
    put.hash = nm__cache_hash(cache, key, key_len);
    nm__shard *shard = nm__shard_of(cache, put.hash);
    nm__doomed doomed = {0};
    uint32_t units, at;
    bool more = nm__put_wants_more(&put);
    nm__shard_lock(shard);
    nm_status status = nm__put_size(cache, key_len, value_len, more, 0, &units);
    if (status == NM_OK && !nm__slot_ready(shard, &doomed)) status = NM_ECAPACITY;
    if (status == NM_OK) status = nm__place(shard, units, 0, &doomed, &at);
    if (status == NM_OK && doomed.dropped && shard->free_slot == NULL) {
        /* Others took the slots while the lock was dropped. A page more, or nothing: evicting again could go on for ever. */
        status = nm__slot_page_take(shard, true);
        if (status != NM_OK) doomed.seed = nm__heap_give(&shard->heap, at);
    }
    if (status == NM_OK) {
        nm__put_write(shard, &put, at, value_len, more, false);
        nm__entry *e = nm__heap_at(&shard->heap, at);
        e->node.state = NM__RESERVED;
        if (more) *nm__entry_more_of(e) = (nm__entry_more){.expires_ms = NM_TTL_NEVER};
        nm__entry_describe(shard, at, out);
        nm__slot_lease(shard, at, NM__SLOT_RESERVATION, site, out);
    } else {
        shard->rejections++;
    }
    nm__shard_unlock(shard, &doomed);
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
    if (status == NM_OK) status = nm__put_size(cache, key_len, value_len, cache->ttl_ms != NM_TTL_NEVER, 0, &units);
    if (status != NM_OK) return status;
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
    memcpy(nm__entry_value(nm__heap_at(&shard->heap, *at)), nm__entry_value(e), value_len);
    return NM_OK;
}

static nm_status commit_locked(nm__shard *shard, nm_entry *entry, nm__put *put, const char *site, nm__doomed *doomed,
                               bool *lost) {
    nm__slot *slot = entry->slot;
    nm__entry *e = slot->data;
    put->key = nm__entry_key(e);
    put->key_len = e->key_len;
    put->hash = e->hash; /* the low half is all that is needed in the shard */
    uint32_t old, copy = 0;
    nm_status status = nm__put_check(shard, put, doomed, &old);
    if (status != NM_OK) return status;
    if (nm__put_wants_more(put) && !(e->bits & NM__HAS_MORE)) {
        status = with_more(shard, put, e, doomed, &copy);
        if (status == NM_OK) {
            status = nm__put_check(shard, put, doomed, &old);
            if (status == NM_ENOTFOUND && !doomed->dropped) status = NM_OK; /* evicted for the copy */
        } else {
            shard->rejections++;
        }
        if (status != NM_OK) {
            if (copy != 0) doomed->seed = nm__heap_give(&shard->heap, copy);
            return status;
        }
    }
    *lost = !nm__slot_end(slot, entry->generation, site);
    if (*lost) {
        if (copy != 0) doomed->seed = nm__heap_give(&shard->heap, copy);
        return NM_ESTALE;
    }
    uint32_t at = nm__offset_of(shard, e);
    if (copy != 0) {
        nm__slot_return(shard, slot, doomed);
        at = copy;
    } else {
        nm__slot_publish(shard, slot);
    }
    nm__put_publish(shard, put, at, old, doomed);
    return NM_OK;
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
    /* acquire: pairs with the release in nm__slot_lease; while the slot is out in this generation its owner stands */
    if (nm_atomic_load(&slot->generation, NM_ACQUIRE) != entry->generation || (entry->generation & 1) == 0) {
        nm__slot_misuse(slot, "reservation committed or aborted before", entry->value, site);
        return NM_ESTALE;
    }
    if (nm__slot_class_of(slot) != &nm__reservation_class) {
        nm__slot_misuse(slot, "commit of an entry that is no reservation", entry->value, site);
        return NM_ESTALE;
    }
    nm__shard *shard = slot->owner;
    nm__put put = {0};
    nm__doomed doomed = {0};
    bool lost = false;
    nm_status status = nm__put_read(shard->cache, options, &put);
    if (status != NM_OK) return status;
    nm__shard_lock(shard);
    status = commit_locked(shard, entry, &put, site, &doomed, &lost);
    nm__shard_unlock(shard, &doomed);
    if (lost) nm__slot_misuse(slot, "reservation committed or aborted before", entry->value, site);
    if (status == NM_OK) memset(entry, 0, sizeof *entry);
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
