// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/heap.h"

#include "os/os.h"
#include "testing.h"

#define HEAP_BYTES ((size_t)1 << 20)

/* Pages under the test's command: counted, and refused when it says so. */
static size_t committed;
static nm_status refusal;
static bool keep_pages;

static nm_status commit_page(void *context, void *address, size_t bytes) {
    (void)context;
    if (refusal != NM_OK) return refusal;
    memset(address, 0, bytes);
    committed += bytes;
    return NM_OK;
}

static bool decommit_page(void *context, void *address, size_t bytes) {
    (void)context;
    if (keep_pages) return false;
    memset(address, 0xdd, bytes);
    committed -= bytes;
    return true;
}

static const nm__pages pages = {.commit = commit_page, .decommit = decommit_page};
static unsigned char *memory;
static nm__heap heap;

static int set_up(void **state) {
    (void)state;
    committed = 0;
    refusal = NM_OK;
    keep_pages = false;
    memory = aligned_alloc(NM__PAGE_BYTES, HEAP_BYTES);
    return memory != NULL && nm__heap_open(&heap, memory, HEAP_BYTES, &pages) == NM_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    free(memory);
    return 0;
}

/* Walks all chunks: tags agree both ways, no two free neighbours, the free units add up, all that is free can be found. */
static uint32_t check_heap(void) {
    uint32_t before = 0, free_units = 0, chunks = 0;
    bool before_free = false;
    for (uint32_t at = NM__HEAP_FIRST; at < heap.end;) {
        uint32_t size = nm__heap_size(&heap, at);
        assert_int_not_equal(size, 0);
        assert_int_equal(nm__heap_before(&heap, at), before);
        bool is_free = nm__heap_is_free(&heap, at);
        assert_false(is_free && before_free);
        if (is_free) free_units += size;
        before = at;
        before_free = is_free;
        at += size;
        chunks++;
        assert_true(at <= heap.end);
    }
    assert_int_equal(nm__heap_before(&heap, heap.end), before);
    assert_int_equal(free_units, heap.free_units);
    assert_int_equal(committed, nm__heap_bytes(&heap));
    uint32_t listed = 0;
    for (unsigned r = 0; r < NM__HEAP_ROWS; r++)
        for (unsigned c = 0; c < NM__HEAP_COLS; c++)
            for (uint32_t at = heap.free[r][c]; at != 0; at = nm__heap_at(&heap, at)->hash)
                listed += nm__heap_size(&heap, at);
    assert_int_equal(listed, free_units);
    return chunks;
}

static void a_new_heap_is_one_free_chunk_of_its_first_page(void **state) {
    (void)state;
    assert_int_equal(check_heap(), 1);
    assert_int_equal(heap.free_units, NM__PAGE_UNITS - 1);
    assert_int_equal(nm__heap_take(&heap, NM__PAGE_UNITS), 0);
    uint32_t all = nm__heap_take(&heap, NM__PAGE_UNITS - 1);
    assert_int_equal(all, NM__HEAP_FIRST);
    assert_int_equal((uintptr_t)nm__heap_at(&heap, all) % NM_ALIGN, 8);
    assert_int_equal(nm__heap_take(&heap, 1), 0);
    assert_int_equal(nm__heap_give(&heap, all), all);
    check_heap();
}

static void neighbours_coalesce_in_every_order_of_freeing(void **state) {
    (void)state;
    static const unsigned orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (unsigned i = 0; i < 6; i++) {
        uint32_t at[3];
        for (unsigned j = 0; j < 3; j++) assert_int_not_equal(at[j] = nm__heap_take(&heap, 10 + j), 0);
        for (unsigned j = 0; j < 3; j++) {
            nm__heap_give(&heap, at[orders[i][j]]);
            check_heap();
        }
        assert_int_equal(check_heap(), 1);
    }
}

static void growth_extends_the_free_chunk_at_the_top_and_trim_undoes_it(void **state) {
    (void)state;
    uint32_t low = nm__heap_take(&heap, 100);
    assert_int_equal(nm__heap_top_free(&heap), 155);
    assert_ok(nm__heap_grow(&heap, NM__PAGE_BYTES, 4 * NM__PAGE_BYTES));
    assert_int_equal(nm__heap_top_free(&heap), 155 + 4 * NM__PAGE_UNITS);
    check_heap();
    assert_int_equal(nm__heap_trim(&heap, NM__PAGE_BYTES), NM__PAGE_BYTES);
    check_heap();
    keep_pages = true;
    assert_int_equal(nm__heap_trim(&heap, SIZE_MAX), 0);
    check_heap();
    keep_pages = false;
    assert_int_equal(nm__heap_trim(&heap, SIZE_MAX), 3 * NM__PAGE_BYTES);
    assert_int_equal(nm__heap_trim(&heap, SIZE_MAX), 0);
    nm__heap_give(&heap, low);
    assert_int_equal(check_heap(), 1);
}

