// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Threads as fibers: who runs next, and what may block them. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "sched_atomic.h"

/* More accesses than that in one execution: a loop that waits for what does not come. */
#define TICKS_MAX 20000u

static sched_thread *me(void) { return &sched.threads[sched.current]; }

/* ---- thread-local variables -------------------------------------------------------------------------------------- */

static void tls_change(unsigned from, unsigned to) {
    size_t bytes;
    void *tls = sched_world_tls(&bytes);
    if (bytes == 0) return;
    memcpy(sched.threads[from].tls, tls, bytes);
    memcpy(tls, sched.threads[to].tls, bytes);
}

/* Whoever ran last is of no more interest: the program's own variables come back. */
void sched_tls_begin(void) {
    size_t bytes;
    void *tls = sched_world_tls(&bytes);
    if (bytes != 0) memcpy(tls, sched.threads[SCHED_NOBODY].tls, bytes);
}

void sched_as_thread(unsigned thread, void (*run)(void *context), void *context) {
    tls_change(SCHED_NOBODY, thread);
    sched.current = thread;
    run(context);
    sched.current = SCHED_NOBODY;
    tls_change(thread, SCHED_NOBODY);
}

void sched_as_stranger(void (*run)(void *context), void *context) {
    size_t bytes;
    void *tls = sched_world_tls(&bytes);
    if (bytes != 0) {
        memcpy(sched.threads[SCHED_NOBODY].tls, tls, bytes);
        memcpy(tls, sched_world_first_tls(), bytes);
    }
    run(context);
    sched_tls_begin();
}

#define KEYS (sizeof sched.threads[0].keys / sizeof sched.threads[0].keys[0])
typedef struct key {
    bool used;
    void (*destroy)(void *);
} key;
static key keys[KEYS];
static struct {
    key keys[KEYS];
    void *values[SCHED_THREADS + 1][KEYS];
} keys_noted;

void sched_keys_note(void) {
    memcpy(keys_noted.keys, keys, sizeof keys);
    for (unsigned i = 0; i <= SCHED_THREADS; i++)
        memcpy(keys_noted.values[i], sched.threads[i].keys, KEYS * sizeof(void *));
}

void sched_keys_restore(void) {
    memcpy(keys, keys_noted.keys, sizeof keys);
    for (unsigned i = 0; i <= SCHED_THREADS; i++)
        memcpy(sched.threads[i].keys, keys_noted.values[i], KEYS * sizeof(void *));
}

void sched_keys_forget(void) { memset(keys, 0, sizeof keys); }

int sched_key_create(pthread_key_t *out, void (*destroy)(void *)) {
    for (unsigned i = 0; i < KEYS; i++) {
        if (keys[i].used) continue;
        keys[i].used = true;
        keys[i].destroy = destroy;
        *out = i;
        return 0;
    }
    return EAGAIN;
}

int sched_key_delete(pthread_key_t which) {
    if (which >= KEYS || !keys[which].used) return EINVAL;
    keys[which].used = false;
    for (unsigned i = 0; i <= SCHED_THREADS; i++) sched.threads[i].keys[which] = NULL;
    return 0;
}

void *sched_key_get(pthread_key_t which) { return which < KEYS ? me()->keys[which] : NULL; }

int sched_key_set(pthread_key_t which, const void *value) {
    if (which >= KEYS || !keys[which].used) return EINVAL;
    me()->keys[which] = (void *)(uintptr_t)value;
    return 0;
}

/* What a thread does at its end, as POSIX has it. */
static void keys_destroy(void) {
    bool again = true;
    for (int round = 0; again && round < 4; round++) {
        again = false;
        for (unsigned i = 0; i < KEYS; i++) {
            void *value = me()->keys[i];
            if (!keys[i].used || keys[i].destroy == NULL || value == NULL) continue;
            me()->keys[i] = NULL;
            keys[i].destroy(value);
            again = true;
        }
    }
}

/* ---- who runs ---------------------------------------------------------------------------------------------------- */

static bool overlap(const sched_access *a, const volatile void *p, size_t size) {
    uintptr_t from = (uintptr_t)a->p, other = (uintptr_t)p;
    return from < other + size && other < from + a->size;
}

