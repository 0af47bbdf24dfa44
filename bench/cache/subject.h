// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What is measured: one cache, behind a function that serves a block of requests with the cache's own calls, so that a
 * peer that can be inlined is. C and C++. */
#ifndef NM_BENCH_CACHE_SUBJECT_H
#define NM_BENCH_CACHE_SUBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/requests.h"
#include "threads/workers.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CACHE_KEY_BYTES    16
#define CACHE_VALUE_BYTES  100
#define CACHE_PAIR_BYTES   (CACHE_KEY_BYTES + CACHE_VALUE_BYTES)
#define CACHE_PATTERNS     64 /* different values; key number n has number n % CACHE_PATTERNS */
#define CACHE_SUBJECTS_MAX 20

/* What a subject may hold. One that counts bytes and is not told to count entries takes the bytes. */
typedef struct cache_room {
    size_t bytes, entries;
    bool by_entries;
    bool lean; /* where memory is measured and not time */
} cache_room;

typedef struct cache_tally {
    uint64_t gets, hits;
    uint64_t wrong; /* hits with another key's value */
} cache_tally;

typedef struct cache_rate {
    double ns_per_request; /* 1 / total throughput */
    cache_tally tally;
} cache_rate;

typedef struct cache_subject cache_subject;
struct cache_subject {
    const char *name;
    bool on_request;                                                  /* left out unless it is named */
    const void *tag;                                                  /* for `open`, where several subjects share it */
    void *(*open)(const cache_subject *self, const cache_room *room); /* the context; NULL: refused */
    void (*close)(void *context);
    size_t (*count)(void *context); /* entries that it holds */
    /* Puts what is to be put, gets the others and copies the value out; a miss is put. Any number of threads at once.
     * */
    void (*serve)(void *context, const cache_request *requests, size_t n, cache_tally *tally);

    /* Of a subject that is a process of its own, in place of `serve`. */
    void (*measure)(void *context, unsigned threads, unsigned warm_ms, unsigned ms, cache_rate *out);
    void (*fill)(void *context, size_t n); /* puts the keys 0 to n - 1 */
    size_t (*live_bytes)(void *context);   /* what of its memory is in use */
};

/* The subjects that are here, nebula first; a line on stderr for each that is not, unless quiet. */
size_t cache_subjects(cache_subject out[CACHE_SUBJECTS_MAX], bool quiet);

/* One function for each file. */
typedef struct cache_list {
    cache_subject *subjects;
    size_t count;
} cache_list;
void cache_list_add(cache_list *list, const cache_subject *subject);
void cache_add_nebula(cache_list *list);
void cache_add_floor(cache_list *list);
void cache_add_arithmetic(cache_list *list);
void cache_add_glib(cache_list *list);
void cache_add_rocksdb(cache_list *list);
void cache_add_leveldb(cache_list *list);
void cache_add_lru(cache_list *list);
void cache_add_caffeine(cache_list *list);

#if defined(__GNUC__)
__attribute__((__noreturn__, __cold__))
#endif
void cache_fail(const char *who, const char *what);
/* p, unless it is NULL. */
void *cache_must(void *p);

extern unsigned char cache_values[CACHE_PATTERNS][CACHE_VALUE_BYTES];
static inline const void *cache_value(const cache_request *r) { return cache_values[r->number % CACHE_PATTERNS]; }

/* The use of what was copied out. */
static inline void cache_hit(cache_tally *tally, const cache_request *r, const unsigned char *copy) {
    __asm__ volatile("" : : "r"(copy) : "memory");
    tally->hits++;
    tally->wrong += copy[CACHE_VALUE_BYTES - 1] != r->number % CACHE_PATTERNS;
}

/* Hash of a key for peers that bring none: SipHash-1-3 under a random key of this process, as who fears floods would
 * take. */
uint64_t cache_keyed_hash(const uint64_t key[2]);

#ifdef __cplusplus
}
#endif

#endif
