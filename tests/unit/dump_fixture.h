// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the tests of dumps share: a root of 16 MiB over counted system calls, dumps as strings, holders that only say a
 * number. */
#ifndef NM_TESTS_UNIT_DUMP_FIXTURE_H
#define NM_TESTS_UNIT_DUMP_FIXTURE_H

#include "nebula/memory.h"
#include "os_counter.h"
#include "scope/dump.h"
#include "testing.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static nm_scope *root;

static inline int open_root(void **state) {
    (void)state;
    os_counter_install();
    return nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "root", .hard_bytes = 16 * MIB)) == NM_OK ? 0 : -1;
}

static inline int close_root(void **state) {
    (void)state;
    nm_scope_close(root, NULL);
    return os_counter_remove() ? 0 : -1;
}

static inline nm_scope *open_child(nm_scope *parent, const char *name, nm_scope_kind kind) {
    nm_scope *s;
    assert_ok(nm_scope_open(&s, parent, NM_SCOPE_OPTIONS(.name = name, .kind = kind)));
    return s;
}

/* The dump as a string of the C heap. */
static inline char *dump_of(const nm_scope *scope, nm_dump_format format, size_t *length) {
    char *text;
    size_t bytes;
    FILE *to = open_memstream(&text, &bytes);
    assert_non_null(to);
    assert_ok(nm_scope_dump(scope, to, format));
    fclose(to);
    assert_int_equal(strlen(text), bytes);
    if (length != NULL) *length = bytes;
    return text;
}

static inline char *report_of(const nm_leak_report *report, nm_dump_format format) {
    char *text;
    size_t bytes;
    FILE *to = open_memstream(&text, &bytes);
    assert_non_null(to);
    assert_ok(nm_leak_report_write(report, to, format));
    fclose(to);
    return text;
}

/* A holder that has nothing but a number. Lives until its scope closes, at the end of the test: static. */
typedef struct thing {
    nm__holder holder; /* first */
    size_t used_bytes;
} thing;

static inline size_t thing_used(const nm__holder *holder) { return ((const thing *)(const void *)holder)->used_bytes; }
static inline void thing_close(nm__holder *holder, nm__leaks *leaks, const char *site) {
    (void)holder, (void)leaks, (void)site;
}
static const nm__holder_class thing_class = {"thing", NULL, thing_close, thing_used, NULL};

static inline void thing_add(thing *t, nm_scope *scope, const char *name, size_t used_bytes) {
    memset(t, 0, sizeof *t);
    t->holder.class = &thing_class;
    t->holder.name = name;
    t->used_bytes = used_bytes;
    nm__holder_add(scope, &t->holder, NM__RECLAIM_NEVER);
}

/* A service as one would be: arenas, a pool with a lease out, a cache, requests, a soft limit that was crossed, a hard one
 * that refused, a session that leaked. */
typedef struct server {
    nm_scope *listener, *session, *requests[3];
    nm_pool *pool;
    nm_cache *cache;
    nm_lease lease;
    size_t leaked_bytes; /* what the session leaked */
} server;

static inline void server_open(server *s) {
    assert_ok(nm_scope_open(
        &s->listener, root,
        NM_SCOPE_OPTIONS(.name = "listener", .soft_bytes = 128 * KIB, .hard_bytes = 512 * KIB, .credit_bytes = 4096)));
    assert_ok(nm_pool_open(&s->pool, s->listener, NM_POOL_OPTIONS(.chunk_bytes = 4 * KIB, .name = "rx")));
    assert_ok(nm_pool_try_lease(s->pool, &s->lease));
    assert_ok(nm_cache_open(&s->cache, root, NM_CACHE_OPTIONS(.budget_bytes = MIB, .name = "pages")));
    assert_ok(nm_cache_put(s->cache, "key", 3, "value", 5));
    s->session = open_child(s->listener, "session-17", NM_SCOPE_SESSION);
    nm_arena *arena;
    assert_ok(nm_arena_open(&arena, s->session, NM_ARENA_OPTIONS(.name = "state")));
    assert_non_null(nm_arena_alloc(arena, 200 * KIB)); /* crosses the soft limit */
    assert_null(nm_arena_alloc(arena, MIB));           /* refused */
    for (int i = 0; i < 3; i++) {
        s->requests[i] = open_child(s->session, "GET /a", i < 2 ? NM_SCOPE_REQUEST : NM_SCOPE_TASK);
        assert_ok(nm_arena_open(&arena, s->requests[i], NULL));
        assert_non_null(nm_arena_alloc(arena, 1000));
    }
    nm_scope *leaky = open_child(root, "leaky", NM_SCOPE_SESSION);
    nm_scope *forgotten = open_child(leaky, "forgotten", NM_SCOPE_REQUEST);
    assert_ok(nm_arena_open(&arena, forgotten, NULL));
    assert_non_null(nm_arena_alloc(arena, 1000));
    nm_leak_report report;
    assert_int_equal(nm_scope_close(leaky, &report), 1);
    s->leaked_bytes = report.leaked_bytes;
    assert_true(s->leaked_bytes >= 1000);
}

static inline void server_close(server *s) {
    nm_lease_release(&s->lease);
    nm_scope_close(s->listener, NULL);
}

/* A report of everything that there can be. */
static inline nm_leak_report full_report(void) {
    nm_leak_report r;
    memset(&r, 0, sizeof r);
    r.leaked_count = 5, r.leaked_bytes = 12291, r.peak_bytes = 61440, r.soft_bytes = 65536, r.hard_bytes = 131072;
    strcpy(r.scope_name, "request \"4711\"");
    r.scope_kind = NM_SCOPE_REQUEST;
    r.site_count = 3, r.sites_omitted = 1;
    r.sites[0] = (nm_leak_site){NM_LEAK_LEASE, 2, 8192, "session.c:212", "rx"};
    r.sites[1] = (nm_leak_site){NM_LEAK_PIN, 1, 4096, "a\\b.c:88", "pages\n\xff"};
    r.sites[2] = (nm_leak_site){NM_LEAK_MALLOC, 1, 3, NULL, ""};
    return r;
}

#endif
