// SPDX-License-Identifier: Apache-2.0 OR MIT
/* One thread: opening, growth, limits, trim, scopes that hold. Every test ends with a root that holds nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "nebula/memory.h"
#include "os/os.h"

#define PAGE         NM__PAGE_BYTES
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static nm_scope *root_of(size_t hard_bytes) {
    nm_scope *root;
    assert_int_equal(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "root", .hard_bytes = hard_bytes)), NM_OK);
    return root;
}

/* without what lies ready for the next request */
static size_t granted(const nm_scope *scope) {
    nm_scope_stats stats;
    nm_scope_get_stats(scope, &stats);
    return stats.granted_bytes - stats.credit_bytes;
}

static nm_pool_stats stats_of(const nm_pool *pool) {
    nm_pool_stats stats;
    nm_pool_get_stats(pool, &stats);
    assert_int_equal(stats.total_count, stats.free_count + stats.leased_count);
    return stats;
}

/* A service scope below a root, so that "nothing left" is exact: its grants are the pool's alone. */
typedef struct fixture {
    nm_scope *root, *scope;
} fixture;

static int set_up(void **state) {
    static fixture f;
    f.root = root_of(0);
    assert_int_equal(nm_scope_open(&f.scope, f.root, NM_SCOPE_OPTIONS(.name = "io")), NM_OK);
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    nm_leak_report report;
    assert_int_equal(granted(f->scope), 0);
    if (nm_scope_close(f->root, &report) != 1) fail_msg("more than the child scope was open");
    assert_int_equal(report.sites[0].kind, NM_LEAK_SCOPE);
    return 0;
}

static void close_pool(nm_pool *pool) { assert_int_equal(nm_pool_close(pool), NM_OK); }

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static void options_out_of_range_are_refused_and_nothing_is_left(void **state) {
    fixture *f = *state;
    static const size_t big = SIZE_MAX / 2 + 1;
    const nm_pool_options bad[] = {
        {.chunk_bytes = 0},
        {.chunk_bytes = ((size_t)1 << 30) + 1},
        {.chunk_bytes = SIZE_MAX},
        {.chunk_bytes = big},
        {.chunk_bytes = 64, .align_bytes = 3},
        {.chunk_bytes = 64, .align_bytes = (size_t)4 << 20},
        {.chunk_bytes = 64, .align_bytes = SIZE_MAX},
        {.chunk_bytes = 64, .align_bytes = big},
        {.chunk_bytes = 64, .prealloc_count = 2, .max_count = 1},
        {.chunk_bytes = 64, .prealloc_count = (size_t)1 << 24},
        {.chunk_bytes = 64, .prealloc_count = SIZE_MAX},
        {.chunk_bytes = 64, .prealloc_count = big},
        {.chunk_bytes = 64, .max_count = (size_t)1 << 24},
        {.chunk_bytes = 64, .max_count = SIZE_MAX},
        {.chunk_bytes = 64, .max_count = big},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        nm_pool_options o = bad[i];
        o.struct_size = sizeof o;
        nm_pool *pool = (nm_pool *)&o;
        assert_int_equal(nm_pool_open(&pool, f->scope, &o), NM_EINVAL);
        assert_null(pool);
        assert_int_equal(granted(f->scope), 0);
    }
    nm_pool *pool;
    assert_int_equal(nm_pool_open(&pool, f->scope, NULL), NM_EINVAL); /* chunk_bytes has no default */
    assert_int_equal(nm_pool_open(&pool, NULL, NM_POOL_OPTIONS(.chunk_bytes = 64)), NM_EINVAL);
    assert_null(pool);
    assert_int_equal(nm_pool_open(NULL, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 64)), NM_EINVAL);
    nm_pool_options unsized = {.chunk_bytes = 64};
    assert_int_equal(nm_pool_open(&pool, f->scope, &unsized), NM_EINVAL);
    struct {
        nm_pool_options known;
        size_t unknown;
    } younger = {.known = {.struct_size = sizeof younger, .chunk_bytes = 64}, .unknown = 1};
    assert_int_equal(nm_pool_open(&pool, f->scope, &younger.known), NM_EINVAL);
    younger.unknown = 0;
    assert_int_equal(nm_pool_open(&pool, f->scope, &younger.known), NM_OK);
    close_pool(pool);
}

static void sizes_that_cannot_be_had_are_refused_and_nothing_is_left(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    /* 2^24 - 1 buffers of 1 GiB: more address space than there is */
    assert_int_equal(nm_pool_open(&pool, f->scope,
                                  NM_POOL_OPTIONS(.chunk_bytes = (size_t)1 << 30, .max_count = ((size_t)1 << 24) - 1)),
                     NM_ENOMEM);
    assert_null(pool);
    assert_int_equal(granted(f->scope), 0);
    assert_int_equal(
        nm_pool_open(&pool, f->scope,
                     NM_POOL_OPTIONS(.chunk_bytes = (size_t)1 << 30, .prealloc_count = ((size_t)1 << 24) - 1)),
        NM_ENOMEM);
    assert_null(pool);
    assert_int_equal(granted(f->scope), 0);
}

