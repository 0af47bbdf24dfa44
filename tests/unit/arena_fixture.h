// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the arena's tests share: a root and an arena in it for each test, and a close that must find no leak. */
#ifndef NM_TESTS_UNIT_ARENA_FIXTURE_H
#define NM_TESTS_UNIT_ARENA_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "check/check.h"
#include "nebula/arena.h"

typedef struct fixture {
    nm_scope *root;
    nm_arena *arena;
} fixture;

static inline int fixture_open(void **state) {
    fixture *f = calloc(1, sizeof *f);
    if (f == NULL || nm_scope_open(&f->root, NULL, NM_SCOPE_OPTIONS(.name = "root")) != NM_OK) return -1;
    if (nm_arena_open(&f->arena, f->root, NULL) != NM_OK) return -1;
    *state = f;
    return 0;
}

static inline int fixture_close(void **state) {
    fixture *f = *state;
    nm_arena_close(f->arena);
    nm_leak_report report;
    size_t leaks = nm_scope_close(f->root, &report);
    if (leaks != 0) nm_leak_report_print(&report, stderr);
    free(f);
    return leaks == 0 ? 0 : -1;
}

static inline nm_arena *arena_of(void **state) { return ((fixture *)*state)->arena; }
static inline nm_scope *root_of(void **state) { return ((fixture *)*state)->root; }

#define ARENA_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_open, fixture_close)

static inline size_t round16(size_t n) { return n == 0 ? 16 : (n + 15) & ~(size_t)15; }

/* A pattern that depends on the number of the allocation, so that overlap and moved bytes show. */
static inline unsigned char pattern_at(uint64_t seed, size_t i) {
    return (unsigned char)((seed * 0x9e3779b97f4a7c15u + i * 0x100000001b3u) >> 24);
}
static inline void pattern_fill(void *p, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++) ((unsigned char *)p)[i] = pattern_at(seed, i);
}
static inline bool pattern_holds(const void *p, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++)
        if (((const unsigned char *)p)[i] != pattern_at(seed, i)) return false;
    return true;
}

/* The next call works: whatever was refused before, 16 bytes can be had and written. */
static inline void assert_usable(nm_arena *a) {
    void *p = nm_arena_alloc(a, 16);
    assert_non_null(p);
    memset(p, 0xa5, 16);
    assert_true(nm_arena_owns(a, p));
}

static inline size_t granted_to(const nm_scope *scope) {
    nm_scope_stats stats;
    nm_scope_get_stats(scope, &stats);
    return stats.granted_bytes;
}

#endif
