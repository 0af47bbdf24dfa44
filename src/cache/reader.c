// SPDX-License-Identifier: Apache-2.0 OR MIT
/* How a thread comes to a reader, and what becomes of it. */
#include "cache/cache_internal.h"

__thread nm__reader_at_hand nm__readers[NM__READERS_AT_HAND] __attribute__((__tls_model__("initial-exec")));

/* Uses that came without a reader, of the caches that the thread used so. A thread that looks something up once and ends should
 * not cost a page. */
#define VISITS_BEFORE_READER 8
static __thread struct {
    uint64_t cache_id;
    unsigned count, next;
} visits[NM__READERS_AT_HAND] __attribute__((__tls_model__("initial-exec")));

/* All readers together take no more than this share of the budget. */
#define READERS_SHARE 32

/* Address of a variable of the thread: no two that live have the same. */
static const void *this_thread(void) { return &nm__readers; }

size_t nm__reader_bytes(unsigned shard_count) {
    return nm__round_up(sizeof(nm__reader) + shard_count * sizeof(nm__notes), NM__PAGE_BYTES);
}

static void at_hand(uint64_t id, nm__reader *reader) {
    nm__readers[id % NM__READERS_AT_HAND] = (nm__reader_at_hand){id, reader};
}

nm__reader *nm__reader_find(const nm_cache *cache) {
    nm__reader *reader = nm__reader_quick(cache->id);
    if (reader != NULL) return reader;
    /* acquire: pairs with the release in make(); a thread sees at least the reader that it made itself */
    for (reader = nm_atomic_load(&cache->desk.readers, NM_ACQUIRE); reader != NULL; reader = reader->next)
        if (nm_atomic_load(&reader->thread, NM_RELAXED) == this_thread()) {
            at_hand(cache->id, reader);
            return reader;
        }
    return NULL;
}

/* ---- making one ---- */

static nm__reader *resting(const nm_cache *cache) {
    nm__reader *reader = cache->desk.readers;
    while (reader != NULL && nm_atomic_load(&reader->thread, NM_ACQUIRE) != NULL) reader = reader->next;
    return reader;
}

static bool is_affordable(const nm_cache *cache, size_t bytes) {
    size_t budget = nm_atomic_load(&cache->limit_bytes, NM_RELAXED);     /* relaxed: a goal, not a bound */
    size_t have = nm_atomic_load(&cache->desk.reader_bytes, NM_RELAXED); /* relaxed: asked again with the lock */
    /* An elastic cache takes no more than leaves others in peace; another gives up what it takes. */
    if (cache->elastic && nm__room(cache->scope) < 8 * bytes) return false;
    return (have + bytes) * READERS_SHARE <= budget;
}

static nm__reader *add(nm_cache *cache, size_t bytes) {
    void *memory;
    if (!is_affordable(cache, bytes) || nm__range_reserve(bytes, NM__PAGE_BYTES, &memory) != NM_OK) return NULL;
    bool taken = nm__account_take(cache, bytes);
    /* Quiet at least: the desk's lock is held. */
    nm__grant_mode mode = cache->elastic ? NM__GRANT_ELASTIC : NM__GRANT_QUIET;
    if (!taken || nm__range_commit(cache->scope, memory, bytes, mode, &cache->holder) != NM_OK) {
        if (taken) nm__account_give(cache, bytes);
        nm__range_release(memory, bytes);
        return NULL;
    }
    nm__reader *reader = memory;
    reader->bytes = bytes;
    reader->next = cache->desk.readers;
    nm_atomic_store(&cache->desk.reader_bytes, cache->desk.reader_bytes + bytes,
                    NM_RELAXED); /* written under the lock */
    /* relaxed: it belongs to this thread before anybody sees it */
    nm_atomic_store(&reader->thread, this_thread(), NM_RELAXED);
    nm_atomic_store(&cache->desk.readers, reader, NM_RELEASE); /* pairs with the acquires of those who look at all */
    return reader;
}

static nm__reader *make(nm_cache *cache) {
    size_t bytes = nm__reader_bytes(cache->shard_count);
    /* A thread whose end nobody told would leave its reader behind for ever. */
    if (!is_affordable(cache, bytes) || !nm__process_watch_thread()) return NULL;
    /* A full cache gives up what it takes. Before the lock: evicting takes others. */
    if (nm__min(nm__account_left(cache), nm__room(cache->scope)) < bytes) {
        if (nm__cache_spare(cache, NULL) < bytes) return NULL;
        nm__cache_gather(cache, NULL, bytes, NM_EVICT_SPACE, NM__GATHER_TRY);
    }
    nm__lock_take(&cache->desk.lock);
    nm__reader *reader = resting(cache);
    bool fresh = reader == NULL;
    if (!fresh)
        nm_atomic_store(&reader->thread, this_thread(), NM_RELAXED);
    else
        reader = add(cache, bytes);
    nm__lock_give(&cache->desk.lock);
    if (reader != NULL) at_hand(cache->id, reader);
    if (fresh && reader != NULL) nm__settle(cache->scope, &cache->holder);
    return reader;
}

/* Filled half: as many pins can be taken or given back without the desk. */
static void refill(nm_cache *cache, nm__reader *reader) {
    bool grown = false;
    reader->slot_count = nm__desk_take(cache, reader->slots, NM__READER_SLOTS / 2, &grown);
    if (grown) nm__settle(cache->scope, &cache->holder);
}

nm__reader *nm__reader_ready(nm_cache *cache) {
    nm__reader *reader = nm__reader_find(cache);
    if (reader != NULL && reader->slot_count == 0) refill(cache, reader);
    return reader;
}

