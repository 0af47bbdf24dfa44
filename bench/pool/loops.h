// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The loops of all works, compiled once for each subject: whoever includes this says before what a lease is. No include
 * guard: a file may have several subjects.
 *
 *   SUBJECT              its name, a word: the functions begin with it
 *   LOCALS(context)      declares what a program would have at hand in variables: the pool
 *   TAKE(h)              leases into *h; false: refused
 *   GIVE(h)              releases *h
 *   TAKE_MANY(held, n), GIVE_MANY(held, n)      where there are such calls; the first gives how many
 *
 * Where that is not the buffer's address, also:
 *
 *   HANDLE               what a lease gives and a release takes
 *   DATA(h)              the buffer's address
 *   FORGET(h)            makes the compiler forget what *h holds
 *   IN_MEMORY            defined: in the work `pair` too, handles are kept in an array
 *   TAKE_NEW(name)       or: leases into a new variable of that name
 *   SEND(h), ARRIVE(p)   what is handed over between cores, of a handle in an array of the producer's, and its release
 *
 * At the end, SUBJECT_loops(out) fills the loops in, and all these words are undefined again. */

#ifndef HANDLE
#define HANDLE_IS_ADDRESS
#define HANDLE  void *
#define DATA(h) (*(h))
#endif

#define LOOP__JOIN2(a, b) a##_##b
#define LOOP__JOIN(a, b)  LOOP__JOIN2(a, b)
#define LOOP(name)        LOOP__JOIN(SUBJECT, name)
#define LOOP__TEXT2(a)    #a
#define LOOP__TEXT(a)     LOOP__TEXT2(a)
#define TAKE_OR_FAIL(h)                                                                                                \
    do {                                                                                                               \
        if (POOL_UNLIKELY(!(TAKE(h)))) pool_fail(LOOP__TEXT(SUBJECT), "refused a buffer");                             \
    } while (0)

static void LOOP(pair)(void *context, size_t pairs) {
    LOCALS(context);
#ifdef IN_MEMORY
    HANDLE held[POOL_BURST];
#endif
    for (size_t i = 0; i < pairs; i++) {
#ifdef HANDLE_IS_ADDRESS
        void *taken;
        TAKE_OR_FAIL(&taken);
        void *given = taken; /* a variable that need not lie in memory, whatever the lease wants */
        pool_touch(given);
        POOL_FORGET(given);
        GIVE(&given);
#else
#ifdef IN_MEMORY
        HANDLE *h = &held[i % POOL_BURST];
        TAKE_OR_FAIL(h);
#else
        TAKE_NEW(one);
        HANDLE *h = &one;
        if (POOL_UNLIKELY(DATA(h) == NULL)) pool_fail(LOOP__TEXT(SUBJECT), "refused a buffer");
#endif
        pool_touch(DATA(h));
        FORGET(h);
        GIVE(h);
#endif
    }
}

static void LOOP(burst)(void *context, size_t pairs) {
    LOCALS(context);
    HANDLE held[POOL_BURST];
    HANDLE *all = held;
    for (size_t i = 0; i < pairs; i += POOL_BURST) {
        for (size_t k = 0; k < POOL_BURST; k++) {
            TAKE_OR_FAIL(&held[k]);
            pool_touch(DATA(&held[k]));
        }
        POOL_FORGET(all);
        for (size_t k = 0; k < POOL_BURST; k++) GIVE(&all[k]);
    }
}

#ifdef TAKE_MANY
static void LOOP(many)(void *context, size_t pairs) {
    LOCALS(context);
    HANDLE held[POOL_BURST];
    HANDLE *all = held;
    for (size_t i = 0; i < pairs; i += POOL_BURST) {
        if (POOL_UNLIKELY(TAKE_MANY(held, POOL_BURST) != POOL_BURST))
            pool_fail(LOOP__TEXT(SUBJECT), "refused some of many buffers");
        for (size_t k = 0; k < POOL_BURST; k++) pool_touch(DATA(&held[k]));
        POOL_FORGET(all);
        GIVE_MANY(all, POOL_BURST);
    }
}
#endif

/* The producer's array, where handles do not travel themselves: a handle is written again only when the consumer has
 * taken what came a ring's length later. */
#ifndef HANDLE_IS_ADDRESS
static HANDLE LOOP(sent)[2 * POOL_RING] __attribute__((__aligned__(64)));
#endif

static void LOOP(send)(void *context, pool_ring *ring, size_t n) {
    LOCALS(context);
#ifndef HANDLE_IS_ADDRESS
    static size_t next;
    size_t at = next;
    next += n;
#endif
    for (size_t i = 0; i < n; i++) {
#ifdef HANDLE_IS_ADDRESS
        HANDLE one;
        HANDLE *h = &one;
        TAKE_OR_FAIL(h);
        pool_touch(DATA(h));
        pool_ring_push(ring, *h);
#else
        HANDLE *h = &LOOP(sent)[at++ % (2 * POOL_RING)];
        TAKE_OR_FAIL(h);
        pool_touch(DATA(h));
        pool_ring_push(ring, SEND(h));
#endif
    }
}

