// SPDX-License-Identifier: Apache-2.0 OR MIT
/* How entries come, leave and are freed. */
#include "cache/cache_internal.h"

void nm__shard_lock(nm__shard *shard) { nm__lock_take(&shard->lock); }

/* More than an eighth of the heap is free, and a few steps: after a large entry left, not in the normal course. */
#define NM__IDLE_SHARE 8
#define NM__IDLE_STEPS 4

static void note_idle(nm__shard *shard) {
    nm_cache *cache = shard->cache;
    size_t free_bytes = (size_t)shard->heap.free_units * NM__UNIT_BYTES;
    bool idle =
        free_bytes > nm__heap_bytes(&shard->heap) / NM__IDLE_SHARE && free_bytes > NM__IDLE_STEPS * cache->step_bytes;
    /* relaxed, here and where they are read: hints, which order nothing */
    if (NM_LIKELY(idle == nm_atomic_load(&shard->idle, NM_RELAXED))) return;
    nm_atomic_store(&shard->idle, idle, NM_RELAXED);
    nm_atomic_add(&cache->idle_shards, idle ? 1u : -1u, NM_RELAXED);
}

static void note_settled(nm__shard *shard) {
    uint32_t settled = nm__policy_settled(&shard->policy);
    /* relaxed: a hint */
    if (settled != nm_atomic_load(&shard->settled, NM_RELAXED)) nm_atomic_store(&shard->settled, settled, NM_RELAXED);
}

void nm__shard_unlock(nm__shard *shard, nm__doomed *doomed) {
    nm__doomed_finish(shard, doomed);
    note_idle(shard);
    note_settled(shard);
    bool unsettled = shard->unsettled;
    shard->unsettled = false;
    nm_cache *cache = shard->cache;
    nm__lock_give(&shard->lock);
    if (NM_UNLIKELY(unsettled)) nm__settle(cache->scope, &cache->holder);
}

void nm__chunk_fix(nm__shard *shard, uint32_t offset) {
    shard->fixed_count++;
    shard->fixed_units += nm__heap_size(&shard->heap, offset);
}

void nm__chunk_unfix(nm__shard *shard, uint32_t offset) {
    shard->fixed_count--;
    shard->fixed_units -= nm__heap_size(&shard->heap, offset);
}

static void entry_fix(nm__shard *shard, uint32_t offset, uint32_t mark) {
    nm__entry *e = nm__entry_at(shard, offset);
    if (!(nm__node_state(&e->node) & NM__ENTRY_FIXED)) nm__chunk_fix(shard, offset);
    nm__entry_mark(e, NM__ENTRY_FIXED | mark, 0);
}

static void use(nm__shard *shard, size_t add, size_t sub, int count) {
    /* relaxed: figures for readers without the lock, which order nothing */
    nm_atomic_store(&shard->used_bytes, shard->used_bytes + add - sub, NM_RELAXED);
    nm_atomic_store(&shard->entry_count, shard->entry_count + (size_t)count, NM_RELAXED);
}

/* ---- where an entry is, and whether it may be touched ---- */

nm__place_of nm__entry_place(const nm__shard *shard, uint32_t offset, uint64_t hash) {
    nm__place_of place = {0};
    (void)nm__index_locate(&shard->index, hash, offset, &place); /* it is linked, so it is there */
    return place;
}

static void entry_hold(nm__shard *shard, uint32_t offset) {
    entry_fix(shard, offset, 0);
    if (!nm__entry_dead(shard, nm__entry_at(shard, offset))) nm__policy_hold(&shard->policy, offset);
}

void nm__entry_unhold(nm__shard *shard, uint32_t offset) {
    nm__entry *e = nm__entry_at(shard, offset);
    nm__chunk_unfix(shard, offset);
    nm__entry_mark(e, 0, NM__ENTRY_FIXED);
    if (!nm__entry_dead(shard, e)) nm__policy_unhold(&shard->policy, offset);
}

/* It is pinned: from now on it is known to be. False: it is not pinned any more. */
static bool known_pinned(nm__shard *shard, nm__place_of place) {
    if (!nm__index_hold(&shard->index, place)) return false;
    if (!(nm__node_state(&nm__entry_at(shard, place.offset)->node) & NM__ENTRY_FIXED)) entry_hold(shard, place.offset);
    return true;
}

