// SPDX-License-Identifier: Apache-2.0 OR MIT
#define _GNU_SOURCE /* PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP */
#include "run.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "footprint.h"
#include "histogram.h"
#include "progress.h"
#include "rss.h"
#include "value.h"

#define CHUNK_BYTES ((size_t)64 << 10)

/* Lines that a worker takes from the reader at a time; the laws are checked after each batch. */
#define BATCH_LINES 512
#define BATCH_BYTES ((size_t)256 << 10)

_Static_assert(RECORD_KEY_MAX == NM_CACHE_KEY_MAX, "the longest key of a trace is the longest of a cache");

#define SAMPLE_EVERY 64 /* batches between two samples of the resident memory */

/* Declared in this order, opened in this order, closed in the opposite one. */
struct tree {
    nm_scope *root, *cache_scope, *io_scope, *requests_scope;
    nm_cache *cache;
    nm_pool *pool;
};

struct run {
    const run_plan *plan;
    run_result *result;
    struct tree tree;
    atomic_bool stop; /* relaxed: only saves work; what it stands for is under `telling` */

    pthread_mutex_t reading; /* the reader and all that goes with it */
    trace *trace;
    bool ended;
    uint64_t handed_out;
    uint64_t batch_count;
    progress bar;
    rss_peak rss;

    pthread_mutex_t telling;  /* result->why, failed, broken_laws, leak_report */
    pthread_rwlock_t serving; /* read: serving a batch; write: nobody is, so that sums over the shards are exact */
};

struct batch {
    size_t count;
    trace_line lines[BATCH_LINES];
    char text[BATCH_BYTES];
};

struct tally {
    uint64_t request_count, miss_count;
    unsigned __int128 requested_bytes, missed_bytes;
};

struct worker {
    struct run *run;
    pthread_t thread;
    struct tally slices[RUN_SLICES]; /* of the trace */
    struct tally *tally;             /* the present request's */
    uint64_t rejections, leaks;
    nm_leak_report report;
    struct batch batch;
    histogram latencies;
};

/* ---- what went wrong ------------------------------------------------------------------------------------------------ */

static void tell(struct run *run, bool law, const char *format, va_list args) {
    pthread_mutex_lock(&run->telling);
    run_result *out = run->result;
    if (law) out->broken_laws++;
    if (!law && !out->failed) out->why[0] = '\0'; /* why the run failed matters more than a law that broke before */
    if (!law) out->failed = true;
    if (out->why[0] == '\0') vsnprintf(out->why, sizeof out->why, format, args);
    pthread_mutex_unlock(&run->telling);
}

/* The run cannot go on. */
__attribute__((format(printf, 2, 3))) static void fail(struct run *run, const char *format, ...) {
    va_list args;
    va_start(args, format);
    tell(run, false, format, args);
    va_end(args);
    atomic_store_explicit(&run->stop, true, memory_order_relaxed);
}

/* The run goes on: its row is printed, with the reason. */
__attribute__((format(printf, 2, 3))) static void law_broken(struct run *run, const char *format, ...) {
    va_list args;
    va_start(args, format);
    tell(run, true, format, args);
    va_end(args);
}

static void note_leaks(struct run *run, const nm_leak_report *report) {
    pthread_mutex_lock(&run->telling);
    if (run->result->leak_report.leaked_count == 0) run->result->leak_report = *report;
    pthread_mutex_unlock(&run->telling);
}

/* ---- the tree ------------------------------------------------------------------------------------------------------- */

nm_cache_options run_cache_options(const run_plan *plan) {
    nm_cache_options options = nm_cache_options_init();
    options.budget_bytes = plan->budget_bytes;
    options.policy = plan->policy->policy;
    options.objective = plan->objective->objective;
    options.shard_count = plan->shard_count;
    options.name = "objects";
    return options;
}

static bool opened(struct run *run, const char *what, nm_status status) {
    if (status != NM_OK) fail(run, "cannot open the %s: %s (%s)", what, nm_status_text(status), nm_status_name(status));
    return status == NM_OK;
}

