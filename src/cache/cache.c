// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Opening, closing, and what concerns the whole cache. */
#include "base/options.h"
#include "cache/cache_internal.h"

/* A shard is worth its lock and its tables from so many bytes on; more shards than this win nothing by themselves. */
#define NM__SHARD_BYTES    ((size_t)4 << 20)
#define NM__SHARDS_AUTO    16u
#define NM__SHARDS_MAX     256u
#define NM__PROTECTED_AUTO 80u
#define NM__RESIZE_MAX     ((size_t)16)
#define NM__FLOOR_SHARE    8
#define NM__STEP_SHARE     16
#define NM__STEP_MAX       ((size_t)256 << 10)
#define NM__HUGE_SHARES    2
/* Entries that one hold of a lock removes. */
#define NM__CLEAR_ENTRIES 256
/* The first page of heap, its map, and index; the desk's page of slots. */
#define NM__SHARD_PAGES 3
#define NM__DESK_PAGES  1

static bool options_read(nm_cache_options *own, const nm_cache_options *options) {
    *own = nm_cache_options_init();
    return nm__options_read(own, sizeof *own, options) == NM_OK && (unsigned)own->policy <= NM_CACHE_ADAPTIVE &&
           (unsigned)own->objective <= NM_OBJECTIVE_BYTES && (unsigned)own->hash <= NM_HASH_FAST &&
           own->protected_percent <= 99 && own->shard_count <= NM__SHARDS_MAX &&
           (own->shard_count == 0 || nm__is_power_of_two(own->shard_count)) && own->budget_bytes <= NM__BYTES_MAX;
}

static unsigned shards_for(const nm_cache_options *o) {
    if (o->shard_count != 0) return o->shard_count;
    size_t count = nm__min(o->budget_bytes / NM__SHARD_BYTES, NM__SHARDS_AUTO);
    return count == 0 ? 1 : 1u << nm__log2_floor(count);
}

static size_t own_bytes(unsigned shard_count) {
    return nm__round_up(sizeof(nm_cache) + shard_count * sizeof(nm__shard), NM__PAGE_BYTES);
}

static size_t least_bytes(unsigned shard_count) {
    return own_bytes(shard_count) + ((size_t)shard_count * NM__SHARD_PAGES + NM__DESK_PAGES) * NM__PAGE_BYTES;
}

size_t nm_cache_min_bytes(const nm_cache_options *options) {
    nm_cache_options o;
    if (!options_read(&o, options)) return 0;
    return least_bytes(shards_for(&o));
}

size_t nm_cache_charge(const nm_cache_options *options, size_t key_len, size_t value_len) {
    nm_cache_options o;
    if (!options_read(&o, options) || key_len == 0) return SIZE_MAX;
    bool more = o.track_access || (o.ttl_ms != 0 && o.ttl_ms != NM_TTL_NEVER) || key_len > UINT8_MAX;
    uint32_t units = nm__entry_units(key_len, value_len, more);
    return units != 0 ? (size_t)units * NM__UNIT_BYTES : SIZE_MAX;
}

/* ---- open ---- */

static size_t used(const nm__holder *holder) { return nm_cache_used((const nm_cache *)(const void *)holder); }
static void force_close(nm__holder *holder, nm__leaks *leaks, const char *site);

/* ---- fork: the child has a copy; what other threads had pinned stays so ---- */

static nm_cache *cache_of(nm__member *member) {
    return (nm_cache *)(void *)((unsigned char *)member - offsetof(nm_cache, member));
}

static void thread_ends(nm__member *member) { nm__reader_leave(cache_of(member)); }

static void before_fork(nm__member *member) {
    nm_cache *cache = cache_of(member);
    pthread_mutex_lock(&cache->resize_lock);
    for (unsigned i = 0; i < cache->shard_count; i++) nm__lock_take(&cache->shards[i].lock);
    nm__flight_before_fork(&cache->flight);
    nm__lock_take(&cache->desk.lock);
    nm__lock_take(&cache->sampler.lock);
}

