// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Walks a cache at a quiet point and checks that its books agree with its memory. */
#ifndef NM_TESTS_SUPPORT_CACHE_CHECK_H
#define NM_TESTS_SUPPORT_CACHE_CHECK_H

#include "cache/cache_internal.h"
#include "testing.h"

/* What the walk over a shard's heap finds. */
typedef struct cache_found {
    uint32_t free_units, fixed, fixed_units, residents, dead;
    size_t used, pinned, objects, pins;
} cache_found;

static inline void cache_check_entry(const nm__shard *shard, uint32_t at, cache_found *found) {
    const nm__entry *e = nm__entry_at(shard, at);
    uint32_t state = nm__node_state(&e->node), size = nm__chunk_units(e);
    size_t weight = nm__entry_weight(e);
    found->objects += nm__entry_object_bytes(e);
    assert_int_equal(nm__entry_units(nm__entry_key_len(e), nm__entry_value_len(e), (state & NM__ENTRY_MORE) != 0),
                     size);
    if (state & NM__ENTRY_FIXED) {
        found->fixed++;
        found->fixed_units += size;
    }
    if (state & NM__ENTRY_OFF) {
        assert_true(state & NM__ENTRY_FIXED);
        assert_false(e->node.prev & NM__OFF_DOOMED);
        found->pins += e->node.prev & NM__OFF_ZOMBIE ? e->node.next : 1;
        found->pinned += weight * (e->node.prev & NM__OFF_ZOMBIE ? e->node.next : 1);
        return;
    }
    nm__place_of place;
    assert_true(
        nm__index_find(&shard->index, nm__entry_hash(shard, e), nm__entry_key(e), nm__entry_key_len(e), &place));
    assert_int_equal(place.offset, at);
    uint32_t pins = nm__index_pins(&shard->index, place);
    if (pins == 0) assert_false(state & NM__ENTRY_FIXED);
    found->pins += pins;
    found->pinned += pins * weight;
    if (nm__entry_dead(shard, e)) {
        found->dead++;
    } else {
        found->residents++;
        found->used += weight;
    }
}

static inline void cache_check_shard(const nm__shard *shard, size_t *granted, cache_found *all) {
    const nm__heap *heap = &shard->heap;
    cache_found found = {0};
    uint32_t before = 0;
    bool before_free = false;
    for (uint32_t at = NM__HEAP_FIRST; at < heap->end;) {
        uint32_t size = nm__heap_size(heap, at);
        assert_int_not_equal(size, 0);
        assert_int_equal(nm__heap_before(heap, at), before);
        bool is_free = nm__heap_is_free(heap, at);
        assert_false(is_free && before_free);
        assert_false(nm__heap_is_held(heap, at));
        if (is_free)
            found.free_units += size;
        else
            cache_check_entry(shard, at, &found);
        before = at;
        before_free = is_free;
        at += size;
        assert_true(at <= heap->end);
    }
    assert_int_equal(nm__heap_before(heap, heap->end), before);
    assert_int_equal(found.free_units, heap->free_units);
    assert_int_equal(found.fixed, shard->fixed_count);
    assert_int_equal(found.fixed_units, shard->fixed_units);
    assert_int_equal(found.objects, shard->object_bytes);
    assert_int_equal(found.used, shard->used_bytes);
    assert_int_equal(found.residents, shard->entry_count);
    assert_int_equal(found.dead, shard->dead_count);
    assert_int_equal(found.residents + found.dead, shard->index.entry_count);
    size_t bytes = 0;
    for (int s = 0; s < NM__SEGMENTS; s++) bytes += nm__policy_bytes(&shard->policy, (nm__segment)s);
    assert_int_equal(bytes, found.used);
    all->pins += found.pins;
    all->pinned += found.pinned;
    *granted += nm__heap_bytes(heap) + heap->map_bytes + nm__index_bytes(&shard->index) + shard->tables_bytes +
                shard->object_bytes;
}

/* used <= granted <= budget, and every byte granted is one that was found. */
static inline void cache_check(const nm_cache *cache) {
    cache_found all = {0};
    nm__counts counts;
    size_t granted =
        cache->range_bytes + cache->desk.page_count * NM__PAGE_BYTES + cache->desk.reader_bytes + cache->sampler.bytes;
    for (unsigned i = 0; i < cache->shard_count; i++) cache_check_shard(&cache->shards[i], &granted, &all);
    assert_int_equal(granted, nm_cache_granted(cache));
    assert_true(nm_cache_used(cache) <= granted);
    assert_true(granted <= nm_cache_budget(cache));
    nm__counts_sum(cache, &counts);
    assert_int_equal(counts.pins, all.pins);
    assert_int_equal(counts.pinned_bytes, all.pinned);
}

/* The same from outside: cheap enough for every step. */
static inline void cache_law(const nm_cache *cache, const nm_scope *scope) {
    nm_scope_stats stats;
    nm_scope_get_stats(scope, &stats);
    assert_true(nm_cache_used(cache) <= nm_cache_granted(cache));
    assert_true(nm_cache_granted(cache) <= nm_cache_budget(cache));
    assert_int_equal(stats.granted_bytes, nm_cache_granted(cache));
}

#endif
