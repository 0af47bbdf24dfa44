// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Dumps and leak reports for Prometheus, read by a strict reader of our own, which is tested first, and by promtool where it
 * is installed. */
#include "dump_fixture.h"
#include "prometheus_check.h"

/* ---- the reader --------------------------------------------------------------------------------------------------- */

#define HEAD_A "# HELP a A.\n# TYPE a gauge\n"
#define HEAD_T "# HELP t_total T.\n# TYPE t_total counter\n"

static void the_reader_takes_what_is_right(void **state) {
    (void)state;
    static const char *const right[] = {
        HEAD_A,
        HEAD_A "a 1\n",
        HEAD_A "a{x=\"1\"} 1\na{x=\"2\"} 1\na{x=\"1\",y=\"\"} 1e+3\n" HEAD_T "t_total 5\nt_total{x=\"\"} 0.5\n",
        HEAD_A "a{x=\"\\\\\\\"\\n}\"} -1\na NaN\na{y=\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80\"} +Inf\n",
        "# TYPE a:b_1 gauge\n# HELP a:b_1 with \\\\ and \\n\na:b_1{_x=\",=\"} -Inf\n",
    };
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
        const char *wrong = prometheus_check(right[i], strlen(right[i]));
        if (wrong != NULL) fail_msg("%zu: %s", i, wrong);
    }
    double value = 0;
    assert_true(prometheus_value(right[2], "a{x=\"1\",y=\"\"}", &value));
    assert_true(value > 999 && value < 1001);
    assert_false(prometheus_value(right[2], "a{x=\"3\"}", &value));
}

static void the_reader_rejects_every_planted_fault(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "",
        "a 1\n",                                               /* no HELP, no TYPE */
        HEAD_A "a 1",                                          /* no newline at the end */
        "# HELP a A.\na 1\n",                                  /* no TYPE */
        "# HELP a A.\n",                                       /* no TYPE, no samples */
        "# TYPE a gauge\na 1\n",                               /* no HELP */
        "# TYPE a gauge\na 1\n# HELP a A.\n",                  /* HELP after the sample */
        "# HELP a A.\n" HEAD_A "a 1\n",                        /* HELP twice */
        HEAD_A "# TYPE a gauge\na 1\n",                        /* TYPE twice */
        HEAD_A "a 1\n# TYPE a gauge\n",                        /* TYPE again, after the sample */
        "# HELP a A.\n# TYPE a number\na 1\n",                 /* no such type */
        "# HELP a A.\n# TYPE a counter\na 1\n",                /* a counter without _total */
        "# HELP a_total A.\n# TYPE a_total gauge\n",           /* and what is none */
        "# HELP a\n# TYPE a gauge\n",                          /* HELP without a text */
        "# HELP a \\t\n# TYPE a gauge\n",                      /* unknown escape */
        HEAD_A "# a comment\na 1\n",                           /* not ours */
        HEAD_A "\na 1\n",                                      /* an empty line */
        HEAD_A HEAD_T "t_total 1\na 1\n",                      /* apart */
        HEAD_A "a 1\n" HEAD_T "t_total 1\na{x=\"1\"} 1\n",     /* apart */
        HEAD_A "b 1\n",                                        /* another's sample */
        HEAD_A "a 1\na 1\n",                                   /* twice */
        HEAD_A "a 1\na 2\n",                                   /* twice, with another value */
        HEAD_A "a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 1\n", /* twice, in another order */
        HEAD_A "a{x=\"1\",x=\"2\"} 1\n",                       /* a label twice */
        HEAD_A "a{x=\"1\"\n",                                  /* no end */
        HEAD_A "a{x=\"1} 1\n",                                 /* no quote */
        HEAD_A "a{x=\"1\\\"} 1\n",                             /* the quote is escaped */
        HEAD_A "a{x=\"a\"b\"} 1\n",                            /* a quote that is not */
        HEAD_A "a{x=\"\\t\"} 1\n",                             /* unknown escape */
        HEAD_A "a{x=\"a\nb\"} 1\n",                            /* a newline that is not escaped */
        HEAD_A "a{x=1} 1\n",                                   /* no quotes */
        HEAD_A "a{} 1\n",                                      /* no label */
        HEAD_A "a{x=\"1\",} 1\n",                              /* legal, but not ours */
        HEAD_A "a{1x=\"1\"} 1\n",                              /* a label's name with a digit first */
        HEAD_A "a{x:y=\"1\"} 1\n",                             /* or a colon */
        HEAD_A "a{__x=\"1\"} 1\n",                             /* reserved */
        HEAD_A "a{x=\"\xff\"} 1\n",                            /* not UTF-8 */
        HEAD_A "a{x=\"\xed\xa0\x80\"} 1\n",                    /* a surrogate */
        HEAD_A "a{x=\"\xc0\xaf\"} 1\n",                        /* too long a form */
        HEAD_A "a\n",                                          /* no value */
        HEAD_A "a \n",
        HEAD_A "a one\n",
        HEAD_A "a 1x\n",
        HEAD_A "a 0x1\n",
        HEAD_A "a inf\n",
        HEAD_A "a 1,000\n",
        HEAD_A "a  1\n", /* two spaces */
        HEAD_A "a 1 \n",
        HEAD_A "a 1\r\n",
        HEAD_A " a 1\n",
        HEAD_A "1a 1\n",
        HEAD_A "a-b 1\n",
        HEAD_T "t_total -1\n", /* a counter below 0 */
        HEAD_T "t_total NaN\n",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (prometheus_check(wrong[i], strlen(wrong[i])) == NULL) fail_msg("%zu was taken: %s", i, wrong[i]);
    static const char zero[] = HEAD_A "a{x=\"\0\"} 1\n";
    assert_non_null(prometheus_check(zero, sizeof zero - 1));
}