/* Would it make a difference which of the two comes first? */
static bool depend(const sched_access *a, const volatile void *p, size_t size, sched_kind kind) {
    if (a->kind == SCHED_BARRIER || kind == SCHED_BARRIER)
        return a->kind == SCHED_STORE || kind == SCHED_STORE; /* which it puts in force, or not */
    return overlap(a, p, size) && (a->kind != SCHED_LOAD || kind != SCHED_LOAD);
}

/* That happens now: whoever stands before a step that depends on it may go on in its turn. */
static void happens(const volatile void *p, size_t size, sched_kind kind) {
    for (unsigned i = 0; i < sched.scenario->thread_count; i++) {
        sched_thread *thread = &sched.threads[i];
        /* Once a store was not seen, buffers hold stores of which it matters when they are emptied. */
        bool empties = sched.used.stale != 0 && kind >= SCHED_RMW;
        if (thread->asleep && (empties || depend(&thread->pending, p, size, kind))) thread->asleep = false;
    }
}

static void switch_to(unsigned to) {
    unsigned from = sched.current;
    sched_thread *next = &sched.threads[to];
    if (next->state == SCHED_WAITING) { /* chosen although nobody woke it */
        next->timed_out = true;
        happens(next->on, sizeof(uint32_t), SCHED_RMW); /* it leaves the queue */
        if (sched.clock_ns < next->wake_at_ns) sched.clock_ns = next->wake_at_ns;
    }
    next->state = SCHED_READY;
    next->asleep = false;
    if (to == from) return;
    tls_change(from, to);
    sched.current = to;
    swapcontext(&sched.threads[from].context, &next->context);
}

static uint32_t *owner_of(const void *mutex) { return (uint32_t *)(uintptr_t)mutex; }

static bool can_run(const sched_thread *thread) {
    return thread->state == SCHED_READY || (thread->state == SCHED_BLOCKED && *owner_of(thread->on) == 0);
}

static bool may_time_out(const sched_thread *thread) { return thread->state == SCHED_WAITING && thread->can_time_out; }

/* The running thread can go on; others may come first. */
static void choose_with_me(void) {
    const bool early = sched.used.timeouts < sched.limit.timeouts;
    int targets[SCHED_THREADS];
    unsigned count = 0;
    targets[count++] = (int)sched.current;
    if (sched.used.preemptions < sched.limit.preemptions)
        for (unsigned i = 0; i < sched.scenario->thread_count; i++) {
            const sched_thread *thread = &sched.threads[i];
            if (i == sched.current || thread->asleep) continue;
            if (can_run(thread) || (may_time_out(thread) && early)) targets[count++] = (int)i;
        }
    unsigned target = (unsigned)sched_choose(targets, count);
    if (target == sched.current) return;
    sched.used.preemptions++;
    sched.used.timeouts += sched.threads[target].state == SCHED_WAITING;
    me()->asleep = !sched.plain;
    switch_to(target);
}

_Noreturn static void nobody_can_go_on(void) {
    char text[256] = "";
    size_t used = 0;
    for (unsigned i = 0; i < sched.scenario->thread_count && used < sizeof text; i++) {
        sched_state state = sched.threads[i].state;
        if (state == SCHED_ENDED) continue;
        const char *what = state == SCHED_WAITING ? "sleeps for ever" : "waits for a lock that is not given back";
        used += (size_t)snprintf(text + used, sizeof text - used, "%sthread %u %s", used != 0 ? ", " : "", i, what);
    }
    sched_fail("%s", text);
}

/* The running thread cannot go on. */
static void choose_without_me(void) {
    int targets[SCHED_THREADS];
    unsigned count = 0, able = 0, ended = 0, early_from;
    for (unsigned i = 0; i < sched.scenario->thread_count; i++) {
        const sched_thread *thread = &sched.threads[i];
        ended += thread->state == SCHED_ENDED;
        if (!can_run(thread)) continue;
        able++;
        if (!thread->asleep) targets[count++] = (int)i;
    }
    if (ended == sched.scenario->thread_count) sched_complete();
    early_from = count;
    if (able == 0 || (sched.used.timeouts < sched.limit.timeouts && sched.used.preemptions < sched.limit.preemptions))
        for (unsigned i = 0; i < sched.scenario->thread_count; i++)
            if (may_time_out(&sched.threads[i])) targets[count++] = (int)i;
    if (count == 0) {
        if (able != 0) sched_redundant();
        nobody_can_go_on();
    }
    sched.tick++;
    int target = sched_choose(targets, count);
    for (unsigned i = early_from; i < count && able != 0; i++)
        if (targets[i] == target) {
            sched.used.timeouts++;
            sched.used.preemptions++;
        }
    switch_to((unsigned)target);
}

