// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Leases that find nothing at hand: from the thread's inbox, from the depot, by growth, from what other threads keep; and a
 * refusal only when there is nothing at all. */
#include "check/check.h"
#include "pool/pool_internal.h"

const nm_lease nm__no_lease;

/* Coarse time, so that a report can tell old leases from young ones: sixteenths of a second. */
void nm__pool_look_at_clock(nm_pool *pool) {
    uint32_t now = (uint32_t)(nm__os_get()->clock_coarse_ms() / 64) << NM__SLOT_KIND_BITS | NM__SLOT_LEASE;
    /* only if it is another: all threads have this line in their caches */
    nm__halves stamp = {.half = {0, now}};
    if (nm_atomic_load(&pool->face.stamp.both, NM_RELAXED) != stamp.both)
        nm_atomic_store(&pool->face.stamp.both, stamp.both, NM_RELAXED);
}

static nm__taken taken_by(nm_pool *pool, nm__station *station, nm__slot *slot) {
    if (slot != NULL && pool->watched) nm__check_unpoison(slot->data, pool->face.chunk_bytes);
    return (nm__taken){slot, station != NULL ? &station->magazine : nm__nobody(pool)};
}

/* One try with the lock. Whatever is on its way to the depot (a trim's pick, growth, what was collected) is so under the
 * lock, or seen by nm__pool_is_idle_kept: who finds nothing knows that all are leased, or that a release has not come to
 * its end. Where others wait, what is found is theirs. */
static nm_status try_locked(nm_pool *pool, bool grow, size_t *wanted, nm__slot **out, nm__late *late) {
    bool others = nm_atomic_load(&pool->waiting, NM_SEQ_CST) != 0;
    *out = others ? NULL : nm__depot_pop(pool, &pool->head);
    nm_status st = *out != NULL ? NM_OK : NM_EBUDGET;
    if (*out == NULL && grow) st = nm__pool_grow(pool, 1, true, wanted, out);
    if (st == NM_OK && others) {
        nm__depot_push(pool, &pool->head, *out, *out);
        *out = NULL;
        st = NM_ECAPACITY;
    }
    if (st == NM_OK || NM__FAULT(refuse_without_collecting)) return st;
    /* Once in any case: while nothing is frozen, a buffer may be released into a ring that was looked at already while another
     * is taken from one that was not yet. Again and again: an owner that was caught in a pop puts back what it claimed, and
     * takes another from the depot; or others do, and what they give back for it lies where we have been. */
    for (bool first = !NM__FAULT(refuse_unfrozen); *out == NULL && (first || nm__pool_is_idle_kept(pool));
         first = false) {
        nm__pool_collect(pool, late);
        if (others) break;
        *out = nm__depot_pop(pool, &pool->head);
        if (NM__FAULT(collect_once)) break;
    }
    int event = nm_atomic_load(&pool->event_fd, NM_RELAXED);
    if (*out == NULL && event >= 0) {
        /* Cleared, armed, then frozen, then one more look: a release behind that look finds the word, and what it signals
         * stays. */
        nm__os_get()->event_clear(event);
        nm_atomic_store(&pool->armed, 1u, NM_SEQ_CST);
        nm__pool_collect(pool, late);
        /* Whoever waited may be served and gone: then nobody comes by here any more. */
        if (!NM__FAULT(arm_without_look)) others = nm_atomic_load(&pool->waiting, NM_SEQ_CST) != 0;
        if (!others) *out = nm__depot_pop(pool, &pool->head);
        /* Not refused after all: what was cleared may have been meant for another who waits for it. */
        if (*out != NULL) nm__os_get()->event_signal(event);
    }
    return *out != NULL ? NM_OK : st;
}

nm__taken nm__pool_take_locked(nm_pool *pool, nm__station *station, nm_status *status) {
    nm_scope *owner = pool->holder.scope;
    bool grow = true;
    for (int round = 0;; round++) {
        size_t wanted = 0;
        nm__slot *slot = NULL;
        nm__late late = {0};
        nm__pool_lock(pool);
        *status = try_locked(pool, grow, &wanted, &slot, &late);
        nm__pool_unlock(pool);
        nm__late_tell(pool, &late);
        if (nm_atomic_load(&pool->waiting, NM_SEQ_CST) != 0) nm__waiters_serve(pool);
        if (*status == NM_OK) {
            nm__settle(owner, &pool->holder);
            return taken_by(pool, station, slot);
        }
        if (*status != NM_EBUDGET || wanted == 0 || round == NM__POOL_ROUNDS) break;
        /* Without the lock, for a hook may come back into this pool. No room: one more look, for another thread's growth or
         * the hook may have left something. */
        grow = nm__make_room(owner, wanted, &pool->holder);
    }
    nm_atomic_add(&pool->refused_count, 1, NM_RELAXED);
    return (nm__taken){NULL, NULL};
}

