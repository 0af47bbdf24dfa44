// SPDX-License-Identifier: Apache-2.0 OR MIT
/* XXH3 (Collet 2019), 64 bits: a fast hash for keys that no stranger chooses. A seed does not keep strangers from
 * constructing keys that collide; the key of nm__siphash13 does. */
#ifndef NM_SRC_BASE_XXH3_H
#define NM_SRC_BASE_XXH3_H

#include <stddef.h>
#include <stdint.h>

/* Hash of `bytes` bytes under a seed: what XXH3_64bits_withSeed of xxHash 0.8 gives, on every byte order. data may be
 * NULL if bytes is 0. Reads no byte but those. O(bytes). */
uint64_t nm__xxh3_64(uint64_t seed, const void *data, size_t bytes);

#endif