bool nm__entry_seize(nm__shard *shard, uint32_t offset, nm__place_of *place) {
    *place = nm__entry_place(shard, offset, nm__entry_hash(shard, nm__entry_at(shard, offset)));
    /* A pin may go between the two: then it is tried again. */
    while (!nm__index_seize(&shard->index, *place))
        if (known_pinned(shard, *place)) return false;
    return true;
}

void nm__pins_discover(nm__shard *shard) {
    nm__place_of place = {0};
    while (nm__index_next_pinned(&shard->index, &place)) (void)known_pinned(shard, place);
}

/* ---- dead entries: of a cache that was cleared ---- */

static void dead_unlink(nm__shard *shard, uint32_t offset) {
    const nm__node *node = &nm__entry_at(shard, offset)->node;
    if (node->prev != 0)
        nm__node_set_next(&nm__entry_at(shard, node->prev)->node, node->next);
    else
        shard->dead.head = node->next;
    if (node->next != 0)
        nm__node_set_prev(&nm__entry_at(shard, node->next)->node, node->prev);
    else
        shard->dead.tail = node->prev;
    nm_atomic_store(&shard->dead_count, shard->dead_count - 1, NM_RELEASE); /* see nm__entry_dead */
}

void nm__dead_moved(nm__shard *shard, uint32_t to) {
    const nm__node *node = &nm__entry_at(shard, to)->node;
    if (node->prev != 0)
        nm__node_set_next(&nm__entry_at(shard, node->prev)->node, to);
    else
        shard->dead.head = to;
    if (node->next != 0)
        nm__node_set_prev(&nm__entry_at(shard, node->next)->node, to);
    else
        shard->dead.tail = to;
}

/* ---- coming ---- */

static bool times_out(const nm__entry *e) {
    const nm__entry_more *more = nm__entry_more_of(e);
    return more != NULL && nm__more_expires(more) != NM_TTL_NEVER;
}

bool nm__entry_is_timed(const nm__entry *e) {
    return times_out(e) && !(nm_atomic_load(&nm__entry_more_of(e)->bits, NM_RELAXED) & NM__MORE_UNTIMED);
}

static void entered(nm__shard *shard, uint32_t offset) {
    const nm__entry *e = nm__entry_at(shard, offset);
    use(shard, nm__entry_weight(e), 0, 1);
    if (NM_UNLIKELY(nm__node_state(&e->node) & NM__ENTRY_MORE) && times_out(e))
        nm__wheel_add(&shard->wheel, offset, nm__os_get()->clock_coarse_ms());
}

nm_status nm__entry_enter(nm__shard *shard, uint64_t hash, uint32_t offset) {
    nm_status status = nm__index_add(&shard->index, hash, offset);
    if (status != NM_OK) return status;
    nm__policy_add(&shard->policy, offset, hash);
    entered(shard, offset);
    return NM_OK;
}

/* ---- leaving ---- */

static void free_entry(nm__shard *shard, uint32_t offset, nm__doomed *doomed) {
    const nm__entry *e = nm__entry_at(shard, offset);
    if (!(e->node.prev & NM__OFF_MOVED)) nm__object_uncharge(shard, nm__entry_object_bytes(e));
    doomed->seed = nm__heap_give(&shard->heap, offset);
}

void nm__entry_retire(nm__shard *shard, uint32_t offset, nm__doomed *doomed) {
    nm__entry *e = nm__entry_at(shard, offset);
    if (shard->cache->on_evict == NULL || e->node.prev & NM__OFF_MOVED) {
        free_entry(shard, offset, doomed);
        return;
    }
    nm__node_set_prev(&e->node, NM__OFF_DOOMED | (e->node.prev & ~((1u << NM__OFF_REASON_SHIFT) - 1)));
    nm__node_set_next(&e->node, doomed->head);
    doomed->head = offset;
    entry_fix(shard, offset, NM__ENTRY_OFF);
}

