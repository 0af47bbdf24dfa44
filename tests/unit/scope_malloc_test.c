// SPDX-License-Identifier: Apache-2.0 OR MIT
/* nm_scope_malloc and its kin: what they give, what they cost the scope, what a close finds. */
#include <pthread.h>
#include <sched.h>

#include "base/lock.h"
#include "nebula/memory.h"
#include "os_counter.h"
#include "testing.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static nm_scope *root, *scope;

static int set_up(void **state) {
    (void)state;
    os_counter_install();
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "root", .hard_bytes = 64 * MIB)) != NM_OK) return -1;
    return nm_scope_open(&scope, root, NM_SCOPE_OPTIONS(.name = "rest", .hard_bytes = 32 * MIB)) == NM_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    bool ok = nm_scope_close(scope, NULL) == 0;
    nm_scope_stats st;
    nm_scope_get_stats(root, &st);
    ok = ok && st.granted_bytes == os_counter_committed();
    ok = nm_scope_close(root, NULL) == 0 && ok;
    return os_counter_remove() && ok ? 0 : -1;
}

static nm_scope_stats stats_of(const nm_scope *s) {
    nm_scope_stats st;
    nm_scope_get_stats(s, &st);
    return st;
}

static bool is_filled(const void *p, int with, size_t n) {
    const unsigned char *bytes = p;
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != (unsigned char)with) return false;
    return true;
}

/* ---- what they give ---------------------------------------------------------------------------------------------- */

static void every_size_is_aligned_usable_and_apart(void **state) {
    (void)state;
    enum { COUNT = 9000 };
    static unsigned char *p[COUNT];
    static size_t n[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        n[i] = i < 8500 ? i : (i - 8499) * 97;
        p[i] = nm_scope_malloc(scope, n[i]);
        if (p[i] == NULL && i > 5000) break; /* the limit: enough is seen */
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % NM_ALIGN, 0);
        assert_true(nm_scope_malloc_size(p[i]) >= n[i]);
        assert_true(stats_of(scope).granted_bytes <= 32 * MIB);
        memset(p[i], (int)(i % 251), n[i]);
    }
    for (size_t i = 0; i < COUNT && p[i] != NULL; i++) {
        assert_true(is_filled(p[i], (int)(i % 251), n[i]));
        nm_scope_free(p[i]);
        p[i] = NULL;
    }
    assert_int_equal(stats_of(scope).used_bytes, 0);
}

static void the_bytes_that_size_tells_are_usable_to_the_last(void **state) {
    (void)state;
    static const size_t sizes[] = {0,    1,    16,   17,    100,    1000,    8175,
                                   8176, 8177, 8192, 65536, 100000, 2 * MIB, 3 * MIB + 1};
    void *p[2][sizeof sizes / sizeof *sizes];
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            p[k][i] = nm_scope_malloc(scope, sizes[i]);
            assert_non_null(p[k][i]);
            memset(p[k][i], (int)(2 * i) + k, nm_scope_malloc_size(p[k][i]));
        }
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            assert_true(is_filled(p[k][i], (int)(2 * i) + k, nm_scope_malloc_size(p[k][i])));
            nm_scope_free(p[k][i]);
        }
}

static void nothing_gives_a_pointer_of_its_own(void **state) {
    (void)state;
    void *a = nm_scope_malloc(scope, 0), *b = nm_scope_malloc(scope, 0), *c = nm_scope_calloc(scope, 0, 7);
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    assert_ptr_not_equal(a, b);
    assert_ptr_not_equal(b, c);
    nm_scope_free(a);
    nm_scope_free(b);
    nm_scope_free(c);
    nm_scope_free(NULL);
    assert_int_equal(nm_scope_malloc_size(NULL), 0);
}

static void no_scope_no_memory(void **state) {
    (void)state;
    nm_scope *volatile none = NULL;
    assert_null(nm_scope_malloc(none, 1));
    assert_null(nm_scope_calloc(none, 1, 1));
    assert_null(nm_scope_realloc(none, NULL, 1));
    assert_null(nm_scope_aligned_alloc(none, 16, 1));
}

static void the_functions_serve_as_pointers(void **state) {
    (void)state;
    void *(*take)(nm_scope *, size_t) = (nm_scope_malloc);
    void *(*zeroed)(nm_scope *, size_t, size_t) = (nm_scope_calloc);
    void *(*again)(nm_scope *, void *, size_t) = (nm_scope_realloc);
    void *(*aligned)(nm_scope *, size_t, size_t) = (nm_scope_aligned_alloc);
    void (*give)(void *) = (nm_scope_free);
    void *p = again(scope, take(scope, 10), 1000), *q = zeroed(scope, 3, 5), *r = aligned(scope, 256, 5);
    assert_non_null(p);
    assert_non_null(q);
    assert_int_equal((uintptr_t)r % 256, 0);
    give(p);
    give(q);
    nm_scope *child;
    assert_ok(nm_scope_open(&child, scope, NULL));
    assert_non_null(take(child, 5));
    nm_leak_report report;
    assert_int_equal(nm_scope_close(child, &report), 1);
    assert_string_equal(report.sites[0].site, "?");
    give(r);
}

