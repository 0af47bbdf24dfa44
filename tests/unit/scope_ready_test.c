// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Request scopes in blocks of their own, what of them lies ready, credit, and decay. */
#include <pthread.h>

#include "check/check.h"
#include "nebula/memory.h"
#include "os_counter.h"
#include "scope/ready.h"
#include "testing.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static nm_scope *root, *service;

static int set_up(void **state) {
    (void)state;
    os_counter_install();
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "root", .hard_bytes = 64 * MIB)) != NM_OK) return -1;
    return nm_scope_open(&service, root, NM_SCOPE_OPTIONS(.name = "service", .hard_bytes = 8 * MIB)) == NM_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    nm_scope_close(service, NULL);
    size_t leaks = nm_scope_close(root, NULL);
    return os_counter_remove() && leaks == 0 ? 0 : -1;
}

static nm_scope_stats stats_of(const nm_scope *s) {
    nm_scope_stats st;
    nm_scope_get_stats(s, &st);
    return st;
}

static nm_scope *request_below(nm_scope *parent, size_t soft, size_t hard) {
    nm_scope *s;
    assert_ok(nm_scope_open(
        &s, parent,
        NM_SCOPE_OPTIONS(.name = "request", .kind = NM_SCOPE_REQUEST, .soft_bytes = soft, .hard_bytes = hard)));
    return s;
}

static nm_arena *arena_in(nm_scope *s) {
    nm_arena *a;
    assert_ok(nm_arena_open(&a, s, NULL));
    return a;
}

/* True where a checker sees every allocation: then nothing lies in a block of its own. */
static bool is_watched(void) {
    nm_scope *s = request_below(service, 0, 0);
    nm_arena *a = arena_in(s);
    bool watched = (unsigned char *)a != (unsigned char *)s + NM__PLACE_OFFSET;
    nm_scope_close(s, NULL);
    return watched;
}

/* ---- one block for all of a request ------------------------------------------------------------------------------- */

static void a_request_takes_the_block_of_the_one_before(void **state) {
    (void)state;
    nm_scope *first = request_below(service, 0, 0);
    assert_int_equal(stats_of(service).child_count, 1);
    nm_scope_close(first, NULL);
    size_t granted = stats_of(service).granted_bytes;
    for (int i = 0; i < 100; i++) {
        nm_scope *s = request_below(service, 0, 0);
        assert_ptr_equal(s, first);
        assert_int_equal(stats_of(s).granted_bytes, 0);
        assert_int_equal(stats_of(s).peak_bytes, 0);
        nm_arena *a = arena_in(s);
        assert_non_null(nm_arena_alloc(a, 1000));
        assert_int_equal(nm_arena_used(a), 1008);
        nm_scope_close(s, NULL);
    }
    assert_int_equal(stats_of(service).granted_bytes, granted);
    assert_int_equal(stats_of(service).credit_bytes, granted); /* nothing else was opened */
}

static void requests_open_at_once_have_blocks_of_their_own(void **state) {
    (void)state;
    enum { N = 50 };
    nm_scope *open[N];
    for (int i = 0; i < N; i++) {
        open[i] = request_below(service, 0, 0);
        for (int k = 0; k < i; k++) assert_ptr_not_equal(open[i], open[k]);
        memset(nm_arena_alloc(arena_in(open[i]), 5000), i, 5000);
    }
    assert_int_equal(stats_of(service).child_count, N);
    assert_int_equal(stats_of(service).used_bytes, N * 5008);
    for (int i = 0; i < N; i++) nm_scope_close(open[(i * 7) % N], NULL);
    assert_int_equal(stats_of(service).child_count, 0);
    assert_int_equal(stats_of(service).used_bytes, 0);
}