static void the_largest_options_open_and_lease(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    assert_int_equal(
        nm_pool_open(&pool, f->scope,
                     NM_POOL_OPTIONS(.chunk_bytes = (size_t)1 << 30, .align_bytes = (size_t)2 << 20, .max_count = 2)),
        NM_OK);
    close_pool(pool);
    assert_int_equal(
        nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 1, .max_count = ((size_t)1 << 24) - 1)), NM_OK);
    nm_lease lease = nm_pool_lease(pool);
    assert_true(nm_lease_ok(lease));
    assert_int_equal(lease.size, 1);
    *(char *)lease.data = 'x';
    assert_int_equal(stats_of(pool).max_count, ((size_t)1 << 24) - 1);
    nm_lease_release(&lease);
    close_pool(pool);
}

static void every_buffer_is_aligned_distinct_and_writable_to_its_last_byte(void **state) {
    fixture *f = *state;
    static const struct {
        size_t chunk, align, count;
    } shapes[] = {
        {1, 0, 200},      {1, 1, 130},     {64, 0, 65},       {100, 256, 70},        {192, 0, 129},
        {1500, 0, 65},    {2112, 0, 130},  {4095, 0, 66},     {4096, 0, 129},        {4097, 0, 65},
        {9000, 0, 65},    {65536, 0, 65},  {65537, 0, 20},    {4096, 4096, 65},      {100, 8192, 66},
        {5000, 16384, 9}, {1 << 20, 0, 3}, {100, 2 << 20, 3}, {3 << 20, 2 << 20, 2},
    };
    for (size_t s = 0; s < COUNT(shapes); s++) {
        nm_pool *pool;
        size_t count = shapes[s].count, chunk = shapes[s].chunk;
        nm_lease leases[200];
        assert_int_equal(
            nm_pool_open(&pool, f->scope,
                         NM_POOL_OPTIONS(.chunk_bytes = chunk, .align_bytes = shapes[s].align, .max_count = count)),
            NM_OK);
        for (int round = 0; round < 2; round++) {
            for (size_t i = 0; i < count; i++) {
                leases[i] = nm_pool_lease(pool);
                assert_true(nm_lease_ok(leases[i]));
                assert_int_equal((uintptr_t)leases[i].data % (shapes[s].align > 64 ? shapes[s].align : 64), 0);
                memset(leases[i].data, (int)i, chunk);
            }
            nm_lease refused;
            assert_int_equal(nm_pool_try_lease(pool, &refused), NM_ECAPACITY);
            assert_null(refused.data);
            assert_int_equal(stats_of(pool).leased_count, count);
            assert_int_equal(stats_of(pool).granted_bytes, granted(f->scope));
            for (size_t i = 0; i < count; i++) {
                const unsigned char *p = leases[i].data;
                assert_int_equal(p[0], (unsigned char)i);
                assert_int_equal(p[chunk - 1], (unsigned char)i);
                nm_lease_release(&leases[i]);
                assert_false(nm_lease_ok(leases[i]));
            }
            /* all of it goes and comes again */
            assert_true(nm_pool_trim(pool, 0) > 0);
            assert_int_equal(stats_of(pool).total_count, 0);
        }
        close_pool(pool);
        assert_int_equal(granted(f->scope), 0);
    }
}

static void buffers_of_whole_pages_begin_in_different_lines_where_alignment_and_size_allow(void **state) {
    fixture *f = *state;
    static const struct {
        size_t chunk, align, max, least_different; /* of 32 first lines in a page */
    } shapes[] = {
        {4096, 0, 0, 32},   {4096, 64, 0, 32}, {8192, 0, 0, 32},   {65536, 0, 0, 8},
        {4096, 4096, 0, 1}, {4096, 0, 64, 1},  {1 << 20, 0, 0, 1}, {4096, 2048, 0, 1},
    };
    for (size_t s = 0; s < COUNT(shapes); s++) {
        nm_pool *pool;
        nm_lease leases[32];
        bool seen[64] = {false};
        size_t different = 0;
        assert_int_equal(nm_pool_open(&pool, f->scope,
                                      NM_POOL_OPTIONS(.chunk_bytes = shapes[s].chunk, .align_bytes = shapes[s].align,
                                                      .max_count = shapes[s].max)),
                         NM_OK);
        for (size_t i = 0; i < 32; i++) {
            assert_int_equal(nm_pool_try_lease(pool, &leases[i]), NM_OK);
            size_t line = (uintptr_t)leases[i].data % PAGE / 64;
            different += !seen[line];
            seen[line] = true;
        }
        assert_true(different >= shapes[s].least_different);
        if (shapes[s].least_different == 1) assert_int_equal(different, 1);
        /* and at the cost of a 32nd at most, but for the pages that are pool's, thread's and descriptors' */
        nm_pool_stats stats = stats_of(pool);
        assert_true(stats.granted_bytes <= stats.total_count * shapes[s].chunk / 32 * 33 + 8 * PAGE);
        nm_lease_release_many(leases, 32);
        close_pool(pool);
    }
}

