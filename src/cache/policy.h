// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Segmented LRU by bytes (Karedla, Love, Wherry 1994) over nodes that are named by 32-bit numbers.
 *
 * It knows nothing of memory: a node's address is base + 16 * number, its weight is asked from the owner. So the same code
 * serves the cache and a simulator that has nothing but nodes. LRU is the case protected_limit = 0. */
#ifndef NM_SRC_CACHE_POLICY_H
#define NM_SRC_CACHE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers count in units of this many bytes; 0 is no node. */
#define NM__UNIT_BYTES ((size_t)16)

typedef struct nm__node {
    uint32_t next, prev; /* towards the tail, towards the head */
    uint32_t state;      /* NM__NODE_PROTECTED is the policy's; the other bits are the owner's */
} nm__node;

#define NM__NODE_PROTECTED 0x80000000u

typedef enum nm__segment { NM__PROBATION, NM__PROTECTED, NM__HELD } nm__segment;

typedef struct nm__list {
    uint32_t head, tail;
} nm__list;

typedef struct nm__segments {
    unsigned char *base;
    size_t (*weight)(const nm__node *node); /* constant while the node is in a list */
    nm__list lists[3];                      /* HELD: pinned nodes, which are no victims */
    size_t bytes[2];                        /* of each segment, its held nodes included */
    size_t protected_limit;
} nm__segments;

void nm__segments_open(nm__segments *s, void *base, size_t (*weight)(const nm__node *));

/* Changes the room of the protected segment; what is above it goes to probation's head, least recent first. */
void nm__segments_limit(nm__segments *s, size_t protected_limit);

/* A new node: at the head of the protected segment while that has room, else of probation. */
void nm__segments_add(nm__segments *s, uint32_t number);
/* A node that takes another's place: at the head of that one's segment. */
void nm__segments_add_to(nm__segments *s, uint32_t number, nm__segment segment);
/* A use: to the head of the protected segment. */
void nm__segments_hit(nm__segments *s, uint32_t number);
/* A use that keeps the node out of the victims' way until it is unpinned. */
void nm__segments_pin(nm__segments *s, uint32_t number);
void nm__segments_unpin(nm__segments *s, uint32_t number);
/* `held`: it is pinned. */
void nm__segments_remove(nm__segments *s, uint32_t number, bool held);
/* The node, not pinned, was copied to `to`, and its old place may be gone. */
void nm__segments_move(nm__segments *s, uint32_t to);
/* The next victim: the tail of probation, else of the protected segment; 0 if all are pinned. */
uint32_t nm__segments_victim(const nm__segments *s);

static inline nm__node *nm__segments_node(const nm__segments *s, uint32_t number) {
    return (nm__node *)(void *)(s->base + (size_t)number * NM__UNIT_BYTES);
}

#endif
