// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A table of system calls that counts: an account of the library's memory that is independent of the library's own, and
 * a way to have the n-th call refused. */
#ifndef NM_TESTS_SUPPORT_OS_COUNTER_H
#define NM_TESTS_SUPPORT_OS_COUNTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Puts the counting table in force, all counts 0. No root may be open. */
void os_counter_install(void);
/* Brings the system's table back. Returns false, and says what, if anything is still reserved or committed. */
bool os_counter_remove(void);

size_t os_counter_committed(void); /* bytes, now */
size_t os_counter_reserved(void);

/* The n-th call from now that can be refused (reserve, commit, decommit, random, and those about files) is refused once;
 * 0 = none. */
void os_counter_fail_after(uint64_t n);
/* True if that call has come. */
bool os_counter_failed(void);

#endif
