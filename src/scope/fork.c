// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What becomes of a tree of scopes in the child of a fork, where only the forking thread is left: it has a copy of all, and
 * may use its own scopes and those that are shared. What other threads were just charging stays charged, and a block that
 * one had in its hands is lost to the child. */
#include "scope/scope_internal.h"

static nm__root *root_of(nm__member *member) {
    return (nm__root *)(void *)((unsigned char *)member - offsetof(nm__root, member));
}

/* In the order in which they are taken elsewhere. */
static void before(nm__member *member) {
    nm__root *root = root_of(member);
    pthread_mutex_lock(&root->pressure);
    pthread_mutex_lock(&root->limits);
    pthread_mutex_lock(&root->tree);
    pthread_mutex_lock(&root->records);
    pthread_mutex_lock(&root->blocks.lock);
}

static void after(nm__member *member, bool in_child) {
    nm__root *root = root_of(member);
    if (in_child) {
        /* Reclaims by threads that are gone will not leave any more; and nobody sleeps. */
        for (nm__holder *h = root->reclaimable; h != NULL; h = h->reclaim_next) h->visitors = 0;
        pthread_cond_init(&root->visited, NULL);
    }
    pthread_mutex_unlock(&root->blocks.lock);
    pthread_mutex_unlock(&root->records);
    pthread_mutex_unlock(&root->tree);
    pthread_mutex_unlock(&root->limits);
    pthread_mutex_unlock(&root->pressure);
}

const nm__member_class nm__root_member_class = {.before_fork = before, .after_fork = after};