/* It is in no index any more. */
static inline void unlink_entry(nm__shard *shard, uint32_t offset, uint32_t pins, nm_evict_reason reason) {
    nm__entry *e = nm__entry_at(shard, offset);
    uint32_t state = nm__node_state(&e->node);
    if (NM_UNLIKELY(state & NM__ENTRY_MORE) && nm__entry_is_timed(e)) nm__wheel_remove(&shard->wheel, offset);
    if (NM_UNLIKELY(nm__entry_dead(shard, e))) {
        dead_unlink(shard, offset);
    } else {
        nm__policy_remove(&shard->policy, offset);
        use(shard, 0, nm__entry_weight(e), -1);
    }
    if (reason == NM_EVICT_SPACE || reason == NM_EVICT_RECLAIM) shard->evictions++;
    if (reason == NM_EVICT_EXPIRED) shard->expirations++;
    nm__node_set_prev(&e->node, (uint32_t)reason << NM__OFF_REASON_SHIFT | (pins != 0 ? NM__OFF_ZOMBIE : 0));
    nm__node_set_next(&e->node, pins);
    if (pins != 0) {
        entry_fix(shard, offset, NM__ENTRY_OFF);
        return;
    }
    if (NM_UNLIKELY(state & NM__ENTRY_FIXED)) nm__chunk_unfix(shard, offset); /* held, and unpinned since */
    nm__entry_mark(e, NM__ENTRY_OFF, NM__ENTRY_FIXED);
}

uint32_t nm__entry_detach(nm__shard *shard, nm__place_of place, nm_evict_reason reason) {
    uint32_t pins = nm__index_remove(&shard->index, place);
    unlink_entry(shard, place.offset, pins, reason);
    return pins;
}

void nm__entry_leave(nm__shard *shard, nm__place_of place, nm_evict_reason reason, nm__doomed *doomed) {
    if (nm__entry_detach(shard, place, reason) == 0) nm__entry_retire(shard, place.offset, doomed);
}

void nm__entry_replace(nm__shard *shard, nm__place_of old, uint32_t offset, bool moved, nm__doomed *doomed) {
    nm__entry *before = nm__entry_at(shard, old.offset);
    uint32_t rank = nm__node_state(&before->node);
    bool dead = nm__entry_dead(shard, before);
    uint32_t pins = nm__index_replace(&shard->index, old, offset);
    unlink_entry(shard, old.offset, pins, dead ? NM_EVICT_REMOVED : NM_EVICT_REPLACED);
    if (moved) nm__node_set_prev(&before->node, before->node.prev | NM__OFF_MOVED);
    if (dead)
        nm__policy_add(&shard->policy, offset, nm__entry_hash(shard, nm__entry_at(shard, offset)));
    else
        nm__policy_add_as(&shard->policy, offset, rank);
    entered(shard, offset);
    if (pins == 0) nm__entry_retire(shard, old.offset, doomed);
}

/* ---- time ---- */

uint64_t nm__now_if_needed(const nm__entry *e) { return times_out(e) ? nm__os_get()->clock_coarse_ms() : 0; }

bool nm__entry_expired(const nm__entry *e, uint64_t now_ms) {
    const nm__entry_more *more = nm__entry_more_of(e);
    if (more == NULL) return false;
    uint64_t expires = nm__more_expires(more); /* relaxed: a time, see nm_cache_touch */
    return expires != NM_TTL_NEVER && expires <= now_ms;
}

nm_evict_reason nm__reason_of_unusual(const nm__shard *shard, const nm__entry *e, nm_evict_reason reason) {
    if (nm__entry_dead(shard, e)) return NM_EVICT_REMOVED;
    return nm__entry_expired(e, nm__now_if_needed(e)) ? NM_EVICT_EXPIRED : reason;
}

/* Steps of the wheel that one call does for others: more than it adds itself. */
#define NM__EXPIRE_STEPS 32

void nm__shard_expire_some(nm__shard *shard, nm__doomed *doomed) {
    uint64_t now = nm__os_get()->clock_coarse_ms();
    unsigned steps = NM__EXPIRE_STEPS;
    while (nm__wheel_has_work(&shard->wheel, now)) {
        uint32_t offset = nm__wheel_next_expired(&shard->wheel, now, &steps);
        if (offset == 0) return;
        nm__entry *e = nm__entry_at(shard, offset);
        uint64_t hash = nm__entry_hash(shard, e);
        nm_atomic_or(&nm__entry_more_of(e)->bits, NM__MORE_UNTIMED, NM_RELAXED); /* relaxed: read under the lock */
        nm__entry_leave(shard, nm__entry_place(shard, offset, hash), nm__reason_of(shard, e, NM_EVICT_EXPIRED), doomed);
    }
}