static bool open_tree(struct run *run) {
    const run_plan *plan = run->plan;
    struct tree *tree = &run->tree;
    size_t hard = plan->budget_bytes + RUN_ALLOWANCE_BYTES + plan->thread_count * RUN_THREAD_ALLOWANCE_BYTES;
    nm_cache_options cache = run_cache_options(plan);
    nm_pool_options pool = nm_pool_options_init();
    pool.chunk_bytes = CHUNK_BYTES;
    pool.prealloc_count = pool.max_count = plan->thread_count;
    pool.name = "buffers";

    /* The cache's scope has the budget as its hard limit: the scope then keeps the law too, and its peak witnesses it. */
    return opened(run, "root scope",
                  nm_scope_open(&tree->root, NULL,
                                NM_SCOPE_OPTIONS(.name = "replay", .kind = NM_SCOPE_PROCESS, .hard_bytes = hard))) &&
           opened(run, "cache's scope",
                  nm_scope_open(
                      &tree->cache_scope, tree->root,
                      NM_SCOPE_OPTIONS(.name = "cache", .kind = NM_SCOPE_SERVICE, .hard_bytes = plan->budget_bytes))) &&
           opened(run, "cache", nm_cache_open(&tree->cache, tree->cache_scope, &cache)) &&
           opened(
               run, "buffers' scope",
               nm_scope_open(&tree->io_scope, tree->root, NM_SCOPE_OPTIONS(.name = "io", .kind = NM_SCOPE_SERVICE))) &&
           opened(run, "pool of buffers", nm_pool_open(&tree->pool, tree->io_scope, &pool)) &&
           opened(run, "requests' scope",
                  nm_scope_open(&tree->requests_scope, tree->root,
                                NM_SCOPE_OPTIONS(.name = "requests", .kind = NM_SCOPE_SERVICE)));
}

static void close_scope(struct run *run, nm_scope *scope) {
    nm_leak_report report;
    size_t leaks = nm_scope_close(scope, &report);
    if (leaks == 0) return;
    run->result->leaks += leaks;
    note_leaks(run, &report);
}

/* Nothing may be left: every pin, lease and reservation went with its request, so what closes by hand must close. */
static void close_tree(struct run *run) {
    struct tree *tree = &run->tree;
    run_result *out = run->result;
    if (tree->root == NULL) return;
    nm_status status = nm_cache_close(tree->cache);
    if (status != NM_OK) law_broken(run, "the cache would not close: %s", nm_status_text(status));
    status = nm_pool_close(tree->pool);
    if (status != NM_OK) law_broken(run, "the pool would not close: %s", nm_status_text(status));
    close_scope(run, tree->requests_scope);
    close_scope(run, tree->io_scope);
    close_scope(run, tree->cache_scope);

    nm_scope_stats root;
    nm_scope_get_stats(tree->root, &root);
    out->held_bytes = root.granted_bytes - root.own_bytes - root.idle_bytes;
    out->peak_bytes = root.peak_bytes;
    if (out->held_bytes != 0)
        law_broken(run, "the root scope still held %zu bytes when all below it was closed", (size_t)out->held_bytes);
    if (root.peak_bytes > root.hard_bytes)
        law_broken(run, "the root scope's peak of %zu bytes is above its hard limit of %zu", root.peak_bytes,
                   root.hard_bytes);
    close_scope(run, tree->root);
    *tree = (struct tree){0};
}

/* ---- the laws ------------------------------------------------------------------------------------------------------- */

static bool law_holds(const struct run *run, nm_cache_stats *stats) {
    nm_cache_get_stats(run->tree.cache, stats);
    return stats->used_bytes <= stats->granted_bytes && stats->granted_bytes <= run->plan->budget_bytes;
}

/* used <= granted <= budget. While others serve, the figures are summed over shards one after the other, and bytes that moved
 * meanwhile count twice: so a suspicion is judged again with all workers held. */
