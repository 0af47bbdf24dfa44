// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Room for an entry: a fit, else growth, else eviction; and if the bytes are there but not in one piece, a window is emptied.
 *
 * Whether it can succeed is known before anything is evicted. With k fixed chunks and u units that are not fixed, one run of
 * at least u / (k + 1) has no fixed chunk in it; only above that need the heap be walked to see. Pins are taken without
 * the lock, so the shard does not know all that are out: they are counted in, and looked for where that decides. */
#include "cache/cache_internal.h"

/* Turns that a search takes before it gives up. Each evicts, grows or gathers; only other threads that take what was gained
 * while the lock was dropped make it turn again. */
#define NM__PLACE_TURNS 64
/* Attempts to compact around one place, before the whole heap is walked for a better one. */
#define NM__PLACE_SEEDS 16
/* From this share of free units on, compacting comes before evicting: sooner for large entries, which find no fit otherwise. */
#define NM__LOOSE_SMALL 8
#define NM__LOOSE_LARGE 64
/* Evicting a few entries more than a small one needs costs less than moving its neighbours, and keeps as much free as makes
 * the next ones fit at once. Of large ones each costs too much. */
#define NM__SMALL_EXTRA 4
/* An entry of that part of the heap evicts only what it lacks: moving all others costs less than what else would leave for it. */
#define NM__LARGE_PART 16
/* From this share of free units on, of which an entry could have that part and finds it nowhere in one place, the policy has to do without
 * them. One that wants more says nothing of them: a larger one may have left just now, and the next ones fit in. */
#define NM__PIECES     32
#define NM__PIECE_PART 16
/* Growth that the scope refused is not asked for again at once: the asking climbs all ancestors. */
#define NM__SHY_MAX 255u

typedef struct nm__hunt {
    nm__shard *shard;
    nm__doomed *doomed;
    uint32_t units;
    uint32_t evicted; /* units */
    bool asked_scope, asked_idle, asked_rich;
    unsigned asked_others;
} nm__hunt;

static bool scope_refused(nm_status status) { return status == NM_EBUDGET || status == NM_ENOMEM; }

/* The lock is dropped for what must not be done under it. */
static void drop(nm__shard *shard, nm__doomed *doomed) {
    nm__shard_unlock(shard, doomed);
    doomed->dropped = true;
    doomed->seed = 0;
}

static bool make_room(nm__shard *shard, nm__doomed *doomed, size_t bytes) {
    drop(shard, doomed);
    bool made = nm__make_room(shard->cache->scope, bytes, &shard->cache->holder);
    nm__shard_lock(shard);
    return made;
}

/* What account and scope would grant now. */
static size_t left(const nm_cache *cache) { return nm__min(nm__account_left(cache), nm__room(cache->scope)); }

static bool can_evict(nm__shard *shard, uint32_t units) {
    uint32_t movable = shard->heap.end - NM__HEAP_FIRST - shard->fixed_units, lo, hi;
    if (units > movable) return false;
    size_t fixed = shard->fixed_count + nm__heap_fences(&shard->heap);
    bool plenty = units * (fixed + 1) <= movable;
    /* Of small ones the victims themselves tell: one that is pinned is passed over. */
    if (NM_LIKELY(plenty && units <= NM__SMALL_UNITS && shard->entry_count > shard->fixed_count)) return true;
    nm__counts out;
    nm__counts_sum(shard->cache, &out);
    size_t pins = (size_t)out.pins, pinned = (size_t)out.pinned_bytes / NM__UNIT_BYTES;
    if (plenty && pinned < movable && units * (fixed + pins + 1) <= movable - pinned) return true;
    if (pins != 0) nm__pins_discover(shard);
    movable = shard->heap.end - NM__HEAP_FIRST - shard->fixed_units;
    if (units > movable) return false;
    fixed = shard->fixed_count + nm__heap_fences(&shard->heap);
    return units * (fixed + 1) <= movable || nm__window_scan(shard, units, &lo, &hi);
}

