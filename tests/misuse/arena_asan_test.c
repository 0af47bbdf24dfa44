// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Planted misuse of arena memory must be found under the address sanitizer, by the poisoning that the library does itself.
 *
 * The program that misuses memory need not be instrumented for the poisoning to be there; that it is seen needs both, so
 * the tests that let a child crash are skipped elsewhere. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "nebula/arena.h"

extern int __asan_address_is_poisoned(void const volatile *p) __attribute__((weak));

static bool under_asan(void) {
    if (__asan_address_is_poisoned != NULL) return true;
    print_message("skipped: the program does not run under the address sanitizer\n");
    return false;
}

static bool poisoned(const void *p) { return __asan_address_is_poisoned(p) != 0; }

static nm_scope *root;
static nm_arena *arena;

static int open_all(void **state) {
    (void)state;
    if (nm_scope_open(&root, NULL, NULL) != NM_OK) return -1;
    return nm_arena_open(&arena, root, NULL) == NM_OK ? 0 : -1;
}
static int close_all(void **state) {
    (void)state;
    return nm_scope_close(root, NULL) == 0 ? 0 : -1;
}

/* ---- a child that does it must be stopped ------------------------------------------------------------------------ */

/* Runs `misuse` in a child and tells whether the sanitizer stopped it with a report of poisoned memory. */
static bool is_reported(void (*misuse)(void)) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        misuse();
        _exit(0);
    }
    close(ends[1]);
    char text[65536];
    size_t length = 0;
    for (;;) { /* all of it is read, so that the child is not stopped by a full pipe; the beginning is kept */
        char spill[4096];
        bool full = length == sizeof text - 1;
        ssize_t n = full ? read(ends[0], spill, sizeof spill) : read(ends[0], text + length, sizeof text - 1 - length);
        if (n <= 0) break;
        if (!full) length += (size_t)n;
    }
    text[length] = '\0';
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    bool stopped = !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return stopped && strstr(text, "use-after-poison") != NULL;
}

/* Through volatile, so that the compiler neither sees nor removes the access. */
static void write_at(void *p, size_t i) { ((volatile unsigned char *)p)[i] = 1; }
static void read_at(void *p, size_t i) { (void)((volatile unsigned char *)p)[i]; }

static void write_one_past_the_end(void) {
    unsigned char *volatile p = nm_arena_alloc(arena, 32);
    (void)!nm_arena_alloc(arena, 32);
    write_at(p, 32);
}
static void write_into_padding(void) {
    unsigned char *volatile p = nm_arena_alloc(arena, 20);
    write_at(p, 20);
}
static void write_before_the_start(void) {
    unsigned char *volatile p = nm_arena_alloc(arena, 32);
    unsigned char *volatile q = nm_arena_alloc(arena, 32);
    write_at(p, (size_t)(q - p) - 1);
}
static void read_after_reset(void) {
    unsigned char *volatile p = nm_arena_alloc(arena, 32);
    nm_arena_reset(arena);
    read_at(p, 0);
}
static void read_after_rewind(void) {
    nm_mark mark = nm_arena_mark(arena);
    unsigned char *volatile p = nm_arena_alloc(arena, 32);
    if (nm_arena_rewind(arena, mark) != NM_OK) _exit(0);
    read_at(p, 0);
}
static void read_after_temp(void) {
    unsigned char *volatile p = NULL;
    NM_ARENA_TEMP (arena) {
        p = nm_arena_alloc(arena, 32);
    }
    read_at(p, 31);
}
static void read_after_shrinking(void) {
    unsigned char *volatile p = nm_arena_alloc(arena, 100);
    p = nm_arena_realloc(arena, p, 100, 50);
    read_at(p, 50);
}
static void read_of_what_realloc_moved_away(void) {
    unsigned char *volatile p = nm_arena_alloc(arena, 100);
    (void)!nm_arena_alloc(arena, 16);
    unsigned char *volatile q = nm_arena_realloc(arena, p, 100, 500);
    read_at(q, 99);
    read_at(p, 0);
}
static void write_past_a_large_one(void) {
    unsigned char *volatile p = nm_arena_alloc(arena, 1000001);
    write_at(p, 1000001);
}
static void read_after_the_arena_was_closed(void) {
    unsigned char *volatile p = nm_arena_alloc(arena, 32);
    nm_arena_close(arena);
    read_at(p, 16);
}
static void right_use(void) {
    for (int round = 0; round < 3; round++) {
        unsigned char *volatile p = nm_arena_alloc(arena, 33);
        memset(p, 1, 33);
        p = nm_arena_realloc(arena, p, 33, 3333);
        memset(p, 1, 3333);
        NM_ARENA_TEMP (arena) {
            memset(nm_arena_alloc(arena, 50001), 1, 50001);
        }
        nm_arena_reset(arena);
    }
}

