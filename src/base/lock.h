// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A lock for a few dozen instructions under it: taken and given back inline, by one exchange each.
 *
 * A mutex of libc costs some 60 instructions for a pair of calls (callgrind), more than the allocation under it. Here only who has to wait
 * goes to one: three states (Drepper, Futexes Are Tricky, 2011), with a condition variable where his has the futex. */
#ifndef NM_SRC_BASE_LOCK_H
#define NM_SRC_BASE_LOCK_H

#include <pthread.h>

#include "base/atomic.h"

typedef enum nm__lock_state { NM__LOCK_FREE, NM__LOCK_HELD, NM__LOCK_AWAITED } nm__lock_state;

typedef struct nm__lock {
    NM_ATOMIC(uint32_t) state;
    pthread_mutex_t waiting;
    pthread_cond_t given;
} nm__lock;

void nm__lock_open(nm__lock *lock);
void nm__lock_close(nm__lock *lock);
void nm__lock_wait(nm__lock *lock);
void nm__lock_wake(nm__lock *lock);

/* In the child of a fork, where this thread holds it: who waited for it is gone, and may have had a hand on what is waited with. */
void nm__lock_after_fork(nm__lock *lock);

static inline bool nm__lock_try(nm__lock *lock) {
    uint32_t seen = NM__LOCK_FREE;
    /* acquire: pairs with the release in nm__lock_give; what was written under the lock is seen */
    return nm_atomic_cas(&lock->state, &seen, (uint32_t)NM__LOCK_HELD, NM_ACQUIRE, NM_RELAXED);
}

static inline void nm__lock_take(nm__lock *lock) {
    if (__builtin_expect(!nm__lock_try(lock), 0)) nm__lock_wait(lock);
}

static inline void nm__lock_give(nm__lock *lock) {
    /* release: pairs with the acquire of the next holder */
    if (__builtin_expect(nm_atomic_exchange(&lock->state, (uint32_t)NM__LOCK_FREE, NM_RELEASE) == NM__LOCK_AWAITED, 0))
        nm__lock_wake(lock);
}

#endif
