// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "pool_stress.h"

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/atomic.h"
#include "testing.h"

enum { CELLS = 32, HAND_MAX = 512, MANY = 40, STEPS_BETWEEN_LOOKS = 64 };

/* A place where threads leave leases for each other. */
typedef struct cell {
    NM_ATOMIC(uint32_t) state; /* EMPTY, BUSY, FULL */
    nm_lease lease;
    bool shared;
} cell;
enum { EMPTY, BUSY, FULL };

typedef struct run {
    const stress *s;
    nm_scope *root, *scope;
    nm_pool *pool;
    NM_ATOMIC(uint32_t) * holders; /* by index of the buffer */
    uint64_t *stamps;              /* what its first holder wrote into it; constant while it is held */
    cell cells[CELLS];
    NM_ATOMIC(uint64_t) leases;
    NM_ATOMIC(uint64_t) wrong;
    NM_ATOMIC(size_t) working;
    pthread_mutex_t first_lock;
    char first[200];
} run;

/* What goes on from a thread to the next that takes its place. */
typedef struct worker {
    run *run;
    size_t number;
    uint64_t random, stamp;
    nm_lease hand[HAND_MAX];
    bool shared[HAND_MAX]; /* a share, not a buffer's first lease */
    size_t count;
    unsigned planted;
    unsigned char *late;
    bool goes_on; /* the thread ends, its work does not */
    stress_counts done;
    uint64_t counted; /* of done.leases, in run.leases */
} worker;

static __attribute__((__format__(__printf__, 2, 3))) void wrong(run *r, const char *format, ...) {
    if (nm_atomic_add(&r->wrong, 1, NM_RELAXED) != 0) return;
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&r->first_lock);
    vsnprintf(r->first, sizeof r->first, format, arguments);
    pthread_mutex_unlock(&r->first_lock);
    va_end(arguments);
}

static void told_of_misuse(const nm_misuse *misuse, void *context) {
    wrong(context, "misuse: %s, leased at %s", misuse->what, misuse->leased_at != NULL ? misuse->leased_at : "?");
}

/* ---- the shadow ---------------------------------------------------------------------------------------------------- */

static void write_stamp(const nm_lease *lease, uint64_t stamp) {
    memcpy(lease->data, &stamp, sizeof stamp);
    memcpy((char *)lease->data + lease->size - sizeof stamp, &stamp, sizeof stamp);
}

static bool has_stamp(const nm_lease *lease, uint64_t stamp) {
    return memcmp(lease->data, &stamp, sizeof stamp) == 0 &&
           memcmp((char *)lease->data + lease->size - sizeof stamp, &stamp, sizeof stamp) == 0;
}

static void check_zero(run *r, const nm_lease *lease) {
    const unsigned char *p = lease->data;
    size_t i = 0;
    while (i < lease->size && p[i] == 0) i++;
    if (i != lease->size) wrong(r, "byte %zu of a new lease of a zeroing pool is %u", i, p[i]);
}

/* The lease is new, and nobody else's. */
static void begin(worker *w, const nm_lease *lease) {
    run *r = w->run;
    uint32_t index = nm_lease_index(lease);
    w->done.leases++;
    if (index >= r->s->pool.max_count) {
        wrong(r, "index %u of %zu", index, r->s->pool.max_count);
        return;
    }
    uint32_t before = nm_atomic_add(&r->holders[index], 1, NM_RELAXED);
    if (before != 0) wrong(r, "buffer %u leased though %u hold it", index, before);
    if (r->s->pool.zero_on_release) check_zero(r, lease);
    r->stamps[index] = w->stamp++;
    write_stamp(lease, r->stamps[index]);
}

/* It is ours and will not be any more. Slices show what they show; only whole leases are looked at. */
static void end(run *r, const nm_lease *lease) {
    uint32_t index = nm_lease_index(lease);
    if (index >= r->s->pool.max_count) {
        wrong(r, "a lease that is held is not out");
        return;
    }
    if (lease->size == r->s->pool.chunk_bytes && !has_stamp(lease, r->stamps[index]))
        wrong(r, "somebody wrote into buffer %u", index);
    if (nm_atomic_sub(&r->holders[index], 1, NM_RELAXED) == 0) wrong(r, "buffer %u had no holder", index);
}

