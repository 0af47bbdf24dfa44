// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the three formats of a dump share: which scopes are listed, what is told of each, and under which names.
 *
 * A dump takes no memory, so that it can be had when there is none; it works under the root's tree lock, so that no scope
 * goes away meanwhile. What other locks guard, of the root alone, is read before. */
#ifndef NM_SRC_SCOPE_DUMP_H
#define NM_SRC_SCOPE_DUMP_H

#include "scope/scope_internal.h"
#include "scope/sites.h"

/* ---- stats.c: the tree lock is held where not said otherwise ------------------------------------------------------ */

/* The scope after s in the tree below `top`, parents before children; NULL at the end. *depth follows, 0 at the top. */
const nm_scope *nm__next_below(const nm_scope *s, const nm_scope *top, bool into_children, unsigned *depth);

size_t nm__holder_used(const nm__holder *holder);
/* Of all holders of the scope and below. O(holders). */
size_t nm__used_below(const nm_scope *top);

/* The holder after h, NULL: the first, an arena in the scope's own block included; NULL at the end. */
const nm__holder *nm__next_holder(const nm_scope *s, const nm__holder *h);
/* Request and task scopes directly below, and what they are granted. */
size_t nm__count_requests(const nm_scope *parent, size_t *granted);

/* All of the stats but used_bytes, credit_bytes and what nm__stats_read_root reads. */
void nm__stats_read(const nm_scope *s, nm_scope_stats *out);
/* What only a root has. Takes locks, so not to be called with any held. */
void nm__stats_read_root(nm__root *root, nm_scope_stats *out);

/* ---- dump.c ------------------------------------------------------------------------------------------------------- */

#define NM__DUMP_SITES 16

typedef struct nm__dump {
    nm_scope *top;
    FILE *to;
    /* if the top is a root, read before the tree lock was taken; else 0 */
    nm_scope_stats root_stats; /* as nm__stats_read_root fills it in */
    uint64_t idle_block_bytes;
    uint64_t leaked_count, leaked_bytes;
    size_t site_count;
    nm__site_count sites[NM__DUMP_SITES]; /* most bytes first; no two of the same text */
} nm__dump;

void nm__dump_begin(nm__dump *d, const nm_scope *top, FILE *to);
/* One of each name and its sums. Returns how many are left. */
size_t nm__sites_merge(nm__site_count *sites, size_t n);

/* Process, service and session scopes are listed, with what they hold; request and task scopes come and go by the thousand:
 * a count and a sum at their parent. The top is listed whatever it is. */
static inline bool nm__is_listed(const nm_scope *s) { return s->kind <= NM_SCOPE_SESSION; }
/* The next listed scope. */
const nm_scope *nm__dump_next(const nm__dump *d, const nm_scope *s, unsigned *depth);

/* What is told of a listed scope. */
typedef struct nm__dump_row {
    nm_scope_stats stats;
    uint64_t scope_count; /* 1 */
    uint64_t own_hard_bytes;
    uint64_t request_count, request_granted_bytes; /* request and task scopes directly below */
    uint64_t idle_block_bytes, leaked_count, leaked_bytes;
} nm__dump_row;

/* What takes a walk of all that is below is read only where it is wanted: `member`, an offset in the row; or all. */
#define NM__DUMP_ALL SIZE_MAX
void nm__dump_row_read(const nm__dump *d, const nm_scope *s, size_t member, nm__dump_row *row);

/* One number of a row, and its names. */
typedef struct nm__dump_field {
    const char *key;    /* in JSON; NULL: not there */
    const char *metric; /* in Prometheus; NULL: not there */
    const char *help;
    enum { NM__OF_ALL, NM__OF_ROOTS, NM__OF_LIMITED } of; /* LIMITED: 0 is "no limit", and then there is no sample */
    bool is_counter;
    size_t offset; /* in the row, where an uint64_t or size_t lies */
} nm__dump_field;

extern const nm__dump_field nm__dump_fields[];
extern const size_t nm__dump_field_count;

static inline uint64_t nm__dump_value(const nm__dump_row *row, const nm__dump_field *field) {
    uint64_t value;
    memcpy(&value, (const unsigned char *)row + field->offset, sizeof value);
    return value;
}

void nm__dump_text(const nm__dump *d);
void nm__dump_json(const nm__dump *d);
void nm__dump_prometheus(const nm__dump *d);

#endif
