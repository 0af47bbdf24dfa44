// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The curve against caches of the sizes that it speaks of, which are simulated whole. */
#include "cache/curve.h"

#include "testing.h"

#define KEYS 60000u
#define ROOM 4000u

static const double factors[NM__CURVE_POINTS] = {0.125, 0.25, 0.5, 1, 2, 4, 8};

static uint64_t salt; /* another one, another sample */

static uint64_t hash_of(uint32_t key) {
    uint64_t state = key ^ salt << 32;
    return test_random(&state);
}

static void *zeroed(size_t bytes) {
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(memory);
    memset(memory, 0, bytes);
    return memory;
}

/* The whole caches; the one of the present size is the cache itself. */
typedef struct caches {
    nm_cache_policy policy;
    nm__shadow *whole[NM__CURVE_POINTS];
    void *memory[NM__CURVE_POINTS + 1];
    uint64_t requests, misses[NM__CURVE_POINTS]; /* since the last caches_recount */
    uint64_t all_requests, all_misses;
    nm__curve curve;
    uint64_t half_life;
} caches;

/* ADAPTIVE without its adaptation, that is a segmented LRU by size. */
static void caches_open(caches *c, nm_cache_policy policy, size_t room, uint32_t nodes) {
    memset(c, 0, sizeof *c);
    c->policy = policy;
    c->half_life = UINT64_MAX;
    size_t rooms[NM__CURVE_POINTS];
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        rooms[i] = (size_t)((double)room * factors[i]);
        c->memory[i] = zeroed(nm__shadow_bytes(policy, NM__SHADOW_NODES_MAX));
        c->whole[i] = zeroed(sizeof(nm__shadow));
        nm__shadow_open(c->whole[i], policy, NM_OBJECTIVE_HITS, 80, c->memory[i], NM__SHADOW_NODES_MAX);
        nm__shadow_set_room(c->whole[i], rooms[i], rooms[i]);
    }
    c->memory[NM__CURVE_POINTS] = zeroed(nm__curve_bytes(policy, false, nodes));
    nm__curve_open(&c->curve, policy, NM_OBJECTIVE_HITS, 80, false, c->memory[NM__CURVE_POINTS], nodes);
    nm__curve_set_rooms(&c->curve, rooms, rooms);
}

static void caches_close(caches *c) {
    for (unsigned i = 0; i <= NM__CURVE_POINTS; i++) free(c->memory[i]);
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) free(c->whole[i]);
}

static void caches_count(caches *c) { nm__curve_count(&c->curve, c->all_requests, c->all_misses, 0, c->half_life); }

/* A look-up, and a put if that missed. told: the curve hears of it. */
static void caches_request(caches *c, uint32_t key, size_t weight, bool told) {
    uint64_t hash = hash_of(key);
    bool hit = false;
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        bool hits = nm__shadow_look(c->whole[i], hash, NULL);
        if (!hits) {
            c->misses[i]++;
            (void)nm__shadow_put(c->whole[i], hash, weight);
        }
        if (i == NM__CURVE_SELF) hit = hits;
    }
    c->requests++;
    c->all_requests++;
    c->all_misses += !hit;
    if (told && hit) nm__curve_hit(&c->curve, hash, weight);
    if (told && !hit) {
        nm__curve_miss(&c->curve, hash);
        nm__curve_put(&c->curve, hash, weight);
    }
    if (c->all_requests % 100 == 0) caches_count(c);
}

static void caches_recount(caches *c) {
    caches_count(c);
    nm__curve_forget(&c->curve);
    c->requests = 0;
    memset(c->misses, 0, sizeof c->misses);
}

/* The largest error, and the mean one, at 1/4 to 4 times the size. */
static double error_of(caches *c, double *mean) {
    nm__prediction told[NM__CURVE_POINTS];
    caches_count(c);
    nm__curve_read(&c->curve, told);
    double worst = 0;
    *mean = 0;
    for (unsigned i = 1; i + 1 < NM__CURVE_POINTS; i++) {
        double is = 1 - (double)c->misses[i] / (double)c->requests;
        double error = is > told[i].hit_ratio ? is - told[i].hit_ratio : told[i].hit_ratio - is;
        print_message("%s%.4f is %.4f", i == 1 ? "" : ", ", told[i].hit_ratio, is);
        if (error > worst) worst = error;
        if (i != NM__CURVE_SELF) *mean += error / 4;
        if (i == NM__CURVE_SELF) assert_true(error < 1e-9); /* that is measured */
    }
    print_message(": off by %.4f on the mean, %.4f at most\n", *mean, worst);
    return worst;
}

