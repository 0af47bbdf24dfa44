// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What becomes of a pool in the child of a fork, where only the forking thread is left.
 *
 * The child's memory is its own copy. What is leased stays so, by whomever: the program may know a lease of a thread that is
 * gone. What other threads kept, or had in their hands between two places, is free; so all that is free is found by looking
 * at every slot, and put into the depot. */
#include "pool/pool_internal.h"

static nm_pool *pool_of(nm__member *member) {
    return (nm_pool *)(void *)((unsigned char *)member - offsetof(nm_pool, member));
}

static void thread_ends(nm__member *member) { nm__pool_thread_ends(pool_of(member)); }

static void before(nm__member *member) {
    nm_pool *pool = pool_of(member);
    pthread_mutex_lock(&pool->lock);
    pthread_mutex_lock(&pool->wait_lock);
}

static bool is_out(const nm__slot *slot) {
    uint64_t generation = nm_atomic_load(&slot->generation, NM_RELAXED);
    /* Decided is ended, though the thread that did it came no further. */
    return nm__slot_is_out(slot, generation) && nm_atomic_load(&slot->claim, NM_RELAXED) != generation + 1;
}

/* Whichever way it ended: nobody will look at it any more. */
static void settle(nm__slot *slot) {
    uint64_t generation = nm_atomic_load(&slot->generation, NM_RELAXED);
    if (is_out(slot)) return;
    nm_atomic_store(&slot->nm__own_mark, nm__generation_mark(generation), NM_RELAXED);
    nm_atomic_store(&slot->nm__far_mark, 0u, NM_RELAXED);
}

/* Nothing is on its way any more, and nobody but the forking thread has a station. */
static void reset_station(nm_pool *pool, nm__station *station) {
    uint64_t bottom = nm_atomic_load(&station->magazine.bottom, NM_RELAXED);
    nm_atomic_store(&station->magazine.top, bottom, NM_RELAXED);
    nm_atomic_store(&station->out_top, nm_atomic_load(&station->out_bottom, NM_RELAXED), NM_RELAXED);
    nm_atomic_store(&station->moves, 0, NM_RELAXED);
    nm_atomic_store(&station->inbox, NULL, NM_RELAXED);
    nm_atomic_store(&station->returned, NULL, NM_RELAXED);
    station->empties = NULL;
    for (size_t i = 0; i < NM__PARCELS; i++) {
        station->parcels[i].next = station->empties;
        station->empties = &station->parcels[i];
    }
    station->magazine.limit = 0; /* set with the next release */
    const void *thread = nm_atomic_load(&station->magazine.thread, NM_RELAXED);
    if (thread == NULL || thread == (const void *)&nm__thread) return;
    nm_atomic_store(&station->magazine.thread, NULL, NM_RELAXED);
    nm_atomic_add(&pool->front_allowance, station->allowance, NM_RELAXED);
    pool->resting_count++;
}

/* Counts the holders of all buffers anew: of each that is shared, its own lease and the shares that are out. A free slot is
 * in no list now. */
static void count_holders(nm_pool *pool) {
    size_t count = nm_atomic_load(&pool->group_count, NM_RELAXED) * NM__GROUP_COUNT, shared = 0, orphans = 0;
    for (size_t i = 0; i < count; i++) {
        nm_atomic_store(&nm__pool_slot_of_index(pool, i)->nm__link, 0u, NM_RELAXED);
        settle(nm__pool_slot_of_index(pool, i));
    }
    nm_atomic_store(&pool->shares, 0, NM_RELAXED);
    for (nm__slot *page = pool->share_pages; page != NULL; page = page->data)
        for (size_t i = 1; i < NM__SLOTS_PER_PAGE; i++) {
            if (!is_out(&page[i])) {
                nm__depot_push(pool, &pool->shares, &page[i], &page[i]);
                continue;
            }
            nm__slot *buffer = nm__slot_of_buffer(pool, &page[i]);
            if (nm_atomic_add(&buffer->nm__link, 1, NM_RELAXED) == 0 && is_out(buffer))
                nm_atomic_add(&buffer->nm__link, 1, NM_RELAXED);
            shared++;
        }
    for (size_t i = 0; i < count; i++) {
        nm__slot *slot = nm__pool_slot_of_index(pool, i);
        orphans += nm_atomic_load(&slot->nm__link, NM_RELAXED) != 0 && !is_out(slot);
    }
    nm_atomic_store(&pool->shared_count, shared, NM_RELAXED);
    nm_atomic_store(&pool->orphan_count, orphans, NM_RELAXED);
}

static void repair(nm_pool *pool) {
    size_t stations = nm_atomic_load(&pool->station_count, NM_RELAXED);
    for (size_t i = 0; i < stations; i++) reset_station(pool, nm__station_at(pool, i));
    nm_atomic_store(&pool->waiting, 0u, NM_RELAXED);
    nm_atomic_store(&pool->armed, 0u, NM_RELAXED);
    nm_atomic_store(&pool->frozen, 0u, NM_RELAXED);
    nm_atomic_store(&pool->again, 0u, NM_RELAXED);
    pool->oldest = pool->newest = NULL;
    /* Its file is the parent's too. */
    int fd = nm_atomic_load(&pool->event_fd, NM_RELAXED);
    if (fd >= 0) nm__os_get()->close_file(fd);
    nm_atomic_store(&pool->event_fd, -1, NM_RELAXED);

    (void)nm__depot_pop_all(pool);
    count_holders(pool);
    size_t groups = nm_atomic_load(&pool->group_count, NM_RELAXED);
    for (size_t group = groups; group-- > 0;)
        for (size_t i = NM__GROUP_COUNT; i-- > 0;) {
            nm__slot *slot = &pool->groups[group].slots[i];
            bool warm = (pool->groups[group].warm >> i & 1) != 0;
            if (!warm || is_out(slot) || nm_atomic_load(&slot->nm__link, NM_RELAXED) != 0) continue;
            /* A release that had not come so far. */
            nm__buffer_rest(pool, slot);
            nm__depot_push(pool, &pool->head, slot, slot);
        }
}

static void after(nm__member *member, bool in_child) {
    nm_pool *pool = pool_of(member);
    if (in_child) repair(pool);
    pthread_mutex_unlock(&pool->wait_lock);
    pthread_mutex_unlock(&pool->lock);
}

const nm__member_class nm__pool_member_class = {.thread_ends = thread_ends, .before_fork = before, .after_fork = after};
