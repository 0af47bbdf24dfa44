// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Shared memory as the threads see it: x86's total store order (Owens, Sarkar and Sewell 2009).
 *
 * A store that is no read-modify-write goes to its thread's buffer, which only that thread sees; it reaches memory in
 * order, at some time before the thread's next read-modify-write or a barrier on all processors. When that is gets
 * decided late: when another thread comes to that very place. By default the store has reached memory by then, as if
 * there were no buffers; that it has not is the alternative, of which an execution has a limited number. */
#include <string.h>

#include "engine.h"
#include "sched_atomic.h"

static sched_thread *me(void) { return &sched.threads[sched.current]; }
static bool buffers(void) { return sched_active && sched.limit.stale != 0; }

static uint64_t memory_read(const volatile void *p, size_t size) {
    uint64_t value = 0;
    memcpy(&value, (const void *)(uintptr_t)p, size);
    return value;
}

static void memory_write(volatile void *p, size_t size, uint64_t value) { memcpy((void *)(uintptr_t)p, &value, size); }

static uint64_t mask_of(size_t size) { return size < 8 ? ((uint64_t)1 << 8 * size) - 1 : UINT64_MAX; }

static bool overlaps(const sched_delayed *store, const volatile void *p, size_t size) {
    uintptr_t from = (uintptr_t)store->p, other = (uintptr_t)p;
    return from < other + size && other < from + store->size;
}

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

static void drain(sched_thread *thread, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        const sched_delayed *store = &thread->buffer[i];
        memory_write(store->p, store->size, store->value);
    }
    thread->buffer_count -= count;
    memmove(thread->buffer, thread->buffer + count, thread->buffer_count * sizeof thread->buffer[0]);
}

void sched_buffer_drain(sched_thread *thread) { drain(thread, thread->buffer_count); }

void sched_buffer_drain_all(void) {
    for (;;) { /* in the order of the stores, which is also that of each buffer */
        sched_thread *first = NULL;
        for (unsigned i = 0; i < sched.scenario->thread_count; i++) {
            sched_thread *thread = &sched.threads[i];
            if (thread->buffer_count != 0 && (first == NULL || thread->buffer[0].order < first->buffer[0].order))
                first = thread;
        }
        if (first == NULL) return;
        drain(first, 1);
    }
}

bool sched_buffer_has_shared(const sched_thread *thread) { return thread->buffer_count != 0; }

/* Position of the oldest store there, buffer_count if there is none. */
static unsigned find(const sched_thread *thread, const volatile void *p, size_t size) {
    unsigned i = 0;
    while (i < thread->buffer_count && !overlaps(&thread->buffer[i], p, size)) i++;
    return i;
}

/* Once a store was not seen, an access is more than it was: it decides what reaches memory when. Whoever stands before
 * a step that comes to the same place, has that buffer or empties all may go on in its turn. */
static void decided(const sched_thread *thread, const volatile void *p, size_t size) {
    for (unsigned i = 0; i < sched.scenario->thread_count; i++) {
        sched_thread *other = &sched.threads[i];
        uintptr_t from = (uintptr_t)other->pending.p, to = from + other->pending.size;
        bool same_place = from < (uintptr_t)p + size && (uintptr_t)p < to;
        if (other == thread || same_place || other->pending.kind == SCHED_BARRIER) other->asleep = false;
    }
}

#define KEEP          (-1)
#define DRAIN(thread) (-2 - (int)(thread))

/* The running thread comes to that place: which stores of the others have reached it? */
static void meet(const volatile void *p, size_t size) {
    for (;;) {
        unsigned found[SCHED_THREADS], oldest = SCHED_THREADS;
        uint64_t order = UINT64_MAX;
        bool matters = false;
        for (unsigned i = 0; i < sched.scenario->thread_count; i++) {
            const sched_thread *thread = &sched.threads[i];
            found[i] = i == sched.current ? thread->buffer_count : find(thread, p, size);
            if (found[i] == thread->buffer_count) continue;
            const sched_delayed *store = &thread->buffer[found[i]];
            /* Else the thread might as well have been stopped before the store; unless it has ended, for which it did
             * not have to be stopped. */
            matters |= store->loaded_past || thread->state == SCHED_ENDED;
            if (store->order < order) {
                order = store->order;
                oldest = i;
            }
        }
        if (oldest == SCHED_THREADS) return;
        int targets[SCHED_THREADS + 1];
        unsigned count = 0;
        targets[count++] = DRAIN(oldest);
        if (matters && sched.used.stale < sched.limit.stale) {
            for (unsigned i = 0; i < sched.scenario->thread_count; i++)
                if (i != oldest && found[i] != sched.threads[i].buffer_count) targets[count++] = DRAIN(i);
            targets[count++] = KEEP;
        }
        int target = sched_choose(targets, count);
        sched.used.stale += target != targets[0];
        for (unsigned i = 0; i < sched.scenario->thread_count; i++) {
            if (found[i] == sched.threads[i].buffer_count) continue;
            if (sched.used.stale != 0) decided(&sched.threads[i], p, size);
            if (target != KEEP) continue;
            sched_say("does not see the store of thread %u", i);
            if (sched.scenario->unseen != NULL)
                sched.scenario->unseen(sched.scenario->argument, i, sched.threads[i].buffer[found[i]].order);
        }
        if (target == KEEP) return;
        unsigned thread = (unsigned)(-2 - target);
        drain(&sched.threads[thread], found[thread] + 1);
    }
}

