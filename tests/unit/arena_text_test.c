// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Resizing, copies, strings and printf. */
#include <wchar.h>

#include "arena_fixture.h"

#ifdef __GLIBC__
#include <printf.h>
#endif

/* ---- realloc ----------------------------------------------------------------------------------------------------- */

static void realloc_of_null_allocates(void **state) {
    nm_arena *a = arena_of(state);
    void *p = nm_arena_realloc(a, NULL, 0, 100);
    assert_non_null(p);
    memset(p, 1, 100);
    assert_non_null((nm_arena_realloc)(a, NULL, 77, 0));
    assert_int_equal(nm_arena_used(a), 112 + 16);
}

static void the_last_allocation_grows_and_shrinks_in_place(void **state) {
    nm_arena *a = arena_of(state);
    assert_non_null(nm_arena_alloc(a, 16));
    unsigned char *p = nm_arena_alloc(a, 10);
    pattern_fill(p, 10, 1);
    assert_ptr_equal(nm_arena_realloc(a, p, 10, 1000), p);
    assert_true(pattern_holds(p, 10, 1));
    pattern_fill(p, 1000, 2);
    assert_int_equal(nm_arena_used(a), 16 + 1008);
    assert_ptr_equal(nm_arena_realloc(a, p, 1000, 100), p);
    assert_int_equal(nm_arena_used(a), 16 + 112);
    assert_true(pattern_holds(p, 100, 2));
    assert_ptr_equal(nm_arena_realloc(a, p, 100, 0), p);
    assert_int_equal(nm_arena_used(a), 16 + 16);
    unsigned char *q = nm_arena_alloc(a, 16);
    assert_true(q >= p + 16);
    memset(q, 3, 16);
}

static void an_allocation_in_the_middle_shrinks_in_place_and_grows_by_a_copy(void **state) {
    nm_arena *a = arena_of(state);
    unsigned char *p = nm_arena_alloc(a, 100), *q = nm_arena_alloc(a, 16);
    pattern_fill(p, 100, 1);
    pattern_fill(q, 16, 2);
    assert_ptr_equal(nm_arena_realloc(a, p, 100, 50), p);
    assert_int_equal(nm_arena_used(a), 112 + 16);
    unsigned char *r = nm_arena_realloc(a, p, 50, 200);
    assert_ptr_not_equal(r, p);
    assert_true(pattern_holds(r, 50, 1));
    pattern_fill(r, 200, 3);
    assert_true(pattern_holds(q, 16, 2));
    assert_int_equal(nm_arena_used(a), 112 + 16 + 208);
}

static void a_buffer_grows_step_by_step_through_blocks_of_every_size(void **state) {
    nm_arena *a = arena_of(state);
    size_t n = 1;
    unsigned char *p = nm_arena_alloc(a, n);
    pattern_fill(p, n, 7);
    while (n < (8 << 20)) {
        size_t more = n + n / 2 + 1;
        p = nm_arena_realloc(a, p, n, more);
        assert_non_null(p);
        assert_true(pattern_holds(p, n, 7));
        pattern_fill(p, more, 7);
        n = more;
    }
    /* what it outgrew went back, but for the small ones in the chain */
    assert_true(nm_arena_used(a) < n + n / 4);
    assert_ptr_equal(nm_arena_realloc(a, p, n, n - 4000), p);
    assert_ptr_equal(nm_arena_realloc(a, p, n - 4000, n - 100), p);
    assert_true(pattern_holds(p, n - 4000, 7));
    pattern_fill(p, n - 100, 8);
    assert_true(pattern_holds(p, n - 100, 8));
}