static void calloc_is_zeroed_also_where_memory_is_used_again(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 40, 500, 5000, 20000, 3 * MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int round = 0; round < 3; round++) {
            unsigned char *p = nm_scope_calloc(scope, 1, sizes[i]);
            assert_non_null(p);
            assert_true(is_filled(p, 0, sizes[i]));
            memset(p, 0xff, sizes[i]);
            nm_scope_free(p);
        }
}

static void overflow_is_told_apart_from_a_limit(void **state) {
    (void)state;
    volatile size_t huge = SIZE_MAX; /* a constant would be seen by the compiler */
    assert_null(nm_scope_calloc(scope, huge / 2, 3));
    assert_status(stats_of(scope).last_refusal.status, NM_ETOOLARGE);
    assert_null(nm_scope_malloc(scope, 33 * MIB));
    assert_status(stats_of(scope).last_refusal.status, NM_EBUDGET);
    static const size_t back[] = {0, 1, 15, 16, 17, 100, 4096, (size_t)1 << 40};
    for (size_t i = 0; i < sizeof back / sizeof *back; i++) {
        assert_null(nm_scope_malloc(scope, huge - back[i]));
        assert_status(stats_of(scope).last_refusal.status, NM_ETOOLARGE);
        assert_int_equal(stats_of(scope).last_refusal.wanted_bytes, SIZE_MAX - back[i]);
        assert_null(nm_scope_aligned_alloc(scope, 2 * MIB, huge - back[i]));
        assert_null(nm_scope_calloc(scope, 1, huge - back[i]));
    }
    void *p = nm_scope_malloc(scope, 10);
    assert_null(nm_scope_realloc(scope, p, huge));
    assert_status(stats_of(scope).last_refusal.status, NM_ETOOLARGE);
    nm_scope_free(p);
}

static void a_size_that_no_limit_stops_is_refused_by_the_system(void **state) {
    (void)state;
    nm_scope *open;
    assert_ok(nm_scope_open(&open, NULL, NULL));
    volatile size_t huge = (size_t)1 << 54;
    assert_null(nm_scope_malloc(open, huge));
    nm_scope_stats st = stats_of(open);
    assert_status(st.last_refusal.status, NM_ENOMEM);
    assert_int_equal(st.last_refusal.wanted_bytes, huge);
    assert_string_equal(st.last_refusal.name, "");
    assert_int_equal(nm_scope_close(open, NULL), 0);
}

static void any_alignment_up_to_2_mib(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 15, 16, 100, 1000, 8000, 10000, MIB};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    for (size_t align = 1; align <= 2 * MIB; align *= 2) {
        unsigned char *p[SIZES];
        size_t count = align <= 256 * KIB ? SIZES : 3; /* the largest take 4 MiB each */
        for (size_t i = 0; i < count; i++) {
            p[i] = nm_scope_aligned_alloc(scope, align, sizes[i]);
            assert_non_null(p[i]);
            assert_int_equal((uintptr_t)p[i] % align, 0);
            assert_int_equal((uintptr_t)p[i] % NM_ALIGN, 0);
            assert_true(nm_scope_malloc_size(p[i]) >= sizes[i]);
            memset(p[i], (int)i, nm_scope_malloc_size(p[i]));
        }
        for (size_t i = 0; i < count; i++) {
            assert_true(is_filled(p[i], (int)i, nm_scope_malloc_size(p[i])));
            p[i] = nm_scope_realloc(scope, p[i], sizes[i] + 5000);
            assert_non_null(p[i]);
            assert_true(is_filled(p[i], (int)i, sizes[i]));
            nm_scope_free(p[i]);
        }
    }
    assert_int_equal(stats_of(scope).used_bytes, 0);
}

static void a_wrong_alignment_is_refused(void **state) {
    (void)state;
    static const size_t wrong[] = {0, 3, 24, 48, 4 * MIB, SIZE_MAX, (size_t)1 << 63};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        volatile size_t align = wrong[i];
        assert_null(nm_scope_aligned_alloc(scope, align, 100));
        assert_status(stats_of(scope).last_refusal.status, NM_EINVAL);
        assert_int_equal(stats_of(scope).last_refusal.wanted_bytes, 100);
    }
}

