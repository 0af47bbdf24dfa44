// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What does an allocation in an arena cost, next to the least that it could?
 *
 * limit   a bump loop written out by hand over one warm buffer, with a bounds check and one store to what was allocated;
 *         the cursor stays in a register
 * object  the same with the cursor in memory, as in anything that is passed by pointer: each allocation waits for the
 *         store of the one before, about 5 cycles. No arena that is an object can be faster
 * glibc   malloc, and all that was allocated freed at the end
 * Sizes are the same for all. */
#include "bench.h"

#include "nebula/memory.h"

#define ALLOCATIONS ((size_t)1 << 20)
#define REQUEST     50 /* allocations of a request */
#define REQUESTS    (ALLOCATIONS / REQUEST)

typedef struct bump {
    unsigned char *start, *ptr, *end;
} bump;

static bump limit;
static nm_scope *root;
static nm_arena *arena;
static uint16_t *sizes; /* of the work at hand */
static void **pointers;

_Noreturn static void fail(const char *what) {
    fprintf(stderr, "arena: %s\n", what);
    exit(1);
}

/* `ptr` and `end` in variables of its own, as anybody would write who has only this loop. */
#define BUMP_ALLOC(b, n)                                                                                               \
    ({                                                                                                                 \
        size_t bytes_ = ((n) + 15) & ~(size_t)15;                                                                      \
        if (bytes_ > (size_t)((b).end - (b).ptr)) fail("the buffer of the limit is too small");                        \
        unsigned char *p_ = (b).ptr;                                                                                   \
        (b).ptr += bytes_;                                                                                             \
        p_;                                                                                                            \
    })

/* The one store: all subjects do it, so that memory is touched and no allocation can be left out. */
static inline void store(void *p, size_t i) {
    if (p == NULL) fail("an allocation was refused");
    *(volatile size_t *)p = i;
}

/* ---- n allocations, then one reset ------------------------------------------------------------------------------- */

static void limit_batches(void *context) {
    size_t batch = *(size_t *)context;
    bump b = limit;
    for (size_t i = 0; i < ALLOCATIONS;) {
        size_t stop = i + batch < ALLOCATIONS ? i + batch : ALLOCATIONS;
        for (; i < stop; i++) store(BUMP_ALLOC(b, sizes[i]), i);
        b.ptr = b.start;
        bench_keep(b.ptr);
    }
}

static void object_batches(void *context) {
    size_t batch = *(size_t *)context;
    unsigned char *volatile *cursor = &limit.ptr;
    for (size_t i = 0; i < ALLOCATIONS;) {
        size_t stop = i + batch < ALLOCATIONS ? i + batch : ALLOCATIONS;
        for (; i < stop; i++) {
            size_t bytes = (sizes[i] + (size_t)15) & ~(size_t)15;
            unsigned char *p = *cursor;
            if (bytes > (size_t)(limit.end - p)) fail("the buffer of the limit is too small");
            *cursor = p + bytes;
            store(p, i);
        }
        *cursor = limit.start;
    }
}

static void arena_batches(void *context) {
    size_t batch = *(size_t *)context;
    nm_arena *a = arena;
    for (size_t i = 0; i < ALLOCATIONS;) {
        size_t stop = i + batch < ALLOCATIONS ? i + batch : ALLOCATIONS;
        for (; i < stop; i++) store(nm_arena_alloc(a, sizes[i]), i);
        nm_arena_reset(a);
    }
}

static void malloc_batches(void *context) {
    size_t batch = *(size_t *)context;
    for (size_t i = 0; i < ALLOCATIONS;) {
        size_t stop = i + batch < ALLOCATIONS ? i + batch : ALLOCATIONS;
        size_t first = i;
        for (; i < stop; i++) store(pointers[i] = malloc(sizes[i]), i);
        for (size_t k = first; k < stop; k++) free(pointers[k]);
    }
}

static void batches(const char *work, size_t batch, size_t rounds) {
    const bench_subject subjects[] = {
        {"limit", limit_batches, &batch},
        {"object", object_batches, &batch},
        {"nebula", arena_batches, &batch},
        {"glibc", malloc_batches, &batch},
    };
    bench_compare(work, ALLOCATIONS, rounds, subjects, 4);
}

/* ---- a request: scope, arena, 50 allocations, close -------------------------------------------------------------- */

static void arena_requests(void *context) {
    (void)context;
    for (size_t r = 0; r < REQUESTS; r++) {
        nm_scope *scope;
        nm_arena *a;
        nm_status st = nm_scope_open(&scope, root,
                                     NM_SCOPE_OPTIONS(.name = "request", .kind = NM_SCOPE_REQUEST, .soft_bytes = 65536,
                                                      .hard_bytes = 131072, .leak_report = NM_LEAKS_OFF));
        if (st != NM_OK || nm_arena_open(&a, scope, NM_ARENA_OPTIONS(.name = "request")) != NM_OK)
            fail("cannot open a request");
        for (size_t i = r * REQUEST; i < (r + 1) * REQUEST; i++) store(nm_arena_alloc(a, sizes[i]), i);
        nm_scope_close(scope, NULL);
    }
}

