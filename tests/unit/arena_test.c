// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Opening, allocating, growing, resetting; what the arena tells about itself. */
#include "arena_fixture.h"

static void a_fresh_arena_has_used_nothing_and_no_block(void **state) {
    nm_arena *a = arena_of(state);
    assert_int_equal(nm_arena_used(a), 0);
    assert_int_equal(nm_arena_granted(a), 256);
    assert_true(nm_arena_capacity(a) == SIZE_MAX);
    assert_int_equal(nm_arena_status(a), NM_OK);
    assert_false(nm_arena_owns(a, a));
    assert_false(nm_arena_owns(a, NULL));
    nm_arena_reset(a);
    assert_int_equal(nm_arena_used(a), 0);
    assert_int_equal(nm_arena_granted(a), 256);
}

static void options_out_of_range_are_refused_and_nothing_is_charged(void **state) {
    nm_scope *root = root_of(state);
    size_t before = granted_to(root);
    nm_arena *a = NULL;
    assert_int_equal(nm_arena_open(&a, root, NM_ARENA_OPTIONS(.block_bytes = 4095)), NM_EINVAL);
    assert_null(a);
    assert_int_equal(nm_arena_open(&a, root, NM_ARENA_OPTIONS(.block_bytes = ((size_t)2 << 20) + 1)), NM_EINVAL);
    assert_int_equal(nm_arena_open(&a, root, NM_ARENA_OPTIONS(.block_bytes = SIZE_MAX)), NM_EINVAL);
    assert_int_equal(nm_arena_open(&a, root, &(nm_arena_options){.struct_size = 0}), NM_EINVAL);
    assert_int_equal(nm_arena_open(&a, NULL, NULL), NM_EINVAL);
    assert_null(a);
    assert_int_equal(nm_arena_open(NULL, root, NULL), NM_EINVAL);
    assert_int_equal(granted_to(root), before);
    assert_int_equal((nm_arena_open)(&a, root, NM_ARENA_OPTIONS(.block_bytes = (size_t)2 << 20, .name = "largest")),
                     NM_OK);
    assert_usable(a);
    assert_true(nm_arena_granted(a) >= ((size_t)2 << 20));
    nm_arena_close(a);
}

static void a_refused_header_leaves_no_arena(void **state) {
    nm_arena *a = NULL;
    nm_scope *small;
    assert_int_equal(nm_scope_open(&small, root_of(state), NM_SCOPE_OPTIONS(.hard_bytes = 255)), NM_OK);
    assert_int_equal(nm_arena_open(&a, small, NULL), NM_EBUDGET);
    assert_null(a);
    assert_int_equal(nm_scope_close(small, NULL), 0);
}

static void close_ignores_null_and_gives_everything_back(void **state) {
    nm_scope *root = root_of(state), *scope;
    nm_arena_close(NULL);
    assert_int_equal(nm_scope_open(&scope, root, NULL), NM_OK);
    nm_arena *a;
    assert_int_equal(nm_arena_open(&a, scope, NM_ARENA_OPTIONS(.name = "closed by hand")), NM_OK);
    for (size_t i = 0; i < 1000; i++) assert_non_null(nm_arena_alloc(a, 100 * (i % 97)));
    assert_true(granted_to(scope) > 0);
    nm_arena_close(a);
    assert_int_equal(granted_to(scope), 0);
    assert_int_equal(nm_scope_close(scope, NULL), 0);
}

static void the_scope_closes_its_arenas_and_that_is_no_leak(void **state) {
    nm_scope *scope;
    assert_int_equal(nm_scope_open(&scope, root_of(state), NULL), NM_OK);
    nm_arena *a, *b;
    assert_int_equal(nm_arena_open(&a, scope, NULL), NM_OK);
    assert_int_equal(nm_arena_open(&b, scope, NULL), NM_OK);
    assert_usable(a);
    assert_non_null(nm_arena_alloc(b, 3 << 20));
    assert_int_equal(nm_scope_close(scope, NULL), 0);
}