/* ---- realloc ----------------------------------------------------------------------------------------------------- */

static void realloc_keeps_the_contents_up_and_down(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 17, 100, 110, 5000, 8176, 8177, 12000, 70000, 300000, 3 * MIB, 5 * MIB};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    for (size_t from = 0; from < SIZES; from++)
        for (size_t to = 0; to < SIZES; to++) {
            unsigned char *p = nm_scope_malloc(scope, sizes[from]);
            memset(p, 0x5a, sizes[from]);
            p = nm_scope_realloc(scope, p, sizes[to]);
            assert_non_null(p);
            assert_true(is_filled(p, 0x5a, sizes[from] < sizes[to] ? sizes[from] : sizes[to]));
            assert_int_equal(stats_of(scope).used_bytes, sizes[to]);
            memset(p, 1, sizes[to]);
            nm_scope_free(p);
        }
}

/* The compiler holds a pointer given to realloc for dead: its address is compared as a number. */
static bool stays(unsigned char **p, size_t n) {
    uintptr_t before = (uintptr_t)*p;
    *p = nm_scope_realloc(scope, *p, n);
    return (uintptr_t)*p == before;
}

static void realloc_within_the_slot_stays(void **state) {
    (void)state;
    unsigned char *p = nm_scope_malloc(scope, 1000);
    assert_true(stays(&p, 1008));
    assert_true(stays(&p, 600));
    assert_false(stays(&p, 100)); /* not a tenth of the slot for ever */
    nm_scope_free(p);
    p = nm_scope_malloc(scope, 0);
    assert_true(stays(&p, 16));
    assert_true(stays(&p, 0));
    nm_scope_free(p);
}

static void a_large_one_grows_in_its_block(void **state) {
    (void)state;
    unsigned char *p = nm_scope_malloc(scope, 600 * KIB); /* of 1 MiB */
    memset(p, 7, 600 * KIB);
    assert_true(stays(&p, 900 * KIB));
    assert_true(is_filled(p, 7, 600 * KIB));
    memset(p, 8, 900 * KIB);
    assert_true(stays(&p, 600 * KIB));
    assert_false(stays(&p, 20 * KIB));
    assert_true(is_filled(p, 8, 20 * KIB));
    assert_true(stats_of(scope).granted_bytes < 64 * KIB);
    nm_scope_free(p);
}

static void a_refused_realloc_leaves_it_as_it_is(void **state) {
    (void)state;
    unsigned char *p = nm_scope_malloc(scope, 1000), *large = nm_scope_malloc(scope, 10 * MIB);
    memset(p, 3, 1000);
    memset(large, 4, 10 * MIB);
    size_t granted = stats_of(scope).granted_bytes;
    assert_null(nm_scope_realloc(scope, p, 30 * MIB));
    assert_null(nm_scope_realloc(scope, large, 30 * MIB));
    nm_scope_stats st = stats_of(scope);
    assert_status(st.last_refusal.status, NM_EBUDGET);
    assert_int_equal(st.last_refusal.wanted_bytes, 30 * MIB);
    assert_string_equal(st.last_refusal.name, "rest");
    assert_int_equal(st.granted_bytes, granted);
    assert_int_equal(st.used_bytes, 1000 + 10 * MIB);
    assert_true(is_filled(p, 3, 1000));
    assert_true(is_filled(large, 4, 10 * MIB));
    nm_scope_free(p);
    nm_scope_free(large);
}

static void shrinking_is_never_refused(void **state) {
    (void)state;
    unsigned char *p = nm_scope_malloc(scope, 8000), *large = nm_scope_malloc(scope, 5 * MIB);
    memset(p, 3, 8000);
    memset(large, 4, 5 * MIB);
    for (size_t n = 4000; n > 0; n /= 2) {
        nm_scope_fail_after(scope, 1);
        p = nm_scope_realloc(scope, p, n);
        assert_non_null(p);
        assert_true(is_filled(p, 3, n));
        large = nm_scope_realloc(scope, large, n * 500);
        assert_non_null(large);
        assert_true(is_filled(large, 4, n * 500));
    }
    nm_scope_fail_after(scope, 0);
    nm_scope_free(p);
    nm_scope_free(large);
}

static void realloc_of_null_allocates(void **state) {
    (void)state;
    void *p = nm_scope_realloc(scope, NULL, 100);
    assert_non_null(p);
    assert_int_equal(stats_of(scope).used_bytes, 100);
    nm_scope_free(p);
}

/* ---- what it costs the scope ------------------------------------------------------------------------------------- */

