// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <string.h>

#include "block/slab.h"
#include "check/check.h"

/* Idle blocks stay below this, or below an eighth of what is committed where that is more: a spike goes back to the system
 * by the closes themselves. */
#define NM__IDLE_FLOOR_BYTES ((size_t)16 << 20)
#define NM__IDLE_SHARE       8
/* No block larger than this part of the limit is kept idle: in a small root it would be much of the budget. */
#define NM__IDLE_CLASS_SHARE 64

/* No block larger than this part of the limit lies in front: 16 lines of blocks that double make a 64th of it at most. */
#define NM__FRONT_CLASS_SHARE 4096
#define NM__FRONT_ORDERS      (NM__FRONT_SLOTS - 1)

/* The largest class is a slab of its own, without a header. */
#define NM__ORDER_WHOLE_SLAB (NM__BLOCK_ORDERS - 1)

struct nm__idle_block {
    nm__idle_block *next;
};

size_t nm__block_bytes(size_t bytes) {
    if (bytes <= NM__BLOCK_MIN_BYTES) return NM__BLOCK_MIN_BYTES;
    if (bytes <= NM__SLAB_BYTES) return (size_t)1 << nm__log2_ceil(bytes);
    return nm__round_up(bytes, NM__PAGE_BYTES);
}

static unsigned order_of(size_t block_bytes) { return nm__log2_floor(block_bytes / NM__BLOCK_MIN_BYTES); }
static size_t bytes_of(unsigned order) { return NM__BLOCK_MIN_BYTES << order; }

void nm__blocks_open(nm__blocks *blocks, const nm__ledger *ledger, bool huge) {
    memset(blocks, 0, sizeof *blocks);
    pthread_mutex_init(&blocks->lock, NULL);
    blocks->ledger = *ledger;
    blocks->huge = huge;
    blocks->decayed_ms = nm__os_get()->clock_coarse_ms();
}

/* ---- slabs by what they have free -------------------------------------------------------------------------------- */

static nm__slab **bin_of(nm__blocks *blocks, const nm__slab *slab) {
    return slab->bin == NM__SLAB_NOTHING_FREE ? &blocks->full : &blocks->partial[slab->bin];
}

static void link_slab(nm__blocks *blocks, nm__slab *slab) {
    nm__slab **head = bin_of(blocks, slab);
    slab->previous = NULL;
    slab->next = *head;
    if (*head != NULL) (*head)->previous = slab;
    *head = slab;
}

static void unlink_slab(nm__blocks *blocks, nm__slab *slab) {
    if (slab->previous != NULL)
        slab->previous->next = slab->next;
    else
        *bin_of(blocks, slab) = slab->next;
    if (slab->next != NULL) slab->next->previous = slab->previous;
}

/* What an empty slab is charged. */
static size_t slab_charge(const nm__slab *slab) { return slab->whole ? NM__SLAB_BYTES : NM__BLOCK_MIN_BYTES; }

/* Returns the bytes that are no longer charged. */
static size_t release_slab(nm__blocks *blocks, nm__slab *slab) {
    size_t bytes = slab_charge(slab);
    unlink_slab(blocks, slab);
    nm__os_get()->unreserve(slab, NM__SLAB_BYTES);
    blocks->own_bytes -= NM__BLOCK_MIN_BYTES;
    blocks->ledger.uncharge(blocks->ledger.context, bytes);
    return bytes;
}

static size_t free_piece(nm__blocks *blocks, void *piece, unsigned order) {
    nm__slab *slab = nm__slab_of(piece);
    unlink_slab(blocks, slab);
    nm__slab_give(slab, piece, order);
    link_slab(blocks, slab);
    return slab->taken_leaves == 0 ? release_slab(blocks, slab) : 0;
}

/* ---- giving back to the system ----------------------------------------------------------------------------------- */

static bool in_whole_slab(const void *block, unsigned order) {
    return order != NM__ORDER_WHOLE_SLAB && nm__slab_of(block)->whole;
}

/* False: the system refused, the block is as it was. *gone grows by what is no longer charged: of a slab that was committed as a
 * whole nothing, until the last of its blocks. */
static bool decommit_block(nm__blocks *blocks, void *block, unsigned order, size_t *gone) {
    size_t bytes = bytes_of(order);
    if (in_whole_slab(block, order)) {
        *gone += free_piece(blocks, block, order);
        return true;
    }
    if (order == NM__ORDER_WHOLE_SLAB) {
        nm__os_get()->unreserve(block, bytes);
    } else {
        if (!nm__os_get()->decommit(block, bytes)) return false;
        free_piece(blocks, block, order);
    }
    blocks->ledger.uncharge(blocks->ledger.context, bytes);
    *gone += bytes;
    return true;
}

