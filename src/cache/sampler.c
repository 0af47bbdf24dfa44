// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/cache_internal.h"

/* All of it is at most this share of the budget, and is worth having from so many nodes a point on: with 1,000 the predicted ratio is off by
 * 0.01 to 0.02. More than 4,000 say little more. */
#define BUDGET_SHARE 50
#define NODES_MIN    1000u
#define NODES_MAX    4000u
/* Until it is known how much of the budget the entries can have. */
#define USABLE_AT_FIRST 0.9
/* Sampled requests between two looks at rooms and counts. */
#define TICK 1024u
/* Counts are halved after so many requests for each entry, so that about twice as many weigh: long enough for each key to come again, short
 * enough to follow a day. */
#define HORIZON     16u
#define HORIZON_MIN 65536u
/* What a sample whose nodes are used up keeps of its keys. */
#define KEPT 0.75

static const double factors[NM__CURVE_POINTS] = {0.125, 0.25, 0.5, 1, 2, 4, 8};

static double share_of(const nm__curve_shadow *point) { return (double)point->threshold / 4294967296.0; }

static uint64_t requests_of(const nm_cache *cache) {
    nm__counts counts;
    nm__counts_sum(cache, &counts);
    return counts.hits + counts.misses;
}

/* ---- opening ---- */

static size_t header_bytes(void) { return nm__round_up(sizeof(nm__sampler), 64); }

static size_t adapt_bytes(const nm_cache *cache, uint32_t nodes) {
    if (cache->policy != NM_CACHE_ADAPTIVE) return 0;
    return nm__round_up(nm__adapt_bytes(nm__min(nodes, NM__ADAPT_NODES_MAX)), 64);
}

static size_t bytes_for(const nm_cache *cache, uint32_t nodes) {
    return header_bytes() + NM__CURVE_POINTS * nm__round_up(nm__shadow_bytes(cache->policy, nodes), 64) +
           adapt_bytes(cache, nodes);
}

static uint32_t affordable_nodes(const nm_cache *cache) {
    size_t most = cache->opening_budget / BUDGET_SHARE;
    uint32_t nodes = NODES_MAX;
    while (nodes >= NODES_MIN && bytes_for(cache, nodes) > most) nodes -= nodes / 16;
    return nodes >= NODES_MIN ? nodes : 0;
}

static void set_rooms(nm_cache *cache, nm__sampler *s) {
    double limit = (double)nm_atomic_load(&cache->limit_bytes, NM_RELAXED); /* relaxed: a goal */
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        nm__curve_shadow *point = &s->points[i];
        nm__shadow_set_room(&point->shadow, (size_t)(limit * s->usable * factors[i] * share_of(point)));
    }
    if (cache->policy == NM_CACHE_ADAPTIVE) nm__adapt_set_room(&s->adapt, (size_t)(limit * s->usable));
}

/* Only looked at without the lock. */
static void set_threshold(nm_cache *cache, const nm__sampler *s) {
    uint64_t most = 0;
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) most = nm__max(most, s->points[i].threshold);
    if (cache->policy == NM_CACHE_ADAPTIVE) most = nm__max(most, nm_atomic_load(&s->adapt.threshold, NM_RELAXED));
    /* relaxed: a stale one samples a few keys that nobody wants */
    nm_atomic_store(&cache->sample_threshold, (uint32_t)nm__min(most, UINT32_MAX), NM_RELAXED);
}

void nm__sampler_open(nm_cache *cache) {
    uint32_t nodes = affordable_nodes(cache);
    if (nodes == 0) return;
    size_t bytes = nm__round_up(bytes_for(cache, nodes), NM__PAGE_BYTES);
    void *memory;
    if (nm__range_reserve(bytes, NM__PAGE_BYTES, &memory) != NM_OK) return;
    bool taken = nm__account_take(cache, bytes);
    nm__grant_mode mode = cache->elastic ? NM__GRANT_ELASTIC : NM__GRANT_QUIET;
    if (!taken || nm__range_commit(cache->scope, memory, bytes, mode, &cache->holder) != NM_OK) {
        if (taken) nm__account_give(cache, bytes);
        nm__range_release(memory, bytes);
        return;
    }
    nm__sampler *s = memory;
    unsigned char *at = (unsigned char *)memory + header_bytes();
    nm__lock_open(&s->lock);
    s->bytes = bytes;
    s->usable = USABLE_AT_FIRST;
    s->last_ns = nm__os_get()->clock_ns();
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        nm__shadow_open(&s->points[i].shadow, cache->policy, cache->objective, cache->protected_percent, at, nodes);
        s->points[i].threshold = (uint64_t)1 << 32;
        at += nm__round_up(nm__shadow_bytes(cache->policy, nodes), 64);
    }
    if (cache->policy == NM_CACHE_ADAPTIVE)
        nm__adapt_open(&s->adapt, cache->objective, cache->protected_percent, at, adapt_bytes(cache, nodes));
    cache->sampler = s;
    set_rooms(cache, s);
    set_threshold(cache, s);
}