/* ---- dumps -------------------------------------------------------------------------------------------------------- */

static char *checked(char *text, size_t length) {
    const char *wrong = prometheus_check(text, length);
    if (wrong != NULL) fail_msg("%s", wrong);
    return text;
}

static char *checked_dump_of(const nm_scope *scope) {
    size_t length;
    char *text = dump_of(scope, NM_DUMP_PROMETHEUS, &length);
    return checked(text, length);
}

static double value_of(const char *text, const char *series) {
    double value;
    if (!prometheus_value(text, series, &value)) fail_msg("no %s", series);
    return value;
}
static bool is_there(const char *text, const char *series) {
    double value;
    return prometheus_value(text, series, &value);
}
#define assert_value(text, series, wanted) assert_int_equal((long long)value_of(text, series), (long long)(wanted))

/* The same names as the fields of the stats. */
static void assert_tells_the_stats_of(const char *text, const char *labels, const nm_scope *scope) {
    nm_scope_stats st;
    nm_scope_get_stats(scope, &st);
    const struct {
        const char *metric;
        uint64_t value;
    } wanted[] = {
        {"granted_bytes", st.granted_bytes},   {"used_bytes", st.used_bytes},
        {"peak_bytes", st.peak_bytes},         {"credit_bytes", st.credit_bytes},
        {"children", st.child_count},          {"refused_total", st.refused_count},
        {"soft_crossed_total", st.soft_count}, {"open", 1},
    };
    char series[200];
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        snprintf(series, sizeof series, "nebula_scope_%s{%s}", wanted[i].metric, labels);
        assert_value(text, series, wanted[i].value);
    }
    snprintf(series, sizeof series, "nebula_scope_soft_bytes{%s}", labels);
    assert_int_equal(is_there(text, series), st.soft_bytes != 0);
    if (st.last_refusal.status != NM_OK) {
        snprintf(series, sizeof series, "nebula_scope_last_refused_bytes{%s,status=\"%s\",by=\"%s\"}", labels,
                 nm_status_name(st.last_refusal.status), st.last_refusal.name);
        assert_value(text, series, st.last_refusal.wanted_bytes);
    }
}