static void push_idle(nm__blocks *blocks, void *block, unsigned order) {
    nm__idle_block *idle = block;
    nm__check_poison(idle + 1, bytes_of(order) - sizeof *idle);
    idle->next = blocks->idle[order];
    blocks->idle[order] = idle;
    blocks->idle_bytes += bytes_of(order);
}

static void *pop_idle(nm__blocks *blocks, unsigned order) {
    nm__idle_block *idle = blocks->idle[order];
    blocks->idle[order] = idle->next;
    blocks->idle_bytes -= bytes_of(order);
    blocks->idle_low = nm__min(blocks->idle_low, blocks->idle_bytes);
    nm__check_unpoison(idle, bytes_of(order));
    return idle;
}

/* ---- in front ---------------------------------------------------------------------------------------------------- */

static unsigned order_of_slot(unsigned slot) { return slot < NM__FRONT_ORDERS ? slot : 0; }

static void *take_slot(nm__front *front, unsigned slot) {
    if (nm_atomic_load(&front->slot[slot], NM_RELAXED) == NULL) return NULL;
    /* acquire: pairs with the release in give_front; the block's last user is done with it */
    void *block = nm_atomic_exchange(&front->slot[slot], NULL, NM_ACQUIRE);
    if (block != NULL) nm__check_unpoison(block, bytes_of(order_of_slot(slot)));
    return block;
}

static void *take_front(nm__blocks *blocks, unsigned order) {
    if (order >= NM__FRONT_ORDERS) return NULL;
    nm__front *front = &blocks->front[nm__thread_stripe()];
    void *block = take_slot(front, order);
    return block == NULL && order == 0 ? take_slot(front, NM__FRONT_ORDERS) : block;
}

static bool put_slot(nm__front *front, unsigned slot, void *block) {
    void *none = NULL;
    if (nm_atomic_load(&front->slot[slot], NM_RELAXED) != NULL) return false;
    /* before it can be taken again */
    nm__check_poison(block, bytes_of(order_of_slot(slot)));
    if (nm_atomic_cas(&front->slot[slot], &none, block, NM_RELEASE, NM_RELAXED)) return true;
    nm__check_unpoison(block, bytes_of(order_of_slot(slot)));
    return false;
}

static bool give_front(nm__blocks *blocks, void *block, unsigned order) {
    if (order >= NM__FRONT_ORDERS) return false;
    if (bytes_of(order) > blocks->ledger.limit(blocks->ledger.context) / NM__FRONT_CLASS_SHARE) return false;
    nm__front *front = &blocks->front[nm__thread_stripe()];
    return put_slot(front, order, block) || (order == 0 && put_slot(front, NM__FRONT_ORDERS, block));
}

/* Brings all that lies in front into the lists. */
static void drain_front(nm__blocks *blocks) {
    for (unsigned stripe = 0; stripe < NM__STRIPES; stripe++)
        for (unsigned slot = 0; slot < NM__FRONT_SLOTS; slot++) {
            void *block = take_slot(&blocks->front[stripe], slot);
            if (block != NULL) push_idle(blocks, block, order_of_slot(slot));
        }
}

static size_t front_bytes(const nm__blocks *blocks) {
    size_t bytes = 0;
    for (unsigned stripe = 0; stripe < NM__STRIPES; stripe++)
        for (unsigned slot = 0; slot < NM__FRONT_SLOTS; slot++)
            if (nm_atomic_load(&blocks->front[stripe].slot[slot], NM_RELAXED) != NULL)
                bytes += bytes_of(order_of_slot(slot));
    return bytes;
}

/* ---- giving up what is idle -------------------------------------------------------------------------------------- */

static size_t trim_lists(nm__blocks *blocks, size_t wanted) {
    size_t gone = 0;
    /* Largest first: fewest system calls, and small blocks are the ones asked for next. */
    for (unsigned order = NM__BLOCK_ORDERS; order-- > 0;) {
        while (gone < wanted && blocks->idle[order] != NULL) {
            void *block = pop_idle(blocks, order);
            if (!decommit_block(blocks, block, order, &gone)) {
                push_idle(blocks, block, order);
                break;
            }
        }
    }
    return gone;
}

static size_t trim_locked(nm__blocks *blocks, size_t wanted) {
    size_t gone = trim_lists(blocks, wanted);
    if (gone >= wanted) return gone;
    drain_front(blocks);
    return gone + trim_lists(blocks, wanted - gone);
}

size_t nm__blocks_trim(nm__blocks *blocks, size_t wanted) {
    pthread_mutex_lock(&blocks->lock);
    size_t gone = trim_locked(blocks, wanted);
    pthread_mutex_unlock(&blocks->lock);
    return gone;
}

size_t nm__blocks_idle_bytes(nm__blocks *blocks) {
    pthread_mutex_lock(&blocks->lock);
    size_t bytes = blocks->idle_bytes + front_bytes(blocks);
    pthread_mutex_unlock(&blocks->lock);
    return bytes;
}

