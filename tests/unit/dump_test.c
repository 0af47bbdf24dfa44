// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Dumps and leak reports: what every format has in common, the text, and JSON, which is read back with jansson and compared
 * with the stats field by field. Prometheus: dump_prometheus_test.c. */
#include "dump_fixture.h"

#include <errno.h>
#include <pthread.h>

#include "prometheus_check.h"

#ifdef NEBULA_TEST_JANSSON
#include <jansson.h>
#endif

static const nm_dump_format formats[] = {NM_DUMP_TEXT, NM_DUMP_JSON, NM_DUMP_PROMETHEUS};
enum { FORMATS = 3 };

/* ---- any format --------------------------------------------------------------------------------------------------- */

static void what_is_no_scope_no_file_or_no_format_is_refused(void **state) {
    (void)state;
    nm_leak_report r = full_report();
    char *text;
    size_t bytes;
    FILE *to = open_memstream(&text, &bytes);
    for (int i = 0; i < FORMATS; i++) {
        assert_status(nm_scope_dump(NULL, to, formats[i]), NM_EINVAL);
        assert_status(nm_scope_dump(root, NULL, formats[i]), NM_EINVAL);
        assert_status(nm_leak_report_write(NULL, to, formats[i]), NM_EINVAL);
        assert_status(nm_leak_report_write(&r, NULL, formats[i]), NM_EINVAL);
    }
    const int none[] = {-1, 3, 42};
    for (int i = 0; i < 3; i++) {
        assert_status(nm_scope_dump(root, to, (nm_dump_format)none[i]), NM_EINVAL);
        assert_status(nm_leak_report_write(&r, to, (nm_dump_format)none[i]), NM_EINVAL);
    }
    fclose(to);
    assert_int_equal(bytes, 0);
    free(text);
}

static void a_full_file_is_a_failed_system_call(void **state) {
    (void)state;
    nm_leak_report r = full_report();
    server s;
    server_open(&s);
    for (int i = 0; i < 2 * FORMATS; i++) {
        FILE *to = fopen("/dev/full", "w");
        assert_non_null(to);
        if (i >= FORMATS) setvbuf(to, NULL, _IONBF, 0);
        assert_status(nm_scope_dump(root, to, formats[i % FORMATS]), NM_ESYSTEM);
        fclose(to);
        to = fopen("/dev/full", "w");
        if (i >= FORMATS) setvbuf(to, NULL, _IONBF, 0);
        assert_status(nm_leak_report_write(&r, to, formats[i % FORMATS]), NM_ESYSTEM);
        fclose(to);
        free(dump_of(root, formats[i % FORMATS], NULL)); /* the next call works */
    }
    server_close(&s);
}

/* It must be possible when there is no memory left: that is when it is wanted. */
static void a_dump_takes_no_memory_and_changes_nothing(void **state) {
    (void)state;
    server s;
    server_open(&s);
    nm_scope_stats before, after;
    nm_scope_get_stats(root, &before);
    assert_ok(nm_scope_set_budget(root, 0, before.granted_bytes));
    size_t committed = os_counter_committed(), reserved = os_counter_reserved();
    os_counter_fail_after(1);
    nm_scope_fail_after(root, 1);
    for (int i = 0; i < FORMATS; i++) {
        char *once = dump_of(root, formats[i], NULL), *twice = dump_of(root, formats[i], NULL);
        assert_string_equal(once, twice);
        free(once);
        free(twice);
    }
    assert_false(os_counter_failed());
    os_counter_fail_after(0);
    assert_int_equal(os_counter_committed(), committed);
    assert_int_equal(os_counter_reserved(), reserved);
    nm_scope_get_stats(root, &after);
    assert_int_equal(after.granted_bytes, before.granted_bytes);
    assert_int_equal(after.used_bytes, before.used_bytes);
    assert_int_equal(after.child_count, before.child_count);
    assert_ok(nm_scope_set_budget(root, 0, 16 * MIB));
    nm_scope *refused;
    assert_status(nm_scope_open(&refused, root, NULL), NM_EBUDGET); /* once: no dump has used up what was armed */
    assert_ok(nm_scope_open(&refused, root, NULL));
    server_close(&s);
}

/* ---- text --------------------------------------------------------------------------------------------------------- */

