// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A root's budget from what the system lets the process have, and word from the system when it was too much. */
#include "os/limits.h"

#include <errno.h>

#include "os/os.h"
#include "scope/scope_internal.h"

/* The share of the process's limit that is left to what is not the library's: the program's code, its stacks, what other
 * libraries allocate; and what the kernel charges to the group beside, page tables (a 512th), sockets, files it has cached
 * and cannot drop at once. A guess that suits a service whose memory is mostly here; others give bytes of their own. */
#define NM__AUTO_REST_SHARE 8

nm_status nm__hard_resolve(const nm_scope *parent, size_t *hard) {
    if (*hard != NM_BYTES_AUTO) return NM_OK;
    if (parent != NULL) return NM_EINVAL;
    size_t limit;
    if (!nm__memory_limit(&limit)) return NM_ESYSTEM;
    *hard = nm__max(limit - limit / NM__AUTO_REST_SHARE, NM_ROOT_MIN_BYTES);
    return NM_OK;
}

void nm__pressure_init(nm__root *root) {
    pthread_mutex_init(&root->pressure, NULL);
    root->pressure_fd = -1;
}

void nm__pressure_close(nm__root *root) {
    if (root->pressure_fd >= 0) nm__os_get()->close_file(root->pressure_fd);
    pthread_mutex_destroy(&root->pressure);
}

int nm_scope_pressure_fd(nm_scope *root) {
    if (root == NULL || root->parent != NULL) {
        errno = EINVAL;
        return -1;
    }
    nm__root *r = root->root;
    /* relaxed: a descriptor publishes no memory of ours */
    int fd = nm_atomic_load(&r->pressure_fd, NM_RELAXED);
    if (fd >= 0) return fd;
    pthread_mutex_lock(&r->pressure);
    fd = nm_atomic_load(&r->pressure_fd, NM_RELAXED);
    if (fd < 0) {
        fd = nm__pressure_open();
        nm_atomic_store(&r->pressure_fd, fd, NM_RELAXED);
    }
    pthread_mutex_unlock(&r->pressure);
    return fd;
}
