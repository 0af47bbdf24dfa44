// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/cache_internal.h"

/* What it may take: a share of the budget, and something more, as its structs alone take 15 to 60 KiB; but never above the second share. */
#define BUDGET_SHARE     64
#define BUDGET_SHARE_MAX 24
#define BYTES_MORE       ((size_t)16 << 10)
#define BYTES_MORE_ADAPT ((size_t)28 << 10)
/* With fewer nodes than the least a prediction is off by more than it is worth, with more than the most hardly less than with these; see
 * scripts/compare-curves.sh. Of points that adapt themselves each has four ways. */
#define ADAPT_NODES_LEAST 64u
#define ADAPT_NODES_MOST  1000u
#define CURVE_NODES_LEAST 48u
#define CURVE_NODES_MOST  2000u
#define CURVE_ADAPT_LEAST 80u
#define CURVE_ADAPT_MOST  400u
/* Share of what the budget leaves that entries have, until it is known. */
#define USABLE_AT_FIRST 0.97
/* Sampled requests between two looks at rooms and counts. */
#define TICK 256u
/* A request counts half after so many for each entry: long enough for each key to come again, short enough to follow a day. */
#define HALF_LIFE     16u
#define HALF_LIFE_MIN 65536u

static const double factors[NM__CURVE_POINTS] = {0.125, 0.25, 0.5, 1, 2, 4, 8};

/* ---- memory ---- */

static uint32_t guard_nodes(uint32_t adapt_nodes) { return nm__min(adapt_nodes, NM__GUARD_NODES_MAX); }

/* With its guard. */
static size_t adapt_bytes(uint32_t nodes) {
    return nodes != 0 ? nm__round_up(sizeof(nm__adapt), 64) + nm__round_up(nm__adapt_bytes(nodes), 64) +
                            nm__round_up(sizeof(nm__guard), 64) + nm__round_up(nm__guard_bytes(guard_nodes(nodes)), 64)
                      : 0;
}

static uint32_t fewer(uint32_t nodes, uint32_t least) {
    return nodes == least ? 0 : nm__max(nodes - nodes / 16, least);
}

/* About the most nodes between the two that fit; 0: not even the least do. */
static uint32_t adapt_nodes_in(size_t bytes) {
    uint32_t nodes = ADAPT_NODES_MOST;
    while (nodes != 0 && adapt_bytes(nodes) > bytes) nodes = fewer(nodes, ADAPT_NODES_LEAST);
    return nodes;
}

static size_t curve_bytes(nm_cache_policy policy, bool adapting, uint32_t nodes) {
    return nodes != 0 ? nm__round_up(sizeof(nm__curve), 64) + nm__curve_bytes(policy, adapting, nodes) : 0;
}

static uint32_t curve_nodes_in(nm_cache_policy policy, bool adapting, size_t bytes) {
    uint32_t least = adapting ? CURVE_ADAPT_LEAST : CURVE_NODES_LEAST;
    uint32_t nodes = adapting ? CURVE_ADAPT_MOST : CURVE_NODES_MOST;
    while (nodes != 0 && curve_bytes(policy, adapting, nodes) > bytes) nodes = fewer(nodes, least);
    return nodes;
}

nm__sampler_plan nm__sampler_plan_for(nm_cache_policy policy, size_t budget) {
    nm__sampler_plan plan = {0};
    bool adaptive = policy == NM_CACHE_ADAPTIVE;
    size_t left =
        nm__min(budget / BUDGET_SHARE + (adaptive ? BYTES_MORE_ADAPT : BYTES_MORE), budget / BUDGET_SHARE_MAX);
    left = nm__round_down(left, NM__PAGE_BYTES);
    if (adaptive) {
        /* Better settings win more than a better curve, but need fewer nodes: the curve has two thirds, or what the least adaptation
         * leaves, or nothing. */
        plan.adapt_nodes = adapt_nodes_in(nm__max(left / 3, nm__min(left, adapt_bytes(ADAPT_NODES_LEAST))));
        if (plan.adapt_nodes == 0) return plan;
        size_t rest = left - adapt_bytes(plan.adapt_nodes);
        plan.curve_nodes = curve_nodes_in(policy, true, rest);
        plan.adapting = plan.curve_nodes != 0;
        if (!plan.adapting) plan.curve_nodes = curve_nodes_in(policy, false, rest);
        if (plan.curve_nodes == 0) plan.adapt_nodes = adapt_nodes_in(left);
    } else {
        plan.curve_nodes = curve_nodes_in(policy, false, left);
    }
    plan.bytes = nm__round_up(adapt_bytes(plan.adapt_nodes) + curve_bytes(policy, plan.adapting, plan.curve_nodes),
                              NM__PAGE_BYTES);
    return plan;
}

