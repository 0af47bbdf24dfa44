// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "histogram.h"

#include <math.h>
#include <stddef.h>

#define VALUE_MAX ((UINT64_C(1) << HISTOGRAM_MAX_BITS) - 1)

/* How far a value is shifted so that it keeps its SUB_BITS + 1 leading bits. */
static unsigned shift_of(uint64_t value) {
    unsigned bits = value == 0 ? 0 : 64u - (unsigned)__builtin_clzll(value);
    return bits > HISTOGRAM_SUB_BITS + 1 ? bits - (HISTOGRAM_SUB_BITS + 1) : 0;
}

/* The leading bit adds 2^SUB_BITS to the shifted value, which is what makes the ranges of two shifts meet. */
static size_t index_of(uint64_t value) {
    unsigned shift = shift_of(value);
    return ((size_t)shift << HISTOGRAM_SUB_BITS) + (size_t)(value >> shift);
}

static uint64_t last_value_of(size_t index) {
    size_t shift = index >> HISTOGRAM_SUB_BITS;
    shift = shift > 1 ? shift - 1 : 0;
    uint64_t lead = index - (shift << HISTOGRAM_SUB_BITS);
    return ((lead + 1) << shift) - 1;
}

void histogram_add(histogram *h, uint64_t value) {
    if (value > VALUE_MAX) value = VALUE_MAX;
    h->buckets[index_of(value)]++;
    h->count++;
    if (value > h->largest) h->largest = value;
}

void histogram_merge(histogram *h, const histogram *from) {
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) h->buckets[i] += from->buckets[i];
    h->count += from->count;
    if (from->largest > h->largest) h->largest = from->largest;
}

uint64_t histogram_quantile(const histogram *h, double q) {
    if (h->count == 0) return 0;
    double wanted = ceil(q * (double)h->count);
    uint64_t rank = wanted < 1 ? 1 : wanted > (double)h->count ? h->count : (uint64_t)wanted;
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen < rank) continue;
        uint64_t value = last_value_of(i);
        return value < h->largest ? value : h->largest;
    }
    return h->largest;
}
