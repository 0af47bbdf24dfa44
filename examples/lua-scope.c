// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Lua in a scope of its own: a script that takes too much is stopped by an error of Lua's, not by the system. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <nebula/memory.h>
#include <stdio.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                              \
            return false;                                                                                              \
        }                                                                                                              \
    } while (0)

/* Lua relies on shrinking never to fail, and so it is. */
static void *allocate(void *scope, void *p, size_t old_bytes, size_t bytes) {
    (void)old_bytes;
    if (bytes > 0) return nm_scope_realloc(scope, p, bytes);
    nm_scope_free(p);
    return NULL;
}

static void close_lua(void *lua) { lua_close(lua); }

/* Builds tables and strings; the sum and the length at the end are known. */
static const char script[] = "local t, s = {}, 0\n"
                             "for i = 1, 2000 do t[i] = { n = i, text = 'entry ' .. i } end\n"
                             "for _, e in ipairs(t) do s = s + e.n end\n"
                             "local parts = {}\n"
                             "for i = 1, 1000 do parts[i] = t[i].text end\n"
                             "return s, #table.concat(parts, ',')\n";
enum { SUM = 2000 * 2001 / 2, LENGTH = 1000 * 6 + (9 + 90 * 2 + 900 * 3 + 4) + 999 };

/* The status of the script, LUA_OK if it gave the right answer; the state lives until the scope closes. */
static int run(nm_scope *scope, const char **message) {
    lua_State *lua = lua_newstate(allocate, scope);
    *message = "no state";
    if (lua == NULL) return LUA_ERRMEM;
    if (nm_scope_defer(scope, close_lua, lua) != NM_OK) {
        lua_close(lua);
        return LUA_ERRMEM;
    }
    luaL_requiref(lua, "_G", luaopen_base, 1);
    luaL_requiref(lua, "table", luaopen_table, 1);
    int code = luaL_loadstring(lua, script);
    if (code == LUA_OK) code = lua_pcall(lua, 0, 2, 0);
    *message = code == LUA_OK ? "the right answer" : lua_tostring(lua, -1);
    if (code == LUA_OK && (lua_tointeger(lua, -2) != SUM || lua_tointeger(lua, -1) != LENGTH)) {
        *message = "a wrong answer";
        return LUA_ERRRUN;
    }
    return code;
}

static bool runs_in(nm_scope *root, size_t hard, int wanted) {
    nm_scope *scope;
    nm_scope_stats stats;
    CHECK(nm_scope_open(&scope, root, NM_SCOPE_OPTIONS(.name = "lua", .hard_bytes = hard)) == NM_OK);
    const char *message;
    int code = run(scope, &message);
    nm_scope_get_stats(scope, &stats);
    printf("in %zu KiB: %s; %zu bytes used, %zu charged", hard >> 10, message, stats.used_bytes, stats.granted_bytes);
    size_t leaks = nm_scope_close(scope, NULL); /* closes the state first */
    printf(", %zu leaks\n", leaks);
    CHECK(code == wanted && leaks == 0);
    CHECK(stats.granted_bytes <= hard);
    if (wanted == LUA_OK) CHECK(stats.used_bytes > 100 << 10 && stats.granted_bytes >= stats.used_bytes);
    if (wanted != LUA_OK) CHECK(stats.last_refusal.status == NM_EBUDGET);
    return true;
}

int main(void) {
    nm_scope *root;
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "program", .hard_bytes = 16 << 20)) != NM_OK) return 1;
    bool ok = runs_in(root, 2 << 20, LUA_OK) && runs_in(root, 128 << 10, LUA_ERRMEM);
    return nm_scope_close(root, NULL) == 0 && ok ? 0 : 1;
}