/* The running thread would rather have others go on. That it goes on at once counts as if it had been stopped. */
static void choose_other(void) {
    int targets[SCHED_THREADS];
    unsigned count = 0, able = 0;
    if (++sched.tick > TICKS_MAX) sched_fail("%u accesses and no end", TICKS_MAX);
    for (unsigned i = 0; i < sched.scenario->thread_count; i++) {
        const sched_thread *thread = &sched.threads[i];
        if (i == sched.current || !can_run(thread)) continue;
        able++;
        if (!thread->asleep) targets[count++] = (int)i;
    }
    if (able == 0) return;
    if (sched.used.preemptions < sched.limit.preemptions) targets[count++] = (int)sched.current;
    if (count == 0) sched_redundant();
    unsigned target = (unsigned)sched_choose(targets, count);
    if (target == sched.current)
        sched.used.preemptions++;
    else
        switch_to(target);
}

bool sched_point(const volatile void *p, size_t size, sched_kind kind, const char *site) {
    static const char *const names[] = {"load", "store", "change", "barrier"};
    if (++sched.tick > TICKS_MAX) sched_fail("%u accesses and no end: %s", TICKS_MAX, site);
    bool shared = kind == SCHED_BARRIER || sched_shared_note(p, size, kind != SCHED_LOAD, sched.current);
    if (!shared && !(kind == SCHED_RMW && sched_buffer_has_shared(me()))) return false;
    me()->pending = (sched_access){.p = p, .size = size, .kind = kind};
    choose_with_me();
    happens(p, size, kind);
    sched.showing = sched.tracing && (kind == SCHED_BARRIER || sched_shared_is_known(p, size));
    if (sched.showing) {
        char name[64];
        const char *file = strrchr(site, '/');
        sched_say("%-7s %-16s %s", names[kind], sched_world_name(p, name, sizeof name), file != NULL ? file + 1 : site);
    }
    return shared;
}

static void body(void) {
    sched.scenario->run(sched.scenario->argument, sched.current);
    if (!me()->stays) keys_destroy();
    sched_say("ends");
    me()->state = SCHED_ENDED;
    choose_without_me();
    abort(); /* nobody chooses a thread that has ended */
}

void sched_stay(void) { me()->stays = true; }

void sched_threads_start(void) {
    size_t bytes;
    (void)sched_world_tls(&bytes);
    sched.tick = 0;
    sched.store_order = sched.queue_order = 0;
    sched.clock_ns = SCHED_BEGIN_NS;
    sched.used = (sched_bounds){0};
    for (unsigned i = 0; i < sched.scenario->thread_count; i++) {
        sched_thread *thread = &sched.threads[i];
        thread->state = SCHED_READY;
        thread->asleep = thread->can_time_out = thread->timed_out = thread->stays = false;
        thread->buffer_count = 0;
        thread->moved.p = NULL;
        getcontext(&thread->context);
        thread->context.uc_stack.ss_sp = sched_world_stack(i, &thread->context.uc_stack.ss_size);
        thread->context.uc_link = NULL;
        makecontext(&thread->context, body, 0);
    }
}

_Noreturn void sched_threads_go(void) {
    sched_active = true;
    choose_without_me();
    abort(); /* the program goes on by sched_complete and the like */
}

/* ---- mutexes: their first word is 1 + the thread that has it ----------------------------------------------------- */

#define WORD sizeof(uint32_t)

int sched_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes) {
    (void)attributes;
    memset(mutex, 0, sizeof *mutex);
    return 0;
}

int sched_mutex_destroy(pthread_mutex_t *mutex) {
    SCHED_CHECK(*owner_of(mutex) == 0, "a mutex is destroyed while thread %u has it", *owner_of(mutex) - 1);
    return 0;
}

static void mutex_take(pthread_mutex_t *mutex) {
    uint32_t *owner = owner_of(mutex);
    SCHED_CHECK(*owner != sched.current + 1, "a thread locks a mutex that it has");
    while (*owner != 0) {
        me()->state = SCHED_BLOCKED;
        me()->on = mutex;
        choose_without_me();
    }
    *owner = sched.current + 1;
}

