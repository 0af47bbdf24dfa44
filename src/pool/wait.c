// SPDX-License-Identifier: Apache-2.0 OR MIT
/* To wait for a buffer: in line, or in an event loop.
 *
 * As long as anybody waits the stations are frozen, so that every release comes by here. Who releases never waits for the
 * lock of the line: who holds it looks again after giving it back. */
#include "check/check.h"
#include "pool/pool_internal.h"

void nm__waiters_serve(nm_pool *pool) {
    while (nm_atomic_load(&pool->waiting, NM_SEQ_CST) != 0 &&
           (nm_atomic_load(&pool->head, NM_SEQ_CST) & NM__HEAD_NUMBER_MASK) != 0) {
        if (pthread_mutex_trylock(&pool->wait_lock) != 0) return; /* that one looks again */
        while (pool->oldest != NULL) {
            nm__slot *slot = nm__depot_pop(pool, &pool->head);
            if (slot == NULL) break;
            nm__waiter *waiter = pool->oldest;
            pool->oldest = waiter->newer;
            if (pool->oldest != NULL)
                pool->oldest->older = NULL;
            else
                pool->newest = NULL;
            waiter->slot = slot;
            nm_atomic_sub(&pool->waiting, 1, NM_SEQ_CST);
            /* release: pairs with the acquire of the waiter, which may be gone behind it; only the address is used then */
            nm_atomic_store(&waiter->served, 1u, NM_RELEASE);
            nm__os_get()->wake(&waiter->served);
        }
        pthread_mutex_unlock(&pool->wait_lock);
        if (NM__FAULT(no_look_after_unlock)) return;
    }
}

static void leave(nm_pool *pool, nm__waiter *waiter) {
    if (waiter->older != NULL)
        waiter->older->newer = waiter->newer;
    else
        pool->oldest = waiter->newer;
    if (waiter->newer != NULL)
        waiter->newer->older = waiter->older;
    else
        pool->newest = waiter->older;
}

static void stand_in_line(nm_pool *pool, nm__waiter *waiter) {
    pthread_mutex_lock(&pool->wait_lock);
    waiter->older = pool->newest;
    if (pool->newest != NULL)
        pool->newest->newer = waiter;
    else
        pool->oldest = waiter;
    pool->newest = waiter;
    nm_atomic_add(&pool->waiting, 1, NM_SEQ_CST);
    pthread_mutex_unlock(&pool->wait_lock);
}

/* Gives the lock back; what was put into the depot meanwhile is for who waits. */
static void collect_and_serve(nm_pool *pool) {
    nm__late late = {0};
    nm__pool_lock(pool);
    nm__pool_collect(pool, &late);
    nm__pool_unlock(pool);
    nm__late_tell(pool, &late);
    nm__waiters_serve(pool);
}

/* Bytes that come free elsewhere nobody tells the pool about: who waits for them asks now and then. */
#define GROW_EVERY_NS ((uint64_t)20 * 1000 * 1000)
static bool may_grow(const nm_pool *pool) { return nm_atomic_load(&pool->total_count, NM_RELAXED) < pool->cap; }
static void try_to_grow(nm_pool *pool) {
    nm_scope *owner = pool->holder.scope;
    for (int round = 0; round < NM__POOL_ROUNDS; round++) {
        size_t wanted = 0;
        nm__slot *slot = NULL;
        nm__pool_lock(pool);
        nm_status st = nm__pool_grow(pool, 1, false, &wanted, &slot);
        if (st == NM_OK) nm__depot_push(pool, &pool->head, slot, slot);
        nm__pool_unlock(pool);
        /* Idle elsewhere is as good as free: who does not wait would get it too. */
        if (st != NM_EBUDGET || wanted == 0 || !nm__make_room(owner, wanted, &pool->holder)) break;
    }
    nm__settle(owner, &pool->holder);
    nm__waiters_serve(pool);
}

/* Is there a buffer that can come, or come back? Whether it is out at this moment is no question: one that is free now was not
 * when the lease was refused, or is on its way to somebody. */
static bool any_to_come(const nm_pool *pool) {
    return nm_atomic_load(&pool->total_count, NM_RELAXED) != 0 || nm_atomic_load(&pool->waiting, NM_RELAXED) != 0;
}

