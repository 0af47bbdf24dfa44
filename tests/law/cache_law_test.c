// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The budget law and the law of the close for caches, under everything at once: threads put, get, pin, reserve, load, count, touch, walk,
 * resize and clear two caches, one of which is elastic, below scopes that are too small for all, beside a pool and arenas that take and
 * give the same bytes. After every call no cache is above its budget and no scope above its limit; at every halt every byte is accounted for;
 * at the end there is nothing. */
#include <pthread.h>

#include "cache_check.h"
#include "nebula/memory.h"
#include "os_counter.h"
#include "testing.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum { THREADS = 8, KEYS = 2000, HANDS = 6, STEPS_BETWEEN_HALTS = 500 };

/* For all threads together. */
static size_t operations(void) {
    const char *given = getenv("NEBULA_LAW_OPS");
    return given != NULL ? strtoull(given, NULL, 0) : TEST_SLOW ? 60000 : 600000;
}

static struct {
    nm_scope *root, *caches, *others;
    nm_cache *cache[2];
    nm_pool *pool;
    size_t most[2]; /* budgets never go above */
    pthread_mutex_t resizing[2];
    pthread_barrier_t halt;
    NM_ATOMIC(uint32_t) broken; /* the line */
    NM_ATOMIC(uint64_t) lefts;  /* of the cache that tells */
    NM_ATOMIC(size_t) outside;  /* objects' bytes */
    NM_ATOMIC(uint64_t) refused, loads;
    unsigned threads;
    size_t rounds;
    uint64_t seed;
} x;

/* cmocka's asserts belong to the main thread. */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) nm_atomic_store(&x.broken, __LINE__, NM_RELAXED);                                            \
    } while (0)

static void on_evict(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size, void *context) {
    (void)reason, (void)key_len, (void)context;
    if (value == &x)
        nm_atomic_sub(&x.outside, size, NM_RELAXED);
    else
        for (size_t i = 0; i < size; i++) CHECK(((unsigned char *)value)[i] == *(const unsigned char *)key);
    nm_atomic_add(&x.lefts, 1, NM_RELAXED);
}

static bool is_refusal_at(nm_status st, int line) {
    if (st == NM_OK) return false;
    if (st != NM_ECAPACITY && st != NM_EBUDGET && st != NM_ETOOLARGE) {
        print_error("line %d: %s is no refusal\n", line, nm_status_name(st));
        CHECK(false);
    }
    nm_atomic_add(&x.refused, 1, NM_RELAXED);
    return true;
}

#define is_refusal(st) is_refusal_at(st, __LINE__)

/* Counted, and so not of one byte. */
static bool is_counter(uint64_t number) { return number >= KEYS; }

static bool is_whole(const nm_entry *e, uint64_t number) {
    if (e->value == &x || is_counter(number)) return true;
    const unsigned char *p = e->value;
    for (size_t i = 0; i < e->value_len; i++)
        if (p[i] != (unsigned char)number) return false;
    return true;
}

static nm_status load(nm_cache *cache, const void *key, size_t key_len, nm_entry *room, nm_put_options *options,
                      void *arg) {
    uint64_t r = *(uint64_t *)arg;
    nm_atomic_add(&x.loads, 1, NM_RELAXED);
    if (r % 4 == 0) return NM_ENOTFOUND;
    nm_status st = nm_cache_reserve(cache, key, key_len, 1 + r % 500, room);
    if (st != NM_OK) return st;
    memset(room->value, *(const unsigned char *)key, room->value_len);
    if (r % 4 == 1) options->ttl_ms = 1 + r % 50;
    return NM_OK;
}

/* What one thread has in its hands. */
typedef struct worker {
    pthread_t id;
    uint64_t seed;
    nm_entry hands[HANDS];
    uint64_t numbers[HANDS];
    nm_cursor cursor[2];
    unsigned char value[40 << 10];
} worker;

static void put(worker *w, unsigned which, uint64_t number, uint64_t r) {
    size_t bytes = 1 + r % (r % 97 == 0 ? sizeof w->value - 1 : r % 5 == 0 ? 3000 : 300);
    nm_status st;
    memset(w->value, (int)number, bytes);
    if (r % 11 == 0) {
        /* first, for it may have left again before the call returns */
        if (which == 1) nm_atomic_add(&x.outside, bytes, NM_RELAXED);
        st = nm_cache_put_object(x.cache[which], &number, sizeof number, &x, which == 1 ? bytes : 0);
        if (st != NM_OK && which == 1) nm_atomic_sub(&x.outside, bytes, NM_RELAXED);
    } else if (r % 3 == 0) {
        st = nm_cache_put_with(x.cache[which], &number, sizeof number, w->value, bytes,
                               NM_PUT_OPTIONS(.ttl_ms = 1 + r % 100, .flags = (uint32_t)r));
    } else {
        st = nm_cache_put(x.cache[which], &number, sizeof number, w->value, bytes);
    }
    (void)is_refusal(st);
}

