// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the checkers of memory errors are told, and how misuse is reported.
 *
 * The library is built the same with and without a checker: the address sanitizer's hooks are weak references that resolve
 * only where the program has it, and valgrind's are instructions that do nothing elsewhere. */
#ifndef NM_SRC_CHECK_CHECK_H
#define NM_SRC_CHECK_CHECK_H

#include "nebula/base.h"

/* Bytes left poisoned behind each arena allocation while a checker watches. */
#define NM__RED_ZONE_BYTES ((size_t)16)

/* True while a checker wants to see every allocation: the address sanitizer or valgrind's memcheck. Constant for the life of
 * the process. O(1). */
bool nm__check_active(void);
/* True if it is memcheck. */
bool nm__check_memcheck(void);

/* Marks memory as not to be touched, and as fit for use again (memcheck: with contents). No-ops without a checker. */
void nm__check_poison(const void *p, size_t bytes);
void nm__check_unpoison(const void *p, size_t bytes);

/* memcheck's pools of memory: what is allocated there has undefined contents, and reports name the allocation. The pool's
 * address is its name. No-ops elsewhere. */
void nm__check_mempool_open(const void *pool);
void nm__check_mempool_close(const void *pool);
void nm__check_mempool_alloc(const void *pool, const void *p, size_t bytes);
void nm__check_mempool_change(const void *pool, const void *p, size_t bytes); /* resized in place */
void nm__check_mempool_free(const void *pool, const void *p);

/* Calls the misuse handler, with no lock held. Returns if the handler does. */
void nm__misuse(const nm_misuse *misuse);

#endif
