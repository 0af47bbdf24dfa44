// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The slow path: everything that happens when `end` is reached. */
#include "arena/watch.h"
#include "os/os.h"

void nm__arena_settle(nm__arena *a) {
    size_t used = nm__arena_used(a);
    unsigned char *ptr = a->face.ptr;
    if (a->block == NULL || a->every || a->running) {
        a->face.end = ptr;
    } else {
        size_t room = (size_t)(nm__arena_granted_end(a->block) - ptr);
        a->face.end = ptr + nm__min(room, a->capacity_bytes - used);
    }
    if (a->watch != NULL) nm__arena_sample_settle(a);
    uint64_t easy = a->easy_mark_id;
    if (a->block == NULL || a->watched || a->running) easy = UINT64_MAX;
    if (a->large != NULL && a->large->mark_id >= easy) easy = a->large->mark_id + 1;
    if (a->deferred != NULL && a->deferred->mark_id >= easy) easy = a->deferred->mark_id + 1;
    a->easy_mark_id = easy;
    bool hard = easy == UINT64_MAX || a->block != a->first || a->contiguous || a->large != NULL || a->deferred != NULL;
    a->ease = hard ? NM__RESET_HARD : nm__arena_is_tiny(a) ? NM__RESET_TINY : NM__RESET_EASY;
    /* relaxed: pairs with the load in arena_used_seen (arena.c); a figure for stats, which orders nothing */
    nm_atomic_store(&a->used_seen, used, NM_RELAXED);
}

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

nm__arena_block *nm__arena_pop_block(nm__arena *a) {
    nm__arena_block *b = a->block, *below = b->previous;
    size_t bytes = (size_t)(a->face.ptr - nm__arena_payload(b));
    if (a->watched) nm__arena_undo(a, nm__arena_payload(b), bytes);
    a->block = below;
    if (below == NULL) {
        a->first = NULL;
        a->face.ptr = nm__arena_nowhere(a);
    } else {
        a->face.ptr = nm__arena_payload(below) + (b->used_before - below->used_before);
    }
    b->used_before = bytes; /* for the quarantine */
    return b;
}

void nm__arena_push_block(nm__arena *a, nm__arena_block *b) {
    b->used_before = nm__arena_chain_bytes(a);
    b->previous = a->block;
    a->easy_mark_id = a->mark_id;
    a->block = b;
    if (a->first == NULL) a->first = b;
    a->face.ptr = nm__arena_payload(b);
}

void nm__arena_give(nm__arena *a, const nm__block *block) {
    nm__block copy = *block; /* it lies in what is given back */
    a->granted_bytes -= copy.granted;
    if (a->checked) nm__check_unpoison(copy.base, copy.granted);
    if (nm__arena_has_ranges(a))
        nm__arena_range_give(a, &copy);
    else
        nm__block_give(a->holder.scope, &copy);
}

static bool is_holding(const nm__arena *a) { return a->watch != NULL && a->watch->holding; }

void nm__arena_give_block(nm__arena *a, nm__arena_block *b) {
    if (is_holding(a))
        nm__arena_hold(a, b, b->used_before);
    else
        nm__arena_give(a, &b->block);
}

void nm__arena_give_spare(nm__arena *a) {
    nm__arena_block *b = a->spare;
    a->spare = b->previous;
    a->spare_bytes -= b->block.granted;
    nm__arena_give_block(a, b);
}

void nm__arena_step_to(nm__arena *a, size_t bytes) {
    size_t order = nm__min(nm__log2_ceil(bytes), nm__log2_floor(NM__ARENA_BLOCK_LAST_BYTES));
    a->step_order = (uint8_t)nm__max(a->first_order, order);
}