static void a_large_buffer_moves_into_the_chain_where_the_chain_has_the_room(void **state) {
    nm_arena *a = arena_of(state);
    unsigned char *p = nm_arena_alloc(a, 6000); /* a block of its own, as the next one is small */
    pattern_fill(p, 6000, 1);
    for (int i = 0; i < 200; i++) assert_non_null(nm_arena_alloc(a, 500)); /* now there are larger ones */
    size_t used = nm_arena_used(a), granted = nm_arena_granted(a);
    unsigned char *q = nm_arena_realloc(a, p, 6000, 9000);
    assert_ptr_not_equal(p, q);
    assert_true(pattern_holds(q, 6000, 1));
    assert_int_equal(nm_arena_used(a), used - 6000 + 9008);
    assert_true(nm_arena_granted(a) < granted); /* its block went back */
    assert_false(nm_arena_owns(a, p));
}

static void what_a_mark_protects_is_not_resized_away(void **state) {
    nm_arena *a = arena_of(state);
    unsigned char *small = nm_arena_alloc(a, 64), *large = nm_arena_alloc(a, 1 << 20);
    pattern_fill(small, 64, 1);
    pattern_fill(large, 1 << 20, 2);
    nm_mark mark = nm_arena_mark(a);
    size_t used = nm_arena_used(a);
    unsigned char *p = nm_arena_realloc(a, small, 64, 640), *q = nm_arena_realloc(a, large, 1 << 20, 3 << 20);
    assert_ptr_not_equal(p, small);
    assert_ptr_not_equal(q, large);
    assert_true(pattern_holds(p, 64, 1));
    assert_true(pattern_holds(q, 1 << 20, 2));
    memset(p, 0, 640);
    memset(q, 0, 3 << 20);
    assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
    assert_int_equal(nm_arena_used(a), used);
    assert_true(pattern_holds(small, 64, 1));
    assert_true(pattern_holds(large, 1 << 20, 2));
}

static void a_refused_realloc_leaves_the_allocation_as_it_was(void **state) {
    nm_arena *a;
    assert_int_equal(nm_arena_open(&a, root_of(state), NM_ARENA_OPTIONS(.capacity_bytes = 160)), NM_OK);
    unsigned char *p = nm_arena_alloc(a, 100);
    pattern_fill(p, 100, 1);
    volatile size_t bad[] = {161, 1 << 20, SIZE_MAX, SIZE_MAX / 2 + 1, SIZE_MAX - 15};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(nm_arena_realloc(a, p, 100, bad[i]));
        assert_int_equal(nm_arena_used(a), 112);
        assert_true(pattern_holds(p, 100, 1));
    }
    assert_int_equal(nm_arena_status(a), NM_ECAPACITY);
    volatile size_t lie = SIZE_MAX;
    assert_null(nm_arena_realloc(a, p, lie, 10));
    assert_ptr_equal(nm_arena_realloc(a, p, 100, 160), p);
    assert_int_equal(nm_arena_used(a), 160);
    assert_true(pattern_holds(p, 100, 1));
    nm_arena_close(a);
}

static char *through_vprintf(nm_arena *a, bool plain, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *p = plain ? (nm_arena_vprintf)(a, format, args) : nm_arena_vprintf(a, format, args);
    va_end(args);
    return p;
}

/* ---- copies and strings ------------------------------------------------------------------------------------------ */

static void copies_are_whole_and_apart(void **state) {
    nm_arena *a = arena_of(state);
    char text[] = "some text";
    char *s = nm_arena_strdup(a, text);
    text[0] = 'S';
    assert_string_equal(s, "some text");
    assert_string_equal((nm_arena_strdup)(a, ""), "");
    assert_string_equal(nm_arena_strndup(a, "abcdef", 3), "abc");
    assert_string_equal((nm_arena_strndup)(a, "abcdef", 6), "abcdef");
    volatile size_t no_bound = SIZE_MAX;
    assert_string_equal(nm_arena_strndup(a, "abcdef", no_bound), "abcdef");
    assert_string_equal(nm_arena_strndup(a, "abcdef", 0), "");
    char unterminated[3] = {'x', 'y', 'z'};
    assert_string_equal(nm_arena_strndup(a, unterminated, 3), "xyz");
    unsigned char bytes[300];
    pattern_fill(bytes, 300, 9);
    assert_memory_equal(nm_arena_memdup(a, bytes, 300), bytes, 300);
    assert_non_null((nm_arena_memdup)(a, NULL, 0));
    assert_int_equal(nm_arena_status(a), NM_OK);
}