#define PLANTED(fn)                                                                                                    \
    static void fn##_is_reported(void **state) {                                                                       \
        (void)state;                                                                                                   \
        if (!under_asan()) skip();                                                                                     \
        assert_true(is_reported(fn));                                                                                  \
    }
PLANTED(write_one_past_the_end)
PLANTED(write_into_padding)
PLANTED(write_before_the_start)
PLANTED(read_after_reset)
PLANTED(read_after_rewind)
PLANTED(read_after_temp)
PLANTED(read_after_shrinking)
PLANTED(read_of_what_realloc_moved_away)
PLANTED(write_past_a_large_one)
PLANTED(read_after_the_arena_was_closed)

static void right_use_is_not_reported(void **state) {
    (void)state;
    assert_false(is_reported(right_use));
}

/* ---- exactly these bytes ----------------------------------------------------------------------------------------- */

static void just_the_bytes_asked_for_can_be_touched(void **state) {
    (void)state;
    if (!under_asan()) skip();
    static const size_t sizes[] = {0, 1, 7, 8, 15, 16, 17, 100, 1000, 5000, 100000, 3000000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t align = 1; align <= 4096; align *= 16) {
            size_t n = sizes[i];
            unsigned char *p = nm_arena_alloc_aligned(arena, n, align);
            assert_non_null(p);
            for (size_t k = 0; k < n; k++)
                if (poisoned(p + k)) fail_msg("byte %zu of %zu is poisoned", k, n);
            for (size_t k = n; k < ((n + 15) & ~(size_t)15) + 16; k++)
                if (!poisoned(p + k)) fail_msg("byte %zu behind %zu is not poisoned", k, n);
            assert_true(poisoned(p - 1));
        }
}

static void red_zones_count_neither_as_used_nor_against_the_capacity(void **state) {
    (void)state;
    if (!under_asan()) skip();
    nm_arena *a;
    assert_int_equal(nm_arena_open(&a, root, NM_ARENA_OPTIONS(.capacity_bytes = 1600)), NM_OK);
    nm_mark mark = nm_arena_mark(a);
    for (int i = 1; i < 100; i++) {
        assert_non_null(nm_arena_alloc(a, 16));
        assert_int_equal(nm_arena_used(a), 16 * (size_t)(i + 1));
    }
    assert_null(nm_arena_alloc(a, 1));
    assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
    assert_int_equal(nm_arena_used(a), 16);
}

static void what_the_scope_gets_back_is_not_poisoned(void **state) {
    (void)state;
    if (!under_asan()) skip();
    void *p = nm_arena_alloc(arena, 4 << 20); /* a mapping of its own, which others may get next */
    assert_non_null(p);
    nm_arena_reset(arena);
    assert_false(poisoned((unsigned char *)p + (4 << 20) + 8));
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)
    const struct CMUnitTest tests[] = {
        T(write_one_past_the_end_is_reported),
        T(write_into_padding_is_reported),
        T(write_before_the_start_is_reported),
        T(read_after_reset_is_reported),
        T(read_after_rewind_is_reported),
        T(read_after_temp_is_reported),
        T(read_after_shrinking_is_reported),
        T(read_of_what_realloc_moved_away_is_reported),
        T(write_past_a_large_one_is_reported),
        T(read_after_the_arena_was_closed_is_reported),
        T(right_use_is_not_reported),
        T(just_the_bytes_asked_for_can_be_touched),
        T(red_zones_count_neither_as_used_nor_against_the_capacity),
        T(what_the_scope_gets_back_is_not_poisoned),
    };
    return cmocka_run_group_tests_name("arena_asan", tests, NULL, NULL);
}
