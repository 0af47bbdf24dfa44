// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Memory of the buffers: committed unit by unit when the free list is empty, given back by trim.
 *
 * A unit is the fewest buffers that fill whole pages (one, where a buffer is pages by itself); 64 buffers are a group,
 * which has a page of slots; units never straddle groups. A buffer without memory ("cold") keeps its slot and is found
 * again through the group's bits, lowest address first. */
#include "check/check.h"
#include "pool/pool_internal.h"

/* ---- geometry ---------------------------------------------------------------------------------------------------- */

static uint64_t bits(size_t from, size_t count) {
    return (count == 64 ? ~(uint64_t)0 : ((uint64_t)1 << count) - 1) << from;
}

static size_t count_of(uint64_t mask) { return (size_t)__builtin_popcountll(mask); }

/* Buffers that exist in a group: the last one may be cut by the cap. */
static uint64_t all_of(const nm_pool *pool, size_t group) {
    return bits(0, nm__min(pool->cap - group * NM__GROUP_COUNT, NM__GROUP_COUNT));
}

/* Of the buffers of `mask`, whole units, the first run without a gap, at most `most` buffers long. */
static uint64_t first_run(const nm_pool *pool, uint64_t mask, size_t most) {
    size_t from = (size_t)__builtin_ctzll(mask);
    uint64_t gap = ~(mask >> from);
    size_t count = gap != 0 ? (size_t)__builtin_ctzll(gap) : 64;
    /* Pages in the gaps between buffers are never committed: one buffer at a time then. */
    if (pool->unit_bytes < pool->unit_count * pool->stride) most = 1;
    return bits(from, nm__min(count, most));
}

static unsigned char *run_address(const nm_pool *pool, size_t group, uint64_t run) {
    return pool->base + (group * NM__GROUP_COUNT + (size_t)__builtin_ctzll(run)) * pool->stride;
}

/* Bytes of a run of whole units, or of the last buffers of all. */
static size_t run_bytes(const nm_pool *pool, uint64_t run) {
    size_t count = count_of(run);
    if (pool->unit_bytes < pool->unit_count * pool->stride) return pool->unit_bytes;
    return nm__round_up(count * pool->stride, NM__PAGE_BYTES);
}

static nm_status commit_run(nm_pool *pool, size_t group, uint64_t run, nm__grant_mode mode) {
    unsigned char *address = run_address(pool, group, run);
    size_t bytes = run_bytes(pool, run);
    nm_status st = nm__range_commit(pool->holder.scope, address, bytes, mode, &pool->holder);
    if (st != NM_OK) return st;
    /* relaxed: under the lock; others read it for statistics */
    nm_atomic_add(&pool->granted_bytes, bytes, NM_RELAXED);
    if (pool->watched) nm__check_poison(address, bytes);
    return NM_OK;
}

static size_t decommit_run(nm_pool *pool, size_t group, uint64_t run) {
    unsigned char *address = run_address(pool, group, run);
    size_t bytes = run_bytes(pool, run);
    if (!nm__range_decommit(pool->holder.scope, address, bytes)) return 0;
    nm_atomic_sub(&pool->granted_bytes, bytes, NM_RELAXED);
    /* Poison would outlive the range and hit whoever is given these addresses next. */
    if (pool->watched) nm__check_unpoison(address, bytes);
    return bytes;
}

/* ---- groups ------------------------------------------------------------------------------------------------------ */

void nm__slot_end_life(nm_pool *pool, nm__slot *slot) {
    uint64_t generation = nm_atomic_load(&slot->generation, NM_RELAXED);
    /* A stale lease may still come to this slot: it must not find the way to what is gone. */
    slot->owner = NULL;
    nm_atomic_store(&slot->claim, 0, NM_RELAXED);
    nm_atomic_store(&slot->nm__own_mark, (uint32_t)(slot - pool->slots), NM_RELAXED);
    nm_atomic_store(&slot->nm__far_mark, 0u, NM_RELAXED);
    nm_atomic_store(&slot->nm__link, 0u, NM_RELAXED);
    nm_atomic_store(&slot->generation, generation + 2, NM_RELEASE);
}