static void a_service_is_told_in_full(void **state) {
    (void)state;
    server s;
    server_open(&s);
    char *text = checked_dump_of(root);
    assert_tells_the_stats_of(text, "scope=\"root\",kind=\"process\"", root);
    assert_tells_the_stats_of(text, "scope=\"root/listener\",kind=\"service\"", s.listener);
    assert_tells_the_stats_of(text, "scope=\"root/listener/session-17\",kind=\"session\"", s.session);
    assert_value(text, "nebula_scope_soft_bytes{scope=\"root/listener\",kind=\"service\"}", 128 * KIB);
    assert_value(text, "nebula_scope_hard_bytes{scope=\"root/listener\",kind=\"service\"}", 512 * KIB);
    assert_false(is_there(text, "nebula_scope_hard_bytes{scope=\"root/listener/session-17\",kind=\"session\"}"));
    assert_value(text, "nebula_scope_requests{scope=\"root/listener/session-17\",kind=\"session\"}", 3);
    size_t granted = 0;
    nm_scope_stats st;
    for (int i = 0; i < 3; i++) {
        nm_scope_get_stats(s.requests[i], &st);
        granted += st.granted_bytes;
    }
    assert_value(text, "nebula_scope_requests_granted_bytes{scope=\"root/listener/session-17\",kind=\"session\"}",
                 granted);
    nm_scope_get_stats(root, &st);
    assert_value(text, "nebula_root_own_bytes{scope=\"root\",kind=\"process\"}", st.own_bytes);
    assert_value(text, "nebula_root_idle_bytes{scope=\"root\",kind=\"process\"}", st.idle_bytes);
    assert_true(is_there(text, "nebula_root_idle_block_bytes{scope=\"root\",kind=\"process\"}"));
    assert_value(text, "nebula_root_leaks_total{scope=\"root\",kind=\"process\"}", 1);
    assert_value(text, "nebula_root_leaked_bytes_total{scope=\"root\",kind=\"process\"}", s.leaked_bytes);
    assert_value(text, "nebula_holder_used_bytes{scope=\"root\",part=\"cache\",name=\"pages\"}",
                 nm_cache_used(s.cache));
    assert_value(text, "nebula_holder_used_bytes{scope=\"root/listener\",part=\"pool\",name=\"rx\"}", 4 * KIB);
    assert_null(strstr(text, "GET"));
    free(text);

    text = checked_dump_of(s.listener); /* from the middle: the same names, and nothing of the root */
    assert_tells_the_stats_of(text, "scope=\"root/listener\",kind=\"service\"", s.listener);
    assert_tells_the_stats_of(text, "scope=\"root/listener/session-17\",kind=\"session\"", s.session);
    assert_null(strstr(text, "scope=\"root\""));
    assert_null(strstr(text, "\nnebula_root_own_bytes{"));
    free(text);
    text = checked_dump_of(s.requests[0]); /* one that is not listed but asked for */
    assert_tells_the_stats_of(text, "scope=\"root/listener/session-17/GET %2Fa\",kind=\"request\"", s.requests[0]);
    free(text);
    server_close(&s);
}

static void scopes_of_one_path_and_kind_are_one_series(void **state) {
    (void)state;
    nm_scope *first = open_child(root, "s", NM_SCOPE_SESSION), *other = open_child(root, "s", NM_SCOPE_SERVICE);
    nm_scope *between = open_child(root, "r", NM_SCOPE_SESSION), *last = open_child(root, "s", NM_SCOPE_SESSION);
    /* children of the same path below different parents, of different kinds even */
    nm_scope *a = open_child(first, "x", NM_SCOPE_SESSION);
    open_child(other, "x", NM_SCOPE_SESSION);
    open_child(last, "x", NM_SCOPE_SESSION);
    open_child(between, "x", NM_SCOPE_SESSION);
    open_child(a, "t", NM_SCOPE_TASK);
    static thing things[4];
    thing_add(&things[0], first, "one", 1);
    thing_add(&things[1], last, "one", 10);
    thing_add(&things[2], other, "one", 100);
    thing_add(&things[3], last, "two", 1000);
    char *text = checked_dump_of(root);
    assert_value(text, "nebula_scope_open{scope=\"root/s\",kind=\"session\"}", 2);
    assert_value(text, "nebula_scope_open{scope=\"root/s\",kind=\"service\"}", 1);
    assert_value(text, "nebula_scope_open{scope=\"root/s/x\",kind=\"session\"}", 3);
    assert_value(text, "nebula_scope_open{scope=\"root/r/x\",kind=\"session\"}", 1);
    assert_value(text, "nebula_scope_children{scope=\"root/s\",kind=\"session\"}", 2);
    assert_value(text, "nebula_scope_requests{scope=\"root/s/x\",kind=\"session\"}", 1);
    assert_value(text, "nebula_scope_used_bytes{scope=\"root/s\",kind=\"session\"}", 1011);
    nm_scope_stats x, y;
    nm_scope_get_stats(first, &x);
    nm_scope_get_stats(last, &y);
    assert_value(text, "nebula_scope_granted_bytes{scope=\"root/s\",kind=\"session\"}",
                 x.granted_bytes + y.granted_bytes);
    /* holders: of the path, whatever the kind */
    assert_value(text, "nebula_holder_used_bytes{scope=\"root/s\",part=\"thing\",name=\"one\"}", 111);
    assert_value(text, "nebula_holder_used_bytes{scope=\"root/s\",part=\"thing\",name=\"two\"}", 1000);
    free(text);
    for (nm_scope *s = root->first_child, *next; s != NULL; s = next) {
        next = s->next_sibling;
        nm_scope_close(s, NULL);
    }
}

