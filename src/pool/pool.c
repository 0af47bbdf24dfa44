// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Open, close, trim, statistics. */
#include <string.h>
#include <sys/uio.h>

#include "base/options.h"
#include "check/check.h"
#include "pool/pool_internal.h"

static nm_pool *pool_of(const nm__holder *holder) {
    return (nm_pool *)((unsigned char *)(uintptr_t)holder - offsetof(nm_pool, holder));
}

/* ---- the holder -------------------------------------------------------------------------------------------------- */

static bool is_out(const nm__slot *slot) {
    return nm__slot_is_out(slot, nm_atomic_load(&slot->generation, NM_RELAXED));
}

/* Buffers out. Relaxed but for group_count: a count, exact when nobody leases or releases. */
static size_t leased_count(const nm_pool *pool) {
    /* acquire: pairs with the release in nm__pool_grow; shows the groups' `slots` */
    size_t groups = nm_atomic_load(&pool->group_count, NM_ACQUIRE), leased = 0;
    for (size_t group = 0; group < groups; group++) {
        const nm__slot *slots = pool->groups[group].slots;
        for (size_t i = 0; i < NM__GROUP_COUNT; i++) leased += is_out(&slots[i]);
    }
    return leased + nm_atomic_load(&pool->orphan_count, NM_RELAXED);
}

static size_t holder_used(const nm__holder *holder) {
    const nm_pool *pool = pool_of(holder);
    return leased_count(pool) * pool->face.chunk_bytes;
}

static size_t trim(nm_pool *pool, size_t keep_free, size_t wanted_bytes) {
    nm__late late = {0};
    nm__pool_collect(pool, &late);
    size_t given = nm__pool_trim_locked(pool, keep_free, wanted_bytes);
    nm__pool_unlock(pool);
    nm__late_tell(pool, &late);
    nm__waiters_serve(pool); /* who came while the depot was empty */
    return given;
}

static size_t holder_reclaim(nm__holder *holder, size_t wanted_bytes) {
    nm_pool *pool = pool_of(holder);
    /* a glance, to spare the lock of a pool that has nothing */
    if (pool->fixed || !nm__pool_is_idle_kept(pool) || !nm__pool_trylock(pool)) return 0;
    return trim(pool, 0, wanted_bytes);
}

/* ---- what leaked --------------------------------------------------------------------------------------------------- */

/* Of the leases that are out at the close: noted site by site, the site with the oldest lease first. */
typedef struct survey {
    nm_pool *pool;
    nm__leaks *leaks;
    const char *done[NM_LEAK_SITES]; /* sites that are noted */
    size_t done_count;
    uint32_t now;
    const nm__slot *oldest; /* of the other sites */
    uint32_t oldest_age;
} survey;

static bool is_done(const survey *s, const char *site) {
    for (size_t i = 0; i < s->done_count; i++)
        if (s->done[i] == site) return true;
    return false;
}

static void look(survey *s, const nm__slot *slot) {
    if (is_done(s, nm_atomic_load(&slot->leased_at, NM_RELAXED))) return;
    uint32_t age = (s->now - nm_atomic_load(&slot->nm__stamp, NM_RELAXED)) >> NM__SLOT_KIND_BITS;
    if (s->oldest != NULL && age <= s->oldest_age) return;
    s->oldest = slot;
    s->oldest_age = age;
}

static void note(survey *s, const nm__slot *slot) {
    const char *site = nm_atomic_load(&slot->leased_at, NM_RELAXED);
    bool this_time = s->oldest != NULL ? site == nm_atomic_load(&s->oldest->leased_at, NM_RELAXED) : !is_done(s, site);
    if (this_time) nm__leaks_note(s->leaks, NM_LEAK_LEASE, s->pool->name, 1, s->pool->face.chunk_bytes, site);
}

static void each_out(survey *s, void (*visit)(survey *, const nm__slot *)) {
    size_t count = nm_atomic_load(&s->pool->group_count, NM_RELAXED) * NM__GROUP_COUNT;
    for (size_t i = 0; i < count; i++) {
        const nm__slot *slot = nm__pool_slot_of_index(s->pool, i);
        if (is_out(slot)) visit(s, slot);
    }
    for (const nm__slot *page = s->pool->share_pages; page != NULL; page = page->data)
        for (size_t i = 1; i < NM__SLOTS_PER_PAGE; i++)
            if (is_out(&page[i])) visit(s, &page[i]);
}

