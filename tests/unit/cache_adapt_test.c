// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The adaptation with a policy that follows it, against LRU on requests of several kinds. */
#include "cache/adapt.h"

#include "testing.h"

#define KEYS 60000u

static uint64_t hash_of_key(uint32_t key) {
    uint64_t state = key;
    return test_random(&state);
}

/* ---- a cache without memory ---- */

typedef struct place {
    nm__node node;
    uint32_t weight; /* 0: absent */
} place;

typedef struct cache {
    place *places;
    nm__policy policy;
    void *tables, *adapt_memory;
    nm__adapt *adapt; /* NULL: plain */
    size_t used, room, hits;
    uint32_t version, sampled;
} cache;

static size_t weight_of(void *context, uint32_t number) { return ((place *)context)[number / 2].weight; }
static uint64_t hash_of(void *context, uint32_t number) {
    (void)context;
    return hash_of_key(number / 2);
}
static const nm__policy_owner owner = {.weight = weight_of, .hash = hash_of};

static void *zeroed(size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    void *memory = aligned_alloc(64, bytes);
    assert_non_null(memory);
    memset(memory, 0, bytes);
    return memory;
}

static void cache_open(cache *c, nm_cache_policy policy, nm_cache_objective objective, size_t room, size_t entries) {
    memset(c, 0, sizeof *c);
    c->room = room;
    c->places = calloc(KEYS, sizeof *c->places);
    assert_non_null(c->places);
    size_t bytes = nm__policy_tables_bytes(policy, room, entries);
    if (bytes != 0) c->tables = zeroed(bytes);
    nm__policy_open(&c->policy, &owner, c->places, c->places, policy, objective, 80, c->tables, bytes);
    nm__policy_set_room(&c->policy, room);
    if (policy != NM_CACHE_ADAPTIVE) return;
    bytes = nm__adapt_bytes(NM__ADAPT_NODES_MAX);
    c->adapt_memory = zeroed(bytes);
    c->adapt = zeroed(sizeof *c->adapt);
    nm__adapt_open(c->adapt, objective, 80, c->adapt_memory, bytes);
    nm__adapt_set_room(c->adapt, room, room);
}

static void cache_close(cache *c) {
    free(c->places);
    free(c->tables);
    free(c->adapt_memory);
    free(c->adapt);
}

static void cache_request(cache *c, uint32_t key, uint32_t weight) {
    assert_in_range(key, 1, KEYS - 1);
    uint64_t hash = hash_of_key(key);
    bool hit = c->places[key].weight != 0;
    if (hit) {
        c->hits++;
        nm__policy_hit(&c->policy, key * 2, hash);
    } else {
        while (c->used + weight > c->room) {
            uint32_t victim = nm__policy_victim(&c->policy, weight);
            assert_int_not_equal(victim, 0);
            nm__policy_remove(&c->policy, victim);
            c->used -= c->places[victim / 2].weight;
            c->places[victim / 2] = (place){.weight = 0};
        }
        c->places[key].weight = weight;
        c->used += weight;
        nm__policy_add(&c->policy, key * 2, hash);
    }
    if (c->adapt == NULL || !nm__adapt_sampled(c->adapt, hash)) return;
    c->sampled++;
    nm__adapt_request(c->adapt, hash, weight, hit);
    if (nm__adapt_version(c->adapt) == c->version) return;
    c->version = nm__adapt_version(c->adapt);
    nm__policy_set(&c->policy, nm__adapt_setting(c->adapt));
}

/* ---- requests ---- */

typedef uint32_t key_fn(uint64_t *seed, uint32_t i);

static uint32_t skewed(uint64_t *seed, double keys) {
    double u = (double)(test_random(seed) >> 11) / 9007199254740992.0;
    return (uint32_t)(u * u * u * keys);
}
static uint32_t loop(uint64_t *seed, uint32_t i) {
    (void)seed;
    return 1 + i % 3000;
}
static uint32_t popular(uint64_t *seed, uint32_t i) {
    (void)i;
    return 1 + skewed(seed, 50000);
}
static uint32_t popular_and_scans(uint64_t *seed, uint32_t i) {
    return i % 8000 < 2000 ? 20000 + i % 39000 : 1 + skewed(seed, 15000);
}
static uint32_t recent(uint64_t *seed, uint32_t i) { return 1 + (i / 8 + 50000 - skewed(seed, 2500)) % 50000; }
static uint32_t shifting(uint64_t *seed, uint32_t i) { return 1 + i / 20000 * 4000 % 50000 + skewed(seed, 4000); }

/* The reduction of LRU's misses. */
static double reduction(key_fn *next, bool sized, nm_cache_objective objective, size_t room, size_t entries) {
    cache lru, adaptive;
    uint32_t count = TEST_SLOW ? 100000 : 300000;
    uint64_t seed = 42;
    cache_open(&lru, NM_CACHE_LRU, objective, room, entries);
    cache_open(&adaptive, NM_CACHE_ADAPTIVE, objective, room, entries);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t key = next(&seed, i), weight = sized ? 16u << hash_of_key(key) % 8 : 1;
        cache_request(&lru, key, weight);
        cache_request(&adaptive, key, weight);
    }
    double misses = (double)(count - lru.hits), fewer = misses - (double)(count - adaptive.hits);
    print_message("misses %.0f of %" PRIu32 ", fewer by %.0f\n", misses, count, fewer);
    cache_close(&lru);
    cache_close(&adaptive);
    return fewer / misses;
}

