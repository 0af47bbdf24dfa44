// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Contiguous arenas: one range, committed as it fills. */
#include "arena_fixture.h"
#include "os_counter.h"

#define MIB  ((size_t)1 << 20)
#define PAGE ((size_t)4096)

static nm_arena *open_contiguous(nm_scope *scope, size_t capacity) {
    nm_arena *a;
    assert_int_equal(nm_arena_open(&a, scope, NM_ARENA_OPTIONS(.contiguous = true, .capacity_bytes = capacity)), NM_OK);
    return a;
}

static void it_needs_a_capacity_that_can_be(void **state) {
    nm_scope *root = root_of(state);
    size_t before = granted_to(root);
    nm_arena *a;
    assert_int_equal(nm_arena_open(&a, root, NM_ARENA_OPTIONS(.contiguous = true)), NM_EINVAL);
    assert_null(a);
    static const size_t absurd[] = {SIZE_MAX, SIZE_MAX - 4096, (size_t)1 << 56};
    for (size_t i = 0; i < sizeof absurd / sizeof *absurd; i++)
        assert_int_equal(nm_arena_open(&a, root, NM_ARENA_OPTIONS(.contiguous = true, .capacity_bytes = absurd[i])),
                         NM_ETOOLARGE);
    assert_int_equal(nm_arena_open(&a, root, NM_ARENA_OPTIONS(.contiguous = true, .capacity_bytes = (size_t)1 << 50)),
                     NM_ENOMEM);
    assert_null(a);
    assert_int_equal(granted_to(root), before);
}

static void its_capacity_is_exact_and_its_range_one(void **state) {
    static const size_t capacities[] = {1, 15, 16, 100, 4000, 4096, 5000, 70000, 3 * (size_t)(1 << 20) + 77};
    for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
        nm_arena *a = open_contiguous(root_of(state), capacities[i]);
        for (int round = 0; round < 3; round++) {
            unsigned char *first = NULL, *p;
            size_t count = 0;
            while ((p = nm_arena_alloc(a, 16)) != NULL) {
                if (first == NULL) first = p;
                memset(p, round, 16);
                assert_ptr_equal(p, first + count * (nm__check_active() ? 32 : 16));
                assert_true(nm_arena_owns(a, p));
                count++;
            }
            assert_int_equal(count, capacities[i] / 16);
            assert_int_equal(nm_arena_status(a), NM_ECAPACITY);
            assert_int_equal(nm_arena_used(a), count * 16);
            nm_arena_reset(a);
            assert_int_equal(nm_arena_used(a), 0);
            if (count > 0) assert_false(nm_arena_owns(a, first));
        }
        nm_arena_close(a);
    }
}

static void padding_that_does_not_fit_is_refused(void **state) {
    nm_arena *a = open_contiguous(root_of(state), 8192);
    assert_non_null(nm_arena_alloc(a, 16));
    assert_null(nm_arena_alloc_aligned(a, 8176, 4096));
    assert_int_equal(nm_arena_status(a), NM_ECAPACITY);
    assert_int_equal(nm_arena_used(a), 16);
    assert_non_null(nm_arena_alloc(a, 8176));
    assert_null(nm_arena_alloc(a, 1));
    nm_arena_close(a);
}

static void the_last_allocation_always_grows_in_place(void **state) {
    nm_arena *a = open_contiguous(root_of(state), 64 * MIB);
    unsigned char *p = nm_arena_alloc(a, 1), *first = p;
    assert_non_null(p);
    pattern_fill(p, 1, 9);
    size_t n = 1;
    while (n < 40 * MIB) {
        size_t more = n + n / 3 + 100;
        p = nm_arena_realloc(a, p, n, more);
        assert_ptr_equal(p, first);
        assert_true(pattern_holds(p, n < 4096 ? n : 4096, 9));
        n = more;
        pattern_fill(p, n < 4096 ? n : 4096, 9);
        if (n > 4096) p[n - 1] = 1;
        assert_true(nm_arena_granted(a) <= 256 + n + n / 2 + 128 * 1024);
    }
    assert_null(nm_arena_realloc(a, p, n, 64 * MIB + 1));
    assert_int_equal(nm_arena_status(a), NM_ECAPACITY);
    p = nm_arena_realloc(a, p, n, 64 * MIB);
    assert_ptr_equal(p, first);
    p = nm_arena_realloc(a, p, 64 * MIB, 10);
    assert_ptr_equal(p, first);
    assert_int_equal(nm_arena_used(a), 16);
    nm_arena_close(a);
}

