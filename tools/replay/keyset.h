// SPDX-License-Identifier: Apache-2.0 OR MIT
/* keyset.h: the distinct keys of a trace, each with its length and its largest size, 16 bytes a slot.
 *
 * Keys are known by a 64-bit hash, so 10^7 keys are miscounted by one with a probability of 3 in 10^6. */
#ifndef REPLAY_KEYSET_H
#define REPLAY_KEYSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct keyset {
    struct keyset_slot *slots;
    size_t slot_count; /* a power of two, or 0 */
    size_t count;      /* distinct keys */
} keyset;              /* all zero: empty */

/* Notes a key of 1 to 65535 bytes with a size of at most 2^40. False: no memory; the set is unchanged. Amortized O(len). */
bool keyset_add(keyset *set, const void *key, size_t key_len, uint64_t size);

/* Walks the set in no order: start with *at = 0. False at the end. */
bool keyset_next(const keyset *set, size_t *at, size_t *key_len, uint64_t *size);

/* Frees it; it is empty then. */
void keyset_clear(keyset *set);

#endif
