// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Every wrong use of a pool that is promised to be caught, with its stated outcome: the handler is told what, where
 * leased and where released; if it returns, nothing has happened. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "check/check.h"
#include "hand.h"
#include "nebula/memory.h"
#include "os/os.h"
#include "testing.h"

typedef struct told {
    size_t count;
    nm_misuse last;
    char name[NM_NAME_BYTES];
} told;

static void listen(const nm_misuse *misuse, void *context) {
    told *t = context;
    t->count++;
    t->last = *misuse;
    snprintf(t->name, sizeof t->name, "%s", misuse->name != NULL ? misuse->name : "(null)");
}

typedef struct fixture {
    nm_scope *root, *scope;
    nm_pool *pool; /* "rx", 3 buffers of 1000 bytes */
    told told;
} fixture;

static int set_up(void **state) {
    static fixture f;
    memset(&f, 0, sizeof f);
    *state = &f;
    nm_set_misuse_handler(listen, &f.told);
    if (nm_scope_open(&f.root, NULL, NULL) != NM_OK || nm_scope_open(&f.scope, f.root, NULL) != NM_OK) return -1;
    return nm_pool_open(&f.pool, f.scope, NM_POOL_OPTIONS(.chunk_bytes = 1000, .max_count = 3, .name = "rx")) == NM_OK
               ? 0
               : -1;
}

static int tear_down(void **state) {
    fixture *f = *state;
    nm_set_misuse_handler(NULL, NULL);
    nm__os_replace(NULL);
    if (f->pool != NULL && nm_pool_close(f->pool) != NM_OK) return -1;
    if (f->scope != NULL) nm_scope_close(f->scope, NULL);
    return nm_scope_close(f->root, NULL) == 0 ? 0 : -1;
}

static void check_told(fixture *f, size_t count, const char *what, const void *address, const char *site) {
    assert_int_equal(f->told.count, count);
    assert_string_equal(f->told.last.what, what);
    assert_string_equal(f->told.last.part, "pool");
    assert_ptr_equal(f->told.last.address, address);
    assert_string_equal(f->told.last.site, site);
}

/* The pool works and hands out each of its buffers once. */
static void check_whole(nm_pool *pool, size_t count) {
    nm_lease leases[8], refused;
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(nm_pool_try_lease(pool, &leases[i]), NM_OK);
        for (size_t k = 0; k < i; k++) assert_ptr_not_equal(leases[i].data, leases[k].data);
    }
    assert_int_equal(nm_pool_try_lease(pool, &refused), NM_ECAPACITY);
    for (size_t i = 0; i < count; i++) nm_lease_release(&leases[i]);
}

/* ---- leases ------------------------------------------------------------------------------------------------------ */

static void a_copy_released_after_the_lease_is_told_with_both_sites(void **state) {
    fixture *f = *state;
    nm_lease lease = nm_pool_lease_at(f->pool, "lease.c:1"), copy = lease;
    nm_lease_release_at(&lease, "release.c:2");
    nm_lease_release(&lease); /* emptied: ignored, no misuse */
    assert_int_equal(f->told.count, 0);
    nm_lease_release_at(&copy, "again.c:3");
    check_told(f, 1, "lease released twice", copy.data, "again.c:3");
    assert_string_equal(f->told.name, "rx");
    assert_string_equal(f->told.last.leased_at, "lease.c:1");
    assert_string_equal(f->told.last.released_at, "release.c:2");
    check_whole(f->pool, 3);
}

static void a_copy_released_after_its_buffer_was_leased_again_takes_it_from_nobody(void **state) {
    fixture *f = *state;
    nm_lease lease = nm_pool_lease(f->pool), copy = lease;
    nm_lease_release(&lease);
    nm_lease next = nm_pool_lease_at(f->pool, "next.c:1");
    assert_ptr_equal(next.data, copy.data);
    nm_lease_release_at(&copy, "again.c:2");
    check_told(f, 1, "lease released twice", next.data, "again.c:2");
    assert_string_equal(f->told.last.leased_at, "next.c:1");
    nm_pool_stats stats;
    nm_pool_get_stats(f->pool, &stats);
    assert_int_equal(stats.leased_count, 1);
    nm_lease_release(&next);
    assert_int_equal(f->told.count, 1);
    check_whole(f->pool, 3);
}

