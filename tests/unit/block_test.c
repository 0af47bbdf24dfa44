// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "block/slab.h"
#include "os_counter.h"
#include "testing.h"

/* A ledger as simple as can be, to hold against the counting table of system calls. */
typedef struct ledger {
    size_t committed, limit;
} ledger;

static bool ledger_charge(void *context, size_t bytes) {
    ledger *l = context;
    if (bytes > l->limit - l->committed) return false;
    l->committed += bytes;
    return true;
}
static void ledger_uncharge(void *context, size_t bytes) { ((ledger *)context)->committed -= bytes; }
static size_t ledger_committed(const void *context) { return ((const ledger *)context)->committed; }
static size_t ledger_limit(const void *context) { return ((const ledger *)context)->limit; }

static ledger books;
static nm__blocks blocks;

static bool huge;

static void open_store(size_t limit) {
    os_counter_install();
    books = (ledger){0, limit};
    nm__blocks_open(&blocks, &(nm__ledger){ledger_charge, ledger_uncharge, ledger_committed, ledger_limit, &books},
                    huge);
}

static void close_store(void) {
    nm__blocks_close(&blocks);
    assert_int_equal(books.committed, 0);
    assert_true(os_counter_remove());
}

static void a_slab_hands_out_each_piece_once_and_joins_them_again(void **state) {
    (void)state;
    nm__slab *slab = aligned_alloc(NM__SLAB_BYTES, NM__SLAB_BYTES);
    assert_non_null(slab);
    nm__slab_open(slab);
    assert_int_equal(slab->bin, 8);
    static unsigned char seen[NM__SLAB_LEAVES];
    memset(seen, 0, sizeof seen);
    void *piece[NM__SLAB_LEAVES];
    unsigned count = 0;
    while (slab->bin != NM__SLAB_NOTHING_FREE) {
        piece[count] = nm__slab_take(slab, 0);
        size_t leaf = (size_t)((unsigned char *)piece[count] - (unsigned char *)slab) / NM__BLOCK_MIN_BYTES;
        assert_int_equal(seen[leaf]++, 0);
        count++;
    }
    assert_int_equal(count, NM__SLAB_LEAVES - 1);
    assert_int_equal(seen[0], 0);
    for (unsigned i = 0; i < count; i++) nm__slab_give(slab, piece[(i * 5) % count], 0);
    assert_int_equal(slab->taken_leaves, 0);
    assert_int_equal(slab->bin, 8);
    free(slab);
}

static void a_taken_piece_can_be_halved_and_its_halves_given_back(void **state) {
    (void)state;
    nm__slab *slab = aligned_alloc(NM__SLAB_BYTES, NM__SLAB_BYTES);
    assert_non_null(slab);
    nm__slab_open(slab);
    unsigned char *whole = nm__slab_take(slab, 3);
    unsigned char *upper = nm__slab_halve(slab, whole, 3);
    assert_ptr_equal(upper, whole + ((size_t)4 << 12));
    nm__slab_give(slab, upper, 2);
    nm__slab_give(slab, whole, 2);
    assert_int_equal(slab->taken_leaves, 0);
    assert_int_equal(slab->bin, 8);
    free(slab);
}

static void block_sizes_are_powers_of_two_up_to_2_mib(void **state) {
    (void)state;
    assert_int_equal(nm__block_bytes(0), 4096);
    assert_int_equal(nm__block_bytes(1), 4096);
    assert_int_equal(nm__block_bytes(4097), 8192);
    assert_int_equal(nm__block_bytes(((size_t)1 << 20) + 1), (size_t)2 << 20);
    assert_int_equal(nm__block_bytes(((size_t)2 << 20) + 1), ((size_t)2 << 20) + 4096);
}

static void a_block_given_back_stays_idle_and_is_taken_again(void **state) {
    (void)state;
    open_store((size_t)64 << 20);
    void *a, *b;
    assert_ok(nm__blocks_take(&blocks, 8192, &a));
    memset(a, 1, 8192);
    size_t committed = os_counter_committed();
    assert_int_equal(committed, 8192 + 4096);
    assert_int_equal(books.committed, committed);
    nm__blocks_give(&blocks, a, 8192);
    assert_int_equal(nm__blocks_idle_bytes(&blocks), 8192);
    assert_int_equal(os_counter_committed(), committed);
    assert_ok(nm__blocks_take(&blocks, 8000, &b));
    assert_ptr_equal(a, b);
    nm__blocks_give(&blocks, b, 8000);
    close_store();
}

