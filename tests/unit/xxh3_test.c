// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "base/xxh3.h"
#include "testing.h"

static const uint64_t golden_seed = 0x9e3779b97f4a7c15u;

/* Of xxHash 0.8: XXH3_64bits_withSeed of the first `bytes` bytes of `fill`, under seed 0 and under golden_seed.
 * Lengths on both sides of every change of method: 3, 8, 16, pairs of 32, 128, 240, stripes of 64, blocks of 1024. */
static const struct {
    size_t bytes;
    uint64_t of_zero, of_golden;
} vectors[] = {
    {0, 0x2d06800538d394c2u, 0x602b0e2cd6662c8bu},     {1, 0xc44bdff4074eecdbu, 0x062b185e4e01441au},
    {2, 0xb0a5d4f167a89d5eu, 0x9b864fe7b96642a2u},     {3, 0xe14090f554a5ea90u, 0xf5abc7f9d1539843u},
    {4, 0x2e8d078a566e9749u, 0x80eb1fba34af62ccu},     {5, 0x94b7bed600f8ce63u, 0xcc27aedab5235917u},
    {7, 0xe6f7770846c47df5u, 0xea8f3a28ed450ba5u},     {8, 0xcd1c7f88482fcaefu, 0x8813149e639da876u},
    {9, 0xbfe43def699fa9e3u, 0x1d2c4851ecd580c9u},     {12, 0x027242c0a3b593e8u, 0x037f7f0b3b283541u},
    {13, 0x339f6dd3d6bb5a94u, 0xc5c18baa40926c14u},    {15, 0x9c71639666dfdbc2u, 0xc33b023166a9bfebu},
    {16, 0x81e9eb8634460bb9u, 0x7f7f704e06138a8au},    {17, 0x9998430fd0a655beu, 0x2d4b1d5b644b3fe6u},
    {24, 0x567055635b934e88u, 0x2d38dfb671dbe71du},    {31, 0x6427c268ccd55706u, 0x3c45372d3a7dd491u},
    {32, 0x938c25dd24c9cf3bu, 0xddb3fa44b7a01773u},    {33, 0x0e399d30188e9c8eu, 0x6f580b722a92321bu},
    {48, 0xb84347b7c91758ebu, 0x7e869ebdf4bab146u},    {63, 0x9e5edf514e6c4ea2u, 0x5238c8efdf495e35u},
    {64, 0x22a06b30c4c72936u, 0x581bcde3abb84c27u},    {65, 0x7faff6eee7812d5cu, 0xa48d818cd71a3320u},
    {95, 0x694bdaf06a53ba1bu, 0xd3796e4b0dbecb19u},    {96, 0x324046d7ff9771f1u, 0x92fd230b47ee777fu},
    {97, 0x00d61f9a16f8effdu, 0x4304cf363270fedbu},    {127, 0x29a5be88e84cd571u, 0xc80e1ef42df5552du},
    {128, 0x75eca5c5d5594884u, 0x27ef5b319b50ea46u},   {129, 0xa05da42e7a4e4667u, 0xb4f2c57c09e1e2e4u},
    {144, 0x2e63ceed9f938e07u, 0x59eafa8c0aa42379u},   {159, 0xdd2d3877b5c10791u, 0x0f175f2ac0bcde22u},
    {160, 0xd298ab4e6e7de4aau, 0xea64dbce2a564c96u},   {200, 0xe07bfbc15015bf69u, 0x835addcc5ee1d8d4u},
    {239, 0xa44c92feed3d48fau, 0xc4bbd1dd9294235du},   {240, 0x5eb2467c8c9e3969u, 0x0329aa09c20d9cd6u},
    {241, 0x2d431e984c441f15u, 0x67e2cf13c7452cbcu},   {255, 0x6cb5279bb1267b3bu, 0x8dd0d7c510d93f29u},
    {256, 0x1369aaf85f8b805au, 0x83702db5a4988aafu},   {257, 0xea4db341b16685cdu, 0x1eaad99f89360250u},
    {320, 0x8334eaec415ce0fdu, 0x3fb3b3f9d9a601c5u},   {512, 0x9929c8d17090ff28u, 0x7c5c737b21f1f864u},
    {576, 0x01e162bd0c5bc93cu, 0x39ddb9c1dd1eed71u},   {1023, 0x1a454d55e8f685bcu, 0x8f0b9ab1e4e3325au},
    {1024, 0x8e02a6e5332b80d8u, 0xf495141d3118c608u},  {1025, 0x5a0901fb36f574dbu, 0x1fc9c1f058eb758eu},
    {1088, 0xeffd5808c1a5022cu, 0x7887f6835a6fb19du},  {1089, 0x89e48723a63bff44u, 0x5c838bd14dabc975u},
    {2047, 0x631a6d19396681dcu, 0x656189e7d8e3a1c7u},  {2048, 0x16eaa72393c93dc8u, 0x86c046ef3820b2e0u},
    {2049, 0xee63cd007c04b1e9u, 0x4fb7a6948ffb6287u},  {4096, 0x9a21cd91c18d7742u, 0x18ca179d3d10511fu},
    {10000, 0x5087840597c553cdu, 0x028c19c90602a426u},
};

static void fill(unsigned char *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) data[i] = (unsigned char)((i * 2654435761u >> 24) ^ (i >> 8));
}

static void all_lengths_give_what_xxhash_gives(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        /* In a piece of memory of its own, so that AddressSanitizer sees a step too far on either side. */
        size_t bytes = vectors[i].bytes;
        unsigned char *data = malloc(bytes + (bytes == 0));
        assert_non_null(data);
        fill(data, bytes);
        assert_int_equal(nm__xxh3_64(0, data, bytes), vectors[i].of_zero);
        assert_int_equal(nm__xxh3_64(golden_seed, data, bytes), vectors[i].of_golden);
        free(data);
    }
    assert_int_equal(nm__xxh3_64(0, NULL, 0), vectors[0].of_zero);
}

static void the_address_does_not_matter(void **state) {
    (void)state;
    static unsigned char first[3000], moved[3008];
    uint64_t seed = test_seed();
    for (size_t i = 0; i < sizeof first; i++) first[i] = (unsigned char)test_random(&seed);
    for (size_t shift = 0; shift < 8; shift++) {
        memcpy(moved + shift, first, sizeof first);
        for (size_t bytes = 0; bytes < sizeof first; bytes += bytes < 300 ? 1 : 61)
            assert_int_equal(nm__xxh3_64(seed, moved + shift, bytes), nm__xxh3_64(seed, first, bytes));
    }
}

static void every_bit_of_data_and_seed_counts(void **state) {
    (void)state;
    unsigned char data[2100];
    uint64_t seed = test_seed();
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)test_random(&seed);
    for (size_t bytes = 1; bytes <= sizeof data; bytes += bytes < 260 ? 1 : 97) {
        uint64_t whole = nm__xxh3_64(seed, data, bytes);
        for (size_t bit = 0; bit < 8 * bytes; bit += bytes < 260 ? 1 : 5) {
            data[bit / 8] ^= (unsigned char)(1u << bit % 8);
            assert_int_not_equal(nm__xxh3_64(seed, data, bytes), whole);
            data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        }
        for (unsigned bit = 0; bit < 64; bit++)
            assert_int_not_equal(nm__xxh3_64(seed ^ (uint64_t)1 << bit, data, bytes), whole);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_lengths_give_what_xxhash_gives),
        cmocka_unit_test(the_address_does_not_matter),
        cmocka_unit_test(every_bit_of_data_and_seed_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
