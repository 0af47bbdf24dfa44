// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Capacities, hard limits to the byte, refusals, and memory that lies idle in the arena itself. */
#include "arena_fixture.h"

/* What the last 16-byte allocation may leave of a limit: less than itself, with its red zone where a checker watches. */
static size_t slop(void) { return nm__check_active() ? 32 : 16; }

static nm_scope *limited(void **state, size_t hard_bytes, nm_arena **out, const nm_arena_options *options) {
    nm_scope *scope;
    assert_int_equal(
        nm_scope_open(&scope, root_of(state), NM_SCOPE_OPTIONS(.name = "limited", .hard_bytes = hard_bytes)), NM_OK);
    assert_int_equal(nm_arena_open(out, scope, options), NM_OK);
    return scope;
}

/* ---- capacity ---------------------------------------------------------------------------------------------------- */

static void capacity_is_the_most_that_is_handed_out(void **state) {
    const size_t capacities[] = {1, 15, 16, 17, 100, 1000, 4096, 5000, 70000, 3 << 20};
    for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
        size_t capacity = capacities[i];
        nm_arena *a;
        assert_int_equal(nm_arena_open(&a, root_of(state), NM_ARENA_OPTIONS(.capacity_bytes = capacity)), NM_OK);
        assert_int_equal(nm_arena_capacity(a), capacity);
        for (int round = 0; round < 2; round++) {
            size_t count = 0;
            while (nm_arena_alloc(a, 16) != NULL) count++;
            assert_int_equal(count, capacity / 16);
            assert_int_equal(nm_arena_used(a), capacity / 16 * 16);
            assert_int_equal(nm_arena_status(a), NM_ECAPACITY);
            nm_arena_reset(a);
        }
        for (size_t n = capacity / 2; n >= 16; n /= 2) assert_non_null(nm_arena_alloc(a, n / 16 * 16));
        assert_true(nm_arena_used(a) <= capacity);
        nm_arena_close(a);
    }
}

static void a_large_request_counts_against_the_capacity(void **state) {
    nm_arena *a;
    assert_int_equal(nm_arena_open(&a, root_of(state), NM_ARENA_OPTIONS(.capacity_bytes = 1 << 20)), NM_OK);
    assert_null(nm_arena_alloc(a, (1 << 20) + 1));
    assert_int_equal(nm_arena_status(a), NM_ECAPACITY);
    assert_int_equal(nm_arena_granted(a), 256);
    assert_non_null(nm_arena_alloc(a, (1 << 20) - 16));
    assert_null(nm_arena_alloc(a, 17));
    assert_non_null(nm_arena_alloc(a, 1));
    assert_null(nm_arena_alloc(a, 0));
    assert_int_equal(nm_arena_used(a), 1 << 20);
    nm_arena_close(a);
}

static void alignment_does_not_use_up_a_capacity_that_has_room(void **state) {
    nm_arena *a;
    assert_int_equal(nm_arena_open(&a, root_of(state), NM_ARENA_OPTIONS(.capacity_bytes = 4096)), NM_OK);
    assert_non_null(nm_arena_alloc(a, 2048 - 16));
    for (size_t left = 2048 + 16; left > 0; left = 4096 - nm_arena_used(a)) {
        size_t n = left > 1024 ? 1024 : left;
        unsigned char *p = nm_arena_alloc_aligned(a, n, 1024);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 1024, 0);
        assert_true(nm_arena_used(a) <= 4096);
    }
    assert_null(nm_arena_alloc_aligned(a, 1, 1024));
    nm_arena_close(a);
}

static void a_small_capacity_takes_no_large_block(void **state) {
    nm_arena *a;
    assert_int_equal(
        nm_arena_open(&a, root_of(state), NM_ARENA_OPTIONS(.capacity_bytes = 1000, .block_bytes = 1 << 20)), NM_OK);
    assert_usable(a);
    if (!nm__check_active()) assert_int_equal(nm_arena_granted(a), 256 + 4096);
    nm_arena_close(a);
}

