// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A clock for single calls: the processor's own counter, read so that nothing of the call moves past it.
 *
 * Reading it costs tens of ticks itself; the subject `clock` measures an empty interval, which is the floor of all
 * others. Where the processor has no such counter, a tick is a nanosecond of the system's clock. */
#ifndef NM_BENCH_POOL_TICKS_H
#define NM_BENCH_POOL_TICKS_H

#include <stdint.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <time.h>
#endif

/* Before the call: what came before is done, and the call does not begin before the reading. */
static inline uint64_t ticks_begin(void) {
#if defined(__x86_64__)
    uint32_t low, high;
    __asm__ volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("isb\n\tmrs %0, cntvct_el0\n\tisb" : "=r"(ticks) : : "memory");
    return ticks;
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
#endif
}

/* After the call: its instructions have been executed, and nothing behind begins before the reading. */
static inline uint64_t ticks_end(void) {
#if defined(__x86_64__)
    uint32_t low, high;
    __asm__ volatile("rdtscp\n\tlfence" : "=a"(low), "=d"(high) : : "rcx", "memory");
    return (uint64_t)high << 32 | low;
#else
    return ticks_begin();
#endif
}

#endif