static nm_status grow(nm__hunt *hunt, bool can) {
    nm__shard *shard = hunt->shard;
    if (shard->shy > 0 && can) {
        shard->shy--;
        hunt->asked_scope = true;
        return NM_EBUDGET;
    }
    size_t need = (size_t)(hunt->units - nm__heap_top_free(&shard->heap)) * NM__UNIT_BYTES;
    need = nm__round_up(need, NM__PAGE_BYTES);
    /* A glance: of a cache that is full all puts come here. */
    if (NM_LIKELY(shard->grown_out) && nm__account_left(shard->cache) < need) return NM_ECAPACITY;
    size_t want = nm__max(need, shard->cache->step_bytes), have = nm__heap_bytes(&shard->heap);
    if (shard->cache->huge_pages) want = nm__round_up(have + want, NM__HUGE_BYTES) - have;
    nm_status status = nm__heap_grow(&shard->heap, need, want);
    if (status == NM_OK) {
        shard->shy_next = 0;
        /* Its first page was used before the rest came, so the first huge page does not come by itself. */
        if (shard->cache->huge_pages && have < NM__HUGE_BYTES && nm__heap_bytes(&shard->heap) >= NM__HUGE_BYTES)
            (void)nm__os_get()->make_huge_pages(shard->heap_range, NM__HUGE_BYTES);
        if (shard->grown_out) nm__shard_share(shard);
        return NM_OK;
    }
    if (!shard->grown_out) {
        shard->grown_out = true;
        nm__shard_share(shard);
    }
    if (scope_refused(status)) {
        shard->shy_next = shard->shy_next < NM__SHY_MAX ? 2 * shard->shy_next + 1 : NM__SHY_MAX;
        shard->shy = shard->shy_next;
    }
    return status;
}

/* A shard that has less than half of an even share evicts nothing of its own while others have more than theirs. */
static bool poor(const nm__shard *shard) {
    const nm_cache *cache = shard->cache;
    size_t limit = nm_atomic_load(&cache->limit_bytes, NM_RELAXED); /* relaxed: a goal, not a bound */
    size_t shared = limit > cache->least_bytes ? limit - cache->least_bytes : 0;
    return cache->shard_count > 1 && nm__heap_bytes(&shard->heap) < shared >> (64 - cache->shard_shift) >> 1;
}

/* Free room in the heaps of others comes before entries of one's own. */
static bool idle_elsewhere(const nm__shard *shard) {
    /* relaxed: hints, see note_idle in shard.c */
    uint32_t own = nm_atomic_load(&shard->idle, NM_RELAXED) ? 1 : 0;
    return nm_atomic_load(&shard->cache->idle_shards, NM_RELAXED) > own;
}

/* Others give first, so that this shard can grow. */
static void let_give(nm__hunt *hunt, size_t bytes, nm__gather_mode mode) {
    nm__shard *shard = hunt->shard;
    drop(shard, hunt->doomed);
    nm__cache_gather(shard->cache, shard, bytes, NM_EVICT_SPACE, mode);
    nm__shard_lock(shard);
    shard->shy = 0;
}

static uint32_t use_claim(nm__hunt *hunt) {
    nm__doomed_finish(hunt->shard, hunt->doomed);
    uint32_t at = hunt->doomed->claim_lo;
    nm__chunk_unfix(hunt->shard, at);
    hunt->doomed->claim_lo = hunt->doomed->claim_hi = 0;
    nm__heap_cut(&hunt->shard->heap, at, hunt->units);
    return at;
}

static uint32_t empty_window(nm__hunt *hunt, uint32_t lo, uint32_t hi) {
    return nm__window_claim(hunt->shard, lo, hi, NM_EVICT_SPACE, hunt->doomed) ? use_claim(hunt) : 0;
}

/* The next victim goes; *at: a chunk, if there is one now. False: there was no victim. One whose chunk has just that size leaves it
 * to the new entry, without a look at its neighbours. */
static bool evict_next(nm__hunt *hunt, uint32_t *at) {
    nm__shard *shard = hunt->shard;
    size_t incoming = (size_t)hunt->units * NM__UNIT_BYTES;
    uint32_t units;
    *at = 0;
    if (NM_LIKELY(shard->dead.tail == 0 && shard->cache->on_evict == NULL)) {
        uint32_t victim = nm__evict_detach(shard, incoming, NM_EVICT_SPACE);
        if (victim == 0) return false;
        units = nm__heap_size(&shard->heap, victim);
        if (units == hunt->units) {
            nm__object_uncharge(shard, nm__entry_object_bytes(nm__entry_at(shard, victim)));
            *at = victim;
            return true;
        }
        nm__entry_retire(shard, victim, hunt->doomed);
    } else if ((units = nm__evict_one(shard, incoming, NM_EVICT_SPACE, hunt->doomed)) == 0) {
        return false;
    }
    hunt->evicted += units;
    if (hunt->doomed->head == 0) *at = nm__heap_take(&shard->heap, hunt->units);
    return true;
}