static uint32_t skewed(uint64_t *seed, double keys) {
    double u = (double)(test_random(seed) >> 11) / 9007199254740992.0;
    return 1 + (uint32_t)(u * u * u * keys);
}

#define REQUESTS (TEST_SLOW ? 120000u : 400000u)

/* ---- what it tells ---- */

static void it_tells_what_other_caches_hit(void **state) {
    (void)state;
    static const nm_cache_policy policies[] = {NM_CACHE_LRU, NM_CACHE_SLRU, NM_CACHE_S3FIFO};
    uint64_t seed = salt = test_seed();
    for (size_t p = 0; p < 3; p++) {
        caches c;
        double mean;
        caches_open(&c, policies[p], ROOM, 1000);
        for (uint32_t i = 0; i < REQUESTS; i++) caches_request(&c, skewed(&seed, KEYS), 1, true);
        for (unsigned i = 1; i < NM__CURVE_POINTS; i++) /* samples, not all, but of the smallest */
            assert_true(i == NM__CURVE_SELF || c.curve.minis[i].threshold < UINT32_MAX);
        assert_true(error_of(&c, &mean) < 0.04);
        assert_true(mean < 0.02);
        caches_close(&c);
    }
}

static void few_nodes_do_for_a_small_cache(void **state) {
    (void)state;
    uint64_t seed = salt = test_seed();
    caches c;
    double mean;
    caches_open(&c, NM_CACHE_SLRU, ROOM, 64);
    for (uint32_t i = 0; i < REQUESTS; i++) caches_request(&c, skewed(&seed, KEYS), 1, true);
    assert_true(error_of(&c, &mean) < 0.09);
    assert_true(mean < 0.05);
    caches_close(&c);
}

static void where_the_nodes_reach_for_all_it_is_exact(void **state) {
    (void)state;
    uint64_t seed = salt = test_seed();
    caches c;
    double mean;
    caches_open(&c, NM_CACHE_SLRU, 1000, 8000);
    for (uint32_t i = 0; i < REQUESTS / 2; i++) caches_request(&c, skewed(&seed, KEYS), 1, true);
    assert_true(error_of(&c, &mean) < 1e-6);
    caches_close(&c);
}

/* ---- what it could be misled by ---- */

/* Nearly a third of the requests, and either all of them are in a sample or none. */
static void a_hot_key_does_not_mislead_it(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    bool was_in = false, was_out = false;
    for (salt = seed; !was_in || !was_out; salt++) {
        bool in = nm__sample_of(hash_of(1)) < UINT32_MAX / 64;
        if (in ? was_in : was_out) continue;
        was_in |= in;
        was_out |= !in;
        caches c;
        double mean;
        caches_open(&c, NM_CACHE_LRU, ROOM, 500);
        for (uint32_t i = 0; i < REQUESTS / 2; i++)
            caches_request(&c, test_below(&seed, 10) < 3 ? 1 : 1 + skewed(&seed, KEYS), 1, true);
        assert_true(error_of(&c, &mean) < 0.05);
        caches_close(&c);
    }
}

/* All keys alike: a sample with more requests than its share has more misses too. */
static void a_loop_does_not_mislead_it(void **state) {
    (void)state;
    salt = test_seed();
    caches c;
    double mean;
    caches_open(&c, NM_CACHE_LRU, ROOM, 300);
    for (uint32_t i = 0; i < REQUESTS / 2; i++) caches_request(&c, 1 + i % 10000, 1, true);
    assert_true(error_of(&c, &mean) < 0.01);
    caches_close(&c);
}

/* The first requests are all misses, and are counted while everything is still sampled. */
static void the_beginning_weighs_no_more_than_the_rest(void **state) {
    (void)state;
    uint64_t seed = salt = test_seed();
    caches c;
    double mean;
    caches_open(&c, NM_CACHE_LRU, ROOM, 250);
    for (uint32_t i = 0; i < 30000; i++) caches_request(&c, 1 + i, 1, true);
    for (uint32_t i = 0; i < REQUESTS / 4; i++) caches_request(&c, skewed(&seed, 9000), 1, true);
    assert_true(error_of(&c, &mean) < 0.08);
    caches_close(&c);
}

