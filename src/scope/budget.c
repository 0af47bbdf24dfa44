// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Charging bytes along the path to the root, and what happens when a limit is in the way. */
#include "scope/ready.h"

#ifndef NM__PLANT_SKIP_CHARGE
#define NM__PLANT_SKIP_CHARGE 0 /* a planted fault, for the law tests: every 64th charge skips the owner's parent */
#endif

/* ---- one scope --------------------------------------------------------------------------------------------------- */

static size_t ceiling(const nm_scope *s, nm__grant_mode mode) {
    size_t hard = nm__min(nm_atomic_load(&s->hard, NM_RELAXED), NM__BYTES_MAX);
    size_t soft = nm_atomic_load(&s->soft, NM_RELAXED);
    return mode == NM__GRANT_ELASTIC && soft != 0 ? nm__min(hard, nm__soft_rest(soft)) : hard;
}

static bool add(nm_scope *s, size_t bytes, nm__grant_mode mode) {
    /* acquire: pairs with the release that ends a change of limits (nm_scope_set_budget), so the limit read is the new one */
    size_t old = nm_atomic_load(&s->granted, NM_ACQUIRE);
    for (;;) {
        if ((old & NM__FROZEN) != 0) {
            pthread_mutex_lock(&s->root->limits);
            pthread_mutex_unlock(&s->root->limits);
            old = nm_atomic_load(&s->granted, NM_ACQUIRE);
            continue;
        }
        size_t limit = ceiling(s, mode), now = old & NM__GRANTED_MASK;
        if (now > limit || bytes > limit - now) return false;
        if (nm_atomic_cas_weak(&s->granted, &old, old + bytes, NM_ACQUIRE, NM_ACQUIRE)) return true;
    }
}

static void subtract(nm_scope *s, size_t bytes) {
    /* with the fault planted, what was not added cannot be taken away: the tests shall find the fault, not the wrap */
    if (NM__PLANT_SKIP_CHARGE) bytes = nm__min(bytes, nm__granted(s));
    /* relaxed: only the sum matters; memory itself changes hands under the locks of the stores */
    size_t now = (nm_atomic_sub(&s->granted, bytes, NM_RELAXED) - bytes) & NM__GRANTED_MASK;
    if (nm_atomic_load(&s->over_soft, NM_RELAXED) && now <= nm__soft_rest(nm_atomic_load(&s->soft, NM_RELAXED)))
        nm_atomic_store(&s->over_soft, false, NM_RELAXED);
}

/* Peak and soft crossing, once a charge is certain. */
void nm__note_growth(nm_scope *s) {
    size_t now = nm__granted(s);
    nm_atomic_raise(&s->peak, now);
    size_t soft = nm_atomic_load(&s->soft, NM_RELAXED);
    if (NM_LIKELY(soft == 0 || now <= soft)) return;
    if (nm_atomic_load(&s->over_soft, NM_RELAXED) || nm_atomic_exchange(&s->over_soft, true, NM_RELAXED)) return;
    nm_atomic_add(&s->soft_count, 1, NM_RELAXED);
    if (!nm_atomic_exchange(&s->soft_pending, true, NM_RELAXED)) nm_atomic_add(&s->root->crossings, 1, NM_RELAXED);
}

/* ---- the path ---------------------------------------------------------------------------------------------------- */

/* True if the scope's countdown reached its end with this grant. */
static bool count_down(nm_scope *s) {
    uint64_t left = nm_atomic_load(&s->fail_after, NM_RELAXED);
    while (left != 0)
        if (nm_atomic_cas_weak(&s->fail_after, &left, left - 1, NM_RELAXED, NM_RELAXED)) {
            if (left == 1) nm_atomic_sub(&s->root->rare, 1, NM_RELAXED);
            return left == 1;
        }
    return false;
}

static nm_scope *injected(nm_scope *owner) {
    for (nm_scope *s = owner; s != NULL; s = s->parent)
        if (count_down(s)) return s;
    return NULL;
}

static bool skips(const nm_scope *s, const nm_scope *owner) {
    static NM_ATOMIC(uint32_t) charges;
    if (!NM__PLANT_SKIP_CHARGE || s != owner->parent) return false;
    return nm_atomic_add(&charges, 1, NM_RELAXED) % 64 == 63;
}

static nm__ready *credit_of(const nm_scope *s) {
    /* acquire: pairs with the release that publishes it (ready.c) */
    nm__ready *ready = nm_atomic_load(&s->ready, NM_ACQUIRE);
    return ready != NULL && ready->credit_bytes != 0 ? ready : NULL;
}