/* Room in pieces that nobody can use is none: else what was used once would keep it for ever, and new entries only each other's. */
static void fit_room(nm__shard *shard, uint32_t units) {
    const nm__heap *heap = &shard->heap;
    if (heap->free_units > heap->end / NM__PIECES && units <= heap->free_units / NM__PIECE_PART)
        nm__policy_set_room(&shard->policy, shard->used_bytes);
    else if (NM_UNLIKELY(shard->policy.room < nm__heap_bytes(heap)))
        nm__shard_share(shard);
}

/* Evicts from the tail until the units fit or as many are free as are wanted, then compacts; at last empties a window. 0: turn
 * again. */
static uint32_t evict(nm__hunt *hunt) {
    nm__shard *shard = hunt->shard;
    nm__heap *heap = &shard->heap;
    uint32_t at, lo, hi, units = hunt->units;
    fit_room(shard, units);
    /* Much is free, in pieces that are too small: compacting costs no entry. */
    uint32_t loose = heap->end / (units <= NM__SMALL_UNITS ? NM__LOOSE_SMALL : NM__LOOSE_LARGE), seed;
    if (hunt->evicted == 0 && heap->free_units > loose && heap->free_units / 2 >= units &&
        (seed = nm__heap_largest(heap)) != 0 && nm__window_compact(shard, seed, units))
        return nm__heap_take(heap, units);
    bool large = units >= heap->end / NM__LARGE_PART;
    uint32_t enough = units <= NM__SMALL_UNITS ? units * NM__SMALL_EXTRA : units;
    if (large) enough = hunt->evicted + (units - nm__min(units, heap->free_units));
    while (hunt->evicted < enough) {
        if (!evict_next(hunt, &at)) break;
        if (at != 0) return at;
    }
    if (hunt->doomed->head != 0) {
        nm__doomed_finish(shard, hunt->doomed);
        return 0;
    }
    if (large) hunt->doomed->seed = 0; /* the whole heap is looked at, and what was free is free elsewhere afterwards */
    for (int i = 0; hunt->doomed->seed != 0; i++) {
        if (nm__window_compact(shard, hunt->doomed->seed, units)) return nm__heap_take(heap, units);
        hunt->doomed->seed = i < NM__PLACE_SEEDS && heap->free_units > units ? nm__heap_largest(heap) : 0;
        if (units > NM__SMALL_UNITS || i >= NM__PLACE_SEEDS || shard->cache->on_evict != NULL) continue;
        if (evict_next(hunt, &at) && at != 0) return at;
    }
    if (nm__window_compact_any(shard, units)) return nm__heap_take(heap, units);
    return nm__window_scan(shard, units, &lo, &hi) ? empty_window(hunt, lo, hi) : 0;
}

/* No run inside the heap is long enough: the run at its top, made longer. NM_OK: *at, or turn again if that is 0. */
static nm_status extend(nm__hunt *hunt, nm_status refusal, uint32_t *at) {
    nm__shard *shard = hunt->shard;
    nm_cache *cache = shard->cache;
    uint32_t top = nm__window_top(shard, hunt->units), run = shard->heap.end - top;
    if (run >= hunt->units) { /* another thread made room meanwhile */
        *at = empty_window(hunt, top, shard->heap.end);
        return NM_OK;
    }
    size_t missing = nm__round_up((size_t)(hunt->units - run) * NM__UNIT_BYTES, NM__PAGE_BYTES);
    nm_status status = nm__heap_grow(&shard->heap, missing, missing);
    if (status == NM_OK) {
        top = nm__window_top(shard, hunt->units); /* a fence may lie between */
        if (shard->heap.end - top >= hunt->units) *at = empty_window(hunt, top, shard->heap.end);
        return NM_OK;
    }
    if (status == NM_ETOOLARGE) return shard->fixed_count != 0 ? NM_ECAPACITY : NM_ETOOLARGE;
    if (scope_refused(status)) refusal = status;
    if (hunt->asked_others++ >= 4) return refusal;
    drop(shard, hunt->doomed);
    size_t have = left(cache), got = 0, whole = 0;
    if (hunt->units >= NM__PAGE_UNITS)
        whole = nm__round_up((size_t)(hunt->units - (NM__PAGE_UNITS - 1)) * NM__UNIT_BYTES, NM__PAGE_BYTES);
    if (missing > have && nm__cache_spare(cache, shard) >= missing - have)
        got = nm__cache_gather(cache, shard, missing - have, NM_EVICT_SPACE, NM__GATHER_ALL);
    else if (whole > have && nm__cache_spare(cache, NULL) >= whole - have)
        got = nm__cache_gather(cache, NULL, whole - have, NM_EVICT_SPACE, NM__GATHER_ALL);
    else if (missing <= have) /* others gave back meanwhile */
        got = missing;
    nm__shard_lock(shard);
    return got != 0 ? NM_OK : refusal;
}

