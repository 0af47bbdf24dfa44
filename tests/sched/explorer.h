// SPDX-License-Identifier: Apache-2.0 OR MIT
/* An explorer of thread schedules: runs a scenario of a few threads in every order that its bounds allow.
 *
 * Threads are fibers of one thread of the system. They change places only where shared memory is accessed, so an
 * execution is the sequence of choices made there: it can be repeated, and all of them can be gone through. README.md
 * tells what is modelled, what is not, and why what is left out finds nothing new. */
#ifndef NM_TESTS_SCHED_EXPLORER_H
#define NM_TESTS_SCHED_EXPLORER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCHED_THREADS 4u /* most of a scenario */

/* How far from the plain order of threads running one after the other an execution may go. */
typedef struct sched_bounds {
    unsigned preemptions; /* times that a thread has to stop though it could go on */
    unsigned stale;       /* accesses that do not see another thread's store because it is still in that processor's
                             store buffer; 0: sequential consistency, otherwise x86's total store order */
    unsigned timeouts;    /* waits whose time runs out while others could run */
} sched_bounds;

typedef struct sched_scenario {
    const char *name;
    unsigned thread_count;
    sched_bounds bounds;
    void (*prepare)(const void *argument);              /* once, by no thread, before all executions */
    void (*run)(const void *argument, unsigned thread); /* each thread, in each execution */
    void (*check)(const void *argument);                /* after each execution, by no thread */
    /* NULL, or told when a store of that thread, the so manieth of all, turns out not to have reached memory by now. */
    void (*unseen)(const void *argument, unsigned thread, uint64_t store);
    const void *argument;
} sched_scenario;

#define SCHED_SCHEDULE_BYTES 1024u
typedef struct sched_result {
    uint64_t executions; /* begun */
    uint64_t redundant;  /* of these, given up halfway: another one has the same effect */
    unsigned bound;      /* preemptions up to which all were gone through, or with which one failed */
    bool exhausted;
    bool failed;
    char what[512];
    char schedule[SCHED_SCHEDULE_BYTES];
} sched_result;

/* Goes through the executions with no preemption, one, two, ... up to the bound; ends with the first that fails, or
 * after execution_max. */
void sched_explore(const sched_scenario *scenario, uint64_t execution_max, sched_result *out);
/* The same without any reduction, and with all bounds at once: to compare with. To be called after the other. */
void sched_explore_plain(const sched_scenario *scenario, uint64_t execution_max, sched_result *out);
/* The one execution of that schedule. `print`: each access to shared memory as it happens. */
void sched_replay(const sched_scenario *scenario, const char *schedule, bool print, sched_result *out);

/* ---- for scenarios ----------------------------------------------------------------------------------------------- */

/* Ends the execution: it failed. Printf-like. */
_Noreturn void sched_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define SCHED_CHECK(condition, ...) ((condition) ? (void)0 : sched_fail(__VA_ARGS__))

/* Zeroed memory that is brought back to what it was after `prepare` at each execution; all that a scenario changes must
 * lie there. For `prepare`. */
void *sched_memory(size_t bytes);
/* What is there decides nothing, such as a count that is only shown: accesses to it are no points. For `prepare`. */
void sched_leave_out(const volatile void *p, size_t bytes);
/* For `prepare` and `check`: runs the function with the thread-local variables of that thread. */
void sched_as_thread(unsigned thread, void (*run)(void *context), void *context);
/* The same as a thread that has done nothing yet and is never heard of again. */
void sched_as_stranger(void (*run)(void *context), void *context);
/* Goes up with everything that happens: a clock for histories. */
unsigned sched_now(void);
/* Executions so far; 0 in a replay. */
uint64_t sched_executions(void);
/* Stores so far that went to a store buffer. */
uint64_t sched_stores(void);
/* The choices of this execution so far, as sched_replay takes them. */
void sched_schedule(char *out, size_t bytes);
/* A line of the replay's account. Printf-like. */
void sched_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The barrier on all processors. */
void sched_barrier_all(void);
/* As futex: sleeps while *p is `expected`. False: the time ran out. UINT64_MAX: no time-out. */
bool sched_wait(const uint32_t *p, uint32_t expected, uint64_t timeout_ns);
void sched_wake(const uint32_t *p, unsigned most);
void sched_yield_now(void);
/* The running thread will not end with its function: it has nothing more to do. */
void sched_stay(void);

/* Sleeps until the event of the library's table of system calls is readable; made by event_open, in `prepare`. */
void sched_await_event(void);

/* Bytes that the library has committed from the system, now; and whether those are among them. */
size_t sched_committed(void);
bool sched_is_committed(const void *p, size_t bytes);

#endif
