// SPDX-License-Identifier: Apache-2.0 OR MIT
/* nebula/cache.h: a cache whose budget is its memory.
 *
 * Keys, values, descriptors, index and free room all lie in memory that the cache takes from its scope, and after every call
 * used <= granted <= budget. A put evicts until that holds. An elastic cache grows into what its scopes have free and gives
 * back when others need it.
 * Threads: shared by all. Reads take no lock; writers take the small lock of one shard. Callbacks and loaders run with no
 * lock held. */
#ifndef NEBULA_CACHE_H
#define NEBULA_CACHE_H

#include <string.h>

#include "nebula/base.h"
#include "nebula/scope.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nm_cache nm_cache;

typedef enum nm_cache_policy {
    NM_CACHE_DEFAULT = 0, /* NM_CACHE_ADAPTIVE */
    NM_CACHE_SLRU,   /* segmented LRU by bytes (Karedla, Love, Wherry 1994): new entries go on probation, a hit moves
                             them to the protected segment; free protected room is filled first */
    NM_CACHE_LRU,    /* least recently used, for comparison */
    NM_CACHE_S3FIFO, /* three queues (Yang, Zhang, Qiu, Yue, Rashmi 2023): a small one that new entries must outlive */
    NM_CACHE_ADAPTIVE, /* shadow caches on a sample of the keys (SHARDS: Waldspurger et al. 2015) choose between recency,
                             segments, and what entries of such age, uses and size have been worth so far */
} nm_cache_policy;

/* What NM_CACHE_ADAPTIVE makes most of. */
typedef enum nm_cache_objective {
    NM_OBJECTIVE_HITS = 0, /* requests that hit: small entries count as much as large ones */
    NM_OBJECTIVE_BYTES,    /* bytes of requests that hit */
} nm_cache_objective;

typedef enum nm_cache_hash {
    NM_HASH_KEYED = 0, /* SipHash-1-3 (Aumasson, Bernstein 2012) under a random key of this cache */
    NM_HASH_FAST,      /* XXH3 (Collet 2019): for keys that no stranger chooses, who could make them collide */
} nm_cache_hash;

typedef enum nm_evict_reason {
    NM_EVICT_SPACE,    /* room for another entry, or a smaller budget */
    NM_EVICT_RECLAIM,  /* an elastic cache gave back to its scope */
    NM_EVICT_EXPIRED,  /* its time to live ended */
    NM_EVICT_REPLACED, /* a put of the same key */
    NM_EVICT_REMOVED,  /* nm_cache_remove, nm_cache_clear */
    NM_EVICT_CLOSED,   /* the cache closed */
} nm_evict_reason;

/* Called once for each entry that left the cache, after its last pin is gone, on the thread that made it leave, with no
 * lock held. key and value live until it returns; of an object, `value` is the pointer and `size` the declared size. It
 * may use this cache and others, but not close one. From the callbacks of a close, the closing cache is empty: gets miss, puts
 * and reservations are refused with NM_ECLOSED. */
typedef void nm_evict_fn(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size,
                         void *context);

typedef struct nm_cache_options {
    size_t struct_size;     /* filled in by NM_CACHE_OPTIONS and nm_cache_options_init */
    size_t budget_bytes;    /* most that the cache is ever granted, at least nm_cache_min_bytes; no default */
    nm_cache_policy policy; /* see nm_cache_policy */
    nm_cache_objective objective;
    unsigned protected_percent; /* of SLRU, and of ADAPTIVE as it begins: share of the bytes, 1 to 99; 0 = 80 */
    unsigned shard_count;       /* a power of two up to 256; 0 = one for each 4 MiB of budget, at most 16 */
    uint64_t ttl_ms;            /* time to live of an entry put without one; 0 = NM_TTL_NEVER */
    uint64_t negative_ttl_ms; /* how long nm_cache_get_or_load remembers that there is no such thing; 0 = not at all */
    nm_cache_hash hash;
    bool track_access;  /* every entry tells when it was read last, at 28 bytes more where it has neither flags
                                   nor a time to live */
    bool elastic;       /* gives back to its scope on reclaim, and takes no more than leaves others in peace */
    size_t floor_bytes; /* an elastic cache is not reclaimed below it; 0 = budget / 8; at most the budget */
    bool
        objects_charged_elsewhere; /* nm_cache_put_object's sizes count in the budget, but are not charged to the scope:
                                       who made the object has charged them already */
    nm_evict_fn *on_evict;         /* NULL = none */
    void *context;                 /* given to on_evict */
    const char *name;              /* copied, cut at 31 bytes; default "" */
} nm_cache_options;

