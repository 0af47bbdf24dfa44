// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What does a scope cost: opened and closed for each request, with a deferral, with an arena and its first block, and deeper in
 * the tree?
 *
 * limit: what nobody could do without: a header and a block from free lists, and a checked sum in each ancestor; no lock, no
 * list of children, no report. glibc: header and block by malloc and free, nothing counted. */
#include "bench.h"

#include "nebula/memory.h"

#define OPERATIONS ((size_t)100000)
#define DEPTH_MAX  8

static nm_scope *path[DEPTH_MAX]; /* path[0] is the root */
static size_t depth;              /* scopes above the request's */

static void fail(const char *what) {
    fprintf(stderr, "scope: %s\n", what);
    exit(1);
}

static void count_call(void *arg) { ++*(size_t *)arg; }

/* ---- the limit --------------------------------------------------------------------------------------------------- */

typedef struct piece {
    struct piece *next;
} piece;

static piece *headers, *blocks;
static size_t granted[DEPTH_MAX];

static void *take(piece **list, size_t bytes) {
    for (size_t i = 0; i < depth; i++) {
        if (granted[i] + bytes > (size_t)1 << 30) fail("the limit's own limit");
        granted[i] += bytes;
        bench_keep(granted[i]);
    }
    piece *p = *list;
    *list = p->next;
    return p;
}

static void give(piece **list, void *memory, size_t bytes) {
    for (size_t i = 0; i < depth; i++) granted[i] -= bytes;
    piece *p = memory;
    p->next = *list;
    *list = p;
    bench_keep(p);
}

/* ---- one request ------------------------------------------------------------------------------------------------- */

typedef enum work { BARE, WITH_DEFERRAL, WITH_ARENA } work;

static void run_limit(void *context) {
    work what = *(work *)context;
    size_t calls = 0;
    for (size_t i = 0; i < OPERATIONS; i++) {
        char *header = take(&headers, 256);
        memset(header, 0, 256);
        char *block = what == WITH_ARENA ? take(&blocks, 4096) : NULL;
        if (block != NULL) block[0] = 1;
        bench_keep(block);
        if (what == WITH_DEFERRAL) count_call(&calls);
        if (block != NULL) give(&blocks, block, 4096);
        give(&headers, header, 256);
    }
    bench_keep(calls);
}

static void run_scope(void *context) {
    work what = *(work *)context;
    size_t calls = 0;
    for (size_t i = 0; i < OPERATIONS; i++) {
        nm_scope *request;
        if (nm_scope_open(&request, path[depth - 1],
                          NM_SCOPE_OPTIONS(.name = "request", .kind = NM_SCOPE_REQUEST, .hard_bytes = 64 << 10)) !=
            NM_OK)
            fail("a scope was refused");
        if (what == WITH_DEFERRAL && nm_scope_defer(request, count_call, &calls) != NM_OK)
            fail("a deferral was refused");
        if (what == WITH_ARENA) {
            nm_arena *arena;
            if (nm_arena_open(&arena, request, NULL) != NM_OK) fail("an arena was refused");
            char *p = nm_arena_alloc(arena, 16);
            if (p == NULL) fail("an allocation was refused");
            p[0] = 1;
            bench_keep(p);
        }
        if (nm_scope_close(request, NULL) != 0) fail("a leak");
    }
    if (what == WITH_DEFERRAL && calls != OPERATIONS) fail("a deferred function did not run");
}

static void run_malloc(void *context) {
    work what = *(work *)context;
    size_t calls = 0;
    for (size_t i = 0; i < OPERATIONS; i++) {
        char *header = calloc(1, 256), *block = what == WITH_ARENA ? malloc(4096) : NULL;
        if (header == NULL || (what == WITH_ARENA && block == NULL)) fail("out of memory");
        if (block != NULL) block[0] = 1;
        bench_keep(header);
        bench_keep(block);
        if (what == WITH_DEFERRAL) count_call(&calls);
        free(block);
        free(header);
    }
    bench_keep(calls);
}

static void compare(const char *name, work what, size_t scopes_above, size_t rounds) {
    depth = scopes_above;
    const bench_subject subjects[] = {
        {"limit", run_limit, &what}, {"nebula", run_scope, &what}, {"glibc", run_malloc, &what}};
    bench_compare(name, OPERATIONS, rounds, subjects, 3);
}

int main(int argc, char **argv) {
    size_t rounds = bench_rounds(argc, argv);
    if (!bench_pin(0)) fprintf(stderr, "scope: not pinned to one processor\n");
    for (size_t i = 0; i < DEPTH_MAX; i++)
        if (nm_scope_open(&path[i], i == 0 ? NULL : path[i - 1], NM_SCOPE_OPTIONS(.hard_bytes = 64 << 20)) != NM_OK)
            fail("cannot open the path");
    headers = calloc(1, 256);
    blocks = calloc(1, 4096);
    if (headers == NULL || blocks == NULL) fail("out of memory");

    bench_header();
    compare("open_close_below_1", BARE, 1, rounds);
    compare("open_close_below_3", BARE, 3, rounds);
    compare("open_close_below_8", BARE, 8, rounds);
    compare("open_defer_close_below_3", WITH_DEFERRAL, 3, rounds);
    compare("open_arena_block_close_below_3", WITH_ARENA, 3, rounds);

    size_t leaks = nm_scope_close(path[0], NULL);
    free(headers);
    free(blocks);
    return leaks == DEPTH_MAX - 1 ? 0 : 1; /* the path itself, which is left to the root's close */
}
