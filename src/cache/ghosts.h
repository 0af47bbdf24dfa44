// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Ghosts: keys that were evicted lately, each in 16 bits: 12 of its hash, 4 for how often it was used.
 *
 * A line of 64 bytes holds the last 32 ghosts of the keys that fall on it, newest first: a queue of all ghosts, cut into lines,
 * so that any call touches one line. A stranger is taken for a ghost in 32 / 4096 of the look-ups at most. */
#ifndef NM_SRC_CACHE_GHOSTS_H
#define NM_SRC_CACHE_GHOSTS_H

#include <stddef.h>
#include <stdint.h>

#define NM__GHOST_LINE     32u
#define NM__GHOST_USES_MAX 15u

typedef struct nm__ghosts {
    uint16_t (*lines)[NM__GHOST_LINE]; /* NULL: none */
    size_t line_count;
} nm__ghosts;

/* `bytes` of zeroed memory, aligned to 64, or NULL. Ghosts in the memory before are carried over; it may go
 * afterwards, or be the same. */
void nm__ghosts_set_memory(nm__ghosts *g, void *memory, size_t bytes);

/* Remembers a key. uses: 1 to NM__GHOST_USES_MAX. */
void nm__ghosts_put(nm__ghosts *g, uint64_t hash, unsigned uses);

/* Fetches the line of a key. Always inline: gcc drops calls of what only fetches. */
static inline __attribute__((__always_inline__)) void nm__ghosts_prefetch(const nm__ghosts *g, uint64_t hash);

/* Its uses, and it is forgotten; 0: not known. *place, at most NM__GHOST_LINE - 1: how many newer ones were in its line. */
unsigned nm__ghosts_take(nm__ghosts *g, uint64_t hash, unsigned *place);

/* ---- inline ------------------------------------------------------------------------------------------------------ */

/* Spread anew: who splits keys into shards or samples by some bits of the hash leaves those bits alike in all of them. */
static inline uint64_t nm__ghosts_spread(uint64_t hash) {
    hash *= 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 32;
}

/* The high 32 bits choose the line, in order, so that another number of lines keeps neighbours together. */
static inline size_t nm__ghosts_line_of(const nm__ghosts *g, uint64_t spread_hash) {
    return (size_t)((spread_hash >> 32) * (uint64_t)g->line_count >> 32);
}

static inline __attribute__((__always_inline__)) void nm__ghosts_prefetch(const nm__ghosts *g, uint64_t hash) {
    if (g->line_count != 0) __builtin_prefetch(g->lines[nm__ghosts_line_of(g, nm__ghosts_spread(hash))], 1);
}

#endif
