// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Opening, closing and resetting an arena, and what it tells about itself. */
#include "arena/watch.h"

#include "base/options.h"

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void give_all(nm__arena *a) {
    nm__arena_run_deferred(a, 0);
    if (a->watch != NULL) nm__arena_log_rewind(a, 0);
    while (a->large != NULL) nm__arena_pop_large(a);
    while (a->block != NULL) nm__arena_give_block(a, nm__arena_pop_block(a));
    while (a->spare != NULL) nm__arena_give_spare(a);
}

static nm__arena *of_holder(nm__holder *holder) {
    return (nm__arena *)(void *)((unsigned char *)holder - offsetof(nm__arena, holder));
}

static void close_with_scope(nm__holder *holder, nm__leaks *leaks, const char *site) {
    (void)leaks; /* an arena that its scope closes is no leak */
    (void)site;
    nm__arena *a = of_holder(holder);
    if (a->closed)
        nm__arena_exhume(a);
    else
        give_all(a);
    nm__arena_watch_close(a);
    nm__holder_give_record(holder, a);
}

static size_t arena_used_seen(const nm__holder *holder) {
    const nm__arena *a = (const nm__arena *)(const void *)((const unsigned char *)holder - offsetof(nm__arena, holder));
    /* relaxed: pairs with the store in nm__arena_settle */
    return nm_atomic_load(&a->used_seen, NM_RELAXED);
}

static size_t used_in_place(const nm__holder *holder) {
    const nm__arena *a = (const nm__arena *)(const void *)((const unsigned char *)holder - offsetof(nm__arena, holder));
    /* its only block may be another one, if the one in place lay empty when the scope was short */
    const unsigned char *place = (const unsigned char *)a + NM__RECORD_BYTES;
    bool all = a->ease != NM__RESET_HARD && a->spare == NULL && a->block->block.base == place;
    return all ? NM__ARENA_BLOCK_HEADER_BYTES + nm__arena_chain_bytes(a) : SIZE_MAX;
}

static const nm__holder_class arena_class = {
    .part = "arena",
    .reclaim = NULL,
    .close = close_with_scope,
    .used = arena_used_seen,
    .used_in_place = used_in_place,
};

/* All but the holder. Stats of other threads may look at used_seen at any time. */
static void fill_in(nm__arena *a, const nm_arena_options *o) {
    a->face = (nm_arena){nm__arena_nowhere(a), nm__arena_nowhere(a)};
    a->holder.name = a->name;
    a->block = a->first = a->spare = NULL;
    a->large = NULL;
    a->mark = NULL;
    a->deferred = NULL;
    /* marks of different arenas get different numbers, also where memory is reused; the top bit is kept free so that
     * the count does not wrap, and 0 means "before all marks" */
    a->mark_id = ((uint64_t)(uintptr_t)a * UINT64_C(0x9e3779b97f4a7c15) >> 1) | 1;
    a->easy_mark_id = UINT64_MAX;
    a->first_order = o->block_bytes == 0 ? NM__ARENA_FIRST_ORDER : (uint8_t)nm__log2_ceil(o->block_bytes);
    a->step_order = a->first_order;
    a->capacity_bytes = o->capacity_bytes == 0 ? SIZE_MAX : o->capacity_bytes;
    a->granted_bytes = a->spare_bytes = a->large_bytes = a->extra_bytes = a->high_bytes = 0;
    a->watch = NULL;
    nm_atomic_store(&a->used_seen, 0, NM_RELAXED);
    a->status = NM_OK;
    a->ease = NM__RESET_HARD;
    /* memcheck wants more, and is seen to by nm__arena_watch_open */
    a->every = a->checked = a->watched = nm__check_active();
    a->running = a->closed = false;
    a->secret = o->secret;
    a->contiguous = o->contiguous;
    nm__name_copy(a->name, o->name);
}

