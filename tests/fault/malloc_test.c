// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Every grant and every system call of nm_scope_malloc and its kin is refused in turn: NULL with a reason that stats tell,
 * nothing changed, nothing leaked, and the next call works. */
#include "nebula/memory.h"
#include "os_counter.h"
#include "scope/scope_internal.h"
#include "testing.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static nm_scope *root, *scope;
static unsigned char *old; /* what is there before, filled with 9 */
static size_t old_bytes;

static void have(size_t n) {
    old = nm_scope_malloc(scope, n);
    assert_non_null(old);
    old_bytes = n;
    memset(old, 9, n);
}
static void nothing(void) {}
static void a_heap(void) { have(100); }
static void a_full_home(void) {
    have(100);
    nm_scope_fail_after(scope, 1);
    while (nm_scope_malloc(scope, 100) != NULL) {
    }
}
static void a_slot(void) { have(8000); }
static void a_block(void) { have(600 * KIB); }
static void a_mapping(void) { have(3 * MIB); }

static void *small(void) { return nm_scope_malloc(scope, 100); }
static void *medium(void) { return nm_scope_malloc(scope, 5000); }
static void *large(void) { return nm_scope_malloc(scope, 100 * KIB); }
static void *mapped(void) { return nm_scope_malloc(scope, 3 * MIB); }
static void *zeroed(void) { return nm_scope_calloc(scope, 100, 100); }
static void *aligned(void) { return nm_scope_aligned_alloc(scope, 2048, 100); }
static void *aligned_large(void) { return nm_scope_aligned_alloc(scope, MIB, 100); }
static void *from_null(void) { return nm_scope_realloc(scope, NULL, 9000); }
static void *grown_to(size_t n) {
    unsigned char *p = nm_scope_realloc(scope, old, n);
    for (size_t i = 0; i < old_bytes; i++) assert_int_equal((p != NULL ? p : old)[i], 9);
    if (p != NULL) {
        old = p;
        old_bytes = n;
        memset(old, 9, n);
    }
    return p;
}
static void *grown_slot(void) { return grown_to(20000); }
static void *grown_block(void) { return grown_to(900 * KIB); }
static void *moved_block(void) { return grown_to(2 * MIB); }
static void *moved_mapping(void) { return grown_to(5 * MIB); }

typedef struct scenario {
    const char *name;
    void (*before)(void);
    void *(*act)(void);
} scenario;

static const scenario scenarios[] = {
    {"nm_scope_malloc, the first", nothing, small},
    {"nm_scope_malloc, the first of some KiB", nothing, medium},
    {"nm_scope_malloc, the first large", nothing, large},
    {"nm_scope_malloc, the next page", a_full_home, small},
    {"nm_scope_malloc of some KiB", a_heap, medium},
    {"nm_scope_malloc, large", a_heap, large},
    {"nm_scope_malloc, a mapping", a_heap, mapped},
    {"nm_scope_calloc", nothing, zeroed},
    {"nm_scope_aligned_alloc", nothing, aligned},
    {"nm_scope_aligned_alloc, large", a_heap, aligned_large},
    {"nm_scope_realloc of NULL", nothing, from_null},
    {"nm_scope_realloc of a slot", a_slot, grown_slot},
    {"nm_scope_realloc in its block", a_block, grown_block},
    {"nm_scope_realloc out of its block", a_block, moved_block},
    {"nm_scope_realloc of a mapping", a_mapping, moved_mapping},
};

static void check_reason(bool grant, const nm_scope_stats *st) {
    assert_status(st->last_refusal.status, grant ? NM_EBUDGET : NM_ENOMEM);
    assert_string_equal(st->last_refusal.name, grant ? "root" : "");
    assert_int_not_equal(st->last_refusal.wanted_bytes, 0);
}

/* False: there was no n-th. */
static bool try_with(const scenario *s, bool grant, uint64_t n) {
    os_counter_install();
    assert_ok(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "root", .hard_bytes = 32 * MIB)));
    assert_ok(nm_scope_open(&scope, root, NM_SCOPE_OPTIONS(.name = "scope", .hard_bytes = 16 * MIB)));
    old = NULL;
    s->before();
    nm_scope_stats before, after;
    nm_scope_get_stats(scope, &before);
    if (grant)
        nm_scope_fail_after(root, n);
    else
        os_counter_fail_after(n);
    void *p = s->act();
    bool came = grant ? nm_atomic_load(&root->fail_after, NM_RELAXED) == 0 : os_counter_failed();
    nm_scope_fail_after(root, 0);
    os_counter_fail_after(0);
    nm_scope_get_stats(scope, &after);
    if (p == NULL) {
        if (!came) fail_msg("%s: refused, and nobody refused", s->name);
        check_reason(grant, &after);
        if (after.granted_bytes != before.granted_bytes || after.used_bytes != before.used_bytes)
            fail_msg("%s, the %" PRIu64 "th: granted %zu -> %zu, used %zu -> %zu", s->name, n, before.granted_bytes,
                     after.granted_bytes, before.used_bytes, after.used_bytes);
        nm_scope_stats st;
        nm_scope_get_stats(root, &st);
        assert_int_equal(st.granted_bytes, os_counter_committed());
        p = s->act();
        if (p == NULL) fail_msg("%s: the next call is refused too", s->name);
    }
    nm_scope_get_stats(scope, &after);
    assert_true(after.used_bytes > before.used_bytes);
    nm_leak_report report;
    size_t leaks = nm_scope_close(scope, &report);
    assert_int_equal(report.leaked_bytes, after.used_bytes);
    assert_true(leaks >= 1);
    assert_int_equal(nm_scope_close(root, NULL), 0);
    assert_true(os_counter_remove());
    return came;
}

static void run_all(bool grant) {
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        uint64_t n = 1;
        while (try_with(&scenarios[i], grant, n)) assert_true(++n < 100);
        print_message("  %-40s %" PRIu64 " %s refused\n", scenarios[i].name, n - 1, grant ? "grants" : "system calls");
        if (grant && n == 1) fail_msg("%s asks for nothing: it tests nothing", scenarios[i].name);
    }
}

static void every_grant_refused(void **state) {
    (void)state;
    run_all(true);
}
static void every_system_call_refused(void **state) {
    (void)state;
    run_all(false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_grant_refused),
        cmocka_unit_test(every_system_call_refused),
    };
    return cmocka_run_group_tests_name("malloc_faults", tests, NULL, NULL);
}
