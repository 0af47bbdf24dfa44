// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "scope/ready.h"

/* Blocks and credit that lie ready are each at most a sixteenth of the nearest hard limit: together an eighth. */
#define READY_SHARE 16
/* No request block is larger than this part of it, */
#define READY_BLOCK_SHARE 64
/* nor than this part of a limit between the base and the request. */
#define BETWEEN_SHARE 8
/* Credit takes at most this part of the room that is left. */
#define CREDIT_ROOM_SHARE 8

static size_t block_bytes(const nm_scope *s) { return (size_t)1 << s->block_order; }

static nm_scope *base_of(nm_scope *parent) {
    while (!nm__is_shared(parent) && parent->parent != NULL) parent = parent->parent;
    return parent;
}

/* This thread's line; NULL if it has none yet. */
static nm__line *my_line(const nm__ready *ready, unsigned stripe) {
    /* acquire: pairs with the release in make_line; the line's slots are empty then */
    nm__line *record = nm_atomic_load(&ready->lines[stripe / NM__LINES_PER_RECORD], NM_ACQUIRE);
    return record != NULL ? record + stripe % NM__LINES_PER_RECORD : NULL;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

static size_t fitting_block(const nm_scope *base, size_t bytes) {
    size_t most = nm__limit(base) / READY_BLOCK_SHARE;
    while (bytes > NM__READY_BYTES_LEAST && bytes > most) bytes /= 2;
    return bytes <= most ? bytes : 0;
}

static void set_keep(nm__ready *ready) {
    size_t bytes = nm_atomic_load(&ready->block_bytes, NM_RELAXED);
    size_t most = nm__limit(ready->base) / READY_SHARE / bytes;
    nm_atomic_store(&ready->keep, (uint32_t)nm__min(most, (size_t)NM__STRIPES * NM__READY_SLOTS), NM_RELAXED);
}

static unsigned slots_of(const nm__ready *ready, unsigned stripe) {
    unsigned keep = nm_atomic_load(&ready->keep, NM_RELAXED);
    return keep / NM__STRIPES + (stripe < keep % NM__STRIPES);
}

static nm_status make_ready(nm_scope *base, size_t credit_bytes, nm__grant_mode mode) {
    nm__root *root = base->root;
    void *memory;
    nm_status st = nm__record_take_in(base, mode, &memory);
    if (st != NM_OK) return st;
    nm__ready *ready = memory;
    *ready = (nm__ready){.base = base, .credit_bytes = credit_bytes, .block_bytes = NM__READY_BYTES_LEAST};
    set_keep(ready);
    pthread_mutex_lock(&root->tree);
    bool first = base->ready == NULL;
    if (first) {
        ready->next = root->readies;
        if (ready->next != NULL) ready->next->previous = ready;
        root->readies = ready;
        /* release: pairs with the acquire loads of the fast paths; what it points to is complete */
        nm_atomic_store(&base->ready, ready, NM_RELEASE);
    }
    pthread_mutex_unlock(&root->tree);
    if (!first) nm__record_give(base, ready);
    return NM_OK;
}

static nm_status make_line(nm__ready *ready, unsigned stripe, nm__grant_mode mode) {
    void *memory;
    nm_status st = nm__record_take_in(ready->base, mode, &memory);
    if (st != NM_OK) return st;
    memset(memory, 0, NM__RECORD_BYTES);
    nm__line *none = NULL;
    /* release: pairs with the acquire in my_line */
    if (!nm_atomic_cas(&ready->lines[stripe / NM__LINES_PER_RECORD], &none, (nm__line *)memory, NM_RELEASE, NM_RELAXED))
        nm__record_give(ready->base, memory);
    return NM_OK;
}

static void link_block(nm__ready *ready, nm_scope *s) {
    s->previous_sibling = NULL;
    s->next_sibling = ready->first;
    if (s->next_sibling != NULL) s->next_sibling->previous_sibling = s;
    ready->first = s;
}

static void unlink_block(nm__ready *ready, nm_scope *s) {
    if (s->previous_sibling != NULL)
        s->previous_sibling->next_sibling = s->next_sibling;
    else
        ready->first = s->next_sibling;
    if (s->next_sibling != NULL) s->next_sibling->previous_sibling = s->previous_sibling;
}

static nm_scope *make_block(nm_scope *base) {
    nm__root *root = base->root;
    unsigned stripe = nm__thread_stripe();
    if (nm_atomic_load(&base->ready, NM_RELAXED) == NULL) {
        if (fitting_block(base, NM__READY_BYTES_LEAST) == 0) return NULL;
        if (make_ready(base, 0, NM__GRANT_QUIET) != NM_OK) return NULL;
    }
    nm__ready *ready = nm_atomic_load(&base->ready, NM_ACQUIRE);
    if (my_line(ready, stripe) == NULL && make_line(ready, stripe, NM__GRANT_QUIET) != NM_OK) return NULL;
    size_t bytes = fitting_block(base, nm_atomic_load(&ready->block_bytes, NM_RELAXED));
    nm__refusal why;
    if (bytes == 0 || !nm__charge(base, bytes, NM__GRANT_QUIET, &why)) return NULL;
    void *block;
    if (nm__blocks_take(&root->blocks, bytes, &block) != NM_OK) {
        nm__uncharge(base, bytes);
        return NULL;
    }
    memset(block, 0, 2 * NM__RECORD_BYTES);
    nm_scope *s = block;
    s->root = root;
    s->parent = base;
    s->block_order = (uint8_t)nm__log2_floor(bytes);
    pthread_mutex_lock(&root->tree);
    link_block(ready, s);
    pthread_mutex_unlock(&root->tree);
    set_keep(ready);
    return s;
}

/* Takes the block out of the list and gives it back; the tree lock is held. */
static size_t drop(nm__ready *ready, nm_scope *s) {
    size_t bytes = block_bytes(s);
    unlink_block(ready, s);
    nm__blocks_give(&ready->base->root->blocks, s, bytes);
    nm__uncharge_all(ready->base, bytes);
    return bytes;
}

/* ---- taking and giving ------------------------------------------------------------------------------------------- */

static nm_scope *take_slot(nm__line *line) {
    for (unsigned i = 0; i < NM__READY_SLOTS; i++) {
        if (nm_atomic_load(&line->slot[i], NM_RELAXED) == NULL) continue;
        /* acquire: pairs with the release in put_slot; what the last owner left in the block is seen */
        nm_scope *s = nm_atomic_exchange(&line->slot[i], NULL, NM_ACQUIRE);
        if (s != NULL) return s;
    }
    return NULL;
}

static bool put_slot(nm__line *line, unsigned slots, nm_scope *s) {
    for (unsigned i = 0; i < slots; i++) {
        nm_scope *none = NULL;
        /* release: pairs with the acquire in take_slot */
        if (nm_atomic_load(&line->slot[i], NM_RELAXED) == NULL &&
            nm_atomic_cas(&line->slot[i], &none, s, NM_RELEASE, NM_RELAXED))
            return true;
    }
    return false;
}

static void give_up(nm__ready *ready, nm_scope *s) {
    nm__root *root = s->root;
    pthread_mutex_lock(&root->tree);
    drop(ready, s);
    pthread_mutex_unlock(&root->tree);
}

/* A request's block is charged as a whole to the scopes between it and the base: to none that has no room for a few of them. */
static bool is_too_large(const nm_scope *parent, const nm_scope *base, const nm__ready *ready) {
    size_t bytes = ready != NULL ? nm_atomic_load(&ready->block_bytes, NM_RELAXED) : NM__READY_BYTES_LEAST;
    while (parent != base && nm_atomic_load(&parent->hard, NM_RELAXED) / BETWEEN_SHARE >= bytes)
        parent = parent->parent;
    return parent != base;
}

nm_scope *nm__ready_take(nm_scope *parent) {
    nm_scope *base = base_of(parent), *s = NULL;
    if (NM_UNLIKELY(nm_atomic_load(&base->root->rare, NM_RELAXED) != 0)) return NULL;
    /* acquire: pairs with the release in make_ready */
    nm__ready *ready = nm_atomic_load(&base->ready, NM_ACQUIRE);
    if (parent != base && is_too_large(parent, base, ready)) return NULL;
    nm__line *line = ready != NULL ? my_line(ready, nm__thread_stripe()) : NULL;
    if (NM_LIKELY(line != NULL)) s = take_slot(line);
    if (NM_UNLIKELY(s == NULL)) {
        s = make_block(base);
        if (s == NULL) return NULL;
        ready = base->ready;
    }
    if (parent != base) {
        if (!nm__charge_below(parent, base, block_bytes(s))) {
            give_up(ready, s);
            return NULL;
        }
        /* only the parent's thread writes it; relaxed, for stats read it */
        nm_atomic_store(&parent->child_count, nm_atomic_load(&parent->child_count, NM_RELAXED) + 1, NM_RELAXED);
    }
    nm_atomic_store(&s->parent, parent, NM_RELAXED);
    return s;
}

/* What the next blocks should hold, if this request needed more than its own. */
static void learn(nm__ready *ready, const nm_scope *s) {
    size_t peak = NM__RECORD_BYTES + nm_atomic_load(&s->peak, NM_RELAXED);
    if (NM_LIKELY(peak <= block_bytes(s))) return;
    size_t wanted = fitting_block(ready->base, nm__block_bytes(nm__min(peak, NM__READY_BYTES_MOST)));
    size_t most = nm__min(nm__limit(s->parent) / BETWEEN_SHARE, nm_atomic_load(&s->hard, NM_RELAXED) / 2);
    while (wanted > most) wanted /= 2;
    if (wanted <= nm_atomic_load(&ready->block_bytes, NM_RELAXED)) return;
    nm_atomic_store(&ready->block_bytes, wanted, NM_RELAXED);
    set_keep(ready);
}

/* What the options of the next request do not set. */
static void clear(nm_scope *s) {
    nm_atomic_store(&s->granted, 0, NM_RELAXED);
    nm_atomic_store(&s->peak, 0, NM_RELAXED);
    nm_atomic_store(&s->refused_count, 0, NM_RELAXED);
    nm_atomic_store(&s->refused_status, 0, NM_RELAXED);
    nm_atomic_store(&s->soft_count, 0, NM_RELAXED);
    nm_atomic_store(&s->over_soft, false, NM_RELAXED);
    nm_atomic_store(&s->placed, 0, NM_RELAXED);
    s->defers_ran = false;
}

/* The arena in it was moved to another scope: the block is that arena's then, and is given back when it closes. False: it has
 * closed meanwhile. */
static bool leave_behind(nm__ready *ready, nm_scope *s) {
    nm__root *root = s->root;
    pthread_mutex_lock(&root->tree);
    bool away = nm_atomic_load(&s->away, NM_RELAXED) != NM__AWAY_NOT;
    if (away) {
        nm_atomic_store(&s->away, NM__AWAY_CLOSED, NM_RELAXED);
        unlink_block(ready, s);
        nm__uncharge_all(ready->base, block_bytes(s));
    }
    pthread_mutex_unlock(&root->tree);
    return away;
}

void nm__ready_give(nm_scope *s, size_t used) {
    nm_scope *parent = s->parent, *base = base_of(parent);
    nm__ready *ready = nm_atomic_load(&base->ready, NM_RELAXED);
    size_t bytes = block_bytes(s);
    if (parent != base) {
        nm_atomic_store(&parent->child_count, nm_atomic_load(&parent->child_count, NM_RELAXED) - 1, NM_RELAXED);
        nm__uncharge_below(parent, base, bytes);
    }
    learn(ready, s);
    nm_atomic_store(&s->is_open, false, NM_RELEASE);
    clear(s);
    /* acquire: pairs with the release in nm__place_return */
    if (NM_UNLIKELY(nm_atomic_load(&s->away, NM_ACQUIRE) != NM__AWAY_NOT) && leave_behind(ready, s)) return;
    unsigned stripe = nm__thread_stripe();
    nm__line *line = my_line(ready, stripe);
    if (NM_LIKELY(bytes == nm_atomic_load(&ready->block_bytes, NM_RELAXED) && line != NULL &&
                  !nm_atomic_load(&ready->closing, NM_RELAXED))) {
        if (nm_atomic_load(&line->touched, NM_RELAXED) == 0) nm_atomic_store(&line->touched, 1, NM_RELAXED);
        if (nm_atomic_load(&line->used_peak, NM_RELAXED) < used)
            nm_atomic_store(&line->used_peak, (uint32_t)used, NM_RELAXED);
        if (put_slot(line, slots_of(ready, stripe), s)) return;
    }
    give_up(ready, s);
}

nm_scope *nm__ready_child(nm_scope *parent) {
    nm__root *root = parent->root;
    nm__ready *ready = base_of(parent)->ready;
    if (ready == NULL) return NULL;
    pthread_mutex_lock(&root->tree);
    nm_scope *s = ready->first;
    while (s != NULL && !(nm_atomic_load(&s->is_open, NM_ACQUIRE) && s->parent == parent)) s = s->next_sibling;
    pthread_mutex_unlock(&root->tree);
    return s;
}

/* ---- credit ------------------------------------------------------------------------------------------------------ */

static size_t credit_most(const nm__ready *ready) {
    return nm__min(ready->credit_bytes, nm__limit(ready->base) / READY_SHARE / NM__STRIPES / 2);
}

bool nm__credit_take(nm__ready *ready, size_t bytes) {
    nm__line *line = my_line(ready, nm__thread_stripe());
    if (line == NULL) return false;
    size_t have = nm_atomic_load(&line->credit, NM_RELAXED);
    while (have >= bytes)
        if (nm_atomic_cas_weak(&line->credit, &have, have - bytes, NM_RELAXED, NM_RELAXED)) return true;
    return false;
}

bool nm__credit_give(nm__ready *ready, size_t bytes) {
    nm__line *line = my_line(ready, nm__thread_stripe());
    if (line == NULL || nm_atomic_load(&ready->closing, NM_RELAXED)) return false;
    size_t most = 2 * credit_most(ready), have = nm_atomic_load(&line->credit, NM_RELAXED);
    while (have <= most && bytes <= most - have)
        if (nm_atomic_cas_weak(&line->credit, &have, have + bytes, NM_RELAXED, NM_RELAXED)) return true;
    return false;
}

void nm__credit_refill(nm__ready *ready) {
    nm__line *line = my_line(ready, nm__thread_stripe());
    size_t bytes = credit_most(ready);
    nm__refusal why;
    /* Where room is short, credit would take what was just made free for somebody else. Elastic: nor is credit ever the
     * reason why a soft limit is crossed. */
    if (line == NULL || bytes == 0 || nm__room(ready->base) / CREDIT_ROOM_SHARE < bytes) return;
    if (!nm__charge_all(ready->base, bytes, NM__GRANT_ELASTIC, &why)) return;
    nm_atomic_add(&line->credit, bytes, NM_RELAXED);
    nm_atomic_store(&line->touched, 1, NM_RELAXED);
}

/* ---- giving up --------------------------------------------------------------------------------------------------- */

static size_t recall_line(nm__ready *ready, nm__line *line, size_t wanted) {
    size_t freed = nm_atomic_exchange(&line->credit, 0, NM_RELAXED);
    if (freed > 0) nm__uncharge_all(ready->base, freed);
    for (unsigned i = 0; i < NM__READY_SLOTS && freed < wanted; i++) {
        if (nm_atomic_load(&line->slot[i], NM_RELAXED) == NULL) continue;
        nm_scope *s = nm_atomic_exchange(&line->slot[i], NULL, NM_ACQUIRE);
        if (s != NULL) freed += drop(ready, s);
    }
    return freed;
}

static size_t recall(nm__ready *ready, size_t wanted) {
    size_t freed = 0;
    for (unsigned stripe = 0; stripe < NM__STRIPES && freed < wanted; stripe++) {
        nm__line *line = my_line(ready, stripe);
        if (line != NULL) freed += recall_line(ready, line, wanted - freed);
    }
    return freed;
}

size_t nm__ready_recall(nm_scope *below, size_t wanted) {
    nm__root *root = below->root;
    size_t freed = 0;
    pthread_mutex_lock(&root->tree);
    for (nm__ready *r = root->readies; r != NULL && freed < wanted; r = r->next)
        if (nm__is_below(r->base, below)) freed += recall(r, wanted - freed);
    pthread_mutex_unlock(&root->tree);
    return freed;
}

void nm__ready_limits_changed(nm_scope *below) {
    nm__root *root = below->root;
    pthread_mutex_lock(&root->tree);
    for (nm__ready *r = root->readies; r != NULL; r = r->next) {
        if (!nm__is_below(r->base, below)) continue;
        recall(r, SIZE_MAX);
        size_t bytes = fitting_block(r->base, nm_atomic_load(&r->block_bytes, NM_RELAXED));
        if (bytes != 0) nm_atomic_store(&r->block_bytes, bytes, NM_RELAXED);
        set_keep(r);
    }
    pthread_mutex_unlock(&root->tree);
}

bool nm__ready_decay(nm__root *root) {
    bool any = false;
    pthread_mutex_lock(&root->tree);
    for (nm__ready *r = root->readies; r != NULL; r = r->next) {
        size_t used = 0;
        bool in_use = false;
        for (unsigned stripe = 0; stripe < NM__STRIPES; stripe++) {
            nm__line *line = my_line(r, stripe);
            if (line == NULL) continue;
            used = nm__max(used, nm_atomic_exchange(&line->used_peak, 0, NM_RELAXED));
            if (nm_atomic_exchange(&line->touched, 0, NM_RELAXED) == 0) {
                recall_line(r, line, SIZE_MAX);
                continue;
            }
            in_use = any = true;
        }
        size_t bytes = nm_atomic_load(&r->block_bytes, NM_RELAXED);
        if (in_use && bytes > NM__READY_BYTES_LEAST && used < bytes / 4) {
            nm_atomic_store(&r->block_bytes, bytes / 2, NM_RELAXED);
            set_keep(r);
        }
    }
    pthread_mutex_unlock(&root->tree);
    return any;
}

static size_t own_records(const nm__ready *ready) {
    size_t count = 1;
    for (unsigned stripe = 0; stripe < NM__STRIPES; stripe += NM__LINES_PER_RECORD)
        count += my_line(ready, stripe) != NULL;
    return count;
}

size_t nm__ready_credit(const nm_scope *top) {
    size_t bytes = 0;
    for (const nm__ready *r = top->root->readies; r != NULL; r = r->next) {
        bool here = nm__is_below(r->base, top);
        if (here) bytes += own_records(r) * NM__RECORD_BYTES;
        for (unsigned stripe = 0; stripe < NM__STRIPES && here; stripe++) {
            const nm__line *line = my_line(r, stripe);
            if (line != NULL) bytes += nm_atomic_load(&line->credit, NM_RELAXED);
        }
        for (const nm_scope *s = r->first; s != NULL; s = s->next_sibling) {
            /* acquire: pairs with the release that opens it; parent and placed are of this life or a later one */
            if (!nm_atomic_load(&s->is_open, NM_ACQUIRE))
                bytes += here ? block_bytes(s) : 0;
            else if (here || nm__is_below(nm_atomic_load(&s->parent, NM_RELAXED), top))
                bytes += block_bytes(s) - NM__RECORD_BYTES - nm_atomic_load(&s->placed, NM_RELAXED);
        }
    }
    return bytes;
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

nm_status nm__ready_open(nm_scope *base, size_t credit_bytes) {
    nm_status st = make_ready(base, credit_bytes, NM__GRANT_FULL);
    for (unsigned stripe = 0; st == NM_OK && stripe < NM__STRIPES; stripe += NM__LINES_PER_RECORD)
        st = make_line(base->ready, stripe, NM__GRANT_FULL);
    if (st != NM_OK && base->ready != NULL) {
        nm__ready_begin_close(base);
        nm__ready_end_close(base);
    }
    return st;
}

void nm__ready_begin_close(nm_scope *base) {
    nm__ready *ready = base->ready;
    if (ready == NULL) return;
    nm_atomic_store(&ready->closing, true, NM_RELAXED);
    pthread_mutex_lock(&base->root->tree);
    recall(ready, SIZE_MAX);
    pthread_mutex_unlock(&base->root->tree);
}

void nm__ready_end_close(nm_scope *base) {
    nm__ready *ready = base->ready;
    if (ready == NULL) return;
    nm__root *root = base->root;
    pthread_mutex_lock(&root->tree);
    recall(ready, SIZE_MAX);
    if (ready->previous != NULL)
        ready->previous->next = ready->next;
    else
        root->readies = ready->next;
    if (ready->next != NULL) ready->next->previous = ready->previous;
    base->ready = NULL;
    pthread_mutex_unlock(&root->tree);
    for (unsigned i = 0; i < NM__STRIPES / NM__LINES_PER_RECORD; i++)
        if (ready->lines[i] != NULL) nm__record_give(base, ready->lines[i]);
    nm__record_give(base, ready);
}
