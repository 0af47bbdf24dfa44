// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Do threads that serve requests under one parent scope hinder each other?
 *
 * Each of two threads, pinned to a processor of its own, opens a request scope (name, soft and hard limit) under one service
 * scope, an arena in it, takes 50 allocations and closes the scope, over and over. `ratio` is the time of the slower of the
 * two, side by side, to that of one thread alone (the mean of the two processors): 1 is no hindrance.
 *
 *   register        the allocations alone, by a loop written out by hand over the thread's own buffer: nothing is shared, so
 *                   what this row has above 1 is the machine's (shared caches, clock rate, a noisy neighbour)
 *   nebula          the parent without credit: each request is charged to all ancestors when it is opened
 *   nebula_credit   the parent with .credit_bytes: threads take from the ancestors ahead of need
 *   glibc           malloc and free of the same sizes
 *
 * All subjects take turns within a round, alone and together; medians of the rounds. ns_per_cycle is of one thread. */
#include "bench.h"

#include <pthread.h>

#include "nebula/memory.h"

#define REQUEST      50
#define CYCLES       ((size_t)100000) /* of a thread in a round */
#define BUFFER_BYTES ((size_t)REQUEST * 512)
#define CREDIT_BYTES ((size_t)256 << 10)
#define THREADS      2

_Noreturn static void fail(const char *what) {
    fprintf(stderr, "request_threads: %s\n", what);
    exit(1);
}

static uint16_t sizes[REQUEST * 64]; /* a thread goes through them again and again */
static nm_scope *parents[2];         /* without and with credit */

static inline void store(void *p, size_t i) {
    if (p == NULL) fail("an allocation was refused");
    *(volatile size_t *)p = i;
}

static inline void check(const void *p, size_t i) {
    if (*(const volatile size_t *)p != i) fail("what was stored is not there");
}

static inline const uint16_t *sizes_of(size_t cycle) { return sizes + cycle % 64 * REQUEST; }

static void run_register(void *context) {
    (void)context;
    unsigned char *start = aligned_alloc(4096, (BUFFER_BYTES + 4095) & ~(size_t)4095);
    if (start == NULL) fail("not enough memory");
    for (size_t c = 0; c < CYCLES; c++) {
        const uint16_t *wanted = sizes_of(c);
        unsigned char *ptr = start, *end = start + BUFFER_BYTES, *p = NULL;
        for (size_t i = 0; i < REQUEST; i++) {
            size_t bytes = ((size_t)wanted[i] + 15) & ~(size_t)15;
            if (bytes > (size_t)(end - ptr)) fail("the buffer is too small");
            store(p = ptr, i);
            ptr += bytes;
        }
        check(p, REQUEST - 1);
        bench_keep(ptr);
    }
    free(start);
}

/* A function that is given the arena, as a program's own are; see arena_fill of bench/arena.c. */
static inline void *fill(nm_arena *arena, const uint16_t *wanted) {
    void *p = NULL;
    for (size_t i = 0; i < REQUEST; i++) store(p = nm_arena_alloc(arena, wanted[i]), i);
    return p;
}

static void run_nebula(void *context) {
    nm_scope *parent = *(nm_scope **)context;
    for (size_t c = 0; c < CYCLES; c++) {
        const uint16_t *wanted = sizes_of(c);
        nm_scope *scope;
        nm_arena *arena;
        if (nm_scope_open(&scope, parent,
                          NM_SCOPE_OPTIONS(.name = "request", .kind = NM_SCOPE_REQUEST, .soft_bytes = 65536,
                                           .hard_bytes = 131072, .leak_report = NM_LEAKS_OFF)) != NM_OK ||
            nm_arena_open(&arena, scope, NM_ARENA_OPTIONS(.name = "request")) != NM_OK)
            fail("a request was refused");
        check(fill(arena, wanted), REQUEST - 1);
        nm_scope_close(scope, NULL);
    }
}

static void run_malloc(void *context) {
    (void)context;
    for (size_t c = 0; c < CYCLES; c++) {
        const uint16_t *wanted = sizes_of(c);
        void *pointers[REQUEST];
        for (size_t i = 0; i < REQUEST; i++) store(pointers[i] = malloc(wanted[i]), i);
        check(pointers[REQUEST - 1], REQUEST - 1);
        for (size_t i = 0; i < REQUEST; i++) free(pointers[i]);
    }
}

static const bench_subject subjects[] = {{"register", run_register, NULL},
                                         {"nebula", run_nebula, &parents[0]},
                                         {"nebula_credit", run_nebula, &parents[1]},
                                         {"glibc", run_malloc, NULL}};
