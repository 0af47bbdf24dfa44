// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What does a request to the cache cost, against two cache misses and against what people use instead? And an entry, in
 * memory?
 *
 *   cache [ROUNDS] [--speed] [--entries=LIST] [--memory] [--threads=LIST] [--same-count] [SUBJECT...]
 *
 * Without one of the three questions: all of them. Without a subject: all that are here; nebula always.
 *
 * --speed      A million keys of 16 bytes, values of 100 bytes, keys by Zipf's law with 0.99; nine requests in ten are
 *              gets whose value is copied out, one is a put; a miss is put. The budget is a quarter of what all entries
 *              are charged by nebula. ns_per_op is the time of the round divided by the requests of all threads in it,
 *              as the median of the rounds, and `ratio` the median divided by nebula's: above 1, nebula is faster.
 *              `gain` is the throughput divided by the same subject's with the first number of threads. In a round each
 *              number of threads has its turn and in it each subject, for ROUND_MS; every thread has requests of its
 *              own (cache/requests.h). Peers that count bytes have the same budget as nebula and charge their
 *              descriptors; those that count entries have as many as nebula holds after warming up, as all have with
 *              --same-count. `hit_ratio` tells whether the comparison is fair: a miss costs more than a hit.
 * --entries    What a get costs in a cache that holds all of so many entries, by Zipf's law and with all keys alike;
 *              default 1e6,1e7. `ratio` is to the first number of entries.
 * --memory     What a full cache of a million entries takes in resident memory beyond keys and values; and nebula's
 *              resident memory and misses when all values change their size, three times. Exit status 1 where nebula
 *              breaks its promise.
 * --threads    default 1,2,8; as many threads as there are processors get one each; more run where the system
 *              puts them.
 *
 * The files of cache/ say what each subject is: nebula.c, floor.c, arithmetic.c, glib.c, rocksdb.cpp, leveldb.cpp, lru.c, caffeine.c.
 * Those whose packages are not installed are left out, with a line on stderr. Every hit is looked at: another key's
 * value ends the program. */
#include "bench.h"

#include <getopt.h>

#include "cache/memory.h"
#include "cache/subject.h"
#include "nebula/memory.h"

#define ROUND_MS   100
#define WARM_MS    10  /* at the beginning of a turn, for the processor's caches */
#define FILL_MS    600 /* at the beginning of all, at least */
#define FILL_TURNS 4u
#define LIST_MAX   4
#define ROUNDS     9

typedef struct list {
    uint64_t items[LIST_MAX];
    size_t count;
} list;

typedef struct result {
    double ns[BENCH_ROUNDS_MAX];
    cache_tally tally;
    double median;
} result;

typedef struct run {
    const cache_subject *subject;
    void *context;
    size_t at[WORKERS_MAX]; /* of each thread in the stream; the beginning of a piece: it needs another */
    size_t taken;           /* pieces */
    result results[LIST_MAX];
} run;

static uint32_t *stream;

/* ---- a turn ------------------------------------------------------------------------------------------------------ */

typedef struct turn_job {
    run *run;
    uint64_t warm_ns, ns;
    struct {
        cache_tally tally;
        double rate;
    } __attribute__((__aligned__(128))) of[WORKERS_MAX];
} turn_job;

/* Requests until the time is over. */
static size_t serve_for(run *r, unsigned thread, uint64_t ns, cache_tally *tally) {
    cache_request block[CACHE_BLOCK];
    size_t at = r->at[thread], requests = 0;
    for (uint64_t begin = bench_now_ns(); bench_now_ns() - begin < ns;)
        for (int blocks = 0; blocks < 4; blocks++) {
            if (at % CACHE_PIECE == 0)
                at = __atomic_fetch_add(&r->taken, 1, __ATOMIC_RELAXED) * CACHE_PIECE % CACHE_STREAM;
            for (size_t i = 0; i < CACHE_BLOCK; i++) cache_make_request(&block[i], stream[at + i]);
            r->subject->serve(r->context, block, CACHE_BLOCK, tally);
            at += CACHE_BLOCK;
            requests += CACHE_BLOCK;
        }
    r->at[thread] = at;
    return requests;
}