static void what_is_freed_goes_back_to_the_scope(void **state) {
    (void)state;
    enum { COUNT = 20000 };
    static void *p[COUNT];
    size_t used = 0;
    for (int i = 0; i < COUNT; i++) {
        size_t n = 16 + (size_t)i % 800;
        p[i] = nm_scope_malloc(scope, n);
        assert_non_null(p[i]);
        used += n;
    }
    nm_scope_stats st = stats_of(scope);
    assert_int_equal(st.used_bytes, used);
    assert_true(st.granted_bytes >= used + 16 * COUNT);
    assert_true(st.granted_bytes < 2 * used);
    for (int i = 0; i < COUNT; i++) nm_scope_free(p[(size_t)i * 7919 % COUNT]);
    st = stats_of(scope);
    assert_int_equal(st.used_bytes, 0);
    assert_true(st.granted_bytes <= (4 + 64) * KIB); /* the heap and one page */
    assert_true(nm_scope_reclaim(scope, 1) > 0);
    assert_int_equal(stats_of(scope).granted_bytes, 4 * KIB);
    assert_int_equal(nm_scope_reclaim(scope, 1), 0);
}

static void sixteen_bytes_each_are_what_it_costs(void **state) {
    (void)state;
    enum { COUNT = 10000 };
    static void *p[COUNT];
    for (int i = 0; i < COUNT; i++) p[i] = nm_scope_malloc(scope, 112); /* fills its slot of 128 */
    size_t granted = stats_of(scope).granted_bytes, least = COUNT * (size_t)(112 + 16);
    assert_in_range(granted, least, least + least / 16);
    for (int i = 0; i < COUNT; i++) nm_scope_free(p[i]);
}

static void a_loop_of_one_does_not_ask_the_scope_each_time(void **state) {
    (void)state;
    void *other = nm_scope_malloc(scope, 2000);
    nm_scope_free(nm_scope_malloc(scope, 100));
    nm_scope_free(nm_scope_malloc(scope, 3000));
    nm_scope_fail_after(scope, 1);
    for (int i = 0; i < 1000; i++) {
        void *p = nm_scope_malloc(scope, 100);
        assert_non_null(p);
        nm_scope_free(p);
        p = nm_scope_malloc(scope, 3000); /* the same page, cut anew */
        assert_non_null(p);
        nm_scope_free(p);
    }
    nm_scope_fail_after(scope, 0);
    nm_scope_free(other);
}

static void the_smallest_root_is_of_use(void **state) {
    (void)state;
    nm_scope *tiny;
    assert_ok(nm_scope_open(&tiny, NULL, NM_SCOPE_OPTIONS(.name = "tiny", .hard_bytes = NM_ROOT_MIN_BYTES)));
    size_t used = 0, count = 0;
    for (;; count++) {
        size_t n = count % 2 == 0 ? 100 : 400;
        unsigned char *p = nm_scope_malloc(tiny, n);
        if (p == NULL) break;
        memset(p, 1, n);
        used += n;
    }
    assert_true(used > 36 * KIB);
    nm_scope_stats st = stats_of(tiny);
    assert_true(st.granted_bytes <= NM_ROOT_MIN_BYTES);
    assert_int_equal(st.used_bytes, used);
    assert_status(st.last_refusal.status, NM_EBUDGET);
    assert_string_equal(st.last_refusal.name, "tiny");
    nm_leak_report report;
    assert_int_equal(nm_scope_close(tiny, &report), count);
    assert_int_equal(report.leaked_bytes, used);
}

static void the_scope_that_refused_is_named(void **state) {
    (void)state;
    nm_scope *child;
    assert_ok(nm_scope_open(&child, scope, NM_SCOPE_OPTIONS(.name = "child")));
    assert_status(stats_of(child).last_refusal.status, NM_OK);
    assert_null(nm_scope_malloc(child, 40 * MIB));
    nm_scope_stats st = stats_of(child);
    assert_status(st.last_refusal.status, NM_EBUDGET);
    assert_string_equal(st.last_refusal.name, "rest");
    assert_int_equal(st.last_refusal.wanted_bytes, 40 * MIB);
    assert_int_equal(st.granted_bytes, 0);                     /* refused: no heap was made for it */
    assert_status(stats_of(scope).last_refusal.status, NM_OK); /* nothing was asked of it */
    void *p = nm_scope_malloc(child, 40);
    assert_non_null(p);
    nm_scope_free(p);
    assert_int_equal(nm_scope_close(child, NULL), 0);
}

