// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "base/thread.h"

#include "base/atomic.h"

_Thread_local unsigned nm__thread_number __attribute__((tls_model("initial-exec")));

/* Of the process: it only spreads threads, nothing depends on its value. */
static NM_ATOMIC(unsigned) threads_seen;

unsigned nm__thread_number_make(void) {
    /* relaxed: numbers need only differ; the mask keeps the sum from becoming 0 */
    nm__thread_number = (nm_atomic_add(&threads_seen, 1, NM_RELAXED) & 0xffffu) + 1;
    return nm__thread_number;
}
