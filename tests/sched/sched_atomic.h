// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Included before everything else (-include) where the library is compiled for the explorer: each access to memory that
 * threads share, and each call that may block, becomes a call of the explorer. */
#ifndef NM_TESTS_SCHED_SCHED_ATOMIC_H
#define NM_TESTS_SCHED_SCHED_ATOMIC_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h" /* first, so that its include guard keeps it from undoing what follows */
#include "faults.h"

extern bool sched_active; /* an execution is under way, and it is a thread that runs */
uint64_t sched_load(const volatile void *p, size_t size, const char *site);
void sched_store(volatile void *p, size_t size, uint64_t value, int order, const char *site);
uint64_t sched_exchange(volatile void *p, size_t size, uint64_t value, const char *site);
uint64_t sched_add(volatile void *p, size_t size, uint64_t value, const char *site);
uint64_t sched_or(volatile void *p, size_t size, uint64_t value, const char *site);
uint64_t sched_and(volatile void *p, size_t size, uint64_t value, const char *site);
bool sched_cas(volatile void *p, size_t size, void *expected, uint64_t desired, const char *site);
void sched_word_order(void);
void sched_raise(size_t *p, size_t value, const char *site);

#define SCHED_STR_(x)        #x
#define SCHED_STR(x)         SCHED_STR_(x)
#define SCHED_SITE           (__FILE__ ":" SCHED_STR(__LINE__))
#define SCHED_AS(p, value)   __extension__({ (__typeof__(*(p)))(value); })
#define SCHED_WORD(p, value) ((uint64_t)(__typeof__(*(p)))(value))

#undef NM_ATOMIC_PAIRS /* each word is a point */
#undef nm_atomic_load
#undef nm_atomic_store
#undef nm_atomic_exchange
#undef nm_atomic_add
#undef nm_atomic_sub
#undef nm_atomic_or
#undef nm_atomic_and
#undef nm_atomic_cas
#undef nm_atomic_cas_weak
/* Most accesses of all are loads that look over many slots between two executions. */
#define nm_atomic_load(p, order)                                                                                       \
    (sched_active ? SCHED_AS(p, sched_load((p), sizeof *(p), SCHED_SITE)) : __atomic_load_n((p), __ATOMIC_RELAXED))
#define nm_atomic_store(p, value, order) sched_store((p), sizeof *(p), SCHED_WORD(p, value), (order), SCHED_SITE)
#define nm_atomic_exchange(p, value, order)                                                                            \
    SCHED_AS(p, sched_exchange((p), sizeof *(p), SCHED_WORD(p, value), SCHED_SITE))
#define nm_atomic_add(p, value, order) SCHED_AS(p, sched_add((p), sizeof *(p), SCHED_WORD(p, value), SCHED_SITE))
#define nm_atomic_sub(p, value, order) SCHED_AS(p, sched_add((p), sizeof *(p), 0 - SCHED_WORD(p, value), SCHED_SITE))
#define nm_atomic_or(p, value, order)  SCHED_AS(p, sched_or((p), sizeof *(p), SCHED_WORD(p, value), SCHED_SITE))
#define nm_atomic_and(p, value, order) SCHED_AS(p, sched_and((p), sizeof *(p), SCHED_WORD(p, value), SCHED_SITE))
#define nm_atomic_cas(p, expected, desired, success, failure)                                                          \
    sched_cas((p), sizeof *(p), (expected), SCHED_WORD(p, desired), SCHED_SITE)
#define nm_atomic_cas_weak(p, expected, desired, success, failure) nm_atomic_cas(p, expected, desired, success, failure)
#define nm_atomic_raise(p, value)                                  sched_raise((p), (value), SCHED_SITE)

/* The pool's inline path. */
#define nm__word_load(p, order)         nm_atomic_load(p, order)
#define nm__word_store(p, value, order) nm_atomic_store(p, value, order)
#define nm__word_order()                sched_word_order() /* calls keep their order anyway: for a fault */

/* The address of this variable is what tells threads apart, and it is the same for all fibers. So each has a pointer to
 * its own in that place: `*pointer` declares as it is used. */
#define nm__thread (*nm__thread_pointer)

/* Calls that may block, and what belongs to a thread. */
int sched_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes);
int sched_mutex_destroy(pthread_mutex_t *mutex);
int sched_mutex_lock(pthread_mutex_t *mutex, const char *site);
int sched_mutex_trylock(pthread_mutex_t *mutex, const char *site);
int sched_mutex_unlock(pthread_mutex_t *mutex, const char *site);
int sched_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attributes);
int sched_cond_destroy(pthread_cond_t *cond);
int sched_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, const char *site);
int sched_cond_wake(pthread_cond_t *cond, bool all, const char *site);
int sched_key_create(pthread_key_t *key, void (*destroy)(void *));
int sched_key_delete(pthread_key_t key);
void *sched_key_get(pthread_key_t key);
int sched_key_set(pthread_key_t key, const void *value);

#define pthread_mutex_init(mutex, attributes) sched_mutex_init((mutex), (attributes))
#define pthread_mutex_destroy(mutex)          sched_mutex_destroy(mutex)
#define pthread_mutex_lock(mutex)             sched_mutex_lock((mutex), SCHED_SITE)
#define pthread_mutex_trylock(mutex)          sched_mutex_trylock((mutex), SCHED_SITE)
#define pthread_mutex_unlock(mutex)           sched_mutex_unlock((mutex), SCHED_SITE)
#define pthread_cond_init(cond, attributes)   sched_cond_init((cond), (attributes))
#define pthread_cond_destroy(cond)            sched_cond_destroy(cond)
#define pthread_cond_wait(cond, mutex)        sched_cond_wait((cond), (mutex), SCHED_SITE)
#define pthread_cond_signal(cond)             sched_cond_wake((cond), false, SCHED_SITE)
#define pthread_cond_broadcast(cond)          sched_cond_wake((cond), true, SCHED_SITE)
#define pthread_key_create(key, destroy)      sched_key_create((key), (destroy))
#define pthread_key_delete(key)               sched_key_delete(key)
#define pthread_getspecific(key)              sched_key_get(key)
#define pthread_setspecific(key, value)       sched_key_set((key), (value))

#endif