static void the_text_tells_what_the_other_formats_tell(void **state) {
    (void)state;
    server s;
    server_open(&s);
    char *text = dump_of(root, NM_DUMP_TEXT, NULL);
    assert_non_null(strstr(text, "process \"root\": granted "));
    assert_non_null(strstr(text, "\n  committed "));
    assert_non_null(strstr(text, ", in idle blocks "));
    assert_non_null(strstr(text, "\n  leaks found at closes: 1, "));
    assert_non_null(strstr(text, "\n  cache \"pages\": used "));
    assert_non_null(strstr(text, "\n  service \"listener\": granted "));
    assert_non_null(strstr(text, "soft 131,072, hard 524,288"));
    assert_non_null(strstr(text, ", refused "));
    assert_non_null(strstr(text, ", soft crossed "));
    assert_non_null(strstr(text, "\n    pool \"rx\": used 4,096\n"));
    assert_non_null(strstr(text, "\n      arena \"state\": used "));
    assert_non_null(strstr(text, "\n      3 request and task scopes: granted "));
    free(text);
    server_close(&s);
}

static void a_name_cannot_forge_a_line_of_text(void **state) {
    (void)state;
    nm_scope *s = open_child(root, "a\nservice \"b\"\x7f", NM_SCOPE_SERVICE);
    static thing t;
    thing_add(&t, s, "c\r\nd", 1);
    char *text = dump_of(s, NM_DUMP_TEXT, NULL);
    assert_non_null(strstr(text, "service \"a?service \"b\"?\": granted "));
    assert_non_null(strstr(text, "\n  thing \"c??d\": used 1\n"));
    free(text);
    nm_leak_report r = full_report();
    text = report_of(&r, NM_DUMP_TEXT);
    assert_non_null(strstr(text, "\"pages?\xff\""));
    free(text);
}

static void a_report_as_text_is_what_print_prints(void **state) {
    (void)state;
    nm_leak_report r = full_report();
    char *written = report_of(&r, NM_DUMP_TEXT), *printed;
    size_t bytes;
    FILE *to = open_memstream(&printed, &bytes);
    nm_leak_report_print(&r, to);
    fclose(to);
    assert_string_equal(written, printed);
    free(written);
    free(printed);
}

static void dumped_sites_are_told_once_and_summed(void **state) {
    (void)state;
    char copy[] = "a.c:1"; /* the same text at another address */
    nm__site_count sites[] = {{"a.c:1", 1, 100}, {"b\"c.c:2", 2, 50}, {copy, 3, 7}};
    nm__dump d;
    char *text;
    size_t bytes;
    FILE *to = open_memstream(&text, &bytes);
    nm__dump_begin(&d, root, to);
    d.site_count = nm__sites_merge(sites, 3);
    assert_int_equal(d.site_count, 2);
    memcpy(d.sites, sites, sizeof sites);
    nm__dump_text(&d);
    nm__dump_prometheus(&d);
    nm__dump_json(&d);
    fclose(to);
    assert_non_null(
        strstr(text, "\n  site a.c:1: 107 bytes, 4 allocations\n  site b\"c.c:2: 50 bytes, 2 allocations\n"));
    assert_non_null(strstr(text, "\nnebula_site_bytes_total{scope=\"root\",site=\"a.c:1\"} 107\n"
                                 "nebula_site_bytes_total{scope=\"root\",site=\"b\\\"c.c:2\"} 50\n"));
    assert_non_null(strstr(text, "\nnebula_site_allocations_total{scope=\"root\",site=\"a.c:1\"} 4\n"
                                 "nebula_site_allocations_total{scope=\"root\",site=\"b\\\"c.c:2\"} 2\n"));
    assert_non_null(strstr(text, ",\"sites\":[{\"site\":\"a.c:1\",\"count\":4,\"bytes\":107},"
                                 "{\"site\":\"b\\\"c.c:2\",\"count\":2,\"bytes\":50}],"));
    free(text);
}

/* ---- JSON --------------------------------------------------------------------------------------------------------- */

#ifdef NEBULA_TEST_JANSSON

static json_t *parse(const char *text, size_t length) {
    json_error_t error;
    assert_true(length > 0 && text[length - 1] == '\n');
    json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (json == NULL) fail_msg("line %d, column %d: %s", error.line, error.column, error.text);
    return json;
}

static json_t *json_dump_of(const nm_scope *scope) {
    size_t length;
    char *text = dump_of(scope, NM_DUMP_JSON, &length);
    json_t *json = parse(text, length);
    free(text);
    return json;
}

