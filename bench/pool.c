// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What do a lease and its release cost, next to the least that any pool could need, and next to what people use instead?
 *
 *   pool [ROUNDS] [WORK...] [SUBJECT...]
 *
 * Without a work: all of them; without a subject: all that are here (`limit` always). Each work is done with buffers of
 * 4 KiB and of 64 KiB, and prints rows of CSV. A pair is a lease, a write to the buffer's first byte, and the release.
 *
 *   pair       pairs, one after the other: 1 thread; 2 threads, one on each processor; 8 threads wherever the system puts
 *              them
 *   burst      32 leases into an array, then 32 releases, one at a time; 1 and 2 threads
 *   many       the same with the calls for many at once, of those that have them
 *   cross      leased and written to on one processor, handed over through a ring (pool/ring.h), released on another;
 *              `travels` says what goes through the ring. The receiver does not look into the buffer
 *   latency    of a single lease in ticks of the processor's clock, two threads at a time, each of which holds 1 to 128
 *              buffers; percentiles are medians of the rounds, `max` is of all of them. `clock` is an empty interval: the
 *              floor, which is in all others too
 *   capacity   three threads use a pool of 255 buffers and fall idle: how many can a fourth lease?
 *
 * ns_per_pair is the time that a thread needs for one pair, as the median of the rounds; in a round every subject runs for
 * ROUND_MS, and all take turns. `ratio` is to the `limit` of the same round, as the median of these: only ratios should be
 * carried from one machine to another. With 8 threads on fewer processors a thread's time contains the others'; so does its limit.
 *
 * `holder`: does the pool note who leased a buffer, and recognise a second release? `handle_bytes`: what a program keeps of a
 * lease. The files of pool/ say what each subject is: limit.c, nebula.c, dpdk.c, ck.c, urcu.c, boost.cpp, tbb.cpp, crossbeam.c,
 * mutex_list.c, heaps.c. Peers that can be inlined are, and compiled with the same optimisation. Those whose packages are
 * not installed are left out, with a line on stderr.
 *
 * Before a row is measured, each subject's buffers are checked: that all are apart from each other, that there are as many as
 * there should be, and that threads that write their names into theirs find them there again. */
#include "bench.h"

#include <alloca.h>

#include "pool/subject.h"
#include "pool/ticks.h"
#include "threads/workers.h"

#define ROUNDS        15
#define ROUND_MS      6  /* short and many: what disturbs the machine then spoils some rounds and not the median */
#define ROUND_MS_MANY 12 /* with more threads than processors, so that each has its turn */
#define PIECE_NS      20000
#define CHECK_NS      2000000
#define LATENCIES     ((size_t)1 << 15) /* of a thread in a round */
#define CAPACITY      255

typedef struct subject_run {
    const pool_subject *subject;
    void *context;
    size_t pieces[POOL_THREADS_MAX]; /* pairs between two looks at the clock */
    double ns[BENCH_ROUNDS_MAX], ratio[BENCH_ROUNDS_MAX];
    double percentile[3][BENCH_ROUNDS_MAX], worst;
} subject_run;

typedef struct work work;
struct work {
    const char *name;
    unsigned threads[4]; /* rows; ends with 0 */
    size_t step;         /* pairs that its loop does at least */
    bool (*has)(const pool_subject *);
    void (*row)(const work *, subject_run *runs, size_t count, size_t bytes, unsigned threads, size_t rounds);
};

static pool_subject subjects[POOL_SUBJECTS_MAX];
static size_t subject_count;
static bool chosen[POOL_SUBJECTS_MAX];

/* ---- a row's subjects -------------------------------------------------------------------------------------------- */

typedef struct check_job {
    subject_run *run;
    size_t bytes;
} check_job;

static void enter_task(unsigned thread, void *argument) {
    subject_run *r = argument;
    (void)thread;
    if (r->subject->enter != NULL) r->subject->enter(r->context);
}

static void leave_task(unsigned thread, void *argument) {
    subject_run *r = argument;
    (void)thread;
    if (r->subject->leave != NULL) r->subject->leave(r->context);
}

static void fill_task(unsigned thread, void *argument) {
    check_job *job = argument;
    const pool_subject *s = job->run->subject;
    (void)thread;
    size_t wanted = s->capped ? POOL_BUFFERS : 2 * POOL_BURST;
    /* One more than there are must be refused. */
    if (s->fill(job->run->context, job->bytes, wanted + (s->capped ? 1 : 0)) != wanted)
        pool_fail(s->name, "has not as many buffers as it should");
}

