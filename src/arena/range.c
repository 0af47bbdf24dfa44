// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Memory of an arena's own, in ranges of addresses instead of blocks of the root's store: for contiguous arenas, which grow
 * in one range, and for secret ones, whose pages are marked: in a slab that blocks share each mark would split a mapping.
 * Committed and charged by whole pages. */
#include "arena/arena_internal.h"
#include "os/os.h"

/* Steps in which a contiguous arena grows: half of what it has, within these. */
#define STEP_MIN_BYTES ((size_t)64 << 10)
#define STEP_MAX_BYTES ((size_t)8 << 20)

/* A reset leaves this much above the high-water mark: to give back less is not worth the system call. */
#define TRIM_MIN_BYTES ((size_t)64 << 10)

/* Commits `want` more pages of the block, or `least`, whose refusal stands. */
static nm_status commit(nm__arena *a, nm__block *block, size_t least, size_t want) {
    nm_scope *scope = a->holder.scope;
    unsigned char *from = block->base + block->granted;
    size_t bytes = want;
    nm_status st = NM_EBUDGET;
    /* growth that can wait asks quietly: caches shall not evict for it */
    if (want > least) st = nm__range_commit(scope, from, want, NM__GRANT_QUIET, &a->holder);
    if (st == NM_OK) {
        nm__settle(scope, &a->holder);
    } else {
        bytes = least;
        st = nm__range_commit(scope, from, least, NM__GRANT_FULL, &a->holder);
        if (st != NM_OK) return st;
    }
    block->granted += bytes;
    return NM_OK;
}

static nm_status reserve(nm__arena *a, size_t bytes, nm__block *out) {
    void *base;
    nm_status st = nm__range_reserve(bytes, NM__PAGE_BYTES, &base);
    if (st != NM_OK) return st;
    /* A kernel that cannot leave pages out of core dumps is no reason to refuse. */
    if (a->secret) (void)nm__os_get()->keep_out_of_dumps(base, bytes);
    *out = (nm__block){.base = base, .bytes = bytes};
    return NM_OK;
}

nm_status nm__arena_range_take(nm__arena *a, size_t min_bytes, size_t want_bytes, nm__block *out) {
    if (min_bytes > NM__BYTES_MAX || want_bytes > NM__BYTES_MAX) return NM_ETOOLARGE;
    size_t least = nm__round_up(min_bytes, NM__PAGE_BYTES);
    size_t want = nm__round_up(nm__max(min_bytes, want_bytes), NM__PAGE_BYTES);
    nm_status st = reserve(a, want, out);
    if (st != NM_OK) return st;
    st = commit(a, out, least, want);
    if (st != NM_OK) nm__range_release(out->base, out->bytes);
    return st;
}

nm_status nm__arena_range_extend(nm__arena *a, nm__block *block, size_t min_bytes) {
    size_t rest = block->bytes - block->granted, least = nm__round_up(min_bytes, NM__PAGE_BYTES);
    if (least > rest) return NM_ETOOLARGE;
    size_t step = nm__round_up(nm__min(nm__max(block->granted / 2, STEP_MIN_BYTES), STEP_MAX_BYTES), NM__PAGE_BYTES);
    return commit(a, block, least, nm__min(rest, nm__max(least, step)));
}

void nm__arena_range_give(nm__arena *a, const nm__block *block) {
    /* unmapped, not decommitted: there is nothing that the system could refuse */
    nm__range_release(block->base, block->bytes);
    nm__outside_uncharge(a->holder.scope, block->granted);
}

/* ---- contiguous -------------------------------------------------------------------------------------------------- */

nm_status nm__arena_range_open(nm__arena *a) {
    /* where a checker watches, each allocation of at least 16 bytes has a red zone of 16 behind it */
    size_t payload = nm__round_up(a->capacity_bytes, NM_ALIGN) * (a->checked ? 2 : 1);
    nm__block block;
    nm_status st = reserve(a, nm__round_up(NM__ARENA_BLOCK_HEADER_BYTES + payload, NM__PAGE_BYTES), &block);
    if (st != NM_OK) return st;
    st = commit(a, &block, NM__PAGE_BYTES, NM__PAGE_BYTES);
    if (st != NM_OK) {
        nm__range_release(block.base, block.bytes);
        return st;
    }
    a->granted_bytes = block.granted;
    nm__arena_block *b = (nm__arena_block *)(void *)block.base;
    *b = (nm__arena_block){.block = block};
    if (a->checked) nm__check_poison(nm__arena_payload(b), b->block.granted - NM__ARENA_BLOCK_HEADER_BYTES);
    nm__arena_push_block(a, b);
    nm__arena_settle(a);
    return NM_OK;
}

void nm__arena_range_trim(nm__arena *a) {
    nm__block *block = &a->block->block;
    size_t keep = nm__round_up(nm__max(nm__arena_keep(a), NM__PAGE_BYTES), NM__PAGE_BYTES);
    if (block->granted < keep + TRIM_MIN_BYTES) return;
    size_t bytes = block->granted - keep;
    if (a->checked) nm__check_unpoison(block->base + keep, bytes);
    if (!nm__range_decommit(a->holder.scope, block->base + keep, bytes)) {
        if (a->checked) nm__check_poison(block->base + keep, bytes);
        return;
    }
    block->granted = keep;
    a->granted_bytes -= bytes;
}
