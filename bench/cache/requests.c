// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "bench.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cache/subject.h"

#define T (1 - CACHE_SKEW)

/* Integral of x^-skew from 1, and its inverse. */
static double integral(double x) { return expm1(T * log(x)) / T; }
static double inverse(double y) { return exp(log1p(y * T) / T); }
static double height(double x) { return exp(-CACHE_SKEW * log(x)); }

void cache_zipf_init(cache_zipf *zipf, uint64_t n) {
    zipf->n = n;
    zipf->first = integral(1.5) - 1;
    zipf->last = integral((double)n + 0.5);
    zipf->accept = 2 - inverse(integral(2.5) - height(2));
}

uint32_t cache_zipf_draw(const cache_zipf *zipf, uint64_t *seed) {
    for (;;) {
        double share = (double)(bench_random(seed) >> 11) / 9007199254740992.0;
        double u = zipf->last + share * (zipf->first - zipf->last), x = inverse(u);
        double k = floor(x + 0.5);
        if (k < 1) k = 1;
        if (k > (double)zipf->n) k = (double)zipf->n;
        if (k - x <= zipf->accept || u >= integral(k + 0.5) - height(k))
            return cache_zipf_number((uint64_t)k - 1, zipf->n);
    }
}

void cache_stream_draw(uint32_t *stream, size_t n, uint64_t keys, unsigned puts_of_ten, uint64_t seed) {
    cache_zipf zipf;
    cache_zipf_init(&zipf, keys);
    for (size_t i = 0; i < n; i++) {
        uint32_t put = (bench_random(&seed) >> 32) % 10 < puts_of_ten ? CACHE_STREAM_PUT : 0;
        stream[i] = cache_zipf_draw(&zipf, &seed) | put;
    }
}

static void draw_task(unsigned thread, void *argument) {
    const size_t half = CACHE_STREAM / 2;
    cache_stream_draw((uint32_t *)argument + thread * half, half, CACHE_KEYS, CACHE_PUTS_OF_TEN, 0x5eed + thread);
}

int cache_stream_descriptor = -1;

uint32_t *cache_stream_open(void) {
    size_t bytes = CACHE_STREAM * sizeof(uint32_t);
    int descriptor = memfd_create("requests", 0);
    if (descriptor < 0 || ftruncate(descriptor, (off_t)bytes) != 0) cache_fail("requests", "no memory for them");
    void *stream = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (stream == MAP_FAILED) cache_fail("requests", "no memory for them");
    workers_run(2, draw_task, stream);
    cache_stream_descriptor = descriptor;
    return stream;
}
