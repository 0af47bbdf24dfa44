// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the explorer's files share. */
#ifndef NM_TESTS_SCHED_ENGINE_H
#define NM_TESTS_SCHED_ENGINE_H

#include <ucontext.h>

#include "explorer.h"

typedef enum sched_kind {
    SCHED_LOAD,
    SCHED_STORE,
    SCHED_RMW,     /* read, modify, write; also of a mutex and of a queue of waiters. Empties the own store buffer */
    SCHED_BARRIER, /* on all processors: empties all store buffers */
} sched_kind;

typedef struct sched_access {
    const volatile void *p;
    size_t size;
    sched_kind kind;
} sched_access;

/* A store that other threads do not see yet. */
#define SCHED_BUFFER 32u
typedef struct sched_delayed {
    volatile void *p;
    size_t size;
    uint64_t value;
    uint64_t order;   /* of all stores */
    unsigned tick;    /* when it was made */
    bool loaded_past; /* its thread has read shared memory since: only then does it matter that it is delayed */
} sched_delayed;

typedef enum sched_state { SCHED_READY, SCHED_BLOCKED, SCHED_WAITING, SCHED_ENDED } sched_state;

typedef struct sched_thread {
    sched_state state;
    const void *on;      /* BLOCKED: the mutex; WAITING: the word or the condition variable */
    bool can_time_out;   /* WAITING */
    bool timed_out;      /* the last wait */
    uint64_t wake_at_ns; /* can_time_out */
    uint64_t queued;     /* WAITING: order of arrival */
    bool asleep;         /* preempted before `pending`, and nothing since has had to do with that */
    sched_access pending;
    sched_delayed buffer[SCHED_BUFFER]; /* oldest first */
    unsigned buffer_count;
    sched_delayed moved; /* .p not NULL: see sched_word_order */
    ucontext_t context;
    unsigned char *tls; /* its copy of the library's thread-local variables */
    void *keys[8];      /* pthread_getspecific */
    bool stays;         /* at its end it is only idle */
} sched_thread;

#define SCHED_BEGIN_NS ((uint64_t)1000 * 1000 * 1000) /* the clock, before each execution */

#define SCHED_NOBODY SCHED_THREADS /* the program itself, outside of the threads */

extern struct sched_engine {
    const sched_scenario *scenario;
    sched_thread threads[SCHED_THREADS + 1];
    unsigned current;
    bool tracing, showing; /* an account of this execution; of this access */
    bool replaying;
    bool plain; /* nothing is left out: a point at each access, also where another order has the same effect */
    unsigned tick;
    uint64_t store_order, queue_order;
    uint64_t clock_ns;
    sched_bounds limit, used;
} sched;

extern bool sched_active; /* an execution is under way, and it is a thread that runs */

/* ---- explore.c --------------------------------------------------------------------------------------------------- */

/* One of `count` targets, the first being the default. */
int sched_choose(const int *targets, unsigned count);
/* Ends the execution: another one that is gone through has the same effect. */
_Noreturn void sched_redundant(void);
_Noreturn void sched_complete(void);

/* ---- threads.c --------------------------------------------------------------------------------------------------- */

void sched_threads_start(void);
_Noreturn void sched_threads_go(void);
/* Before each access of the running thread to memory that may be shared: others may come first. True: it is shared. */
bool sched_point(const volatile void *p, size_t size, sched_kind kind, const char *site);
void sched_tls_begin(void);
void sched_keys_note(void);
void sched_keys_restore(void);
void sched_keys_forget(void);

/* ---- memory.c ---------------------------------------------------------------------------------------------------- */

void sched_buffer_drain(sched_thread *thread);
void sched_buffer_drain_all(void);
/* What is there once others' stores have been decided on; no point. */
uint64_t sched_look(const volatile void *p, size_t size);
/* A store in it is of memory that threads share. */
bool sched_buffer_has_shared(const sched_thread *thread);

/* ---- world.c ----------------------------------------------------------------------------------------------------- */

void sched_world_open(void);
/* Notes the state that each execution begins with, and brings it back. */
void sched_world_note(void);
void sched_world_restore(void);
void *sched_world_stack(unsigned thread, size_t *bytes);
bool sched_world_is_stack(const volatile void *p);
/* Where the library's thread-local variables of this thread of the system are. */
void *sched_world_tls(size_t *bytes);
const void *sched_world_first_tls(void);
/* "arena+0x123", for people. */
const char *sched_world_name(const volatile void *p, char *out, size_t bytes);

/* Notes that a thread reads or writes there. True: it is known to be shared, which is to say that two threads touch it
 * and one of them writes. */
bool sched_shared_note(const volatile void *p, size_t size, bool writes, unsigned thread);
bool sched_shared_is_known(const volatile void *p, size_t size);
/* Takes up what was found out since. True: there was something. */
bool sched_shared_learn(void);
void sched_shared_forget(void);

#endif
