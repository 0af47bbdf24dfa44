// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/heap.h"

#include <sys/mman.h>

#include "os/os.h"
#include "testing.h"

/* Address space for two fences and what lies behind them. What is not committed cannot be touched. */
#define RANGE_BYTES ((size_t)9 << 30)
#define HEAP_BYTES  ((size_t)1 << 20)
#define MAP_SPAN    ((size_t)8 << 20) /* bytes of heap for which a page of the map is enough */

typedef struct range {
    unsigned char *base;
    size_t committed;
} range;

/* Pages under the test's command: refused from the `allow`th asking on, kept where it says so. */
static range heap_range, map_range;
static nm_status refusal;
static unsigned allow;
static bool keep_heap, keep_map;
static nm__heap heap;

static range *range_of(const void *address) {
    const unsigned char *p = address;
    return p >= map_range.base && p < map_range.base + RANGE_BYTES ? &map_range : &heap_range;
}

static nm_status commit_pages(void *context, void *address, size_t bytes) {
    (void)context;
    if (refusal != NM_OK && allow == 0) return refusal;
    if (refusal != NM_OK) allow--;
    range *of = range_of(address);
    assert_ptr_equal(address, of->base + of->committed);
    assert_int_equal(bytes % NM__PAGE_BYTES, 0);
    assert_int_not_equal(bytes, 0);
    assert_int_equal(mprotect(address, bytes, PROT_READ | PROT_WRITE), 0);
    of->committed += bytes;
    return NM_OK;
}

static bool decommit_pages(void *context, void *address, size_t bytes) {
    (void)context;
    range *of = range_of(address);
    if (of == &map_range ? keep_map : keep_heap) return false;
    assert_ptr_equal((unsigned char *)address + bytes, of->base + of->committed);
    assert_int_equal(bytes % NM__PAGE_BYTES, 0);
    assert_int_not_equal(bytes, 0);
    assert_int_equal(madvise(address, bytes, MADV_DONTNEED), 0);
    assert_int_equal(mprotect(address, bytes, PROT_NONE), 0);
    of->committed -= bytes;
    return true;
}

static const nm__pages pages = {.commit = commit_pages, .decommit = decommit_pages};

