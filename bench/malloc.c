// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What does nm_scope_malloc cost beside glibc's malloc, in one thread?
 *
 *   malloc [ROUNDS]       the table
 *   malloc glibc|scope    100,000 pairs of 100 bytes and nothing else, for an instruction counter around it */
#include "bench.h"

#include "nebula/memory.h"

#define PAIRS ((size_t)100000)
#define LIVE  1000

static nm_scope *scope;

static void fail(void) {
    fprintf(stderr, "malloc: refused\n");
    exit(1);
}

static void glibc_pairs(void *context) {
    size_t n = *(const size_t *)context;
    for (size_t i = 0; i < PAIRS; i++) {
        void *p = malloc(n);
        bench_keep(p);
        free(p);
    }
}
static void scope_pairs(void *context) {
    size_t n = *(const size_t *)context;
    for (size_t i = 0; i < PAIRS; i++) {
        void *p = nm_scope_malloc(scope, n);
        bench_keep(p);
        nm_scope_free(p);
    }
}

/* One of a thousand is freed and another taken, of 8 to 519 bytes. */
static void *live[2][LIVE];
static void glibc_mix(void *context) {
    (void)context;
    uint64_t random = 1;
    for (size_t i = 0; i < PAIRS; i++) {
        uint64_t r = bench_random(&random);
        void **p = &live[0][r % LIVE];
        free(*p);
        if ((*p = malloc(8 + (r >> 32) % 512)) == NULL) fail();
    }
}
static void scope_mix(void *context) {
    (void)context;
    uint64_t random = 1;
    for (size_t i = 0; i < PAIRS; i++) {
        uint64_t r = bench_random(&random);
        void **p = &live[1][r % LIVE];
        nm_scope_free(*p);
        if ((*p = nm_scope_malloc(scope, 8 + (r >> 32) % 512)) == NULL) fail();
    }
}

int main(int argc, char **argv) {
    static size_t small = 100, medium = 4000;
    if (nm_scope_open(&scope, NULL, NULL) != NM_OK) fail();
    void *kept = nm_scope_malloc(scope, small);
    if (argc > 1 && strcmp(argv[1], "glibc") == 0) {
        glibc_pairs(&small);
    } else if (argc > 1 && strcmp(argv[1], "scope") == 0) {
        scope_pairs(&small);
    } else {
        size_t rounds = bench_rounds(argc, argv);
        bench_pin(0);
        bench_header();
        bench_compare("pairs of 100 bytes", PAIRS, rounds,
                      (bench_subject[]){{"glibc", glibc_pairs, &small}, {"scope", scope_pairs, &small}}, 2);
        bench_compare("pairs of 4000 bytes", PAIRS, rounds,
                      (bench_subject[]){{"glibc", glibc_pairs, &medium}, {"scope", scope_pairs, &medium}}, 2);
        bench_compare("one of a thousand replaced", PAIRS, rounds,
                      (bench_subject[]){{"glibc", glibc_mix, NULL}, {"scope", scope_mix, NULL}}, 2);
    }
    for (int i = 0; i < LIVE; i++) {
        free(live[0][i]);
        nm_scope_free(live[1][i]);
    }
    nm_scope_free(kept);
    return nm_scope_close(scope, NULL) == 0 ? 0 : 1;
}
