// SPDX-License-Identifier: Apache-2.0 OR MIT
/* SQLite in a scope of its own: all that it allocates is charged to the scope, within its hard limit. */
#include <nebula/memory.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                              \
            return false;                                                                                              \
        }                                                                                                              \
    } while (0)

/* SQLite's hooks carry no context: there is one SQLite in a process, and here is its scope. */
static nm_scope *home;

static void *take(int n) { return nm_scope_malloc(home, (size_t)n); }
static void give(void *p) { nm_scope_free(p); }
static void *again(void *p, int n) { return nm_scope_realloc(home, p, (size_t)n); }
static int size(void *p) { return (int)nm_scope_malloc_size(p); }
static int round_up(int n) { return (n + 7) & ~7; }
static int init(void *context) {
    (void)context;
    return SQLITE_OK;
}
static void shut_down(void *context) { (void)context; }

static void shut_sqlite_down(void *context) {
    (void)context;
    sqlite3_shutdown();
}
static void close_database(void *db) { sqlite3_close(db); }

/* From here on SQLite lives in `scope`, until that closes. */
static bool start(nm_scope *scope) {
    static const sqlite3_mem_methods methods = {take, give, again, size, round_up, init, shut_down, NULL};
    home = scope;
    CHECK(sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) == SQLITE_OK);
    CHECK(sqlite3_initialize() == SQLITE_OK);
    CHECK(nm_scope_defer(scope, shut_sqlite_down, NULL) == NM_OK);
    return true;
}

enum { ROWS = 2000 };
#define SUM ((sqlite3_int64)ROWS * (ROWS - 1) / 2)

/* SQLite's own result: SQLITE_OK, or what stopped it. */
static int insert_rows(sqlite3 *db) {
    sqlite3_stmt *insert = NULL;
    int code =
        sqlite3_exec(db, "create table t (n integer, text text); create index i on t (text); begin", NULL, NULL, NULL);
    if (code == SQLITE_OK) code = sqlite3_prepare_v2(db, "insert into t values (?, ?)", -1, &insert, NULL);
    for (int i = 0; i < ROWS && code == SQLITE_OK; i++) {
        char text[64];
        int length = snprintf(text, sizeof text, "row %d of a table that lives in a scope", i);
        sqlite3_bind_int(insert, 1, i);
        code = sqlite3_bind_text(insert, 2, text, length, SQLITE_TRANSIENT);
        if (code == SQLITE_OK && sqlite3_step(insert) != SQLITE_DONE) code = sqlite3_errcode(db);
        sqlite3_reset(insert);
    }
    sqlite3_finalize(insert);
    return code == SQLITE_OK ? sqlite3_exec(db, "commit", NULL, NULL, NULL) : code;
}

static bool asks_right(sqlite3 *db) {
    sqlite3_stmt *query;
    CHECK(sqlite3_prepare_v2(db, "select sum(n), count(distinct text) from t", -1, &query, NULL) == SQLITE_OK);
    bool right = sqlite3_step(query) == SQLITE_ROW && sqlite3_column_int64(query, 0) == SUM &&
                 sqlite3_column_int(query, 1) == ROWS;
    sqlite3_finalize(query);
    CHECK(right);
    return true;
}

static bool runs_in(nm_scope *root, size_t hard, int wanted) {
    nm_scope *scope;
    nm_scope_stats stats;
    sqlite3 *db = NULL;
    CHECK(nm_scope_open(&scope, root, NM_SCOPE_OPTIONS(.name = "sqlite", .hard_bytes = hard)) == NM_OK);
    bool ok = start(scope);
    int code = ok ? sqlite3_open(":memory:", &db) : SQLITE_ERROR;
    ok = ok && nm_scope_defer(scope, close_database, db) == NM_OK; /* runs before the shut-down */
    if (code == SQLITE_OK) code = insert_rows(db);
    if (code == SQLITE_OK) ok = ok && asks_right(db);
    nm_scope_get_stats(scope, &stats);
    sqlite3_int64 own_count = sqlite3_memory_used();
    printf("in %zu KiB: SQLite says \"%s\"; it counts %lld bytes, the scope %zu used, %zu charged", hard >> 10,
           sqlite3_errstr(code), (long long)own_count, stats.used_bytes, stats.granted_bytes);
    size_t leaks = nm_scope_close(scope, NULL);
    printf(", %zu leaks\n", leaks);
    CHECK(ok && code == wanted && leaks == 0);
    CHECK(own_count > 0 && stats.granted_bytes >= stats.used_bytes && stats.granted_bytes <= hard);
    if (wanted == SQLITE_OK) CHECK(stats.used_bytes > 128 << 10);
    if (wanted != SQLITE_OK) CHECK(stats.last_refusal.status == NM_EBUDGET);
    return true;
}

int main(void) {
    nm_scope *root;
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "program", .hard_bytes = 16 << 20)) != NM_OK) return 1;
    bool ok = runs_in(root, 8 << 20, SQLITE_OK) && runs_in(root, 256 << 10, SQLITE_NOMEM);
    return nm_scope_close(root, NULL) == 0 && ok ? 0 : 1;
}