static void prealloc_commits_at_once_and_leases_do_not_grow(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    assert_int_equal(
        nm_pool_open(&pool, f->scope,
                     NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096, .prealloc_count = 100, .name = "rx")),
        NM_OK);
    nm_pool_stats before = stats_of(pool);
    assert_int_equal(before.total_count, 100);
    assert_string_equal(before.name, "rx");
    /* buffers, the pool's page, a page of groups, two pages of descriptors: nothing else */
    assert_int_equal(granted(f->scope), 104 * PAGE);
    assert_int_equal(before.granted_bytes, granted(f->scope));
    nm_lease leases[100];
    for (size_t i = 0; i < 100; i++) assert_int_equal(nm_pool_try_lease(pool, &leases[i]), NM_OK);
    assert_int_equal(stats_of(pool).grow_count, before.grow_count);
    for (size_t i = 0; i < 100; i++) nm_lease_release(&leases[i]);
    close_pool(pool);
}

static void prealloc_that_the_budget_refuses_leaves_nothing(void **state) {
    (void)state;
    nm_scope *root = root_of((size_t)1 << 20);
    size_t before = granted(root);
    nm_pool *pool;
    assert_int_equal(
        nm_pool_open(&pool, root, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096, .prealloc_count = 100000)),
        NM_EBUDGET);
    assert_null(pool);
    /* just too many: found out only by the last commits */
    assert_int_equal(
        nm_pool_open(&pool, root, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096, .prealloc_count = 255)),
        NM_EBUDGET);
    assert_null(pool);
    nm_scope_stats stats;
    nm_scope_get_stats(root, &stats);
    assert_int_equal(stats.granted_bytes - stats.idle_bytes, before);
    assert_int_equal(
        nm_pool_open(&pool, root, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096, .prealloc_count = 200)),
        NM_OK);
    close_pool(pool);
    assert_int_equal(nm_scope_close(root, NULL), 0);
}

/* ---- growth ------------------------------------------------------------------------------------------------------ */

static void a_lone_lease_of_a_large_buffer_commits_one_buffer(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    assert_int_equal(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = (size_t)1 << 20)), NM_OK);
    size_t before = granted(f->scope);
    nm_lease lease = nm_pool_lease(pool);
    assert_int_equal(granted(f->scope), before + ((size_t)1 << 20) + 2 * PAGE); /* + group and descriptors */
    nm_lease_release(&lease);
    close_pool(pool);
    /* An alignment far above the size does not cost memory either. */
    assert_int_equal(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 100, .align_bytes = (size_t)2 << 20)),
                     NM_OK);
    before = granted(f->scope);
    lease = nm_pool_lease(pool);
    assert_int_equal(granted(f->scope), before + 3 * PAGE);
    nm_lease_release(&lease);
    close_pool(pool);
}

static void steps_double_up_to_their_limit(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    assert_int_equal(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096)), NM_OK);
    nm_lease leases[512];
    for (size_t i = 0; i < COUNT(leases); i++) {
        assert_int_equal(nm_pool_try_lease(pool, &leases[i]), NM_OK);
        nm_pool_stats s = stats_of(pool);
        assert_true(s.total_count <= 2 * s.leased_count && s.total_count - s.leased_count < 64);
    }
    assert_true(stats_of(pool).grow_count < 32);
    for (size_t i = 0; i < COUNT(leases); i++) nm_lease_release(&leases[i]);
    close_pool(pool);
}

static void growth_refused_by_the_budget_changes_nothing_and_the_next_call_works(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    assert_int_equal(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 8192)), NM_OK);
    size_t before = granted(f->scope);
    nm_lease lease;
    uint64_t n = 1;
    for (;; n++) { /* group page, descriptors, buffer */
        nm_scope_fail_after(f->scope, n);
        nm_status st = nm_pool_try_lease(pool, &lease);
        if (st == NM_OK) break;
        assert_int_equal(st, NM_EBUDGET);
        assert_null(lease.data);
        assert_int_equal(granted(f->scope), before);
        assert_int_equal(stats_of(pool).total_count, 0);
        assert_int_equal(stats_of(pool).refused_count, n);
    }
    assert_int_equal(n, 4);
    nm_scope_fail_after(f->scope, 0);
    nm_lease_release(&lease);
    close_pool(pool);
}

static void an_open_refused_at_any_of_its_grants_leaves_nothing(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    uint64_t n = 1;
    for (;; n++) {
        nm_scope_fail_after(f->scope, n);
        nm_status st = nm_pool_open(&pool, f->scope,
                                    NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096, .prealloc_count = 150));
        if (st == NM_OK) break;
        assert_int_equal(st, NM_EBUDGET);
        assert_null(pool);
        assert_int_equal(granted(f->scope), 0);
    }
    assert_int_equal(n, 1 + 1 + 1 + 3 + 3); /* pool, groups, three times slots and buffers; the next passes */
    nm_scope_fail_after(f->scope, 0);
    assert_int_equal(stats_of(pool).total_count, 150);
    close_pool(pool);
}