/* ---- taking it and giving it back ---- */

/* Who is closed for want of memory tries again after so many misses, and each time that it fails after twice as many. */
#define PAUSE     4096u
#define PAUSE_MAX (PAUSE << 12)

/* More than twice or less than half of what the plan says is worth to begin anew: what was learned is lost. */
static bool fits_plan(size_t bytes, size_t planned) { return bytes / 2 <= planned && bytes >= planned / 2; }

/* What a cache of that budget has for entries, but for tables that grow with their number. */
static double left_of(const nm_cache *cache, double budget) {
    double fixed = (double)cache->least_bytes + (double)nm__sampler_plan_for(cache->policy, (size_t)budget).bytes;
    return budget > fixed ? budget - fixed : 0;
}

static void set_limit(const nm_cache *cache, nm__sampler *s, size_t limit) {
    s->limit = limit;
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) s->left[i] = left_of(cache, (double)limit * factors[i]);
}

static void set_rooms(const nm_cache *cache, nm__sampler *s) {
    size_t rooms[NM__CURVE_POINTS], largest[NM__CURVE_POINTS];
    for (unsigned i = 0; i < NM__CURVE_POINTS; i++) {
        rooms[i] = (size_t)(s->usable * s->left[i]);
        /* The sampler goes for it, if need be. */
        double most = (double)s->limit * factors[i] - (double)cache->least_bytes;
        largest[i] = most > 0 ? (size_t)most : 0;
    }
    if (s->curve != NULL) nm__curve_set_rooms(s->curve, rooms, largest);
    if (s->adapt == NULL) return;
    nm__adapt_set_room(s->adapt, rooms[NM__CURVE_SELF], largest[NM__CURVE_SELF]);
    nm__guard_set_room(s->guard, rooms[NM__CURVE_SELF], largest[NM__CURVE_SELF]);
}

/* Only looked at without the lock. Closed for a while: all keys, so that misses are counted. */
static void set_threshold(nm_cache *cache, const nm__sampler *s) {
    uint32_t most = s->memory == NULL && s->pause != 0 ? UINT32_MAX : 0;
    if (s->curve != NULL) most = nm__max(most, nm__curve_threshold(s->curve));
    if (s->adapt != NULL)
        most = nm__max(most, nm__max(s->guard->threshold, nm_atomic_load(&s->adapt->threshold, NM_RELAXED)));
    /* relaxed: a stale one samples a few keys that nobody wants */
    if (nm_atomic_load(&cache->sample_threshold, NM_RELAXED) != most)
        nm_atomic_store(&cache->sample_threshold, most, NM_RELAXED);
}

