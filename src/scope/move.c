// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A holder goes from one scope to another of the same root, with all that it was granted.
 *
 * Only the scopes below the nearest common ancestor are charged and uncharged: that one and those above hold the bytes
 * before, meanwhile and afterwards, and a charge of the whole path would count them twice for a moment, and be refused
 * by an ancestor that is nearly full. For the same reason the root's `handed` does not change. */
#include "scope/scope_internal.h"

static size_t depth_of(const nm_scope *s) {
    size_t depth = 0;
    for (; s->parent != NULL; s = s->parent) depth++;
    return depth;
}

static const nm_scope *common_ancestor(const nm_scope *a, const nm_scope *b) {
    size_t depth_a = depth_of(a), depth_b = depth_of(b);
    for (; depth_a > depth_b; depth_a--) a = a->parent;
    for (; depth_b > depth_a; depth_b--) b = b->parent;
    while (a != b) {
        a = a->parent;
        b = b->parent;
    }
    return a;
}

/* NULL: nobody now. */
static nm_scope *without_room(nm_scope *owner, const nm_scope *top, size_t bytes) {
    nm_scope *s = owner;
    while (s != top && nm__room_at(s) >= bytes) s = s->parent;
    return s != top ? s : NULL;
}

/* As nm__grant, FULL, for the part of the path that lies below `top`. */
static nm_status grant_below(nm_scope *owner, const nm_scope *top, size_t bytes, const nm__holder *self) {
    for (int round = 0; !nm__charge_below(owner, top, bytes); round++) {
        nm_scope *refused = without_room(owner, top, bytes);
        if (refused == NULL && round < NM__GRANT_ROUNDS) continue;
        if (refused != NULL && round < NM__GRANT_ROUNDS && nm__try_room(refused, bytes, self)) continue;
        nm__refused(refused != NULL ? refused : owner);
        return NM_EBUDGET;
    }
    return NM_OK;
}

nm_status nm__holder_move(nm__holder *holder, nm_scope *to, size_t bytes) {
    nm_scope *from = holder->scope;
    if (!nm__same_root(from, to)) return NM_EINVAL;
    if (from == to) return NM_OK;
    /* a grant of nothing along the whole path: a test's countdown (nm_scope_fail_after) counts the move as one */
    nm_status st = nm__grant(to, 0, NM__GRANT_FULL, holder);
    if (st != NM_OK) return st;

    const nm_scope *top = common_ancestor(from, to);
    /* What lies in a request's own block is charged to the request's ancestors as a part of that block, which they hold until
     * the request closes: the new scope pays for it all the way up. */
    bool away = holder->placed;
    size_t placed = away ? nm_atomic_load(&from->placed, NM_RELAXED) : 0;
    if (away) st = nm__grant(to, placed, NM__GRANT_FULL, holder);
    if (st != NM_OK) return st;
    st = grant_below(to, top, bytes - placed, holder);
    if (st != NM_OK) {
        if (away) nm__uncharge(to, placed);
        return st;
    }
    nm__holder_remove(holder);
    nm__holder_add(to, holder, (nm__reclaim_rank)holder->rank);
    nm__uncharge_below(from, top, bytes - placed);
    if (away) {
        nm__uncharge_own(from, placed);
        nm__place_leave(from);
        holder->away = true;
    }
    nm__settle(to, holder);
    return NM_OK;
}

void nm__holder_give_record(nm__holder *holder, void *record) {
    if (holder->away)
        nm__place_return(holder->scope, record);
    else
        nm__record_give(holder->scope, record);
}
