// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the threads of an execution did, and whether some order of single steps explains it: leases and releases of N
 * buffers, each at some moment between its beginning and its end (linearizability, Herlihy and Wing 1990), with these
 * liberties:
 *   - A lease that is under way may have a buffer in its hands and put it back, once, so that another is refused.
 *   - A wait whose time ran out is like a refused lease; but it may have stood first in line, and have had a claim on
 *     the next buffer, at any time.
 *   - An operation has not ended for others as long as they do not see its stores: nobody can know that it has. */
#ifndef NM_TESTS_SCHED_HISTORY_H
#define NM_TESTS_SCHED_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_MAX 16u

typedef enum history_kind { HISTORY_LEASE, HISTORY_WAIT, HISTORY_RELEASE } history_kind;
typedef enum history_result { HISTORY_UNDER_WAY, HISTORY_DONE, HISTORY_REFUSED } history_result;

typedef struct sched_history {
    unsigned clock;
    size_t count;
    struct {
        history_kind kind;
        history_result result;
        unsigned thread, began, ended;
        uint64_t stores; /* there had been so many when it returned */
    } entries[HISTORY_MAX];
} sched_history;

size_t history_begin(sched_history *history, unsigned thread, history_kind kind);
void history_end(sched_history *history, size_t entry, history_result result);
/* That store of the thread is not seen yet. */
void history_unseen(sched_history *history, unsigned thread, uint64_t store);
bool history_has_refusal(const sched_history *history);
/* With `most` buffers, of which `out` were leased before it began. */
bool history_is_explained(const sched_history *history, unsigned most, unsigned out);
void history_say(const sched_history *history);

#endif
