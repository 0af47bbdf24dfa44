// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <pthread.h>

#include "base/options.h"
#include "nebula/scope.h"
#include "os_counter.h"
#include "scope/holder.h"
#include "testing.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static nm_scope *root;

static int open_root(void **state) {
    (void)state;
    os_counter_install();
    return nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "root", .hard_bytes = 4 * MIB)) == NM_OK ? 0 : -1;
}

static int close_root(void **state) {
    (void)state;
    nm_scope_close(root, NULL);
    return os_counter_remove() ? 0 : -1;
}

static nm_scope_stats stats_of(const nm_scope *s) {
    nm_scope_stats st;
    nm_scope_get_stats(s, &st);
    return st;
}

static nm_scope *open_child(nm_scope *parent, const char *name, nm_scope_kind kind, size_t soft, size_t hard) {
    nm_scope *s;
    assert_ok(nm_scope_open(&s, parent,
                            NM_SCOPE_OPTIONS(.name = name, .kind = kind, .soft_bytes = soft, .hard_bytes = hard)));
    return s;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static void options_out_of_range_are_refused_and_leave_nothing(void **state) {
    (void)state;
    nm_scope *s = root;
    assert_status(nm_scope_open(NULL, root, NULL), NM_EINVAL);
    assert_status(nm_scope_open(&s, root, NM_SCOPE_OPTIONS(.soft_bytes = 2, .hard_bytes = 1)), NM_EINVAL);
    assert_null(s);
    assert_status(nm_scope_open(&s, root, NM_SCOPE_OPTIONS(.kind = (nm_scope_kind)99)), NM_EINVAL);
    assert_status(nm_scope_open(&s, root, NM_SCOPE_OPTIONS(.leak_report = (nm_leak_mode)9)), NM_EINVAL);
    assert_status(nm_scope_open(&s, root, NM_SCOPE_OPTIONS(.hard_bytes = SIZE_MAX)), NM_EINVAL);
    assert_status(nm_scope_open(&s, root, NM_SCOPE_OPTIONS(.soft_bytes = SIZE_MAX / 2 + 1)), NM_EINVAL);
    assert_status(nm_scope_open(&s, NULL, NM_SCOPE_OPTIONS(.hard_bytes = NM_ROOT_MIN_BYTES - 1)), NM_EINVAL);
    nm_scope_options unsized;
    memset(&unsized, 0, sizeof unsized);
    assert_status(nm_scope_open(&s, root, &unsized), NM_EINVAL);
    assert_int_equal(stats_of(root).child_count, 0);
}

static void the_smallest_root_opens_and_serves_a_scope(void **state) {
    (void)state;
    nm_scope *small, *child;
    assert_ok(nm_scope_open(&small, NULL, NM_SCOPE_OPTIONS(.hard_bytes = NM_ROOT_MIN_BYTES)));
    assert_ok(nm_scope_open(&child, small, NULL));
    nm__block b;
    assert_ok(nm__block_take(child, 32 * KIB, 32 * KIB, &b));
    assert_true(stats_of(small).granted_bytes <= NM_ROOT_MIN_BYTES);
    nm__block_give(child, &b);
    assert_int_equal(nm_scope_close(small, NULL), 1);
}

static void a_root_without_a_limit_opens(void **state) {
    (void)state;
    nm_scope *free_root;
    assert_ok(nm_scope_open(&free_root, NULL, NULL));
    nm_scope_stats st = stats_of(free_root);
    assert_int_equal(st.hard_bytes, 0);
    assert_int_equal(st.kind, NM_SCOPE_PROCESS);
    assert_int_equal(nm_scope_close(free_root, NULL), 0);
}

static void the_plain_functions_work_through_pointers(void **state) {
    (void)state;
    nm_status (*open)(nm_scope **, nm_scope *, const nm_scope_options *) = nm_scope_open;
    size_t (*close)(nm_scope *, nm_leak_report *) = nm_scope_close;
    void (*get)(const nm_scope *, nm_scope_stats *) = nm_scope_get_stats;
    nm_scope *s;
    assert_ok(open(&s, root, NULL));
    nm_scope_stats st;
    get(s, &st);
    assert_int_equal(st.kind, NM_SCOPE_SERVICE);
    assert_int_equal(close(s, NULL), 0);
}

static void a_scopes_header_is_charged_to_its_parent(void **state) {
    (void)state;
    nm_scope *a = open_child(root, "a", NM_SCOPE_SERVICE, 0, 64 * KIB);
    assert_int_equal(stats_of(a).granted_bytes, 0);
    nm_scope *b = open_child(a, "b", NM_SCOPE_REQUEST, 0, 0);
    assert_int_equal(stats_of(a).granted_bytes, 256);
    assert_int_equal(stats_of(a).child_count, 1);
    assert_int_equal(stats_of(b).hard_bytes, 64 * KIB);
    nm_scope_close(b, NULL);
    assert_int_equal(stats_of(a).granted_bytes, 0);
    assert_int_equal(stats_of(a).peak_bytes, 256);
    nm_scope_close(a, NULL);
}

static void a_parent_that_is_full_refuses_a_child(void **state) {
    (void)state;
    nm_scope *a = open_child(root, "a", NM_SCOPE_SERVICE, 0, 300);
    nm_scope *b = open_child(a, "b", NM_SCOPE_DEFAULT, 0, 0), *c;
    assert_status(nm_scope_open(&c, a, NULL), NM_EBUDGET);
    assert_null(c);
    assert_int_equal(stats_of(a).refused_count, 1);
    nm_scope_close(b, NULL);
    assert_ok(nm_scope_open(&c, a, NULL));
    nm_scope_close(a, NULL);
}

/* ---- the budget law ---------------------------------------------------------------------------------------------- */

static void bytes_are_charged_to_all_ancestors_and_refused_by_the_tightest(void **state) {
    (void)state;
    nm_scope *a = open_child(root, "a", NM_SCOPE_SERVICE, 0, 100 * KIB);
    nm_scope *b = open_child(a, "b", NM_SCOPE_SESSION, 0, 64 * KIB);
    nm_scope *c = open_child(b, "c", NM_SCOPE_REQUEST, 0, 0);
    size_t before = stats_of(root).granted_bytes;
    nm__block big, small;
    assert_ok(nm__block_take(c, 32 * KIB, 32 * KIB, &big));
    assert_int_equal(stats_of(c).granted_bytes, 32 * KIB);
    assert_int_equal(stats_of(b).granted_bytes, 32 * KIB + 256);
    assert_int_equal(stats_of(a).granted_bytes, 32 * KIB + 512);
    assert_true(stats_of(root).granted_bytes >= before + 32 * KIB);
    assert_int_equal(stats_of(root).granted_bytes, os_counter_committed());
    assert_status(nm__block_take(c, 33 * KIB, 33 * KIB, &small), NM_EBUDGET);
    assert_int_equal(stats_of(b).refused_count, 1);
    assert_int_equal(stats_of(c).granted_bytes, 32 * KIB);
    assert_ok(nm__block_take(c, 4 * KIB, 4 * KIB, &small));
    nm__block_give(c, &small);
    nm__block_give(c, &big);
    assert_int_equal(stats_of(a).granted_bytes, 512);
    nm_scope_close(a, NULL);
}

static void a_block_is_granted_in_part_to_the_last_16_bytes(void **state) {
    (void)state;
    nm_scope *a = open_child(root, "a", NM_SCOPE_REQUEST, 0, 10000);
    nm__block b1, b2;
    assert_ok(nm__block_take(a, 4096, 4096, &b1));
    assert_ok(nm__block_take(a, 1000, 8192, &b2));
    assert_int_equal(b2.bytes, 4096);
    assert_int_equal(b2.granted, 4096);
    nm__block b3;
    assert_ok(nm__block_take(a, 1000, 8192, &b3));
    assert_int_equal(b3.bytes, 4096);
    assert_int_equal(b3.granted, (10000 - 8192) / 16 * 16);
    assert_status(nm__block_extend(a, &b3, 16), NM_EBUDGET);
    nm__block_give(a, &b1);
    assert_ok(nm__block_extend(a, &b3, 16));
    assert_int_equal(b3.granted, 4096);
    assert_status(nm__block_extend(a, &b3, 1), NM_ETOOLARGE);
    nm__block_give(a, &b2);
    nm__block_give(a, &b3);
    assert_int_equal(stats_of(a).granted_bytes, 0);
    nm_scope_close(a, NULL);
}

static void a_large_block_is_charged_its_pages_not_its_class(void **state) {
    (void)state;
    nm_scope *a = open_child(root, "a", NM_SCOPE_REQUEST, 0, MIB + 200 * KIB);
    nm__block b;
    assert_ok(nm__block_take(a, MIB + 100 * KIB + 1, 0, &b));
    assert_int_equal(b.bytes, 2 * MIB);
    assert_int_equal(b.granted, MIB + 104 * KIB);
    assert_int_equal(stats_of(a).granted_bytes, b.granted);
    assert_int_equal(stats_of(root).granted_bytes, os_counter_committed());
    nm__block_give(a, &b);
    assert_int_equal(stats_of(a).granted_bytes, 0);
    nm_scope_close(a, NULL);
}

static void sizes_at_the_edge_of_the_type_are_refused(void **state) {
    (void)state;
    nm__block b;
    void *p;
    assert_status(nm__block_take(root, SIZE_MAX, 0, &b), NM_ETOOLARGE);
    assert_status(nm__block_take(root, SIZE_MAX / 2 + 1, 0, &b), NM_ETOOLARGE);
    assert_status(nm__block_take(root, 64 * MIB, 0, &b), NM_EBUDGET);
    assert_status(nm__outside_charge(root, SIZE_MAX, NM__GRANT_FULL, NULL), NM_ETOOLARGE);
    assert_status(nm__range_reserve(SIZE_MAX, 4096, &p), NM_ETOOLARGE);
    assert_null(p);
}

static void the_roots_limit_counts_all_that_is_committed(void **state) {
    (void)state;
    nm_scope *a = open_child(root, "a", NM_SCOPE_SERVICE, 0, 0);
    nm__block b[2048];
    size_t count = 0;
    while (count < 2048 && nm__block_take(a, 4096, 4096, &b[count]) == NM_OK) count++;
    assert_true(count > 900 && count < 1024);
    assert_true(stats_of(root).granted_bytes <= 4 * MIB);
    assert_int_equal(stats_of(root).granted_bytes, os_counter_committed());
    while (count > 0) nm__block_give(a, &b[--count]);
    /* and nothing that lies idle stands in the way of one large block */
    assert_ok(nm__block_take(a, 2 * MIB, 2 * MIB, &b[0]));
    nm__block_give(a, &b[0]);
    nm_scope_stats st = stats_of(root);
    assert_int_equal(st.granted_bytes, st.own_bytes + st.idle_bytes + 256);
    nm_scope_close(a, NULL);
}

static void outside_bytes_count_in_every_scope_and_the_root(void **state) {
    (void)state;
    nm_scope *a = open_child(root, "a", NM_SCOPE_SERVICE, 0, MIB);
    size_t before = stats_of(root).granted_bytes;
    assert_ok(nm__outside_charge(a, MIB, NM__GRANT_FULL, NULL));
    assert_int_equal(stats_of(a).granted_bytes, MIB);
    assert_int_equal(stats_of(root).granted_bytes, before + MIB);
    assert_status(nm__outside_charge(a, 1, NM__GRANT_FULL, NULL), NM_EBUDGET);
    nm__outside_uncharge(a, MIB);
    assert_int_equal(stats_of(root).granted_bytes, before);
    nm_scope_close(a, NULL);
}

/* ---- changing limits --------------------------------------------------------------------------------------------- */

static void a_budget_below_what_is_granted_is_refused_and_nothing_changes(void **state) {
    (void)state;
    nm_scope *a = open_child(root, "a", NM_SCOPE_SERVICE, 0, 64 * KIB);
    nm__block b;
    assert_ok(nm__block_take(a, 32 * KIB, 32 * KIB, &b));
    assert_status(nm_scope_set_budget(a, 0, 16 * KIB), NM_EBUSY);
    assert_int_equal(stats_of(a).hard_bytes, 64 * KIB);
    assert_status(nm_scope_set_budget(a, 2, 1), NM_EINVAL);
    assert_status(nm_scope_set_budget(root, 0, 1), NM_EINVAL);
    assert_status(nm_scope_set_budget(NULL, 0, 1), NM_EINVAL);
    assert_ok(nm_scope_set_budget(a, 0, 32 * KIB));
    nm__block c;
    assert_status(nm__block_take(a, 4096, 4096, &c), NM_EBUDGET);
    assert_ok(nm_scope_set_budget(a, 0, 0));
    assert_int_equal(stats_of(a).hard_bytes, 4 * MIB);
    assert_ok(nm__block_take(a, 64 * KIB, 64 * KIB, &c));
    nm__block_give(a, &b);
    nm__block_give(a, &c);
    nm_scope_close(a, NULL);
}

static void a_smaller_root_budget_gives_idle_blocks_up(void **state) {
    (void)state;
    nm__block b[8];
    for (int i = 0; i < 8; i++) assert_ok(nm__block_take(root, 64 * KIB, 64 * KIB, &b[i]));
    for (int i = 0; i < 8; i++) nm__block_give(root, &b[i]);
    assert_true(stats_of(root).granted_bytes > 512 * KIB);
    assert_ok(nm_scope_set_budget(root, 0, NM_ROOT_MIN_BYTES));
    assert_true(stats_of(root).granted_bytes <= NM_ROOT_MIN_BYTES);
    assert_int_equal(stats_of(root).granted_bytes, os_counter_committed());
}

/* ---- soft limit, hook, reclaim ----------------------------------------------------------------------------------- */

static struct hook_log {
    int calls;
    nm_scope *crossed;
    size_t wanted;
    nm__block *gives; /* what the hook gives back, if anything */
    nm_scope *gives_to;
} hook_log;

static void log_hook(nm_scope *crossed, size_t wanted, void *context) {
    struct hook_log *log = context;
    log->calls++;
    log->crossed = crossed;
    log->wanted = wanted;
    if (log->gives != NULL) {
        nm__block_give(log->gives_to, log->gives);
        log->gives = NULL;
    }
}

static void the_hook_is_called_once_per_crossing(void **state) {
    (void)state;
    memset(&hook_log, 0, sizeof hook_log);
    nm_scope *a;
    assert_ok(nm_scope_open(&a, root,
                            NM_SCOPE_OPTIONS(.soft_bytes = 32 * KIB, .hard_bytes = 64 * KIB, .on_pressure = log_hook,
                                             .context = &hook_log)));
    nm_scope *b = open_child(a, "b", NM_SCOPE_REQUEST, 0, 0);
    nm__block p[4];
    assert_ok(nm__block_take(b, 16 * KIB, 16 * KIB, &p[0]));
    assert_int_equal(hook_log.calls, 0);
    assert_ok(nm__block_take(b, 16 * KIB, 16 * KIB, &p[1])); /* with b's header, over */
    assert_int_equal(hook_log.calls, 1);
    assert_ptr_equal(hook_log.crossed, a);
    assert_int_equal(hook_log.wanted, 256);
    assert_ok(nm__block_take(b, 16 * KIB, 16 * KIB, &p[2]));
    assert_int_equal(hook_log.calls, 1);
    nm__block_give(b, &p[1]);
    nm__block_give(b, &p[2]);
    assert_ok(nm__block_take(b, 16 * KIB, 16 * KIB, &p[1]));
    assert_int_equal(hook_log.calls, 2);
    assert_int_equal(stats_of(a).soft_count, 2);
    nm__block_give(b, &p[0]);
    nm__block_give(b, &p[1]);
    nm_scope_close(a, NULL);
}

static void the_hook_is_asked_once_more_before_a_refusal_and_may_prevent_it(void **state) {
    (void)state;
    memset(&hook_log, 0, sizeof hook_log);
    nm_scope *a;
    assert_ok(nm_scope_open(&a, root,
                            NM_SCOPE_OPTIONS(.hard_bytes = 32 * KIB, .on_pressure = log_hook, .context = &hook_log)));
    nm__block first, second;
    assert_ok(nm__block_take(a, 32 * KIB, 32 * KIB, &first));
    hook_log.gives = &first;
    hook_log.gives_to = a;
    assert_ok(nm__block_take(a, 32 * KIB, 32 * KIB, &second));
    assert_int_equal(hook_log.calls, 1);
    assert_int_equal(stats_of(a).refused_count, 0);
    nm__block third;
    assert_status(nm__block_take(a, 32 * KIB, 32 * KIB, &third), NM_EBUDGET);
    assert_int_equal(stats_of(a).refused_count, 1);
    nm__block_give(a, &second);
    nm_scope_close(a, NULL);
}

/* A holder that has bytes to give back. */
typedef struct spare {
    nm__holder holder;
    size_t bytes;
    int asked;
} spare;

static size_t spare_reclaim(nm__holder *holder, size_t wanted) {
    spare *s = (spare *)holder;
    s->asked++;
    size_t given = wanted < s->bytes ? wanted : s->bytes;
    s->bytes -= given;
    if (given > 0) nm__outside_uncharge(holder->scope, given);
    return given;
}
static void spare_close(nm__holder *holder, nm__leaks *leaks, const char *site) {
    spare *s = (spare *)holder;
    if (s->bytes > 0) nm__outside_uncharge(holder->scope, s->bytes);
    nm__leaks_note(leaks, NM_LEAK_PIN, holder->name, 2, 100, site);
    s->bytes = 0;
}
static size_t spare_used(const nm__holder *holder) { return ((const spare *)holder)->bytes; }
static const nm__holder_class spare_class = {"spare", spare_reclaim, spare_close, spare_used, NULL};

static void add_spare(spare *s, nm_scope *scope, size_t bytes, nm__reclaim_rank rank) {
    memset(s, 0, sizeof *s);
    s->holder.class = &spare_class;
    s->holder.name = "spare";
    assert_ok(nm__outside_charge(scope, bytes, NM__GRANT_FULL, NULL));
    s->bytes = bytes;
    nm__holder_add(scope, &s->holder, rank);
}

static void pools_give_back_before_caches_and_others_are_left_alone(void **state) {
    (void)state;
    nm_scope *a = open_child(root, "a", NM_SCOPE_SERVICE, 0, 64 * KIB);
    nm_scope *b = open_child(a, "b", NM_SCOPE_SERVICE, 0, 0);
    nm_scope *c = open_child(root, "c", NM_SCOPE_SERVICE, 0, 0);
    spare pool, cache, stranger;
    add_spare(&cache, b, 24 * KIB, NM__RECLAIM_CACHE);
    add_spare(&pool, a, 16 * KIB, NM__RECLAIM_POOL);
    add_spare(&stranger, c, 16 * KIB, NM__RECLAIM_POOL);
    assert_int_equal(stats_of(a).used_bytes, 40 * KIB);
    nm__block block;
    assert_ok(nm__block_take(b, 32 * KIB, 32 * KIB, &block));
    assert_true(pool.bytes < 16 * KIB);
    assert_int_equal(cache.bytes, 24 * KIB);
    assert_int_equal(stranger.asked, 0);
    assert_int_equal(stats_of(a).refused_count, 0);
    nm__block_give(b, &block);
    size_t left = pool.bytes;
    assert_int_equal(nm_scope_reclaim(a, SIZE_MAX), left + 24 * KIB);
    assert_int_equal(cache.bytes, 0);
    nm_scope_close(a, NULL);
    nm_scope_close(c, NULL);
}

static void elastic_growth_leaves_the_headroom_below_a_soft_limit(void **state) {
    (void)state;
    nm_scope *a = open_child(root, "a", NM_SCOPE_SERVICE, 64 * KIB, 128 * KIB);
    assert_status(nm__outside_charge(a, 64 * KIB, NM__GRANT_ELASTIC, NULL), NM_EBUDGET);
    assert_ok(nm__outside_charge(a, 60 * KIB, NM__GRANT_ELASTIC, NULL));
    assert_int_equal(stats_of(a).soft_count, 0);
    assert_int_equal(stats_of(a).refused_count, 0);
    nm__outside_uncharge(a, 60 * KIB);
    nm_scope_close(a, NULL);
}

static void reclaim_of_nothing_frees_nothing(void **state) {
    (void)state;
    assert_int_equal(nm_scope_reclaim(NULL, 1), 0);
    assert_int_equal(nm_scope_reclaim(root, 0), 0);
}

/* ---- closing ----------------------------------------------------------------------------------------------------- */

static char order[16];
static void append(void *arg) { strncat(order, arg, sizeof order - strlen(order) - 1); }

static void deferred_functions_run_last_first_and_before_the_teardown(void **state) {
    (void)state;
    order[0] = 0;
    nm_scope *a = open_child(root, "a", NM_SCOPE_SESSION, 0, 0);
    assert_ok(nm_scope_defer(a, append, "1"));
    assert_ok(nm_scope_defer(a, append, "2"));
    assert_ok(nm_scope_defer(a, append, "3"));
    assert_int_equal(stats_of(a).granted_bytes, 256);
    assert_status(nm_scope_defer(a, NULL, NULL), NM_EINVAL);
    assert_status(nm_scope_defer(NULL, append, NULL), NM_EINVAL);
    assert_int_equal(nm_scope_close(a, NULL), 0);
    assert_string_equal(order, "321");
}

static void count_run(void *arg) { ++*(int *)arg; }

static void many_deferrals_take_more_records_and_all_run(void **state) {
    (void)state;
    int runs = 0;
    nm_scope *a = open_child(root, "a", NM_SCOPE_SERVICE, 0, 0);
    for (int i = 0; i < 40; i++) assert_ok(nm_scope_defer(a, count_run, &runs));
    assert_int_equal(stats_of(a).granted_bytes, 3 * 256);
    assert_int_equal(nm_scope_close(a, NULL), 0);
    assert_int_equal(runs, 40);
}

static void close_child(void *arg) { nm_scope_close(arg, NULL); }

static void a_deferred_close_of_a_child_makes_it_no_leak(void **state) {
    (void)state;
    nm_scope *a = open_child(root, "a", NM_SCOPE_SERVICE, 0, 0);
    nm_scope *b = open_child(a, "b", NM_SCOPE_SESSION, 0, 0);
    assert_ok(nm_scope_defer(a, close_child, b));
    assert_int_equal(nm_scope_close(a, NULL), 0);
}

static void open_children_are_leaks_and_are_closed_deepest_first(void **state) {
    (void)state;
    order[0] = 0;
    size_t before = os_counter_committed();
    nm_scope *a = open_child(root, "a", NM_SCOPE_SERVICE, 1 * KIB, 64 * KIB);
    nm_scope *b = open_child(a, "b", NM_SCOPE_SESSION, 0, 0);
    nm_scope *c = open_child(b, "c", NM_SCOPE_REQUEST, 0, 0);
    assert_ok(nm_scope_defer(a, append, "a"));
    assert_ok(nm_scope_defer(b, append, "b"));
    assert_ok(nm_scope_defer(c, append, "c"));
    nm_leak_report report;
    assert_int_equal(nm_scope_close(a, &report), 2);
    assert_string_equal(order, "abc");
    assert_int_equal(report.leaked_count, 2);
    assert_int_equal(report.site_count, 2);
    assert_string_equal(report.scope_name, "a");
    assert_int_equal(report.scope_kind, NM_SCOPE_SERVICE);
    assert_int_equal(report.soft_bytes, 1 * KIB);
    assert_int_equal(report.hard_bytes, 64 * KIB);
    assert_true(report.peak_bytes >= 5 * 256);
    assert_int_equal(report.sites[0].kind, NM_LEAK_SCOPE);
    assert_non_null(strstr(report.sites[0].site, "scope_test.c:"));
    assert_true(os_counter_committed() <= before + 8192);
}

static void a_deep_tree_closes_without_recursion(void **state) {
    (void)state;
    nm_scope *top = open_child(root, "top", NM_SCOPE_SERVICE, 0, 0), *s = top;
    enum { DEPTH = 2000 };
    for (int i = 0; i < DEPTH; i++) assert_ok(nm_scope_open(&s, s, NULL));
    assert_int_equal(nm_scope_close(top, NULL), DEPTH);
}

static void leak_reports_can_be_off(void **state) {
    (void)state;
    nm_scope *a;
    assert_ok(nm_scope_open(&a, root, NM_SCOPE_OPTIONS(.leak_report = NM_LEAKS_OFF)));
    open_child(a, "b", NM_SCOPE_SESSION, 0, 0);
    nm_leak_report report;
    assert_int_equal(nm_scope_close(a, &report), 0);
    assert_int_equal(report.leaked_count, 0);
}

static void closing_nothing_is_ignored(void **state) {
    (void)state;
    nm_leak_report report;
    memset(&report, 1, sizeof report);
    assert_int_equal(nm_scope_close(NULL, &report), 0);
    assert_int_equal(report.leaked_count, 0);
}

static void a_report_merges_sites_and_counts_what_it_omits(void **state) {
    (void)state;
    nm_scope *a = open_child(root, "a", NM_SCOPE_SERVICE, 0, 0);
    spare s;
    add_spare(&s, a, 1000, NM__RECLAIM_NEVER);
    for (int i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        open_child(a, name, NM_SCOPE_TASK, 0, 0);
    }
    open_child(a, "n39", NM_SCOPE_TASK, 0, 0);
    nm_leak_report report;
    assert_int_equal(nm_scope_close(a, &report), 43);
    assert_int_equal(report.site_count, NM_LEAK_SITES);
    size_t sum = 0;
    for (uint32_t i = 0; i < report.site_count; i++) sum += report.sites[i].count;
    assert_int_equal(sum + report.sites_omitted, 43);
}

static void a_report_reads_as_sentences(void **state) {
    (void)state;
    nm_leak_report r;
    memset(&r, 0, sizeof r);
    nm__name_copy(r.scope_name, "request-4711");
    r.scope_kind = NM_SCOPE_REQUEST;
    r.leaked_count = 3;
    r.leaked_bytes = 12288;
    r.peak_bytes = 61440;
    r.soft_bytes = 65536;
    r.hard_bytes = 131072;
    r.site_count = 2;
    r.sites[0] = (nm_leak_site){NM_LEAK_LEASE, 2, 8192, "session.c:212", "rx"};
    r.sites[1] = (nm_leak_site){NM_LEAK_PIN, 1, 4096, "reply.c:88", "pages"};
    char text[1024] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    nm_leak_report_print(&r, f);
    nm_leak_report_print(NULL, f);
    fclose(f);
    assert_string_equal(text,
                        "scope \"request-4711\" (kind request) closed with 3 allocations, 12,288 bytes still held\n"
                        "     2 x      4,096  pool  \"rx\"         leased at session.c:212\n"
                        "     1 x      4,096  cache \"pages\"      pinned at reply.c:88\n"
                        "peak 61,440 of soft 65,536 / hard 131,072 bytes\n");
}

static void a_dump_lists_services_and_sums_requests(void **state) {
    (void)state;
    /* below 256 KiB no request scope gets a block of its own: what is granted can be told to the byte */
    nm_scope *a = open_child(root, "listener", NM_SCOPE_SERVICE, 0, 200000);
    nm_scope *b = open_child(a, "session-17", NM_SCOPE_SESSION, 0, 0);
    open_child(b, "GET /a", NM_SCOPE_REQUEST, 0, 0);
    open_child(b, "GET /b", NM_SCOPE_REQUEST, 0, 0);
    spare s;
    add_spare(&s, a, 1000, NM__RECLAIM_NEVER);
    char text[4096] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    assert_ok(nm_scope_dump(root, f, NM_DUMP_TEXT));
    assert_status(nm_scope_dump(root, f, (nm_dump_format)42), NM_EINVAL);
    assert_status(nm_scope_dump(NULL, f, NM_DUMP_TEXT), NM_EINVAL);
    fclose(f);
    assert_non_null(strstr(text, "process \"root\": granted "));
    assert_non_null(strstr(text, "\n  service \"listener\": granted 1,768, used 1,000, peak 1,768, hard 200,000\n"
                                 "    spare \"spare\": used 1,000\n"
                                 "    session \"session-17\": granted 512, used 0, peak 512\n"
                                 "      2 request and task scopes: granted 0\n"));
    assert_null(strstr(text, "GET"));
    nm_scope_close(a, NULL);
}

/* ---- fault injection --------------------------------------------------------------------------------------------- */

static void the_nth_grant_is_refused_once(void **state) {
    (void)state;
    nm_scope *a = open_child(root, "a", NM_SCOPE_SERVICE, 0, 0), *b;
    nm_scope_fail_after(root, 2);
    assert_ok(nm_scope_open(&b, a, NULL));
    nm_scope *c;
    assert_status(nm_scope_open(&c, b, NULL), NM_EBUDGET);
    assert_ok(nm_scope_open(&c, b, NULL));
    nm_scope_fail_after(b, 1);
    nm_scope_fail_after(b, 0);
    assert_ok(nm_scope_defer(b, append, ""));
    nm_scope_fail_after(NULL, 1);
    nm_scope_close(a, NULL);
}

static void a_root_survives_every_refused_system_call(void **state) {
    (void)state;
    for (uint64_t n = 1;; n++) {
        nm_scope *r = NULL, *child = NULL;
        os_counter_fail_after(n);
        nm_status st = nm_scope_open(&r, NULL, NM_SCOPE_OPTIONS(.hard_bytes = MIB));
        if (st == NM_OK) st = nm_scope_open(&child, r, NULL);
        bool failed = os_counter_failed();
        os_counter_fail_after(0);
        assert_true(st == NM_OK || st == NM_ENOMEM);
        if (r != NULL && child == NULL) assert_ok(nm_scope_open(&child, r, NULL));
        if (r != NULL) assert_int_equal(nm_scope_close(r, NULL), 1);
        if (!failed) break;
    }
}

/* ---- slots and held things --------------------------------------------------------------------------------------- */

static int releases;
static bool slot_release(nm__slot *slot, uint64_t generation, const char *site) {
    (void)site;
    if (!nm_atomic_cas(&slot->generation, &generation, generation + 1, NM_ACQ_REL, NM_RELAXED)) return false;
    releases++;
    return true;
}
static const char *slot_name(const nm__slot *slot) {
    (void)slot;
    return "things";
}
static size_t slot_bytes(const nm__slot *slot) {
    (void)slot;
    return 100;
}
static bool slot_out(const nm__slot *slot, uint64_t generation) {
    return (generation & 1) != 0 && nm_atomic_load(&slot->generation, NM_ACQUIRE) == generation;
}
static const nm__slot_class slot_class = {"test", NM_LEAK_LEASE, slot_release, slot_out, slot_name, slot_bytes};

static uint64_t lease(nm__slot *slot) {
    nm__slot_class_set(NM__SLOT_TEST, &slot_class);
    nm_atomic_store(&slot->nm__stamp, (uint32_t)NM__SLOT_TEST, NM_RELAXED);
    nm_atomic_store(&slot->leased_at, "here:1", NM_RELAXED);
    return nm_atomic_add(&slot->generation, 1, NM_RELEASE) + 1;
}

static void slots_keep_their_generation_when_their_page_goes_around(void **state) {
    (void)state;
    nm_scope *a = open_child(root, "a", NM_SCOPE_SERVICE, 0, 0);
    nm__slot *page, *again;
    assert_ok(nm__slots_take(a, false, &page));
    assert_int_equal(stats_of(a).granted_bytes, 4096);
    for (uint32_t i = 0; i < NM__SLOTS_PER_PAGE; i++) {
        assert_true(nm__slot_number(&page[i]) != NM__SLOT_NONE);
        assert_ptr_equal(nm__slot_at(a, nm__slot_number(&page[i])), &page[i]);
        assert_int_equal(nm__slot_number(&page[i]), nm__slot_number(&page[0]) + i);
        assert_int_equal(page[i].generation % 2, 0);
    }
    uint64_t g = lease(&page[3]);
    assert_true(slot_release(&page[3], g, ""));
    nm__slots_give(a, page);
    assert_int_equal(stats_of(a).granted_bytes, 0);
    assert_ok(nm__slots_take(a, true, &again));
    assert_ptr_equal(page, again);
    assert_int_equal(again[3].generation, g + 1);
    nm__slots_give(a, again);
    nm_scope_close(a, NULL);
}

static void what_a_scope_holds_goes_back_with_it_and_is_no_leak_unless_strict(void **state) {
    (void)state;
    nm__slot *page;
    assert_ok(nm__slots_take(root, false, &page));
    for (int strict = 0; strict <= 1; strict++) {
        releases = 0;
        nm_scope *a;
        assert_ok(nm_scope_open(
            &a, root,
            NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST, .leak_report = strict ? NM_LEAKS_STRICT : NM_LEAKS_DEFAULT)));
        for (int i = 0; i < 30; i++) {
            assert_ok(nm__hold_prepare(a, 100));
            nm__hold(a, &page[i], lease(&page[i]), 100);
        }
        /* one goes back by hand, before */
        assert_true(slot_release(&page[7], page[7].generation, ""));
        nm_leak_report report;
        assert_int_equal(nm_scope_close(a, &report), strict ? 29 : 0);
        assert_int_equal(releases, 30);
        if (strict) {
            assert_int_equal(report.site_count, 1);
            assert_int_equal(report.sites[0].bytes, 2900);
            assert_string_equal(report.sites[0].name, "things");
            assert_string_equal(report.sites[0].site, "here:1");
        }
    }
    nm__slots_give(root, page);
}