static void claim_task(unsigned thread, void *argument) {
    check_job *job = argument;
    workers_meet();
    uint64_t begin = bench_now_ns();
    for (uint64_t turn = 0; turn == 0 || bench_now_ns() - begin < CHECK_NS; turn++)
        job->run->subject->claim(job->run->context, job->bytes, thread, turn);
}

static size_t open_all(const work *w, subject_run *runs, size_t bytes, unsigned threads, size_t buffers) {
    size_t count = 0;
    for (size_t s = 0; s < subject_count; s++) {
        if (!chosen[s] || !w->has(&subjects[s])) continue;
        subject_run *r = &runs[count++];
        memset(r, 0, sizeof *r);
        r->subject = &subjects[s];
        for (unsigned t = 0; t < POOL_THREADS_MAX; t++) r->pieces[t] = w->step;
        if ((r->context = r->subject->open(r->subject, bytes, buffers)) == NULL)
            pool_fail(r->subject->name, "cannot be opened");
        workers_run(threads, enter_task, r);
    }
    return count;
}

static void check_all(subject_run *runs, size_t count, size_t bytes, unsigned threads) {
    for (size_t s = 0; s < count; s++) {
        check_job job = {&runs[s], bytes};
        if (runs[s].subject->fill != NULL) workers_run(1, fill_task, &job);
        if (runs[s].subject->claim != NULL) workers_run(threads, claim_task, &job);
    }
}

static void close_all(subject_run *runs, size_t count, unsigned threads) {
    for (size_t s = 0; s < count; s++) {
        workers_run(threads, leave_task, &runs[s]);
        runs[s].subject->close(runs[s].context);
    }
}

/* ---- rows of pairs ----------------------------------------------------------------------------------------------- */

typedef struct timed_job {
    subject_run *run;
    void (*loop)(void *context, size_t pairs);
    size_t round, step, most; /* pairs of a piece */
    uint64_t round_ns;
    uint64_t ns[POOL_THREADS_MAX];
    size_t pairs[POOL_THREADS_MAX];
    pool_ring ring;
} timed_job;

/* Runs until the time is over, and looks at the clock seldom. */
__attribute__((__noinline__)) static void timed(unsigned thread, timed_job *job) {
    size_t piece = job->run->pieces[thread], pairs = 0;
    workers_meet();
    uint64_t begin = bench_now_ns(), now = begin;
    do {
        job->loop(job->run->context, piece);
        pairs += piece;
        uint64_t before = now;
        now = bench_now_ns();
        if (now - before < PIECE_NS && piece < job->most) piece *= 2;
        if (now - before > 8 * PIECE_NS && piece > job->step) piece /= 2;
    } while (now - begin < job->round_ns);
    job->run->pieces[thread] = piece;
    job->ns[thread] = now - begin;
    job->pairs[thread] = pairs;
}

/* A load waits for a store to the same place in another page, so what a loop keeps on its stack, or a pool for itself, may
 * get in the way of what is written to a buffer or not, as chance has it. So in each round the stack begins elsewhere and
 * other buffers are the next to be leased. */
static void timed_task(unsigned thread, void *argument) {
    timed_job *job = argument;
    const pool_subject *s = job->run->subject;
    volatile char *below = alloca(1 + job->round * 7 % 64 * 64);
    *below = 0;
    if (s->aside != NULL) s->aside(job->run->context, job->round % POOL_ASIDE);
    timed(thread, job);
    if (s->aside != NULL) s->aside(job->run->context, 0);
}

/* Thread 0 sends until the time is over, thread 1 receives; the end is when the last buffer is released. */
static void cross_task(unsigned thread, void *argument) {
    timed_job *job = argument;
    const pool_subject *s = job->run->subject;
    void *context = job->run->context;
    workers_meet();
    uint64_t begin = bench_now_ns();
    if (thread == 0) {
        size_t pairs = 0;
        do {
            s->send(context, &job->ring, 4 * POOL_BURST);
            pairs += 4 * POOL_BURST;
        } while (bench_now_ns() - begin < job->round_ns);
        pool_ring_push(&job->ring, NULL);
        pool_ring_flush(&job->ring);
        job->pairs[0] = pairs;
    } else {
        s->receive(context, &job->ring);
        job->ns[0] = bench_now_ns() - begin;
    }
}

static bool has_pair(const pool_subject *s) { return s->pair != NULL; }
static bool has_burst(const pool_subject *s) { return s->burst != NULL; }
static bool has_many(const pool_subject *s) { return s->many != NULL; }
static bool has_cross(const pool_subject *s) { return s->send != NULL; }