/* Charges from owner up to, not including, `stop` (the root, or a scope whose credit pays). */
static bool charge_path(nm_scope *owner, const nm_scope *stop, size_t bytes, nm__grant_mode mode, nm__refusal *why) {
    for (nm_scope *s = owner; s != stop; s = s->parent) {
        if (skips(s, owner) || add(s, bytes, mode)) continue;
        for (nm_scope *done = owner; done != s; done = done->parent) subtract(done, bytes);
        *why = (nm__refusal){.at = s};
        return false;
    }
    for (nm_scope *s = owner; s != stop; s = s->parent) nm__note_growth(s);
    return true;
}

bool nm__charge_all(nm_scope *owner, size_t bytes, nm__grant_mode mode, nm__refusal *why) {
    if (!charge_path(owner, &owner->root->scope, bytes, mode, why)) return false;
    nm_atomic_add(&owner->root->handed, bytes, NM_RELAXED);
    return true;
}

void nm__uncharge_all(nm_scope *owner, size_t bytes) {
    nm_atomic_sub(&owner->root->handed, bytes, NM_RELAXED);
    for (nm_scope *s = owner; s->parent != NULL; s = s->parent) subtract(s, bytes);
}

bool nm__charge_below(nm_scope *owner, const nm_scope *base, size_t bytes) {
    nm__refusal why;
    return charge_path(owner, base, bytes, NM__GRANT_QUIET, &why);
}

void nm__uncharge_below(nm_scope *owner, const nm_scope *base, size_t bytes) {
    for (nm_scope *s = owner; s != base; s = s->parent) subtract(s, bytes);
}

bool nm__charge_own(nm_scope *s, size_t bytes) {
    if (!add(s, bytes, NM__GRANT_QUIET)) return false;
    nm__note_growth(s);
    return true;
}
void nm__uncharge_own(nm_scope *s, size_t bytes) { subtract(s, bytes); }

bool nm__charge(nm_scope *owner, size_t bytes, nm__grant_mode mode, nm__refusal *why) {
    nm__root *root = owner->root;
    if (NM_UNLIKELY(nm_atomic_load(&root->rare, NM_RELAXED) != 0)) {
        nm_scope *at = injected(owner);
        if (at != NULL) {
            *why = (nm__refusal){.at = at, .injected = true};
            return false;
        }
    }
    nm_scope *payer = owner;
    nm__ready *credit = NULL;
    while (payer->parent != NULL && (credit = credit_of(payer)) == NULL) payer = payer->parent;
    if (credit != NULL && nm__credit_take(credit, bytes)) {
        if (charge_path(owner, payer, bytes, mode, why)) return true;
        if (!nm__credit_give(credit, bytes)) nm__uncharge_all(payer, bytes);
        return false;
    }
    if (!nm__charge_all(owner, bytes, mode, why)) return false;
    if (credit != NULL) nm__credit_refill(credit);
    return true;
}

void nm__uncharge(nm_scope *owner, size_t bytes) {
    for (nm_scope *s = owner; s->parent != NULL; s = s->parent) {
        nm__ready *credit = credit_of(s);
        if (credit != NULL && nm__credit_give(credit, bytes)) {
            nm__uncharge_below(owner, s, bytes);
            return;
        }
    }
    nm__uncharge_all(owner, bytes);
}

bool nm__root_charge(nm__root *root, size_t bytes, nm__grant_mode mode) {
    nm_scope *s = &root->scope;
    if (!add(s, bytes, mode)) {
        size_t limit = ceiling(s, mode), granted = nm__granted(s);
        size_t room = granted < limit ? limit - granted : 0;
        if (bytes > room) nm__blocks_trim(&root->blocks, bytes - room);
        if (!add(s, bytes, mode)) return false;
    }
    nm__note_growth(s);
    return true;
}

void nm__root_uncharge(nm__root *root, size_t bytes) { subtract(&root->scope, bytes); }

static bool ledger_charge(void *context, size_t bytes) {
    nm__root *root = context;
    if (!add(&root->scope, bytes, NM__GRANT_QUIET)) return false;
    nm__note_growth(&root->scope);
    return true;
}
static void ledger_uncharge(void *context, size_t bytes) { nm__root_uncharge(context, bytes); }
static size_t ledger_committed(const void *context) { return nm__granted(&((const nm__root *)context)->scope); }
static size_t ledger_limit(const void *context) {
    return nm_atomic_load(&((const nm__root *)context)->scope.hard, NM_RELAXED);
}
const nm__ledger nm__root_ledger = {ledger_charge, ledger_uncharge, ledger_committed, ledger_limit, NULL};

/* ---- room -------------------------------------------------------------------------------------------------------- */

size_t nm__room_at(const nm_scope *s) {
    size_t hard = nm_atomic_load(&s->hard, NM_RELAXED);
    if (hard == NM__UNLIMITED) return NM__UNLIMITED;
    size_t granted = nm__granted(s);
    size_t room = granted < hard ? hard - granted : 0;
    return s->parent == NULL ? room + nm__blocks_idle_bytes(&s->root->blocks) : room;
}

