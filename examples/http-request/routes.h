// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What each path answers. */
#ifndef HTTP_REQUEST_ROUTES_H
#define HTTP_REQUEST_ROUTES_H

#include "service.h"

typedef struct answer {
    unsigned status; /* of HTTP */
    const char *type;
    const char *allow; /* with 405: the method that is allowed */
    const void *data;  /* lives until the request is closed */
    size_t bytes;
} answer;

/* The answer to a request that is complete. */
answer route(request *r);

/* The answer to one whose memory was refused, or (r NULL) that could not be opened. */
answer answer_refused(const request *r);

#endif
