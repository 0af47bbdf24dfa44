// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Linearizability of one key: threads put, get, remove and count, each call with the times of its beginning and its end;
 * then an order is looked for that respects the times and that one thread could have seen (Wing, Gong 1993, with the memory of
 * Lowe 2017). If there is none, the cache was wrong. The checker itself is given histories that are wrong. */
#define _GNU_SOURCE /* sched_setaffinity */
#include <pthread.h>
#include <sched.h>

#include "cache_fixture.h"

#define THREADS 4u
#define CALLS   5u /* of each thread */
#define NONE    UINT64_MAX

typedef enum kind { PUT, ADD, GET, REMOVE, INCREMENT, CONTAINS, KINDS } kind;

typedef struct call {
    kind kind;
    uint64_t value; /* put; got, NONE: absent; after the increment, NONE: absent */
    bool done;      /* add, remove, contains: whether */
    uint64_t begin, end;
} call;

/* ---- the checker ------------------------------------------------------------------------------------------------- */

/* What one thread that calls it with `before` in the cache would see; false: not that. */
static bool is_possible(const call *c, uint64_t before, uint64_t *after) {
    *after = before;
    switch (c->kind) {
    case PUT: *after = c->value; return true;
    case ADD:
        if (c->done) *after = c->value;
        return c->done == (before == NONE);
    case GET: return c->value == before;
    case REMOVE: *after = NONE; return c->done == (before != NONE);
    case INCREMENT:
        if (before == NONE) return c->value == NONE;
        *after = before + 1;
        return c->value == *after;
    case CONTAINS: return c->done == (before != NONE);
    default: return false;
    }
}

typedef struct search {
    const call *calls;
    unsigned count;
    uint64_t seen[1 << 14]; /* sets of calls and values that led nowhere, hashed; 0: free */
} search;

static bool seen_before(search *s, uint32_t taken, uint64_t value) {
    uint64_t state = (uint64_t)taken << 32 ^ value * 0x9e3779b97f4a7c15u, mark = state ^ state >> 29;
    mark |= 1;
    size_t at = (size_t)(mark >> 7) % (sizeof s->seen / sizeof *s->seen);
    /* One that takes another one's place costs a search twice, nothing else. Two that are the same by chance would cost an answer:
     * one in 2^63 pairs. */
    if (s->seen[at] == mark) return true;
    s->seen[at] = mark;
    return false;
}

static bool find_order(search *s, uint32_t taken, uint64_t value) {
    if (taken == (1u << s->count) - 1) return true;
    if (seen_before(s, taken, value)) return false;
    uint64_t first_end = UINT64_MAX; /* who begins later comes later */
    for (unsigned i = 0; i < s->count; i++)
        if (!(taken >> i & 1) && s->calls[i].end < first_end) first_end = s->calls[i].end;
    for (unsigned i = 0; i < s->count; i++) {
        uint64_t after;
        if ((taken >> i & 1) || s->calls[i].begin > first_end || !is_possible(&s->calls[i], value, &after)) continue;
        if (find_order(s, taken | 1u << i, after)) return true;
    }
    return false;
}

static bool is_linear(const call *calls, unsigned count, uint64_t at_first) {
    static search s;
    s.calls = calls;
    s.count = count;
    memset(s.seen, 0, sizeof s.seen);
    return find_order(&s, 0, at_first);
}

static void the_checker_knows_right_from_wrong(void **state) {
    (void)state;
    /* A get while a put is under way may see either; two in a row may not see the new and then the old. */
    const call overlap[] = {{PUT, 1, true, 1, 10}, {GET, NONE, false, 2, 3}, {GET, 1, false, 4, 5}};
    assert_true(is_linear(overlap, 3, NONE));
    const call back[] = {{PUT, 1, true, 1, 10}, {GET, 1, false, 2, 3}, {GET, NONE, false, 4, 5}};
    assert_false(is_linear(back, 3, NONE));
    /* After the end of a put nobody sees what was before. */
    const call late[] = {{PUT, 1, true, 1, 2}, {GET, 7, false, 3, 4}};
    assert_false(is_linear(late, 2, 7));
    assert_true(is_linear(late, 1, 7));
    /* One of two removes; one of two adds. */
    const call removes[] = {{REMOVE, 0, true, 1, 5}, {REMOVE, 0, true, 2, 6}};
    assert_false(is_linear(removes, 2, 7));
    const call one_removes[] = {{REMOVE, 0, true, 1, 5}, {REMOVE, 0, false, 2, 6}};
    assert_true(is_linear(one_removes, 2, 7));
    const call adds[] = {{ADD, 1, true, 1, 5}, {ADD, 2, true, 2, 6}};
    assert_false(is_linear(adds, 2, NONE));
    /* A count that was lost. */
    const call lost[] = {{INCREMENT, 8, true, 1, 5}, {INCREMENT, 8, true, 2, 6}};
    assert_false(is_linear(lost, 2, 7));
    const call both[] = {{INCREMENT, 9, true, 1, 5}, {INCREMENT, 8, true, 2, 6}};
    assert_true(is_linear(both, 2, 7));
    const call in_order[] = {{INCREMENT, 9, true, 1, 2}, {INCREMENT, 8, true, 3, 4}};
    assert_false(is_linear(in_order, 2, 7));
    /* Present for one, absent for the other, and nobody has changed it. */
    const call split[] = {{CONTAINS, 0, true, 1, 5}, {CONTAINS, 0, false, 2, 6}};
    assert_false(is_linear(split, 2, 7));
    /* A value that nobody has put. */
    const call invented[] = {{PUT, 1, true, 1, 9}, {PUT, 2, true, 1, 9}, {GET, 3, false, 1, 9}};
    assert_false(is_linear(invented, 3, NONE));
    assert_true(is_linear(invented, 0, NONE));
}

