// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A service whose requests come faster than they are answered: a backlog that grows, and results that are cached.
 *   load malloc|nebula [REQUESTS]
 * malloc: as most services are written; it takes what it wants. nebula: the same work on one budget, NM_BYTES_AUTO; a refusal
 * is an ordinary answer ("503"), and the next request is served.
 * Prints what became of the requests. Exit status: 0 all of them were answered one way or the other, and what was stored was
 * found unharmed; 1 not so; 2 usage. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nebula/memory.h"

enum {
    BODY_BYTES = 24 << 10,  /* what a request holds until it is answered */
    RESULT_BYTES = 8 << 10, /* what is cached of its answer */
    ARRIVALS = 2,           /* requests that come while one is answered */
    REQUESTS = 10000,       /* in all: 117 MiB of backlog and 78 MiB of results if nobody refuses */
    KEYS = 1000000,
};

typedef struct request request;
struct request {
    request *next;
    nm_scope *scope; /* nebula only */
    unsigned char *body;
    uint32_t number;
};

static struct {
    request *first, *last; /* the backlog */
    uint64_t answered, refused, cached, not_cached, harmed;
} service;

static void enqueue(request *r) {
    r->next = NULL;
    if (service.last != NULL)
        service.last->next = r;
    else
        service.first = r;
    service.last = r;
}

static request *dequeue(void) {
    request *r = service.first;
    if (r == NULL) return NULL;
    service.first = r->next;
    if (service.first == NULL) service.last = NULL;
    return r;
}

/* Every byte tells whose it is, so that memory given to two at once is noticed. */
static unsigned char mark_of(uint32_t number) { return (unsigned char)(number * 7 + 1); }

static bool is_filled(const unsigned char *p, size_t bytes, unsigned char with) {
    return p[0] == with && memcmp(p, p + 1, bytes - 1) == 0;
}

static void check_body(const request *r) {
    if (!is_filled(r->body, BODY_BYTES, mark_of(r->number))) service.harmed++;
}

/* ---- as most services are ---------------------------------------------------------------------------------------- */

static unsigned char **results;

static bool malloc_open(void) {
    results = calloc(KEYS, sizeof *results);
    return results != NULL;
}

static bool malloc_arrive(uint32_t number) {
    request *r = malloc(sizeof *r);
    unsigned char *body = malloc(BODY_BYTES);
    if (r == NULL || body == NULL) {
        free(r);
        free(body);
        return false;
    }
    memset(body, mark_of(number), BODY_BYTES);
    *r = (request){.body = body, .number = number};
    enqueue(r);
    return true;
}

static void malloc_answer(request *r) {
    check_body(r);
    unsigned char *result = malloc(RESULT_BYTES);
    if (result != NULL) {
        memset(result, mark_of(r->number), RESULT_BYTES);
        service.cached++;
    } else {
        service.not_cached++;
    }
    results[r->number % KEYS] = result;
    free(r->body);
    free(r);
}

static void malloc_close(void) {
    for (size_t i = 0; i < KEYS; i++) {
        if (results[i] != NULL && !is_filled(results[i], RESULT_BYTES, mark_of((uint32_t)i))) service.harmed++;
        free(results[i]);
    }
    free(results);
}

/* ---- on a budget ------------------------------------------------------------------------------------------------- */

static nm_scope *root;
static nm_cache *cache;

static bool nebula_open(void) {
    nm_status st = nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "service", .hard_bytes = NM_BYTES_AUTO));
    if (st == NM_OK) {
        nm_scope_stats stats;
        nm_scope_get_stats(root, &stats);
        printf("hard_bytes %zu\n", stats.hard_bytes);
        st = nm_cache_open(&cache, root,
                           NM_CACHE_OPTIONS(.name = "results", .budget_bytes = stats.hard_bytes, .elastic = true,
                                            .floor_bytes = stats.hard_bytes / 16));
    }
    if (st != NM_OK) fprintf(stderr, "load: %s\n", nm_status_text(st));
    return st == NM_OK;
}

