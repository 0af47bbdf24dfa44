// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "nebula/cache.h"
#include "trace.h"

/* Of nebula-replay. */
#define DEFAULT_SIZE 4096u

/* Numbers of keys by their hash, at most half full. */
typedef struct numbers {
    uint32_t *slots;
    size_t slot_count; /* a power of two */
} numbers;

static const uint64_t hash_key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u}; /* the same in every run */

static void *grown(void *array, size_t *room, size_t size) {
    if (*room > SIZE_MAX / 2 / size) return NULL;
    void *out = realloc(array, *room * 2 * size);
    if (out != NULL) *room *= 2;
    return out;
}

static bool rehash(numbers *n, const requests *r) {
    size_t count = n->slot_count * 2;
    uint32_t *slots = calloc(count, sizeof *slots);
    if (slots == NULL) return false;
    for (uint32_t key = 1; key <= r->key_count; key++) {
        size_t at = r->hashes[key] & (count - 1);
        while (slots[at] != 0) at = (at + 1) & (count - 1);
        slots[at] = key;
    }
    free(n->slots);
    *n = (numbers){slots, count};
    return true;
}

/* The slot of a hash: its key's number, or 0 and free. */
static uint32_t *slot_of(const numbers *n, const requests *r, uint64_t hash) {
    size_t at = hash & (n->slot_count - 1);
    while (n->slots[at] != 0 && r->hashes[n->slots[at]] != hash) at = (at + 1) & (n->slot_count - 1);
    return &n->slots[at];
}

typedef struct rooms {
    size_t requests, keys;
    bool any_size, all_ones;
} rooms;

static bool more_keys(requests *r, rooms *room) {
    size_t hashes_room = room->keys, lengths_room = room->keys;
    void *hashes = grown(r->hashes, &hashes_room, sizeof *r->hashes);
    if (hashes == NULL) return false;
    r->hashes = hashes;
    void *lengths = grown(r->key_lengths, &lengths_room, sizeof *r->key_lengths);
    if (lengths == NULL) return false;
    r->key_lengths = lengths;
    void *sizes = grown(r->sizes, &room->keys, sizeof *r->sizes);
    if (sizes == NULL) return false;
    r->sizes = sizes;
    return true;
}

static bool note(requests *r, numbers *n, rooms *room, const record *line) {
    uint64_t hash = nm__siphash13(hash_key, line->key, line->key_len);
    if (r->count == room->requests) {
        void *more = grown(r->keys, &room->requests, sizeof *r->keys);
        if (more == NULL) return false;
        r->keys = more;
    }
    if (r->key_count + 1 == room->keys && !more_keys(r, room)) return false;
    if ((size_t)r->key_count * 2 >= n->slot_count && !rehash(n, r)) return false;
    uint32_t *slot = slot_of(n, r, hash);
    if (*slot == 0) {
        if (r->key_count == UINT32_MAX / 2 - 1) return false; /* a node has two units, and numbers have 32 bits */
        *slot = ++r->key_count;
        r->hashes[*slot] = hash;
        r->key_lengths[*slot] = (uint32_t)line->key_len;
        r->sizes[*slot] = 0;
    }
    room->any_size |= line->has_size;
    room->all_ones &= !line->has_size || line->size == 1;
    uint64_t size = line->has_size && line->size != 0 ? line->size : 1;
    if (size > r->sizes[*slot]) r->sizes[*slot] = size;
    r->keys[r->count++] = *slot;
    return true;
}

static void set_name(requests *r, const char *path) {
    const char *last = strrchr(path, '/');
    (void)snprintf(r->name, sizeof r->name, "%s", last != NULL ? last + 1 : path);
    char *dot = strchr(r->name, '.');
    if (dot != NULL && dot != r->name) *dot = 0;
}

static bool weigh(requests *r, requests_weights weights, const rooms *room) {
    r->weights = calloc((size_t)r->key_count + 1, sizeof *r->weights);
    if (r->weights == NULL) return false;
    bool sizeless = !room->any_size || room->all_ones;
    for (uint32_t key = 1; key <= r->key_count; key++) {
        if (weights == REQUESTS_CHARGED && sizeless) r->sizes[key] = DEFAULT_SIZE;
        r->weights[key] =
            weights == REQUESTS_CHARGED ? nm_cache_charge(NULL, r->key_lengths[key], r->sizes[key]) : r->sizes[key];
        if (__builtin_add_overflow(r->unique_weight, r->weights[key], &r->unique_weight)) r->unique_weight = UINT64_MAX;
    }
    for (size_t i = 0; i < r->count; i++) r->bytes += r->sizes[r->keys[i]];
    return true;
}

static bool read_all(requests *r, requests_weights weights, numbers *n, trace *t, const char *program,
                     const char *path) {
    rooms room = {.requests = 4096, .keys = 1024, .all_ones = true};
    n->slot_count = 4096;
    n->slots = calloc(n->slot_count, sizeof *n->slots);
    r->keys = calloc(room.requests, sizeof *r->keys);
    r->hashes = calloc(room.keys, sizeof *r->hashes);
    r->sizes = calloc(room.keys, sizeof *r->sizes);
    r->key_lengths = calloc(room.keys, sizeof *r->key_lengths);
    bool enough =
        n->slots != NULL && r->keys != NULL && r->hashes != NULL && r->sizes != NULL && r->key_lengths != NULL;
    trace_status status = TRACE_END;
    trace_line line;
    while (enough && (status = trace_next(t, &line)) == TRACE_LINE) {
        record one;
        const char *wrong = record_parse(RECORD_TEXT, line.text, line.len, &one);
        if (wrong != NULL) {
            fprintf(stderr, "%s: %s:%llu: %s\n", program, path, (unsigned long long)line.number, wrong);
            return false;
        }
        enough = note(r, n, &room, &one);
    }
    if (enough && status == TRACE_END && r->count > 0) enough = weigh(r, weights, &room);
    if (!enough)
        fprintf(stderr, "%s: %s: out of memory\n", program, path);
    else if (status == TRACE_ERROR)
        fprintf(stderr, "%s: %s\n", program, t->error);
    else if (r->count == 0)
        fprintf(stderr, "%s: %s: no request in it\n", program, path);
    else
        return true;
    return false;
}

bool requests_read(requests *r, requests_weights weights, const char *program, const char *path) {
    trace t;
    numbers n = {0};
    memset(r, 0, sizeof *r);
    set_name(r, path);
    if (!trace_open(&t, path, RECORD_TEXT)) {
        fprintf(stderr, "%s: %s\n", program, t.error);
        return false;
    }
    bool good = trace_rewind(&t);
    if (!good)
        fprintf(stderr, "%s: %s\n", program, t.error);
    else
        good = read_all(r, weights, &n, &t, program, path);
    trace_close(&t);
    free(n.slots);
    if (!good) requests_free(r);
    return good;
}

void requests_rehash(requests *r) {
    for (uint32_t key = 1; key <= r->key_count; key++)
        r->hashes[key] = nm__siphash13(hash_key, &r->hashes[key], sizeof r->hashes[key]);
}

void requests_free(requests *r) {
    free(r->keys);
    free(r->hashes);
    free(r->sizes);
    free(r->weights);
    free(r->key_lengths);
    memset(r, 0, sizeof *r);
}
