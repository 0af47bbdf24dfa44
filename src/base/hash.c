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

typedef struct sip {
    uint64_t a, b, c, d;
} sip;

static inline void sip_round(sip *s) {
    s->a += s->b;
    s->b = rotate(s->b, 13) ^ s->a;
    s->a = rotate(s->a, 32);
    s->c += s->d;
    s->d = rotate(s->d, 16) ^ s->c;
    s->a += s->d;
    s->d = rotate(s->d, 21) ^ s->a;
    s->c += s->b;
    s->b = rotate(s->b, 17) ^ s->c;
    s->c = rotate(s->c, 32);
}

static inline void sip_word(sip *s, uint64_t w) {
    s->d ^= w;
    sip_round(s);
    s->a ^= w;
}

uint64_t nm__siphash13(const uint64_t key[2], const void *data, size_t bytes) {
    const unsigned char *p = data;
    sip s = {.a = key[0] ^ 0x736f6d6570736575u,
             .b = key[1] ^ 0x646f72616e646f6du,
             .c = key[0] ^ 0x6c7967656e657261u,
             .d = key[1] ^ 0x7465646279746573u};
    for (size_t left = bytes; left >= 8; left -= 8, p += 8) sip_word(&s, read_word(p));
    uint64_t last = (uint64_t)bytes << 56;
    for (size_t i = 0; i < (bytes & 7); i++) last |= (uint64_t)p[i] << (8 * i);
    sip_word(&s, last);
    s.c ^= 0xff;
    for (int i = 0; i < 3; i++) sip_round(&s);
    return s.a ^ s.b ^ s.c ^ s.d;
}