static uint64_t number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0) fail_msg("%s is not a count", key);
    return (uint64_t)json_integer_value(value);
}

static const char *string(const json_t *object, const char *key) {
    const char *value = json_string_value(json_object_get(object, key));
    if (value == NULL) fail_msg("%s is not a string", key);
    return value;
}

static const json_t *child_named(const json_t *scope, const char *name) {
    size_t i;
    json_t *child;
    json_array_foreach(json_object_get(scope, "children"), i, child) {
        if (strcmp(string(child, "name"), name) == 0) return child;
    }
    fail_msg("no child %s", name);
    return NULL;
}

static const json_t *holder_of_part(const json_t *scope, const char *part) {
    size_t i;
    json_t *holder;
    json_array_foreach(json_object_get(scope, "holders"), i, holder) {
        if (strcmp(string(holder, "part"), part) == 0) return holder;
    }
    fail_msg("no holder %s", part);
    return NULL;
}

static void assert_tells_the_stats_of(const json_t *json, const nm_scope *scope) {
    nm_scope_stats st;
    nm_scope_get_stats(scope, &st);
    assert_string_equal(string(json, "name"), st.name);
    static const char *const kinds[] = {"", "process", "service", "session", "request", "task"};
    assert_string_equal(string(json, "kind"), kinds[st.kind]);
    assert_int_equal(number(json, "granted_bytes"), st.granted_bytes);
    assert_int_equal(number(json, "used_bytes"), st.used_bytes);
    assert_int_equal(number(json, "peak_bytes"), st.peak_bytes);
    assert_int_equal(number(json, "soft_bytes"), st.soft_bytes);
    assert_int_equal(number(json, "hard_bytes"), st.hard_bytes);
    assert_int_equal(number(json, "credit_bytes"), st.credit_bytes);
    assert_int_equal(number(json, "child_count"), st.child_count);
    assert_int_equal(number(json, "refused_count"), st.refused_count);
    assert_int_equal(number(json, "soft_count"), st.soft_count);
    bool is_root = st.kind == NM_SCOPE_PROCESS;
    assert_int_equal(json_object_size(json), is_root ? 24 : 18);
    assert_non_null(strstr(string(json, "opened_at"), "dump_fixture.h:"));
    const json_t *refusal = json_object_get(json, "last_refusal");
    assert_non_null(refusal);
    assert_int_equal(json_is_null(refusal), st.last_refusal.status == NM_OK);
    if (!json_is_null(refusal)) {
        assert_string_equal(string(refusal, "status"), nm_status_name(st.last_refusal.status));
        assert_int_equal(number(refusal, "wanted_bytes"), st.last_refusal.wanted_bytes);
        assert_string_equal(string(refusal, "scope"), st.last_refusal.name);
    }
    assert_true(json_is_array(json_object_get(json, "holders")));
    assert_int_equal(json_array_size(json_object_get(json, "children")) + number(json, "request_count"),
                     st.child_count);
    if (!is_root) return;
    assert_int_equal(number(json, "own_bytes"), st.own_bytes);
    assert_int_equal(number(json, "idle_bytes"), st.idle_bytes);
    assert_true(number(json, "idle_block_bytes") <= st.idle_bytes);
    nm__site_count top[NM__DUMP_SITES];
    size_t sites = nm__min(nm__sites_top(scope, top, NM__DUMP_SITES), NM__DUMP_SITES);
    assert_int_equal(json_array_size(json_object_get(json, "sites")), nm__sites_merge(top, sites));
}

