// SPDX-License-Identifier: Apache-2.0 OR MIT
/* All access to memory that threads share, with the order written out at each use.
 *
 * One place, so that a test can put a switch point at every access. There is no stand-alone fence: the order belongs to the
 * operation, where the thread sanitizer can see it. */
#ifndef NM_SRC_BASE_ATOMIC_H
#define NM_SRC_BASE_ATOMIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NM_RELAXED __ATOMIC_RELAXED
#define NM_ACQUIRE __ATOMIC_ACQUIRE
#define NM_RELEASE __ATOMIC_RELEASE
#define NM_ACQ_REL __ATOMIC_ACQ_REL
#define NM_SEQ_CST __ATOMIC_SEQ_CST

/* Marks a field that is touched through the macros below only. */
#define NM_ATOMIC(type) type

#define nm_atomic_load(p, order)            __atomic_load_n((p), order)
#define nm_atomic_store(p, value, order)    __atomic_store_n((p), (value), order)
#define nm_atomic_exchange(p, value, order) __atomic_exchange_n((p), (value), order)
#define nm_atomic_add(p, value, order)      __atomic_fetch_add((p), (value), order) /* the value before */
#define nm_atomic_sub(p, value, order)      __atomic_fetch_sub((p), (value), order) /* the value before */
#define nm_atomic_or(p, value, order)       __atomic_fetch_or((p), (value), order)
#define nm_atomic_and(p, value, order)      __atomic_fetch_and((p), (value), order)
#define nm_atomic_cas(p, expected, desired, success, failure)                                                          \
    __atomic_compare_exchange_n((p), (expected), (desired), false, success, failure)
#define nm_atomic_cas_weak(p, expected, desired, success, failure)                                                     \
    __atomic_compare_exchange_n((p), (expected), (desired), true, success, failure)

/* Where two words of 8 bytes may be loaded by one instruction of 16, each of them as by a relaxed load of its own, and all of them
 * together as by acquires if nm_atomic_pairs_acquired() follows: on x86-64, whose loads are acquires and of which each aligned
 * half is one access. Not where a tool watches single accesses. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NM__WATCHED 1
#endif
#endif
#if defined(__x86_64__) && defined(__SSE2__) && !defined(__SANITIZE_THREAD__) && !defined(NM__WATCHED)
#define NM_ATOMIC_PAIRS            1
#define nm_atomic_pairs_acquired() __asm__ volatile("" ::: "memory") /* the compiler moves nothing up */
#endif

/* Raises *p to value if that is more. Relaxed: for high-water marks, which order nothing. */
static inline void nm_atomic_raise(size_t *p, size_t value) {
    size_t seen = nm_atomic_load(p, NM_RELAXED);
    while (seen < value && !nm_atomic_cas_weak(p, &seen, value, NM_RELAXED, NM_RELAXED)) {
    }
}

#endif
