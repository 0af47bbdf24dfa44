// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/curve.h"

#include <string.h>

/* Counts fade by so many steps to a half; each is 2^(-1/32). */
#define FADES     32u
#define FADE_STEP 0.97857206208770013

/* Of so many half-lives at once nothing is left worth a loop. */
#define FADES_MAX ((uint64_t)FADES * 32)

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* ---- opening ---- */

uint32_t nm__curve_nodes(unsigned point, uint32_t nodes) {
    static const uint32_t eighths[NM__CURVE_POINTS] = {2, 3, 4, 0, 7, 12, 10};
    uint32_t own = nodes * eighths[point] / 8;
    return own != 0 ? own : 1;
}

static size_t mini_bytes(nm_cache_policy policy, bool adapting, uint32_t nodes) {
    if (adapting) return aligned(sizeof(nm__adapt)) + aligned(nm__adapt_bytes(nodes));
    return aligned(sizeof(nm__shadow)) + aligned(nm__shadow_bytes(policy, nodes));
}

size_t nm__curve_bytes(nm_cache_policy policy, bool adapting, uint32_t nodes) {
    size_t bytes = 0;
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++)
        if (i != NM__CURVE_SELF) bytes += mini_bytes(policy, adapting, nm__curve_nodes(i, nodes));
    return bytes;
}

void nm__curve_open(nm__curve *c, nm_cache_policy policy, nm_cache_objective objective, unsigned protected_percent,
                    bool adapting, void *memory, uint32_t nodes) {
    unsigned char *at = memory;
    memset(c, 0, sizeof *c);
    c->each = 1;
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        nm__mini *mini = &c->minis[i];
        uint32_t own = nm__curve_nodes(i, nodes);
        if (i == NM__CURVE_SELF) continue;
        if (adapting) {
            mini->adapt = (nm__adapt *)(void *)at;
            nm__adapt_open(mini->adapt, objective, protected_percent, at + aligned(sizeof(nm__adapt)),
                           nm__adapt_bytes(own));
        } else {
            mini->shadow = (nm__shadow *)(void *)at;
            mini->threshold = UINT32_MAX;
            nm__shadow_open(mini->shadow, policy, objective, protected_percent, at + aligned(sizeof(nm__shadow)), own);
        }
        at += mini_bytes(policy, adapting, own);
    }
}

static uint32_t threshold_of(const nm__mini *mini) {
    return mini->adapt != NULL ? nm_atomic_load(&mini->adapt->threshold, NM_RELAXED) : mini->threshold;
}

static double share_of(const nm__mini *mini) { return ((double)threshold_of(mini) + 1) / 4294967296.0; }

static void share_room(nm__mini *mini) {
    nm__shadow_set_room(mini->shadow, (size_t)((double)mini->room * share_of(mini)), mini->largest);
}

void nm__curve_set_rooms(nm__curve *c, const size_t rooms[NM__CURVE_POINTS], const size_t largest[NM__CURVE_POINTS]) {
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        nm__mini *mini = &c->minis[i];
        if (mini->room == rooms[i] && mini->largest == largest[i]) continue;
        mini->room = rooms[i];
        mini->largest = largest[i];
        if (mini->adapt != NULL) nm__adapt_set_room(mini->adapt, rooms[i], largest[i]);
        if (mini->shadow != NULL) share_room(mini);
    }
}

void nm__curve_follow(nm__curve *c, const nm__setting *setting) {
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++)
        if (c->minis[i].shadow != NULL) nm__policy_set(&c->minis[i].shadow->policy, setting);
}

uint32_t nm__curve_threshold(const nm__curve *c) {
    uint32_t most = 0;
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++)
        if (threshold_of(&c->minis[i]) > most) most = threshold_of(&c->minis[i]);
    return most;
}

/* ---- the sample of a point that does not adapt itself ---- */

static void fit_sample(nm__mini *mini) {
    nm__shadow *shadow = mini->shadow;
    if (!shadow->crowded) return;
    shadow->crowded = false;
    mini->threshold = mini->threshold / 4 * 3;
    nm__shadow_thin(shadow, mini->threshold);
    share_room(mini);
}

