// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Marks, rewinding, NM_ARENA_TEMP and deferred functions. */
#include "arena_fixture.h"

/* ---- marks ------------------------------------------------------------------------------------------------------- */

static void a_rewind_undoes_what_came_after_the_mark_any_number_of_times(void **state) {
    nm_arena *a = arena_of(state);
    char *before = nm_arena_strdup(a, "before");
    nm_mark mark = nm_arena_mark(a);
    size_t used = nm_arena_used(a);
    assert_int_equal(used, 16 + 16);
    for (int round = 0; round < 5; round++) {
        char *p = nm_arena_alloc(a, 100);
        assert_non_null(p);
        memset(p, round, 100);
        assert_true(nm_arena_owns(a, p));
        assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
        assert_false(nm_arena_owns(a, p));
        assert_int_equal(nm_arena_used(a), used);
    }
    assert_string_equal(before, "before");
}

static void a_rewind_goes_back_over_blocks_and_large_allocations(void **state) {
    nm_arena *a = arena_of(state);
    for (int i = 0; i < 100; i++) assert_non_null(nm_arena_alloc(a, 100));
    unsigned char *large = nm_arena_alloc(a, 3 << 20);
    pattern_fill(large, 3 << 20, 1);
    nm_mark mark = nm_arena_mark(a);
    size_t used = nm_arena_used(a), granted = nm_arena_granted(a);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 20000; i++) assert_non_null(nm_arena_alloc(a, 200));
        assert_non_null(nm_arena_alloc(a, 4 << 20));
        assert_non_null(nm_arena_alloc(a, 5 << 20));
        assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
        assert_int_equal(nm_arena_used(a), used);
        assert_true(nm_arena_granted(a) <= granted + (1 << 20)); /* one spare block is kept */
    }
    assert_true(pattern_holds(large, 3 << 20, 1));
}

static void marks_nest_and_an_outer_rewind_makes_the_inner_ones_stale(void **state) {
    nm_arena *a = arena_of(state);
    nm_mark marks[10];
    size_t used[10];
    for (int i = 0; i < 10; i++) {
        marks[i] = nm_arena_mark(a);
        used[i] = nm_arena_used(a);
        assert_non_null(nm_arena_alloc(a, 2000));
    }
    assert_int_equal(nm_arena_rewind(a, marks[4]), NM_OK);
    assert_int_equal(nm_arena_used(a), used[4]);
    for (int i = 5; i < 10; i++) {
        assert_int_equal(nm_arena_rewind(a, marks[i]), NM_ESTALE);
        assert_int_equal(nm_arena_used(a), used[4]);
    }
    for (int i = 4; i >= 0; i--) {
        assert_int_equal(nm_arena_rewind(a, marks[i]), NM_OK);
        assert_int_equal(nm_arena_used(a), used[i]);
    }
}

static void a_mark_at_the_same_address_as_a_stale_one_is_told_apart(void **state) {
    nm_arena *a = arena_of(state);
    nm_mark outer = nm_arena_mark(a);
    assert_non_null(nm_arena_alloc(a, 16));
    nm_mark stale = nm_arena_mark(a);
    assert_int_equal(nm_arena_rewind(a, outer), NM_OK);
    assert_non_null(nm_arena_alloc(a, 16));
    nm_mark fresh = nm_arena_mark(a);
    assert_ptr_equal(fresh.record, stale.record);
    assert_int_equal(nm_arena_rewind(a, stale), NM_ESTALE);
    assert_int_equal(nm_arena_rewind(a, fresh), NM_OK);
}

static void marks_are_stale_after_a_reset(void **state) {
    nm_arena *a = arena_of(state);
    nm_mark mark = nm_arena_mark(a);
    nm_arena_reset(a);
    assert_int_equal(nm_arena_rewind(a, mark), NM_ESTALE);
    nm_mark again = nm_arena_mark(a);
    assert_ptr_equal(again.record, mark.record);
    assert_int_equal(nm_arena_rewind(a, mark), NM_ESTALE);
    assert_int_equal(nm_arena_rewind(a, again), NM_OK);
}