/* ---- the cache --------------------------------------------------------------------------------------------------- */

static struct {
    NM_ATOMIC(uint64_t) clock; /* every reading is another one */
    NM_ATOMIC(uint32_t) wrong, stop, ready;
    call calls[THREADS * CALLS];
    unsigned threads, rounds, overlaps; /* rounds in which two calls were under way at once */
    uint64_t seed;
} x;

/* All numbers have 10 digits, or a few of them not, so that counting goes in place and elsewhere. */
static uint64_t value_for(uint64_t r, unsigned thread, unsigned i) {
    uint64_t n = (uint64_t)(thread * CALLS + i + 1) * 1000;
    return r % 4 == 0 ? 999 - thread * CALLS - i : 1000000000 + n;
}

static bool read_number(const nm_entry *e, uint64_t *out) {
    char text[32] = "";
    if (e->value_len == 0 || e->value_len >= sizeof text) return false;
    memcpy(text, e->value, e->value_len);
    char *end;
    *out = strtoull(text, &end, 10);
    while (*end == ' ') end++;
    return *end == '\0';
}

static bool make_call(call *c, unsigned thread, unsigned i, uint64_t r) {
    char text[32];
    nm_entry e;
    nm_status st = NM_OK;
    bool right = true;
    c->kind = (kind)(r % KINDS);
    c->value = c->kind == PUT || c->kind == ADD ? value_for(r >> 16, thread, i) : NONE;
    int len = snprintf(text, sizeof text, "%" PRIu64, c->value);
    /* seq_cst: the readings are in one order with what lies between them */
    c->begin = nm_atomic_add(&x.clock, 1, NM_SEQ_CST);
    switch (c->kind) {
    case PUT: st = nm_cache_put(cache, "key", 3, text, (size_t)len); break;
    case ADD:
        st = nm_cache_put_with(cache, "key", 3, text, (size_t)len,
                               NM_PUT_OPTIONS(.mode = NM_PUT_ADD, .flags = (uint32_t)(r >> 8) % 2));
        break;
    case GET: st = nm_cache_get(cache, "key", 3, &e) ? NM_OK : NM_ENOTFOUND; break;
    case REMOVE: st = nm_cache_remove(cache, "key", 3); break;
    case INCREMENT: st = nm_cache_increment(cache, "key", 3, 1, &c->value); break;
    default: st = nm_cache_contains(cache, "key", 3) ? NM_OK : NM_ENOTFOUND; break;
    }
    c->end = nm_atomic_add(&x.clock, 1, NM_SEQ_CST);
    c->done = st == NM_OK;
    if (c->kind == GET && c->done) {
        right = read_number(&e, &c->value);
        nm_entry_release(&e);
    }
    if (c->kind == INCREMENT && !c->done) c->value = NONE;
    nm_status other = c->kind == ADD ? NM_EEXISTS : NM_ENOTFOUND;
    return right && (c->done || (c->kind != PUT && st == other));
}

static void print_history(uint64_t at_first) {
    static const char *const names[] = {"put", "add", "get", "remove", "increment", "contains"};
    print_error("at first %" PRId64 "\n", (int64_t)at_first);
    for (unsigned i = 0; i < x.threads * CALLS; i++) {
        const call *c = &x.calls[i];
        print_error("thread %u  %4" PRIu64 " to %4" PRIu64 "  %-9s %" PRId64 " %s\n", i / CALLS, c->begin, c->end,
                    names[c->kind], (int64_t)c->value, c->done ? "done" : "no");
    }
}

static bool prepare(uint64_t r, uint64_t *at_first) {
    *at_first = r % 3 == 0 ? NONE : 5;
    nm_atomic_store(&x.clock, 0, NM_RELAXED);
    if (*at_first != NONE) return nm_cache_put(cache, "key", 3, "5", 1) == NM_OK;
    nm_status st = nm_cache_remove(cache, "key", 3);
    return st == NM_OK || st == NM_ENOTFOUND;
}

