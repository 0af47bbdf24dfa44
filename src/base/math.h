// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Overflow-checked size arithmetic. */
#ifndef NM_SRC_BASE_MATH_H
#define NM_SRC_BASE_MATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Static_assert(sizeof(size_t) == 8, "64-bit systems only");

/* No size that the library handles is larger: sums of two never wrap, and the top bits are free for marks. */
#define NM__BYTES_MAX ((size_t)1 << 56)

/* True if the result does not fit; *out is undefined then. */
#define nm__add_overflows(a, b, out) __builtin_add_overflow((a), (b), (out))
#define nm__mul_overflows(a, b, out) __builtin_mul_overflow((a), (b), (out))

static inline bool nm__is_power_of_two(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

/* n rounded up to a multiple of `to`, a power of two. n <= NM__BYTES_MAX, else the sum may wrap. */
static inline size_t nm__round_up(size_t n, size_t to) { return (n + (to - 1)) & ~(to - 1); }
static inline size_t nm__round_down(size_t n, size_t to) { return n & ~(to - 1); }

/* floor and ceiling of log2; n >= 1 */
static inline unsigned nm__log2_floor(size_t n) { return 63u - (unsigned)__builtin_clzl(n); }
static inline unsigned nm__log2_ceil(size_t n) { return n <= 1 ? 0 : 64u - (unsigned)__builtin_clzl(n - 1); }

static inline size_t nm__min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t nm__max(size_t a, size_t b) { return a > b ? a : b; }

#endif
