// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A thread's station: how it comes to one, the rare ways of its ring, and what becomes of it when the thread ends. */
#include "check/check.h"
#include "pool/pool_internal.h"

__thread nm__thread_pools nm__thread __attribute__((__tls_model__("initial-exec")));

/* Leases that came without a station, of the pools that the thread used so last. A thread that leases a few buffers and ends
 * should not cost a page. */
#define VISITS_BEFORE_STATION 8
static __thread struct {
    uint64_t pool_id;
    unsigned count;
} visits[NM__THREAD_MAGAZINES] __attribute__((__tls_model__("initial-exec")));

/* Address of a variable of the thread: no two that live have the same. */
static const void *this_thread(void) { return &nm__thread; }

/* ---- to have one --------------------------------------------------------------------------------------------------- */

static void at_hand(nm__station *station) {
    uint64_t id = station->magazine.pool->face.id;
    nm__thread.magazines[id % NM__THREAD_MAGAZINES] = (nm__thread_magazine){id, &station->magazine};
}

/* Most buffers of one more ring; 0: no more may be kept. A quarter of what is left is shared between ring and letters, so that
 * those who come later get something too. Parcels are on their way to somebody who needs them. */
static size_t room_of(const nm_pool *pool) {
    size_t room = nm__min(pool->magazine_count, nm_atomic_load(&pool->front_allowance, NM_RELAXED) / 4 * 2 / 3);
    return room >= 2 ? room : 0;
}

/* Room of that many. */
static void furnish(nm_pool *pool, nm__station *station, size_t room, bool fresh) {
    /* A station that somebody had before keeps its parcels, of which some may still be under way. */
    for (size_t i = 0; fresh && i < NM__PARCELS; i++) {
        station->parcels[i].next = station->empties;
        station->empties = &station->parcels[i];
    }
    station->room = room;
    station->letters_max = nm__min(room / 2, NM__LETTERS);
    station->allowance = room + station->letters_max;
    nm_atomic_sub(&pool->front_allowance, station->allowance, NM_RELAXED);
}

static nm__station *resting_station(nm_pool *pool) {
    size_t count = nm_atomic_load(&pool->station_count, NM_RELAXED);
    for (size_t i = 0; pool->resting_count != 0 && i < count; i++) {
        nm__station *station = nm__station_at(pool, i);
        if (nm_atomic_load(&station->magazine.thread, NM_RELAXED) == NULL) return station;
    }
    return NULL;
}

static nm__station *new_station(nm_pool *pool) {
    size_t count = nm_atomic_load(&pool->station_count, NM_RELAXED);
    if (count == NM__STATIONS_MAX) return NULL;
    nm__station *station = nm__station_at(pool, count);
    unsigned char *page = (unsigned char *)station - NM__STATION_OFFSET;
    /* Elastic, and only where there is plenty: it saves time, and must not cost anybody a buffer. */
    if (nm__room(pool->holder.scope) < 8 * NM__STATION_BYTES) return NULL;
    if (nm__range_commit(pool->holder.scope, page, NM__STATION_BYTES, NM__GRANT_ELASTIC, &pool->holder) != NM_OK)
        return NULL;
    nm_atomic_add(&pool->granted_bytes, NM__STATION_BYTES, NM_RELAXED);
    station->magazine.pool = pool;
    for (size_t i = 0; i < NM__PARCELS; i++) station->parcels[i].home = station;
    return station;
}

static nm__station *make(nm_pool *pool) {
    /* A glance first: where no more is allowed a thread comes here with every lease. */
    if (!pool->stations_on || room_of(pool) == 0) return NULL;
    /* A thread whose end nobody told would leave its station behind for ever. */
    if (!nm__process_watch_thread() || !nm__pool_trylock(pool)) return NULL;
    size_t room = room_of(pool);
    nm__station *station = room != 0 ? resting_station(pool) : NULL;
    bool fresh = station == NULL;
    if (fresh && room != 0) station = new_station(pool);
    if (station != NULL) {
        furnish(pool, station, room, fresh);
        uint64_t frozen = nm_atomic_load(&pool->frozen, NM_RELAXED) != 0 ? NM__MAGAZINE_FROZEN : 0;
        uint64_t bottom = nm_atomic_load(&station->magazine.bottom, NM_RELAXED);
        nm_atomic_store(&station->magazine.top, bottom | frozen, NM_RELAXED);
        station->magazine.limit = pool->zeroing ? 0 : bottom + station->room;
        nm_atomic_store(&station->out_top, nm_atomic_load(&station->out_bottom, NM_RELAXED) | frozen, NM_RELAXED);
        /* seq_cst: what others sent to this station while it was nobody's they have looked at themselves, or it is seen
         * from now on by the owner (nm__letters_send). */
        (void)nm_atomic_exchange(&station->magazine.thread, this_thread(), NM_SEQ_CST);
        /* release: pairs with the acquires of those who look at all stations */
        if (fresh) nm_atomic_add(&pool->station_count, 1, NM_RELEASE);
        if (!fresh) pool->resting_count--;
        at_hand(station);
    }
    nm__pool_unlock(pool);
    return station;
}