static void requests(size_t rounds) {
    size_t batch = REQUEST;
    const bench_subject subjects[] = {
        {"limit", limit_batches, &batch},
        {"nebula", arena_requests, NULL},
        {"glibc", malloc_batches, &batch},
    };
    bench_compare("open_request_50_allocations_close", ALLOCATIONS, rounds, subjects, 3);
}

/* ---- four nested marks with 10 allocations each, rewound one by one ---------------------------------------------- */

#define MARKS  4
#define INSIDE 10
#define CYCLES (ALLOCATIONS / (MARKS * INSIDE))

static void limit_marks(void *context) {
    (void)context;
    bump b = limit;
    size_t i = 0;
    for (size_t c = 0; c < CYCLES; c++) {
        unsigned char *marks[MARKS];
        for (size_t m = 0; m < MARKS; m++) {
            marks[m] = b.ptr;
            for (size_t k = 0; k < INSIDE; k++, i++) store(BUMP_ALLOC(b, sizes[i]), i);
        }
        for (size_t m = MARKS; m-- > 0;) {
            b.ptr = marks[m];
            bench_keep(b.ptr);
        }
    }
}

static void arena_marks(void *context) {
    (void)context;
    nm_arena *a = arena;
    size_t i = 0;
    for (size_t c = 0; c < CYCLES; c++) {
        nm_mark marks[MARKS];
        for (size_t m = 0; m < MARKS; m++) {
            marks[m] = nm_arena_mark(a);
            for (size_t k = 0; k < INSIDE; k++, i++) store(nm_arena_alloc(a, sizes[i]), i);
        }
        for (size_t m = MARKS; m-- > 0;)
            if (nm_arena_rewind(a, marks[m]) != NM_OK) fail("a rewind was refused");
    }
    nm_arena_reset(a);
}

static void malloc_marks(void *context) {
    (void)context;
    size_t i = 0;
    for (size_t c = 0; c < CYCLES; c++) {
        size_t first = i;
        for (size_t k = 0; k < MARKS * INSIDE; k++, i++) store(pointers[i] = malloc(sizes[i]), i);
        while (i > first) free(pointers[--i]);
        i = first + MARKS * INSIDE;
    }
}

static void marks(size_t rounds) {
    const bench_subject subjects[] = {
        {"limit", limit_marks, NULL},
        {"nebula", arena_marks, NULL},
        {"glibc", malloc_marks, NULL},
    };
    bench_compare("4_nested_marks_10_allocations_each", CYCLES * MARKS * INSIDE, rounds, subjects, 3);
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void draw_sizes(size_t least, size_t most) {
    uint64_t state = 20240229;
    for (size_t i = 0; i < ALLOCATIONS; i++)
        sizes[i] = (uint16_t)(least + (bench_random(&state) >> 32) % (most - least + 1));
}

/* A fresh arena for each work: none may live on the blocks that another made it take. */
static void fresh_arena(void) {
    nm_arena_close(arena);
    if (nm_arena_open(&arena, root, NULL) != NM_OK) fail("cannot open an arena");
}

int main(int argc, char **argv) {
    size_t rounds = bench_rounds(argc, argv), buffer_bytes = ALLOCATIONS * 256;
    if (!bench_pin(0)) fprintf(stderr, "arena: not pinned to one processor\n");
    sizes = malloc(ALLOCATIONS * sizeof *sizes);
    pointers = calloc(ALLOCATIONS, sizeof *pointers);
    limit.start = limit.ptr = aligned_alloc(4096, buffer_bytes);
    if (sizes == NULL || pointers == NULL || limit.start == NULL) fail("not enough memory");
    limit.end = limit.start + buffer_bytes;
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "bench")) != NM_OK) fail("cannot open a root");

    bench_header();
    draw_sizes(8, 256);
    fresh_arena();
    batches("1M_allocations_8_to_256_one_reset", ALLOCATIONS, rounds);
    fresh_arena();
    batches("1M_allocations_8_to_256_reset_every_1000", 1000, rounds);
    draw_sizes(16, 512);
    fresh_arena();
    batches("50_allocations_16_to_512_reset_each_time", REQUEST, rounds);
    fresh_arena();
    requests(rounds);
    fresh_arena();
    marks(rounds);
    draw_sizes(16, 16);
    fresh_arena();
    batches("1M_allocations_of_16_one_reset", ALLOCATIONS, rounds);

    size_t leaks = nm_scope_close(root, NULL);
    free(limit.start);
    free(pointers);
    free(sizes);
    return leaks == 0 ? 0 : 1;
}
