// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "keyset.h"

#include <stdlib.h>

#include "hash.h"

#define FIRST_SLOTS 1024
#define SIZE_BITS   41 /* sizes up to 2^40 inclusive; the length of the key, never 0, lies above them */

struct keyset_slot {
    uint64_t hash;
    uint64_t packed; /* 0: free */
};

static uint64_t pack(size_t key_len, uint64_t size) { return (uint64_t)key_len << SIZE_BITS | size; }
static uint64_t size_of(uint64_t packed) { return packed & ((UINT64_C(1) << SIZE_BITS) - 1); }

/* Linear probing: the slot that holds the key, or the free one where it belongs. */
static struct keyset_slot *find(struct keyset_slot *slots, size_t slot_count, uint64_t hash, size_t key_len) {
    size_t at = (size_t)hash & (slot_count - 1);
    while (slots[at].packed != 0 && (slots[at].hash != hash || slots[at].packed >> SIZE_BITS != key_len))
        at = (at + 1) & (slot_count - 1);
    return &slots[at];
}

static bool grow(keyset *set) {
    size_t wanted = set->slot_count == 0 ? FIRST_SLOTS : set->slot_count * 2;
    if (wanted > SIZE_MAX / sizeof *set->slots) return false;
    struct keyset_slot *slots = calloc(wanted, sizeof *slots);
    if (slots == NULL) return false;
    for (size_t i = 0; i < set->slot_count; i++) {
        const struct keyset_slot *old = &set->slots[i];
        if (old->packed != 0) *find(slots, wanted, old->hash, (size_t)(old->packed >> SIZE_BITS)) = *old;
    }
    free(set->slots);
    set->slots = slots;
    set->slot_count = wanted;
    return true;
}

bool keyset_add(keyset *set, const void *key, size_t key_len, uint64_t size) {
    if (set->count >= set->slot_count / 4 * 3 && !grow(set)) return false;
    uint64_t hash = hash_bytes(key, key_len);
    struct keyset_slot *slot = find(set->slots, set->slot_count, hash, key_len);
    if (slot->packed == 0) {
        slot->hash = hash;
        slot->packed = pack(key_len, size);
        set->count++;
    } else if (size > size_of(slot->packed)) {
        slot->packed = pack(key_len, size);
    }
    return true;
}

bool keyset_next(const keyset *set, size_t *at, size_t *key_len, uint64_t *size) {
    while (*at < set->slot_count) {
        uint64_t packed = set->slots[(*at)++].packed;
        if (packed == 0) continue;
        *key_len = (size_t)(packed >> SIZE_BITS);
        *size = size_of(packed);
        return true;
    }
    return false;
}

void keyset_clear(keyset *set) {
    free(set->slots);
    *set = (keyset){0};
}