static void a_refused_growth_changes_nothing_and_the_next_works(void **state) {
    (void)state;
    refusal = NM_EBUDGET;
    assert_status(nm__heap_grow(&heap, NM__PAGE_BYTES, 8 * NM__PAGE_BYTES), NM_EBUDGET);
    check_heap();
    refusal = NM_OK;
    assert_ok(nm__heap_grow(&heap, NM__PAGE_BYTES, 8 * NM__PAGE_BYTES));
    check_heap();
    assert_status(nm__heap_grow(&heap, HEAP_BYTES, HEAP_BYTES), NM_ETOOLARGE);
    assert_ok(nm__heap_grow(&heap, NM__PAGE_BYTES, SIZE_MAX / 2));
    assert_int_equal(nm__heap_bytes(&heap), HEAP_BYTES);
    check_heap();
}

static void trimming_stops_at_a_chunk_that_ends_on_a_page(void **state) {
    (void)state;
    assert_ok(nm__heap_grow(&heap, NM__PAGE_BYTES, NM__PAGE_BYTES));
    uint32_t all = nm__heap_take(&heap, NM__PAGE_UNITS - 1);
    assert_int_equal(nm__heap_trim(&heap, SIZE_MAX), NM__PAGE_BYTES);
    assert_int_equal(check_heap(), 1);
    assert_ok(nm__heap_grow(&heap, NM__PAGE_BYTES, NM__PAGE_BYTES));
    assert_int_equal(check_heap(), 2);
    nm__heap_give(&heap, all);
    assert_int_equal(check_heap(), 1);
}

static void a_window_of_held_chunks_becomes_one_and_is_cut(void **state) {
    (void)state;
    uint32_t a = nm__heap_take(&heap, 3), b = nm__heap_take(&heap, 4), c = nm__heap_take(&heap, 5);
    uint32_t d = nm__heap_take(&heap, 6);
    nm__heap_give(&heap, b);
    nm__heap_hold(&heap, b);
    nm__heap_hold(&heap, c);
    nm__heap_give(&heap, a);
    assert_false(nm__heap_is_free(&heap, b));
    nm__heap_join(&heap, b, d);
    assert_int_equal(nm__heap_size(&heap, b), 9);
    assert_true(nm__heap_is_held(&heap, b));
    nm__heap_cut(&heap, b, 2);
    assert_false(nm__heap_is_held(&heap, b));
    assert_int_equal(nm__heap_size(&heap, b), 2);
    assert_int_equal(nm__heap_size(&heap, b + 2), 7);
    assert_true(nm__heap_is_free(&heap, b + 2));
    check_heap();
    nm__heap_give(&heap, d);
    nm__heap_give(&heap, b);
    assert_int_equal(check_heap(), 1);
}

/* Against a list of what was taken: contents hold, nothing overlaps, and a fit is found whenever one of the next class
 * exists. */
static void random_takes_and_gives_agree_with_a_list(void **state) {
    (void)state;
    enum { LIVE = 600, STEPS = 200000 };
    static struct {
        uint32_t at, units;
        unsigned char mark;
    } live[LIVE];
    unsigned count = 0;
    uint64_t seed = test_seed();
    for (int step = 0; step < STEPS; step++) {
        uint64_t r = test_random(&seed);
        if (count == LIVE || (count > 0 && r % 5 < 2)) {
            unsigned i = (unsigned)(r >> 8) % count;
            const unsigned char *p = (const unsigned char *)nm__heap_at(&heap, live[i].at) + 8;
            for (size_t b = 0; b < (size_t)live[i].units * 16 - 8; b++) assert_int_equal(p[b], live[i].mark);
            nm__heap_give(&heap, live[i].at);
            live[i] = live[--count];
        } else {
            uint32_t units = 1 + (uint32_t)(r >> 16) % (r % 7 == 0 ? 900 : 30);
            uint32_t at = nm__heap_take(&heap, units);
            if (at == 0) {
                uint32_t largest = nm__heap_largest(&heap);
                if (largest != 0) assert_true(nm__heap_size(&heap, largest) < units + units / 16 + 1);
                if (nm__heap_grow(&heap, NM__PAGE_BYTES * 4, NM__PAGE_BYTES * 4) == NM_OK)
                    at = nm__heap_take(&heap, units);
            }
            if (at != 0) {
                live[count].at = at;
                live[count].units = units;
                live[count].mark = (unsigned char)(r >> 40);
                assert_int_equal(nm__heap_size(&heap, at), units);
                memset((unsigned char *)nm__heap_at(&heap, at) + 8, live[count].mark, (size_t)units * 16 - 8);
                count++;
            }
        }
        if (step % 64 == 0) nm__heap_trim(&heap, NM__PAGE_BYTES);
        if (step % 512 == 0) check_heap();
    }
    while (count > 0) nm__heap_give(&heap, live[--count].at);
    assert_int_equal(check_heap(), 1);
    nm__heap_trim(&heap, SIZE_MAX);
    assert_int_equal(committed, NM__PAGE_BYTES);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_new_heap_is_one_free_chunk_of_its_first_page),
        TEST(neighbours_coalesce_in_every_order_of_freeing),
        TEST(growth_extends_the_free_chunk_at_the_top_and_trim_undoes_it),
        TEST(a_refused_growth_changes_nothing_and_the_next_works),
        TEST(trimming_stops_at_a_chunk_that_ends_on_a_page),
        TEST(a_window_of_held_chunks_becomes_one_and_is_cut),
        TEST(random_takes_and_gives_agree_with_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
