// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The requests: keys by Zipf's law, one in ten a put. A stream is an array of 4 bytes a request in memory that other
 * processes can map; keys are made from it by the block, so that they lie in the first-level cache as those of a
 * server's request do. Threads take the stream by the piece, each piece once: no thread sees another's requests, and
 * nothing that a cache remembers reaches back to the last time that the stream began. (With a stream of 4 million, over
 * and over, Caffeine learns it: 0.92 hits in place of 0.88.) C and C++. */
#ifndef NM_BENCH_CACHE_REQUESTS_H
#define NM_BENCH_CACHE_REQUESTS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CACHE_KEYS        1000000u
#define CACHE_SKEW        0.99
#define CACHE_BLOCK       256u       /* requests served between two blocks of keys */
#define CACHE_STREAM      (1u << 25) /* requests, after which it begins again */
#define CACHE_PIECE       (1u << 16) /* of a stream; divides it, and is a multiple of the block */
#define CACHE_STREAM_PUT  (1u << 31) /* in a stream's element, beside the number of the key */
#define CACHE_PUTS_OF_TEN 1

typedef struct cache_request {
    uint64_t key[2];
    uint32_t number; /* of the key */
    uint32_t put;
} cache_request;

/* Caffeine.java does the same. */
static inline void cache_make_request(cache_request *r, uint32_t element) {
    uint64_t n = element & ~CACHE_STREAM_PUT, a = (n + 1) * 0x9e3779b97f4a7c15u;
    r->key[0] = a ^ a >> 32;
    r->key[1] = n;
    r->number = (uint32_t)n;
    r->put = element >> 31;
}

/* Zipf's law over the numbers 1 to n, by rejection-inversion (Hörmann, Derflinger 1996): no table. */
typedef struct cache_zipf {
    uint64_t n;
    double first, last, accept;
} cache_zipf;
void cache_zipf_init(cache_zipf *zipf, uint64_t n);
/* The number of the key of a rank from 0. The factor is a prime above all n: each rank gets another number, and
 * neighbours in rank are none in number. n < 2^31. */
static inline uint32_t cache_zipf_number(uint64_t rank, uint64_t n) { return (uint32_t)(rank * 2654435761u % n); }
/* The number of a key. */
uint32_t cache_zipf_draw(const cache_zipf *zipf, uint64_t *seed);

/* Writes a stream of n requests over `keys` keys. */
void cache_stream_draw(uint32_t *stream, size_t n, uint64_t keys, unsigned puts_of_ten, uint64_t seed);
/* The stream over CACHE_KEYS keys, in a file without a name, whose descriptor child processes inherit; it is -1 before.
 * */
uint32_t *cache_stream_open(void);
extern int cache_stream_descriptor;

#ifdef __cplusplus
}
#endif

#endif
