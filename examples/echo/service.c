// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The poll loop. A connection holds a buffer from the moment that it has sent something until all of that is echoed: so the
 * buffers bound the requests at work, and connections that are quiet cost none. */
#include "service.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FD_SIGNAL, FD_LISTENER, FD_BUFFERS, FD_FIRST };

#define ACCEPTS_A_TURN        64 /* so that those who are here are served meanwhile */
#define ACCEPT_PAUSE_NS       UINT64_C(100000000)
#define NS_PER_MS             UINT64_C(1000000)
#define SESSION_PARENTS_BYTES ((size_t)512) /* what a session costs above its own scope: its header */

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 * NS_PER_MS + (uint64_t)now.tv_nsec;
}

nm_status service_open(service *s, const service_options *options, const char **what_out) {
    *s = (service){.options = *options};
    /* the buffers, a 32nd for rounding, and the pool's own pages */
    size_t io_bytes =
        options->buffers * (options->buffer_bytes + options->buffer_bytes / 32 + 64) + ((size_t)256 << 10);
    size_t sessions_bytes = options->connections * (SERVICE_SESSION_BYTES + SESSION_PARENTS_BYTES);
    size_t own_bytes = ((size_t)1 << 20) + options->connections * (sizeof(struct pollfd) + sizeof(connection));

    *what_out = "root scope";
    nm_status st = nm_scope_open(&s->root, NULL,
                                 NM_SCOPE_OPTIONS(.name = "echo", .hard_bytes = io_bytes + sessions_bytes + own_bytes));
    if (st != NM_OK) return st;

    *what_out = "scope \"sessions\"";
    st = nm_scope_open(&s->sessions, s->root, NM_SCOPE_OPTIONS(.name = "sessions", .hard_bytes = sessions_bytes));
    if (st == NM_OK) {
        *what_out = "scope \"io\"";
        st = nm_scope_open(&s->io, s->root, NM_SCOPE_OPTIONS(.name = "io", .hard_bytes = io_bytes));
    }
    if (st == NM_OK) {
        *what_out = "pool";
        st = nm_pool_open(
            &s->buffers, s->io,
            NM_POOL_OPTIONS(.name = "buffers", .chunk_bytes = options->buffer_bytes, .max_count = options->buffers));
    }
    if (st == NM_OK) {
        /* Now, while there are descriptors to be had. */
        *what_out = "descriptor of the pool";
        s->buffers_fd = nm_pool_event_fd(s->buffers);
        if (s->buffers_fd < 0) st = NM_ESYSTEM;
    }
    nm_arena *arena = NULL;
    if (st == NM_OK) {
        *what_out = "table of connections";
        st = nm_arena_open(&arena, s->root, NM_ARENA_OPTIONS(.name = "table"));
    }
    if (st == NM_OK) {
        s->fds = NM_NEW_ARRAY(arena, struct pollfd, FD_FIRST + options->connections);
        s->connections = NM_NEW_ARRAY(arena, connection, options->connections);
        st = nm_arena_status(arena);
    }
    if (st != NM_OK) nm_scope_close(s->root, NULL);
    return st;
}

/* ---- one connection ------------------------------------------------------------------------------------------------ */

static void connection_open(service *s, int fd) {
    nm_scope *session;
    nm_status st =
        nm_scope_open(&session, s->sessions,
                      NM_SCOPE_OPTIONS(.name = "session", .kind = NM_SCOPE_SESSION, .hard_bytes = SERVICE_SESSION_BYTES,
                                       .held_limit_bytes = s->options.buffer_bytes));
    if (st != NM_OK) {
        s->refused_count++;
        close(fd);
        return;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* an echo waits for nothing */
    s->fds[FD_FIRST + s->count] = (struct pollfd){.fd = fd};
    s->connections[s->count++] = (connection){.session = session, .fd = fd};
    s->accepted_count++;
    if (s->count > s->open_peak) s->open_peak = s->count;
}

/* The buffer, if it holds one, goes back with the session. */
static void connection_close(service *s, connection *c) {
    if (nm_lease_ok(c->buffer)) s->out_count--;
    nm_scope_close(c->session, NULL);
    close(c->fd);
    c->fd = -1;
}

static void connection_idle(service *s, connection *c) {
    nm_lease_release(&c->buffer);
    s->out_count--;
}

/* As much of the echo as the connection takes now. */
static void connection_send(service *s, connection *c) {
    while (c->sent < c->filled) {
        ssize_t n = send(c->fd, (char *)c->buffer.data + c->sent, c->filled - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EINTR) continue;
            if (errno != EAGAIN && errno != EWOULDBLOCK) connection_close(s, c);
            return;
        }
        c->sent += (size_t)n;
        s->echoed_bytes += (uint64_t)n;
    }
    connection_idle(s, c);
}

static void connection_receive(service *s, connection *c, uint64_t now) {
    nm_status st = nm_pool_lease_in(s->buffers, c->session, &c->buffer);
    if (st == NM_ECAPACITY) { /* all are out; what the client has sent can wait where it is */
        s->starved = true;
        return;
    }
    if (st != NM_OK) {
        s->refused_count++;
        connection_close(s, c);
        return;
    }
    if (++s->out_count > s->out_peak) s->out_peak = s->out_count;
    ssize_t n = recv(c->fd, c->buffer.data, c->buffer.size, 0);
    if (n > 0) {
        c->filled = (size_t)n;
        c->sent = 0;
        c->deadline_ns = now + s->options.timeout_ms * NS_PER_MS;
        connection_send(s, c);
    } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        connection_idle(s, c);
    } else {
        connection_close(s, c); /* the client has said all, and has got all of it back */
    }
}