static void group_drop(nm_pool *pool, size_t group, bool with_page) {
    nm_scope *owner = pool->holder.scope;
    for (size_t i = 0; i < NM__GROUP_COUNT; i++) nm__slot_end_life(pool, &pool->groups[group].slots[i]);
    nm__slots_give(owner, pool->groups[group].slots);
    nm_atomic_sub(&pool->granted_bytes, NM__PAGE_BYTES, NM_RELAXED);
    if (!with_page) return;
    size_t bytes = pool->groups_bytes - NM__PAGE_BYTES;
    if (!nm__range_decommit(owner, (unsigned char *)pool->groups + bytes, NM__PAGE_BYTES)) return;
    pool->groups_bytes = bytes;
    nm_atomic_sub(&pool->granted_bytes, NM__PAGE_BYTES, NM_RELAXED);
}

/* Makes the next group's record and slots; *with_page: its record needed a page more. Nobody sees it before group_count
 * says so. */
static nm_status group_make(nm_pool *pool, size_t group, bool *with_page) {
    nm_scope *owner = pool->holder.scope;
    *with_page = (group + 1) * sizeof(nm__group) > pool->groups_bytes;
    nm_status st;
    if (*with_page) {
        st = nm__range_commit(owner, (unsigned char *)pool->groups + pool->groups_bytes, NM__PAGE_BYTES,
                              NM__GRANT_QUIET, &pool->holder);
        if (st != NM_OK) return st;
        pool->groups_bytes += NM__PAGE_BYTES;
        nm_atomic_add(&pool->granted_bytes, NM__PAGE_BYTES, NM_RELAXED);
    }
    nm__slot *slots;
    st = nm__slots_take(owner, true, &slots);
    if (st != NM_OK) {
        if (*with_page && nm__range_decommit(owner, (unsigned char *)pool->groups + pool->groups_bytes - NM__PAGE_BYTES,
                                             NM__PAGE_BYTES)) {
            pool->groups_bytes -= NM__PAGE_BYTES;
            nm_atomic_sub(&pool->granted_bytes, NM__PAGE_BYTES, NM_RELAXED);
        }
        return st;
    }
    nm_atomic_add(&pool->granted_bytes, NM__PAGE_BYTES, NM_RELAXED);
    pool->groups[group] = (nm__group){.slots = slots};
    if (pool->slots == NULL) pool->slots = slots - nm__slot_number(slots);
    for (size_t i = 0; i < NM__GROUP_COUNT; i++) {
        size_t index = group * NM__GROUP_COUNT + i;
        slots[i].owner = nm__nobody(pool);
        slots[i].data = pool->base + index * pool->stride;
        nm_atomic_store(&slots[i].leased_at, NULL, NM_RELAXED);
        nm_atomic_store(&slots[i].released_at, NULL, NM_RELAXED);
        nm_atomic_store(&slots[i].nm__own_mark, nm__generation_mark(slots[i].generation), NM_RELAXED); /* not out */
        nm_atomic_store(&slots[i].rare.both, (uint64_t)0, NM_RELAXED);
        nm_atomic_store(&slots[i].nm__stamp, (uint32_t)NM__SLOT_LEASE, NM_RELAXED);
    }
    return NM_OK;
}

/* ---- growth ------------------------------------------------------------------------------------------------------ */

/* The buffers of `run` have memory now: the first is the caller's, the others go into the depot, lowest on top. */
static nm__slot *hand_out(nm_pool *pool, size_t group, uint64_t run) {
    nm__slot *slots = pool->groups[group].slots + __builtin_ctzll(run);
    size_t count = count_of(run);
    nm_atomic_store(&slots->nm__link, 0u, NM_RELAXED); /* was the next in the depot, if it had memory before */
    for (size_t i = 1; i + 1 < count; i++)
        nm_atomic_store(&slots[i].nm__link, (uint32_t)(slots + i + 1 - pool->slots), NM_RELAXED);
    if (count > 1) nm__depot_push(pool, &pool->head, slots + 1, slots + count - 1);
    return slots;
}

/* The first group with a buffer that has no memory; group_count if a new one is to be made. */
static size_t cold_group(nm_pool *pool) {
    size_t count = nm_atomic_load(&pool->group_count, NM_RELAXED);
    while (pool->cold_hint < count && pool->groups[pool->cold_hint].warm == all_of(pool, pool->cold_hint))
        pool->cold_hint++;
    return pool->cold_hint;
}

/* Units to commit beyond what is wanted: as many as there are already, so that the steps double, up to a limit. */
static size_t units_ahead(const nm_pool *pool, size_t units) {
    size_t have = nm_atomic_load(&pool->total_count, NM_RELAXED) / pool->unit_count;
    size_t step = nm__min(have, NM__POOL_STEP_BYTES / (pool->unit_count * pool->stride));
    return step > units ? step - units : 0;
}

