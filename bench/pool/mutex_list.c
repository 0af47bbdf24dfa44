// SPDX-License-Identifier: Apache-2.0 OR MIT
/* mutex_list: the pool that everybody writes first. The links lie inside the free buffers, as usual; for many buffers the
 * lock is taken once. */
#include "bench.h"

#include <pthread.h>

#include "pool/subject.h"
#include "pool/ticks.h"

typedef struct node {
    struct node *next;
} node;

typedef struct list {
    pthread_mutex_t lock;
    node *free;
    pool_memory memory;
} list;

static void *list_open(const pool_subject *self, size_t bytes, size_t count) {
    (void)self;
    list *l = calloc(1, sizeof *l);
    if (l == NULL || pthread_mutex_init(&l->lock, NULL) != 0 || !pool_memory_open(&l->memory, bytes, count))
        return NULL;
    for (size_t i = count; i-- > 0;) {
        node *n = pool_memory_at(&l->memory, i);
        n->next = l->free;
        l->free = n;
    }
    return l;
}

static void list_close(void *context) {
    list *l = context;
    pool_memory_close(&l->memory);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static inline size_t take(list *l, void **out, size_t n) {
    size_t count = 0;
    pthread_mutex_lock(&l->lock);
    for (; count < n && l->free != NULL; count++) {
        out[count] = l->free;
        l->free = l->free->next;
    }
    pthread_mutex_unlock(&l->lock);
    return count;
}

static inline void give(list *l, void **held, size_t n) {
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < n; i++) {
        node *freed = held[i];
        freed->next = l->free;
        l->free = freed;
    }
    pthread_mutex_unlock(&l->lock);
}

#define SUBJECT            mutex_list
#define LOCALS(context)    list *l = (context)
#define TAKE(h)            (take(l, h, 1) == 1)
#define GIVE(h)            give(l, h, 1)
#define TAKE_MANY(held, n) take(l, held, n)
#define GIVE_MANY(held, n) give(l, held, n)
#include "pool/loops.h"

void pool_add_mutex_list(pool_list *out) {
    pool_subject subject = {
        .holder = "no", .travels = "address", .capped = true, .open = list_open, .close = list_close};
    mutex_list_loops(&subject);
    pool_list_add(out, &subject);
}