static void a_rewind_gives_capacity_back(void **state) {
    nm_arena *a;
    assert_int_equal(nm_arena_open(&a, root_of(state), NM_ARENA_OPTIONS(.capacity_bytes = 10016)), NM_OK);
    nm_mark mark = nm_arena_mark(a);
    for (int round = 0; round < 5; round++) {
        assert_non_null(nm_arena_alloc(a, 4000));
        assert_non_null(nm_arena_alloc(a, 6000));
        assert_null(nm_arena_alloc(a, 16));
        assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
        assert_int_equal(nm_arena_used(a), 16);
    }
    nm_arena_close(a);
}

/* ---- hard limits ------------------------------------------------------------------------------------------------- */

static void the_only_arena_of_a_scope_gets_its_hard_limit_to_the_byte(void **state) {
    for (size_t hard = 8192; hard < (5 << 20); hard = hard * 3 / 2 + 13) {
        nm_arena *a;
        nm_scope *scope = limited(state, hard, &a, NULL);
        size_t count = 0;
        unsigned char *p, *last = NULL;
        while ((p = nm_arena_alloc(a, 16)) != NULL) {
            memset(p, 0x5a, 16);
            last = p;
            count++;
        }
        assert_int_equal(nm_arena_status(a), NM_EBUDGET);
        size_t granted = granted_to(scope);
        assert_true(granted <= hard);
        assert_true(hard - granted < slop());
        assert_int_equal(granted, nm_arena_granted(a));
        assert_int_equal(nm_arena_used(a), count * 16);
        /* what was not handed out: a header of 48 bytes for each block of the chain, tails of less than one allocation */
        size_t red = nm__check_active() ? 16 : 0;
        assert_true(granted - 256 - count * (16 + red) < 40 * (48 + slop()));
        assert_true(nm_arena_owns(a, last));
        nm_arena_reset(a);
        for (size_t i = 0; i < count / 2; i++) assert_non_null(nm_arena_alloc(a, 16));
        assert_int_equal(nm_scope_close(scope, NULL), 0);
    }
}

static void a_large_allocation_fills_a_hard_limit_to_the_byte(void **state) {
    nm_arena *a;
    size_t hard = 1000000, red = nm__check_active() ? 16 : 0;
    nm_scope *scope = limited(state, hard, &a, NULL);
    assert_null(nm_arena_alloc(a, hard - 256 - 64 - red + 1));
    assert_int_equal(nm_arena_status(a), NM_EBUDGET);
    assert_int_equal(nm_arena_granted(a), 256);
    unsigned char *p = nm_arena_alloc(a, hard - 256 - 64 - red);
    assert_non_null(p);
    memset(p, 1, hard - 256 - 64 - red);
    assert_int_equal(granted_to(scope), hard);
    assert_null(nm_arena_alloc(a, 1));
    assert_int_equal(nm_scope_close(scope, NULL), 0);
}

/* The next block would double; where the budget has no room for that, what the request needs is tried before it is refused:
 * to the byte, and with one byte less it is refused. */
static void a_doubled_block_that_is_refused_is_tried_again_in_the_exact_size(void **state) {
    if (nm__check_active()) skip(); /* `end` does not tell there when a block is full */
    for (int short_by = 0; short_by < 2; short_by++)
        for (size_t n = 16; n <= 4096; n *= 4) {
            nm_arena *a;
            nm_scope *scope = limited(state, 0, &a, NULL);
            for (int i = 0; i < 1000; i++) assert_non_null(nm_arena_alloc(a, 50));
            while ((size_t)(a->end - a->ptr) >= 16) assert_non_null(nm_arena_alloc(a, 16));
            size_t used = nm_arena_used(a), granted = granted_to(scope);
            assert_int_equal(nm_scope_set_budget(scope, 0, granted + 48 + n - (size_t)short_by), NM_OK);
            unsigned char *p = nm_arena_alloc(a, n);
            if (short_by) {
                assert_null(p);
                assert_int_equal(nm_arena_status(a), NM_EBUDGET);
                assert_int_equal(nm_arena_used(a), used);
                assert_int_equal(granted_to(scope), granted);
            } else {
                assert_non_null(p);
                memset(p, 1, n);
                assert_int_equal(granted_to(scope), granted + 48 + n);
            }
            assert_int_equal(nm_scope_close(scope, NULL), 0);
        }
}