/* Where the room is used, and still less than a quarter of the nodes: entries became larger, or the budget smaller. */
static void sample_more(nm__mini *mini) {
    const nm__shadow *shadow = mini->shadow;
    if (shadow == NULL || mini->threshold == UINT32_MAX || shadow->used_count >= shadow->node_count / 4) return;
    if (!nm__shadow_is_full(shadow)) return;
    mini->threshold = mini->threshold > UINT32_MAX / 2 ? UINT32_MAX : mini->threshold * 2;
    share_room(mini);
}

/* ---- requests ---- */

static bool sampled(const nm__mini *mini, uint32_t sample) { return sample < threshold_of(mini); }

static void note_hit(nm__mini *mini, double each, size_t weight) {
    mini->hits += each;
    mini->hit_bytes += each * (double)weight;
}

static void note_missed(nm__mini *mini, double each, size_t weight) {
    mini->missed += each;
    mini->missed_bytes += each * (double)weight;
}

void nm__curve_hit(nm__curve *c, uint64_t hash, size_t weight) {
    uint32_t sample = nm__sample_of(hash);
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        nm__mini *mini = &c->minis[i];
        if (!sampled(mini, sample)) continue;
        double each = c->each / share_of(mini); /* before the sample changes */
        bool hit =
            mini->adapt != NULL ? nm__adapt_hit(mini->adapt, hash, weight) : nm__shadow_use(mini->shadow, hash, weight);
        if (hit) {
            note_hit(mini, each, weight);
        } else {
            mini->misses[sample % NM__CURVE_PARTS] += (float)each;
            note_missed(mini, each, weight);
        }
        if (mini->shadow != NULL) fit_sample(mini);
    }
}

void nm__curve_miss(nm__curve *c, uint64_t hash) {
    uint32_t sample = nm__sample_of(hash);
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        nm__mini *mini = &c->minis[i];
        if (!sampled(mini, sample)) continue;
        double each = c->each / share_of(mini);
        size_t weight = 0;
        bool hit = mini->adapt != NULL ? nm__adapt_miss(mini->adapt, hash, &weight)
                                       : nm__shadow_look(mini->shadow, hash, &weight);
        mini->cache_misses[sample % NM__CURVE_PARTS] += (float)each;
        if (hit)
            note_hit(mini, each, weight);
        else
            mini->misses[sample % NM__CURVE_PARTS] += (float)each;
    }
}

void nm__curve_put(nm__curve *c, uint64_t hash, size_t weight) {
    uint32_t sample = nm__sample_of(hash);
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        nm__mini *mini = &c->minis[i];
        if (!sampled(mini, sample)) continue;
        double each = c->each / share_of(mini);
        bool had =
            mini->adapt != NULL ? nm__adapt_put(mini->adapt, hash, weight) : nm__shadow_put(mini->shadow, hash, weight);
        if (!had) note_missed(mini, each, weight); /* what missed weighs so much */
        if (mini->shadow != NULL) fit_sample(mini);
    }
}

void nm__curve_remove(nm__curve *c, uint64_t hash) {
    uint32_t sample = nm__sample_of(hash);
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        nm__mini *mini = &c->minis[i];
        if (!sampled(mini, sample)) continue;
        if (mini->adapt != NULL)
            nm__adapt_remove(mini->adapt, hash);
        else
            nm__shadow_remove(mini->shadow, hash);
    }
}

void nm__curve_clear(nm__curve *c, unsigned point) {
    const nm__mini *mini = &c->minis[point];
    if (mini->shadow != NULL) nm__shadow_thin(mini->shadow, 0);
    if (mini->adapt != NULL) nm__adapt_clear(mini->adapt);
}

/* ---- counts ---- */

static void fade(nm__curve *c, double by) {
    c->requests *= by;
    c->misses *= by;
    c->seconds *= by;
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        nm__mini *mini = &c->minis[i];
        mini->hits *= by;
        mini->hit_bytes *= by;
        mini->missed *= by;
        mini->missed_bytes *= by;
        for (unsigned part = 0; part < NM__CURVE_PARTS; part++) {
            mini->misses[part] *= (float)by;
            mini->cache_misses[part] *= (float)by;
        }
    }
}

void nm__curve_forget(nm__curve *c) { fade(c, 0); }

void nm__curve_begin(nm__curve *c, uint64_t requests, uint64_t misses, uint64_t now_ns) {
    c->seen_requests = requests;
    c->seen_misses = misses;
    c->seen_ns = now_ns;
}

