// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Marks, rewinding to them, and deferred functions.
 *
 * A mark is believed only if its record is found in the arena's own chain of records, by address and number; what the
 * caller's mark points to is never read. So stale and foreign marks are found out in release builds, at the price of
 * a walk over the marks that lie above it. */
#include "arena/watch.h"

static size_t record_extra(const nm__arena *a) {
    return a->checked ? sizeof(nm__arena_checked_record) - sizeof(nm__arena_record) : 0;
}

static nm_mark push_mark(nm__arena *a) {
    unsigned char *p;
    nm_status st = nm__arena_place(a, sizeof(nm__arena_record), NM_ALIGN, record_extra(a), &p);
    if (st != NM_OK) {
        nm__arena_refuse(&a->face, st);
        return (nm_mark){NULL, 0};
    }
    nm__arena_record *r = (nm__arena_record *)(void *)p;
    if (a->checked) {
        nm__check_unpoison(p, sizeof(nm__arena_checked_record));
        nm__arena_checked_record *checked = (nm__arena_checked_record *)(void *)p;
        checked->extra_bytes = a->extra_bytes;
        checked->log_count = a->watch != NULL ? a->watch->log_count : 0;
    }
    r->previous = a->mark;
    r->id = a->mark_id++;
    a->mark = r;
    return (nm_mark){r, r->id};
}

/* The fast path of a mark. Where the record fits before `end` nothing else is to be done: an arena that is watched, running
 * or without a block has no room there. False: not here. */
static inline bool push_mark_fast(nm__arena *a, nm_mark *out) {
    unsigned char *p = a->face.ptr;
    if (NM_UNLIKELY((size_t)(a->face.end - p) < sizeof(nm__arena_record))) return false;
    nm__arena_record *r = (nm__arena_record *)(void *)p;
    uint64_t id = a->mark_id;
    r->previous = a->mark;
    r->id = id;
    a->mark_id = id + 1;
    a->mark = r;
    a->face.ptr = p + sizeof *r;
    *out = (nm_mark){r, id};
    return true;
}

static nm_mark mark_slow(nm__arena *a) {
    nm__arena_record *top = a->mark;
    /* Nothing since the last mark: the same one serves, so that a loop of mark and rewind does not grow the arena. What was
     * deferred since lies behind the record. */
    bool behind_top = top != NULL && a->face.ptr == (unsigned char *)top + sizeof *top + record_extra(a);
    if (a->watch != NULL && top != NULL && a->watch->rewound == top) behind_top = true;
    if (behind_top && !a->running && (a->large == NULL || a->large->mark_id < top->id)) return (nm_mark){top, top->id};
    return push_mark(a);
}

nm_mark nm_arena_mark(nm_arena *arena) {
    nm__arena *a = nm__arena_of(arena);
    nm__arena_record *top = a->mark;
    nm_mark mark;
    if ((uintptr_t)a->face.ptr - sizeof *top == (uintptr_t)top) /* numbers, for top may be NULL */
        return NM_LIKELY(top->id >= a->easy_mark_id) ? (nm_mark){top, top->id} : mark_slow(a);
    return NM_LIKELY(push_mark_fast(a, &mark)) ? mark : mark_slow(a);
}

void nm__arena_run_deferred(nm__arena *a, uint64_t mark_id) {
    if (a->deferred == NULL || a->deferred->mark_id < mark_id) return;
    /* They run while all memory is still there, and may read it. They may not change the arena that is being undone: it is
     * shut meanwhile, the inline path by `end`, the rest by the flag. */
    a->running = true;
    a->face.end = a->face.ptr;
    a->easy_mark_id = UINT64_MAX;
    a->ease = NM__RESET_HARD;
    while (a->deferred != NULL && a->deferred->mark_id >= mark_id) {
        nm__arena_deferred *d = a->deferred;
        a->deferred = d->previous;
        d->fn(d->arg);
    }
    a->running = false;
}