static void a_held_lease_refused_at_any_of_its_grants_changes_nothing(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    nm_scope *request;
    nm_lease lease;
    assert_int_equal(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096)), NM_OK);
    assert_int_equal(nm_scope_open(&request, f->scope, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)), NM_OK);
    uint64_t n = 1;
    for (;; n++) {
        nm_scope_fail_after(f->root, n);
        nm_status st = nm_pool_lease_in(pool, request, &lease);
        if (st == NM_OK) break;
        assert_int_equal(st, NM_EBUDGET);
        assert_null(lease.data);
        assert_int_equal(stats_of(pool).total_count, 0);
        assert_int_equal(stats_of(pool).refused_count, n);
    }
    assert_int_equal(n, 5); /* the note, then a page of groups, of slots, and the buffer */
    nm_scope_fail_after(f->root, 0);
    assert_int_equal(stats_of(pool).leased_count, 1);
    assert_int_equal(nm_scope_close(request, NULL), 0);
    close_pool(pool);
}

static void a_hard_limit_is_used_to_the_last_page_and_then_refuses(void **state) {
    fixture *f = *state;
    nm_scope *tight;
    nm_pool *pool;
    /* 3 pages of its own + a page of descriptors per 64 buffers */
    size_t limit = (10 + 3) * PAGE;
    assert_int_equal(nm_scope_open(&tight, f->scope, NM_SCOPE_OPTIONS(.hard_bytes = limit)), NM_OK);
    assert_int_equal(nm_pool_open(&pool, tight, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096)), NM_OK);
    nm_lease leases[11];
    for (size_t i = 0; i < 10; i++) assert_int_equal(nm_pool_try_lease(pool, &leases[i]), NM_OK);
    assert_int_equal(granted(tight), limit);
    assert_int_equal(nm_pool_try_lease(pool, &leases[10]), NM_EBUDGET);
    assert_false(nm_lease_ok(nm_pool_lease(pool)));
    assert_int_equal(stats_of(pool).refused_count, 2);
    nm_lease_release(&leases[3]);
    assert_int_equal(nm_pool_try_lease(pool, &leases[3]), NM_OK);
    for (size_t i = 0; i < 10; i++) nm_lease_release(&leases[i]);
    close_pool(pool);
    assert_int_equal(nm_scope_close(tight, NULL), 0);
}

static bool refuse_commits;
static bool commit_or_not(void *address, size_t bytes) {
    return !refuse_commits && nm__os_system.commit(address, bytes);
}
static bool refuse_decommits;
static bool decommit_or_not(void *address, size_t bytes) {
    return !refuse_decommits && nm__os_system.decommit(address, bytes);
}
static void *never_reserve(size_t bytes, size_t align) {
    (void)bytes, (void)align;
    return NULL;
}
static size_t reserve_most;
static void *reserve_up_to(size_t bytes, size_t align) {
    return bytes <= reserve_most ? nm__os_system.reserve(bytes, align) : NULL;
}

static void the_system_refuses_memory_or_addresses(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    nm_lease lease;
    nm__os table = nm__os_system;
    table.reserve = never_reserve;
    nm__os_replace(&table);
    assert_int_equal(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096)),
                     NM_ENOMEM);
    assert_null(pool);
    /* A pool without max_count makes do with fewer addresses, one with max_count does not. */
    table.reserve = reserve_up_to;
    reserve_most = (size_t)16 << 20;
    nm__os_replace(&table);
    assert_int_equal(
        nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096, .max_count = 5000)),
        NM_ENOMEM);
    assert_int_equal(nm_pool_open(&pool, f->scope,
                                  NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096, .prealloc_count = 5000)),
                     NM_ENOMEM);
    assert_int_equal(granted(f->scope), 0);
    assert_int_equal(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096)), NM_OK);
    assert_in_range(stats_of(pool).max_count, 1, 4096);
    table = nm__os_system;
    table.commit = commit_or_not;
    table.decommit = decommit_or_not;
    nm__os_replace(&table);
    size_t before = granted(f->scope);
    refuse_commits = true;
    assert_int_equal(nm_pool_try_lease(pool, &lease), NM_ENOMEM);
    assert_null(lease.data);
    assert_int_equal(granted(f->scope), before);
    refuse_commits = false;
    assert_int_equal(nm_pool_try_lease(pool, &lease), NM_OK);
    nm_lease_release(&lease);
    /* A trim that the system refuses keeps the buffers, and they can be leased. */
    refuse_decommits = true;
    before = granted(f->scope);
    assert_int_equal(nm_pool_trim(pool, 0), 0);
    assert_int_equal(granted(f->scope), before);
    assert_int_equal(stats_of(pool).free_count, 1);
    assert_int_equal(nm_pool_try_lease(pool, &lease), NM_OK);
    assert_int_equal(stats_of(pool).total_count, 1);
    nm_lease_release(&lease);
    close_pool(pool); /* the law of the close holds, whatever the system says */
    refuse_decommits = false;
    nm__os_replace(NULL);
}

