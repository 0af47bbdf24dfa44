// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The Rust crate lru behind a Mutex, with the crate's own hash (ahash, keyed). A block of requests is one call into
 * Rust, where everything may be inlined. */
#include "cache/subject.h"

void *cache_lru_new(size_t entries);
void cache_lru_free(void *cache);
size_t cache_lru_len(void *cache);
void cache_lru_serve(void *cache, const cache_request *requests, size_t n, const unsigned char *values,
                     cache_tally *tally);

static void *lru_open(const cache_subject *self, const cache_room *room) {
    (void)self;
    return cache_lru_new(room->entries);
}

static void lru_serve(void *context, const cache_request *requests, size_t n, cache_tally *tally) {
    cache_lru_serve(context, requests, n, cache_values[0], tally);
}

void cache_add_lru(cache_list *list) {
    cache_subject subject = {
        .name = "rust_lru", .open = lru_open, .close = cache_lru_free, .count = cache_lru_len, .serve = lru_serve};
    cache_list_add(list, &subject);
}