nm_status nm__pool_grow(nm_pool *pool, size_t count, bool ahead, size_t *wanted, nm__slot **out) {
    nm_scope *owner = pool->holder.scope;
    size_t group = cold_group(pool);
    *wanted = 0;
    if (group == pool->group_max) return NM_ECAPACITY;

    bool fresh = group == nm_atomic_load(&pool->group_count, NM_RELAXED), with_page = false;
    uint64_t cold = fresh ? all_of(pool, group) : all_of(pool, group) & ~pool->groups[group].warm;
    size_t units = (nm__min(count, NM__GROUP_COUNT) + pool->unit_count - 1) / pool->unit_count;
    uint64_t run = first_run(pool, cold, units * pool->unit_count);

    size_t bytes = run_bytes(pool, run) + (fresh ? 2 * NM__PAGE_BYTES : 0);
    bool room = nm__room(owner) >= bytes;
    nm_status st = fresh ? group_make(pool, group, &with_page) : NM_OK;
    if (st == NM_OK) {
        st = commit_run(pool, group, run, NM__GRANT_QUIET);
        if (st != NM_OK && fresh) group_drop(pool, group, with_page);
    }
    if (st != NM_OK) {
        /* Refused though there was and is room: by nm_scope_fail_after, which a second try would undo. */
        if (st == NM_EBUDGET && !(room && nm__room(owner) >= bytes)) *wanted = bytes;
        return st;
    }

    nm__group *g = &pool->groups[group];
    uint64_t rest = cold & ~run;
    size_t more = ahead && rest != 0 ? units_ahead(pool, units) : 0;
    if (more != 0 && pool->unit_bytes == pool->unit_count * pool->stride) {
        uint64_t extra = first_run(pool, rest, more * pool->unit_count);
        /* Only what follows at once: the buffers handed out are one run. Elastic: growth that can wait takes nothing
         * that others would have to give up. */
        bool adjacent = __builtin_ctzll(extra) == 64 - __builtin_clzll(run);
        if (adjacent && commit_run(pool, group, extra, NM__GRANT_ELASTIC) == NM_OK) run |= extra;
    }
    g->warm |= run;
    size_t total = nm_atomic_add(&pool->total_count, count_of(run), NM_RELAXED) + count_of(run);
    nm_atomic_raise(&pool->peak_count, total);
    nm_atomic_add(&pool->grow_count, 1, NM_RELAXED);
    /* release: pairs with the acquires in nm_pool_release_data_at and leased_count; publishes the group's `slots` and
     * the slots' fields to who comes by index and not through the free list. */
    if (fresh) nm_atomic_store(&pool->group_count, group + 1, NM_RELEASE);
    *out = hand_out(pool, group, run);
    return NM_OK;
}

/* ---- trim -------------------------------------------------------------------------------------------------------- */

/* Notes every slot of the chain in its group's `idle`. Returns how many. */
static size_t note_idle(nm_pool *pool, uint32_t first) {
    size_t count = 0;
    for (uint32_t n = first; n != NM__SLOT_NONE; n = nm_atomic_load(&pool->slots[n].nm__link, NM_RELAXED)) {
        size_t index = nm__pool_index_of_slot(pool, pool->slots + n);
        pool->groups[index / NM__GROUP_COUNT].idle |= bits(index % NM__GROUP_COUNT, 1);
        count++;
    }
    return count;
}

/* Leaves in the groups' `idle` only what is to lose its memory: whole units, highest first, until most_count buffers or
 * wanted_bytes are reached. */
static void choose(nm_pool *pool, size_t most_count, size_t wanted_bytes) {
    for (size_t group = nm_atomic_load(&pool->group_count, NM_RELAXED); group-- > 0;) {
        nm__group *g = &pool->groups[group];
        uint64_t chosen = 0, idle = g->idle;
        while (idle != 0) {
            size_t top = (size_t)(63 - __builtin_clzll(idle));
            uint64_t unit = bits(top & ~(pool->unit_count - 1), pool->unit_count) & all_of(pool, group);
            bool whole = (idle & unit) == unit;
            idle &= ~unit;
            if (!whole || wanted_bytes == 0 || count_of(unit) > most_count) continue;
            chosen |= unit;
            most_count -= count_of(unit);
            wanted_bytes -= nm__min(wanted_bytes, run_bytes(pool, unit));
        }
        g->idle = chosen;
    }
}

