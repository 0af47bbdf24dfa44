// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Small things that the reports for people share. */
#ifndef NM_SRC_SCOPE_PRINT_H
#define NM_SRC_SCOPE_PRINT_H

#include "nebula/scope.h"

/* n in decimal with commas between the thousands; returns a pointer into out. */
#define NM__GROUPED_BYTES 28
const char *nm__grouped(char out[NM__GROUPED_BYTES], size_t n);

/* "request" for NM_SCOPE_REQUEST, ... */
const char *nm__kind_name(nm_scope_kind kind);

#endif
