// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Look-ups: without a lock where the thread has a reader, with the shard's lock else. */
#include "cache/cache_internal.h"

/* ---- what an entry tells; the caller has it pinned ---- */

/* Times and marks. False: it is no entry for this caller. */
static bool describe_more(nm__entry_more *more, nm_entry *out) {
    uint64_t expires = nm__more_expires(more); /* relaxed, all here: figures, each by itself */
    uint64_t now = nm__os_get()->clock_coarse_ms();
    if (expires != NM_TTL_NEVER) {
        if (expires <= now) return false;
        out->expires_ms = expires - now;
    }
    uint16_t bits = nm_atomic_load(&more->bits, NM_RELAXED);
    out->negative = (bits & NM__MORE_NEGATIVE) != 0;
    out->flags = more->flags;
    out->fetched = (bits & NM__MORE_FETCHED) != 0;
    uint32_t accessed = nm_atomic_load(&more->access_ms, NM_RELAXED);
    out->last_access_ms = (uint32_t)((uint32_t)now - accessed);
    out->stale = (bits & NM__MORE_STALE) != 0;
    return true;
}

/* A use leaves its marks; the first reader of a stale entry wins. */
static void mark_use(nm__entry_more *more, nm_entry *out) {
    uint32_t now = (uint32_t)nm__os_get()->clock_coarse_ms();
    if (nm_atomic_load(&more->access_ms, NM_RELAXED) != now) nm_atomic_store(&more->access_ms, now, NM_RELAXED);
    if (!out->fetched) nm_atomic_or(&more->bits, NM__MORE_FETCHED, NM_RELAXED);
    if (out->stale) out->won = (nm_atomic_or(&more->bits, NM__MORE_WON, NM_RELAXED) & NM__MORE_WON) == 0;
}

/* Of an object, or of an entry that has more. */
static bool describe_rare(const nm__entry *e, uint32_t state, nm_entry *out) {
    out->value = nm__entry_value(e);
    out->value_len = nm__entry_value_len(e);
    out->key = (unsigned char *)out->value + out->value_len + nm__entry_gap(e);
    out->key_len = nm__entry_key_len(e);
    if (state & NM__ENTRY_OBJECT) {
        const nm__object *object = out->value;
        out->value_len = (size_t)object->bytes;
        out->value = object->address;
    }
    return !(state & NM__ENTRY_MORE) || describe_more(nm__entry_more_in(e, state), out);
}

/* From what was seen of it; it is no object and has no more. */
static inline void describe_usual(const nm__entry *e, const nm__seen *seen, nm_entry *out) {
    unsigned char *value = (unsigned char *)(uintptr_t)(e + 1) + (nm__wide_bytes(seen->state) & (uintptr_t)(e + 1));
    uint32_t gap = 0;
    if (NM_UNLIKELY(seen->bytes >= NM__GAP_UNITS * NM__UNIT_BYTES)) memcpy(&gap, seen->key - sizeof gap, sizeof gap);
    out->value = value;
    out->value_len = (size_t)(seen->key - value) - gap;
    out->key = seen->key;
    out->key_len = seen->state >> NM__KEY_LEN_SHIFT;
    out->cas = nm_atomic_load(&e->version, NM_RELAXED);
    out->expires_ms = out->last_access_ms = NM_TTL_NEVER;
    out->flags = 0;
    out->fetched = out->stale = out->won = out->negative = false;
}

/* Any. */
static bool describe(const nm__entry *e, const nm__seen *seen, nm_entry *out) {
    describe_usual(e, seen, out);
    return !(seen->state & (NM__ENTRY_OBJECT | NM__ENTRY_MORE)) || describe_rare(e, seen->state, out);
}

static nm__seen see(const nm__entry *e) {
    return (nm__seen){.state = nm__node_state(&e->node), .bytes = nm__entry_bytes(e), .key = nm__entry_key(e)};
}

void nm__entry_describe(const nm__shard *shard, uint32_t offset, nm_entry *out) {
    const nm__entry *e = nm__entry_at(shard, offset);
    nm__seen seen = see(e);
    (void)describe(e, &seen, out);
}

