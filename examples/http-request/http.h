// SPDX-License-Identifier: Apache-2.0 OR MIT
/* HTTP by libmicrohttpd, on 127.0.0.1 only. */
#ifndef HTTP_REQUEST_HTTP_H
#define HTTP_REQUEST_HTTP_H

#include <stdint.h>

#include "service.h"

typedef struct http http;

/* Listens on `port` (0: any that is free). thread_count threads serve; 0: the caller does, by http_run.
 * NULL: it could not; *why is a constant text. */
http *http_open(service *s, uint16_t port, unsigned thread_count, const char **why);
uint16_t http_port(const http *h);

/* Without threads: the descriptor to poll for reading, how long at most, and what to do then. */
int http_poll_fd(const http *h);
int http_timeout_ms(const http *h); /* -1: no limit */
void http_run(http *h);

/* Ends all connections, whose sessions and requests are closed by that. */
void http_close(http *h);

#endif
