// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "base/process.h"

#include <pthread.h>
#include <stddef.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the list */
static nm__member *youngest, *oldest;
static pthread_cond_t left = PTHREAD_COND_INITIALIZER; /* a member has no visitor any more */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t end_key;
static bool has_end_key;

static void thread_ends(void *value) {
    (void)value;
    pthread_mutex_lock(&lock);
    for (nm__member *m = youngest; m != NULL; m = m->older) {
        if (m->class->thread_ends == NULL) continue;
        /* Without the lock: what is found may be told to a handler that opens a pool. */
        m->visitors++;
        pthread_mutex_unlock(&lock);
        m->class->thread_ends(m);
        pthread_mutex_lock(&lock);
        /* 0 already: this is the child of a fork by that handler */
        if (m->visitors != 0 && --m->visitors == 0) pthread_cond_broadcast(&left);
    }
    pthread_mutex_unlock(&lock);
}

static void before_fork(void) {
    pthread_mutex_lock(&lock);
    for (nm__member *m = youngest; m != NULL; m = m->older) m->class->before_fork(m);
}

static void after_fork(bool in_child) {
    for (nm__member *m = oldest; m != NULL; m = m->newer) m->class->after_fork(m, in_child);
    pthread_mutex_unlock(&lock);
}
static void in_parent(void) { after_fork(false); }
static void in_child(void) {
    /* Whoever visited is gone. */
    for (nm__member *m = oldest; m != NULL; m = m->newer) m->visitors = 0;
    pthread_cond_init(&left, NULL);
    after_fork(true);
}

static void listen(void) {
    has_end_key = pthread_key_create(&end_key, thread_ends) == 0;
    /* Fails only for want of memory; then a child of several threads is on its own. */
    (void)pthread_atfork(before_fork, in_parent, in_child);
}

void nm__process_join(nm__member *member, const nm__member_class *class) {
    pthread_once(&once, listen);
    pthread_mutex_lock(&lock);
    *member = (nm__member){.class = class, .older = youngest};
    if (youngest != NULL)
        youngest->newer = member;
    else
        oldest = member;
    youngest = member;
    pthread_mutex_unlock(&lock);
}

void nm__process_leave(nm__member *member) {
    pthread_mutex_lock(&lock);
    while (member->visitors != 0) pthread_cond_wait(&left, &lock);
    if (member->newer != NULL)
        member->newer->older = member->older;
    else
        youngest = member->older;
    if (member->older != NULL)
        member->older->newer = member->newer;
    else
        oldest = member->newer;
    pthread_mutex_unlock(&lock);
}

bool nm__process_watch_thread(void) {
    /* any value but NULL */
    return has_end_key && pthread_setspecific(end_key, &end_key) == 0;
}
