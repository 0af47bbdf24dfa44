// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Leases by the thousand million, against a shadow that knows who holds what (tests/support/pool_stress.h).
 *
 *   cmake --preset release && cmake --build build --target soak-pool
 *   build/tests/soak-pool                      10^9 leases
 *   build/tests/soak-pool 2e10 8 4711          so many, by 8 threads in each round, with the seed 4711
 *   build/tests/soak-pool --seconds 300        as many as come in that time
 *
 * It goes in rounds of a few million leases. Each opens a pool of another kind, lets 2 to 8 threads that come and go do
 * everything with it that can be done, gives all back, looks at the sums and closes it. A line for each round, and one for the
 * present state on a terminal. Exit status: 0; 1: something was wrong, and the seed of the round is told; 2: usage. Not among
 * the tests that ctest runs, which have unit/pool_stress. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "nebula/memory.h"
#include "pool_stress.h"

#define ROUND_LEASES ((uint64_t)5000000)

typedef struct kind {
    const char *name;
    stress stress;
} kind;

static const kind kinds[] = {
    {"magazines", {.pool = {.chunk_bytes = 256, .max_count = 1024}, .bursts = 90}},
    {"large", {.pool = {.chunk_bytes = 4096, .max_count = 8192}, .bursts = 90}},
    {"scarce", {.pool = {.chunk_bytes = 64, .max_count = 200}, .bursts = 50}},
    {"small", {.pool = {.chunk_bytes = 1500, .max_count = 20}, .bursts = 50}},
    {"few in front", {.pool = {.chunk_bytes = 512, .max_count = 2000, .magazine_count = 4}, .bursts = 90}},
    {"zeroing", {.pool = {.chunk_bytes = 256, .max_count = 400, .zero_on_release = true}, .bursts = 90}},
    {"whole", {.pool = {.chunk_bytes = 1000, .max_count = 600, .prealloc_count = 600}, .bursts = 80}},
    {"bounded", {.pool = {.chunk_bytes = 4096, .max_count = 1024}, .hard_bytes = (size_t)3 << 20, .bursts = 80}},
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

typedef struct state {
    double begin;
    uint64_t before; /* leases of the rounds before */
} state;

static void show(uint64_t leases, void *context) {
    const state *s = context;
    double passed = now() - s->begin;
    uint64_t all = s->before + leases;
    printf("\r%.1f million leases, %.1f million a second ", (double)all / 1e6, (double)all / 1e6 / passed);
    fflush(stdout);
}

static int usage(void) {
    fprintf(stderr, "usage: soak-pool [--seconds N] [LEASES [THREADS [SEED]]]\n");
    return 2;
}

/* 1000000 or 1e6 */
static bool number(const char *text, uint64_t *out) {
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || *end != 0 || errno != 0 || !(value >= 0) || value > 1e18) return false;
    *out = strpbrk(text, ".eE") != NULL ? (uint64_t)value : strtoull(text, NULL, 10);
    return true;
}

int main(int argc, char **argv) {
    uint64_t leases = 1000000000, threads = 0, seed = (uint64_t)time(NULL), seconds = 0;
    uint64_t *const places[] = {&leases, &threads, &seed};
    size_t place = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seconds") == 0) {
            if (++i == argc || !number(argv[i], &seconds) || seconds == 0) return usage();
            leases = UINT64_MAX;
        } else if (place == sizeof places / sizeof places[0] || !number(argv[i], places[place++])) {
            return usage();
        }
    }
    if (threads == 1 || threads > STRESS_THREADS) return usage();
    nm_scope *root;
    nm_status st = nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "soak"));
    if (st != NM_OK) {
        fprintf(stderr, "soak-pool: root: %s\n", nm_status_text(st));
        return 1;
    }
    state s = {.begin = now()};
    bool terminal = isatty(STDOUT_FILENO);
    for (uint64_t round = 0; s.before < leases && (seconds == 0 || now() - s.begin < (double)seconds); round++) {
        static const size_t counts[] = {2, 3, 4, 8};
        const kind *k = &kinds[round % (sizeof kinds / sizeof kinds[0])];
        stress run = k->stress;
        stress_counts done;
        double begin = now();
        run.pool.struct_size = sizeof run.pool;
        run.threads = threads != 0 ? threads : counts[round / (sizeof kinds / sizeof kinds[0]) % 4];
        run.hand = run.pool.max_count * 3 / 2 / run.threads; /* together they want more than there is */
        if (run.hand > 500) run.hand = 500;
        run.leases = leases - s.before < ROUND_LEASES ? leases - s.before : ROUND_LEASES;
        run.seed = seed + round;
        run.progress = terminal ? show : NULL;
        run.context = &s;
        if (!stress_run(root, &run, &done)) {
            fprintf(stderr,
                    "%ssoak-pool: round %" PRIu64 " (%s, %zu threads, seed %" PRIu64 "): %s; %" PRIu64
                    " things wrong\n",
                    terminal ? "\n" : "", round, k->name, run.threads, run.seed, done.first, done.wrong);
            return 1;
        }
        s.before += done.leases;
        if (terminal) printf("\r");
        printf("round %" PRIu64 ", %s, %zu threads (%" PRIu64 " in all): %" PRIu64 " leases in %.2f s, %" PRIu64
               " refused, %" PRIu64 " shares, %" PRIu64 " passed on, %" PRIu64 " held, %" PRIu64 " waits, %" PRIu64
               " too long, %" PRIu64 " trims\n",
               round, k->name, run.threads, done.threads, done.leases, now() - begin, done.refused, done.shares,
               done.passed_on, done.held, done.waited, done.timed_out, done.trims);
        fflush(stdout);
    }
    nm_scope_stats stats;
    nm_scope_get_stats(root, &stats);
    size_t left = stats.granted_bytes - stats.own_bytes - stats.idle_bytes - stats.credit_bytes;
    size_t leaks = nm_scope_close(root, NULL);
    printf("%" PRIu64 " leases in %.0f s; each released once, all sums right, %zu bytes and %zu things left\n",
           s.before, now() - s.begin, left, leaks);
    return left == 0 && leaks == 0 ? 0 : 1;
}
