// SPDX-License-Identifier: Apache-2.0 OR MIT
/* ck_stack of Concurrency Kit, in the form for many producers and many consumers: a linked stack through the free buffers,
 * with a generation beside the head, both changed by one compare-and-swap of 16 bytes. It pops one or all. */
#include "bench.h"

#include <ck_stack.h>

#include "pool/subject.h"
#include "pool/ticks.h"

typedef struct setup {
    ck_stack_t stack __attribute__((__aligned__(64)));
    pool_memory memory __attribute__((__aligned__(64)));
} setup;

static void *ck_open(const pool_subject *self, size_t bytes, size_t count) {
    (void)self;
    setup *c = aligned_alloc(64, sizeof *c);
    if (c == NULL || !pool_memory_open(&c->memory, bytes, count)) return NULL;
    ck_stack_init(&c->stack);
    for (size_t i = count; i-- > 0;) ck_stack_push_mpmc(&c->stack, pool_memory_at(&c->memory, i));
    return c;
}

static void ck_close(void *context) {
    setup *c = context;
    pool_memory_close(&c->memory);
    free(c);
}

#define SUBJECT   ck_stack
#define LOCALS(c) ck_stack_t *stack = &((setup *)(c))->stack
#define TAKE(h)   ((*(h) = ck_stack_pop_mpmc(stack)) != NULL)
#define GIVE(h)   ck_stack_push_mpmc(stack, *(h))
#include "pool/loops.h"

void pool_add_ck(pool_list *list) {
    pool_subject subject = {.holder = "no", .travels = "address", .capped = true, .open = ck_open, .close = ck_close};
    ck_stack_loops(&subject);
    pool_list_add(list, &subject);
}
