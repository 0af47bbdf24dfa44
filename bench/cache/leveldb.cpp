// SPDX-License-Identifier: Apache-2.0 OR MIT
/* LevelDB's ShardedLRUCache: 16 shards, a mutex and a chained hash each. It keeps pointers and charges what it is told:
 * key, value, and the 72 bytes of its descriptor with the 8 of a bucket, as RocksDB's does by itself. */
#include <cstdlib>
#include <cstring>

#include <leveldb/cache.h>
#include <new>

#include "cache/subject.h"

namespace {

constexpr size_t metadata_bytes = 80;

struct setup {
    leveldb::Cache *cache;
    size_t charge;
};

void *open(const cache_subject *, const cache_room *room) {
    setup *c = new (std::nothrow) setup;
    if (c == nullptr) return nullptr;
    c->charge = room->by_entries ? 1 : CACHE_PAIR_BYTES + metadata_bytes;
    c->cache = leveldb::NewLRUCache(room->by_entries ? room->entries : room->bytes);
    return c;
}

void close(void *context) {
    setup *c = static_cast<setup *>(context);
    delete c->cache;
    delete c;
}

size_t count(void *context) {
    setup *c = static_cast<setup *>(context);
    return c->cache->TotalCharge() / c->charge;
}

void drop(const leveldb::Slice &, void *value) { std::free(value); }

leveldb::Slice slice(const cache_request *r) {
    return leveldb::Slice(reinterpret_cast<const char *>(r->key), CACHE_KEY_BYTES);
}

void serve(void *context, const cache_request *requests, size_t n, cache_tally *tally) {
    setup *c = static_cast<setup *>(context);
    unsigned char copy[CACHE_VALUE_BYTES];
    for (const cache_request *r = requests; r < requests + n; r++) {
        leveldb::Cache::Handle *handle = r->put ? nullptr : c->cache->Lookup(slice(r));
        tally->gets += !r->put;
        if (handle != nullptr) {
            std::memcpy(copy, c->cache->Value(handle), CACHE_VALUE_BYTES);
            c->cache->Release(handle);
            cache_hit(tally, r, copy);
        } else {
            void *value = cache_must(std::malloc(CACHE_VALUE_BYTES));
            std::memcpy(value, cache_value(r), CACHE_VALUE_BYTES);
            c->cache->Release(c->cache->Insert(slice(r), value, c->charge, drop));
        }
    }
}

} // namespace

void cache_add_leveldb(cache_list *list) {
    cache_subject subject = {};
    subject.name = "leveldb";
    subject.open = open;
    subject.close = close;
    subject.count = count;
    subject.serve = serve;
    cache_list_add(list, &subject);
}
