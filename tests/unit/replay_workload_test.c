// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "../../tools/replay/workload.c"

#include "testing.h"

#define REQUESTS 300000

static void the_same_seed_gives_the_same_stream_and_another_one_does_not(void **state) {
    (void)state;
    workload a, b, c;
    workload_start(&a, 5000, 7);
    workload_start(&b, 5000, 7);
    workload_start(&c, 5000, 8);
    size_t differing = 0, count = 0;
    for (;;) {
        char x[WORKLOAD_LINE_MAX], y[WORKLOAD_LINE_MAX], z[WORKLOAD_LINE_MAX];
        size_t len = workload_next(&a, x);
        assert_int_equal(workload_next(&b, y), len);
        size_t other = workload_next(&c, z);
        if (len == 0) {
            assert_int_equal(other, 0);
            break;
        }
        assert_memory_equal(x, y, len);
        differing += other != len || memcmp(x, z, len) != 0;
        count++;
    }
    assert_int_equal(count, 5000);
    assert_int_equal(differing, 5000);
}

struct seen {
    size_t item, hot, scan;
};

static struct seen read_all(uint64_t requests) {
    struct seen seen = {0};
    workload w;
    workload_start(&w, requests, WORKLOAD_SEED);
    char line[WORKLOAD_LINE_MAX];
    size_t len;
    while ((len = workload_next(&w, line)) != 0) {
        assert_true(len < WORKLOAD_LINE_MAX);
        line[len] = '\0';
        seen.item += strncmp(line, "item:", 5) == 0;
        seen.hot += strncmp(line, "hot:", 4) == 0;
        seen.scan += strncmp(line, "scan:", 5) == 0;
        char *size_text = strchr(line, ' '), *end;
        assert_non_null(size_text);
        uint64_t size = strtoull(size_text + 1, &end, 10);
        assert_int_equal(*end, 0);
        assert_true(size >= 1 && size <= WORKLOAD_SIZE_MAX);
    }
    return seen;
}

static void the_three_kinds_are_mixed_as_the_header_says(void **state) {
    (void)state;
    struct seen seen = read_all(REQUESTS);
    assert_int_equal(seen.scan, REQUESTS / SCAN_PERIOD * SCAN_KEYS);
    double others = REQUESTS - (double)seen.scan;
    assert_true(fabs((double)seen.hot / others - HOT_SHARE) < 0.01);
    assert_int_equal(seen.item + seen.hot + seen.scan, REQUESTS);
}

static void sizes_look_lognormal_with_a_tail_and_a_cap(void **state) {
    (void)state;
    double sum = 0, squares = 0;
    size_t above = 0, capped = 0, below_median = 0;
    for (uint64_t key = 0; key < 100000; key++) {
        uint64_t size = size_of(hash_mix(key));
        sum += log((double)size);
        squares += log((double)size) * log((double)size);
        above += size >= 262144;
        capped += size == WORKLOAD_SIZE_MAX;
        below_median += (double)size < SIZE_MEDIAN;
    }
    double mean = sum / 100000, deviation = sqrt(squares / 100000 - mean * mean);
    assert_true(fabs(mean - log(SIZE_MEDIAN)) < 0.15); /* the tail lifts it a little */
    assert_true(fabs(deviation - SIZE_SIGMA) < 0.2);
    assert_true(below_median > 47000 && below_median < 51000);
    assert_true(above > 100 && above < 400); /* Pareto: 2 % of (32 / 256)^1.1 = 203 */
    assert_true(capped > 0 && capped < 50);
}

static void a_key_keeps_its_size(void **state) {
    (void)state;
    workload w;
    workload_start(&w, 50000, 3);
    enum { SLOTS = 1 << 17 };
    char(*lines)[WORKLOAD_LINE_MAX] = calloc(SLOTS, sizeof *lines);
    assert_non_null(lines);
    char line[WORKLOAD_LINE_MAX];
    size_t len, repeats = 0;
    while ((len = workload_next(&w, line)) != 0) {
        line[len] = '\0';
        size_t key_len = strcspn(line, " ");
        size_t at = hash_bytes(line, key_len) % SLOTS;
        while (lines[at][0] != '\0' && strncmp(lines[at], line, key_len + 1) != 0) at = (at + 1) % SLOTS;
        if (lines[at][0] == '\0')
            memcpy(lines[at], line, len + 1);
        else
            repeats++;
        assert_string_equal(lines[at], line);
    }
    assert_true(repeats > 10000);
    free(lines);
}

/* The share of the first ranks, against the sum of the law itself. */
static void items_follow_zipfs_law(void **state) {
    (void)state;
    double weights = 0, first = 0, first_hundred = 0;
    for (int rank = 1; rank <= ITEM_KEYS; rank++) {
        weights += weight(rank);
        if (rank == 1) first = weights;
        if (rank == 100) first_hundred = weights;
    }
    workload w;
    workload_start(&w, 1, 11);
    size_t ones = 0, hundreds = 0;
    for (int i = 0; i < 500000; i++) {
        uint64_t rank = next_zipf(&w);
        assert_true(rank >= 1 && rank <= ITEM_KEYS);
        ones += rank == 1;
        hundreds += rank <= 100;
    }
    assert_true(fabs((double)ones / 500000 - first / weights) < 0.002);
    assert_true(fabs((double)hundreds / 500000 - first_hundred / weights) < 0.004);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_seed_gives_the_same_stream_and_another_one_does_not),
        cmocka_unit_test(the_three_kinds_are_mixed_as_the_header_says),
        cmocka_unit_test(sizes_look_lognormal_with_a_tail_and_a_cap),
        cmocka_unit_test(a_key_keeps_its_size),
        cmocka_unit_test(items_follow_zipfs_law),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