uint64_t sched_stores(void) { return sched.store_order; }

/* ---- accesses ---------------------------------------------------------------------------------------------------- */

static void show(const char *what, uint64_t value) {
    if (sched.showing) sched_say("        %s %#llx", what, (unsigned long long)value);
}

static uint64_t load(const volatile void *p, size_t size) {
    sched_thread *thread = me();
    for (unsigned i = thread->buffer_count; i-- > 0;) {
        sched_delayed *store = &thread->buffer[i];
        if (!overlaps(store, p, size)) continue;
        uintptr_t offset = (uintptr_t)p - (uintptr_t)store->p;
        if (offset + size <= store->size && offset < store->size) return (store->value >> 8 * offset) & mask_of(size);
        sched_buffer_drain(thread); /* parts of it: the processor waits until all is in memory */
        break;
    }
    meet(p, size);
    return memory_read(p, size);
}

static void delay(volatile void *p, size_t size, uint64_t value) {
    sched_thread *thread = me();
    if (thread->buffer_count == SCHED_BUFFER) drain(thread, 1);
    thread->buffer[thread->buffer_count++] = (sched_delayed){
        .p = p, .size = size, .value = value & mask_of(size), .order = sched.store_order++, .tick = sched.tick};
    show("wrote", value);
}

/* For a planted fault: where the compiler is told to keep a store before a load, it moves it behind the load. */
void sched_word_order(void) {
    sched_thread *thread = me();
    if (!buffers() || sched_fault != SCHED_FAULT_claim_after_look || thread->buffer_count == 0) return;
    sched_delayed *last = &thread->buffer[thread->buffer_count - 1];
    if (last->tick != sched.tick) return; /* it was not shared, or is older */
    thread->moved = *last;
    thread->buffer_count--;
    sched_say("        comes behind the next load");
}

static void store_moved(void) {
    sched_delayed store = me()->moved;
    me()->moved.p = NULL;
    sched_point(store.p, store.size, SCHED_STORE, "a store that was moved");
    meet(store.p, store.size);
    delay(store.p, store.size, store.value);
}

uint64_t sched_load(const volatile void *p, size_t size, const char *site) {
    if (!sched_active) return memory_read(p, size);
    if (!sched_point(p, size, SCHED_LOAD, site)) return memory_read(p, size);
    uint64_t value = load(p, size);
    /* In a replay nothing is known yet; then there are more choices, of which the schedule makes no use. */
    if (sched.replaying || sched_shared_is_known(p, size))
        for (unsigned i = 0; i < me()->buffer_count; i++) me()->buffer[i].loaded_past = true;
    show("read", value);
    if (me()->moved.p != NULL) store_moved();
    return value;
}

void sched_store(volatile void *p, size_t size, uint64_t value, int order, const char *site) {
    if (!sched_active) {
        memory_write(p, size, value);
        return;
    }
    if (order == NM_SEQ_CST) { /* an exchange, on that processor */
        (void)sched_exchange(p, size, value, site);
        return;
    }
    bool shared = sched_point(p, size, SCHED_STORE, site);
    /* Memory of a stack is soon something else, written without our knowing. */
    if (!shared || !buffers() || sched_world_is_stack(p)) {
        if (shared) meet(p, size);
        memory_write(p, size, value);
        show("wrote", value);
        return;
    }
    meet(p, size);
    delay(p, size, value);
}

/* Before a read-modify-write. */
static void change(volatile void *p, size_t size, const char *site) {
    if (!sched_active) return;
    bool shared = sched_point(p, size, SCHED_RMW, site);
    sched_buffer_drain(me());
    if (shared) meet(p, size);
}

static uint64_t changed(volatile void *p, size_t size, uint64_t before, uint64_t after) {
    memory_write(p, size, after);
    show("was", before);
    show("is", memory_read(p, size));
    return before;
}

uint64_t sched_exchange(volatile void *p, size_t size, uint64_t value, const char *site) {
    change(p, size, site);
    return changed(p, size, memory_read(p, size), value);
}

uint64_t sched_add(volatile void *p, size_t size, uint64_t value, const char *site) {
    change(p, size, site);
    uint64_t before = memory_read(p, size);
    return changed(p, size, before, before + value);
}

uint64_t sched_or(volatile void *p, size_t size, uint64_t value, const char *site) {
    change(p, size, site);
    uint64_t before = memory_read(p, size);
    return changed(p, size, before, before | value);
}

uint64_t sched_and(volatile void *p, size_t size, uint64_t value, const char *site) {
    change(p, size, site);
    uint64_t before = memory_read(p, size);
    return changed(p, size, before, before & value);
}

bool sched_cas(volatile void *p, size_t size, void *expected, uint64_t desired, const char *site) {
    change(p, size, site);
    uint64_t before = memory_read(p, size);
    if (before == memory_read(expected, size)) {
        changed(p, size, before, desired);
        return true;
    }
    memory_write(expected, size, before);
    show("found", before);
    return false;
}

void sched_raise(size_t *p, size_t value, const char *site) {
    size_t seen = (size_t)sched_load(p, sizeof *p, site);
    while (seen < value && !sched_cas(p, sizeof *p, &seen, value, site)) {
    }
}

void sched_barrier_all(void) {
    if (!buffers()) return;
    sched_point(NULL, 0, SCHED_BARRIER, "barrier on all processors");
    sched_buffer_drain_all();
}

uint64_t sched_look(const volatile void *p, size_t size) {
    meet(p, size);
    return memory_read(p, size);
}