static void a_scoped_lease_released_through_a_copy_is_told_at_the_end_of_its_block(void **state) {
    fixture *f = *state;
    {
        NM_LEASE_SCOPED(lease, f->pool);
        nm_lease copy = lease;
        nm_lease_release(&copy);
        assert_int_equal(f->told.count, 0);
    }
    assert_int_equal(f->told.count, 1);
    assert_string_equal(f->told.last.site, "end of NM_LEASE_SCOPED");
    check_whole(f->pool, 3);
}

static void a_lease_released_after_the_scope_that_held_it_closed(void **state) {
    fixture *f = *state;
    nm_scope *request;
    nm_lease lease;
    assert_int_equal(nm_scope_open(&request, f->root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)), NM_OK);
    assert_int_equal(nm_pool_lease_in_at(f->pool, request, &lease, "lease.c:1"), NM_OK);
    assert_int_equal(nm_scope_close_at(request, NULL, 0, "close.c:2"), 0);
    nm_lease_release_at(&lease, "late.c:3");
    check_told(f, 1, "lease released twice", lease.data, "late.c:3");
    assert_string_equal(f->told.last.leased_at, "lease.c:1");
    assert_string_equal(f->told.last.released_at, "close.c:2");
    check_whole(f->pool, 3);
}

static void a_lease_released_after_its_pool_closed(void **state) {
    fixture *f = *state;
    nm_lease lease = nm_pool_lease_at(f->pool, "lease.c:1"), copy = lease;
    nm_lease_release_at(&lease, "release.c:2");
    assert_int_equal(nm_pool_close(f->pool), NM_OK);
    f->pool = NULL;
    nm_lease_release_at(&copy, "late.c:3");
    check_told(f, 1, "lease released after its pool was closed", copy.data, "late.c:3");
    assert_string_equal(f->told.last.leased_at, "lease.c:1");
    assert_string_equal(f->told.last.released_at, "release.c:2");
}

static void a_lease_released_after_the_scope_of_its_pool_closed(void **state) {
    fixture *f = *state;
    nm_lease lease = nm_pool_lease_at(f->pool, "lease.c:1");
    assert_int_equal(nm_scope_close_at(f->scope, NULL, 0, "close.c:2"), 1);
    f->scope = NULL, f->pool = NULL;
    nm_lease_release_at(&lease, "late.c:3");
    check_told(f, 1, "lease released after its pool was closed", lease.data, "late.c:3");
    assert_string_equal(f->told.last.leased_at, "lease.c:1");
    assert_string_equal(f->told.last.released_at, "close.c:2");
}

static void a_lease_released_after_another_pool_took_over_its_slot(void **state) {
    fixture *f = *state;
    nm_lease lease = nm_pool_lease(f->pool), copy = lease;
    nm_lease_release(&lease);
    assert_int_equal(nm_pool_close(f->pool), NM_OK);
    assert_int_equal(nm_pool_open(&f->pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 5000, .max_count = 2)), NM_OK);
    nm_lease other = nm_pool_lease(f->pool);
    assert_ptr_equal(other.slot, copy.slot);
    nm_lease_release(&copy);
    assert_int_equal(f->told.count, 1);
    nm_lease_release(&other);
    assert_int_equal(f->told.count, 1);
    check_whole(f->pool, 2);
}

