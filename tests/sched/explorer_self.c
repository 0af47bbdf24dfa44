// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Can the explorer find what it is for? Small algorithms, each right and with one known fault; those named faulty_...
 * must fail, the others must not. */
#include <pthread.h>
#include <string.h>

#include "base/atomic.h"
#include "driver.h"

/* ---- a counter --------------------------------------------------------------------------------------------------- */

static struct counter {
    NM_ATOMIC(uint32_t) value;
    pthread_mutex_t lock, other;
} * counter;

static void counter_prepare(const void *argument) {
    (void)argument;
    counter = sched_memory(sizeof *counter);
}

static void counter_add(const void *argument, unsigned thread) {
    (void)argument;
    (void)thread;
    nm_atomic_add(&counter->value, 1, NM_RELAXED);
}

static void counter_load_store(const void *argument, unsigned thread) {
    (void)argument;
    (void)thread;
    nm_atomic_store(&counter->value, nm_atomic_load(&counter->value, NM_RELAXED) + 1, NM_RELAXED);
}

static void counter_locked(const void *argument, unsigned thread) {
    (void)argument;
    (void)thread;
    pthread_mutex_lock(&counter->lock);
    nm_atomic_store(&counter->value, nm_atomic_load(&counter->value, NM_RELAXED) + 1, NM_RELAXED);
    pthread_mutex_unlock(&counter->lock);
}

static void counter_cross_locked(const void *argument, unsigned thread) {
    (void)argument;
    pthread_mutex_t *first = thread == 0 ? &counter->lock : &counter->other;
    pthread_mutex_t *second = thread == 0 ? &counter->other : &counter->lock;
    pthread_mutex_lock(first);
    pthread_mutex_lock(second);
    nm_atomic_store(&counter->value, nm_atomic_load(&counter->value, NM_RELAXED) + 1, NM_RELAXED);
    pthread_mutex_unlock(second);
    pthread_mutex_unlock(first);
}

static void counter_check_2(const void *argument) {
    (void)argument;
    SCHED_CHECK(counter->value == 2, "2 were added, the sum is %u", counter->value);
}

static void counter_check_3(const void *argument) {
    (void)argument;
    SCHED_CHECK(counter->value == 3, "3 were added, the sum is %u", counter->value);
}

/* ---- a stack with a tag, or not (Treiber 1986) ------------------------------------------------------------------- */

#define NODES 3u
static struct stack {
    NM_ATOMIC(uint64_t) head; /* number of the top node below, tag above */
    NM_ATOMIC(uint64_t) next[NODES + 1];
    bool held[NODES + 1];
} * stack;

static void stack_prepare(const void *argument) {
    (void)argument;
    stack = sched_memory(sizeof *stack);
    for (uint64_t i = 1; i <= NODES; i++) stack->next[i] = (i + 1) % (NODES + 1);
    stack->head = 1;
}

static uint64_t tag_after(uint64_t head, const void *tag_mask) {
    return ((head >> 32) + 1) & *(const uint64_t *)tag_mask;
}

static uint64_t stack_pop(const void *tag_mask) {
    uint64_t head = nm_atomic_load(&stack->head, NM_ACQUIRE), top;
    do {
        top = head & 0xffffffff;
        if (top == 0) return 0;
    } while (!nm_atomic_cas(&stack->head, &head,
                            tag_after(head, tag_mask) << 32 | nm_atomic_load(&stack->next[top], NM_RELAXED), NM_ACQUIRE,
                            NM_ACQUIRE));
    SCHED_CHECK(!stack->held[top], "two threads have node %u", (unsigned)top);
    stack->held[top] = true;
    return top;
}

static void stack_push(const void *tag_mask, uint64_t node) {
    stack->held[node] = false;
    uint64_t head = nm_atomic_load(&stack->head, NM_RELAXED);
    do nm_atomic_store(&stack->next[node], head & 0xffffffff, NM_RELAXED);
    while (!nm_atomic_cas(&stack->head, &head, tag_after(head, tag_mask) << 32 | node, NM_RELEASE, NM_RELAXED));
}

/* Thread 0 pops one; the other takes two and puts the first back, which is on top again, above another node. */
static void stack_run(const void *tag_mask, unsigned thread) {
    uint64_t first = stack_pop(tag_mask);
    if (thread == 0) return;
    uint64_t second = stack_pop(tag_mask);
    if (first != 0) stack_push(tag_mask, first);
    if (second != 0) stack_pop(tag_mask);
}

