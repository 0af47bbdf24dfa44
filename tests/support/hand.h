// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A thread that does what a test tells it, one thing at a time: so that a test says, line by line, which thread does what, and
 * asserts on its own thread, where a failed assertion may jump away. */
#ifndef NM_TESTS_SUPPORT_HAND_H
#define NM_TESTS_SUPPORT_HAND_H

#include <pthread.h>
#include <stdbool.h>

typedef struct hand {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void (*work)(void *);
    void *arg;
    bool ends;
} hand;

void hand_start(hand *h);
/* Begins the work and returns; hand_await waits for its end. */
void hand_begin(hand *h, void (*work)(void *), void *arg);
void hand_await(hand *h);
/* Both. */
void hand_do(hand *h, void (*work)(void *), void *arg);
/* Is there no work under way? */
bool hand_rests(hand *h);
/* The thread ends. */
void hand_end(hand *h);

/* Milliseconds of the monotonic clock. */
double clock_ms(void);
void sleep_ms(unsigned ms);

#endif