nm__reader *nm__reader_get(nm_cache *cache) {
    nm__reader *reader = nm__reader_find(cache);
    if (reader == NULL) {
        size_t at = (size_t)(cache->id % NM__READERS_AT_HAND);
        if (visits[at].cache_id != cache->id) {
            visits[at].cache_id = cache->id;
            visits[at].count = 0;
            visits[at].next = VISITS_BEFORE_READER;
        }
        if (++visits[at].count < visits[at].next) return NULL;
        /* Where it cannot be had it is asked for more and more seldom. */
        if (visits[at].next < UINT32_MAX / 2) visits[at].next *= 2;
        reader = make(cache);
    }
    if (reader != NULL && reader->slot_count == 0) refill(cache, reader);
    return reader;
}

/* ---- what it has noted ---- */

static __attribute__((__noinline__)) void drain(nm__notes *notes, nm__shard *shard) {
    uint32_t count = notes->count;
    notes->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const nm__note *note = &notes->notes[i];
        if (!nm__index_names(&shard->index, note->place, note->hash)) continue; /* it left, or moved, since */
        const nm__entry *e = nm__entry_at(shard, note->place.offset);
        if (!(nm__node_state(&e->node) & NM__ENTRY_FIXED) && !nm__entry_dead(shard, e))
            nm__policy_hit(&shard->policy, note->place.offset, note->hash);
    }
}

void nm__reader_drain(nm__reader *reader, nm__shard *shard) {
    nm__notes *notes = &reader->of_shard[nm__shard_number(shard)];
    if (notes->count != 0) drain(notes, shard);
}

void nm__reader_tell(nm__reader *reader, nm__shard *shard) {
    /* Others are at work there: some later hit will tell it. */
    if (!nm__lock_try(&shard->lock)) return;
    nm__doomed doomed = {0};
    nm__reader_drain(reader, shard);
    nm__shard_unlock(shard, &doomed);
}

nm__reader *nm__shard_drain(nm__shard *shard) {
    nm__reader *reader = nm__reader_quick(shard->cache->id);
    if (NM_UNLIKELY(reader == NULL)) reader = nm__reader_find(shard->cache);
    if (reader != NULL) nm__reader_drain(reader, shard);
    return reader;
}

/* ---- counts ---- */

void nm__counts_pin(nm_cache *cache, nm__reader *reader, int64_t pins, int64_t bytes) {
    if (NM_LIKELY(reader != NULL)) {
        nm__count_pin(&reader->counts, pins, bytes);
        return;
    }
    nm_atomic_add(&cache->counts.pins, pins, NM_RELAXED); /* relaxed: figures */
    nm_atomic_add(&cache->counts.pinned_bytes, bytes, NM_RELAXED);
}

static void add_counts(nm__counts *sum, const nm__counts *of) {
    sum->hits += nm_atomic_load(&of->hits, NM_RELAXED);
    sum->misses += nm_atomic_load(&of->misses, NM_RELAXED);
    sum->pins += nm_atomic_load(&of->pins, NM_RELAXED);
    sum->pinned_bytes += nm_atomic_load(&of->pinned_bytes, NM_RELAXED);
}

void nm__counts_sum(const nm_cache *cache, nm__counts *sum) {
    *sum = (nm__counts){0};
    add_counts(sum, &cache->counts);
    /* acquire: as in nm__reader_find */
    for (const nm__reader *r = nm_atomic_load(&cache->desk.readers, NM_ACQUIRE); r != NULL; r = r->next)
        add_counts(sum, &r->counts);
    /* Not read at one instant: a pin may have been seen to go and not to come. */
    if (sum->pins < 0) sum->pins = 0;
    if (sum->pinned_bytes < 0) sum->pinned_bytes = 0;
}

/* ---- its end ---- */

void nm__reader_leave(nm_cache *cache) {
    nm__reader *reader = nm__reader_find(cache);
    if (reader == NULL) return;
    for (unsigned i = 0; i < cache->shard_count; i++) {
        nm__shard *shard = &cache->shards[i];
        nm__doomed doomed = {0};
        if (reader->of_shard[i].count == 0) continue;
        nm__shard_lock(shard);
        nm__reader_drain(reader, shard);
        nm__shard_unlock(shard, &doomed);
    }
    nm__desk_give(cache, reader->slots, reader->slot_count);
    reader->slot_count = 0;
    nm__readers[cache->id % NM__READERS_AT_HAND] = (nm__reader_at_hand){0, NULL};
    nm_atomic_store(&reader->thread, NULL, NM_RELEASE); /* pairs with the acquire in resting() */
}

void nm__readers_after_fork(nm_cache *cache) {
    for (nm__reader *reader = cache->desk.readers; reader != NULL; reader = reader->next) {
        const void *thread = nm_atomic_load(&reader->thread, NM_RELAXED);
        if (thread == NULL || thread == this_thread()) continue;
        /* It may have been interrupted between any two of its steps. Its slots are lost to the child: which of them are free cannot be known. */
        for (unsigned i = 0; i < cache->shard_count; i++) reader->of_shard[i].count = 0;
        reader->slot_count = 0;
        nm_atomic_store(&reader->thread, NULL, NM_RELAXED);
    }
}

void nm__readers_free(nm_cache *cache) {
    nm__reader *reader = cache->desk.readers, *next;
    for (; reader != NULL; reader = next) {
        next = reader->next;
        size_t bytes = reader->bytes;
        nm__range_drop(cache->scope, reader, bytes, bytes);
        nm__account_give(cache, bytes);
    }
    cache->desk.readers = NULL;
}