static void a_reset_keeps_the_pages_of_the_high_water_mark(void **state) {
    nm_scope *root = root_of(state);
    size_t before = granted_to(root);
    nm_arena *a = open_contiguous(root, 64 * MIB);
    assert_int_equal(nm_arena_granted(a), 256 + PAGE);
    assert_non_null(nm_arena_alloc(a, 40 * MIB));
    assert_true(nm_arena_granted(a) >= 40 * MIB);
    nm_arena_reset(a);
    size_t kept = nm_arena_granted(a);
    assert_true(kept >= 40 * MIB);
    for (int i = 0; i < 60; i++) {
        assert_non_null(nm_arena_alloc(a, 1000));
        nm_arena_reset(a);
        assert_true(nm_arena_granted(a) <= kept);
        kept = nm_arena_granted(a);
    }
    assert_true(kept <= 256 * 1024);
    unsigned char *p = nm_arena_alloc(a, 50 * MIB); /* pages that went come back */
    assert_non_null(p);
    memset(p, 1, 50 * MIB);
    nm_arena_close(a);
    assert_true(granted_to(root) <= before + PAGE);
}

static void steady_rounds_commit_and_decommit_nothing(void **state) {
    nm_arena *a = open_contiguous(root_of(state), 64 * MIB);
    for (int i = 0; i < 20; i++) {
        for (int k = 0; k < 100; k++) assert_non_null(nm_arena_alloc(a, 10000));
        nm_arena_reset(a);
    }
    size_t granted = nm_arena_granted(a);
    for (int i = 0; i < 50; i++) {
        for (int k = 0; k < 100; k++) assert_non_null(nm_arena_alloc(a, 10000));
        assert_int_equal(nm_arena_granted(a), granted);
        nm_arena_reset(a);
        assert_int_equal(nm_arena_granted(a), granted);
    }
    nm_arena_close(a);
}

static void marks_and_deferred_functions_work_in_it(void **state) {
    nm_arena *a = open_contiguous(root_of(state), 4 * MIB);
    assert_non_null(nm_arena_alloc(a, 100));
    nm_mark outer = nm_arena_mark(a);
    size_t used = nm_arena_used(a);
    for (int round = 0; round < 3; round++) {
        unsigned char *p = nm_arena_alloc(a, MIB);
        assert_non_null(p);
        nm_mark inner = nm_arena_mark(a);
        assert_non_null(nm_arena_alloc(a, 2 * MIB));
        assert_int_equal(nm_arena_rewind(a, inner), NM_OK);
        assert_true(nm_arena_owns(a, p));
        assert_int_equal(nm_arena_rewind(a, outer), NM_OK);
        assert_int_equal(nm_arena_rewind(a, inner), NM_ESTALE);
        assert_int_equal(nm_arena_used(a), used);
    }
    nm_arena_close(a);
}

static void a_hard_limit_is_used_to_the_page(void **state) {
    nm_scope *scope;
    size_t hard = 256 + 301 * PAGE;
    assert_int_equal(nm_scope_open(&scope, root_of(state), NM_SCOPE_OPTIONS(.hard_bytes = hard)), NM_OK);
    nm_arena *a = open_contiguous(scope, 64 * MIB);
    while (nm_arena_alloc(a, 64) != NULL) {
    }
    assert_int_equal(nm_arena_status(a), NM_EBUDGET);
    assert_int_equal(granted_to(scope), hard);
    size_t used = nm_arena_used(a);
    assert_null(nm_arena_alloc(a, 5000));
    assert_int_equal(nm_arena_used(a), used);
    nm_arena_reset(a);
    assert_usable(a);
    assert_int_equal(nm_scope_close(scope, NULL), 0);
}

static void what_it_is_granted_is_what_is_committed(void **state) {
    (void)state;
    os_counter_install();
    nm_scope *root;
    assert_int_equal(nm_scope_open(&root, NULL, NULL), NM_OK);
    nm_arena *a = open_contiguous(root, 16 * MIB);
    size_t n = 16;
    for (int i = 0; i < 200; i++) {
        for (size_t taken = 0; taken < n; taken += 1000) assert_non_null(nm_arena_alloc(a, 990));
        assert_int_equal(granted_to(root), os_counter_committed());
        nm_arena_reset(a);
        assert_int_equal(granted_to(root), os_counter_committed());
        n = i % 50 == 0 ? 8 * MIB : n / 2 + 16;
    }
    nm_arena_close(a);
    assert_int_equal(granted_to(root), os_counter_committed());
    assert_int_equal(nm_scope_close(root, NULL), 0);
    assert_true(os_counter_remove());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ARENA_TEST(it_needs_a_capacity_that_can_be),
        ARENA_TEST(its_capacity_is_exact_and_its_range_one),
        ARENA_TEST(padding_that_does_not_fit_is_refused),
        ARENA_TEST(the_last_allocation_always_grows_in_place),
        ARENA_TEST(a_reset_keeps_the_pages_of_the_high_water_mark),
        ARENA_TEST(steady_rounds_commit_and_decommit_nothing),
        ARENA_TEST(marks_and_deferred_functions_work_in_it),
        ARENA_TEST(a_hard_limit_is_used_to_the_page),
        cmocka_unit_test(what_it_is_granted_is_what_is_committed),
    };
    return cmocka_run_group_tests_name("arena_contiguous", tests, NULL, NULL);
}