static void commit(unsigned which, uint64_t number, uint64_t r) {
    nm_entry room;
    size_t bytes = 1 + r % 2000;
    if (is_refusal(nm_cache_reserve(x.cache[which], &number, sizeof number, bytes, &room))) return;
    memset(room.value, (int)number, bytes);
    if (r % 7 == 0 || is_refusal(nm_cache_commit(&room, r % 3 == 0 ? NM_PUT_OPTIONS(.ttl_ms = 20) : NULL)))
        nm_cache_abort(&room);
}

static void pin(worker *w, unsigned which, uint64_t number, uint64_t r) {
    unsigned h = (unsigned)r % HANDS;
    nm_entry *hand = &w->hands[h];
    if (hand->slot != NULL) CHECK(is_whole(hand, w->numbers[h]));
    nm_entry_release(hand);
    w->numbers[h] = number;
    if (r % 5 == 0) return;
    if (r % 5 == 1) {
        nm_status st = nm_cache_next(x.cache[which], &w->cursor[which], hand);
        if (st == NM_OK)
            memcpy(&w->numbers[h], hand->key, sizeof w->numbers[h]);
        else
            w->cursor[which] = (nm_cursor){0};
        CHECK(st == NM_OK || st == NM_ENOTFOUND || st == NM_ECAPACITY);
    } else if (!nm_cache_get(x.cache[which], &number, sizeof number, hand)) {
        CHECK(hand->slot == NULL);
    }
}

static void read_through(unsigned which, uint64_t number, uint64_t r) {
    nm_entry e;
    nm_status st = nm_cache_get_or_load(x.cache[which], &number, sizeof number, load, &r, 1000000, &e);
    if (st == NM_OK) {
        CHECK(is_whole(&e, number));
        nm_entry_release(&e);
    } else {
        CHECK(e.slot == NULL);
        if (st != NM_ENOTFOUND && st != NM_ETIMEDOUT && st != NM_EBUSY) (void)is_refusal(st);
    }
}

/* A request: an arena, leases and pins of its own, which go back with it. */
static void request(unsigned which, uint64_t number, uint64_t r) {
    nm_scope *scope;
    if (is_refusal(nm_scope_open(&scope, x.others, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)))) return;
    nm_arena *arena;
    nm_lease lease;
    nm_entry e;
    if (!is_refusal(nm_arena_open(&arena, scope, NULL))) {
        void *p = nm_arena_alloc(arena, 1 + r % 60000);
        if (p != NULL) memset(p, 1, 1 + r % 60000);
    }
    for (int i = 0; i < 3; i++)
        if (!is_refusal(nm_pool_lease_in(x.pool, scope, &lease))) memset(lease.data, 2, lease.size);
    if (nm_cache_get_in(x.cache[which], scope, &number, sizeof number, &e)) CHECK(is_whole(&e, number));
    if (!is_refusal(nm_cache_reserve_in(x.cache[which], scope, &number, sizeof number, r % 300, &e)))
        memset(e.value, 3, e.value_len);
    CHECK(nm_scope_close(scope, NULL) == 0);
}

static void rare(unsigned which, uint64_t r) {
    nm_cache *cache = x.cache[which];
    switch (r % 6) {
    case 0: nm_cache_clear(cache); break;
    case 1:
    case 2: {
        pthread_mutex_lock(&x.resizing[which]);
        nm_status st = nm_cache_resize(cache, 200 * KIB + r % (x.most[which] - 200 * KIB));
        CHECK(st == NM_OK || st == NM_EBUSY);
        /* Nobody else changes it now: it holds at this instant, and at each of the next. */
        for (int i = 0; i < 5; i++) CHECK(nm_cache_granted(cache) <= nm_cache_budget(cache));
        pthread_mutex_unlock(&x.resizing[which]);
        break;
    }
    case 3: (void)nm_scope_reclaim(x.root, r % (512 * KIB)); break;
    case 4: (void)nm_pool_trim(x.pool, r % 20); break;
    default: {
        nm_status st = nm_scope_set_budget(x.caches, 0, MIB + r % MIB);
        CHECK(st == NM_OK || st == NM_EBUSY);
    }
    }
}

/* Grows by digits, expires, is evicted and cleared as the others. */
static void count_up(uint64_t number, uint64_t r) {
    uint64_t n;
    nm_status st = nm_cache_increment(x.cache[0], &number, sizeof number, r, &n);
    if (st == NM_ENOTFOUND)
        st = nm_cache_put_with(x.cache[0], &number, sizeof number, "1", 1,
                               NM_PUT_OPTIONS(.mode = NM_PUT_ADD, .ttl_ms = r % 2 == 0 ? 50 : 0));
    if (st != NM_EEXISTS) (void)is_refusal(st);
}

