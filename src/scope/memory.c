// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Memory for the holders: blocks, ranges of their own, and bytes that lie outside. Charged first, then committed. */
#include "check/check.h"
#include "os/os.h"
#include "scope/scope_internal.h"

nm_status nm__outside_charge(nm_scope *owner, size_t bytes, nm__grant_mode mode, const nm__holder *self) {
    nm_status st = nm__grant(owner, bytes, mode, self);
    if (st != NM_OK) return st;
    st = nm__root_grant(owner->root, bytes, mode, self);
    if (st != NM_OK) {
        if (mode == NM__GRANT_FULL) nm__refusal_note(owner, st, &owner->root->scope, bytes);
        nm__uncharge(owner, bytes);
        return st;
    }
    if (mode == NM__GRANT_FULL) nm__settle(owner, self);
    return NM_OK;
}

void nm__outside_uncharge(nm_scope *owner, size_t bytes) {
    nm__uncharge(owner, bytes);
    nm__root_uncharge(owner->root, bytes);
}

nm_status nm__range_reserve(size_t bytes, size_t align, void **out) {
    *out = NULL;
    if (bytes > NM__BYTES_MAX) return NM_ETOOLARGE;
    void *p = nm__os_get()->reserve(bytes, align);
    if (p == NULL) return NM_ENOMEM;
    *out = p;
    return NM_OK;
}

void nm__range_release(void *address, size_t bytes) { nm__os_get()->unreserve(address, bytes); }

nm_status nm__range_commit(nm_scope *owner, void *address, size_t bytes, nm__grant_mode mode, const nm__holder *self) {
    nm_status st = nm__outside_charge(owner, bytes, mode, self);
    if (st != NM_OK) return st;
    if (!nm__os_get()->commit(address, bytes)) {
        nm__outside_uncharge(owner, bytes);
        nm__refusal_note(owner, NM_ENOMEM, NULL, bytes);
        return NM_ENOMEM;
    }
    /* The addresses may have been poisoned in another life, before they went back to the system. */
    nm__check_unpoison(address, bytes);
    return NM_OK;
}

bool nm__range_decommit(nm_scope *owner, void *address, size_t bytes) {
    if (!nm__os_get()->decommit(address, bytes)) return false;
    nm__outside_uncharge(owner, bytes);
    return true;
}

/* Shrinks what is asked for until a limit lets it through; the last try may be granted in part. */
static nm_status take_what_fits(nm_scope *owner, size_t min_bytes, size_t bytes, nm__block *out) {
    size_t least = nm__block_bytes(min_bytes);
    for (;;) {
        nm__refusal why;
        size_t granted = bytes;
        if (!nm__charge(owner, granted, NM__GRANT_QUIET, &why)) {
            if (why.injected) return NM_EBUDGET;
            granted = 0;
            if (bytes == least) {
                /* of the root `room` counts idle blocks too; what it cannot commit it refuses below */
                granted = nm__round_down(nm__min(nm__room(owner), bytes), NM_ALIGN);
                if (granted < min_bytes || !nm__charge(owner, granted, NM__GRANT_QUIET, &why)) return NM_EBUDGET;
            }
        }
        if (granted > 0) {
            void *base;
            nm_status st = nm__blocks_take(&owner->root->blocks, bytes, &base);
            if (st == NM_OK) {
                *out = (nm__block){.base = base, .bytes = bytes, .granted = granted};
                return NM_OK;
            }
            nm__uncharge(owner, granted);
            if (st != NM_EBUDGET) return st;
        }
        if (bytes == least) return NM_EBUDGET;
        bytes = bytes > NM__SLAB_BYTES ? least : nm__max(bytes / 2, least);
    }
}