static bool reserve(range *of) {
    of->committed = 0;
    void *base = mmap(NULL, RANGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    of->base = base;
    return base != MAP_FAILED;
}

static int set_up_of(size_t bytes) {
    refusal = NM_OK;
    keep_heap = keep_map = false;
    if (!reserve(&heap_range) || !reserve(&map_range)) return -1;
    return nm__heap_open(&heap, heap_range.base, bytes, map_range.base, &pages) == NM_OK ? 0 : -1;
}

static int set_up(void **state) {
    (void)state;
    return set_up_of(HEAP_BYTES);
}

static int set_up_large(void **state) {
    (void)state;
    return set_up_of(RANGE_BYTES);
}

static int tear_down(void **state) {
    (void)state;
    return munmap(heap_range.base, RANGE_BYTES) | munmap(map_range.base, RANGE_BYTES);
}

/* ---- the whole of what must hold ---- */

static void check_lists(uint32_t listed_units, uint32_t listed_chunks) {
    uint32_t units = 0, chunks = 0;
    for (unsigned r = 0; r < NM__HEAP_ROWS; r++) {
        assert_int_equal((heap.rows >> r & 1) != 0, heap.cols[r] != 0);
        for (unsigned c = 0; c < NM__HEAP_COLS; c++) {
            assert_int_equal((heap.cols[r] >> c & 1) != 0, heap.free[r * NM__HEAP_COLS + c] != 0);
            uint32_t prev = 0;
            for (uint32_t at = heap.free[r * NM__HEAP_COLS + c]; at != 0; at = nm__heap_at(&heap, at)->node.next) {
                uint32_t size = nm__heap_size(&heap, at);
                uint32_t least = r == 0 ? c : (NM__HEAP_COLS + c) << (r - 1);
                uint32_t most = r == 0 ? c : least + (1u << (r - 1)) - 1;
                assert_true(nm__heap_is_free(&heap, at));
                assert_in_range(size, least, most);
                assert_int_equal(nm__heap_at(&heap, at)->node.prev, prev);
                prev = at;
                units += size;
                chunks++;
            }
        }
    }
    assert_int_equal(units, listed_units);
    assert_int_equal(chunks, listed_chunks);
}

/* Walks all chunks. Marks, sizes at the ends, map, lists and counts agree; no two free ones are neighbours. */
static uint32_t check_heap(void) {
    uint32_t before = 0, free_units = 0, listed_units = 0, listed = 0, chunks = 0, page = UINT32_MAX;
    bool before_free = false;
    for (uint32_t at = NM__HEAP_FIRST; at < heap.end; chunks++) {
        uint32_t size = nm__heap_size(&heap, at);
        bool is_free = nm__heap_is_free(&heap, at);
        assert_int_not_equal(size, 0);
        assert_true(size <= heap.end - at);
        assert_int_equal(nm__heap_has(&heap, at, NM__CHUNK_BEHIND_FREE), before_free);
        assert_int_equal(nm__heap_before(&heap, at), before);
        assert_false(is_free && before_free);
        if (at % NM__SPAN_UNITS == 0) {
            assert_int_equal(size, 1);
            assert_true(nm__heap_is_held(&heap, at));
        } else {
            assert_true(at % NM__SPAN_UNITS + size <= NM__SPAN_UNITS);
        }
        if (is_free) {
            free_units += size;
            listed_units += size > 1 ? size : 0;
            listed += size > 1;
            assert_int_equal(*(uint32_t *)(void *)((unsigned char *)nm__heap_at(&heap, at + size) - 4), size);
        }
        if (at / NM__PAGE_UNITS != page) {
            for (page++; page < at / NM__PAGE_UNITS; page++) assert_int_equal(heap.map[page], 0);
            assert_int_equal(heap.map[page], at % NM__PAGE_UNITS + 1);
        }
        before = at;
        before_free = is_free;
        at += size;
    }
    for (page++; page < heap.map_bytes / sizeof *heap.map; page++) assert_int_equal(heap.map[page], 0);
    assert_int_equal(nm__heap_size(&heap, heap.end), 0);
    assert_int_equal(nm__heap_has(&heap, heap.end, NM__CHUNK_BEHIND_FREE), before_free);
    assert_int_equal(nm__heap_before(&heap, heap.end), before);
    assert_int_equal(nm__heap_top_free(&heap), before_free ? heap.end - before : 0);
    assert_int_equal(free_units, heap.free_units);
    assert_int_equal(heap_range.committed, nm__heap_bytes(&heap));
    assert_int_equal(map_range.committed, heap.map_bytes);
    assert_true(heap.map_bytes >= nm__heap_map_bytes(nm__heap_bytes(&heap)));
    check_lists(listed_units, listed);
    return chunks;
}

/* ---- single steps ---- */

static void a_new_heap_is_one_free_chunk_of_its_first_page(void **state) {
    (void)state;
    assert_int_equal(check_heap(), 1);
    assert_int_equal(heap.free_units, NM__PAGE_UNITS - 1);
    assert_int_equal(nm__heap_take(&heap, NM__PAGE_UNITS), 0);
    uint32_t all = nm__heap_take(&heap, NM__PAGE_UNITS - 1);
    assert_int_equal(all, NM__HEAP_FIRST);
    assert_int_equal((uintptr_t)nm__entry_value(nm__heap_at(&heap, all)) % 8, 0);
    assert_int_equal(nm__heap_take(&heap, 1), 0);
    assert_int_equal(nm__heap_largest(&heap), 0);
    assert_int_equal(nm__heap_give(&heap, all), all);
    check_heap();
}

static void an_opening_that_is_refused_keeps_nothing(void **state) {
    (void)state;
    nm__heap other;
    tear_down(NULL);
    assert_true(reserve(&heap_range) && reserve(&map_range));
    for (unsigned n = 0; n < 2; n++) {
        refusal = NM_EBUDGET;
        allow = n;
        assert_status(nm__heap_open(&other, heap_range.base, HEAP_BYTES, map_range.base, &pages), NM_EBUDGET);
        assert_int_equal(heap_range.committed + map_range.committed, 0);
    }
    refusal = NM_OK;
    assert_ok(nm__heap_open(&heap, heap_range.base, HEAP_BYTES, map_range.base, &pages));
    assert_int_equal(check_heap(), 1);
}

static void neighbours_coalesce_in_every_order_of_freeing(void **state) {
    (void)state;
    static const unsigned orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    /* of one unit and more, inside a page and across its end */
    assert_ok(nm__heap_grow(&heap, 3 * NM__PAGE_BYTES, 3 * NM__PAGE_BYTES));
    for (uint32_t first = 0; first < 600; first += first < 500 ? 100 : 3) {
        uint32_t low = first != 0 ? nm__heap_take(&heap, first) : 0;
        for (uint32_t least = 1; least < 700; least = least * 3 + 1) {
            for (unsigned i = 0; i < 6; i++) {
                uint32_t at[3];
                for (unsigned j = 0; j < 3; j++) assert_int_not_equal(at[j] = nm__heap_take(&heap, least + j % 2), 0);
                for (unsigned j = 0; j < 3; j++) {
                    nm__heap_give(&heap, at[orders[i][j]]);
                    check_heap();
                }
                assert_int_equal(check_heap(), low != 0 ? 2 : 1);
            }
        }
        if (low != 0) nm__heap_give(&heap, low);
    }
}

static void a_chunk_of_any_size_is_taken_and_leaves_the_rest(void **state) {
    (void)state;
    for (uint32_t units = 1; units < NM__PAGE_UNITS; units++) {
        uint32_t at = nm__heap_take(&heap, units);
        assert_int_equal(at, NM__HEAP_FIRST);
        assert_int_equal(nm__heap_size(&heap, at), units);
        assert_int_equal(heap.free_units, NM__PAGE_UNITS - 1 - units);
        assert_int_equal(check_heap(), units == NM__PAGE_UNITS - 1 ? 1 : 2);
        assert_int_equal(nm__heap_fits(&heap, NM__PAGE_UNITS - 1 - units), NM__PAGE_UNITS - 1 - units > 1);
        nm__heap_give(&heap, at);
        assert_int_equal(check_heap(), 1);
    }
}

static void a_fit_of_the_same_class_is_found_behind_a_smaller_one(void **state) {
    (void)state;
    uint32_t fit = nm__heap_take(&heap, 33), small, wall = nm__heap_take(&heap, 1);
    assert_int_equal(wall, fit + 33);
    small = nm__heap_take(&heap, 32);
    nm__heap_take(&heap, heap.free_units);
    nm__heap_give(&heap, fit);
    nm__heap_give(&heap, small);
    assert_true(nm__heap_fits(&heap, 33));
    assert_int_equal(nm__heap_take(&heap, 33), fit);
    assert_false(nm__heap_fits(&heap, 33));
    check_heap();
}

static void a_free_unit_alone_waits_for_a_neighbour(void **state) {
    (void)state;
    uint32_t low = nm__heap_take(&heap, NM__PAGE_UNITS - 2);
    assert_int_equal(heap.free_units, 1);
    assert_int_equal(nm__heap_top_free(&heap), 1);
    assert_int_equal(nm__heap_largest(&heap), 0);
    assert_false(nm__heap_fits(&heap, 1));
    assert_int_equal(nm__heap_take(&heap, 1), 0);
    check_heap();
    nm__heap_give(&heap, low);
    assert_int_equal(check_heap(), 1);
    assert_int_equal(heap.free_units, NM__PAGE_UNITS - 1);
}

static void growth_extends_the_free_chunk_at_the_top_and_trim_undoes_it(void **state) {
    (void)state;
    uint32_t low = nm__heap_take(&heap, 100), left = NM__PAGE_UNITS - 1 - 100;
    assert_int_equal(nm__heap_top_free(&heap), left);
    assert_ok(nm__heap_grow(&heap, NM__PAGE_BYTES, 4 * NM__PAGE_BYTES));
    assert_int_equal(nm__heap_top_free(&heap), left + 4 * NM__PAGE_UNITS);
    check_heap();
    assert_int_equal(nm__heap_trim(&heap, NM__PAGE_BYTES), NM__PAGE_BYTES);
    check_heap();
    keep_heap = true;
    assert_int_equal(nm__heap_trim(&heap, SIZE_MAX), 0);
    check_heap();
    keep_heap = false;
    assert_int_equal(nm__heap_trim(&heap, NM__PAGE_BYTES - 1), 0);
    assert_int_equal(nm__heap_trim(&heap, SIZE_MAX), 3 * NM__PAGE_BYTES);
    assert_int_equal(nm__heap_trim(&heap, SIZE_MAX), 0);
    nm__heap_give(&heap, low);
    assert_int_equal(check_heap(), 1);
}

static void trimming_stops_at_a_chunk_that_ends_on_a_page(void **state) {
    (void)state;
    assert_ok(nm__heap_grow(&heap, NM__PAGE_BYTES, NM__PAGE_BYTES));
    uint32_t all = nm__heap_take(&heap, NM__PAGE_UNITS - 1);
    check_heap();
    assert_int_equal(nm__heap_trim(&heap, SIZE_MAX), NM__PAGE_BYTES);
    assert_int_equal(check_heap(), 1);
    assert_ok(nm__heap_grow(&heap, NM__PAGE_BYTES, NM__PAGE_BYTES));
    assert_int_equal(check_heap(), 2);
    nm__heap_give(&heap, all);
    assert_int_equal(check_heap(), 1);
}

static void a_refused_growth_changes_nothing_and_the_next_works(void **state) {
    (void)state;
    refusal = NM_EBUDGET;
    allow = 0;
    assert_status(nm__heap_grow(&heap, NM__PAGE_BYTES, 8 * NM__PAGE_BYTES), NM_EBUDGET);
    check_heap();
    refusal = NM_OK;
    assert_ok(nm__heap_grow(&heap, NM__PAGE_BYTES, 8 * NM__PAGE_BYTES));
    check_heap();
    assert_status(nm__heap_grow(&heap, HEAP_BYTES, HEAP_BYTES), NM_ETOOLARGE);
    assert_ok(nm__heap_grow(&heap, NM__PAGE_BYTES, SIZE_MAX / 2));
    assert_int_equal(nm__heap_bytes(&heap), HEAP_BYTES);
    check_heap();
    assert_status(nm__heap_grow(&heap, NM__PAGE_BYTES, NM__PAGE_BYTES), NM_ETOOLARGE);
}

/* Wanted are a page of the map and pages of the heap; refused are any of them. */
static void a_growth_gets_pages_of_both_heap_and_map_or_none(void **state) {
    (void)state;
    size_t whole = MAP_SPAN - NM__PAGE_BYTES;
    assert_ok(nm__heap_grow(&heap, whole, whole));
    assert_int_equal(heap.map_bytes, NM__PAGE_BYTES);
    refusal = NM_ENOMEM;
    for (allow = 0; allow < 2;) {
        unsigned granted = allow;
        assert_status(nm__heap_grow(&heap, NM__PAGE_BYTES, NM__PAGE_BYTES), NM_ENOMEM);
        assert_int_equal(nm__heap_bytes(&heap), MAP_SPAN);
        assert_int_equal(heap.map_bytes, NM__PAGE_BYTES);
        assert_int_equal(check_heap(), 1);
        allow = granted + 1;
    }
    /* the map's page stays if it cannot be given back, and is not asked for again */
    allow = 1;
    keep_map = true;
    assert_status(nm__heap_grow(&heap, NM__PAGE_BYTES, NM__PAGE_BYTES), NM_ENOMEM);
    assert_int_equal(heap.map_bytes, 2 * NM__PAGE_BYTES);
    check_heap();
    allow = 1;
    assert_ok(nm__heap_grow(&heap, NM__PAGE_BYTES, NM__PAGE_BYTES));
    check_heap();
    assert_int_equal(nm__heap_trim(&heap, NM__PAGE_BYTES), NM__PAGE_BYTES);
    assert_int_equal(heap.map_bytes, 2 * NM__PAGE_BYTES);
    assert_int_equal(nm__heap_trim(&heap, NM__PAGE_BYTES), NM__PAGE_BYTES);
    allow = 1;
    assert_ok(nm__heap_grow(&heap, NM__PAGE_BYTES, NM__PAGE_BYTES));
    keep_map = false;
    assert_int_equal(nm__heap_trim(&heap, NM__PAGE_BYTES), NM__PAGE_BYTES);
    assert_int_equal(heap.map_bytes, NM__PAGE_BYTES);
    /* the least of it fits where the whole does not */
    refusal = NM_OK;
    assert_ok(nm__heap_grow(&heap, NM__PAGE_BYTES, NM__PAGE_BYTES));
    refusal = NM_EBUDGET;
    allow = 1;
    assert_status(nm__heap_grow(&heap, NM__PAGE_BYTES, 2 * MAP_SPAN), NM_EBUDGET);
    assert_int_equal(nm__heap_bytes(&heap), MAP_SPAN);
    check_heap();
    refusal = NM_OK;
    assert_ok(nm__heap_grow(&heap, NM__PAGE_BYTES, 2 * MAP_SPAN));
    assert_int_equal(heap.map_bytes, 3 * NM__PAGE_BYTES);
    assert_int_equal(nm__heap_trim(&heap, SIZE_MAX), 3 * MAP_SPAN - NM__PAGE_BYTES);
    assert_int_equal(heap.map_bytes, NM__PAGE_BYTES);
    assert_int_equal(check_heap(), 1);
}

static void a_chunk_of_many_pages_is_found_from_behind_and_from_the_top(void **state) {
    (void)state;
    assert_ok(nm__heap_grow(&heap, 100 * NM__PAGE_BYTES, 100 * NM__PAGE_BYTES));
    uint32_t low = nm__heap_take(&heap, 7), large = nm__heap_take(&heap, 50 * NM__PAGE_UNITS + 3);
    uint32_t rest = nm__heap_take(&heap, heap.free_units);
    assert_int_equal(check_heap(), 3);
    assert_int_equal(nm__heap_before(&heap, heap.end), rest);
    assert_int_equal(nm__heap_before(&heap, rest), large);
    assert_int_equal(nm__heap_before(&heap, large), low);
    nm__heap_give(&heap, large);
    check_heap();
    nm__heap_give(&heap, low);
    check_heap();
    nm__heap_give(&heap, rest);
    assert_int_equal(check_heap(), 1);
}

/* ---- windows ---- */

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
    check_heap();
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

static void what_is_in_front_of_a_window_may_be_taken_while_it_is_laid_anew(void **state) {
    (void)state;
    for (uint32_t size = 3; size <= 4; size++) {
        uint32_t front = nm__heap_take(&heap, 4), small = nm__heap_take(&heap, size), next = nm__heap_take(&heap, 9);
        uint32_t behind = nm__heap_take(&heap, 5);
        nm__heap_give(&heap, front);
        nm__heap_relay(&heap, small, behind);
        assert_int_equal(nm__heap_take(&heap, size), front); /* as a whole, or but for its last unit */
        nm__heap_hold(&heap, small);
        nm__heap_relay_chunk(&heap, small, small, 9);
        nm__heap_relay_free(&heap, small, small + 9, behind);
        check_heap();
        assert_int_equal(nm__heap_size(&heap, small), 9);
        assert_int_equal(nm__heap_size(&heap, nm__heap_before(&heap, behind)), size);
        assert_int_equal(next, small + size);
        nm__heap_give(&heap, front);
        nm__heap_give(&heap, small);
        nm__heap_give(&heap, behind);
        assert_int_equal(check_heap(), 1);
    }
}

/* ---- beyond what one chunk can hold ---- */

static void free_chunks_end_at_a_fence_so_that_their_size_can_be_told(void **state) {
    (void)state;
    size_t span = (size_t)NM__SPAN_UNITS * NM__UNIT_BYTES;
    assert_ok(nm__heap_grow(&heap, span - NM__PAGE_BYTES, span - NM__PAGE_BYTES));
    assert_int_equal(nm__heap_fences(&heap), 0);
    assert_int_equal(nm__heap_top_free(&heap), NM__UNITS_MAX);
    assert_int_equal(check_heap(), 1);
    uint32_t all = nm__heap_take(&heap, NM__UNITS_MAX);
    assert_int_equal(check_heap(), 1);
    nm__heap_give(&heap, all);
    assert_ok(nm__heap_grow(&heap, NM__PAGE_BYTES, NM__PAGE_BYTES));
    assert_int_equal(nm__heap_fences(&heap), 1);
    assert_int_equal(nm__heap_top_free(&heap), NM__PAGE_UNITS - 1);
    assert_int_equal(check_heap(), 3);
    uint32_t behind = nm__heap_take(&heap, NM__PAGE_UNITS - 1);
    assert_int_equal(nm__heap_before(&heap, behind), NM__SPAN_UNITS);
    assert_int_equal(nm__heap_before(&heap, NM__SPAN_UNITS), NM__HEAP_FIRST);
    assert_int_equal(nm__heap_trim(&heap, SIZE_MAX), 0);
    nm__heap_give(&heap, behind);
    assert_int_equal(nm__heap_trim(&heap, NM__PAGE_BYTES), NM__PAGE_BYTES);
    assert_int_equal(nm__heap_fences(&heap), 0);
    assert_int_equal(check_heap(), 1);
    /* over two fences at once, and back */
    assert_ok(nm__heap_grow(&heap, RANGE_BYTES - span, RANGE_BYTES - span));
    assert_int_equal(nm__heap_fences(&heap), 2);
    assert_int_equal(check_heap(), 5);
    uint32_t first = nm__heap_take(&heap, NM__UNITS_MAX), second = nm__heap_take(&heap, NM__UNITS_MAX);
    assert_true(first != 0 && second != 0 && first != second);
    assert_int_equal(nm__heap_take(&heap, NM__UNITS_MAX), 0);
    check_heap();
    nm__heap_give(&heap, second);
    nm__heap_give(&heap, first);
    assert_int_equal(check_heap(), 5);
    assert_int_equal(nm__heap_trim(&heap, SIZE_MAX), RANGE_BYTES - NM__PAGE_BYTES);
    assert_int_equal(heap.map_bytes, NM__PAGE_BYTES);
    assert_int_equal(check_heap(), 1);
}

/* ---- against a list of what was taken ---- */

enum { LIVE = 600, UNITS = (int)(HEAP_BYTES / NM__UNIT_BYTES) };
static struct chunk {
    uint32_t at, units;
    unsigned char mark;
    bool pinned; /* it may neither move nor go in a window */
} live[LIVE];
static unsigned count, number_at[UNITS]; /* of the live chunk at an offset, plus 1 */
static uint64_t seed;

static unsigned char *body(uint32_t at) { return (unsigned char *)nm__heap_at(&heap, at) + 4; }
static size_t body_bytes(uint32_t units) { return (size_t)units * NM__UNIT_BYTES - 4; }

static void check_body(const struct chunk *c) {
    const unsigned char *p = body(c->at);
    for (size_t b = 0; b < body_bytes(c->units); b++) assert_int_equal(p[b], c->mark);
    assert_int_equal(nm__heap_size(&heap, c->at), c->units);
    assert_false(nm__heap_is_free(&heap, c->at) || nm__heap_is_held(&heap, c->at));
}

static void add(uint32_t at, uint32_t units) {
    struct chunk *c = &live[count++];
    *c = (struct chunk){at, units, (unsigned char)test_random(&seed), test_below(&seed, 16) == 0};
    assert_int_equal(nm__heap_size(&heap, at), units);
    memset(body(at), c->mark, body_bytes(units));
    number_at[at] = count;
}

static void forget(unsigned i) {
    check_body(&live[i]);
    number_at[live[i].at] = 0;
    live[i] = live[--count];
    if (i < count) number_at[live[i].at] = i + 1;
}

static void move(struct chunk *c, uint32_t to) {
    memmove(body(to), body(c->at), body_bytes(c->units));
    number_at[to] = number_at[c->at];
    number_at[c->at] = 0;
    c->at = to;
}

static struct chunk *chunk_at(uint32_t at) {
    assert_int_not_equal(number_at[at], 0);
    return &live[number_at[at] - 1];
}

/* A random run of chunks, none of them pinned or, if they may be, at either end; those that are free are held. */
static bool window(uint32_t *lo, uint32_t *hi, bool with_pinned) {
    uint32_t at = live[test_below(&seed, count)].at;
    for (size_t n = test_below(&seed, 4); n > 0; n--) {
        uint32_t before = nm__heap_before(&heap, at);
        if (before == 0) break;
        at = before;
    }
    *lo = at;
    for (size_t n = 1 + test_below(&seed, 12); n > 0 && at != heap.end; n--) {
        bool is_free = nm__heap_is_free(&heap, at);
        if (!is_free && !with_pinned && chunk_at(at)->pinned) break;
        if (is_free) nm__heap_hold(&heap, at);
        at += nm__heap_size(&heap, at);
    }
    *hi = at;
    return *lo < *hi;
}

static void claim_window(void) {
    uint32_t lo, hi;
    if (!window(&lo, &hi, false)) return;
    for (uint32_t at = lo; at < hi; at += nm__heap_size(&heap, at)) {
        if (nm__heap_is_held(&heap, at)) continue;
        forget(number_at[at] - 1);
        nm__heap_hold(&heap, at);
    }
    nm__heap_join(&heap, lo, hi);
    if (test_below(&seed, 4) == 0) check_heap();
    if (count < LIVE && test_below(&seed, 2) == 0) {
        uint32_t units = 1 + (uint32_t)test_below(&seed, hi - lo);
        nm__heap_cut(&heap, lo, units);
        add(lo, units);
    } else {
        nm__heap_give(&heap, lo);
    }
}

static void close_ranks(void) {
    uint32_t lo, hi, to, next;
    if (!window(&lo, &hi, true)) return;
    nm__heap_relay(&heap, to = lo, hi);
    for (uint32_t at = lo; at < hi; at = next) {
        uint32_t units = nm__heap_size(&heap, at), out = 0;
        next = at + units;
        if (nm__heap_is_held(&heap, at)) continue;
        struct chunk *c = chunk_at(at);
        if (c->pinned) {
            if (to < at) nm__heap_relay_free(&heap, lo, to, at);
            nm__heap_relay_keep(&heap, at);
            to = next;
        } else if (test_below(&seed, 3) == 0 && (out = nm__heap_take(&heap, units)) != 0) {
            move(c, out);
            nm__heap_hold(&heap, at);
        } else if (to == at) {
            nm__heap_relay_keep(&heap, at);
            to = next;
        } else {
            move(c, to);
            nm__heap_relay_chunk(&heap, lo, to, units);
            to += units;
        }
    }
    if (to < hi) nm__heap_relay_free(&heap, lo, to, hi);
}

static void take_one(void) {
    uint64_t r = test_random(&seed);
    uint32_t units = 1 + (uint32_t)(r >> 16) % (r % 7 == 0 ? 1800 : 60);
    if (count == LIVE) return;
    bool fits = nm__heap_fits(&heap, units);
    uint32_t at = nm__heap_take(&heap, units);
    assert_int_equal(at != 0, fits);
    if (at == 0) {
        /* Found whenever one of the next class exists. */
        uint32_t largest = nm__heap_largest(&heap);
        if (largest != 0) assert_true(nm__heap_size(&heap, largest) < units + units / 16 + 1);
        size_t least = NM__PAGE_BYTES * (1 + (r >> 40) % 4);
        refusal = r % 3 == 0 ? NM_EBUDGET : NM_OK;
        allow = r >> 50 & 1;
        if (nm__heap_grow(&heap, least, 2 * least) == NM_OK) at = nm__heap_take(&heap, units);
        refusal = NM_OK;
    }
    if (at != 0) add(at, units);
}

static void random_steps_agree_with_a_list(void **state) {
    (void)state;
    const int steps = TEST_SLOW ? 60000 : 300000;
    seed = test_seed();
    count = 0;
    memset(number_at, 0, sizeof number_at);
    for (int step = 0; step < steps; step++) {
        size_t what = test_below(&seed, 100);
        if (what < 52 || count == 0) {
            take_one();
        } else if (what < 86) {
            unsigned i = (unsigned)test_below(&seed, count);
            uint32_t at = live[i].at;
            forget(i);
            nm__heap_give(&heap, at);
        } else if (what < 90) {
            struct chunk *c = &live[test_below(&seed, count)];
            c->units -= (uint32_t)test_below(&seed, c->units);
            nm__heap_cut(&heap, c->at, c->units);
        } else if (what < 93) {
            keep_heap = test_below(&seed, 4) == 0;
            nm__heap_trim(&heap, test_below(&seed, 8) * NM__PAGE_BYTES);
            keep_heap = false;
        } else if (what < 96) {
            claim_window();
        } else {
            close_ranks();
        }
        if (step % 128 == 0 || step < 2000) check_heap();
        if (step % 4096 == 0)
            for (unsigned i = 0; i < count; i++) check_body(&live[i]);
    }
    while (count > 0) {
        uint32_t at = live[count - 1].at;
        forget(count - 1);
        nm__heap_give(&heap, at);
    }
    assert_int_equal(check_heap(), 1);
    nm__heap_trim(&heap, SIZE_MAX);
    assert_int_equal(heap_range.committed, NM__PAGE_BYTES);
}

#define TEST(f)       cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define TEST_LARGE(f) cmocka_unit_test_setup_teardown(f, set_up_large, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_new_heap_is_one_free_chunk_of_its_first_page),
        TEST(an_opening_that_is_refused_keeps_nothing),
        TEST(neighbours_coalesce_in_every_order_of_freeing),
        TEST(a_chunk_of_any_size_is_taken_and_leaves_the_rest),
        TEST(a_fit_of_the_same_class_is_found_behind_a_smaller_one),
        TEST(a_free_unit_alone_waits_for_a_neighbour),
        TEST(growth_extends_the_free_chunk_at_the_top_and_trim_undoes_it),
        TEST(trimming_stops_at_a_chunk_that_ends_on_a_page),
        TEST(a_refused_growth_changes_nothing_and_the_next_works),
        TEST_LARGE(a_growth_gets_pages_of_both_heap_and_map_or_none),
        TEST(a_chunk_of_many_pages_is_found_from_behind_and_from_the_top),
        TEST(a_window_of_held_chunks_becomes_one_and_is_cut),
        TEST(what_is_in_front_of_a_window_may_be_taken_while_it_is_laid_anew),
        TEST_LARGE(free_chunks_end_at_a_fence_so_that_their_size_can_be_told),
        TEST(random_steps_agree_with_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
