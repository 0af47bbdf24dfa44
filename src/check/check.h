// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the checkers of memory errors are told, and how misuse is reported.
 *
 * The library is built the same with and without a checker: the hooks are weak references that resolve only where the
 * program runs under the address sanitizer. */
#ifndef NM_SRC_CHECK_CHECK_H
#define NM_SRC_CHECK_CHECK_H

#include "nebula/base.h"

/* Bytes left poisoned behind each arena allocation while a checker watches. */
#define NM__RED_ZONE_BYTES ((size_t)16)

/* True while a checker wants to see every allocation. Constant for the life of the process. O(1). */
bool nm__check_active(void);

/* Marks memory as not to be touched, and as fit for use again. No-ops without a checker. */
void nm__check_poison(const void *p, size_t bytes);
void nm__check_unpoison(const void *p, size_t bytes);

/* Calls the misuse handler, with no lock held. Returns if the handler does. */
void nm__misuse(const nm_misuse *misuse);

#endif