static void pairs_row(const work *w, subject_run *runs, size_t count, size_t bytes, unsigned threads, size_t rounds) {
    static timed_job job;
    bool cross = w->has == has_cross;
    for (size_t round = 0; round <= rounds; round++) /* the first is for warming up */
        for (size_t i = 0; i < count; i++) {
            const pool_subject *s = runs[i].subject;
            memset(&job, 0, sizeof job);
            job.run = &runs[i];
            job.round = round;
            job.step = w->step;
            job.most = threads > 2 && s->crowd_step != 0 ? s->crowd_step : SIZE_MAX / 2;
            job.loop = w->has == has_many ? s->many : w->has == has_burst ? s->burst : s->pair;
            job.round_ns = (uint64_t)(threads > 2 ? ROUND_MS_MANY : ROUND_MS) * 1000000;
            workers_run(threads, cross ? cross_task : timed_task, &job);
            double ns = 0, pairs = 0;
            for (unsigned t = 0; t < threads; t++) {
                ns += (double)job.ns[t];
                pairs += (double)job.pairs[t];
            }
            runs[i].ns[round > 0 ? round - 1 : 0] = ns / pairs;
        }
    for (size_t i = 0; i < count; i++)
        for (size_t round = 0; round < rounds; round++) runs[i].ratio[round] = runs[i].ns[round] / runs[0].ns[round];
    for (size_t i = 0; i < count; i++) {
        const pool_subject *s = runs[i].subject;
        double ns = bench_median(runs[i].ns, rounds), ratio = bench_median(runs[i].ratio, rounds);
        printf("%s,%zu,%u,%s,%.2f,%.2f,%s,%zu,%s,%.2f,%.2f\n", w->name, bytes, threads, s->name, ns, ratio, s->holder,
               s->handle_bytes, cross ? s->travels : "-", runs[i].ns[0], runs[i].ns[rounds - 1]);
    }
}

/* ---- rows of single leases --------------------------------------------------------------------------------------- */

typedef struct latency_job {
    subject_run *run;
    uint32_t *ticks[POOL_THREADS_MAX]; /* LATENCIES of each thread */
    size_t count[POOL_THREADS_MAX];
} latency_job;

