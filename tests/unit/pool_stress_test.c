// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Pools under random use by 2, 4 and 8 threads that come and go, against a shadow that knows who holds what. NEBULA_POOL_OPS:
 * how many leases for each of the tests' runs; NEBULA_SEED. tests/soak/pool_soak.c does the same for hours. */
#include "pool_fixture.h"
#include "pool_stress.h"

static uint64_t seed;

static uint64_t leases_each(void) {
    const char *given = getenv("NEBULA_POOL_OPS");
    return given != NULL ? strtoull(given, NULL, 0) : TEST_SLOW ? 10000 : 50000;
}

static void run(fixture *f, stress s) {
    static const size_t threads[] = {2, 4, 8};
    s.pool.struct_size = sizeof s.pool;
    s.leases = leases_each();
    for (size_t i = 0; i < COUNT(threads); i++) {
        stress_counts done;
        s.threads = threads[i];
        s.seed = seed + i;
        s.hand = s.pool.max_count * 3 / 2 / threads[i]; /* together they want more than there is */
        if (s.hand > 200) s.hand = 200;
        bool right = stress_run(f->root, &s, &done);
        print_message("%zu threads: %" PRIu64 " leases, %" PRIu64 " refused, %" PRIu64 " shares, %" PRIu64
                      " passed on, %" PRIu64 " held, %" PRIu64 " waits, %" PRIu64 " of them too long, %" PRIu64
                      " trims, %" PRIu64 " threads\n",
                      s.threads, done.leases, done.refused, done.shares, done.passed_on, done.held, done.waited,
                      done.timed_out, done.trims, done.threads);
        if (!right) fail_msg("NEBULA_SEED=%" PRIu64 ": %s (%" PRIu64 " things wrong)", seed, done.first, done.wrong);
        assert_true(done.leases >= s.leases);
        if (s.bursts == 0)
            assert_true(done.shares != 0 && done.passed_on != 0 && done.waited != 0 && done.held != 0 &&
                        done.trims != 0);
    }
}

static void a_pool_too_small_for_magazines(void **state) {
    run(*state, (stress){.pool = {.chunk_bytes = 100, .max_count = 24}});
}
static void a_pool_of_one_buffer(void **state) {
    fixture *f = *state;
    stress s = {.pool = {.struct_size = sizeof s.pool, .chunk_bytes = 64, .max_count = 1}, .hand = 1, .threads = 4};
    stress_counts done;
    s.leases = leases_each() / 4;
    s.seed = seed;
    if (!stress_run(f->root, &s, &done)) fail_msg("NEBULA_SEED=%" PRIu64 ": %s", seed, done.first);
}
static void a_pool_with_magazines(void **state) {
    run(*state, (stress){.pool = {.chunk_bytes = 256, .max_count = 256}});
}
static void a_pool_with_small_magazines(void **state) {
    run(*state, (stress){.pool = {.chunk_bytes = 1500, .max_count = 1000, .magazine_count = 4}});
}
static void a_pool_with_large_magazines_mostly_used_in_bursts(void **state) {
    run(*state, (stress){.pool = {.chunk_bytes = 4096, .max_count = 4096}, .bursts = 90});
}
static void a_pool_that_zeroes(void **state) {
    run(*state, (stress){.pool = {.chunk_bytes = 200, .max_count = 200, .zero_on_release = true}});
}
static void a_pool_that_is_whole(void **state) {
    run(*state, (stress){.pool = {.chunk_bytes = 1000, .max_count = 300, .prealloc_count = 300}});
}
static void a_pool_that_its_budget_bounds(void **state) {
    run(*state, (stress){.pool = {.chunk_bytes = 4096, .max_count = 512}, .hard_bytes = 300 * PAGE});
}

static void what_is_wrong_is_found(void **state) {
    fixture *f = *state;
    if (TEST_SLOW) skip(); /* a sanitizer would find it first */
    static const size_t caps[] = {24, 256};
    for (size_t c = 0; c < COUNT(caps); c++)
        for (int plant = STRESS_SECOND_HOLDER; plant <= STRESS_LOST_LEASE; plant++) {
            stress s = {.pool = {.struct_size = sizeof s.pool, .chunk_bytes = 64, .max_count = caps[c]}, .threads = 4};
            stress_counts done;
            s.hand = caps[c] / 2;
            s.leases = 100000;
            s.seed = seed;
            s.plant = (stress_plant)plant;
            assert_false(stress_run(f->root, &s, &done));
            print_message("%s\n", done.first);
        }
}

int main(void) {
    seed = test_seed();
    const struct CMUnitTest tests[] = {
        POOL_TEST(a_pool_too_small_for_magazines),
        POOL_TEST(a_pool_of_one_buffer),
        POOL_TEST(a_pool_with_magazines),
        POOL_TEST(a_pool_with_small_magazines),
        POOL_TEST(a_pool_with_large_magazines_mostly_used_in_bursts),
        POOL_TEST(a_pool_that_zeroes),
        POOL_TEST(a_pool_that_is_whole),
        POOL_TEST(a_pool_that_its_budget_bounds),
        POOL_TEST(what_is_wrong_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
