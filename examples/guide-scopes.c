// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Scopes, as docs/guide/scopes-and-arenas.md has them: opening, limits, the hook, what is held, what is deferred. */
#include <nebula/memory.h>
#include <stdatomic.h>
#include <stdio.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s: not so: %s\n", NM_SITE, #what);                                                       \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

/* ---- a tree ------------------------------------------------------------------------------------------------------ */

struct server {
    nm_scope *root, *io, *listener;
};

static nm_status server_open(struct server *s) {
    nm_status st = nm_scope_open(&s->root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = (size_t)1 << 30));
    if (st != NM_OK) return st; /* s->root is NULL */
    st = nm_scope_open(&s->io, s->root, NM_SCOPE_OPTIONS(.name = "io", .hard_bytes = 64 << 20));
    if (st == NM_OK)
        st = nm_scope_open(&s->listener, s->root,
                           NM_SCOPE_OPTIONS(.name = "listener", .soft_bytes = 200 << 20, .hard_bytes = 256 << 20,
                                            .credit_bytes = 1 << 20));
    if (st != NM_OK) nm_scope_close(s->root, NULL); /* and what is open below it */
    return st;
}

static int tree(void) {
    struct server s;
    nm_scope *session, *request;
    CHECK(server_open(&s) == NM_OK);
    CHECK(nm_scope_open(&session, s.listener,
                        NM_SCOPE_OPTIONS(.name = "session-17", .kind = NM_SCOPE_SESSION, .hard_bytes = 1 << 20)) ==
          NM_OK);
    CHECK(nm_scope_open(&request, session,
                        NM_SCOPE_OPTIONS(.name = "GET /a", .kind = NM_SCOPE_REQUEST, .hard_bytes = 256 << 10)) ==
          NM_OK);

    nm_scope_stats stats;
    nm_scope_get_stats(request, &stats);
    CHECK(stats.hard_bytes == 256 << 10 && stats.kind == NM_SCOPE_REQUEST && strcmp(stats.name, "GET /a") == 0);
    nm_scope_get_stats(s.listener, &stats);
    CHECK(stats.child_count == 1 && stats.soft_bytes == 200 << 20);

    /* children first: a scope that is still open when its parent closes is a leak */
    CHECK(nm_scope_close(request, NULL) == 0);
    CHECK(nm_scope_close(session, NULL) == 0);
    CHECK(nm_scope_close(s.listener, NULL) + nm_scope_close(s.io, NULL) + nm_scope_close(s.root, NULL) == 0);
    return 0;
}

/* ---- the soft limit ---------------------------------------------------------------------------------------------- */

struct listener {
    nm_scope *scope;
    atomic_bool full; /* the hook runs on whatever thread grew */
};

/* Over the soft limit: those who are here are served, and no more are let in. */
static void stop_accepting(nm_scope *crossed, size_t wanted_bytes, void *context) {
    struct listener *l = context;
    (void)crossed, (void)wanted_bytes; /* what reclaim has not brought back */
    atomic_store(&l->full, true);
}

static bool may_accept(struct listener *l) {
    if (!atomic_load(&l->full)) return true;
    nm_scope_stats stats;
    nm_scope_get_stats(l->scope, &stats);
    if (stats.granted_bytes > stats.soft_bytes - stats.soft_bytes / 16) return false;
    atomic_store(&l->full, false);
    return true;
}

static int soft_limit(void) {
    nm_scope *root, *session;
    nm_arena *arena;
    struct listener l = {0};
    CHECK(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.hard_bytes = 4 << 20)) == NM_OK);
    CHECK(nm_scope_open(&l.scope, root,
                        NM_SCOPE_OPTIONS(.name = "listener", .soft_bytes = 256 << 10, .hard_bytes = 512 << 10,
                                         .on_pressure = stop_accepting, .context = &l)) == NM_OK);
    CHECK(nm_scope_open(&session, l.scope, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_SESSION)) == NM_OK);
    CHECK(nm_arena_open(&arena, session, NULL) == NM_OK);
    CHECK(nm_arena_alloc(arena, 200 << 10) != NULL && may_accept(&l));
    CHECK(nm_arena_alloc(arena, 100 << 10) != NULL && !may_accept(&l)); /* granted, and the hook was called */

    nm_scope_stats stats;
    nm_scope_get_stats(l.scope, &stats);
    CHECK(stats.soft_count == 1 && stats.refused_count == 0 && stats.granted_bytes > 256 << 10);
    CHECK(nm_scope_close(session, NULL) == 0 && may_accept(&l));
    CHECK(nm_scope_close(l.scope, NULL) + nm_scope_close(root, NULL) == 0);
    return 0;
}

