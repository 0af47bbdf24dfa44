// SPDX-License-Identifier: Apache-2.0 OR MIT
/* RocksDB's block caches, with the numbers of shards that they choose. They keep pointers to values; key, value and, by
 * their default, their own descriptors are charged.
 *
 *   rocksdb_lru          LRUCache: a mutex and a chained hash for each shard
 *   rocksdb_hyperclock   HyperClockCache: no lock, CLOCK in an open table of fixed size, a power of two of slots of 64
 *                        bytes, which are charged as well. Made for entries of the size that they have, the table would
 *                        have twice as many slots as it needs here, and be most of the budget; so it is told two fifths
 *                        more, and where all subjects hold the same number, what they have. Inserting a present key
 *                        leaves the old value in place */
#include <cstdlib>
#include <cstring>

#include <new>
#include <rocksdb/cache.h>

#include "cache/subject.h"

namespace {

const char hyper_clock = 0; // its address is the tag of that subject

struct setup {
    std::shared_ptr<rocksdb::Cache> cache;
};

void *open(const cache_subject *self, const cache_room *room) {
    setup *c = new (std::nothrow) setup;
    if (c == nullptr) return nullptr;
    size_t capacity = room->by_entries ? room->entries * CACHE_PAIR_BYTES : room->bytes;
    size_t estimate = room->by_entries && !room->lean ? CACHE_PAIR_BYTES : CACHE_PAIR_BYTES * 7 / 5;
    auto metadata = room->by_entries ? rocksdb::kDontChargeCacheMetadata : rocksdb::kFullChargeCacheMetadata;
    if (self->tag == &hyper_clock)
        c->cache = rocksdb::HyperClockCacheOptions(capacity, estimate, -1, false, nullptr, metadata).MakeSharedCache();
    else
        c->cache = rocksdb::NewLRUCache(
            rocksdb::LRUCacheOptions(capacity, -1, false, 0, nullptr, rocksdb::kDefaultToAdaptiveMutex, metadata));
    return c;
}

void close(void *context) { delete static_cast<setup *>(context); }

size_t count(void *context) {
    size_t n = 0;
    static_cast<setup *>(context)->cache->ApplyToAllEntries(
        [&n](const rocksdb::Slice &, void *, size_t, rocksdb::Cache::DeleterFn) { n++; }, {});
    return n;
}

void drop(const rocksdb::Slice &, void *value) { std::free(value); }

rocksdb::Slice slice(const cache_request *r) {
    return rocksdb::Slice(reinterpret_cast<const char *>(r->key), CACHE_KEY_BYTES);
}

void serve(void *context, const cache_request *requests, size_t n, cache_tally *tally) {
    setup *c = static_cast<setup *>(context);
    rocksdb::Cache *cache = c->cache.get();
    unsigned char copy[CACHE_VALUE_BYTES];
    for (const cache_request *r = requests; r < requests + n; r++) {
        rocksdb::Cache::Handle *handle = r->put ? nullptr : cache->Lookup(slice(r));
        tally->gets += !r->put;
        if (handle != nullptr) {
            std::memcpy(copy, cache->Value(handle), CACHE_VALUE_BYTES);
            cache->Release(handle);
            cache_hit(tally, r, copy);
        } else {
            void *value = cache_must(std::malloc(CACHE_VALUE_BYTES));
            std::memcpy(value, cache_value(r), CACHE_VALUE_BYTES);
            if (!cache->Insert(slice(r), value, CACHE_PAIR_BYTES, drop).ok())
                cache_fail("rocksdb", "an insert was refused");
        }
    }
}

} // namespace

void cache_add_rocksdb(cache_list *list) {
    cache_subject subject = {};
    subject.name = "rocksdb_lru";
    subject.open = open;
    subject.close = close;
    subject.count = count;
    subject.serve = serve;
    cache_list_add(list, &subject);
    subject.name = "rocksdb_hyperclock";
    subject.tag = &hyper_clock;
    cache_list_add(list, &subject);
}
