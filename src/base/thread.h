// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Which of a fixed number of stripes a thread uses, for what is kept per thread.
 *
 * Stripes are shared when there are more threads than stripes, so what lies in them is atomic and right for any number; a
 * thread that ends leaves nothing to be done, since whoever comes next with its stripe, or is short of memory, finds it. */
#ifndef NM_SRC_BASE_THREAD_H
#define NM_SRC_BASE_THREAD_H

#define NM__STRIPES 16u

/* 1 + the thread's number; 0: it has none yet. initial-exec: one load relative to the thread's base, in a shared library too;
 * the loader keeps room for such variables of libraries that are loaded late. */
extern _Thread_local unsigned nm__thread_number __attribute__((tls_model("initial-exec")));
unsigned nm__thread_number_make(void);

/* This thread's stripe, 0 to NM__STRIPES - 1; threads are numbered as they come. O(1). */
static inline unsigned nm__thread_stripe(void) {
    unsigned number = nm__thread_number;
    if (__builtin_expect(number == 0, 0)) number = nm__thread_number_make();
    return (number - 1) % NM__STRIPES;
}

#endif