static void allocations_are_aligned_distinct_and_counted(void **state) {
    nm_arena *a = arena_of(state);
    size_t used = 0;
    unsigned char *p[200];
    for (size_t i = 0; i < 200; i++) {
        p[i] = nm_arena_alloc(a, i);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        pattern_fill(p[i], i, i);
        used += round16(i);
        assert_int_equal(nm_arena_used(a), used);
    }
    for (size_t i = 0; i < 200; i++) {
        assert_true(pattern_holds(p[i], i, i));
        assert_true(nm_arena_owns(a, p[i]));
    }
}

static void zero_bytes_are_a_distinct_valid_pointer(void **state) {
    nm_arena *a = arena_of(state);
    void *p = nm_arena_alloc(a, 0), *q = nm_arena_alloc(a, 0), *r = (nm_arena_alloc)(a, 0);
    assert_non_null(p);
    assert_non_null(q);
    assert_ptr_not_equal(p, q);
    assert_ptr_not_equal(q, r);
    assert_int_equal(nm_arena_used(a), 48);
    assert_ptr_not_equal(nm_arena_zalloc(a, 0), nm_arena_alloc_aligned(a, 0, 64));
    assert_int_equal(nm_arena_status(a), NM_OK);
}

static void sizes_that_no_memory_has_are_refused(void **state) {
    nm_arena *a = arena_of(state);
    volatile size_t sizes[] = {SIZE_MAX, SIZE_MAX - 14, SIZE_MAX - 15, SIZE_MAX / 2 + 1, SIZE_MAX / 2};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int warm = 0; warm < 2; warm++) {
            nm_arena_reset(a);
            if (warm) assert_usable(a);
            size_t used = nm_arena_used(a);
            assert_null(nm_arena_alloc(a, sizes[i]));
            assert_int_equal(nm_arena_status(a), NM_ETOOLARGE);
            assert_null(nm_arena_zalloc(a, sizes[i]));
            assert_null(nm_arena_alloc_aligned(a, sizes[i], (size_t)2 << 20));
            assert_null(nm_arena_alloc_aligned(a, sizes[i], 1));
            assert_null(nm_arena_realloc(a, NULL, 0, sizes[i]));
            assert_int_equal(nm_arena_used(a), used);
            assert_usable(a);
        }
    nm_arena_reset(a);
    assert_null(nm_arena_alloc(a, (size_t)1 << 55)); /* a size that counts, and that the system does not have */
    assert_true(nm_arena_status(a) == NM_ENOMEM || nm_arena_status(a) == NM_EBUDGET);
    assert_usable(a);
}

static void typed_allocation_is_zeroed_aligned_and_checks_the_product(void **state) {
    nm_arena *a = arena_of(state);
    struct point {
        double x, y;
    };
    typedef struct line {
        _Alignas(128) char c[128];
    } line;
    memset(nm_arena_alloc(a, 1000), 0xff, 1000);
    nm_arena_reset(a);
    struct point *one = NM_NEW(a, struct point);
    assert_non_null(one);
    assert_true(one->x == 0 && one->y == 0);
    assert_non_null(nm_arena_alloc(a, 16));
    line *lines = NM_NEW_ARRAY(a, line, 3);
    assert_non_null(lines);
    assert_int_equal((uintptr_t)lines % 128, 0);
    for (size_t i = 0; i < sizeof(line) * 3; i++) assert_int_equal(((char *)lines)[i], 0);
    assert_non_null(NM_NEW_ARRAY(a, int, 0));

    size_t used = nm_arena_used(a);
    volatile size_t n = SIZE_MAX / sizeof(int) + 1;
    assert_null(NM_NEW_ARRAY(a, int, n));
    assert_int_equal(nm_arena_status(a), NM_ETOOLARGE);
    n = SIZE_MAX;
    assert_null(NM_NEW_ARRAY(a, struct point, n));
    assert_null(NM_NEW_ARRAY(a, char, n));
    assert_int_equal(nm_arena_used(a), used);
    assert_usable(a);
}

