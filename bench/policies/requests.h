// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A trace in memory: keys numbered from 1, each with one size (the largest that the trace gives) and a weight: what of a budget
 * it takes. */
#ifndef NM_BENCH_REQUESTS_H
#define NM_BENCH_REQUESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct requests {
    char name[64]; /* of the file, without its ending */
    uint32_t *keys;
    size_t count;
    uint64_t *hashes, *sizes, *weights; /* by key number; [0] is none */
    uint32_t *key_lengths;              /* by key number too */
    uint32_t key_count;
    uint64_t unique_weight, bytes; /* weights of all keys, sizes of all requests */
} requests;

typedef enum requests_weights {
    REQUESTS_BARE, /* the size that the trace gives, and 1 where it gives none */
    REQUESTS_CHARGED, /* nm_cache_charge; the size is 4 KiB in a trace that gives none or only ones, as nebula-replay has it */
} requests_weights;

/* False: prints why. */
bool requests_read(requests *r, requests_weights weights, const char *program, const char *path);
/* Other hashes for the same keys: other samples, other ghosts that are mistaken for each other. */
void requests_rehash(requests *r);
void requests_free(requests *r);

#endif
