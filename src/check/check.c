// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "check/check.h"

/* Defined by the address sanitizer's runtime where the program has it; NULL elsewhere. */
extern void __asan_poison_memory_region(void const volatile *p, size_t bytes) __attribute__((weak));
extern void __asan_unpoison_memory_region(void const volatile *p, size_t bytes) __attribute__((weak));

bool nm__check_active(void) { return __asan_poison_memory_region != NULL && __asan_unpoison_memory_region != NULL; }

void nm__check_poison(const void *p, size_t bytes) {
    if (nm__check_active()) __asan_poison_memory_region(p, bytes);
}

void nm__check_unpoison(const void *p, size_t bytes) {
    if (nm__check_active()) __asan_unpoison_memory_region(p, bytes);
}