void nm__curve_count(nm__curve *c, uint64_t requests, uint64_t misses, uint64_t now_ns, uint64_t half_life) {
    uint64_t more = requests > c->seen_requests ? requests - c->seen_requests : 0;
    c->requests += (double)more;
    if (misses > c->seen_misses) c->misses += (double)(misses - c->seen_misses);
    if (now_ns > c->seen_ns) c->seconds += (double)(now_ns - c->seen_ns) / 1e9;
    nm__curve_begin(c, requests, misses, now_ns);
    uint64_t step = half_life / FADES + 1;
    c->unfaded += more;
    double by = 1;
    if (c->unfaded / step >= FADES_MAX) {
        by = 0;
        c->unfaded = 0;
    }
    for (; c->unfaded >= step; c->unfaded -= step) by *= FADE_STEP;
    if (by != 1) fade(c, by);
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) sample_more(&c->minis[i]);
}

/* ---- reading ---- */

static double within(double x, double most) { return x < 0 || !(most > 0) ? 0 : x > most ? most : x; }

/* Misses of a cache of the point's size, of all requests. */
static double misses_of(const nm__curve *c, const nm__mini *mini) {
    double own = 0, cache = 0, product = 0, square = 0;
    for (unsigned part = 0; part < NM__CURVE_PARTS; part++) {
        own += mini->misses[part];
        cache += mini->cache_misses[part];
    }
    for (unsigned part = 0; part < NM__CURVE_PARTS; part++) {
        double more = mini->cache_misses[part] - cache / NM__CURVE_PARTS;
        product += more * (mini->misses[part] - own / NM__CURVE_PARTS);
        square += more * more;
    }
    double slope = square > 0 ? product / square : 0;
    return within(own + (slope > 0 ? slope : 0) * (c->misses - cache), c->requests);
}

static double byte_hit_ratio(double hits, double misses, const nm__mini *mini) {
    if (!(mini->hits > 0)) return 0;
    double hit_bytes = hits * mini->hit_bytes / mini->hits;
    double missed_bytes = mini->missed > 0 ? misses * mini->missed_bytes / mini->missed : 0;
    return hit_bytes > 0 ? hit_bytes / (hit_bytes + missed_bytes) : 0;
}

/* The cache's own bytes are counted by nobody; those of its neighbours are. */
static double between(const nm__prediction *a, const nm__prediction *b, double hit_ratio) {
    double step = b->hit_ratio - a->hit_ratio;
    double part = step > 0 ? within((hit_ratio - a->hit_ratio) / step, 1) : 0.5;
    return a->byte_hit_ratio + part * (b->byte_hit_ratio - a->byte_hit_ratio);
}

static void at_most(double *x, double most) {
    if (*x > most) *x = most;
}
static void at_least(double *x, double least) {
    if (*x < least) *x = least;
}

void nm__curve_read(const nm__curve *c, nm__prediction out[NM__CURVE_POINTS]) {
    memset(out, 0, NM__CURVE_POINTS * sizeof *out);
    if (!(c->requests > 0)) return;
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        double misses = i == NM__CURVE_SELF ? within(c->misses, c->requests) : misses_of(c, &c->minis[i]);
        double hits = c->requests - misses;
        out[i].hit_ratio = hits / c->requests;
        if (i != NM__CURVE_SELF) out[i].byte_hit_ratio = byte_hit_ratio(hits, misses, &c->minis[i]);
    }
    nm__prediction *self = &out[NM__CURVE_SELF];
    self->byte_hit_ratio = between(self - 1, self + 1, self->hit_ratio);
    /* From the one that is known outwards. */
    for (unsigned i = NM__CURVE_SELF; i-- > 0;) {
        at_most(&out[i].hit_ratio, out[i + 1].hit_ratio);
        at_most(&out[i].byte_hit_ratio, out[i + 1].byte_hit_ratio);
    }
    for (unsigned i = NM__CURVE_SELF + 1; i < NM__CURVE_POINTS; i++) {
        at_least(&out[i].hit_ratio, out[i - 1].hit_ratio);
        at_least(&out[i].byte_hit_ratio, out[i - 1].byte_hit_ratio);
    }
}