static void the_buffers_of_a_closed_pool_never_pass_for_those_of_the_next(void **state) {
    fixture *f = *state;
    nm_lease copies[20];
    for (size_t i = 0; i < 20; i++) { /* generations go on, whoever has the slot */
        nm_lease lease = nm_pool_lease(f->pool);
        copies[i] = lease;
        nm_lease_release(&lease);
        assert_int_equal(nm_pool_close(f->pool), NM_OK);
        assert_int_equal(nm_pool_open(&f->pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 1000, .max_count = 3)), NM_OK);
    }
    nm_lease held = nm_pool_lease(f->pool);
    for (size_t i = 0; i < 20; i++) nm_lease_release(&copies[i]);
    assert_int_equal(f->told.count, 20);
    nm_lease_release(&held);
    assert_int_equal(f->told.count, 20);
    check_whole(f->pool, 3);
}

/* ---- addresses --------------------------------------------------------------------------------------------------- */

static void an_address_that_is_not_a_leased_buffer_of_the_pool(void **state) {
    fixture *f = *state;
    nm_pool *other;
    assert_int_equal(nm_pool_open(&other, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 1000, .name = "tx")), NM_OK);
    nm_lease mine = nm_pool_lease_at(f->pool, "mine.c:1"), theirs = nm_pool_lease(other);
    char local = 0;
    size_t count = 0;
    void *const foreign[] = {&local,
                             theirs.data,
                             (char *)mine.data - 1,
                             (void *)(uintptr_t)1,
                             (void *)UINTPTR_MAX,
                             (char *)mine.data + ((size_t)1 << 30),
                             (void *)(UINTPTR_MAX / 2 + 1)};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        nm_pool_release_data_at(f->pool, foreign[i], "wrong.c:2");
        check_told(f, ++count, "foreign address", foreign[i], "wrong.c:2");
        assert_string_equal(f->told.name, "rx");
    }
    for (size_t inside = 1; inside < 1024; inside += 93) {
        nm_pool_release_data_at(f->pool, (char *)mine.data + inside, "wrong.c:3");
        check_told(f, ++count, "address inside a buffer", (char *)mine.data + inside, "wrong.c:3");
        assert_string_equal(f->told.last.leased_at, "mine.c:1");
    }
    nm_pool_stats stats;
    nm_pool_get_stats(f->pool, &stats);
    assert_int_equal(stats.leased_count, 1);
    nm_lease_release(&mine);
    nm_lease_release(&theirs);
    assert_int_equal(f->told.count, count);
    assert_int_equal(nm_pool_close(other), NM_OK);
    check_whole(f->pool, 3);
}

static void an_address_released_twice(void **state) {
    fixture *f = *state;
    nm_lease lease = nm_pool_lease_at(f->pool, "lease.c:1");
    void *data = lease.data;
    nm_pool_release_data_at(f->pool, data, "release.c:2");
    nm_pool_release_data_at(f->pool, data, "again.c:3");
    check_told(f, 1, "buffer is not leased", data, "again.c:3");
    assert_string_equal(f->told.name, "rx");
    assert_string_equal(f->told.last.leased_at, "lease.c:1");
    assert_string_equal(f->told.last.released_at, "release.c:2");
    nm_lease_release(&lease); /* the lease of which the address was released */
    check_told(f, 2, "lease released twice", data, f->told.last.site);
    check_whole(f->pool, 3);
}

static void an_address_whose_memory_was_given_back(void **state) {
    fixture *f = *state;
    nm_lease lease = nm_pool_lease(f->pool);
    void *data = lease.data;
    nm_lease_release(&lease);
    assert_true(nm_pool_trim(f->pool, 0) > 0);
    nm_pool_release_data(f->pool, data);
    check_told(f, 1, "buffer is not leased", data, f->told.last.site);
    check_whole(f->pool, 3);
}

/* ---- magazines --------------------------------------------------------------------------------------------------- */

