// SPDX-License-Identifier: Apache-2.0 OR MIT
/* nm_scope_dump: what is told of each scope. How it is written is in dump_text.c, dump_json.c and dump_prometheus.c. */
#include "scope/dump.h"

#include "scope/print.h"
#include "scope/ready.h"

_Static_assert(sizeof(size_t) == sizeof(uint64_t), "a field of a row is 8 bytes");
#define AT(member) offsetof(nm__dump_row, member)

const nm__dump_field nm__dump_fields[] = {
    {NULL, "nebula_scope_open", "Scopes of this path and kind that are open.", NM__OF_ALL, false, AT(scope_count)},
    {"granted_bytes", "nebula_scope_granted_bytes", "Bytes charged to the scope and all below it.", NM__OF_ALL, false,
     AT(stats.granted_bytes)},
    {"used_bytes", "nebula_scope_used_bytes", "Bytes handed out inside what is granted.", NM__OF_ALL, false,
     AT(stats.used_bytes)},
    {"peak_bytes", "nebula_scope_peak_bytes", "The most bytes that were granted.", NM__OF_ALL, false,
     AT(stats.peak_bytes)},
    {"soft_bytes", "nebula_scope_soft_bytes", "Soft limit, where there is one.", NM__OF_LIMITED, false,
     AT(stats.soft_bytes)},
    {"hard_bytes", NULL, NULL, NM__OF_LIMITED, false, AT(stats.hard_bytes)},
    {"own_hard_bytes", "nebula_scope_hard_bytes", "The scope's own hard limit, where there is one.", NM__OF_LIMITED,
     false, AT(own_hard_bytes)},
    {"credit_bytes", "nebula_scope_credit_bytes", "Bytes granted ahead of need.", NM__OF_ALL, false,
     AT(stats.credit_bytes)},
    {"child_count", "nebula_scope_children", "Child scopes that are open.", NM__OF_ALL, false, AT(stats.child_count)},
    {"request_count", "nebula_scope_requests", "Request and task scopes open directly below.", NM__OF_ALL, false,
     AT(request_count)},
    {"request_granted_bytes", "nebula_scope_requests_granted_bytes", "Bytes charged to these request and task scopes.",
     NM__OF_ALL, false, AT(request_granted_bytes)},
    {"refused_count", "nebula_scope_refused_total", "Grants that the scope's hard limit refused.", NM__OF_ALL, true,
     AT(stats.refused_count)},
    {"soft_count", "nebula_scope_soft_crossed_total", "Crossings of the soft limit.", NM__OF_ALL, true,
     AT(stats.soft_count)},
    {"own_bytes", "nebula_root_own_bytes", "Bytes committed for the root's own bookkeeping.", NM__OF_ROOTS, false,
     AT(stats.own_bytes)},
    {"idle_bytes", "nebula_root_idle_bytes", "Bytes committed and granted to nobody.", NM__OF_ROOTS, false,
     AT(stats.idle_bytes)},
    {"idle_block_bytes", "nebula_root_idle_block_bytes", "Bytes of idle blocks in the block cache.", NM__OF_ROOTS,
     false, AT(idle_block_bytes)},
    {"leaked_count", "nebula_root_leaks_total", "Leaks that closes of scopes have found.", NM__OF_ROOTS, true,
     AT(leaked_count)},
    {"leaked_bytes", "nebula_root_leaked_bytes_total", "Bytes of leaks that closes of scopes have found.", NM__OF_ROOTS,
     true, AT(leaked_bytes)},
};
const size_t nm__dump_field_count = sizeof nm__dump_fields / sizeof nm__dump_fields[0];

static bool wanted(size_t member, size_t offset) { return member == NM__DUMP_ALL || member == offset; }

void nm__dump_row_read(const nm__dump *d, const nm_scope *s, size_t member, nm__dump_row *row) {
    memset(row, 0, sizeof *row);
    nm__stats_read(s, &row->stats);
    if (wanted(member, AT(stats.used_bytes))) row->stats.used_bytes = nm__used_below(s);
    if (wanted(member, AT(stats.credit_bytes))) row->stats.credit_bytes = nm__ready_credit(s);
    row->scope_count = 1;
    size_t hard = nm_atomic_load(&s->hard, NM_RELAXED), granted;
    row->own_hard_bytes = hard != NM__UNLIMITED ? hard : 0;
    if (wanted(member, AT(request_count)) || wanted(member, AT(request_granted_bytes))) {
        row->request_count = nm__count_requests(s, &granted);
        row->request_granted_bytes = granted;
    }
    if (s->parent != NULL) return;
    row->stats.granted_bytes = d->root_stats.granted_bytes; /* of the same instant as the two that are its parts */
    row->stats.own_bytes = d->root_stats.own_bytes;
    row->stats.idle_bytes = d->root_stats.idle_bytes;
    row->idle_block_bytes = d->idle_block_bytes;
    row->leaked_count = d->leaked_count;
    row->leaked_bytes = d->leaked_bytes;
}

const nm_scope *nm__dump_next(const nm__dump *d, const nm_scope *s, unsigned *depth) {
    bool into = true; /* s is listed */
    do {
        s = nm__next_below(s, d->top, into, depth);
        into = s != NULL && nm__is_listed(s);
    } while (s != NULL && !into);
    return s;
}

size_t nm__sites_merge(nm__site_count *sites, size_t n) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        size_t same = 0;
        /* by text: the same line compiled into two objects is one line to its reader */
        while (same < kept && strcmp(sites[same].site, sites[i].site) != 0) same++;
        if (same == kept) {
            sites[kept++] = sites[i];
        } else {
            sites[same].count += sites[i].count;
            sites[same].bytes += sites[i].bytes;
        }
    }
    return kept;
}

void nm__dump_begin(nm__dump *d, const nm_scope *top, FILE *to) {
    memset(d, 0, sizeof *d);
    d->top = (nm_scope *)(uintptr_t)top; /* its dump_next is the dump's */
    d->to = to;
    if (top->parent != NULL) return;
    nm__root *root = top->root;
    nm__stats_read_root(root, &d->root_stats);
    d->idle_block_bytes = nm__blocks_idle_bytes(&root->blocks);
    d->leaked_count = nm_atomic_load(&root->leaked_count, NM_RELAXED);
    d->leaked_bytes = nm_atomic_load(&root->leaked_bytes, NM_RELAXED);
    size_t sites = nm__sites_top(top, d->sites, NM__DUMP_SITES);
    d->site_count = nm__sites_merge(d->sites, nm__min(sites, NM__DUMP_SITES));
}

nm_status nm_scope_dump(const nm_scope *scope, FILE *to, nm_dump_format format) {
    static void (*const writers[])(const nm__dump *) = {nm__dump_text, nm__dump_json, nm__dump_prometheus};
    if (scope == NULL || to == NULL || (unsigned)format >= sizeof writers / sizeof writers[0]) return NM_EINVAL;
    nm__dump dump;
    nm__dump_begin(&dump, scope, to);
    pthread_mutex_lock(&scope->root->tree);
    writers[format](&dump);
    pthread_mutex_unlock(&scope->root->tree);
    return nm__flushed(to);
}