int sched_mutex_lock(pthread_mutex_t *mutex, const char *site) {
    if (sched_active) {
        sched_point(mutex, WORD, SCHED_RMW, site);
        sched_buffer_drain(me());
    } else {
        SCHED_CHECK(*owner_of(mutex) == 0, "a mutex was not given back; %s waits for it", site);
    }
    mutex_take(mutex);
    return 0;
}

int sched_mutex_trylock(pthread_mutex_t *mutex, const char *site) {
    if (sched_active) {
        sched_point(mutex, WORD, SCHED_RMW, site);
        sched_buffer_drain(me());
    }
    if (*owner_of(mutex) != 0) return EBUSY;
    *owner_of(mutex) = sched.current + 1;
    return 0;
}

int sched_mutex_unlock(pthread_mutex_t *mutex, const char *site) {
    SCHED_CHECK(*owner_of(mutex) == sched.current + 1, "a mutex is given back by who does not have it: %s", site);
    if (sched_active) {
        sched_point(mutex, WORD, SCHED_RMW, site);
        sched_buffer_drain(me());
    }
    *owner_of(mutex) = 0;
    return 0;
}

/* ---- waits ------------------------------------------------------------------------------------------------------- */

static bool sleep_on(const void *what, uint64_t timeout_ns) {
    sched_thread *thread = me();
    thread->state = SCHED_WAITING;
    thread->on = what;
    thread->queued = sched.queue_order++;
    thread->timed_out = false;
    thread->can_time_out = timeout_ns != UINT64_MAX;
    if (__builtin_add_overflow(sched.clock_ns, timeout_ns, &thread->wake_at_ns)) thread->wake_at_ns = UINT64_MAX;
    sched_say("sleeps");
    choose_without_me();
    if (thread->timed_out) sched_say("its time ran out");
    return !thread->timed_out;
}

/* First come, first served. */
static void wake(const void *what, unsigned most) {
    while (most-- > 0) {
        sched_thread *first = NULL;
        for (unsigned i = 0; i < sched.scenario->thread_count; i++) {
            sched_thread *thread = &sched.threads[i];
            if (thread->state == SCHED_WAITING && thread->on == what &&
                (first == NULL || thread->queued < first->queued))
                first = thread;
        }
        if (first == NULL) return;
        first->state = SCHED_READY;
    }
}

bool sched_wait(const uint32_t *p, uint32_t expected, uint64_t timeout_ns) {
    if (!sched_active) {
        SCHED_CHECK(*p != expected, "a wait that would never end, for no other thread runs");
        return true;
    }
    /* The kernel looks and goes to sleep in one step. */
    sched_point(p, sizeof *p, SCHED_RMW, "wait");
    sched_buffer_drain(me());
    return sched_look(p, sizeof *p) == expected ? sleep_on(p, timeout_ns) : true;
}

void sched_wake(const uint32_t *p, unsigned most) {
    if (!sched_active) return;
    sched_point(p, sizeof *p, SCHED_RMW, "wake");
    sched_buffer_drain(me());
    wake(p, most);
}

/* The thread can do nothing before another has done something. */
void sched_yield_now(void) {
    if (!sched_active) return;
    sched_buffer_drain(me());
    choose_other();
}

int sched_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attributes) {
    (void)attributes;
    memset(cond, 0, sizeof *cond);
    return 0;
}

int sched_cond_destroy(pthread_cond_t *cond) {
    (void)cond;
    return 0;
}

int sched_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, const char *site) {
    if (!sched_active) sched_fail("a wait while no other thread runs would never end: %s", site);
    sched_point(cond, WORD, SCHED_RMW, site);
    sched_point(mutex, WORD, SCHED_RMW, site);
    sched_buffer_drain(me());
    *owner_of(mutex) = 0;
    sleep_on(cond, UINT64_MAX);
    sched_point(mutex, WORD, SCHED_RMW, site);
    mutex_take(mutex);
    return 0;
}

int sched_cond_wake(pthread_cond_t *cond, bool all, const char *site) {
    if (!sched_active) return 0;
    sched_point(cond, WORD, SCHED_RMW, site);
    sched_buffer_drain(me());
    wake(cond, all ? SCHED_THREADS : 1);
    return 0;
}
