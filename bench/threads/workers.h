// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The threads that measure. They live as long as the program, so that what a pool or a cache keeps for a thread is warm
 * in the second round as in the last; those that have no part in a work sleep. */
#ifndef NM_BENCH_THREADS_WORKERS_H
#define NM_BENCH_THREADS_WORKERS_H

#include <sched.h>

#define WORKERS_MAX 8

/* The number of the calling thread among those that measure, from 0. */
extern __thread unsigned workers_number;

/* A turn of a loop that waits for another thread; lets it run where both share a processor. */
static inline void workers_wait(unsigned *turns) {
    if (++*turns % 4096 == 0) sched_yield();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

typedef void workers_task(unsigned thread, void *argument);

void workers_start(void);
/* Up to as many threads as there are processors get one each; more than that run where the system puts them. */
void workers_place(unsigned threads);
/* Lets all threads of another process, and those that they start, run on the processors that so many threads of ours
 * get. */
void workers_confine(int process, unsigned threads);
/* Runs the task in that many threads, and returns when all are done. */
void workers_run(unsigned threads, workers_task *task, void *argument);
/* For tasks: returns when all threads of this run have come here, so that they begin together. */
void workers_meet(void);
void workers_stop(void);

#endif