static void check_budget(struct run *run) {
    nm_cache_stats stats;
    if (law_holds(run, &stats)) return;
    pthread_rwlock_wrlock(&run->serving);
    bool holds = law_holds(run, &stats);
    pthread_rwlock_unlock(&run->serving);
    if (!holds)
        law_broken(run, "used %zu <= granted %zu <= budget %llu does not hold", stats.used_bytes, stats.granted_bytes,
                   (unsigned long long)run->plan->budget_bytes);
}

/* ---- a request ------------------------------------------------------------------------------------------------------ */

/* Running out of memory is an ordinary answer: the object is served and not taken in. Anything else is a fault. */
static bool is_refusal(nm_status status) {
    return status == NM_ETOOLARGE || status == NM_ECAPACITY || status == NM_EBUDGET || status == NM_ENOMEM;
}

static bool refused(struct worker *w, const char *what, nm_status status) {
    if (is_refusal(status))
        w->rejections++;
    else
        fail(w->run, "cannot %s: %s (%s)", what, nm_status_text(status), nm_status_name(status));
    return false;
}

/* The object comes from elsewhere through a leased buffer, piece by piece, and goes into the cache. */
static bool load(struct worker *w, nm_scope *request, const char *key, size_t key_len, size_t size) {
    const struct tree *tree = &w->run->tree;
    nm_lease buffer;
    nm_status status = nm_pool_lease_in(tree->pool, request, &buffer);
    if (status != NM_OK) return refused(w, "lease a buffer", status);

    nm_entry room;
    status = nm_cache_reserve_in(tree->cache, request, key, key_len, size, &room);
    if (status != NM_OK) return refused(w, "reserve room in the cache", status);
    uint64_t seed = value_seed(key, key_len);
    for (size_t done = 0; done < size; done += CHUNK_BYTES) {
        size_t piece = size - done < CHUNK_BYTES ? size - done : CHUNK_BYTES;
        value_fill(buffer.data, piece, seed, done);
        memcpy((unsigned char *)room.value + done, buffer.data, piece);
    }
    status = nm_cache_commit(&room, NULL);
    if (status != NM_OK) return refused(w, "commit to the cache", status); /* the room goes back with the request */
    return true;
}

static void check_hit(struct worker *w, const nm_entry *entry, const char *key, size_t key_len) {
    bool same_key = entry->key_len == key_len && memcmp(entry->key, key, key_len) == 0;
    if (!same_key || !value_check(entry->value, entry->value_len, value_seed(key, key_len)))
        law_broken(w->run, "a hit gave a wrong value for key \"%.*s\"", key_len < 80 ? (int)key_len : 80, key);
}

static void note_miss(struct worker *w, size_t size) {
    w->tally->miss_count++;
    w->tally->missed_bytes += size;
}

/* What is leased, pinned or reserved here is held by the request's scope, and goes back with it: no leak. */
static void serve_in(struct worker *w, nm_scope *request, const record *r, size_t size) {
    nm_arena *arena;
    nm_status status = nm_arena_open(&arena, request, NULL);
    const char *key = status == NM_OK ? nm_arena_memdup(arena, r->key, r->key_len) : NULL;
    if (status == NM_OK && key == NULL) status = nm_arena_status(arena);
    nm_entry entry;
    if (key != NULL && nm_cache_get_in(w->run->tree.cache, request, key, r->key_len, &entry)) {
        check_hit(w, &entry, key, r->key_len);
        return;
    }
    note_miss(w, size);
    if (key == NULL)
        refused(w, "copy the key into an arena", status);
    else
        load(w, request, key, r->key_len, size);
}

static void serve(struct worker *w, const record *r) {
    const run_plan *plan = w->run->plan;
    size_t size = footprint_size(plan->all_ones, plan->default_size, r);
    w->tally->request_count++;
    w->tally->requested_bytes += size;
    nm_scope *request;
    nm_status status = nm_scope_open(&request, w->run->tree.requests_scope,
                                     NM_SCOPE_OPTIONS(.name = "request", .kind = NM_SCOPE_REQUEST));
    if (status != NM_OK) {
        note_miss(w, size);
        refused(w, "open a request's scope", status);
        return;
    }
    serve_in(w, request, r, size);
    size_t leaks = nm_scope_close(request, &w->report);
    if (leaks == 0) return;
    w->leaks += leaks;
    note_leaks(w->run, &w->report);
}

