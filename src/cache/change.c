// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Changing an entry that is there: remove, touch, mark as stale, count up and down. */
#include "cache/cache_internal.h"

/* ---- removing ---- */

static nm_status remove_version(nm_cache *cache, const void *key, size_t key_len, uint64_t cas) {
    if (cache == NULL || !nm__key_valid(key, key_len)) return NM_EINVAL;
    uint64_t hash = nm__cache_hash(cache, key, key_len);
    nm__shard *shard = nm__shard_of(cache, hash);
    nm__doomed doomed = {0};
    nm__place_of place;
    nm__shard_lock(shard);
    (void)nm__put_begin(shard, &doomed);
    nm_status status = NM_ENOTFOUND;
    if (nm__shard_find(shard, hash, key, key_len, &doomed, &place)) {
        const nm__entry *e = nm__entry_at(shard, place.offset);
        const nm__entry_more *more = nm__entry_more_of(e);
        bool negative = more != NULL && (nm_atomic_load(&more->bits, NM_RELAXED) & NM__MORE_NEGATIVE) != 0;
        status = negative ? NM_ENOTFOUND : cas != 0 && cas != e->version ? NM_ESTALE : NM_OK;
        if (status != NM_ESTALE) nm__entry_leave(shard, place, NM_EVICT_REMOVED, &doomed);
    }
    if (status != NM_ESTALE) nm__flight_put_seen(&cache->flight, hash, key, key_len);
    nm__shard_unlock(shard, &doomed);
    /* Also where it is not: a larger cache might have it. */
    if (status != NM_ESTALE && nm__is_sampled(cache, hash)) nm__sampler_remove(cache, hash);
    return status;
}

nm_status nm_cache_remove(nm_cache *cache, const void *key, size_t key_len) {
    return remove_version(cache, key, key_len, 0);
}

nm_status nm_cache_remove_if(nm_cache *cache, const void *key, size_t key_len, uint64_t cas) {
    return cas != 0 ? remove_version(cache, key, key_len, cas) : NM_EINVAL;
}

/* ---- an entry written anew in another chunk ---- */

/* A copy of the entry, with the words at its end, and with room for a value of value_len bytes, of which the old one's first `keep` are
 * copied. It is not published yet. May drop the lock: *place is where the entry is afterwards. */
static nm_status copy_larger(nm__shard *shard, uint64_t hash, const void *key, size_t key_len, size_t value_len,
                             bool more, nm__doomed *doomed, nm__place_of *place, uint32_t *at) {
    const nm__entry *e = nm__entry_at(shard, place->offset);
    uint32_t units, version = e->version;
    nm_status status = nm__put_size(shard->cache, key_len, value_len, more, 0, &units);
    /* Pinned, so that it is not evicted for its own copy. */
    if (status == NM_OK && !nm__index_pin_locked(&shard->index, *place)) status = NM_ECAPACITY;
    if (status != NM_OK) return status;
    status = nm__place(shard, units, 0, doomed, at);
    nm__unpin_locked(shard, place->offset, doomed);
    if (status == NM_OK && !nm__shard_find(shard, hash, key, key_len, doomed, place)) status = NM_ENOTFOUND;
    /* Another thread put or moved it while the lock was dropped: the caller begins again. */
    if (status == NM_OK && nm__entry_at(shard, place->offset)->version != version) status = NM_EEXISTS;
    if (status == NM_OK) return NM_OK;
    if (*at != 0) doomed->seed = nm__heap_give(&shard->heap, *at);
    *at = 0;
    return status;
}

/* What the copy takes over beside key and value. */
static void inherit(const nm__entry *e, nm__entry *copy) {
    nm__entry_more *to = nm__entry_more_of(copy), *from = nm__entry_more_of(e);
    if (to == NULL || from == NULL) return;
    nm_atomic_store(&to->timer.expires_ms, nm__more_expires(from), NM_RELAXED);
    nm_atomic_store(&to->access_ms, nm_atomic_load(&from->access_ms, NM_RELAXED), NM_RELAXED);
    nm_atomic_store(&to->bits, nm_atomic_load(&from->bits, NM_RELAXED), NM_RELAXED);
    to->flags = from->flags;
}

