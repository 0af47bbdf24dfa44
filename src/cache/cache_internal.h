// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the files of the cache share: the cache, its shards, and the steps that its operations are made of.
 *
 * Locks: a shard's lock is held alone, never two; under it, or without it, the desk's lock. Under a shard's lock the scope is asked
 * for bytes only quietly; callbacks, reclaim of others and nm__settle come when it is gone. Bytes are taken from the account only
 * under some shard's lock or the desk's: so whoever lowers the limit and then passes through all of them once knows that no
 * take is under way under the old one. Readers take none of them, see reader.h and index.h. */
#ifndef NM_SRC_CACHE_CACHE_INTERNAL_H
#define NM_SRC_CACHE_CACHE_INTERNAL_H

#include <pthread.h>
#include <string.h>

#include "base/hash.h"
#include "base/lock.h"
#include "base/process.h"
#include "base/xxh3.h"
#include "cache/eviction.h"
#include "cache/flight.h"
#include "cache/heap.h"
#include "cache/index.h"
#include "cache/reader.h"
#include "cache/sampler.h"
#include "cache/wheel.h"
#include "nebula/cache.h"
#include "os/os.h"
#include "scope/holder.h"

struct nm__shard {
    /* Looked at by readers without a lock. */
    nm__index index;
    NM_ATOMIC(uint32_t) cleared; /* entries up to this version are dead, as long as there are dead ones */
    NM_ATOMIC(uint32_t) dead_count;
    NM_ATOMIC(uint32_t) settled; /* hits that need not be told, see nm__policy_settled */
    nm_cache *cache;

    /* Under the lock, but for the atomics. What most changes write is in few lines: they go from processor to processor. */
    __attribute__((__aligned__(64))) NM_ATOMIC(size_t) used_bytes; /* written under the lock, read without */
    NM_ATOMIC(size_t) entry_count;
    uint64_t puts, evictions;
    uint64_t guess_hash; /* of the next victim, if nothing changes; only a word of the index proves it */
    uint32_t guess;      /* and which it is */
    uint32_t version;    /* last cas given */
    uint32_t steady;     /* puts that may evict without asking whether the shard may grow */
    nm__lock lock;       /* its state, which is its first word, is in this line */

    __attribute__((__aligned__(64))) nm__policy policy;
    nm__heap heap;
    nm__list dead; /* cleared at once, and still to be given back */
    nm__wheel wheel;
    size_t object_bytes;  /* charged outside, for entries of this shard */
    uint32_t fixed_count; /* chunks that are known to be immovable: held, off the lists, windows */
    uint32_t fixed_units;
    uint32_t shy;         /* attempts to grow that are left out, after the scope refused one */
    uint32_t shy_next;    /* how many the next refusal costs */
    bool grown_out;       /* a growth was refused since the budget was set: the share that it may have is what it has */
    bool unsettled;       /* bytes were granted since the lock was taken */
    bool crowded;         /* an entry had to leave for want of room in the index */
    NM_ATOMIC(bool) idle; /* much of the heap is free; counted in the cache's idle_shards. Written under the lock */
    size_t given_bytes;   /* ever given back to the account */
    uint32_t setting;     /* version of the policy's */
    uint64_t rejections, expirations;
    void *index_range;
    size_t index_reserved;
    void *heap_range;
    size_t heap_reserved;
    void *map_range; /* of the heap */
    size_t map_reserved;
    void *tables; /* of the policy */
    size_t tables_bytes, tables_reserved;
    size_t tables_least, tables_most; /* entries for which they are neither too many nor too few */
    nm__pages pages;
} __attribute__((__aligned__(64)));

/* Slots of pins and reservations that no thread has in front, and the readers. */
#define NM__HUGE_BYTES ((size_t)2 << 20)

