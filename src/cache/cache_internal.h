// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the files of the cache share: the cache, its shards, and the steps that its operations are made of.
 *
 * Locks: a shard's lock is held alone, never two. Under it the scope is asked for bytes only quietly; callbacks, reclaim of
 * others and nm__settle come when it is gone. Bytes are taken from the account only under some shard's lock: so whoever
 * lowers the limit and then passes through all locks once knows that no take is under way under the old one. */
#ifndef NM_SRC_CACHE_CACHE_INTERNAL_H
#define NM_SRC_CACHE_CACHE_INTERNAL_H

#include <pthread.h>
#include <string.h>

#include "base/hash.h"
#include "base/process.h"
#include "cache/heap.h"
#include "cache/index.h"
#include "cache/policy.h"
#include "nebula/cache.h"
#include "os/os.h"
#include "scope/holder.h"

typedef struct nm__shard nm__shard;

struct nm__shard {
    pthread_mutex_t lock; /* of all below, but for the atomics */
    nm_cache *cache;
    nm__segments segments;
    nm__index index;
    NM_ATOMIC(size_t) used_bytes; /* written under the lock, read without */
    NM_ATOMIC(size_t) entry_count;
    nm__slot *free_slot;  /* of pins; the next in slot->nm__link */
    nm__slot *slot_pages; /* the first slot of each page; the next page's in its claim */
    size_t slot_page_count;
    size_t pin_count; /* pins and reservations out */
    size_t pinned_bytes;
    size_t object_bytes;  /* charged outside, for entries of this shard */
    uint32_t fixed_count; /* chunks that cannot be moved: pinned, reserved, doomed, windows */
    uint32_t fixed_units;
    uint32_t shy;         /* attempts to grow that are left out, after the scope refused one */
    uint32_t shy_next;    /* how many the next refusal costs */
    bool grown_out;       /* a growth was refused since the budget was set: the share that it may have is what it has */
    bool unsettled;       /* bytes were granted since the lock was taken */
    NM_ATOMIC(bool) idle; /* much of the heap is free; counted in the cache\'s idle_shards. Written under the lock */
    size_t given_bytes;   /* ever given back to the account */
    uint64_t version;     /* last cas given */
    uint64_t hits, misses, puts, evictions, rejections, expirations;
    void *index_range;
    size_t index_reserved;
    size_t heap_reserved;
    nm__pages pages;
    nm__heap heap;
} __attribute__((__aligned__(64)));

struct nm_cache {
    nm__holder holder;
    nm_scope *scope;
    void *range; /* the cache itself */
    size_t range_bytes;
    uint64_t hash_key[2];
    nm_evict_fn *on_evict;
    void *context;
    uint64_t ttl_ms;
    size_t opening_budget;
    size_t least_bytes; /* nm_cache_min_bytes: the least budget, and what is never given back */
    size_t step_bytes;  /* by which heaps grow */
    size_t floor_bytes; /* 0: an eighth of the budget */
    unsigned shard_count;
    unsigned shard_shift; /* of the hash, to its high bits */
    unsigned protected_percent;
    nm_cache_policy policy;
    nm__grant_mode grant_mode;
    bool elastic;
    char name[NM_NAME_BYTES];
    pthread_mutex_t resize_lock;
    nm__member member;
    NM_ATOMIC(uint64_t) resize_count;                                /* written under the lock */
    NM_ATOMIC(bool) closing;                                         /* callbacks of the close find it closed */
    NM_ATOMIC(size_t) budget_bytes __attribute__((__aligned__(64))); /* what is promised: granted is never above it */
    NM_ATOMIC(size_t) limit_bytes; /* what takes obey: below the budget while a resize shrinks */
    NM_ATOMIC(size_t) granted_bytes __attribute__((__aligned__(64)));
    NM_ATOMIC(uint32_t) turn;
    NM_ATOMIC(uint32_t) idle_shards;
    nm__shard shards[] __attribute__((__aligned__(64)));
};

/* ---- account.c ---- */
bool nm__account_take(nm_cache *cache, size_t bytes);
void nm__account_give(nm_cache *cache, size_t bytes);
size_t nm__account_left(const nm_cache *cache);
nm_status nm__shard_commit(void *context, void *address, size_t bytes); /* NM_ECAPACITY: the account; else the scope */
bool nm__shard_decommit(void *context, void *address, size_t bytes);
/* Decommits and releases a range of its own, whatever happens. */
void nm__range_drop(nm_scope *scope, void *address, size_t committed, size_t reserved);
/* Bytes of an object, from account and scope. Under the shard's lock. */
nm_status nm__object_charge(nm__shard *shard, size_t bytes);
void nm__object_uncharge(nm__shard *shard, size_t bytes);