nm_status nm__block_take(nm_scope *owner, size_t min_bytes, size_t want_bytes, nm__block *out) {
    if (min_bytes > NM__BYTES_MAX || want_bytes > NM__BYTES_MAX) return NM_ETOOLARGE;
    /* Charged are the pages that were asked for, not the power of two that serves them: the rest is the root's slack. */
    size_t asked = nm__round_up(nm__max(min_bytes, want_bytes), NM__PAGE_BYTES), bytes = nm__block_bytes(asked);
    nm__refusal why;
    nm_status st = NM_EBUDGET;
    for (int round = 0; round < 2; round++) {
        /* First whole; then, where reclaim does not make room for that, smaller. */
        if (nm__charge(owner, asked, NM__GRANT_QUIET, &why)) {
            void *base;
            st = nm__blocks_take(&owner->root->blocks, bytes, &base);
            if (st == NM_OK) {
                *out = (nm__block){.base = base, .bytes = bytes, .granted = asked};
                nm__settle(owner, NULL);
                return NM_OK;
            }
            nm__uncharge(owner, asked);
            if (st != NM_EBUDGET) {
                nm__refusal_note(owner, st, NULL, asked);
                return st;
            }
            why = (nm__refusal){.at = &owner->root->scope};
        }
        if (why.injected) {
            nm__refused(why.at);
            nm__refusal_note(owner, NM_EBUDGET, why.at, asked);
            return NM_EBUDGET;
        }
        size_t room = nm__room_at(why.at);
        size_t need = why.at->parent == NULL ? NM__ROOM_FOR_BLOCK(bytes) : asked;
        if (round == 0 && nm__reclaim(why.at, need > room ? need - room : need, NULL) == 0) break;
    }
    for (int round = 0; round < NM__GRANT_ROUNDS; round++) {
        st = take_what_fits(owner, min_bytes, bytes, out);
        if (st == NM_OK) {
            nm__settle(owner, NULL);
            return NM_OK;
        }
        /* nothing fits: the hook is the last resort */
        size_t least = nm__block_bytes(min_bytes);
        if (st != NM_EBUDGET || !nm__try_room(owner, nm__round_up(min_bytes, NM__PAGE_BYTES), NULL) ||
            !nm__try_room(&owner->root->scope, NM__ROOM_FOR_BLOCK(least), NULL))
            break;
    }
    if (st == NM_EBUDGET) nm__refused(why.at);
    nm__refusal_note(owner, st, st == NM_EBUDGET ? why.at : NULL, min_bytes);
    return st;
}

nm_status nm__block_extend(nm_scope *owner, nm__block *block, size_t min_bytes) {
    size_t rest = block->bytes - block->granted;
    if (min_bytes > rest) return NM_ETOOLARGE;
    if (nm__is_placed(block)) return nm__place_extend(owner, block, min_bytes);
    nm__refusal why;
    if (nm__charge(owner, rest, NM__GRANT_QUIET, &why)) {
        block->granted += rest;
        nm__settle(owner, NULL);
        return NM_OK;
    }
    size_t room = why.injected ? 0 : nm__round_down(nm__min(nm__room(owner), rest), NM_ALIGN);
    if (!why.injected && room >= min_bytes && nm__charge(owner, room, NM__GRANT_QUIET, &why)) {
        block->granted += room;
        nm__settle(owner, NULL);
        return NM_OK;
    }
    if (why.injected) {
        nm__refused(why.at);
        nm__refusal_note(owner, NM_EBUDGET, why.at, rest);
        return NM_EBUDGET;
    }
    nm_status st = nm__grant(owner, min_bytes, NM__GRANT_FULL, NULL);
    if (st != NM_OK) return st;
    block->granted += min_bytes;
    nm__settle(owner, NULL);
    return NM_OK;
}

void nm__block_shrink(nm_scope *owner, nm__block *block, size_t keep_bytes) {
    nm__block tail = {.base = block->base, .bytes = block->bytes, .granted = block->granted - keep_bytes};
    block->granted = keep_bytes;
    if (nm__is_placed(block))
        nm__place_give(owner, &tail);
    else
        nm__uncharge(owner, tail.granted);
}

void nm__block_give(nm_scope *owner, const nm__block *block) {
    if (nm__is_placed(block)) {
        nm__place_give(owner, block);
        return;
    }
    nm__blocks_give(&owner->root->blocks, block->base, block->bytes);
    nm__uncharge(owner, block->granted);
}
