// SPDX-License-Identifier: Apache-2.0 OR MIT
/* value.h: contents of objects, derived from their key, so that a hit can be told from bytes of anything else. */
#ifndef REPLAY_VALUE_H
#define REPLAY_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The identity of a key's contents. */
uint64_t value_seed(const void *key, size_t key_len);

/* Writes the bytes from `offset` on (a multiple of 8) of those contents. O(len). */
void value_fill(void *to, size_t len, uint64_t seed, size_t offset);

/* True if `value` holds the first len bytes of those contents. Looks at eight bytes of every 4 KiB and at the last ones. */
bool value_check(const void *value, size_t len, uint64_t seed);

#endif