/* ---- shard.c: entries come and go ---- */

/* Entries that left while a callback is set, and a window that was emptied for someone: both still allocated, and touched by
 * nobody else. */
typedef struct nm__doomed {
    uint32_t head;               /* linked by node.next */
    uint32_t claim_lo, claim_hi; /* 0, 0: none */
    uint32_t seed;               /* the free chunk that came of the last entry freed; 0: none */
    bool dropped;                /* the lock was given up in between */
} nm__doomed;

nm__shard *nm__shard_of(const nm_cache *cache, uint64_t hash);
uint64_t nm__cache_hash(const nm_cache *cache, const void *key, size_t key_len);
void nm__shard_lock(nm__shard *shard);
/* Runs what is doomed, drops the lock, settles with the scope. */
void nm__shard_unlock(nm__shard *shard, nm__doomed *doomed);
/* Runs the callbacks with the lock dropped, takes it again and frees; a claim becomes one held chunk at claim_lo. */
void nm__doomed_finish(nm__shard *shard, nm__doomed *doomed);
/* Gives a claim, joined, back to the heap. */
void nm__claim_give(nm__shard *shard, nm__doomed *doomed);

static inline bool nm__chunk_movable(const nm__shard *shard, uint32_t offset) {
    const nm__entry *e = nm__heap_at(&shard->heap, offset);
    if (e->size & NM__CHUNK_FREE) return true;
    return !(e->before & NM__CHUNK_HELD) && (e->node.state & ~NM__NODE_PROTECTED) == 0;
}
/* It cannot be moved from now on, or it can again. */
void nm__chunk_fix(nm__shard *shard, uint32_t offset);
void nm__chunk_unfix(nm__shard *shard, uint32_t offset);

void nm__entry_enter(nm__shard *shard, uint32_t offset, bool inherit, nm__segment segment);
/* It leaves the cache: freed at once, or with its last pin, or after its callback. */
void nm__entry_leave(nm__shard *shard, uint32_t offset, nm_evict_reason reason, nm__doomed *doomed);
/* It left and has no pins any more. */
void nm__entry_retire(nm__shard *shard, uint32_t offset, nm__doomed *doomed);
bool nm__entry_expired(const nm__entry *e, uint64_t now_ms);
uint64_t nm__now_if_needed(const nm__entry *e);
/* Out of index and lists; what becomes of the chunk is the caller's. True: pins hold it. */
bool nm__entry_detach(nm__shard *shard, uint32_t offset, nm_evict_reason reason);
/* The next victim leaves. The units of its chunk; 0: there is none. */
uint32_t nm__evict_one(nm__shard *shard, nm_evict_reason reason, nm__doomed *doomed);
/* `reason`, unless its time to live ended. */
nm_evict_reason nm__reason_of(const nm__entry *e, nm_evict_reason reason);
/* Sets the protected segment's room by what the shard has and may have. */
void nm__shard_share(nm__shard *shard);
/* Adds what the index wants, from the heap's top if there is no other room. */
void nm__shard_index_grow(nm__shard *shard, nm__doomed *doomed);

/* ---- window.c: physical room ---- */

/* Up to 1 KiB an entry is small: evicting one more costs less than moving others. */
#define NM__SMALL_UNITS 64

/* Makes a free chunk of `units` near a free chunk without evicting: entries that are small beside it move to holes elsewhere,
 * the others close ranks. False: there is not enough free nearby; what was won is free and in one piece. Bounded work. */
bool nm__window_compact(nm__shard *shard, uint32_t seed, uint32_t units);
/* The same with the whole heap to choose from. O(chunks), and moves what lies in the window. */
bool nm__window_compact_any(nm__shard *shard, uint32_t units);
/* The lowest window of at least `units` movable units. O(chunks). */
bool nm__window_scan(const nm__shard *shard, uint32_t units, uint32_t *lo, uint32_t *hi);
/* Where the movable run at the top begins; heap.end if the last chunk is fixed. O(chunks in it); bounded by `most` units. */
uint32_t nm__window_top(const nm__shard *shard, uint32_t most);
/* Empties [lo, hi), all movable: entries are moved where there is room and leave where there is none. The window becomes the
 * claim of *doomed, one held chunk once nm__doomed_finish has run. */
void nm__window_claim(nm__shard *shard, uint32_t lo, uint32_t hi, nm_evict_reason reason, nm__doomed *doomed);

/* ---- place.c ---- */