/* Its bytes are in the account already. */
static bool begin(nm_cache *cache, nm__sampler *s, const nm__sampler_plan *plan, size_t limit) {
    void *memory;
    if (nm__range_reserve(plan->bytes, NM__PAGE_BYTES, &memory) != NM_OK) return false;
    nm__grant_mode mode = cache->elastic ? NM__GRANT_ELASTIC : NM__GRANT_QUIET;
    if (nm__range_commit(cache->scope, memory, plan->bytes, mode, &cache->holder) != NM_OK) {
        nm__range_release(memory, plan->bytes);
        return false;
    }
    unsigned char *at = memory;
    s->memory = memory;
    s->plan = *plan;
    if (plan->adapt_nodes != 0) {
        unsigned char *end = at + adapt_bytes(plan->adapt_nodes);
        s->adapt = (nm__adapt *)(void *)at;
        at += nm__round_up(sizeof(nm__adapt), 64);
        nm__adapt_open(s->adapt, cache->objective, cache->protected_percent, at, nm__adapt_bytes(plan->adapt_nodes));
        nm_atomic_store(&s->adapt->version, s->version, NM_RELAXED);
        at += nm__round_up(nm__adapt_bytes(plan->adapt_nodes), 64);
        s->guard = (nm__guard *)(void *)at;
        nm__guard_open(s->guard, cache->objective, at + nm__round_up(sizeof(nm__guard), 64),
                       guard_nodes(plan->adapt_nodes));
        at = end;
    }
    if (plan->curve_nodes != 0) {
        s->curve = (nm__curve *)(void *)at;
        nm__curve_open(s->curve, cache->policy, cache->objective, cache->protected_percent, plan->adapting,
                       at + nm__round_up(sizeof(nm__curve), 64), plan->curve_nodes);
        nm__counts counts;
        nm__counts_sum(cache, &counts);
        nm__curve_begin(s->curve, counts.hits + counts.misses, counts.misses, nm__os_get()->clock_ns());
    }
    nm_atomic_store(&s->bytes, plan->bytes, NM_RELAXED); /* relaxed, like all here: a figure */
    nm_atomic_store(&s->unclear, 0u, NM_RELAXED);
    set_limit(cache, s, limit);
    set_rooms(cache, s);
    return true;
}

/* A system that does not take the pages back leaves them where they are. */
static size_t end(nm_cache *cache, nm__sampler *s) {
    size_t bytes = s->memory != NULL ? s->plan.bytes : 0;
    if (bytes == 0) return 0;
    uint32_t version = s->adapt != NULL ? nm__adapt_version(s->adapt) + 1 : s->version;
    if (!nm__range_decommit(cache->scope, s->memory, bytes)) return 0;
    nm__range_release(s->memory, bytes);
    nm__account_give(cache, bytes);
    s->version = version;
    s->memory = NULL;
    s->curve = NULL;
    s->adapt = NULL;
    s->guard = NULL;
    nm_atomic_store(&s->bytes, 0u, NM_RELAXED);
    return bytes;
}

void nm__sampler_open(nm_cache *cache) {
    nm__sampler *s = &cache->sampler;
    nm__lock_open(&s->lock);
    s->usable = USABLE_AT_FIRST;
    s->version = 1;
}

void nm__sampler_close(nm_cache *cache) {
    nm__sampler *s = &cache->sampler;
    nm_atomic_store(&cache->sample_threshold, 0u, NM_RELAXED);
    if (s->memory != NULL) nm__range_drop(cache->scope, s->memory, s->plan.bytes, s->plan.bytes);
    s->memory = NULL;
    nm__lock_close(&s->lock);
}

static nm__sampler_plan plan_now(const nm_cache *cache, size_t *limit) {
    *limit = nm_atomic_load(&cache->limit_bytes, NM_RELAXED); /* relaxed: a goal */
    return nm__sampler_plan_for(cache->policy, nm__min(*limit, nm__limit(cache->scope)));
}

/* The setting is told: the shards look at its version, points that do not adapt themselves get it at once. */
static void publish(nm__sampler *s) {
    if (s->adapt == NULL) return;
    uint32_t version = nm__adapt_version(s->adapt);
    if (version == nm_atomic_load(&s->setting, NM_RELAXED)) return;
    nm_atomic_store(&s->setting, version, NM_RELAXED); /* relaxed: it is read under the lock */
    if (s->curve != NULL && !s->plan.adapting) nm__curve_follow(s->curve, nm__adapt_setting(s->adapt));
}

