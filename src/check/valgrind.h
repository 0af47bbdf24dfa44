// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Requests to valgrind, in the library that is not built for it.
 *
 * The sequence of instructions and the numbers are valgrind's documented interface for clients (its valgrind.h and
 * memcheck.h), written out here so that a library built on a machine without those headers serves valgrind all the same.
 * Elsewhere the sequence does nothing, a few rotations of a register that add up to none, and the answer is `otherwise`. */
#ifndef NM_SRC_CHECK_VALGRIND_H
#define NM_SRC_CHECK_VALGRIND_H

#include <stddef.h>
#include <stdint.h>

#define NM__VG_CREATE_MEMPOOL  0x1303u
#define NM__VG_DESTROY_MEMPOOL 0x1304u
#define NM__VG_MEMPOOL_ALLOC   0x1305u
#define NM__VG_MEMPOOL_FREE    0x1306u
#define NM__VG_MEMPOOL_CHANGE  0x1309u

/* of memcheck alone: 'M', 'C' in the upper bytes */
#define NM__VG_MAKE_NOACCESS  0x4d430000u
#define NM__VG_MAKE_UNDEFINED 0x4d430001u
#define NM__VG_MAKE_DEFINED   0x4d430002u

static inline uintptr_t nm__vg_request(uintptr_t otherwise, unsigned request, uintptr_t a, uintptr_t b, uintptr_t c,
                                       uintptr_t d) {
    volatile uintptr_t arguments[6] = {request, a, b, c, d, 0};
    uintptr_t result = otherwise;
#if defined(__x86_64__)
    __asm__ volatile("rolq $3, %%rdi ; rolq $13, %%rdi\n\t"
                     "rolq $61, %%rdi ; rolq $51, %%rdi\n\t"
                     "xchgq %%rbx, %%rbx"
                     : "=d"(result)
                     : "a"(&arguments[0]), "0"(otherwise)
                     : "cc", "memory");
#elif defined(__aarch64__)
    __asm__ volatile("mov x3, %1\n\t"
                     "mov x4, %2\n\t"
                     "ror x12, x12, #3 ; ror x12, x12, #13\n\t"
                     "ror x12, x12, #51 ; ror x12, x12, #61\n\t"
                     "orr x10, x10, x10\n\t"
                     "mov %0, x3"
                     : "=r"(result)
                     : "r"(otherwise), "r"(&arguments[0])
                     : "cc", "memory", "x3", "x4");
#endif
    return result;
}

#endif
