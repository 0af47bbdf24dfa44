// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "check/check.h"

#include "base/atomic.h"
#include "check/valgrind.h"

/* Defined by the address sanitizer's runtime where the program has it; NULL elsewhere. */
extern void __asan_poison_memory_region(void const volatile *p, size_t bytes) __attribute__((weak));
extern void __asan_unpoison_memory_region(void const volatile *p, size_t bytes) __attribute__((weak));

typedef enum checker { UNKNOWN, NONE, ASAN, MEMCHECK } checker;

static checker find_checker(void) {
    if (__asan_poison_memory_region != NULL && __asan_unpoison_memory_region != NULL) return ASAN;
    /* Asked of memcheck alone: valgrind's other tools count and time what a program does, and shall see what it does
     * elsewhere. Any answer but our own means that somebody listened. */
    static unsigned char byte;
    return nm__vg_request(0, NM__VG_MAKE_DEFINED, (uintptr_t)&byte, 1, 0, 0) != 0 ? MEMCHECK : NONE;
}

static checker who(void) {
    static NM_ATOMIC(int) found = UNKNOWN;
    /* relaxed: whoever finds it UNKNOWN finds out the same */
    int seen = nm_atomic_load(&found, NM_RELAXED);
    if (NM_UNLIKELY(seen == UNKNOWN)) {
        seen = (int)find_checker();
        nm_atomic_store(&found, seen, NM_RELAXED);
    }
    return (checker)seen;
}

bool nm__check_active(void) { return who() != NONE; }
bool nm__check_memcheck(void) { return who() == MEMCHECK; }

static void tell_memcheck(unsigned request, const void *p, size_t bytes) {
    (void)nm__vg_request(0, request, (uintptr_t)p, bytes, 0, 0);
}

void nm__check_poison(const void *p, size_t bytes) {
    checker c = who();
    if (c == ASAN) __asan_poison_memory_region(p, bytes);
    if (c == MEMCHECK) tell_memcheck(NM__VG_MAKE_NOACCESS, p, bytes);
}

void nm__check_unpoison(const void *p, size_t bytes) {
    checker c = who();
    if (c == ASAN) __asan_unpoison_memory_region(p, bytes);
    if (c == MEMCHECK) tell_memcheck(NM__VG_MAKE_DEFINED, p, bytes);
}

void nm__check_mempool_open(const void *pool) {
    if (who() == MEMCHECK) (void)nm__vg_request(0, NM__VG_CREATE_MEMPOOL, (uintptr_t)pool, 0, 0, 0);
}
void nm__check_mempool_close(const void *pool) {
    if (who() == MEMCHECK) (void)nm__vg_request(0, NM__VG_DESTROY_MEMPOOL, (uintptr_t)pool, 0, 0, 0);
}
void nm__check_mempool_alloc(const void *pool, const void *p, size_t bytes) {
    if (who() == MEMCHECK) (void)nm__vg_request(0, NM__VG_MEMPOOL_ALLOC, (uintptr_t)pool, (uintptr_t)p, bytes, 0);
}
void nm__check_mempool_change(const void *pool, const void *p, size_t bytes) {
    if (who() == MEMCHECK)
        (void)nm__vg_request(0, NM__VG_MEMPOOL_CHANGE, (uintptr_t)pool, (uintptr_t)p, (uintptr_t)p, bytes);
}
void nm__check_mempool_free(const void *pool, const void *p) {
    if (who() == MEMCHECK) (void)nm__vg_request(0, NM__VG_MEMPOOL_FREE, (uintptr_t)pool, (uintptr_t)p, 0, 0);
}
