// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Does one kind of work `count` times and nothing else, for an instruction counter around the program:
 * scripts/count-instructions.sh runs it with two counts and divides the difference, so that start and end fall out.
 *
 *   instructions WORK COUNT
 *
 * Loop, NULL check and one store are included in each work; `loop` is the loop alone, for the script to take off;
 * `register` is what a bump loop by hand comes to. Unlike times, such numbers are the same on a busy machine, and on another
 * one. */
#include "bench.h"

#include "nebula/memory.h"

#define REQUEST 50
#define BATCH   1000 /* allocations between two resets: as many as leave the counts to the inline path */

_Noreturn static void fail(const char *what) {
    fprintf(stderr, "instructions: %s\n", what);
    exit(2);
}

static inline void store(void *p, size_t i) {
    if (p == NULL) fail("an allocation was refused");
    *(volatile size_t *)p = i;
}

static nm_scope *root;

/* A function that is given the arena, as a program's own are; see arena_fill of bench/arena.c. */
static inline void fill(nm_arena *arena, size_t n, size_t i, size_t stop) {
    for (; i < stop; i++) store(nm_arena_alloc(arena, n), i);
}

/* Each round in a loop of its own of run_alloc's shape, with nothing in it. */
static void run_loop(size_t count) {
    for (size_t i = 0; i < count;) {
        for (size_t stop = i + BATCH < count ? i + BATCH : count; i < stop; i++) __asm__ volatile("" : : "r"(i));
        bench_keep(i);
    }
}

static void run_register(size_t count) {
    unsigned char *start = malloc((size_t)BATCH * 16);
    if (start == NULL) fail("not enough memory");
    for (size_t i = 0; i < count;) {
        unsigned char *ptr = start, *end = start + (size_t)BATCH * 16;
        for (size_t stop = i + BATCH < count ? i + BATCH : count; i < stop; i++) {
            if ((size_t)(end - ptr) < 16) fail("the buffer is too small");
            store(ptr, i);
            ptr += 16;
        }
        bench_keep(ptr);
    }
    free(start);
}

static void run_alloc(size_t count) {
    nm_arena *arena;
    if (nm_arena_open(&arena, root, NULL) != NM_OK) fail("an arena was refused");
    for (size_t i = 0; i < count;) {
        size_t stop = i + BATCH < count ? i + BATCH : count;
        fill(arena, 16, i, stop);
        nm_arena_reset(arena);
        i = stop;
    }
    nm_arena_close(arena);
}

static void run_request(size_t count, nm_leak_mode leaks) {
    for (size_t c = 0; c < count; c++) {
        nm_scope *scope;
        nm_arena *arena;
        if (nm_scope_open(&scope, root,
                          NM_SCOPE_OPTIONS(.name = "request", .kind = NM_SCOPE_REQUEST, .soft_bytes = 65536,
                                           .hard_bytes = 131072, .leak_report = leaks)) != NM_OK ||
            nm_arena_open(&arena, scope, NM_ARENA_OPTIONS(.name = "request")) != NM_OK)
            fail("a request was refused");
        fill(arena, 264, 0, REQUEST); /* the mean of 16 to 512 */
        if (nm_scope_close(scope, NULL) != 0) fail("a request leaked");
    }
}

static void run_request_off(size_t count) { run_request(count, NM_LEAKS_OFF); }
static void run_request_on(size_t count) { run_request(count, NM_LEAKS_DEFAULT); }

/* With one allocation inside: a mark of an arena in which nothing happened since the last one costs less. */
static void run_mark(size_t count) {
    nm_arena *arena;
    if (nm_arena_open(&arena, root, NULL) != NM_OK) fail("an arena was refused");
    store(nm_arena_alloc(arena, 16), 0);
    for (size_t i = 0; i < count;) {
        for (size_t stop = i + 10 < count ? i + 10 : count; i < stop; i++) {
            store(nm_arena_alloc(arena, 16), i); /* so that the mark needs a record */
            nm_mark mark = nm_arena_mark(arena);
            store(nm_arena_alloc(arena, 16), i);
            if (nm_arena_rewind(arena, mark) != NM_OK) fail("a rewind was refused");
        }
        nm_arena_reset(arena);
    }
    nm_arena_close(arena);
}

/* The pairs come after the leases that a thread needs to come to a magazine of its own. */
static nm_pool *open_pool(void) {
    nm_pool *pool;
    if (nm_pool_open(&pool, root, NM_POOL_OPTIONS(.chunk_bytes = 4096, .prealloc_count = 64)) != NM_OK)
        fail("a pool was refused");
    for (int i = 0; i < 16; i++) {
        nm_lease lease = nm_pool_lease(pool);
        store(lease.data, 0);
        nm_lease_release(&lease);
    }
    return pool;
}

static void run_lease(size_t count) {
    nm_pool *pool = open_pool();
    for (size_t i = 0; i < count; i++) {
        nm_lease lease = nm_pool_lease(pool);
        store(lease.data, i);
        nm_lease_release(&lease);
    }
    if (nm_pool_close(pool) != NM_OK) fail("a lease is out");
}

/* 32 at a time, so that each counts for one. */
static void run_lease_many(size_t count) {
    nm_pool *pool = open_pool();
    nm_lease leases[32];
    for (size_t i = 0; i < count; i += 32) {
        if (nm_pool_lease_many(pool, leases, 32) != 32) fail("a lease was refused");
        for (size_t j = 0; j < 32; j++) store(leases[j].data, j);
        nm_lease_release_many(leases, 32);
    }
    if (nm_pool_close(pool) != NM_OK) fail("a lease is out");
}

static const struct {
    const char *name;
    void (*run)(size_t count);
} works[] = {{"loop", run_loop},
             {"register", run_register},
             {"alloc16", run_alloc},
             {"request", run_request_off},
             {"request_leak_report", run_request_on},
             {"mark_rewind", run_mark},
             {"lease", run_lease},
             {"lease_many", run_lease_many}};

int main(int argc, char **argv) {
    char *end = NULL;
    unsigned long count = argc == 3 ? strtoul(argv[2], &end, 10) : 0;
    if (argc != 3 || count == 0 || *end != '\0')
        fail("usage: instructions WORK COUNT; see scripts/count-instructions.sh");
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "bench")) != NM_OK) fail("cannot open a root");
    for (size_t w = 0; w < sizeof works / sizeof works[0]; w++)
        if (strcmp(works[w].name, argv[1]) == 0) {
            works[w].run(count);
            return nm_scope_close(root, NULL) == 0 ? 0 : 1;
        }
    fail("no such work");
}
