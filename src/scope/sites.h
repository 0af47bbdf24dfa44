// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Who allocates how much, by call site: what tracing and sampling of arenas found, one table for each root. */
#ifndef NM_SRC_SCOPE_SITES_H
#define NM_SRC_SCOPE_SITES_H

#include "nebula/scope.h"

typedef struct nm__site_count {
    const char *site;
    uint64_t count; /* allocations; of a sampled one, as many as it stands for */
    uint64_t bytes;
} nm__site_count;

/* Adds to the site's sums in the table of the scope's root. The table takes its memory at its first use, charged to the root;
 * where that is refused or the table is full, the sums go to a row with site "(other)". Any thread. O(1). */
void nm__sites_note(nm_scope *scope, const char *site, uint64_t count, uint64_t bytes);

/* The n sites with most bytes, most first; returns how many there are. Any thread. O(table). */
size_t nm__sites_top(const nm_scope *any_scope_of_root, nm__site_count *out, size_t n);

/* The root closes. */
void nm__sites_close(nm_scope *root);

#endif