static void note_leases(nm_pool *pool, nm__leaks *leaks) {
    survey s = {.pool = pool, .leaks = leaks, .now = nm_atomic_load(&pool->face.stamp.half[1], NM_RELAXED)};
    do {
        s.oldest = NULL;
        each_out(&s, look);
        if (s.oldest == NULL) return;
        each_out(&s, note);
        s.done[s.done_count++] = nm_atomic_load(&s.oldest->leased_at, NM_RELAXED);
    } while (s.done_count < NM_LEAK_SITES);
    s.oldest = NULL;
    each_out(&s, note);
}

static void mark_released(nm_pool *pool, nm__slot *slot, const char *site) {
    (void)pool;
    if (is_out(slot)) nm_atomic_store(&slot->released_at, site, NM_RELAXED);
}

static void holder_close(nm__holder *holder, nm__leaks *leaks, const char *site) {
    nm_pool *pool = pool_of(holder);
    nm__process_leave(&pool->member);
    nm__pool_look_at_clock(pool);
    note_leases(pool, leaks);
    size_t count = nm_atomic_load(&pool->group_count, NM_RELAXED) * NM__GROUP_COUNT;
    for (size_t i = 0; i < count; i++) mark_released(pool, nm__pool_slot_of_index(pool, i), site);
    for (nm__slot *page = pool->share_pages; page != NULL; page = page->data)
        for (size_t i = 1; i < NM__SLOTS_PER_PAGE; i++) mark_released(pool, &page[i], site);
    nm__pool_destroy(pool);
}

static const nm__holder_class holder_class = {
    .part = "pool", .reclaim = holder_reclaim, .close = holder_close, .used = holder_used};

/* ---- open -------------------------------------------------------------------------------------------------------- */

/* Of the process: gives pools their ids, nothing else. */
static NM_ATOMIC(uint64_t) pools_opened;

typedef struct nm__geometry {
    size_t stride, unit_count, unit_bytes;
} nm__geometry;

/* Most of a buffer's size that colours may cost; and the least that a pool may hold, for its units become larger. */
#define COLOUR_SHARE       32
#define COLOUR_LEAST_BYTES ((size_t)32 << 20)
#define COLOUR_UNITS_LEAST 128
#define COLOUR_UNIT_BYTES  ((size_t)1 << 20)

/* What a thread may keep, if the options do not say. */
#define MAGAZINE_BYTES ((size_t)8 << 20)
#define MAGAZINE_LEAST ((size_t)8)

/* Buffers lie `stride` apart; a unit is the fewest that fill whole pages. Where an odd stride would make that a large
 * piece, the stride is rounded up, by a 32nd at most, until it does not. */
static nm__geometry geometry_of(size_t chunk_bytes, size_t align, size_t colour_unit_bytes) {
    size_t stride = nm__round_up(chunk_bytes, align), odd = stride & (~stride + 1);
    /* Buffers of whole pages all begin in the same set of the processor's caches (of 64 lines of 64 bytes in the first
     * level): a little more, which makes the stride odd in that sense, spreads them. The least that keeps units small. */
    if (odd >= NM__PAGE_BYTES)
        for (size_t more = align; more < NM__PAGE_BYTES && more <= stride / COLOUR_SHARE; more *= 2)
            if (NM__PAGE_BYTES / more * (stride + more) <= colour_unit_bytes) {
                stride += more;
                return (nm__geometry){.stride = stride,
                                      .unit_count = NM__PAGE_BYTES / more,
                                      .unit_bytes = NM__PAGE_BYTES / more * stride};
            }
    while (odd < NM__PAGE_BYTES && NM__PAGE_BYTES / odd * stride > NM__POOL_STEP_BYTES) {
        stride = nm__round_up(stride, 2 * odd);
        odd = stride & (~stride + 1);
    }
    if (odd < NM__PAGE_BYTES) {
        size_t count = NM__PAGE_BYTES / odd;
        return (nm__geometry){.stride = stride, .unit_count = count, .unit_bytes = count * stride};
    }
    return (nm__geometry){.stride = stride, .unit_count = 1, .unit_bytes = nm__round_up(chunk_bytes, NM__PAGE_BYTES)};
}