static bool nebula_arrive(uint32_t number) {
    nm_scope *scope;
    nm_arena *arena;
    char name[NM_NAME_BYTES];
    snprintf(name, sizeof name, "request %" PRIu32, number);
    if (nm_scope_open(&scope, root, NM_SCOPE_OPTIONS(.name = name, .kind = NM_SCOPE_REQUEST)) != NM_OK) return false;
    request *r = NULL;
    unsigned char *body = NULL;
    if (nm_arena_open(&arena, scope, NULL) == NM_OK) {
        r = NM_NEW(arena, request);
        body = nm_arena_alloc(arena, BODY_BYTES);
    }
    if (r == NULL || body == NULL) {
        nm_scope_close(scope, NULL);
        return false;
    }
    memset(body, mark_of(number), BODY_BYTES);
    *r = (request){.scope = scope, .body = body, .number = number};
    enqueue(r);
    return true;
}

static void nebula_answer(request *r) {
    check_body(r);
    static unsigned char result[RESULT_BYTES];
    memset(result, mark_of(r->number), sizeof result);
    if (nm_cache_put(cache, &r->number, sizeof r->number, result, sizeof result) == NM_OK)
        service.cached++;
    else
        service.not_cached++;
    nm_scope_close(r->scope, NULL);
}

static void nebula_close(void) {
    uint64_t found = 0;
    for (uint32_t number = 0; number < KEYS; number++) {
        nm_entry e;
        if (!nm_cache_get(cache, &number, sizeof number, &e)) continue;
        found++;
        if (e.value_len != RESULT_BYTES || !is_filled(e.value, RESULT_BYTES, mark_of(number))) service.harmed++;
        nm_entry_release(&e);
    }
    nm_scope_stats stats;
    nm_scope_get_stats(root, &stats);
    printf("peak_bytes %zu\nfound %" PRIu64 "\n", stats.peak_bytes, found);
    if (stats.peak_bytes > stats.hard_bytes) service.harmed++;
    if (nm_scope_close(root, NULL) != 0) service.harmed++;
}

/* ---- the service ------------------------------------------------------------------------------------------------- */

static const struct variant {
    const char *name;
    bool (*open)(void);
    bool (*arrive)(uint32_t number);
    void (*answer)(request *r);
    void (*close)(void);
} variants[] = {
    {"malloc", malloc_open, malloc_arrive, malloc_answer, malloc_close},
    {"nebula", nebula_open, nebula_arrive, nebula_answer, nebula_close},
};

static void answer_one(const struct variant *v) {
    request *r = dequeue();
    if (r == NULL) return;
    v->answer(r);
    service.answered++;
}

int main(int argc, char **argv) {
    const struct variant *v = NULL;
    for (size_t i = 0; argc >= 2 && i < sizeof variants / sizeof variants[0]; i++)
        if (strcmp(variants[i].name, argv[1]) == 0) v = &variants[i];
    long requests = argc == 3 ? strtol(argv[2], NULL, 10) : REQUESTS;
    if (v == NULL || argc > 3 || requests < 1 || requests > KEYS) {
        fprintf(stderr, "usage: load malloc|nebula [REQUESTS], at most %d\n", KEYS);
        return 2;
    }
    if (!v->open()) return 1;
    for (long i = 0; i < requests; i++) {
        if (!v->arrive((uint32_t)i)) service.refused++;
        if (i % ARRIVALS == ARRIVALS - 1) answer_one(v);
    }
    while (service.first != NULL) answer_one(v);
    v->close();
    printf("answered %" PRIu64 "\nrefused %" PRIu64 "\ncached %" PRIu64 "\nnot_cached %" PRIu64 "\nharmed %" PRIu64
           "\n",
           service.answered, service.refused, service.cached, service.not_cached, service.harmed);
    return service.answered + service.refused == (uint64_t)requests && service.harmed == 0 ? 0 : 1;
}