static void after_fork(nm__member *member, bool in_child) {
    nm_cache *cache = cache_of(member);
    if (in_child) {
        nm__lock_after_fork(&cache->desk.lock);
        nm__lock_after_fork(&cache->sampler.lock);
        for (unsigned i = 0; i < cache->shard_count; i++) nm__lock_after_fork(&cache->shards[i].lock);
        nm__readers_after_fork(cache);
    }
    nm__lock_give(&cache->sampler.lock);
    nm__lock_give(&cache->desk.lock);
    nm__flight_after_fork(&cache->flight, in_child);
    for (unsigned i = cache->shard_count; i-- > 0;) nm__lock_give(&cache->shards[i].lock);
    pthread_mutex_unlock(&cache->resize_lock);
}

static const nm__member_class member_class = {
    .thread_ends = thread_ends, .before_fork = before_fork, .after_fork = after_fork};

static const nm__holder_class cache_class = {
    .part = "cache", .reclaim = nm__cache_reclaim, .close = force_close, .used = used};

uint64_t nm__cache_hash(const nm_cache *cache, const void *key, size_t key_len) {
    return NM_LIKELY(cache->hash == NM_HASH_KEYED) ? nm__siphash13_from(&cache->hash_begin, key, key_len)
                                                   : nm__xxh3_64(cache->hash_key[0], key, key_len);
}

uint64_t nm__entry_hash(const nm__shard *shard, const nm__entry *e) {
    uint32_t state = nm__node_state(&e->node);
    return nm__cache_hash_inline(shard->cache, nm__entry_key(e), nm__key_len_in(e, state));
}

static size_t weight_of(void *context, uint32_t number) { return nm__entry_weight(nm__entry_at(context, number)); }

static uint64_t hash_of(void *context, uint32_t number) {
    return nm__entry_hash(context, nm__entry_at(context, number));
}

/* For ghosts alone: rarely one came to its place since it was guessed, and then a ghost has another's name. */
static uint64_t hash_of_victim(void *context, uint32_t number) {
    const nm__shard *shard = context;
    return number == shard->guess ? shard->guess_hash : hash_of(context, number);
}

static nm__timer *timer_of(void *context, uint32_t number) {
    return &nm__entry_more_of(nm__entry_at(context, number))->timer;
}

static const nm__policy_owner policy_owner = {.weight = weight_of, .hash = hash_of_victim};

/* As much address space as the budget may ever want; if the system has less, as it has, down to the budget itself. */
static nm_status reserve(size_t *bytes, size_t least, size_t align, void **out) {
    nm_status status;
    while ((status = nm__range_reserve(*bytes, align, out)) != NM_OK && *bytes / 2 >= least)
        *bytes = nm__round_up(*bytes / 2, NM__PAGE_BYTES);
    return status;
}

