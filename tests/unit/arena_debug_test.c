// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Guards, quarantine, fills, tracing and sampling, switched on by a scope's options. */
#include "arena_fixture.h"
#include "scope/holder.h"
#include "scope/sites.h"

static nm_misuse told;
static int tellings;
static void listen(const nm_misuse *misuse, void *context) {
    (void)context;
    told = *misuse;
    tellings++;
}

static nm_scope *scope;
static nm_arena *a;

static void open_watched(void **state, unsigned debug, size_t sample_bytes, const nm_arena_options *options) {
    assert_int_equal(
        nm_scope_open(&scope, root_of(state), NM_SCOPE_OPTIONS(.debug = debug, .sample_bytes = sample_bytes)), NM_OK);
    assert_int_equal(nm_arena_open(&a, scope, options != NULL ? options : NM_ARENA_OPTIONS(.name = "watched")), NM_OK);
    tellings = 0;
    nm_set_misuse_handler(listen, NULL);
}

/* The number of misuses told since the opening, and that all of it went back. */
static int close_watched(void) {
    assert_int_equal(nm_scope_close(scope, NULL), 0);
    nm_set_misuse_handler(NULL, NULL);
    return tellings;
}

/* The address sanitizer and memcheck see more than these and would stop the test. */
#define NOT_UNDER_A_CHECKER()                                                                                          \
    do {                                                                                                               \
        if (nm__check_active()) skip();                                                                                \
    } while (0)

static void write_at(void *p, size_t i, unsigned char byte) { ((volatile unsigned char *)p)[i] = byte; }

static void fills_are_seen(void **state) {
    NOT_UNDER_A_CHECKER();
    open_watched(state, NM_DEBUG_FILL, 0, NULL);
    unsigned char *p = nm_arena_alloc(a, 100);
    assert_non_null(p);
    for (int i = 0; i < 100; i++) assert_int_equal(p[i], 0xa5);
    for (int i = 0; i < 100; i++) assert_int_equal(((unsigned char *)nm_arena_zalloc(a, 100))[i], 0);
    assert_string_equal(nm_arena_printf(a, "%d", 17), "17");
    nm_mark mark = nm_arena_mark(a);
    unsigned char *q = nm_arena_alloc(a, 100);
    memset(q, 1, 100);
    assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
    for (int i = 0; i < 100; i++) assert_int_equal(q[i], 0xdd);
    nm_arena_reset(a);
    for (int i = 0; i < 100; i++) assert_int_equal(p[i], 0xdd);
    assert_int_equal(close_watched(), 0);
}

typedef enum end { BY_RESET, BY_REWIND, BY_TEMP, BY_CLOSE, BY_SCOPE, BY_MOVE, BY_REALLOC, ENDS } end;

