// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Threads do everything at once to one cache: what they read is whole, the budget holds, every entry that left was told. */
#include <pthread.h>

#include "cache_check.h"
#include "nebula/cache.h"
#include "testing.h"

#define KIB  ((size_t)1 << 10)
#define KEYS 512u

#define STEPS (TEST_SLOW ? 6000 : 30000)

typedef struct world {
    nm_scope *root, *scope;
    nm_cache *cache;
    NM_ATOMIC(uint64_t) puts, lefts;
    NM_ATOMIC(uint32_t) broken; /* cmocka's asserts belong to the main thread */
    uint64_t seed;
    bool resizes, clears, large;
} world;

static void broke(world *w) { nm_atomic_store(&w->broken, 1, NM_RELAXED); }

static void on_evict(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size, void *context) {
    world *w = context;
    (void)reason, (void)key, (void)key_len;
    for (size_t i = 1; i < size; i++)
        if (((unsigned char *)value)[i] != ((unsigned char *)value)[0]) broke(w);
    nm_atomic_add(&w->lefts, 1, NM_RELAXED);
}

static bool whole(const nm_entry *e) {
    const unsigned char *p = e->value;
    for (size_t i = 1; i < e->value_len; i++)
        if (p[i] != p[0]) return false;
    return true;
}

/* Pins and a reservation that go back with a scope of the thread's own. */
static void hold_by_request(world *w, uint64_t number) {
    nm_scope *request;
    if (nm_scope_open(&request, w->root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST, .leak_report = NM_LEAKS_STRICT)) !=
        NM_OK)
        return;
    nm_entry e, room;
    size_t held = nm_cache_get_in(w->cache, request, &number, sizeof number, &e);
    if (held != 0 && !whole(&e)) broke(w);
    if (nm_cache_reserve_in(w->cache, request, &number, sizeof number, 100, &room) == NM_OK) held++;
    if (nm_scope_close(request, NULL) != held) broke(w);
}

static void step(world *w, uint64_t r, nm_entry *hand, unsigned char *value) {
    uint64_t number = (r >> 32) % KEYS;
    size_t bytes = 1 + (r >> 8) % (w->large && r % 256 == 1 ? 40000 : 600);
    nm_entry e;
    nm_status st;
    switch (r % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
        memset(value, (int)number, bytes);
        st = nm_cache_put(w->cache, &number, sizeof number, value, bytes);
        if (st == NM_OK)
            nm_atomic_add(&w->puts, 1, NM_RELAXED);
        else if (st != NM_ECAPACITY && st != NM_ETOOLARGE)
            broke(w);
        break;
    case 4:
        if (nm_cache_reserve(w->cache, &number, sizeof number, bytes, &e) != NM_OK) break;
        memset(e.value, (int)number, bytes);
        if (r % 32 == 4) {
            nm_cache_abort(&e);
        } else if (nm_cache_commit(&e, r % 64 == 20 ? NM_PUT_OPTIONS(.ttl_ms = 5) : NULL) == NM_OK) {
            nm_atomic_add(&w->puts, 1, NM_RELAXED);
        } else {
            nm_cache_abort(&e);
        }
        break;
    case 5: (void)nm_cache_remove(w->cache, &number, sizeof number); break;
    case 6:
        if (hand->slot != NULL && !whole(hand)) broke(w);
        nm_entry_release(hand);
        if (!nm_cache_get(w->cache, &number, sizeof number, hand) && hand->slot != NULL) broke(w);
        break;
    case 7:
        (void)nm_cache_contains(w->cache, &number, sizeof number);
        hold_by_request(w, number);
        if (nm_cache_used(w->cache) > nm_cache_budget(w->cache) && !w->resizes) broke(w);
        break;
    case 8:
        if (r % 512 == 8 && w->clears) nm_cache_clear(w->cache);
        if (r % 512 == 24 && w->resizes) {
            st = nm_cache_resize(w->cache, 250 * KIB + (r >> 32) % (200 * KIB));
            if (st != NM_OK && st != NM_EBUSY) broke(w);
        }
        if (r % 512 == 40) (void)nm_scope_reclaim(w->root, (r >> 32) % (64 * KIB));
        break;
    default:
        if (nm_cache_get(w->cache, &number, sizeof number, &e)) {
            if (!whole(&e) || ((unsigned char *)e.value)[0] != (unsigned char)number) broke(w);
            nm_entry_release(&e);
        }
    }
}