/* A pool from which this thread leases through a magazine. */
static nm_pool *pool_with_magazine(fixture *f) {
    nm_pool *pool;
    nm_pool_stats stats;
    assert_ok(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 1000, .max_count = 256, .name = "tx")));
    for (int i = 0; i < 20; i++) {
        nm_lease lease = nm_pool_lease(pool);
        assert_true(nm_lease_ok(lease));
        nm_lease_release(&lease);
    }
    nm_pool_get_stats(pool, &stats);
    if (!nm__check_active()) assert_true(stats.front_count > 0);
    return pool;
}

static void a_copy_of_a_lease_from_a_magazine_released_before_and_after_its_buffer_is_leased_again(void **state) {
    fixture *f = *state;
    nm_pool *pool = pool_with_magazine(f);
    nm_lease lease = nm_pool_lease_at(pool, "lease.c:1"), copy = lease, again = lease;
    nm_lease_release_at(&lease, "release.c:2");
    nm_lease_release_at(&copy, "early.c:3");
    check_told(f, 1, "lease released twice", again.data, "early.c:3");
    assert_string_equal(f->told.name, "tx");
    assert_string_equal(f->told.last.leased_at, "lease.c:1");
    assert_string_equal(f->told.last.released_at, "release.c:2");
    nm_lease next = nm_pool_lease_at(pool, "next.c:4");
    assert_ptr_equal(next.data, again.data);
    nm_lease_release_at(&again, "late.c:5");
    check_told(f, 2, "lease released twice", next.data, "late.c:5");
    assert_string_equal(f->told.last.leased_at, "next.c:4");
    assert_int_not_equal(nm_lease_index(&next), UINT32_MAX); /* still out */
    nm_lease_release(&next);
    assert_int_equal(f->told.count, 2);
    assert_ok(nm_pool_close(pool));
    assert_int_equal(f->told.count, 2);
}

/* ---- shares ------------------------------------------------------------------------------------------------------ */

static void one_holder_of_a_shared_buffer_released_twice_is_told_and_the_others_keep_it(void **state) {
    fixture *f = *state;
    nm_pool *pools[] = {f->pool, pool_with_magazine(f)};
    size_t count = 0;
    for (size_t p = 0; p < 2; p++)
        for (int which = 0; which < 3; which++) {
            nm_lease h[3];
            nm_pool_stats stats;
            h[0] = nm_pool_lease_at(pools[p], "lease.c:1");
            assert_ok(nm_lease_share_at(&h[0], &h[1], "share.c:1"));
            assert_ok(nm_lease_slice_at(&h[1], 10, 5, &h[2], "slice.c:1"));
            nm_lease copy = h[which], again = h[which];
            nm_lease_release_at(&h[which], "release.c:2");
            nm_lease_release_at(&copy, "again.c:3");
            check_told(f, ++count, "lease released twice", again.data, "again.c:3");
            static const char *const leased_at[] = {"lease.c:1", "share.c:1", "slice.c:1"};
            assert_string_equal(f->told.last.leased_at, leased_at[which]);
            assert_string_equal(f->told.last.released_at, "release.c:2");
            nm_pool_get_stats(pools[p], &stats);
            assert_int_equal(stats.leased_count, 1);
            for (int i = 0; i < 3; i++) nm_lease_release(&h[i]); /* the empty one is ignored */
            nm_pool_get_stats(pools[p], &stats);
            assert_int_equal(stats.leased_count, 0);
            assert_int_equal(f->told.count, count);
            nm_lease_release_at(&again, "late.c:4");
            check_told(f, ++count, "lease released twice", again.data, "late.c:4");
        }
    assert_ok(nm_pool_close(pools[1]));
    check_whole(f->pool, 3);
}