static void step(worker *w) {
    uint64_t r = test_random(&w->seed), number = (r >> 40) % KEYS, more = (r >> 8) & 0xffffffff;
    unsigned which = (unsigned)(r >> 7) % 2;
    nm_cache *cache = x.cache[which];
    nm_status st;
    switch (r % 64) {
    case 0: rare(which, more); break;
    case 1:
    case 2:
    case 3:
    case 4: request(which, number, more); break;
    case 5:
    case 6:
    case 7:
    case 8:
    case 9:
    case 10: read_through(which, number, more); break;
    case 11:
    case 12:
    case 13:
    case 14: commit(which, number, more); break;
    case 15:
    case 16:
    case 17:
    case 18:
    case 19:
    case 20:
    case 21:
    case 22:
    case 23: pin(w, which, number, more); break;
    case 24:
    case 25:
        st = nm_cache_touch(cache, &number, sizeof number, more % 3 == 0 ? NM_TTL_NEVER : 1 + more % 100);
        if (st != NM_ENOTFOUND && st != NM_EBUSY) (void)is_refusal(st); /* busy: an object that is pinned */
        break;
    case 26:
        st = nm_cache_mark_stale(cache, &number, sizeof number, more % 100, 0);
        if (st != NM_ENOTFOUND && st != NM_EBUSY) (void)is_refusal(st);
        break;
    case 27:
        if (which == 0) (void)is_refusal(nm_cache_put_negative(cache, &number, sizeof number, 1 + more % 50));
        break;
    case 28:
    case 29:
    case 30: {
        st = nm_cache_remove(cache, &number, sizeof number);
        CHECK(st == NM_OK || st == NM_ENOTFOUND);
        break;
    }
    case 31:
        if (which == 0) count_up(KEYS + number % 16, more);
        break;
    default:
        if (r % 64 < 48)
            put(w, which, number, more);
        else
            pin(w, which, number, more);
    }
}

/* What holds at any instant, whatever others do. */
static bool is_within_limits(void) {
    static const size_t hard[] = {3 * MIB, 2 * MIB, 3 * MIB};
    const nm_scope *scopes[] = {x.root, x.caches, x.others};
    for (int i = 0; i < 2; i++)
        if (nm_cache_granted(x.cache[i]) > x.most[i] || nm_cache_used(x.cache[i]) > x.most[i]) return false;
    for (int i = 0; i < 3; i++) {
        nm_scope_stats st;
        nm_scope_get_stats(scopes[i], &st);
        if (st.granted_bytes > hard[i]) return false;
    }
    return true;
}

static bool adds_up(void) {
    nm_scope_stats root, caches;
    nm_scope_get_stats(x.root, &root);
    nm_scope_get_stats(x.caches, &caches);
    size_t committed = os_counter_committed();
    if (root.granted_bytes != committed + x.outside) {
        print_error("the root is granted %zu, the system has committed %zu, objects have %zu\n", root.granted_bytes,
                    committed, x.outside);
        return false;
    }
    if (caches.granted_bytes != nm_cache_granted(x.cache[0]) + nm_cache_granted(x.cache[1])) {
        print_error("the caches' scope is granted %zu, they say %zu and %zu\n", caches.granted_bytes,
                    nm_cache_granted(x.cache[0]), nm_cache_granted(x.cache[1]));
        return false;
    }
    return true;
}

static void *work(void *arg) {
    worker *w = arg;
    for (size_t round = 0; round < x.rounds; round++) {
        for (int i = 0; i < STEPS_BETWEEN_HALTS && nm_atomic_load(&x.broken, NM_RELAXED) == 0; i++) {
            step(w);
            CHECK(is_within_limits());
        }
        pthread_barrier_wait(&x.halt); /* the main thread looks at all of it */
        pthread_barrier_wait(&x.halt);
    }
    for (int i = 0; i < HANDS; i++) nm_entry_release(&w->hands[i]);
    return NULL;
}

static void check_at_halt(void) {
    if (x.broken != 0) return;
    CHECK(adds_up());
    for (int i = 0; i < 2; i++) cache_check(x.cache[i]);
}

