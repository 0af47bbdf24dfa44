// SPDX-License-Identifier: Apache-2.0 OR MIT
/* An index over a heap that is only an array: chunks of one size side by side, written by hand. */
#ifndef NM_TESTS_UNIT_CACHE_INDEX_FIXTURE_H
#define NM_TESTS_UNIT_CACHE_INDEX_FIXTURE_H

#include "cache/index.h"
#include "os/os.h"
#include "testing.h"

#define CHUNK_UNITS 8u
#define CHUNKS      40000u
#define INDEX_BYTES ((size_t)256 * NM__PAGE_BYTES)

typedef struct index_fixture {
    nm__index index;
    nm__heap heap; /* only its base */
    nm__pages pages;
    unsigned char *range;
    size_t committed;
    bool refuse, keep;  /* commits are refused; decommits are */
    uint64_t hash_mask; /* all 1: an ordinary hash */
    bool hash_near;     /* its points differ only behind their upper 8 bits */
    uint32_t *free;     /* numbers of free chunks */
    uint32_t free_count;
} index_fixture;

static inline nm_status fixture_commit(void *context, void *address, size_t bytes) {
    index_fixture *f = context;
    if (f->refuse) return NM_EBUDGET;
    assert_ptr_equal(address, f->range + f->committed);
    assert_true(nm__os_get()->commit(address, bytes));
    f->committed += bytes;
    return NM_OK;
}

static inline bool fixture_decommit(void *context, void *address, size_t bytes) {
    index_fixture *f = context;
    if (f->keep) return false;
    /* relaxed: readers who are late look there too */
    for (size_t i = 0; i < bytes / 8; i++) assert_true(nm_atomic_load((uint64_t *)address + i, NM_RELAXED) == 0);
    assert_true(nm__os_get()->decommit(address, bytes));
    f->committed -= bytes;
    assert_ptr_equal(address, f->range + f->committed);
    return true;
}

static inline uint64_t fixture_hash_key(const index_fixture *f, const void *key, size_t len) {
    uint64_t hash = len;
    for (size_t i = 0; i < len; i++) {
        hash ^= ((const unsigned char *)key)[i];
        hash = test_random(&hash);
    }
    if (f->hash_near) hash = (hash & ~((uint64_t)0xff << 48)) | (hash >> 24 & 0xff) << 48;
    return hash & f->hash_mask;
}

static inline uint64_t fixture_hash_of(void *context, uint32_t offset) {
    index_fixture *f = context;
    const nm__entry *e = nm__heap_at(&f->heap, offset);
    return fixture_hash_key(f, nm__entry_key(e), nm__entry_key_len(e));
}

static inline void fixture_open(index_fixture *f) {
    memset(f, 0, sizeof *f);
    f->hash_mask = UINT64_MAX;
    f->pages = (nm__pages){.commit = fixture_commit, .decommit = fixture_decommit, .context = f};
    f->range = nm__os_get()->reserve(INDEX_BYTES, NM__PAGE_BYTES);
    f->heap.base = calloc(CHUNKS + 2, (size_t)CHUNK_UNITS * NM__UNIT_BYTES);
    f->free = calloc(CHUNKS, sizeof *f->free);
    assert_true(f->range != NULL && f->heap.base != NULL && f->free != NULL);
    for (uint32_t i = 0; i < CHUNKS; i++) f->free[f->free_count++] = 1 + (CHUNKS - 1 - i) * CHUNK_UNITS;
    assert_ok(nm__index_open(&f->index, f->range, INDEX_BYTES, &f->heap, &f->pages, fixture_hash_of, f));
}

static inline void fixture_close(index_fixture *f) {
    nm__os_get()->unreserve(f->range, INDEX_BYTES);
    free(f->heap.base);
    free(f->free);
}

/* Writes header and key into a chunk that is as long as it has to be. */
static inline void fixture_write(nm__entry *e, const void *key, size_t key_len, size_t value_len, bool more) {
    uint32_t units = nm__entry_units(key_len, value_len, more);
    bool wide = nm__value_is_wide(value_len), long_key = key_len > UINT8_MAX;
    size_t slack =
        units * NM__UNIT_BYTES - sizeof *e - (wide ? 8 : 0) - (more ? NM__MORE_BYTES : 0) - key_len - value_len;
    assert_true(slack < 8 && (more || !long_key));
    nm_atomic_store(&e->size, units, NM_RELAXED);
    nm__node_set_state(&e->node, (wide ? NM__ENTRY_WIDE : 0) | (more ? NM__ENTRY_MORE : 0) |
                                     (uint32_t)slack << NM__SLACK_SHIFT |
                                     (long_key ? 0 : (uint32_t)key_len) << NM__KEY_LEN_SHIFT);
    if (more) nm__entry_more_of(e)->key_len = (uint16_t)key_len;
    memcpy(nm__entry_key(e), key, key_len);
}

/* Keys are two words, so is an entry's own number, which its value repeats. */
#define NUMBER_KEY_BYTES   ((size_t)16)
#define NUMBER_VALUE_BYTES ((size_t)24)

typedef struct number_key {
    uint64_t word[2];
} number_key;

static inline number_key number_key_of(uint64_t number) { return (number_key){{number, ~number}}; }

static inline void fixture_write_number(index_fixture *f, uint32_t offset, uint64_t number) {
    nm__entry *e = nm__heap_at(&f->heap, offset);
    number_key key = number_key_of(number);
    fixture_write(e, &key, NUMBER_KEY_BYTES, NUMBER_VALUE_BYTES, false);
    for (size_t i = 0; i < NUMBER_VALUE_BYTES; i += 8) memcpy(nm__entry_value(e) + i, &number, 8);
}

static inline uint64_t fixture_hash_number(const index_fixture *f, uint64_t number) {
    number_key key = number_key_of(number);
    return fixture_hash_key(f, &key, sizeof key);
}

static inline uint32_t fixture_take(index_fixture *f) {
    assert_true(f->free_count != 0);
    return f->free[--f->free_count];
}
static inline void fixture_give(index_fixture *f, uint32_t offset) {
    /* Whoever still reads it is found out. */
    memset((void *)nm__heap_at(&f->heap, offset), 0xdd, (size_t)CHUNK_UNITS * NM__UNIT_BYTES);
    f->free[f->free_count++] = offset;
}

#endif
