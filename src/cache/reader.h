// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What a thread has in front of a cache: free slots for its pins, the hits that it has not told the shards yet, its counts.
 *
 * A reader belongs to one thread until that ends; only its counts are read by others. It is made once a thread has used the
 * cache a few times, and only where all readers together are a small part of the budget. Who has none takes the locks. */
#ifndef NM_SRC_CACHE_READER_H
#define NM_SRC_CACHE_READER_H

#include "cache/index.h"
#include "nebula/cache.h"
#include "scope/slot.h"

/* Written by the owner alone (but for those of the cache itself), read by all. Pins are net: who releases another thread's pin counts it down. */
typedef struct nm__shard nm__shard;

typedef struct nm__counts {
    NM_ATOMIC(uint64_t) hits, misses;
    NM_ATOMIC(int64_t) pins; /* and reservations */
    NM_ATOMIC(int64_t) pinned_bytes;
} nm__counts;

/* A hit: where the word was, and the hash, by which it is known again. */
typedef struct nm__note {
    uint64_t hash;
    nm__place_of place;
} nm__note;

#define NM__READER_NOTES 11u
#define NM__READER_SLOTS 32u

typedef struct nm__notes {
    uint32_t count;
    uint32_t unused;
    nm__note notes[NM__READER_NOTES + 1]; /* behind those that count is room for the next */
} nm__notes;

typedef struct nm__reader {
    nm__counts counts;
    NM_ATOMIC(const void *) thread; /* NULL: nobody's */
    struct nm__reader *next;
    size_t bytes;
    unsigned slot_count;
    nm__slot *slots[NM__READER_SLOTS];
    nm__notes of_shard[]; /* one for each */
} nm__reader;

typedef struct nm__reader_at_hand {
    uint64_t cache_id;
    nm__reader *reader;
} nm__reader_at_hand;

#define NM__READERS_AT_HAND 4
extern __thread nm__reader_at_hand nm__readers[NM__READERS_AT_HAND] __attribute__((__tls_model__("initial-exec")));

/* NULL: this thread has none yet, or not at hand. */
static inline nm__reader *nm__reader_quick(uint64_t cache_id) {
    const nm__reader_at_hand *at = &nm__readers[cache_id % NM__READERS_AT_HAND];
    return NM_LIKELY(at->cache_id == cache_id) ? at->reader : NULL;
}
/* Finds it, or makes one if it is worth it, for which a full cache evicts. No lock held. */
nm__reader *nm__reader_get(nm_cache *cache);
/* Finds it, and sees that it has slots; makes none. No lock held. */
nm__reader *nm__reader_ready(nm_cache *cache);
/* Finds it; makes none. Any lock may be held. */
nm__reader *nm__reader_find(const nm_cache *cache);
/* The thread ends: what it noted is told, and the reader is free for another. */
void nm__reader_leave(nm_cache *cache);
/* The hits that it noted of this shard are applied. Lock held. */
void nm__reader_drain(nm__reader *reader, nm__shard *shard);
/* The same with the lock taken, if it is free. */
void nm__reader_tell(nm__reader *reader, nm__shard *shard);
/* This thread's reader, if it has one, drained. Lock held. */
nm__reader *nm__shard_drain(nm__shard *shard);
/* After a fork, in the child: those of other threads are free. */
void nm__readers_after_fork(nm_cache *cache);
void nm__readers_free(nm_cache *cache);
size_t nm__reader_bytes(unsigned shard_count);

/* relaxed: figures; one thread writes them, or, those of the cache, the adding is atomic */
static inline void nm__count_pin(nm__counts *counts, int64_t pins, int64_t bytes) {
    nm_atomic_store(&counts->pins, nm_atomic_load(&counts->pins, NM_RELAXED) + pins, NM_RELAXED);
    nm_atomic_store(&counts->pinned_bytes, nm_atomic_load(&counts->pinned_bytes, NM_RELAXED) + bytes, NM_RELAXED);
}
/* The counts of all threads. */
void nm__counts_sum(const nm_cache *cache, nm__counts *sum);
/* By whoever: with or without a reader. */
void nm__counts_pin(nm_cache *cache, nm__reader *reader, int64_t pins, int64_t bytes);

#endif