void nm__arena_trim(nm__arena *a) {
    if (a->contiguous) {
        nm__arena_range_trim(a);
        return;
    }
    if (!nm__arena_is_excessive(a) || nm__arena_is_tiny(a)) return;
    size_t keep = nm__arena_keep(a);
    while (a->spare != NULL &&
           (a->granted_bytes - a->spare->block.granted >= keep || a->spare->block.granted / 3 > keep))
        nm__arena_give_spare(a);
    if (a->block == NULL || a->block->block.granted / 4 <= keep) return;
    /* The last block of a spike. The next round begins with one that is large enough for it. */
    nm__arena_give_block(a, nm__arena_pop_block(a));
    nm__arena_step_to(a, keep);
}

void nm__arena_pop_large(nm__arena *a) {
    nm__arena_large *l = a->large;
    a->large = l->previous;
    a->large_bytes -= l->bytes;
    if (!is_holding(a)) {
        if (a->watched) nm__arena_undo(a, l->data, l->bytes);
        nm__arena_give(a, &l->block);
        return;
    }
    /* In the quarantine it is a block like all others, its padding and red zone filled too. */
    nm__block block = l->block;
    nm__arena_block *b = (nm__arena_block *)(void *)block.base;
    size_t filled = (size_t)(l->data + l->bytes + nm__arena_red_zone(a) - nm__arena_payload(b));
    *b = (nm__arena_block){.block = block};
    nm__arena_undo(a, nm__arena_payload(b), filled);
    nm__arena_hold(a, b, filled);
}

/* Gives back what holds nothing: the spares, and the current block if nothing is in it, but not `keep`. False: there was no
 * such block. No request may be refused for want of memory that lies idle, least of all in the same arena. */
static bool drop_idle(nm__arena *a, const nm__block *keep) {
    bool any = a->spare != NULL;
    while (a->spare != NULL) nm__arena_give_spare(a);
    if (a->block != NULL && !a->contiguous && &a->block->block != keep && a->face.ptr == nm__arena_payload(a->block)) {
        nm__arena_give(a, &nm__arena_pop_block(a)->block);
        any = true;
    }
    if (a->watch != NULL && a->watch->holding) {
        any = nm__arena_release_held(a) || any;
        any = nm__arena_release_buried(a->holder.scope) || any;
    }
    if (any) nm__arena_settle(a);
    return any;
}

/* Takes back the grant of what the current block has not handed out: an allocation that goes elsewhere may need it more. The
 * block grows into it again when there is room. False: there was nothing. */
static bool shrink_tail(nm__arena *a, const nm__block *keep) {
    if (a->block == NULL || &a->block->block == keep || nm__arena_has_ranges(a)) return false;
    size_t tail = (size_t)(nm__arena_granted_end(a->block) - a->face.ptr);
    if (tail == 0) return false;
    /* unpoisoned, for the next owner of the block is told nothing of it */
    if (a->checked) nm__check_unpoison(a->face.ptr, tail);
    nm__block_shrink(a->holder.scope, &a->block->block, a->block->block.granted - tail);
    a->granted_bytes -= tail;
    nm__arena_settle(a);
    return true;
}

/* All that lies idle in the arena; the tail only where a limit is the reason. */
static bool give_up_idle(nm__arena *a, const nm__block *keep, size_t wanted) {
    bool any = drop_idle(a, keep);
    bool is_short = nm__room(a->holder.scope) < nm__round_up(wanted, NM__PAGE_BYTES) + NM__PAGE_BYTES;
    return (is_short && shrink_tail(a, keep)) || any;
}

static nm_status take_once(nm__arena *a, size_t min_bytes, size_t want_bytes, nm__block *out) {
    return nm__arena_has_ranges(a) ? nm__arena_range_take(a, min_bytes, want_bytes, out)
                                   : nm__block_take(a->holder.scope, min_bytes, want_bytes, out);
}

static nm_status extend_once(nm__arena *a, nm__block *block, size_t min_bytes) {
    return nm__arena_has_ranges(a) ? nm__arena_range_extend(a, block, min_bytes)
                                   : nm__block_extend(a->holder.scope, block, min_bytes);
}