/* Buffers that the range is made for, if max_count does not say. */
static size_t default_cap(const nm_scope *scope, const nm__geometry *g, size_t prealloc_count) {
    size_t cap = nm__min(NM__POOL_COUNT_MAX, NM__POOL_RANGE_BYTES / g->stride);
    cap = nm__min(cap, nm__limit(scope) / (g->unit_bytes / g->unit_count));
    return nm__max(nm__max(cap, prealloc_count), 1);
}

static nm_status options_check(const nm_pool_options *o) {
    if (o->chunk_bytes == 0 || o->chunk_bytes > NM__POOL_CHUNK_MAX) return NM_EINVAL;
    if (o->align_bytes != 0 && (!nm__is_power_of_two(o->align_bytes) || o->align_bytes > NM__POOL_ALIGN_MAX))
        return NM_EINVAL;
    if (o->max_count > NM__POOL_COUNT_MAX || o->prealloc_count > NM__POOL_COUNT_MAX) return NM_EINVAL;
    if (o->max_count != 0 && o->prealloc_count > o->max_count) return NM_EINVAL;
    if (o->magazine_count > NM__MAGAZINE_RING || (o->magazine_count & (o->magazine_count - 1)) != 0) return NM_EINVAL;
    if (o->huge_pages && o->align_bytes != NM__POOL_ALIGN_MAX) return NM_EINVAL;
    return NM_OK;
}

/* The range of the buffers; a pool without max_count makes do with less. */
static nm_status buffers_reserve(nm_pool *pool, const nm_pool_options *o, size_t align) {
    size_t least = o->max_count != 0 ? o->max_count : nm__max(o->prealloc_count, 1);
    for (;;) {
        void *base;
        size_t bytes = nm__round_up(pool->cap * pool->stride, NM__PAGE_BYTES);
        nm_status st = nm__range_reserve(bytes, align, &base);
        if (st == NM_OK) {
            pool->base = base;
            pool->range_bytes = bytes;
            return NM_OK;
        }
        if (pool->cap == least) return NM_ENOMEM;
        pool->cap = nm__max(pool->cap / 2, least);
    }
}

/* All or nothing; as lease_slow does for one buffer, but nobody else knows the pool yet. */
static nm_status prealloc(nm_pool *pool, size_t count) {
    size_t have;
    int refusals = 0; /* one after the other: what was made free may be taken by others again and again */
    while ((have = nm_atomic_load(&pool->total_count, NM_RELAXED)) < count) {
        size_t wanted;
        nm__slot *slot;
        pthread_mutex_lock(&pool->lock);
        nm_status st = nm__pool_grow(pool, count - have, false, &wanted, &slot);
        pthread_mutex_unlock(&pool->lock);
        if (st == NM_OK) {
            nm__depot_push(pool, &pool->head, slot, slot);
            refusals = 0;
            continue;
        }
        if (st != NM_EBUDGET || wanted == 0 || ++refusals > NM__POOL_ROUNDS) return st;
        if (!nm__make_room(pool->holder.scope, wanted, &pool->holder)) return st;
    }
    return NM_OK;
}