static void a_hard_limit_below_the_block_is_kept_to_the_byte(void **state) {
    (void)state;
    for (size_t hard = 1024; hard <= 3 * KIB; hard += 16) {
        nm_scope *s = request_below(service, 0, hard);
        nm_arena *a = arena_in(s);
        /* but for the arena's header and its block's, and a red zone where a checker watches */
        size_t room = hard - NM__RECORD_BYTES - 48 - (nm__check_active() ? NM__RED_ZONE_BYTES : 0);
        assert_null(nm_arena_alloc(a, room + 1));
        assert_status(nm_arena_status(a), NM_EBUDGET);
        assert_non_null(nm_arena_alloc(a, room));
        assert_null(nm_arena_alloc(a, 1));
        assert_true(stats_of(s).granted_bytes <= hard);
        assert_true(stats_of(s).refused_count >= 1);
        nm_scope_close(s, NULL);
    }
}

typedef struct crossings {
    size_t count, granted;
} crossings;
static void count_crossing(nm_scope *crossed, size_t wanted, void *context) {
    (void)wanted;
    crossings *c = context;
    c->count++;
    c->granted = stats_of(crossed).granted_bytes;
}

static void a_soft_limit_is_crossed_by_use_not_by_the_opening(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        crossings c = {0, 0};
        nm_scope *s;
        assert_ok(
            nm_scope_open(&s, service,
                          NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST, .soft_bytes = 2 * KIB, .hard_bytes = 64 * KIB,
                                           .on_pressure = count_crossing, .context = &c)));
        nm_arena *a = arena_in(s);
        assert_non_null(nm_arena_alloc(a, 1024));
        if (!is_watched()) assert_int_equal(c.count, 0);
        assert_non_null(nm_arena_alloc(a, 1024));
        assert_int_equal(c.count, 1);
        assert_true(c.granted > 2 * KIB);
        assert_non_null(nm_arena_alloc(a, 20 * KIB));
        assert_int_equal(c.count, 1);
        assert_int_equal(stats_of(s).soft_count, 1);
        nm_scope_close(s, NULL);
    }
}

static void blocks_become_as_large_as_the_requests_need(void **state) {
    (void)state;
    if (is_watched()) skip();
    for (int i = 0; i < 3; i++) {
        nm_scope *s = request_below(service, 0, 0);
        nm_arena *a = arena_in(s);
        for (int k = 0; k < 50; k++) assert_non_null(nm_arena_alloc(a, 264));
        if (i > 0) assert_int_equal(s->block_order, 14);
        if (i > 0) assert_int_equal(nm_arena_granted(a), 16 * KIB - NM__RECORD_BYTES);
        nm_scope_close(s, NULL);
    }
}

static void an_arena_closed_by_hand_leaves_its_place_to_the_next(void **state) {
    (void)state;
    nm_scope *s = request_below(service, 0, 0);
    nm_arena *first = arena_in(s);
    nm_mark mark = nm_arena_mark(first);
    nm_arena *second = arena_in(s); /* elsewhere, as the place is taken */
    assert_ptr_not_equal(first, second);
    assert_non_null(nm_arena_alloc(second, 100));
    nm_arena_close(first);
    nm_arena *third = arena_in(s);
    if (!is_watched()) assert_ptr_equal(third, first);
    nm_mark fresh = nm_arena_mark(third);
    assert_status(nm_arena_rewind(third, mark), NM_ESTALE);
    assert_ok(nm_arena_rewind(third, fresh));
    nm_scope_close(s, NULL);
}

static void a_mark_of_an_earlier_request_is_stale(void **state) {
    (void)state;
    nm_scope *s = request_below(service, 0, 0);
    nm_mark old = nm_arena_mark(arena_in(s));
    nm_scope_close(s, NULL);
    s = request_below(service, 0, 0);
    nm_arena *a = arena_in(s);
    nm_mark fresh = nm_arena_mark(a);
    assert_status(nm_arena_rewind(a, old), NM_ESTALE);
    assert_ok(nm_arena_rewind(a, fresh));
    nm_scope_close(s, NULL);
}

