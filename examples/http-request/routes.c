// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "routes.h"

#include "stats.h"

static answer text(unsigned status, const char *s) {
    return (answer){.status = status, .type = "text/plain; charset=utf-8", .data = s, .bytes = strlen(s)};
}

answer answer_refused(const request *r) {
    if (r != NULL && r->refused_by_own) return text(413, "more than the budget of a request\n");
    return text(503, "no memory for this request now\n");
}

/* What nm_arena_printf made, or the answer where the arena refused it. */
static answer printed(const char *s) { return s != NULL ? text(200, s) : answer_refused(NULL); }

static answer hello(request *r) {
    return printed(nm_arena_printf(r->arena, "request %zu of this connection; %zu bytes of %zu used\n",
                                   r->session->request_count, nm_arena_used(r->arena),
                                   r->session->service->request_bytes));
}

static answer echo(request *r) {
    return (answer){.status = 200, .type = "application/octet-stream", .data = r->body, .bytes = r->body_bytes};
}

static answer upper(request *r) {
    for (size_t i = 0; i < r->body_bytes; i++)
        if (r->body[i] >= 'a' && r->body[i] <= 'z') r->body[i] = (unsigned char)(r->body[i] - 'a' + 'A');
    return echo(r);
}

static answer stats(request *r) {
    static const struct {
        const char *name, *type;
        nm_dump_format format;
    } formats[] = {{"text", "text/plain; charset=utf-8", NM_DUMP_TEXT},
                   {"json", "application/json", NM_DUMP_JSON},
                   {"prometheus", "text/plain; version=0.0.4", NM_DUMP_PROMETHEUS}};
    size_t i = 0, count = sizeof formats / sizeof formats[0];
    while (r->format != NULL && i < count && strcmp(r->format, formats[i].name) != 0) i++;
    if (i == count) return text(400, "format: text, json or prometheus\n");

    answer a = {.status = 200, .type = formats[i].type};
    nm_status st = stats_print(r, formats[i].format, &a.data, &a.bytes);
    if (st == NM_EINVAL) return text(501, "this version of the library does not print that format\n");
    return st == NM_OK ? a : answer_refused(NULL);
}

/* Forgets a scope and a buffer on purpose, so that the log shows what the close of this request finds. */
static answer leak(request *r) {
    nm_scope *child;
    nm_pool *pool;
    if (nm_scope_open(&child, r->scope, NM_SCOPE_OPTIONS(.name = "forgotten", .kind = NM_SCOPE_TASK)) != NM_OK)
        return answer_refused(NULL);
    if (nm_pool_open(&pool, child, NM_POOL_OPTIONS(.name = "drafts", .chunk_bytes = 4096, .max_count = 4)) != NM_OK)
        return text(200, "a scope is forgotten: see the log\n");
    nm_lease draft = nm_pool_lease(pool);
    return text(200, nm_lease_ok(draft) ? "a scope and a buffer are forgotten: see the log\n"
                                        : "a scope is forgotten: see the log\n");
}

answer route(request *r) {
    static const struct {
        const char *method, *path;
        answer (*handler)(request *);
    } routes[] = {
        {"GET", "/", hello},      {"POST", "/echo", echo}, {"POST", "/upper", upper},
        {"GET", "/stats", stats}, {"GET", "/leak", leak},
    };
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (strcmp(r->path, routes[i].path) != 0) continue;
        if (strcmp(r->method, routes[i].method) == 0) return routes[i].handler(r);
        answer refused = text(405, "not with this method\n");
        refused.allow = routes[i].method;
        return refused;
    }
    return text(404, "no such path\n");
}
