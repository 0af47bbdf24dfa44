// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "bench.h"

#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>

#include "threads/workers.h"

__thread unsigned workers_number;

typedef struct worker {
    pthread_t thread;
    sem_t go;
    unsigned number;
} worker;

static worker workers[WORKERS_MAX];
static sem_t done;
static cpu_set_t everywhere; /* where the program may run */
/* Of the run at hand; written before the workers are woken. */
static workers_task *task; /* NULL: end */
static void *argument;
static unsigned running;
static unsigned arrived; /* at the meeting point */

static void fail(const char *what) {
    fprintf(stderr, "bench: threads that measure: %s\n", what);
    exit(1);
}

static void *worker_main(void *arg) {
    worker *w = arg;
    workers_number = w->number;
    for (;;) {
        while (sem_wait(&w->go) != 0) {
        }
        if (task == NULL) return NULL;
        task(w->number, argument);
        sem_post(&done);
    }
}

void workers_start(void) {
    if (sched_getaffinity(0, sizeof everywhere, &everywhere) != 0 || sem_init(&done, 0, 0) != 0)
        fail("cannot be set up");
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        workers[i].number = i;
        if (sem_init(&workers[i].go, 0, 0) != 0 ||
            pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
            fail("one was refused");
    }
}

void workers_place(unsigned threads) {
    unsigned processors = (unsigned)CPU_COUNT(&everywhere);
    int cpu = -1;
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        cpu_set_t set = everywhere;
        if (i < threads && threads <= processors) {
            do cpu++;
            while (!CPU_ISSET(cpu, &everywhere));
            CPU_ZERO(&set);
            CPU_SET(cpu, &set);
        }
        static bool said;
        if (pthread_setaffinity_np(workers[i].thread, sizeof set, &set) != 0 && !said) {
            fprintf(stderr, "bench: threads are not pinned to processors: not allowed\n");
            said = true;
        }
    }
}

/* Best effort, as the pinning is: threads may come and go meanwhile. */
void workers_confine(int process, unsigned threads) {
    char path[64];
    cpu_set_t set = everywhere;
    for (int cpu = 0, left = (int)threads; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &everywhere) && left-- <= 0) CPU_CLR(cpu, &set);
    snprintf(path, sizeof path, "/proc/%d/task", process);
    DIR *tasks = opendir(path);
    if (tasks == NULL) return;
    for (struct dirent *t; (t = readdir(tasks)) != NULL;) {
        int id = (int)strtol(t->d_name, NULL, 10);
        if (id > 0) (void)sched_setaffinity(id, sizeof set, &set);
    }
    closedir(tasks);
}

void workers_run(unsigned threads, workers_task *run, void *with) {
    task = run;
    argument = with;
    running = threads;
    arrived = 0;
    for (unsigned i = 0; i < threads; i++) sem_post(&workers[i].go);
    for (unsigned i = 0; i < threads; i++)
        while (sem_wait(&done) != 0) {
        }
}

void workers_meet(void) {
    __atomic_fetch_add(&arrived, 1, __ATOMIC_ACQ_REL);
    for (unsigned turns = 0; __atomic_load_n(&arrived, __ATOMIC_ACQUIRE) != running;) workers_wait(&turns);
}

void workers_stop(void) {
    task = NULL;
    for (unsigned i = 0; i < WORKERS_MAX; i++) sem_post(&workers[i].go);
    for (unsigned i = 0; i < WORKERS_MAX; i++) pthread_join(workers[i].thread, NULL);
}