bool nm__sampler_fit(nm_cache *cache) {
    nm__sampler *s = &cache->sampler;
    size_t limit, bytes = nm_atomic_load(&s->bytes, NM_RELAXED);
    nm__sampler_plan plan = plan_now(cache, &limit);
    bool wanted = plan.bytes != 0 && !(bytes != 0 && fits_plan(bytes, plan.bytes));
    if (bytes != 0 && !fits_plan(bytes, plan.bytes)) (void)nm__sampler_drop(cache, true);
    bool taken = wanted && nm__account_take(cache, plan.bytes);
    if (wanted && !taken) {
        size_t have = nm__account_left(cache);
        if (plan.bytes > have) (void)nm__cache_gather(cache, NULL, plan.bytes - have, NM_EVICT_SPACE, NM__GATHER_ALL);
        taken = nm__account_take(cache, plan.bytes);
    }
    nm__lock_take(&s->lock);
    bool begun = taken && s->memory == NULL && begin(cache, s, &plan, limit);
    if (taken && !begun) nm__account_give(cache, plan.bytes);
    if (s->memory != NULL || plan.bytes == 0)
        s->pause = 0;
    else
        s->pause = s->pause == 0 ? PAUSE : s->pause < PAUSE_MAX ? s->pause * 2 : PAUSE_MAX;
    set_threshold(cache, s);
    publish(s);
    nm__lock_give(&s->lock);
    return begun;
}

size_t nm__sampler_drop(nm_cache *cache, bool wait) {
    nm__sampler *s = &cache->sampler;
    if (wait)
        nm__lock_take(&s->lock);
    else if (!nm__lock_try(&s->lock))
        return 0;
    size_t bytes = end(cache, s);
    if (bytes != 0) s->pause = PAUSE;
    set_threshold(cache, s);
    nm__lock_give(&s->lock);
    return bytes;
}

void nm__sampler_stop(nm_cache *cache) {
    (void)nm__sampler_drop(cache, true);
    cache->sampler.pause = 0;
    set_threshold(cache, &cache->sampler);
}

/* ---- requests ---- */

/* A full cache shows what it can hold: at most, for where a large entry has just gone for a small one there is more. The most of late. */
#define USABLE_FADE 32

static void note_usable(nm__sampler *s, double usable) {
    if (usable < s->usable) usable = s->usable + (usable - s->usable) / USABLE_FADE;
    s->usable = usable < 1 ? usable : 1;
}

static void tick(nm_cache *cache, nm__sampler *s) {
    if (++s->ticks < TICK) return;
    s->ticks = 0;
    size_t limit = nm_atomic_load(&cache->limit_bytes, NM_RELAXED), granted = nm_cache_granted(cache);
    if (limit != s->limit) {
        bool other = limit > s->limit + s->limit / 4 || limit < s->limit - s->limit / 4;
        if (other && s->curve != NULL) nm__curve_forget(s->curve);
        set_limit(cache, s, limit);
    }
    if (granted >= limit - limit / 16 && s->left[NM__CURVE_SELF] > 0)
        note_usable(s, (double)nm_cache_used(cache) / s->left[NM__CURVE_SELF]);
    set_rooms(cache, s);
    set_threshold(cache, s);
    if (s->curve == NULL) return;
    /* Those told stand for those skipped. relaxed: a figure; one that comes meanwhile counts with the next */
    s->curve->each = 1 + (double)nm_atomic_exchange(&s->skipped, 0u, NM_RELAXED) / TICK;
    nm__counts counts;
    nm__counts_sum(cache, &counts);
    uint64_t half_life = nm__max(HALF_LIFE * (uint64_t)nm_cache_count(cache), HALF_LIFE_MIN);
    nm__curve_count(s->curve, counts.hits + counts.misses, counts.misses, nm__os_get()->clock_ns(), half_life);
}

bool nm__sampler_setting(nm_cache *cache, uint32_t *version, nm__setting *out) {
    nm__sampler *s = &cache->sampler;
    /* relaxed: looked at again under the lock */
    if (nm_atomic_load(&s->setting, NM_RELAXED) == *version || !nm__lock_try(&s->lock)) return false;
    bool news = s->adapt != NULL && nm__adapt_version(s->adapt) != *version;
    if (news) {
        *version = nm__adapt_version(s->adapt);
        *out = *nm__adapt_setting(s->adapt);
    }
    nm__lock_give(&s->lock);
    return news;
}