/* Found by the law tests: the close took the arena's only block for the one in place, and forgot what it was granted. */
static void an_arena_that_gave_up_its_place_s_block_gives_back_the_other_one(void **state) {
    (void)state;
    nm_scope *s = request_below(service, 0, 3000);
    nm_arena *a = arena_in(s);
    assert_null(nm_arena_alloc(a, 2800)); /* more than there is: the empty block in place goes back first */
    assert_non_null(nm_arena_alloc(a, 1000));
    nm_scope_close(s, NULL);
    assert_int_equal(stats_of(service).granted_bytes, stats_of(service).credit_bytes);
}

/* ---- below sessions ----------------------------------------------------------------------------------------------- */

static void a_session_keeps_nothing_ready_but_is_charged_for_what_is_open(void **state) {
    (void)state;
    nm_scope *session;
    assert_ok(nm_scope_open(&session, service, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_SESSION, .hard_bytes = 20 * KIB)));
    nm_scope *open[8];
    size_t count = 0;
    while (count < 8) {
        nm_status st = nm_scope_open(&open[count], session, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST));
        if (st != NM_OK) break;
        count++;
        assert_true(stats_of(session).granted_bytes <= 20 * KIB);
        assert_int_equal(stats_of(session).child_count, count);
    }
    assert_true(count > 4); /* the last ones without a block */
    while (count > 0) nm_scope_close(open[--count], NULL);
    assert_int_equal(stats_of(session).granted_bytes, 0);
    assert_int_equal(stats_of(session).child_count, 0);
    nm_scope_close(session, NULL);
}

static void tasks_nest_in_requests(void **state) {
    (void)state;
    nm_scope *request = request_below(service, 0, 0), *task, *inner;
    assert_ok(nm_scope_open(&task, request, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_TASK)));
    assert_ok(nm_scope_open(&inner, task, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_TASK)));
    assert_non_null(nm_arena_alloc(arena_in(inner), 5000));
    assert_int_equal(stats_of(request).used_bytes, 5008);
    assert_true(stats_of(request).granted_bytes >= stats_of(task).granted_bytes);
    assert_true(stats_of(task).granted_bytes >= stats_of(inner).granted_bytes);
    nm_leak_report report;
    assert_int_equal(nm_scope_close(request, &report), 2);
    assert_int_equal(report.sites[0].kind, NM_LEAK_SCOPE);
    assert_int_equal(stats_of(service).granted_bytes, stats_of(service).credit_bytes);
}

static size_t closings;
static void count_closing(void *arg) {
    (void)arg;
    closings++;
}

static void requests_left_open_are_found_wherever_they_are(void **state) {
    (void)state;
    nm_scope *session;
    assert_ok(nm_scope_open(&session, service, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_SESSION)));
    for (int i = 0; i < 10; i++) {
        nm_scope *s = request_below(i % 2 == 0 ? session : service, 0, 0);
        assert_ok(nm_scope_defer(s, count_closing, NULL));
        assert_non_null(nm_arena_alloc(arena_in(s), 5000));
    }
    nm_scope_close(request_below(service, 0, 0), NULL);
    closings = 0;
    assert_int_equal(nm_scope_close(session, NULL), 5);
    assert_int_equal(closings, 5);
    nm_leak_report report;
    assert_int_equal(nm_scope_close(service, &report), 5);
    assert_int_equal(closings, 10);
    assert_int_equal(report.sites[0].count, 5);
    nm_scope_stats st = stats_of(root);
    assert_int_equal(st.granted_bytes, st.own_bytes + st.idle_bytes);
    assert_ok(nm_scope_open(&service, root, NULL));
}

/* ---- what lies ready is given up ---------------------------------------------------------------------------------- */