/* The entry gets words for time and marks, if it has none. */
static nm_status give_more(nm__shard *shard, uint64_t hash, const void *key, size_t key_len, nm__doomed *doomed,
                           nm__place_of *place) {
    for (int i = 0; i < 8; i++) { /* others that put the key again and again could go on for ever */
        const nm__entry *e = nm__entry_at(shard, place->offset);
        if (nm__entry_more_of(e) != NULL) return NM_OK;
        size_t value_len = nm__entry_value_len(e);
        bool object = (nm__node_state(&e->node) & NM__ENTRY_OBJECT) != 0;
        /* The object would go with its entry, and its holders have the old one's pin. */
        if (object && nm__index_pins(&shard->index, *place) != 0) return NM_EBUSY;
        uint32_t at = 0;
        nm_status status = copy_larger(shard, hash, key, key_len, value_len, true, doomed, place, &at);
        if (status == NM_EEXISTS) continue;
        if (status != NM_OK) return status;
        /* Readers need no lock to pin it: only from here on nobody can. */
        if (object && !nm__index_seize(&shard->index, *place)) {
            doomed->seed = nm__heap_give(&shard->heap, at);
            return NM_EBUSY;
        }
        e = nm__entry_at(shard, place->offset);
        nm__put put = {.key = key, .key_len = key_len, .hash = hash, .ttl_ms = NM_TTL_NEVER};
        nm__put_write(shard, &put, at, value_len, true, object);
        nm__entry *copy = nm__entry_at(shard, at);
        memcpy(nm__entry_value(copy), nm__entry_value(e), value_len);
        nm_atomic_store(&copy->version, e->version, NM_RELAXED);
        nm__entry_mark(copy, 0, NM__ENTRY_OFF);
        nm__entry_replace(shard, *place, at, true, doomed);
        *place = nm__entry_place(shard, at, hash);
        return NM_OK;
    }
    return NM_ECAPACITY;
}

/* ---- time to live ---- */

static void set_expiry(nm__shard *shard, uint32_t offset, uint64_t ttl_ms) {
    nm__entry_more *more = nm__entry_more_of(nm__entry_at(shard, offset));
    if (nm__entry_is_timed(nm__entry_at(shard, offset))) nm__wheel_remove(&shard->wheel, offset);
    /* relaxed: readers take the time as it was or as it is */
    nm_atomic_store(&more->timer.expires_ms, nm__expiry_of(ttl_ms), NM_RELAXED);
    if (ttl_ms != NM_TTL_NEVER) nm__wheel_add(&shard->wheel, offset, nm__os_get()->clock_coarse_ms());
}

static nm_status touch_locked(nm__shard *shard, uint64_t hash, const void *key, size_t key_len, uint64_t ttl_ms,
                              nm__doomed *doomed, nm__place_of *place) {
    if (!nm__shard_find(shard, hash, key, key_len, doomed, place)) return NM_ENOTFOUND;
    const nm__entry_more *more = nm__entry_more_of(nm__entry_at(shard, place->offset));
    if (more != NULL && (nm_atomic_load(&more->bits, NM_RELAXED) & NM__MORE_NEGATIVE)) return NM_ENOTFOUND;
    if (more == NULL && ttl_ms == NM_TTL_NEVER) return NM_OK;
    nm_status status = give_more(shard, hash, key, key_len, doomed, place);
    if (status == NM_OK) set_expiry(shard, place->offset, ttl_ms);
    return status;
}

