// SPDX-License-Identifier: Apache-2.0 OR MIT
/* SipHash-1-3 (Aumasson, Bernstein 2012, with one round a word and three at the end): a keyed hash of 64 bits. Who does not
 * know the key cannot construct keys that collide, which a seed in front of a faster hash does not give. */
#ifndef NM_SRC_BASE_HASH_H
#define NM_SRC_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Hash of `bytes` bytes under a key of 128 bits. The same on every byte order. data may be NULL if bytes is 0. O(bytes). */
uint64_t nm__siphash13(const uint64_t key[2], const void *data, size_t bytes);

#endif