/* ---- trim and reclaim -------------------------------------------------------------------------------------------- */

static void trim_keeps_what_it_is_told_and_what_is_leased(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    assert_int_equal(
        nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096, .prealloc_count = 100)),
        NM_OK);
    nm_lease leases[30];
    for (size_t i = 0; i < 30; i++) {
        leases[i] = nm_pool_lease(pool);
        memset(leases[i].data, (int)i + 1, 4096);
    }
    size_t before = granted(f->scope);
    assert_int_equal(nm_pool_trim(pool, 70), 0);
    assert_int_equal(nm_pool_trim(pool, SIZE_MAX), 0);
    assert_int_equal(nm_pool_trim(pool, 10), 60 * PAGE);
    assert_int_equal(granted(f->scope), before - 60 * PAGE);
    nm_pool_stats s = stats_of(pool);
    assert_int_equal(s.free_count, 10);
    assert_int_equal(s.leased_count, 30);
    assert_int_equal(s.peak_count, 100);
    assert_int_equal(nm_pool_trim(pool, 0), 10 * PAGE);
    assert_int_equal(nm_pool_trim(pool, 0), 0);
    for (size_t i = 0; i < 30; i++) {
        const unsigned char *p = leases[i].data;
        assert_int_equal(p[0], i + 1);
        assert_int_equal(p[4095], i + 1);
        nm_lease_release(&leases[i]);
    }
    assert_int_equal(nm_pool_trim(NULL, 0), 0);
    close_pool(pool);
}

static void small_buffers_go_only_with_their_whole_page(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    /* 64 buffers of 64 bytes are a page */
    assert_int_equal(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 64, .prealloc_count = 256)), NM_OK);
    nm_lease leases[256];
    for (size_t i = 0; i < 256; i++) leases[i] = nm_pool_lease(pool);
    nm_lease held = leases[100];
    for (size_t i = 0; i < 256; i++)
        if (i != 100) nm_lease_release(&leases[i]);
    assert_int_equal(nm_pool_trim(pool, 0), 3 * PAGE); /* one page has a buffer that is leased */
    assert_int_equal(stats_of(pool).free_count, 63);
    /* fewer than a page's may go, so none goes */
    nm_lease_release(&held);
    assert_int_equal(nm_pool_trim(pool, 1), 0);
    assert_int_equal(nm_pool_trim(pool, 0), PAGE);
    close_pool(pool);
}

static void trimmed_buffers_come_back_before_new_ones_are_made(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    assert_int_equal(
        nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096, .max_count = 64)),
        NM_OK);
    nm_lease leases[64];
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < 64; i++) {
            assert_int_equal(nm_pool_try_lease(pool, &leases[i]), NM_OK);
            memset(leases[i].data, round, 4096);
        }
        assert_false(nm_lease_ok(nm_pool_lease(pool)));
        for (size_t i = (size_t)round; i < 64; i += 2) nm_lease_release(&leases[i]);
        assert_true(nm_pool_trim(pool, 3) > 0);
        for (size_t i = (size_t)round; i < 64; i += 2) assert_int_equal(nm_pool_try_lease(pool, &leases[i]), NM_OK);
        assert_int_equal(stats_of(pool).total_count, 64);
        for (size_t i = 0; i < 64; i++) nm_lease_release(&leases[i]);
        nm_pool_trim(pool, 0);
    }
    assert_int_equal(stats_of(pool).peak_count, 64);
    close_pool(pool);
}

static void idle_buffers_go_when_another_needs_the_budget(void **state) {
    fixture *f = *state;
    nm_scope *tight;
    nm_pool *one, *other;
    assert_int_equal(nm_scope_open(&tight, f->scope, NM_SCOPE_OPTIONS(.hard_bytes = (size_t)1 << 20)), NM_OK);
    assert_int_equal(
        nm_pool_open(&one, tight, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096, .prealloc_count = 200)),
        NM_OK);
    assert_int_equal(nm_pool_open(&other, tight, NM_POOL_OPTIONS(.chunk_bytes = 65536)), NM_OK);
    nm_lease held = nm_pool_lease(one), leases[11];
    for (size_t i = 0; i < 11; i++) assert_int_equal(nm_pool_try_lease(other, &leases[i]), NM_OK);
    assert_true(stats_of(one).free_count < 100);
    assert_int_equal(stats_of(one).leased_count, 1);
    for (size_t i = 0; i < 11; i++) nm_lease_release(&leases[i]);
    assert_true(nm_scope_reclaim(tight, SIZE_MAX) >= (size_t)11 * 65536);
    assert_int_equal(stats_of(other).total_count, 0);
    nm_lease_release(&held);
    close_pool(one);
    close_pool(other);
    assert_int_equal(nm_scope_close(tight, NULL), 0);
}

typedef struct hook_state {
    nm_pool *pool;
    nm_lease *spare;
    int calls;
} hook_state;