static void what_lies_ready_is_given_up_before_a_refusal(void **state) {
    (void)state;
    nm_scope *small;
    assert_ok(nm_scope_open(&small, service, NM_SCOPE_OPTIONS(.hard_bytes = MIB)));
    nm_scope *open[8];
    for (int i = 0; i < 8; i++) open[i] = request_below(small, 0, 0);
    for (int i = 0; i < 8; i++) nm_scope_close(open[i], NULL);
    nm_arena *a = arena_in(small);
    /* all of it but the headers: the arena's, the block's, and what is needed to keep requests ready */
    size_t most = MIB - NM__RECORD_BYTES - 64 - 2 * NM__RECORD_BYTES;
    assert_non_null(nm_arena_alloc(a, most / NM__PAGE_BYTES * NM__PAGE_BYTES - NM__PAGE_BYTES));
    assert_int_equal(stats_of(small).refused_count, 0);
    nm_scope_close(small, NULL);
}

static void never_more_than_an_eighth_of_the_limit_lies_ready(void **state) {
    (void)state;
    nm_scope *small;
    assert_ok(nm_scope_open(&small, service, NM_SCOPE_OPTIONS(.hard_bytes = MIB, .credit_bytes = 64 * KIB)));
    enum { N = 100 };
    nm_scope *open[N];
    for (int i = 0; i < N; i++) open[i] = request_below(small, 0, 0);
    for (int i = 0; i < N; i++) nm_scope_close(open[i], NULL);
    size_t bookkeeping = 5 * NM__RECORD_BYTES;
    assert_in_range(stats_of(small).credit_bytes, 0, MIB / 8 + bookkeeping);
    assert_int_equal(stats_of(small).granted_bytes, stats_of(small).credit_bytes);
    nm_scope_close(small, NULL);
}

static void smaller_limits_leave_less_ready(void **state) {
    (void)state;
    nm_scope *open[5];
    for (int i = 0; i < 5; i++) {
        open[i] = request_below(service, 0, 0);
        assert_non_null(nm_arena_alloc(arena_in(open[i]), 30 * KIB)); /* blocks of 64 KiB from now on */
    }
    for (int i = 0; i < 5; i++) nm_scope_close(open[i], NULL);
    for (int i = 0; i < 5; i++) open[i] = request_below(service, 0, 0);
    for (int i = 0; i < 5; i++) nm_scope_close(open[i], NULL);
    assert_ok(nm_scope_set_budget(service, 0, 200 * KIB));
    assert_in_range(stats_of(service).credit_bytes, 0, 200 * KIB / 8);
    nm_scope_close(request_below(service, 0, 0), NULL); /* too small for a block: still served */
    assert_in_range(stats_of(service).credit_bytes, 0, 200 * KIB / 8);
}

/* Found by an HTTP service: after a large request the next ones had the whole of their budget granted to the arena. */
static void an_arena_s_block_leaves_room_for_what_else_the_request_opens(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        nm_scope *s = request_below(service, 0, 0);
        for (int k = 0; k < 60; k++) assert_non_null(nm_arena_alloc(arena_in(s), 1000)); /* large blocks from now on */
        nm_scope_close(s, NULL);
    }
    nm_scope *s = request_below(service, 0, 64 * KIB), *child;
    nm_arena *a = arena_in(s);
    assert_non_null(nm_arena_alloc(a, 100));
    nm_pool *pool;
    assert_ok(nm_scope_open(&child, s, NULL));
    assert_ok(nm_pool_open(&pool, child, NM_POOL_OPTIONS(.chunk_bytes = 4096)));
    nm_lease lease = nm_pool_lease(pool);
    assert_true(nm_lease_ok(lease));
    nm_lease_release(&lease);
    assert_int_equal(stats_of(s).refused_count, 0);
    nm_scope_close(s, NULL);
}

static void a_session_with_a_small_budget_is_not_charged_large_blocks(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        nm_scope *s = request_below(service, 0, 0);
        assert_non_null(nm_arena_alloc(arena_in(s), 30 * KIB));
        nm_scope_close(s, NULL);
    }
    nm_scope *session, *open[10];
    assert_ok(nm_scope_open(&session, service, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_SESSION, .hard_bytes = 128 * KIB)));
    for (int i = 0; i < 10; i++) open[i] = request_below(session, 0, 0);
    assert_in_range(stats_of(session).granted_bytes, 0, 100 * KIB);
    for (int i = 0; i < 10; i++) nm_scope_close(open[i], NULL);
    nm_scope_close(session, NULL);
}