static void turn_task(unsigned thread, void *argument) {
    turn_job *job = argument;
    cache_tally tally = {0};
    serve_for(job->run, thread, job->warm_ns, &tally);
    memset(&tally, 0, sizeof tally);
    workers_meet();
    uint64_t begin = bench_now_ns();
    size_t requests = serve_for(job->run, thread, job->ns, &tally);
    job->of[thread].rate = (double)requests / (double)(bench_now_ns() - begin);
    job->of[thread].tally = tally;
}

static void take_turn(run *r, unsigned threads, unsigned warm_ms, unsigned ms, cache_rate *out) {
    static turn_job job;
    memset(out, 0, sizeof *out);
    if (r->subject->measure != NULL) {
        r->subject->measure(r->context, threads, warm_ms, ms, out);
    } else {
        memset(&job, 0, sizeof job);
        job.run = r;
        job.warm_ns = (uint64_t)warm_ms * 1000000;
        job.ns = (uint64_t)ms * 1000000;
        workers_place(threads);
        workers_run(threads, turn_task, &job);
        double rate = 0;
        for (unsigned t = 0; t < threads; t++) {
            rate += job.of[t].rate;
            out->tally.gets += job.of[t].tally.gets;
            out->tally.hits += job.of[t].tally.hits;
            out->tally.wrong += job.of[t].tally.wrong;
        }
        out->ns_per_request = 1 / rate;
    }
    if (out->tally.wrong != 0) cache_fail(r->subject->name, "a get found another key's value");
}

/* ---- speed ------------------------------------------------------------------------------------------------------- */

static void open_run(run *r, const cache_subject *subject, const cache_room *room) {
    cache_rate rate;
    r->subject = subject;
    if ((r->context = subject->open(subject, room)) == NULL) cache_fail(subject->name, "cannot be opened");
    unsigned turns = subject->measure != NULL ? 2 * FILL_TURNS : FILL_TURNS; /* one that is compiled as it runs */
    size_t gets = 0;
    for (unsigned turn = 0; turn < turns || gets < 2 * CACHE_KEYS; turn++, gets += rate.tally.gets)
        take_turn(r, 1, 0, FILL_MS, &rate);
}

static void measure_turn(run *r, unsigned threads, result *out, size_t round) {
    cache_rate rate;
    take_turn(r, threads, WARM_MS, ROUND_MS, &rate);
    out->ns[round] = rate.ns_per_request;
    out->tally.gets += rate.tally.gets;
    out->tally.hits += rate.tally.hits;
}

static void speed(const cache_subject *subjects, size_t count, const list *threads, size_t rounds, bool same_count) {
    static run runs[CACHE_SUBJECTS_MAX];
    size_t budget = CACHE_KEYS / 4 * nm_cache_charge(NULL, CACHE_KEY_BYTES, CACHE_VALUE_BYTES);
    cache_room room = {.bytes = budget, .by_entries = same_count};
    stream = cache_stream_open();
    for (size_t s = 0; s < count; s++) {
        open_run(&runs[s], &subjects[s], &room);
        if (s == 0) room.entries = subjects[0].count(runs[0].context);
    }
    for (size_t round = 0; round < rounds; round++)
        for (size_t t = 0; t < threads->count; t++)
            for (size_t s = 0; s < count; s++) /* each begins once */
                measure_turn(&runs[(s + round) % count], (unsigned)threads->items[t],
                             &runs[(s + round) % count].results[t], round);
    printf("threads,subject,ns_per_op,ratio,gain,ns_min,ns_max,hit_ratio,entries,rounds\n");
    for (size_t t = 0; t < threads->count; t++)
        for (size_t s = 0; s < count; s++) {
            result *r = &runs[s].results[t];
            r->median = bench_median(r->ns, rounds);
            printf("%u,%s,%.1f,%.2f,%.2f,%.1f,%.1f,%.4f,%zu,%zu\n", (unsigned)threads->items[t], subjects[s].name,
                   r->median, r->median / runs[0].results[t].median, runs[s].results[0].median / r->median, r->ns[0],
                   r->ns[rounds - 1], (double)r->tally.hits / (double)r->tally.gets, subjects[s].count(runs[s].context),
                   rounds);
        }
    fflush(stdout);
    for (size_t s = 0; s < count; s++) subjects[s].close(runs[s].context);
}