static void *work(void *arg) {
    world *w = arg;
    uint64_t seed = nm_atomic_add(&w->seed, 0x12345, NM_RELAXED);
    nm_entry hand = {0};
    unsigned char *value = malloc(40001);
    for (int i = 0; i < STEPS && value != NULL; i++) step(w, test_random(&seed), &hand, value);
    nm_entry_release(&hand);
    free(value);
    return NULL;
}

static void run(unsigned threads, nm_cache_options o, world *w) {
    pthread_t ids[8];
    w->seed = test_seed();
    assert_ok(nm_scope_open(&w->root, NULL, NULL));
    assert_ok(nm_scope_open(&w->scope, w->root, NULL));
    o.context = w;
    assert_ok(nm_cache_open(&w->cache, w->scope, &o));
    for (unsigned i = 0; i < threads; i++) assert_int_equal(pthread_create(&ids[i], NULL, work, w), 0);
    for (unsigned i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    assert_false(w->broken);
    cache_check(w->cache);
    cache_law(w->cache, w->scope);
    if (o.on_evict != NULL) assert_int_equal(w->puts, w->lefts + nm_cache_count(w->cache));
    assert_ok(nm_cache_close(w->cache));
    if (o.on_evict != NULL) assert_int_equal(w->puts, w->lefts);
    assert_int_equal(nm_scope_close(w->scope, NULL), 0);
    assert_int_equal(nm_scope_close(w->root, NULL), 0);
}

static nm_cache_options options(unsigned shards, bool elastic, nm_evict_fn *fn) {
    nm_cache_options o = nm_cache_options_init();
    o.budget_bytes = 300 * KIB;
    o.shard_count = shards;
    o.elastic = elastic;
    o.on_evict = fn;
    return o;
}

static void two_threads_on_one_shard_put_get_pin_and_remove(void **state) {
    (void)state;
    run(2, options(1, false, NULL), &(world){.large = true});
}

static void four_threads_on_four_shards_with_resize_clear_and_reclaim(void **state) {
    (void)state;
    run(4, options(4, true, NULL), &(world){.resizes = true, .clears = true, .large = true});
}

static void four_threads_and_each_entry_that_left_was_told_once(void **state) {
    (void)state;
    run(4, options(2, true, on_evict), &(world){.resizes = true, .clears = true, .large = true});
}

/* The budget is read while a resize shrinks it: what is granted is never above it. */
static NM_ATOMIC(uint32_t) stop;

static void *watch(void *arg) {
    world *w = arg;
    while (!nm_atomic_load(&stop, NM_ACQUIRE)) {
        /* granted between two reads of a budget that did not change in between */
        size_t budget = nm_cache_budget(w->cache), granted = nm_cache_granted(w->cache);
        if (budget == nm_cache_budget(w->cache) && granted > 450 * KIB) broke(w);
    }
    return NULL;
}

static void the_budget_is_never_passed_at_any_instant(void **state) {
    (void)state;
    world w = {.large = true};
    pthread_t ids[3];
    w.seed = test_seed();
    assert_ok(nm_scope_open(&w.root, NULL, NULL));
    w.scope = w.root;
    nm_cache_options o = options(4, false, NULL);
    o.budget_bytes = 450 * KIB;
    assert_ok(nm_cache_open(&w.cache, w.root, &o));
    nm_atomic_store(&stop, 0, NM_RELEASE);
    assert_int_equal(pthread_create(&ids[0], NULL, watch, &w), 0);
    for (int i = 1; i < 3; i++) assert_int_equal(pthread_create(&ids[i], NULL, work, &w), 0);
    for (int i = 0; i < 50; i++) {
        nm_status st = nm_cache_resize(w.cache, (i % 2 == 0 ? 200 : 450) * KIB);
        assert_true(st == NM_OK || st == NM_EBUSY);
        if (st == NM_OK) assert_true(nm_cache_granted(w.cache) <= nm_cache_budget(w.cache));
    }
    for (int i = 1; i < 3; i++) pthread_join(ids[i], NULL);
    nm_atomic_store(&stop, 1, NM_RELEASE);
    pthread_join(ids[0], NULL);
    assert_false(w.broken);
    cache_check(w.cache);
    nm_scope_close(w.root, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_threads_on_one_shard_put_get_pin_and_remove),
        cmocka_unit_test(four_threads_on_four_shards_with_resize_clear_and_reclaim),
        cmocka_unit_test(four_threads_and_each_entry_that_left_was_told_once),
        cmocka_unit_test(the_budget_is_never_passed_at_any_instant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
