// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "hand.h"

#include <time.h>

#include "testing.h"

static void *follow(void *arg) {
    hand *h = arg;
    pthread_mutex_lock(&h->lock);
    for (;;) {
        while (h->work == NULL && !h->ends) pthread_cond_wait(&h->changed, &h->lock);
        if (h->work == NULL) break;
        pthread_mutex_unlock(&h->lock);
        h->work(h->arg);
        pthread_mutex_lock(&h->lock);
        h->work = NULL;
        pthread_cond_broadcast(&h->changed);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

void hand_start(hand *h) {
    *h = (hand){.work = NULL};
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, NULL);
    assert_int_equal(pthread_create(&h->thread, NULL, follow, h), 0);
}

void hand_begin(hand *h, void (*work)(void *), void *arg) {
    hand_await(h);
    pthread_mutex_lock(&h->lock);
    h->work = work;
    h->arg = arg;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

void hand_await(hand *h) {
    pthread_mutex_lock(&h->lock);
    while (h->work != NULL) pthread_cond_wait(&h->changed, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

void hand_do(hand *h, void (*work)(void *), void *arg) {
    hand_begin(h, work, arg);
    hand_await(h);
}

bool hand_rests(hand *h) {
    pthread_mutex_lock(&h->lock);
    bool rests = h->work == NULL;
    pthread_mutex_unlock(&h->lock);
    return rests;
}

void hand_end(hand *h) {
    hand_await(h);
    pthread_mutex_lock(&h->lock);
    h->ends = true;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->changed);
}

double clock_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

void sleep_ms(unsigned ms) {
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}