static void a_larger_idle_block_is_halved_rather_than_more_committed(void **state) {
    (void)state;
    open_store((size_t)64 << 20);
    void *large, *small;
    assert_ok(nm__blocks_take(&blocks, (size_t)256 << 10, &large));
    nm__blocks_give(&blocks, large, (size_t)256 << 10);
    size_t committed = os_counter_committed();
    assert_ok(nm__blocks_take(&blocks, 4096, &small));
    assert_int_equal(os_counter_committed(), committed);
    assert_int_equal(nm__blocks_idle_bytes(&blocks), ((size_t)256 << 10) - 4096);
    nm__blocks_give(&blocks, small, 4096);
    close_store();
}

static void idle_blocks_of_other_sizes_are_given_up_before_a_refusal(void **state) {
    (void)state;
    open_store((size_t)1 << 20);
    void *p[8];
    for (int i = 0; i < 8; i++) assert_ok(nm__blocks_take(&blocks, (size_t)16 << 10, &p[i]));
    for (int i = 0; i < 8; i++) nm__blocks_give(&blocks, p[i], (size_t)16 << 10);
    assert_int_equal(nm__blocks_idle_bytes(&blocks), (size_t)128 << 10);
    void *large;
    /* the limit less the slab's header: nothing of the idle blocks may be left */
    assert_ok(nm__blocks_take(&blocks, (size_t)512 << 10, &large));
    void *rest;
    assert_ok(nm__blocks_take(&blocks, (size_t)256 << 10, &rest));
    void *more;
    assert_ok(nm__blocks_take(&blocks, (size_t)128 << 10, &more));
    void *last;
    assert_status(nm__blocks_take(&blocks, (size_t)128 << 10, &last), NM_EBUDGET);
    assert_true(books.committed <= books.limit);
    nm__blocks_give(&blocks, large, (size_t)512 << 10);
    assert_ok(nm__blocks_take(&blocks, (size_t)128 << 10, &last));
    nm__blocks_give(&blocks, rest, (size_t)256 << 10);
    nm__blocks_give(&blocks, more, (size_t)128 << 10);
    nm__blocks_give(&blocks, last, (size_t)128 << 10);
    close_store();
}

static void no_block_above_a_64th_of_the_limit_is_kept_idle(void **state) {
    (void)state;
    open_store((size_t)1 << 20);
    void *p;
    assert_ok(nm__blocks_take(&blocks, (size_t)32 << 10, &p));
    nm__blocks_give(&blocks, p, (size_t)32 << 10);
    assert_int_equal(nm__blocks_idle_bytes(&blocks), 0);
    assert_int_equal(os_counter_committed(), books.committed);
    close_store();
}

static void a_spike_goes_back_to_the_system_by_the_gives_themselves(void **state) {
    (void)state;
    open_store((size_t)1 << 40);
    enum { COUNT = 256 };
    void *p[COUNT];
    for (int i = 0; i < COUNT; i++) assert_ok(nm__blocks_take(&blocks, (size_t)1 << 20, &p[i]));
    assert_true(os_counter_committed() >= (size_t)256 << 20);
    for (int i = 0; i < COUNT; i++) nm__blocks_give(&blocks, p[i], (size_t)1 << 20);
    assert_true(os_counter_committed() <= (size_t)34 << 20);
    assert_int_equal(nm__blocks_trim(&blocks, SIZE_MAX) > 0, 1);
    assert_int_equal(nm__blocks_idle_bytes(&blocks), 0);
    assert_int_equal(os_counter_committed(), 0);
    close_store();
}

static void a_refused_system_call_changes_nothing(void **state) {
    (void)state;
    static const size_t sizes[] = {4096, (size_t)1 << 20, (size_t)2 << 20, (size_t)5 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        open_store((size_t)64 << 20);
        void *p;
        for (uint64_t n = 1;; n++) {
            os_counter_fail_after(n);
            nm_status st = nm__blocks_take(&blocks, sizes[i], &p);
            if (!os_counter_failed()) {
                assert_ok(st);
                break;
            }
            assert_status(st, NM_ENOMEM);
            assert_int_equal(os_counter_committed(), books.committed);
        }
        os_counter_fail_after(0);
        nm__blocks_give(&blocks, p, sizes[i]);
        close_store();
    }
}

