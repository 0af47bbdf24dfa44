// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the pool's tests share: a scope of its own for each test, whose grants are its pools' alone, and which ends without any;
 * things for a hand to do with a pool. */
#ifndef NM_TESTS_SUPPORT_POOL_FIXTURE_H
#define NM_TESTS_SUPPORT_POOL_FIXTURE_H

#include "base/atomic.h"
#include "check/check.h"
#include "hand.h"
#include "nebula/pool.h"
#include "os/os.h"
#include "testing.h"

#define PAGE         NM__PAGE_BYTES
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

typedef struct fixture {
    nm_scope *root, *scope;
} fixture;

/* without what lies ready for the next request */
static inline size_t granted(const nm_scope *scope) {
    nm_scope_stats stats;
    nm_scope_get_stats(scope, &stats);
    return stats.granted_bytes - stats.credit_bytes;
}

static inline int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    if (f == NULL || nm_scope_open(&f->root, NULL, NM_SCOPE_OPTIONS(.name = "root")) != NM_OK) return -1;
    if (nm_scope_open(&f->scope, f->root, NM_SCOPE_OPTIONS(.name = "io")) != NM_OK) return -1;
    *state = f;
    return 0;
}

static inline int tear_down(void **state) {
    fixture *f = *state;
    nm_leak_report report;
    nm__os_replace(NULL);
    bool clean = granted(f->scope) == 0;
    if (!clean) print_error("the scope is still granted %zu bytes\n", granted(f->scope));
    clean = nm_scope_close(f->scope, NULL) == 0 && clean;
    size_t leaks = nm_scope_close(f->root, &report);
    if (leaks != 0) nm_leak_report_print(&report, stderr);
    free(f);
    return clean && leaks == 0 ? 0 : -1;
}

#define POOL_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static inline nm_pool *open_pool(nm_scope *scope, const nm_pool_options *options) {
    nm_pool *pool;
    assert_ok(nm_pool_open(&pool, scope, options));
    return pool;
}

static inline nm_pool_stats stats_of(const nm_pool *pool) {
    nm_pool_stats stats;
    nm_pool_get_stats(pool, &stats);
    assert_int_equal(stats.total_count, stats.free_count + stats.leased_count);
    assert_true(stats.total_count <= stats.max_count);
    assert_true(stats.front_count <= stats.free_count);
    return stats;
}

/* Closes it; all that ever had memory must be free by then, and what it was granted go back. */
static inline void close_pool(nm_pool *pool) {
    nm_pool_stats stats = stats_of(pool);
    assert_int_equal(stats.leased_count, 0);
    assert_int_equal(stats.shared_count, 0);
    assert_int_equal(stats.waiting_count, 0);
    assert_ok(nm_pool_close(pool));
}

/* Each of `count` buffers can be leased once, no other, and written to. */
static inline void check_whole(nm_pool *pool, size_t count) {
    nm_lease *leases = calloc(count, sizeof *leases), refused;
    assert_non_null(leases);
    for (size_t i = 0; i < count; i++) {
        assert_ok(nm_pool_try_lease(pool, &leases[i]));
        memset(leases[i].data, 0, leases[i].size);
        *(char *)leases[i].data = 1;
    }
    for (size_t i = 0; i < count; i++) { /* two of the same would find it 0 */
        assert_int_equal(*(char *)leases[i].data, 1);
        *(char *)leases[i].data = 0;
    }
    assert_status(nm_pool_try_lease(pool, &refused), NM_ECAPACITY);
    nm_lease_release_many(leases, count);
    free(leases);
}

/* Threads keep buffers in front in this pool: not under a checker. */
static inline bool keeps_in_front(void) { return !nm__check_active(); }

/* ---- for a hand ---------------------------------------------------------------------------------------------------- */

/* Leases or releases so many; `failed`: how many were refused. */
typedef struct lot {
    nm_pool *pool;
    nm_lease *leases;
    size_t count, failed;
} lot;

static inline void lease_lot(void *arg) {
    lot *l = arg;
    l->failed = 0;
    for (size_t i = 0; i < l->count; i++) l->failed += nm_pool_try_lease(l->pool, &l->leases[i]) != NM_OK;
}
static inline void release_lot(void *arg) {
    lot *l = arg;
    for (size_t i = 0; i < l->count; i++) nm_lease_release(&l->leases[i]);
}

/* Uses the pool as a thread does that uses it often: it has a magazine then, where that is possible. Up to `count` at once. */
static inline void use_often(void *arg) {
    lot *l = arg;
    nm_lease leases[64];
    size_t count = l->count < COUNT(leases) ? l->count : COUNT(leases);
    l->failed = 0;
    for (int round = 0; round < 16; round++) {
        for (size_t i = 0; i < count; i++) l->failed += nm_pool_try_lease(l->pool, &leases[i]) != NM_OK;
        nm_lease_release_many(leases, count);
    }
}

static inline void release_one(void *arg) { nm_lease_release((nm_lease *)arg); }

#endif
