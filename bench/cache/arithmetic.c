// SPDX-License-Identifier: Apache-2.0 OR MIT
/* No cache: so much arithmetic in registers for a request as a look-up takes. Its gain by a second thread is what two processors
 * are worth to code that computes; where they are two threads of one core that is little more than one. */
#include "bench.h"

#include "cache/subject.h"

#define ROUNDS 12

static void *arithmetic_open(const cache_subject *self, const cache_room *room) {
    (void)self, (void)room;
    return cache_must(malloc(1));
}

static void arithmetic_close(void *context) { free(context); }

static size_t arithmetic_count(void *context) {
    (void)context;
    return 0;
}

static void arithmetic_serve(void *context, const cache_request *requests, size_t n, cache_tally *tally) {
    (void)context;
    uint64_t v[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    for (const cache_request *r = requests; r < requests + n; r++) {
        tally->gets += !r->put;
        for (int i = 0; i < ROUNDS; i++) {
            /* As many chains as keep all units of a processor busy. */
            for (int k = 0; k < 8; k++) v[k] = (v[k] << 13) + (v[k] ^ (uint64_t)i);
            for (int k = 0; k < 8; k++) bench_forget(v[k]);
        }
    }
    bench_keep(v[0] + v[1] + v[2] + v[3] + v[4] + v[5] + v[6] + v[7]);
}

void cache_add_arithmetic(cache_list *list) {
    cache_subject subject = {.name = "arithmetic",
                             .open = arithmetic_open,
                             .close = arithmetic_close,
                             .count = arithmetic_count,
                             .serve = arithmetic_serve};
    cache_list_add(list, &subject);
}