static void the_held_limit_counts_what_is_out_not_what_was(void **state) {
    (void)state;
    nm__slot *page;
    assert_ok(nm__slots_take(root, false, &page));
    nm_scope *a;
    assert_ok(nm_scope_open(&a, root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST, .held_limit_bytes = 200)));
    assert_status(nm__hold_prepare(a, 201), NM_ECAPACITY);
    for (int i = 0; i < 2; i++) {
        assert_ok(nm__hold_prepare(a, 100));
        nm__hold(a, &page[i], lease(&page[i]), 100);
    }
    assert_status(nm__hold_prepare(a, 1), NM_ECAPACITY);
    assert_true(slot_release(&page[0], page[0].generation, ""));
    assert_ok(nm__hold_prepare(a, 100));
    nm__hold_cancel(a, 100);
    assert_ok(nm__hold_prepare(a, 100));
    nm__hold(a, &page[0], lease(&page[0]), 100);
    assert_int_equal(nm_scope_close(a, NULL), 0);
    nm__slots_give(root, page);
}

static void a_scope_that_holds_and_releases_for_long_does_not_grow(void **state) {
    (void)state;
    nm__slot *page;
    assert_ok(nm__slots_take(root, false, &page));
    nm_scope *a = open_child(root, "a", NM_SCOPE_SESSION, 0, 0);
    size_t most = 0;
    for (int i = 0; i < 10000; i++) {
        nm__slot *slot = &page[i % 40];
        if (slot->generation % 2 != 0) assert_true(slot_release(slot, slot->generation, ""));
        assert_ok(nm__hold_prepare(a, 1));
        nm__hold(a, slot, lease(slot), 1);
        if (stats_of(a).granted_bytes > most) most = stats_of(a).granted_bytes;
    }
    assert_true(most <= (size_t)16 * 256);
    nm_scope_close(a, NULL);
    nm__slots_give(root, page);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

typedef struct worker {
    nm_scope *shared;
    uint64_t seed;
    size_t limit;
    bool law_held;
} worker;

static void *open_and_close_requests(void *arg) {
    worker *w = arg;
    for (int i = 0; i < 3000; i++) {
        nm_scope *request;
        nm__block b[4];
        int count = 0;
        if (nm_scope_open(&request, w->shared, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST, .hard_bytes = 64 * KIB)) !=
            NM_OK)
            continue;
        while (count < 4 && nm__block_take(request, 4096, 4096 << test_below(&w->seed, 4), &b[count]) == NM_OK) count++;
        if (test_below(&w->seed, 50) == 0) nm_scope_reclaim(w->shared, 4096);
        if (stats_of(w->shared).granted_bytes > w->limit || stats_of(request).granted_bytes > 64 * KIB)
            w->law_held = false;
        while (count > 0) nm__block_give(request, &b[--count]);
        nm_scope_close(request, NULL);
    }
    return NULL;
}

