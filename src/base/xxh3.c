// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Written from the specification, doc/xxhash_spec.md of xxHash, version 0.2.0. Scalar: what a cache hashes is short,
 * and short inputs have no vector form. */
#include "base/xxh3.h"

#include "base/bytes.h"

#define PRIME32_1 0x9e3779b1u
#define PRIME32_2 0x85ebca77u
#define PRIME32_3 0xc2b2ae3du
#define PRIME64_1 0x9e3779b185ebca87u
#define PRIME64_2 0xc2b2ae3d27d4eb4fu
#define PRIME64_3 0x165667b19e3779f9u
#define PRIME64_4 0x85ebca77c2b2ae63u
#define PRIME64_5 0x27d4eb2f165667c5u
#define PRIME_MX1 0x165667919e3779f9u
#define PRIME_MX2 0x9fb21c651e98df25u

#define SECRET_BYTES  192u
#define STRIPE_BYTES  64u
#define LANES         8u
#define BLOCK_STRIPES ((SECRET_BYTES - STRIPE_BYTES) / 8) /* each stripe's piece of the secret is 8 bytes further on */
#define BLOCK_BYTES   (BLOCK_STRIPES * STRIPE_BYTES)

static const unsigned char default_secret[SECRET_BYTES] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4,
    0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e,
    0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43,
    0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb,
    0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19,
    0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8, 0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7,
    0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78,
    0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16,
    0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f,
    0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static inline uint64_t secret_at(size_t offset) { return nm__read_u64(default_secret + offset); }