static nm_status take(nm__arena *a, size_t min_bytes, size_t want_bytes, nm__block *out) {
    nm_scope *scope = a->holder.scope;
    /* before the scope looks for room elsewhere: caches shall not evict, nor hooks run, for what lies idle here */
    if (a->spare != NULL && nm__room(scope) < min_bytes) (void)drop_idle(a, NULL);
    if (nm__own_room(scope) < min_bytes) (void)shrink_tail(a, NULL);
    nm_status st = take_once(a, min_bytes, want_bytes, out);
    if (st != NM_OK && give_up_idle(a, NULL, min_bytes)) st = take_once(a, min_bytes, want_bytes, out);
    if (st != NM_OK) return st;
    a->granted_bytes += out->granted;
    if (a->checked) nm__check_poison(out->base, out->granted);
    return NM_OK;
}

nm_status nm__arena_extend(nm__arena *a, nm__block *block, size_t min_bytes) {
    nm_scope *scope = a->holder.scope;
    if (a->spare != NULL && nm__room(scope) < min_bytes) (void)drop_idle(a, block);
    size_t before = block->granted;
    nm_status st = extend_once(a, block, min_bytes);
    if (st != NM_OK && give_up_idle(a, block, min_bytes)) st = extend_once(a, block, min_bytes);
    if (st != NM_OK) return st;
    a->granted_bytes += block->granted - before;
    if (a->checked) nm__check_poison(block->base + before, block->granted - before);
    return NM_OK;
}

/* ---- placing ----------------------------------------------------------------------------------------------------- */

/* Hands out what begins at p, in the current block. */
static void advance(nm__arena *a, unsigned char *p, size_t size, size_t extra, unsigned char **out) {
    a->face.ptr = p + size + extra;
    a->extra_bytes += extra;
    nm__arena_settle(a);
    *out = p;
}

static unsigned char *align_up(unsigned char *p, size_t align) { return p + (-(uintptr_t)p & (align - 1)); }

/* A block of its own: the current one stays as it is, and so does the size of the next. */
static nm_status place_large(nm__arena *a, size_t size, size_t align, size_t extra, unsigned char **out) {
    /* base is a multiple of a page: the first multiple of `align` behind the header is not further away than that */
    size_t bytes = nm__round_up(NM__ARENA_LARGE_HEADER_BYTES, align) + size + extra;
    nm__block block;
    nm_status st = take(a, bytes, bytes, &block);
    if (st != NM_OK) return st;
    nm__arena_large *l = (nm__arena_large *)(void *)block.base;
    if (a->checked) nm__check_unpoison(l, sizeof *l);
    *l = (nm__arena_large){
        .block = block,
        .previous = a->large,
        .data = align_up(block.base + NM__ARENA_LARGE_HEADER_BYTES, align),
        .bytes = size,
        .mark_id = nm__arena_newest_mark_id(a),
    };
    a->large = l;
    a->large_bytes += size;
    nm__arena_settle(a);
    *out = l->data;
    return NM_OK;
}

/* The next block of the chain: a spare that has the room, else a new one. */
static nm_status place_next(nm__arena *a, size_t size, size_t align, size_t extra, size_t left, unsigned char **out) {
    size_t min_bytes = nm__round_up(NM__ARENA_BLOCK_HEADER_BYTES, align) + size + extra;
    nm__arena_block **link = &a->spare, *b = NULL;
    while (*link != NULL && (*link)->block.granted < min_bytes) link = &(*link)->previous;
    if (*link != NULL) {
        b = *link;
        *link = b->previous;
        a->spare_bytes -= b->block.granted;
    } else {
        size_t want = nm__arena_step(a);
        /* a small capacity needs no large block */
        if (!a->checked && left < want) want = nm__min(want, NM__ARENA_BLOCK_HEADER_BYTES + left);
        nm__block block;
        nm_status st = take(a, min_bytes, nm__max(min_bytes, want), &block);
        if (st != NM_OK) return st;
        b = (nm__arena_block *)(void *)block.base;
        if (a->checked) nm__check_unpoison(b, sizeof *b);
        *b = (nm__arena_block){.block = block};
        if (nm__arena_step(a) < NM__ARENA_BLOCK_LAST_BYTES) a->step_order++;
    }
    nm__arena_push_block(a, b);
    advance(a, align_up(a->face.ptr, align), size, extra, out);
    return NM_OK;
}

