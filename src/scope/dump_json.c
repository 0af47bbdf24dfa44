// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The tree as one JSON object, children in children. Keys are never left out, so that a reader need not ask for them:
 * what does not apply is 0, null or empty; only what none but a root can have is a root's alone. */
#include <inttypes.h>

#include "scope/dump.h"
#include "scope/print.h"

static void write_last_refusal(FILE *to, const nm_scope_stats *st) {
    if (st->last_refusal.status == NM_OK) {
        fputs(",\"last_refusal\":null", to);
        return;
    }
    fprintf(to, ",\"last_refusal\":{\"status\":\"%s\",\"wanted_bytes\":%zu,\"scope\":",
            nm_status_name(st->last_refusal.status), st->last_refusal.wanted_bytes);
    nm__write_json_string(to, st->last_refusal.name);
    fputc('}', to);
}

static void write_holders(FILE *to, const nm_scope *s) {
    bool first = true;
    fputs(",\"holders\":[", to);
    for (const nm__holder *h = NULL; (h = nm__next_holder(s, h)) != NULL;) {
        fprintf(to, "%s{\"part\":\"%s\",\"name\":", first ? "" : ",", h->class->part);
        first = false;
        nm__write_json_string(to, h->name != NULL ? h->name : "");
        fprintf(to, ",\"used_bytes\":%zu}", nm__holder_used(h));
    }
    fputc(']', to);
}

static void write_sites(const nm__dump *d) {
    fputs(",\"sites\":[", d->to);
    for (size_t i = 0; i < d->site_count; i++) {
        fprintf(d->to, "%s{\"site\":", i > 0 ? "," : "");
        nm__write_json_string(d->to, d->sites[i].site);
        fprintf(d->to, ",\"count\":%" PRIu64 ",\"bytes\":%" PRIu64 "}", d->sites[i].count, d->sites[i].bytes);
    }
    fputc(']', d->to);
}

/* All of the scope's object but its end. */
static void begin_scope(const nm__dump *d, const nm_scope *s) {
    bool is_root = s->parent == NULL;
    nm__dump_row row;
    nm__dump_row_read(d, s, NM__DUMP_ALL, &row);
    fputs("{\"name\":", d->to);
    nm__write_json_string(d->to, row.stats.name);
    fprintf(d->to, ",\"kind\":\"%s\",\"opened_at\":", nm__kind_name(row.stats.kind));
    nm__write_json_string(d->to, s->site);
    for (size_t i = 0; i < nm__dump_field_count; i++) {
        const nm__dump_field *f = &nm__dump_fields[i];
        if (f->key != NULL && (is_root || f->of != NM__OF_ROOTS))
            fprintf(d->to, ",\"%s\":%" PRIu64, f->key, nm__dump_value(&row, f));
    }
    write_last_refusal(d->to, &row.stats);
    write_holders(d->to, s);
    if (is_root) write_sites(d);
    fputs(",\"children\":[", d->to);
}

void nm__dump_json(const nm__dump *d) {
    unsigned depth = 0;
    for (const nm_scope *s = d->top; s != NULL && !ferror(d->to);) {
        begin_scope(d, s);
        unsigned above = depth;
        s = nm__dump_next(d, s, &depth);
        /* a child of the last one, or what follows it or one of those around it: these end here */
        unsigned ended = s == NULL ? above + 1 : depth > above ? 0 : above - depth + 1;
        for (unsigned i = 0; i < ended; i++) fputs("]}", d->to);
        if (s != NULL) fputs(ended > 0 ? ",\n" : "\n", d->to);
    }
    fputc('\n', d->to);
}