#define NM_CACHE_OPTIONS(...) (&(nm_cache_options){.struct_size = sizeof(nm_cache_options), __VA_ARGS__})
static inline nm_cache_options nm_cache_options_init(void) {
    nm_cache_options o;
    memset(&o, 0, sizeof o);
    o.struct_size = sizeof o;
    return o;
}

/* The longest key, in bytes. */
#define NM_CACHE_KEY_MAX ((size_t)65535)

/* Opens a cache in `scope`. *out lives until nm_cache_close or the scope's close, and is NULL unless NM_OK. 
 * NM_EINVAL: an option out of range, a budget below nm_cache_min_bytes. NM_EBUDGET, NM_ENOMEM: no room for the least
 * budget. NM_ESYSTEM: no random key. Cost: some system calls. */
NM_API NM_NODISCARD nm_status nm_cache_open(nm_cache **out, nm_scope *scope, const nm_cache_options *options);
NM_API NM_NODISCARD nm_status nm_cache_open_at(nm_cache **out, nm_scope *scope, const nm_cache_options *options,
                                               const char *site);
#define nm_cache_open(out, scope, options) nm_cache_open_at(out, scope, options, NM_SITE)

/* What an entry costs in `used`: key, value, descriptor, rounding; the shared tables apart. SIZE_MAX if no cache can hold it.
 * The least budget that these options can be opened with; 0 if they are out of range whatever the budget. O(1). */
NM_API size_t nm_cache_charge(const nm_cache_options *options, size_t key_len, size_t value_len);
NM_API size_t nm_cache_min_bytes(const nm_cache_options *options);

/* Copies key and value into the cache, evicting what it must; replaces an entry of that key.
 * NM_EINVAL: NULL or empty key, NULL value with a length. NM_ETOOLARGE: the entry is larger than the budget can hold, or the
 * key than NM_CACHE_KEY_MAX; nothing is evicted. NM_ECAPACITY: pinned entries leave no room. NM_EBUDGET, NM_ENOMEM: the
 * scope has no room and there is nothing to evict. The old entry stays after a refusal. O(1), plus O(evicted). */
NM_API NM_NODISCARD nm_status nm_cache_put(nm_cache *cache, const void *key, size_t key_len, const void *value,
                                           size_t value_len);

typedef enum nm_put_mode {
    NM_PUT_SET = 0, /* whether present or not */
    NM_PUT_ADD,     /* only if absent */
    NM_PUT_REPLACE, /* only if present */
} nm_put_mode;

typedef struct nm_put_options {
    size_t struct_size; /* filled in by NM_PUT_OPTIONS and nm_put_options_init */
    uint64_t ttl_ms;    /* time to live; 0 = the cache's, NM_TTL_NEVER = without end */
    uint32_t flags;     /* the user's, returned by get */
    nm_put_mode mode;
    uint64_t cas;      /* not 0: only if the present entry has this version */
    uint64_t *cas_out; /* not NULL: gets the version of the entry that was put */
} nm_put_options;

#define NM_PUT_OPTIONS(...) (&(nm_put_options){.struct_size = sizeof(nm_put_options), __VA_ARGS__})
static inline nm_put_options nm_put_options_init(void) {
    nm_put_options o;
    memset(&o, 0, sizeof o);
    o.struct_size = sizeof o;
    return o;
}

/* The same with options (NULL = all defaults). Further: NM_EEXISTS: NM_PUT_ADD of a present key. NM_ENOTFOUND: NM_PUT_REPLACE
 * or cas of an absent one. NM_ESTALE: another version is present. NM_EINVAL: unknown mode. */
NM_API NM_NODISCARD nm_status nm_cache_put_with(nm_cache *cache, const void *key, size_t key_len, const void *value,
                                                size_t value_len, const nm_put_options *options);