static void set_empty(nm_entry *out, bool negative) {
    memset(out, 0, sizeof *out);
    out->negative = negative;
}

/* ---- with the lock ---- */

bool nm__pin_locked(nm__shard *shard, nm__reader *reader, nm__slot *slot, nm__place_of place, const char *site,
                    nm_entry *out) {
    const nm__entry *e = nm__entry_at(shard, place.offset);
    if (!nm__index_pin_locked(&shard->index, place)) return false;
    nm__seen seen = see(e);
    (void)describe(e, &seen, out);
    nm__slot_issue(shard, slot, place, NM__SLOT_PIN, site, out);
    nm__counts_pin(shard->cache, reader, 1, (int64_t)nm__entry_weight(e));
    return true;
}

static void count_look(nm_cache *cache, nm__reader *reader, bool hit) {
    uint64_t *own = reader != NULL ? (hit ? &reader->counts.hits : &reader->counts.misses) : NULL;
    /* relaxed: figures */
    if (own != NULL)
        nm_atomic_store(own, nm_atomic_load(own, NM_RELAXED) + 1, NM_RELAXED);
    else
        nm_atomic_add(hit ? &cache->counts.hits : &cache->counts.misses, 1, NM_RELAXED);
}

bool nm__get_locked(nm_cache *cache, uint64_t hash, const void *key, size_t key_len, nm_entry *out, const char *site) {
    nm__reader *reader = nm__reader_ready(cache);
    nm__shard *shard = nm__shard_of(cache, hash);
    nm__doomed doomed = {0};
    nm__place_of place;
    bool negative = false;
    size_t weight = 0;
    nm__shard_lock(shard);
    if (reader != NULL) nm__reader_drain(reader, shard);
    /* The slot before the look-up: making room for one may evict. */
    nm__slot *slot = nm__slot_make(shard, reader, &doomed);
    bool hit = nm__shard_find(shard, hash, key, key_len, &doomed, &place);
    hit = hit && slot != NULL && !nm_atomic_load(&cache->closing, NM_RELAXED); /* relaxed: set by this thread */
    if (hit) {
        nm__entry_more *more = nm__entry_more_of(nm__entry_at(shard, place.offset));
        weight = nm__entry_weight(nm__entry_at(shard, place.offset));
        if (more != NULL && (nm_atomic_load(&more->bits, NM_RELAXED) & NM__MORE_NEGATIVE)) {
            negative = true;
            hit = false;
        } else {
            hit = nm__pin_locked(shard, reader, slot, place, site, out);
            if (hit && more != NULL) mark_use(more, out);
        }
        if (!(nm__node_state(&nm__entry_at(shard, place.offset)->node) & NM__ENTRY_FIXED))
            nm__policy_hit(&shard->policy, place.offset, hash);
    }
    nm__shard_unlock(shard, &doomed);
    count_look(cache, reader, hit || negative);
    if (nm__is_sampled(cache, hash)) {
        if (hit || negative)
            nm__sampler_hit(cache, hash, weight);
        else
            nm__sampler_miss(cache, hash);
    }
    if (!hit && slot != NULL) nm__slot_give(cache, reader, slot);
    if (!hit) set_empty(out, negative);
    /* Last, when what was found is pinned: making one may evict. */
    if (reader == NULL) (void)nm__reader_get(cache);
    return hit;
}

/* ---- without ---- */

/* Who moves it to the front will write to its neighbours. */
static inline __attribute__((__always_inline__)) void fetch_neighbours(const nm__shard *shard, uint32_t offset) {
    const nm__node *node = &nm__entry_at(shard, offset)->node;
    __builtin_prefetch(&nm__entry_at(shard, nm_atomic_load(&node->next, NM_RELAXED))->node);
    __builtin_prefetch(&nm__entry_at(shard, nm_atomic_load(&node->prev, NM_RELAXED))->node);
}