/* Puts back on the list what was not chosen, in the order that it had. */
static void put_back(nm_pool *pool, uint32_t first) {
    nm__slot *kept_first = NULL, *kept_last = NULL;
    for (uint32_t n = first, next; n != NM__SLOT_NONE; n = next) {
        nm__slot *slot = pool->slots + n;
        next = nm_atomic_load(&slot->nm__link, NM_RELAXED);
        size_t index = nm__pool_index_of_slot(pool, slot);
        if ((pool->groups[index / NM__GROUP_COUNT].idle & bits(index % NM__GROUP_COUNT, 1)) != 0) continue;
        if (kept_first == NULL) kept_first = slot;
        if (kept_last != NULL) nm_atomic_store(&kept_last->nm__link, n, NM_RELAXED);
        kept_last = slot;
    }
    if (kept_first != NULL) nm__depot_push(pool, &pool->head, kept_first, kept_last);
}

static void run_put_back(nm_pool *pool, size_t group, uint64_t run) {
    for (; run != 0; run &= run - 1) {
        nm__slot *slot = pool->groups[group].slots + __builtin_ctzll(run);
        nm__depot_push(pool, &pool->head, slot, slot);
    }
}

size_t nm__pool_trim_locked(nm_pool *pool, size_t keep_free, size_t wanted_bytes) {
    uint32_t first = nm__depot_pop_all(pool);
    if (first == NM__SLOT_NONE) return 0;
    size_t count = note_idle(pool, first);
    choose(pool, count > keep_free ? count - keep_free : 0, wanted_bytes);
    put_back(pool, first); /* before the system calls: others may lease these meanwhile */
    size_t given = 0;
    for (size_t group = nm_atomic_load(&pool->group_count, NM_RELAXED); group-- > 0;) {
        nm__group *g = &pool->groups[group];
        while (g->idle != 0) {
            uint64_t run = first_run(pool, g->idle, NM__GROUP_COUNT);
            size_t bytes = decommit_run(pool, group, run);
            g->idle &= ~run;
            if (bytes == 0) {
                run_put_back(pool, group, run);
                continue;
            }
            g->warm &= ~run;
            pool->cold_hint = nm__min(pool->cold_hint, group);
            nm_atomic_sub(&pool->total_count, count_of(run), NM_RELAXED);
            given += bytes;
        }
    }
    return given;
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

/* Gives pages back at the close. Where the system refuses that, the unmapping of the whole range, which follows, does
 * it, so they need not stay charged. */
static void end_pages(nm_scope *owner, void *address, size_t bytes) {
    if (bytes != 0 && !nm__range_decommit(owner, address, bytes)) nm__outside_uncharge(owner, bytes);
}

void nm__pool_destroy(nm_pool *pool) {
    nm_scope *owner = pool->holder.scope;
    size_t count = nm_atomic_load(&pool->group_count, NM_RELAXED);
    for (size_t group = 0; group < count; group++) {
        nm__group *g = &pool->groups[group];
        while (g->warm != 0) {
            uint64_t run = first_run(pool, g->warm, NM__GROUP_COUNT);
            if (pool->watched) nm__check_unpoison(run_address(pool, group, run), run_bytes(pool, run));
            end_pages(owner, run_address(pool, group, run), run_bytes(pool, run));
            g->warm &= ~run;
        }
        for (size_t i = 0; i < NM__GROUP_COUNT; i++) nm__slot_end_life(pool, &g->slots[i]);
        nm__slots_give(owner, g->slots);
    }
    for (nm__slot *page = pool->share_pages, *next; page != NULL; page = next) {
        next = page->data;
        for (size_t i = 0; i < NM__SLOTS_PER_PAGE; i++) nm__slot_end_life(pool, &page[i]);
        nm__slots_give(owner, page);
    }
    if (pool->base != NULL) nm__range_release(pool->base, pool->range_bytes);
    end_pages(owner, pool->groups, pool->groups_bytes);
    size_t stations = nm_atomic_load(&pool->station_count, NM_RELAXED);
    for (size_t i = 0; i < stations; i++)
        end_pages(owner, (unsigned char *)nm__station_at(pool, i) - NM__STATION_OFFSET, NM__STATION_BYTES);
    int event_fd = nm_atomic_load(&pool->event_fd, NM_RELAXED);
    if (event_fd >= 0) nm__os_get()->close_file(event_fd);
    pthread_mutex_destroy(&pool->lock);
    pthread_mutex_destroy(&pool->wait_lock);
    unsigned char *own = pool->own;
    size_t own_bytes = pool->own_bytes;
    end_pages(owner, own, NM__POOL_BYTES);
    nm__range_release(own, own_bytes);
}