nm_status nm_cache_touch(nm_cache *cache, const void *key, size_t key_len, uint64_t ttl_ms) {
    if (cache == NULL || !nm__key_valid(key, key_len)) return NM_EINVAL;
    uint64_t hash = nm__cache_hash(cache, key, key_len);
    nm__shard *shard = nm__shard_of(cache, hash);
    nm__doomed doomed = {0};
    nm__place_of place;
    nm__shard_lock(shard);
    (void)nm__put_begin(shard, &doomed);
    nm_status status = touch_locked(shard, hash, key, key_len, ttl_ms != 0 ? ttl_ms : cache->ttl_ms, &doomed, &place);
    nm__shard_unlock(shard, &doomed);
    return status;
}

bool(nm_cache_get_touch)(nm_cache *cache, const void *key, size_t key_len, uint64_t ttl_ms, nm_entry *out) {
    return nm_cache_get_touch_at(cache, key, key_len, ttl_ms, out, "?");
}

bool nm_cache_get_touch_at(nm_cache *cache, const void *key, size_t key_len, uint64_t ttl_ms, nm_entry *out,
                           const char *site) {
    if (out == NULL) return false;
    if (nm_cache_touch(cache, key, key_len, ttl_ms) == NM_OK) return nm_cache_get_at(cache, key, key_len, out, site);
    memset(out, 0, sizeof *out);
    return false;
}

nm_status nm_cache_mark_stale(nm_cache *cache, const void *key, size_t key_len, uint64_t ttl_ms, uint64_t cas) {
    if (cache == NULL || !nm__key_valid(key, key_len)) return NM_EINVAL;
    uint64_t hash = nm__cache_hash(cache, key, key_len);
    nm__shard *shard = nm__shard_of(cache, hash);
    nm__doomed doomed = {0};
    nm__place_of place;
    nm_status status = NM_ENOTFOUND;
    nm__shard_lock(shard);
    nm__shard_drain(shard);
    if (nm__shard_find(shard, hash, key, key_len, &doomed, &place)) {
        status = cas != 0 && cas != nm__entry_at(shard, place.offset)->version ? NM_ESTALE : NM_OK;
        if (status == NM_OK) status = give_more(shard, hash, key, key_len, &doomed, &place);
    }
    if (status == NM_OK) {
        nm__entry_more *more = nm__entry_more_of(nm__entry_at(shard, place.offset));
        if (nm_atomic_load(&more->bits, NM_RELAXED) & NM__MORE_NEGATIVE) {
            status = NM_ENOTFOUND;
        } else {
            /* relaxed: marks, each by itself; who wins is decided by the exchange in nm_cache_get */
            nm_atomic_and(&more->bits, (uint16_t)~NM__MORE_WON, NM_RELAXED);
            nm_atomic_or(&more->bits, NM__MORE_STALE, NM_RELAXED);
            if (ttl_ms != 0) set_expiry(shard, place.offset, ttl_ms);
        }
    }
    nm__shard_unlock(shard, &doomed);
    return status;
}

/* ---- numbers ---- */

#define DIGITS_MAX 20

/* Spaces behind it are how a number that became shorter ends. */
static bool number_read(const unsigned char *text, size_t len, uint64_t *out) {
    uint64_t n = 0;
    while (len > 0 && text[len - 1] == ' ') len--;
    if (len == 0 || len > DIGITS_MAX) return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        if (nm__mul_overflows(n, (uint64_t)10, &n) || nm__add_overflows(n, (uint64_t)(text[i] - '0'), &n)) return false;
    }
    *out = n;
    return true;
}

static size_t number_write(uint64_t n, unsigned char out[DIGITS_MAX]) {
    unsigned char back[DIGITS_MAX];
    size_t len = 0;
    do back[len++] = (unsigned char)('0' + n % 10);
    while ((n /= 10) != 0);
    for (size_t i = 0; i < len; i++) out[i] = back[len - 1 - i];
    return len;
}

static void new_version(nm__shard *shard, nm__entry *e) {
    if (++shard->version == 0) shard->version = 1;
    nm_atomic_store(&e->version, shard->version, NM_RELAXED);
    shard->puts++;
}

