// SPDX-License-Identifier: Apache-2.0 OR MIT
/* More holders of one buffer. Each has a slot of its own, without a buffer, that leads to the buffer's; that one counts
 * the holders while there is more than one. */
#include "check/check.h"
#include "pool/pool_internal.h"

#define HOLDERS_MAX NM__HEAD_NUMBER_MASK

/* A page of slots; the first leads to the next page. */
static nm_status more_slots(nm_pool *pool) {
    nm__slot *page;
    nm_scope *owner = pool->holder.scope;
    nm_status st = nm__slots_take(owner, false, &page);
    if (st != NM_OK) return st;
    nm__chain chain = {0};
    for (size_t i = NM__SLOTS_PER_PAGE; i-- > 1;) {
        page[i].owner = nm__nobody(pool);
        page[i].data = NULL;
        nm_atomic_store(&page[i].nm__far_mark, nm__generation_mark(page[i].generation), NM_RELAXED); /* not out */
        nm_atomic_store(&page[i].nm__stamp, (uint32_t)NM__SLOT_SHARE, NM_RELAXED);
        nm__chain_add(pool, &chain, &page[i]);
    }
    nm__pool_lock(pool);
    page[0].data = pool->share_pages;
    pool->share_pages = page;
    nm_atomic_add(&pool->granted_bytes, NM__PAGE_BYTES, NM_RELAXED);
    nm__pool_unlock(pool);
    nm__depot_push(pool, &pool->shares, chain.first, chain.last);
    return NM_OK;
}

static nm_status one_more_holder(nm__slot *buffer) {
    uint32_t seen = nm_atomic_load(&buffer->nm__link, NM_RELAXED), more;
    do {
        if (seen >= HOLDERS_MAX) return NM_ECAPACITY;
        more = seen == 0 ? 2 : seen + 1; /* the first holder counts once there is a second */
        /* relaxed: the holder that is there already keeps the buffer */
    } while (!nm_atomic_cas_weak(&buffer->nm__link, &seen, more, NM_RELAXED, NM_RELAXED));
    return NM_OK;
}

nm_status nm_lease_slice_at(const nm_lease *lease, size_t offset, size_t n, nm_lease *out, const char *site) {
    if (out == NULL) return NM_EINVAL;
    nm_lease from = lease != NULL ? *lease : (nm_lease){0}; /* `out` may be `lease` */
    *out = (nm_lease){0};
    if (from.data == NULL || offset > from.size || n > from.size - offset) return NM_EINVAL;
    if (!nm__slot_is_out(from.slot, from.generation)) {
        nm__lease_misuse(from.slot, "share of a lease that is not out", from.data, site);
        return NM_ESTALE;
    }
    nm_pool *pool = nm__pool_of(from.slot);
    nm__slot *share = nm__depot_pop(pool, &pool->shares);
    for (int tries = 0; share == NULL; tries++) {
        nm_status st = tries < NM__POOL_ROUNDS ? more_slots(pool) : NM_ECAPACITY;
        if (st != NM_OK) return st;
        share = nm__depot_pop(pool, &pool->shares);
    }
    nm__slot *buffer = nm__slot_of_buffer(pool, from.slot);
    nm_status st = one_more_holder(buffer);
    if (st != NM_OK) {
        nm__depot_push(pool, &pool->shares, share, share);
        return st;
    }
    nm_atomic_add(&pool->shared_count, 1, NM_RELAXED);
    uint64_t last = nm_atomic_load(&share->generation, NM_RELAXED);
    uint64_t generation = last + 2;
    share->data = (unsigned char *)from.data + offset;
    nm__pool_look_at_clock(pool);
    uint32_t time = nm_atomic_load(&pool->face.stamp.half[1], NM_RELAXED) & ~((1u << NM__SLOT_KIND_BITS) - 1);
    nm_atomic_store(&share->nm__stamp, time | NM__SLOT_SHARE, NM_RELAXED);
    nm_atomic_store(&share->leased_at, site, NM_RELAXED);
    nm_atomic_store(&share->nm__own_mark, (uint32_t)(buffer - pool->slots) << 1, NM_RELAXED);
    nm_atomic_store(&share->generation, generation, NM_RELEASE);
    nm_atomic_store(&share->nm__far_mark, 0u, NM_RELEASE); /* behind it, as in nm__slot_lease */
    *out = (nm_lease){.data = share->data, .size = n, .slot = share, .generation = generation};
    return NM_OK;
}

nm_status nm_lease_share_at(const nm_lease *lease, nm_lease *out, const char *site) {
    size_t n = lease != NULL ? lease->size : 0;
    return nm_lease_slice_at(lease, 0, n, out, site);
}

uint32_t nm_lease_index(const nm_lease *lease) {
    if (lease == NULL || lease->data == NULL) return UINT32_MAX;
    if (!nm__slot_is_out(lease->slot, lease->generation)) return UINT32_MAX;
    const nm_pool *pool = nm__pool_of(lease->slot);
    nm__slot *buffer = nm__slot_of_buffer(pool, lease->slot);
    return (uint32_t)nm__pool_index_of_slot(pool, buffer);
}

nm_status(nm_lease_share)(const nm_lease *lease, nm_lease *out) { return nm_lease_share_at(lease, out, "?"); }
nm_status(nm_lease_slice)(const nm_lease *lease, size_t offset, size_t n, nm_lease *out) {
    return nm_lease_slice_at(lease, offset, n, out, "?");
}