static nm_status open_shard(nm_cache *cache, nm__shard *shard) {
    size_t most = NM__HEAP_MAX - NM__PAGE_BYTES;
    size_t budget = nm__min(nm__round_up(cache->opening_budget, NM__PAGE_BYTES), most);
    size_t limit = nm__round_up(nm__min(nm__limit(cache->scope), most), NM__PAGE_BYTES);
    size_t heap_bytes = nm__min(nm__min(budget * NM__RESIZE_MAX, most), nm__max(limit, budget));
    size_t align = cache->huge_pages ? NM__HUGE_BYTES : NM__PAGE_BYTES;
    nm_status status = reserve(&heap_bytes, budget, align, &shard->heap_range);
    if (status != NM_OK) return status;
    shard->heap_reserved = heap_bytes;
    size_t huge = nm__round_down(heap_bytes, NM__HUGE_BYTES);
    if (cache->huge_pages && huge != 0) (void)nm__os_get()->use_huge_pages(shard->heap_range, huge); /* a wish */
    size_t map_bytes = nm__heap_map_bytes(heap_bytes);
    status = reserve(&map_bytes, map_bytes, NM__PAGE_BYTES, &shard->map_range);
    if (status != NM_OK) return status;
    shard->map_reserved = map_bytes;
    shard->pages = (nm__pages){.commit = nm__shard_commit, .decommit = nm__shard_decommit, .context = shard};
    status = nm__heap_open(&shard->heap, shard->heap_range, heap_bytes, shard->map_range, &shard->pages);
    if (status != NM_OK) return status;
    nm__wheel_open(&shard->wheel, timer_of, shard, nm__os_get()->clock_coarse_ms());
    void *nodes = (unsigned char *)&nm__heap_at(&shard->heap, NM__HEAP_FIRST)->node - NM__HEAP_FIRST * NM__UNIT_BYTES;
    nm__policy_open(&shard->policy, &policy_owner, shard, nodes, cache->policy, cache->objective,
                    cache->protected_percent, NULL, 0);
    /* A word for each of the smallest entries that the heap can hold, and a quarter more. */
    size_t index_bytes = nm__round_up(heap_bytes / (sizeof(nm__entry) + 4) * sizeof(uint64_t) / 4 * 5, NM__PAGE_BYTES);
    status = reserve(&index_bytes, 2 * NM__PAGE_BYTES, NM__PAGE_BYTES, &shard->index_range);
    if (status != NM_OK) return status;
    shard->index_reserved = index_bytes;
    return nm__index_open(&shard->index, shard->index_range, index_bytes, &shard->heap, &shard->pages, hash_of, shard);
}

/* No entry is in it any more. */
static void dismantle(nm_cache *cache) {
    nm_scope *scope = cache->scope;
    nm__sampler_close(cache);
    nm__readers_free(cache);
    nm__desk_close(cache);
    for (unsigned i = 0; i < cache->shard_count; i++) {
        nm__shard *shard = &cache->shards[i];
        nm__range_drop(scope, shard->index_range, nm__index_bytes(&shard->index), shard->index_reserved);
        nm__range_drop(scope, shard->map_range, shard->heap.map_bytes, shard->map_reserved);
        nm__range_drop(scope, shard->heap_range, nm__heap_bytes(&shard->heap), shard->heap_reserved);
        nm__range_drop(scope, shard->tables, shard->tables_bytes, shard->tables_reserved);
        nm__lock_close(&shard->lock);
    }
    nm__lock_close(&cache->desk.lock);
    nm__flight_close(&cache->flight);
    pthread_mutex_destroy(&cache->resize_lock);
    nm__range_drop(scope, cache->range, cache->range_bytes, cache->range_bytes);
}

/* Of the process: gives caches their ids, nothing else. */
static NM_ATOMIC(uint64_t) last_id;

