// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "workload.h"

#include <math.h>
#include <string.h>

#include "hash.h"

#define ITEM_KEYS     400000
#define ITEM_EXPONENT 0.9
#define HOT_SHARE     0.3
#define HOT_KEYS      1000
#define HOT_STEP      250
#define HOT_PERIOD    25000
#define SCAN_PERIOD   100000
#define SCAN_KEYS     10000
#define SCAN_TABLES   7 /* the eighth scan comes back to the first */

#define SIZE_MEDIAN      1536.0
#define SIZE_SIGMA       1.2
#define TAIL_SHARE       0.02
#define TAIL_FIRST_BYTES 32768.0
#define TAIL_INDEX       1.1

static uint64_t next_random(workload *w) { return hash_mix(w->random += HASH_GOLDEN); }

/* 53 random bits as a number in (0, 1): neither end, so that logarithms and powers of it are finite. */
static double unit_of(uint64_t bits) { return ((double)(bits >> 11) + 0.5) * 0x1p-53; }

/* Zipf by rejection-inversion (Hormann, Derflinger 1996): constant time and no table. The integral of x^-s, its inverse. */
static double integral(double x) { return pow(x, 1.0 - ITEM_EXPONENT) / (1.0 - ITEM_EXPONENT); }
static double integral_inverse(double y) { return pow(y * (1.0 - ITEM_EXPONENT), 1.0 / (1.0 - ITEM_EXPONENT)); }
static double weight(double rank) { return pow(rank, -ITEM_EXPONENT); }

static uint64_t next_zipf(workload *w) {
    for (;;) {
        double u = w->zipf.high + unit_of(next_random(w)) * (w->zipf.low - w->zipf.high);
        double x = integral_inverse(u);
        double rank = floor(x + 0.5);
        if (rank < 1) rank = 1;
        if (rank > ITEM_KEYS) rank = ITEM_KEYS;
        if (rank - x <= w->zipf.first_accept || u >= integral(rank + 0.5) - weight(rank)) return (uint64_t)rank;
    }
}

void workload_start(workload *w, uint64_t request_count, uint64_t seed) {
    *w = (workload){.request_count = request_count, .seed = seed, .random = hash_mix(seed + HASH_GOLDEN)};
    w->zipf.low = integral(1.5) - 1.0;
    w->zipf.high = integral(ITEM_KEYS + 0.5);
    w->zipf.first_accept = 2.0 - integral_inverse(integral(2.5) - weight(2.0));
}

/* A standard normal number from two uniform ones (Box, Muller 1958). */
static double normal_of(uint64_t a, uint64_t b) {
    return sqrt(-2.0 * log(unit_of(a))) * cos(6.283185307179586 * unit_of(b));
}

static uint64_t size_of(uint64_t identity) {
    uint64_t a = hash_mix(identity + HASH_GOLDEN), b = hash_mix(a + HASH_GOLDEN), c = hash_mix(b + HASH_GOLDEN);
    double size = unit_of(a) < TAIL_SHARE ? TAIL_FIRST_BYTES * pow(unit_of(b), -1.0 / TAIL_INDEX)
                                          : SIZE_MEDIAN * exp(SIZE_SIGMA * normal_of(b, c));
    if (size > (double)WORKLOAD_SIZE_MAX) return WORKLOAD_SIZE_MAX;
    return size < 1 ? 1 : (uint64_t)size;
}

static size_t write_decimal(char *to, uint64_t value) {
    char digits[20];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    for (size_t i = 0; i < count; i++) to[i] = digits[count - 1 - i];
    return count;
}

/* The key is a hash of its number, so that it tells nothing of its rank. */
static size_t write_line(const workload *w, char *line, const char *kind, uint64_t number) {
    uint64_t identity = hash_mix(hash_mix(w->seed ^ (uint64_t)(unsigned char)kind[0] << 56) + number);
    size_t len = strlen(kind);
    memcpy(line, kind, len);
    line[len++] = ':';
    for (int shift = 60; shift >= 0; shift -= 4) line[len++] = "0123456789abcdef"[identity >> shift & 15];
    line[len++] = ' ';
    return len + write_decimal(line + len, size_of(identity));
}

size_t workload_next(workload *w, char line[WORKLOAD_LINE_MAX]) {
    if (w->done == w->request_count) return 0;
    uint64_t now = w->done++;

    /* The scan takes every second request, so it lasts for twice its keys. */
    uint64_t scan = now / SCAN_PERIOD, step = now % SCAN_PERIOD;
    if (step % 2 == 1 && step / 2 < SCAN_KEYS)
        return write_line(w, line, "scan", scan % SCAN_TABLES * SCAN_KEYS + step / 2);
    if (unit_of(next_random(w)) < HOT_SHARE)
        return write_line(w, line, "hot", now / HOT_PERIOD * HOT_STEP + next_random(w) % HOT_KEYS);
    return write_line(w, line, "item", next_zipf(w));
}
