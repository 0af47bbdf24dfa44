// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A slab: 2 MiB of address space, cut into blocks of 4 KiB to 1 MiB by the buddy system (Knowlton 1965).
 *
 * Its first page holds this header, so a block's slab is found by masking its address. A piece of a slab is free (not
 * committed, not charged) or taken (handed to the block store: in use or idle). No function here commits or locks. */
#ifndef NM_SRC_BLOCK_SLAB_H
#define NM_SRC_BLOCK_SLAB_H

#include "block/block.h"

#define NM__SLAB_LEAVES       512u /* of 4 KiB; leaf 0 is the header */
#define NM__SLAB_ORDERS       9u   /* 4 KiB << 8 = 1 MiB is the largest that fits beside the header */
#define NM__SLAB_NOTHING_FREE (-1)

struct nm__slab {
    nm__slab *next, *previous;
    int bin;                             /* the largest order free, or NM__SLAB_NOTHING_FREE */
    unsigned taken_leaves;               /* header apart */
    bool whole;                          /* committed and charged as a whole, for huge pages; set by the block store */
    uint16_t free_head[NM__SLAB_ORDERS]; /* first free leaf of each order; 0 = none */
    uint8_t state[NM__SLAB_LEAVES];      /* at the first leaf of a piece: order and NM__LEAF_*; else 0 */
    uint16_t free_next[NM__SLAB_LEAVES];
    uint16_t free_previous[NM__SLAB_LEAVES];
};
_Static_assert(sizeof(nm__slab) <= NM__BLOCK_MIN_BYTES, "the header is the slab's first leaf");

void nm__slab_open(nm__slab *slab);
/* The address of a free piece of that order, now taken. The slab has one (bin >= order). */
void *nm__slab_take(nm__slab *slab, unsigned order);
/* Frees a taken piece and joins it with its free neighbours. */
void nm__slab_give(nm__slab *slab, void *piece, unsigned order);
/* Turns a taken piece of `order` into two taken halves; returns the upper one. order >= 1. */
void *nm__slab_halve(nm__slab *slab, void *piece, unsigned order);

static inline nm__slab *nm__slab_of(const void *piece) {
    return (nm__slab *)((uintptr_t)piece & ~(uintptr_t)(NM__SLAB_BYTES - 1));
}

#endif
