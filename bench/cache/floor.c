// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The floor of two dependent misses: keyed hash, a line of the index, the entry's lines, copy. No policy, lock or
 * eviction: the index is made once, for the most popular keys, as many as the cache holds, and never changes. A key
 * that is not in it goes to one of a quarter as many spare entries, which are written as a put writes and which nobody
 * finds.
 *
 * An entry has 128 bytes on a multiple of 128, and index and entries ask for huge pages. Threads share all of it; those
 * that write an entry at once write the same bytes. */
#include "bench.h"

#include <sys/mman.h>

#include "cache/subject.h"

#define SLOTS 8u /* of a line */

typedef uint16_t tags __attribute__((__vector_size__(16)));

typedef struct line {
    tags tag; /* 0: free */
    uint32_t entry[SLOTS];
} __attribute__((__aligned__(64))) line;

typedef struct entry {
    uint64_t key[2];
    unsigned char value[CACHE_VALUE_BYTES];
} __attribute__((__aligned__(128))) entry;

typedef struct setup {
    line *lines;
    entry *entries;
    uint64_t line_count, entry_count, spare_count, found;
} setup;

static uint64_t scaled(uint64_t hash, uint64_t n) { return (uint64_t)((unsigned __int128)hash * n >> 64); }
static uint16_t tag_of(uint64_t hash) { return (uint16_t)(hash | 1); }

static void *huge(size_t bytes) {
    void *p = aligned_alloc((size_t)2 << 20, (bytes + ((size_t)2 << 20) - 1) & ~(((size_t)2 << 20) - 1));
    cache_must(p);
    (void)madvise(p, bytes, MADV_HUGEPAGE); /* small ones do as well */
    memset(p, 0, bytes);
    return p;
}

static inline entry *find(const setup *c, uint64_t hash, const uint64_t key[2]) {
    const line *l = &c->lines[scaled(hash, c->line_count)];
    uint16_t t = tag_of(hash);
    tags same = (tags)(l->tag == (tags){t, t, t, t, t, t, t, t});
    uint64_t half[2];
    memcpy(half, &same, sizeof half);
    for (unsigned h = 0; h < 2; h++)
        for (; half[h] != 0; half[h] &= ~((uint64_t)0xffff << (__builtin_ctzll(half[h]) & ~15))) {
            entry *e = &c->entries[l->entry[4 * h + (unsigned)__builtin_ctzll(half[h]) / 16]];
            if (e->key[0] == key[0] && e->key[1] == key[1]) return e;
        }
    return NULL;
}

static void add(setup *c, uint32_t number) {
    cache_request r;
    cache_make_request(&r, number);
    uint64_t hash = cache_keyed_hash(r.key);
    line *l = &c->lines[scaled(hash, c->line_count)];
    unsigned slot = 0;
    while (slot < SLOTS && l->tag[slot] != 0) slot++;
    if (slot == SLOTS) return; /* one in a hundred */
    uint32_t at = (uint32_t)c->found++;
    l->tag[slot] = tag_of(hash);
    l->entry[slot] = at;
    memcpy(c->entries[at].key, r.key, CACHE_KEY_BYTES);
    memcpy(c->entries[at].value, cache_value(&r), CACHE_VALUE_BYTES);
}

static void *floor_open(const cache_subject *self, const cache_room *room) {
    (void)self;
    setup *c = cache_must(calloc(1, sizeof *c));
    c->entry_count = room->entries;
    c->spare_count = room->entries / 4 + 1;
    c->line_count = room->entries / 4 + 1; /* half full */
    c->lines = huge(c->line_count * sizeof *c->lines);
    c->entries = huge((c->entry_count + c->spare_count) * sizeof *c->entries);
    for (uint64_t rank = 0; rank < CACHE_KEYS && c->found < c->entry_count; rank++)
        add(c, cache_zipf_number(rank, CACHE_KEYS));
    return c;
}

static void floor_close(void *context) {
    setup *c = context;
    free(c->lines);
    free(c->entries);
    free(c);
}

static size_t floor_count(void *context) { return ((setup *)context)->found; }

static void floor_serve(void *context, const cache_request *requests, size_t n, cache_tally *tally) {
    setup *c = context;
    unsigned char copy[CACHE_VALUE_BYTES];
    for (const cache_request *r = requests; r < requests + n; r++) {
        uint64_t hash = cache_keyed_hash(r->key);
        entry *e = find(c, hash, r->key);
        tally->gets += !r->put;
        if (e != NULL && !r->put) {
            memcpy(copy, e->value, CACHE_VALUE_BYTES);
            cache_hit(tally, r, copy);
            continue;
        }
        if (e == NULL) {
            e = &c->entries[c->entry_count + scaled(hash << 32, c->spare_count)];
            memcpy(e->key, r->key, CACHE_KEY_BYTES);
        }
        memcpy(e->value, cache_value(r), CACHE_VALUE_BYTES);
    }
}

void cache_add_floor(cache_list *list) {
    cache_subject subject = {
        .name = "floor", .open = floor_open, .close = floor_close, .count = floor_count, .serve = floor_serve};
    cache_list_add(list, &subject);
}
