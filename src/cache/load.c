// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Reading through: who misses first loads, the others wait for him. The loader runs with no lock held. */
#include "cache/cache_internal.h"

typedef struct nm__want {
    nm_cache *cache;
    uint64_t hash;
    const void *key;
    size_t key_len;
    nm_load_fn *load;
    void *arg;
    nm_entry *out;
    const char *site;
} nm__want;

static bool is_room_for(const nm__want *want, const nm_entry *room) {
    const nm__slot *slot = room->slot;
    return nm__slot_class_of(slot) == &nm__reservation_class && ((nm__shard *)slot->owner)->cache == want->cache &&
           room->key_len == want->key_len && memcmp(room->key, want->key, want->key_len) == 0;
}

/* Runs the loader and publishes what it gave. *again: it is to be looked up, for somebody else put the key, or removed it, meanwhile. */
static nm_status run(const nm__want *want, nm__load *own, bool *again) {
    nm_cache *cache = want->cache;
    nm_entry room;
    nm_put_options options = nm_put_options_init();
    memset(&room, 0, sizeof room);
    nm_status status = want->load(cache, want->key, want->key_len, &room, &options, want->arg);
    if (status == NM_OK && room.slot == NULL) {
        /* It may have put the entry itself. */
        *again = nm__load_is_overtaken(own);
        return *again ? NM_OK : NM_EINVAL;
    }
    if (status == NM_OK && !is_room_for(want, &room)) status = NM_EINVAL;
    if (status == NM_OK) {
        nm__put put = {.load = own, .pinned = want->out};
        bool lost = false;
        options.mode = NM_PUT_ADD; /* what was put meanwhile wins */
        options.cas = 0;
        status = nm__commit(&room, &options, &put, want->site, &lost);
        if (status == NM_OK) return NM_OK;
        *again = status == NM_EEXISTS;
    }
    nm_cache_abort_at(&room, want->site);
    if (status == NM_ENOTFOUND && cache->negative_ttl_ms != 0) {
        nm_status noted = nm__put_nothing(cache, want->key, want->key_len, cache->negative_ttl_ms, own);
        *again = noted == NM_EEXISTS;
    }
    return status;
}

/* This thread is the one to load. */
static nm_status lead(const nm__want *want, nm__load *own, bool *again) {
    nm_cache *cache = want->cache;
    /* Somebody may have ended a load between the look and the beginning of this one. With the lock: see flight.h. */
    if (nm__get_locked(cache, want->hash, want->key, want->key_len, want->out, want->site)) return NM_OK;
    if (want->out->negative) return NM_ENOTFOUND;
    if (nm_cache_contains(cache, want->key, want->key_len)) { /* put since, or there is no room to note a pin of it */
        *again = nm__load_is_overtaken(own);
        return NM_ECAPACITY;
    }
    nm_atomic_add(&cache->loads, 1, NM_RELAXED); /* relaxed: figures */
    nm_status status = run(want, own, again);
    if (status != NM_OK && !*again) nm_atomic_add(&cache->load_failures, 1, NM_RELAXED);
    return status;
}

/* Loads that were all overtaken before one gives up: whoever puts a key as often as it is loaded should find it there. */
#define LOADS_MAX 16

static nm_status get_or_load(const nm__want *want, uint64_t timeout_ns) {
    nm_cache *cache = want->cache;
    uint64_t begun = 0, passed = 0;
    for (int tries = 0; tries < LOADS_MAX; tries++) {
        if (nm_cache_get_at(cache, want->key, want->key_len, want->out, want->site)) return NM_OK;
        if (want->out->negative) return NM_ENOTFOUND;
        if (nm_atomic_load(&cache->closing, NM_RELAXED)) return NM_ECLOSED; /* relaxed: set by the thread that asks */
        nm__load own;
        nm_status status;
        if (nm__flight_begin(&cache->flight, want->hash, want->key, want->key_len, &own) == NM__FLIGHT_LEADER) {
            bool again = false;
            status = lead(want, &own, &again);
            bool overtaken = nm__flight_end(&cache->flight, &own, again ? NM_OK : status);
            if (!again && (status == NM_OK || !overtaken)) return status;
            continue;
        }
        uint64_t now = nm__os_get()->clock_ns();
        if (begun == 0) begun = now;
        passed = now - begun;
        status = nm__flight_wait(&cache->flight, &own,
                                 timeout_ns == UINT64_MAX ? UINT64_MAX : timeout_ns - nm__min(timeout_ns, passed));
        if (status != NM_OK) return status; /* else: to be looked up */
    }
    return NM_EBUSY;
}

nm_status(nm_cache_get_or_load)(nm_cache *cache, const void *key, size_t key_len, nm_load_fn *load, void *arg,
                                uint64_t timeout_ns, nm_entry *out) {
    return nm_cache_get_or_load_at(cache, key, key_len, load, arg, timeout_ns, out, "?");
}

nm_status nm_cache_get_or_load_at(nm_cache *cache, const void *key, size_t key_len, nm_load_fn *load, void *arg,
                                  uint64_t timeout_ns, nm_entry *out, const char *site) {
    if (out == NULL) return NM_EINVAL;
    memset(out, 0, sizeof *out);
    if (cache == NULL || key == NULL || key_len == 0 || load == NULL) return NM_EINVAL;
    if (key_len > NM_CACHE_KEY_MAX) return NM_ETOOLARGE;
    nm__want want = {
        .cache = cache, .key = key, .key_len = key_len, .load = load, .arg = arg, .out = out, .site = site};
    want.hash = nm__cache_hash(cache, key, key_len);
    nm_status status = get_or_load(&want, timeout_ns);
    if (status != NM_OK) memset(out, 0, sizeof *out);
    return status;
}
