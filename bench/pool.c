// SPDX-License-Identifier: Apache-2.0 OR MIT
/* How long does a lease and its release take, against the least that any pool could need and what people use instead?
 *
 * limit: an array of buffers of the thread's own, popped and pushed inline: no sharing, no checks, no holder.
 * mutex_list: the pool that everybody writes first. malloc: glibc's, of the same size.
 * Each thread leases one buffer, writes its first byte and releases it. CSV on standard output; a row is the median of
 * the repetitions, in which the contenders take turns; with more threads a repetition counts until the last one is
 * done. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "nebula/memory.h"

#define REPETITIONS 9
#define BUFFERS     64
#define THREADS_MAX 2
#define PAIRS       (2u * 1000 * 1000)

static void fail(const char *what) {
    fprintf(stderr, "bench/pool: %s\n", what);
    exit(1);
}

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ---- the contenders ---------------------------------------------------------------------------------------------- */

typedef struct list_node {
    struct list_node *next;
} list_node;

typedef struct shared {
    size_t bytes;
    nm_pool *pool;
    pthread_mutex_t lock;
    list_node *list; /* inside the free buffers, as usual */
} shared;

/* Volatile: a buffer is for use, and the pair must not be optimised away. */
static inline void use(void *p) { *(volatile char *)p = 1; }

static void run_limit(shared *s) {
    void *stack[BUFFERS];
    size_t top = BUFFERS;
    char *memory = aligned_alloc(4096, BUFFERS * s->bytes);
    if (memory == NULL) fail("out of memory");
    for (size_t i = 0; i < BUFFERS; i++) stack[i] = memory + i * s->bytes;
    for (unsigned i = 0; i < PAIRS; i++) {
        void *p = top > 0 ? stack[--top] : NULL;
        if (p == NULL) fail("empty");
        use(p);
        /* The compiler may not know that what goes in is what came out. */
        __asm__ volatile("" : "+r"(p), "+r"(top) : : "memory");
        stack[top++] = p;
    }
    free(memory);
}

static void run_pool(shared *s) {
    for (unsigned i = 0; i < PAIRS; i++) {
        nm_lease lease = nm_pool_lease(s->pool);
        if (!nm_lease_ok(lease)) fail("lease refused");
        use(lease.data);
        nm_lease_release(&lease);
    }
}

static void run_mutex_list(shared *s) {
    for (unsigned i = 0; i < PAIRS; i++) {
        pthread_mutex_lock(&s->lock);
        list_node *n = s->list;
        if (n == NULL) fail("empty");
        s->list = n->next;
        pthread_mutex_unlock(&s->lock);
        use(n);
        pthread_mutex_lock(&s->lock);
        n->next = s->list;
        s->list = n;
        pthread_mutex_unlock(&s->lock);
    }
}

static void run_malloc(shared *s) {
    for (unsigned i = 0; i < PAIRS; i++) {
        void *p = malloc(s->bytes);
        if (p == NULL) fail("out of memory");
        use(p);
        free(p);
    }
}

static const struct contender {
    const char *name;
    void (*run)(shared *);
} contenders[] = {{"limit", run_limit}, {"nm_pool", run_pool}, {"mutex_list", run_mutex_list}, {"malloc", run_malloc}};
#define CONTENDERS (sizeof contenders / sizeof contenders[0])

/* ---- the measurement --------------------------------------------------------------------------------------------- */

typedef struct job {
    void (*run)(shared *);
    shared *s;
    pthread_barrier_t *start;
    double begin_ns, end_ns;
} job;

static void *thread_main(void *arg) {
    job *j = arg;
    pthread_barrier_wait(j->start);
    j->begin_ns = now_ns();
    j->run(j->s);
    j->end_ns = now_ns();
    return NULL;
}

/* Nanoseconds of one pair of one thread, from the first thread's begin to the last one's end. */
static double measure(const struct contender *c, shared *s, unsigned threads) {
    pthread_barrier_t start;
    pthread_t handles[THREADS_MAX];
    job jobs[THREADS_MAX] = {{0}};
    pthread_barrier_init(&start, NULL, threads);
    for (unsigned i = 0; i < threads; i++) {
        jobs[i] = (job){.run = c->run, .s = s, .start = &start};
        if (pthread_create(&handles[i], NULL, thread_main, &jobs[i]) != 0) fail("no thread");
    }
    for (unsigned i = 0; i < threads; i++) pthread_join(handles[i], NULL);
    double begin = jobs[0].begin_ns, end = jobs[0].end_ns;
    for (unsigned i = 1; i < threads; i++) {
        if (jobs[i].begin_ns < begin) begin = jobs[i].begin_ns;
        if (jobs[i].end_ns > end) end = jobs[i].end_ns;
    }
    pthread_barrier_destroy(&start);
    return (end - begin) / PAIRS;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void bench(size_t bytes, unsigned threads) {
    nm_scope *root;
    shared s = {.bytes = bytes, .lock = PTHREAD_MUTEX_INITIALIZER};
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "bench")) != NM_OK) fail("scope refused");
    if (nm_pool_open(&s.pool, root, NM_POOL_OPTIONS(.chunk_bytes = bytes, .prealloc_count = BUFFERS)) != NM_OK)
        fail("pool refused");
    char *memory = aligned_alloc(4096, BUFFERS * bytes);
    if (memory == NULL) fail("out of memory");
    for (size_t i = 0; i < BUFFERS; i++) {
        list_node *n = (list_node *)(void *)(memory + i * bytes);
        n->next = s.list;
        s.list = n;
    }

    double ns[CONTENDERS][REPETITIONS];
    for (size_t c = 0; c < CONTENDERS; c++) measure(&contenders[c], &s, threads); /* warm up */
    for (size_t r = 0; r < REPETITIONS; r++)
        for (size_t c = 0; c < CONTENDERS; c++) ns[c][r] = measure(&contenders[c], &s, threads);
    for (size_t c = 0; c < CONTENDERS; c++) qsort(ns[c], REPETITIONS, sizeof(double), ascending);
    for (size_t c = 0; c < CONTENDERS; c++)
        printf("%s,%zu,%u,%.2f,%.2f,%.2f,%.2f\n", contenders[c].name, bytes, threads, ns[c][REPETITIONS / 2], ns[c][0],
               ns[c][REPETITIONS - 1], ns[c][REPETITIONS / 2] / ns[0][REPETITIONS / 2]);
    fflush(stdout);

    free(memory);
    if (nm_pool_close(s.pool) != NM_OK || nm_scope_close(root, NULL) != 0) fail("leak");
}

int main(void) {
    printf("contender,chunk_bytes,threads,pair_ns_median,pair_ns_min,pair_ns_max,ratio_to_limit\n");
    for (unsigned threads = 1; threads <= THREADS_MAX; threads++) {
        bench((size_t)4 << 10, threads);
        bench((size_t)64 << 10, threads);
    }
    return 0;
}