static void release(run *r, nm_lease *lease) {
    end(r, lease);
    nm_lease_release(lease);
}

/* ---- steps --------------------------------------------------------------------------------------------------------- */

static size_t below(worker *w, size_t n) { return test_below(&w->random, n); }

static void keep(worker *w, const nm_lease *lease, bool shared) {
    w->hand[w->count] = *lease;
    w->shared[w->count++] = shared;
}

static void drop(worker *w, size_t i) {
    w->hand[i] = w->hand[--w->count];
    w->shared[i] = w->shared[w->count];
}

/* Takes one out of the hand. */
static nm_lease draw(worker *w, bool *shared) {
    size_t i = below(w, w->count);
    nm_lease lease = w->hand[i];
    *shared = w->shared[i];
    drop(w, i);
    return lease;
}

static void refused(worker *w, nm_status status) {
    w->done.refused++;
    if (status == NM_ECAPACITY || (status == NM_EBUDGET && w->run->s->hard_bytes != 0)) return;
    wrong(w->run, "a lease was refused with %s", nm_status_name(status));
}

static void lease_one(worker *w) {
    nm_lease lease;
    if (w->count == w->run->s->hand) return;
    nm_status st = nm_pool_try_lease(w->run->pool, &lease);
    if (st != NM_OK) {
        refused(w, st);
        return;
    }
    begin(w, &lease);
    keep(w, &lease, false);
}

static void release_one(worker *w) {
    if (w->count == 0) return;
    bool shared;
    nm_lease lease = draw(w, &shared);
    release(w->run, &lease);
}

static void release_by_address(worker *w) {
    if (w->count == 0) return;
    size_t i = below(w, w->count);
    if (w->shared[i]) return; /* by address the lease that was there first is released */
    nm_lease lease = w->hand[i];
    drop(w, i);
    end(w->run, &lease);
    nm_pool_release_data(w->run->pool, lease.data);
}

static void lease_many(worker *w) {
    nm_lease leases[MANY];
    size_t room = w->run->s->hand - w->count, n = 1 + below(w, MANY);
    n = n < room ? n : room;
    size_t got = nm_pool_lease_many(w->run->pool, leases, n);
    if (got < n) w->done.refused++;
    for (size_t i = 0; i < n; i++)
        if (nm_lease_ok(leases[i]) != (i < got)) wrong(w->run, "%zu of %zu leases, and number %zu", got, n, i);
    for (size_t i = 0; i < got; i++) {
        begin(w, &leases[i]);
        keep(w, &leases[i], false);
    }
}

static void release_many(worker *w) {
    nm_lease leases[MANY] = {{0}};
    bool shared;
    size_t n = 1 + below(w, MANY);
    for (size_t i = 0; i < n && w->count != 0; i++) {
        if (below(w, 4) == 0) continue; /* an empty one among them */
        leases[i] = draw(w, &shared);
        end(w->run, &leases[i]);
    }
    nm_lease_release_many(leases, n);
}

static void burst(worker *w) {
    nm_lease leases[16];
    size_t n = 1 + below(w, sizeof leases / sizeof leases[0]), got = 0;
    for (; got < n; got++) {
        leases[got] = nm_pool_lease(w->run->pool);
        if (!nm_lease_ok(leases[got])) break;
        begin(w, &leases[got]);
    }
    if (got < n) w->done.refused++;
    size_t from = got != 0 ? below(w, got) : 0;
    for (size_t i = 0; i < got; i++) release(w->run, &leases[(from + i) % got]);
}

/* Leaves a lease for another thread. */
static void pass_on(worker *w) {
    if (w->count == 0) return;
    cell *c = &w->run->cells[below(w, CELLS)];
    uint32_t state = EMPTY;
    /* acquire, release: the lease passes with the state */
    if (!nm_atomic_cas(&c->state, &state, BUSY, NM_ACQUIRE, NM_RELAXED)) return;
    c->lease = draw(w, &c->shared);
    nm_atomic_store(&c->state, FULL, NM_RELEASE);
    w->done.passed_on++;
}

