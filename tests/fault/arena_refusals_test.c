// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Arenas with ranges of their own, watched arenas, and moves: the n-th grant, and the n-th system call, is refused, for every n
 * until no more are needed. Each time: a status that says why, nothing changed, nothing leaked, and the next call works. */
#include "nebula/memory.h"
#include "os_counter.h"
#include "scope/scope_internal.h"
#include "testing.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static nm_scope *root, *scope, *other;
static nm_arena *arena;
static void *old;

typedef enum what { GRANT, SYSTEM_CALL } what;

static const nm_arena_options plain = {.struct_size = sizeof plain},
                              secret = {.struct_size = sizeof secret, .secret = true},
                              contiguous = {.struct_size = sizeof contiguous,
                                            .contiguous = true,
                                            .capacity_bytes = 4 * MIB},
                              both = {.struct_size = sizeof both,
                                      .contiguous = true,
                                      .secret = true,
                                      .capacity_bytes = 4 * MIB};

static nm_status of_arena(const void *p) { return p != NULL ? NM_OK : nm_arena_status(arena); }

static nm_status first(void) { return of_arena(nm_arena_alloc(arena, 100)); }
static nm_status large(void) { return of_arena(nm_arena_alloc(arena, 300 * KIB)); }
static nm_status aligned(void) { return of_arena(nm_arena_alloc_aligned(arena, 100, 64 * KIB)); }
static nm_status grow(void) { return of_arena(nm_arena_realloc(arena, old, 3000, 500 * KIB)); }
static nm_status print(void) { return of_arena(nm_arena_printf(arena, "%05000d", 1)); }
static nm_status many(void) { /* more than a page of a log */
    for (int i = 0; i < 300; i++)
        if (nm_arena_alloc(arena, 16) == NULL) return nm_arena_status(arena);
    return NM_OK;
}
static nm_status move(void) {
    nm_status st = nm_arena_move(arena, other);
    /* back again, with nothing refused, so that the next try finds it where it was */
    if (st == NM_OK) {
        nm_scope_fail_after(root, 0);
        os_counter_fail_after(0);
        assert_ok(nm_arena_move(arena, scope));
    }
    return st;
}
/* A reset is never refused, whatever the system says to giving pages back. */
static nm_status reset(void) {
    assert_non_null(nm_arena_alloc(arena, 2 * MIB));
    for (int i = 0; i < 40; i++) nm_arena_reset(arena);
    assert_int_equal(nm_arena_used(arena), 0);
    old = NULL;
    return NM_OK;
}

typedef struct scenario {
    const char *name;
    const nm_arena_options *options;
    unsigned debug;
    size_t sample_bytes;
    nm_status (*act)(void); /* NULL: the opening itself */
} scenario;

#define GUARDED (NM_DEBUG_GUARD | NM_DEBUG_QUARANTINE)

static const scenario scenarios[] = {
    {"contiguous, open", &contiguous, 0, 0, NULL},
    {"contiguous, large", &contiguous, 0, 0, large},
    {"contiguous, aligned", &contiguous, 0, 0, aligned},
    {"contiguous, realloc", &contiguous, 0, 0, grow},
    {"contiguous, printf", &contiguous, 0, 0, print},
    {"contiguous, move", &contiguous, 0, 0, move},
    {"secret, open", &secret, 0, 0, NULL},
    {"secret, first", &secret, 0, 0, first},
    {"secret, large", &secret, 0, 0, large},
    {"secret, realloc", &secret, 0, 0, grow},
    {"secret, aligned", &secret, 0, 0, aligned},
    {"both, open", &both, 0, 0, NULL},
    {"both, realloc", &both, 0, 0, grow},
    {"plain, move", &plain, 0, 0, move},
    {"guarded, open", &plain, GUARDED, 0, NULL},
    {"guarded, first", &plain, GUARDED, 0, first},
    {"guarded, large", &plain, GUARDED, 0, large},
    {"guarded, realloc", &plain, GUARDED, 0, grow},
    {"guarded, many", &plain, GUARDED, 0, many},
    {"guarded, move", &plain, GUARDED, 0, move},
    {"guarded, contiguous, open", &contiguous, GUARDED, 0, NULL},
    {"guarded, secret, realloc", &secret, GUARDED, 0, grow},
    {"traced, first", &plain, NM_DEBUG_TRACE, 0, first},
    {"sampled, open", &plain, 0, 1 * KIB, NULL},
    {"sampled, large", &plain, 0, 1 * KIB, large},
};

static nm_status act(const scenario *s) {
    if (s->act != NULL) return s->act();
    nm_status st = nm_arena_open(&arena, scope, s->options);
    assert_int_equal(st == NM_OK, arena != NULL);
    return st;
}