/* Keeps the pointer, not a copy: size_bytes (0 allowed) count in the budget and are charged to the scope. The object is the
 * cache's if NM_OK, and on_evict gets it to free; else it remains the caller's. Errors as nm_cache_put. */
NM_API NM_NODISCARD nm_status nm_cache_put_object(nm_cache *cache, const void *key, size_t key_len, void *object,
                                                  size_t size_bytes);

/* A pinned entry, or room reserved. A value: copy it freely, but release it once, through one of the copies. */
typedef struct nm_entry {
    void *value;      /* to be read only, but for room from nm_cache_reserve; of an object, the pointer that was put */
    size_t value_len; /* bytes; of an object, its declared size */
    const void *key;  /* the cache's copy */
    size_t key_len;
    uint64_t cas;            /* version: changes with every put of the key */
    uint64_t expires_ms;     /* time left to live when it was read; NM_TTL_NEVER without end */
    uint64_t last_access_ms; /* time since it was read last, before this; NM_TTL_NEVER: not known (see track_access) */
    uint32_t flags;          /* the user's */
    bool fetched;            /* it was read before; known where last_access_ms is */
    bool stale;              /* see nm_cache_mark_stale */
    bool won;                /* stale, and this reader is the one who should bring it up to date */
    bool negative;           /* no entry: it is known that there is no such thing, see nm_cache_put_negative */
    struct nm__slot *slot;   /* NULL: no entry */
    uint64_t generation;
} nm_entry;

/* Finds and pins an entry: it stays readable at this address until nm_entry_release, though it be removed, replaced or
 * evicted meanwhile. A pin counts as a use. False: absent or expired (*out is empty then), or no room to note the pin.
 * Any thread. O(1). */
NM_API NM_NODISCARD bool nm_cache_get(nm_cache *cache, const void *key, size_t key_len, nm_entry *out);
NM_API NM_NODISCARD bool nm_cache_get_at(nm_cache *cache, const void *key, size_t key_len, nm_entry *out,
                                         const char *site);
#define nm_cache_get(cache, key, key_len, out) nm_cache_get_at(cache, key, key_len, out, NM_SITE)

/* A pin held by `holder`, a scope of the same root: it goes back when that scope closes, if not before. False also if the
 * holder has no room to note it or its held_limit_bytes are reached. */
NM_API NM_NODISCARD bool nm_cache_get_in(nm_cache *cache, nm_scope *holder, const void *key, size_t key_len,
                                         nm_entry *out);
NM_API NM_NODISCARD bool nm_cache_get_in_at(nm_cache *cache, nm_scope *holder, const void *key, size_t key_len,
                                            nm_entry *out, const char *site);
#define nm_cache_get_in(cache, holder, key, key_len, out) nm_cache_get_in_at(cache, holder, key, key_len, out, NM_SITE)

/* nm_cache_get, and the entry lives for ttl_ms from now on (NM_TTL_NEVER: without end), as with nm_cache_touch. False also if
 * there was no room to note the time. */
NM_API NM_NODISCARD bool nm_cache_get_touch(nm_cache *cache, const void *key, size_t key_len, uint64_t ttl_ms,
                                            nm_entry *out);
NM_API NM_NODISCARD bool nm_cache_get_touch_at(nm_cache *cache, const void *key, size_t key_len, uint64_t ttl_ms,
                                               nm_entry *out, const char *site);
#define nm_cache_get_touch(cache, key, key_len, ttl_ms, out)                                                           \
    nm_cache_get_touch_at(cache, key, key_len, ttl_ms, out, NM_SITE)

/* Gives a pin back and empties the entry; an empty one is ignored. One that is no longer pinned is misuse: nothing happens,
 * the handler is called. Any thread. O(1). */
NM_API void nm_entry_release(nm_entry *entry);
NM_API void nm_entry_release_at(nm_entry *entry, const char *site);
#define nm_entry_release(entry) nm_entry_release_at(entry, NM_SITE)