static void a_grant_is_refused_on_demand_though_blocks_lie_ready(void **state) {
    (void)state;
    nm_scope *s;
    nm_scope_close(request_below(service, 0, 0), NULL);
    nm_scope_fail_after(root, 1);
    assert_status(nm_scope_open(&s, service, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)), NM_EBUDGET);
    assert_null(s);
    assert_ok(nm_scope_open(&s, service, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)));
    nm_arena *a;
    nm_scope_fail_after(s, 1);
    assert_status(nm_arena_open(&a, s, NULL), NM_EBUDGET);
    nm_scope_fail_after(s, 2); /* still armed when the scope closes */
    nm_scope_close(s, NULL);
    assert_int_equal(root->root->rare, 0);
}

static void a_refused_system_call_leaves_requests_without_a_block(void **state) {
    (void)state;
    for (uint64_t n = 1;; n++) {
        nm_scope *s = NULL;
        os_counter_fail_after(n);
        nm_status st = nm_scope_open(&s, service, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST));
        bool refused = os_counter_failed();
        os_counter_fail_after(0);
        assert_true(st == NM_OK || st == NM_ENOMEM);
        if (st == NM_OK) {
            assert_non_null(nm_arena_alloc(arena_in(s), 100));
            nm_scope_close(s, NULL);
        }
        if (!refused) break;
    }
}

/* ---- credit ------------------------------------------------------------------------------------------------------- */

static void credit_keeps_the_ancestors_quiet(void **state) {
    (void)state;
    nm_scope *busy, *child;
    assert_status(nm_scope_open(&busy, NULL, NM_SCOPE_OPTIONS(.credit_bytes = 4096)), NM_EINVAL);
    assert_status(nm_scope_open(&busy, service, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_SESSION, .credit_bytes = 4096)),
                  NM_EINVAL);
    assert_status(nm_scope_open(&busy, service, NM_SCOPE_OPTIONS(.credit_bytes = SIZE_MAX)), NM_EINVAL);
    assert_ok(nm_scope_open(&busy, service, NM_SCOPE_OPTIONS(.name = "busy", .credit_bytes = 8 * KIB)));
    assert_ok(nm_scope_open(&child, busy, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_SESSION)));
    size_t changes = 0, before = stats_of(service).granted_bytes;
    for (int i = 0; i < 64; i++) {
        nm_scope *s;
        assert_ok(nm_scope_open(&s, child, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_SESSION)));
        size_t now = stats_of(service).granted_bytes;
        changes += now != before;
        before = now;
    }
    assert_in_range(changes, 1, 8); /* 64 headers of 256 bytes: 16 KiB */
    nm_scope_stats st = stats_of(busy);
    assert_true(st.credit_bytes > 0);
    assert_true(st.granted_bytes - st.credit_bytes == 65 * NM__RECORD_BYTES);
    assert_int_equal(nm_scope_close(child, NULL), 64);
    nm_scope_close(busy, NULL);
    assert_int_equal(stats_of(service).granted_bytes, 0);
}

static void credit_is_recalled_before_a_refusal(void **state) {
    (void)state;
    nm_scope *busy, *other, *child;
    assert_ok(nm_scope_set_budget(service, 0, MIB));
    assert_ok(nm_scope_open(&busy, service, NM_SCOPE_OPTIONS(.credit_bytes = 2 * KIB)));
    assert_ok(nm_scope_open(&other, service, NULL));
    assert_ok(nm_scope_open(&child, busy, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_SESSION)));
    size_t credit = stats_of(busy).credit_bytes;
    assert_true(credit > 5 * NM__RECORD_BYTES);
    /* to the last byte that the service has, were it not for the credit */
    size_t rest = MIB - stats_of(service).granted_bytes;
    assert_ok(nm__outside_charge(other, rest + 256, NM__GRANT_FULL, NULL));
    assert_true(stats_of(busy).credit_bytes < credit);
    assert_int_equal(stats_of(service).refused_count, 0);
    nm__outside_uncharge(other, rest + 256);
    nm_scope_close(busy, NULL);
    nm_scope_close(other, NULL);
}