static void a_larger_slot_serves_before_a_refusal(void **state) {
    (void)state;
    nm_scope *small;
    assert_ok(nm_scope_open(&small, scope, NM_SCOPE_OPTIONS(.name = "small", .hard_bytes = 12 * KIB)));
    void *big[64];
    int count = 0;
    while ((big[count] = nm_scope_malloc(small, 240)) != NULL) count++;
    assert_in_range(count, 20, 45);
    nm_scope_free(big[0]);
    void *p = nm_scope_malloc(small, 10); /* no page for its class is to be had */
    assert_ptr_equal(p, big[0]);
    nm_scope_free(p);
    for (int i = 1; i < count; i++) nm_scope_free(big[i]);
    assert_int_equal(nm_scope_close(small, NULL), 0);
}

static void an_arena_gets_what_an_empty_page_holds(void **state) {
    (void)state;
    nm_scope *small;
    nm_arena *arena;
    assert_ok(nm_scope_open(&small, scope, NM_SCOPE_OPTIONS(.hard_bytes = 24 * KIB)));
    assert_ok(nm_arena_open(&arena, small, NULL));
    void *p = nm_scope_malloc(small, 3000);
    void *q = nm_scope_malloc(small, 3000); /* in a page of 16 KiB */
    nm_scope_free(q);
    assert_true(stats_of(small).granted_bytes > 16 * KIB);
    assert_non_null(nm_arena_alloc(arena, 16 * KIB));
    nm_scope_free(p);
    assert_int_equal(nm_scope_close(small, NULL), 0);
}

/* ---- the close --------------------------------------------------------------------------------------------------- */

static void a_close_reports_by_site_and_frees_everything(void **state) {
    (void)state;
    nm_scope *s;
    assert_ok(nm_scope_open(&s, scope, NM_SCOPE_OPTIONS(.name = "leaky")));
    void *freed = nm_scope_malloc_at(s, 50, "freed.c:1");
    for (int i = 0; i < 3; i++) assert_non_null(nm_scope_malloc_at(s, 100, "small.c:1"));
    assert_non_null(nm_scope_calloc_at(s, 10, 2000, "large.c:2"));
    assert_non_null(nm_scope_aligned_alloc_at(s, 512, 300, "aligned.c:3"));
    void *p = nm_scope_malloc_at(s, 10, "gone.c:4");
    assert_non_null(nm_scope_realloc_at(s, p, 11, "resized.c:5"));
    nm_scope_free(freed);
    assert_int_equal(stats_of(s).used_bytes, 300 + 20000 + 300 + 11);
    nm_leak_report report;
    assert_int_equal(nm_scope_close(s, &report), 6);
    assert_int_equal(report.leaked_bytes, 300 + 20000 + 300 + 11);
    assert_int_equal(report.site_count, 4);
    static const struct {
        const char *site;
        size_t count, bytes;
    } wanted[] = {{"small.c:1", 3, 300}, {"large.c:2", 1, 20000}, {"aligned.c:3", 1, 300}, {"resized.c:5", 1, 11}};
    for (size_t i = 0; i < 4; i++) {
        const nm_leak_site *found = NULL;
        for (uint32_t k = 0; k < report.site_count; k++)
            if (strcmp(report.sites[k].site, wanted[i].site) == 0) found = &report.sites[k];
        assert_non_null(found);
        assert_int_equal(found->kind, NM_LEAK_MALLOC);
        assert_int_equal(found->count, wanted[i].count);
        assert_int_equal(found->bytes, wanted[i].bytes);
        assert_string_equal(found->name, "leaky");
    }
    assert_int_equal(stats_of(scope).granted_bytes, 0);
}

static void a_strict_scope_reports_the_same_and_a_silent_one_nothing(void **state) {
    (void)state;
    for (int mode = NM_LEAKS_DEFAULT; mode <= NM_LEAKS_OFF; mode++) {
        nm_scope *s;
        assert_ok(nm_scope_open(&s, scope, NM_SCOPE_OPTIONS(.leak_report = (nm_leak_mode)mode)));
        assert_non_null(nm_scope_malloc(s, 100));
        assert_non_null(nm_scope_malloc(s, 100000));
        nm_leak_report report;
        size_t leaks = mode == NM_LEAKS_OFF ? 0 : 2;
        assert_int_equal(nm_scope_close(s, &report), leaks);
        assert_int_equal(report.leaked_bytes, leaks == 0 ? 0 : 100100);
        assert_int_equal(stats_of(scope).granted_bytes, 0);
    }
}

static void *kept;
static void free_kept(void *arg) { nm_scope_free(arg); }

static void a_deferred_function_may_free(void **state) {
    (void)state;
    nm_scope *s;
    assert_ok(nm_scope_open(&s, scope, NULL));
    kept = nm_scope_malloc(s, 100);
    assert_ok(nm_scope_defer(s, free_kept, kept));
    assert_int_equal(nm_scope_close(s, NULL), 0);
}

