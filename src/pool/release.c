// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Releases that the inline path leaves: by another thread, with a full ring, of shared buffers, by address; and those that
 * are wrong. */
#include <string.h>

#include "check/check.h"
#include "pool/pool_internal.h"

/* ---- where free buffers go ----------------------------------------------------------------------------------------- */

void nm__buffer_rest(const nm_pool *pool, nm__slot *slot) {
    if (pool->zeroing) memset(slot->data, 0, pool->face.chunk_bytes);
    if (pool->watched) nm__check_poison(slot->data, pool->face.chunk_bytes);
}

void nm__pool_put(nm_pool *pool, nm__station *station, nm__slot *slot) {
    nm__buffer_rest(pool, slot);
    if (station != NULL && nm__station_put(station, slot)) return;
    nm__depot_push(pool, &pool->head, slot, slot);
    if (!NM__FAULT(release_without_answer)) nm__pool_answer(pool);
}

/* ---- misuse -------------------------------------------------------------------------------------------------------- */

static void misuse(const nm_pool *pool, const nm__slot *slot, const char *what, const void *data, const char *site) {
    nm__misuse(&(nm_misuse){
        .what = what,
        .part = nm__lease_class.part,
        .name = pool != NULL ? pool->name : NULL,
        .address = data,
        .site = site,
        .leased_at = slot != NULL ? nm_atomic_load(&slot->leased_at, NM_RELAXED) : NULL,
        .released_at = slot != NULL ? nm_atomic_load(&slot->released_at, NM_RELAXED) : NULL,
    });
}

static bool is_ours(const nm__slot *slot, const void *data) {
    const nm__slot_class *class = nm__slot_class_of(slot);
    bool ours = class == &nm__share_class || (class == &nm__lease_class && slot->data == data);
    return ours && nm__magazine_of(slot) != NULL;
}

void nm__lease_misuse(const nm__slot *slot, const char *what, const void *data, const char *site) {
    misuse(is_ours(slot, data) ? nm__pool_of(slot) : NULL, slot, what, data, site);
}

static __attribute__((noinline, cold)) void stale_lease(const nm__slot *slot, const void *data, const char *site) {
    /* Has the slot gone on to another pool, to another part, or to nobody? Then its name is not ours to tell. */
    bool ours = is_ours(slot, data);
    nm__lease_misuse(slot, ours ? "lease released twice" : "lease released after its pool was closed", data, site);
}

void nm__late_tell(const nm_pool *pool, const nm__late *late) {
    for (size_t i = 0; i < late->count; i++) {
        const nm__slot *slot = late->slots[i];
        misuse(pool, slot, "lease released twice, by two threads", slot->data,
               nm_atomic_load(&slot->released_at, NM_RELAXED));
    }
    if (late->more != 0) misuse(pool, NULL, "more leases released twice, by two threads", NULL, NULL);
}

/* ---- release ------------------------------------------------------------------------------------------------------- */

/* The generation is ended, by us. */
static void ended(nm_pool *pool, nm__station *station, nm__slot *slot, const char *site) {
    nm_atomic_store(&slot->released_at, site, NM_RELAXED);
    if (nm__lease_leaves(pool, slot)) nm__pool_put(pool, station, slot);
}

static void share_ended(nm_pool *pool, nm__station *station, nm__slot *share, nm__slot *buffer, const char *site) {
    nm_atomic_store(&share->released_at, site, NM_RELAXED);
    nm_atomic_sub(&pool->shared_count, 1, NM_RELAXED);
    nm__depot_push(pool, &pool->shares, share, share);
    if (nm__share_leaves(pool, buffer)) nm__pool_put(pool, station, buffer);
}

/* False: it was not out, or another's release of the same was first. */
static bool release(nm__slot *slot, uint64_t generation, const char *site) {
    if (!nm__slot_is_out(slot, generation)) return false;
    nm__magazine *magazine = nm__magazine_of(slot);
    nm_pool *pool = magazine->pool;
    bool far =
        magazine != nm__nobody(pool) && nm_atomic_load(&magazine->thread, NM_RELAXED) != (const void *)&nm__thread;
    nm__station *station = nm__station_find(pool, far);
    if (magazine == nm__nobody(pool)) {
        bool is_share = nm__is_share(slot);
        nm__slot *buffer = nm__slot_of_buffer(pool, slot);
        if (!nm__end_common(slot, generation)) return false;
        if (is_share)
            share_ended(pool, station, slot, buffer, site);
        else
            ended(pool, station, slot, site);
        return true;
    }
    if (!far) {
        if (!nm__end_own(slot, generation)) return false;
        nm__far_mark_settle(slot); /* of a release that was too late */
        ended(pool, station, slot, site);
        return true;
    }
    nm_atomic_store(&slot->nm__far_mark, nm__generation_mark(generation), NM_RELEASE);
    nm_atomic_store(&slot->released_at, site, NM_RELAXED);
    /* Of a shared one the holders are counted at once, for the pool must not close before the last of them. */
    bool shared = nm_atomic_load(&slot->nm__link, NM_ACQUIRE) != 0;
    if (!shared && station != NULL && nm__letter_post(station, slot, generation)) return true;
    if (!nm__end_far_now(slot, generation)) return false;
    ended(pool, station, slot, site);
    return true;
}

bool nm__lease_release_slow(void *data, nm__slot *slot, uint64_t generation, const char *site) {
    bool done = release(slot, generation, site);
    if (NM_UNLIKELY(!done)) stale_lease(slot, data, site);
    return done;
}