/* As when threads find each other at work there. */
static void requests_that_it_was_not_told_of_are_stood_for_by_others(void **state) {
    (void)state;
    uint64_t seed = salt = test_seed();
    caches c;
    double mean;
    caches_open(&c, NM_CACHE_LRU, ROOM, 1000);
    c.curve.each = 1.5;
    for (uint32_t i = 0; i < REQUESTS; i++) caches_request(&c, skewed(&seed, KEYS), 1, test_below(&seed, 3) != 0);
    assert_true(error_of(&c, &mean) < 0.035);
    caches_close(&c);
}

/* ---- what changes ---- */

static void what_was_long_ago_fades(void **state) {
    (void)state;
    salt = test_seed();
    caches c;
    nm__prediction told[NM__CURVE_POINTS];
    caches_open(&c, NM_CACHE_LRU, 100, 2000);
    c.half_life = 5000;
    for (uint32_t i = 0; i < 40000; i++) caches_request(&c, i % 2 ? 1 : 2, 1, true); /* all hit */
    for (uint32_t i = 0; i < 5000; i++) caches_request(&c, 1000 + i, 1, true);       /* none does */
    caches_count(&c);
    nm__curve_read(&c.curve, told);
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) assert_true(told[i].hit_ratio > 0.48 && told[i].hit_ratio < 0.52);
    /* Half-life / log(2) in all. */
    assert_true(c.curve.requests > 7213 * 0.97 && c.curve.requests < 7213 * 1.03);
    c.half_life = 100;
    for (uint32_t i = 0; i < 10000; i++) caches_request(&c, 1, 1, true);
    caches_count(&c);
    nm__curve_read(&c.curve, told);
    assert_true(told[0].hit_ratio > 0.999);
    caches_close(&c);
}

static void larger_entries_make_it_sample_more(void **state) {
    (void)state;
    uint64_t seed = salt = test_seed();
    caches c;
    double mean;
    caches_open(&c, NM_CACHE_LRU, ROOM, 400);
    for (uint32_t i = 0; i < REQUESTS / 4; i++) caches_request(&c, skewed(&seed, KEYS), 1, true);
    uint32_t before = c.curve.minis[2].threshold;
    for (uint32_t i = 0; i < REQUESTS / 4; i++) caches_request(&c, KEYS + skewed(&seed, 2000), 20, true);
    assert_true(c.curve.minis[2].threshold > before * 3ull);
    caches_recount(&c);
    for (uint32_t i = 0; i < REQUESTS / 4; i++) caches_request(&c, KEYS + skewed(&seed, 2000), 20, true);
    assert_true(error_of(&c, &mean) < 0.06);
    caches_close(&c);
}

static void bytes_are_told_by_what_hits_and_misses_weigh(void **state) {
    (void)state;
    uint64_t seed = salt = test_seed();
    caches c;
    nm__prediction told[NM__CURVE_POINTS];
    caches_open(&c, NM_CACHE_LRU, 40000, 1000);
    /* What all caches have weighs 10 and is nine requests in ten; what none has weighs 30: 3/12 of the bytes are missed. */
    for (uint32_t i = 0; i < REQUESTS / 4; i++) {
        if (i % 10 != 0)
            caches_request(&c, 1 + (uint32_t)test_below(&seed, 20), 10, true);
        else
            caches_request(&c, 1000 + i, 30, true);
    }
    caches_count(&c);
    nm__curve_read(&c.curve, told);
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        assert_true(told[i].hit_ratio > 0.89 && told[i].hit_ratio < 0.91);
        assert_true(told[i].byte_hit_ratio > 0.73 && told[i].byte_hit_ratio < 0.77);
    }
    caches_close(&c);
}