static void foreign_and_invented_marks_are_refused_and_never_read(void **state) {
    nm_arena *a = arena_of(state), *other;
    assert_int_equal(nm_arena_open(&other, root_of(state), NULL), NM_OK);
    nm_mark mine = nm_arena_mark(a), theirs = nm_arena_mark(other);
    assert_non_null(nm_arena_alloc(a, 100));
    size_t used = nm_arena_used(a);
    assert_int_equal(nm_arena_rewind(a, theirs), NM_ESTALE);
    assert_int_equal(nm_arena_rewind(other, mine), NM_ESTALE);
    assert_int_equal(nm_arena_rewind(a, (nm_mark){NULL, 0}), NM_ESTALE);
    assert_int_equal(nm_arena_rewind(a, (nm_mark){NULL, mine.id}), NM_ESTALE);
    assert_int_equal(nm_arena_rewind(a, (nm_mark){mine.record, 0}), NM_ESTALE);
    assert_int_equal(nm_arena_rewind(a, (nm_mark){mine.record, mine.id + 1}), NM_ESTALE);
    assert_int_equal(nm_arena_rewind(a, (nm_mark){(void *)(uintptr_t)0x10, mine.id}), NM_ESTALE);
    assert_int_equal(nm_arena_used(a), used);
    assert_int_equal(nm_arena_status(a), NM_OK);
    assert_int_equal(nm_arena_rewind(a, mine), NM_OK);
    nm_arena_close(other);
}

static void marks_with_nothing_between_are_the_same_mark(void **state) {
    nm_arena *a = arena_of(state);
    nm_mark first = nm_arena_mark(a);
    size_t used = nm_arena_used(a);
    for (int i = 0; i < 10000; i++) {
        nm_mark mark = nm_arena_mark(a);
        assert_true(mark.record == first.record && mark.id == first.id);
        assert_non_null(nm_arena_alloc(a, 10));
        assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
    }
    assert_int_equal(nm_arena_used(a), used);

    assert_non_null(nm_arena_alloc(a, 1 << 20)); /* large: the cursor does not move */
    nm_mark second = nm_arena_mark(a);
    assert_true(second.id != first.id);
    size_t with_large = nm_arena_used(a);
    assert_int_equal(nm_arena_rewind(a, second), NM_OK);
    assert_int_equal(nm_arena_used(a), with_large);
    assert_int_equal(nm_arena_rewind(a, first), NM_OK);
    assert_int_equal(nm_arena_used(a), used);
}

static void a_refused_mark_is_stale_from_the_start(void **state) {
    nm_arena *a;
    assert_int_equal(nm_arena_open(&a, root_of(state), NM_ARENA_OPTIONS(.capacity_bytes = 64)), NM_OK);
    assert_non_null(nm_arena_alloc(a, 56));
    nm_mark mark = nm_arena_mark(a);
    assert_null(mark.record);
    assert_int_equal(nm_arena_status(a), NM_ECAPACITY);
    assert_int_equal(nm_arena_rewind(a, mark), NM_ESTALE);
    assert_int_equal(nm_arena_used(a), 64);
    nm_arena_close(a);
}

/* ---- NM_ARENA_TEMP ----------------------------------------------------------------------------------------------- */

static int leave_by_return(nm_arena *a) {
    NM_ARENA_TEMP (a) {
        if (nm_arena_alloc(a, 100) != NULL) return 1;
    }
    return 0;
}

static void a_temp_block_left_by_break_goto_return_or_continue_is_undone(void **state) {
    nm_arena *a = arena_of(state);
    for (int round = 0; round < 2; round++) { /* without a block at first, then within one */
        size_t used = nm_arena_used(a);
        int runs = 0;
        NM_ARENA_TEMP (a) {
            runs++;
            assert_non_null(nm_arena_alloc(a, 100));
            assert_int_equal(nm_arena_used(a), used + 16 + 112);
        }
        assert_int_equal(nm_arena_used(a), used);
        NM_ARENA_TEMP (a) {
            runs++;
            assert_non_null(nm_arena_alloc(a, 100));
            if (runs == 2) break;
            fail();
        }
        assert_int_equal(nm_arena_used(a), used);
        NM_ARENA_TEMP (a) {
            runs++;
            assert_non_null(nm_arena_alloc(a, 100));
            if (runs == 3) continue;
            fail();
        }
        assert_int_equal(nm_arena_used(a), used);
        NM_ARENA_TEMP (a) {
            runs++;
            assert_non_null(nm_arena_alloc(a, 2 << 20));
            if (runs == 4) goto out;
            fail();
        }
    out:
        assert_int_equal(runs, 4);
        assert_int_equal(nm_arena_used(a), used);
        assert_int_equal(leave_by_return(a), 1);
        assert_int_equal(nm_arena_used(a), used);
        assert_non_null(nm_arena_alloc(a, 40));
    }
}