nm_status nm__arena_place(nm__arena *a, size_t size, size_t align, size_t extra, unsigned char **out) {
    if (a->running) return NM_EBUSY;
    if (a->watch != NULL) {
        nm__arena_sample_sync(a);
        a->watch->rewound = NULL;
    }
    size_t left = a->capacity_bytes - nm__arena_used(a);
    if (size > left) return NM_ECAPACITY;

    nm__arena_block *b = a->block;
    if (b != NULL) {
        unsigned char *p = a->face.ptr;
        size_t pad = -(uintptr_t)p & (align - 1);
        size_t room = (size_t)(b->block.base + b->block.bytes - p);
        if (pad <= left - size && pad <= room && size + extra <= room - pad) {
            size_t granted = (size_t)(nm__arena_granted_end(b) - p);
            if (pad + size + extra > granted) {
                nm_status st = nm__arena_extend(a, &b->block, pad + size + extra - granted);
                if (st != NM_OK) return st;
            }
            advance(a, p + pad, size, extra, out);
            return NM_OK;
        }
    }

    if (a->contiguous) return NM_ECAPACITY; /* the range has room for the capacity: only padding can be too much */

    /* padding counts as used in the chain but not in a block of its own, where a capacity that is nearly full has room */
    size_t padded = size + (align > NM_ALIGN ? align : 0);
    size_t limit = nm__max(nm__arena_step(a), NM__ARENA_LARGE_STEP_MIN_BYTES) / 4;
    if (padded > limit || padded > left) return place_large(a, size, align, extra, out);
    return place_next(a, size, align, extra, left, out);
}

/* ---- what the inline path calls ---------------------------------------------------------------------------------- */

void *nm__arena_refuse(nm_arena *arena, nm_status why) {
    nm__arena *a = nm__arena_of(arena);
    if (a->status == NM_OK) a->status = why;
    return NULL;
}

static void *alloc_slow(nm__arena *a, size_t n, size_t align, const char *site) {
    if (a->closed)
        nm__misuse(&(nm_misuse){
            .what = "arena used after its close", .part = "arena", .name = a->name, .address = a, .site = site});
    if (!nm__is_power_of_two(align) || align > NM__ARENA_ALIGN_MAX) return nm__arena_refuse(&a->face, NM_EINVAL);
    if (n > NM__BYTES_MAX) return nm__arena_refuse(&a->face, NM_ETOOLARGE);
    nm_status st = a->watch != NULL ? nm__arena_watch_before(a) : NM_OK;
    if (st != NM_OK) return nm__arena_refuse(&a->face, st);
    unsigned char *p;
    st = nm__arena_place(a, nm__arena_size(n), nm__max(align, NM_ALIGN), nm__arena_red_zone(a), &p);
    if (st != NM_OK) {
        if (a->watch != NULL) nm__arena_log_trim(a);
        return nm__arena_refuse(&a->face, st);
    }
    if (a->checked) nm__check_unpoison(p, n);
    if (a->watch != NULL) nm__arena_watch_after(a, p, n, site);
    return p;
}

nm__arena_piece nm__arena_alloc_slow(nm_arena *arena, size_t n, size_t align, const char *site) {
    void *data = alloc_slow(nm__arena_of(arena), n, align, site);
    return (nm__arena_piece){data, arena->ptr};
}
