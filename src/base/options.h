// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Structs that pass the boundary with their size, so that a program and a library of different age understand each other. */
#ifndef NM_SRC_BASE_OPTIONS_H
#define NM_SRC_BASE_OPTIONS_H

#include "nebula/base.h"

/* Copies the caller's options, whose first member is its struct_size, over `own`, which holds the defaults and is own_bytes
 * large. NULL keeps the defaults. A younger caller's struct may be larger if what we do not know is zero.
 * NM_EINVAL: no size, or an unknown field is set. */
nm_status nm__options_read(void *own, size_t own_bytes, const void *options);

/* Copies as much of `own` as the caller has room for, and zeroes what it has beyond. */
void nm__struct_write(void *out, size_t out_bytes, const void *own, size_t own_bytes);

/* Copies a name, cut at NM_NAME_BYTES - 1 bytes; NULL is "". */
void nm__name_copy(char out[NM_NAME_BYTES], const char *name);

#endif