/* Also of an arena that lies in its request scope's own block and is in no list of holders. */
static void an_arena_s_deferred_function_may_free(void **state) {
    (void)state;
    for (int kind = NM_SCOPE_SERVICE; kind <= NM_SCOPE_TASK; kind++)
        for (int arena_first = 0; arena_first < 2; arena_first++) {
            nm_scope *s;
            nm_arena *arena;
            assert_ok(nm_scope_open(&s, scope, NM_SCOPE_OPTIONS(.kind = (nm_scope_kind)kind)));
            void *p = arena_first ? NULL : nm_scope_malloc(s, 100);
            assert_ok(nm_arena_open(&arena, s, NULL));
            if (p == NULL) p = nm_scope_malloc(s, 100);
            assert_ok(nm_arena_defer(arena, free_kept, p));
            assert_int_equal(nm_scope_close(s, NULL), 0);
        }
}

/* A request scope that lay ready starts anew. */
static void the_next_request_has_no_heap_and_no_refusal_of_the_last(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++) {
        nm_scope *s;
        assert_ok(nm_scope_open(&s, scope, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST, .hard_bytes = 64 * KIB)));
        assert_status(stats_of(s).last_refusal.status, NM_OK);
        assert_int_equal(stats_of(s).last_refusal.wanted_bytes, 0);
        assert_int_equal(stats_of(s).used_bytes, 0);
        if (i % 2 == 0) nm_scope_free(nm_scope_malloc(s, 100));
        assert_null(nm_scope_malloc(s, 100 * KIB));
        assert_status(stats_of(s).last_refusal.status, NM_EBUDGET);
        assert_int_equal(nm_scope_close(s, NULL), 0);
    }
}

static void free_object(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size,
                        void *context) {
    (void)reason, (void)key, (void)key_len, (void)size, (void)context;
    nm_scope_free(value);
}

/* Whichever of the two came first, the objects of a cache can be freed while its scope closes. */
static void a_cache_may_free_its_objects_when_the_scope_closes(void **state) {
    (void)state;
    for (int cache_first = 0; cache_first < 2; cache_first++) {
        nm_scope *s;
        nm_arena *arena;
        nm_cache *cache;
        assert_ok(nm_scope_open(&s, scope, NULL));
        void *object = cache_first ? NULL : nm_scope_malloc(s, 500);
        assert_ok(nm_arena_open(&arena, s, NULL));
        assert_ok(nm_cache_open(&cache, s, NM_CACHE_OPTIONS(.budget_bytes = 256 * KIB, .on_evict = free_object)));
        if (object == NULL) object = nm_scope_malloc(s, 500);
        assert_ok(nm_cache_put_object(cache, "k", 1, object, 500));
        assert_int_equal(nm_scope_close(s, NULL), 0);
    }
}

static void the_dump_lists_it(void **state) {
    (void)state;
    void *p = nm_scope_malloc(scope, 4321);
    char text[4096] = "";
    FILE *to = fmemopen(text, sizeof text - 1, "w");
    assert_ok(nm_scope_dump(root, to, NM_DUMP_TEXT));
    fclose(to);
    assert_non_null(strstr(text, "malloc"));
    assert_non_null(strstr(text, "4,321"));
    nm_scope_free(p);
}

/* ---- against a model --------------------------------------------------------------------------------------------- */

enum { PLACES = 500 };
typedef struct place {
    unsigned char *p;
    size_t n;
    unsigned char fill;
} place;

static size_t some_bytes(uint64_t *random) {
    switch (test_below(random, 16)) {
    case 0: return test_below(random, 300000);
    case 1:
    case 2: return test_below(random, 20000);
    case 3:
    case 4:
    case 5: return test_below(random, 3000);
    default: return test_below(random, 300);
    }
}

static void random_step(uint64_t *random, place *x, size_t *used, size_t *refused) {
    if (x->p != NULL && !is_filled(x->p, x->fill, x->n)) fail_msg("%zu bytes were written by somebody else", x->n);
    size_t n = some_bytes(random);
    if (x->p != NULL && test_below(random, 3) != 0) {
        nm_scope_free(x->p);
        *used -= x->n;
        x->p = NULL;
        return;
    }
    unsigned char *p;
    size_t same = 0;
    size_t align = (size_t)1 << test_below(random, 13);
    if (x->p != NULL) {
        p = nm_scope_realloc(scope, x->p, n);
        same = n < x->n ? n : x->n;
        if (p != NULL && !is_filled(p, x->fill, same)) fail_msg("realloc from %zu to %zu lost bytes", x->n, n);
        if (p != NULL) *used -= x->n;
    } else if (test_below(random, 4) == 0) {
        p = nm_scope_calloc(scope, n, 1);
        if (p != NULL) assert_true(is_filled(p, 0, n));
    } else if (test_below(random, 4) == 0) {
        p = nm_scope_aligned_alloc(scope, align, n);
        assert_int_equal((uintptr_t)p % align, 0);
    } else {
        p = nm_scope_malloc(scope, n);
    }
    if (p == NULL) {
        ++*refused;
        return;
    }
    *x = (place){p, n, (unsigned char)test_random(random)};
    memset(p, x->fill, n);
    *used += n;
}

