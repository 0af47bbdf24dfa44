// SPDX-License-Identifier: Apache-2.0 OR MIT
/* echo-client: many connections at one time, each of which wants its own bytes back; for test.sh. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Small, so that a server whose client does not read is soon stuck with what it has to say. */
enum { RECEIVE_BYTES = 4096, PIECE_BYTES = 65536 };

typedef struct talk {
    int fd;
    size_t bytes, sent, received; /* of this round */
} talk;

typedef struct plan {
    size_t port, connections, bytes, rounds, pause_ms, idle, stalled, seconds;
} plan;

static double deadline;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what, size_t which, const char *why) {
    fprintf(stderr, "echo-client: %s %zu: %s\n", what, which, why);
    exit(1);
}

/* Each connection and round has bytes of its own. */
static unsigned char byte_at(size_t connection, size_t round, size_t at) {
    uint64_t x = (connection << 40) ^ (round << 32) ^ at;
    x *= UINT64_C(0x9e3779b97f4a7c15);
    return (unsigned char)(x >> 56);
}

static int connect_to(size_t port, size_t which) {
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int bytes = RECEIVE_BYTES;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) != 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        fail("connection", which, strerror(errno));
    return fd;
}

/* False: it is finished for now. */
static bool send_some(talk *t, size_t which, size_t round) {
    unsigned char piece[PIECE_BYTES];
    while (t->sent < t->bytes) {
        size_t n = t->bytes - t->sent < sizeof piece ? t->bytes - t->sent : sizeof piece;
        for (size_t i = 0; i < n; i++) piece[i] = byte_at(which, round, t->sent + i);
        ssize_t sent = send(t->fd, piece, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK) return true;
            fail("connection", which, strerror(errno));
        }
        t->sent += (size_t)sent;
    }
    return false;
}

static void receive_some(talk *t, size_t which, size_t round) {
    unsigned char piece[PIECE_BYTES];
    ssize_t n = recv(t->fd, piece, sizeof piece, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (n < 0) fail("connection", which, strerror(errno));
    if (n == 0) fail("connection", which, "closed before its echo was whole");
    for (ssize_t i = 0; i < n; i++)
        if (t->received + (size_t)i >= t->bytes || piece[i] != byte_at(which, round, t->received + (size_t)i))
            fail("connection", which, "these are not the bytes that were sent");
    t->received += (size_t)n;
}

/* All send first, as much as the system takes, and only then begin to read: meanwhile more of them have something to be
 * echoed than there are buffers. */
static void play_round(talk *talks, struct pollfd *fds, const plan *p, size_t first, size_t count, size_t round) {
    for (size_t i = 0; i < count; i++) {
        talk *t = &talks[first + i];
        t->sent = t->received = 0;
        t->bytes = p->bytes - p->bytes / 8 * (i % 5);
        (void)send_some(t, i, round);
    }
    if (p->pause_ms > 0) (void)poll(NULL, 0, (int)p->pause_ms);
    for (size_t left = count; left > 0;) {
        for (size_t i = 0; i < count; i++) {
            const talk *t = &talks[first + i];
            fds[i] = (struct pollfd){.fd = t->received < t->bytes ? t->fd : -1,
                                     .events = (short)(POLLIN | (t->sent < t->bytes ? POLLOUT : 0))};
        }
        if (now() > deadline) fail("round", round, "the time ran out");
        if (poll(fds, (nfds_t)count, 100) < 0) fail("round", round, strerror(errno));
        left = 0;
        for (size_t i = 0; i < count; i++) {
            talk *t = &talks[first + i];
            if ((fds[i].revents & POLLOUT) != 0) (void)send_some(t, i, round);
            if ((fds[i].revents & (POLLIN | POLLERR | POLLHUP)) != 0) receive_some(t, i, round);
            left += t->received < t->bytes;
        }
    }
}

/* Sends until nothing more is taken, and does not read: the server must be stuck with it. */
static void stall(talk *t, size_t which) {
    t->bytes = SIZE_MAX;
    for (int quiet = 0; quiet < 5;) { /* it goes on for a moment after the first time */
        size_t before = t->sent;
        (void)send_some(t, which, 0);
        quiet = t->sent == before ? quiet + 1 : 0;
        struct pollfd fd = {.fd = t->fd, .events = POLLOUT};
        (void)poll(&fd, 1, 20);
        if (now() > deadline) fail("stalled connection", which, "the server takes more and more without being read");
    }
}

/* What waits to be read, then the end: the server has closed. */
static void expect_close(talk *t, size_t which) {
    unsigned char piece[PIECE_BYTES];
    for (;;) {
        struct pollfd fd = {.fd = t->fd, .events = POLLIN};
        if (now() > deadline || poll(&fd, 1, 100) < 0) fail("connection", which, "is not closed by the server");
        if (fd.revents == 0) continue;
        ssize_t n = recv(t->fd, piece, sizeof piece, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && (errno == ECONNRESET || errno == EPIPE))) return;
        if (n < 0 && errno != EAGAIN) fail("connection", which, strerror(errno));
    }
}