typedef struct nm__desk {
    nm__lock lock;
    nm__slot *free_slot; /* the next in slot->nm__link */
    size_t free_count;
    nm__slot *pages; /* of slots: the first of each; the next page's in its claim */
    NM_ATOMIC(size_t) page_count;
    NM_ATOMIC(nm__reader *) readers; /* grows under the lock, never shrinks */
    NM_ATOMIC(size_t) reader_bytes;  /* written under the lock */
} nm__desk;

struct nm_cache {
    nm__holder holder;
    /* What each look-up reads, in one line. */
    nm__sip hash_begin __attribute__((__aligned__(64))); /* of hash_key */
    uint64_t id;                                         /* no two caches of the process have had the same */
    nm_cache_hash hash;
    unsigned shard_shift; /* of the hash, to its high bits */
    NM_ATOMIC(uint32_t) sample_threshold;
    NM_ATOMIC(bool) locked_reads; /* look-ups take the shard's lock */

    uint64_t hash_key[2] __attribute__((__aligned__(64)));
    nm_scope *scope;
    void *range; /* the cache itself */
    size_t range_bytes;
    nm_evict_fn *on_evict;
    void *context;
    uint64_t ttl_ms, negative_ttl_ms;
    size_t opening_budget;
    size_t least_bytes; /* nm_cache_min_bytes: the least budget, and what is never given back */
    size_t step_bytes;  /* by which heaps grow */
    size_t floor_bytes; /* 0: an eighth of the budget */
    unsigned shard_count;
    unsigned protected_percent;
    nm_cache_policy policy;
    nm_cache_objective objective;
    nm__grant_mode grant_mode;
    bool huge_pages; /* heaps grow to whole ones */
    bool elastic, track_access, objects_charged_elsewhere;
    char name[NM_NAME_BYTES];
    pthread_mutex_t resize_lock;
    nm__member member;
    nm__flight flight;
    NM_ATOMIC(uint64_t) loads, load_failures;
    NM_ATOMIC(bool) had_objects;
    nm__sampler sampler;
    NM_ATOMIC(uint64_t) resize_count;                                /* written under the lock */
    NM_ATOMIC(bool) closing;                                         /* callbacks of the close find it closed */
    NM_ATOMIC(size_t) budget_bytes __attribute__((__aligned__(64))); /* what is promised: granted is never above it */
    NM_ATOMIC(size_t) limit_bytes; /* what takes obey: below the budget while a resize shrinks */
    NM_ATOMIC(size_t) granted_bytes __attribute__((__aligned__(64)));
    NM_ATOMIC(uint32_t) turn;
    NM_ATOMIC(uint32_t) idle_shards;
    nm__desk desk __attribute__((__aligned__(64)));
    /* Of threads that have no reader. */
    nm__counts counts __attribute__((__aligned__(64)));
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

uint64_t nm__cache_hash(const nm_cache *cache, const void *key, size_t key_len);
/* Without the call for keys of 16 bytes: a digest, a UUID, two numbers. */
static inline __attribute__((__always_inline__)) uint64_t nm__cache_hash_inline(const nm_cache *cache, const void *key,
                                                                                size_t key_len) {
    return NM_LIKELY(key_len == 16 && cache->hash == NM_HASH_KEYED) ? nm__siphash13_16(&cache->hash_begin, key)
                                                                    : nm__cache_hash(cache, key, key_len);
}
static inline size_t nm__shard_of_hash(const nm_cache *cache, uint64_t hash) {
    /* Two shifts: one by 64 is undefined, and that is the case of one shard. */
    return (size_t)(hash >> 1 >> (cache->shard_shift - 1));
}
static inline nm__shard *nm__shard_of(const nm_cache *cache, uint64_t hash) {
    return (nm__shard *)&cache->shards[nm__shard_of_hash(cache, hash)];
}
static inline bool nm__is_sampled(const nm_cache *cache, uint64_t hash) {
    /* relaxed: see set_threshold */
    return NM_UNLIKELY(nm__sample_of(hash) < nm_atomic_load(&cache->sample_threshold, NM_RELAXED));
}
static inline unsigned nm__shard_number(const nm__shard *shard) { return (unsigned)(shard - shard->cache->shards); }
static inline nm__entry *nm__entry_at(const nm__shard *shard, uint32_t offset) {
    return nm__index_chunk(&shard->index, offset); /* its line is quiet, the heap's is not */
}
static inline uint32_t nm__offset_of(const nm__shard *shard, const void *entry) {
    return (uint32_t)(((size_t)((const unsigned char *)entry - shard->index.chunks) + 4) / NM__UNIT_BYTES);
}
uint64_t nm__entry_hash(const nm__shard *shard, const nm__entry *e);

void nm__shard_lock(nm__shard *shard);
/* Runs what is doomed, drops the lock, settles with the scope. */
void nm__shard_unlock(nm__shard *shard, nm__doomed *doomed);
/* Runs the callbacks with the lock dropped, takes it again and frees; a claim becomes one held chunk at claim_lo. */
void nm__doomed_tell(nm__shard *shard, nm__doomed *doomed);
static inline void nm__doomed_finish(nm__shard *shard, nm__doomed *doomed) {
    if (NM_UNLIKELY(doomed->head != 0)) nm__doomed_tell(shard, doomed);
}
/* Gives a claim, joined, back to the heap. */
void nm__claim_give(nm__shard *shard, nm__doomed *doomed);

/* Free, or an entry that is not known to be immovable. */
static inline bool nm__chunk_movable(const nm__shard *shard, uint32_t offset) {
    if (nm__heap_is_free(&shard->heap, offset)) return true;
    if (nm__heap_is_held(&shard->heap, offset)) return false;
    return (nm__node_state(&nm__entry_at(shard, offset)->node) & NM__ENTRY_FIXED) == 0;
}
static inline void nm__entry_mark(nm__entry *e, uint32_t set, uint32_t clear) {
    nm__node_set_state(&e->node, (nm__node_state(&e->node) & ~clear) | set);
}
/* It cannot be moved from now on, or it can again. */
void nm__chunk_fix(nm__shard *shard, uint32_t offset);
void nm__chunk_unfix(nm__shard *shard, uint32_t offset);

/* Where the word of a linked entry is. */
nm__place_of nm__entry_place(const nm__shard *shard, uint32_t offset, uint64_t hash);
/* Takes an entry out of readers' reach, to move or change it; false: it is pinned, and known to be from now on. */
bool nm__entry_seize(nm__shard *shard, uint32_t offset, nm__place_of *place);
/* The last pin of a held entry is gone. */
void nm__entry_unhold(nm__shard *shard, uint32_t offset);
/* All entries that are pinned are known to be so. O(index). */
void nm__pins_discover(nm__shard *shard);

nm_status nm__entry_enter(nm__shard *shard, uint64_t hash, uint32_t offset);
/* It leaves the cache: freed at once, or with its last pin, or after its callback. */
void nm__entry_leave(nm__shard *shard, nm__place_of place, nm_evict_reason reason, nm__doomed *doomed);
/* `offset`, which is complete, takes the place of `old`, at its rank. `moved`: what was there did not leave, it is in `offset` now. */
void nm__entry_replace(nm__shard *shard, nm__place_of old, uint32_t offset, bool moved, nm__doomed *doomed);
/* It left and has no pins any more. */
void nm__entry_retire(nm__shard *shard, uint32_t offset, nm__doomed *doomed);
/* A dead one was copied to `to`. */
void nm__dead_moved(nm__shard *shard, uint32_t to);
/* It is in the wheel. */
bool nm__entry_is_timed(const nm__entry *e);
/* Its time to live ended. */
bool nm__entry_expired(const nm__entry *e, uint64_t now_ms);
/* acquire, and relaxed in nm__entry_dead: `cleared` is stored before the count goes up, see nm_cache_clear. */
static inline bool nm__any_dead(const nm__shard *shard) { return nm_atomic_load(&shard->dead_count, NM_ACQUIRE) != 0; }
static inline bool nm__entry_dead(const nm__shard *shard, const nm__entry *e) {
    /* As long as there are dead entries fewer than 2^31 others were put, since each put takes one of them first: the difference
     * tells old from new. */
    if (NM_LIKELY(!nm__any_dead(shard))) return false;
    uint32_t cleared = nm_atomic_load(&shard->cleared, NM_RELAXED);
    return (int32_t)(nm_atomic_load(&e->version, NM_RELAXED) - cleared) <= 0;
}
uint64_t nm__now_if_needed(const nm__entry *e);
/* Finds an entry that is there for users: a dead one is removed, one whose time ended too. */
bool nm__shard_find(nm__shard *shard, uint64_t hash, const void *key, size_t key_len, nm__doomed *doomed,
                    nm__place_of *out);
/* The index and the lists are left, the counts too; what becomes of the chunk is the caller's. The pins that hold it. */
uint32_t nm__entry_detach(nm__shard *shard, nm__place_of place, nm_evict_reason reason);
/* The next victim leaves the cache, for an entry of so many bytes; its chunk is the caller's, to retire or to use. 0: there is none. */
uint32_t nm__evict_detach(nm__shard *shard, size_t incoming, nm_evict_reason reason);
/* The same, and it is retired; what was cleared goes first. The units of its chunk; 0: there is none. */
uint32_t nm__evict_one(nm__shard *shard, size_t incoming, nm_evict_reason reason, nm__doomed *doomed);
/* A put begins: what evicting for it will look at is fetched meanwhile. */
void nm__evict_prepare(nm__shard *shard);
/* `reason`, unless its time to live ended, or the cache was cleared since. */
nm_evict_reason nm__reason_of_unusual(const nm__shard *shard, const nm__entry *e, nm_evict_reason reason);
static inline nm_evict_reason nm__reason_of(const nm__shard *shard, const nm__entry *e, nm_evict_reason reason) {
    if (NM_LIKELY(!nm__any_dead(shard) && !(nm__node_state(&e->node) & NM__ENTRY_MORE))) return reason;
    return nm__reason_of_unusual(shard, e, reason);
}
/* Two that were cleared are freed: with each put, whether it needs the room or not, see nm__entry_dead. */
void nm__shard_bury_some(nm__shard *shard, nm__doomed *doomed);
static inline void nm__shard_bury(nm__shard *shard, nm__doomed *doomed) {
    if (NM_UNLIKELY(shard->dead.tail != 0)) nm__shard_bury_some(shard, doomed);
}
/* A few entries whose time ended leave. */
void nm__shard_expire_some(nm__shard *shard, nm__doomed *doomed);
static inline void nm__shard_expire(nm__shard *shard, nm__doomed *doomed) {
    if (NM_UNLIKELY(!nm__wheel_is_empty(&shard->wheel))) nm__shard_expire_some(shard, doomed);
}
/* Tells the policy what the shard has and may have. */
void nm__shard_share(nm__shard *shard);
/* Adds what the index wants, from the heap's top if there is no other room. */
void nm__shard_index_grow_by(nm__shard *shard, nm_status refusal, nm__doomed *doomed);
static inline void nm__shard_index_grow(nm__shard *shard, nm__doomed *doomed) {
    nm_status status = nm__index_step(&shard->index);
    if (NM_UNLIKELY(status != NM_OK)) nm__shard_index_grow_by(shard, status, doomed);
}

/* ---- tables.c: ghosts ---- */

void nm__tables_open(nm__shard *shard);
static inline bool nm__tables_misfit(const nm__shard *shard) {
    return shard->entry_count - shard->tables_least > shard->tables_most - shard->tables_least;
}
/* As many as the entries want. doomed NULL: but none that would need a page of a full budget. O(tables), when the count has
 * changed by an eighth or more. */
void nm__tables_fit(nm__shard *shard, nm__doomed *doomed);
/* The shard gave back entries or pages: so do they. */
void nm__tables_shrink(nm__shard *shard);

/* ---- window.c: physical room ---- */

/* Up to 1 KiB an entry is small: evicting one more costs less than moving others. */
#define NM__SMALL_UNITS 128

/* Makes a free chunk of `units` near a free chunk without evicting: entries that are small beside it move to holes elsewhere,
 * the others close ranks. False: there is not enough free nearby; what was won is free and in one piece. Bounded work. */
bool nm__window_compact(nm__shard *shard, uint32_t seed, uint32_t units);
/* The same with the whole heap to choose from. O(chunks), and moves what lies in the window. */
bool nm__window_compact_any(nm__shard *shard, uint32_t units);
/* The lowest window of at least `units` movable units. O(chunks). */
bool nm__window_scan(const nm__shard *shard, uint32_t units, uint32_t *lo, uint32_t *hi);
/* Where the movable run at the top begins; heap.end if the last chunk is fixed. O(chunks in it); bounded by `most` units. */
uint32_t nm__window_top(const nm__shard *shard, uint32_t most);
/* Empties [lo, hi): entries are moved where there is room and leave where there is none. The window becomes the claim of *doomed, one held
 * chunk once nm__doomed_finish has run. False: a chunk turned out to be pinned, and nothing left. */
bool nm__window_claim(nm__shard *shard, uint32_t lo, uint32_t hi, nm_evict_reason reason, nm__doomed *doomed);

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

/* ---- slots.c: the slots that stand for pins and reservations ---- */
extern const nm__slot_class nm__pin_class, nm__reservation_class;
nm_status nm__desk_open(nm_cache *cache); /* takes the first page of slots */
void nm__desk_close(nm_cache *cache);
size_t nm__desk_trim(nm_cache *cache); /* gives all pages back but one, if no slot is out; the bytes */
/* Up to n free slots; *grown: a page was taken for them, and the scope is to be settled with. A shard's lock may be held. */
unsigned nm__desk_take(nm_cache *cache, nm__slot **out, unsigned n, bool *grown);
void nm__desk_give(nm_cache *cache, nm__slot *const *slots, unsigned n);
/* A free slot, from reader or desk, or from a page that is made free for it; NULL: there is no room. The shard's lock is held, and may be
 * dropped. */
nm__slot *nm__slot_make(nm__shard *shard, nm__reader *reader, nm__doomed *doomed);
void nm__slot_give(nm_cache *cache, nm__reader *reader, nm__slot *slot);
/* The slot stands for that chunk from now on; fills in slot and generation of *out. */
static inline void nm__slot_issue(nm__shard *shard, nm__slot *slot, nm__place_of place, nm__slot_kind kind,
                                  const char *site, nm_entry *out) {
    slot->owner = shard;
    slot->data = nm__entry_at(shard, place.offset);
    /* relaxed: published by the generation */
    nm_atomic_store(&slot->nm__far_mark, place.position, NM_RELAXED);
    nm_atomic_store(&slot->nm__stamp, (uint32_t)kind, NM_RELAXED);
    nm_atomic_store(&slot->leased_at, site, NM_RELAXED);
    uint64_t generation = nm_atomic_load(&slot->generation, NM_RELAXED) + 1;
    /* release: pairs with the acquire in nm__slot_end; whoever ends this life sees owner and data */
    nm_atomic_store(&slot->generation, generation, NM_RELEASE);
    out->slot = slot;
    out->generation = generation;
}
/* Takes the slot out of that generation; false: it was not out. */
static inline bool nm__slot_end(nm__slot *slot, uint64_t generation, const char *site) {
    uint64_t seen = generation;
    /* acquire: pairs with the release in nm__slot_issue. release: pairs with the acquire of a later nm__slot_end, which then
     * loses. Only the one that wins touches the entry. */
    if ((generation & 1) == 0 || !nm_atomic_cas(&slot->generation, &seen, generation + 1, NM_ACQ_REL, NM_ACQUIRE))
        return false;
    nm_atomic_store(&slot->released_at, site, NM_RELAXED); /* for reports only */
    return true;
}
/* The ended slot's pin or reservation goes. No lock held. */
void nm__slot_return(nm__shard *shard, nm__slot *slot);
/* A pin of this thread goes: without a lock held, or with the shard's. */
void nm__entry_unpin(nm__shard *shard, nm__place_of place);
void nm__unpin_locked(nm__shard *shard, uint32_t offset, nm__doomed *doomed);
/* The scope closes: all that is still out is a leak, and its holders find it released at `site`. */
void nm__slots_end_all(nm_cache *cache, nm__leaks *leaks, const char *site);
void nm__entry_describe(const nm__shard *shard, uint32_t offset, nm_entry *out);

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
    bool more; /* it needs the words at the end of the chunk */
    bool negative;
    nm__load *load;   /* whose result it is; NULL: it overtakes loads of that key */
    nm_entry *pinned; /* of a commit: not NULL, and the entry is pinned for it at once */
    uint32_t at;      /* of a commit: where it was published */
} nm__put;

