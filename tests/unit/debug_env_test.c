// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The words of NM_DEBUG, and what a root takes from the environment. */
#include "check/debug_env.h"
#include "scope/holder.h"
#include "testing.h"

static void reads(const char *text, unsigned flags, size_t sample_bytes, uint64_t fail_after) {
    nm__debug_env env = nm__debug_parse(text);
    if (env.flags != flags || env.sample_bytes != sample_bytes || env.fail_after != fail_after)
        fail_msg("\"%s\": flags %u, sample %zu, fail %" PRIu64, text, env.flags, env.sample_bytes, env.fail_after);
}

static void words_that_it_knows(void **state) {
    (void)state;
    reads(NULL, 0, 0, 0);
    reads("", 0, 0, 0);
    reads("trace", NM_DEBUG_TRACE, 0, 0);
    reads("fill", NM_DEBUG_FILL, 0, 0);
    reads("quarantine", NM_DEBUG_QUARANTINE, 0, 0);
    reads("guard", NM_DEBUG_GUARD, 0, 0);
    reads("quarantine,guard", NM_DEBUG_QUARANTINE | NM_DEBUG_GUARD, 0, 0);
    reads("trace,sample=512KiB,fill,quarantine,guard,fail=7", NM__DEBUG_ALL, 512 << 10, 7);
    reads("sample=1", 0, 1, 0);
    reads("sample=12B", 0, 12, 0);
    reads("sample=3MiB", 0, 3 << 20, 0);
    reads("sample=2GiB", 0, (size_t)2 << 30, 0);
    reads("fail=18446744073709551615", 0, 0, UINT64_MAX);
    reads("fail=1,fail=2", 0, 0, 2);
}

static void words_that_it_does_not_know_are_passed_over_and_the_rest_is_read(void **state) {
    (void)state;
    reads(",,", 0, 0, 0);
    reads("traces,guard,trac", NM_DEBUG_GUARD, 0, 0);
    reads(" trace,fill ", 0, 0, 0);
    reads("TRACE,guard", NM_DEBUG_GUARD, 0, 0);
    reads("sample,guard,fail", NM_DEBUG_GUARD, 0, 0);
    reads("sample=,fail=,guard", NM_DEBUG_GUARD, 0, 0);
    reads("sample=x,fail=x", 0, 0, 0);
    reads("sample=12kb,fail=3x", 0, 0, 0);
    reads("sample=-1,fail=-1", 0, 0, 0);
    reads("sample=18446744073709551616,fail=18446744073709551616", 0, 0, 0);
    reads("sample=18446744073709551615,trace", NM_DEBUG_TRACE, 0, 0);
    reads("sample=99999999999GiB", 0, 0, 0);
}

static void a_root_takes_it_from_the_environment_and_scopes_from_their_parents(void **state) {
    (void)state;
    const char *before = getenv("NM_DEBUG");
    char *kept = before != NULL ? strdup(before) : NULL;
    assert_int_equal(setenv("NM_DEBUG", "guard,nonsense,sample=64KiB,fail=3", 1), 0);
    nm_scope *root, *child, *other;
    assert_ok(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.debug = NM_DEBUG_TRACE)));
    assert_int_equal(nm__debug(root), NM_DEBUG_TRACE | NM_DEBUG_GUARD);
    assert_int_equal(nm__sample_bytes(root), 64 << 10);
    assert_ok(nm_scope_open(&child, root, NM_SCOPE_OPTIONS(.debug = NM_DEBUG_FILL, .sample_bytes = 99)));
    assert_int_equal(nm__debug(child), NM_DEBUG_TRACE | NM_DEBUG_GUARD | NM_DEBUG_FILL);
    assert_int_equal(nm__sample_bytes(child), 128); /* the next power of two */
    assert_ok(nm_scope_open(&other, root, NULL));
    assert_status(nm_scope_open(&other, root, NULL), NM_EBUDGET); /* the third */
    assert_ok(nm_scope_open(&other, root, NULL));
    assert_int_equal(nm__sample_bytes(other), 64 << 10);
    assert_int_equal(nm_scope_close(root, NULL), 3);
    if (kept != NULL)
        setenv("NM_DEBUG", kept, 1);
    else
        unsetenv("NM_DEBUG");
    free(kept);
    nm_scope *quiet;
    assert_ok(nm_scope_open(&quiet, NULL, NULL));
    if (before == NULL) assert_int_equal(nm__debug(quiet), 0);
    assert_int_equal(nm_scope_close(quiet, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_that_it_knows),
        cmocka_unit_test(words_that_it_does_not_know_are_passed_over_and_the_rest_is_read),
        cmocka_unit_test(a_root_takes_it_from_the_environment_and_scopes_from_their_parents),
    };
    return cmocka_run_group_tests_name("debug_env", tests, NULL, NULL);
}