/* They are full. */
static __attribute__((__noinline__)) void tell_and_note(nm__reader *reader, nm__shard *shard, nm__notes *notes) {
    nm__note last = notes->notes[NM__READER_NOTES];
    nm__reader_tell(reader, shard);
    if (notes->count != NM__READER_NOTES) notes->notes[notes->count++] = last;
}

/* Noted in any case, and counted if it is to be told: which hits are cannot be foreseen, so that is no branch. */
static inline void note_hit(nm__reader *reader, nm__shard *shard, nm__notes *notes, nm__place_of place, uint64_t hash,
                            bool settled) {
    uint32_t count = notes->count;
    notes->notes[count] = (nm__note){hash, place};
    count += !settled;
    fetch_neighbours(shard, place.offset);
    if (NM_UNLIKELY(count > NM__READER_NOTES))
        tell_and_note(reader, shard, notes);
    else
        notes->count = count;
}

/* A hit is the caller's: it has the pin, and *out says what the entry is. */
static inline __attribute__((__always_inline__)) bool hand_out(nm_cache *cache, nm__shard *shard, nm__reader *reader,
                                                               nm__place_of place, uint64_t hash, uint32_t state,
                                                               size_t weight, nm_entry *out, const char *site) {
    nm__slot_issue(shard, reader->slots[--reader->slot_count], place, NM__SLOT_PIN, site, out);
    nm__count_pin(&reader->counts, 1, (int64_t)weight);
    nm_atomic_store(&reader->counts.hits, reader->counts.hits + 1, NM_RELAXED); /* relaxed: a figure */
    /* relaxed: a hint, see nm__policy_settled; the state's bits may change meanwhile */
    bool settled = nm__hit_is_settled(nm_atomic_load(&shard->settled, NM_RELAXED), state);
    note_hit(reader, shard, &reader->of_shard[nm__shard_of_hash(cache, hash)], place, hash, settled);
    if (nm__is_sampled(cache, hash)) nm__sampler_hit(cache, hash, weight);
    return true;
}

static bool miss(nm_cache *cache, nm__reader *reader, uint64_t hash, nm_entry *out) {
    nm_atomic_store(&reader->counts.misses, reader->counts.misses + 1, NM_RELAXED); /* relaxed: a figure */
    if (nm__is_sampled(cache, hash)) nm__sampler_miss(cache, hash);
    set_empty(out, false);
    return false;
}

/* Pinned, and any entry: one that is dead, has a time to live or marks, is an object. */
static __attribute__((__noinline__)) bool get_any(nm_cache *cache, nm__reader *reader, const void *key, size_t key_len,
                                                  uint64_t hash, nm__place_of place, nm_entry *out, const char *site) {
    nm__shard *shard = nm__shard_of(cache, hash);
    const nm__entry *e = nm__entry_at(shard, place.offset);
    nm__seen seen = see(e);
    bool more = (seen.state & NM__ENTRY_MORE) != 0;
    if (nm__entry_dead(shard, e) || !describe(e, &seen, out) || (more && out->negative)) {
        /* It has to leave, or is none. */
        nm__entry_unpin(shard, place);
        return nm__get_locked(cache, hash, key, key_len, out, site);
    }
    if (more) mark_use(nm__entry_more_of(e), out);
    return hand_out(cache, shard, reader, place, hash, seen.state, nm__entry_weight(e), out, site);
}

/* The first look at the index was not enough. */
static __attribute__((__noinline__)) bool get_on(nm_cache *cache, nm__reader *reader, const void *key, size_t key_len,
                                                 uint64_t hash, nm__find find, nm__place_of place, nm_entry *out,
                                                 const char *site) {
    nm__shard *shard = nm__shard_of(cache, hash);
    if (find == NM__FIND_OPEN) find = nm__index_pin_second(&shard->index, hash, key, key_len, &place);
    if (find == NM__FIND_MISS) return miss(cache, reader, hash, out);
    if (find == NM__FIND_HIT) return get_any(cache, reader, key, key_len, hash, place, out, site);
    if (place.offset != 0) nm__entry_unpin(shard, place); /* another's, that it could not let go */
    return nm__get_locked(cache, hash, key, key_len, out, site);
}

