// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the environment variable NM_DEBUG asks for. */
#ifndef NM_SRC_CHECK_DEBUG_ENV_H
#define NM_SRC_CHECK_DEBUG_ENV_H

#include "nebula/scope.h"

typedef struct nm__debug_env {
    unsigned flags;      /* nm_debug_flags */
    size_t sample_bytes; /* 0 = none */
    uint64_t fail_after; /* 0 = off */
} nm__debug_env;

/* Words with commas between them: trace, fill, quarantine, guard, sample=BYTES (with KiB, MiB, GiB or without), fail=N.
 * Words that it does not know, and values that are none, are passed over: a wrong environment must not keep a service from
 * starting. NULL: nothing. */
nm__debug_env nm__debug_parse(const char *text);

/* Of NM_DEBUG; nothing in a program that runs with more rights than its caller. */
nm__debug_env nm__debug_from_environment(void);

#endif
