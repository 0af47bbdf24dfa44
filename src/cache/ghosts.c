// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/ghosts.h"

#include <stdbool.h>
#include <string.h>

/* Of the older half of a full line the oldest that was used once goes first: most keys never come again, and what was used
 * twice is then remembered for longer at no cost. */
#define NM__GHOST_TRIED 15u

/* Spread anew: who splits keys into shards or samples by some bits of the hash leaves those bits alike in all of them. */
static uint64_t spread(uint64_t hash) {
    hash *= 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 32;
}

/* The high 32 bits choose the line, in order, so that another number of lines keeps neighbours together. */
static size_t line_of(const nm__ghosts *g, uint64_t spread_hash) {
    return (size_t)((spread_hash >> 32) * (uint64_t)g->line_count >> 32);
}

static uint16_t name_of(uint64_t spread_hash) { return (uint16_t)(spread_hash << 4); }

void nm__ghosts_set_memory(nm__ghosts *g, void *memory, size_t bytes) {
    nm__ghosts old = *g;
    g->line_count = memory != NULL ? bytes / sizeof *g->lines : 0;
    if (g->line_count > UINT32_MAX) g->line_count = UINT32_MAX;
    g->lines = g->line_count != 0 ? memory : NULL;
    if (old.line_count == 0) return;
    /* More lines: each takes all of the one that it was a part of. Fewer: the last of those that it joins. */
    bool fewer = g->line_count < old.line_count; /* the order in which the same memory may be read and written */
    for (size_t n = 0; n < g->line_count; n++) {
        size_t i = fewer ? n : g->line_count - 1 - n;
        memmove(g->lines[i], old.lines[(uint64_t)i * old.line_count / g->line_count], sizeof *g->lines);
    }
}

void nm__ghosts_put(nm__ghosts *g, uint64_t hash, unsigned uses) {
    if (g->line_count == 0) return;
    hash = spread(hash);
    uint16_t *line = g->lines[line_of(g, hash)];
    unsigned last = NM__GHOST_LINE - 1, away = last;
    /* The oldest of all if there is none. */
    while (line[last] != 0 && away > last - NM__GHOST_TRIED && (line[away] & NM__GHOST_USES_MAX) > 1) away--;
    if ((line[away] & NM__GHOST_USES_MAX) <= 1) last = away;
    memmove(line + 1, line, last * sizeof *line);
    line[0] = (uint16_t)(name_of(hash) | uses);
}

unsigned nm__ghosts_take(nm__ghosts *g, uint64_t hash, unsigned *place) {
    *place = 0;
    if (g->line_count == 0) return 0;
    hash = spread(hash);
    uint16_t *line = g->lines[line_of(g, hash)], name = name_of(hash);
    for (unsigned i = 0; i < NM__GHOST_LINE && line[i] != 0; i++) {
        if ((line[i] & ~NM__GHOST_USES_MAX) != name) continue;
        unsigned uses = line[i] & NM__GHOST_USES_MAX;
        *place = i;
        memmove(line + i, line + i + 1, (NM__GHOST_LINE - 1 - i) * sizeof *line);
        line[NM__GHOST_LINE - 1] = 0;
        return uses;
    }
    return 0;
}
