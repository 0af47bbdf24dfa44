// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "../../tools/replay/axis.c"
#include "../../tools/replay/gnuplot.c"
#include "../../tools/replay/units.c"

#include "../../tools/replay/chart.c"

#include <sys/stat.h>

#include "testing.h"

static const replay_policy policies[] = {
    {"slru", NM_CACHE_SLRU}, {"lru", NM_CACHE_LRU}, {"s3fifo", NM_CACHE_S3FIFO}, {"adaptive", NM_CACHE_ADAPTIVE}};
static const replay_objective hits = {"hits", NM_OBJECTIVE_HITS}, bytes = {"bytes", NM_OBJECTIVE_BYTES};

static row row_of(const char *name, const replay_policy *policy, uint64_t budget, double miss) {
    return (row){
        .trace = name,
        .plan = {.policy = policy, .objective = &hits, .budget_bytes = budget, .thread_count = 1},
        .result = {.request_count = 1000, .object_miss_ratio = miss, .byte_miss_ratio = miss / 2},
    };
}

static void predict(row *r, size_t budget, double miss) {
    r->result.curve[r->result.curve_count++] =
        (nm_curve_point){.budget_bytes = budget, .hit_ratio = 1 - miss, .byte_hit_ratio = 1 - miss / 2};
}

static char *script_of(const row *rows, size_t count) {
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_true(write_script(file, rows, count));
    assert_int_equal(fflush(file), 0);
    char *text = read_all(file);
    assert_non_null(text);
    fclose(file);
    return text;
}

static size_t count_of(const char *text, const char *part) {
    size_t count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part)) count++;
    return count;
}

static void a_policy_has_a_line_by_budget_and_its_middle_prediction(void **state) {
    (void)state;
    row rows[] = {
        row_of("t", &policies[1], 4096, 0.25),
        row_of("t", &policies[1], 1024, 0.75),
        row_of("t", &policies[1], 2048, 0.5),
        row_of("t", &policies[0], 2048, 0.4),
    };
    predict(&rows[0], 9999, 0.1);
    predict(&rows[1], 8888, 0.1);
    predict(&rows[2], 512, 1.02); /* an estimate may leave the range */
    predict(&rows[2], 2048, 0.49);
    char *text = script_of(rows, 4);
    assert_non_null(strstr(text, "$measured1 << END\n1024 75.000000\n2048 50.000000\n4096 25.000000\nEND\n"));
    assert_non_null(strstr(text, "$measured0 << END\n2048 40.000000\nEND\n"));
    assert_non_null(strstr(text, "$predicted1 << END\n512 100.000000\n2048 49.000000\nEND\n"));
    assert_null(strstr(text, "$predicted0"));
    assert_non_null(strstr(text, "predicted by the cache of 2.00 KiB"));
    assert_int_equal(count_of(text, "title 'lru'"), 1);
    assert_int_equal(count_of(text, "title 'lru, predicted'"), 1);
    assert_int_equal(count_of(text, "set logscale x\n"), 1);
    assert_int_equal(count_of(text, "object miss ratio, % of requests"), 1);
    free(text);
}

static void runs_made_for_a_curve_are_measured_but_predict_nothing(void **state) {
    (void)state;
    row rows[] = {row_of("t", &policies[1], 1024, 0.75), row_of("t", &policies[1], 2048, 0.5)};
    rows[1].plan.for_curve = true;
    predict(&rows[0], 512, 0.9);
    predict(&rows[1], 4096, 0.1);
    char *text = script_of(rows, 2);
    assert_non_null(strstr(text, "$measured1 << END\n1024 75.000000\n2048 50.000000\nEND\n"));
    assert_non_null(strstr(text, "$predicted1 << END\n512 90.000000\nEND\n"));
    free(text);
}

static void bytes_are_drawn_where_bytes_are_the_objective(void **state) {
    (void)state;
    row rows[] = {row_of("t", &policies[1], 1024, 0.75)};
    rows[0].plan.objective = &bytes;
    predict(&rows[0], 512, 0.8);
    char *text = script_of(rows, 1);
    assert_non_null(strstr(text, "1024 37.500000\n"));
    assert_non_null(strstr(text, "512 40.000000\n"));
    assert_non_null(strstr(text, "byte miss ratio, % of bytes requested"));
    free(text);
}

/* Two traces may have the same name; whose a row is tells the pointer. */
static void each_trace_has_a_panel(void **state) {
    (void)state;
    char a[] = "same", b[] = "same", c[] = "other";
    row rows[] = {row_of(a, &policies[0], 1024, 0.7), row_of(a, &policies[1], 1024, 0.7),
                  row_of(b, &policies[0], 1024, 0.7), row_of(c, &policies[0], 1024, 0.7)};
    char *text = script_of(rows, 4);
    assert_int_equal(count_of(text, "\nplot "), 3);
    assert_non_null(strstr(text, "set multiplot layout 2,2\n"));
    free(text);
}

