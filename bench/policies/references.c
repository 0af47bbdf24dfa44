// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "references.h"

#include <stdlib.h>
#include <string.h>

/* Keys by priority, the least at the top. */
typedef struct heap {
    uint32_t *keys;   /* [1] is the top */
    uint32_t *place;  /* by key number; 0: not in it */
    double *priority; /* by key number */
    uint32_t count;
} heap;

static bool heap_open(heap *h, uint32_t key_count) {
    size_t n = (size_t)key_count + 2;
    *h = (heap){.keys = calloc(n, sizeof *h->keys),
                .place = calloc(n, sizeof *h->place),
                .priority = calloc(n, sizeof *h->priority)};
    return h->keys != NULL && h->place != NULL && h->priority != NULL;
}

static void heap_close(heap *h) {
    free(h->keys);
    free(h->place);
    free(h->priority);
}

static void swap(heap *h, uint32_t a, uint32_t b) {
    uint32_t key = h->keys[a];
    h->keys[a] = h->keys[b];
    h->keys[b] = key;
    h->place[h->keys[a]] = a;
    h->place[h->keys[b]] = b;
}

static void settle(heap *h, uint32_t at) {
    for (; at > 1 && h->priority[h->keys[at]] < h->priority[h->keys[at / 2]]; at /= 2) swap(h, at, at / 2);
    for (;;) {
        uint32_t least = at;
        for (uint32_t child = 2 * at; child <= 2 * at + 1 && child <= h->count; child++)
            if (h->priority[h->keys[child]] < h->priority[h->keys[least]]) least = child;
        if (least == at) return;
        swap(h, at, least);
        at = least;
    }
}

/* Adds the key, or changes its priority. */
static void heap_set(heap *h, uint32_t key, double priority) {
    h->priority[key] = priority;
    if (h->place[key] == 0) {
        h->keys[++h->count] = key;
        h->place[key] = h->count;
    }
    settle(h, h->place[key]);
}

static uint32_t heap_take(heap *h) {
    uint32_t key = h->keys[1];
    swap(h, 1, h->count);
    h->count--;
    h->place[key] = 0;
    if (h->count > 0) settle(h, 1);
    return key;
}

static void count_hit(outcome *out, uint64_t size) {
    out->hits++;
    out->hit_bytes += size;
}

static void evict(heap *h, const requests *r, outcome *out) {
    out->used_bytes -= r->weights[heap_take(h)];
    out->evictions++;
}

bool reference_gdsf(const requests *r, uint64_t budget, outcome *out) {
    heap h;
    uint32_t *uses = calloc((size_t)r->key_count + 1, sizeof *uses);
    bool good = heap_open(&h, r->key_count) && uses != NULL;
    double age = 0;
    *out = (outcome){0};
    for (size_t i = 0; good && i < r->count; i++) {
        uint32_t key = r->keys[i];
        uint64_t size = r->weights[key];
        if (h.place[key] != 0) {
            count_hit(out, r->sizes[key]);
            uses[key]++;
        } else if (size > budget) {
            out->rejections++;
            continue;
        } else {
            while (out->used_bytes + size > budget) {
                age = h.priority[h.keys[1]];
                evict(&h, r, out);
            }
            uses[key] = 1;
            out->used_bytes += size;
        }
        heap_set(&h, key, age + (double)uses[key] / (double)size);
    }
    heap_close(&h);
    free(uses);
    return good;
}

bool reference_belady(const requests *r, uint64_t budget, outcome *out) {
    heap h;
    size_t *next = calloc(r->count, sizeof *next), *seen = calloc((size_t)r->key_count + 1, sizeof *seen);
    bool good = heap_open(&h, r->key_count) && next != NULL && seen != NULL;
    *out = (outcome){0};
    for (size_t i = r->count; good && i-- > 0;) {
        next[i] = seen[r->keys[i]]; /* 0: never */
        seen[r->keys[i]] = i;
    }
    for (size_t i = 0; good && i < r->count; i++) {
        uint32_t key = r->keys[i];
        uint64_t size = r->weights[key];
        bool hit = h.place[key] != 0;
        if (hit) count_hit(out, r->sizes[key]);
        if (!hit && size > budget) out->rejections++;
        if (!hit && (size > budget || next[i] == 0)) continue;
        heap_set(&h, key, next[i] == 0 ? -(double)r->count : -(double)next[i]);
        if (!hit) out->used_bytes += size;
        while (out->used_bytes > budget) evict(&h, r, out);
    }
    heap_close(&h);
    free(next);
    free(seen);
    return good;
}