static bool take(cell *c, nm_lease *out, bool *shared) {
    uint32_t state = FULL;
    if (!nm_atomic_cas(&c->state, &state, BUSY, NM_ACQUIRE, NM_RELAXED)) return false;
    *out = c->lease;
    *shared = c->shared;
    nm_atomic_store(&c->state, EMPTY, NM_RELEASE);
    return true;
}

static void take_up(worker *w) {
    nm_lease lease;
    bool shared;
    if (!take(&w->run->cells[below(w, CELLS)], &lease, &shared)) return;
    if (w->count < w->run->s->hand && below(w, 4) == 0)
        keep(w, &lease, shared);
    else
        release(w->run, &lease);
}

static void share_one(worker *w) {
    if (w->count == 0 || w->count == w->run->s->hand) return;
    const nm_lease *from = &w->hand[below(w, w->count)];
    nm_lease share;
    size_t offset = below(w, 2) == 0 ? 0 : below(w, from->size + 1);
    nm_status st = offset == 0 ? nm_lease_share(from, &share)
                               : nm_lease_slice(from, offset, below(w, from->size - offset + 1), &share);
    if (st != NM_OK) {
        if (st != NM_EBUDGET || w->run->s->hard_bytes == 0)
            wrong(w->run, "a share was refused with %s", nm_status_name(st));
        return;
    }
    uint32_t index = nm_lease_index(&share);
    if (index != nm_lease_index(from)) wrong(w->run, "a share of another buffer");
    if (nm_atomic_add(&w->run->holders[index], 1, NM_RELAXED) == 0)
        wrong(w->run, "a share of a buffer that nobody holds");
    w->done.shares++;
    keep(w, &share, true);
}

static void wait_for_one(worker *w) {
    nm_lease lease;
    if (w->count == w->run->s->hand) return;
    w->done.waited++;
    nm_status st = nm_pool_lease_wait(w->run->pool, &lease, below(w, 300) * 1000);
    if (st == NM_OK) {
        begin(w, &lease);
        keep(w, &lease, false);
    } else if (st == NM_ETIMEDOUT) {
        w->done.timed_out++;
    } else {
        refused(w, st);
    }
}

/* A request that holds leases: some it releases, some go back with it. */
static void hold_some(worker *w) {
    nm_scope *request;
    nm_lease leases[12];
    size_t n = below(w, sizeof leases / sizeof leases[0]), got = 0;
    if (nm_scope_open(&request, w->run->root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)) != NM_OK) {
        wrong(w->run, "a request was refused");
        return;
    }
    for (; got < n; got++) {
        nm_status st = nm_pool_lease_in(w->run->pool, request, &leases[got]);
        if (st != NM_OK) {
            refused(w, st);
            break;
        }
        begin(w, &leases[got]);
        w->done.held++;
    }
    for (size_t i = 0; i < got; i++) {
        end(w->run, &leases[i]);
        if (i % 3 == 0) nm_lease_release(&leases[i]);
    }
    if (nm_scope_close(request, NULL) != 0) wrong(w->run, "a request leaked");
}

static void look_at_stats(worker *w) {
    nm_pool_stats s;
    nm_pool_get_stats(w->run->pool, &s);
    if (s.total_count > s.max_count || s.leased_count > s.total_count || s.front_count > s.free_count ||
        s.free_count + s.leased_count != s.total_count || s.waiting_count > w->run->s->threads)
        wrong(w->run, "total %zu, leased %zu, free %zu, in front %zu, %zu waiting, of %zu", s.total_count,
              s.leased_count, s.free_count, s.front_count, s.waiting_count, s.max_count);
    nm_scope_stats scope;
    nm_scope_get_stats(w->run->scope, &scope);
    if (scope.hard_bytes != 0 && scope.granted_bytes > scope.hard_bytes)
        wrong(w->run, "granted %zu of %zu", scope.granted_bytes, scope.hard_bytes);
}

/* ---- what the shadow must find ------------------------------------------------------------------------------------- */

/* One that the pool takes back while the shadow says that it is held: the next holder is a second one. */
static void plant_a_second_holder(worker *w) {
    nm_lease lease = nm_pool_lease(w->run->pool);
    if (!nm_lease_ok(lease)) return;
    begin(w, &lease);
    nm_lease_release(&lease);
}