void nm__sampler_close(nm_cache *cache) {
    nm__sampler *s = cache->sampler;
    if (s == NULL) return;
    size_t bytes = s->bytes;
    nm_atomic_store(&cache->sample_threshold, 0u, NM_RELAXED);
    cache->sampler = NULL;
    nm__lock_close(&s->lock);
    nm__range_drop(cache->scope, s, bytes, bytes);
    nm__account_give(cache, bytes);
}

/* ---- counting ---- */

static void count_expected(nm__curve_shadow *point, uint64_t requests) {
    if (requests > point->counted) point->expected += (double)(requests - point->counted) * share_of(point);
    point->counted = requests;
}

static void thin(nm_cache *cache, nm__sampler *s, nm__curve_shadow *point) {
    count_expected(point, requests_of(cache));
    point->threshold = (uint64_t)((double)point->threshold * KEPT);
    nm__shadow_thin(&point->shadow, (uint32_t)nm__min(point->threshold, UINT32_MAX));
    point->shadow.crowded = false;
    set_rooms(cache, s);
    set_threshold(cache, s);
}

static void halve(nm__sampler *s, uint64_t requests) {
    uint64_t now = nm__os_get()->clock_ns();
    if (now > s->last_ns) {
        double seconds = (double)(now - s->last_ns) / 1e9, rate = (double)(requests - s->last_count) / seconds;
        s->rate = s->rate > 0 ? (s->rate + rate) / 2 : rate;
    }
    s->last_ns = now;
    s->last_count = requests;
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        nm__curve_shadow *point = &s->points[i];
        count_expected(point, requests);
        point->expected /= 2;
        point->looks /= 2;
        point->hits /= 2;
        point->look_bytes /= 2;
        point->hit_bytes /= 2;
    }
}

static void tick(nm_cache *cache, nm__sampler *s) {
    if (++s->ticks < TICK) return;
    s->ticks = 0;
    size_t limit = nm_atomic_load(&cache->limit_bytes, NM_RELAXED), granted = nm_cache_granted(cache);
    /* A full cache shows what it can hold. */
    if (granted >= limit - limit / 16) s->usable = (double)nm_cache_used(cache) / (double)limit;
    set_rooms(cache, s);
    set_threshold(cache, s);
    uint64_t requests = requests_of(cache);
    uint64_t horizon = nm__max(HORIZON * (uint64_t)nm_cache_count(cache), HORIZON_MIN);
    if (requests - s->last_count >= horizon) halve(s, requests);
}

/* ---- requests ---- */

static bool is_adapting(const nm_cache *cache, const nm__sampler *s, uint64_t hash) {
    return cache->policy == NM_CACHE_ADAPTIVE && nm__adapt_sampled(&s->adapt, hash);
}

/* The points follow the setting as the shards do. */
static void follow(nm__sampler *s) {
    uint32_t version = nm__adapt_version(&s->adapt);
    if (version == s->adapted) return;
    s->adapted = version;
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++)
        nm__policy_set(&s->points[i].shadow.policy, nm__adapt_setting(&s->adapt));
}

bool nm__sampler_setting(nm_cache *cache, uint32_t *version, nm__setting *out) {
    nm__sampler *s = cache->sampler;
    if (s == NULL || nm__adapt_version(&s->adapt) == *version || !nm__lock_try(&s->lock)) return false;
    *version = nm__adapt_version(&s->adapt);
    *out = *nm__adapt_setting(&s->adapt);
    nm__lock_give(&s->lock);
    return true;
}

/* Another thread is at work there: this one is left out, and the counts of the sample are set against what it should have had. */
static nm__sampler *enter(nm_cache *cache) {
    nm__sampler *s = cache->sampler;
    return s != NULL && nm__lock_try(&s->lock) ? s : NULL;
}

static bool is_in(const nm__curve_shadow *point, uint64_t hash) { return nm__sample_of(hash) < point->threshold; }

static void put(nm_cache *cache, nm__sampler *s, nm__curve_shadow *point, uint64_t hash, size_t weight) {
    nm__shadow_put(&point->shadow, hash, weight);
    if (NM_UNLIKELY(point->shadow.crowded)) thin(cache, s, point);
}