/* In a request scope's own block: the first block of the chain is there already. */
static nm__arena *open_in_place(nm_scope *scope, const nm_arena_options *o) {
    void *record;
    nm__block block;
    if (!nm__place_take(scope, NM__ARENA_BLOCK_HEADER_BYTES + NM_ALIGN, &record, &block)) return NULL;
    nm__arena *a = record;
    uint64_t mark_id = a->mark_id; /* of the arena that was here before: its marks shall not be taken for this one's */
    fill_in(a, o);
    if (mark_id != 0) a->mark_id = mark_id;
    nm__holder_place(scope, &a->holder, &arena_class);
    nm__arena_block *b = (nm__arena_block *)(void *)block.base;
    *b = (nm__arena_block){.block = block};
    a->block = a->first = b;
    a->granted_bytes = block.granted;
    a->face.ptr = nm__arena_payload(b);
    size_t payload_bytes = block.granted - NM__ARENA_BLOCK_HEADER_BYTES;
    a->step_order = (uint8_t)nm__max(a->step_order, nm__log2_ceil(block.bytes));
    if (NM_UNLIKELY(a->checked)) {
        nm__check_poison(a->face.ptr, payload_bytes);
        nm__arena_settle(a);
        return a;
    }
    /* what nm__arena_settle makes of an empty block, in a quarter of the instructions: every request comes by here */
    a->face.end = a->face.ptr + nm__min(payload_bytes, a->capacity_bytes);
    a->easy_mark_id = a->mark_id;
    a->ease = nm__arena_is_tiny(a) ? NM__RESET_TINY : NM__RESET_EASY;
    return a;
}

static nm_status open_in_record(nm_scope *scope, const nm_arena_options *o, nm__arena **out) {
    void *record;
    nm_status st = nm__record_take(scope, &record);
    if (st != NM_OK) return st;
    nm__arena *a = record;
    fill_in(a, o);
    a->holder.class = &arena_class;
    a->holder.scope = scope;
    a->holder.away = false;
    st = nm__arena_watch_open(a);
    if (st == NM_OK && o->contiguous) st = nm__arena_range_open(a);
    if (st != NM_OK) {
        nm__arena_watch_close(a);
        nm__record_give(scope, a);
        return st;
    }
    nm__holder_add(scope, &a->holder, NM__RECLAIM_NEVER);
    *out = a;
    return NM_OK;
}

nm_status nm_arena_open_at(nm_arena **out, nm_scope *scope, const nm_arena_options *options, const char *site) {
    (void)site;
    if (out == NULL) return NM_EINVAL;
    *out = NULL;
    nm_arena_options copy;
    const nm_arena_options *o = options;
    if (NM_UNLIKELY(o == NULL || o->struct_size != sizeof copy)) {
        copy = nm_arena_options_init();
        nm_status st = nm__options_read(&copy, sizeof copy, options);
        if (st != NM_OK) return st;
        o = &copy;
    }
    if (scope == NULL) return NM_EINVAL;
    if (o->block_bytes != 0 &&
        (o->block_bytes < NM__ARENA_BLOCK_FIRST_BYTES || o->block_bytes > NM__ARENA_BLOCK_MAX_BYTES))
        return NM_EINVAL;
    if (o->contiguous && o->capacity_bytes == 0) return NM_EINVAL;
    if (o->contiguous && o->capacity_bytes > NM__BYTES_MAX / 4) return NM_ETOOLARGE;

    nm__arena *a = o->secret || o->contiguous ? NULL : open_in_place(scope, o);
    if (a == NULL) {
        nm_status st = open_in_record(scope, o, &a);
        if (st != NM_OK) return st;
    }
    *out = &a->face;
    return NM_OK;
}

nm_status(nm_arena_open)(nm_arena **out, nm_scope *scope, const nm_arena_options *options) {
    return nm_arena_open_at(out, scope, options, "?");
}

/* From a deferred function the arena must not go away under its caller's feet. */
static bool in_deferred(const nm__arena *a, const char *what) {
    if (a->running) nm__arena_report(a, a->closed ? "arena used after its close" : what, a, NULL);
    return a->running;
}

void nm_arena_close(nm_arena *arena) {
    if (arena == NULL) return;
    nm__arena *a = nm__arena_of(arena);
    if (in_deferred(a, "arena closed by a function that was deferred in it")) return;
    give_all(a);
    if (a->watch != NULL && a->watch->holding && nm__arena_bury(a)) return;
    nm__arena_watch_close(a);
    nm__holder_remove(&a->holder);
    nm__holder_give_record(&a->holder, a);
}