static void zalloc_is_zero_in_memory_that_was_used_before(void **state) {
    nm_arena *a = arena_of(state);
    for (int round = 0; round < 3; round++) {
        for (size_t n = 1; n < 3000; n = n * 2 + 1) {
            unsigned char *p = nm_arena_zalloc(a, n);
            assert_non_null(p);
            for (size_t i = 0; i < n; i++) assert_int_equal(p[i], 0);
            memset(p, 0xee, n);
        }
        nm_arena_reset(a);
    }
}

static void every_alignment_up_to_two_mebibytes(void **state) {
    nm_arena *a = arena_of(state);
    for (int round = 0; round < 2; round++) {
        for (size_t align = 1; align <= (size_t)2 << 20; align *= 2)
            for (size_t n = 0; n < 5000; n = n * 3 + 1) {
                size_t used = nm_arena_used(a);
                unsigned char *p =
                    round == 0 ? nm_arena_alloc_aligned(a, n, align) : (nm_arena_alloc_aligned)(a, n, align);
                assert_non_null(p);
                assert_int_equal((uintptr_t)p % align, 0);
                pattern_fill(p, n, n);
                assert_true(pattern_holds(p, n, n));
                assert_true(nm_arena_used(a) - used >= round16(n));
                assert_true(nm_arena_used(a) - used < round16(n) + (align > 16 ? align : 16));
            }
        nm_arena_reset(a);
    }
    assert_int_equal(nm_arena_status(a), NM_OK);
}

static void an_alignment_that_is_none_is_refused(void **state) {
    nm_arena *a = arena_of(state);
    volatile size_t aligns[] = {0, 3, 24, 48, ((size_t)2 << 20) + 16, (size_t)4 << 20, SIZE_MAX, SIZE_MAX / 2 + 1};
    for (size_t i = 0; i < sizeof aligns / sizeof *aligns; i++) {
        nm_arena_reset(a);
        assert_usable(a);
        size_t used = nm_arena_used(a);
        assert_null(nm_arena_alloc_aligned(a, 8, aligns[i]));
        assert_int_equal(nm_arena_status(a), NM_EINVAL);
        assert_int_equal(nm_arena_used(a), used);
        assert_usable(a);
    }
}

static void a_large_request_does_not_change_the_current_block(void **state) {
    nm_arena *a = arena_of(state);
    unsigned char *p = nm_arena_alloc(a, 16);
    size_t granted = nm_arena_granted(a);
    unsigned char *large = nm_arena_alloc(a, 5 << 20);
    assert_non_null(large);
    pattern_fill(large, 5 << 20, 1);
    unsigned char *q = nm_arena_alloc(a, 16);
    assert_ptr_equal(q, p + (nm__check_active() ? 16 + NM__RED_ZONE_BYTES : 16));
    assert_int_equal(nm_arena_used(a), 32 + (5 << 20));
    assert_true(nm_arena_owns(a, large));
    assert_true(nm_arena_owns(a, large + (5 << 20) - 1));
    assert_false(nm_arena_owns(a, large + (5 << 20)));
    assert_true(nm_arena_granted(a) > granted + (5 << 20));
    nm_arena_reset(a); /* which does not keep it */
    assert_int_equal(nm_arena_granted(a), granted);
}

static void many_middling_requests_share_blocks_that_grow(void **state) {
    nm_arena *a = arena_of(state);
    for (int i = 0; i < 1000; i++) assert_non_null(nm_arena_alloc(a, 2000));
    assert_int_equal(nm_arena_used(a), 2000 * 1000);
    assert_true(nm_arena_granted(a) < 2 * 2000 * 1000 + (1 << 20));
}