static void a_name_is_only_text(void **state) {
    (void)state;
    static const struct {
        const char *name, *written;
    } cases[] = {
        {"web.txt", "'web.txt'"},
        {"it's", "'it''s'"},
        {"a\nb\x7f\\n", "'a?b?\\n'"},
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "'caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80'"},
        {"\xff-\xc3-\xe2\x82", "'?-?-?"
                               "?'"},
        {"\xc0\xaf \xed\xa0\x80 \xef\xbf\xbe \xf4\x90\x80\x80", "'?"
                                                                "? ?"
                                                                "?"
                                                                "? ?"
                                                                "?"
                                                                "? ?"
                                                                "?"
                                                                "?"
                                                                "?'"},
        {"'; system('x'); '", "'''; system(''x''); '''"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = NULL;
        size_t len;
        FILE *to = open_memstream(&text, &len);
        assert_non_null(to);
        write_name(to, cases[i].name);
        fclose(to);
        assert_string_equal(text, cases[i].written);
        free(text);
    }
}

static void the_picture_has_a_name_of_its_own(void **state) {
    (void)state;
    char *named = name_picture(strdup("<svg><title>Gnuplot</title></svg>\n"));
    assert_string_equal(named, "<svg><title>Miss ratio by cache budget</title></svg>\n");
    free(named);
    named = name_picture(strdup("<svg></svg>"));
    assert_string_equal(named, "<svg></svg>");
    free(named);
}

/* ---- the program: another one of its name, first on the PATH --------------------------------------------------------- */

static char folder[] = "/tmp/nebula-chart-XXXXXX";
static char *old_path;

static int make_folder(void **state) {
    (void)state;
    old_path = strdup(getenv("PATH"));
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int drop_folder(void **state) {
    (void)state;
    char path[sizeof folder + 16];
    snprintf(path, sizeof path, "%s/gnuplot", folder);
    unlink(path);
    free(old_path);
    return rmdir(folder);
}

static void pretend(const char *script) {
    char path[sizeof folder + 16];
    snprintf(path, sizeof path, "%s/gnuplot", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\n%s\n", script);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0700), 0);
}

static char *draw(const char *program, char why[GNUPLOT_WHY_BYTES]) {
    row rows[] = {row_of("t", &policies[1], 1024, 0.75)};
    pretend(program);
    char path[4096];
    snprintf(path, sizeof path, "%s:%s", folder, old_path);
    setenv("PATH", path, 1);
    strcpy(why, "unchanged");
    char *svg = chart_draw(rows, 1, why);
    setenv("PATH", old_path, 1);
    return svg;
}

static void what_the_program_writes_is_the_picture(void **state) {
    (void)state;
    char why[GNUPLOT_WHY_BYTES];
    /* it is given the script from its first byte, and none of the user's settings */
    char *svg = draw("[ \"$1\" = -d ] || exit 1; read -r a b c d; echo \"<svg>$a $b $c</svg>\"; cat >/dev/null", why);
    if (svg == NULL) fail_msg("%s", why);
    assert_string_equal(svg, "<svg>set terminal svg</svg>\n");
    free(svg);
}

static void its_failures_are_told(void **state) {
    (void)state;
    static const struct {
        const char *program, *why;
    } cases[] = {
        {"printf '\\nset x\\n    ^\\n     line 3: bad thing\\n\\n' >&2; exit 1", "gnuplot: line 3: bad thing"},
        {"exit 3", "gnuplot: it ended with an error and no message"},
        {"kill -KILL $$", "gnuplot was ended by a signal: Killed"},
        {"echo '<svg>'", "gnuplot wrote no whole picture"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char why[GNUPLOT_WHY_BYTES];
        assert_null(draw(cases[i].program, why));
        assert_string_equal(why, cases[i].why);
    }
}

static void a_program_that_is_missing_is_named(void **state) {
    (void)state;
    row rows[] = {row_of("t", &policies[1], 1024, 0.75)};
    char why[GNUPLOT_WHY_BYTES];
    setenv("PATH", "/nonexistent", 1);
    assert_false(gnuplot_check(why));
    assert_string_equal(why, "gnuplot is needed and was not found: install gnuplot (Debian: gnuplot-nox)");
    why[0] = '\0';
    assert_null(chart_draw(rows, 1, why));
    assert_string_equal(why, "gnuplot is needed and was not found: install gnuplot (Debian: gnuplot-nox)");
    setenv("PATH", old_path, 1);
    assert_null(chart_draw(rows, 0, why));
    assert_non_null(strstr(why, "nothing to draw"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_policy_has_a_line_by_budget_and_its_middle_prediction),
        cmocka_unit_test(runs_made_for_a_curve_are_measured_but_predict_nothing),
        cmocka_unit_test(bytes_are_drawn_where_bytes_are_the_objective),
        cmocka_unit_test(each_trace_has_a_panel),
        cmocka_unit_test(a_name_is_only_text),
        cmocka_unit_test(the_picture_has_a_name_of_its_own),
        cmocka_unit_test(what_the_program_writes_is_the_picture),
        cmocka_unit_test(its_failures_are_told),
        cmocka_unit_test(a_program_that_is_missing_is_named),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
