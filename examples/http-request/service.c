// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Scopes of the service, of a connection, of a request; and how a body gets into a request's arena. */
#include "service.h"

#include <stdio.h>

/* What a session has beside its request: its own block, and the request's header. */
#define SESSION_OWN_BYTES ((size_t)64 << 10)

nm_status service_open(service *s, size_t request_bytes, size_t buffer_count, const char **what) {
    memset(s, 0, sizeof *s);
    s->request_bytes = request_bytes;

    *what = "root scope";
    nm_status st = nm_scope_open(&s->root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = SERVICE_ROOT_BYTES));
    if (st != NM_OK) return st;

    *what = "scope \"io\"";
    /* the buffers, a 32nd for rounding, and the pool's own pages */
    size_t io_bytes = buffer_count * (SERVICE_IO_BYTES + SERVICE_IO_BYTES / 32) + ((size_t)256 << 10);
    st = nm_scope_open(&s->io, s->root, NM_SCOPE_OPTIONS(.name = "io", .hard_bytes = io_bytes));
    if (st == NM_OK) {
        *what = "pool of I/O buffers";
        st = nm_pool_open(
            &s->buffers, s->io,
            NM_POOL_OPTIONS(.name = "buffers", .chunk_bytes = SERVICE_IO_BYTES, .max_count = buffer_count));
    }
    if (st != NM_OK) nm_scope_close(s->root, NULL);
    return st;
}

/* Closes a scope, and prints what leaked in one piece, though other threads print too. */
static size_t close_and_log(nm_scope *scope, nm_leak_report *report) {
    size_t leaks = nm_scope_close(scope, report);
    if (leaks > 0) {
        flockfile(stderr);
        nm_leak_report_print(report, stderr);
        funlockfile(stderr);
    }
    return leaks;
}

static void close_and_count(service *s, nm_scope *scope) {
    nm_leak_report report;
    atomic_fetch_add_explicit(&s->leak_count, close_and_log(scope, &report), memory_order_relaxed);
}

size_t service_close(service *s, nm_leak_report *report) {
    size_t leaks = close_and_log(s->io, report); /* a child that is open when its parent closes is a leak */
    return leaks + close_and_log(s->root, report);
}

session *session_open(service *s, const char *peer) {
    nm_scope *scope;
    nm_arena *arena;
    nm_status st = nm_scope_open(
        &scope, s->root,
        NM_SCOPE_OPTIONS(.name = peer, .kind = NM_SCOPE_SESSION, .hard_bytes = s->request_bytes + SESSION_OWN_BYTES));
    if (st != NM_OK) return NULL;
    session *opened = NULL;
    if (nm_arena_open(&arena, scope, NM_ARENA_OPTIONS(.name = "session")) == NM_OK) opened = NM_NEW(arena, session);
    if (opened == NULL) {
        nm_scope_close(scope, NULL);
        return NULL;
    }
    opened->service = s;
    opened->scope = scope;
    return opened;
}

void session_close(session *closed) {
    if (closed != NULL) close_and_count(closed->service, closed->scope); /* the session itself lies in that scope */
}

static bool request_fill(request *r, const char *method, const char *path, const char *format) {
    r->method = nm_arena_strdup(r->arena, method);
    r->path = nm_arena_strdup(r->arena, path);
    if (format != NULL) r->format = nm_arena_strdup(r->arena, format);
    /* the arena's status is sticky: one look after all the copies */
    return nm_arena_status(r->arena) == NM_OK &&
           nm_pool_lease_in(r->session->service->buffers, r->scope, &r->buffer) == NM_OK;
}

request *request_open(session *in, const char *method, const char *path, const char *format) {
    service *s = in->service;
    char name[NM_NAME_BYTES];
    snprintf(name, sizeof name, "%s %s", method, path);

    nm_scope *scope;
    nm_arena *arena;
    nm_status st = nm_scope_open(
        &scope, in->scope, NM_SCOPE_OPTIONS(.name = name, .kind = NM_SCOPE_REQUEST, .hard_bytes = s->request_bytes));
    if (st != NM_OK) return NULL;
    request *r = NULL;
    if (nm_arena_open(&arena, scope, NM_ARENA_OPTIONS(.name = "request")) == NM_OK) r = NM_NEW(arena, request);
    if (r != NULL) {
        r->session = in;
        r->scope = scope;
        r->arena = arena;
        if (request_fill(r, method, path, format)) {
            in->request_count++;
            atomic_fetch_add_explicit(&s->request_count, 1, memory_order_relaxed);
            return r;
        }
    }
    nm_scope_close(scope, NULL); /* gives back whatever of it there was */
    return NULL;
}

void request_close(request *r) {
    if (r != NULL) close_and_count(r->session->service, r->scope);
}

/* ---- the body ---------------------------------------------------------------------------------------------------- */

/* Notes why the arena refused. Whose limit it was decides between "you ask too much" and "we are short of memory". */
static void note_refusal(request *r) {
    nm_scope_stats stats;
    nm_scope_get_stats(r->scope, &stats);
    const char *by = stats.last_refusal.name;
    r->refused = nm_arena_status(r->arena);
    r->refused_by_own =
        r->refused == NM_ETOOLARGE || (r->refused == NM_EBUDGET && (by[0] == 0 || strcmp(by, stats.name) == 0));
}

bool request_expect(request *r, size_t bytes) {
    if (bytes == 0) return true;
    r->body = nm_arena_alloc(r->arena, bytes);
    if (r->body == NULL)
        note_refusal(r);
    else
        r->body_room = bytes;
    return r->body != NULL;
}

/* Moves what the buffer gathered behind the bytes in the arena, where realloc grows the last allocation in place. */
static void gathered_to_arena(request *r) {
    if (r->gathered == 0 || r->refused != NM_OK) return;
    size_t bytes = r->body_bytes + r->gathered;
    unsigned char *body = nm_arena_realloc(r->arena, r->body, r->body_room, bytes);
    if (body == NULL) {
        note_refusal(r);
        return;
    }
    memcpy(body + r->body_bytes, r->buffer.data, r->gathered);
    r->body = body;
    r->body_bytes = r->body_room = bytes;
    r->gathered = 0;
}

void request_add(request *r, const void *data, size_t bytes) {
    if (r->gathered == 0 && r->refused == NM_OK && bytes <= r->body_room - r->body_bytes) {
        memcpy(r->body + r->body_bytes, data, bytes); /* as announced */
        r->body_bytes += bytes;
        return;
    }
    /* Of unknown length: small pieces gather in the I/O buffer, so that the arena grows in few large steps. */
    for (const unsigned char *from = data; bytes > 0 && r->refused == NM_OK;) {
        size_t room = r->buffer.size - r->gathered;
        size_t now = bytes < room ? bytes : room;
        memcpy((unsigned char *)r->buffer.data + r->gathered, from, now);
        r->gathered += now;
        from += now;
        bytes -= now;
        if (now == room) gathered_to_arena(r);
    }
}

bool request_end(request *r) {
    gathered_to_arena(r);
    return r->refused == NM_OK;
}
