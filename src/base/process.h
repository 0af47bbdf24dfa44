// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the process's events must reach: the end of a thread, and fork. */
#ifndef NM_SRC_BASE_PROCESS_H
#define NM_SRC_BASE_PROCESS_H

#include <stdbool.h>

typedef struct nm__member nm__member;

typedef struct nm__member_class {
    /* On the thread that ends, no lock held; the member does not leave meanwhile. NULL: not of interest. */
    void (*thread_ends)(nm__member *member);
    /* On the thread that forks: takes the locks that the child will need; gives them back; in the child also repairs what
     * threads that are gone there had in their hands. */
    void (*before_fork)(nm__member *member);
    void (*after_fork)(nm__member *member, bool in_child);
} nm__member_class;

/* Embedded in each root, pool and cache. */
struct nm__member {
    const nm__member_class *class;
    nm__member *newer, *older;
    unsigned visitors; /* threads that end, at work in it */
};

/* Before fork the youngest comes first: a pool's locks are taken before those of its root. No lock of a member is held. */
void nm__process_join(nm__member *member, const nm__member_class *class);
void nm__process_leave(nm__member *member); /* waits for threads that end, at work in it */

/* Whether the end of this thread will be told; it is from now on. */
bool nm__process_watch_thread(void);

#endif