static void a_string_of_nothing_is_refused(void **state) {
    nm_arena *a = arena_of(state);
    const char *volatile none = NULL;
    size_t used = nm_arena_used(a);
    assert_null(nm_arena_strdup(a, none));
    assert_int_equal(nm_arena_status(a), NM_EINVAL);
    assert_null(nm_arena_strndup(a, none, 3));
    assert_null(nm_arena_memdup(a, none, 3));
    assert_null(through_vprintf(a, false, none));
    assert_int_equal(nm_arena_used(a), used);
    assert_usable(a);
}

static void copies_of_absurd_size_are_refused(void **state) {
    nm_arena *a = arena_of(state);
    volatile size_t sizes[] = {SIZE_MAX, SIZE_MAX / 2 + 1};
    for (int i = 0; i < 2; i++) {
        nm_arena_reset(a);
        assert_null(nm_arena_memdup(a, "x", sizes[i]));
        assert_int_equal(nm_arena_status(a), NM_ETOOLARGE);
        assert_int_equal(nm_arena_used(a), 0);
        assert_usable(a);
    }
}

/* ---- printf ------------------------------------------------------------------------------------------------------ */

static void printf_takes_just_what_it_needs(void **state) {
    nm_arena *a = arena_of(state);
    assert_string_equal(nm_arena_printf(a, "%s-%d", "x", 7), "x-7");
    assert_int_equal(nm_arena_used(a), 16);
    assert_string_equal((nm_arena_printf)(a, "%s", ""), "");
    assert_int_equal(nm_arena_used(a), 32);
    assert_string_equal(nm_arena_printf(a, "%015d", 1), "000000000000001");
    assert_int_equal(nm_arena_used(a), 48);
    assert_string_equal(nm_arena_printf(a, "%016d", 1), "0000000000000001");
    assert_int_equal(nm_arena_used(a), 80);
    assert_string_equal(through_vprintf(a, true, "%d %s", 1, "a"), "1 a");
    assert_string_equal(through_vprintf(a, false, "%d %s", 2, "b"), "2 b");
}

static void printf_of_any_length_at_any_place_in_a_block(void **state) {
    nm_arena *a = arena_of(state);
    char *previous = NULL;
    for (int length = 0; length < 9000; length = length * 5 / 4 + 1) {
        for (int i = 0; i < 20; i++) {
            char *p = nm_arena_printf(a, "%0*d", length, 0);
            assert_non_null(p);
            size_t n = length == 0 ? 1 : (size_t)length;
            assert_int_equal(strlen(p), n);
            assert_int_equal(strspn(p, "0"), n);
            if (previous != NULL) assert_int_equal(strspn(previous, "0"), strlen(previous));
            previous = p;
        }
    }
}

static void printf_reads_its_arguments_from_the_arena_itself(void **state) {
    nm_arena *a = arena_of(state);
    char *s = nm_arena_strdup(a, "x");
    for (int i = 0; i < 14; i++) s = nm_arena_printf(a, "%s%s", s, s);
    assert_int_equal(strlen(s), 1 << 14);
    assert_int_equal(strspn(s, "x"), 1 << 14);
}

static void a_refused_printf_changes_nothing(void **state) {
    nm_arena *a;
    assert_int_equal(nm_arena_open(&a, root_of(state), NM_ARENA_OPTIONS(.capacity_bytes = 100)), NM_OK);
    assert_non_null(nm_arena_alloc(a, 64));
    assert_null(nm_arena_printf(a, "%0100d", 1));
    assert_int_equal(nm_arena_status(a), NM_ECAPACITY);
    assert_int_equal(nm_arena_used(a), 64);
    assert_null(nm_arena_printf(a, "%034d", 1)); /* 35 bytes fit into the 36 that are left, but 48 do not */
    assert_int_equal(nm_arena_used(a), 64);
    assert_string_equal(nm_arena_printf(a, "%031d", 1), "0000000000000000000000000000001");
    assert_int_equal(nm_arena_used(a), 96);
    nm_arena_close(a);
}

