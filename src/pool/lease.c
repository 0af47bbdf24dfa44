// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Lease and release. The fast path is three compare-and-swaps in all: pop, generation, push. */
#include "check/check.h"
#include "pool/pool_internal.h"

/* ---- lease ------------------------------------------------------------------------------------------------------- */

static inline nm_lease lease_of(const nm_pool *pool, nm__slot *slot, uint64_t generation) {
    return (nm_lease){.data = slot->data, .size = pool->chunk_bytes, .slot = slot, .generation = generation};
}

/* Calls in tail position, here and below: so the fast path saves no register. */
static __attribute__((noinline, cold)) nm_lease lease_watched(const nm_pool *pool, nm__slot *slot,
                                                              uint64_t generation) {
    nm__check_unpoison(slot->data, pool->chunk_bytes);
    return lease_of(pool, slot, generation);
}

/* The slot was popped: nobody else has it. */
static inline nm_lease take(const nm_pool *pool, nm__slot *slot, const char *site) {
    nm_atomic_store(&slot->leased_at, site, NM_RELAXED);
    /* relaxed: the pop has ordered it behind the release that made it even */
    uint64_t generation = nm_atomic_load(&slot->generation, NM_RELAXED) + 1;
    /* release: pairs with the acquire in won(), for a release by another thread that has only the address; shows it
     * leased_at. */
    nm_atomic_store(&slot->generation, generation, NM_RELEASE);
    if (NM_UNLIKELY(pool->watched)) return lease_watched(pool, slot, generation);
    return lease_of(pool, slot, generation);
}

/* The free list was empty. Whatever is on its way back to it (a trim's pick, growth) is so under the lock: who finds
 * the list empty while holding the lock, and all buffers with memory, knows that all are leased. */
static __attribute__((noinline)) nm_status lease_slow(nm_pool *pool, nm_scope *holder, nm_lease *out,
                                                      const char *site) {
    if (pool == NULL) {
        *out = (nm_lease){0};
        return NM_EINVAL;
    }
    nm_scope *owner = pool->holder.scope;
    nm__slot *slot = NULL;
    nm_status st;
    bool grow = true;
    for (int round = 0;; round++) {
        size_t wanted = 0;
        pthread_mutex_lock(&pool->lock);
        slot = nm__pool_pop(pool);
        st = slot != NULL ? NM_OK : NM_EBUDGET;
        if (slot == NULL && grow) st = nm__pool_grow(pool, 1, true, &wanted, &slot);
        pthread_mutex_unlock(&pool->lock);
        if (st == NM_OK) {
            *out = take(pool, slot, site);
            if (holder != NULL) nm__hold(holder, slot, out->generation, out->size);
            nm__settle(owner, &pool->holder);
            return NM_OK;
        }
        if (st != NM_EBUDGET || wanted == 0 || round == NM__POOL_ROUNDS) break;
        /* Without the lock, for a hook may come back into this pool. No room: one more look at the list, which another
         * thread's growth or the hook may have filled. */
        grow = nm__make_room(owner, wanted, &pool->holder);
    }
    if (holder != NULL) nm__hold_cancel(holder, pool->chunk_bytes);
    nm_atomic_add(&pool->refused_count, 1, NM_RELAXED);
    *out = (nm_lease){0};
    return st;
}

/* A call of its own: a local lease whose address is taken would be written in pieces and read back as a whole. */
static __attribute__((noinline)) nm_lease lease_slow_by_value(nm_pool *pool, const char *site) {
    nm_lease lease;
    (void)lease_slow(pool, NULL, &lease, site);
    return lease;
}

nm_lease nm_pool_lease_at(nm_pool *pool, const char *site) {
    nm__slot *slot = NM_LIKELY(pool != NULL) ? nm__pool_pop(pool) : NULL;
    if (NM_UNLIKELY(slot == NULL)) return lease_slow_by_value(pool, site);
    return take(pool, slot, site);
}

nm_status nm_pool_try_lease_at(nm_pool *pool, nm_lease *out, const char *site) {
    if (NM_UNLIKELY(out == NULL)) return NM_EINVAL;
    nm__slot *slot = NM_LIKELY(pool != NULL) ? nm__pool_pop(pool) : NULL;
    if (NM_UNLIKELY(slot == NULL)) return lease_slow(pool, NULL, out, site);
    *out = take(pool, slot, site);
    return NM_OK;
}

nm_status nm_pool_lease_in_at(nm_pool *pool, nm_scope *holder, nm_lease *out, const char *site) {
    if (out == NULL) return NM_EINVAL;
    *out = (nm_lease){0};
    if (pool == NULL || holder == NULL || !nm__same_root(pool->holder.scope, holder)) return NM_EINVAL;
    nm_status st = nm__hold_prepare(holder, pool->chunk_bytes);
    if (st != NM_OK) {
        nm_atomic_add(&pool->refused_count, 1, NM_RELAXED);
        return st;
    }
    nm__slot *slot = nm__pool_pop(pool);
    if (NM_UNLIKELY(slot == NULL)) return lease_slow(pool, holder, out, site);
    *out = take(pool, slot, site);
    nm__hold(holder, slot, out->generation, out->size);
    return NM_OK;
}