static void a_share_of_a_released_lease_is_told_and_is_no_lease(void **state) {
    fixture *f = *state;
    nm_lease lease = nm_pool_lease_at(f->pool, "lease.c:1"), copy = lease, share = lease;
    nm_lease_release_at(&lease, "release.c:2");
    assert_status(nm_lease_share_at(&copy, &share, "share.c:3"), NM_ESTALE);
    assert_false(nm_lease_ok(share));
    check_told(f, 1, "share of a lease that is not out", copy.data, "share.c:3");
    assert_string_equal(f->told.last.leased_at, "lease.c:1");
    assert_string_equal(f->told.last.released_at, "release.c:2");
    nm_lease next = nm_pool_lease(f->pool); /* and when somebody else has the buffer */
    assert_ptr_equal(next.data, copy.data);
    assert_status(nm_lease_slice_at(&copy, 1, 2, &share, "slice.c:4"), NM_ESTALE);
    check_told(f, 2, "share of a lease that is not out", copy.data, "slice.c:4");
    nm_pool_stats stats;
    nm_pool_get_stats(f->pool, &stats);
    assert_int_equal(stats.shared_count, 0);
    nm_lease_release(&next);
    check_whole(f->pool, 3);
}

static void a_share_released_after_its_pool_or_the_scope_of_its_pool_closed(void **state) {
    fixture *f = *state;
    nm_lease lease = nm_pool_lease_at(f->pool, "lease.c:1"), share, out;
    assert_ok(nm_lease_share_at(&lease, &share, "share.c:2"));
    nm_lease copy = share;
    nm_lease_release_at(&share, "release.c:3");
    nm_lease_release(&lease);
    assert_ok(nm_pool_close(f->pool));
    f->pool = NULL;
    nm_lease_release_at(&copy, "late.c:4");
    check_told(f, 1, "lease released after its pool was closed", copy.data, "late.c:4");
    assert_string_equal(f->told.last.leased_at, "share.c:2");
    assert_string_equal(f->told.last.released_at, "release.c:3");
    assert_status(nm_lease_share(&copy, &out), NM_ESTALE);
    assert_int_equal(f->told.count, 2);

    nm_pool *pool;
    assert_ok(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 1000)));
    lease = nm_pool_lease_at(pool, "lease.c:5");
    assert_ok(nm_lease_share_at(&lease, &share, "share.c:6"));
    assert_int_equal(nm_scope_close_at(f->scope, NULL, 0, "close.c:7"), 2);
    f->scope = NULL;
    nm_lease_release_at(&share, "late.c:8");
    check_told(f, 3, "lease released after its pool was closed", share.data, "late.c:8");
    assert_string_equal(f->told.last.leased_at, "share.c:6");
    assert_string_equal(f->told.last.released_at, "close.c:7");
    nm_lease_release_at(&lease, "late.c:9");
    check_told(f, 4, "lease released after its pool was closed", lease.data, "late.c:9");
}

static void the_address_of_a_buffer_of_which_only_shares_are_out(void **state) {
    fixture *f = *state;
    nm_lease lease = nm_pool_lease_at(f->pool, "lease.c:1"), share;
    assert_ok(nm_lease_share(&lease, &share));
    nm_lease_release_at(&lease, "release.c:2");
    nm_pool_release_data_at(f->pool, share.data, "again.c:3");
    check_told(f, 1, "buffer is not leased", share.data, "again.c:3");
    assert_string_equal(f->told.last.leased_at, "lease.c:1");
    assert_string_equal(f->told.last.released_at, "release.c:2");
    nm_lease_release(&share);
    assert_int_equal(f->told.count, 1);
    check_whole(f->pool, 3);
}

/* ---- scopes ------------------------------------------------------------------------------------------------------ */

static void a_lease_that_a_scope_holds_released_by_hand_and_again(void **state) {
    fixture *f = *state;
    nm_scope *request;
    nm_lease lease;
    assert_ok(nm_scope_open(&request, f->root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)));
    assert_ok(nm_pool_lease_in_at(f->pool, request, &lease, "lease.c:1"));
    nm_lease copy = lease, late = lease;
    nm_lease_release_at(&lease, "release.c:2");
    nm_lease_release_at(&copy, "again.c:3");
    check_told(f, 1, "lease released twice", late.data, "again.c:3");
    assert_string_equal(f->told.last.leased_at, "lease.c:1");
    assert_string_equal(f->told.last.released_at, "release.c:2");
    nm_lease next = nm_pool_lease(f->pool);
    assert_ptr_equal(next.data, late.data);
    assert_int_equal(nm_scope_close(request, NULL), 0); /* it holds nothing any more, whoever has the buffer */
    assert_int_equal(f->told.count, 1);
    nm_lease_release_at(&late, "late.c:4");
    check_told(f, 2, "lease released twice", late.data, "late.c:4");
    nm_lease_release(&next);
    check_whole(f->pool, 3);
}