static void random_operations_keep_every_byte(void **state) {
    (void)state;
    uint64_t random = test_seed();
    static place places[PLACES];
    memset(places, 0, sizeof places);
    size_t used = 0, refused = 0;
    assert_ok(nm_scope_set_budget(scope, 0, 4 * MIB));
    for (int i = 0; i < (TEST_SLOW ? 30000 : 300000); i++) {
        if (test_below(&random, 1000) == 0) nm_scope_reclaim(scope, 1);
        if (test_below(&random, 50) == 0) nm_scope_fail_after(root, 1 + test_below(&random, 3));
        random_step(&random, &places[test_below(&random, PLACES)], &used, &refused);
        nm_scope_stats st = stats_of(scope);
        if (st.used_bytes != used) fail_msg("step %d: %zu used, %zu told", i, used, st.used_bytes);
        assert_true(st.granted_bytes >= used && st.granted_bytes <= 4 * MIB);
        if (i % 1000 == 0) assert_int_equal(stats_of(root).granted_bytes, os_counter_committed());
    }
    nm_scope_fail_after(root, 0);
    assert_true(refused > 100);
    /* one half is freed, the other found by the close */
    size_t live = 0, bytes = 0;
    for (int i = 0; i < PLACES; i++) {
        if (places[i].p == NULL) continue;
        if (i % 2 == 0) {
            nm_scope_free(places[i].p);
            continue;
        }
        live++;
        bytes += places[i].n;
    }
    nm_leak_report report;
    assert_int_equal(nm_scope_close(scope, &report), live);
    assert_int_equal(report.leaked_bytes, bytes);
    assert_ok(nm_scope_open(&scope, root, NULL)); /* for tear_down */
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

static void *free_it(void *p) {
    nm_scope_free(p);
    return NULL;
}

static void a_request_s_memory_may_be_freed_on_another_thread(void **state) {
    (void)state;
    static const size_t sizes[] = {100, 100000};
    for (int i = 0; i < 2; i++) {
        nm_scope *request;
        assert_ok(nm_scope_open(&request, scope, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)));
        void *p = nm_scope_malloc(request, sizes[i]);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, free_it, p), 0);
        pthread_join(thread, NULL);
        assert_int_equal(stats_of(request).used_bytes, 0);
        assert_int_equal(nm_scope_close(request, NULL), 0);
    }
}

enum { THREADS = 8, SHARED_PLACES = 64 };
static unsigned char *shared[SHARED_PLACES]; /* what one thread leaves, another takes */

static void *work(void *arg) {
    uint64_t random = (uint64_t)(uintptr_t)arg;
    for (int i = 0; i < (TEST_SLOW ? 4000 : 40000); i++) {
        size_t n = 8 + some_bytes(&random) % (i % 64 == 0 ? 100000 : 2000);
        unsigned char *p = nm_scope_malloc(scope, n);
        if (p != NULL) {
            memcpy(p, &n, sizeof n);
            memset(p + sizeof n, (int)(n % 251), n - sizeof n);
        }
        /* acquire and release: the bytes go with the pointer */
        p = nm_atomic_exchange(&shared[test_below(&random, SHARED_PLACES)], p, NM_ACQ_REL);
        if (p == NULL) continue;
        memcpy(&n, p, sizeof n);
        if (!is_filled(p + sizeof n, (int)(n % 251), n - sizeof n)) return "written by somebody else";
        if (test_below(&random, 4) == 0) {
            unsigned char *q = nm_scope_realloc(scope, p, n + 100);
            if (q != NULL && !is_filled(q + sizeof n, (int)(n % 251), n - sizeof n)) return "lost by realloc";
            if (q != NULL) p = q;
        }
        nm_scope_free(p);
        if (test_below(&random, 500) == 0) nm_scope_reclaim(scope, 1);
    }
    return NULL;
}