/* Releases into the pool that is growing, and leases from it, as a hook may. */
static void release_a_spare(nm_scope *crossed, size_t wanted_bytes, void *context) {
    (void)crossed, (void)wanted_bytes;
    hook_state *h = context;
    h->calls++;
    nm_lease none;
    assert_int_not_equal(nm_pool_try_lease(h->pool, &none), NM_OK); /* no deadlock, no recursion */
    nm_lease_release(h->spare);
}

static void a_pressure_hook_may_release_into_the_pool_that_grows(void **state) {
    fixture *f = *state;
    hook_state h = {0};
    nm_scope *tight;
    nm_lease a, b, c;
    assert_int_equal(
        nm_scope_open(&tight, f->scope,
                      NM_SCOPE_OPTIONS(.hard_bytes = 5 * PAGE, .on_pressure = release_a_spare, .context = &h)),
        NM_OK);
    assert_int_equal(nm_pool_open(&h.pool, tight, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096)), NM_OK);
    assert_int_equal(nm_pool_try_lease(h.pool, &a), NM_OK);
    assert_int_equal(nm_pool_try_lease(h.pool, &b), NM_OK);
    h.spare = &b;
    assert_int_equal(nm_pool_try_lease(h.pool, &c), NM_OK);
    assert_int_equal(h.calls, 1);
    assert_false(nm_lease_ok(b));
    nm_lease_release(&c);
    /* the same for a lease that a scope holds */
    assert_int_equal(nm_pool_try_lease(h.pool, &b), NM_OK);
    assert_int_equal(nm_pool_lease_in(h.pool, f->scope, &c), NM_OK);
    assert_int_equal(h.calls, 2);
    nm_lease_release(&a);
    nm_lease_release(&c);
    close_pool(h.pool);
    assert_int_equal(nm_scope_close(tight, NULL), 0);
    /* what notes the held lease stays with the scope until it closes */
    nm_scope_close(f->scope, NULL);
    assert_int_equal(nm_scope_open(&f->scope, f->root, NULL), NM_OK);
}

/* ---- leases ------------------------------------------------------------------------------------------------------ */

static void close_with_leases_out_is_refused_and_the_pool_goes_on(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    assert_int_equal(
        nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096, .max_count = 2)),
        NM_OK);
    nm_lease a = nm_pool_lease(pool), b;
    assert_int_equal(nm_pool_close(pool), NM_EBUSY);
    assert_int_equal(nm_pool_try_lease(pool, &b), NM_OK);
    nm_lease_release(&a);
    assert_int_equal(nm_pool_close(pool), NM_EBUSY);
    nm_lease_release(&b);
    close_pool(pool);
    assert_int_equal(nm_pool_close(NULL), NM_OK);
}

static void no_pool_and_no_place_for_the_lease_are_refused(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    nm_lease lease = {.data = &pool};
    assert_false(nm_lease_ok(nm_pool_lease(NULL)));
    assert_int_equal(nm_pool_try_lease(NULL, &lease), NM_EINVAL);
    assert_null(lease.data);
    assert_int_equal(nm_pool_lease_in(NULL, f->scope, &lease), NM_EINVAL);
    assert_int_equal(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 1)), NM_OK);
    assert_int_equal(nm_pool_try_lease(pool, NULL), NM_EINVAL);
    assert_int_equal(nm_pool_lease_in(pool, f->scope, NULL), NM_EINVAL);
    assert_int_equal(stats_of(pool).total_count, 0);
    close_pool(pool);
}

static void growth_ahead_of_need_stops_below_the_soft_limit(void **state) {
    fixture *f = *state;
    nm_scope *scope;
    nm_scope_stats s;
    nm_pool *pool;
    nm_lease leases[70];
    assert_int_equal(nm_scope_open(&scope, f->scope, NM_SCOPE_OPTIONS(.soft_bytes = 64 * PAGE)), NM_OK);
    assert_int_equal(nm_pool_open(&pool, scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096)), NM_OK);
    for (size_t i = 0; i < 59; i++) { /* and three pages of its own, and two of the thread's */
        assert_int_equal(nm_pool_try_lease(pool, &leases[i]), NM_OK);
        nm_scope_get_stats(scope, &s);
        assert_int_equal(s.soft_count, 0);
    }
    for (size_t i = 59; i < 70; i++) assert_int_equal(nm_pool_try_lease(pool, &leases[i]), NM_OK);
    nm_scope_get_stats(scope, &s);
    assert_int_equal(s.soft_count, 1);
    assert_int_equal(stats_of(pool).total_count, 70);
    for (size_t i = 0; i < 70; i++) nm_lease_release(&leases[i]);
    close_pool(pool);
    assert_int_equal(nm_scope_close(scope, NULL), 0);
}

static void an_empty_lease_is_ignored(void **state) {
    (void)state;
    nm_lease empty = {0};
    nm_lease_release(&empty);
    assert_false(nm_lease_ok(empty));
}