/* ---- changing limits --------------------------------------------------------------------------------------------- */

static int other_limits(void) {
    nm_scope *root, *work;
    nm_arena *arena;
    CHECK(nm_scope_open(&root, NULL, NULL) == NM_OK); /* no limit */
    CHECK(nm_scope_open(&work, root, NM_SCOPE_OPTIONS(.name = "work", .hard_bytes = 1 << 20)) == NM_OK);
    CHECK(nm_arena_open(&arena, work, NULL) == NM_OK && nm_arena_alloc(arena, 500 << 10) != NULL);

    nm_status st = nm_scope_set_budget(work, 0, 100 << 10);
    CHECK(st == NM_EBUSY); /* the arena holds more, and nobody can give it back: nothing is changed */
    st = nm_scope_set_budget(work, 600 << 10, 700 << 10);
    CHECK(st == NM_OK);
    CHECK(nm_arena_alloc(arena, 500 << 10) == NULL && nm_arena_status(arena) == NM_EBUDGET);
    CHECK(nm_scope_close(work, NULL) + nm_scope_close(root, NULL) == 0);
    return 0;
}

/* ---- what a scope holds ------------------------------------------------------------------------------------------ */

static int held(nm_leak_mode mode, size_t leaks_wanted) {
    nm_scope *root, *request;
    nm_pool *pool;
    CHECK(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.hard_bytes = 4 << 20)) == NM_OK);
    CHECK(nm_pool_open(&pool, root, NM_POOL_OPTIONS(.name = "rx", .chunk_bytes = 4096)) == NM_OK);
    CHECK(nm_scope_open(&request, root,
                        NM_SCOPE_OPTIONS(.name = "GET /a", .kind = NM_SCOPE_REQUEST, .held_limit_bytes = 8192,
                                         .leak_report = mode)) == NM_OK);

    nm_lease a, b, c;
    CHECK(nm_pool_lease_in(pool, request, &a) == NM_OK && nm_pool_lease_in(pool, request, &b) == NM_OK);
    CHECK(nm_pool_lease_in(pool, request, &c) == NM_ECAPACITY); /* two buffers are what this request may hold */
    nm_lease_release(&a);                                       /* by hand */
    CHECK(nm_pool_lease_in(pool, request, &c) == NM_OK);

    CHECK(nm_scope_close(request, NULL) == leaks_wanted); /* b and c go back now */
    nm_pool_stats stats;
    nm_pool_get_stats(pool, &stats);
    CHECK(stats.leased_count == 0);
    CHECK(nm_scope_close(root, NULL) == 0);
    return 0;
}

/* ---- deferred ---------------------------------------------------------------------------------------------------- */

static void close_file(void *file) { fclose(file); }

/* A file that lives as long as the scope. */
static FILE *scope_tmpfile(nm_scope *scope) {
    FILE *file = tmpfile();
    if (file != NULL && nm_scope_defer(scope, close_file, file) != NM_OK) {
        fclose(file);
        file = NULL;
    }
    return file;
}

static int deferred(void) {
    nm_scope *root, *session;
    CHECK(nm_scope_open(&root, NULL, NULL) == NM_OK && nm_scope_open(&session, root, NULL) == NM_OK);
    FILE *spool = scope_tmpfile(session);
    CHECK(spool != NULL && fputs("lines to come\n", spool) >= 0);
    CHECK(nm_scope_close(session, NULL) == 0 && nm_scope_close(root, NULL) == 0);
    return 0;
}

int main(void) {
    return tree() || soft_limit() || other_limits() || held(NM_LEAKS_DEFAULT, 0) || held(NM_LEAKS_STRICT, 2) ||
           deferred();
}
