// SPDX-License-Identifier: Apache-2.0 OR MIT
/* An open-addressed table of rows that are claimed once and never given up, so that nobody takes a lock.
 *
 * Rows go by the text of a site, not its address: a function in a header leaves the same file and line in every object that
 * uses it. */
#include "scope/sites.h"

#include "scope/scope_internal.h"

typedef struct row {
    NM_ATOMIC(const char *) site; /* NULL: free */
    NM_ATOMIC(uint64_t) count;
    NM_ATOMIC(uint64_t) bytes;
} row;

/* One block: 16 KiB, a quarter of the smallest root; 512 sites are many for one program's arenas. */
#define ROWS        512u
#define TABLE_BYTES nm__block_bytes(sizeof(row) * ROWS)
/* Rows that are looked at before a site goes to "(other)". */
#define PROBES 32u
/* After a refusal the table is tried for again with every so many notes. */
#define RETRY_NOTES 1024u

static const char other_site[] = "(other)";

/* FNV-1a */
static uint32_t hash_of(const char *text) {
    uint32_t hash = 2166136261u;
    for (; *text != '\0'; text++) hash = (hash ^ (unsigned char)*text) * 16777619u;
    return hash;
}

static row *open_table(nm__root *root) {
    if ((nm_atomic_add(&root->sites.tries, 1, NM_RELAXED) & (RETRY_NOTES - 1)) != 0) return NULL;
    void *block;
    if (nm__blocks_take(&root->blocks, TABLE_BYTES, &block) != NM_OK) return NULL;
    memset(block, 0, sizeof(row) * ROWS);
    void *seen = NULL;
    /* release: pairs with the acquire loads of `table`; whoever sees the table sees its rows empty */
    if (!nm_atomic_cas(&root->sites.table, &seen, block, NM_RELEASE, NM_ACQUIRE)) {
        nm__blocks_give(&root->blocks, block, TABLE_BYTES);
        return seen;
    }
    pthread_mutex_lock(&root->records);
    root->own_bytes += TABLE_BYTES;
    pthread_mutex_unlock(&root->records);
    return block;
}

static row *find_row(row *table, const char *site) {
    uint32_t hash = hash_of(site);
    for (uint32_t i = 0; i < PROBES; i++) {
        row *r = &table[(hash + i) % ROWS];
        /* relaxed: a site is a constant string; nothing else is published with it */
        const char *seen = nm_atomic_load(&r->site, NM_RELAXED);
        if (seen == NULL && nm_atomic_cas(&r->site, &seen, site, NM_RELAXED, NM_RELAXED)) return r;
        if (seen == site || strcmp(seen, site) == 0) return r;
    }
    return NULL;
}

void nm__sites_note(nm_scope *scope, const char *site, uint64_t count, uint64_t bytes) {
    nm__root *root = scope->root;
    row *table = nm_atomic_load(&root->sites.table, NM_ACQUIRE);
    if (table == NULL) table = open_table(root);
    row *r = table != NULL ? find_row(table, site != NULL ? site : "?") : NULL;
    /* relaxed: sums for reports; a reader may see the one without the other */
    nm_atomic_add(r != NULL ? &r->count : &root->sites.other_count, count, NM_RELAXED);
    nm_atomic_add(r != NULL ? &r->bytes : &root->sites.other_bytes, bytes, NM_RELAXED);
}

/* Puts it where it belongs among the `filled` of n that are there, most bytes first. */
static void rank(nm__site_count found, nm__site_count *out, size_t n, size_t filled) {
    size_t at = nm__min(filled, n);
    while (at > 0 && out[at - 1].bytes < found.bytes) {
        if (at < n) out[at] = out[at - 1];
        at--;
    }
    if (at < n) out[at] = found;
}

size_t nm__sites_top(const nm_scope *any_scope_of_root, nm__site_count *out, size_t n) {
    nm__root *root = any_scope_of_root->root;
    const row *table = nm_atomic_load(&root->sites.table, NM_ACQUIRE);
    size_t filled = 0;
    for (uint32_t i = 0; table != NULL && i < ROWS; i++) {
        const char *site = nm_atomic_load(&table[i].site, NM_RELAXED);
        if (site == NULL) continue;
        nm__site_count found = {site, nm_atomic_load(&table[i].count, NM_RELAXED),
                                nm_atomic_load(&table[i].bytes, NM_RELAXED)};
        rank(found, out, n, filled++);
    }
    nm__site_count other = {other_site, nm_atomic_load(&root->sites.other_count, NM_RELAXED),
                            nm_atomic_load(&root->sites.other_bytes, NM_RELAXED)};
    if (other.count != 0) rank(other, out, n, filled++);
    return filled;
}

void nm__sites_close(nm_scope *root) {
    void *table = root->root->sites.table;
    if (table != NULL) nm__blocks_give(&root->root->blocks, table, TABLE_BYTES);
}