/* The size of the next block is seen by what a small request then takes. */
static void a_large_request_leaves_the_size_of_the_next_block_as_it_was(void **state) {
    size_t taken[2];
    for (int with_large = 0; with_large < 2; with_large++) {
        nm_arena *a;
        assert_int_equal(nm_arena_open(&a, root_of(state), NULL), NM_OK);
        assert_non_null(nm_arena_alloc(a, 16));
        if (with_large) {
            assert_non_null(nm_arena_alloc(a, 3 << 20));
            assert_non_null(nm_arena_alloc(a, 300 << 10));
        }
        size_t granted = nm_arena_granted(a), now = granted;
        while (now == granted) {
            assert_non_null(nm_arena_alloc(a, 16));
            now = nm_arena_granted(a);
        }
        taken[with_large] = now - granted;
        nm_arena_close(a);
    }
    assert_int_equal(taken[0], taken[1]);
}

static void many_sizes_in_a_small_budget_never_pass_it_and_every_refusal_leaves_the_arena_usable(void **state) {
    nm_arena *a;
    size_t hard = 100000;
    nm_scope *scope = limited(state, hard, &a, NULL);
    uint64_t x = 12345;
    size_t refused = 0;
    for (int i = 0; i < 20000; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        size_t n = (x >> 33) % ((x >> 60) == 0 ? 60000 : 600);
        size_t used = nm_arena_used(a);
        unsigned char *p = nm_arena_alloc(a, n);
        assert_true(granted_to(scope) <= hard);
        if (p != NULL) {
            memset(p, 1, n);
            assert_int_equal(nm_arena_used(a), used + round16(n));
        } else {
            assert_int_equal(nm_arena_used(a), used);
            assert_int_equal(nm_arena_status(a), NM_EBUDGET);
            if (++refused % 8 == 0) {
                nm_arena_reset(a);
                assert_usable(a);
            }
        }
    }
    assert_true(refused > 100);
    assert_int_equal(nm_scope_close(scope, NULL), 0);
}

static void blocks_kept_by_a_reset_do_not_stand_in_the_way_of_a_large_request(void **state) {
    nm_arena *a;
    nm_scope *scope = limited(state, 256 << 10, &a, NULL);
    for (int round = 0; round < 3; round++) {
        while (nm_arena_alloc(a, 512) != NULL) {
        }
        nm_arena_reset(a);
        unsigned char *p = nm_arena_alloc(a, 250 << 10);
        assert_non_null(p);
        memset(p, 1, 250 << 10);
        assert_int_equal(nm_arena_status(a), NM_OK);
        assert_true(granted_to(scope) <= 256 << 10);
        nm_arena_reset(a);
        p = nm_arena_alloc(a, 130 << 10);
        assert_non_null(p);
        p = nm_arena_realloc(a, p, 130 << 10, 250 << 10); /* no room for a copy beside it */
        assert_non_null(p);
        memset(p, 1, 250 << 10);
        nm_arena_reset(a);
    }
    assert_int_equal(nm_scope_close(scope, NULL), 0);
}