/* Into what was released the last time. */
static void plant_a_late_write(worker *w) {
    for (size_t i = 0; w->late != NULL && i < sizeof(uint64_t); i++) nm_atomic_store(w->late + i, 0xbd, NM_RELAXED);
    nm_lease lease = nm_pool_lease(w->run->pool);
    w->late = lease.data;
    nm_lease_release(&lease);
}

/* One that is given away to nobody. */
static void plant_a_lost_lease(worker *w) {
    if (w->planted++ != 0) return;
    nm_lease lease = nm_pool_lease(w->run->pool);
    if (nm_lease_ok(lease)) begin(w, &lease);
}

/* ---- threads ------------------------------------------------------------------------------------------------------- */

/* True: the thread is to end, and another to go on. */
static bool step(worker *w) {
    if (below(w, 100) < w->run->s->bursts) {
        burst(w);
        return false;
    }
    size_t what = below(w, 1000);
    if (w->run->s->plant != STRESS_SOUND && what % 50 == 0) {
        if (w->run->s->plant == STRESS_SECOND_HOLDER) plant_a_second_holder(w);
        if (w->run->s->plant == STRESS_LATE_WRITE) plant_a_late_write(w);
        if (w->run->s->plant == STRESS_LOST_LEASE) plant_a_lost_lease(w);
        return false;
    }
    if (what < 300)
        lease_one(w);
    else if (what < 540)
        release_one(w);
    else if (what < 560)
        release_by_address(w);
    else if (what < 590)
        lease_many(w);
    else if (what < 640)
        release_many(w);
    else if (what < 740)
        pass_on(w);
    else if (what < 860)
        take_up(w);
    else if (what < 900)
        share_one(w);
    else if (what < 925)
        wait_for_one(w);
    else if (what < 955)
        hold_some(w);
    else if (what < 985)
        burst(w);
    else if (what < 990)
        look_at_stats(w);
    else if (what < 994) {
        nm_pool_trim(w->run->pool, below(w, w->run->s->pool.max_count + 1));
        w->done.trims++;
    } else if (what < 997) {
        nm_scope_reclaim(w->run->root, below(w, 1u << 20));
        w->done.trims++;
    } else {
        return what == 999;
    }
    return false;
}

static void *work(void *arg) {
    worker *w = arg;
    run *r = w->run;
    w->goes_on = false;
    w->done.threads++;
    while (nm_atomic_load(&r->leases, NM_RELAXED) < r->s->leases && nm_atomic_load(&r->wrong, NM_RELAXED) == 0) {
        for (int i = 0; i < STEPS_BETWEEN_LOOKS && !w->goes_on; i++) w->goes_on = step(w);
        nm_atomic_add(&r->leases, w->done.leases - w->counted, NM_RELAXED);
        w->counted = w->done.leases;
        if (w->goes_on) return NULL; /* with leases in its hand, and whatever it keeps */
    }
    return NULL;
}

/* Keeps a thread at work: when one ends, the next goes on with what it had in its hand. */
static void *keep_at_work(void *arg) {
    worker *w = arg;
    do {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, w) != 0) {
            wrong(w->run, "the system has no thread");
            break;
        }
        pthread_join(thread, NULL);
    } while (w->goes_on);
    nm_atomic_sub(&w->run->working, 1, NM_RELEASE);
    return NULL;
}

/* ---- the end ------------------------------------------------------------------------------------------------------- */

static void give_back_all(run *r, worker *workers) {
    for (size_t i = 0; i < r->s->threads; i++)
        while (workers[i].count != 0) release(r, &workers[i].hand[--workers[i].count]);
    for (size_t i = 0; i < CELLS; i++) {
        nm_lease lease;
        bool shared;
        if (take(&r->cells[i], &lease, &shared)) release(r, &lease);
    }
    for (size_t i = 0; i < r->s->pool.max_count; i++)
        if (r->holders[i] != 0) wrong(r, "%u hold buffer %zu at the end", r->holders[i], i);
}