bool nm__shard_find(nm__shard *shard, uint64_t hash, const void *key, size_t key_len, nm__doomed *doomed,
                    nm__place_of *out) {
    if (!nm__index_find(&shard->index, hash, key, key_len, out)) return false;
    const nm__entry *e = nm__entry_at(shard, out->offset);
    if (nm__entry_dead(shard, e)) {
        nm__entry_leave(shard, *out, NM_EVICT_REMOVED, doomed);
    } else if (nm__entry_expired(e, nm__now_if_needed(e))) {
        nm__entry_leave(shard, *out, NM_EVICT_EXPIRED, doomed);
    } else {
        return true;
    }
    *out = (nm__place_of){0};
    return false;
}

/* ---- eviction ---- */

/* What was cleared goes first. The units of its chunk; 0: its pins keep it. */
static uint32_t bury_one(nm__shard *shard, nm__doomed *doomed) {
    uint32_t offset = shard->dead.tail, units = nm__heap_size(&shard->heap, offset);
    uint64_t hash = nm__entry_hash(shard, nm__entry_at(shard, offset));
    nm__place_of place = nm__entry_place(shard, offset, hash);
    if (nm__entry_detach(shard, place, NM_EVICT_REMOVED) != 0) return 0;
    nm__entry_retire(shard, offset, doomed);
    return units;
}

void nm__shard_bury_some(nm__shard *shard, nm__doomed *doomed) {
    for (int i = 0; i < 2 && shard->dead.tail != 0; i++) (void)bury_one(shard, doomed);
}

/* The chunk was fetched when the one before it left. */
void nm__evict_prepare(nm__shard *shard) {
    uint32_t next = nm__policy_next_guess(&shard->policy);
    if (next == 0 || !shard->grown_out) return;
    if (next != shard->guess) {
        shard->guess = next;
        shard->guess_hash = nm__entry_hash(shard, nm__entry_at(shard, next));
    }
    nm__index_prefetch(&shard->index, shard->guess_hash);
    nm__policy_prefetch(&shard->policy, shard->guess_hash);
}

/* The guess may be of an entry that left since, which no place tells: then its hash is found anew. */
static nm__place_of place_of_victim(nm__shard *shard, uint32_t victim) {
    nm__place_of place;
    if (victim == shard->guess && nm__index_locate(&shard->index, shard->guess_hash, victim, &place)) return place;
    shard->guess = victim; /* no guess any more: the policy asks for the hash too */
    shard->guess_hash = nm__entry_hash(shard, nm__entry_at(shard, victim));
    return nm__entry_place(shard, victim, shard->guess_hash);
}

/* Always inline, as nm__index_prefetch. */
static inline __attribute__((__always_inline__)) void prefetch_next(const nm__shard *shard, uint32_t next) {
    if (next == 0) return;
    const unsigned char *e = (const unsigned char *)nm__entry_at(shard, next);
    for (size_t line = 0; line < 4; line++) __builtin_prefetch(e + 64 * line, 1);
    uint32_t after = nm__entry_at(shard, next)->node.prev; /* it becomes the last one then */
    if (after != 0) __builtin_prefetch(nm__entry_at(shard, after), 1);
}

uint32_t nm__evict_detach(nm__shard *shard, size_t incoming, nm_evict_reason reason) {
    uint32_t victim;
    while ((victim = nm__policy_victim(&shard->policy, incoming)) != 0) {
        nm__place_of place = place_of_victim(shard, victim);
        bool removed, pinned = false;
        /* A pin may go between the two: then it is tried again. One that is pinned is a victim once. */
        while (!(removed = nm__index_remove_unpinned(&shard->index, place)) && !pinned)
            pinned = known_pinned(shard, place);
        if (!removed) continue;
        /* The next one of its list is likely to follow soon. */
        const nm__node *node = &nm__entry_at(shard, victim)->node;
        uint32_t neighbour = node->prev != 0 ? node->prev : node->next;
        unlink_entry(shard, victim, 0, nm__reason_of(shard, nm__entry_at(shard, victim), reason));
        prefetch_next(shard, neighbour);
        return victim;
    }
    return 0;
}

