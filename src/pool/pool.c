// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Open, close, trim, statistics. */
#include <string.h>

#include "base/options.h"
#include "check/check.h"
#include "pool/pool_internal.h"

static nm_pool *pool_of(const nm__holder *holder) {
    return (nm_pool *)((unsigned char *)(uintptr_t)holder - offsetof(nm_pool, holder));
}

/* ---- the holder -------------------------------------------------------------------------------------------------- */

/* Slots that are out. Relaxed but for group_count: a count, exact when nobody leases or releases. */
static size_t leased_count(const nm_pool *pool) {
    /* acquire: pairs with the release in nm__pool_grow; shows the groups' `slots` */
    size_t groups = nm_atomic_load(&pool->group_count, NM_ACQUIRE), leased = 0;
    for (size_t group = 0; group < groups; group++) {
        const nm__slot *slots = pool->groups[group].slots;
        for (size_t i = 0; i < NM__GROUP_COUNT; i++) leased += nm_atomic_load(&slots[i].generation, NM_RELAXED) & 1;
    }
    return leased;
}

static size_t holder_used(const nm__holder *holder) {
    const nm_pool *pool = pool_of(holder);
    return leased_count(pool) * pool->chunk_bytes;
}

static size_t holder_reclaim(nm__holder *holder, size_t wanted_bytes) {
    nm_pool *pool = pool_of(holder);
    /* relaxed: a glance, to spare the lock of a pool that has nothing */
    if ((nm_atomic_load(&pool->head, NM_RELAXED) & NM__HEAD_NUMBER_MASK) == 0) return 0;
    if (pthread_mutex_trylock(&pool->lock) != 0) return 0;
    size_t given = nm__pool_trim_locked(pool, 0, wanted_bytes);
    pthread_mutex_unlock(&pool->lock);
    return given;
}

static void holder_close(nm__holder *holder, nm__leaks *leaks, const char *site) {
    nm_pool *pool = pool_of(holder);
    size_t count = nm_atomic_load(&pool->group_count, NM_RELAXED) * NM__GROUP_COUNT;
    for (size_t i = 0; i < count; i++) {
        nm__slot *slot = nm__pool_slot_of_index(pool, i);
        uint64_t generation = nm_atomic_load(&slot->generation, NM_RELAXED);
        /* acquire: pairs with the release of the lease; shows leased_at */
        if ((generation & 1) == 0 ||
            !nm_atomic_cas(&slot->generation, &generation, generation + 1, NM_ACQUIRE, NM_RELAXED))
            continue;
        nm__leaks_note(leaks, NM_LEAK_LEASE, pool->name, 1, pool->chunk_bytes,
                       nm_atomic_load(&slot->leased_at, NM_RELAXED));
        nm_atomic_store(&slot->released_at, site, NM_RELAXED);
    }
    nm__pool_destroy(pool);
}

static const nm__holder_class holder_class = {
    .part = "pool", .reclaim = holder_reclaim, .close = holder_close, .used = holder_used};

/* ---- open -------------------------------------------------------------------------------------------------------- */

typedef struct nm__geometry {
    size_t stride, unit_count, unit_bytes;
} nm__geometry;

/* Buffers lie `stride` apart; a unit is the fewest that fill whole pages. Where an odd stride would make that a large
 * piece, the stride is rounded up, by a 32nd at most, until it does not. */