nm__station *nm__station_find(nm_pool *pool, bool want) {
    nm__magazine *magazine = nm__magazine_at_hand(&pool->face);
    if (magazine != NULL) return (nm__station *)(void *)magazine;
    /* acquire: pairs with the release in make(); the owner of a station has made it itself, or sees it */
    size_t count = nm_atomic_load(&pool->station_count, NM_ACQUIRE);
    for (size_t i = 0; i < count; i++) {
        nm__station *station = nm__station_at(pool, i);
        if (nm_atomic_load(&station->magazine.thread, NM_RELAXED) != this_thread()) continue;
        at_hand(station);
        return station;
    }
    return want ? make(pool) : NULL;
}

nm__station *nm__station_of_lease(nm_pool *pool) {
    nm__station *station = nm__station_find(pool, false);
    if (station != NULL || !pool->stations_on) return station;
    uint64_t id = pool->face.id;
    size_t at = (size_t)(id % NM__THREAD_MAGAZINES);
    if (visits[at].pool_id != id) {
        visits[at].pool_id = id;
        visits[at].count = 0;
    }
    return ++visits[at].count > VISITS_BEFORE_STATION ? make(pool) : NULL;
}

/* ---- moves --------------------------------------------------------------------------------------------------------- */

bool nm__station_move_begin(nm__station *station) {
    uint64_t moves = nm_atomic_load(&station->moves, NM_RELAXED);
    nm_atomic_store(&station->moves, moves + 1, NM_RELAXED);
    /* First the word, then the look, as with `bottom`: who freezes has a barrier on all processors between his two. */
    nm__word_order();
    if (!nm__station_is_frozen(station)) return true;
    nm__station_move_end(station);
    return false;
}

void nm__station_move_end(nm__station *station) {
    uint64_t moves = nm_atomic_load(&station->moves, NM_RELAXED);
    nm_atomic_store(&station->moves, moves + 1, NM_RELEASE); /* pairs with the acquires in collect.c */
}

/* ---- the ring ------------------------------------------------------------------------------------------------------ */

/* Half of a ring at most, so that leases and releases that alternate around its ends do not move buffers each time. */
static size_t batch_of(const nm__station *station) { return nm__min((station->room + 1) / 2, NM__BATCH); }

/* From the depot into the empty ring. */
static void refill(nm__station *station) {
    nm__slot *slots[NM__BATCH];
    size_t count = nm__depot_pop_some(station->magazine.pool, slots, batch_of(station));
    /* The top of the depot becomes the top of the ring. */
    while (count != 0) nm__magazine_push(&station->magazine, slots[--count]);
}

/* `top` may have moved: how far the ring may grow by now. */
static void look_at_limit(nm__station *station) {
    uint64_t top = nm_atomic_load(&station->magazine.top, NM_RELAXED);
    bool inline_path = (top & NM__MAGAZINE_FROZEN) == 0 && !station->magazine.pool->zeroing;
    station->magazine.limit = inline_path ? top + station->room : 0;
}

nm__slot *nm__station_take(nm__station *station) {
    nm__slot *slot = nm__magazine_pop(&station->magazine);
    if (slot != NULL) return slot;
    if (!nm__station_move_begin(station)) return NULL;
    nm_pool *pool = station->magazine.pool;
    nm__late late = {0};
    nm__chain rest = {0};
    nm__inbox_take(station, &rest, &late);
    nm__chain_push(pool, &rest);
    if (nm__magazine_count(&station->magazine) == 0) refill(station);
    nm__station_move_end(station);
    if (rest.count != 0) nm__pool_answer(pool);
    nm__late_tell(pool, &late);
    return nm__magazine_pop(&station->magazine);
}