/* In the entry's own room, if nobody reads it and the number fits. */
static bool write_in_place(nm__shard *shard, nm__place_of place, const unsigned char *digits, size_t len) {
    nm__entry *e = nm__entry_at(shard, place.offset);
    size_t room = nm__entry_value_len(e);
    if (len > room || shard->cache->on_evict != NULL || !nm__index_seize(&shard->index, place)) return false;
    memcpy(nm__entry_value(e), digits, len);
    memset(nm__entry_value(e) + len, ' ', room - len);
    new_version(shard, e);
    nm__index_settle(&shard->index, place, place.offset);
    return true;
}

static nm_status count_locked(nm__shard *shard, uint64_t hash, const void *key, size_t key_len, uint64_t by, bool up,
                              nm__doomed *doomed, uint64_t *out) {
    for (int i = 0; i < 8; i++) { /* as in give_more */
        nm__place_of place;
        if (!nm__shard_find(shard, hash, key, key_len, doomed, &place)) return NM_ENOTFOUND;
        const nm__entry *e = nm__entry_at(shard, place.offset);
        const nm__entry_more *more = nm__entry_more_of(e);
        unsigned char digits[DIGITS_MAX];
        if (more != NULL && (nm_atomic_load(&more->bits, NM_RELAXED) & NM__MORE_NEGATIVE)) return NM_ENOTFOUND;
        if ((nm__node_state(&e->node) & NM__ENTRY_OBJECT) ||
            !number_read(nm__entry_value(e), nm__entry_value_len(e), out))
            return NM_EINVAL;
        *out = up ? *out + by : *out - nm__min(*out, by);
        size_t len = number_write(*out, digits), value_len = nm__max(len, nm__entry_value_len(e));
        if (write_in_place(shard, place, digits, len)) return NM_OK;
        uint32_t at = 0;
        nm_status status = copy_larger(shard, hash, key, key_len, value_len, more != NULL, doomed, &place, &at);
        if (status == NM_EEXISTS) continue;
        if (status != NM_OK) return status;
        nm__put put = {.key = key, .key_len = key_len, .hash = hash, .ttl_ms = NM_TTL_NEVER};
        nm__put_write(shard, &put, at, value_len, more != NULL, false);
        nm__entry *copy = nm__entry_at(shard, at);
        inherit(nm__entry_at(shard, place.offset), copy);
        memcpy(nm__entry_value(copy), digits, len);
        memset(nm__entry_value(copy) + len, ' ', value_len - len);
        new_version(shard, copy);
        nm__entry_mark(copy, 0, NM__ENTRY_OFF);
        nm__entry_replace(shard, place, at, false, doomed);
        return NM_OK;
    }
    return NM_ECAPACITY;
}

static nm_status count(nm_cache *cache, const void *key, size_t key_len, uint64_t by, bool up, uint64_t *out) {
    if (cache == NULL || !nm__key_valid(key, key_len)) return NM_EINVAL;
    if (nm_atomic_load(&cache->closing, NM_RELAXED)) return NM_ECLOSED; /* relaxed: set by the thread that asks */
    uint64_t hash = nm__cache_hash(cache, key, key_len), number;
    nm__shard *shard = nm__shard_of(cache, hash);
    nm__doomed doomed = {0};
    nm__shard_lock(shard);
    (void)nm__put_begin(shard, &doomed);
    nm_status status = count_locked(shard, hash, key, key_len, by, up, &doomed, &number);
    if (status == NM_OK) nm__flight_put_seen(&cache->flight, hash, key, key_len);
    nm__shard_unlock(shard, &doomed);
    if (status == NM_OK && out != NULL) *out = number;
    return status;
}

nm_status nm_cache_increment(nm_cache *cache, const void *key, size_t key_len, uint64_t by, uint64_t *out) {
    return count(cache, key, key_len, by, true, out);
}

nm_status nm_cache_decrement(nm_cache *cache, const void *key, size_t key_len, uint64_t by, uint64_t *out) {
    return count(cache, key, key_len, by, false, out);
}
