// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "base/hash.h"

#include <string.h>

static inline uint64_t rotate(uint64_t x, unsigned by) { return (x << by) | (x >> (64 - by)); }

static inline uint64_t read_word(const unsigned char *p) {
    uint64_t w;
    memcpy(&w, p, sizeof w);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    w = __builtin_bswap64(w);
#endif
    return w;
}

#define NM__SIP_ROUND(a, b, c, d)                                                                                      \
    do {                                                                                                               \
        a += b, b = rotate(b, 13) ^ a, a = rotate(a, 32);                                                              \
        c += d, d = rotate(d, 16) ^ c;                                                                                 \
        a += d, d = rotate(d, 21) ^ a;                                                                                 \
        c += b, b = rotate(b, 17) ^ c, c = rotate(c, 32);                                                              \
    } while (0)

uint64_t nm__siphash13(const uint64_t key[2], const void *data, size_t bytes) {
    const unsigned char *p = data;
    uint64_t a = key[0] ^ 0x736f6d6570736575u, b = key[1] ^ 0x646f72616e646f6du;
    uint64_t c = key[0] ^ 0x6c7967656e657261u, d = key[1] ^ 0x7465646279746573u;
    for (size_t left = bytes; left >= 8; left -= 8, p += 8) {
        uint64_t w = read_word(p);
        d ^= w;
        NM__SIP_ROUND(a, b, c, d);
        a ^= w;
    }
    uint64_t last = (uint64_t)bytes << 56;
    for (size_t i = 0; i < (bytes & 7); i++) last |= (uint64_t)p[i] << (8 * i);
    d ^= last;
    NM__SIP_ROUND(a, b, c, d);
    a ^= last;
    c ^= 0xff;
    NM__SIP_ROUND(a, b, c, d);
    NM__SIP_ROUND(a, b, c, d);
    NM__SIP_ROUND(a, b, c, d);
    return a ^ b ^ c ^ d;
}
