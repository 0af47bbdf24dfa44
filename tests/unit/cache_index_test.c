// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/index.h"

#include "os/os.h"
#include "testing.h"

#define ENTRIES     20000u
#define ENTRY_UNITS 4u

static size_t committed;
static bool refuse;

static nm_status commit_page(void *context, void *address, size_t bytes) {
    (void)context;
    if (refuse) return NM_ECAPACITY;
    memset(address, 0, bytes);
    committed += bytes;
    return NM_OK;
}

static bool decommit_page(void *context, void *address, size_t bytes) {
    (void)context;
    memset(address, 0xdd, bytes);
    committed -= bytes;
    return true;
}

static const nm__pages pages = {.commit = commit_page, .decommit = decommit_page};
static unsigned char *memory, *table;
static nm__heap heap; /* only its base: entries lie side by side in `memory` */
static nm__index table_index;
#define TABLE_BYTES ((size_t)64 * NM__PAGE_BYTES)

static int set_up(void **state) {
    (void)state;
    committed = 0;
    refuse = false;
    memory = calloc(ENTRIES + 2, (size_t)ENTRY_UNITS * NM__UNIT_BYTES);
    table = aligned_alloc(NM__PAGE_BYTES, TABLE_BYTES);
    heap.base = memory;
    return memory != NULL && table != NULL && nm__index_open(&table_index, table, TABLE_BYTES, &heap, &pages) == NM_OK
               ? 0
               : -1;
}

static int tear_down(void **state) {
    (void)state;
    free(memory);
    free(table);
    return 0;
}

static uint32_t place(uint32_t i) { return 1 + i * ENTRY_UNITS; }

static uint32_t hash_of(uint32_t i) {
    uint64_t s = i;
    return (uint32_t)test_random(&s);
}

static void add(uint32_t i) {
    nm__entry *e = nm__heap_at(&heap, place(i));
    e->size = ENTRY_UNITS;
    e->key_len = sizeof i;
    e->slack = (uint8_t)(ENTRY_UNITS * NM__UNIT_BYTES - sizeof *e - sizeof i);
    e->hash = hash_of(i);
    memcpy(nm__entry_key(e), &i, sizeof i);
    nm__index_add(&table_index, place(i));
}

static bool found(uint32_t i) {
    uint32_t at = nm__index_find(&table_index, hash_of(i), &i, sizeof i);
    assert_true(at == 0 || at == place(i));
    return at != 0;
}

static void it_grows_and_shrinks_a_bucket_at_a_time_and_loses_nothing(void **state) {
    (void)state;
    for (uint32_t i = 0; i < ENTRIES; i++) {
        add(i);
        uint32_t before = table_index.bucket_count;
        assert_ok(nm__index_grow(&table_index));
        assert_true(table_index.bucket_count - before <= 2);
        assert_true(table_index.entry_count <= nm__max(table_index.bucket_count, NM__PAGE_BUCKETS));
        assert_int_equal(committed, table_index.page_count * NM__PAGE_BYTES);
        if (i % 1000 == 0)
            for (uint32_t j = 0; j <= i; j++) assert_true(found(j));
    }
    uint32_t none = ENTRIES + 5;
    assert_false(found(none));
    assert_true(table_index.page_count >= ENTRIES / NM__PAGE_BUCKETS);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        nm__index_remove(&table_index, place(i));
        nm__index_shrink(&table_index);
        if (i % 1000 == 0)
            for (uint32_t j = 0; j < ENTRIES; j++) assert_int_equal(found(j), j > i);
    }
    assert_int_equal(table_index.bucket_count, NM__PAGE_BUCKETS);
    assert_int_equal(committed, NM__PAGE_BYTES);
}

static void without_a_page_chains_grow_longer_and_all_is_found(void **state) {
    (void)state;
    refuse = true;
    for (uint32_t i = 0; i < ENTRIES; i++) {
        add(i);
        nm__index_grow(&table_index);
    }
    assert_int_equal(table_index.bucket_count, NM__PAGE_BUCKETS);
    assert_true(nm__index_wants_page(&table_index));
    for (uint32_t i = 0; i < ENTRIES; i++) assert_true(found(i));
    refuse = false;
    while (table_index.entry_count > table_index.bucket_count) assert_ok(nm__index_grow(&table_index));
    for (uint32_t i = 0; i < ENTRIES; i++) assert_true(found(i));
}

static void it_stops_where_its_range_ends(void **state) {
    (void)state;
    table_index.bucket_limit = 2 * NM__PAGE_BUCKETS;
    for (uint32_t i = 0; i < ENTRIES; i++) {
        add(i);
        nm__index_grow(&table_index);
    }
    assert_int_equal(table_index.bucket_count, 2 * NM__PAGE_BUCKETS);
    assert_false(nm__index_wants_page(&table_index));
    for (uint32_t i = 0; i < ENTRIES; i++) assert_true(found(i));
}

static void entries_of_one_hash_are_told_apart_by_key_and_a_moved_one_is_followed(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 100; i++) {
        add(i);
        nm__index_remove(&table_index, place(i));
        nm__heap_at(&heap, place(i))->hash = 7;
        nm__index_add(&table_index, place(i));
    }
    uint32_t moved = ENTRIES, key = 50;
    memcpy(nm__heap_at(&heap, place(moved)), nm__heap_at(&heap, place(key)), (size_t)ENTRY_UNITS * NM__UNIT_BYTES);
    nm__index_move(&table_index, place(key), place(moved));
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(nm__index_find(&table_index, 7, &i, sizeof i), i == key ? place(moved) : place(i));
    assert_int_equal(nm__index_find(&table_index, 7, &key, 3), 0);
}

static void random_adds_and_removes_agree_with_a_set(void **state) {
    (void)state;
    static bool present[ENTRIES];
    memset(present, 0, sizeof present);
    uint64_t seed = test_seed();
    uint32_t count = 0;
    for (int step = 0; step < 300000; step++) {
        uint64_t r = test_random(&seed);
        uint32_t i = (uint32_t)(r >> 32) % ENTRIES;
        bool fill = (step / 60000) % 2 == 0;
        assert_int_equal(found(i), present[i]);
        if (present[i] && (!fill || r % 4 == 0)) {
            nm__index_remove(&table_index, place(i));
            nm__index_shrink(&table_index);
            present[i] = false;
            count--;
        } else if (!present[i] && (fill || r % 4 == 0)) {
            refuse = r % 3 == 0;
            add(i);
            nm__index_grow(&table_index);
            present[i] = true;
            count++;
        }
        assert_int_equal(table_index.entry_count, count);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(it_grows_and_shrinks_a_bucket_at_a_time_and_loses_nothing),
        TEST(without_a_page_chains_grow_longer_and_all_is_found),
        TEST(it_stops_where_its_range_ends),
        TEST(entries_of_one_hash_are_told_apart_by_key_and_a_moved_one_is_followed),
        TEST(random_adds_and_removes_agree_with_a_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