/* In a quarantine there are no spares: the next round has other blocks. */
static void hold_chain(nm__arena *a) {
    size_t used = nm__arena_chain_bytes(a);
    while (a->block != NULL) nm__arena_give_block(a, nm__arena_pop_block(a));
    nm__arena_note_round(a, used);
    nm__arena_step_to(a, nm__arena_keep(a));
}

static void reset_slow(nm__arena *a) {
    if (in_deferred(a, "arena reset by a function that was deferred in it")) return;
    nm__arena_run_deferred(a, 0);
    if (a->watch != NULL) {
        nm__arena_sample_sync(a);
        nm__arena_log_rewind(a, 0);
        a->watch->rewound = NULL;
    }
    while (a->large != NULL) nm__arena_pop_large(a);
    if (a->watch != NULL && a->watch->holding) {
        hold_chain(a);
    } else if (a->block != NULL) {
        if (a->watched) nm__arena_undo_chain(a);
        nm__arena_block *b = a->block;
        size_t chain_bytes = a->granted_bytes - a->spare_bytes;
        nm__arena_note_round(a, chain_bytes - (size_t)(nm__arena_granted_end(b) - a->face.ptr));
        if (b != a->first) { /* the newest, which is mostly the largest, stays current; all others become spares */
            a->first->previous = a->spare;
            a->spare = b->previous;
            a->spare_bytes += chain_bytes - b->block.granted;
            b->previous = NULL;
            b->used_before = 0;
            a->first = b;
        }
        a->face.ptr = nm__arena_payload(b);
    }
    a->mark = NULL;
    a->easy_mark_id = a->mark_id;
    a->extra_bytes = 0;
    a->status = NM_OK;
    nm__arena_trim(a);
    nm__arena_settle(a);
}

void nm_arena_reset(nm_arena *arena) {
    nm__arena *a = nm__arena_of(arena);
    if (NM_UNLIKELY(a->ease == NM__RESET_HARD)) {
        reset_slow(a);
        return;
    }
    unsigned char *start = nm__arena_payload(a->block);
    if (a->ease == NM__RESET_EASY) {
        /* as in reset_slow; noted once: the slow path would note it again, which a maximum does not mind, but decay twice */
        size_t high = a->high_bytes;
        nm__arena_note_round(a, (size_t)(a->face.ptr - a->block->block.base));
        if (NM_UNLIKELY(nm__arena_is_excessive(a))) {
            a->high_bytes = high;
            reset_slow(a);
            return;
        }
    }
    a->face.ptr = start;
    a->mark = NULL;
    a->status = NM_OK;
    nm_atomic_store(&a->used_seen, 0, NM_RELAXED);
}

nm_status nm_arena_move(nm_arena *arena, nm_scope *to) {
    nm__arena *a = nm__arena_of(arena);
    if (to == NULL) return NM_EINVAL;
    if (a->running) return NM_EBUSY;
    if (a->watch != NULL && a->watch->guarding) nm__arena_log_check_all(a);
    return nm__holder_move(&a->holder, to, nm_arena_granted(arena));
}

/* ---- what it tells ----------------------------------------------------------------------------------------------- */

size_t nm_arena_used(const nm_arena *arena) { return nm__arena_used(nm__arena_of_const(arena)); }
size_t nm_arena_capacity(const nm_arena *arena) { return nm__arena_of_const(arena)->capacity_bytes; }
size_t nm_arena_granted(const nm_arena *arena) {
    const nm__arena *a = nm__arena_of_const(arena);
    return NM__RECORD_BYTES + a->granted_bytes + (a->watch != NULL ? a->watch->side_bytes : 0);
}
nm_status nm_arena_status(const nm_arena *arena) { return nm__arena_of_const(arena)->status; }

bool nm_arena_owns(const nm_arena *arena, const void *p) {
    const nm__arena *a = nm__arena_of_const(arena);
    uintptr_t at = (uintptr_t)p; /* numbers, for pointers into different objects do not compare */
    size_t bytes = nm__arena_chain_bytes(a);
    for (const nm__arena_block *b = a->block; b != NULL; b = b->previous) {
        if (at - (uintptr_t)nm__arena_payload(b) < bytes - b->used_before) return true;
        bytes = b->used_before;
    }
    for (const nm__arena_large *l = a->large; l != NULL; l = l->previous)
        if (at - (uintptr_t)l->data < l->bytes) return true;
    return false;
}
