// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Whoever is short of buffers takes what threads keep: freezes the stations, lets all processors pass a barrier, and has
 * their rings to himself. The owners pay nothing for that beyond the look at `top` which they need anyway.
 *
 * The barrier on one side only is the asymmetric form of Dekker's (Dice, Huang, Yang 2001, "Asymmetric Dekker
 * synchronization"; Linux: membarrier). */
#include "pool/pool_internal.h"

/* Rounds of waiting for an owner that was caught in the midst of moving buffers, a few hundred instructions, before the
 * time it needs is taken for the scheduler's. */
#define YIELDS_MAX 100000

void nm__pool_lock(nm_pool *pool) { pthread_mutex_lock(&pool->lock); }
bool nm__pool_trylock(nm_pool *pool) { return pthread_mutex_trylock(&pool->lock) == 0; }

static bool somebody_waits(const nm_pool *pool) {
    return nm_atomic_load(&pool->waiting, NM_SEQ_CST) != 0 || nm_atomic_load(&pool->armed, NM_SEQ_CST) != 0;
}

static void set_frozen(NM_ATOMIC(uint64_t) * top, bool frozen) {
    uint64_t seen = nm_atomic_load(top, NM_RELAXED);
    /* An owner moves its `top` too, as long as it is not frozen. */
    while (!nm_atomic_cas_weak(top, &seen, frozen ? seen | NM__MAGAZINE_FROZEN : seen & ~NM__MAGAZINE_FROZEN,
                               NM_ACQ_REL, NM_RELAXED)) {
    }
}

static void thaw(nm_pool *pool) {
    size_t count = nm_atomic_load(&pool->station_count, NM_RELAXED);
    nm_atomic_store(&pool->frozen, 0u, NM_RELAXED);
    if (NM__FAULT(never_thaw)) return;
    for (size_t i = 0; i < count; i++) {
        nm__station *station = nm__station_at(pool, i);
        set_frozen(&station->out_top, false);
        set_frozen(&station->magazine.top, false);
    }
}

void nm__pool_unlock(nm_pool *pool) {
    nm__late late = {0};
    bool collected = false;
    for (;;) {
        if (nm_atomic_load(&pool->frozen, NM_RELAXED) != 0 && !somebody_waits(pool)) thaw(pool);
        pthread_mutex_unlock(&pool->lock);
        nm__late_tell(pool, &late);
        late = (nm__late){0};
        if (collected) nm__waiters_serve(pool);
        /* seq_cst: who wants it again sets the word and then tries the lock; we give it back and then look. */
        if (nm_atomic_load(&pool->again, NM_SEQ_CST) == 0 || !nm__pool_trylock(pool)) return;
        nm_atomic_store(&pool->again, 0u, NM_SEQ_CST);
        collected = somebody_waits(pool);
        if (collected) nm__pool_collect(pool, &late);
    }
}

static void await_moves(nm__station *station) {
    for (int i = 0; i < YIELDS_MAX && (nm_atomic_load(&station->moves, NM_ACQUIRE) & 1) != 0; i++)
        nm__os_get()->yield();
}

