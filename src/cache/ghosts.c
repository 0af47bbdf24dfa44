// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/ghosts.h"

#include <stdbool.h>
#include <string.h>

/* Of the older half of a full line the oldest that was used once goes first: most keys never come again, and what was used
 * twice is then remembered for longer at no cost. */
#define NM__GHOST_TRIED 15u

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
    hash = nm__ghosts_spread(hash);
    uint16_t *line = g->lines[nm__ghosts_line_of(g, hash)];
    unsigned last = NM__GHOST_LINE - 1, away = last;
    /* The oldest of all if there is none. */
    while (line[last] != 0 && away > last - NM__GHOST_TRIED && (line[away] & NM__GHOST_USES_MAX) > 1) away--;
    if ((line[away] & NM__GHOST_USES_MAX) <= 1) last = away;
    memmove(line + 1, line, last * sizeof *line);
    line[0] = (uint16_t)(name_of(hash) | uses);
}

/* NM__GHOST_LINE: it is not there. Behind the last ghost all are 0, so of name 0 the place may be an empty one. */
static unsigned place_of(const uint16_t line[NM__GHOST_LINE], uint16_t name) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    /* Four at once: of a lane that is 0 the subtraction borrows, and of the first that does no other did before. */
    const uint64_t lanes = 0x0001000100010001u, names = 0xfff0fff0fff0fff0u;
    for (unsigned i = 0; i < NM__GHOST_LINE; i += 4) {
        uint64_t four;
        memcpy(&four, line + i, sizeof four);
        uint64_t other = (four ^ name * lanes) & names;
        uint64_t same = (other - lanes * 16) & ~other & lanes << 15;
        if (same != 0) return i + (unsigned)__builtin_ctzll(same) / 16;
    }
    return NM__GHOST_LINE;
#else
    unsigned at = 0;
    while (at < NM__GHOST_LINE && (line[at] & ~NM__GHOST_USES_MAX) != name) at++;
    return at;
#endif
}

unsigned nm__ghosts_take(nm__ghosts *g, uint64_t hash, unsigned *place) {
    *place = 0;
    if (g->line_count == 0) return 0;
    hash = nm__ghosts_spread(hash);
    uint16_t *line = g->lines[nm__ghosts_line_of(g, hash)], name = name_of(hash);
    unsigned at = place_of(line, name);
    if (at == NM__GHOST_LINE || line[at] == 0) return 0;
    unsigned uses = line[at] & NM__GHOST_USES_MAX;
    *place = at;
    memmove(line + at, line + at + 1, (NM__GHOST_LINE - 1 - at) * sizeof *line);
    line[NM__GHOST_LINE - 1] = 0;
    return uses;
}
