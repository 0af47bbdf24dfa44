// SPDX-License-Identifier: Apache-2.0 OR MIT
/* One thread hands pointers to another: a ring with one producer and one consumer, the same for all subjects.
 *
 * Each side shows the other how far it is after every POOL_HAND items, and keeps what it last saw of the other: so the
 * lines of the indices travel seldom, whichever side is faster, and what is left in the measurement is the pool's. NULL
 * means the end. */
#ifndef NM_BENCH_POOL_RING_H
#define NM_BENCH_POOL_RING_H

#include <stddef.h>

#include "threads/workers.h"

#define POOL_RING 256u /* a power of two */

#define POOL_HAND 32u /* a divisor of it */

/* Two lines apart: the processor fetches lines in pairs. */
#define POOL__OWN_LINES __attribute__((__aligned__(128)))

typedef struct pool_ring {
    POOL__OWN_LINES size_t tail; /* the producer's; `shown` lags behind */
    size_t head_seen;
    POOL__OWN_LINES size_t tail_shown;
    POOL__OWN_LINES size_t head; /* the consumer's */
    size_t tail_seen;
    POOL__OWN_LINES size_t head_shown;
    POOL__OWN_LINES void *items[POOL_RING];
} pool_ring;

/* Shows the consumer all that has been pushed. */
static inline void pool_ring_flush(pool_ring *ring) {
    __atomic_store_n(&ring->tail_shown, ring->tail, __ATOMIC_RELEASE);
}

static inline void pool_ring_push(pool_ring *ring, void *item) {
    size_t tail = ring->tail;
    for (unsigned turns = 0; tail - ring->head_seen == POOL_RING; workers_wait(&turns))
        ring->head_seen = __atomic_load_n(&ring->head_shown, __ATOMIC_ACQUIRE);
    ring->items[tail % POOL_RING] = item;
    ring->tail = tail + 1;
    if (ring->tail % POOL_HAND == 0) pool_ring_flush(ring);
}

static inline void *pool_ring_pop(pool_ring *ring) {
    size_t head = ring->head;
    for (unsigned turns = 0; head == ring->tail_seen; workers_wait(&turns))
        ring->tail_seen = __atomic_load_n(&ring->tail_shown, __ATOMIC_ACQUIRE);
    void *item = ring->items[head % POOL_RING];
    ring->head = head + 1;
    if (ring->head % POOL_HAND == 0) __atomic_store_n(&ring->head_shown, ring->head, __ATOMIC_RELEASE);
    return item;
}

#endif
