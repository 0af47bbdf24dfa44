// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The threads that measure. They live as long as the program, so that what a pool keeps for a thread is warm in the second
 * round as in the last; those that have no part in a work sleep. */
#ifndef NM_BENCH_POOL_WORKERS_H
#define NM_BENCH_POOL_WORKERS_H

typedef void workers_task(unsigned thread, void *argument);

void workers_start(void);
/* Up to as many threads as there are processors get one each; more than that run where the system puts them. */
void workers_place(unsigned threads);
/* Runs the task in that many threads, and returns when all are done. */
void workers_run(unsigned threads, workers_task *task, void *argument);
/* For tasks: returns when all threads of this run have come here, so that they begin together. */
void workers_meet(void);
void workers_stop(void);

#endif