static void a_guard_is_checked_however_the_allocation_ends(void **state) {
    NOT_UNDER_A_CHECKER();
    static const size_t sizes[] = {0, 1, 15, 16, 20, 1000, 5000, 100000};
    for (int e = 0; e < ENDS; e++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (size_t beyond = 0; beyond < 16; beyond += 5) {
                size_t n = sizes[i];
                open_watched(state, NM_DEBUG_GUARD, 0, NULL);
                void *other = nm_arena_alloc(a, 10), *p = NULL;
                assert_non_null(other);
                nm_mark mark = nm_arena_mark(a);
                if (e == BY_TEMP)
                    NM_ARENA_TEMP (a) {
                        p = nm_arena_alloc_at(a, n, "planted.c:7");
                        write_at(p, n + beyond, 1);
                    }
                else {
                    p = nm_arena_alloc_at(a, n, "planted.c:7");
                    write_at(p, n + beyond, 1);
                }
                if (e == BY_RESET) nm_arena_reset(a);
                if (e == BY_REWIND) assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
                if (e == BY_CLOSE) nm_arena_close(a);
                if (e == BY_REALLOC) assert_non_null(nm_arena_realloc(a, p, n, n + 1));
                if (e == BY_MOVE) assert_int_equal(nm_arena_move(a, root_of(state)), NM_OK);
                if (e == BY_MOVE) assert_int_equal(nm_arena_move(a, scope), NM_OK); /* seen there and there */
                int before = tellings;
                int all = close_watched();
                assert_int_equal(e == BY_SCOPE ? all : before, e == BY_MOVE ? 2 : 1);
                assert_string_equal(told.part, "arena");
                assert_string_equal(told.what, "arena memory written past an allocation's end");
                assert_string_equal(told.leased_at, "planted.c:7");
                assert_ptr_equal(told.address, p);
            }
}

static void right_use_is_not_reported(void **state) {
    NOT_UNDER_A_CHECKER();
    for (unsigned debug = 0; debug <= NM__DEBUG_ALL; debug++) {
        open_watched(state, debug, 0, NULL);
        for (int round = 0; round < 5; round++) {
            unsigned char *p = nm_arena_alloc(a, 33);
            memset(p, 1, 33);
            nm_mark mark = nm_arena_mark(a);
            for (size_t n = 34; n < 100000; n = n * 3 / 2) {
                p = nm_arena_realloc(a, p, n == 34 ? 33 : (n * 2 + 2) / 3, n);
                assert_non_null(p);
                memset(p, round, n);
                if (n > 2000) assert_non_null(nm_arena_strdup(a, "between"));
            }
            assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
            nm_arena_reset(a);
        }
        nm_arena_close(a);
        assert_int_equal(close_watched(), 0);
    }
}

static void a_write_to_what_was_undone_is_reported(void **state) {
    NOT_UNDER_A_CHECKER();
    for (int e = BY_RESET; e <= BY_CLOSE; e++)
        for (size_t n = 10; n < 3000000; n = n * 9) {
            open_watched(state, NM_DEBUG_QUARANTINE, 0, NULL);
            nm_mark mark = nm_arena_mark(a);
            unsigned char *p = NULL;
            if (e == BY_TEMP) {
                NM_ARENA_TEMP (a) {
                    p = nm_arena_alloc(a, n);
                }
            } else {
                p = nm_arena_alloc(a, n);
            }
            assert_non_null(p);
            if (e == BY_RESET) nm_arena_reset(a);
            if (e == BY_REWIND) assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
            if (e == BY_CLOSE) nm_arena_close(a);
            if (n < 1000000) { /* above the quarantine's limit it is gone */
                for (size_t i = 0; i < n; i += 9) assert_int_equal(p[i], 0xdd);
                write_at(p, n / 2, 1);
            }
            assert_int_equal(tellings, 0);
            assert_int_equal(close_watched(), n < 1000000 ? 1 : 0);
            if (n < 1000000) assert_string_equal(told.what, "arena memory written after it was undone");
        }
}

static void memory_in_quarantine_is_not_handed_out_and_bounded(void **state) {
    NOT_UNDER_A_CHECKER();
    open_watched(state, NM_DEBUG_QUARANTINE, 0, NULL);
    unsigned char *last = NULL;
    for (int round = 0; round < 500; round++) {
        unsigned char *p = nm_arena_alloc(a, 3000);
        assert_non_null(p);
        assert_ptr_not_equal(p, last);
        assert_true(nm_arena_owns(a, p));
        last = p;
        nm_arena_reset(a);
        assert_int_equal(nm_arena_used(a), 0);
        assert_false(nm_arena_owns(a, p));
        assert_true(nm_arena_granted(a) <= (2 << 20));
        assert_int_equal(granted_to(scope), nm_arena_granted(a));
    }
    nm_mark mark = nm_arena_mark(a);
    size_t used = nm_arena_used(a);
    for (int round = 0; round < 5000; round++) {
        unsigned char *p = nm_arena_alloc(a, 3000);
        assert_non_null(p);
        assert_ptr_not_equal(p, last);
        last = p;
        assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
        nm_mark same = nm_arena_mark(a);
        assert_true(same.record == mark.record && same.id == mark.id);
        assert_int_equal(nm_arena_used(a), used);
        assert_true(nm_arena_granted(a) <= (3 << 20));
    }
    assert_int_equal(close_watched(), 0);
}

static void a_small_limit_gets_its_quarantine_back(void **state) {
    NOT_UNDER_A_CHECKER();
    assert_int_equal(
        nm_scope_open(&scope, root_of(state), NM_SCOPE_OPTIONS(.debug = NM_DEBUG_QUARANTINE, .hard_bytes = 4 << 20)),
        NM_OK);
    for (int round = 0; round < 100; round++) {
        assert_int_equal(nm_arena_open(&a, scope, NULL), NM_OK);
        for (int i = 0; i < 10; i++) assert_non_null(nm_arena_alloc(a, 300000));
        nm_arena_reset(a);
        for (int i = 0; i < 10; i++) assert_non_null(nm_arena_alloc(a, 300000));
        assert_int_equal(nm_arena_status(a), NM_OK);
        nm_arena_close(a);
    }
    assert_int_equal(nm_scope_close(scope, NULL), 0);
}

static void use_of_a_closed_arena_is_reported_and_does_nothing(void **state) {
    NOT_UNDER_A_CHECKER();
    open_watched(state, NM_DEBUG_QUARANTINE, 0, NULL);
    assert_usable(a);
    nm_arena_close(a);
    assert_null(nm_arena_alloc(a, 10));
    assert_int_equal(tellings, 1);
    assert_string_equal(told.what, "arena used after its close");
    assert_string_equal(told.name, "watched");
    assert_int_equal(nm_arena_status(a), NM_ECLOSED);
    nm_arena_reset(a);
    assert_int_equal(tellings, 2);
    nm_arena_close(a);
    assert_int_equal(tellings, 3);
    assert_int_equal(nm_arena_used(a), 0);
    for (int i = 0; i < 200; i++) { /* many more than are kept */
        nm_arena *more;
        assert_int_equal(nm_arena_open(&more, scope, NULL), NM_OK);
        assert_usable(more);
        nm_arena_close(more);
    }
    assert_int_equal(close_watched(), 3);
}

static void secrets_are_wiped_also_in_quarantine(void **state) {
    NOT_UNDER_A_CHECKER();
    open_watched(state, NM_DEBUG_QUARANTINE | NM_DEBUG_GUARD | NM_DEBUG_FILL, 0, NM_ARENA_OPTIONS(.secret = true));
    unsigned char *p = nm_arena_alloc(a, 1000);
    memset(p, 0x5e, 1000);
    nm_arena_reset(a);
    for (int i = 0; i < 1000; i++) assert_int_equal(p[i], 0);
    write_at(p, 5, 1);
    assert_int_equal(close_watched(), 1);
}

/* ---- sites ------------------------------------------------------------------------------------------------------- */

static nm__site_count count_of(const char *site) {
    nm__site_count top[64];
    size_t n = nm__sites_top(scope, top, 64);
    for (size_t i = 0; i < n && i < 64; i++)
        if (strcmp(top[i].site, site) == 0) return top[i];
    return (nm__site_count){site, 0, 0};
}

static void tracing_counts_every_allocation_by_its_site(void **state) {
    open_watched(state, NM_DEBUG_TRACE, 0, NULL);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 100; i++) assert_non_null(nm_arena_alloc_at(a, 100, "a.c:1"));
        assert_non_null(nm_arena_zalloc_at(a, 0, "b.c:2"));
        assert_non_null(nm_arena_alloc_at(a, 1 << 20, "c.c:3"));
        assert_non_null(nm_arena_strdup_at(a, "text", "d.c:4"));
        nm_arena_reset(a);
    }
    assert_int_equal(count_of("a.c:1").count, 1000);
    assert_int_equal(count_of("a.c:1").bytes, 112 * 1000);
    assert_int_equal(count_of("b.c:2").count, 10);
    assert_int_equal(count_of("b.c:2").bytes, 160);
    assert_int_equal(count_of("c.c:3").bytes, 10 << 20);
    assert_int_equal(count_of("d.c:4").count, 10);
    nm__site_count top;
    nm__sites_top(scope, &top, 1);
    assert_string_equal(top.site, "c.c:3");
    assert_int_equal(close_watched(), 0);
}

