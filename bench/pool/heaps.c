// SPDX-License-Identifier: Apache-2.0 OR MIT
/* General allocators in a pool's place: a malloc of the buffer's size and a free, through pointers (peers/peers.h says why
 * that is fair). They have no cap, and no notion of many at once. */
#include "bench.h"

#include "peers/peers.h"
#include "pool/subject.h"
#include "pool/ticks.h"

typedef struct setup {
    void *(*malloc)(size_t n);
    void (*free)(void *p);
    void (*tidy)(void);
    size_t bytes;
} setup;

static void *heap_open(const pool_subject *self, size_t bytes, size_t count) {
    const peer_heap *heap = self->tag;
    (void)count;
    setup *c = malloc(sizeof *c);
    if (c != NULL) *c = (setup){heap->malloc, heap->free, heap->tidy, bytes};
    return c;
}

static void heap_close(void *context) {
    setup *c = context;
    c->tidy();
    free(c);
}

#define SUBJECT heap
#define LOCALS(c)                                                                                                      \
    void *(*take)(size_t) = ((const setup *)(c))->malloc;                                                              \
    void (*give)(void *) = ((const setup *)(c))->free;                                                                 \
    size_t wanted = ((const setup *)(c))->bytes;                                                                       \
    (void)take, (void)give, (void)wanted
#define TAKE(h) ((*(h) = take(wanted)) != NULL)
#define GIVE(h) give(*(h))
#include "pool/loops.h"

void pool_add_heaps(pool_list *list) {
    size_t count;
    const peer_heap *heaps = peers_heaps(&count);
    for (size_t i = 0; i < count; i++) {
        pool_subject subject = {
            .tag = &heaps[i], .holder = "no", .travels = "address", .open = heap_open, .close = heap_close};
        heap_loops(&subject);
        subject.name = heaps[i].name;
        pool_list_add(list, &subject);
    }
}