static void check_sums(run *r) {
    nm_pool_stats s;
    nm_pool_get_stats(r->pool, &s);
    if (s.leased_count != 0 || s.shared_count != 0 || s.waiting_count != 0 || s.free_count != s.total_count)
        wrong(r, "at the end %zu leased, %zu shared, %zu waiting, %zu free of %zu", s.leased_count, s.shared_count,
              s.waiting_count, s.free_count, s.total_count);
    /* Every buffer that has memory can be leased, once. */
    nm_lease *leases = calloc(s.max_count + 1, sizeof *leases);
    if (r->s->hard_bytes == 0 && leases != NULL) {
        size_t got = nm_pool_lease_many(r->pool, leases, s.max_count + 1);
        if (got != s.max_count) wrong(r, "%zu buffers of %zu at the end", got, s.max_count);
        for (size_t i = 0; i < got; i++) {
            uint32_t index = nm_lease_index(&leases[i]);
            if (r->holders[index]++ != 0) wrong(r, "buffer %u is leased twice at the end", index);
        }
        nm_lease_release_many(leases, got);
    }
    free(leases);
    bool fixed = r->s->pool.prealloc_count == r->s->pool.max_count;
    nm_pool_trim(r->pool, 0);
    nm_pool_get_stats(r->pool, &s);
    if (s.total_count != (fixed ? s.max_count : 0)) wrong(r, "%zu buffers are left by a trim of all", s.total_count);
    nm_scope_stats scope;
    nm_scope_get_stats(r->scope, &scope);
    if (scope.granted_bytes != s.granted_bytes)
        wrong(r, "the scope is granted %zu, the pool %zu", scope.granted_bytes, s.granted_bytes);
    nm_status st = nm_pool_close(r->pool);
    if (st != NM_OK) wrong(r, "the close: %s", nm_status_name(st));
    nm_scope_get_stats(r->scope, &scope);
    if (scope.granted_bytes != 0) wrong(r, "%zu bytes are granted behind the close", scope.granted_bytes);
}

static void add_up(stress_counts *sum, const stress_counts *part) {
    sum->leases += part->leases;
    sum->refused += part->refused;
    sum->shares += part->shares;
    sum->waited += part->waited;
    sum->timed_out += part->timed_out;
    sum->passed_on += part->passed_on;
    sum->held += part->held;
    sum->trims += part->trims;
    sum->threads += part->threads;
}

bool stress_run(nm_scope *root, const stress *s, stress_counts *out) {
    run *r = calloc(1, sizeof *r);
    worker *workers = calloc(s->threads, sizeof *workers);
    pthread_t keepers[STRESS_THREADS];
    size_t started = 0;
    *out = (stress_counts){0};
    if (r == NULL || workers == NULL) abort();
    *r = (run){.s = s, .root = root, .first_lock = PTHREAD_MUTEX_INITIALIZER, .working = s->threads};
    r->holders = calloc(s->pool.max_count, sizeof *r->holders);
    r->stamps = calloc(s->pool.max_count, sizeof *r->stamps);
    if (r->holders == NULL || r->stamps == NULL) abort();
    nm_set_misuse_handler(told_of_misuse, r);
    if (nm_scope_open(&r->scope, root, NM_SCOPE_OPTIONS(.name = "stress", .hard_bytes = s->hard_bytes)) != NM_OK ||
        nm_pool_open(&r->pool, r->scope, &s->pool) != NM_OK) {
        wrong(r, "the pool was not opened");
    } else {
        for (; started < s->threads; started++) {
            worker *w = &workers[started];
            *w = (worker){.run = r, .number = started, .random = s->seed + started * 7919};
            w->stamp = (uint64_t)(started + 1) << 56;
            if (pthread_create(&keepers[started], NULL, keep_at_work, w) != 0) abort();
        }
        while (s->progress != NULL && nm_atomic_load(&r->working, NM_ACQUIRE) != 0) {
            nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
            s->progress(nm_atomic_load(&r->leases, NM_RELAXED), s->context);
        }
        for (size_t i = 0; i < started; i++) pthread_join(keepers[i], NULL);
        if (r->wrong == 0) give_back_all(r, workers);
        if (r->wrong == 0) check_sums(r);
        for (size_t i = 0; i < started; i++) add_up(out, &workers[i].done);
    }
    if (nm_scope_close(r->scope, NULL) != 0) wrong(r, "leases are out at the end");
    nm_set_misuse_handler(NULL, NULL);
    out->wrong = r->wrong;
    memcpy(out->first, r->first, sizeof out->first);
    free(r->holders);
    free(r->stamps);
    free(workers);
    free(r);
    return out->wrong == 0;
}