/* Of a shard that is full, and was a moment ago when it asked for more: only the first of so many puts asks again. */
#define NM__STEADY_PUTS 8

static bool is_steady(const nm__hunt *hunt) {
    const nm__shard *shard = hunt->shard;
    return shard->steady != 0 && hunt->units <= NM__SMALL_UNITS &&
           shard->heap.free_units <= shard->heap.end / NM__PIECES;
}

static nm_status find_chunk(nm__hunt *hunt, uint32_t *at) {
    nm__shard *shard = hunt->shard;
    nm_cache *cache = shard->cache;
    size_t bytes = (size_t)hunt->units * NM__UNIT_BYTES;
    nm_status refusal = NM_ECAPACITY;
    for (int turn = 0; turn < NM__PLACE_TURNS; turn++) {
        if ((*at = nm__heap_take(&shard->heap, hunt->units)) != 0) return NM_OK;
        if (NM_LIKELY(turn == 0 && is_steady(hunt))) {
            shard->steady--;
            if (evict_next(hunt, at) && *at != 0) return NM_OK;
            continue;
        }
        bool can = can_evict(shard, hunt->units);
        nm_status status = grow(hunt, can);
        if (status == NM_OK) continue;
        if (status != NM_ETOOLARGE) refusal = status;
        if (scope_refused(status) && !cache->elastic && !hunt->asked_scope) {
            hunt->asked_scope = true;
            if (make_room(shard, hunt->doomed, nm__round_up(bytes, NM__PAGE_BYTES))) shard->shy = 0;
            continue;
        }
        if (can && !hunt->asked_idle && idle_elsewhere(shard)) {
            hunt->asked_idle = true;
            let_give(hunt, nm__max(nm__round_up(bytes, NM__PAGE_BYTES), cache->step_bytes), NM__GATHER_IDLE);
            continue;
        }
        if (can && !hunt->asked_rich && poor(shard)) {
            hunt->asked_rich = true;
            let_give(hunt, cache->step_bytes, NM__GATHER_RICH);
            continue;
        }
        if (can) {
            shard->steady = NM__STEADY_PUTS - 1;
            *at = evict(hunt);
        } else {
            status = extend(hunt, refusal, at);
            if (status != NM_OK) return status;
        }
        if (*at != 0) return NM_OK;
    }
    return refusal;
}

static nm_status charge_object(nm__shard *shard, size_t bytes, nm__doomed *doomed) {
    nm_cache *cache = shard->cache;
    bool asked_scope = cache->elastic;
    nm_status status = NM_ECAPACITY;
    for (int turn = 0; turn < NM__PLACE_TURNS; turn++) {
        status = nm__object_charge(shard, bytes);
        if (status == NM_OK) return NM_OK;
        if (scope_refused(status) && !asked_scope) {
            asked_scope = true;
            make_room(shard, doomed, bytes);
            continue;
        }
        drop(shard, doomed);
        size_t have = left(cache), need = bytes > have ? bytes - have : 1, got = 0;
        if (nm__cache_spare(cache, NULL) >= need)
            got = nm__cache_gather(cache, NULL, need, NM_EVICT_SPACE, NM__GATHER_ALL);
        nm__shard_lock(shard);
        if (got == 0) return status;
    }
    return status;
}

nm_status nm__place(nm__shard *shard, uint32_t units, size_t object_bytes, nm__doomed *doomed, uint32_t *offset) {
    nm__hunt hunt = {.shard = shard, .doomed = doomed, .units = units};
    doomed->seed = 0;
    nm_status status = object_bytes != 0 ? charge_object(shard, object_bytes, doomed) : NM_OK;
    if (status != NM_OK) return status;
    status = find_chunk(&hunt, offset);
    if (status != NM_OK) nm__object_uncharge(shard, object_bytes);
    return status;
}
