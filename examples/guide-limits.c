// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The machine's limits, as docs/guide/scopes-and-arenas.md has them: a budget that is found out, and an event loop that gives
 * back when the system is short of memory, and now and then. */
#define _GNU_SOURCE
#include <errno.h>
#include <nebula/memory.h>
#include <poll.h>
#include <stdio.h>

/* One turn of an event loop; `listen_fd` stands for what else it waits for. */
static int turn(nm_scope *root, int listen_fd, uint64_t *maintain_ns) {
    struct pollfd fds[] = {{.fd = listen_fd, .events = POLLIN},
                           {.fd = nm_scope_pressure_fd(root), .events = POLLPRI}}; /* -1: poll skips it */
    struct timespec wait = {.tv_sec = (time_t)(*maintain_ns / 1000000000u),
                            .tv_nsec = (long)(*maintain_ns % 1000000000u)};
    int ready = ppoll(fds, 2, *maintain_ns != UINT64_MAX ? &wait : NULL, NULL);
    if (ready < 0) return errno == EINTR ? 0 : -1;

    if (fds[1].revents & POLLPRI) nm_scope_reclaim(root, 16 << 20); /* before the kernel has to choose */
    *maintain_ns = nm_scope_maintain(root);                         /* what is idle decays; when to come again */
    return fds[0].revents != 0;
}

int main(void) {
    nm_scope *root, *request;
    nm_arena *arena;
    nm_status st = nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = NM_BYTES_AUTO));
    if (st != NM_OK) {
        fprintf(stderr, "server: %s\n", nm_status_text(st));
        return 1;
    }
    nm_scope_stats stats;
    nm_scope_get_stats(root, &stats);
    printf("this process may have %zu MiB\n", stats.hard_bytes >> 20);
    if (stats.hard_bytes == 0 || stats.hard_bytes == NM_BYTES_AUTO) return 1;

    if (nm_scope_open(&request, root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)) != NM_OK) return 1;
    if (nm_arena_open(&arena, request, NULL) != NM_OK || nm_arena_alloc(arena, 1 << 20) == NULL) return 1;
    if (nm_scope_close(request, NULL) != 0) return 1;

    uint64_t maintain_ns = 0; /* the first turn does not wait */
    if (turn(root, -1, &maintain_ns) != 0) return 1;
    return nm_scope_close(root, NULL) == 0 ? 0 : 1;
}