/* Room for a value of value_len bytes under this key, to write into through out->value: nobody sees it before the commit.
 * It counts in the budget, and is given back by commit or abort (or, with _in, by the holder's close). Errors as
 * nm_cache_put and nm_pool_lease_in. */
NM_API NM_NODISCARD nm_status nm_cache_reserve(nm_cache *cache, const void *key, size_t key_len, size_t value_len,
                                               nm_entry *out);
NM_API NM_NODISCARD nm_status nm_cache_reserve_at(nm_cache *cache, const void *key, size_t key_len, size_t value_len,
                                                  nm_entry *out, const char *site);
#define nm_cache_reserve(cache, key, key_len, value_len, out)                                                          \
    nm_cache_reserve_at(cache, key, key_len, value_len, out, NM_SITE)
NM_API NM_NODISCARD nm_status nm_cache_reserve_in(nm_cache *cache, nm_scope *holder, const void *key, size_t key_len,
                                                  size_t value_len, nm_entry *out);
NM_API NM_NODISCARD nm_status nm_cache_reserve_in_at(nm_cache *cache, nm_scope *holder, const void *key, size_t key_len,
                                                     size_t value_len, nm_entry *out, const char *site);
#define nm_cache_reserve_in(cache, holder, key, key_len, value_len, out)                                               \
    nm_cache_reserve_in_at(cache, holder, key, key_len, value_len, out, NM_SITE)

/* Publishes a reservation, as nm_cache_put_with does, and empties *entry. Refused, by mode or cas, or for want of room where
 * options ask for flags or a time to live that the reservation has no words for: the reservation stays as it was. An entry that is no reservation, or no longer one, is misuse and NM_ESTALE. O(1). */
NM_API NM_NODISCARD nm_status nm_cache_commit(nm_entry *entry, const nm_put_options *options);
NM_API NM_NODISCARD nm_status nm_cache_commit_at(nm_entry *entry, const nm_put_options *options, const char *site);
#define nm_cache_commit(entry, options) nm_cache_commit_at(entry, options, NM_SITE)

/* Drops a reservation and empties *entry; an empty one is ignored. */
NM_API void nm_cache_abort(nm_entry *entry);
NM_API void nm_cache_abort_at(nm_entry *entry, const char *site);
#define nm_cache_abort(entry) nm_cache_abort_at(entry, NM_SITE)

/* Removes an entry; pinned, it stays readable for its holders, and its bytes go with the last pin. NM_ENOTFOUND: absent.
 * remove_if: only if it has this version; else NM_ESTALE. */
NM_API nm_status nm_cache_remove(nm_cache *cache, const void *key, size_t key_len);
NM_API NM_NODISCARD nm_status nm_cache_remove_if(nm_cache *cache, const void *key, size_t key_len, uint64_t cas);

/* The entry lives for ttl_ms from now on (0 = the cache's ttl_ms, NM_TTL_NEVER = without end). Its version stays. NM_ENOTFOUND:
 * absent. NM_ECAPACITY, NM_EBUDGET, NM_ENOMEM: it has no word for a time to live yet, and there is no room for one; it
 * stays as it was. NM_EBUSY: the same, for an object that is pinned. O(1); O(value) the first time. */
NM_API NM_NODISCARD nm_status nm_cache_touch(nm_cache *cache, const void *key, size_t key_len, uint64_t ttl_ms);

/* Lets the entry stay readable, but marked: readers see .stale, and the first of them .won as well. For ttl_ms (0 = its time to
 * live stays). The next put of the key ends it. NM_ENOTFOUND: absent; NM_ESTALE: it has another version than `cas` (0 =
 * whichever); else as nm_cache_touch. */
NM_API NM_NODISCARD nm_status nm_cache_mark_stale(nm_cache *cache, const void *key, size_t key_len, uint64_t ttl_ms,
                                                  uint64_t cas);

/* The value is a decimal number without sign of up to 20 digits, and becomes that number plus (minus) `by`: up wraps at 2^64, down
 * stops at 0. Written in place where it has as many digits; a shorter number than before is filled up with spaces at its end,
 * as memcached does. A new version; time to live and flags stay. *out (may be NULL): the new number. NM_ENOTFOUND: absent.
 * NM_EINVAL: no such number. Else as nm_cache_put. At one instant for other threads. O(1). */
