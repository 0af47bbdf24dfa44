// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Goes through the executions: depth first, each from its beginning, with the last choice that has an alternative left
 * replaced by the next one (Godefroid 1997), and with 0, 1, 2, ... preemptions (Musuvathi and Qadeer 2007). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sigaltstack, setitimer */
#endif
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "engine.h"

struct sched_engine sched;
bool sched_active;

#define CHOICES 4096u
#define TARGETS 8u

/* A place where there was more than one way to go on. */
typedef struct sched_choice {
    unsigned tick;
    uint8_t count, chosen;
    int8_t targets[TARGETS];
} sched_choice;

static struct {
    sched_choice choices[CHOICES];
    unsigned depth;   /* choices of this execution so far */
    unsigned decided; /* the first so many are given */
    uint64_t executions;
    uint64_t executed; /* also in replays */
    bool executing;
    const char *replay;
    enum { COMPLETE, REDUNDANT, FAILED } end;
    char what[512];
    jmp_buf back;
} plan;

uint64_t sched_executions(void) { return sched.replaying ? 0 : plan.executions; }
unsigned sched_now(void) { return sched.tick; }

void sched_say(const char *format, ...) {
    if (!sched.tracing) return;
    va_list arguments;
    va_start(arguments, format);
    if (sched.current < SCHED_THREADS)
        printf("%6u  %*sthread %u  ", sched.tick, (int)(4 * sched.current), "", sched.current);
    else
        printf("%6u  ", sched.tick);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

/* ---- choices ----------------------------------------------------------------------------------------------------- */

/* The schedule has "tick:target" for each choice that is not the default, and for all those about store buffers, whose
 * targets are negative: there may be several in one tick. */
static int replayed(const int *targets, unsigned count) {
    if (plan.replay == NULL || *plan.replay == '\0') return targets[0];
    char *end;
    unsigned long tick = strtoul(plan.replay, &end, 10);
    if (tick != sched.tick || *end != ':') return targets[0];
    int target = (int)strtol(end + 1, &end, 10);
    for (unsigned i = 0; i < count; i++)
        if (targets[i] == target) {
            plan.replay = *end == ',' ? end + 1 : end;
            return target;
        }
    return targets[0];
}

int sched_choose(const int *targets, unsigned count) {
    if (count > TARGETS) sched_fail("explorer: %u ways to go on, more than it can note", count);
    if (sched.replaying) return replayed(targets, count);
    if (count == 1) return targets[0];
    if (plan.depth == CHOICES) sched_fail("explorer: more than %u choices in one execution", CHOICES);
    sched_choice *choice = &plan.choices[plan.depth++];
    if (plan.depth <= plan.decided) {
        if (choice->tick != sched.tick || choice->count != count)
            sched_fail("explorer: the same choices led elsewhere (%u ways at %u, before that %u at %u)", count,
                       sched.tick, choice->count, choice->tick);
        return choice->targets[choice->chosen];
    }
    choice->tick = sched.tick;
    choice->count = (uint8_t)count;
    choice->chosen = 0;
    for (unsigned i = 0; i < count; i++) choice->targets[i] = (int8_t)targets[i];
    return targets[0];
}

/* The next execution, or false: that was all. */
static bool next_plan(void) {
    unsigned depth = plan.depth;
    while (depth > 0 && plan.choices[depth - 1].chosen + 1u == plan.choices[depth - 1].count) depth--;
    if (depth == 0) return false;
    plan.choices[depth - 1].chosen++;
    plan.decided = depth;
    return true;
}

void sched_schedule(char *out, size_t bytes) {
    size_t used = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < plan.depth; i++) {
        const sched_choice *choice = &plan.choices[i];
        if (choice->chosen == 0 && choice->targets[0] >= 0) continue;
        int n = snprintf(out + used, bytes - used, "%s%u:%d", used != 0 ? "," : "", choice->tick,
                         choice->targets[choice->chosen]);
        if (n < 0 || (size_t)n >= bytes - used) break;
        used += (size_t)n;
    }
}

/* ---- what must not happen ---------------------------------------------------------------------------------------- */

static void crashed(int number) {
    if (!plan.executing) _exit(128 + number);
    sched_fail("crashes with signal %d", number);
}

/* An execution takes microseconds. One that is still under way at the second alarm does not access shared memory any
 * more, or sched_point would have counted. */
static void too_long(int number) {
    (void)number;
    static uint64_t last;
    if (plan.executing && last == plan.executed) sched_fail("no end of a loop that does not look at shared memory");
    last = plan.executed;
}

