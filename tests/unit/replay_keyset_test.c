// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "../../tools/replay/keyset.c"

#include "testing.h"

static void an_empty_set_has_no_next(void **state) {
    (void)state;
    keyset set = {0};
    size_t at = 0, key_len;
    uint64_t size;
    assert_false(keyset_next(&set, &at, &key_len, &size));
    keyset_clear(&set);
    keyset_clear(&set);
}

static void a_key_is_kept_once_with_its_largest_size(void **state) {
    (void)state;
    keyset set = {0};
    assert_true(keyset_add(&set, "a", 1, 5));
    assert_true(keyset_add(&set, "a", 1, UINT64_C(1) << 40));
    assert_true(keyset_add(&set, "a", 1, 7));
    assert_int_equal(set.count, 1);
    size_t at = 0, key_len;
    uint64_t size;
    assert_true(keyset_next(&set, &at, &key_len, &size));
    assert_int_equal(key_len, 1);
    assert_int_equal(size, UINT64_C(1) << 40);
    assert_false(keyset_next(&set, &at, &key_len, &size));
    keyset_clear(&set);
}

static void the_longest_key_and_a_size_of_0_are_kept(void **state) {
    (void)state;
    static char key[65535];
    keyset set = {0};
    assert_true(keyset_add(&set, key, sizeof key, 0));
    assert_true(keyset_add(&set, key, sizeof key - 1, 0));
    assert_int_equal(set.count, 2);
    size_t at = 0, key_len, sum = 0;
    uint64_t size;
    while (keyset_next(&set, &at, &key_len, &size)) {
        sum += key_len;
        assert_int_equal(size, 0);
    }
    assert_int_equal(sum, 65535 + 65534);
    keyset_clear(&set);
}

static void many_keys_are_counted_once_each_through_all_growth(void **state) {
    (void)state;
    enum { KEYS = 200000 };
    uint64_t seed = test_seed();
    keyset set = {0};
    for (int round = 0; round < 2; round++)
        for (uint64_t i = 0; i < KEYS; i++) {
            uint64_t key = i ^ seed;
            assert_true(keyset_add(&set, &key, sizeof key, i));
        }
    assert_int_equal(set.count, KEYS);
    size_t at = 0, key_len, seen = 0;
    uint64_t size, sum = 0;
    while (keyset_next(&set, &at, &key_len, &size)) {
        assert_int_equal(key_len, sizeof(uint64_t));
        sum += size;
        seen++;
    }
    assert_int_equal(seen, KEYS);
    assert_int_equal(sum, (uint64_t)KEYS * (KEYS - 1) / 2);
    keyset_clear(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_set_has_no_next),
        cmocka_unit_test(a_key_is_kept_once_with_its_largest_size),
        cmocka_unit_test(the_longest_key_and_a_size_of_0_are_kept),
        cmocka_unit_test(many_keys_are_counted_once_each_through_all_growth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