static void set_up(nm_cache *cache, nm_scope *scope, const nm_cache_options *o, const uint64_t key[2], size_t bytes) {
    cache->scope = scope;
    cache->range = cache;
    cache->range_bytes = bytes;
    cache->hash_key[0] = key[0];
    cache->hash_key[1] = key[1];
    cache->hash_begin = nm__sip_begin(key);
    cache->on_evict = o->on_evict;
    cache->context = o->context;
    cache->id = nm_atomic_add(&last_id, 1, NM_RELAXED) + 1;
    cache->ttl_ms = o->ttl_ms != 0 ? o->ttl_ms : NM_TTL_NEVER;
    cache->negative_ttl_ms = o->negative_ttl_ms;
    cache->hash = o->hash;
    cache->objective = o->objective;
    cache->track_access = o->track_access;
    cache->objects_charged_elsewhere = o->objects_charged_elsewhere;
    cache->opening_budget = o->budget_bytes;
    cache->shard_count = shards_for(o);
    cache->shard_shift = 64 - nm__log2_floor(cache->shard_count);
    cache->least_bytes = least_bytes(cache->shard_count);
    size_t step = nm__round_down(o->budget_bytes / NM__STEP_SHARE / cache->shard_count, NM__PAGE_BYTES);
    cache->step_bytes = nm__max(NM__PAGE_BYTES, nm__min(step, NM__STEP_MAX));
    /* Small steps give others what they need; large ones win a fifth of a look-up's time where a shard has a few. */
    cache->huge_pages = !o->elastic && o->budget_bytes / cache->shard_count >= NM__HUGE_SHARES * NM__HUGE_BYTES;
    cache->floor_bytes = o->floor_bytes;
    cache->protected_percent = o->protected_percent != 0 ? o->protected_percent : NM__PROTECTED_AUTO;
    cache->policy = o->policy != NM_CACHE_DEFAULT ? o->policy : NM__POLICY_AUTO;
    cache->elastic = o->elastic;
    cache->grant_mode = NM__GRANT_FULL; /* no lock is held while it opens */
    cache->budget_bytes = cache->limit_bytes = o->budget_bytes;
    cache->granted_bytes = bytes;
    nm__name_copy(cache->name, o->name);
    cache->holder.class = &cache_class;
    cache->holder.name = cache->name;
    pthread_mutex_init(&cache->resize_lock, NULL);
    nm__lock_open(&cache->desk.lock);
    nm__flight_open(&cache->flight);
    nm__sampler_open(cache);
    for (unsigned i = 0; i < cache->shard_count; i++) {
        cache->shards[i].cache = cache;
        nm__lock_open(&cache->shards[i].lock);
    }
}

nm_status(nm_cache_open)(nm_cache **out, nm_scope *scope, const nm_cache_options *options) {
    return nm_cache_open_at(out, scope, options, "?");
}

nm_status nm_cache_open_at(nm_cache **out, nm_scope *scope, const nm_cache_options *options, const char *site) {
    (void)site; /* a cache still open at its scope's close is no leak, so nobody asks where it was opened */
    nm_cache_options o;
    uint64_t key[2];
    void *memory;
    if (out == NULL) return NM_EINVAL;
    *out = NULL;
    if (scope == NULL || !options_read(&o, options) || o.budget_bytes < nm_cache_min_bytes(&o) ||
        o.floor_bytes > o.budget_bytes)
        return NM_EINVAL;
    if (!nm__os_get()->random(key, sizeof key)) return NM_ESYSTEM;
    size_t bytes = own_bytes(shards_for(&o));
    nm_status status = nm__range_reserve(bytes, NM__PAGE_BYTES, &memory);
    if (status != NM_OK) return status;
    status = nm__range_commit(scope, memory, bytes, NM__GRANT_FULL, NULL);
    if (status != NM_OK) {
        nm__range_release(memory, bytes);
        return status;
    }
    nm_cache *cache = memory;
    memset(cache, 0, bytes);
    set_up(cache, scope, &o, key, bytes);
    status = nm__desk_open(cache);
    for (unsigned i = 0; i < cache->shard_count && status == NM_OK; i++) status = open_shard(cache, &cache->shards[i]);
    if (status != NM_OK) {
        dismantle(cache);
        return status;
    }
    cache->grant_mode = cache->elastic ? NM__GRANT_ELASTIC : NM__GRANT_QUIET;
    for (unsigned i = 0; i < cache->shard_count; i++) {
        cache->shards[i].unsettled = false;
        nm__shard_share(&cache->shards[i]);
    }
    (void)nm__sampler_fit(cache);
    for (unsigned i = 0; i < cache->shard_count; i++) nm__tables_open(&cache->shards[i]);
    nm__process_join(&cache->member, &member_class);
    nm__holder_add(scope, &cache->holder, cache->elastic ? NM__RECLAIM_CACHE : NM__RECLAIM_NEVER);
    nm__settle(scope, &cache->holder);
    *out = cache;
    return NM_OK;
}

