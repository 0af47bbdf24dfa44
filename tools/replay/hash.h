// SPDX-License-Identifier: Apache-2.0 OR MIT
/* hash.h: mixing of 64-bit numbers and of bytes, for counting keys and deriving contents. Not proof against an adversary:
 * a constructed trace can only spoil its own figures. */
#ifndef REPLAY_HASH_H
#define REPLAY_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HASH_GOLDEN UINT64_C(0x9E3779B97F4A7C15) /* 2^64 / golden ratio: spreads consecutive numbers */

/* A bijection of 64-bit numbers: the finalizer of splitmix64 (Steele, Lea, Flood 2014). */
static inline uint64_t hash_mix(uint64_t x) {
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

static inline uint64_t hash_bytes(const void *bytes, size_t len) {
    const unsigned char *p = bytes;
    uint64_t h = HASH_GOLDEN ^ len;
    while (len >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        h = hash_mix(h ^ word) + HASH_GOLDEN;
        p += 8;
        len -= 8;
    }
    uint64_t tail = 0;
    if (len > 0) memcpy(&tail, p, len);
    return hash_mix(h ^ tail);
}

#endif