/* ---- release ----------------------------------------------------------------------------------------------------- */

/* Of all that would release this generation one wins, and has the slot to itself until it is pushed.
 * acquire: pairs with the release in take(). The way to the next lease is ordered by the push. */
static inline bool won(nm__slot *slot, uint64_t generation) {
    return nm_atomic_cas(&slot->generation, &generation, generation + 1, NM_ACQUIRE, NM_RELAXED);
}

static __attribute__((noinline, cold)) void give_back_watched(nm_pool *pool, nm__slot *slot) {
    nm__check_poison(slot->data, pool->chunk_bytes); /* first: the push is the end of our right to it */
    nm__pool_push_chain(pool, slot, slot);
}

static inline void give_back(nm__slot *slot, const char *site) {
    nm_pool *pool = slot->owner;
    nm_atomic_store(&slot->released_at, site, NM_RELAXED);
    if (NM_UNLIKELY(pool->watched))
        give_back_watched(pool, slot);
    else
        nm__pool_push_chain(pool, slot, slot);
}

static void misuse(const nm_pool *pool, const nm__slot *slot, const char *what, const void *data, const char *site) {
    nm__misuse(&(nm_misuse){
        .what = what,
        .part = nm__pool_slot_class.part,
        .name = pool != NULL ? pool->name : NULL,
        .address = data,
        .site = site,
        .leased_at = slot != NULL ? nm_atomic_load(&slot->leased_at, NM_RELAXED) : NULL,
        .released_at = slot != NULL ? nm_atomic_load(&slot->released_at, NM_RELAXED) : NULL,
    });
}

static __attribute__((noinline, cold)) void stale_lease(const nm__slot *slot, const void *data, const char *site) {
    /* Has the slot gone on to another pool, to another part, or to nobody? Then its name is not ours to tell. */
    bool ours = nm_atomic_load(&slot->class, NM_RELAXED) == &nm__pool_slot_class;
    if (ours && slot->owner != NULL && slot->data == data)
        misuse(slot->owner, slot, "lease released twice", data, site);
    else
        misuse(NULL, slot, "lease released after its pool was closed", data, site);
}

void nm_lease_release_at(nm_lease *lease, const char *site) {
    void *data = lease->data;
    if (NM_UNLIKELY(data == NULL)) return;
    nm__slot *slot = lease->slot;
    if (NM_UNLIKELY(!won(slot, lease->generation))) {
        stale_lease(slot, data, site);
        return;
    }
    lease->data = NULL;
    give_back(slot, site);
}

void nm__lease_end(nm_lease *lease) { nm_lease_release_at(lease, "end of NM_LEASE_SCOPED"); }

void nm_pool_release_data_at(nm_pool *pool, void *data, const char *site) {
    if (data == NULL) return;
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
    uint64_t generation = nm_atomic_load(&slot->generation, NM_RELAXED);
    if ((generation & 1) == 0 || !won(slot, generation)) {
        misuse(pool, slot, "buffer is not leased", data, site);
        return;
    }
    give_back(slot, site);
}

/* ---- what a scope sees of a slot that it holds ------------------------------------------------------------------- */

static bool slot_release(nm__slot *slot, uint64_t generation, const char *site) {
    if (!won(slot, generation)) return false;
    give_back(slot, site);
    return true;
}

/* NULL owner: the pool is closed, the slot was not taken by another since. */
static const char *slot_name(const nm__slot *slot) {
    const nm_pool *pool = slot->owner;
    return pool != NULL ? pool->name : "";
}

static size_t slot_bytes(const nm__slot *slot) {
    const nm_pool *pool = slot->owner;
    return pool != NULL ? pool->chunk_bytes : 0;
}

const nm__slot_class nm__pool_slot_class = {
    .part = "pool",
    .leak = NM_LEAK_LEASE,
    .release = slot_release,
    .name = slot_name,
    .bytes = slot_bytes,
};

/* ---- plain functions, for pointers and bindings ------------------------------------------------------------------ */

nm_lease(nm_pool_lease)(nm_pool *pool) { return nm_pool_lease_at(pool, "?"); }
nm_status(nm_pool_try_lease)(nm_pool *pool, nm_lease *out) { return nm_pool_try_lease_at(pool, out, "?"); }
nm_status(nm_pool_lease_in)(nm_pool *pool, nm_scope *holder, nm_lease *out) {
    return nm_pool_lease_in_at(pool, holder, out, "?");
}
void(nm_lease_release)(nm_lease *lease) { nm_lease_release_at(lease, "?"); }
void(nm_pool_release_data)(nm_pool *pool, void *data) { nm_pool_release_data_at(pool, data, "?"); }
