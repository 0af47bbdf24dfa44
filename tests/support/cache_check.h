// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Walks a cache at a quiet point and checks that its books agree with its memory. */
#ifndef NM_TESTS_SUPPORT_CACHE_CHECK_H
#define NM_TESTS_SUPPORT_CACHE_CHECK_H

#include "cache/cache_internal.h"
#include "testing.h"

static inline void cache_check_shard(const nm__shard *shard, size_t *granted) {
    const nm__heap *heap = &shard->heap;
    uint32_t before = 0, free_units = 0, fixed = 0, fixed_units = 0, residents = 0;
    size_t used = 0, pinned = 0, objects = 0;
    bool before_free = false;
    for (uint32_t at = NM__HEAP_FIRST; at < heap->end;) {
        const nm__entry *e = nm__heap_at(heap, at);
        uint32_t size = nm__heap_size(heap, at);
        assert_int_not_equal(size, 0);
        assert_int_equal(nm__heap_before(heap, at), before);
        bool is_free = nm__heap_is_free(heap, at);
        assert_false(is_free && before_free);
        assert_false(nm__heap_is_held(heap, at));
        if (is_free) {
            free_units += size;
        } else {
            objects += nm__entry_object_bytes(e);
            assert_false(e->node.state & NM__DOOMED);
            if (e->node.state & NM__PINS) {
                fixed++;
                fixed_units += size;
                pinned += nm__entry_weight(e);
            }
            if (!(e->node.state & (NM__ZOMBIE | NM__RESERVED))) {
                residents++;
                used += nm__entry_weight(e);
                assert_int_equal(nm__index_find(&shard->index, e->hash, nm__entry_key(e), e->key_len), at);
            }
        }
        before = at;
        before_free = is_free;
        at += size;
        assert_true(at <= heap->end);
    }
    assert_int_equal(nm__heap_before(heap, heap->end), before);
    assert_int_equal(free_units, heap->free_units);
    assert_int_equal(fixed, shard->fixed_count);
    assert_int_equal(fixed_units, shard->fixed_units);
    assert_int_equal(pinned, shard->pinned_bytes);
    assert_int_equal(objects, shard->object_bytes);
    assert_int_equal(used, shard->used_bytes);
    assert_int_equal(residents, shard->entry_count);
    assert_int_equal(residents, shard->index.entry_count);
    uint32_t listed = 0;
    size_t bytes[2] = {0, 0};
    for (int l = 0; l < 3; l++) {
        uint32_t last = 0;
        for (uint32_t at = shard->segments.lists[l].head; at != 0; at = nm__heap_at(heap, at)->node.next) {
            const nm__entry *e = nm__heap_at(heap, at);
            assert_int_equal(e->node.prev, last);
            int segment = e->node.state & NM__NODE_PROTECTED ? NM__PROTECTED : NM__PROBATION;
            if (l != NM__HELD) assert_int_equal(segment, l);
            assert_int_equal((e->node.state & NM__PINS) != 0, l == NM__HELD);
            bytes[segment] += nm__entry_weight(e);
            last = at;
            listed++;
        }
        assert_int_equal(shard->segments.lists[l].tail, last);
    }
    assert_int_equal(listed, residents);
    for (int s = 0; s < 2; s++) assert_int_equal(bytes[s], shard->segments.bytes[s]);
    *granted += nm__heap_bytes(heap) + shard->index.page_count * NM__PAGE_BYTES + shard->object_bytes +
                shard->slot_page_count * NM__PAGE_BYTES;
}

/* used <= granted <= budget, and every byte granted is one that was found. */
static inline void cache_check(const nm_cache *cache) {
    size_t granted = cache->range_bytes;
    for (unsigned i = 0; i < cache->shard_count; i++) cache_check_shard(&cache->shards[i], &granted);
    assert_int_equal(granted, nm_cache_granted(cache));
    assert_true(nm_cache_used(cache) <= granted);
    assert_true(granted <= nm_cache_budget(cache));
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