static void stack_check(const void *argument) {
    (void)argument;
    unsigned free_count = 0;
    for (uint64_t node = stack->head & 0xffffffff; node != 0; node = stack->next[node]) {
        SCHED_CHECK(!stack->held[node], "node %u is held and free", (unsigned)node);
        SCHED_CHECK(++free_count <= NODES, "the list goes in a circle");
    }
    for (unsigned i = 1; i <= NODES; i++) free_count += stack->held[i];
    SCHED_CHECK(free_count == NODES, "%u nodes of %u are left", free_count, NODES);
}

/* ---- two flags (Dekker's entry), the one thread's kept in order by the other's barrier --------------------------- */

typedef enum flag_order { FLAG_PLAIN, FLAG_BOTH_LOCKED, FLAG_BARRIER } flag_order;
static struct flags {
    NM_ATOMIC(uint32_t) raised[2];
    bool saw[2];
} * flags;

static void flags_prepare(const void *argument) {
    (void)argument;
    flags = sched_memory(sizeof *flags);
}

static void flags_run(const void *argument, unsigned thread) {
    flag_order order = *(const flag_order *)argument;
    if (order == FLAG_BOTH_LOCKED)
        nm_atomic_store(&flags->raised[thread], 1u, NM_SEQ_CST);
    else
        nm_atomic_store(&flags->raised[thread], 1u, NM_RELAXED);
    if (order == FLAG_BARRIER && thread == 1) sched_barrier_all();
    flags->saw[thread] = nm_atomic_load(&flags->raised[1 - thread], NM_RELAXED) != 0;
}

static void flags_check(const void *argument) {
    (void)argument;
    SCHED_CHECK(flags->saw[0] || flags->saw[1], "neither saw the other's flag");
}

static const flag_order plain = FLAG_PLAIN, both_locked = FLAG_BOTH_LOCKED, with_barrier = FLAG_BARRIER;

/* ---- a message: data, then a flag. Total store order keeps stores in order --------------------------------------- */

static struct message { NM_ATOMIC(uint32_t) data, sent, seen; } * message;

static void message_prepare(const void *argument) {
    (void)argument;
    message = sched_memory(sizeof *message);
}

static void message_run(const void *argument, unsigned thread) {
    (void)argument;
    if (thread == 0) {
        nm_atomic_store(&message->data, 7u, NM_RELAXED);
        (void)nm_atomic_load(&message->seen, NM_RELAXED);
        nm_atomic_store(&message->sent, 1u, NM_RELEASE);
        (void)nm_atomic_load(&message->seen, NM_RELAXED);
    } else {
        nm_atomic_store(&message->seen, 1u, NM_RELAXED);
        if (nm_atomic_load(&message->sent, NM_ACQUIRE) == 0) return;
        uint32_t data = nm_atomic_load(&message->data, NM_RELAXED);
        SCHED_CHECK(data == 7, "the message was sent and the data is %u", data);
    }
}

static void nothing_to_check(const void *argument) { (void)argument; }

/* ---- sleeping until there is something --------------------------------------------------------------------------- */

static struct box {
    NM_ATOMIC(uint32_t) full, sleepers;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    bool timed_out;
} * box;

static void box_prepare(const void *argument) {
    (void)argument;
    box = sched_memory(sizeof *box);
}

static void box_futex(const void *argument, unsigned thread) {
    (void)argument;
    if (thread != 0) {
        nm_atomic_store(&box->full, 1u, NM_RELEASE);
        sched_wake(&box->full, 1);
        return;
    }
    while (nm_atomic_load(&box->full, NM_ACQUIRE) == 0) (void)sched_wait(&box->full, 0, UINT64_MAX);
}

/* Looks for sleepers with a load that may come before its own store is seen. */
static void box_sleepers_missed(const void *argument, unsigned thread) {
    (void)argument;
    if (thread != 0) {
        nm_atomic_store(&box->full, 1u, NM_RELEASE);
        if (nm_atomic_load(&box->sleepers, NM_RELAXED) != 0) sched_wake(&box->full, 1);
        return;
    }
    nm_atomic_add(&box->sleepers, 1, NM_RELAXED);
    while (nm_atomic_load(&box->full, NM_ACQUIRE) == 0) (void)sched_wait(&box->full, 0, UINT64_MAX);
}

/* Looks, and only then goes to sleep. */
static void box_looked_too_early(const void *argument, unsigned thread) {
    (void)argument;
    pthread_mutex_lock(&box->lock);
    if (thread != 0) {
        nm_atomic_store(&box->full, 1u, NM_RELAXED);
        pthread_cond_signal(&box->filled);
    } else {
        bool full = nm_atomic_load(&box->full, NM_RELAXED) != 0;
        pthread_mutex_unlock(&box->lock);
        pthread_mutex_lock(&box->lock);
        if (!full) pthread_cond_wait(&box->filled, &box->lock);
    }
    pthread_mutex_unlock(&box->lock);
}

