// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Blocks that were undone and closed arenas, kept out of use for a while, so that a write to them is found out. */
#include "arena/watch.h"

#include <pthread.h>

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

static void release_oldest(nm__arena *a) {
    nm__arena_watch *w = a->watch;
    nm__arena_block *b = w->held_first;
    w->held_first = b->previous;
    if (w->held_first == NULL) w->held_last = NULL;
    w->held_bytes -= b->block.granted;
    const unsigned char *p = nm__arena_payload(b), *end = p + b->used_before;
    unsigned char byte = a->secret ? 0 : NM__FILL_UNDONE;
    while (p < end && *p == byte) p++;
    if (p < end) nm__arena_report(a, "arena memory written after it was undone", p, NULL);
    nm__arena_give(a, &b->block);
}

void nm__arena_hold(nm__arena *a, nm__arena_block *b, size_t filled) {
    nm__arena_watch *w = a->watch;
    b->used_before = filled;
    b->previous = NULL;
    if (w->held_last != NULL)
        w->held_last->previous = b;
    else
        w->held_first = b;
    w->held_last = b;
    w->held_bytes += b->block.granted;
    while (w->held_bytes > w->held_limit) release_oldest(a);
}

bool nm__arena_release_held(nm__arena *a) {
    bool any = a->watch->held_first != NULL;
    while (a->watch->held_first != NULL) release_oldest(a);
    return any;
}

/* ---- closed arenas ----------------------------------------------------------------------------------------------- */

/* All of the process: few, so that it costs little, and one place, so that it is bounded. Each is its scope's until then. */
#define BURIED_MAX 32
static struct {
    pthread_mutex_t lock;
    nm__arena *arenas[BURIED_MAX]; /* oldest first */
    size_t count;
} grave = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void take_out(size_t i) {
    grave.count--;
    for (; i < grave.count; i++) grave.arenas[i] = grave.arenas[i + 1];
}

/* The oldest of that scope, which is no more in the list then. */
static nm__arena *take_out_of_scope(const nm_scope *scope) {
    nm__arena *found = NULL;
    pthread_mutex_lock(&grave.lock);
    for (size_t i = 0; i < grave.count && found == NULL; i++)
        if (grave.arenas[i]->holder.scope == scope) {
            found = grave.arenas[i];
            take_out(i);
        }
    pthread_mutex_unlock(&grave.lock);
    return found;
}

static void close_for_good(nm__arena *a) {
    nm__arena_watch_close(a);
    nm__holder_remove(&a->holder);
    nm__holder_give_record(&a->holder, a);
}

bool nm__arena_bury(nm__arena *a) {
    nm__arena_log_close(a);
    a->closed = a->running = true;
    a->status = NM_ECLOSED;
    a->extra_bytes = 0;
    nm__arena_settle(a);
    for (;;) {
        pthread_mutex_lock(&grave.lock);
        bool room = grave.count < BURIED_MAX;
        if (room) grave.arenas[grave.count++] = a;
        pthread_mutex_unlock(&grave.lock);
        if (room) return true;
        /* another scope's arenas are not ours to close: that scope may be closing on another thread */
        nm__arena *oldest = take_out_of_scope(a->holder.scope);
        if (oldest == NULL) return false;
        close_for_good(oldest);
    }
}

void nm__arena_exhume(nm__arena *a) {
    pthread_mutex_lock(&grave.lock);
    for (size_t i = 0; i < grave.count; i++)
        if (grave.arenas[i] == a) {
            take_out(i);
            break;
        }
    pthread_mutex_unlock(&grave.lock);
}

bool nm__arena_release_buried(const nm_scope *scope) {
    bool any = false;
    for (nm__arena *a; (a = take_out_of_scope(scope)) != NULL; any = true) close_for_good(a);
    return any;
}