static void keep_the_laws(unsigned threads, nm_cache_policy policy) {
    static worker workers[THREADS];
    memset(&x, 0, sizeof x);
    memset(workers, 0, sizeof workers);
    x.seed = test_seed();
    x.threads = threads;
    x.rounds = operations() / ((size_t)threads * STEPS_BETWEEN_HALTS) + 1;
    x.most[0] = 1536 * KIB;
    x.most[1] = 1024 * KIB;
    os_counter_install();
    pthread_barrier_init(&x.halt, NULL, threads + 1);
    assert_ok(nm_scope_open(&x.root, NULL, NM_SCOPE_OPTIONS(.name = "root", .hard_bytes = 3 * MIB)));
    assert_ok(nm_scope_open(&x.caches, x.root, NM_SCOPE_OPTIONS(.name = "caches", .hard_bytes = 2 * MIB)));
    assert_ok(nm_scope_open(&x.others, x.root, NM_SCOPE_OPTIONS(.name = "others")));
    assert_ok(nm_pool_open(&x.pool, x.others, NM_POOL_OPTIONS(.chunk_bytes = 16 * KIB, .max_count = 60)));
    assert_ok(
        nm_cache_open(&x.cache[0], x.caches,
                      NM_CACHE_OPTIONS(.name = "elastic", .budget_bytes = x.most[0], .shard_count = 4, .elastic = true,
                                       .floor_bytes = 150 * KIB, .policy = policy, .negative_ttl_ms = 30)));
    assert_ok(nm_cache_open(&x.cache[1], x.caches,
                            NM_CACHE_OPTIONS(.name = "told", .budget_bytes = x.most[1], .shard_count = 2,
                                             .policy = policy, .on_evict = on_evict)));
    for (int i = 0; i < 2; i++) pthread_mutex_init(&x.resizing[i], NULL);
    for (unsigned i = 0; i < threads; i++) {
        workers[i].seed = x.seed + i;
        assert_int_equal(pthread_create(&workers[i].id, NULL, work, &workers[i]), 0);
    }
    for (size_t round = 0; round < x.rounds; round++) {
        pthread_barrier_wait(&x.halt);
        os_counter_pass_ms(7);
        check_at_halt();
        pthread_barrier_wait(&x.halt);
    }
    for (unsigned i = 0; i < threads; i++) pthread_join(workers[i].id, NULL);
    if (x.broken != 0) fail_msg("line %u, seed %llu", (unsigned)x.broken, (unsigned long long)x.seed);
    check_at_halt();
    nm_cache_stats st[2];
    for (int i = 0; i < 2; i++) {
        nm_cache_get_stats(x.cache[i], &st[i]);
        assert_int_equal(st[i].pinned_count, 0);
        assert_int_equal(st[i].pinned_bytes, 0);
    }
    print_message("%" PRIu64 " and %" PRIu64 " evicted, %" PRIu64 " calls refused, %" PRIu64 " loads\n",
                  st[0].evictions, st[1].evictions, (uint64_t)x.refused, (uint64_t)x.loads);
    assert_true(st[0].evictions > 0 && st[1].evictions > 0 && st[0].expirations > 0 && x.loads > 0);
    assert_int_equal(st[0].loads + st[1].loads, x.loads);
    /* Whoever came to the one that tells has left it, or is there. */
    assert_int_equal(st[1].puts, x.lefts + nm_cache_count(x.cache[1]));
    for (int i = 0; i < 2; i++) assert_ok(nm_cache_close(x.cache[i]));
    assert_int_equal(st[1].puts, x.lefts);
    assert_int_equal(x.outside, 0);
    nm_scope_stats of;
    nm_scope_get_stats(x.caches, &of);
    assert_int_equal(of.granted_bytes, 0);
    assert_ok(nm_pool_close(x.pool));
    assert_int_equal(nm_scope_close(x.others, NULL), 0);
    assert_int_equal(nm_scope_close(x.caches, NULL), 0);
    nm_scope_get_stats(x.root, &of);
    assert_int_equal(of.granted_bytes, of.own_bytes + of.idle_bytes + of.credit_bytes);
    assert_int_equal(nm_scope_close(x.root, NULL), 0);
    assert_true(os_counter_remove());
    pthread_barrier_destroy(&x.halt);
}

static void one_thread_keeps_the_laws(void **state) {
    (void)state;
    keep_the_laws(1, NM_CACHE_SLRU);
}
static void two_threads_keep_the_laws(void **state) {
    (void)state;
    keep_the_laws(2, NM_CACHE_SLRU);
}
static void eight_threads_keep_the_laws(void **state) {
    (void)state;
    keep_the_laws(8, NM_CACHE_SLRU);
}
static void two_threads_keep_the_laws_with_three_queues(void **state) {
    (void)state;
    keep_the_laws(2, NM_CACHE_S3FIFO);
}
static void eight_threads_keep_the_laws_while_it_adapts(void **state) {
    (void)state;
    keep_the_laws(8, NM_CACHE_ADAPTIVE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_keeps_the_laws),
        cmocka_unit_test(two_threads_keep_the_laws),
        cmocka_unit_test(eight_threads_keep_the_laws),
        cmocka_unit_test(two_threads_keep_the_laws_with_three_queues),
        cmocka_unit_test(eight_threads_keep_the_laws_while_it_adapts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
