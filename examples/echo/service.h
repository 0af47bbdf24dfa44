// SPDX-License-Identifier: Apache-2.0 OR MIT
/* echo: connections, and the few buffers that they share. */
#ifndef ECHO_SERVICE_H
#define ECHO_SERVICE_H

#include <nebula/memory.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Hard limit of a connection's session. An echo needs nothing but the note of the buffer that it holds. */
#define SERVICE_SESSION_BYTES ((size_t)4 << 10)

typedef struct connection {
    nm_scope *session; /* holds the buffer, and gives it back when it is closed */
    int fd;            /* -1: closed, and taken off the table at the end of the turn */
    nm_lease buffer;   /* held while there is something to echo; empty: idle */
    size_t filled, sent;
    uint64_t deadline_ns; /* of the buffer */
} connection;

typedef struct service_options {
    size_t connections, buffers, buffer_bytes, timeout_ms;
} service_options;

typedef struct service {
    nm_scope *root, *io, *sessions;
    nm_pool *buffers;
    int buffers_fd; /* readable when a buffer has come free after one was refused */
    service_options options;

    struct pollfd *fds; /* the service's own, then one for each connection, in their order */
    connection *connections;
    size_t count;
    size_t first;            /* who is looked at first in the next turn */
    bool starved;            /* a buffer was refused: nobody is read until one has come free */
    uint64_t accept_from_ns; /* no connections are taken before */

    size_t open_peak, accepted_count, refused_count; /* connections */
    size_t out_count, out_peak, timed_out_count;     /* buffers */
    uint64_t echoed_bytes, turn_count;
} service;

/* Opens scopes and pool. what_out: what failed, if it does not return NM_OK. */
nm_status service_open(service *s, const service_options *options, const char **what_out);
/* Until signal_fd is readable. 0, or what poll failed with. */
int service_run(service *s, int listen_fd, int signal_fd);
/* Closes all connections, prints what there was at most, and closes the tree. Returns the leaks. */
size_t service_close(service *s);

#endif
