// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The service's memory: a tree of scopes, with sessions and requests in it. Knows nothing of HTTP but names.
 *
 *   process "server"                  hard 64 MiB
 *    +- service "io"                  the pool of I/O buffers; their number bounds the requests at work
 *    +- session "127.0.0.1:40312"     a connection
 *        +- request "POST /echo"      hard --request-bytes: an arena with the body and the answer, one leased buffer
 *
 * Threads: a service is shared; a session and its request belong to one thread at a time. */
#ifndef HTTP_REQUEST_SERVICE_H
#define HTTP_REQUEST_SERVICE_H

#include <nebula/memory.h>
#include <stdatomic.h>

#define SERVICE_ROOT_BYTES ((size_t)64 << 20)
#define SERVICE_IO_BYTES   ((size_t)16 << 10) /* of one buffer */

typedef struct service {
    nm_scope *root;
    nm_scope *io;
    nm_pool *buffers;
    size_t request_bytes; /* hard limit of a request */
    atomic_size_t request_count;
    atomic_size_t leak_count; /* found when sessions and requests closed */
} service;

/* On failure *what names the step that was refused, and nothing is left open. */
nm_status service_open(service *s, size_t request_bytes, size_t buffer_count, const char **what);
/* All sessions must be closed. Returns the leaks of the rest, which are logged; the report is the root's, with its peak. */
size_t service_close(service *s, nm_leak_report *report);

typedef struct session {
    service *service;
    nm_scope *scope;
    size_t request_count;
} session;

/* NULL: refused. `peer` is copied. */
session *session_open(service *s, const char *peer);
void session_close(session *closed); /* NULL is ignored */

typedef struct request {
    session *session;
    nm_scope *scope;
    nm_arena *arena;
    nm_lease buffer; /* held by the scope: input of unknown length gathers here, and /stats is printed into it */
    const char *method;
    const char *path;
    const char *format; /* of /stats; NULL if the client did not say */
    unsigned char *body;
    size_t body_bytes;
    size_t body_room;    /* bytes at `body` */
    size_t gathered;     /* bytes in the buffer that follow those at `body` */
    nm_status refused;   /* the first refusal: the rest of the body is dropped then */
    bool refused_by_own; /* it was the request's own limit, so the client asks too much; else we are short */
} request;

/* The session's next request; the strings are copied. NULL: no budget for it, or no I/O buffer. */
request *request_open(session *in, const char *method, const char *path, const char *format);
/* The client announced so many bytes: makes room for all of them at once. False: refused. */
bool request_expect(request *r, size_t bytes);
/* More of the body. After a refusal it is dropped. */
void request_add(request *r, const void *data, size_t bytes);
/* The body is complete. False: it was refused, see `refused`. */
bool request_end(request *r);
/* Closes the scope, and with it arena and lease; what leaked goes to the log. NULL is ignored. */
void request_close(request *r);

#endif