static void latency_task(unsigned thread, void *argument) {
    latency_job *job = argument;
    const size_t piece = 1024; /* LATENCIES is a multiple */
    size_t count = 0;
    workers_meet();
    uint64_t begin = bench_now_ns();
    /* Who has enough goes on, so that the other is not alone. */
    do {
        job->run->subject->latency(job->run->context, job->ticks[thread] + count % LATENCIES, piece);
        count += piece;
    } while (bench_now_ns() - begin < (uint64_t)ROUND_MS * 1000000);
    job->count[thread] = count < LATENCIES ? count : LATENCIES;
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double ns_of_a_tick(void) {
    uint64_t ns = bench_now_ns(), ticks = ticks_begin();
    while (bench_now_ns() - ns < 50 * 1000000) {
    }
    uint64_t end_ns = bench_now_ns(), end_ticks = ticks_begin();
    return (double)(end_ns - ns) / (double)(end_ticks - ticks);
}

static bool has_latency(const pool_subject *s) { return s->latency != NULL; }

static void latency_row(const work *w, subject_run *runs, size_t count, size_t bytes, unsigned threads, size_t rounds) {
    static const double shares[3] = {0.5, 0.99, 0.999};
    double tick_ns = ns_of_a_tick();
    uint32_t *all = malloc(threads * LATENCIES * sizeof *all);
    if (all == NULL) pool_fail(w->name, "not enough memory");
    memset(all, 0, threads * LATENCIES * sizeof *all);
    for (size_t round = 0; round <= rounds; round++)
        for (size_t i = 0; i < count; i++) {
            latency_job job = {.run = &runs[i]};
            for (unsigned t = 0; t < threads; t++) job.ticks[t] = all + t * LATENCIES;
            workers_run(threads, latency_task, &job);
            if (round == 0) continue;
            size_t n = job.count[0];
            for (unsigned t = 1; t < threads; n += job.count[t++])
                memmove(all + n, job.ticks[t], job.count[t] * sizeof *all);
            qsort(all, n, sizeof *all, ascending);
            for (size_t p = 0; p < 3; p++)
                runs[i].percentile[p][round - 1] = all[(size_t)((double)(n - 1) * shares[p])] * tick_ns;
            if (all[n - 1] * tick_ns > runs[i].worst) runs[i].worst = all[n - 1] * tick_ns;
        }
    free(all);
    for (size_t i = 0; i < count; i++) {
        const pool_subject *s = runs[i].subject;
        printf("%s,%zu,%u,%s", w->name, bytes, threads, s->name);
        for (size_t p = 0; p < 3; p++) printf(",%.1f", bench_median(runs[i].percentile[p], rounds));
        printf(",%.1f,%s,%zu\n", runs[i].worst, s->holder, s->handle_bytes);
    }
}

/* ---- capacity ---------------------------------------------------------------------------------------------------- */

typedef struct capacity_job {
    subject_run *run;
    unsigned turn; /* whose it is; the others have used the pool, or will */
    size_t bytes, leased;
} capacity_job;

static void capacity_task(unsigned thread, void *argument) {
    capacity_job *job = argument;
    const pool_subject *s = job->run->subject;
    if (thread != job->turn) return;
    for (size_t i = 0; thread < 3 && i < 100; i++) s->burst(job->run->context, POOL_BURST);
    if (thread == 3) job->leased = s->fill(job->run->context, job->bytes, CAPACITY + 1);
}

static bool has_capacity(const pool_subject *s) {
    return s->capped && s->latency != NULL && s->least_count <= CAPACITY;
}

static void capacity_row(const work *w, subject_run *runs, size_t count, size_t bytes, unsigned threads,
                         size_t rounds) {
    (void)rounds;
    for (size_t i = 0; i < count; i++) {
        const pool_subject *s = runs[i].subject;
        capacity_job job = {.run = &runs[i], .bytes = bytes};
        for (job.turn = 0; job.turn < threads; job.turn++) workers_run(threads, capacity_task, &job);
        printf("%s,%zu,%u,%s,%zu,%d,%s,%zu\n", w->name, bytes, threads, s->name, job.leased, CAPACITY, s->holder,
               s->handle_bytes);
    }
}

/* ---- the program ------------------------------------------------------------------------------------------------- */

static const char pairs_header[] =
    "work,chunk_bytes,threads,subject,ns_per_pair,ratio,holder,handle_bytes,travels,ns_min,ns_max";
static const char latency_header[] =
    "work,chunk_bytes,threads,subject,p50_ns,p99_ns,p999_ns,max_ns,holder,handle_bytes";
static const char capacity_header[] = "work,chunk_bytes,threads,subject,leased,of,holder,handle_bytes";

static const work works[] = {
    {"pair", {1, 2, 8}, 1, has_pair, pairs_row},       {"burst", {1, 2}, POOL_BURST, has_burst, pairs_row},
    {"many", {1, 2}, POOL_BURST, has_many, pairs_row}, {"cross", {2}, 1, has_cross, pairs_row},
    {"latency", {2}, 1, has_latency, latency_row},     {"capacity", {4}, 1, has_capacity, capacity_row},
};
#define WORKS (sizeof works / sizeof works[0])

static void run_work(const work *w, size_t rounds) {
    static const size_t sizes[] = {(size_t)4 << 10, (size_t)64 << 10};
    static const char *header;
    const char *mine = w->row == pairs_row ? pairs_header : w->row == latency_row ? latency_header : capacity_header;
    static subject_run runs[POOL_SUBJECTS_MAX];
    if (header != mine) printf("%s%s\n", header != NULL ? "\n" : "", mine);
    header = mine;
    for (size_t b = 0; b < sizeof sizes / sizeof sizes[0]; b++)
        for (size_t t = 0; t < 4 && w->threads[t] != 0; t++) {
            unsigned threads = w->threads[t];
            bool capacity = w->row == capacity_row;
            workers_place(threads);
            size_t count = open_all(w, runs, sizes[b], threads, capacity ? CAPACITY : POOL_BUFFERS);
            if (!capacity) check_all(runs, count, sizes[b], threads);
            if (count > 0) w->row(w, runs, count, sizes[b], threads, rounds);
            close_all(runs, count, threads);
            fflush(stdout);
        }
}

int main(int argc, char **argv) {
    size_t rounds = ROUNDS;
    bool some_work = false, some_subject = false, wanted[WORKS] = {false};
    subject_count = pool_subjects(subjects);
    for (int i = 1; i < argc; i++) {
        bool known = false;
        if (i == 1 && argv[i][0] >= '0' && argv[i][0] <= '9') {
            rounds = bench_rounds(argc, argv);
            continue;
        }
        for (size_t w = 0; w < WORKS; w++)
            if (strcmp(argv[i], works[w].name) == 0) known = some_work = wanted[w] = true;
        for (size_t s = 0; s < subject_count; s++)
            if (strcmp(argv[i], subjects[s].name) == 0) known = some_subject = chosen[s] = true;
        if (!known) {
            fprintf(stderr, "pool: %s: neither a work nor a subject that is here\n", argv[i]);
            return 2;
        }
    }
    chosen[0] = true; /* the limit */
    for (size_t s = 0; s < subject_count && !some_subject; s++) chosen[s] = true;
    workers_start();
    for (size_t w = 0; w < WORKS; w++)
        if (!some_work || wanted[w]) run_work(&works[w], rounds);
    workers_stop();
    return 0;
}