static void LOOP(receive)(void *context, pool_ring *ring) {
    LOCALS(context);
    for (void *item; (item = pool_ring_pop(ring)) != NULL;) {
#ifdef HANDLE_IS_ADDRESS
        HANDLE one = item;
        HANDLE *h = &one;
        GIVE(h);
#else
        ARRIVE(item);
#endif
    }
}

/* Holds 1 to POOL_LATENCY_HELD buffers at a time, so that what a pool does when its front is used up is in the tail. */
static void LOOP(latency)(void *context, uint32_t *ticks, size_t n) {
    LOCALS(context);
    HANDLE held[POOL_LATENCY_HELD];
    uint64_t random = 88172645463325252u;
    for (size_t i = 0; i < n;) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        size_t count = 1 + (size_t)(random >> 32) % POOL_LATENCY_HELD;
        if (count > n - i) count = n - i;
        for (size_t k = 0; k < count; k++) {
            uint64_t begin = ticks_begin();
            bool taken = TAKE(&held[k]);
            uint64_t took = ticks_end() - begin;
            if (POOL_UNLIKELY(!taken)) pool_fail(LOOP__TEXT(SUBJECT), "refused a buffer");
            pool_touch(DATA(&held[k]));
            ticks[i++] = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
        }
        for (size_t k = 0; k < count; k++) GIVE(&held[k]);
    }
}

static void LOOP(aside)(void *context, size_t n) {
    LOCALS(context);
    static __thread HANDLE held[POOL_ASIDE];
    static __thread size_t count;
    while (count < n) {
        TAKE_OR_FAIL(&held[count]);
        count++;
    }
    while (count > n) GIVE(&held[--count]);
}

static size_t LOOP(fill)(void *context, size_t bytes, size_t n) {
    LOCALS(context);
    HANDLE *held = (HANDLE *)malloc(n * sizeof *held);
    void **addresses = (void **)malloc(n * sizeof *addresses);
    if (held == NULL || addresses == NULL) pool_fail(LOOP__TEXT(SUBJECT), "not enough memory");
    size_t count = 0;
    while (count < n && TAKE(&held[count])) {
        addresses[count] = DATA(&held[count]);
        count++;
    }
    if (!pool_all_apart(addresses, count, bytes)) pool_fail(LOOP__TEXT(SUBJECT), "two buffers overlap");
    for (size_t i = 0; i < count; i++) GIVE(&held[i]);
    free(addresses);
    free(held);
    return count;
}

static void LOOP(claim)(void *context, size_t bytes, uint64_t thread, uint64_t turn) {
    LOCALS(context);
    HANDLE held[POOL_BURST];
    size_t count = 1 + (size_t)turn % POOL_BURST;
    for (size_t k = 0; k < count; k++) {
        TAKE_OR_FAIL(&held[k]);
        uint64_t mine[3] = {thread, turn, k};
        unsigned char *data = (unsigned char *)DATA(&held[k]);
        memcpy(data, mine, sizeof mine);
        memcpy(data + bytes - sizeof mine, mine, sizeof mine);
    }
    if (turn % 16 == 0) sched_yield();
    for (size_t k = 0; k < count; k++) {
        uint64_t mine[3] = {thread, turn, k};
        unsigned char *data = (unsigned char *)DATA(&held[k]);
        POOL_FORGET(data);
        if (memcmp(data, mine, sizeof mine) != 0 || memcmp(data + bytes - sizeof mine, mine, sizeof mine) != 0)
            pool_fail(LOOP__TEXT(SUBJECT), "a buffer that is out was written by another holder");
        GIVE(&held[k]);
    }
}

static void LOOP(loops)(pool_subject *out) {
    out->name = LOOP__TEXT(SUBJECT);
    out->handle_bytes = sizeof(HANDLE);
    out->pair = LOOP(pair);
    out->burst = LOOP(burst);
#ifdef TAKE_MANY
    out->many = LOOP(many);
#endif
    out->send = LOOP(send);
    out->receive = LOOP(receive);
    out->latency = LOOP(latency);
    out->aside = LOOP(aside);
    out->fill = LOOP(fill);
    out->claim = LOOP(claim);
}

#undef LOOP__JOIN2
#undef LOOP__JOIN
#undef LOOP
#undef LOOP__TEXT2
#undef LOOP__TEXT
#undef TAKE_OR_FAIL
#undef HANDLE_IS_ADDRESS
#undef SUBJECT
#undef LOCALS
#undef TAKE
#undef GIVE
#undef TAKE_MANY
#undef GIVE_MANY
#undef HANDLE
#undef DATA
#undef FORGET
#undef IN_MEMORY
#undef TAKE_NEW
#undef SEND
#undef ARRIVE