static void temp_blocks_nest_and_spare_the_callers_mark(void **state) {
    nm_arena *a = arena_of(state);
    nm_mark mark = nm_arena_mark(a);
    size_t used = nm_arena_used(a);
    NM_ARENA_TEMP (a) {
        nm_mark inside = nm_arena_mark(a);
        assert_non_null(nm_arena_alloc(a, 5000));
        NM_ARENA_TEMP (a) {
            assert_non_null(nm_arena_alloc(a, 50000));
        }
        assert_int_equal(nm_arena_used(a), used + 16 + 5008);
        assert_int_equal(nm_arena_rewind(a, inside), NM_OK);
    }
    assert_int_equal(nm_arena_used(a), used);
    assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
    for (int i = 0; i < 10000; i++)
        NM_ARENA_TEMP (a) {
            assert_non_null(nm_arena_alloc(a, 100));
        }
    assert_int_equal(nm_arena_used(a), used);
}

static void a_reset_or_an_outer_rewind_inside_a_temp_block_stands(void **state) {
    nm_arena *a = arena_of(state);
    assert_non_null(nm_arena_alloc(a, 100));
    nm_mark mark = nm_arena_mark(a);
    size_t used = nm_arena_used(a);
    NM_ARENA_TEMP (a) {
        assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
        assert_non_null(nm_arena_alloc(a, 100));
    }
    assert_int_equal(nm_arena_used(a), used + 112);
    NM_ARENA_TEMP (a) {
        nm_arena_reset(a);
        assert_non_null(nm_arena_alloc(a, 32));
    }
    assert_int_equal(nm_arena_used(a), 32);
}

/* ---- deferred functions ------------------------------------------------------------------------------------------ */

static char order[64];
static void note(void *arg) { strcat(order, arg); }

static void deferred_functions_run_last_first_at_rewind_reset_and_close(void **state) {
    nm_arena *a;
    assert_int_equal(nm_arena_open(&a, root_of(state), NULL), NM_OK);
    order[0] = '\0';
    assert_int_equal(nm_arena_defer(a, note, "a"), NM_OK);
    nm_mark mark = nm_arena_mark(a);
    assert_int_equal(nm_arena_defer(a, note, "b"), NM_OK);
    nm_mark inner = nm_arena_mark(a);
    assert_int_equal(nm_arena_defer(a, note, "c"), NM_OK);
    assert_int_equal(nm_arena_rewind(a, inner), NM_OK);
    assert_string_equal(order, "c");
    assert_int_equal(nm_arena_defer(a, note, "d"), NM_OK);
    assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
    assert_string_equal(order, "cdb");
    assert_int_equal(nm_arena_rewind(a, inner), NM_ESTALE);
    assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
    assert_string_equal(order, "cdb");
    NM_ARENA_TEMP (a) {
        assert_int_equal(nm_arena_defer(a, note, "e"), NM_OK);
    }
    assert_string_equal(order, "cdbe");
    assert_int_equal(nm_arena_defer(a, note, "f"), NM_OK);
    nm_arena_reset(a);
    assert_string_equal(order, "cdbefa");
    nm_arena_reset(a);
    assert_string_equal(order, "cdbefa");
    assert_int_equal(nm_arena_defer(a, note, "g"), NM_OK);
    assert_int_equal(nm_arena_defer(a, note, "h"), NM_OK);
    nm_arena_close(a);
    assert_string_equal(order, "cdbefahg");
}

static void deferred_functions_run_when_the_scope_closes(void **state) {
    nm_scope *scope;
    nm_arena *a;
    assert_int_equal(nm_scope_open(&scope, root_of(state), NULL), NM_OK);
    assert_int_equal(nm_arena_open(&a, scope, NULL), NM_OK);
    order[0] = '\0';
    assert_int_equal(nm_arena_defer(a, note, "1"), NM_OK);
    assert_int_equal(nm_arena_defer(a, note, "2"), NM_OK);
    assert_int_equal(nm_scope_close(scope, NULL), 0);
    assert_string_equal(order, "21");
}

static void a_refused_deferral_defers_nothing(void **state) {
    nm_arena *a;
    assert_int_equal(nm_arena_open(&a, root_of(state), NM_ARENA_OPTIONS(.capacity_bytes = 40)), NM_OK);
    order[0] = '\0';
    assert_int_equal(nm_arena_defer(a, NULL, "x"), NM_EINVAL);
    nm_arena_reset(a);
    assert_int_equal(nm_arena_defer(a, note, "a"), NM_OK);
    assert_int_equal(nm_arena_defer(a, note, "b"), NM_ECAPACITY);
    assert_int_equal(nm_arena_status(a), NM_ECAPACITY);
    nm_arena_reset(a);
    assert_string_equal(order, "a");
    nm_arena_close(a);
}

