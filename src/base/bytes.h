// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Words in bytes at any address, lowest byte first on every machine: what hashes are specified by. */
#ifndef NM_SRC_BASE_BYTES_H
#define NM_SRC_BASE_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint64_t nm__read_u64(const unsigned char *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

static inline uint32_t nm__read_u32(const unsigned char *p) {
    uint32_t word;
    memcpy(&word, p, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap32(word);
#endif
    return word;
}

static inline void nm__write_u64(unsigned char *p, uint64_t word) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    memcpy(p, &word, sizeof word);
}

static inline uint64_t nm__rotate_left(uint64_t word, unsigned by) { return word << by | word >> (64 - by); }

#endif