nm_status nm__put_read(const nm_cache *cache, const nm_put_options *options, nm__put *put);
/* What an entry with these needs. */
static inline bool nm__put_wants_more(const nm_cache *cache, const nm__put *put) {
    return put->ttl_ms != NM_TTL_NEVER || put->flags != 0 || put->negative || cache->track_access ||
           put->key_len > UINT8_MAX;
}
/* What every change of a shard begins with: hits that this thread noted, entries whose time ended, a step of the index. This thread's
 * reader, if it has one. */
nm__reader *nm__put_begin(nm__shard *shard, nm__doomed *doomed);
/* May it be put? *old: the present entry; one that expired leaves. */
nm_status nm__put_check(nm__shard *shard, const nm__put *put, nm__doomed *doomed, nm__place_of *old);
/* Writes the header, key and more of a chunk that was just taken. */
void nm__put_write(nm__shard *shard, const nm__put *put, uint32_t offset, size_t value_len, bool more, bool object);
/* Links a chunk that is complete, in place of `old`. */
nm_status nm__put_publish(nm__shard *shard, const nm__put *put, uint32_t offset, nm__place_of old, nm__doomed *doomed);
/* It was refused with that status: where that is for its size alone a larger cache might have it, and the sampler is told. */
void nm__put_refused(nm_cache *cache, const nm__put *put, size_t value_len, size_t object_bytes, nm_status status);
/* NM_ETOOLARGE if the budget can never hold it. */
nm_status nm__put_size(const nm_cache *cache, size_t key_len, size_t value_len, bool more, size_t object_bytes,
                       uint32_t *units);