static void box_condition(const void *argument, unsigned thread) {
    (void)argument;
    pthread_mutex_lock(&box->lock);
    if (thread != 0) {
        nm_atomic_store(&box->full, 1u, NM_RELAXED);
        pthread_cond_signal(&box->filled);
    } else {
        while (nm_atomic_load(&box->full, NM_RELAXED) == 0) pthread_cond_wait(&box->filled, &box->lock);
    }
    pthread_mutex_unlock(&box->lock);
}

static void box_timed(const void *argument, unsigned thread) {
    (void)argument;
    if (thread != 0) {
        nm_atomic_store(&box->full, 1u, NM_RELEASE);
        sched_wake(&box->full, 1);
    } else if (nm_atomic_load(&box->full, NM_ACQUIRE) == 0) {
        box->timed_out = !sched_wait(&box->full, 0, 1000);
    }
}

static void box_timed_check(const void *argument) {
    (void)argument;
    SCHED_CHECK(!box->timed_out, "the time ran out");
}

/* ---- waiting with yield ------------------------------------------------------------------------------------------ */

static void yield_run(const void *argument, unsigned thread) {
    (void)argument;
    if (thread == 0) {
        while (nm_atomic_load(&box->full, NM_ACQUIRE) == 0) sched_yield_now();
    } else {
        nm_atomic_store(&box->sleepers, 1u, NM_RELAXED);
        nm_atomic_store(&box->full, 1u, NM_RELEASE);
    }
}

static void loop_run(const void *argument, unsigned thread) {
    (void)argument;
    if (thread == 0)
        while (nm_atomic_load(&box->full, NM_ACQUIRE) == 0) sched_yield_now();
}

/* ---- table ------------------------------------------------------------------------------------------------------- */

static const uint64_t no_tag = 0, one_bit = 1, wide_tag = 0xffffff;

#define SCENARIO(title, threads, prepare_, run_, check_, argument_)                                                    \
    {                                                                                                                  \
        .name = title, .thread_count = (threads), .bounds = {.preemptions = 3, .stale = 2, .timeouts = 1},             \
        .prepare = (prepare_), .run = (run_), .check = (check_), .argument = (argument_)                               \
    }

static const sched_scenario scenarios[] = {
    SCENARIO("counter_add", 3, counter_prepare, counter_add, counter_check_3, NULL),
    SCENARIO("counter_locked", 3, counter_prepare, counter_locked, counter_check_3, NULL),
    SCENARIO("faulty_counter", 2, counter_prepare, counter_load_store, counter_check_2, NULL),
    SCENARIO("faulty_counter_3", 3, counter_prepare, counter_load_store, counter_check_3, NULL),
    SCENARIO("faulty_lock_order", 2, counter_prepare, counter_cross_locked, counter_check_2, NULL),
    SCENARIO("stack_tagged", 2, stack_prepare, stack_run, stack_check, &wide_tag),
    SCENARIO("stack_tagged_3", 3, stack_prepare, stack_run, stack_check, &wide_tag),
    SCENARIO("faulty_stack_untagged", 2, stack_prepare, stack_run, stack_check, &no_tag),
    SCENARIO("faulty_stack_1_bit", 3, stack_prepare, stack_run, stack_check, &one_bit),
    SCENARIO("flags_locked", 2, flags_prepare, flags_run, flags_check, &both_locked),
    SCENARIO("flags_barrier", 2, flags_prepare, flags_run, flags_check, &with_barrier),
    SCENARIO("faulty_flags_no_barrier", 2, flags_prepare, flags_run, flags_check, &plain),
    SCENARIO("message", 2, message_prepare, message_run, nothing_to_check, NULL),
    SCENARIO("box_futex", 2, box_prepare, box_futex, nothing_to_check, NULL),
    SCENARIO("box_condition", 2, box_prepare, box_condition, nothing_to_check, NULL),
    SCENARIO("faulty_box_early_look", 2, box_prepare, box_looked_too_early, nothing_to_check, NULL),
    SCENARIO("faulty_box_sleepers", 2, box_prepare, box_sleepers_missed, nothing_to_check, NULL),
    SCENARIO("faulty_box_timed", 2, box_prepare, box_timed, box_timed_check, NULL),
    SCENARIO("yield", 2, box_prepare, yield_run, nothing_to_check, NULL),
    SCENARIO("faulty_yield", 2, box_prepare, loop_run, nothing_to_check, NULL),
};

int main(int argc, char **argv) {
    static const sched_program self = {
        .name = "sched-self",
        .scenarios = scenarios,
        .scenario_count = sizeof scenarios / sizeof scenarios[0],
        .faulty_prefix = "faulty_",
    };
    return sched_main(&self, argc, argv);
}
