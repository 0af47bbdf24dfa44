// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the policy knows of an entry: two links and a word of state, named by a 32-bit number. It lies in the entry's header, or
 * in an array where there are no entries (shadows, simulators). */
#ifndef NM_SRC_CACHE_NODE_H
#define NM_SRC_CACHE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"

/* Numbers count in units of this many bytes; 0 is no node. */
#define NM__UNIT_BYTES ((size_t)8)

typedef struct nm__node {
    NM_ATOMIC(uint32_t) next;  /* towards the tail */
    NM_ATOMIC(uint32_t) prev;  /* towards the head */
    NM_ATOMIC(uint32_t) state; /* the low 16 bits are the policy's, the others the owner's */
} nm__node;

#define NM__NODE_POLICY_BITS 0xffffu

/* relaxed: written under the owner's lock; who reads without it looks at bits that do not change meanwhile */
static inline uint32_t nm__node_state(const nm__node *node) { return nm_atomic_load(&node->state, NM_RELAXED); }
static inline void nm__node_set_state(nm__node *node, uint32_t state) {
    nm_atomic_store(&node->state, state, NM_RELAXED);
}

/* relaxed, as the state: the owner's lock orders them, and who has an entry pinned without it may look where its neighbours lie, to
 * fetch them. Who holds the lock reads them as they are. */
static inline void nm__node_set_next(nm__node *node, uint32_t next) { nm_atomic_store(&node->next, next, NM_RELAXED); }
static inline void nm__node_set_prev(nm__node *node, uint32_t prev) { nm_atomic_store(&node->prev, prev, NM_RELAXED); }

#endif
