// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Which subjects are here, and what they share. */
#include "bench.h"

#include <sys/random.h>

#include "base/hash.h"
#include "cache/subject.h"

unsigned char cache_values[CACHE_PATTERNS][CACHE_VALUE_BYTES];

void cache_fail(const char *who, const char *what) {
    fprintf(stderr, "cache: %s: %s\n", who, what);
    exit(1);
}

void *cache_must(void *p) {
    if (p == NULL) cache_fail("memory", "not enough");
    return p;
}

uint64_t cache_keyed_hash(const uint64_t key[2]) {
    static uint64_t secret[2];
    if (__builtin_expect(secret[0] == 0, 0) && getrandom(secret, sizeof secret, 0) != sizeof secret)
        cache_fail("hash", "no random key");
    return nm__siphash13(secret, key, CACHE_KEY_BYTES);
}

void cache_list_add(cache_list *list, const cache_subject *subject) {
    if (list->count == CACHE_SUBJECTS_MAX) cache_fail(subject->name, "is one subject too many");
    list->subjects[list->count++] = *subject;
}

#define ABSENT(name, package)                                                                                          \
    if (!quiet) fprintf(stderr, "cache: %s is left out: it needs %s (scripts/setup.sh bench)\n", name, package)

size_t cache_subjects(cache_subject out[CACHE_SUBJECTS_MAX], bool quiet) {
    cache_list list = {out, 0};
    (void)quiet;
    const uint64_t any[2] = {0, 0};
    (void)cache_keyed_hash(any); /* makes the key, before there are threads */
    for (size_t p = 0; p < CACHE_PATTERNS; p++) memset(cache_values[p], (int)p, CACHE_VALUE_BYTES);
    cache_add_nebula(&list);
    cache_add_floor(&list);
    cache_add_arithmetic(&list);
#ifdef NM_BENCH_GLIB
    cache_add_glib(&list);
#else
    ABSENT("glib", "libglib2.0-dev");
#endif
#ifdef NM_BENCH_ROCKSDB
    cache_add_rocksdb(&list);
#else
    ABSENT("rocksdb", "librocksdb-dev and a C++ compiler");
#endif
#ifdef NM_BENCH_LEVELDB
    cache_add_leveldb(&list);
#else
    ABSENT("leveldb", "libleveldb-dev and a C++ compiler");
#endif
#ifdef NM_BENCH_LRU
    cache_add_lru(&list);
#else
    ABSENT("rust_lru", "librust-lru-dev and cargo");
#endif
#ifdef NM_BENCH_CAFFEINE
    cache_add_caffeine(&list);
#else
    ABSENT("caffeine", "libcaffeine-java and a JDK");
#endif
    return list.count;
}