/* ---- gets of few and many entries -------------------------------------------------------------------------------- */

#define GETS      (1u << 20) /* of a round */
#define GETS_LIST (1u << 22)

typedef struct gets_run {
    const cache_subject *subject;
    void *context;
    uint32_t *stream;
    size_t at;
    double ns[BENCH_ROUNDS_MAX];
} gets_run;

/* The stream goes on in the next round, or each would begin with what the last one left near. */
static double time_gets(gets_run *r) {
    cache_request block[CACHE_BLOCK];
    cache_tally tally = {0};
    uint64_t begin = bench_now_ns();
    for (size_t i = 0; i < GETS; i += CACHE_BLOCK) {
        for (size_t k = 0; k < CACHE_BLOCK; k++) cache_make_request(&block[k], r->stream[r->at + k]);
        r->subject->serve(r->context, block, CACHE_BLOCK, &tally);
        r->at = (r->at + CACHE_BLOCK) % GETS_LIST;
    }
    double ns = (double)(bench_now_ns() - begin) / GETS;
    if (tally.hits != GETS || tally.wrong != 0) cache_fail("nebula", "does not hold what was put");
    return ns;
}

static void *filled(const cache_subject *subject, uint64_t entries) {
    size_t charge = nm_cache_charge(NULL, CACHE_KEY_BYTES, CACHE_VALUE_BYTES);
    /* A half more than they are charged: nothing is evicted from any shard. */
    cache_room room = {.bytes = (size_t)entries * (charge + charge / 2), .entries = (size_t)entries};
    void *context = subject->open(subject, &room);
    cache_tally tally = {0};
    if (context == NULL) cache_fail(subject->name, "cannot be opened");
    for (uint64_t i = 0; i < entries; i++) {
        cache_request r;
        cache_make_request(&r, (uint32_t)i | CACHE_STREAM_PUT);
        subject->serve(context, &r, 1, &tally);
    }
    return context;
}

static void gets(const cache_subject *nebula, const list *sizes, size_t rounds) {
    static gets_run runs[2][LIST_MAX];
    static const char *const names[2] = {"zipf", "alike"};
    bench_pin(0);
    for (size_t i = 0; i < sizes->count; i++) {
        void *context = filled(nebula, sizes->items[i]);
        for (size_t d = 0; d < 2; d++) {
            gets_run *r = &runs[d][i];
            uint64_t seed = 0x5eed;
            *r = (gets_run){
                .subject = nebula, .context = context, .stream = cache_must(malloc(GETS_LIST * sizeof(uint32_t)))};
            if (d == 0) cache_stream_draw(r->stream, GETS_LIST, sizes->items[i], 0, seed);
            for (size_t k = 0; d == 1 && k < GETS_LIST; k++)
                r->stream[k] = (uint32_t)((bench_random(&seed) >> 32) * sizes->items[i] >> 32);
        }
    }
    for (size_t round = 0; round <= rounds; round++) /* the first is for warming up */
        for (size_t d = 0; d < 2; d++)
            for (size_t i = 0; i < sizes->count; i++) runs[d][i].ns[round > 0 ? round - 1 : 0] = time_gets(&runs[d][i]);
    printf("keys,entries,ns_per_get,ratio,ns_min,ns_max,rounds\n");
    for (size_t d = 0; d < 2; d++) {
        double first = 0;
        for (size_t i = 0; i < sizes->count; i++) {
            gets_run *r = &runs[d][i];
            double median = bench_median(r->ns, rounds);
            if (i == 0) first = median;
            printf("%s,%lu,%.1f,%.2f,%.1f,%.1f,%zu\n", names[d], (unsigned long)sizes->items[i], median, median / first,
                   r->ns[0], r->ns[rounds - 1], rounds);
            free(r->stream);
        }
    }
    fflush(stdout);
    for (size_t i = 0; i < sizes->count; i++) nebula->close(runs[0][i].context);
}

