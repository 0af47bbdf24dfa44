// SPDX-License-Identifier: Apache-2.0 OR MIT
/* When should a cache learn anew? Beside a cache that hits as it is told, not at all; if it lags, or entries have another size, once. */
#include "cache/guard.h"

#include "testing.h"

#define ROOM  1000000u
#define NODES 400u

static nm__guard guard;
static void *memory;
static uint64_t seed;

static void open_guard(nm_cache_objective objective) {
    size_t bytes = (nm__guard_bytes(NODES) + 63) / 64 * 64;
    free(memory);
    memory = aligned_alloc(64, bytes);
    assert_non_null(memory);
    memset(memory, 0, bytes);
    nm__guard_open(&guard, objective, memory, NODES);
    nm__guard_set_room(&guard, ROOM, ROOM);
}

static uint64_t hash_of(uint64_t key) { return test_random(&key); }

/* Skewed requests for more keys than fit. The cache is the LRU itself, which knows by the guard's own nodes, but for the share of hits that it misses. Alarms. */
static unsigned run(uint64_t base, size_t weight, unsigned requests, unsigned missed_in_a_hundred) {
    unsigned alarms = 0;
    double keys = 4.0 * ROOM / (double)weight;
    for (unsigned i = 0; i < requests; i++) {
        double u = (double)(test_random(&seed) >> 11) / 9007199254740992.0;
        uint64_t hash = hash_of(base + (uint64_t)(u * u * u * keys));
        bool there = nm__shadow_find(&guard.shadow, hash) != 0;
        if (there && test_random(&seed) % 100 >= missed_in_a_hundred) {
            alarms += nm__guard_hit(&guard, hash, weight);
        } else {
            alarms += nm__guard_miss(&guard, hash);
            nm__guard_put(&guard, hash, weight);
        }
        assert_true(guard.shadow.used_count <= NODES);
        assert_true(nm__shadow_used_bytes(&guard.shadow) <= ROOM);
    }
    return alarms;
}

static void nothing_is_said_of_a_cache_that_does_as_well(void **state) {
    (void)state;
    for (size_t weight = 100; weight <= 100000; weight *= 10) {
        seed = test_seed();
        open_guard(NM_OBJECTIVE_HITS);
        assert_int_equal(run(0, weight, 300000, 0), 0);
    }
}

static void a_cache_that_lags_is_told_again_and_again(void **state) {
    (void)state;
    seed = test_seed();
    open_guard(NM_OBJECTIVE_HITS);
    assert_true(run(0, 1000, 300000, 40) > 1);
    open_guard(NM_OBJECTIVE_BYTES);
    assert_int_equal(run(0, 1000, 300000, 40), 0); /* of bytes it cannot tell */
}

static void larger_entries_are_noticed_once(void **state) {
    (void)state;
    for (int objective = 0; objective < 2; objective++) {
        seed = test_seed();
        open_guard(objective == 0 ? NM_OBJECTIVE_HITS : NM_OBJECTIVE_BYTES);
        assert_int_equal(run(0, 100, 300000, 0), 0);
        uint32_t before = guard.threshold;
        assert_int_equal(run((uint64_t)1 << 40, 10000, 300000, 0), 1);
        assert_true(guard.threshold / 16 > before); /* the sample has followed */
        assert_int_equal(run((uint64_t)2 << 40, 10000, 300000, 0), 0);
        assert_int_equal(run((uint64_t)3 << 40, 100, 300000, 0), 0); /* small ones push large ones out by themselves */
    }
}

static void what_is_removed_or_cleared_is_gone(void **state) {
    (void)state;
    open_guard(NM_OBJECTIVE_HITS);
    for (uint64_t key = 1; key <= 50; key++) nm__guard_put(&guard, hash_of(key), 1000);
    assert_int_equal(guard.shadow.used_count, 50);
    nm__guard_remove(&guard, hash_of(7));
    nm__guard_remove(&guard, hash_of(777));
    assert_int_equal(guard.shadow.used_count, 49);
    nm__guard_clear(&guard);
    assert_int_equal(guard.shadow.used_count, 0);
    assert_int_equal(nm__guard_threshold_for(&guard, 1), UINT32_MAX);
}

static void a_room_of_0_keeps_nothing(void **state) {
    (void)state;
    open_guard(NM_OBJECTIVE_HITS);
    nm__guard_set_room(&guard, 0, 0);
    for (uint64_t key = 1; key <= 1000; key++) {
        assert_false(nm__guard_miss(&guard, hash_of(key)));
        nm__guard_put(&guard, hash_of(key), 1000);
    }
    assert_int_equal(guard.shadow.used_count, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_said_of_a_cache_that_does_as_well),
        cmocka_unit_test(a_cache_that_lags_is_told_again_and_again),
        cmocka_unit_test(larger_entries_are_noticed_once),
        cmocka_unit_test(what_is_removed_or_cleared_is_gone),
        cmocka_unit_test(a_room_of_0_keeps_nothing),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(memory);
    return failed;
}