/* ---- workers -------------------------------------------------------------------------------------------------------- */

/* Takes the next lines, in order. False: the trace has ended or the run has failed. */
static bool take_batch(struct run *run, struct batch *batch) {
    size_t used = 0;
    batch->count = 0;
    pthread_mutex_lock(&run->reading);
    while (!run->ended && batch->count < BATCH_LINES && BATCH_BYTES - used > RECORD_LINE_MAX) {
        trace_line line;
        trace_status status = trace_next(run->trace, &line);
        if (status != TRACE_LINE) run->ended = true;
        if (status == TRACE_ERROR) fail(run, "%s", run->trace->error);
        if (status != TRACE_LINE) break;
        memcpy(batch->text + used, line.text, line.len);
        line.text = batch->text + used;
        batch->lines[batch->count++] = line;
        used += line.len;
    }
    run->handed_out += batch->count;
    progress_update(&run->bar, run->handed_out);
    if (run->batch_count++ % SAMPLE_EVERY == 0) rss_sample(&run->rss);
    pthread_mutex_unlock(&run->reading);
    return batch->count > 0 && !atomic_load_explicit(&run->stop, memory_order_relaxed);
}

static struct tally *slice_of(struct worker *w, uint64_t line_number) {
    double part = (double)(line_number - 1) / (double)w->run->plan->line_count;
    size_t slice = part < 1 ? (size_t)(part * RUN_SLICES) : RUN_SLICES - 1; /* the trace may have grown since */
    return &w->slices[slice];
}

static void serve_batch(struct worker *w) {
    pthread_rwlock_rdlock(&w->run->serving);
    uint64_t before = clock_now_ns();
    for (size_t i = 0; i < w->batch.count; i++) {
        const trace_line *line = &w->batch.lines[i];
        record r;
        /* The first pass has judged the broken lines: they are counted, or the trace is not replayed. */
        if (record_parse(w->run->trace->format, line->text, line->len, &r) != NULL) continue;
        w->tally = slice_of(w, line->number);
        serve(w, &r);
        uint64_t now = clock_now_ns();
        histogram_add(&w->latencies, now - before);
        before = now;
    }
    pthread_rwlock_unlock(&w->run->serving);
}

static void *work(void *argument) {
    struct worker *w = argument;
    while (take_batch(w->run, &w->batch)) {
        serve_batch(w);
        check_budget(w->run);
    }
    return NULL;
}

/* The first worker is the caller's own thread. */
static void work_together(struct run *run, struct worker *workers) {
    unsigned count = run->plan->thread_count, started = 1;
    for (; started < count; started++) {
        int error = pthread_create(&workers[started].thread, NULL, work, &workers[started]);
        if (error != 0) {
            fail(run, "cannot start thread %u of %u: %s", started + 1, count, strerror(error));
            break;
        }
    }
    work(&workers[0]);
    for (unsigned i = 1; i < started; i++) pthread_join(workers[i].thread, NULL);
}

/* ---- the run -------------------------------------------------------------------------------------------------------- */

static double ratio(unsigned __int128 part, unsigned __int128 whole) {
    return whole == 0 ? 0.0 : (double)part / (double)whole;
}

static void tally_add(struct tally *sum, const struct tally *more) {
    sum->request_count += more->request_count;
    sum->miss_count += more->miss_count;
    sum->requested_bytes += more->requested_bytes;
    sum->missed_bytes += more->missed_bytes;
}