/* ---- empty, close ---- */

void nm__cache_empty(nm__shard *shard, nm_evict_reason reason) {
    /* What is there now; what others put meanwhile may be among it, and then something older stays instead. */
    size_t left = nm_atomic_load(&shard->entry_count, NM_RELAXED) + nm_atomic_load(&shard->dead_count, NM_RELAXED);
    while (left > 0) {
        nm__doomed doomed = {0};
        nm__shard_lock(shard);
        if (reason == NM_EVICT_REMOVED) nm__flight_clear_seen(&shard->cache->flight);
        for (int i = 0; i < NM__CLEAR_ENTRIES && left > 0; i++, left--) {
            bool dead = shard->dead.tail != 0;
            uint32_t at = dead ? shard->dead.tail : nm__policy_any(&shard->policy);
            if (at == 0) {
                left = 0;
                break;
            }
            uint64_t hash = nm__entry_hash(shard, nm__entry_at(shard, at));
            nm__entry_leave(shard, nm__entry_place(shard, at, hash), dead ? NM_EVICT_REMOVED : reason, &doomed);
            (void)nm__index_step(&shard->index);
        }
        nm__shard_unlock(shard, &doomed);
    }
}

/* All entries of the shard are dead from now on: out of the counts at once, given back by later calls. */
static void bury(nm__shard *shard) {
    nm__doomed doomed = {0};
    nm__shard_lock(shard);
    nm__flight_clear_seen(&shard->cache->flight);
    nm__list list;
    nm__policy_clear_to(&shard->policy, &list);
    if (shard->dead.tail == 0) {
        shard->dead = list;
    } else if (list.head != 0) {
        nm__node_set_next(&nm__entry_at(shard, shard->dead.tail)->node, list.head);
        nm__node_set_prev(&nm__entry_at(shard, list.head)->node, shard->dead.tail);
        shard->dead.tail = list.tail;
    }
    uint32_t count = shard->dead_count + (uint32_t)shard->entry_count;
    nm_atomic_store(&shard->cleared, shard->version, NM_RELAXED);
    /* release: pairs with the acquire in nm__entry_dead, which then sees `cleared` */
    nm_atomic_store(&shard->dead_count, count, NM_RELEASE);
    nm_atomic_store(&shard->used_bytes, 0, NM_RELAXED);
    nm_atomic_store(&shard->entry_count, 0, NM_RELAXED);
    nm__shard_unlock(shard, &doomed);
}

void nm_cache_clear(nm_cache *cache) {
    if (cache == NULL) return;
    bool at_once = cache->on_evict == NULL && !nm_atomic_load(&cache->had_objects, NM_RELAXED);
    for (unsigned i = 0; i < cache->shard_count; i++) {
        if (at_once)
            bury(&cache->shards[i]);
        else /* somebody has to be told of each */
            nm__cache_empty(&cache->shards[i], NM_EVICT_REMOVED);
    }
    nm__sampler_clear(cache);
}

static void close_all(nm_cache *cache) {
    nm__process_leave(&cache->member);
    for (unsigned i = 0; i < cache->shard_count; i++) nm__cache_empty(&cache->shards[i], NM_EVICT_CLOSED);
    dismantle(cache);
}

/* relaxed: set before others use it, or by the thread whose callbacks look at it */
void nm__cache_use_plain_locks(nm_cache *cache) { nm_atomic_store(&cache->locked_reads, true, NM_RELAXED); }

nm_status nm_cache_close(nm_cache *cache) {
    if (cache == NULL) return NM_OK;
    nm__counts out;
    nm__counts_sum(cache, &out);
    if (out.pins != 0) return NM_EBUSY;
    nm__holder_remove(&cache->holder);
    /* relaxed: one thread closes, and what runs on it from now on is its own callbacks */
    nm__cache_use_plain_locks(cache);
    nm_atomic_store(&cache->closing, true, NM_RELAXED);
    close_all(cache);
    return NM_OK;
}

