// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/history.h"

#include <string.h>

/* What is believed beforehand weighs as much as so many uses, and is soon outweighed. Ranks that few keys have reached are taken to be as all others until so many uses say otherwise. */
#define NM__PRIOR_USES 20.0f

/* The first age of a bin; the inverse of nm__age_bin. */
static float first_age(unsigned bin) {
    if (bin < 8) return (float)bin;
    unsigned octave = (bin - 8) / 4 + 3;
    return (float)((4u + (bin - 8) % 4) << (octave - 2));
}

static void believe_nothing(nm__history *h) {
    /* Before anything is known the worth falls with age and grows with use, as LRU and LFU have it. */
    for (unsigned rank = 0; rank < NM__RANKS; rank++) {
        float left = h->used[rank] = NM__PRIOR_USES;
        for (unsigned bin = 0; bin < NM__HISTORY_BINS; bin++) {
            float width = first_age(bin + 1) - first_age(bin);
            float part = 0.2f * (float)(rank + 1) * width / (first_age(bin) + 2) / (1 + width / 8);
            h->reused[rank][bin] = left * (part < 0.3f ? part : 0.3f);
            left -= h->reused[rank][bin];
        }
    }
}

void nm__history_open(nm__history *h, void *memory, size_t bytes) {
    memset(h, 0, sizeof *h);
    h->buckets = memory;
    h->bucket_count = bytes / sizeof *h->buckets;
    believe_nothing(h);
}

void nm__history_forget(nm__history *h) {
    memset(h->buckets, 0, h->bucket_count * sizeof *h->buckets);
    believe_nothing(h);
}

static nm__trail *bucket_of(nm__history *h, uint32_t sample) {
    return h->buckets[(uint64_t)(sample * 0x9e3779b1u) * h->bucket_count >> 32];
}

static nm__trail *find(nm__trail *bucket, uint32_t sample) {
    for (int i = 0; i < 8; i++)
        if (bucket[i].sample == sample && bucket[i].time != 0) return &bucket[i];
    return NULL;
}

static unsigned bin_of(unsigned age) {
    unsigned bin = nm__age_bin(age);
    return bin < NM__HISTORY_BINS ? bin : NM__HISTORY_BINS - 1;
}

/* 0 means that there is no trail. */
static uint16_t time_or_1(uint16_t time) { return time != 0 ? time : 1; }

void nm__history_look(nm__history *h, uint32_t sample, uint16_t time) {
    nm__trail *trail = find(bucket_of(h, sample), sample);
    if (trail == NULL || trail->open) return;
    h->reused[trail->rank][bin_of((uint16_t)(time_or_1(time) - trail->time))]++;
    trail->open = 1;
}

void nm__history_rank(nm__history *h, uint32_t sample, uint16_t time, unsigned rank, bool hit) {
    nm__trail *bucket = bucket_of(h, sample), *trail = find(bucket, sample);
    if (trail == NULL) {
        trail = &bucket[0];
        for (int i = 0; i < 8; i++) {
            if (bucket[i].time == 0) {
                trail = &bucket[i];
                break;
            }
            if ((uint16_t)(time - bucket[i].time) > (uint16_t)(time - trail->time)) trail = &bucket[i];
        }
    } else if (!trail->open && !hit) {
        return; /* a put of what is there */
    }
    *trail = (nm__trail){.sample = sample, .time = time_or_1(time), .rank = (uint8_t)rank};
    h->used[rank]++;
}

void nm__history_halve(nm__history *h) {
    for (unsigned rank = 0; rank < NM__RANKS; rank++) {
        h->used[rank] /= 2;
        for (unsigned bin = 0; bin < NM__HISTORY_BINS; bin++) h->reused[rank][bin] /= 2;
    }
}

void nm__history_worth(const nm__history *h, float worth[NM__RANKS][NM__AGE_BINS]) {
    float all[NM__HISTORY_BINS] = {0}, all_used = 1;
    for (unsigned rank = 0; rank < NM__RANKS; rank++) {
        all_used += h->used[rank];
        for (unsigned bin = 0; bin < NM__HISTORY_BINS; bin++) all[bin] += h->reused[rank][bin];
    }
    for (unsigned rank = 0; rank < NM__RANKS; rank++) {
        float reused[NM__HISTORY_BINS], left[NM__HISTORY_BINS + 1];
        left[0] = h->used[rank] + NM__PRIOR_USES;
        for (unsigned bin = 0; bin < NM__HISTORY_BINS; bin++) {
            reused[bin] = h->reused[rank][bin] + NM__PRIOR_USES * all[bin] / all_used;
            left[bin + 1] = left[bin] > reused[bin] ? left[bin] - reused[bin] : 0;
        }
        for (unsigned from = 0; from < NM__AGE_BINS; from++) {
            float uses = 0, time = 0, best = 0;
            for (unsigned to = from; to < NM__HISTORY_BINS; to++) {
                uses += reused[to];
                /* Who is used again within the bin stays half of it; one more, so that nothing divides by zero. */
                time += (left[to + 1] + reused[to] / 2 + 0.01f) * (first_age(to + 1) - first_age(to));
                if (uses / time > best) best = uses / time;
            }
            worth[rank][from] = best;
        }
    }
}
