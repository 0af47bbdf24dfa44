// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/guard.h"

#include <string.h>

/* Far ahead: it hits a twentieth of what the cache missed, and what chance may do: a share of these of one to the root of its nodes, as its
 * keys may be so much fewer than their share, and twenty. */
#define NM__AHEAD_SHARE 0.05
#define NM__AHEAD_HITS  20.0
/* Counts fade by a quarter with every turnover of the LRU: they speak of the last four. */
#define NM__GUARD_FADE 0.25
/* The sample becomes so many times as large at once, for of a few nodes it is not known how many they should be. */
#define NM__STEP_MAX 8u
/* Where the mean entry of the LRU is so many times what it was, the cache is full of entries that are small beside those of now, and which
 * it therefore keeps. */
#define NM__OTHER_SIZES 6u
/* Turnovers after an alarm in which the cache becomes an LRU. */
#define NM__GRACE 2u

size_t nm__guard_bytes(uint32_t nodes) { return nm__shadow_bytes(NM_CACHE_LRU, nodes); }

void nm__guard_open(nm__guard *g, nm_cache_objective objective, void *memory, uint32_t nodes) {
    memset(g, 0, sizeof *g);
    g->objective = objective;
    g->threshold = UINT32_MAX;
    g->until_fade = 1;
    nm__shadow_open(&g->shadow, NM_CACHE_LRU, objective, 0, memory, nodes);
}

static void share_room(nm__guard *g) {
    double share = ((double)g->threshold + 1) / 4294967296.0;
    nm__shadow_set_room(&g->shadow, (size_t)((double)g->room * share), g->largest);
}

void nm__guard_set_room(nm__guard *g, size_t bytes, size_t largest) {
    if (g->room == bytes && g->largest == largest) return;
    g->room = bytes;
    g->largest = largest;
    share_room(g);
}

uint32_t nm__guard_threshold_for(const nm__guard *g, uint32_t nodes) {
    uint32_t used = g->shadow.used_count != 0 ? g->shadow.used_count : 1;
    double threshold = (double)g->threshold * nodes / used;
    return threshold < (double)UINT32_MAX ? (uint32_t)threshold : UINT32_MAX;
}

static void fit_sample(nm__guard *g) {
    if (!g->shadow.crowded) return;
    g->shadow.crowded = false;
    g->threshold = g->threshold / 4 * 3;
    nm__shadow_thin(&g->shadow, g->threshold);
    share_room(g);
}

/* Where the room is used, and still less than a quarter of the nodes: entries became larger, or the room smaller. At once: few nodes see
 * few requests. */
static void sample_more(nm__guard *g) {
    const nm__shadow *shadow = &g->shadow;
    if (g->threshold == UINT32_MAX || shadow->used_count >= shadow->node_count / 4) return;
    if (!nm__shadow_is_full(shadow)) return;
    uint32_t wanted = nm__guard_threshold_for(g, shadow->node_count / 2);
    g->threshold = wanted / NM__STEP_MAX > g->threshold ? g->threshold * NM__STEP_MAX : wanted;
    share_room(g);
}

static bool sampled(const nm__guard *g, uint64_t hash) {
    return g->threshold == UINT32_MAX || nm__sample_of(hash) < g->threshold;
}

/* A turnover's worth of requests later the sample is still so many times what it was: entries are other ones. */
static bool has_grown(nm__guard *g) {
    uint32_t before = g->settled;
    bool full = nm__shadow_is_full(&g->shadow);
    if (before == 0) g->settled = full ? g->threshold : 0;
    if (before == 0 || !full) return false;
    g->settled = g->threshold / 2 > before ? before * 2 : g->threshold;
    return g->threshold / NM__OTHER_SIZES > before;
}

/* Of bytes a sample says too little: a few nodes have most of them. */
static bool is_ahead(const nm__guard *g) {
    double more = g->lead - NM__AHEAD_SHARE * g->missed;
    if (g->objective != NM_OBJECTIVE_HITS || more <= 0) return false;
    return more * more * (double)g->shadow.used_count > g->missed * g->missed && g->lead > NM__AHEAD_HITS;
}

static bool tick(nm__guard *g) {
    bool alarm = false;
    if (--g->until_fade == 0) {
        g->until_fade = g->shadow.used_count + 16;
        alarm = has_grown(g);
        double by = g->grace != 0 ? 0 : 1 - NM__GUARD_FADE;
        if (g->grace != 0) g->grace--;
        g->missed *= by;
        g->lead *= by;
    }
    alarm = alarm || (g->grace == 0 && is_ahead(g));
    if (!alarm) return false;
    g->grace = NM__GRACE;
    g->missed = g->lead = 0;
    g->settled = g->threshold;
    return true;
}

bool nm__guard_hit(nm__guard *g, uint64_t hash, size_t weight) {
    if (!sampled(g, hash)) return false;
    if (!nm__shadow_use(&g->shadow, hash, weight)) g->lead--;
    fit_sample(g);
    return tick(g);
}

bool nm__guard_miss(nm__guard *g, uint64_t hash) {
    if (!sampled(g, hash)) return false;
    g->missed++;
    if (nm__shadow_look(&g->shadow, hash, NULL)) g->lead++;
    return tick(g);
}

void nm__guard_put(nm__guard *g, uint64_t hash, size_t weight) {
    if (!sampled(g, hash)) return;
    (void)nm__shadow_put(&g->shadow, hash, weight);
    fit_sample(g);
    sample_more(g);
}

void nm__guard_remove(nm__guard *g, uint64_t hash) {
    if (sampled(g, hash)) nm__shadow_remove(&g->shadow, hash);
}

void nm__guard_clear(nm__guard *g) { nm__shadow_thin(&g->shadow, 0); }