static void force_close(nm__holder *holder, nm__leaks *leaks, const char *site) {
    nm_cache *cache = (nm_cache *)(void *)holder;
    nm__cache_use_plain_locks(cache);
    nm_atomic_store(&cache->closing, true, NM_RELAXED); /* relaxed: as in nm_cache_close */
    nm__slots_end_all(cache, leaks, site);
    close_all(cache);
}

/* ---- resize ---- */

/* Also: no take under the limit that stood before is under way after this. */
static void share_all(nm_cache *cache, bool grows) {
    nm__lock_take(&cache->desk.lock);
    nm__lock_give(&cache->desk.lock);
    for (unsigned i = 0; i < cache->shard_count; i++) {
        nm__shard_lock(&cache->shards[i]);
        nm__shard_drain(&cache->shards[i]);
        if (grows) cache->shards[i].grown_out = false;
        nm__shard_share(&cache->shards[i]);
        nm__lock_give(&cache->shards[i].lock);
    }
}

/* Gives back until no more than `budget` is granted; or until a later resize took over. */
static bool shrink_to(nm_cache *cache, size_t budget, uint64_t ticket) {
    for (;;) {
        /* relaxed: all takes under the old limit ended when the shards' locks were passed */
        size_t granted = nm_atomic_load(&cache->granted_bytes, NM_RELAXED);
        if (granted <= budget || nm_atomic_load(&cache->resize_count, NM_RELAXED) != ticket) return true;
        if (nm__cache_gather(cache, NULL, granted - budget, NM_EVICT_SPACE, NM__GATHER_ALL) == 0)
            return nm_atomic_load(&cache->granted_bytes, NM_RELAXED) <= budget; /* relaxed: as above */
    }
}

nm_status nm_cache_resize(nm_cache *cache, size_t budget_bytes) {
    if (cache == NULL || budget_bytes < cache->least_bytes) return NM_EINVAL;
    if (budget_bytes > NM__BYTES_MAX || budget_bytes / NM__RESIZE_MAX > cache->opening_budget ||
        (budget_bytes / NM__RESIZE_MAX == cache->opening_budget && budget_bytes % NM__RESIZE_MAX != 0))
        return NM_ECAPACITY;
    pthread_mutex_lock(&cache->resize_lock);
    uint64_t ticket = nm_atomic_add(&cache->resize_count, 1, NM_RELAXED) + 1; /* relaxed: written under the lock */
    bool grows = budget_bytes >= nm_atomic_load(&cache->budget_bytes, NM_RELAXED);
    /* The budget first: what is granted is above it at no instant. */
    if (grows) nm_atomic_store(&cache->budget_bytes, budget_bytes, NM_RELAXED);
    nm_atomic_store(&cache->limit_bytes, budget_bytes, NM_RELAXED);
    pthread_mutex_unlock(&cache->resize_lock);
    share_all(cache, grows);
    if (nm__sampler_fit(cache)) nm__settle(cache->scope, &cache->holder);
    if (grows) return NM_OK;
    bool fits = shrink_to(cache, budget_bytes, ticket);
    pthread_mutex_lock(&cache->resize_lock);
    bool last = nm_atomic_load(&cache->resize_count, NM_RELAXED) == ticket;
    if (last && fits) nm_atomic_store(&cache->budget_bytes, budget_bytes, NM_RELAXED);
    if (last && !fits)
        nm_atomic_store(&cache->limit_bytes, nm_atomic_load(&cache->budget_bytes, NM_RELAXED), NM_RELAXED);
    pthread_mutex_unlock(&cache->resize_lock);
    share_all(cache, last && !fits);
    if (nm__sampler_fit(cache)) nm__settle(cache->scope, &cache->holder);
    return fits ? NM_OK : NM_EBUSY;
}