/* Names that differ stay different: also where one holds the separator, or bytes that no label can hold. */
static void different_names_are_different_series(void **state) {
    (void)state;
    open_child(open_child(root, "a", NM_SCOPE_SERVICE), "b", NM_SCOPE_SERVICE);
    static const char *const names[] = {"a/b", "a%2Fb", "\xff", "\xfe", "%FF", "", "q\"\\\n", "gr\xc3\xbc\xc3\x9f"};
    static const char *const written[] = {"a%2Fb", "a%252Fb", "%FF",          "%FE",
                                          "%25FF", "",        "q\\\"\\\\\\n", "gr\xc3\xbc\xc3\x9f"};
    static thing things[8];
    for (size_t i = 0; i < 8; i++) {
        open_child(root, names[i], NM_SCOPE_SERVICE);
        thing_add(&things[i], root, names[i], i + 1);
    }
    char *text = checked_dump_of(root), series[200];
    assert_value(text, "nebula_scope_open{scope=\"root/a/b\",kind=\"service\"}", 1);
    for (size_t i = 0; i < 8; i++) {
        snprintf(series, sizeof series, "nebula_scope_open{scope=\"root/%s\",kind=\"service\"}", written[i]);
        assert_value(text, series, 1);
        if (i == 0) continue; /* a holder is not on a path: '/' stays */
        snprintf(series, sizeof series, "nebula_holder_used_bytes{scope=\"root\",part=\"thing\",name=\"%s\"}",
                 written[i]);
        assert_value(text, series, i + 1);
    }
    assert_value(text, "nebula_holder_used_bytes{scope=\"root\",part=\"thing\",name=\"a/b\"}", 1);
    free(text);
    for (size_t i = 0; i < 8; i++) nm__holder_remove(&things[i].holder);
}

/* More names than are summed at once, in random order, each three times. */
static void holders_of_a_thousand_names_are_all_told(void **state) {
    (void)state;
    enum { NAMES = 1000, TIMES = 3 };
    static thing things[NAMES * TIMES];
    static char names[NAMES][8];
    uint64_t seed = test_seed();
    nm_scope *scopes[] = {open_child(root, "s", NM_SCOPE_SESSION), open_child(root, "s", NM_SCOPE_SESSION)};
    unsigned short order[NAMES * TIMES];
    for (size_t i = 0; i < NAMES * TIMES; i++) {
        size_t at = test_below(&seed, i + 1);
        order[i] = order[at];
        order[at] = (unsigned short)(i % NAMES);
    }
    for (size_t i = 0; i < NAMES; i++) snprintf(names[i], sizeof names[i], "n%zu", i);
    for (size_t i = 0; i < NAMES * TIMES; i++)
        thing_add(&things[i], scopes[i % 2], names[order[i]], (size_t)order[i] + 1);
    char *text = checked_dump_of(root), series[100];
    for (size_t i = 0; i < NAMES; i++) {
        snprintf(series, sizeof series, "nebula_holder_used_bytes{scope=\"root/s\",part=\"thing\",name=\"n%zu\"}", i);
        assert_value(text, series, TIMES * (i + 1));
    }
    free(text);
    nm_scope_close(scopes[0], NULL);
    nm_scope_close(scopes[1], NULL);
}

/* Lines of a metric. */
static size_t count_of(const char *text, const char *metric) {
    size_t count = 0, length = strlen(metric);
    const char *end = text + strlen(text);
    for (const char *line = text; line < end; line++) {
        count += (size_t)(end - line) > length && memcmp(line, metric, length) == 0 && line[length] == '{';
        line = memchr(line, '\n', (size_t)(end - line));
    }
    return count;
}

static void a_tree_of_a_thousand_levels_has_paths_as_long(void **state) {
    (void)state;
    enum { LEVELS = 1000 };
    nm_scope *s = root;
    for (int i = 1; i < LEVELS; i++) s = open_child(s, i % 10 ? "s" : "t", NM_SCOPE_SERVICE);
    char *text = checked_dump_of(root);
    assert_int_equal(count_of(text, "nebula_scope_open"), LEVELS);
    char series[3 * LEVELS] = "nebula_scope_open{scope=\"root";
    for (int i = 1; i < LEVELS; i++) strcat(series, i % 10 ? "/s" : "/t");
    strcat(series, "\",kind=\"service\"}");
    assert_value(text, series, 1);
    free(text);
}

