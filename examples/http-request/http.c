// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Where libmicrohttpd's events open and close scopes:
 *
 *   connection started .......... session_open      its socket_context is the session
 *    +- first call of a request . request_open      its req_cls is the request
 *    +- calls with upload data .. request_add
 *    +- last call ............... route, answer queued: libmicrohttpd sends from the request's memory
 *    +- request completed ....... request_close     sent, or the client is gone
 *   connection closed ........... session_close
 *
 * All events of one connection come from one thread at a time, as scopes of kind session and request want it. */
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <strings.h>

#include "routes.h"

#define CONNECTIONS_MAX  256u
#define IDLE_SECONDS_MAX 30u

struct http {
    struct MHD_Daemon *daemon;
    int poll_fd;
};

static void on_connection(void *cls, struct MHD_Connection *c, void **socket_context,
                          enum MHD_ConnectionNotificationCode code) {
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        session_close(*socket_context);
        *socket_context = NULL;
        return;
    }
    char peer[NM_NAME_BYTES] = "?";
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (info != NULL && info->client_addr->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)info->client_addr;
        char address[INET_ADDRSTRLEN] = "?";
        inet_ntop(AF_INET, &in->sin_addr, address, sizeof address);
        snprintf(peer, sizeof peer, "%s:%u", address, ntohs(in->sin_port));
    }
    *socket_context = session_open(cls, peer); /* NULL: its requests are answered 503 */
}

static session *session_of(struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

/* The announced length of the body; 0 if there is none or it is not known. libmicrohttpd has refused what is no number. */
static size_t announced_bytes(struct MHD_Connection *c) {
    const char *text = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    const char *coding = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING);
    return text != NULL && coding == NULL ? strtoull(text, NULL, 10) : 0;
}

static bool waits_for_100(struct MHD_Connection *c) {
    const char *text = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT);
    return text != NULL && strcasecmp(text, "100-continue") == 0;
}

static enum MHD_Result send_answer(struct MHD_Connection *c, answer a) {
    /* persistent: what the answer points to lives until on_completed closes the request */
    struct MHD_Response *response =
        MHD_create_response_from_buffer(a.bytes, (void *)(uintptr_t)a.data, MHD_RESPMEM_PERSISTENT);
    if (response == NULL) return MHD_NO;
    enum MHD_Result ok = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, a.type);
    if (ok == MHD_YES && a.allow != NULL) ok = MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, a.allow);
    if (ok == MHD_YES && a.status == 503) ok = MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    if (ok == MHD_YES) ok = MHD_queue_response(c, a.status, response);
    MHD_destroy_response(response);
    return ok;
}

/* MHD_NO ends the connection. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *path, const char *method,
                                  const char *version, const char *data, size_t *data_bytes, void **req_cls) {
    (void)cls, (void)version;
    request *r = *req_cls;
    if (r == NULL) {
        session *in = session_of(c);
        const char *format = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "format");
        if (in != NULL) r = request_open(in, method, path, format);
        if (r == NULL) return send_answer(c, answer_refused(NULL));
        *req_cls = r;
        /* A client that asked whether it may send is told at once. Another one is sending already: its body is read and
         * dropped, so that it gets its answer, and the connection lives on. */
        if (!request_expect(r, announced_bytes(c)) && waits_for_100(c)) return send_answer(c, answer_refused(r));
        return MHD_YES;
    }
    if (*data_bytes > 0) {
        request_add(r, data, *data_bytes);
        *data_bytes = 0;
        return MHD_YES;
    }
    return send_answer(c, request_end(r) ? route(r) : answer_refused(r));
}

static void on_completed(void *cls, struct MHD_Connection *c, void **req_cls, enum MHD_RequestTerminationCode why) {
    (void)cls, (void)c, (void)why;
    request_close(*req_cls);
    *req_cls = NULL;
}

static void on_log(void *cls, const char *format, va_list args) __attribute__((__format__(__printf__, 2, 0)));
static void on_log(void *cls, const char *format, va_list args) {
    (void)cls;
    flockfile(stderr);
    fputs("http-request: http: ", stderr);
    vfprintf(stderr, format, args);
    funlockfile(stderr);
}

http *http_open(service *s, uint16_t port, unsigned thread_count, const char **why) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    nm_arena *arena;
    http *h = nm_arena_open(&arena, s->root, NM_ARENA_OPTIONS(.name = "http")) == NM_OK ? NM_NEW(arena, http) : NULL;
    if (h == NULL) {
        *why = "no memory";
        return NULL;
    }
    /* Threads poll: with epoll a thread of libmicrohttpd 0.9.75 that gets 128 events at once waits for more before it
     * looks at them, for ever if they were its last connections closing. http_run does not wait. */
    unsigned flags = MHD_USE_ERROR_LOG | (thread_count > 0 ? MHD_USE_POLL_INTERNAL_THREAD : MHD_USE_EPOLL);
    struct MHD_OptionItem pool[] = {{MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)thread_count, NULL},
                                    {MHD_OPTION_END, 0, NULL}};
    if (thread_count <= 1) pool[0].option = MHD_OPTION_END;
    errno = 0;
    h->daemon = MHD_start_daemon(flags, port, NULL, NULL, on_request, s,            //
                                 MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,          //
                                 MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address, //
                                 MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,    //
                                 MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,   //
                                 MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,      //
                                 MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS_MAX, MHD_OPTION_STRICT_FOR_CLIENT, 1,
                                 MHD_OPTION_ARRAY, pool, MHD_OPTION_END);
    if (h->daemon == NULL) {
        *why = errno != 0 ? strerror(errno) : "libmicrohttpd did not start";
        nm_arena_close(arena);
        return NULL;
    }
    const union MHD_DaemonInfo *info =
        thread_count == 0 ? MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    h->poll_fd = info != NULL ? info->epoll_fd : -1;
    return h;
}

uint16_t http_port(const http *h) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT);
    return info != NULL ? info->port : 0;
}

int http_poll_fd(const http *h) { return h->poll_fd; }

int http_timeout_ms(const http *h) {
    MHD_UNSIGNED_LONG_LONG ms;
    if (h->poll_fd < 0 || MHD_get_timeout(h->daemon, &ms) != MHD_YES) return -1;
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

void http_run(http *h) { MHD_run(h->daemon); }

void http_close(http *h) { MHD_stop_daemon(h->daemon); } /* h itself lies in the root scope */