static void a_format_that_cannot_be_converted_is_said_so(void **state) {
    nm_arena *a = arena_of(state);
    wchar_t bad[] = {(wchar_t)0x7fffffff, 0}; /* no character in any locale */
    size_t used = nm_arena_used(a);
    assert_null(nm_arena_printf(a, "%ls", bad));
    assert_int_equal(nm_arena_status(a), NM_EFORMAT);
    assert_int_equal(nm_arena_used(a), used);
    assert_usable(a);
}

#ifdef __GLIBC__
/* A conversion that succeeds as often as told, and fails then. */
static int conversions_left;
static int print_or_fail(FILE *to, const struct printf_info *info, const void *const *args) {
    (void)info;
    (void)args;
    if (conversions_left-- <= 0) return -1;
    for (int i = 0; i < 7000; i++)
        if (fputc('y', to) == EOF) return -1;
    return 7000;
}
static int no_arguments(const struct printf_info *info, size_t n, int *types, int *sizes) {
    (void)info, (void)n, (void)types, (void)sizes;
    return 0;
}

static void a_conversion_that_fails_in_the_second_pass_takes_the_bytes_back(void **state) {
    if (nm__check_active()) skip(); /* the sanitizer reads formats too and does not know this one */
    nm_arena *a = arena_of(state);
    assert_int_equal(register_printf_specifier('Y', print_or_fail, no_arguments), 0);
    for (int warm = 0; warm < 2; warm++) { /* first a block of its own, then the chain */
        nm_arena_reset(a);
        for (int i = 0; warm && i < 100; i++) assert_non_null(nm_arena_alloc(a, 3000));
        while (warm && (size_t)(a->end - a->ptr) > 6000) assert_non_null(nm_arena_alloc(a, 1000));
        size_t used = nm_arena_used(a);
        conversions_left = 1;
        assert_null(through_vprintf(a, false, "%Y"));
        assert_int_equal(nm_arena_status(a), NM_EFORMAT);
        assert_int_equal(nm_arena_used(a), used);
        conversions_left = 2;
        char *p = through_vprintf(a, false, "%Y");
        assert_non_null(p);
        assert_int_equal(strspn(p, "y"), 7000);
        assert_int_equal(nm_arena_used(a), used + round16(7001));
        assert_usable(a);
    }
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        ARENA_TEST(realloc_of_null_allocates),
        ARENA_TEST(the_last_allocation_grows_and_shrinks_in_place),
        ARENA_TEST(an_allocation_in_the_middle_shrinks_in_place_and_grows_by_a_copy),
        ARENA_TEST(a_buffer_grows_step_by_step_through_blocks_of_every_size),
        ARENA_TEST(a_large_buffer_moves_into_the_chain_where_the_chain_has_the_room),
        ARENA_TEST(what_a_mark_protects_is_not_resized_away),
        ARENA_TEST(a_refused_realloc_leaves_the_allocation_as_it_was),
        ARENA_TEST(copies_are_whole_and_apart),
        ARENA_TEST(a_string_of_nothing_is_refused),
        ARENA_TEST(copies_of_absurd_size_are_refused),
        ARENA_TEST(printf_takes_just_what_it_needs),
        ARENA_TEST(printf_of_any_length_at_any_place_in_a_block),
        ARENA_TEST(printf_reads_its_arguments_from_the_arena_itself),
        ARENA_TEST(a_refused_printf_changes_nothing),
        ARENA_TEST(a_format_that_cannot_be_converted_is_said_so),
#ifdef __GLIBC__
        ARENA_TEST(a_conversion_that_fails_in_the_second_pass_takes_the_bytes_back),
#endif
    };
    return cmocka_run_group_tests_name("arena_text", tests, NULL, NULL);
}