static void catch_signals(bool begin) {
    static unsigned char stack[65536];
    const stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    const struct itimerval every = {{begin ? 2 : 0, 0}, {begin ? 2 : 0, 0}};
    struct sigaction action = {.sa_flags = SA_ONSTACK | SA_NODEFER};
    sigaltstack(&alternative, NULL);
    action.sa_handler = begin ? crashed : SIG_DFL;
    for (size_t i = 0; i < sizeof crashes / sizeof crashes[0]; i++) sigaction(crashes[i], &action, NULL);
    action.sa_handler = begin ? too_long : SIG_IGN;
    action.sa_flags |= SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
}

/* ---- one execution ----------------------------------------------------------------------------------------------- */

static _Noreturn void leave(int end) {
    plan.end = end;
    sched_active = false;
    /* From a fiber's stack to the program's: both are there, and nothing between them has to be undone. */
    longjmp(plan.back, 1);
}

_Noreturn void sched_redundant(void) { leave(REDUNDANT); }
_Noreturn void sched_complete(void) { leave(COMPLETE); }

_Noreturn void sched_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(plan.what, sizeof plan.what, format, arguments);
    va_end(arguments);
    sched_say("FAILED: %s", plan.what);
    leave(FAILED);
}

static void execute(void) {
    plan.executing = true;
    plan.executed++;
    plan.depth = 0;
    plan.what[0] = '\0';
    sched_world_restore();
    sched_threads_start();
    if (setjmp(plan.back) == 0) sched_threads_go();
    if (plan.end == COMPLETE) {
        sched.current = SCHED_NOBODY;
        sched_buffer_drain_all();
        sched_tls_begin();
        if (setjmp(plan.back) == 0) {
            sched.scenario->check(sched.scenario->argument);
            plan.end = COMPLETE;
        }
    }
    sched_active = false;
    sched.current = SCHED_NOBODY;
    plan.executing = false;
}

static void begin(const sched_scenario *scenario, bool forget, sched_result *out) {
    memset(out, 0, sizeof *out);
    memset(&sched, 0, sizeof sched);
    sched.scenario = scenario;
    sched.current = SCHED_NOBODY;
    sched.clock_ns = SCHED_BEGIN_NS;
    sched_world_open();
    sched_keys_forget();
    if (forget) sched_shared_forget();
    if (setjmp(plan.back) == 0) {
        scenario->prepare(scenario->argument);
        sched_world_note();
        return;
    }
    out->failed = true;
    snprintf(out->what, sizeof out->what, "before the first execution: %.400s", plan.what);
}

/* All executions within sched.limit. False: one failed, or they were too many. */
static bool explore_within(uint64_t execution_max, sched_result *out) {
again:
    plan.decided = 0;
    for (;;) {
        if (out->executions == execution_max) return false;
        plan.executions = ++out->executions;
        execute();
        /* Have switch points come to be known? Then choices had more alternatives. What failed will fail again. */
        if (sched_shared_learn()) goto again;
        if (plan.end == FAILED) {
            out->failed = true;
            memcpy(out->what, plan.what, sizeof out->what);
            sched_schedule(out->schedule, sizeof out->schedule);
            return false;
        }
        out->redundant += plan.end == REDUNDANT;
        if (!next_plan()) return true;
    }
}

static bool explore_bound(uint64_t execution_max, sched_result *out) {
    catch_signals(true);
    bool all = explore_within(execution_max, out);
    catch_signals(false);
    return all;
}

void sched_explore(const sched_scenario *scenario, uint64_t execution_max, sched_result *out) {
    begin(scenario, true, out);
    if (out->failed) return;
    const sched_bounds *bounds = &scenario->bounds;
    for (unsigned bound = 0; bound <= bounds->preemptions; bound++) {
        out->bound = bound;
        sched.limit = *bounds;
        sched.limit.preemptions = bound;
        if (sched.limit.stale > bound) sched.limit.stale = bound;
        if (!explore_bound(execution_max, out)) return;
    }
    out->exhausted = true;
}

void sched_explore_plain(const sched_scenario *scenario, uint64_t execution_max, sched_result *out) {
    begin(scenario, false, out);
    if (out->failed) return;
    sched.plain = true;
    sched.limit = scenario->bounds;
    out->bound = scenario->bounds.preemptions;
    out->exhausted = explore_bound(execution_max, out);
}

void sched_replay(const sched_scenario *scenario, const char *schedule, bool print, sched_result *out) {
    begin(scenario, true, out);
    if (!out->failed) {
        catch_signals(true);
        plan.replay = schedule;
        sched.replaying = true;
        sched.plain = true;
        sched.limit = (sched_bounds){.preemptions = CHOICES, .stale = CHOICES, .timeouts = CHOICES};
        out->executions = 2; /* the first tells what is shared */
        execute();
        (void)sched_shared_learn();
        plan.replay = schedule;
        sched.tracing = print;
        execute();
        sched.tracing = false;
        catch_signals(false);
        out->failed = plan.end == FAILED;
        memcpy(out->what, plan.what, sizeof out->what);
    }
    sched.replaying = false;
}
