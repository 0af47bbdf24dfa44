// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A trace in memory: keys numbered from 1, each with one size (the largest that the trace gives). */
#ifndef NM_BENCH_REQUESTS_H
#define NM_BENCH_REQUESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct requests {
    char name[64]; /* of the file, without its ending */
    uint32_t *keys;
    size_t count;
    uint64_t *hashes, *sizes; /* by key number; [0] is none */
    uint32_t key_count;
    uint64_t unique_bytes, bytes; /* of all keys, of all requests */
} requests;

/* False: prints why. */
bool requests_read(requests *r, const char *program, const char *path);
void requests_free(requests *r);

#endif
