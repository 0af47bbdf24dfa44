// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The place for an arena in the own block of a request scope (ready.h has the picture).
 *
 * The block is charged to the request's ancestors as a whole, so only the request itself is charged for what its arena takes
 * of it: up to its own limits, to the byte. */
#include "scope/ready.h"

#define BLOCK_OFFSET ((size_t)2 * NM__RECORD_BYTES)

static nm_scope *scope_of(const unsigned char *block_base) {
    return (nm_scope *)(void *)(uintptr_t)(block_base - BLOCK_OFFSET);
}

/* All other blocks begin at a page. */
bool nm__is_placed(const nm__block *block) { return ((uintptr_t)block->base & (NM__PAGE_BYTES - 1)) == BLOCK_OFFSET; }

static void add_placed(nm_scope *s, size_t bytes) {
    /* one thread's; relaxed, for stats read it */
    nm_atomic_store(&s->placed, nm_atomic_load(&s->placed, NM_RELAXED) + (uint32_t)bytes, NM_RELAXED);
}

/* The bytes up to the next limit: the soft one, or, from there on, the hard one. */
static size_t quiet_room(const nm_scope *s) {
    size_t soft = nm_atomic_load(&s->soft, NM_RELAXED), limit = nm_atomic_load(&s->hard, NM_RELAXED);
    size_t granted = nm__granted(s);
    if (granted < soft) limit = soft;
    return granted < limit ? limit - granted : 0;
}

/* What is granted at a time of a limited budget: the arena is not the only one who may want it. */
#define STEP_SHARE       8
#define STEP_LEAST_BYTES ((size_t)2 << 10)
static size_t step_of(const nm_scope *s) {
    size_t hard = nm_atomic_load(&s->hard, NM_RELAXED);
    return hard == NM__UNLIMITED ? NM__UNLIMITED : nm__max(hard / STEP_SHARE, STEP_LEAST_BYTES);
}

bool nm__place_take(nm_scope *scope, size_t min_bytes, void **record, nm__block *block) {
    if (scope->block_order == 0 || nm_atomic_load(&scope->placed, NM_RELAXED) != 0) return false;
    if (NM_UNLIKELY((scope->debug | scope->sample_log2) != 0))
        return false; /* a watched arena has more than fits there */
    /* acquire: pairs with the release in nm__place_return; what the arena before did there is over */
    if (NM_UNLIKELY(nm_atomic_load(&scope->away, NM_ACQUIRE) != NM__AWAY_NOT)) return false;
    if (NM_UNLIKELY(nm_atomic_load(&scope->root->rare, NM_RELAXED) != 0)) return false;
    size_t all = ((size_t)1 << scope->block_order) - BLOCK_OFFSET, room = quiet_room(scope);
    if (room < NM__RECORD_BYTES + min_bytes) return false;
    size_t granted = nm__round_down(nm__min(nm__min(room - NM__RECORD_BYTES, step_of(scope)), all), NM_ALIGN);
    if (!nm__charge_own(scope, NM__RECORD_BYTES + granted)) return false;
    add_placed(scope, NM__RECORD_BYTES + granted);
    *record = (unsigned char *)scope + NM__PLACE_OFFSET;
    *block = (nm__block){.base = (unsigned char *)scope + BLOCK_OFFSET, .bytes = all, .granted = granted};
    return true;
}

static bool is_away(const nm_scope *s) { return nm_atomic_load(&s->away, NM_RELAXED) != NM__AWAY_NOT; }

static nm_status extend_away(nm_scope *owner, nm__block *block, size_t min_bytes) {
    nm_status st = nm__grant(owner, min_bytes, NM__GRANT_FULL, NULL);
    if (st == NM_OK) block->granted += min_bytes;
    return st;
}

nm_status nm__place_extend(nm_scope *owner, nm__block *block, size_t min_bytes) {
    nm_scope *s = scope_of(block->base);
    if (NM_UNLIKELY(is_away(s))) return extend_away(owner, block, min_bytes);
    size_t rest = block->bytes - block->granted, step = nm__max(step_of(s), block->granted);
    size_t more = nm__min(rest, nm__max(nm__min(quiet_room(s), step), min_bytes));
    more = nm__max(nm__round_down(more, NM_ALIGN), min_bytes);
    nm_status st = nm__grant_own(s, more);
    if (st == NM_EBUDGET && more > min_bytes) st = nm__grant_own(s, more = min_bytes);
    if (st != NM_OK) return st;
    add_placed(s, more);
    block->granted += more;
    nm__settle(s, NULL);
    return NM_OK;
}

void nm__place_give(nm_scope *owner, const nm__block *block) {
    nm_scope *s = scope_of(block->base);
    if (NM_UNLIKELY(is_away(s))) { /* the bytes stay where they are until the record comes back */
        nm__uncharge(owner, block->granted);
        return;
    }
    nm__uncharge_own(s, block->granted);
    add_placed(s, 0 - block->granted);
}

bool nm__place_give_record(nm_scope *owner, const void *record) {
    if (owner->block_order == 0 || (const unsigned char *)record != (unsigned char *)owner + NM__PLACE_OFFSET)
        return false;
    nm__uncharge_own(owner, NM__RECORD_BYTES);
    add_placed(owner, 0 - NM__RECORD_BYTES);
    return true;
}

void nm__place_leave(nm_scope *s) {
    pthread_mutex_lock(&s->root->tree);
    nm_atomic_store(&s->placed, 0, NM_RELAXED);
    nm_atomic_store(&s->away, NM__AWAY_OPEN, NM_RELAXED);
    pthread_mutex_unlock(&s->root->tree);
}

void nm__place_return(nm_scope *owner, void *record) {
    nm__root *root = owner->root;
    nm_scope *s = (nm_scope *)(void *)((unsigned char *)record - NM__PLACE_OFFSET);
    nm__uncharge(owner, NM__RECORD_BYTES);
    pthread_mutex_lock(&root->tree);
    bool closed = nm_atomic_load(&s->away, NM_RELAXED) == NM__AWAY_CLOSED;
    /* release: pairs with the acquire loads in nm__place_take and nm__ready_give */
    nm_atomic_store(&s->away, NM__AWAY_NOT, NM_RELEASE);
    pthread_mutex_unlock(&root->tree);
    if (closed) nm__blocks_give(&root->blocks, s, (size_t)1 << s->block_order);
}

nm__holder *nm__placed_holder(const nm_scope *s) {
    return (nm__holder *)(void *)((unsigned char *)(uintptr_t)s + NM__PLACE_OFFSET + NM__PLACE_HOLDER);
}
