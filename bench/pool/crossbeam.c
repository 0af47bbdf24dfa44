// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The straightforward pool in Rust: crossbeam's SegQueue of addresses, and its ArrayQueue, which is bounded. Each call is one
 * direct call into a static library, about a nanosecond that a Rust program might save by inlining; first in, first
 * out. */
#include "bench.h"

#include "pool/subject.h"
#include "pool/ticks.h"

void *pool_seg_queue_new(void);
void pool_seg_queue_push(void *queue, uintptr_t buffer);
uintptr_t pool_seg_queue_pop(void *queue);
void pool_seg_queue_free(void *queue);
void *pool_array_queue_new(uintptr_t capacity);
bool pool_array_queue_push(void *queue, uintptr_t buffer);
uintptr_t pool_array_queue_pop(void *queue);
void pool_array_queue_free(void *queue);

typedef struct setup {
    void *queue;
    pool_memory memory;
} setup;

static inline bool take(uintptr_t popped, void **out) {
    *out = (void *)popped;
    return popped != 0;
}

static inline void give_array(void *queue, void *buffer) {
    if (POOL_UNLIKELY(!pool_array_queue_push(queue, (uintptr_t)buffer))) pool_fail("crossbeam", "the queue is full");
}

#define SUBJECT   crossbeam_segqueue
#define LOCALS(c) void *queue = ((const setup *)(c))->queue
#define TAKE(h)   take(pool_seg_queue_pop(queue), h)
#define GIVE(h)   pool_seg_queue_push(queue, (uintptr_t) * (h))
#include "pool/loops.h"

#define SUBJECT   crossbeam_arrayqueue
#define LOCALS(c) void *queue = ((const setup *)(c))->queue
#define TAKE(h)   take(pool_array_queue_pop(queue), h)
#define GIVE(h)   give_array(queue, *(h))
#include "pool/loops.h"

static void *seg_open(const pool_subject *self, size_t bytes, size_t count) {
    (void)self;
    setup *c = malloc(sizeof *c);
    if (c == NULL || !pool_memory_open(&c->memory, bytes, count)) return NULL;
    c->queue = pool_seg_queue_new();
    for (size_t i = 0; i < count; i++) pool_seg_queue_push(c->queue, (uintptr_t)pool_memory_at(&c->memory, i));
    return c;
}

static void seg_close(void *context) {
    setup *c = context;
    pool_seg_queue_free(c->queue);
    pool_memory_close(&c->memory);
    free(c);
}

static void *array_open(const pool_subject *self, size_t bytes, size_t count) {
    (void)self;
    setup *c = malloc(sizeof *c);
    if (c == NULL || !pool_memory_open(&c->memory, bytes, count)) return NULL;
    c->queue = pool_array_queue_new(count);
    for (size_t i = 0; i < count; i++) give_array(c->queue, pool_memory_at(&c->memory, i));
    return c;
}

static void array_close(void *context) {
    setup *c = context;
    pool_array_queue_free(c->queue);
    pool_memory_close(&c->memory);
    free(c);
}

void pool_add_crossbeam(pool_list *list) {
    pool_subject subject = {.holder = "no", .travels = "address", .capped = true, .open = seg_open, .close = seg_close};
    crossbeam_segqueue_loops(&subject);
    pool_list_add(list, &subject);
    subject.open = array_open;
    subject.close = array_close;
    crossbeam_arrayqueue_loops(&subject);
    pool_list_add(list, &subject);
}
