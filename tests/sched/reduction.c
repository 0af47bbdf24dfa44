// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Does the explorer leave out only what has the same effect? Small random programs are gone through twice, with the
 * reductions and without any; both must find the same set of outcomes within the same bounds. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "explorer.h"
#include "faults.h"

sched_fault_name sched_fault;

#define STEPS_MAX 5u
#define CELLS     3u

typedef enum step_kind {
    LOAD,
    STORE,
    STORE_LOCKED,
    ADD,
    CAS,
    LOCKED_STORE,
    BARRIER,
    SLEEP,
    SLEEP_TIMED,
    WAKE,
    YIELD,
    KINDS
} step_kind;

static const char *const step_names[KINDS] = {"load",    "store", "store_locked", "add",  "cas",  "locked_store",
                                              "barrier", "sleep", "sleep_timed",  "wake", "yield"};

typedef struct step {
    step_kind kind;
    unsigned cell;
} step;

typedef struct little_program {
    unsigned thread_count;
    unsigned step_count[3];
    step steps[3][STEPS_MAX];
} little_program;

static struct cells {
    NM_ATOMIC(uint32_t) cell[CELLS * 4]; /* some apart from each other, all in one or two grains */
    pthread_mutex_t lock;
    uint32_t saw[3][STEPS_MAX];
} * cells;

/* ---- a set of outcomes ------------------------------------------------------------------------------------------- */

#define OUTCOMES 65536u
typedef struct outcome_set {
    uint64_t hash[OUTCOMES];
    size_t count;
} outcome_set;
static outcome_set reduced, whole, *collecting;
static char missing[SCHED_SCHEDULE_BYTES]; /* the first that led to an outcome which was not known yet */

static void set_add(outcome_set *set, uint64_t hash) {
    if (hash == 0) hash = 1;
    for (size_t i = hash % OUTCOMES;; i = (i + 1) % OUTCOMES) {
        if (set->hash[i] == hash) return;
        if (set->hash[i] != 0) continue;
        if (set->count == OUTCOMES / 2) abort();
        set->hash[i] = hash;
        set->count++;
        return;
    }
}

static bool set_has(const outcome_set *set, uint64_t hash) {
    if (hash == 0) hash = 1;
    size_t i = hash % OUTCOMES;
    while (set->hash[i] != hash && set->hash[i] != 0) i = (i + 1) % OUTCOMES;
    return set->hash[i] == hash;
}

