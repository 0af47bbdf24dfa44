// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Waiting for a buffer, as docs/guide/pools.md has it: threads that sleep until one is free, and an event loop that does
 * not. */
#include <errno.h>
#include <nebula/memory.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s: not so: %s\n", NM_SITE, #what);                                                       \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

/* ---- in line ------------------------------------------------------------------------------------------------------- */

struct worker {
    pthread_t thread;
    nm_pool *pool;
    int jobs, late;
};

/* Four of them share two buffers. */
static void *work(void *arg) {
    struct worker *w = arg;
    while (w->jobs > 0) {
        nm_lease buffer;
        nm_status st = nm_pool_lease_wait(w->pool, &buffer, UINT64_C(5) * 1000 * 1000 * 1000);
        if (st == NM_ETIMEDOUT) {
            w->late++;
            continue;
        }
        if (st != NM_OK) break; /* none will come free: nobody has one */
        snprintf(buffer.data, buffer.size, "job %d", w->jobs--);
        nm_lease_release(&buffer); /* to the one who has waited longest */
    }
    return NULL;
}

static int in_line(nm_pool *pool) {
    struct worker workers[4];
    for (int i = 0; i < 4; i++) {
        workers[i] = (struct worker){.pool = pool, .jobs = 1000};
        CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_join(workers[i].thread, NULL) == 0);
        CHECK(workers[i].jobs == 0 && workers[i].late == 0);
    }
    return 0;
}

/* ---- in an event loop ---------------------------------------------------------------------------------------------- */

struct loop {
    nm_pool *pool;
    int socket_fd, buffers_fd; /* the second: nm_pool_event_fd */
    bool starved;
    nm_lease received; /* to be worked on */
};

/* One turn. While no buffer is to be had the socket is not read: what the peer has sent can wait where it is. */
static int turn(struct loop *l, int timeout_ms) {
    struct pollfd fds[] = {{.fd = l->starved ? -1 : l->socket_fd, .events = POLLIN}, /* -1: poll skips it */
                           {.fd = l->starved ? l->buffers_fd : -1, .events = POLLIN}};
    if (poll(fds, 2, timeout_ms) < 0) return errno == EINTR ? 0 : -1;
    if (fds[1].revents != 0) l->starved = false; /* a buffer has come free */
    if (fds[0].revents == 0) return 0;

    nm_status st = nm_pool_try_lease(l->pool, &l->received);
    if (st != NM_OK) {
        l->starved = true;
        return 0;
    }
    ssize_t n = read(l->socket_fd, l->received.data, l->received.size);
    if (n <= 0) nm_lease_release(&l->received);
    return n < 0 ? -1 : n > 0;
}

static int event_loop(nm_pool *pool) {
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    struct loop l = {.pool = pool, .socket_fd = ends[0], .buffers_fd = nm_pool_event_fd(pool)};
    CHECK(l.buffers_fd >= 0);

    nm_lease a = nm_pool_lease(pool), b = nm_pool_lease(pool); /* both of the pool's */
    CHECK(nm_lease_ok(a) && nm_lease_ok(b));
    CHECK(write(ends[1], "hello", 5) == 5);
    CHECK(turn(&l, 0) == 0 && l.starved);
    CHECK(turn(&l, 10) == 0 && l.starved); /* it sleeps, though there is something to read */
    nm_lease_release(&a);
    CHECK(turn(&l, 1000) == 0 && !l.starved);
    CHECK(turn(&l, 1000) == 1 && nm_lease_ok(l.received));

    nm_lease_release(&b);
    nm_lease_release(&l.received);
    close(ends[0]);
    close(ends[1]);
    return 0;
}

int main(void) {
    nm_scope *root;
    nm_pool *pool;
    CHECK(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 1 << 20)) == NM_OK);
    CHECK(nm_pool_open(&pool, root, NM_POOL_OPTIONS(.name = "rx", .chunk_bytes = 4096, .max_count = 2)) == NM_OK);
    CHECK(in_line(pool) == 0 && event_loop(pool) == 0);
    return nm_scope_close(root, NULL) == 0 ? 0 : 1;
}
