// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The table of call sites. */
#include "scope/sites.h"

#include <pthread.h>

#include "os_counter.h"
#include "scope/scope_internal.h"
#include "testing.h"

static nm_scope *root;

static int open_root(void **state) {
    (void)state;
    os_counter_install();
    return nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.hard_bytes = 1 << 20)) == NM_OK ? 0 : -1;
}
static int close_root(void **state) {
    (void)state;
    nm_scope_stats stats;
    nm_scope_get_stats(root, &stats);
    bool counted = stats.granted_bytes == os_counter_committed();
    bool adds_up = stats.granted_bytes == stats.own_bytes + stats.idle_bytes;
    size_t leaks = nm_scope_close(root, NULL);
    return counted && adds_up && leaks == 0 && os_counter_remove() ? 0 : -1;
}

static void without_a_note_there_is_no_site_and_no_table(void **state) {
    (void)state;
    nm__site_count top[3];
    assert_int_equal(nm__sites_top(root, top, 3), 0);
    assert_int_equal(nm__sites_top(root, NULL, 0), 0);
    assert_null(root->root->sites.table);
}

static void sums_by_site_come_in_the_order_of_their_bytes(void **state) {
    (void)state;
    char same[] = "b.c:2"; /* the same text at another address */
    nm__sites_note(root, "a.c:1", 1, 100);
    nm__sites_note(root, "b.c:2", 2, 1000);
    nm__sites_note(root, same, 3, 10000);
    nm__sites_note(root, "c.c:3", 1, 500);
    nm__sites_note(root, NULL, 1, 1);
    nm__site_count top[5];
    assert_int_equal(nm__sites_top(root, top, 5), 4);
    static const char *const names[] = {"b.c:2", "c.c:3", "a.c:1", "?"};
    static const uint64_t counts[] = {5, 1, 1, 1}, bytes[] = {11000, 500, 100, 1};
    for (int i = 0; i < 4; i++) {
        assert_string_equal(top[i].site, names[i]);
        assert_int_equal(top[i].count, counts[i]);
        assert_int_equal(top[i].bytes, bytes[i]);
    }
    memset(top, 0xee, sizeof top);
    assert_int_equal(nm__sites_top(root, top, 1), 4);
    assert_string_equal(top[0].site, "b.c:2");
    assert_int_equal(top[1].bytes, UINT64_C(0xeeeeeeeeeeeeeeee)); /* not touched */
}

static void a_full_table_counts_the_rest_together(void **state) {
    (void)state;
    static char names[2000][16];
    for (int i = 0; i < 2000; i++) {
        snprintf(names[i], sizeof names[i], "f.c:%d", i);
        nm__sites_note(root, names[i], 1, 10);
    }
    static nm__site_count top[2001];
    size_t n = nm__sites_top(root, top, 2001);
    assert_true(n > 300 && n <= 513);
    uint64_t count = 0, bytes = 0;
    for (size_t i = 0; i < n; i++) {
        count += top[i].count;
        bytes += top[i].bytes;
    }
    assert_int_equal(count, 2000);
    assert_int_equal(bytes, 20000);
    assert_string_equal(top[0].site, "(other)");
}

static void where_the_table_is_refused_all_counts_together_and_it_is_tried_again(void **state) {
    (void)state;
    assert_ok(
        nm_scope_set_budget(root, 0, nm__granted(root) < NM_ROOT_MIN_BYTES ? NM_ROOT_MIN_BYTES : nm__granted(root)));
    os_counter_fail_after(1);
    nm__sites_note(root, "a.c:1", 1, 100);
    assert_true(os_counter_failed());
    os_counter_fail_after(0);
    nm__site_count top[2];
    assert_int_equal(nm__sites_top(root, top, 2), 1);
    assert_string_equal(top[0].site, "(other)");
    assert_int_equal(top[0].bytes, 100);
    for (int i = 0; i < 1024; i++) nm__sites_note(root, "a.c:1", 1, 100);
    assert_int_equal(nm__sites_top(root, top, 2), 2);
    assert_int_equal(top[0].bytes + top[1].bytes, 102500);
}

static void *note_many(void *arg) {
    static const char *const names[] = {"a.c:1", "b.c:2", "c.c:3", "d.c:4", "e.c:5"};
    for (unsigned i = 0; i < 20000; i++) nm__sites_note(arg, names[i % 5], 1, i % 5);
    return NULL;
}

static void threads_count_into_the_same_rows(void **state) {
    (void)state;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, note_many, root), 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    nm__site_count top[8];
    size_t n = nm__sites_top(root, top, 8);
    uint64_t count = 0, bytes = 0;
    for (size_t i = 0; i < n; i++) {
        count += top[i].count;
        bytes += top[i].bytes;
    }
    assert_in_range(n, 5, 6); /* "(other)": a note while another thread was making the table */
    assert_int_equal(count, 80000);
    assert_int_equal(bytes, 4 * 20000 / 5 * (0 + 1 + 2 + 3 + 4));
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, open_root, close_root)
    const struct CMUnitTest tests[] = {
        T(without_a_note_there_is_no_site_and_no_table),
        T(sums_by_site_come_in_the_order_of_their_bytes),
        T(a_full_table_counts_the_rest_together),
        T(where_the_table_is_refused_all_counts_together_and_it_is_tried_again),
        T(threads_count_into_the_same_rows),
    };
    return cmocka_run_group_tests_name("sites", tests, NULL, NULL);
}