/* A block is granted whole where there is room, and most of it may lie unused when something large is wanted. */
static void the_unused_rest_of_the_current_block_does_not_stand_in_the_way(void **state) {
    size_t red = nm__check_active() ? NM__RED_ZONE_BYTES : 0;
    for (int kind = 0; kind < 2; kind++) /* in a request the first block is its own */
        for (size_t short_by = 0; short_by < 2; short_by++) {
            size_t hard = 256 << 10;
            nm_scope *scope;
            nm_arena *a;
            assert_int_equal(nm_scope_open(&scope, root_of(state),
                                           NM_SCOPE_OPTIONS(.kind = kind == 0 ? NM_SCOPE_SERVICE : NM_SCOPE_REQUEST,
                                                            .hard_bytes = hard)),
                             NM_OK);
            assert_int_equal(nm_arena_open(&a, scope, NM_ARENA_OPTIONS(.block_bytes = 64 << 10)), NM_OK);
            unsigned char *first = nm_arena_alloc(a, 96);
            pattern_fill(first, 96, 5);
            assert_true(nm_arena_granted(a) > 256 + 48 + 96 + red + 2000);
            size_t n = hard - (256 + 48 + 96 + red) - (64 + red);
            unsigned char *large = nm_arena_alloc(a, n + short_by);
            if (short_by) {
                assert_null(large);
                assert_int_equal(nm_arena_status(a), NM_EBUDGET);
            } else {
                assert_non_null(large);
                memset(large, 1, n);
                assert_int_equal(granted_to(scope), hard);
                assert_null(nm_arena_alloc(a, 1));
                assert_true(pattern_holds(first, 96, 5));
                nm_arena_reset(a);
            }
            assert_int_equal(granted_to(scope), nm_arena_granted(a));
            assert_usable(a); /* the grant comes back when it is wanted */
            nm_arena_reset(a);
            for (int i = 0; i < 30; i++) assert_non_null(nm_arena_alloc(a, 1000));
            assert_int_equal(granted_to(scope), nm_arena_granted(a));
            assert_int_equal(nm_scope_close(scope, NULL), 0);
        }
}