static uint64_t passed_ms;
static uint64_t clock_that_is_put_forward(void) { return nm__os_system.clock_coarse_ms() + passed_ms; }

/* Leases of each site, the oldest in the buffers that were made last. */
static void close_with_leases_out(fixture *f, nm_pool *pool, size_t each) {
    static const char *const sites[] = {"oldest.c:1", "middle.c:2", "youngest.c:3"};
    nm_scope_stats before, after;
    nm_leak_report report;
    nm_lease leases[3 * 80], refused = {0};
    size_t count = 3 * each;
    assert_int_equal(nm_pool_lease_many(pool, leases, count), count);
    nm_lease_release_many(leases, count);
    for (size_t i = 0; i < count; i++) {
        passed_ms += 1000;
        leases[i] = nm_pool_lease_at(pool, sites[i / each]);
        assert_true(nm_lease_ok(leases[i]));
    }
    nm_scope_get_stats(f->scope, &before);
    assert_status(nm_pool_close(pool), NM_EBUSY);
    nm_scope_get_stats(f->scope, &after);
    assert_int_equal(before.granted_bytes, after.granted_bytes);
    /* it goes on as if it had not been asked */
    nm_lease_release(&leases[count - 1]);
    assert_ok(nm_pool_try_lease_at(pool, &leases[count - 1], sites[2]));
    if (pool == f->pool) assert_status(nm_pool_try_lease(pool, &refused), NM_ECAPACITY);
    assert_int_equal(nm_scope_close_at(f->scope, &report, sizeof report, "close.c:4"), count);
    f->scope = NULL;
    f->pool = NULL;
    assert_int_equal(report.site_count, 3);
    assert_int_equal(f->told.count, 0); /* leaks are no misuse */
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(report.sites[i].site, sites[i]);
        assert_int_equal(report.sites[i].count, each);
    }
    for (size_t i = 0; i < count; i++) {
        nm_lease_release_at(&leases[i], "late.c:5");
        check_told(f, i + 1, "lease released after its pool was closed", f->told.last.address, "late.c:5");
        assert_string_equal(f->told.last.leased_at, sites[i / each]);
        assert_string_equal(f->told.last.released_at, "close.c:4");
    }
}

static void close_with_leases_out_is_refused_and_the_scopes_close_reports_them_oldest_first(void **state) {
    fixture *f = *state;
    static nm__os table;
    table = nm__os_system;
    table.clock_coarse_ms = clock_that_is_put_forward;
    nm__os_replace(&table);
    close_with_leases_out(f, f->pool, 1);
    f->told = (told){0};
    assert_ok(nm_scope_open(&f->scope, f->root, NULL));
    close_with_leases_out(f, pool_with_magazine(f), 80);
    nm__os_replace(NULL);
}

/* ---- without a handler ------------------------------------------------------------------------------------------- */

/* Runs the misuse in a child and returns how it ended; what it wrote to standard error is in `text`. */
static int in_child(fixture *f, void (*misuse)(fixture *), char *text, size_t bytes) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        nm_set_misuse_handler(NULL, NULL);
        misuse(f);
        _exit(0);
    }
    close(ends[1]);
    size_t length = 0;
    ssize_t got;
    while (length + 1 < bytes && (got = read(ends[0], text + length, bytes - 1 - length)) > 0) length += (size_t)got;
    text[length] = 0;
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void release_twice(fixture *f) {
    nm_lease lease = nm_pool_lease_at(f->pool, "lease.c:111"), copy = lease;
    nm_lease_release_at(&lease, "release.c:222");
    nm_lease_release_at(&copy, "again.c:333");
}