static void five_thousand_sessions_are_told_one_by_one_or_as_a_sum(void **state) {
    (void)state;
    enum { SESSIONS = 5000, ALIKE = 2000 };
    nm_scope *sessions[SESSIONS];
    for (int i = 0; i < SESSIONS; i++) {
        char name[16];
        /* 7919 is prime to 5000: every number once, in disorder */
        snprintf(name, sizeof name, "%d", (int)(i * 7919L % SESSIONS));
        sessions[i] = open_child(root, i % 5 < 2 ? "alike" : name, NM_SCOPE_SESSION);
    }
    char *text = checked_dump_of(root);
    assert_int_equal(count_of(text, "nebula_scope_granted_bytes"), 1 + SESSIONS - ALIKE + 1);
    assert_value(text, "nebula_scope_open{scope=\"root/alike\",kind=\"session\"}", ALIKE);
    size_t granted = 0;
    for (int i = 0; i < SESSIONS; i++) granted += i % 5 < 2 ? nm__granted(sessions[i]) : 0;
    assert_value(text, "nebula_scope_granted_bytes{scope=\"root/alike\",kind=\"session\"}", granted);
    free(text);
    for (int i = 0; i < SESSIONS; i++) nm_scope_close(sessions[i], NULL);
}

/* ---- reports ------------------------------------------------------------------------------------------------------ */

static void a_report_tells_leaks_by_kind_name_and_site(void **state) {
    (void)state;
    nm_leak_report r = full_report();
    r.sites[3] = r.sites[2]; /* as text the same: "?" is what no site is called */
    r.sites[3].site = "?";
    r.site_count = 4;
    char *text = report_of(&r, NM_DUMP_PROMETHEUS);
    checked(text, strlen(text));
#define SCOPE "scope=\"request \\\"4711\\\"\",scope_kind=\"request\""
    assert_value(text, "nebula_closed_scope_leaks{" SCOPE "}", 5);
    assert_value(text, "nebula_closed_scope_leaked_bytes{" SCOPE "}", 12291);
    assert_value(text, "nebula_closed_scope_peak_bytes{" SCOPE "}", 61440);
    assert_value(text, "nebula_closed_scope_soft_bytes{" SCOPE "}", 65536);
    assert_value(text, "nebula_closed_scope_hard_bytes{" SCOPE "}", 131072);
    assert_value(text, "nebula_closed_scope_omitted_leaks{" SCOPE "}", 1);
    assert_value(text, "nebula_leaks{" SCOPE ",kind=\"lease\",name=\"rx\",site=\"session.c:212\"}", 2);
    assert_value(text, "nebula_leaked_bytes{" SCOPE ",kind=\"lease\",name=\"rx\",site=\"session.c:212\"}", 8192);
    assert_value(text, "nebula_leaks{" SCOPE ",kind=\"pin\",name=\"pages\\n%FF\",site=\"a\\\\b.c:88\"}", 1);
    assert_value(text, "nebula_leaks{" SCOPE ",kind=\"malloc\",name=\"\",site=\"?\"}", 2);
    assert_value(text, "nebula_leaked_bytes{" SCOPE ",kind=\"malloc\",name=\"\",site=\"?\"}", 6);
    free(text);
}

/* ---- promtool ----------------------------------------------------------------------------------------------------- */

static bool promtool_takes(const char *text) {
    FILE *promtool = popen("promtool check metrics >/dev/null", "w");
    assert_non_null(promtool);
    fputs(text, promtool);
    return pclose(promtool) == 0;
}

static void promtool_takes_dumps_and_reports(void **state) {
    (void)state;
    if (system("command -v promtool >/dev/null 2>&1") != 0) {
        print_message("promtool is not installed: skipped\n");
        skip();
    }
    assert_false(promtool_takes(HEAD_A "a{x=1} 1\n")); /* it looks */
    server s;
    server_open(&s);
    open_child(root, "q\"\\\n\xff/%", NM_SCOPE_SERVICE);
    char *text = checked_dump_of(root);
    assert_true(promtool_takes(text));
    free(text);
    nm_leak_report r = full_report();
    text = report_of(&r, NM_DUMP_PROMETHEUS);
    assert_true(promtool_takes(text));
    free(text);
    server_close(&s);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_root, close_root)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reader_takes_what_is_right),
        cmocka_unit_test(the_reader_rejects_every_planted_fault),
        TEST(a_service_is_told_in_full),
        TEST(scopes_of_one_path_and_kind_are_one_series),
        TEST(different_names_are_different_series),
        TEST(holders_of_a_thousand_names_are_all_told),
        TEST(a_tree_of_a_thousand_levels_has_paths_as_long),
        TEST(five_thousand_sessions_are_told_one_by_one_or_as_a_sum),
        TEST(a_report_tells_leaks_by_kind_name_and_site),
        TEST(promtool_takes_dumps_and_reports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