static void a_block_that_the_system_will_not_take_back_stays_charged(void **state) {
    (void)state;
    open_store((size_t)1 << 20);
    void *p;
    assert_ok(nm__blocks_take(&blocks, (size_t)32 << 10, &p));
    os_counter_fail_after(1);
    nm__blocks_give(&blocks, p, (size_t)32 << 10);
    assert_true(os_counter_failed());
    assert_int_equal(nm__blocks_idle_bytes(&blocks), (size_t)32 << 10);
    assert_int_equal(os_counter_committed(), books.committed);
    assert_int_equal(nm__blocks_trim(&blocks, 1), (size_t)32 << 10);
    close_store();
}

static void random_takes_and_gives_keep_the_books_right(void **state) {
    (void)state;
    uint64_t random = test_seed();
    open_store((size_t)32 << 20);
    enum { LIVE = 200 };
    struct {
        unsigned char *p;
        size_t bytes;
        unsigned char fill;
    } live[LIVE] = {{0}};
    for (int step = 0; step < 20000; step++) {
        size_t i = test_below(&random, LIVE);
        if (live[i].p != NULL) {
            assert_int_equal(live[i].p[0], live[i].fill);
            assert_int_equal(live[i].p[live[i].bytes - 1], live[i].fill);
            nm__blocks_give(&blocks, live[i].p, live[i].bytes);
            live[i].p = NULL;
        } else {
            size_t bytes = (size_t)1 << test_below(&random, 23);
            void *p;
            nm_status st = nm__blocks_take(&blocks, bytes, &p);
            assert_true(st == NM_OK || st == NM_EBUDGET);
            if (st == NM_OK) {
                live[i].p = p;
                live[i].bytes = bytes;
                live[i].fill = (unsigned char)step;
                live[i].p[0] = live[i].p[bytes - 1] = live[i].fill;
            }
        }
        assert_true(books.committed <= books.limit);
        assert_int_equal(books.committed, os_counter_committed());
    }
    for (int i = 0; i < LIVE; i++)
        if (live[i].p != NULL) nm__blocks_give(&blocks, live[i].p, live[i].bytes);
    close_store();
}

static void random_takes_and_gives_keep_the_books_right_in_huge_pages(void **state) {
    huge = true;
    random_takes_and_gives_keep_the_books_right(state);
    huge = false;
}

static void a_slab_in_huge_pages_is_charged_once_and_goes_back_whole(void **state) {
    (void)state;
    huge = true;
    open_store((size_t)64 << 20);
    huge = false;
    enum { N = 400 };
    void *p[N];
    for (int i = 0; i < N; i++) {
        assert_ok(nm__blocks_take(&blocks, 4096, &p[i]));
        memset(p[i], i, 4096);
        assert_int_equal(books.committed, NM__SLAB_BYTES);
    }
    for (int i = 1; i < N; i++) nm__blocks_give(&blocks, p[i], 4096);
    (void)nm__blocks_trim(&blocks, SIZE_MAX);
    assert_int_equal(nm__blocks_idle_bytes(&blocks), 0);
    assert_int_equal(books.committed, NM__SLAB_BYTES); /* one block of it is in use */
    assert_int_equal(((unsigned char *)p[0])[4095], 0);
    nm__blocks_give(&blocks, p[0], 4096);
    assert_int_equal(nm__blocks_trim(&blocks, SIZE_MAX), NM__SLAB_BYTES);
    assert_int_equal(books.committed, 0);
    close_store();
}

static void where_a_whole_slab_does_not_fit_a_block_does(void **state) {
    (void)state;
    huge = true;
    open_store((size_t)1 << 20);
    huge = false;
    void *p;
    assert_ok(nm__blocks_take(&blocks, 64 << 10, &p));
    assert_int_equal(books.committed, (64 << 10) + 4096);
    nm__blocks_give(&blocks, p, 64 << 10);
    for (uint64_t n = 1; n <= 3; n++) {
        books.limit = (size_t)64 << 20;
        os_counter_fail_after(n);
        nm_status st = nm__blocks_take(&blocks, 128 << 10, &p);
        os_counter_fail_after(0);
        assert_true(st == NM_OK || st == NM_ENOMEM);
        assert_int_equal(books.committed, os_counter_committed());
        if (st == NM_OK) nm__blocks_give(&blocks, p, 128 << 10);
    }
    close_store();
}

