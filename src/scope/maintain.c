// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "scope/ready.h"

uint64_t nm_scope_maintain(nm_scope *root) {
    if (root == NULL) return UINT64_MAX;
    nm__root *all = root->root;
    bool due, any = false;
    uint64_t wait_ms = nm__blocks_decay(&all->blocks, &due);
    if (due) {
        any = nm__ready_decay(all);
        wait_ms = nm__blocks_decay(&all->blocks, &due); /* what no longer lies ready is idle now */
    } else {
        pthread_mutex_lock(&all->tree);
        any = all->readies != NULL;
        pthread_mutex_unlock(&all->tree);
    }
    if (wait_ms == UINT64_MAX && any) wait_ms = NM__DECAY_MS;
    return wait_ms == UINT64_MAX ? UINT64_MAX : wait_ms * 1000000u;
}