static bool set_equal(const outcome_set *a, const outcome_set *b) {
    if (a->count != b->count) return false;
    for (size_t i = 0; i < OUTCOMES; i++) {
        if (a->hash[i] != 0 && !set_has(b, a->hash[i])) return false;
    }
    return true;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static void prepare(const void *argument) {
    (void)argument;
    cells = sched_memory(sizeof *cells);
}

static void run(const void *argument, unsigned thread) {
    const little_program *program = argument;
    for (unsigned i = 0; i < program->step_count[thread]; i++) {
        const step *s = &program->steps[thread][i];
        uint32_t *cell = &cells->cell[s->cell * 4], *saw = &cells->saw[thread][i], value = 1 + 10 * thread + i;
        switch (s->kind) {
        case LOAD: *saw = nm_atomic_load(cell, NM_ACQUIRE); break;
        case STORE: nm_atomic_store(cell, value, NM_RELEASE); break;
        case STORE_LOCKED: nm_atomic_store(cell, value, NM_SEQ_CST); break;
        case ADD: *saw = nm_atomic_add(cell, 100, NM_RELAXED); break;
        case CAS:
            *saw = 0;
            if (nm_atomic_cas(cell, saw, value, NM_RELAXED, NM_RELAXED)) *saw = 1000;
            break;
        case LOCKED_STORE:
            pthread_mutex_lock(&cells->lock);
            nm_atomic_store(cell, value, NM_RELAXED);
            *saw = nm_atomic_load(&cells->cell[(s->cell + 1) % CELLS * 4], NM_RELAXED);
            pthread_mutex_unlock(&cells->lock);
            break;
        case BARRIER: sched_barrier_all(); break;
        case SLEEP: *saw = sched_wait(cell, 0, UINT64_MAX); break;
        case SLEEP_TIMED: *saw = sched_wait(cell, 0, 1000); break;
        case WAKE: sched_wake(cell, 1); break;
        case YIELD: sched_yield_now(); break;
        default: abort();
        }
    }
}

static void check(const void *argument) {
    (void)argument;
    uint64_t hash = 1469598103934665603u;
    for (unsigned i = 0; i < CELLS; i++) hash = (hash ^ cells->cell[i * 4]) * 1099511628211u;
    for (unsigned i = 0; i < 3; i++)
        for (unsigned j = 0; j < STEPS_MAX; j++) hash = (hash ^ cells->saw[i][j]) * 1099511628211u;
    hash ^= hash >> 29;
    if (collecting == &whole && missing[0] == '\0' && !set_has(&reduced, hash)) sched_schedule(missing, sizeof missing);
    set_add(collecting, hash);
}

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t random_next(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static little_program make_program(uint64_t seed) {
    /* Loads and stores are what there are most of, as in real programs. */
    static const step_kind mix[] = {LOAD,         LOAD,    LOAD,         LOAD, STORE, STORE,
                                    STORE,        STORE,   STORE_LOCKED, ADD,  CAS,   LOCKED_STORE,
                                    LOCKED_STORE, BARRIER, SLEEP_TIMED,  WAKE, YIELD};
    little_program program = {.thread_count = 2 + (unsigned)(random_next(&seed) % 2)};
    unsigned cells_used = 1 + (unsigned)(random_next(&seed) % CELLS);
    for (unsigned t = 0; t < program.thread_count; t++) {
        program.step_count[t] = 1 + (unsigned)(random_next(&seed) % (program.thread_count == 2 ? STEPS_MAX : 3));
        for (unsigned i = 0; i < program.step_count[t]; i++)
            program.steps[t][i] = (step){.kind = mix[random_next(&seed) % (sizeof mix / sizeof mix[0])],
                                         .cell = (unsigned)(random_next(&seed) % cells_used)};
    }
    return program;
}

static void print_program(const little_program *program) {
    for (unsigned t = 0; t < program->thread_count; t++) {
        printf("    thread %u:", t);
        for (unsigned i = 0; i < program->step_count[t]; i++)
            printf(" %s %u;", step_names[program->steps[t][i].kind], program->steps[t][i].cell);
        printf("\n");
    }
}

static bool compare(uint64_t seed, sched_bounds bounds, uint64_t *reduced_count, uint64_t *whole_count) {
    little_program program = make_program(seed);
    sched_scenario scenario = {.name = "random",
                               .thread_count = program.thread_count,
                               .bounds = bounds,
                               .prepare = prepare,
                               .run = run,
                               .check = check,
                               .argument = &program};
    sched_result with, without;
    memset(&reduced, 0, sizeof reduced);
    memset(&whole, 0, sizeof whole);
    missing[0] = '\0';
    collecting = &reduced;
    sched_explore(&scenario, UINT64_MAX, &with);
    collecting = &whole;
    sched_explore_plain(&scenario, UINT64_MAX, &without);
    *reduced_count += with.executions;
    *whole_count += without.executions;
    if (with.exhausted && without.exhausted && set_equal(&reduced, &whole)) return true;
    printf("NEBULA_SEED=%" PRIu64 " (%u preemptions, %u stale, %u timeouts): %zu outcomes in %" PRIu64
           " executions, but %zu in %" PRIu64 " without reduction\n",
           seed, bounds.preemptions, bounds.stale, bounds.timeouts, reduced.count, with.executions, whole.count,
           without.executions);
    if (with.failed) printf("    reduced: %s\n", with.what);
    if (without.failed) printf("    whole: %s\n", without.what);
    print_program(&program);
    if (missing[0] != '\0') {
        char schedule[SCHED_SCHEDULE_BYTES];
        memcpy(schedule, missing, sizeof schedule);
        printf("    missed: %s\n", schedule);
        sched_replay(&scenario, schedule, true, &without);
    }
    return false;
}

int main(void) {
    const char *given = getenv("NEBULA_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : 1, reduced_count = 0, whole_count = 0;
    const char *count_given = getenv("NEBULA_SCHED_PROGRAMS");
    unsigned count = given != NULL         ? 1
                     : count_given != NULL ? (unsigned)strtoul(count_given, NULL, 0)
                                           : 300,
             bad = 0, pairs = 0;
    for (unsigned i = 0; i < count; i++, seed++)
        for (unsigned preemptions = 0; preemptions <= 3; preemptions++)
            for (unsigned stale = 0; stale <= preemptions && stale <= 2; stale += 2 - (preemptions < 2)) {
                sched_bounds bounds = {.preemptions = preemptions, .stale = stale, .timeouts = 1};
                bad += !compare(seed, bounds, &reduced_count, &whole_count);
                pairs++;
            }
    printf("%u pairs of %u random programs, %u differ; %" PRIu64 " executions instead of %" PRIu64 "\n", pairs, count,
           bad, reduced_count, whole_count);
    return bad == 0 ? 0 : 1;
}