static bool decay_locked(nm__blocks *blocks) {
    uint64_t now = nm__os_get()->clock_coarse_ms();
    if (now - blocks->decayed_ms < NM__DECAY_MS) return false;
    blocks->decayed_ms = now;
    trim_lists(blocks, blocks->idle_low);
    blocks->idle_low = blocks->idle_bytes;
    return true;
}

uint64_t nm__blocks_decay(nm__blocks *blocks, bool *due) {
    pthread_mutex_lock(&blocks->lock);
    *due = decay_locked(blocks);
    if (*due) drain_front(blocks); /* what its thread still needs it takes out of the lists again */
    uint64_t passed = nm__os_get()->clock_coarse_ms() - blocks->decayed_ms;
    uint64_t wait = blocks->idle_bytes + front_bytes(blocks) == 0 ? UINT64_MAX
                    : passed < NM__DECAY_MS                       ? NM__DECAY_MS - passed
                                                                  : 0;
    pthread_mutex_unlock(&blocks->lock);
    return wait;
}

void nm__blocks_close(nm__blocks *blocks) {
    drain_front(blocks);
    size_t gone = 0;
    while (blocks->idle[NM__ORDER_WHOLE_SLAB] != NULL)
        decommit_block(blocks, pop_idle(blocks, NM__ORDER_WHOLE_SLAB), NM__ORDER_WHOLE_SLAB, &gone);
    /* The other idle blocks go with their slabs; those that were charged by themselves are counted here. */
    for (unsigned order = 0; order < NM__SLAB_ORDERS; order++)
        while (blocks->idle[order] != NULL)
            if (!in_whole_slab(pop_idle(blocks, order), order))
                blocks->ledger.uncharge(blocks->ledger.context, bytes_of(order));
    while (blocks->full != NULL) release_slab(blocks, blocks->full);
    for (unsigned order = 0; order < NM__BLOCK_ORDERS; order++)
        while (blocks->partial[order] != NULL) release_slab(blocks, blocks->partial[order]);
    pthread_mutex_destroy(&blocks->lock);
}

/* ---- taking ------------------------------------------------------------------------------------------------------ */

static bool charge(nm__blocks *blocks, size_t bytes) {
    if (blocks->ledger.charge(blocks->ledger.context, bytes)) return true;
    /* Idle blocks of other classes count against the same limit: nothing is refused while they lie there. */
    size_t committed = blocks->ledger.committed(blocks->ledger.context);
    size_t limit = blocks->ledger.limit(blocks->ledger.context);
    size_t room = committed < limit ? limit - committed : 0;
    trim_locked(blocks, bytes > room ? bytes - room : bytes);
    return blocks->ledger.charge(blocks->ledger.context, bytes);
}

/* Makes the pages usable, whatever a checker was told of these addresses before they went back to the system. */
static bool commit(void *address, size_t bytes) {
    if (!nm__os_get()->commit(address, bytes)) return false;
    nm__check_unpoison(address, bytes);
    return true;
}

static nm_status open_slab(nm__blocks *blocks, bool whole) {
    size_t bytes = whole ? NM__SLAB_BYTES : NM__BLOCK_MIN_BYTES;
    if (!charge(blocks, bytes)) return NM_EBUDGET;
    nm__slab *slab = nm__os_get()->reserve(NM__SLAB_BYTES, NM__SLAB_BYTES);
    if (slab != NULL && whole) (void)nm__os_get()->use_huge_pages(slab, NM__SLAB_BYTES); /* a wish */
    if (slab == NULL || !commit(slab, bytes)) {
        if (slab != NULL) nm__os_get()->unreserve(slab, NM__SLAB_BYTES);
        blocks->ledger.uncharge(blocks->ledger.context, bytes);
        return NM_ENOMEM;
    }
    nm__slab_open(slab);
    slab->whole = whole;
    link_slab(blocks, slab);
    blocks->own_bytes += NM__BLOCK_MIN_BYTES;
    return NM_OK;
}

static nm__slab *find_slab(nm__blocks *blocks, unsigned order) {
    for (unsigned bin = order; bin < NM__SLAB_ORDERS; bin++)
        if (blocks->partial[bin] != NULL) return blocks->partial[bin];
    return NULL;
}

static void *take_piece(nm__blocks *blocks, nm__slab *slab, unsigned order) {
    unlink_slab(blocks, slab);
    void *block = nm__slab_take(slab, order);
    link_slab(blocks, slab);
    return block;
}

/* From a slab that is committed already, or can be as a whole. NULL: there is none, and none can be had. */
static void *take_from_whole_slab(nm__blocks *blocks, unsigned order) {
    nm__slab *slab = find_slab(blocks, order);
    if (slab == NULL && blocks->huge && open_slab(blocks, true) == NM_OK) slab = find_slab(blocks, order);
    if (slab == NULL || !slab->whole) return NULL;
    void *block = take_piece(blocks, slab, order);
    nm__check_unpoison(block, bytes_of(order));
    return block;
}

