// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The walk through all entries, in the order of the index: shard by shard, bucket by bucket. That order is the order of hashes, whatever size
 * the table has, and a word keeps its place in its bucket; so a place in it stays a place in it while the table changes. */
#include "cache/cache_internal.h"

/* The word within the bucket, and the sequence of the index, with which words keep their places: when it is another the bucket is begun again. */
#define WITHIN_BITS 8
static uint32_t within_of(const nm__shard *shard, uint32_t word) {
    return word | nm_atomic_load(&shard->index.sequence, NM_RELAXED) << WITHIN_BITS;
}

static bool is_shown(const nm__shard *shard, const nm__entry *e) {
    const nm__entry_more *more = nm__entry_more_of(e);
    if (nm__entry_dead(shard, e) || nm__entry_expired(e, nm__now_if_needed(e))) return false;
    return more == NULL || !(nm_atomic_load(&more->bits, NM_RELAXED) & NM__MORE_NEGATIVE);
}

/* NM_ENOTFOUND: no more in this bucket; the cursor is behind it. */
static nm_status next_locked(nm__shard *shard, nm__reader *reader, nm__slot *slot, nm_cursor *cursor, nm_entry *out,
                             const char *site) {
    uint32_t offsets[NM__WALK_WORDS];
    unsigned count;
    uint64_t place = cursor->place;
    bool more = nm__index_walk(&shard->index, &place, offsets, &count);
    uint32_t word = cursor->within & ((1u << WITHIN_BITS) - 1);
    if (cursor->within != within_of(shard, word)) word = 0;
    for (; word < count; word++) {
        if (offsets[word] == 0) continue;
        const nm__entry *e = nm__entry_at(shard, offsets[word]);
        if (!is_shown(shard, e)) continue;
        nm__place_of at = nm__entry_place(shard, offsets[word], nm__entry_hash(shard, e));
        if (!nm__pin_locked(shard, reader, slot, at, site, out))
            continue; /* 65535 pins hold it: a walk is no reason for more */
        cursor->within = within_of(shard, word + 1);
        return NM_OK;
    }
    cursor->within = 0;
    cursor->place = more ? place : 0;
    cursor->shard += more ? 0 : 1;
    return NM_ENOTFOUND;
}

nm_status(nm_cache_next)(nm_cache *cache, nm_cursor *cursor, nm_entry *out) {
    return nm_cache_next_at(cache, cursor, out, "?");
}

nm_status nm_cache_next_at(nm_cache *cache, nm_cursor *cursor, nm_entry *out, const char *site) {
    if (out != NULL) memset(out, 0, sizeof *out);
    if (cache == NULL || cursor == NULL || out == NULL) return NM_EINVAL;
    if (nm_atomic_load(&cache->closing, NM_RELAXED)) return NM_ENOTFOUND; /* relaxed: set by the thread that asks */
    nm__reader *reader = nm__reader_find(cache);                          /* to make one might evict */
    nm_status status = NM_ENOTFOUND;
    while (status == NM_ENOTFOUND && cursor->shard < cache->shard_count) {
        nm__shard *shard = &cache->shards[cursor->shard];
        nm__doomed doomed = {0};
        nm__shard_lock(shard);
        nm__slot *slot = nm__slot_make(shard, reader, &doomed);
        status = slot != NULL ? next_locked(shard, reader, slot, cursor, out, site) : NM_ECAPACITY;
        nm__shard_unlock(shard, &doomed);
        if (status == NM_ENOTFOUND) nm__slot_give(cache, reader, slot);
    }
    return status;
}