/* ---- the program ------------------------------------------------------------------------------------------------- */

static void usage(void) {
    fprintf(stderr, "usage: cache [ROUNDS] [--speed] [--entries=LIST] [--memory] [--threads=LIST] [--same-count] "
                    "[SUBJECT...]\n");
    exit(2);
}

static list parse_list(const char *text, double most) {
    list l = {0};
    for (char *end; l.count < LIST_MAX; text = end + 1) {
        double x = strtod(text, &end);
        if (end == text || !(x >= 1 && x <= most)) usage();
        l.items[l.count++] = (uint64_t)x;
        if (*end == '\0') return l;
        if (*end != ',') usage();
    }
    usage();
    return l;
}

static const cache_subject *find_subject(const cache_subject *subjects, size_t count, const char *name) {
    for (size_t s = 0; s < count; s++)
        if (strcmp(subjects[s].name, name) == 0) return &subjects[s];
    fprintf(stderr, "cache: %s: no subject that is here\n", name);
    exit(2);
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"speed", no_argument, NULL, 's'},
                                            {"entries", required_argument, NULL, 'e'},
                                            {"memory", no_argument, NULL, 'm'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"same-count", no_argument, NULL, 'c'},
                                            {"measure-entries", required_argument, NULL, 'E'},
                                            {"measure-law", required_argument, NULL, 'L'},
                                            {0}};
    cache_subject subjects[CACHE_SUBJECTS_MAX], chosen[CACHE_SUBJECTS_MAX];
    list threads = parse_list("1,2,8", WORKERS_MAX), sizes = parse_list("1e6,1e7", CACHE_STREAM_PUT);
    bool some = false, with_speed = false, with_entries = false, with_memory = false, same_count = false;
    const char *measured = NULL;
    bool again = argc > 1 && strncmp(argv[1], "--measure", 9) == 0; /* started by this program */
    size_t rounds = ROUNDS, count = cache_subjects(subjects, again), chosen_count = 0;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (option) {
        case 's': some = with_speed = true; break;
        case 'e':
            some = with_entries = true;
            sizes = parse_list(optarg, CACHE_STREAM_PUT - 1.0);
            break;
        case 'm': some = with_memory = true; break;
        case 't': threads = parse_list(optarg, WORKERS_MAX); break;
        case 'c': same_count = true; break;
        case 'E': measured = optarg; break;
        case 'L': cache_memory_law((int)strtol(optarg, NULL, 10)); return 0;
        default: usage();
        }
    if (measured != NULL) {
        cache_memory_entries(find_subject(subjects, count, measured));
        return 0;
    }
    if (optind < argc && argv[optind][0] >= '0' && argv[optind][0] <= '9')
        rounds = bench_rounds(2, argv + optind++ - 1);
    bool named = optind < argc, wanted[CACHE_SUBJECTS_MAX] = {true};
    for (; optind < argc; optind++) wanted[find_subject(subjects, count, argv[optind]) - subjects] = true;
    for (size_t s = 0; s < count; s++)
        if (wanted[s] || (!named && !subjects[s].on_request)) chosen[chosen_count++] = subjects[s];
    if (!some) with_speed = with_entries = with_memory = true;
    workers_start();
    if (with_speed) speed(chosen, chosen_count, &threads, rounds, same_count);
    if (with_speed && with_entries) printf("\n");
    if (with_entries) gets(&chosen[0], &sizes, rounds);
    if ((with_speed || with_entries) && with_memory) printf("\n");
    bool kept = !with_memory || cache_memory_report(chosen, chosen_count);
    workers_stop();
    return kept ? 0 : 1;
}