static void json_tells_the_stats_of_every_listed_scope(void **state) {
    (void)state;
    server s;
    server_open(&s);
    json_t *json = json_dump_of(root);
    assert_tells_the_stats_of(json, root);
    assert_int_equal(number(json, "leaked_count"), 1);
    assert_int_equal(number(json, "leaked_bytes"), s.leaked_bytes);
    assert_int_equal(number(json, "own_hard_bytes"), 16 * MIB);
    assert_string_equal(string(holder_of_part(json, "cache"), "name"), "pages");
    assert_int_equal(number(holder_of_part(json, "cache"), "used_bytes"), nm_cache_used(s.cache));

    const json_t *listener = child_named(json, "listener");
    assert_tells_the_stats_of(listener, s.listener);
    assert_true(number(listener, "refused_count") > 0);
    assert_true(number(listener, "soft_count") > 0);
    assert_int_equal(number(listener, "own_hard_bytes"), 512 * KIB);
    assert_int_equal(number(holder_of_part(listener, "pool"), "used_bytes"), 4 * KIB);

    const json_t *session = child_named(listener, "session-17");
    assert_tells_the_stats_of(session, s.session);
    assert_int_equal(number(session, "hard_bytes"), 512 * KIB); /* the parent's */
    assert_int_equal(number(session, "own_hard_bytes"), 0);
    assert_string_equal(string(holder_of_part(session, "arena"), "name"), "state");
    assert_int_equal(number(session, "request_count"), 3);
    size_t granted = 0;
    for (int i = 0; i < 3; i++) {
        nm_scope_stats st;
        nm_scope_get_stats(s.requests[i], &st);
        granted += st.granted_bytes;
    }
    assert_int_equal(number(session, "request_granted_bytes"), granted);
    assert_int_equal(json_array_size(json_object_get(session, "children")), 0);
    json_decref(json);

    json = json_dump_of(s.listener); /* from the middle */
    assert_tells_the_stats_of(json, s.listener);
    assert_tells_the_stats_of(child_named(json, "session-17"), s.session);
    json_decref(json);
    json = json_dump_of(s.requests[0]); /* a scope that is not listed but asked for */
    assert_tells_the_stats_of(json, s.requests[0]);
    json_decref(json);
    server_close(&s);
}

static void json_has_the_sites_of_the_table(void **state) {
    (void)state;
    nm__sites_note(root, "a.c:1", 3, 300);
    nm__sites_note(root, "b.c:2", 1, 400);
    nm__site_count top[NM__DUMP_SITES];
    size_t n = nm__sites_merge(top, nm__min(nm__sites_top(root, top, NM__DUMP_SITES), NM__DUMP_SITES));
    json_t *json = json_dump_of(root), *site;
    const json_t *sites = json_object_get(json, "sites");
    assert_int_equal(json_array_size(sites), n);
    size_t i;
    json_array_foreach(sites, i, site) {
        assert_string_equal(string(site, "site"), top[i].site);
        assert_int_equal(number(site, "count"), top[i].count);
        assert_int_equal(number(site, "bytes"), top[i].bytes);
    }
    json_decref(json);
}

