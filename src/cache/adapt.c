// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/adapt.h"

#include <string.h>

/* SEGMENT: a segmented LRU, and the first, as it fills free room with what it then keeps. AGE: LRU, the rock bottom. RETURN: nearly all
 * protected, so that only what comes back soon gets in, against loops and scans (as in LIRS: Jiang, Zhang 2002). WORTH: as
 * learned; the best where there is much to learn from. GDSF as a fifth
 * way would add 0.004 to the mean reduction on the traces at best, chosen with hindsight; a window with admission by counts less. */
enum { WAY_SEGMENT, WAY_AGE, WAY_RETURN, WAY_WORTH };
#define NM__RETURN_PERCENT 98 /* the rest is for trying: 2 of 100 entries, as LIRS has 1 */

/* Trails for each node of a shadow: keys that come back after four turnovers are still known. 8 bytes each. */
#define NM__TRAILS_A_NODE 4u

static size_t history_bytes(uint32_t nodes) {
    return ((size_t)nodes * NM__TRAILS_A_NODE * sizeof(nm__trail) + 63) / 64 * 64;
}

size_t nm__adapt_bytes(uint32_t nodes) {
    return NM__WAYS * ((nm__shadow_bytes(NM_CACHE_ADAPTIVE, nodes) + 63) / 64 * 64) + history_bytes(nodes);
}

static void relearn_worth(nm__adapt *a) {
    nm__setting setting = {.choice = NM__BY_WORTH};
    nm__history_worth(&a->history, setting.worth);
    nm__policy_set(&a->shadows[WAY_WORTH].policy, &setting);
}

void nm__adapt_open(nm__adapt *a, nm_cache_objective objective, unsigned protected_percent, void *memory,
                    size_t bytes) {
    const nm__setting settings[NM__WAYS] = {
        [WAY_SEGMENT] = {.choice = NM__BY_SEGMENT, .protected_percent = (uint8_t)protected_percent, .by_size = true},
        [WAY_AGE] = {.choice = NM__BY_AGE},
        [WAY_RETURN] = {.choice = NM__BY_SEGMENT, .protected_percent = NM__RETURN_PERCENT, .by_size = true},
    };
    memset(a, 0, sizeof *a);
    a->objective = objective;
    a->version = 1;
    a->shadows[WAY_SEGMENT].policy.setting = settings[WAY_SEGMENT];
    uint32_t nodes = NM__ADAPT_NODES_MAX;
    while (nodes > NM__ADAPT_NODES_MIN && nm__adapt_bytes(nodes) > bytes)
        nodes = nodes - nodes / 16 > NM__ADAPT_NODES_MIN ? nodes - nodes / 16 - 1 : NM__ADAPT_NODES_MIN;
    if (nm__adapt_bytes(nodes) > bytes) return;
    unsigned char *at = memory;
    for (unsigned way = 0; way < NM__WAYS; way++) {
        nm__shadow_open(&a->shadows[way], NM_CACHE_ADAPTIVE, objective, protected_percent, at, nodes);
        nm__policy_set(&a->shadows[way].policy, &settings[way]);
        at += (nm__shadow_bytes(NM_CACHE_ADAPTIVE, nodes) + 63) / 64 * 64;
    }
    nm__history_open(&a->history, at, history_bytes(nodes));
    relearn_worth(a);
    a->until_worth = a->until_fade = a->until_halve = 1;
    nm_atomic_store(&a->threshold, UINT32_MAX, NM_RELAXED);
}

static void share_room(nm__adapt *a) {
    size_t room = (size_t)((double)a->room * ((double)a->threshold + 1) / 4294967296.0);
    for (unsigned way = 0; way < NM__WAYS; way++) nm__shadow_set_room(&a->shadows[way], room, a->largest);
}

void nm__adapt_set_room(nm__adapt *a, size_t bytes, size_t largest) {
    a->room = bytes;
    a->largest = largest;
    if (a->threshold != 0) share_room(a);
}

static uint32_t most_nodes(const nm__adapt *a) {
    uint32_t most = 0;
    for (unsigned way = 0; way < NM__WAYS; way++)
        if (a->shadows[way].used_count > most) most = a->shadows[way].used_count;
    return most;
}

static void announce(nm__adapt *a) { nm_atomic_store(&a->version, a->version + 1, NM_RELAXED); }

/* Only where the room is used, and still less than a quarter of the nodes. */
static void sample_more(nm__adapt *a) {
    const nm__shadow *shadow = &a->shadows[a->way];
    if (a->threshold == UINT32_MAX || most_nodes(a) >= shadow->node_count / 4) return;
    if (!nm__shadow_is_full(shadow)) return;
    nm_atomic_store(&a->threshold, a->threshold > UINT32_MAX / 2 ? UINT32_MAX : a->threshold * 2, NM_RELAXED);
    share_room(a);
}

/* Another way must have hit one more of the requests that this one missed in a hundred, and five more than this one: less is chance,
 * and each change costs what the other way would have kept. */
#define NM__BETTER_SHARE 0.01
#define NM__BETTER_HITS  5.0

static void choose(nm__adapt *a) {
    unsigned best = a->way;
    for (unsigned way = 0; way < NM__WAYS; way++)
        if (a->scores[way] > a->scores[best]) best = way;
    double least = NM__BETTER_SHARE * (a->requests - a->scores[a->way]);
    if (a->objective == NM_OBJECTIVE_HITS) least += NM__BETTER_HITS;
    if (a->scores[best] <= a->scores[a->way] + least) return;
    a->way = best;
    announce(a);
}

