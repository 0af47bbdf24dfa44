// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "block/slab.h"

#include <string.h>

#define NM__LEAF_FREE  0x40u
#define NM__LEAF_TAKEN 0x80u

static unsigned leaf_of(const nm__slab *slab, const void *piece) {
    return (unsigned)(((uintptr_t)piece - (uintptr_t)slab) / NM__BLOCK_MIN_BYTES);
}

static void *address_of(nm__slab *slab, unsigned leaf) {
    return (unsigned char *)slab + (size_t)leaf * NM__BLOCK_MIN_BYTES;
}

static void push_free(nm__slab *slab, unsigned leaf, unsigned order) {
    uint16_t first = slab->free_head[order];
    slab->state[leaf] = (uint8_t)(NM__LEAF_FREE | order);
    slab->free_next[leaf] = first;
    slab->free_previous[leaf] = 0;
    if (first != 0) slab->free_previous[first] = (uint16_t)leaf;
    slab->free_head[order] = (uint16_t)leaf;
}

static void unlink_free(nm__slab *slab, unsigned leaf, unsigned order) {
    uint16_t next = slab->free_next[leaf], previous = slab->free_previous[leaf];
    if (previous != 0)
        slab->free_next[previous] = next;
    else
        slab->free_head[order] = next;
    if (next != 0) slab->free_previous[next] = previous;
    slab->state[leaf] = 0;
}

static void find_bin(nm__slab *slab) {
    int order = (int)NM__SLAB_ORDERS - 1;
    while (order >= 0 && slab->free_head[order] == 0) order--;
    slab->bin = order; /* -1 is NM__SLAB_NOTHING_FREE */
}

void nm__slab_open(nm__slab *slab) {
    memset(slab, 0, sizeof *slab);
    slab->state[0] = NM__LEAF_TAKEN;
    /* beside the header's leaf there is one piece of each order, at the leaf of the same power of two */
    for (unsigned order = 0; order < NM__SLAB_ORDERS; order++) push_free(slab, 1u << order, order);
    find_bin(slab);
}

void *nm__slab_take(nm__slab *slab, unsigned order) {
    unsigned from = order;
    while (slab->free_head[from] == 0) from++;
    unsigned leaf = slab->free_head[from];
    unlink_free(slab, leaf, from);
    while (from > order) {
        from--;
        push_free(slab, leaf + (1u << from), from);
    }
    slab->state[leaf] = (uint8_t)(NM__LEAF_TAKEN | order);
    slab->taken_leaves += 1u << order;
    find_bin(slab);
    return address_of(slab, leaf);
}

void nm__slab_give(nm__slab *slab, void *piece, unsigned order) {
    unsigned leaf = leaf_of(slab, piece);
    slab->state[leaf] = 0;
    slab->taken_leaves -= 1u << order;
    while (order + 1 < NM__SLAB_ORDERS) {
        unsigned buddy = leaf ^ (1u << order);
        if (slab->state[buddy] != (NM__LEAF_FREE | order)) break;
        unlink_free(slab, buddy, order);
        leaf &= ~(1u << order);
        order++;
    }
    push_free(slab, leaf, order);
    find_bin(slab);
}

void *nm__slab_halve(nm__slab *slab, void *piece, unsigned order) {
    unsigned leaf = leaf_of(slab, piece);
    unsigned upper = leaf + (1u << (order - 1));
    slab->state[leaf] = (uint8_t)(NM__LEAF_TAKEN | (order - 1));
    slab->state[upper] = (uint8_t)(NM__LEAF_TAKEN | (order - 1));
    return address_of(slab, upper);
}