/* What a name is, and what becomes of it. */
static const struct {
    const char *name, *json;
} nasty[] = {
    {"", ""},
    {"\"", "\""},
    {"\\", "\\"},
    {"\\\"},{\"name\":\"x", "\\\"},{\"name\":\"x"},
    {"a\nb\tc\rd\be\ff", "a\nb\tc\rd\be\ff"},
    {"\x01\x1f\x7f", "\x01\x1f\x7f"},
    {"/a/b%2F", "/a/b%2F"},
    {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
    {"\xf0\x9f\x98\x80 \xe2\x82\xac", "\xf0\x9f\x98\x80 \xe2\x82\xac"},
    {"\xff", "\xef\xbf\xbd"},
    {"\xfe", "\xef\xbf\xbd"},
    {"a\x80z", "a\xef\xbf\xbdz"},                                             /* ends nothing */
    {"\xc3", "\xef\xbf\xbd"},                                                 /* ends too soon */
    {"\xe2\x82", "\xef\xbf\xbd"},                                             /* the same, one piece */
    {"\xf0\x9f\x98\"", "\xef\xbf\xbd\""},                                     /* and the quote is still one */
    {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                                 /* '/' in a form too long */
    {"\xe0\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},                 /* 0 in a form too long */
    {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},                 /* a surrogate */
    {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* past the last character */
    {"0123456789012345678901234567\xf0\x9f\x98\x80", "0123456789012345678901234567\xef\xbf\xbd"}, /* cut at 31 */
};
enum { NASTY = sizeof nasty / sizeof nasty[0] };

static void any_name_survives_json(void **state) {
    (void)state;
    static thing things[NASTY];
    for (size_t i = NASTY; i-- > 0;) {
        nm_scope *s = open_child(root, nasty[i].name, NM_SCOPE_SESSION);
        thing_add(&things[i], s, nasty[i].name, i);
    }
    json_t *json = json_dump_of(root), *child;
    size_t i;
    assert_int_equal(json_array_size(json_object_get(json, "children")), NASTY);
    json_array_foreach(json_object_get(json, "children"), i, child) {
        /* the newest is the first */
        assert_string_equal(string(child, "name"), nasty[i].json);
        assert_int_equal(number(holder_of_part(child, "thing"), "used_bytes"), i);
    }
    json_decref(json);
    /* and random bytes */
    uint64_t seed = test_seed();
    for (int round = 0; round < 2000; round++) {
        char name[NM_NAME_BYTES] = "";
        for (int at = 0; at < 12; at++) {
            static const unsigned char likely[] = "\x80\xbf\xc3\xe2\xed\xf0\xf4\"\\";
            name[at] = (char)(test_below(&seed, 2) ? likely[test_below(&seed, 9)] : 1 + test_below(&seed, 255));
        }
        nm_scope *s = open_child(root, name, NM_SCOPE_SESSION);
        json = json_dump_of(s); /* jansson takes nothing but UTF-8 */
        json_decref(json);
        size_t length;
        char *text = dump_of(s, NM_DUMP_PROMETHEUS, &length);
        const char *wrong = prometheus_check(text, length);
        if (wrong != NULL) fail_msg("%s", wrong);
        free(text);
        nm_scope_close(s, NULL);
    }
}

static void a_tree_of_a_thousand_levels_is_nested_as_deep(void **state) {
    (void)state;
    enum { LEVELS = 1000 };
    nm_scope *scopes[LEVELS];
    scopes[0] = root;
    for (int i = 1; i < LEVELS; i++) {
        /* the newest comes first: one of these behind all that is below the next level, the other before it */
        if (i % 100 == 0) open_child(scopes[i - 1], "behind", NM_SCOPE_SESSION);
        scopes[i] = open_child(scopes[i - 1], i % 2 ? "s" : "\"", NM_SCOPE_SERVICE);
        if (i % 100 == 0) open_child(scopes[i - 1], "before", NM_SCOPE_SESSION);
    }
    json_t *json = json_dump_of(root);
    const json_t *at = json;
    for (int i = 1; i < LEVELS; i++) {
        assert_int_equal(json_array_size(json_object_get(at, "children")), i % 100 == 0 ? 3 : 1);
        if (i % 100 == 0) child_named(at, "before"), child_named(at, "behind");
        at = child_named(at, i % 2 ? "s" : "\"");
    }
    assert_tells_the_stats_of(at, scopes[LEVELS - 1]);
    json_decref(json);
}

static void five_thousand_sessions_are_all_told(void **state) {
    (void)state;
    enum { SESSIONS = 5000 };
    for (int i = 0; i < SESSIONS; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        open_child(root, name, NM_SCOPE_SESSION);
    }
    json_t *json = json_dump_of(root), *child;
    bool seen[SESSIONS] = {false};
    size_t i, count = 0;
    json_array_foreach(json_object_get(json, "children"), i, child) {
        long n = strtol(string(child, "name"), NULL, 10);
        assert_in_range(n, 0, SESSIONS - 1);
        count += !seen[n];
        seen[n] = true;
    }
    assert_int_equal(count, SESSIONS);
    json_decref(json);
}

static void a_report_in_json_has_every_field(void **state) {
    (void)state;
    nm_leak_report r = full_report();
    char *text = report_of(&r, NM_DUMP_JSON);
    json_t *json = parse(text, strlen(text)), *site;
    free(text);
    assert_string_equal(string(json, "scope_name"), r.scope_name);
    assert_string_equal(string(json, "scope_kind"), "request");
    assert_int_equal(number(json, "leaked_count"), 5);
    assert_int_equal(number(json, "leaked_bytes"), 12291);
    assert_int_equal(number(json, "peak_bytes"), 61440);
    assert_int_equal(number(json, "soft_bytes"), 65536);
    assert_int_equal(number(json, "hard_bytes"), 131072);
    assert_int_equal(number(json, "sites_omitted"), 1);
    assert_int_equal(json_object_size(json), 9);
    static const char *const kinds[] = {"lease", "pin", "malloc"}, *const names[] = {"rx", "pages\n\xef\xbf\xbd", ""};
    size_t i;
    assert_int_equal(json_array_size(json_object_get(json, "sites")), 3);
    json_array_foreach(json_object_get(json, "sites"), i, site) {
        assert_int_equal(json_object_size(site), 5);
        assert_string_equal(string(site, "kind"), kinds[i]);
        assert_string_equal(string(site, "name"), names[i]);
        assert_int_equal(number(site, "count"), r.sites[i].count);
        assert_int_equal(number(site, "bytes"), r.sites[i].bytes);
        if (r.sites[i].site != NULL)
            assert_string_equal(string(site, "site"), r.sites[i].site);
        else
            assert_true(json_is_null(json_object_get(site, "site")));
    }
    json_decref(json);

    memset(&r, 0, sizeof r); /* the report of a scope that leaked nothing; and one that nobody filled in right */
    text = report_of(&r, NM_DUMP_JSON);
    json_decref(parse(text, strlen(text)));
    free(text);
    r.site_count = 1000;
    r.sites[3].kind = (nm_leak_kind)77;
    r.scope_kind = (nm_scope_kind)77;
    for (int f = 0; f < FORMATS; f++) {
        text = report_of(&r, formats[f]);
        assert_non_null(strstr(text, "unknown"));
        if (formats[f] == NM_DUMP_JSON) json_decref(parse(text, strlen(text)));
        free(text);
    }
}

#endif

/* ---- threads ------------------------------------------------------------------------------------------------------ */

static NM_ATOMIC(bool) stop;

static void *open_and_close(void *name) {
    for (unsigned i = 0; !nm_atomic_load(&stop, NM_RELAXED); i++) {
        nm_scope *session, *request;
        nm_arena *arena;
        nm_pool *pool;
        bool ok = nm_scope_open(&session, root, NM_SCOPE_OPTIONS(.name = name, .kind = NM_SCOPE_SESSION)) == NM_OK &&
                  nm_scope_open(&request, session, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)) == NM_OK &&
                  nm_arena_open(&arena, request, NULL) == NM_OK && nm_arena_alloc(arena, 100 + i % 5000) != NULL &&
                  nm_pool_open(&pool, session, NM_POOL_OPTIONS(.chunk_bytes = 100, .name = name)) == NM_OK;
        if (!ok) return "refused";
        if (i % 2 == 0) nm_scope_close(request, NULL); /* else a leak, which is counted */
        nm_scope_close(session, NULL);
    }
    return NULL;
}

static void dumps_are_whole_while_other_threads_open_and_close(void **state) {
    (void)state;
    enum { THREADS = 3 };
    pthread_t threads[THREADS];
    static char names[THREADS][4] = {"a", "b", "a"};
    nm_atomic_store(&stop, false, NM_RELAXED);
    for (int t = 0; t < THREADS; t++) pthread_create(&threads[t], NULL, open_and_close, names[t]);
    for (int i = 0; i < (TEST_SLOW ? 100 : 400); i++) {
        size_t length;
        free(dump_of(root, NM_DUMP_TEXT, NULL));
        char *text = dump_of(root, NM_DUMP_PROMETHEUS, &length);
        const char *wrong = prometheus_check(text, length);
        if (wrong != NULL) fail_msg("%s", wrong);
        free(text);
        text = dump_of(root, NM_DUMP_JSON, &length);
#ifdef NEBULA_TEST_JANSSON
        json_decref(parse(text, length));
#endif
        free(text);
    }
    nm_atomic_store(&stop, true, NM_RELAXED);
    for (int t = 0; t < THREADS; t++) {
        void *wrong;
        pthread_join(threads[t], &wrong);
        assert_null(wrong);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_root, close_root)
    const struct CMUnitTest tests[] = {
        TEST(what_is_no_scope_no_file_or_no_format_is_refused),
        TEST(a_full_file_is_a_failed_system_call),
        TEST(a_dump_takes_no_memory_and_changes_nothing),
        TEST(the_text_tells_what_the_other_formats_tell),
        TEST(a_name_cannot_forge_a_line_of_text),
        TEST(a_report_as_text_is_what_print_prints),
        TEST(dumped_sites_are_told_once_and_summed),
#ifdef NEBULA_TEST_JANSSON
        TEST(json_tells_the_stats_of_every_listed_scope),
        TEST(json_has_the_sites_of_the_table),
        TEST(any_name_survives_json),
        TEST(a_tree_of_a_thousand_levels_is_nested_as_deep),
        TEST(five_thousand_sessions_are_all_told),
        TEST(a_report_in_json_has_every_field),
#endif
        TEST(dumps_are_whole_while_other_threads_open_and_close),
    };
#ifndef NEBULA_TEST_JANSSON
    print_message("built without jansson: JSON is not read back\n");
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}
