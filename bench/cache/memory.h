// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What a full cache costs in resident memory. Each figure is of a process of its own, which runs this program again. */
#ifndef NM_BENCH_CACHE_MEMORY_H
#define NM_BENCH_CACHE_MEMORY_H

#include "cache/subject.h"

/* Prints both tables; false if nebula takes more than it promises. */
bool cache_memory_report(const cache_subject *subjects, size_t count);
/* The processes: `--measure-entries NAME`, `--measure-law STAGE` (-1: all, one after the other). */
void cache_memory_entries(const cache_subject *subject);
void cache_memory_law(int stage);

#endif
