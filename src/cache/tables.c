// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The memory of a shard's policy: ghosts for as many entries as there are. More of them would be of keys that left long ago, and whoever comes
 * back from there is no better than a stranger: S3-FIFO and ADAPTIVE then keep what they should try. So the tables grow and shrink
 * with the count of entries, in place; and they are there before the first entry has to leave. */
#include "cache/cache_internal.h"

/* Most of what the shard has: with the smallest entries a few ghosts are missing. */
#define NM__TABLES_SHARE 32
/* Pages are asked of a full heap so many times at most; what cannot be had then is tried again when there are more entries. */
#define NM__TABLES_SQUEEZES 4

void nm__tables_open(nm__shard *shard) {
    const nm_cache *cache = shard->cache;
    size_t entries = shard->heap_reserved / (sizeof(nm__entry) + 4);
    size_t bytes = nm__min(nm__policy_tables_bytes(cache->policy, 0, entries), shard->heap_reserved / NM__TABLES_SHARE);
    bytes = nm__round_down(bytes, NM__PAGE_BYTES);
    shard->tables_most = SIZE_MAX;
    if (bytes == 0 || nm__range_reserve(bytes, NM__PAGE_BYTES, &shard->tables) != NM_OK) return;
    shard->tables_reserved = bytes;
    shard->tables_most = 0;
}

/* Whole pages. */
static size_t most(const nm__shard *shard) {
    size_t share = (nm__heap_bytes(&shard->heap) + shard->object_bytes) / NM__TABLES_SHARE;
    return nm__round_down(nm__min(share, shard->tables_reserved), NM__PAGE_BYTES);
}

static size_t wanted(const nm__shard *shard) {
    return nm__min(nm__policy_tables_bytes(shard->cache->policy, 0, nm__max(shard->entry_count, 1)), most(shard));
}

/* Until there are a quarter more entries or an eighth less. */
static void use(nm__shard *shard, size_t bytes) {
    nm__policy_set_tables(&shard->policy, bytes != 0 ? shard->tables : NULL, bytes);
    shard->tables_least = shard->entry_count - shard->entry_count / 8;
    shard->tables_most = shard->entry_count + shard->entry_count / 4;
}

void nm__tables_fit(nm__shard *shard, nm__doomed *doomed) {
    size_t bytes = wanted(shard), pages = nm__round_up(bytes, NM__PAGE_BYTES);
    bool more = true;
    for (int i = 0; pages > shard->tables_bytes; i++) {
        size_t missing = pages - shard->tables_bytes;
        nm_status status = nm__shard_commit(shard, (unsigned char *)shard->tables + shard->tables_bytes, missing);
        if (status == NM_OK) {
            shard->tables_bytes = pages;
        } else if (status != NM_ECAPACITY || i == NM__TABLES_SQUEEZES || !more || doomed == NULL) {
            bytes = pages = shard->tables_bytes;
        } else {
            nm__shard_squeeze(shard, missing, NM_EVICT_SPACE, doomed, &more);
        }
    }
    use(shard, bytes);
    if (pages < shard->tables_bytes &&
        nm__shard_decommit(shard, (unsigned char *)shard->tables + pages, shard->tables_bytes - pages))
        shard->tables_bytes = pages;
}

void nm__tables_shrink(nm__shard *shard) {
    if (shard->entry_count < shard->tables_least || shard->tables_bytes > most(shard)) nm__tables_fit(shard, NULL);
}