static void *change_the_limit(void *arg) {
    worker *w = arg;
    for (int i = 0; i < 2000; i++) {
        size_t hard = (16 + test_below(&w->seed, 48)) * KIB;
        nm_status st = nm_scope_set_budget(w->shared, 0, hard);
        if (st == NM_OK && stats_of(w->shared).granted_bytes > hard) w->law_held = false;
    }
    return NULL;
}

static void threads_share_a_parent_and_the_law_holds_while_limits_change(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    nm_scope *shared = open_child(root, "shared", NM_SCOPE_SERVICE, 0, 64 * KIB);
    enum { WORKERS = 4 };
    pthread_t threads[WORKERS];
    worker workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (worker){shared, seed + (uint64_t)i, 64 * KIB, true};
        assert_int_equal(
            pthread_create(&threads[i], NULL, i == 0 ? change_the_limit : open_and_close_requests, &workers[i]), 0);
    }
    for (int i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < WORKERS; i++) assert_true(workers[i].law_held);
    assert_int_equal(stats_of(shared).granted_bytes, 0);
    assert_int_equal(stats_of(root).granted_bytes, os_counter_committed());
    nm_scope_close(shared, NULL);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_root, close_root)
    const struct CMUnitTest tests[] = {
        TEST(options_out_of_range_are_refused_and_leave_nothing),
        TEST(the_smallest_root_opens_and_serves_a_scope),
        TEST(a_root_without_a_limit_opens),
        TEST(the_plain_functions_work_through_pointers),
        TEST(a_scopes_header_is_charged_to_its_parent),
        TEST(a_parent_that_is_full_refuses_a_child),
        TEST(bytes_are_charged_to_all_ancestors_and_refused_by_the_tightest),
        TEST(a_block_is_granted_in_part_to_the_last_16_bytes),
        TEST(a_large_block_is_charged_its_pages_not_its_class),
        TEST(sizes_at_the_edge_of_the_type_are_refused),
        TEST(the_roots_limit_counts_all_that_is_committed),
        TEST(outside_bytes_count_in_every_scope_and_the_root),
        TEST(a_budget_below_what_is_granted_is_refused_and_nothing_changes),
        TEST(a_smaller_root_budget_gives_idle_blocks_up),
        TEST(the_hook_is_called_once_per_crossing),
        TEST(the_hook_is_asked_once_more_before_a_refusal_and_may_prevent_it),
        TEST(pools_give_back_before_caches_and_others_are_left_alone),
        TEST(elastic_growth_leaves_the_headroom_below_a_soft_limit),
        TEST(reclaim_of_nothing_frees_nothing),
        TEST(deferred_functions_run_last_first_and_before_the_teardown),
        TEST(many_deferrals_take_more_records_and_all_run),
        TEST(a_deferred_close_of_a_child_makes_it_no_leak),
        TEST(open_children_are_leaks_and_are_closed_deepest_first),
        TEST(a_deep_tree_closes_without_recursion),
        TEST(leak_reports_can_be_off),
        TEST(closing_nothing_is_ignored),
        TEST(a_report_merges_sites_and_counts_what_it_omits),
        TEST(a_report_reads_as_sentences),
        TEST(a_dump_lists_services_and_sums_requests),
        TEST(the_nth_grant_is_refused_once),
        TEST(a_root_survives_every_refused_system_call),
        TEST(slots_keep_their_generation_when_their_page_goes_around),
        TEST(what_a_scope_holds_goes_back_with_it_and_is_no_leak_unless_strict),
        TEST(the_held_limit_counts_what_is_out_not_what_was),
        TEST(a_scope_that_holds_and_releases_for_long_does_not_grow),
        TEST(threads_share_a_parent_and_the_law_holds_while_limits_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
