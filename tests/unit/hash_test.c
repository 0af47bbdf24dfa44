// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "base/hash.h"
#include "testing.h"

/* The specification read once more, slowly: bytes gathered one by one, a state in an array, rounds counted. With c = 2
 * and d = 4 it is SipHash-2-4, whose published vectors show that it was read right. */
static uint64_t turn(uint64_t x, unsigned by) { return x << by | x >> (64 - by); }

static void rounds(uint64_t v[4], int count) {
    while (count-- > 0) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = turn(v[1], 13);
        v[3] = turn(v[3], 16);
        v[1] ^= v[0];
        v[3] ^= v[2];
        v[0] = turn(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = turn(v[1], 17);
        v[3] = turn(v[3], 21);
        v[1] ^= v[2];
        v[3] ^= v[0];
        v[2] = turn(v[2], 32);
    }
}

static uint64_t slow_siphash(int c, int d, const uint64_t key[2], const unsigned char *data, size_t bytes) {
    uint64_t v[4] = {0x736f6d6570736575u ^ key[0], 0x646f72616e646f6du ^ key[1], 0x6c7967656e657261u ^ key[0],
                     0x7465646279746573u ^ key[1]};
    size_t words = bytes / 8 + 1;
    for (size_t w = 0; w < words; w++) {
        uint64_t m = w + 1 == words ? (uint64_t)bytes << 56 : 0;
        for (size_t i = 0; i < 8 && w * 8 + i < bytes; i++) m |= (uint64_t)data[w * 8 + i] << (8 * i);
        v[3] ^= m;
        rounds(v, c);
        v[0] ^= m;
    }
    v[2] ^= 0xff;
    rounds(v, d);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static const uint64_t paper_key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};

static void the_reference_gives_the_published_vectors_of_siphash_2_4(void **state) {
    (void)state;
    unsigned char data[15];
    for (unsigned i = 0; i < 15; i++) data[i] = (unsigned char)i;
    assert_int_equal(slow_siphash(2, 4, paper_key, data, 15), 0xa129ca6149be45e5u);
    assert_int_equal(slow_siphash(2, 4, paper_key, data, 0), 0x726fdb47dd0e0e31u);
}

static void every_length_agrees_with_the_reference_at_every_alignment(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    unsigned char data[300];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)test_random(&seed);
    for (size_t bytes = 0; bytes < 260; bytes++) {
        uint64_t key[2] = {test_random(&seed), test_random(&seed)};
        for (size_t shift = 0; shift < 8; shift++)
            assert_int_equal(nm__siphash13(key, data + shift, bytes), slow_siphash(1, 3, key, data + shift, bytes));
    }
    assert_int_equal(nm__siphash13(paper_key, NULL, 0), slow_siphash(1, 3, paper_key, data, 0));
}

/* In a piece of memory of its own, so that AddressSanitizer sees a step too far on either side. */
static void a_key_is_read_to_its_ends_and_no_further(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (size_t bytes = 1; bytes <= 72; bytes++) {
        unsigned char *data = malloc(bytes);
        assert_non_null(data);
        for (size_t i = 0; i < bytes; i++) data[i] = (unsigned char)test_random(&seed);
        uint64_t whole = nm__siphash13(paper_key, data, bytes);
        assert_int_equal(whole, slow_siphash(1, 3, paper_key, data, bytes));
        for (size_t i = 0; i < bytes; i++) {
            data[i] ^= 0x80;
            assert_int_not_equal(nm__siphash13(paper_key, data, bytes), whole);
            data[i] ^= 0x80;
        }
        free(data);
    }
}

static void each_bit_of_key_and_data_changes_about_half_of_the_hash(void **state) {
    (void)state;
    unsigned char data[16] = "sixteen bytes..";
    uint64_t key[2] = {1, 2}, base = nm__siphash13(key, data, sizeof data);
    long changed = 0;
    for (unsigned bit = 0; bit < 128; bit++) {
        data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        changed += __builtin_popcountll(base ^ nm__siphash13(key, data, sizeof data));
        data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        key[bit / 64] ^= (uint64_t)1 << (bit % 64);
        changed += __builtin_popcountll(base ^ nm__siphash13(key, data, sizeof data));
        key[bit / 64] ^= (uint64_t)1 << (bit % 64);
    }
    /* 256 x 64 fair coins: 8192, standard deviation 64 */
    assert_in_range(changed, 8192 - 400, 8192 + 400);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reference_gives_the_published_vectors_of_siphash_2_4),
        cmocka_unit_test(every_length_agrees_with_the_reference_at_every_alignment),
        cmocka_unit_test(a_key_is_read_to_its_ends_and_no_further),
        cmocka_unit_test(each_bit_of_key_and_data_changes_about_half_of_the_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
