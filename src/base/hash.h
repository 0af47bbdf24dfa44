// SPDX-License-Identifier: Apache-2.0 OR MIT
/* SipHash-1-3 (Aumasson, Bernstein 2012, with one round a word and three at the end): a keyed hash of 64 bits. Who
 * does not know the key cannot construct keys that collide, which a seed in front of a faster hash does not give. */
#ifndef NM_SRC_BASE_HASH_H
#define NM_SRC_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* Hash of `bytes` bytes under a key of 128 bits. The same on every byte order. data may be NULL if bytes is 0. Reads
 * no byte but those. O(bytes).
 * Inline, with the end of the key read at once, which saves a fifth where it is no whole word. The rest is the rounds,
 * six for 16 bytes, at four dependent steps each: unrolling the words, or BMI2's rotates, wins nothing. */
static inline uint64_t nm__siphash13(const uint64_t key[2], const void *data, size_t bytes);

/* The same for who hashes often under one key: what that makes of the start is kept. */
typedef struct nm__sip {
    uint64_t a, b, c, d;
} nm__sip;
static inline nm__sip nm__sip_begin(const uint64_t key[2]);
static inline uint64_t nm__siphash13_from(const nm__sip *begin, const void *data, size_t bytes);
/* Of 16 bytes: straight on. */
static inline uint64_t nm__siphash13_16(const nm__sip *begin, const void *data);

static inline __attribute__((always_inline)) void nm__sip_round(nm__sip *s) {
    s->a += s->b, s->b = nm__rotate_left(s->b, 13) ^ s->a, s->a = nm__rotate_left(s->a, 32);
    s->c += s->d, s->d = nm__rotate_left(s->d, 16) ^ s->c;
    s->a += s->d, s->d = nm__rotate_left(s->d, 21) ^ s->a;
    s->c += s->b, s->b = nm__rotate_left(s->b, 17) ^ s->c, s->c = nm__rotate_left(s->c, 32);
}

static inline __attribute__((always_inline)) void nm__sip_take(nm__sip *s, uint64_t word) {
    s->d ^= word;
    nm__sip_round(s);
    s->a ^= word;
}

/* What is behind the last whole word, with the length above it. */
static inline __attribute__((always_inline)) uint64_t nm__sip_last(const unsigned char *p, size_t bytes) {
    uint64_t last = 0;
    if (bytes % 8 != 0) {
        if (bytes > 8)
            last = nm__read_u64(p + bytes - 8) >> (64 - 8 * (bytes % 8));
        else if (bytes >= 4) /* two halves that overlap: the same bits meet */
            last = nm__read_u32(p) | (uint64_t)nm__read_u32(p + bytes - 4) << (8 * (bytes - 4));
        else /* first, middle and last: one to three different ones */
            last = p[0] | (uint64_t)p[bytes / 2] << (8 * (bytes / 2)) | (uint64_t)p[bytes - 1] << (8 * (bytes - 1));
    }
    return last | (uint64_t)bytes << 56;
}

static inline nm__sip nm__sip_begin(const uint64_t key[2]) {
    return (nm__sip){.a = key[0] ^ 0x736f6d6570736575u,
                     .b = key[1] ^ 0x646f72616e646f6du,
                     .c = key[0] ^ 0x6c7967656e657261u,
                     .d = key[1] ^ 0x7465646279746573u};
}

static inline __attribute__((always_inline)) uint64_t nm__sip_end(nm__sip *s) {
    s->c ^= 0xff;
    nm__sip_round(s);
    nm__sip_round(s);
    nm__sip_round(s);
    return s->a ^ s->b ^ s->c ^ s->d;
}

static inline __attribute__((always_inline)) uint64_t nm__siphash13_16(const nm__sip *begin, const void *data) {
    nm__sip s = *begin;
    const unsigned char *p = data;
    nm__sip_take(&s, nm__read_u64(p));
    nm__sip_take(&s, nm__read_u64(p + 8));
    nm__sip_take(&s, (uint64_t)16 << 56);
    return nm__sip_end(&s);
}

static inline __attribute__((always_inline)) uint64_t nm__siphash13_from(const nm__sip *begin, const void *data,
                                                                         size_t bytes) {
    if (bytes == 16) return nm__siphash13_16(begin, data);
    nm__sip s = *begin;
    const unsigned char *p = data;
    for (size_t words = bytes / 8; words != 0; words--, p += 8) nm__sip_take(&s, nm__read_u64(p));
    nm__sip_take(&s, nm__sip_last(data, bytes));
    return nm__sip_end(&s);
}

static inline uint64_t nm__siphash13(const uint64_t key[2], const void *data, size_t bytes) {
    nm__sip begin = nm__sip_begin(key);
    return nm__siphash13_from(&begin, data, bytes);
}

#endif