/* Straight on for an entry of the usual kind that is found at first; nothing that this needs has its address taken. */
static inline __attribute__((__always_inline__)) bool get(nm_cache *cache, const void *key, size_t key_len,
                                                          nm_entry *out, const char *site) {
    uint64_t hash = nm__cache_hash_inline(cache, key, key_len);
    nm__shard *shard = nm__shard_of(cache, hash);
    nm__reader *reader = nm__reader_quick(cache->id);
    nm__place_of place = {0};
    nm__seen seen = {0};
    if (NM_UNLIKELY(reader == NULL || reader->slot_count == 0 || nm_atomic_load(&cache->locked_reads, NM_RELAXED)))
        return nm__get_locked(cache, hash, key, key_len, out, site);
    nm__find find = nm__index_pin_first(&shard->index, hash, key, key_len, &place, &seen);
    if (find == NM__FIND_MISS) return miss(cache, reader, hash, out);
    if (NM_UNLIKELY(find != NM__FIND_HIT)) return get_on(cache, reader, key, key_len, hash, find, place, out, site);
    if (NM_UNLIKELY((seen.state & (NM__ENTRY_OBJECT | NM__ENTRY_MORE)) || nm__any_dead(shard)))
        return get_any(cache, reader, key, key_len, hash, place, out, site);
    describe_usual(nm__entry_at(shard, place.offset), &seen, out);
    return hand_out(cache, shard, reader, place, hash, seen.state, seen.bytes, out, site);
}

bool(nm_cache_get)(nm_cache *cache, const void *key, size_t key_len, nm_entry *out) {
    return nm_cache_get_at(cache, key, key_len, out, "?");
}

/* In one piece: gcc would part the checks from the rest, for the sake of the functions below. */
__attribute__((__noinline__)) bool nm_cache_get_at(nm_cache *cache, const void *key, size_t key_len, nm_entry *out,
                                                   const char *site) {
    if (out == NULL) return false;
    if (NM_LIKELY(cache != NULL && nm__key_valid(key, key_len))) return get(cache, key, key_len, out, site);
    set_empty(out, false);
    return false;
}

bool(nm_cache_get_in)(nm_cache *cache, nm_scope *holder, const void *key, size_t key_len, nm_entry *out) {
    return nm_cache_get_in_at(cache, holder, key, key_len, out, "?");
}

bool nm_cache_get_in_at(nm_cache *cache, nm_scope *holder, const void *key, size_t key_len, nm_entry *out,
                        const char *site) {
    if (out == NULL) return false;
    set_empty(out, false);
    if (cache == NULL || holder == NULL || !nm__key_valid(key, key_len) || !nm__same_root(holder, cache->scope))
        return false;
    if (!nm_cache_get_at(cache, key, key_len, out, site)) return false;
    size_t bytes = nm__entry_weight(out->slot->data);
    /* What it weighs is known once it is found, so the note comes second. */
    if (nm__hold_prepare(holder, bytes) != NM_OK) {
        nm_entry_release_at(out, site);
        return false;
    }
    nm__hold(holder, out->slot, out->generation, bytes);
    return true;
}

bool nm_cache_contains(const nm_cache *cache, const void *key, size_t key_len) {
    if (cache == NULL || !nm__key_valid(key, key_len)) return false;
    uint64_t hash = nm__cache_hash(cache, key, key_len);
    nm__shard *shard = nm__shard_of(cache, hash);
    nm__place_of place;
    nm__shard_lock(shard);
    bool present = nm__index_find(&shard->index, hash, key, key_len, &place);
    if (present) {
        const nm__entry *e = nm__entry_at(shard, place.offset);
        const nm__entry_more *more = nm__entry_more_of(e);
        present = !nm__entry_dead(shard, e) && !nm__entry_expired(e, nm__now_if_needed(e)) &&
                  !(more != NULL && (nm_atomic_load(&more->bits, NM_RELAXED) & NM__MORE_NEGATIVE));
    }
    nm__lock_give(&shard->lock);
    return present;
}