static void a_scope_whose_credit_cannot_be_kept_is_not_opened(void **state) {
    (void)state;
    nm_scope *s;
    size_t before = stats_of(service).granted_bytes;
    uint64_t n = 1;
    for (;; n++) {
        nm_scope_fail_after(root, n);
        nm_status st = nm_scope_open(&s, service, NM_SCOPE_OPTIONS(.credit_bytes = 4096));
        if (st == NM_OK) break;
        assert_status(st, NM_EBUDGET);
        assert_null(s);
        assert_int_equal(stats_of(service).granted_bytes, before);
        assert_int_equal(stats_of(service).child_count, 0);
    }
    nm_scope_fail_after(root, 0);
    assert_int_equal(n, 7); /* the header, and five records for the lines */
    nm_scope_close(s, NULL);
}

/* ---- decay -------------------------------------------------------------------------------------------------------- */

static void what_nobody_uses_for_a_period_goes_back_to_the_system(void **state) {
    (void)state;
    nm_scope *s = request_below(service, 0, 0);
    nm_arena *a = arena_in(s);
    for (int i = 0; i < 100; i++) assert_non_null(nm_arena_alloc(a, 64 * KIB));
    nm_scope_close(s, NULL);
    size_t before = os_counter_committed();
    assert_true(nm_scope_maintain(root) <= NM__DECAY_MS * 1000000u);
    assert_int_equal(os_counter_committed(), before); /* no period has passed */
    uint64_t wait = 0;
    int periods = 0;
    while (wait != UINT64_MAX && periods++ < 10) {
        os_counter_pass_ms(NM__DECAY_MS);
        wait = nm_scope_maintain(root);
    }
    assert_in_range(periods, 1, 4);
    assert_true(os_counter_committed() < before);
    nm_scope_stats st = stats_of(root);
    assert_int_equal(nm__blocks_idle_bytes(&root->root->blocks), 0);
    assert_true(st.idle_bytes < 8 * KIB); /* free records of pages in use */
    assert_int_equal(nm_scope_maintain(NULL), UINT64_MAX);
}

static void what_is_used_in_each_period_stays(void **state) {
    (void)state;
    nm_scope *first = request_below(service, 0, 0);
    nm_scope_close(first, NULL);
    for (int i = 0; i < 5; i++) {
        nm_scope *s = request_below(service, 0, 0);
        assert_ptr_equal(s, first);
        nm_scope_close(s, NULL);
        os_counter_pass_ms(NM__DECAY_MS);
        assert_true(nm_scope_maintain(root) != UINT64_MAX);
    }
}

static void blocks_become_smaller_when_requests_do(void **state) {
    (void)state;
    if (is_watched()) skip();
    for (int i = 0; i < 2; i++) {
        nm_scope *s = request_below(service, 0, 0);
        assert_non_null(nm_arena_alloc(arena_in(s), 12 * KIB));
        nm_scope_close(s, NULL);
    }
    unsigned order = 0;
    for (int i = 0; i < 10; i++) {
        nm_scope *s = request_below(service, 0, 0);
        order = s->block_order;
        assert_non_null(nm_arena_alloc(arena_in(s), 100));
        nm_scope_close(s, NULL);
        os_counter_pass_ms(NM__DECAY_MS);
        (void)nm_scope_maintain(root);
    }
    assert_int_equal(order, 12);
}

/* ---- threads ------------------------------------------------------------------------------------------------------ */

enum { THREADS = 24, CYCLES = TEST_SLOW ? 500 : 5000 };
static NM_ATOMIC(bool) stop;
static NM_ATOMIC(nm_scope *) handed;

