// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "../../tools/replay/value.c"

#include "testing.h"

static unsigned char whole[70000], pieces[70000];

static void pieces_make_the_same_contents_as_one_stroke(void **state) {
    (void)state;
    uint64_t seed = value_seed("key", 3);
    for (size_t len = 0; len < sizeof whole; len += len / 3 + 1) {
        value_fill(whole, len, seed, 0);
        for (size_t done = 0; done < len; done += 4096)
            value_fill(pieces + done, len - done < 4096 ? len - done : 4096, seed, done);
        assert_memory_equal(whole, pieces, len);
        assert_true(value_check(whole, len, seed));
    }
}

static void another_keys_contents_are_recognised(void **state) {
    (void)state;
    uint64_t seed = value_seed("key", 3), other = value_seed("kez", 3);
    for (size_t len = 1; len < sizeof whole; len += len / 3 + 1) {
        value_fill(whole, len, seed, 0);
        /* of one or two bytes some keys have the same */
        if (len >= 4) assert_false(value_check(whole, len, other));
    }
}

static void a_page_out_of_place_and_a_cut_end_are_recognised(void **state) {
    (void)state;
    uint64_t seed = value_seed("key", 3);
    value_fill(whole, 20000, seed, 0);
    value_fill(whole + 8192, 4096, seed, 4096);
    assert_false(value_check(whole, 20000, seed));
    value_fill(whole, 20000, seed, 0);
    whole[19999] ^= 1;
    assert_false(value_check(whole, 20000, seed));
    assert_true(value_check(NULL, 0, seed));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_make_the_same_contents_as_one_stroke),
        cmocka_unit_test(another_keys_contents_are_recognised),
        cmocka_unit_test(a_page_out_of_place_and_a_cut_end_are_recognised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