static void a_loop_that_does_not_fit_hits_in_part(void **state) {
    (void)state;
    assert_true(reduction(loop, false, NM_OBJECTIVE_HITS, 1000, 1000) > 0.25); /* the bound is a third */
}

static void popular_keys_stay(void **state) {
    (void)state;
    assert_true(reduction(popular, false, NM_OBJECTIVE_HITS, 1000, 1000) > 0.08);
    assert_true(reduction(popular, false, NM_OBJECTIVE_HITS, 8000, 8000) > 0.05); /* a sample */
    assert_true(reduction(popular_and_scans, false, NM_OBJECTIVE_HITS, 2000, 2000) > 0.08);
}

static void small_ones_stay_if_hits_count(void **state) {
    (void)state;
    assert_true(reduction(popular, true, NM_OBJECTIVE_HITS, 500000, 1000) > 0.2);
}

static void what_lru_is_best_at_is_not_lost(void **state) {
    (void)state;
    assert_true(reduction(recent, false, NM_OBJECTIVE_HITS, 1000, 1000) > -0.05);
    assert_true(reduction(shifting, false, NM_OBJECTIVE_HITS, 1000, 1000) > -0.05);
    assert_true(reduction(recent, true, NM_OBJECTIVE_BYTES, 500000, 1000) > -0.06);
}

/* ---- the sample ---- */

static void a_large_cache_is_sampled_within_the_nodes(void **state) {
    (void)state;
    cache c;
    uint64_t seed = test_seed();
    cache_open(&c, NM_CACHE_ADAPTIVE, NM_OBJECTIVE_HITS, 30000, 30000);
    for (uint32_t i = 0; i < 150000; i++) cache_request(&c, 1 + (uint32_t)test_below(&seed, KEYS - 1), 1);
    uint32_t before = c.sampled;
    for (uint32_t i = 0; i < 50000; i++) cache_request(&c, 1 + (uint32_t)test_below(&seed, KEYS - 1), 1);
    double share = (double)c.adapt->threshold / 4294967296.0;
    print_message("share of the keys %.3f, of the requests %.3f\n", share, (c.sampled - before) / 50000.0);
    assert_true(share > 0.08 && share <= 4000.0 / 30000);
    assert_true((c.sampled - before) / 50000.0 < share * 1.2);
    for (unsigned way = 0; way < NM__WAYS; way++)
        assert_in_range(c.adapt->shadows[way].used_count, 1000, NM__ADAPT_NODES_MAX);
    /* Objects become large, the nodes idle, and more keys are looked at. */
    for (uint32_t i = 0; i < 200000; i++) cache_request(&c, 1 + i % (KEYS - 1), 300);
    assert_true(c.adapt->threshold > UINT32_MAX / 4);
    cache_close(&c);
}

static void without_memory_it_is_off(void **state) {
    (void)state;
    static nm__adapt a;
    size_t bytes = nm__adapt_bytes(NM__ADAPT_NODES_MIN) - 64;
    void *memory = zeroed(bytes);
    nm__adapt_open(&a, NM_OBJECTIVE_HITS, 70, memory, bytes);
    nm__adapt_set_room(&a, 1 << 20, 1 << 20);
    for (uint32_t key = 0; key < 1000; key++) assert_false(nm__adapt_sampled(&a, hash_of_key(key)));
    assert_int_equal(nm__adapt_setting(&a)->choice, NM__BY_SEGMENT);
    assert_int_equal(nm__adapt_setting(&a)->protected_percent, 70);
    free(memory);
    memory = zeroed(nm__adapt_bytes(NM__ADAPT_NODES_MIN));
    nm__adapt_open(&a, NM_OBJECTIVE_HITS, 70, memory, nm__adapt_bytes(NM__ADAPT_NODES_MIN));
    assert_true(nm__adapt_sampled(&a, hash_of_key(1)));
    free(memory);
}

/* ---- what is learned ---- */

static void worth_falls_with_age_unless_keys_come_round(void **state) {
    (void)state;
    static nm__history h;
    float worth[NM__RANKS][NM__AGE_BINS];
    void *memory = zeroed(1 << 16);
    nm__history_open(&h, memory, 1 << 16);
    nm__history_worth(&h, worth);
    for (unsigned rank = 0; rank < NM__RANKS; rank++) {
        for (unsigned bin = 8; bin + 1 < NM__AGE_BINS; bin++) assert_true(worth[rank][bin] >= worth[rank][bin + 1]);
        if (rank > 0) assert_true(worth[rank][0] > worth[rank - 1][0]);
    }
    /* All are used again after 40 units of time: the longer it is gone, the sooner it comes. */
    for (uint16_t time = 1; time < 4000; time++) {
        uint32_t sample = 1000 + time % 40u;
        nm__history_look(&h, sample, time);
        nm__history_rank(&h, sample, time, 1, false);
        nm__history_rank(&h, sample, time, 1, false); /* a put alone counts nothing */
    }
    assert_true(h.used[1] < 4100);
    nm__history_worth(&h, worth);
    assert_true(worth[1][nm__age_bin(30)] > 2 * worth[1][0]);
    free(memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_that_does_not_fit_hits_in_part),
        cmocka_unit_test(popular_keys_stay),
        cmocka_unit_test(small_ones_stay_if_hits_count),
        cmocka_unit_test(what_lru_is_best_at_is_not_lost),
        cmocka_unit_test(a_large_cache_is_sampled_within_the_nodes),
        cmocka_unit_test(without_memory_it_is_off),
        cmocka_unit_test(worth_falls_with_age_unless_keys_come_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