static bool overlaps(void) {
    for (unsigned i = 0; i < x.threads * CALLS; i++)
        for (unsigned j = 0; j < x.threads * CALLS; j++)
            if (i / CALLS != j / CALLS && x.calls[i].begin < x.calls[j].begin && x.calls[j].begin < x.calls[i].end)
                return true;
    return false;
}

/* A barrier for those who stay awake: who sleeps wakes long after the others have begun. */
static void meet(unsigned *times) {
    ++*times;
    nm_atomic_add(&x.ready, 1, NM_ACQ_REL); /* pairs with the acquire below, of the others */
    for (unsigned spins = 1; nm_atomic_load(&x.ready, NM_ACQUIRE) < x.threads * *times; spins++)
        if (spins % 500 == 0) sched_yield();
}

/* Each on a processor of its own, as far as there are some: a scheduler likes to have those together who wait for each other. */
static void spread(unsigned thread) {
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) == 0) return;
    unsigned skip = thread % (unsigned)CPU_COUNT(&allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || skip-- != 0) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        (void)sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

static void *work(void *arg) {
    unsigned thread = (unsigned)(uintptr_t)arg, times = 0;
    uint64_t seed = x.seed + thread;
    spread(thread);
    for (unsigned round = 0; round < x.rounds && nm_atomic_load(&x.wrong, NM_RELAXED) == 0; round++) {
        uint64_t first = NONE;
        if (thread == 0 && !prepare(x.seed * 31 + round, &first)) nm_atomic_store(&x.wrong, 1, NM_RELAXED);
        meet(&times);
        for (unsigned i = 0; i < CALLS; i++)
            if (!make_call(&x.calls[thread * CALLS + i], thread, i, test_random(&seed)))
                nm_atomic_store(&x.wrong, 2, NM_RELAXED);
        meet(&times);
        if (thread == 0) {
            x.overlaps += overlaps();
            if (!is_linear(x.calls, x.threads * CALLS, first)) {
                print_history(first);
                nm_atomic_store(&x.wrong, 3, NM_RELAXED);
            }
        }
        meet(&times); /* so that all see whether it goes on */
    }
    return NULL;
}

/* Other keys come and go, so that the index grows and shrinks; all fit, so that nothing is evicted. */
static void *disturb(void *arg) {
    (void)arg;
    while (!nm_atomic_load(&x.stop, NM_RELAXED))
        for (int way = 0; way < 2; way++)
            for (uint64_t i = 0; i < 8000 && !nm_atomic_load(&x.stop, NM_RELAXED); i++)
                if (way == 0) {
                    if (nm_cache_put(cache, &i, sizeof i, "12345678", 8) != NM_OK)
                        nm_atomic_store(&x.wrong, 4, NM_RELAXED);
                } else {
                    (void)nm_cache_remove(cache, &i, sizeof i);
                }
    return NULL;
}

static void run(unsigned threads, bool disturbed, nm_evict_fn *fn) {
    pthread_t ids[THREADS], other;
    open_cache(.budget_bytes = 4 * MIB, .shard_count = 1, .on_evict = fn);
    memset(&x, 0, sizeof x);
    x.seed = test_seed();
    x.threads = threads;
    x.rounds = TEST_SLOW ? 400 : 4000;
    if (disturbed) assert_int_equal(pthread_create(&other, NULL, disturb, NULL), 0);
    for (uintptr_t i = 0; i < threads; i++) assert_int_equal(pthread_create(&ids[i], NULL, work, (void *)i), 0);
    for (unsigned i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    nm_atomic_store(&x.stop, 1, NM_RELAXED);
    if (disturbed) pthread_join(other, NULL);
    assert_int_equal(x.wrong, 0);
    print_message("%u of %u rounds had calls that overlap\n", x.overlaps, x.rounds);
    assert_true(x.overlaps > x.rounds / 100); /* else it has shown nothing */
    assert_int_equal(stats().evictions, 0);
    close_cache();
}

static void two_threads_could_have_been_one(void **state) {
    (void)state;
    run(2, false, NULL);
}
static void three_threads_could_have_been_one(void **state) {
    (void)state;
    run(3, false, NULL);
}
static void four_threads_could_have_been_one(void **state) {
    (void)state;
    run(4, false, NULL);
}
static void three_threads_on_an_index_that_changes_could_have_been_one(void **state) {
    (void)state;
    run(3, true, NULL);
}

static void nobody(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size, void *context) {
    (void)reason, (void)key, (void)key_len, (void)value, (void)size, (void)context;
}
static void three_threads_with_a_callback_could_have_been_one(void **state) {
    (void)state;
    run(3, false, nobody);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_checker_knows_right_from_wrong),
        TEST(two_threads_could_have_been_one),
        TEST(three_threads_could_have_been_one),
        TEST(four_threads_could_have_been_one),
        TEST(three_threads_on_an_index_that_changes_could_have_been_one),
        TEST(three_threads_with_a_callback_could_have_been_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