uint32_t nm__evict_one(nm__shard *shard, size_t incoming, nm_evict_reason reason, nm__doomed *doomed) {
    while (NM_UNLIKELY(shard->dead.tail != 0)) {
        uint32_t units = bury_one(shard, doomed);
        if (units != 0) return units;
    }
    uint32_t victim = nm__evict_detach(shard, incoming, reason);
    if (victim == 0) return 0;
    uint32_t units = nm__heap_size(&shard->heap, victim);
    nm__entry_retire(shard, victim, doomed);
    return units;
}

/* ---- callbacks ---- */

static void tell(const nm_cache *cache, const nm__entry *e) {
    void *value = nm__entry_value(e);
    size_t size = nm__entry_value_len(e);
    if (nm__node_state(&e->node) & NM__ENTRY_OBJECT) {
        const nm__object *object = value;
        size = (size_t)object->bytes;
        value = object->address;
    }
    const nm__entry_more *more = nm__entry_more_of(e);
    /* That there is no such thing is nothing that the user has put. */
    if (more != NULL && (nm_atomic_load(&more->bits, NM_RELAXED) & NM__MORE_NEGATIVE)) return;
    cache->on_evict((nm_evict_reason)(e->node.prev >> NM__OFF_REASON_SHIFT), nm__entry_key(e), nm__entry_key_len(e),
                    value, size, cache->context);
}

void nm__doomed_tell(nm__shard *shard, nm__doomed *doomed) {
    nm__heap *heap = &shard->heap;
    uint32_t list = doomed->head;
    doomed->head = 0;
    doomed->dropped = true;
    nm__lock_give(&shard->lock);
    for (uint32_t at = list; at != 0; at = nm__heap_at(heap, at)->node.next) tell(shard->cache, nm__heap_at(heap, at));
    nm__shard_lock(shard);
    for (uint32_t at = list, next; at != 0; at = next) {
        const nm__entry *e = nm__heap_at(heap, at);
        next = e->node.next;
        if (e->node.prev & NM__OFF_CLAIMED) {
            nm__object_uncharge(shard, nm__entry_object_bytes(e));
        } else {
            nm__chunk_unfix(shard, at);
            free_entry(shard, at, doomed);
        }
    }
    if (doomed->claim_hi != 0) nm__heap_join(heap, doomed->claim_lo, doomed->claim_hi);
}

/* ---- shares ---- */

void nm__shard_share(nm__shard *shard) {
    const nm_cache *cache = shard->cache;
    size_t share = nm__heap_bytes(&shard->heap) + shard->object_bytes;
    if (!shard->grown_out) {
        size_t limit = nm_atomic_load(&cache->limit_bytes, NM_RELAXED); /* relaxed, both: a goal, not a bound */
        size_t least = cache->least_bytes + nm_atomic_load(&cache->sampler.bytes, NM_RELAXED);
        share = nm__max(share, limit > least ? (limit - least) / cache->shard_count : 0);
    }
    nm__policy_set_room(&shard->policy, share);
    shard->steady = 0;
}

/* While the heap holds the whole budget the index can only get pages that the heap gives up. Tried once in so many
 * puts: buckets that are a little fuller cost less than emptying pages. At once when there was no room for an entry. */
#define NM__INDEX_PATIENCE 64
#define NM__INDEX_SQUEEZES 4

void nm__shard_index_grow_by(nm__shard *shard, nm_status refusal, nm__doomed *doomed) {
    nm_cache *cache = shard->cache;
    nm_status status = refusal;
    if (!shard->crowded && shard->puts % NM__INDEX_PATIENCE != 0) return;
    shard->crowded = false;
    size_t bytes = nm__index_wants(&shard->index);
    if (status != NM_ECAPACITY && !cache->elastic) {
        nm__shard_unlock(shard, doomed);
        doomed->dropped = true;
        (void)nm__make_room(cache->scope, bytes, &cache->holder);
        nm__shard_lock(shard);
        status = nm__index_step(&shard->index);
    }
    bool more = true;
    for (int i = 0; i < NM__INDEX_SQUEEZES && status != NM_OK && more && bytes != 0; i++) {
        nm__shard_squeeze(shard, bytes, NM_EVICT_SPACE, doomed, &more);
        status = nm__index_step(&shard->index);
        bytes = nm__index_wants(&shard->index);
    }
}
