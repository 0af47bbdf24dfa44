// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A shard's index: linear hashing (Litwin 1980). An array of chain heads that grows and shrinks one bucket at a time and one
 * page at a time, so that no operation rehashes and the old and the new table are never both whole. Chains run through the
 * entries. No lock of its own. */
#ifndef NM_SRC_CACHE_INDEX_H
#define NM_SRC_CACHE_INDEX_H

#include "cache/heap.h"

#define NM__PAGE_BUCKETS ((uint32_t)1024)

typedef struct nm__index {
    uint32_t *buckets;
    const nm__heap *heap;
    const nm__pages *pages;
    uint32_t bucket_count; /* at least a page of them */
    uint32_t mask;         /* 2^k - 1 where 2^(k-1) <= bucket_count < 2^k */
    uint32_t bucket_limit; /* what bucket_count may become */
    uint32_t entry_count;
    uint32_t page_count; /* committed */
} nm__index;

/* An index over `reserved` bytes at base (whole pages); its first page is committed. */
nm_status nm__index_open(nm__index *index, void *base, size_t reserved, const nm__heap *heap, const nm__pages *pages);

/* The entry of that key, or 0. */
uint32_t nm__index_find(const nm__index *index, uint32_t hash, const void *key, size_t key_len);
void nm__index_add(nm__index *index, uint32_t offset);
void nm__index_remove(nm__index *index, uint32_t offset);
/* The entry was copied from `from` to `to`. */
void nm__index_move(nm__index *index, uint32_t from, uint32_t to);

/* True if there are more entries than buckets and the next bucket needs a page. */
static inline bool nm__index_wants_page(const nm__index *index) {
    return index->entry_count > index->bucket_count && index->bucket_count == index->page_count * NM__PAGE_BUCKETS &&
           index->bucket_count < index->bucket_limit;
}
/* Adds a bucket or two if there are more entries than buckets. A page that is refused only makes chains longer. */
nm_status nm__index_grow(nm__index *index);
/* Takes away a few buckets if less than half are needed. Constant work: enough to follow a removal at each call. */
void nm__index_shrink(nm__index *index);

#endif