NM_API NM_NODISCARD nm_status nm_cache_increment(nm_cache *cache, const void *key, size_t key_len, uint64_t by,
                                                 uint64_t *out);
NM_API NM_NODISCARD nm_status nm_cache_decrement(nm_cache *cache, const void *key, size_t key_len, uint64_t by,
                                                 uint64_t *out);

/* Remembers for ttl_ms (0 = the cache's negative_ttl_ms, else its ttl_ms) that there is no such thing: nm_cache_get is false with out->negative set, and
 * nm_cache_get_or_load NM_ENOTFOUND without a load. It replaces an entry of that key, and any put replaces it. Errors as
 * nm_cache_put. */
NM_API NM_NODISCARD nm_status nm_cache_put_negative(nm_cache *cache, const void *key, size_t key_len, uint64_t ttl_ms);

/* Makes the value of a key: reserves room in *room with nm_cache_reserve(cache, key, key_len, ...), writes it, and returns NM_OK; or
 * returns why there is none (NM_ENOTFOUND: there is no such thing). It may set *options for the commit. It runs with no lock held and may use
 * this cache and others; a load of the same key from inside it is refused with NM_EBUSY. */
typedef nm_status nm_load_fn(nm_cache *cache, const void *key, size_t key_len, nm_entry *room, nm_put_options *options,
                             void *arg);

/* Finds and pins an entry as nm_cache_get does; if it is absent, loads it, once for all who ask for this key meanwhile: the
 * first one runs `load`, the others wait. A put or remove of the key during the load wins: its result is what all get (or it is loaded again).
 * NM_ETIMEDOUT: it was waited for longer than timeout_ns (UINT64_MAX = for ever); the load goes on. NM_EBUSY: this thread is
 * loading that key. What `load` returns, if it failed: to all who waited. Else as nm_cache_put. */
NM_API NM_NODISCARD nm_status nm_cache_get_or_load(nm_cache *cache, const void *key, size_t key_len, nm_load_fn *load,
                                                   void *arg, uint64_t timeout_ns, nm_entry *out);
NM_API NM_NODISCARD nm_status nm_cache_get_or_load_at(nm_cache *cache, const void *key, size_t key_len,
                                                      nm_load_fn *load, void *arg, uint64_t timeout_ns, nm_entry *out,
                                                      const char *site);
#define nm_cache_get_or_load(cache, key, key_len, load, arg, timeout_ns, out)                                          \
    nm_cache_get_or_load_at(cache, key, key_len, load, arg, timeout_ns, out, NM_SITE)

/* A place in a walk through a cache: {0} begins it. A value: copy it freely. */
typedef struct nm_cursor {
    uint64_t place;
    uint32_t within;
    uint32_t shard;
} nm_cursor;

/* Pins the next entry. Every entry that is present throughout the walk is met at least once, whatever is put, removed or
 * resized meanwhile; one that was put again may be met again. A walk is no use: nothing moves. NM_ENOTFOUND: the walk is
 * over. NM_ECAPACITY: no room to note the pin; the cursor stays. O(1). */
NM_API NM_NODISCARD nm_status nm_cache_next(nm_cache *cache, nm_cursor *cursor, nm_entry *out);
NM_API NM_NODISCARD nm_status nm_cache_next_at(nm_cache *cache, nm_cursor *cursor, nm_entry *out, const char *site);
#define nm_cache_next(cache, cursor, out) nm_cache_next_at(cache, cursor, out, NM_SITE)

/* True if present and not expired. Not a use: nothing moves. */
NM_API bool nm_cache_contains(const nm_cache *cache, const void *key, size_t key_len);

/* Removes all entries; pinned ones stay readable for their holders. `used` is 0 at once; `granted` goes down as later calls reuse
 * or give back the room. O(shards); O(entries) where on_evict wants to be told, or there are objects. */
NM_API void nm_cache_clear(nm_cache *cache);

/* Changes the budget, evicting down to it. NM_EINVAL: below nm_cache_min_bytes of the options it was opened with.
 * NM_ECAPACITY: above 16 times the budget it was opened with. NM_EBUSY: pinned entries hold more than that; the budget is
 * as before, though entries may have been evicted. O(evicted). */
