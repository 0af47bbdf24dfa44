// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Tracing, sampling and filling, each by lowering `end`. */
#include "arena/watch.h"

#include "scope/sites.h"

/* ---- life -------------------------------------------------------------------------------------------------------- */

/* Bytes to the first sample of an arena. Samples lie at equal distances within an arena, which is not random and can fall in
 * step with a program's pattern; but where the first lies differs from arena to arena, and over many arenas it is spread
 * evenly (multiples of the golden ratio), so that short-lived arenas are seen in proportion too. */
static size_t first_sample(size_t sample_bytes) {
    static NM_ATOMIC(uint64_t) opened;
    uint64_t phase = nm_atomic_add(&opened, 1, NM_RELAXED) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)((unsigned __int128)phase * sample_bytes >> 64) + 1;
}

nm_status nm__arena_watch_open(nm__arena *a) {
    nm_scope *scope = a->holder.scope;
    unsigned debug = nm__debug(scope);
    size_t sample_bytes = nm__sample_bytes(scope);
    bool checker = nm__check_active(), memcheck = nm__check_memcheck();
    if (checker) debug &= (unsigned)NM_DEBUG_TRACE;
    a->checked = checker || (debug & (NM_DEBUG_GUARD | NM_DEBUG_QUARANTINE)) != 0;
    a->every = a->checked || debug != 0;
    a->watched = a->every || a->secret || sample_bytes != 0;
    if (debug == 0 && sample_bytes == 0 && !memcheck) return NM_OK;

    void *record;
    nm_status st = nm__record_take(scope, &record);
    if (st != NM_OK) return st;
    nm__arena_watch *w = record;
    *w = (nm__arena_watch){
        .tracing = (debug & NM_DEBUG_TRACE) != 0,
        .filling = (debug & NM_DEBUG_FILL) != 0,
        .burying = (debug & (NM_DEBUG_FILL | NM_DEBUG_QUARANTINE)) != 0,
        .guarding = a->checked && !checker,
        .holding = (debug & NM_DEBUG_QUARANTINE) != 0 && !a->contiguous,
        .pooling = memcheck,
        .side_bytes = NM__RECORD_BYTES,
        .held_limit = nm__min(NM__ARENA_QUARANTINE_BYTES, nm__limit(scope) / NM__ARENA_QUARANTINE_SHARE),
    };
    if (!w->tracing && sample_bytes != 0) {
        w->sample_bytes = sample_bytes;
        w->sample_left = first_sample(sample_bytes);
        w->sampled_to = a->face.ptr;
    }
    a->watch = w;
    if (w->pooling) nm__check_mempool_open(a);
    return NM_OK;
}

void nm__arena_watch_close(nm__arena *a) {
    nm__arena_watch *w = a->watch;
    if (w == NULL) return;
    (void)nm__arena_release_held(a);
    nm__arena_log_close(a);
    if (w->pooling) nm__check_mempool_close(a);
    a->watch = NULL;
    nm__record_give(a->holder.scope, w);
}

/* ---- samples ----------------------------------------------------------------------------------------------------- */

void nm__arena_sample_sync(nm__arena *a) {
    nm__arena_watch *w = a->watch;
    if (w->sample_bytes == 0 || a->face.ptr == w->sampled_to) return;
    /* less than what was left, for `end` stood before it */
    w->sample_left -= (size_t)(a->face.ptr - w->sampled_to);
    w->sampled_to = a->face.ptr;
}

void nm__arena_sample_settle(nm__arena *a) {
    nm__arena_watch *w = a->watch;
    if (w->sample_bytes == 0) return;
    w->sampled_to = a->face.ptr;
    /* the allocation that reaches the sample shall take the slow path */
    size_t room = (size_t)(a->face.end - a->face.ptr);
    a->face.end = a->face.ptr + nm__min(room, nm__round_down(w->sample_left - 1, NM_ALIGN));
}

static void sample(nm__arena *a, size_t size, const char *site) {
    nm__arena_watch *w = a->watch;
    if (size < w->sample_left) {
        w->sample_left -= size;
    } else {
        size_t beyond = size - w->sample_left, samples = 1 + beyond / w->sample_bytes;
        w->sample_left = w->sample_bytes - beyond % w->sample_bytes;
        size_t bytes = samples * w->sample_bytes; /* at most size + sample_bytes */
        nm__sites_note(a->holder.scope, site, nm__max(bytes / size, 1), bytes);
    }
    nm__arena_settle(a);
}

/* ---- allocations ------------------------------------------------------------------------------------------------- */

nm_status nm__arena_watch_before(nm__arena *a) {
    if (a->running) return NM_EBUSY;
    nm__arena_watch *w = a->watch;
    return w->guarding || w->pooling ? nm__arena_log_ready(a) : NM_OK;
}

void nm__arena_watch_after(nm__arena *a, unsigned char *p, size_t n, const char *site) {
    nm__arena_watch *w = a->watch;
    if (w->filling) memset(p, NM__FILL_NEW, n);
    if (w->guarding || w->pooling) nm__arena_log_push(a, p, n, site);
    if (w->tracing) nm__sites_note(a->holder.scope, site, 1, nm__arena_size(n));
    if (w->sample_bytes != 0) sample(a, nm__arena_size(n), site);
}