static nm_status take_from_slab(nm__blocks *blocks, unsigned order, void **out) {
    size_t bytes = bytes_of(order);
    if (blocks->huge && (*out = take_from_whole_slab(blocks, order)) != NULL) return NM_OK;
    /* Charging comes before the slab is chosen: it may trim idle blocks, and that may release slabs. */
    if (!charge(blocks, bytes)) return NM_EBUDGET;
    nm__slab *slab = find_slab(blocks, order);
    if (slab == NULL) {
        nm_status st = open_slab(blocks, false);
        if (st != NM_OK) {
            blocks->ledger.uncharge(blocks->ledger.context, bytes);
            return st;
        }
        slab = find_slab(blocks, order);
    }
    void *block = take_piece(blocks, slab, order);
    if (slab->whole) { /* what charging trimmed has made room in it */
        blocks->ledger.uncharge(blocks->ledger.context, bytes);
        nm__check_unpoison(block, bytes);
        *out = block;
        return NM_OK;
    }
    if (!commit(block, bytes)) {
        free_piece(blocks, block, order);
        blocks->ledger.uncharge(blocks->ledger.context, bytes);
        return NM_ENOMEM;
    }
    *out = block;
    return NM_OK;
}

static nm_status take_mapping(nm__blocks *blocks, size_t bytes, void **out) {
    if (!charge(blocks, bytes)) return NM_EBUDGET;
    void *p = nm__os_get()->reserve(bytes, NM__SLAB_BYTES);
    if (p != NULL && blocks->huge) (void)nm__os_get()->use_huge_pages(p, nm__round_down(bytes, NM__SLAB_BYTES));
    if (p == NULL || !commit(p, bytes)) {
        if (p != NULL) nm__os_get()->unreserve(p, bytes);
        blocks->ledger.uncharge(blocks->ledger.context, bytes);
        return NM_ENOMEM;
    }
    *out = p;
    return NM_OK;
}

static bool take_idle(nm__blocks *blocks, unsigned order, void **out) {
    if (blocks->idle[order] != NULL) {
        *out = pop_idle(blocks, order);
        return true;
    }
    /* A larger idle block is halved rather than more committed; only pieces of slabs can be. */
    for (unsigned from = order + 1; from < NM__SLAB_ORDERS; from++) {
        if (blocks->idle[from] == NULL) continue;
        void *block = pop_idle(blocks, from);
        for (; from > order; from--) push_idle(blocks, nm__slab_halve(nm__slab_of(block), block, from), from - 1);
        *out = block;
        return true;
    }
    return false;
}

nm_status nm__blocks_take(nm__blocks *blocks, size_t bytes, void **out) {
    bytes = nm__block_bytes(bytes);
    nm_status st = NM_OK;
    if (bytes <= NM__SLAB_BYTES && (*out = take_front(blocks, order_of(bytes))) != NULL) return NM_OK;
    pthread_mutex_lock(&blocks->lock);
    if (bytes > NM__SLAB_BYTES)
        st = take_mapping(blocks, bytes, out);
    else if (!take_idle(blocks, order_of(bytes), out))
        st = bytes == NM__SLAB_BYTES ? take_mapping(blocks, bytes, out) : take_from_slab(blocks, order_of(bytes), out);
    pthread_mutex_unlock(&blocks->lock);
    return st;
}

void nm__blocks_give(nm__blocks *blocks, void *block, size_t bytes) {
    bytes = nm__block_bytes(bytes);
    if (bytes <= NM__SLAB_BYTES && give_front(blocks, block, order_of(bytes))) return;
    pthread_mutex_lock(&blocks->lock);
    if (bytes > NM__SLAB_BYTES) {
        nm__os_get()->unreserve(block, bytes);
        blocks->ledger.uncharge(blocks->ledger.context, bytes);
    } else {
        size_t committed = blocks->ledger.committed(blocks->ledger.context);
        size_t cap = nm__max(NM__IDLE_FLOOR_BYTES, committed / NM__IDLE_SHARE);
        bool keep = blocks->idle_bytes + bytes <= cap &&
                    bytes <= blocks->ledger.limit(blocks->ledger.context) / NM__IDLE_CLASS_SHARE;
        size_t gone = 0;
        if (keep || !decommit_block(blocks, block, order_of(bytes), &gone)) push_idle(blocks, block, order_of(bytes));
        /* The cap falls with what is committed: what was kept under a higher one goes too. */
        if (blocks->idle_bytes > cap) trim_lists(blocks, blocks->idle_bytes - cap);
        decay_locked(blocks);
    }
    pthread_mutex_unlock(&blocks->lock);
}