static void a_scoped_lease_goes_back_however_the_block_is_left(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    assert_int_equal(
        nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096, .max_count = 1)),
        NM_OK);
    for (int i = 0; i < 3; i++) {
        NM_LEASE_SCOPED(lease, pool);
        assert_true(nm_lease_ok(lease));
        NM_LEASE_SCOPED(refused, pool);
        assert_false(nm_lease_ok(refused));
        if (i == 0) continue;
        if (i == 1) nm_lease_release(&lease);
        if (i == 2) break;
    }
    assert_int_equal(stats_of(pool).leased_count, 0);
    close_pool(pool);
}

static void releasing_by_address_is_a_release(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    assert_int_equal(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 1500)), NM_OK);
    nm_lease leases[100];
    for (size_t i = 0; i < 100; i++) leases[i] = nm_pool_lease(pool);
    for (size_t i = 0; i < 100; i++) nm_pool_release_data(pool, leases[i].data);
    nm_pool_release_data(pool, NULL);
    assert_int_equal(stats_of(pool).leased_count, 0);
    close_pool(pool);
}

static void plain_functions_do_what_the_macros_do(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    nm_pool_stats stats;
    nm_lease a, b;
    assert_int_equal((nm_pool_open)(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 10, .name = "plain")), NM_OK);
    a = (nm_pool_lease)(pool);
    assert_true(nm_lease_ok(a));
    assert_int_equal((nm_pool_try_lease)(pool, &b), NM_OK);
    (nm_lease_release)(&a);
    (nm_pool_release_data)(pool, b.data);
    (nm_pool_get_stats)(pool, &stats);
    assert_int_equal(stats.leased_count, 0);
    /* an older program gets no more than it has room for, a younger one zeros */
    struct {
        nm_pool_stats known;
        size_t unknown;
    } younger = {.unknown = 7};
    nm_pool_get_stats_sized(pool, &younger.known, sizeof younger);
    assert_int_equal(younger.unknown, 0);
    assert_string_equal(younger.known.name, "plain");
    size_t two[3] = {7, 7, 7};
    nm_pool_get_stats_sized(pool, (nm_pool_stats *)(void *)two, 2 * sizeof(size_t));
    assert_int_equal(two[0], stats.total_count);
    assert_int_equal(two[2], 7);
    close_pool(pool);
}

static void buffers_of_a_pool_count_as_used_while_leased(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    nm_scope_stats s;
    assert_int_equal(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 5000, .prealloc_count = 10)), NM_OK);
    nm_lease a = nm_pool_lease(pool), b = nm_pool_lease(pool);
    nm_scope_get_stats(f->scope, &s);
    assert_int_equal(s.used_bytes, 10000);
    nm_lease_release(&a);
    nm_lease_release(&b);
    nm_scope_get_stats(f->scope, &s);
    assert_int_equal(s.used_bytes, 0);
    close_pool(pool);
}

/* ---- scopes ------------------------------------------------------------------------------------------------------ */

static void leases_held_by_a_scope_go_back_at_its_close_and_are_no_leak(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    nm_scope *request;
    assert_int_equal(
        nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096, .max_count = 40)),
        NM_OK);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(nm_scope_open(&request, f->root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)), NM_OK);
        nm_lease leases[40];
        for (size_t i = 0; i < 40; i++) assert_int_equal(nm_pool_lease_in(pool, request, &leases[i]), NM_OK);
        nm_lease refused;
        assert_int_equal(nm_pool_lease_in(pool, request, &refused), NM_ECAPACITY);
        assert_null(refused.data);
        for (size_t i = 0; i < 40; i += 3) nm_lease_release(&leases[i]); /* before the close: allowed */
        assert_int_equal(nm_scope_close(request, NULL), 0);
        assert_int_equal(stats_of(pool).leased_count, 0);
        assert_int_equal(stats_of(pool).free_count, 40);
    }
    close_pool(pool);
}

static void a_held_limit_refuses_and_nothing_is_leased(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    nm_scope *request;
    nm_lease a, b;
    assert_int_equal(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096)), NM_OK);
    assert_int_equal(
        nm_scope_open(&request, f->root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST, .held_limit_bytes = 5000)), NM_OK);
    assert_int_equal(nm_pool_lease_in(pool, request, &a), NM_OK);
    assert_int_equal(nm_pool_lease_in(pool, request, &b), NM_ECAPACITY);
    assert_null(b.data);
    assert_int_equal(stats_of(pool).leased_count, 1);
    nm_lease_release(&a);
    assert_int_equal(nm_pool_lease_in(pool, request, &b), NM_OK);
    assert_int_equal(nm_scope_close(request, NULL), 0);
    close_pool(pool);
}

static void a_holder_of_another_root_is_refused(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    nm_lease lease;
    nm_scope *stranger = root_of(0);
    assert_int_equal(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096)), NM_OK);
    assert_int_equal(nm_pool_lease_in(pool, stranger, &lease), NM_EINVAL);
    assert_null(lease.data);
    assert_int_equal(nm_pool_lease_in(pool, NULL, &lease), NM_EINVAL);
    assert_int_equal(stats_of(pool).total_count, 0);
    close_pool(pool);
    assert_int_equal(nm_scope_close(stranger, NULL), 0);
}