static bool is_about(uint64_t got, uint64_t wanted) { return got > wanted / 10 * 9 && got < wanted / 10 * 11; }

/* One arena that lives long, and many that are far smaller than the distance of samples. */
static void samples_add_up_to_about_what_was_handed_out(void **state) {
    for (int small = 0; small < 2; small++) {
        open_watched(state, 0, 8 << 10, NULL);
        uint64_t bytes_a = 0, bytes_b = 0, count_a = 0, random = 1;
        nm__site_count before_a = count_of("sample.c:1"), before_b = count_of("sample.c:2");
        for (int i = 0; i < 200000; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            size_t n = (size_t)(random >> 40) % 200;
            if ((random >> 60) < 12) {
                assert_non_null(nm_arena_alloc_at(a, n, "sample.c:1"));
                bytes_a += round16(n);
                count_a++;
            } else {
                assert_non_null(nm_arena_alloc_at(a, n * 4, "sample.c:2"));
                bytes_b += round16(n * 4);
            }
            if (!small && i % 1000 == 0) nm_arena_reset(a);
            if (small && i % 7 == 0) {
                nm_arena_close(a);
                assert_int_equal(nm_arena_open(&a, scope, NULL), NM_OK);
            }
        }
        nm__site_count got_a = count_of("sample.c:1"), got_b = count_of("sample.c:2");
        assert_true(is_about(got_a.bytes - before_a.bytes, bytes_a));
        assert_true(is_about(got_b.bytes - before_b.bytes, bytes_b));
        assert_true(got_a.count - before_a.count > count_a / 2 && got_a.count - before_a.count < count_a * 2);
        assert_int_equal(close_watched(), 0);
    }
}

static void a_sampled_arena_keeps_its_inline_path(void **state) {
    NOT_UNDER_A_CHECKER();
    open_watched(state, 0, 1 << 20, NULL);
    assert_non_null(nm_arena_alloc(a, 16));
    assert_true(a->end - a->ptr > 2000);
    nm_arena_close(a);
    assert_int_equal(nm_arena_open(&a, root_of(state), NULL), NM_OK); /* nobody watches there */
    assert_int_equal(nm_arena_granted(a), 256);
    nm_arena_close(a);
    assert_int_equal(close_watched(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ARENA_TEST(fills_are_seen),
        ARENA_TEST(a_guard_is_checked_however_the_allocation_ends),
        ARENA_TEST(right_use_is_not_reported),
        ARENA_TEST(a_write_to_what_was_undone_is_reported),
        ARENA_TEST(memory_in_quarantine_is_not_handed_out_and_bounded),
        ARENA_TEST(a_small_limit_gets_its_quarantine_back),
        ARENA_TEST(use_of_a_closed_arena_is_reported_and_does_nothing),
        ARENA_TEST(secrets_are_wiped_also_in_quarantine),
        ARENA_TEST(tracing_counts_every_allocation_by_its_site),
        ARENA_TEST(samples_add_up_to_about_what_was_handed_out),
        ARENA_TEST(a_sampled_arena_keeps_its_inline_path),
    };
    return cmocka_run_group_tests_name("arena_debug", tests, NULL, NULL);
}