/* ---- in front, and decay ------------------------------------------------------------------------------------------ */

static void a_block_in_front_is_taken_again_by_its_thread(void **state) {
    (void)state;
    open_store((size_t)1 << 30);
    void *p, *q;
    assert_ok(nm__blocks_take(&blocks, 8192, &p));
    nm__blocks_give(&blocks, p, 8192);
    assert_int_equal(blocks.idle_bytes, 0);
    assert_int_equal(nm__blocks_idle_bytes(&blocks), 8192);
    assert_ok(nm__blocks_take(&blocks, 8192, &q));
    assert_ptr_equal(p, q);
    nm__blocks_give(&blocks, q, 8192);
    /* whoever is short of memory gets it all the same */
    books.limit = books.committed;
    assert_ok(nm__blocks_take(&blocks, 4096, &q));
    nm__blocks_give(&blocks, q, 4096);
    books.limit = (size_t)1 << 30;
    (void)nm__blocks_trim(&blocks, SIZE_MAX);
    assert_int_equal(books.committed, 0);
    close_store();
}

static void what_lies_idle_for_a_period_goes(void **state) {
    (void)state;
    open_store((size_t)64 << 20);
    void *p[8];
    for (int i = 0; i < 8; i++) assert_ok(nm__blocks_take(&blocks, 64 << 10, &p[i]));
    for (int i = 0; i < 8; i++) nm__blocks_give(&blocks, p[i], 64 << 10);
    size_t all = nm__blocks_idle_bytes(&blocks);
    bool due;
    uint64_t wait = nm__blocks_decay(&blocks, &due);
    assert_false(due);
    assert_in_range(wait, 1, NM__DECAY_MS);
    os_counter_pass_ms(NM__DECAY_MS);
    (void)nm__blocks_decay(&blocks, &due); /* from now on it counts what is needed */
    assert_true(due);
    assert_int_equal(nm__blocks_idle_bytes(&blocks), all);
    for (int i = 0; i < 3; i++) assert_ok(nm__blocks_take(&blocks, 64 << 10, &p[i]));
    for (int i = 0; i < 3; i++) nm__blocks_give(&blocks, p[i], 64 << 10);
    os_counter_pass_ms(NM__DECAY_MS);
    (void)nm__blocks_decay(&blocks, &due);
    assert_int_equal(nm__blocks_idle_bytes(&blocks), 3 * (64 << 10)); /* three were in use */
    wait = 0;
    for (int i = 0; i < 3 && wait != UINT64_MAX; i++) {
        os_counter_pass_ms(NM__DECAY_MS);
        wait = nm__blocks_decay(&blocks, &due);
    }
    assert_int_equal(wait, UINT64_MAX);
    assert_int_equal(books.committed, 0);
    close_store();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slab_hands_out_each_piece_once_and_joins_them_again),
        cmocka_unit_test(a_taken_piece_can_be_halved_and_its_halves_given_back),
        cmocka_unit_test(block_sizes_are_powers_of_two_up_to_2_mib),
        cmocka_unit_test(a_block_given_back_stays_idle_and_is_taken_again),
        cmocka_unit_test(a_larger_idle_block_is_halved_rather_than_more_committed),
        cmocka_unit_test(idle_blocks_of_other_sizes_are_given_up_before_a_refusal),
        cmocka_unit_test(no_block_above_a_64th_of_the_limit_is_kept_idle),
        cmocka_unit_test(a_spike_goes_back_to_the_system_by_the_gives_themselves),
        cmocka_unit_test(a_refused_system_call_changes_nothing),
        cmocka_unit_test(a_block_that_the_system_will_not_take_back_stays_charged),
        cmocka_unit_test(random_takes_and_gives_keep_the_books_right),
        cmocka_unit_test(random_takes_and_gives_keep_the_books_right_in_huge_pages),
        cmocka_unit_test(a_slab_in_huge_pages_is_charged_once_and_goes_back_whole),
        cmocka_unit_test(where_a_whole_slab_does_not_fit_a_block_does),
        cmocka_unit_test(a_block_in_front_is_taken_again_by_its_thread),
        cmocka_unit_test(what_lies_idle_for_a_period_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