/* A chunk of `units` for a new entry, by fit, growth, eviction, in this order; and `object_bytes` charged. May drop the
 * lock. NM_ECAPACITY, NM_EBUDGET, NM_ENOMEM; nothing was evicted then, but for changes that others made meanwhile. */
nm_status nm__place(nm__shard *shard, uint32_t units, size_t object_bytes, nm__doomed *doomed, uint32_t *offset);

/* ---- reclaim.c: giving back ---- */

/* Gives about `bytes` of a shard back to account and scope. Bounded work; the bytes given. *more: calling again may give
 * more. Lock held, and dropped for callbacks. */
size_t nm__shard_squeeze(nm__shard *shard, size_t bytes, nm_evict_reason reason, nm__doomed *doomed, bool *more);

typedef enum nm__gather_mode {
    NM__GATHER_ALL,  /* from every shard */
    NM__GATHER_RICH, /* from those that have more than an even share */
    NM__GATHER_IDLE, /* from those that have much free room in their heap */
    NM__GATHER_TRY,  /* whose lock is free: for reclaim */
} nm__gather_mode;

/* Gives `bytes` back, shard by shard in turn, but for `except`. No lock held. The bytes given. */
size_t nm__cache_gather(nm_cache *cache, const nm__shard *except, size_t bytes, nm_evict_reason reason,
                        nm__gather_mode mode);
/* What nm__cache_gather could get at most. No lock held. */
size_t nm__cache_spare(nm_cache *cache, const nm__shard *except);
size_t nm__cache_reclaim(nm__holder *holder, size_t wanted_bytes);

/* ---- pins.c ---- */
extern const nm__slot_class nm__pin_class, nm__reservation_class;
nm_status nm__slot_page_take(nm__shard *shard, bool quiet);
size_t nm__slot_pages_trim(nm__shard *shard); /* all but one, if no pin is out; the bytes */
/* Makes sure that a slot is free; may drop the lock. */
bool nm__slot_ready(nm__shard *shard, nm__doomed *doomed);
/* Takes a free slot for a chunk that is counted as pinned from now on; fills in slot and generation of *out. */
void nm__slot_lease(nm__shard *shard, uint32_t offset, nm__slot_kind kind, const char *site, nm_entry *out);
/* The slot, which is no longer out, gives up its pin. */
void nm__slot_return(nm__shard *shard, nm__slot *slot, nm__doomed *doomed);
/* Takes the slot out of that generation; false: it was not out. */
bool nm__slot_end(nm__slot *slot, uint64_t generation, const char *site);
/* A reservation's slot that was ended becomes free; its chunk is an entry from now on. */
void nm__slot_publish(nm__shard *shard, nm__slot *slot);
/* The scope closes: all that is still out is a leak, and its holders find it released at `site`. */
void nm__slots_end_all(nm__shard *shard, nm__leaks *leaks, const char *site);
void nm__slot_pages_give(nm__shard *shard);
void nm__entry_describe(const nm__shard *shard, uint32_t offset, nm_entry *out);
static inline uint32_t nm__offset_of(const nm__shard *shard, const void *entry) {
    return (uint32_t)(((size_t)((const unsigned char *)entry - shard->heap.base) + 8) / NM__UNIT_BYTES);
}

/* ---- put.c ---- */
typedef struct nm__put {
    const void *key;
    size_t key_len;
    uint64_t hash;
    uint64_t ttl_ms; /* NM_TTL_NEVER: none */
    uint32_t flags;
    nm_put_mode mode;
    uint64_t cas;
    uint64_t *cas_out;
} nm__put;

nm_status nm__put_read(const nm_cache *cache, const nm_put_options *options, nm__put *put);
static inline bool nm__put_wants_more(const nm__put *put) { return put->ttl_ms != NM_TTL_NEVER || put->flags != 0; }
/* May it be put? *old: the present entry, 0 if absent; one that expired leaves. */
nm_status nm__put_check(nm__shard *shard, const nm__put *put, nm__doomed *doomed, uint32_t *old);
/* Writes the header and the key. */
void nm__put_write(nm__shard *shard, const nm__put *put, uint32_t offset, size_t value_len, bool more, bool object);
/* Links a chunk that is complete, in place of `old`. */
void nm__put_publish(nm__shard *shard, const nm__put *put, uint32_t offset, uint32_t old, nm__doomed *doomed);
/* NM_ETOOLARGE if the budget can never hold it. */
nm_status nm__put_size(const nm_cache *cache, size_t key_len, size_t value_len, bool more, size_t object_bytes,
                       uint32_t *units);

/* ---- cache.c ---- */
void nm__cache_empty(nm__shard *shard, nm_evict_reason reason);
size_t nm__cache_floor(const nm_cache *cache);

#endif
