// SPDX-License-Identifier: Apache-2.0 OR MIT
#ifndef HTTP_REQUEST_STATS_H
#define HTTP_REQUEST_STATS_H

#include "service.h"

/* Prints the whole tree into memory of the request: its I/O buffer if it fits, else its arena. What the request may have
 * bounds it: NM_EBUDGET. Others as nm_scope_dump. */
nm_status stats_print(request *r, nm_dump_format format, const void **out, size_t *bytes);

#endif