nm_status nm_pool_open_at(nm_pool **out, nm_scope *scope, const nm_pool_options *options, const char *site) {
    (void)site; /* a pool that is closed with its scope is no leak, so nobody asks where it was opened */
    if (out == NULL) return NM_EINVAL;
    *out = NULL;
    nm_pool_options o = nm_pool_options_init();
    nm_status st = nm__options_read(&o, sizeof o, options);
    if (st == NM_OK) st = scope != NULL ? options_check(&o) : NM_EINVAL;
    if (st != NM_OK) return st;

    size_t align = nm__max(o.align_bytes, NM__POOL_ALIGN_LEAST);
    nm__geometry g = geometry_of(o.chunk_bytes, align, 0);
    /* Neither wraps: at most 2^24 buffers of at most 2^30 + 2^21 bytes. */
    if (o.prealloc_count * (g.unit_bytes / g.unit_count) > nm__limit(scope)) return NM_EBUDGET;
    size_t cap = o.max_count != 0 ? o.max_count : default_cap(scope, &g, o.prealloc_count);
    size_t most_bytes = nm__min(cap * g.stride, nm__limit(scope));
    if (align < NM__PAGE_BYTES && most_bytes >= COLOUR_LEAST_BYTES) {
        g = geometry_of(o.chunk_bytes, align, nm__min(most_bytes / COLOUR_UNITS_LEAST, COLOUR_UNIT_BYTES));
        if (o.max_count == 0) cap = default_cap(scope, &g, o.prealloc_count);
    }
    size_t group_max = (cap + NM__GROUP_COUNT - 1) / NM__GROUP_COUNT;
    size_t fixed_bytes = NM__POOL_BYTES + NM__STATIONS_MAX * NM__STATION_BYTES;
    size_t own_bytes = fixed_bytes + nm__round_up(group_max * sizeof(nm__group), NM__PAGE_BYTES);

    void *own;
    st = nm__range_reserve(own_bytes, NM__PAGE_BYTES, &own);
    if (st != NM_OK) return st;
    st = nm__range_commit(scope, own, NM__POOL_BYTES, NM__GRANT_FULL, NULL);
    if (st != NM_OK) {
        nm__range_release(own, own_bytes);
        return st;
    }
    nm_pool *pool = (nm_pool *)(void *)((unsigned char *)own + NM__POOL_OFFSET);
    memset(pool, 0, sizeof *pool);
    /* relaxed: ids need only differ */
    pool->face.id = nm_atomic_add(&pools_opened, 1, NM_RELAXED) + 1;
    pool->face.chunk_bytes = o.chunk_bytes;
    pool->face.in_thread = offsetof(nm__thread_pools, magazines) +
                           (size_t)(pool->face.id % NM__THREAD_MAGAZINES) * sizeof(nm__thread_magazine);
    nm__nobody(pool)->pool = pool;
    pool->watched = nm__check_active();
    pool->zeroing = o.zero_on_release;
    pool->fixed = o.max_count != 0 && o.prealloc_count == o.max_count;
    size_t by_bytes = nm__max(MAGAZINE_BYTES / o.chunk_bytes, MAGAZINE_LEAST);
    pool->magazine_count = (uint16_t)(o.magazine_count != 0 ? o.magazine_count : nm__min(by_bytes, NM__MAGAZINE_RING));
    pool->event_fd = -1;
    pool->stride = g.stride;
    pool->unit_count = g.unit_count;
    pool->unit_bytes = g.unit_bytes;
    pool->cap = cap;
    pool->own = own;
    pool->own_bytes = own_bytes;
    pool->groups = (nm__group *)(void *)((unsigned char *)own + fixed_bytes);
    pool->granted_bytes = NM__POOL_BYTES;
    pool->holder.class = &holder_class;
    pool->holder.scope = scope;
    pool->holder.name = pool->name;
    nm__name_copy(pool->name, o.name);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_mutex_init(&pool->wait_lock, NULL);
    nm__slot_class_set(NM__SLOT_LEASE, &nm__lease_class);
    nm__slot_class_set(NM__SLOT_SHARE, &nm__share_class);
    nm__pool_look_at_clock(pool);

    st = buffers_reserve(pool, &o, nm__max(align, NM__PAGE_BYTES));
    if (st == NM_OK) {
        /* A wish; a system that has none serves small ones. */
        if (o.huge_pages) nm__os_get()->use_huge_pages(pool->base, pool->range_bytes);
        pool->group_max = (pool->cap + NM__GROUP_COUNT - 1) / NM__GROUP_COUNT;
        st = prealloc(pool, o.prealloc_count);
    }
    if (st != NM_OK) {
        nm__pool_destroy(pool);
        return st;
    }
    /* Threads together keep an eighth at most. Not where a checker wants to see every lease, nor without the barrier. */
    pool->front_allowance = pool->cap / 8;
    pool->stations_on = o.magazine_count != 1 && !pool->watched && nm__os_get()->barrier();
    nm__process_join(&pool->member, &nm__pool_member_class);
    nm__holder_add(scope, &pool->holder, NM__RECLAIM_POOL);
    nm__settle(scope, &pool->holder);
    *out = pool;
    return NM_OK;
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

nm_status nm_pool_close(nm_pool *pool) {
    if (pool == NULL) return NM_OK;
    if (leased_count(pool) != 0) return NM_EBUSY;
    /* What was released for others is looked at before nobody can be told any more. */
    nm__late late = {0};
    nm__pool_lock(pool);
    nm__pool_collect(pool, &late);
    nm__pool_unlock(pool);
    nm__late_tell(pool, &late);
    nm__process_leave(&pool->member);
    nm__holder_remove(&pool->holder);
    nm__pool_destroy(pool);
    return NM_OK;
}

size_t nm_pool_trim(nm_pool *pool, size_t keep_free) {
    if (pool == NULL || pool->fixed) return 0;
    nm__pool_lock(pool);
    return trim(pool, keep_free, SIZE_MAX);
}

static size_t count_kept(const nm_pool *pool, size_t *threads) {
    size_t count = nm_atomic_load(&pool->station_count, NM_ACQUIRE), kept = 0;
    for (size_t i = 0; i < count; i++) {
        const nm__station *station = nm__station_at(pool, i);
        uint64_t top = nm_atomic_load(&station->magazine.top, NM_ACQUIRE) & ~NM__MAGAZINE_FROZEN;
        uint64_t here = nm_atomic_load(&station->magazine.bottom, NM_RELAXED) - top;
        kept += here <= NM__MAGAZINE_RING ? (size_t)here : 0; /* not exact while its owner is at work */
        top = nm_atomic_load(&station->out_top, NM_ACQUIRE) & ~NM__MAGAZINE_FROZEN;
        here = nm_atomic_load(&station->out_bottom, NM_RELAXED) - top;
        kept += here <= NM__LETTERS ? (size_t)here : 0;
        *threads += nm_atomic_load(&station->magazine.thread, NM_RELAXED) != NULL;
    }
    return kept;
}

void nm_pool_get_stats_sized(const nm_pool *pool, nm_pool_stats *out, size_t out_bytes) {
    size_t total = nm_atomic_load(&pool->total_count, NM_RELAXED);
    /* A lease that ended while the slots were counted may count twice: as out, and as one of which shares are. */
    size_t leased = nm__min(leased_count(pool), pool->cap), threads = 0, kept = count_kept(pool, &threads);
    nm_pool_stats stats = {
        .total_count = nm__max(total, leased), /* others may have grown it while the slots were counted */
        .leased_count = leased,
        .peak_count = nm_atomic_load(&pool->peak_count, NM_RELAXED),
        .max_count = pool->cap,
        .chunk_bytes = pool->face.chunk_bytes,
        .granted_bytes = nm_atomic_load(&pool->granted_bytes, NM_RELAXED),
        .grow_count = nm_atomic_load(&pool->grow_count, NM_RELAXED),
        .refused_count = nm_atomic_load(&pool->refused_count, NM_RELAXED),
        .wait_count = nm_atomic_load(&pool->wait_count, NM_RELAXED),
        .waiting_count = nm_atomic_load(&pool->waiting, NM_RELAXED),
        .shared_count = nm_atomic_load(&pool->shared_count, NM_RELAXED),
        .thread_count = threads,
    };
    stats.free_count = stats.total_count - leased;
    stats.front_count = nm__min(kept, stats.free_count);
    memcpy(stats.name, pool->name, sizeof stats.name);
    nm__struct_write(out, out_bytes, &stats, sizeof stats);
}

size_t nm_pool_iovecs(const nm_pool *pool, struct iovec *out, size_t n) {
    if (pool == NULL || !pool->fixed) return 0;
    for (size_t i = 0; i < nm__min(n, pool->cap); i++) {
        out[i].iov_base = pool->base + i * pool->stride;
        out[i].iov_len = pool->face.chunk_bytes;
    }
    return pool->cap;
}

nm_status(nm_pool_open)(nm_pool **out, nm_scope *scope, const nm_pool_options *options) {
    return nm_pool_open_at(out, scope, options, "?");
}
void(nm_pool_get_stats)(const nm_pool *pool, nm_pool_stats *out) {
    nm_pool_get_stats_sized(pool, out, sizeof(nm_pool_stats));
}
