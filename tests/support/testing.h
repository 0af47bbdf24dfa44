// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What every test program wants: cmocka in the right order, seeds, statuses by name. */
#ifndef NM_TESTS_SUPPORT_TESTING_H
#define NM_TESTS_SUPPORT_TESTING_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "nebula/base.h"

/* True under a sanitizer, which makes each step about ten times as slow. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define TEST_SLOW 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define TEST_SLOW 1
#endif
#endif
#ifndef TEST_SLOW
#define TEST_SLOW 0
#endif

/* Compares by name, so that a failure reads "NM_EBUDGET != NM_OK". */
#define assert_status(got, wanted) assert_string_equal(nm_status_name(got), nm_status_name(wanted))
#define assert_ok(got)             assert_status(got, NM_OK)

/* The seed of this run: NEBULA_SEED, else the clock; printed, so that a failure can be had again. */
static inline uint64_t test_seed(void) {
    const char *given = getenv("NEBULA_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u;
    print_message("seed: NEBULA_SEED=%" PRIu64 "\n", seed);
    return seed;
}

/* splitmix64 (Steele, Lea, Flood 2014) */
static inline uint64_t test_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static inline size_t test_below(uint64_t *state, size_t n) { return (size_t)(test_random(state) % n); }

#endif