typedef struct meddler {
    nm_arena *arena;
    nm_mark mark;
    char *text;
    size_t used;
    int misuses, runs;
} meddler;

static void count_misuse(const nm_misuse *misuse, void *context) {
    meddler *m = context;
    assert_string_equal(misuse->part, "arena");
    m->misuses++;
}

/* Tries everything that a deferred function may not do, and what it may: read. */
static void meddle(void *arg) {
    meddler *m = arg;
    nm_arena *a = m->arena;
    m->runs++;
    assert_string_equal(m->text, "still here");
    assert_true(nm_arena_owns(a, m->text));
    assert_true(nm_arena_used(a) >= m->used);
    assert_null(nm_arena_alloc(a, 1));
    assert_null(nm_arena_alloc(a, 0));
    assert_null(nm_arena_alloc_aligned(a, 1, 64));
    assert_null(nm_arena_alloc(a, 10 << 20));
    assert_null(nm_arena_realloc(a, m->text, 11, 1));
    assert_null(nm_arena_printf(a, "%d", 1));
    assert_int_equal(nm_arena_defer(a, meddle, m), NM_EBUSY);
    assert_null(nm_arena_mark(a).record);
    assert_int_equal(nm_arena_rewind(a, m->mark), NM_EBUSY);
    NM_ARENA_TEMP (a) {
        assert_null(nm_arena_strdup(a, "x"));
    }
    int misuses = m->misuses;
    nm_arena_reset(a);
    nm_arena_close(a);
    assert_int_equal(m->misuses, misuses + 2);
    assert_string_equal(m->text, "still here");
}

static void a_deferred_function_cannot_change_the_arena_that_is_undone(void **state) {
    meddler m = {.arena = arena_of(state)};
    nm_arena *a = m.arena;
    nm_set_misuse_handler(count_misuse, &m);
    m.mark = nm_arena_mark(a);
    m.text = nm_arena_strdup(a, "still here");
    m.used = nm_arena_used(a);
    assert_int_equal(nm_arena_defer(a, meddle, &m), NM_OK);
    assert_int_equal(nm_arena_defer(a, meddle, &m), NM_OK);
    assert_int_equal(nm_arena_rewind(a, m.mark), NM_OK);
    assert_int_equal(m.runs, 2);
    assert_int_equal(nm_arena_status(a), NM_EBUSY);
    assert_int_equal(nm_arena_used(a), 16);
    assert_usable(a);

    m.text = nm_arena_strdup(a, "still here");
    assert_int_equal(nm_arena_defer(a, meddle, &m), NM_OK);
    nm_arena_reset(a);
    assert_int_equal(m.runs, 3);
    assert_int_equal(nm_arena_used(a), 0);
    assert_int_equal(nm_arena_status(a), NM_OK);
    assert_usable(a);

    nm_arena *closed;
    assert_int_equal(nm_arena_open(&closed, root_of(state), NULL), NM_OK);
    m.arena = closed;
    m.text = nm_arena_strdup(closed, "still here");
    m.used = 0;
    assert_int_equal(nm_arena_defer(closed, meddle, &m), NM_OK);
    nm_arena_close(closed);
    assert_int_equal(m.runs, 4);
    nm_set_misuse_handler(NULL, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ARENA_TEST(a_rewind_undoes_what_came_after_the_mark_any_number_of_times),
        ARENA_TEST(a_rewind_goes_back_over_blocks_and_large_allocations),
        ARENA_TEST(marks_nest_and_an_outer_rewind_makes_the_inner_ones_stale),
        ARENA_TEST(a_mark_at_the_same_address_as_a_stale_one_is_told_apart),
        ARENA_TEST(marks_are_stale_after_a_reset),
        ARENA_TEST(foreign_and_invented_marks_are_refused_and_never_read),
        ARENA_TEST(marks_with_nothing_between_are_the_same_mark),
        ARENA_TEST(a_refused_mark_is_stale_from_the_start),
        ARENA_TEST(a_temp_block_left_by_break_goto_return_or_continue_is_undone),
        ARENA_TEST(temp_blocks_nest_and_spare_the_callers_mark),
        ARENA_TEST(a_reset_or_an_outer_rewind_inside_a_temp_block_stands),
        ARENA_TEST(deferred_functions_run_last_first_at_rewind_reset_and_close),
        ARENA_TEST(deferred_functions_run_when_the_scope_closes),
        ARENA_TEST(a_refused_deferral_defers_nothing),
        ARENA_TEST(a_deferred_function_cannot_change_the_arena_that_is_undone),
    };
    return cmocka_run_group_tests_name("arena_marks", tests, NULL, NULL);
}
