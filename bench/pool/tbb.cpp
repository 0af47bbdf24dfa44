// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The two queues of oneTBB that any thread may push to and pop from, with addresses in them: first in, first out, so each
 * lease gets the buffer that was released longest ago. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <new>
#include <oneapi/tbb/concurrent_queue.h>

#include "pool/subject.h"
#include "pool/ticks.h"

namespace {

template <typename Queue> struct setup {
    Queue queue;
    pool_memory memory;
};

typedef tbb::concurrent_queue<void *> queue_type;
typedef tbb::concurrent_bounded_queue<void *> bounded_type;

template <typename Queue> void *open(const pool_subject *, size_t bytes, size_t count) {
    setup<Queue> *c = new (std::nothrow) setup<Queue>;
    if (c == nullptr || !pool_memory_open(&c->memory, bytes, count)) return nullptr;
    for (size_t i = 0; i < count; i++) c->queue.push(pool_memory_at(&c->memory, i));
    return c;
}

template <typename Queue> void close(void *context) {
    setup<Queue> *c = static_cast<setup<Queue> *>(context);
    pool_memory_close(&c->memory);
    delete c;
}

} // namespace

#define SUBJECT   tbb_queue
#define LOCALS(c) queue_type &queue = static_cast<setup<queue_type> *>(c)->queue
#define TAKE(h)   queue.try_pop(*(h))
#define GIVE(h)   queue.push(*(h))
#include "pool/loops.h"

#define SUBJECT   tbb_bounded_queue
#define LOCALS(c) bounded_type &queue = static_cast<setup<bounded_type> *>(c)->queue
#define TAKE(h)   queue.try_pop(*(h))
#define GIVE(h)   queue.push(*(h))
#include "pool/loops.h"

void pool_add_tbb(pool_list *list) {
    pool_subject subject = {};
    subject.holder = "no";
    subject.travels = "address";
    subject.capped = true;
    subject.open = open<queue_type>;
    subject.close = close<queue_type>;
    tbb_queue_loops(&subject);
    pool_list_add(list, &subject);
    subject.open = open<bounded_type>;
    subject.close = close<bounded_type>;
    tbb_bounded_queue_loops(&subject);
    pool_list_add(list, &subject);
}