#define SUBJECTS (sizeof subjects / sizeof subjects[0])

/* ---- the measurement --------------------------------------------------------------------------------------------- */

/* The threads live as long as the program: what a thread keeps for itself is warm, as in a server. Thread t takes part in a
 * step if bit t of `who` is set. */
static struct {
    pthread_barrier_t barrier;
    const bench_subject *subject; /* NULL: the end */
    unsigned who;
    double ns[THREADS];
} step;

typedef struct worker {
    pthread_t thread;
    size_t index;
    int cpu;
} worker;

static void *work(void *arg) {
    const worker *w = arg;
    if (!bench_pin(w->cpu)) fprintf(stderr, "request_threads: not pinned to one processor\n");
    for (;;) {
        pthread_barrier_wait(&step.barrier);
        if (step.subject == NULL) return NULL;
        if ((step.who >> w->index & 1) != 0) {
            uint64_t begin = bench_now_ns();
            step.subject->run(step.subject->context);
            step.ns[w->index] = (double)(bench_now_ns() - begin);
        }
        pthread_barrier_wait(&step.barrier);
    }
}

static void run_step(const bench_subject *subject, unsigned who) {
    step.subject = subject;
    step.who = who;
    pthread_barrier_wait(&step.barrier);
    if (subject != NULL) pthread_barrier_wait(&step.barrier);
}

/* The first processors that the program may run on. */
static size_t choose_cpus(int *out) {
    cpu_set_t set;
    size_t n = 0;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && n < THREADS; cpu++)
        if (CPU_ISSET(cpu, &set)) out[n++] = cpu;
    return n;
}

int main(int argc, char **argv) {
    static double alone[SUBJECTS][BENCH_ROUNDS_MAX], together[SUBJECTS][BENCH_ROUNDS_MAX];
    size_t rounds = bench_rounds(argc, argv);
    int cpus[THREADS];
    if (choose_cpus(cpus) < THREADS) {
        fprintf(stderr, "request_threads: skipped, it needs two processors\n");
        return 0;
    }
    uint64_t state = 20240229;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        sizes[i] = (uint16_t)(16 + (bench_random(&state) >> 32) % (512 - 16 + 1));

    nm_scope *root;
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "bench", .hard_bytes = (size_t)1 << 30)) != NM_OK ||
        nm_scope_open(&parents[0], root, NM_SCOPE_OPTIONS(.name = "plain", .hard_bytes = (size_t)256 << 20)) != NM_OK ||
        nm_scope_open(
            &parents[1], root,
            NM_SCOPE_OPTIONS(.name = "credit", .hard_bytes = (size_t)256 << 20, .credit_bytes = CREDIT_BYTES)) != NM_OK)
        fail("cannot open the path");

    worker workers[THREADS];
    pthread_barrier_init(&step.barrier, NULL, THREADS + 1);
    for (size_t t = 0; t < THREADS; t++) {
        workers[t] = (worker){.index = t, .cpu = cpus[t]};
        if (pthread_create(&workers[t].thread, NULL, work, &workers[t]) != 0) fail("no thread");
    }
    for (size_t s = 0; s < SUBJECTS; s++) run_step(&subjects[s], 3); /* warm up */
    for (size_t r = 0; r < rounds; r++)
        for (size_t s = 0; s < SUBJECTS; s++) {
            run_step(&subjects[s], 1);
            run_step(&subjects[s], 2);
            alone[s][r] = (step.ns[0] + step.ns[1]) / 2;
            run_step(&subjects[s], 3);
            together[s][r] = step.ns[0] > step.ns[1] ? step.ns[0] : step.ns[1];
        }
    run_step(NULL, 0);
    for (size_t t = 0; t < THREADS; t++) pthread_join(workers[t].thread, NULL);
    pthread_barrier_destroy(&step.barrier);

    printf("work,subject,threads,ns_per_cycle,ratio,cycles,rounds\n");
    for (size_t s = 0; s < SUBJECTS; s++) {
        double one = bench_median(alone[s], rounds) / CYCLES, two = bench_median(together[s], rounds) / CYCLES;
        printf("request_cycle,%s,1,%.1f,1.000,%zu,%zu\n", subjects[s].name, one, CYCLES, rounds);
        printf("request_cycle,%s,2,%.1f,%.3f,%zu,%zu\n", subjects[s].name, two, two / one, CYCLES, rounds);
    }
    if (nm_scope_close(parents[0], NULL) != 0 || nm_scope_close(parents[1], NULL) != 0) fail("a request leaked");
    return nm_scope_close(root, NULL) == 0 ? 0 : 1;
}