static void owns_knows_what_is_handed_out_in_all_blocks(void **state) {
    nm_arena *a = arena_of(state), *other;
    assert_int_equal(nm_arena_open(&other, root_of(state), NULL), NM_OK);
    unsigned char *p[3000];
    for (size_t i = 0; i < 3000; i++) p[i] = nm_arena_alloc(a, i % 1500);
    for (size_t i = 0; i < 3000; i++) {
        assert_true(nm_arena_owns(a, p[i]));
        assert_false(nm_arena_owns(other, p[i]));
    }
    assert_false(nm_arena_owns(a, a->ptr));
    assert_false(nm_arena_owns(a, &p));
    assert_false(nm_arena_owns(a, NULL));
    nm_arena_reset(a);
    for (size_t i = 0; i < 3000; i++) assert_false(nm_arena_owns(a, p[i]));
    nm_arena_close(other);
}

static void reset_keeps_blocks_and_asks_the_scope_for_nothing_more(void **state) {
    nm_arena *a = arena_of(state);
    size_t granted = 0;
    for (int round = 0; round < 6; round++) {
        for (size_t i = 0; i < 4000; i++) {
            unsigned char *p = nm_arena_alloc(a, i % 300);
            assert_non_null(p);
            memset(p, round, i % 300);
        }
        /* the order of the blocks differs from round to round, and so do their tails: a little more may be taken */
        if (round == 3) granted = nm_arena_granted(a);
        if (round > 3) assert_int_equal(nm_arena_granted(a), granted);
        nm_arena_reset(a);
        assert_int_equal(nm_arena_used(a), 0);
        assert_int_equal(nm_arena_status(a), NM_OK);
    }
}

static void used_in_the_scopes_stats_follows_the_blocks(void **state) {
    nm_arena *a = arena_of(state);
    nm_scope_stats stats;
    for (int i = 0; i < 10000; i++) assert_non_null(nm_arena_alloc(a, 64));
    nm_scope_get_stats(root_of(state), &stats);
    assert_true(stats.used_bytes <= nm_arena_used(a));
    assert_true(stats.used_bytes + (1 << 20) > nm_arena_used(a));
    assert_true(stats.used_bytes > 0);
    nm_arena_reset(a);
    nm_scope_get_stats(root_of(state), &stats);
    assert_int_equal(stats.used_bytes, 0);
}

static void the_first_refusal_sticks_until_reset(void **state) {
    nm_arena *a = arena_of(state);
    volatile size_t huge = SIZE_MAX;
    assert_null(nm_arena_alloc_aligned(a, 8, 3));
    assert_null(nm_arena_alloc(a, huge));
    assert_int_equal(nm_arena_status(a), NM_EINVAL);
    assert_usable(a);
    assert_int_equal(nm_arena_status(a), NM_EINVAL);
    nm_arena_reset(a);
    assert_int_equal(nm_arena_status(a), NM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ARENA_TEST(a_fresh_arena_has_used_nothing_and_no_block),
        ARENA_TEST(options_out_of_range_are_refused_and_nothing_is_charged),
        ARENA_TEST(a_refused_header_leaves_no_arena),
        ARENA_TEST(close_ignores_null_and_gives_everything_back),
        ARENA_TEST(the_scope_closes_its_arenas_and_that_is_no_leak),
        ARENA_TEST(allocations_are_aligned_distinct_and_counted),
        ARENA_TEST(zero_bytes_are_a_distinct_valid_pointer),
        ARENA_TEST(sizes_that_no_memory_has_are_refused),
        ARENA_TEST(typed_allocation_is_zeroed_aligned_and_checks_the_product),
        ARENA_TEST(zalloc_is_zero_in_memory_that_was_used_before),
        ARENA_TEST(every_alignment_up_to_two_mebibytes),
        ARENA_TEST(an_alignment_that_is_none_is_refused),
        ARENA_TEST(a_large_request_does_not_change_the_current_block),
        ARENA_TEST(many_middling_requests_share_blocks_that_grow),
        ARENA_TEST(owns_knows_what_is_handed_out_in_all_blocks),
        ARENA_TEST(reset_keeps_blocks_and_asks_the_scope_for_nothing_more),
        ARENA_TEST(used_in_the_scopes_stats_follows_the_blocks),
        ARENA_TEST(the_first_refusal_sticks_until_reset),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