static void what_is_removed_or_cleared_misses(void **state) {
    (void)state;
    salt = test_seed();
    caches c;
    nm__prediction told[NM__CURVE_POINTS];
    caches_open(&c, NM_CACHE_SLRU, 100, 2000);
    for (uint32_t i = 0; i < 10; i++) caches_request(&c, 1 + i, 1, true);
    caches_recount(&c);
    for (uint32_t i = 0; i < 10; i++) nm__curve_remove(&c.curve, hash_of(1 + i));
    nm__curve_remove(&c.curve, hash_of(77));
    for (uint32_t i = 0; i < 10; i++) nm__curve_miss(&c.curve, hash_of(1 + i));
    for (uint32_t i = 0; i < 10; i++) nm__curve_put(&c.curve, hash_of(1 + i), 1);
    for (unsigned point = 0; point < NM__CURVE_POINTS; point++) nm__curve_clear(&c.curve, point);
    for (uint32_t i = 0; i < 10; i++) nm__curve_miss(&c.curve, hash_of(1 + i));
    c.all_requests += 20;
    c.all_misses += 20;
    caches_count(&c);
    nm__curve_read(&c.curve, told);
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) assert_true(told[i].hit_ratio == 0);
    caches_close(&c);
}

static void without_requests_it_tells_nothing(void **state) {
    (void)state;
    caches c;
    nm__prediction told[NM__CURVE_POINTS];
    caches_open(&c, NM_CACHE_LRU, 100, 100);
    nm__curve_read(&c.curve, told);
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) assert_true(told[i].hit_ratio == 0 && told[i].byte_hit_ratio == 0);
    caches_close(&c);
}

/* ---- points that adapt themselves ---- */

/* A loop over three times what fits: other settings keep a third of it, plain LRU nothing, and where it fits all is kept. What is best
 * differs between the sizes. Who has an eighth forgets all keys before they come round. */
static void each_size_finds_its_own_setting(void **state) {
    (void)state;
    salt = test_seed();
    static nm__curve curve;
    uint32_t nodes = 400, loop = 3 * ROOM;
    size_t rooms[NM__CURVE_POINTS];
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) rooms[i] = (size_t)(ROOM * factors[i]);
    void *memory = zeroed(nm__curve_bytes(NM_CACHE_ADAPTIVE, true, nodes));
    nm__curve_open(&curve, NM_CACHE_ADAPTIVE, NM_OBJECTIVE_HITS, 80, true, memory, nodes);
    nm__curve_set_rooms(&curve, rooms, rooms);
    uint64_t misses = 0;
    for (uint32_t i = 0; i < 30 * loop; i++) {
        /* The cache itself keeps a third. */
        uint64_t hash = hash_of(1 + i % loop);
        bool hit = i >= loop && i % loop < ROOM;
        misses += !hit;
        if (hit) nm__curve_hit(&curve, hash, 1);
        if (!hit) {
            nm__curve_miss(&curve, hash);
            nm__curve_put(&curve, hash, 1);
        }
    }
    nm__prediction told[NM__CURVE_POINTS];
    nm__curve_count(&curve, 30 * loop, misses, 0, UINT64_MAX);
    nm__curve_read(&curve, told);
    for (unsigned i = 1; i < NM__CURVE_POINTS; i++) {
        double most = factors[i] < 3 ? factors[i] / 3 : 1;
        print_message("%g times: %.3f of at most %.3f\n", factors[i], told[i].hit_ratio, most);
        assert_true(told[i].hit_ratio > most / 2 && told[i].hit_ratio < most * 1.5 + 0.01);
    }
    free(memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_tells_what_other_caches_hit),
        cmocka_unit_test(few_nodes_do_for_a_small_cache),
        cmocka_unit_test(where_the_nodes_reach_for_all_it_is_exact),
        cmocka_unit_test(a_hot_key_does_not_mislead_it),
        cmocka_unit_test(a_loop_does_not_mislead_it),
        cmocka_unit_test(the_beginning_weighs_no_more_than_the_rest),
        cmocka_unit_test(requests_that_it_was_not_told_of_are_stood_for_by_others),
        cmocka_unit_test(what_was_long_ago_fades),
        cmocka_unit_test(larger_entries_make_it_sample_more),
        cmocka_unit_test(bytes_are_told_by_what_hits_and_misses_weigh),
        cmocka_unit_test(what_is_removed_or_cleared_misses),
        cmocka_unit_test(without_requests_it_tells_nothing),
        cmocka_unit_test(each_size_finds_its_own_setting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