static void set_up(const scenario *s) {
    os_counter_install();
    arena = NULL;
    old = NULL;
    assert_ok(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.hard_bytes = 16 * MIB)));
    assert_ok(nm_scope_open(
        &scope, root, NM_SCOPE_OPTIONS(.hard_bytes = 8 * MIB, .debug = s->debug, .sample_bytes = s->sample_bytes)));
    assert_ok(nm_scope_open(&other, root, NULL));
    if (s->act == NULL) return;
    assert_ok(nm_arena_open(&arena, scope, s->options));
    if (s->act == first) return;
    old = nm_arena_alloc(arena, 3000);
    assert_non_null(old);
    memset(old, 0x33, 3000);
}

static void tear_down(void) {
    nm_scope_stats stats;
    nm_scope_get_stats(root, &stats);
    assert_int_equal(stats.granted_bytes, os_counter_committed());
    assert_int_equal(nm_scope_close(other, NULL), 0);
    assert_int_equal(nm_scope_close(scope, NULL), 0);
    assert_int_equal(nm_scope_close(root, NULL), 0);
    assert_true(os_counter_remove());
}

/* Returns false when the n-th did not come: the scenario needs fewer. */
static bool try_with(const scenario *s, what refused, uint64_t n) {
    set_up(s);
    size_t before = nm__granted(scope), other_before = nm__granted(other);
    size_t used = arena != NULL ? nm_arena_used(arena) : 0;
    if (refused == GRANT)
        nm_scope_fail_after(root, n);
    else
        os_counter_fail_after(n);
    nm_status st = act(s);
    bool came = refused == GRANT ? nm_atomic_load(&root->fail_after, NM_RELAXED) == 0 : os_counter_failed();
    if (st == NM_OK && s->act == move) came = false;
    nm_scope_fail_after(root, 0);
    os_counter_fail_after(0);
    if (st != NM_OK) {
        if (!came || st != (refused == GRANT ? NM_EBUDGET : NM_ENOMEM))
            fail_msg("%s, %s %" PRIu64 ": %s", s->name, refused == GRANT ? "grant" : "system call", n,
                     nm_status_name(st));
        if (s->act != many) { /* which is many calls, of which some went well */
            if (nm__granted(scope) != before)
                fail_msg("%s, %" PRIu64 ": from %zu to %zu bytes", s->name, n, before, nm__granted(scope));
            if (arena != NULL) assert_int_equal(nm_arena_used(arena), used);
        }
        assert_int_equal(nm__granted(other), other_before);
        for (size_t i = 0; old != NULL && i < 3000; i++) assert_int_equal(((unsigned char *)old)[i], 0x33);
        nm_status again = act(s);
        if (again != NM_OK) fail_msg("%s: the next call gives %s", s->name, nm_status_name(again));
    }
    tear_down();
    return came;
}

static void run(const scenario *s, what refused) {
    uint64_t n = 1;
    while (try_with(s, refused, n)) {
        n++;
        assert_true(n < 1000);
    }
    print_message("  %-32s %" PRIu64 " %s\n", s->name, n - 1,
                  refused == GRANT ? "grants refused" : "system calls refused");
}

static void every_grant_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) run(&scenarios[i], GRANT);
}

static void every_system_call_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) run(&scenarios[i], SYSTEM_CALL);
}

static void a_reset_stands_whatever_the_system_refuses(void **state) {
    (void)state;
    static const scenario resets[] = {{"contiguous, reset", &contiguous, 0, 0, reset},
                                      {"both, reset", &both, 0, 0, reset},
                                      {"secret, reset", &secret, 0, 0, reset}};
    for (size_t i = 0; i < sizeof resets / sizeof *resets; i++)
        for (uint64_t n = 1; n < 20; n++) { /* the first are the growth's own: it is tried before */
            set_up(&resets[i]);
            assert_non_null(nm_arena_alloc(arena, 2 * MIB));
            nm_arena_reset(arena);
            os_counter_fail_after(n);
            for (int k = 0; k < 60; k++) nm_arena_reset(arena);
            bool came = os_counter_failed();
            os_counter_fail_after(0);
            assert_int_equal(nm_arena_used(arena), 0);
            assert_ok(resets[i].act());
            tear_down();
            if (!came) break;
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_grant_refused),
        cmocka_unit_test(every_system_call_refused),
        cmocka_unit_test(a_reset_stands_whatever_the_system_refuses),
    };
    return cmocka_run_group_tests_name("arena_refusals", tests, NULL, NULL);
}