/* Scores fade by an eighth with every turnover's worth of requests, so they speak of the last eight: long enough for each key of
 * a working set to come again, short enough to follow a day. Half and twice as many changed the mean by less than 0.001. */
#define NM__FADE 0.125
/* What was learned of worth counts half after so many requests a node: it changes less than which way is best. */
#define NM__HALVE_TURNOVERS 20u

/* What is due after so many requests. */
static void tick(nm__adapt *a) {
    uint32_t nodes = most_nodes(a);
    if (--a->until_fade == 0) {
        a->until_fade = nodes + 16;
        a->requests *= 1 - NM__FADE;
        for (unsigned way = 0; way < NM__WAYS; way++) a->scores[way] *= 1 - NM__FADE;
        sample_more(a);
    }
    if (--a->until_halve == 0) {
        a->until_halve = nodes * NM__HALVE_TURNOVERS + 256;
        nm__history_halve(&a->history);
    }
    if (--a->until_worth == 0) {
        a->until_worth = nodes / 8 + 64;
        relearn_worth(a);
        if (a->way == WAY_WORTH) announce(a);
    }
    choose(a);
}

static uint16_t now(const nm__adapt *a) { return (uint16_t)(a->clock >> 32); }

static void note_rank(nm__adapt *a, uint64_t hash, bool hit) {
    const nm__shadow *shadow = &a->shadows[WAY_WORTH];
    uint32_t at = nm__shadow_find(shadow, hash);
    unsigned rank = at != 0 ? nm__node_state(&shadow->nodes[at].node) % NM__RANKS : 0;
    nm__history_rank(&a->history, nm__sample_of(hash), now(a), rank, hit);
}

static void score(nm__adapt *a, unsigned way, size_t weight) {
    a->scores[way] += a->objective == NM_OBJECTIVE_HITS ? 1 : (double)weight;
}

/* What the request is counted as, once its weight is known. */
static void count_request(nm__adapt *a, size_t weight) {
    a->requests += a->objective == NM_OBJECTIVE_HITS ? 1 : (double)weight;
}

/* Fewer keys where the nodes do not reach. */
static void fit_sample(nm__adapt *a) {
    bool crowded = false;
    for (unsigned way = 0; way < NM__WAYS; way++) {
        crowded = crowded || a->shadows[way].crowded;
        a->shadows[way].crowded = false;
    }
    if (!crowded) return;
    nm_atomic_store(&a->threshold, a->threshold / 4 * 3, NM_RELAXED);
    for (unsigned way = 0; way < NM__WAYS; way++) nm__shadow_thin(&a->shadows[way], a->threshold);
    share_room(a);
}

/* As many are new as the way in force takes in: those are its turnovers. */
static void step_clock(nm__adapt *a, size_t weight) {
    const nm__shadow *shadow = &a->shadows[a->way];
    a->clock += nm__clock_step(shadow->used_count, weight, nm__shadow_used_bytes(shadow));
    for (unsigned way = 0; way < NM__WAYS; way++) nm__policy_set_clock(&a->shadows[way].policy, a->clock);
}

bool nm__adapt_hit(nm__adapt *a, uint64_t hash, size_t weight) {
    nm__history_look(&a->history, nm__sample_of(hash), now(a));
    bool hit = nm__shadow_find(&a->shadows[a->way], hash) != 0;
    if (!hit) step_clock(a, weight);
    for (unsigned way = 0; way < NM__WAYS; way++)
        if (nm__shadow_use(&a->shadows[way], hash, weight)) score(a, way, weight);
    note_rank(a, hash, true);
    count_request(a, weight);
    fit_sample(a);
    tick(a);
    return hit;
}

bool nm__adapt_miss(nm__adapt *a, uint64_t hash, size_t *weight_out) {
    nm__history_look(&a->history, nm__sample_of(hash), now(a));
    bool hit = false;
    for (unsigned way = 0; way < NM__WAYS; way++) {
        size_t weight;
        if (!nm__shadow_look(&a->shadows[way], hash, &weight)) continue;
        score(a, way, weight);
        if (way != a->way) continue;
        hit = true;
        if (weight_out != NULL) *weight_out = weight;
    }
    tick(a);
    return hit;
}

bool nm__adapt_put(nm__adapt *a, uint64_t hash, size_t weight) {
    bool had = nm__shadow_find(&a->shadows[a->way], hash) != 0;
    if (!had) step_clock(a, weight);
    for (unsigned way = 0; way < NM__WAYS; way++) (void)nm__shadow_put(&a->shadows[way], hash, weight);
    note_rank(a, hash, false);
    count_request(a, weight);
    fit_sample(a);
    return had;
}

void nm__adapt_remove(nm__adapt *a, uint64_t hash) {
    for (unsigned way = 0; way < NM__WAYS; way++) nm__shadow_remove(&a->shadows[way], hash);
}

void nm__adapt_clear(nm__adapt *a) {
    for (unsigned way = 0; way < NM__WAYS; way++) nm__shadow_thin(&a->shadows[way], 0);
}

void nm__adapt_restart(nm__adapt *a, uint32_t threshold) {
    if (a->threshold == 0 || (a->way == WAY_AGE && threshold / 4 <= a->threshold)) return;
    nm__adapt_clear(a);
    memset(a->scores, 0, sizeof a->scores);
    a->requests = 0;
    nm__history_forget(&a->history);
    relearn_worth(a);
    a->until_worth = a->until_fade = a->until_halve = 1;
    nm_atomic_store(&a->threshold, threshold, NM_RELAXED);
    share_room(a);
    a->way = WAY_AGE;
    announce(a);
}