/* The slot; NULL: the time ran out. */
static nm__slot *wait_for_slot(nm_pool *pool, uint64_t timeout_ns) {
    const nm__os *os = nm__os_get();
    uint64_t begin = os->clock_ns(), left = timeout_ns;
    nm__waiter me = {0};
    nm_atomic_add(&pool->wait_count, 1, NM_RELAXED);
    stand_in_line(pool, &me);
    collect_and_serve(pool);
    while (nm_atomic_load(&me.served, NM_ACQUIRE) == 0) { /* pairs with the release in nm__waiters_serve */
        if (timeout_ns != UINT64_MAX) {
            uint64_t passed = os->clock_ns() - begin;
            left = passed < timeout_ns ? timeout_ns - passed : 0;
        }
        if (left == 0) break;
        os->wait(&me.served, 0, may_grow(pool) ? nm__min(left, GROW_EVERY_NS) : left);
        if (nm_atomic_load(&me.served, NM_RELAXED) == 0 && may_grow(pool)) try_to_grow(pool);
    }
    if (nm_atomic_load(&me.served, NM_ACQUIRE) == 0) {
        pthread_mutex_lock(&pool->wait_lock);
        /* Served after all? Then there is a buffer, late or not. */
        bool in_line = nm_atomic_load(&me.served, NM_ACQUIRE) == 0;
        if (in_line) {
            leave(pool, &me);
            nm_atomic_sub(&pool->waiting, 1, NM_SEQ_CST);
        }
        pthread_mutex_unlock(&pool->wait_lock);
        nm__waiters_serve(pool); /* others may have found the lock taken */
        /* A lease may have been refused, and an event loop gone to sleep, because this buffer was for us. */
        bool left_behind = (nm_atomic_load(&pool->head, NM_SEQ_CST) & NM__HEAD_NUMBER_MASK) != 0;
        if (left_behind && !NM__FAULT(leave_untold)) nm__pool_answer(pool);
    }
    /* Thaws, if nobody waits any more. Not an answer: nothing has come free, so no event. */
    if (nm_atomic_load(&pool->waiting, NM_SEQ_CST) == 0 && nm__pool_trylock(pool)) nm__pool_unlock(pool);
    return me.slot;
}

nm_status nm_pool_lease_wait_at(nm_pool *pool, nm_lease *out, uint64_t timeout_ns, const char *site) {
    if (out == NULL) return NM_EINVAL;
    *out = nm__no_lease;
    if (pool == NULL) return NM_EINVAL;
    nm_status st = NM_ECAPACITY;
    if (nm_atomic_load(&pool->waiting, NM_SEQ_CST) == 0) {
        st = nm_pool_try_lease_at(pool, out, site);
        if (st == NM_OK) return st;
    }
    if (!any_to_come(pool)) return st;
    if (timeout_ns == 0) return NM_ETIMEDOUT;
    nm__slot *slot = wait_for_slot(pool, timeout_ns);
    if (slot == NULL) return NM_ETIMEDOUT;
    if (pool->watched) nm__check_unpoison(slot->data, pool->face.chunk_bytes);
    nm__station *station = nm__station_find(pool, false);
    nm__pool_look_at_clock(pool);
    *out = nm__slot_lease(&pool->face, station != NULL ? &station->magazine : nm__nobody(pool), slot, site);
    return NM_OK;
}

int nm_pool_event_fd(nm_pool *pool) {
    if (pool == NULL) return -1;
    nm__pool_lock(pool);
    int fd = nm_atomic_load(&pool->event_fd, NM_RELAXED);
    if (fd < 0) {
        fd = nm__os_get()->event_open();
        nm_atomic_store(&pool->event_fd, fd, NM_RELEASE);
        /* A lease may have been refused before anybody asked for this. */
        if (fd >= 0) {
            nm__late late = {0};
            nm_atomic_store(&pool->armed, 1u, NM_SEQ_CST);
            nm__pool_collect(pool, &late);
            nm__pool_unlock(pool);
            nm__late_tell(pool, &late);
            if ((nm_atomic_load(&pool->head, NM_SEQ_CST) & NM__HEAD_NUMBER_MASK) != 0) nm__pool_answer(pool);
            return fd;
        }
    }
    nm__pool_unlock(pool);
    return fd;
}

nm_status(nm_pool_lease_wait)(nm_pool *pool, nm_lease *out, uint64_t timeout_ns) {
    return nm_pool_lease_wait_at(pool, out, timeout_ns, "?");
}