NM_API NM_NODISCARD nm_status nm_cache_resize(nm_cache *cache, size_t budget_bytes);

/* used: resident entries (key, value, descriptor, rounding; objects' declared sizes). granted: what the scope is charged:
 * used, index, free room, descriptors of pins. Always used <= granted <= budget. Any thread. O(shards). */
NM_API size_t nm_cache_used(const nm_cache *cache);
NM_API size_t nm_cache_granted(const nm_cache *cache);
NM_API size_t nm_cache_budget(const nm_cache *cache);
NM_API size_t nm_cache_count(const nm_cache *cache);

typedef struct nm_cache_stats {
    uint64_t hits; /* of get */
    uint64_t misses;
    uint64_t puts;        /* entries put: put, put_with, put_object, commit */
    uint64_t evictions;   /* entries evicted for space or reclaim */
    uint64_t rejections;  /* puts and reservations refused */
    uint64_t expirations; /* entries that left because their time to live ended */
    size_t entry_count;   /* resident */
    size_t pinned_count;  /* pins and reservations out */
    size_t budget_bytes;
    size_t granted_bytes;
    size_t used_bytes;
    size_t pinned_bytes;    /* entries pinned or reserved, removed ones too */
    size_t probation_bytes; /* of used, by segment; LRU has all in probation */
    size_t protected_bytes;
    size_t window_bytes;    /* ADAPTIVE, and S3FIFO's small queue */
    size_t index_bytes;     /* of granted */
    size_t policy_bytes;    /* of granted: frequencies, ghosts, shadows, the curve's samples */
    uint64_t loads;         /* of get_or_load: loaders that were run */
    uint64_t load_failures; /* of them, those that gave no value */
    unsigned shard_count;
    nm_cache_policy policy; /* what DEFAULT stands for */
    nm_cache_objective objective;
    char name[NM_NAME_BYTES];
} nm_cache_stats;

/* A snapshot, each shard consistent in itself. Any thread. O(shards). */
NM_API void nm_cache_get_stats(const nm_cache *cache, nm_cache_stats *out);
NM_API void nm_cache_get_stats_sized(const nm_cache *cache, nm_cache_stats *out, size_t out_bytes);
#define nm_cache_get_stats(cache, out) nm_cache_get_stats_sized(cache, out, sizeof(nm_cache_stats))

/* What the cache would do with another budget. */
typedef struct nm_curve_point {
    size_t budget_bytes;
    double hit_ratio;       /* of requests */
    double byte_hit_ratio;  /* of their bytes */
    double hits_per_second; /* at the request rate of late */
    /* That this stands for: the latest counts 1, each other one less with its age, half after so many more: 16 for each entry,
     * 65,536 at least. */
    double request_count;
} nm_curve_point;

/* Predicts the hit ratio at up to n budgets from 1/8 to 8 times the present one, ascending, from live traffic: scaled-down caches of the policy in
 * force on a sample of the keys (Waldspurger et al. 2015, 2017), corrected by what the cache itself hit and missed. At the present budget it is what
 * was measured. Their memory counts in the budget. The number of points written: 7, or n if that is less; 0: fewer than 1,000 requests were seen, or the
 * cache is too small to hold the samples (below about half a MiB; of NM_CACHE_ADAPTIVE 1 MiB). Any thread. O(1). */
NM_API size_t nm_cache_curve(const nm_cache *cache, nm_curve_point *out, size_t n);
/* That budget of the curve's up to which more memory brings at least so many hits a second for each MiB, and past which it does not, however
 * much: the hits less the price of the memory are the most there. 0: there is no curve. */
NM_API size_t nm_cache_advice(const nm_cache *cache, double hits_per_second_per_mib);

/* Closes the cache and gives its memory back; on_evict is called for each entry. NULL is ignored. NM_EBUSY: entries are
 * pinned or reserved; nothing is closed. (The scope's close forces it, and reports them.) One thread, and no other may use
 * the cache. */
NM_API NM_NODISCARD nm_status nm_cache_close(nm_cache *cache);

#ifdef __cplusplus
}
#endif

#endif
