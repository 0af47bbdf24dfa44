// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the policies are measured by: others' policies, written plainly, that share nothing with src/cache. */
#ifndef NM_BENCH_REFERENCES_H
#define NM_BENCH_REFERENCES_H

#include "requests.h"

typedef struct outcome {
    uint64_t hits, hit_bytes, evictions, rejections, used_bytes;
} outcome;

/* GDSF (Cherkasova 1998): the victim has the least age + uses / size. False: no memory. */
bool reference_gdsf(const requests *r, uint64_t budget, outcome *out);

/* Belady (1966): the victim is used again last; what is not used again is not kept. The bound where all sizes are 1. */
bool reference_belady(const requests *r, uint64_t budget, outcome *out);

#endif