static void *open_and_close(void *arg) {
    nm_scope *parent = arg;
    for (int i = 0; i < CYCLES; i++) {
        nm_scope *s = request_below(parent, 0, 0);
        nm_arena *a = arena_in(s);
        unsigned char *p = nm_arena_alloc(a, 200 + (size_t)i % 3000);
        assert_non_null(p);
        memset(p, i, 200);
        /* some are closed by another thread */
        if (i % 8 == 0) s = nm_atomic_exchange(&handed, s, NM_ACQ_REL);
        nm_scope_close(s, NULL);
    }
    return NULL;
}

static void *look(void *arg) {
    (void)arg;
    FILE *nowhere = fopen("/dev/null", "w");
    assert_non_null(nowhere);
    while (!nm_atomic_load(&stop, NM_ACQUIRE)) {
        nm_scope_stats st = stats_of(root);
        assert_true(st.granted_bytes <= 64 * MIB);
        assert_true(stats_of(service).granted_bytes <= 8 * MIB);
        assert_ok(nm_scope_dump(root, nowhere, NM_DUMP_TEXT));
        (void)nm_scope_reclaim(service, 64 * KIB);
        os_counter_pass_ms(NM__DECAY_MS);
        (void)nm_scope_maintain(root);
    }
    fclose(nowhere);
    return NULL;
}

static void more_threads_than_stripes_open_requests_while_others_look(void **state) {
    (void)state;
    pthread_t threads[THREADS], looker;
    nm_scope *busy;
    assert_ok(nm_scope_open(&busy, service, NM_SCOPE_OPTIONS(.credit_bytes = 16 * KIB)));
    handed = NULL;
    nm_atomic_store(&stop, false, NM_RELEASE);
    assert_int_equal(pthread_create(&looker, NULL, look, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, open_and_close, i % 2 == 0 ? service : busy), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    nm_atomic_store(&stop, true, NM_RELEASE);
    pthread_join(looker, NULL);
    nm_scope_close(handed, NULL);
    assert_int_equal(stats_of(service).used_bytes, 0);
    nm_scope_stats st = stats_of(service);
    assert_int_equal(st.granted_bytes - st.credit_bytes, NM__RECORD_BYTES); /* busy's header */
    assert_int_equal(nm_scope_close(busy, NULL), 0);
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(a_request_takes_the_block_of_the_one_before),
        T(requests_open_at_once_have_blocks_of_their_own),
        T(a_hard_limit_below_the_block_is_kept_to_the_byte),
        T(a_soft_limit_is_crossed_by_use_not_by_the_opening),
        T(blocks_become_as_large_as_the_requests_need),
        T(an_arena_closed_by_hand_leaves_its_place_to_the_next),
        T(a_mark_of_an_earlier_request_is_stale),
        T(an_arena_that_gave_up_its_place_s_block_gives_back_the_other_one),
        T(a_session_keeps_nothing_ready_but_is_charged_for_what_is_open),
        T(tasks_nest_in_requests),
        T(requests_left_open_are_found_wherever_they_are),
        T(what_lies_ready_is_given_up_before_a_refusal),
        T(never_more_than_an_eighth_of_the_limit_lies_ready),
        T(smaller_limits_leave_less_ready),
        T(an_arena_s_block_leaves_room_for_what_else_the_request_opens),
        T(a_session_with_a_small_budget_is_not_charged_large_blocks),
        T(a_grant_is_refused_on_demand_though_blocks_lie_ready),
        T(a_refused_system_call_leaves_requests_without_a_block),
        T(credit_keeps_the_ancestors_quiet),
        T(credit_is_recalled_before_a_refusal),
        T(a_scope_whose_credit_cannot_be_kept_is_not_opened),
        T(what_nobody_uses_for_a_period_goes_back_to_the_system),
        T(what_is_used_in_each_period_stays),
        T(blocks_become_smaller_when_requests_do),
        T(more_threads_than_stripes_open_requests_while_others_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
