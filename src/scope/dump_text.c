// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The tree for people: a line for each scope and holder, indented. */
#include "scope/dump.h"
#include "scope/print.h"

/* Most figures are 0 most of the time: those that are not catch the eye if the others are left out. */
static void write_unless_0(FILE *to, const char *what, size_t n) {
    char text[NM__GROUPED_BYTES];
    if (n != 0) fprintf(to, ", %s %s", what, nm__grouped(text, n));
}

static void write_root(const nm__dump *d, const nm__dump_row *row, int indent) {
    char a[NM__GROUPED_BYTES], b[NM__GROUPED_BYTES], c[NM__GROUPED_BYTES];
    fprintf(d->to, "%*scommitted %s: own %s, idle %s", indent, "", nm__grouped(a, row->stats.granted_bytes),
            nm__grouped(b, row->stats.own_bytes), nm__grouped(c, row->stats.idle_bytes));
    fprintf(d->to, ", in idle blocks %s, credit %s\n", nm__grouped(a, row->idle_block_bytes),
            nm__grouped(b, row->stats.credit_bytes));
    if (row->leaked_count > 0)
        fprintf(d->to, "%*sleaks found at closes: %s, %s bytes\n", indent, "", nm__grouped(a, row->leaked_count),
                nm__grouped(b, row->leaked_bytes));
    for (size_t i = 0; i < d->site_count; i++)
        fprintf(d->to, "%*ssite %s: %s bytes, %s allocations\n", indent, "", d->sites[i].site,
                nm__grouped(a, d->sites[i].bytes), nm__grouped(b, d->sites[i].count));
}

static void write_scope(const nm__dump *d, const nm_scope *s, int indent) {
    char a[NM__GROUPED_BYTES], b[NM__GROUPED_BYTES], c[NM__GROUPED_BYTES], name[NM_NAME_BYTES];
    FILE *to = d->to;
    nm__dump_row row;
    nm__dump_row_read(d, s, NM__DUMP_ALL, &row);
    fprintf(to, "%*s%s \"%s\": granted %s, used %s, peak %s", indent, "", nm__kind_name(row.stats.kind),
            nm__printable(name, row.stats.name), nm__grouped(a, row.stats.granted_bytes),
            nm__grouped(b, row.stats.used_bytes), nm__grouped(c, row.stats.peak_bytes));
    write_unless_0(to, "soft", row.stats.soft_bytes);
    write_unless_0(to, "hard", row.own_hard_bytes);
    if (s->parent != NULL) write_unless_0(to, "credit", row.stats.credit_bytes);
    write_unless_0(to, "refused", row.stats.refused_count);
    write_unless_0(to, "soft crossed", row.stats.soft_count);
    fputc('\n', to);
    indent += 2;
    if (row.stats.last_refusal.status != NM_OK)
        fprintf(to, "%*slast refused: %s bytes, %s by \"%s\"\n", indent, "",
                nm__grouped(a, row.stats.last_refusal.wanted_bytes), nm_status_name(row.stats.last_refusal.status),
                nm__printable(name, row.stats.last_refusal.name));
    if (s->parent == NULL) write_root(d, &row, indent);
    for (const nm__holder *h = NULL; (h = nm__next_holder(s, h)) != NULL;)
        fprintf(to, "%*s%s \"%s\": used %s\n", indent, "", h->class->part, nm__printable(name, h->name),
                nm__grouped(a, nm__holder_used(h)));
    if (row.request_count > 0)
        fprintf(to, "%*s%s request and task scopes: granted %s\n", indent, "", nm__grouped(a, row.request_count),
                nm__grouped(b, row.request_granted_bytes));
}

void nm__dump_text(const nm__dump *d) {
    unsigned depth = 0;
    for (const nm_scope *s = d->top; s != NULL && !ferror(d->to); s = nm__dump_next(d, s, &depth))
        write_scope(d, s, 2 * (int)depth);
}