/* Undoes what came after the mark; `mark_too`: and the mark itself. */
static nm_status rewind_to(nm__arena *a, nm_mark mark, bool mark_too) {
    if (a->running) return NM_EBUSY;
    nm__arena_record *r = a->mark;
    while (r != NULL && ((void *)r != mark.record || r->id != mark.id)) r = r->previous;
    if (r == NULL) return NM_ESTALE;

    nm__arena_run_deferred(a, r->id);
    if (a->watch != NULL) {
        nm__arena_sample_sync(a);
        if (a->checked) nm__arena_log_rewind(a, ((nm__arena_checked_record *)(void *)r)->log_count);
    }
    bool holding = a->watch != NULL && a->watch->holding;
    while (a->large != NULL && a->large->mark_id >= r->id) nm__arena_pop_large(a);
    while (!nm__arena_in_block(a->block, r)) {
        nm__arena_block *b = nm__arena_pop_block(a);
        /* One spare is kept, the newest, for the next time round; memory after a peak goes back to the scope. */
        if (a->spare != NULL || holding) {
            nm__arena_give_block(a, b);
            continue;
        }
        b->previous = NULL;
        a->spare = b;
        a->spare_bytes = b->block.granted;
    }
    unsigned char *after = (unsigned char *)r + sizeof *r + record_extra(a);
    a->extra_bytes = a->checked ? ((nm__arena_checked_record *)(void *)r)->extra_bytes : 0;
    a->mark = r;
    a->easy_mark_id = r->id; /* it lies in the current block; the one before it need not */
    if (mark_too) {
        a->extra_bytes -= record_extra(a);
        a->mark = r->previous;
        after = (unsigned char *)r;
    }
    if (a->watched) nm__arena_undo(a, after, (size_t)(a->face.ptr - after));
    if (holding) { /* what was undone is not used again: it counts as a red zone does, until the block is undone */
        nm__arena_log_hole(a, after);
        a->extra_bytes += (size_t)(a->face.ptr - after);
        a->watch->rewound = a->mark == r ? r : NULL;
    } else {
        a->face.ptr = after;
    }
    nm__arena_settle(a);
    return NM_OK;
}

/* The fast path of a rewind: marks from easy_mark_id on lie in the current block and have nothing behind them but marks and
 * allocations there, so `ptr` moves and `end` stays right, for used and ptr fall by the same. */
static inline nm__arena_record *find_easy(const nm__arena *a, nm_mark mark) {
    if (NM_UNLIKELY(mark.id < a->easy_mark_id)) return NULL;
    nm__arena_record *r = a->mark;
    while (r != NULL && r->id > mark.id) r = r->previous;
    return NM_LIKELY(r != NULL && (void *)r == mark.record && r->id == mark.id) ? r : NULL;
}

nm_status nm_arena_rewind(nm_arena *arena, nm_mark mark) {
    nm__arena *a = nm__arena_of(arena);
    nm__arena_record *r = find_easy(a, mark);
    if (NM_UNLIKELY(r == NULL)) return rewind_to(a, mark, false);
    a->mark = r;
    a->face.ptr = (unsigned char *)(r + 1);
    return NM_OK;
}

/* A record of its own, even where nothing was allocated since the last mark: its end undoes the record too. */
nm__arena_temp nm__arena_temp_begin(nm_arena *arena) {
    nm__arena *a = nm__arena_of(arena);
    nm_mark mark;
    if (!push_mark_fast(a, &mark)) mark = push_mark(a);
    return (nm__arena_temp){.arena = arena, .mark = mark, .done = false};
}

/* A stale mark here means that the block's body reset the arena or rewound it past the block: it is undone already. */
void nm__arena_temp_end(nm__arena_temp *temp) {
    nm__arena *a = nm__arena_of(temp->arena);
    nm__arena_record *r = find_easy(a, temp->mark);
    if (NM_UNLIKELY(r == NULL)) {
        (void)rewind_to(a, temp->mark, true);
        return;
    }
    a->mark = r->previous;
    a->face.ptr = (unsigned char *)r;
}

nm_status nm_arena_defer(nm_arena *arena, void (*fn)(void *arg), void *arg) {
    nm__arena *a = nm__arena_of(arena);
    unsigned char *p;
    nm_status st = fn == NULL ? NM_EINVAL : nm__arena_place(a, sizeof(nm__arena_deferred), NM_ALIGN, 0, &p);
    if (st != NM_OK) {
        nm__arena_refuse(arena, st);
        return st;
    }
    if (a->checked) nm__check_unpoison(p, sizeof(nm__arena_deferred));
    nm__arena_deferred *d = (nm__arena_deferred *)(void *)p;
    *d = (nm__arena_deferred){.fn = fn, .arg = arg, .previous = a->deferred, .mark_id = nm__arena_newest_mark_id(a)};
    a->deferred = d;
    nm__arena_settle(a); /* once more: marks and resets are no longer easy */
    return NM_OK;
}