void nm__pool_collect(nm_pool *pool, nm__late *late) {
    size_t count = nm_atomic_load(&pool->station_count, NM_RELAXED);
    nm_atomic_store(&pool->frozen, 1u, NM_RELAXED); /* stations made from now on are so from the start */
    if (count == 0) return;
    for (size_t i = 0; i < count; i++) {
        nm__station *station = nm__station_at(pool, i);
        set_frozen(&station->magazine.top, true);
        set_frozen(&station->out_top, true);
    }
    if (!NM__FAULT(freeze_without_barrier)) nm__os_get()->barrier();

    nm__chain won = {0};
    for (size_t i = 0; i < count; i++) {
        nm__station *station = nm__station_at(pool, i);
        await_moves(station);
        /* acquire: pairs with the releases of `bottom`; shows the cells, and what was done to the buffers */
        uint64_t bottom = nm_atomic_load(&station->magazine.bottom, NM_ACQUIRE);
        uint64_t top = nm_atomic_load(&station->magazine.top, NM_RELAXED) & ~NM__MAGAZINE_FROZEN;
        /* An owner caught in a pop may have claimed one more than there is. */
        for (; (int64_t)(bottom - top) > 0; top++)
            nm__chain_add(pool, &won, nm_atomic_load(&station->magazine.ring[top % NM__MAGAZINE_RING], NM_RELAXED));
        nm_atomic_store(&station->magazine.top, top | NM__MAGAZINE_FROZEN, NM_RELEASE);
    }
    for (size_t i = 0; i < count; i++) {
        nm__station *station = nm__station_at(pool, i);
        uint64_t letters[NM__LETTERS];
        size_t letter_count = 0;
        uint64_t bottom = nm_atomic_load(&station->out_bottom, NM_ACQUIRE);
        uint64_t top = nm_atomic_load(&station->out_top, NM_RELAXED) & ~NM__MAGAZINE_FROZEN;
        for (; top != bottom; top++)
            letters[letter_count++] = nm_atomic_load(&station->out[top % NM__LETTERS], NM_RELAXED);
        nm_atomic_store(&station->out_top, top | NM__MAGAZINE_FROZEN, NM_RELEASE);
        nm__parcel *parcels = nm_atomic_exchange(&station->inbox, NULL, NM_ACQ_REL);
        nm__letters_end(pool, parcels, letters, letter_count, &won, late);
    }
    nm__chain_push(pool, &won);
}

bool nm__pool_is_idle_kept(nm_pool *pool) {
    size_t count = nm_atomic_load(&pool->station_count, NM_ACQUIRE);
    uint64_t before = 0, after = 0;
    bool kept = false;
    /* acquire, all of them: each look is behind the one before. What was put away before this call began is seen; what
     * moves meanwhile makes `moves` or the depot's head another. */
    uint64_t head = nm_atomic_load(&pool->head, NM_ACQUIRE);
    for (size_t i = 0; i < count; i++) {
        uint64_t moves = nm_atomic_load(&nm__station_at(pool, i)->moves, NM_ACQUIRE);
        kept |= (moves & 1) != 0;
        before += moves;
    }
    for (size_t i = 0; i < count; i++) {
        nm__station *station = nm__station_at(pool, i);
        uint64_t top = nm_atomic_load(&station->magazine.top, NM_ACQUIRE) & ~NM__MAGAZINE_FROZEN;
        /* Below `top`: an owner is about to find its ring empty. As long as it does not run it stays so. */
        kept |= (int64_t)(nm_atomic_load(&station->magazine.bottom, NM_ACQUIRE) - top) > 0;
        top = nm_atomic_load(&station->out_top, NM_ACQUIRE) & ~NM__MAGAZINE_FROZEN;
        kept |= nm_atomic_load(&station->out_bottom, NM_ACQUIRE) != top && !NM__FAULT(overlook_letters);
        kept |= nm_atomic_load(&station->inbox, NM_ACQUIRE) != NULL;
    }
    for (size_t i = 0; i < count; i++) after += nm_atomic_load(&nm__station_at(pool, i)->moves, NM_ACQUIRE);
    return kept || before != after || (head & NM__HEAD_NUMBER_MASK) != 0 ||
           nm_atomic_load(&pool->head, NM_ACQUIRE) != head;
}

void nm__pool_answer(nm_pool *pool) {
    /* seq_cst: behind the caller's push; who waits says so before he looks at the depot */
    if (nm_atomic_load(&pool->waiting, NM_SEQ_CST) != 0) {
        bool kept = nm_atomic_load(&pool->frozen, NM_RELAXED) != 0 && nm__pool_is_idle_kept(pool);
        if (kept && !NM__FAULT(answer_without_collecting)) {
            nm_atomic_store(&pool->again, 1u, NM_SEQ_CST);
            if (nm__pool_trylock(pool)) nm__pool_unlock(pool);
        }
        nm__waiters_serve(pool);
    }
    if (nm_atomic_load(&pool->armed, NM_SEQ_CST) != 0 && nm_atomic_exchange(&pool->armed, 0u, NM_SEQ_CST) != 0)
        nm__os_get()->event_signal(nm_atomic_load(&pool->event_fd, NM_RELAXED));
    if (nm_atomic_load(&pool->frozen, NM_RELAXED) != 0 && !somebody_waits(pool) && nm__pool_trylock(pool))
        nm__pool_unlock(pool);
}
