// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "base/lock.h"

/* Looks before it sleeps: what is done under such a lock is over sooner than a sleep begins. With the pauses some two microseconds, a
 * quarter of what a sleep and a wake cost. */
#define LOOKS 50

static inline void pause_a_little(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

void nm__lock_open(nm__lock *lock) {
    lock->state = NM__LOCK_FREE;
    pthread_mutex_init(&lock->waiting, NULL);
    pthread_cond_init(&lock->given, NULL);
}

void nm__lock_close(nm__lock *lock) {
    pthread_cond_destroy(&lock->given);
    pthread_mutex_destroy(&lock->waiting);
}

void nm__lock_after_fork(nm__lock *lock) {
    nm__lock_open(lock);
    lock->state = NM__LOCK_HELD;
}

void nm__lock_wait(nm__lock *lock) {
    for (int i = 0; i < LOOKS; i++) {
        if (nm_atomic_load(&lock->state, NM_RELAXED) == NM__LOCK_FREE && nm__lock_try(lock)) return;
        pause_a_little();
    }
    pthread_mutex_lock(&lock->waiting);
    /* Whoever gives the lock back after this exchange finds that it is awaited, and has to pass through the mutex, which
     * is down only while this thread sleeps: the wake cannot come before the sleep. Taken as awaited, for there may be
     * more sleepers. acquire: as in nm__lock_try */
    while (nm_atomic_exchange(&lock->state, (uint32_t)NM__LOCK_AWAITED, NM_ACQUIRE) != NM__LOCK_FREE)
        pthread_cond_wait(&lock->given, &lock->waiting);
    pthread_mutex_unlock(&lock->waiting);
}

void nm__lock_wake(nm__lock *lock) {
    pthread_mutex_lock(&lock->waiting);
    pthread_cond_signal(&lock->given);
    pthread_mutex_unlock(&lock->waiting);
}