/* A shadow or adaptation at a time. */
static void clear_step(nm__sampler *s, uint32_t unclear) {
    nm_atomic_store(&s->unclear, unclear - 1, NM_RELAXED); /* relaxed: under the lock; of a new clear see there */
    unsigned point = unclear - 1;
    if (point < NM__CURVE_POINTS && s->curve != NULL) nm__curve_clear(s->curve, point);
    if (point != NM__CURVE_POINTS || s->adapt == NULL) return;
    nm__adapt_clear(s->adapt);
    nm__guard_clear(s->guard);
}

/* NULL: it is closed, or another thread is at work there; this request is left out then, and the others stand for it. */
static nm__sampler *enter(nm_cache *cache) {
    nm__sampler *s = &cache->sampler;
    if (!nm__lock_try(&s->lock)) {
        nm_atomic_add(&s->skipped, 1u, NM_RELAXED); /* relaxed: a figure */
        return NULL;
    }
    if (NM_LIKELY(s->memory != NULL)) {
        uint32_t unclear = nm_atomic_load(&s->unclear, NM_RELAXED);
        if (NM_UNLIKELY(unclear != 0)) clear_step(s, unclear);
        return s;
    }
    nm__lock_give(&s->lock);
    return NULL;
}

/* The shares of the cache's setting in what happens; s->adapt is not NULL. */

static void learn_anew(nm__sampler *s) {
    nm__adapt_restart(s->adapt, nm__guard_threshold_for(s->guard, nm__adapt_nodes(s->adapt) / 2));
}

static void adapt_hit(nm__sampler *s, uint64_t hash, size_t weight) {
    if (nm__adapt_sampled(s->adapt, hash)) (void)nm__adapt_hit(s->adapt, hash, weight);
    if (nm__guard_hit(s->guard, hash, weight)) learn_anew(s);
    publish(s);
}

static void adapt_miss(nm__sampler *s, uint64_t hash) {
    if (nm__adapt_sampled(s->adapt, hash)) (void)nm__adapt_miss(s->adapt, hash, NULL);
    if (nm__guard_miss(s->guard, hash)) learn_anew(s);
    publish(s);
}

static void adapt_put(nm__sampler *s, uint64_t hash, size_t weight) {
    if (nm__adapt_sampled(s->adapt, hash)) (void)nm__adapt_put(s->adapt, hash, weight);
    nm__guard_put(s->guard, hash, weight);
    publish(s);
}

static void adapt_remove(nm__sampler *s, uint64_t hash) {
    if (nm__adapt_sampled(s->adapt, hash)) nm__adapt_remove(s->adapt, hash);
    nm__guard_remove(s->guard, hash);
}

static bool is_closed(const nm__sampler *s) {
    return nm_atomic_load(&s->bytes, NM_RELAXED) == 0; /* relaxed: looked at again under the lock */
}

void nm__sampler_hit(nm_cache *cache, uint64_t hash, size_t weight) {
    nm__sampler *s = is_closed(&cache->sampler) ? NULL : enter(cache);
    if (s == NULL) return;
    if (s->adapt != NULL) adapt_hit(s, hash, weight);
    if (s->curve != NULL) nm__curve_hit(s->curve, hash, weight);
    tick(cache, s);
    nm__lock_give(&s->lock);
}

static void count_miss_while_closed(nm_cache *cache) {
    nm__sampler *s = &cache->sampler;
    uint32_t missed = nm_atomic_add(&s->missed, 1, NM_RELAXED) + 1; /* relaxed: a figure */
    if (missed % PAUSE != 0) return;
    nm__lock_take(&s->lock);
    bool again = missed >= s->pause && s->memory == NULL && s->pause != 0;
    if (again) nm_atomic_store(&s->missed, 0u, NM_RELAXED);
    nm__lock_give(&s->lock);
    if (again && nm__sampler_fit(cache)) nm__settle(cache->scope, &cache->holder);
}