/* When an entry of that time to live ends. */
uint64_t nm__expiry_of(uint64_t ttl_ms);
/* That there is no such thing, as a load found out. NM_EEXISTS: it was overtaken. */
nm_status nm__put_nothing(nm_cache *cache, const void *key, size_t key_len, uint64_t ttl_ms, nm__load *load);
/* Publishes a reservation; *lost: it is none any more. No lock held. NM_EEXISTS too: the load whose result it is was overtaken. */
nm_status nm__commit(nm_entry *entry, const nm_put_options *options, nm__put *put, const char *site, bool *lost);

/* ---- get.c ---- */
static inline bool nm__key_valid(const void *key, size_t key_len) {
    return key != NULL && key_len - 1 < NM_CACHE_KEY_MAX;
}
bool nm__get_locked(nm_cache *cache, uint64_t hash, const void *key, size_t key_len, nm_entry *out, const char *site);
/* Pins the entry that was found. Lock held. False: 65535 pins. */
bool nm__pin_locked(nm__shard *shard, nm__reader *reader, nm__slot *slot, nm__place_of place, const char *site,
                    nm_entry *out);

/* ---- cache.c ---- */
/* Look-ups take locks from now on: as it closes, and where a benchmark wants to know what that costs. Before other threads use it. */
void nm__cache_use_plain_locks(nm_cache *cache);
void nm__cache_empty(nm__shard *shard, nm_evict_reason reason);
size_t nm__cache_floor(const nm_cache *cache);

#endif