static void a_strict_scope_reports_what_it_held(void **state) {
    fixture *f = *state;
    nm_pool *pool;
    nm_scope *request;
    nm_lease lease;
    nm_leak_report report;
    assert_int_equal(
        nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096, .name = "rx")), NM_OK);
    assert_int_equal(
        nm_scope_open(&request, f->root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST, .leak_report = NM_LEAKS_STRICT)),
        NM_OK);
    assert_int_equal(nm_pool_lease_in(pool, request, &lease), NM_OK);
    nm_lease_release(&lease);
    for (int i = 0; i < 2; i++) assert_int_equal(nm_pool_lease_in_at(pool, request, &lease, "session.c:212"), NM_OK);
    assert_int_equal(nm_scope_close(request, &report), 2);
    assert_int_equal(report.site_count, 1);
    assert_int_equal(report.sites[0].kind, NM_LEAK_LEASE);
    assert_int_equal(report.sites[0].bytes, 8192);
    assert_string_equal(report.sites[0].name, "rx");
    assert_string_equal(report.sites[0].site, "session.c:212");
    assert_int_equal(stats_of(pool).leased_count, 0);
    close_pool(pool);
}

static void a_scope_that_closes_takes_its_pools_along_and_reports_leases_by_site(void **state) {
    fixture *f = *state;
    nm_pool *pool, *quiet;
    nm_scope *scope;
    nm_leak_report report;
    size_t before = granted(f->scope);
    assert_int_equal(nm_scope_open(&scope, f->scope, NM_SCOPE_OPTIONS(.name = "gone")), NM_OK);
    assert_int_equal(
        nm_pool_open(&pool, scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .align_bytes = 4096, .name = "rx")), NM_OK);
    assert_int_equal(nm_pool_open(&quiet, scope, NM_POOL_OPTIONS(.chunk_bytes = 100, .prealloc_count = 70)), NM_OK);
    for (int i = 0; i < 3; i++) assert_true(nm_lease_ok(nm_pool_lease_at(pool, "a.c:1")));
    assert_true(nm_lease_ok(nm_pool_lease_at(pool, "b.c:2")));
    assert_int_equal(nm_scope_close(scope, &report), 4);
    assert_int_equal(report.leaked_bytes, 4 * PAGE);
    assert_int_equal(report.site_count, 2);
    for (size_t i = 0; i < 2; i++) {
        bool a = strcmp(report.sites[i].site, "a.c:1") == 0;
        assert_true(a || strcmp(report.sites[i].site, "b.c:2") == 0);
        assert_int_equal(report.sites[i].count, a ? 3 : 1);
        assert_int_equal(report.sites[i].kind, NM_LEAK_LEASE);
        assert_string_equal(report.sites[i].name, "rx");
    }
    assert_int_equal(granted(f->scope), before);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(options_out_of_range_are_refused_and_nothing_is_left),
        T(sizes_that_cannot_be_had_are_refused_and_nothing_is_left),
        T(the_largest_options_open_and_lease),
        T(every_buffer_is_aligned_distinct_and_writable_to_its_last_byte),
        T(buffers_of_whole_pages_begin_in_different_lines_where_alignment_and_size_allow),
        T(prealloc_commits_at_once_and_leases_do_not_grow),
        cmocka_unit_test(prealloc_that_the_budget_refuses_leaves_nothing),
        T(a_lone_lease_of_a_large_buffer_commits_one_buffer),
        T(steps_double_up_to_their_limit),
        T(growth_refused_by_the_budget_changes_nothing_and_the_next_call_works),
        T(an_open_refused_at_any_of_its_grants_leaves_nothing),
        T(a_held_lease_refused_at_any_of_its_grants_changes_nothing),
        T(a_hard_limit_is_used_to_the_last_page_and_then_refuses),
        T(the_system_refuses_memory_or_addresses),
        T(trim_keeps_what_it_is_told_and_what_is_leased),
        T(small_buffers_go_only_with_their_whole_page),
        T(trimmed_buffers_come_back_before_new_ones_are_made),
        T(idle_buffers_go_when_another_needs_the_budget),
        T(a_pressure_hook_may_release_into_the_pool_that_grows),
        T(close_with_leases_out_is_refused_and_the_pool_goes_on),
        T(no_pool_and_no_place_for_the_lease_are_refused),
        T(growth_ahead_of_need_stops_below_the_soft_limit),
        cmocka_unit_test(an_empty_lease_is_ignored),
        T(a_scoped_lease_goes_back_however_the_block_is_left),
        T(releasing_by_address_is_a_release),
        T(plain_functions_do_what_the_macros_do),
        T(buffers_of_a_pool_count_as_used_while_leased),
        T(leases_held_by_a_scope_go_back_at_its_close_and_are_no_leak),
        T(a_held_limit_refuses_and_nothing_is_leased),
        T(a_holder_of_another_root_is_refused),
        T(a_strict_scope_reports_what_it_held),
        T(a_scope_that_closes_takes_its_pools_along_and_reports_leases_by_site),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