size_t nm__cache_floor(const nm_cache *cache) {
    size_t limit = nm_atomic_load(&cache->limit_bytes, NM_RELAXED); /* relaxed: a goal, not a bound */
    size_t floor = cache->floor_bytes != 0 ? nm__min(cache->floor_bytes, limit) : limit / NM__FLOOR_SHARE;
    return nm__max(floor, cache->least_bytes);
}

/* ---- figures ---- */

size_t nm_cache_used(const nm_cache *cache) {
    if (cache == NULL) return 0;
    size_t sum = 0;
    for (unsigned i = 0; i < cache->shard_count; i++) sum += nm_atomic_load(&cache->shards[i].used_bytes, NM_RELAXED);
    /* The shards were not read at one instant: bytes that went from one to another may have been seen twice. */
    return nm__min(sum, nm_cache_granted(cache));
}

size_t nm_cache_granted(const nm_cache *cache) {
    return cache != NULL ? nm_atomic_load(&cache->granted_bytes, NM_RELAXED) : 0; /* relaxed: a figure */
}

size_t nm_cache_budget(const nm_cache *cache) {
    return cache != NULL ? nm_atomic_load(&cache->budget_bytes, NM_RELAXED) : 0; /* relaxed: a figure */
}

size_t nm_cache_count(const nm_cache *cache) {
    size_t sum = 0;
    for (unsigned i = 0; cache != NULL && i < cache->shard_count; i++)
        sum += nm_atomic_load(&cache->shards[i].entry_count, NM_RELAXED); /* relaxed: a figure */
    return sum;
}

void(nm_cache_get_stats)(const nm_cache *cache, nm_cache_stats *out) {
    nm_cache_get_stats_sized(cache, out, sizeof *out);
}

void nm_cache_get_stats_sized(const nm_cache *cache, nm_cache_stats *out, size_t out_bytes) {
    nm_cache_stats stats;
    if (out == NULL) return;
    memset(&stats, 0, sizeof stats);
    for (unsigned i = 0; cache != NULL && i < cache->shard_count; i++) {
        nm__shard *shard = (nm__shard *)&cache->shards[i];
        nm__shard_lock(shard);
        nm__shard_drain(shard);
        stats.puts += shard->puts;
        stats.evictions += shard->evictions;
        stats.rejections += shard->rejections;
        stats.expirations += shard->expirations;
        stats.entry_count += shard->entry_count;
        stats.used_bytes += shard->used_bytes;
        stats.window_bytes += nm__policy_bytes(&shard->policy, NM__WINDOW);
        stats.probation_bytes += nm__policy_bytes(&shard->policy, NM__PROBATION);
        stats.protected_bytes += nm__policy_bytes(&shard->policy, NM__PROTECTED);
        stats.index_bytes += nm__index_bytes(&shard->index);
        stats.policy_bytes += shard->tables_bytes;
        nm__lock_give(&shard->lock);
    }
    if (cache != NULL) {
        nm__counts counts;
        nm__counts_sum(cache, &counts);
        stats.hits = counts.hits;
        stats.misses = counts.misses;
        stats.pinned_count = (size_t)counts.pins;
        stats.pinned_bytes = (size_t)counts.pinned_bytes;
        stats.loads = nm_atomic_load(&cache->loads, NM_RELAXED); /* relaxed: figures */
        stats.load_failures = nm_atomic_load(&cache->load_failures, NM_RELAXED);
        stats.policy_bytes += nm_atomic_load(&cache->sampler.bytes, NM_RELAXED);
        stats.granted_bytes = nm_cache_granted(cache);
        stats.budget_bytes = nm_cache_budget(cache);
        stats.used_bytes = nm__min(stats.used_bytes, stats.granted_bytes);
        stats.shard_count = cache->shard_count;
        stats.policy = cache->policy;
        stats.objective = cache->objective;
        nm__name_copy(stats.name, cache->name);
    }
    nm__struct_write(out, out_bytes, &stats, sizeof stats);
}