nm__taken nm__pool_take_slow(nm_pool *pool, nm_status *status_or_null) {
    nm_status unasked, *status = status_or_null != NULL ? status_or_null : &unasked;
    *status = NM_EINVAL;
    if (pool == NULL) return (nm__taken){NULL, NULL};
    *status = NM_OK;
    nm__station *station = nm__station_of_lease(pool);
    nm__pool_look_at_clock(pool);
    nm__slot *slot = station != NULL ? nm__station_take(station) : NULL;
    /* Frozen, or no station. Not while others wait: it would be theirs. */
    if (slot == NULL && nm_atomic_load(&pool->waiting, NM_SEQ_CST) == 0) slot = nm__depot_pop(pool, &pool->head);
    if (slot != NULL) return taken_by(pool, station, slot);
    return nm__pool_take_locked(pool, station, status);
}

/* ---- many ---------------------------------------------------------------------------------------------------------- */

/* Leases up to n of the newest of this thread's magazine, with one claim for all. */
static size_t lease_from(nm_pool *pool, nm__magazine *magazine, nm_lease *out, size_t n, const char *site) {
    uint64_t bottom = nm_atomic_load(&magazine->bottom, NM_RELAXED);
    uint64_t have = bottom - nm_atomic_load(&magazine->top, NM_RELAXED);
    if (have > NM__MAGAZINE_RING) return 0; /* frozen */
    size_t count = nm__min((size_t)have, n);
    uint64_t at = bottom - count;
    nm_atomic_store(&magazine->bottom, at, NM_RELAXED);
    nm__word_order();
    if (NM_UNLIKELY((int64_t)(at - nm_atomic_load(&magazine->top, NM_RELAXED)) < 0)) {
        nm_atomic_store(&magazine->bottom, bottom, NM_RELAXED);
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        nm__slot *slot = nm_atomic_load(&magazine->ring[--bottom % NM__MAGAZINE_RING], NM_RELAXED);
        out[i] = nm__slot_lease(&pool->face, magazine, slot, site);
    }
    return count;
}

size_t nm_pool_lease_many_at(nm_pool *pool, nm_lease *out, size_t n, const char *site) {
    if (out == NULL) return 0;
    size_t done = 0;
    while (pool != NULL && done < n) {
        nm__magazine *magazine = nm__magazine_at_hand(&pool->face);
        size_t count = magazine != NULL ? lease_from(pool, magazine, out + done, n - done, site) : 0;
        done += count;
        if (count != 0) continue;
        nm__taken taken = nm__pool_take_slow(pool, NULL);
        if (taken.slot == NULL) break;
        out[done++] = nm__slot_lease(&pool->face, taken.magazine, taken.slot, site);
    }
    for (size_t i = done; i < n; i++) out[i] = (nm_lease){0};
    return done;
}

/* ---- held ---------------------------------------------------------------------------------------------------------- */

nm_status nm_pool_lease_in_at(nm_pool *pool, nm_scope *holder, nm_lease *out, const char *site) {
    if (out == NULL) return NM_EINVAL;
    *out = nm__no_lease;
    if (pool == NULL || holder == NULL || !nm__same_root(pool->holder.scope, holder)) return NM_EINVAL;
    nm_status st = nm__hold_prepare(holder, pool->face.chunk_bytes);
    if (st != NM_OK) {
        nm_atomic_add(&pool->refused_count, 1, NM_RELAXED);
        return st;
    }
    st = nm_pool_try_lease_at(pool, out, site);
    if (st == NM_OK)
        nm__hold(holder, out->slot, out->generation, out->size);
    else
        nm__hold_cancel(holder, pool->face.chunk_bytes);
    return st;
}

/* ---- plain functions, for pointers and bindings -------------------------------------------------------------------- */

nm_lease(nm_pool_lease)(nm_pool *pool) { return nm_pool_lease_at(pool, "?"); }
nm_status(nm_pool_try_lease)(nm_pool *pool, nm_lease *out) { return nm_pool_try_lease_at(pool, out, "?"); }
size_t(nm_pool_lease_many)(nm_pool *pool, nm_lease *out, size_t n) { return nm_pool_lease_many_at(pool, out, n, "?"); }
nm_status(nm_pool_lease_in)(nm_pool *pool, nm_scope *holder, nm_lease *out) {
    return nm_pool_lease_in_at(pool, holder, out, "?");
}