/* The 128-bit product, its halves folded onto each other. */
static inline uint64_t fold(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t avalanche(uint64_t x) {
    x = (x ^ x >> 37) * PRIME_MX1;
    return x ^ x >> 32;
}

/* XXH64's, which inputs of up to 3 bytes go through. */
static inline uint64_t avalanche_xxh64(uint64_t x) {
    x = (x ^ x >> 33) * PRIME64_2;
    x = (x ^ x >> 29) * PRIME64_3;
    return x ^ x >> 32;
}

static inline uint64_t hash_1_to_3(uint64_t seed, const unsigned char *p, size_t bytes) {
    uint32_t all = p[bytes - 1] | (uint32_t)bytes << 8 | (uint32_t)p[0] << 16 | (uint32_t)p[bytes / 2] << 24;
    uint32_t secret = nm__read_u32(default_secret) ^ nm__read_u32(default_secret + 4);
    return avalanche_xxh64((secret + seed) ^ all);
}

static inline uint64_t hash_4_to_8(uint64_t seed, const unsigned char *p, size_t bytes) {
    uint64_t all = (uint64_t)nm__read_u32(p) << 32 | nm__read_u32(p + bytes - 4);
    seed ^= (uint64_t)__builtin_bswap32((uint32_t)seed) << 32;
    uint64_t x = all ^ ((secret_at(8) ^ secret_at(16)) - seed);
    x = (x ^ nm__rotate_left(x, 49) ^ nm__rotate_left(x, 24)) * PRIME_MX2;
    x = (x ^ ((x >> 35) + bytes)) * PRIME_MX2;
    return x ^ x >> 28;
}

static inline uint64_t hash_9_to_16(uint64_t seed, const unsigned char *p, size_t bytes) {
    uint64_t first = nm__read_u64(p) ^ ((secret_at(24) ^ secret_at(32)) + seed);
    uint64_t last = nm__read_u64(p + bytes - 8) ^ ((secret_at(40) ^ secret_at(48)) - seed);
    return avalanche(bytes + __builtin_bswap64(first) + last + fold(first, last));
}

static inline uint64_t mix(uint64_t seed, const unsigned char *p, size_t secret) {
    return fold(nm__read_u64(p) ^ (secret_at(secret) + seed), nm__read_u64(p + 8) ^ (secret_at(secret + 8) - seed));
}

/* Sixteen bytes from the beginning and sixteen from the end at a time; they meet in the middle and may overlap. */
static inline uint64_t hash_17_to_128(uint64_t seed, const unsigned char *p, size_t bytes) {
    uint64_t sum = bytes * PRIME64_1;
    const unsigned char *end = p + bytes;
    size_t pairs = (bytes + 31) / 32;
    for (size_t i = 0; i < pairs; i++)
        sum += mix(seed, p + 16 * i, 32 * i) + mix(seed, end - 16 * (i + 1), 32 * i + 16);
    return avalanche(sum);
}

static uint64_t hash_129_to_240(uint64_t seed, const unsigned char *p, size_t bytes) {
    uint64_t sum = bytes * PRIME64_1;
    for (size_t i = 0; i < 8; i++) sum += mix(seed, p + 16 * i, 16 * i);
    sum = avalanche(sum);
    for (size_t i = 8; i < bytes / 16; i++) sum += mix(seed, p + 16 * i, 16 * (i - 8) + 3);
    return avalanche(sum + mix(seed, p + bytes - 16, 136 - 17));
}

static inline void take_stripe(uint64_t lanes[LANES], const unsigned char *p, const unsigned char *secret) {
    for (size_t i = 0; i < LANES; i++) {
        uint64_t word = nm__read_u64(p + 8 * i), keyed = word ^ nm__read_u64(secret + 8 * i);
        lanes[i ^ 1] += word;
        lanes[i] += (keyed & UINT32_MAX) * (keyed >> 32);
    }
}

static inline void scramble(uint64_t lanes[LANES], const unsigned char *secret) {
    for (size_t i = 0; i < LANES; i++)
        lanes[i] = (lanes[i] ^ lanes[i] >> 47 ^ nm__read_u64(secret + 8 * i)) * PRIME32_1;
}

static void secret_of_seed(unsigned char secret[SECRET_BYTES], uint64_t seed) {
    for (size_t at = 0; at < SECRET_BYTES; at += 16) {
        nm__write_u64(secret + at, secret_at(at) + seed);
        nm__write_u64(secret + at + 8, secret_at(at + 8) - seed);
    }
}

static uint64_t hash_long(uint64_t seed, const unsigned char *p, size_t bytes) {
    uint64_t lanes[LANES] = {PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1};
    unsigned char secret[SECRET_BYTES];
    const unsigned char *end = p + bytes;
    secret_of_seed(secret, seed);
    while ((size_t)(end - p) > (size_t)BLOCK_BYTES) {
        for (size_t i = 0; i < BLOCK_STRIPES; i++, p += STRIPE_BYTES) take_stripe(lanes, p, secret + 8 * i);
        scramble(lanes, secret + SECRET_BYTES - STRIPE_BYTES);
    }
    for (size_t i = 0; (size_t)(end - p) > STRIPE_BYTES; i++, p += STRIPE_BYTES) take_stripe(lanes, p, secret + 8 * i);
    /* The last 64 bytes, of which the stripe before may have had some: there are more than 240 in all. */
    take_stripe(lanes, end - STRIPE_BYTES, secret + SECRET_BYTES - STRIPE_BYTES - 7);
    uint64_t sum = bytes * PRIME64_1;
    for (size_t i = 0; i < LANES; i += 2)
        sum += fold(lanes[i] ^ nm__read_u64(secret + 11 + 8 * i), lanes[i + 1] ^ nm__read_u64(secret + 19 + 8 * i));
    return avalanche(sum);
}

uint64_t nm__xxh3_64(uint64_t seed, const void *data, size_t bytes) {
    const unsigned char *p = data;
    if (bytes <= 16) {
        if (bytes > 8) return hash_9_to_16(seed, p, bytes);
        if (bytes >= 4) return hash_4_to_8(seed, p, bytes);
        if (bytes != 0) return hash_1_to_3(seed, p, bytes);
        return avalanche_xxh64(seed ^ secret_at(56) ^ secret_at(64));
    }
    if (bytes <= 128) return hash_17_to_128(seed, p, bytes);
    if (bytes <= 240) return hash_129_to_240(seed, p, bytes);
    return hash_long(seed, p, bytes);
}