bool nm__lease_release_tied(void *data, nm__slot *slot, uint64_t generation, const char *site) {
    nm_pool *pool = nm__pool_of(slot);
    if (!nm__end_own(slot, generation)) {
        stale_lease(slot, data, site);
        return false;
    }
    ended(pool, nm__station_find(pool, false), slot, site);
    return true;
}

/* Releases leases of this thread's magazine, up to the first that needs more than the inline path; how many. They are pushed
 * together: until then nobody can take them. */
static size_t release_into(nm__magazine *magazine, nm_lease *leases, size_t n, const char *site) {
    uint64_t at = nm_atomic_load(&magazine->bottom, NM_RELAXED);
    size_t i = 0;
    for (; i < n && at < magazine->limit; i++) {
        nm__slot *slot = leases[i].slot;
        uint64_t generation = leases[i].generation;
        /* as in nm_lease_release_at */
        if (leases[i].data == NULL || nm_atomic_load(&slot->nm__own_mark, NM_ACQUIRE) != 0 ||
            nm_atomic_load(&slot->rare.both, NM_ACQUIRE) != 0 ||
            nm_atomic_load(&slot->generation, NM_RELAXED) != generation || nm__magazine_of(slot) != magazine)
            break;
        nm_atomic_store(&slot->nm__own_mark, nm__generation_mark(generation), NM_RELAXED);
        nm__word_order();
        if (NM_UNLIKELY(nm_atomic_load(&slot->claim, NM_RELAXED) - generation <= 1)) {
            /* told only when what was ended before it is pushed */
            if (!nm__end_own(slot, generation)) break;
        }
        nm_atomic_store(&slot->released_at, site, NM_RELAXED);
        nm_atomic_store(&magazine->ring[at % NM__MAGAZINE_RING], slot, NM_RELAXED);
        leases[i].data = NULL;
        at++;
    }
    nm_atomic_store(&magazine->bottom, at, NM_RELEASE);
    nm__word_order();
    if (NM_UNLIKELY(nm_atomic_load(&magazine->top, NM_RELAXED) >= NM__MAGAZINE_FROZEN)) nm__pool_answer(magazine->pool);
    return i;
}

void nm_lease_release_many_at(nm_lease *leases, size_t n, const char *site) {
    for (size_t i = 0; leases != NULL && i < n;) {
        nm__slot *slot = leases[i].data != NULL ? leases[i].slot : NULL;
        if (slot != NULL && nm__slot_is_out(slot, leases[i].generation) &&
            nm_atomic_load(&nm__magazine_of(slot)->thread, NM_RELAXED) == (const void *)&nm__thread)
            i += release_into(nm__magazine_of(slot), leases + i, n - i, site);
        if (i < n) {
            nm_lease_release_at(&leases[i], site);
            i++;
        }
    }
}

void nm__lease_end(nm_lease *lease) { nm_lease_release_at(lease, "end of NM_LEASE_SCOPED"); }

void nm_pool_release_data_at(nm_pool *pool, void *data, const char *site) {
    if (data == NULL || pool == NULL) return;
    /* as integers: the address may be anybody's; below the base it wraps to beyond the end */
    size_t offset = (uintptr_t)data - (uintptr_t)pool->base;
    size_t index = offset / pool->stride;
    /* acquire: pairs with the release in nm__pool_grow; shows the group's `slots` */
    size_t known = nm_atomic_load(&pool->group_count, NM_ACQUIRE) * NM__GROUP_COUNT;
    if (index >= nm__min(known, pool->cap)) {
        misuse(pool, NULL, "foreign address", data, site);
        return;
    }
    nm__slot *slot = nm__pool_slot_of_index(pool, index);
    if (offset != index * pool->stride) {
        misuse(pool, slot, "address inside a buffer", data, site);
        return;
    }
    nm_lease lease = {.data = data, .slot = slot, .generation = nm_atomic_load(&slot->generation, NM_ACQUIRE)};
    if (nm__slot_is_out(slot, lease.generation))
        nm_lease_release_at(&lease, site);
    else
        misuse(pool, slot, "buffer is not leased", data, site);
}

/* ---- what a scope sees of a slot that it holds ------------------------------------------------------------------- */

/* NULL owner: the pool is closed, the slot was not taken by another since. */
static const char *slot_name(const nm__slot *slot) {
    return nm__magazine_of(slot) != NULL ? nm__pool_of(slot)->name : "";
}

static size_t slot_bytes(const nm__slot *slot) {
    return nm__magazine_of(slot) != NULL ? nm__pool_of(slot)->face.chunk_bytes : 0;
}

const nm__slot_class nm__lease_class = {
    .part = "pool",
    .leak = NM_LEAK_LEASE,
    .release = release,
    .out = nm__slot_is_out,
    .name = slot_name,
    .bytes = slot_bytes,
};
const nm__slot_class nm__share_class = {
    .part = "pool",
    .leak = NM_LEAK_LEASE,
    .release = release,
    .out = nm__slot_is_out,
    .name = slot_name,
    .bytes = slot_bytes,
};

/* ---- plain functions, for pointers and bindings -------------------------------------------------------------------- */

void(nm_lease_release)(nm_lease *lease) { nm_lease_release_at(lease, "?"); }
void(nm_lease_release_many)(nm_lease *leases, size_t n) { nm_lease_release_many_at(leases, n, "?"); }
void(nm_pool_release_data)(nm_pool *pool, void *data) { nm_pool_release_data_at(pool, data, "?"); }
