// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What a reset keeps: enough that steady rounds take nothing from the scope, and not for ever what a spike needed. */
#include "arena_fixture.h"
#include "scope/scope_internal.h"

/* Takes `bytes` in pieces that differ from round to round, never at the same place of a block. */
static void round_of(nm_arena *a, size_t bytes, size_t piece, size_t round) {
    for (size_t taken = 0; taken < bytes;) {
        size_t n = piece / 2 + (taken + round * 977) % piece;
        unsigned char *p = nm_arena_alloc(a, n);
        assert_non_null(p);
        p[0] = p[n - 1] = (unsigned char)round;
        taken += round16(n);
    }
    nm_arena_reset(a);
}

/* The grants that the scope was asked for since the last call: each takes one from the count that is to refuse the last. */
#define COUNT_FROM ((uint64_t)1 << 40)
static uint64_t grants_since(nm_scope *scope) {
    uint64_t left = nm_atomic_load(&scope->fail_after, NM_RELAXED);
    nm_scope_fail_after(scope, COUNT_FROM);
    return left == 0 ? 0 : COUNT_FROM - left;
}

static void a_spike_is_given_back_within_some_resets(void **state) {
    nm_arena *a = arena_of(state);
    for (size_t taken = 0; taken < (size_t)64 << 20; taken += 4096) assert_non_null(nm_arena_alloc(a, 4096));
    assert_true(nm_arena_granted(a) >= (size_t)64 << 20);
    nm_arena_reset(a);
    assert_true(nm_arena_granted(a) >= (size_t)64 << 20); /* it may come again in the next round */
    for (size_t i = 0; i < 50; i++) round_of(a, 2000, 100, i);
    assert_true(nm_arena_granted(a) <= 512 << 10);
    for (size_t i = 0; i < 50; i++) round_of(a, 2000, 100, i);
    assert_true(nm_arena_granted(a) <= 32 << 10);
    assert_true(granted_to(root_of(state)) < (size_t)64 << 20);
    assert_usable(a);
}

static void a_spike_of_every_size_leaves_an_arena_that_works(void **state) {
    nm_arena *a = arena_of(state);
    for (size_t spike = 1024; spike < (size_t)8 << 20; spike = spike * 3 / 2) {
        round_of(a, spike, 300, spike);
        for (size_t i = 0; i < 80; i++) {
            round_of(a, 700, 60, i);
            assert_int_equal(nm_arena_used(a), 0);
            assert_false(nm_arena_owns(a, a->ptr));
        }
        assert_true(nm_arena_granted(a) <= 32 << 10);
    }
    assert_int_equal(nm_arena_status(a), NM_OK);
}

static void steady_rounds_take_nothing_from_the_scope(void **state) {
    for (size_t bytes = 500; bytes < (size_t)6 << 20; bytes = bytes * 2 + 77) {
        nm_scope *scope;
        nm_arena *a;
        assert_int_equal(nm_scope_open(&scope, root_of(state), NULL), NM_OK);
        assert_int_equal(nm_arena_open(&a, scope, NULL), NM_OK);
        for (size_t i = 0; i < 20; i++) round_of(a, bytes, 200, i);
        size_t granted = nm_arena_granted(a);
        grants_since(scope);
        for (size_t i = 0; i < 50; i++) round_of(a, bytes, 200, i);
        uint64_t grants = grants_since(scope);
        if (grants != 0) fail_msg("rounds of %zu bytes took %llu blocks", bytes, (unsigned long long)grants);
        assert_int_equal(nm_arena_granted(a), granted);
        nm_scope_fail_after(scope, 0);
        assert_int_equal(nm_scope_close(scope, NULL), 0);
    }
}

/* A large round now and then keeps its blocks: the mark decays more slowly than that. */
static void rounds_of_changing_size_do_not_take_and_give_blocks_all_the_time(void **state) {
    nm_arena *a = arena_of(state);
    for (size_t i = 0; i < 10; i++) round_of(a, i % 5 == 0 ? 1000000 : 1000, 200, i);
    grants_since(root_of(state));
    for (size_t i = 0; i < 100; i++) round_of(a, i % 5 == 0 ? 1000000 : 1000, 200, i);
    assert_int_equal(grants_since(root_of(state)), 0);
    nm_scope_fail_after(root_of(state), 0);
}

static void a_spare_of_a_rewind_goes_too(void **state) {
    nm_arena *a = arena_of(state);
    nm_mark mark = nm_arena_mark(a);
    for (int i = 0; i < 3000; i++) assert_non_null(nm_arena_alloc(a, 1000));
    assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
    assert_true(nm_arena_granted(a) >= (size_t)1 << 20);
    for (size_t i = 0; i < 20; i++) round_of(a, 2000, 100, i);
    assert_true(nm_arena_granted(a) <= 32 << 10);
}

static void what_is_kept_stays_within_a_large_first_block(void **state) {
    nm_arena *a;
    assert_int_equal(nm_arena_open(&a, root_of(state), NM_ARENA_OPTIONS(.block_bytes = 1 << 20)), NM_OK);
    for (size_t i = 0; i < 100; i++) round_of(a, 1000, 100, i);
    assert_in_range(nm_arena_granted(a), 1 << 20, (1 << 20) + 4096);
    grants_since(root_of(state));
    for (size_t i = 0; i < 100; i++) round_of(a, 1000, 100, i);
    assert_int_equal(grants_since(root_of(state)), 0);
    nm_scope_fail_after(root_of(state), 0);
    nm_arena_close(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ARENA_TEST(a_spike_is_given_back_within_some_resets),
        ARENA_TEST(a_spike_of_every_size_leaves_an_arena_that_works),
        ARENA_TEST(steady_rounds_take_nothing_from_the_scope),
        ARENA_TEST(rounds_of_changing_size_do_not_take_and_give_blocks_all_the_time),
        ARENA_TEST(a_spare_of_a_rewind_goes_too),
        ARENA_TEST(what_is_kept_stays_within_a_large_first_block),
    };
    return cmocka_run_group_tests_name("arena_keep", tests, NULL, NULL);
}
