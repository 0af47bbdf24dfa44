// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Is the whole cache as good as its policies alone?
 *
 * For each row that nebula-replay wrote, the policy alone is run twice, its objects weighing what nm_cache_charge says:
 *   with the budget of the row: what the index, the samples, the ghosts, the cache's own structs and free room in pieces
 *   take is the whole cache's loss then;
 *   with the bytes that its entries had at the end (used_bytes): what remains is the policy's work in the cache, by hits that
 *   are told late and samples that are smaller.
 * What ADAPTIVE samples and which ghosts S3-FIFO mistakes follows from the keys' hashes, and those from a random key in a cache:
 * both are run with several, and what differs from all of them by more than 0.005 is marked, and counted as `over`. */
#ifndef NM_BENCH_AGAINST_H
#define NM_BENCH_AGAINST_H

#include "nebula/cache.h"
#include "references.h"

/* policies.c; false: no memory. */
bool policies_replay(requests *r, nm_cache_policy policy, nm_cache_objective objective, uint64_t bytes, outcome *out);

/* Prints a row for each row of the CSV, and a summary by class of budgets. 0; 1: something was wrong, and said on stderr. */
int against(const char *program, const char *csv, char **paths, int path_count);

#endif