void nm__sampler_hit(nm_cache *cache, uint64_t hash, size_t weight) {
    nm__sampler *s = enter(cache);
    if (s == NULL) return;
    if (is_adapting(cache, s, hash)) {
        nm__adapt_hit(&s->adapt, hash, weight);
        follow(s);
    }
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        nm__curve_shadow *point = &s->points[i];
        if (!is_in(point, hash)) continue;
        bool hit = nm__shadow_look(&point->shadow, hash, NULL);
        point->looks += 1;
        point->look_bytes += (double)weight;
        if (hit) {
            point->hits += 1;
            point->hit_bytes += (double)weight;
        } else {
            put(cache, s, point, hash, weight);
        }
    }
    tick(cache, s);
    nm__lock_give(&s->lock);
}

void nm__sampler_miss(nm_cache *cache, uint64_t hash) {
    nm__sampler *s = enter(cache);
    if (s == NULL) return;
    if (is_adapting(cache, s, hash)) {
        nm__adapt_miss(&s->adapt, hash);
        follow(s);
    }
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        nm__curve_shadow *point = &s->points[i];
        size_t weight = 0;
        if (!is_in(point, hash)) continue;
        point->looks += 1;
        if (!nm__shadow_look(&point->shadow, hash, &weight)) continue;
        point->hits += 1;
        point->hit_bytes += (double)weight;
        point->look_bytes += (double)weight;
    }
    tick(cache, s);
    nm__lock_give(&s->lock);
}

void nm__sampler_put(nm_cache *cache, uint64_t hash, size_t weight) {
    nm__sampler *s = enter(cache);
    if (s == NULL) return;
    if (is_adapting(cache, s, hash)) {
        nm__adapt_put(&s->adapt, hash, weight);
        follow(s);
    }
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        nm__curve_shadow *point = &s->points[i];
        if (!is_in(point, hash)) continue;
        /* What it missed is known now. */
        if (nm__shadow_find(&point->shadow, hash) == 0) point->look_bytes += (double)weight;
        put(cache, s, point, hash, weight);
    }
    nm__lock_give(&s->lock);
}

/* ---- reading ---- */

static double bounded(double ratio) { return ratio < 0 ? 0 : ratio > 1 ? 1 : ratio; }

/* Requests that a point must stand for. */
#define EXPECTED_MIN 1000

size_t nm_cache_curve(const nm_cache *cache, nm_curve_point *out, size_t n) {
    if (cache == NULL || out == NULL || cache->sampler == NULL) return 0;
    nm__sampler *s = cache->sampler;
    size_t count = nm__min(n, NM__CURVE_POINTS), limit = nm_atomic_load(&cache->limit_bytes, NM_RELAXED);
    uint64_t requests = requests_of(cache);
    bool enough = true;
    nm__lock_take(&s->lock);
    double rate = s->rate;
    uint64_t now = nm__os_get()->clock_ns();
    if (rate <= 0 && now > s->last_ns) rate = (double)(requests - s->last_count) / ((double)(now - s->last_ns) / 1e9);
    double last = 0, last_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        nm__curve_shadow *point = &s->points[i];
        count_expected(point, requests);
        enough &= point->expected >= EXPECTED_MIN;
        /* The sample has more or less than its share of the requests by the few keys that most of them are for, and those hit (SHARDS-adj:
         * Waldspurger, Park, Garthwaite, Ahmad 2015). */
        double hits = point->hits + (point->expected - point->looks);
        double ratio = point->expected > 0 ? bounded(hits / point->expected) : 0;
        double bytes = point->look_bytes > 0 ? bounded(point->hit_bytes / point->look_bytes) : 0;
        /* More memory is no harm: where the samples say so it is chance. */
        if (ratio > last) last = ratio;
        if (bytes > last_bytes) last_bytes = bytes;
        out[i] = (nm_curve_point){.budget_bytes = (size_t)((double)limit * factors[i]),
                                  .hit_ratio = last,
                                  .byte_hit_ratio = last_bytes,
                                  .hits_per_second = last * rate};
    }
    nm__lock_give(&s->lock);
    return enough ? count : 0;
}

size_t nm_cache_advice(const nm_cache *cache, double hits_per_second_per_mib) {
    nm_curve_point points[NM__CURVE_POINTS];
    size_t count = nm_cache_curve(cache, points, NM__CURVE_POINTS), best = 0;
    if (count < NM__CURVE_POINTS) return 0;
    for (size_t i = 1; i < count; i++) {
        double mib = (double)(points[i].budget_bytes - points[i - 1].budget_bytes) / (double)((size_t)1 << 20);
        if ((points[i].hits_per_second - points[i - 1].hits_per_second) / mib >= hits_per_second_per_mib) best = i;
    }
    return points[best].budget_bytes;
}
