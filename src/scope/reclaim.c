// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Asking the elastic holders below a scope to give back, and the scope's hook. */
#include "scope/ready.h"

/* A visitor keeps a holder in the list while the lock is down: its close waits. */
static size_t visit(nm__root *root, nm__holder *holder, size_t wanted) {
    holder->visitors++;
    pthread_mutex_unlock(&root->tree);
    size_t freed = holder->class->reclaim(holder, wanted);
    pthread_mutex_lock(&root->tree);
    if (--holder->visitors == 0 && holder->leaving) pthread_cond_broadcast(&root->visited);
    return freed;
}

size_t nm__reclaim(nm_scope *below, size_t wanted, const nm__holder *self) {
    nm__root *root = below->root;
    bool of_root = below->parent == NULL;
    size_t freed = of_root ? nm__blocks_trim(&root->blocks, wanted) : 0;
    if (freed < wanted) {
        size_t ready = nm__ready_recall(below, wanted - freed);
        /* what lay ready is now idle, which for the root is only half the way */
        freed += of_root ? nm__blocks_trim(&root->blocks, ready) : ready;
    }
    pthread_mutex_lock(&root->tree);
    for (uint8_t rank = NM__RECLAIM_POOL; rank <= NM__RECLAIM_CACHE && freed < wanted; rank++)
        for (nm__holder *h = root->reclaimable; h != NULL && freed < wanted; h = h->reclaim_next)
            if (h->rank == rank && h != self && !h->leaving && nm__is_below(h->scope, below))
                freed += visit(root, h, wanted - freed);
    pthread_mutex_unlock(&root->tree);
    return freed;
}

void nm__call_hook(nm_scope *scope, size_t wanted) {
    if (scope->on_pressure == NULL || nm_atomic_exchange(&scope->hook_running, true, NM_ACQUIRE)) return;
    scope->on_pressure(scope, wanted, scope->context);
    /* release: pairs with the exchange above; one run of the hook sees what the one before it wrote */
    nm_atomic_store(&scope->hook_running, false, NM_RELEASE);
}

size_t nm_scope_reclaim(nm_scope *scope, size_t wanted_bytes) {
    return scope != NULL && wanted_bytes > 0 ? nm__reclaim(scope, wanted_bytes, NULL) : 0;
}

/* For an arena in the scope's own block: it is in no list, so no lock is needed. */
void nm__holder_place(nm_scope *scope, nm__holder *holder, const nm__holder_class *class) {
    /* Written once in the block's life: whoever reads stats may look at it while the next request opens. */
    if (nm_atomic_load(&holder->class, NM_RELAXED) != class) nm_atomic_store(&holder->class, class, NM_RELEASE);
    holder->scope = scope;
    holder->rank = NM__RECLAIM_NEVER;
    holder->placed = true;
    holder->away = false;
}

void nm__holder_add(nm_scope *scope, nm__holder *holder, nm__reclaim_rank rank) {
    nm__root *root = scope->root;
    holder->scope = scope;
    holder->rank = (uint8_t)rank;
    holder->leaving = false;
    holder->placed = false;
    holder->visitors = 0;
    holder->previous = holder->reclaim_previous = holder->reclaim_next = NULL;
    pthread_mutex_lock(&root->tree);
    holder->next = scope->holders;
    if (scope->holders != NULL) scope->holders->previous = holder;
    scope->holders = holder;
    if (rank != NM__RECLAIM_NEVER) {
        holder->reclaim_next = root->reclaimable;
        if (root->reclaimable != NULL) root->reclaimable->reclaim_previous = holder;
        root->reclaimable = holder;
    }
    pthread_mutex_unlock(&root->tree);
}

void nm__holder_remove(nm__holder *holder) {
    nm_scope *scope = holder->scope;
    nm__root *root = scope->root;
    if (holder->placed) return; /* it leaves with its record */
    pthread_mutex_lock(&root->tree);
    holder->leaving = true;
    while (holder->visitors != 0) pthread_cond_wait(&root->visited, &root->tree);
    if (holder->previous != NULL)
        holder->previous->next = holder->next;
    else
        scope->holders = holder->next;
    if (holder->next != NULL) holder->next->previous = holder->previous;
    if (holder->rank != NM__RECLAIM_NEVER) {
        if (holder->reclaim_previous != NULL)
            holder->reclaim_previous->reclaim_next = holder->reclaim_next;
        else
            root->reclaimable = holder->reclaim_next;
        if (holder->reclaim_next != NULL) holder->reclaim_next->reclaim_previous = holder->reclaim_previous;
    }
    pthread_mutex_unlock(&root->tree);
}