/* The oldest go into the depot. */
static void spill(nm__station *station) {
    nm_pool *pool = station->magazine.pool;
    if (!nm__station_move_begin(station)) return;
    uint64_t top = nm_atomic_load(&station->magazine.top, NM_RELAXED);
    size_t count = batch_of(station);
    if ((top & NM__MAGAZINE_FROZEN) == 0 && nm__magazine_count(&station->magazine) >= count) {
        nm__slot *slots[NM__BATCH];
        for (size_t i = 0; i < count; i++)
            slots[i] = nm_atomic_load(&station->magazine.ring[(top + i) % NM__MAGAZINE_RING], NM_RELAXED);
        /* Fails if the station was frozen since: then they are another's. */
        bool ours = nm_atomic_cas(&station->magazine.top, &top, top + count, NM_ACQ_REL, NM_RELAXED);
        if (ours || NM__FAULT(spill_unchecked)) {
            nm__chain chain = {0};
            for (size_t i = 0; i < count; i++) nm__chain_add(pool, &chain, slots[i]);
            nm__chain_push(pool, &chain);
        }
    }
    nm__station_move_end(station);
}

bool nm__station_put(nm__station *station, nm__slot *slot) {
    if (nm__magazine_count(&station->magazine) >= station->room) spill(station);
    look_at_limit(station);
    if (nm__station_is_frozen(station) || nm__magazine_count(&station->magazine) >= station->room) return false;
    nm__magazine_push(&station->magazine, slot);
    nm__word_order();
    /* Frozen meanwhile? Then this one may lie in the ring unseen. */
    if (nm__station_is_frozen(station)) nm__pool_answer(station->magazine.pool);
    return true;
}

/* ---- the thread ends ----------------------------------------------------------------------------------------------- */

static void retire(nm__station *station) {
    nm_pool *pool = station->magazine.pool;
    nm__late late = {0};
    nm__chain chain = {0};
    nm__pool_lock(pool);
    /* Nobody can freeze it now; it may be frozen already, for somebody who waits. */
    uint64_t bottom = nm_atomic_load(&station->magazine.bottom, NM_RELAXED);
    uint64_t top = nm_atomic_load(&station->magazine.top, NM_RELAXED), frozen = top & NM__MAGAZINE_FROZEN;
    for (top &= ~NM__MAGAZINE_FROZEN; top != bottom; top++)
        nm__chain_add(pool, &chain, nm_atomic_load(&station->magazine.ring[top % NM__MAGAZINE_RING], NM_RELAXED));
    nm_atomic_store(&station->magazine.top, top | frozen, NM_RELEASE);

    uint64_t letters[NM__LETTERS];
    size_t count = 0;
    uint64_t out_bottom = nm_atomic_load(&station->out_bottom, NM_RELAXED);
    uint64_t out_top = nm_atomic_load(&station->out_top, NM_RELAXED) & ~NM__MAGAZINE_FROZEN;
    for (; out_top != out_bottom; out_top++)
        letters[count++] = nm_atomic_load(&station->out[out_top % NM__LETTERS], NM_RELAXED);
    nm_atomic_store(&station->out_top, out_top | frozen, NM_RELEASE);
    nm__letters_end(pool, NULL, letters, count, &chain, &late);

    nm_atomic_add(&pool->front_allowance, station->allowance, NM_RELAXED);
    pool->resting_count++;
    nm__thread.magazines[pool->face.id % NM__THREAD_MAGAZINES] = (nm__thread_magazine){0, NULL};
    /* seq_cst, and the inbox after it: who sends something later sees that nobody will look, and does so himself. */
    (void)nm_atomic_exchange(&station->magazine.thread, NULL, NM_SEQ_CST);
    nm__parcel *parcels = nm_atomic_exchange(&station->inbox, NULL, NM_SEQ_CST);
    nm__letters_end(pool, parcels, NULL, 0, &chain, &late);
    nm__chain_push(pool, &chain);
    nm__pool_unlock(pool);
    if (chain.count != 0) nm__pool_answer(pool);
    nm__late_tell(pool, &late);
}

void nm__pool_thread_ends(nm_pool *pool) {
    nm__station *station = nm__station_find(pool, false);
    if (station != NULL) retire(station);
}