void nm__sampler_miss(nm_cache *cache, uint64_t hash) {
    if (NM_UNLIKELY(is_closed(&cache->sampler))) {
        count_miss_while_closed(cache);
        return;
    }
    nm__sampler *s = enter(cache);
    if (s == NULL) return;
    if (s->adapt != NULL) adapt_miss(s, hash);
    if (s->curve != NULL) nm__curve_miss(s->curve, hash);
    tick(cache, s);
    nm__lock_give(&s->lock);
}

void nm__sampler_put(nm_cache *cache, uint64_t hash, size_t weight) {
    nm__sampler *s = is_closed(&cache->sampler) ? NULL : enter(cache);
    if (s == NULL) return;
    if (s->adapt != NULL) adapt_put(s, hash, weight);
    if (s->curve != NULL) nm__curve_put(s->curve, hash, weight);
    nm__lock_give(&s->lock);
}

void nm__sampler_remove(nm_cache *cache, uint64_t hash) {
    nm__sampler *s = is_closed(&cache->sampler) ? NULL : enter(cache);
    if (s == NULL) return;
    if (s->adapt != NULL) adapt_remove(s, hash);
    if (s->curve != NULL) nm__curve_remove(s->curve, hash);
    nm__lock_give(&s->lock);
}

void nm__sampler_clear(nm_cache *cache) {
    /* relaxed: a step that ends meanwhile may leave one shadow as it is, which then hits too often for a while */
    nm_atomic_store(&cache->sampler.unclear, NM__CURVE_POINTS + 1, NM_RELAXED);
}

/* ---- reading ---- */

/* Requests that a curve must stand for. */
#define REQUESTS_MIN 1000

size_t nm_cache_curve(const nm_cache *cache, nm_curve_point *out, size_t n) {
    if (cache == NULL || out == NULL) return 0;
    nm__sampler *s =
        &((nm_cache *)(uintptr_t)cache)->sampler; /* its lock, and its counts, which are brought up to now */
    size_t count = nm__min(n, NM__CURVE_POINTS), limit = nm_atomic_load(&cache->limit_bytes, NM_RELAXED);
    nm__counts counts;
    nm__counts_sum(cache, &counts);
    nm__prediction predictions[NM__CURVE_POINTS] = {0};
    double requests = 0, seconds = 0;
    nm__lock_take(&s->lock);
    if (s->curve != NULL) {
        nm__curve_count(s->curve, counts.hits + counts.misses, counts.misses, nm__os_get()->clock_ns(), UINT64_MAX);
        nm__curve_read(s->curve, predictions);
        requests = s->curve->requests;
        seconds = s->curve->seconds;
    }
    nm__lock_give(&s->lock);
    if (requests < REQUESTS_MIN) return 0;
    for (size_t i = 0; i < count; i++)
        out[i] = (nm_curve_point){.budget_bytes = (size_t)((double)limit * factors[i]),
                                  .hit_ratio = predictions[i].hit_ratio,
                                  .byte_hit_ratio = predictions[i].byte_hit_ratio,
                                  .hits_per_second = seconds > 0 ? predictions[i].hit_ratio * requests / seconds : 0,
                                  .request_count = requests};
    return count;
}

/* The curve bends up at times, where a loop begins to fit: what lies behind a flat piece counts if the whole way there pays. */
size_t nm_cache_advice(const nm_cache *cache, double hits_per_second_per_mib) {
    nm_curve_point points[NM__CURVE_POINTS];
    if (nm_cache_curve(cache, points, NM__CURVE_POINTS) < NM__CURVE_POINTS) return 0;
    size_t at = 0;
    for (size_t i = 1; i < NM__CURVE_POINTS; i++) {
        double mib = (double)(points[i].budget_bytes - points[at].budget_bytes) / (double)((size_t)1 << 20);
        if ((points[i].hits_per_second - points[at].hits_per_second) / mib >= hits_per_second_per_mib) at = i;
    }
    return points[at].budget_bytes;
}
