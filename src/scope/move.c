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

/* NULL: charged. Else the scope whose limit refused, and nothing is charged. */
static nm_scope *charge_below(nm_scope *owner, const nm_scope *top, size_t bytes) {
    for (nm_scope *s = owner; s != top; s = s->parent) {
        if (nm__charge_one(s, bytes)) continue;
        for (nm_scope *done = owner; done != s; done = done->parent) nm__uncharge_one(done, bytes);
        return s;
    }
    for (nm_scope *s = owner; s != top; s = s->parent) nm__note_growth(s);
    return NULL;
}

nm_status nm__holder_move(nm__holder *holder, nm_scope *to, size_t bytes) {
    nm_scope *from = holder->scope;
    if (!nm__same_root(from, to)) return NM_EINVAL;
    if (from == to) return NM_OK;
    /* a grant of nothing along the whole path: a test's countdown (nm_scope_fail_after) counts the move as one */
    nm_status st = nm__grant(to, 0, NM__GRANT_FULL, holder);
    if (st != NM_OK) return st;

    const nm_scope *top = common_ancestor(from, to);
    nm_scope *refused = charge_below(to, top, bytes);
    for (int round = 0; refused != NULL && round < NM__GRANT_ROUNDS; round++) {
        if (!nm__try_room(refused, bytes, holder)) break;
        refused = charge_below(to, top, bytes);
    }
    if (refused != NULL) {
        nm__refused(refused);
        return NM_EBUDGET;
    }
    nm__holder_remove(holder);
    nm__holder_add(to, holder, (nm__reclaim_rank)holder->rank);
    for (nm_scope *s = from; s != top; s = s->parent) nm__uncharge_one(s, bytes);
    nm__settle(to, holder);
    return NM_OK;
}