size_t nm__own_room(const nm_scope *owner) {
    size_t hard = nm_atomic_load(&owner->hard, NM_RELAXED), granted = nm__granted(owner);
    return hard == NM__UNLIMITED ? NM__UNLIMITED : granted < hard ? hard - granted : 0;
}

size_t nm__room(const nm_scope *owner) {
    size_t room = NM__UNLIMITED;
    for (const nm_scope *s = owner; s != NULL; s = s->parent) room = nm__min(room, nm__room_at(s));
    return room;
}

size_t nm__limit(const nm_scope *owner) {
    size_t limit = NM__UNLIMITED;
    for (const nm_scope *s = owner; s != NULL; s = s->parent)
        limit = nm__min(limit, nm_atomic_load(&s->hard, NM_RELAXED));
    return limit;
}

bool nm__same_root(const nm_scope *a, const nm_scope *b) { return a->root == b->root; }

/* ---- granting ---------------------------------------------------------------------------------------------------- */

void nm__refused(nm_scope *at) { nm_atomic_add(&at->refused_count, 1, NM_RELAXED); }

/* Reclaims below `at`, and calls its hook if that was not enough. True: there is room now, or there was some progress. */
static bool make_room_at(nm_scope *at, size_t bytes, const nm__holder *self) {
    size_t room = nm__room_at(at);
    if (room >= bytes) return true;
    size_t freed = nm__reclaim(at, bytes - room, self);
    room = nm__room_at(at);
    if (room >= bytes) return true;
    nm__call_hook(at, bytes - room);
    return freed > 0 || nm__room_at(at) >= bytes;
}

static nm_scope *without_room(nm_scope *owner, size_t bytes) {
    nm_scope *s = owner;
    while (s != NULL && nm__room_at(s) >= bytes) s = s->parent;
    return s;
}

bool nm__try_room(nm_scope *owner, size_t bytes, const nm__holder *self) {
    nm_scope *s = without_room(owner, bytes);
    return s == NULL || make_room_at(s, bytes, self);
}

bool nm__make_room(nm_scope *owner, size_t bytes, const nm__holder *self) {
    nm_scope *s = without_room(owner, bytes);
    if (s == NULL || make_room_at(s, bytes, self)) return true;
    nm__refused(s);
    nm__refusal_note(owner, NM_EBUDGET, s, bytes);
    return false;
}

nm_status nm__grant(nm_scope *owner, size_t bytes, nm__grant_mode mode, const nm__holder *self) {
    nm__refusal why;
    if (bytes > NM__BYTES_MAX) return NM_ETOOLARGE;
    for (int round = 0; !nm__charge(owner, bytes, mode, &why); round++) {
        bool again = mode == NM__GRANT_FULL && !why.injected && round < NM__GRANT_ROUNDS;
        if (!again || !make_room_at(why.at, bytes, self)) {
            /* a quiet caller makes room itself and asks again: nm__make_room counts */
            if (mode == NM__GRANT_FULL || why.injected) {
                nm__refused(why.at);
                nm__refusal_note(owner, NM_EBUDGET, why.at, bytes);
            }
            return NM_EBUDGET;
        }
    }
    return NM_OK;
}

nm_status nm__grant_own(nm_scope *s, size_t bytes) {
    for (int round = 0; !nm__charge_own(s, bytes); round++)
        if (round == NM__GRANT_ROUNDS || !make_room_at(s, bytes, NULL)) {
            nm__refused(s);
            nm__refusal_note(s, NM_EBUDGET, s, bytes);
            return NM_EBUDGET;
        }
    return NM_OK;
}

nm_status nm__root_grant(nm__root *root, size_t bytes, nm__grant_mode mode, const nm__holder *self) {
    for (int round = 0; !nm__root_charge(root, bytes, mode); round++) {
        bool again = mode == NM__GRANT_FULL && round < NM__GRANT_ROUNDS;
        if (!again || !make_room_at(&root->scope, bytes, self)) {
            if (mode == NM__GRANT_FULL) nm__refused(&root->scope);
            return NM_EBUDGET;
        }
    }
    return NM_OK;
}

void nm__settle(nm_scope *scope, const nm__holder *self) {
    if (NM_LIKELY(nm_atomic_load(&scope->root->crossings, NM_RELAXED) == 0)) return;
    for (nm_scope *s = scope; s != NULL; s = s->parent) {
        if (!nm_atomic_load(&s->soft_pending, NM_RELAXED)) continue;
        if (!nm_atomic_exchange(&s->soft_pending, false, NM_RELAXED)) continue;
        nm_atomic_sub(&s->root->crossings, 1, NM_RELAXED);
        size_t soft = nm_atomic_load(&s->soft, NM_RELAXED), rest = nm__soft_rest(soft), now = nm__granted(s);
        if (now > rest) nm__reclaim(s, now - rest, self);
        now = nm__granted(s);
        nm__call_hook(s, now > soft ? now - soft : 0);
    }
}