static void summarize(struct run *run, struct worker *workers, uint64_t elapsed_ns) {
    run_result *out = run->result;
    struct worker *sum = &workers[0];
    for (unsigned i = 1; i < run->plan->thread_count; i++) {
        const struct worker *w = &workers[i];
        for (unsigned k = 0; k < RUN_SLICES; k++) tally_add(&sum->slices[k], &w->slices[k]);
        sum->rejections += w->rejections;
        sum->leaks += w->leaks;
        histogram_merge(&sum->latencies, &w->latencies);
    }
    struct tally all = {0};
    for (unsigned k = 0; k < RUN_SLICES; k++) {
        const struct tally *t = &sum->slices[k];
        tally_add(&all, t);
        out->slices[k] = (run_slice){.request_count = t->request_count,
                                     .miss_count = t->miss_count,
                                     .requested_bytes = (double)t->requested_bytes,
                                     .missed_bytes = (double)t->missed_bytes};
    }
    out->leaks += sum->leaks;
    out->request_count = all.request_count;
    if (out->request_count != run->plan->request_count && !out->failed)
        fail(run, "the trace changed while it was read: %llu requests, %llu before",
             (unsigned long long)out->request_count, (unsigned long long)run->plan->request_count);
    out->object_miss_ratio = ratio(all.miss_count, all.request_count);
    out->byte_miss_ratio = ratio(all.missed_bytes, all.requested_bytes);
    out->rejections = sum->rejections;
    out->requests_per_second = elapsed_ns == 0 ? 0.0 : (double)all.request_count * 1e9 / (double)elapsed_ns;
    out->p50_ns = histogram_quantile(&sum->latencies, 0.50);
    out->p99_ns = histogram_quantile(&sum->latencies, 0.99);
    out->p999_ns = histogram_quantile(&sum->latencies, 0.999);

    check_budget(run);
    nm_cache_stats cache;
    nm_cache_get_stats(run->tree.cache, &cache);
    out->evictions = cache.evictions;
    out->used_bytes = cache.used_bytes;
    out->granted_bytes = cache.granted_bytes;
    out->curve_count = nm_cache_curve(run->tree.cache, out->curve, RUN_CURVE_POINTS);
    nm_scope_stats scope;
    nm_scope_get_stats(run->tree.cache_scope, &scope);
    if (scope.peak_bytes > run->plan->budget_bytes)
        law_broken(run, "the cache's scope was granted %zu bytes at its peak, above the budget of %llu",
                   scope.peak_bytes, (unsigned long long)run->plan->budget_bytes);
}

static void replay(struct run *run, struct worker *workers) {
    rss_start(&run->rss);
    if (!open_tree(run)) return;
    char what[32];
    snprintf(what, sizeof what, "%s", run->plan->policy->name);
    progress_start(&run->bar, run->plan->quiet, run->plan->request_count, run->trace->name, what);
    uint64_t before = clock_now_ns();
    work_together(run, workers);
    uint64_t elapsed = clock_now_ns() - before;
    progress_end(&run->bar);
    run->result->rss_peak_bytes = rss_read(&run->rss);
    summarize(run, workers, elapsed);
}

void run_replay(const run_plan *plan, trace *t, run_result *out) {
    *out = (run_result){0};
    struct run run = {.plan = plan, .result = out, .trace = t};
    pthread_mutex_init(&run.reading, NULL);
    pthread_mutex_init(&run.telling, NULL);
    pthread_rwlockattr_t writers_first;
    pthread_rwlockattr_init(&writers_first);
    pthread_rwlockattr_setkind_np(&writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&run.serving, &writers_first);
    pthread_rwlockattr_destroy(&writers_first);

    struct worker *workers = calloc(plan->thread_count, sizeof *workers);
    for (unsigned i = 0; workers != NULL && i < plan->thread_count; i++) workers[i].run = &run;
    if (workers == NULL)
        fail(&run, "out of memory for %u workers", plan->thread_count);
    else if (!trace_rewind(t))
        fail(&run, "%s", t->error);
    else
        replay(&run, workers);
    close_tree(&run);

    free(workers);
    pthread_rwlock_destroy(&run.serving);
    pthread_mutex_destroy(&run.telling);
    pthread_mutex_destroy(&run.reading);
}