/* True: it has done something. */
static bool connection_turn(service *s, connection *c, short events, uint64_t now) {
    bool echoing = nm_lease_ok(c->buffer);
    if (echoing && (events & (POLLOUT | POLLERR | POLLHUP)) != 0) {
        connection_send(s, c);
    } else if (echoing && now >= c->deadline_ns) { /* others want the buffer */
        s->timed_out_count++;
        connection_close(s, c);
    } else if (!echoing && (events & POLLIN) != 0 && !s->starved) {
        connection_receive(s, c, now);
    } else if (!echoing && (events & (POLLERR | POLLHUP)) != 0 && (events & POLLIN) == 0) {
        connection_close(s, c);
    } else {
        return false;
    }
    return true;
}

/* ---- the loop ------------------------------------------------------------------------------------------------------ */

static void accept_some(service *s, int listen_fd, uint64_t now) {
    for (int i = 0; i < ACCEPTS_A_TURN && s->count < s->options.connections; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            connection_open(s, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            s->accept_from_ns = now + ACCEPT_PAUSE_NS; /* the listener stays readable: do not turn in circles */
            return;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } /* else a connection that failed before it was taken: the next one */
    }
}

/* What is waited for; returns for how long, in milliseconds as poll wants them. */
static int prepare(service *s, int listen_fd, uint64_t now) {
    uint64_t idle_ns = nm_scope_maintain(s->root);
    uint64_t wait_ns = idle_ns;
    bool may_accept = s->count < s->options.connections && now >= s->accept_from_ns;
    if (now < s->accept_from_ns && s->accept_from_ns - now < wait_ns) wait_ns = s->accept_from_ns - now;
    s->fds[FD_LISTENER].fd = may_accept ? listen_fd : -1;
    s->fds[FD_BUFFERS].fd = s->starved ? s->buffers_fd : -1;
    for (size_t i = 0; i < s->count; i++) {
        const connection *c = &s->connections[i];
        bool echoing = nm_lease_ok(c->buffer);
        s->fds[FD_FIRST + i].events = echoing ? POLLOUT : s->starved ? 0 : POLLIN;
        if (!echoing) continue;
        uint64_t left = c->deadline_ns > now ? c->deadline_ns - now : 0;
        if (left < wait_ns) wait_ns = left;
    }
    if (wait_ns == UINT64_MAX) return -1;
    uint64_t wait_ms = wait_ns / NS_PER_MS + 1;
    return wait_ms < 60000 ? (int)wait_ms : 60000;
}

/* Begins behind the one that was served last, so that with few buffers everybody's turn comes. */
static void serve(service *s, uint64_t now) {
    size_t count = s->count, first = s->first < count ? s->first : 0;
    for (size_t i = 0; i < count; i++) {
        size_t at = (first + i) % count;
        if (connection_turn(s, &s->connections[at], s->fds[FD_FIRST + at].revents, now)) s->first = at + 1;
    }
    for (size_t i = 0; i < s->count;) {
        if (s->connections[i].fd >= 0) {
            i++;
            continue;
        }
        s->count--;
        s->connections[i] = s->connections[s->count];
        s->fds[FD_FIRST + i] = s->fds[FD_FIRST + s->count];
    }
}

int service_run(service *s, int listen_fd, int signal_fd) {
    for (int i = 0; i < FD_FIRST; i++) s->fds[i].events = POLLIN;
    s->fds[FD_SIGNAL].fd = signal_fd;
    for (;;) {
        int wait_ms = prepare(s, listen_fd, now_ns());
        if (poll(s->fds, (nfds_t)(FD_FIRST + s->count), wait_ms) < 0) {
            if (errno == EINTR) continue;
            return errno;
        }
        if (s->fds[FD_SIGNAL].revents != 0) return 0;
        /* It stays readable until the next refusal, so there is nothing to be read from it. */
        if (s->fds[FD_BUFFERS].fd >= 0 && s->fds[FD_BUFFERS].revents != 0) s->starved = false;
        uint64_t now = now_ns();
        s->turn_count++;
        serve(s, now);
        if (s->fds[FD_LISTENER].fd >= 0 && s->fds[FD_LISTENER].revents != 0) accept_some(s, listen_fd, now);
    }
}

size_t service_close(service *s) {
    for (size_t i = 0; i < s->count; i++) connection_close(s, &s->connections[i]);
    nm_pool_stats pool;
    nm_pool_get_stats(s->buffers, &pool);
    printf("echo: connections: %zu taken, %zu refused, %zu open at most\n", s->accepted_count, s->refused_count,
           s->open_peak);
    printf("echo: buffers: %zu of %zu out at most, %zu taken back after their time\n", s->out_peak, s->options.buffers,
           s->timed_out_count);
    printf("echo: pool \"%s\": %zu in memory, %zu leased, %zu bytes each, %zu bytes granted, %llu leases refused\n",
           pool.name, pool.total_count, pool.leased_count, pool.chunk_bytes, pool.granted_bytes,
           (unsigned long long)pool.refused_count);

    nm_leak_report report;
    nm_scope *const scopes[] = {s->io, s->sessions, s->root};
    size_t leaks = 0;
    for (size_t i = 0; i < sizeof scopes / sizeof scopes[0]; i++) {
        size_t found = nm_scope_close(scopes[i], &report);
        if (found > 0) nm_leak_report_print(&report, stderr);
        leaks += found;
    }
    printf("echo: closed: %llu bytes echoed in %llu turns, %zu leaks, peak %zu of %zu bytes\n",
           (unsigned long long)s->echoed_bytes, (unsigned long long)s->turn_count, leaks, report.peak_bytes,
           report.hard_bytes);
    return leaks;
}
