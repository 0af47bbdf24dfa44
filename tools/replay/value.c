// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "value.h"

#include <string.h>

#include "hash.h"

#define CHECK_STEP 4096

/* Each word tells key and place; one multiply, so that making contents is not what is measured. */
static uint64_t word_at(uint64_t seed, size_t index) { return seed + (uint64_t)index * HASH_GOLDEN; }

uint64_t value_seed(const void *key, size_t key_len) { return hash_bytes(key, key_len); }

void value_fill(void *to, size_t len, uint64_t seed, size_t offset) {
    unsigned char *bytes = to;
    size_t index = offset / 8, whole = len / 8;
    for (size_t i = 0; i < whole; i++) {
        uint64_t word = word_at(seed, index + i);
        memcpy(bytes + 8 * i, &word, 8);
    }
    uint64_t last = word_at(seed, index + whole);
    if (len % 8 != 0) memcpy(bytes + 8 * whole, &last, len % 8);
}

static bool check_at(const unsigned char *bytes, size_t len, uint64_t seed, size_t at) {
    uint64_t word = word_at(seed, at / 8);
    return memcmp(bytes + at, &word, len - at < 8 ? len - at : 8) == 0;
}

bool value_check(const void *value, size_t len, uint64_t seed) {
    const unsigned char *bytes = value;
    if (len == 0) return true;
    for (size_t at = 0; at < len; at += CHECK_STEP)
        if (!check_at(bytes, len, seed, at)) return false;
    return check_at(bytes, len, seed, (len - 1) / 8 * 8);
}
