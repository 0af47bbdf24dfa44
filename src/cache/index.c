// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/index.h"

#include <string.h>

#include "os/os.h"

nm_status nm__index_open(nm__index *index, void *base, size_t reserved, const nm__heap *heap, const nm__pages *pages) {
    memset(index, 0, sizeof *index);
    nm_status status = pages->commit(pages->context, base, NM__PAGE_BYTES);
    if (status != NM_OK) return status;
    index->buckets = base;
    index->heap = heap;
    index->pages = pages;
    index->page_count = 1;
    index->bucket_count = NM__PAGE_BUCKETS;
    index->mask = 2 * NM__PAGE_BUCKETS - 1;
    index->bucket_limit = (uint32_t)(nm__min(reserved, (size_t)4 << 30) / sizeof(uint32_t));
    return NM_OK;
}

/* Buckets up to bucket_count exist; those that would lie beyond are not split off yet from the lower half. */
static uint32_t *bucket_of(const nm__index *index, uint32_t hash) {
    uint32_t b = hash & index->mask;
    return &index->buckets[b < index->bucket_count ? b : b & (index->mask >> 1)];
}

uint32_t nm__index_find(const nm__index *index, uint32_t hash, const void *key, size_t key_len) {
    uint32_t offset = *bucket_of(index, hash);
    while (offset != 0) {
        const nm__entry *e = nm__heap_at(index->heap, offset);
        if (e->hash == hash && e->key_len == key_len) {
            /* A hit moves to the front of its list: its neighbours are fetched while the key, a few lines on, is. */
            if (e->node.next != 0) __builtin_prefetch(&nm__heap_at(index->heap, e->node.next)->node, 1);
            if (e->node.prev != 0) __builtin_prefetch(&nm__heap_at(index->heap, e->node.prev)->node, 1);
            __builtin_prefetch(nm__entry_value(e));
            if (memcmp(nm__entry_key(e), key, key_len) == 0) return offset;
        }
        offset = e->chain;
    }
    return 0;
}

void nm__index_add(nm__index *index, uint32_t offset) {
    nm__entry *e = nm__heap_at(index->heap, offset);
    uint32_t *bucket = bucket_of(index, e->hash);
    e->chain = *bucket;
    *bucket = offset;
    index->entry_count++;
}

static uint32_t *link_to(nm__index *index, uint32_t hash, uint32_t offset) {
    uint32_t *link = bucket_of(index, hash);
    while (*link != offset) link = &nm__heap_at(index->heap, *link)->chain;
    return link;
}

void nm__index_remove(nm__index *index, uint32_t offset) {
    const nm__entry *e = nm__heap_at(index->heap, offset);
    *link_to(index, e->hash, offset) = e->chain;
    index->entry_count--;
}

void nm__index_move(nm__index *index, uint32_t from, uint32_t to) {
    *link_to(index, nm__heap_at(index->heap, to)->hash, from) = to;
}

static nm_status split(nm__index *index) {
    uint32_t added = index->bucket_count;
    if (added >= index->bucket_limit) return NM_ETOOLARGE;
    if (added == index->page_count * NM__PAGE_BUCKETS) {
        nm_status status = index->pages->commit(index->pages->context, index->buckets + added, NM__PAGE_BYTES);
        if (status != NM_OK) return status;
        index->page_count++;
    }
    uint32_t *keep = &index->buckets[added & (index->mask >> 1)], *move = &index->buckets[added];
    uint32_t offset = *keep;
    while (offset != 0) {
        nm__entry *e = nm__heap_at(index->heap, offset);
        uint32_t **to = (e->hash & index->mask) == added ? &move : &keep;
        **to = offset;
        *to = &e->chain;
        offset = e->chain;
    }
    *keep = *move = 0;
    if (++index->bucket_count > index->mask) index->mask = 2 * index->mask + 1;
    return NM_OK;
}

nm_status nm__index_grow(nm__index *index) {
    nm_status status = NM_OK;
    for (int i = 0; i < 2 && status == NM_OK && index->entry_count > index->bucket_count; i++) status = split(index);
    return status;
}

static void merge(nm__index *index) {
    uint32_t gone = index->bucket_count - 1;
    if (gone <= index->mask >> 1) index->mask >>= 1;
    uint32_t *link = &index->buckets[gone & (index->mask >> 1)];
    while (*link != 0) link = &nm__heap_at(index->heap, *link)->chain;
    *link = index->buckets[gone];
    index->buckets[gone] = 0;
    index->bucket_count = gone;
}

void nm__index_shrink(nm__index *index) {
    for (int i = 0; i < 4 && index->bucket_count > NM__PAGE_BUCKETS && index->entry_count < index->bucket_count / 2;
         i++)
        merge(index);
    /* Half a page of hysteresis, so that a count that swings around a page's edge does not call the system each time. */
    uint32_t last = (index->page_count - 1) * NM__PAGE_BUCKETS;
    bool idle = index->bucket_count + NM__PAGE_BUCKETS / 2 <= last ||
                (index->page_count > 1 && index->bucket_count == NM__PAGE_BUCKETS);
    if (idle && index->pages->decommit(index->pages->context, index->buckets + last, NM__PAGE_BYTES))
        index->page_count--;
}
