// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The lock-free stack of liburcu, inlined as its documentation offers. Pushes are lock-free; pops take its mutex
 * (cds_lfs_pop_blocking): under RCU instead, a released buffer would have to wait for a grace period before it could be
 * pushed again, which is no pool. It pops one or all. */
#include "bench.h"

#define _LGPL_SOURCE
#include <urcu/lfstack.h>

#include "pool/subject.h"
#include "pool/ticks.h"

typedef struct setup {
    struct cds_lfs_stack stack __attribute__((__aligned__(64)));
    pool_memory memory __attribute__((__aligned__(64)));
} setup;

static inline void push(struct cds_lfs_stack *stack, void *buffer) {
    struct cds_lfs_node *node = buffer;
    cds_lfs_node_init(node);
    cds_lfs_push(stack, node);
}

static void *lfs_open(const pool_subject *self, size_t bytes, size_t count) {
    (void)self;
    setup *c = aligned_alloc(64, sizeof *c);
    if (c == NULL || !pool_memory_open(&c->memory, bytes, count)) return NULL;
    cds_lfs_init(&c->stack);
    for (size_t i = count; i-- > 0;) push(&c->stack, pool_memory_at(&c->memory, i));
    return c;
}

static void lfs_close(void *context) {
    setup *c = context;
    cds_lfs_destroy(&c->stack);
    pool_memory_close(&c->memory);
    free(c);
}

#define SUBJECT   urcu_lfstack
#define LOCALS(c) struct cds_lfs_stack *stack = &((setup *)(c))->stack
#define TAKE(h)   ((*(h) = cds_lfs_pop_blocking(stack)) != NULL)
#define GIVE(h)   push(stack, *(h))
#include "pool/loops.h"

void pool_add_urcu(pool_list *list) {
    pool_subject subject = {.holder = "no", .travels = "address", .capped = true, .open = lfs_open, .close = lfs_close};
    urcu_lfstack_loops(&subject);
    pool_list_add(list, &subject);
}
