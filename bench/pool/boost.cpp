// SPDX-License-Identifier: Apache-2.0 OR MIT
/* boost::lockfree::stack of addresses, with its capacity given at compile time: no memory is allocated by a push, and links
 * are indices into its own array of nodes. It pops one or all. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <boost/lockfree/stack.hpp>
#include <new>

#include "pool/subject.h"
#include "pool/ticks.h"

namespace {

typedef boost::lockfree::stack<void *, boost::lockfree::capacity<POOL_BUFFERS>> stack_type;

struct setup {
    stack_type stack;
    pool_memory memory;
};

void *open(const pool_subject *, size_t bytes, size_t count) {
    if (count > POOL_BUFFERS) return nullptr;
    setup *c = new (std::nothrow) setup;
    if (c == nullptr || !pool_memory_open(&c->memory, bytes, count)) return nullptr;
    for (size_t i = count; i-- > 0;) c->stack.push(pool_memory_at(&c->memory, i));
    return c;
}

void close(void *context) {
    setup *c = static_cast<setup *>(context);
    pool_memory_close(&c->memory);
    delete c;
}

} // namespace

#define SUBJECT   boost_stack
#define LOCALS(c) stack_type &stack = static_cast<setup *>(c)->stack
#define TAKE(h)   stack.pop(*(h))
#define GIVE(h)   stack.push(*(h))
#include "pool/loops.h"

void pool_add_boost(pool_list *list) {
    pool_subject subject = {};
    subject.holder = "no";
    subject.travels = "address";
    subject.capped = true;
    subject.open = open;
    subject.close = close;
    boost_stack_loops(&subject);
    pool_list_add(list, &subject);
}