static void release_foreign(fixture *f) { nm_pool_release_data_at(f->pool, f, "foreign.c:444"); }

static void release_once(fixture *f) {
    nm_lease lease = nm_pool_lease(f->pool);
    nm_lease_release(&lease);
}

static void without_a_handler_misuse_prints_all_sites_and_aborts(void **state) {
    fixture *f = *state;
    char text[4096];
    int status = in_child(f, release_twice, text, sizeof text);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "lease released twice"));
    assert_non_null(strstr(text, "\"rx\""));
    assert_non_null(strstr(text, "lease.c:111"));
    assert_non_null(strstr(text, "release.c:222"));
    assert_non_null(strstr(text, "again.c:333"));
    status = in_child(f, release_foreign, text, sizeof text);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "foreign address"));
    assert_non_null(strstr(text, "foreign.c:444"));
    status = in_child(f, release_once, text, sizeof text);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_string_equal(text, "");
}

/* ---- under a checker --------------------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif

static void write_after_release(fixture *f) {
    nm_lease lease = nm_pool_lease(f->pool);
    volatile char *p = lease.data;
    nm_lease_release(&lease);
    p[999] = 1;
}

static void write_past_the_end(fixture *f) {
    nm_lease lease = nm_pool_lease(f->pool);
    volatile char *p = lease.data;
    p[lease.size] = 1;
}

static void write_to_a_buffer_never_leased(fixture *f) {
    nm_lease lease = nm_pool_lease(f->pool);
    volatile char *p = lease.data;
    p[1024] = 1;
}

static void write_after_trim_and_growth(fixture *f) {
    release_once(f);
    nm_pool_trim(f->pool, 0);
    write_after_release(f);
}

static void the_address_sanitizer_sees_use_of_buffers_that_are_not_leased(void **state) {
    fixture *f = *state;
    if (!UNDER_ASAN) skip();
    static void (*const wrong[])(fixture *) = {write_after_release, write_past_the_end, write_to_a_buffer_never_leased,
                                               write_after_trim_and_growth};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char text[16384];
        int status = in_child(f, wrong[i], text, sizeof text);
        assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        assert_non_null(strstr(text, "use-after-poison"));
    }
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_copy_released_after_the_lease_is_told_with_both_sites),
        T(a_copy_released_after_its_buffer_was_leased_again_takes_it_from_nobody),
        T(a_scoped_lease_released_through_a_copy_is_told_at_the_end_of_its_block),
        T(a_lease_released_after_the_scope_that_held_it_closed),
        T(a_lease_released_after_its_pool_closed),
        T(a_lease_released_after_the_scope_of_its_pool_closed),
        T(a_lease_released_after_another_pool_took_over_its_slot),
        T(the_buffers_of_a_closed_pool_never_pass_for_those_of_the_next),
        T(an_address_that_is_not_a_leased_buffer_of_the_pool),
        T(an_address_released_twice),
        T(an_address_whose_memory_was_given_back),
        T(a_copy_of_a_lease_from_a_magazine_released_before_and_after_its_buffer_is_leased_again),
        T(one_holder_of_a_shared_buffer_released_twice_is_told_and_the_others_keep_it),
        T(a_share_of_a_released_lease_is_told_and_is_no_lease),
        T(a_share_released_after_its_pool_or_the_scope_of_its_pool_closed),
        T(the_address_of_a_buffer_of_which_only_shares_are_out),
        T(a_lease_that_a_scope_holds_released_by_hand_and_again),
        T(close_with_leases_out_is_refused_and_the_scopes_close_reports_them_oldest_first),
        T(without_a_handler_misuse_prints_all_sites_and_aborts),
        T(the_address_sanitizer_sees_use_of_buffers_that_are_not_leased),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
