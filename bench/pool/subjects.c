// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Which subjects are here, and what they share. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "pool/subject.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

void pool_fail(const char *who, const char *what) {
    fprintf(stderr, "pool: %s: %s\n", who, what);
    exit(1);
}

void pool_list_add(pool_list *list, const pool_subject *subject) {
    if (list->count == POOL_SUBJECTS_MAX) pool_fail(subject->name, "is one subject too many");
    list->subjects[list->count++] = *subject;
}

#define ABSENT(name, package)                                                                                          \
    fprintf(stderr, "pool: %s is left out: %s is not installed (scripts/setup.sh bench)\n", name, package)

size_t pool_subjects(pool_subject out[POOL_SUBJECTS_MAX]) {
    pool_list list = {out, 0};
    pool_add_limit(&list);
    pool_add_nebula(&list);
#ifdef NM_BENCH_DPDK
    pool_add_dpdk(&list);
#else
    ABSENT("dpdk", "libdpdk-dev");
#endif
#ifdef NM_BENCH_CK
    pool_add_ck(&list);
#else
    ABSENT("ck_stack", "libck-dev");
#endif
#ifdef NM_BENCH_URCU
    pool_add_urcu(&list);
#else
    ABSENT("urcu_lfstack", "liburcu-dev");
#endif
#ifdef NM_BENCH_BOOST
    pool_add_boost(&list);
#else
    ABSENT("boost_stack", "libboost-dev (or a C++ compiler)");
#endif
#ifdef NM_BENCH_TBB
    pool_add_tbb(&list);
#else
    ABSENT("tbb_queue", "libtbb-dev (or a C++ compiler)");
#endif
#ifdef NM_BENCH_CROSSBEAM
    pool_add_crossbeam(&list);
#else
    ABSENT("crossbeam", "librust-crossbeam-queue-dev (or cargo)");
#endif
    pool_add_mutex_list(&list);
    pool_add_heaps(&list);
    return list.count;
}

bool pool_memory_open(pool_memory *memory, size_t bytes, size_t count) {
    memory->stride = ((bytes + 63) & ~(size_t)63) + 64;
    memory->total = memory->stride * count;
    void *start = mmap(NULL, memory->total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    memory->start = start == MAP_FAILED ? NULL : start;
    return memory->start != NULL;
}

void pool_memory_close(pool_memory *memory) { munmap(memory->start, memory->total); }

static int by_address(const void *a, const void *b) {
    uintptr_t x = (uintptr_t) * (void *const *)a, y = (uintptr_t) * (void *const *)b;
    return (x > y) - (x < y);
}

bool pool_all_apart(void **addresses, size_t n, size_t bytes) {
    qsort(addresses, n, sizeof *addresses, by_address);
    for (size_t i = 1; i < n; i++)
        if ((uintptr_t)addresses[i] - (uintptr_t)addresses[i - 1] < bytes) return false;
    return n == 0 || addresses[0] != NULL;
}