/* The same, but nothing is read: that would make it one that does read. What it has sent and the server has not taken makes
 * the end a reset, which comes though there is something to be read before it. */
static void expect_reset(talk *t, size_t which) {
    struct pollfd fd = {.fd = t->fd};
    while ((fd.revents & (POLLERR | POLLHUP)) == 0)
        if (now() > deadline || poll(&fd, 1, 100) < 0) fail("stalled connection", which, "is not closed by the server");
}

static bool parse(int argc, char **argv, plan *p) {
    static const struct option known[] = {{"port", required_argument, NULL, 'p'},
                                          {"connections", required_argument, NULL, 'c'},
                                          {"bytes", required_argument, NULL, 'b'},
                                          {"rounds", required_argument, NULL, 'r'},
                                          {"pause-ms", required_argument, NULL, 'm'},
                                          {"idle", required_argument, NULL, 'i'},
                                          {"stalled", required_argument, NULL, 's'},
                                          {"seconds", required_argument, NULL, 't'},
                                          {0}};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        size_t n = optarg != NULL ? (size_t)strtoull(optarg, NULL, 10) : 0;
        switch (c) {
        case 'p': p->port = n; break;
        case 'c': p->connections = n; break;
        case 'b': p->bytes = n; break;
        case 'r': p->rounds = n; break;
        case 'm': p->pause_ms = n; break;
        case 'i': p->idle = n; break;
        case 's': p->stalled = n; break;
        case 't': p->seconds = n; break;
        default: return false;
        }
    }
    return optind == argc && p->port > 0 && p->port < 65536 && p->bytes > 0 &&
           p->connections + p->idle + p->stalled < 100000;
}

int main(int argc, char **argv) {
    plan p = {.connections = 1, .bytes = 1000, .rounds = 1, .seconds = 60};
    if (!parse(argc, argv, &p)) {
        fprintf(stderr,
                "usage: echo-client --port N [--connections N] [--bytes N] [--rounds N] [--idle N] [--stalled N] "
                "[--seconds N]\n");
        return 2;
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    deadline = now() + (double)p.seconds;
    size_t all = p.idle + p.stalled + p.connections;
    talk *talks = calloc(all, sizeof *talks);
    struct pollfd *fds = calloc(all, sizeof *fds);
    if (talks == NULL || fds == NULL) fail("memory for", all, "connections");

    for (size_t i = 0; i < all; i++) talks[i].fd = connect_to(p.port, i);
    for (size_t i = 0; i < p.stalled; i++) stall(&talks[p.idle + i], i);
    size_t first = p.idle + p.stalled, echoed = 0;
    for (size_t round = 0; round < p.rounds; round++) {
        play_round(talks, fds, &p, first, p.connections, round);
        for (size_t i = 0; i < p.connections; i++) echoed += talks[first + i].received;
    }
    /* Those that were quiet meanwhile are there, and are served. */
    plan one = {.bytes = 1};
    if (p.idle > 0) play_round(talks, fds, &one, 0, p.idle, p.rounds);
    for (size_t i = 0; i < p.stalled; i++) expect_reset(&talks[p.idle + i], i);
    /* One direction is closed; the server closes the other when it has echoed everything, so at once. */
    for (size_t i = 0; i < all; i++) {
        if (i >= p.idle && i < first) continue;
        if (shutdown(talks[i].fd, SHUT_WR) != 0) fail("connection", i, strerror(errno));
        expect_close(&talks[i], i);
    }
    printf(
        "echo-client: %zu connections, %zu rounds, %zu bytes, every echo as it was sent; %zu were idle, %zu stalled\n",
        p.connections, p.rounds, echoed, p.idle, p.stalled);
    for (size_t i = 0; i < all; i++) close(talks[i].fd);
    free(talks);
    free(fds);
    return 0;
}
