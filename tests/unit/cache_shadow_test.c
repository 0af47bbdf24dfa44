// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/shadow.h"

#include "testing.h"

static uint64_t hash_of(uint32_t key) {
    uint64_t state = key;
    return test_random(&state);
}

static void *memory;

static void open_shadow(nm__shadow *s, nm_cache_policy policy, uint32_t nodes, size_t room) {
    size_t bytes = (nm__shadow_bytes(policy, nodes) + 63) / 64 * 64;
    free(memory);
    memory = aligned_alloc(64, bytes);
    assert_non_null(memory);
    memset(memory, 0, bytes);
    nm__shadow_open(s, policy, NM_OBJECTIVE_HITS, 80, memory, nodes);
    nm__shadow_set_room(s, room, room);
}

static bool request(nm__shadow *s, uint32_t key, size_t weight) {
    bool hit = nm__shadow_look(s, hash_of(key), NULL);
    nm__shadow_put(s, hash_of(key), weight);
    return hit;
}

static size_t all_bytes(const nm__shadow *s) {
    return nm__policy_bytes(&s->policy, NM__WINDOW) + nm__policy_bytes(&s->policy, NM__PROBATION) +
           nm__policy_bytes(&s->policy, NM__PROTECTED);
}

static uint32_t skewed(uint64_t *seed, double keys) {
    double u = (double)(test_random(seed) >> 11) / 9007199254740992.0;
    return 1 + (uint32_t)(u * u * u * keys);
}

static void a_node_costs_what_is_said(void **state) {
    (void)state;
    assert_in_range(nm__shadow_bytes(NM_CACHE_ADAPTIVE, 4000), 4000 * 24, 4000 * 53 / 2 + 192);
    assert_in_range(nm__shadow_bytes(NM_CACHE_LRU, 4000), 4000 * 24, 4000 * 24 + 128);
}

static void weights_are_kept_within_the_room(void **state) {
    (void)state;
    static const nm_cache_policy policies[] = {NM_CACHE_LRU, NM_CACHE_SLRU, NM_CACHE_S3FIFO, NM_CACHE_ADAPTIVE};
    uint64_t seed = test_seed();
    for (size_t p = 0; p < 4; p++) {
        nm__shadow s;
        open_shadow(&s, policies[p], 2000, 50000);
        for (int i = 0; i < 30000; i++) {
            uint32_t key = skewed(&seed, 3000);
            request(&s, key, 1 + key % 400 + (i % 50 == 0)); /* now and then another weight */
            assert_in_range(all_bytes(&s), 1, 50000);
            assert_true(nm__shadow_find(&s, hash_of(key)) != 0 || policies[p] == NM_CACHE_S3FIFO || i % 50 == 0);
        }
        assert_false(s.crowded);
        nm__shadow_put(&s, hash_of(99999), 50001); /* larger than all */
        assert_int_equal(nm__shadow_find(&s, hash_of(99999)), 0);
        assert_true(all_bytes(&s) > 25000);
        nm__shadow_set_room(&s, 1000, 1000);
        request(&s, 77777, 10);
        assert_in_range(all_bytes(&s), 1, 1000);
    }
}

static void a_loop_that_fits_hits_and_one_that_does_not_misses_in_lru(void **state) {
    (void)state;
    nm__shadow s;
    size_t hits = 0;
    open_shadow(&s, NM_CACHE_LRU, 200, 100);
    for (int i = 0; i < 1000; i++) hits += request(&s, 1 + (uint32_t)i % 100, 1);
    assert_int_equal(hits, 900);
    open_shadow(&s, NM_CACHE_LRU, 200, 100);
    hits = 0;
    for (int i = 0; i < 1000; i++) hits += request(&s, 1 + (uint32_t)i % 101, 1);
    assert_int_equal(hits, 0);
}

static void want_of_nodes_is_told_and_thinning_makes_room(void **state) {
    (void)state;
    nm__shadow s;
    open_shadow(&s, NM_CACHE_SLRU, 100, 1000);
    for (uint32_t key = 1; key <= 100; key++) request(&s, key, 1);
    assert_false(s.crowded);
    request(&s, 101, 1);
    assert_true(s.crowded);
    assert_int_equal(s.used_count, 100);
    nm__shadow_thin(&s, UINT32_MAX / 2);
    assert_in_range(s.used_count, 25, 75);
    size_t found = 0;
    for (uint32_t key = 1; key <= 101; key++) {
        bool there = nm__shadow_find(&s, hash_of(key)) != 0;
        assert_true(!there || nm__sample_of(hash_of(key)) < UINT32_MAX / 2);
        found += there;
    }
    assert_int_equal(found, s.used_count);
    assert_int_equal(all_bytes(&s), found);
    nm__shadow_thin(&s, 0);
    assert_int_equal(s.used_count, 0);
}

/* Skewed requests for 100,000 keys: a cache of 20,000 in full, and one of 2,000 on a tenth of the keys. */
static void a_sample_tells_the_hit_ratio_of_the_whole(void **state) {
    (void)state;
    static nm__shadow whole, tenth;
    uint64_t seed = test_seed();
    open_shadow(&tenth, NM_CACHE_SLRU, 3000, 2000);
    void *of_tenth = memory;
    memory = NULL;
    open_shadow(&whole, NM_CACHE_SLRU, 30000, 20000);
    size_t hits = 0, count = 0, sampled_hits = 0, sampled = 0;
    for (int i = 0; i < 600000; i++) {
        double u = (double)(test_random(&seed) >> 11) / 9007199254740992.0;
        uint32_t key = 1 + (uint32_t)(u * u * 100000);
        bool hit = request(&whole, key, 1), late = i > 200000;
        hits += hit && late;
        count += late;
        if (nm__sample_of(hash_of(key)) >= UINT32_MAX / 10) continue;
        hit = request(&tenth, key, 1);
        sampled_hits += hit && late;
        sampled += late;
    }
    double is = (double)hits / (double)count, told = (double)sampled_hits / (double)sampled;
    print_message("hit ratio %.4f, by the sample %.4f\n", is, told);
    assert_true(is - told < 0.03 && told - is < 0.03);
    free(of_tenth);
    free(memory);
    memory = NULL;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_costs_what_is_said),
        cmocka_unit_test(weights_are_kept_within_the_room),
        cmocka_unit_test(a_loop_that_fits_hits_and_one_that_does_not_misses_in_lru),
        cmocka_unit_test(want_of_nodes_is_told_and_thinning_makes_room),
        cmocka_unit_test(a_sample_tells_the_hit_ratio_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