static void many_threads_share_a_scope(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (int threads = 2; threads <= THREADS; threads *= 4) {
        pthread_t thread[THREADS];
        for (int i = 0; i < threads; i++)
            assert_int_equal(pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)(seed + (uint64_t)i)), 0);
        for (int i = 0; i < threads; i++) {
            void *wrong;
            pthread_join(thread[i], &wrong);
            if (wrong != NULL) fail_msg("%s", (const char *)wrong);
        }
        for (int i = 0; i < SHARED_PLACES; i++) {
            nm_scope_free(shared[i]);
            shared[i] = NULL;
        }
        assert_int_equal(stats_of(scope).used_bytes, 0);
    }
}

static void *allocate_first(void *arg) {
    pthread_barrier_wait(arg);
    return nm_scope_malloc(scope, 100);
}

static void the_first_allocation_may_be_several_threads_at_once(void **state) {
    (void)state;
    pthread_barrier_t barrier;
    for (int round = 0; round < 50; round++) {
        pthread_t thread[4];
        pthread_barrier_init(&barrier, NULL, 4);
        for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&thread[i], NULL, allocate_first, &barrier), 0);
        for (int i = 0; i < 4; i++) {
            void *p;
            pthread_join(thread[i], &p);
            assert_non_null(p);
            nm_scope_free(p);
        }
        pthread_barrier_destroy(&barrier);
        assert_int_equal(stats_of(scope).granted_bytes, 4 * KIB); /* one heap */
        assert_int_equal(nm_scope_close(scope, NULL), 0);
        assert_ok(nm_scope_open(&scope, root, NULL));
    }
}

/* ---- the lock ---------------------------------------------------------------------------------------------------- */

static struct {
    nm__lock lock;
    size_t count; /* not atomic: the lock's to guard */
} guarded;

static void *count_up(void *arg) {
    (void)arg;
    for (int i = 0; i < (TEST_SLOW ? 5000 : 100000); i++) {
        if (i % 7 != 0 || !nm__lock_try(&guarded.lock)) nm__lock_take(&guarded.lock);
        guarded.count++;
        if (i % 1000 == 0) sched_yield(); /* so that others have to sleep */
        nm__lock_give(&guarded.lock);
    }
    return NULL;
}

static void the_lock_excludes_and_wakes(void **state) {
    (void)state;
    nm__lock_open(&guarded.lock);
    guarded.count = 0;
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&thread[i], NULL, count_up, NULL), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    assert_int_equal(guarded.count, THREADS * (TEST_SLOW ? 5000 : 100000));
    assert_true(nm__lock_try(&guarded.lock));
    assert_false(nm__lock_try(&guarded.lock));
    nm__lock_give(&guarded.lock);
    nm__lock_close(&guarded.lock);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(every_size_is_aligned_usable_and_apart),
        T(the_bytes_that_size_tells_are_usable_to_the_last),
        T(nothing_gives_a_pointer_of_its_own),
        T(no_scope_no_memory),
        T(the_functions_serve_as_pointers),
        T(calloc_is_zeroed_also_where_memory_is_used_again),
        T(overflow_is_told_apart_from_a_limit),
        T(a_size_that_no_limit_stops_is_refused_by_the_system),
        T(any_alignment_up_to_2_mib),
        T(a_wrong_alignment_is_refused),
        T(realloc_keeps_the_contents_up_and_down),
        T(realloc_within_the_slot_stays),
        T(a_large_one_grows_in_its_block),
        T(a_refused_realloc_leaves_it_as_it_is),
        T(shrinking_is_never_refused),
        T(realloc_of_null_allocates),
        T(what_is_freed_goes_back_to_the_scope),
        T(sixteen_bytes_each_are_what_it_costs),
        T(a_loop_of_one_does_not_ask_the_scope_each_time),
        T(the_smallest_root_is_of_use),
        T(the_scope_that_refused_is_named),
        T(a_larger_slot_serves_before_a_refusal),
        T(an_arena_gets_what_an_empty_page_holds),
        T(a_close_reports_by_site_and_frees_everything),
        T(a_strict_scope_reports_the_same_and_a_silent_one_nothing),
        T(a_deferred_function_may_free),
        T(an_arena_s_deferred_function_may_free),
        T(the_next_request_has_no_heap_and_no_refusal_of_the_last),
        T(a_cache_may_free_its_objects_when_the_scope_closes),
        T(the_dump_lists_it),
        T(random_operations_keep_every_byte),
        T(a_request_s_memory_may_be_freed_on_another_thread),
        T(many_threads_share_a_scope),
        T(the_first_allocation_may_be_several_threads_at_once),
        cmocka_unit_test(the_lock_excludes_and_wakes),
    };
    return cmocka_run_group_tests_name("scope_malloc", tests, NULL, NULL);
}