static nm__geometry geometry_of(size_t chunk_bytes, size_t align) {
    size_t stride = nm__round_up(chunk_bytes, align), odd = stride & (~stride + 1);
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
            nm__pool_push_chain(pool, slot, slot);
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
    nm__geometry g = geometry_of(o.chunk_bytes, align);
    /* Neither wraps: at most 2^24 buffers of at most 2^30 + 2^21 bytes. */
    if (o.prealloc_count * (g.unit_bytes / g.unit_count) > nm__limit(scope)) return NM_EBUDGET;
    size_t cap = o.max_count != 0 ? o.max_count : default_cap(scope, &g, o.prealloc_count);
    size_t group_max = (cap + NM__GROUP_COUNT - 1) / NM__GROUP_COUNT;
    size_t own_bytes = NM__POOL_BYTES + nm__round_up(group_max * sizeof(nm__group), NM__PAGE_BYTES);

    void *own;
    st = nm__range_reserve(own_bytes, NM__PAGE_BYTES, &own);
    if (st != NM_OK) return st;
    st = nm__range_commit(scope, own, NM__POOL_BYTES, NM__GRANT_FULL, NULL);
    if (st != NM_OK) {
        nm__range_release(own, own_bytes);
        return st;
    }
    nm_pool *pool = own;
    memset(pool, 0, sizeof *pool);
    pool->chunk_bytes = o.chunk_bytes;
    pool->watched = nm__check_active();
    pool->stride = g.stride;
    pool->unit_count = g.unit_count;
    pool->unit_bytes = g.unit_bytes;
    pool->cap = cap;
    pool->own_bytes = own_bytes;
    pool->groups = (nm__group *)((unsigned char *)own + NM__POOL_BYTES);
    pool->granted_bytes = NM__POOL_BYTES;
    pool->holder.class = &holder_class;
    pool->holder.scope = scope;
    pool->holder.name = pool->name;
    nm__name_copy(pool->name, o.name);
    pthread_mutex_init(&pool->lock, NULL);

    st = buffers_reserve(pool, &o, nm__max(align, NM__PAGE_BYTES));
    if (st == NM_OK) {
        pool->group_max = (pool->cap + NM__GROUP_COUNT - 1) / NM__GROUP_COUNT;
        st = prealloc(pool, o.prealloc_count);
    }
    if (st != NM_OK) {
        nm__pool_destroy(pool);
        return st;
    }
    nm__holder_add(scope, &pool->holder, NM__RECLAIM_POOL);
    nm__settle(scope, &pool->holder);
    *out = pool;
    return NM_OK;
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

nm_status nm_pool_close(nm_pool *pool) {
    if (pool == NULL) return NM_OK;
    if (leased_count(pool) != 0) return NM_EBUSY;
    nm__holder_remove(&pool->holder);
    nm__pool_destroy(pool);
    return NM_OK;
}

size_t nm_pool_trim(nm_pool *pool, size_t keep_free) {
    if (pool == NULL) return 0;
    pthread_mutex_lock(&pool->lock);
    size_t given = nm__pool_trim_locked(pool, keep_free, SIZE_MAX);
    pthread_mutex_unlock(&pool->lock);
    return given;
}

void nm_pool_get_stats_sized(const nm_pool *pool, nm_pool_stats *out, size_t out_bytes) {
    size_t total = nm_atomic_load(&pool->total_count, NM_RELAXED);
    size_t leased = leased_count(pool);
    nm_pool_stats stats = {
        .total_count = nm__max(total, leased), /* others may have grown it while the slots were counted */
        .leased_count = leased,
        .peak_count = nm_atomic_load(&pool->peak_count, NM_RELAXED),
        .max_count = pool->cap,
        .chunk_bytes = pool->chunk_bytes,
        .granted_bytes = nm_atomic_load(&pool->granted_bytes, NM_RELAXED),
        .grow_count = nm_atomic_load(&pool->grow_count, NM_RELAXED),
        .refused_count = nm_atomic_load(&pool->refused_count, NM_RELAXED),
    };
    stats.free_count = stats.total_count - leased;
    memcpy(stats.name, pool->name, sizeof stats.name);
    nm__struct_write(out, out_bytes, &stats, sizeof stats);
}

nm_status(nm_pool_open)(nm_pool **out, nm_scope *scope, const nm_pool_options *options) {
    return nm_pool_open_at(out, scope, options, "?");
}
void(nm_pool_get_stats)(const nm_pool *pool, nm_pool_stats *out) {
    nm_pool_get_stats_sized(pool, out, sizeof(nm_pool_stats));
}