static void two_arenas_share_a_limit_and_one_gets_what_the_other_closes(void **state) {
    nm_arena *a, *b;
    nm_scope *scope = limited(state, 64 << 10, &a, NULL);
    assert_int_equal(nm_arena_open(&b, scope, NULL), NM_OK);
    while (nm_arena_alloc(a, 64) != NULL) {
    }
    assert_null(nm_arena_alloc(b, 64));
    assert_int_equal(nm_arena_status(b), NM_EBUDGET);
    assert_int_equal(nm_arena_used(b), 0);
    nm_arena_close(a);
    for (int i = 0; i < 700; i++) assert_non_null(nm_arena_alloc(b, 64));
    assert_int_equal(nm_scope_close(scope, NULL), 0);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

static int deferred_runs;
static void count_deferred(void *arg) { deferred_runs += *(const int *)arg; }

/* One call of each kind, so large that each needs the scope. Refused: nothing has changed. */
static void each_call_refused_once(nm_arena *a, nm_scope *scope, int which) {
    static const int one = 1;
    bool refused = false;
    char *p = nm_arena_alloc(a, 100);
    assert_non_null(p);
    size_t used = nm_arena_used(a);
    nm_mark mark = {NULL, 0};
    deferred_runs = 0;
    /* the rest of the block is used up for calls that need little */
    while (which >= 6 && (size_t)(a->end - a->ptr) >= 16) {
        assert_non_null(nm_arena_alloc(a, 16));
        used = nm_arena_used(a);
    }
    nm_scope_fail_after(scope, 1);
    switch (which) {
    case 0: refused = nm_arena_alloc(a, 100000) == NULL; break;
    case 1: refused = nm_arena_zalloc(a, 100000) == NULL; break;
    case 2: refused = nm_arena_alloc_aligned(a, 100000, 4096) == NULL; break;
    case 3: refused = NM_NEW_ARRAY(a, double, 100000) == NULL; break;
    case 4: refused = nm_arena_realloc(a, p, 100, 100000) == NULL; break;
    case 5: refused = nm_arena_printf(a, "%0100000d", 1) == NULL; break;
    case 6: refused = nm_arena_strdup(a, "a string of some length") == NULL; break;
    case 7: refused = nm_arena_memdup(a, "some bytes and some more", 24) == NULL; break;
    case 8:
        mark = nm_arena_mark(a);
        refused = mark.record == NULL && nm_arena_rewind(a, mark) == NM_ESTALE;
        break;
    case 9: refused = nm_arena_defer(a, count_deferred, (void *)(uintptr_t)&one) == NM_EBUDGET; break;
    default: fail();
    }
    nm_scope_fail_after(scope, 0);
    if (which >= 6 && nm__check_active()) { /* there is always room in a block, as `end` says nothing */
        assert_int_equal(nm_arena_status(a), NM_OK);
    } else {
        assert_true(refused);
        assert_int_equal(nm_arena_status(a), NM_EBUDGET);
        assert_int_equal(nm_arena_used(a), used);
    }
    assert_usable(a);
    nm_arena_reset(a);
    assert_int_equal(deferred_runs, 0 + (which == 9 && nm__check_active()));
}

static void every_call_that_is_refused_changes_nothing_and_the_next_works(void **state) {
    for (int which = 0; which < 10; which++) {
        nm_arena *a;
        nm_scope *scope = limited(state, 0, &a, NULL);
        size_t before = granted_to(scope);
        each_call_refused_once(a, scope, which);
        assert_true(granted_to(scope) >= before);
        assert_int_equal(nm_scope_close(scope, NULL), 0);
    }
}

static void an_open_that_is_refused_leaves_the_scope_as_it_was(void **state) {
    nm_scope *scope;
    nm_arena *a = NULL;
    assert_int_equal(nm_scope_open(&scope, root_of(state), NULL), NM_OK);
    nm_scope_fail_after(scope, 1);
    assert_int_equal(nm_arena_open(&a, scope, NULL), NM_EBUDGET);
    assert_null(a);
    assert_int_equal(granted_to(scope), 0);
    assert_int_equal(nm_arena_open(&a, scope, NULL), NM_OK);
    assert_usable(a);
    assert_int_equal(nm_scope_close(scope, NULL), 0);
}

static void the_soft_limit_is_crossed_by_blocks_and_nothing_fails(void **state) {
    nm_scope *scope;
    nm_arena *a;
    assert_int_equal(nm_scope_open(&scope, root_of(state), NM_SCOPE_OPTIONS(.soft_bytes = 10000)), NM_OK);
    assert_int_equal(nm_arena_open(&a, scope, NULL), NM_OK);
    for (int i = 0; i < 1000; i++) assert_non_null(nm_arena_alloc(a, 100));
    nm_scope_stats stats;
    nm_scope_get_stats(scope, &stats);
    assert_true(stats.soft_count >= 1);
    assert_int_equal(nm_scope_close(scope, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ARENA_TEST(capacity_is_the_most_that_is_handed_out),
        ARENA_TEST(a_large_request_counts_against_the_capacity),
        ARENA_TEST(alignment_does_not_use_up_a_capacity_that_has_room),
        ARENA_TEST(a_small_capacity_takes_no_large_block),
        ARENA_TEST(a_rewind_gives_capacity_back),
        ARENA_TEST(the_only_arena_of_a_scope_gets_its_hard_limit_to_the_byte),
        ARENA_TEST(a_large_allocation_fills_a_hard_limit_to_the_byte),
        ARENA_TEST(a_doubled_block_that_is_refused_is_tried_again_in_the_exact_size),
        ARENA_TEST(a_large_request_leaves_the_size_of_the_next_block_as_it_was),
        ARENA_TEST(many_sizes_in_a_small_budget_never_pass_it_and_every_refusal_leaves_the_arena_usable),
        ARENA_TEST(blocks_kept_by_a_reset_do_not_stand_in_the_way_of_a_large_request),
        ARENA_TEST(the_unused_rest_of_the_current_block_does_not_stand_in_the_way),
        ARENA_TEST(two_arenas_share_a_limit_and_one_gets_what_the_other_closes),
        ARENA_TEST(every_call_that_is_refused_changes_nothing_and_the_next_works),
        ARENA_TEST(an_open_that_is_refused_leaves_the_scope_as_it_was),
        ARENA_TEST(the_soft_limit_is_crossed_by_blocks_and_nothing_fails),
    };
    return cmocka_run_group_tests_name("arena_budget", tests, NULL, NULL);
}
