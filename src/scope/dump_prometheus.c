// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The tree in the text exposition format 0.0.4 of Prometheus.
 *
 * A scope is named by the names on its path from the root, as scope="server/listener/session", and its kind. Scopes of the
 * same path and kind are one series, their sum, for no two samples may have the same labels, and a number that tells
 * equal sessions apart would be another session's at the next scrape. All samples of a metric stand together, so each metric
 * is a walk, over a list of the listed scopes that is sorted by path, once: dump_next and dump_depth in the scopes' headers
 * are its links, for a dump takes no memory. */
#include <inttypes.h>

#include "scope/dump.h"
#include "scope/print.h"

/* ---- the list ----------------------------------------------------------------------------------------------------- */

/* By names from the top, the shorter path first. O(distance to the common ancestor), which is 1 for siblings. */
static int compare_paths(const nm_scope *a, const nm_scope *b) {
    int order = (a->dump_depth > b->dump_depth) - (a->dump_depth < b->dump_depth);
    for (unsigned n = a->dump_depth; n > b->dump_depth; n--) a = a->parent;
    for (unsigned n = b->dump_depth; n > a->dump_depth; n--) b = b->parent;
    /* upwards, and the last difference that is found is the first one on the path */
    for (unsigned n = a->dump_depth; a != b && n > 0; n--, a = a->parent, b = b->parent) {
        int differs = memcmp(a->name, b->name, NM_NAME_BYTES);
        if (differs != 0) order = differs;
    }
    return order;
}

static int compare(const nm_scope *a, const nm_scope *b) {
    int order = compare_paths(a, b);
    return order != 0 ? order : (int)a->kind - (int)b->kind;
}

static nm_scope *merge(nm_scope *a, nm_scope *b) {
    nm_scope *first = NULL, **end = &first;
    while (a != NULL && b != NULL) {
        nm_scope **least = compare(b, a) < 0 ? &b : &a;
        *end = *least;
        end = &(*least)->dump_next;
        *least = *end;
    }
    *end = a != NULL ? a : b;
    return first;
}

/* Merge sort from the bottom up: bins[i] is empty or a sorted list of 2^i. */
static nm_scope *sorted_list(const nm__dump *d) {
    enum { BINS = 32 };
    nm_scope *bins[BINS] = {NULL}, *all = NULL;
    unsigned depth = 0;
    for (nm_scope *s = d->top; s != NULL; s = (nm_scope *)(uintptr_t)nm__dump_next(d, s, &depth)) {
        s->dump_depth = depth;
        s->dump_next = NULL;
        nm_scope *run = s;
        int i = 0;
        for (; i < BINS - 1 && bins[i] != NULL; i++) {
            run = merge(bins[i], run);
            bins[i] = NULL;
        }
        bins[i] = merge(bins[i], run);
    }
    for (int i = 0; i < BINS; i++) all = merge(bins[i], all);
    return all;
}

/* Where the scopes that make one series with `s` end; or, of any kind, that have its path. */
static const nm_scope *series_end(const nm_scope *s) {
    const nm_scope *end = s->dump_next;
    while (end != NULL && compare(s, end) == 0) end = end->dump_next;
    return end;
}
static const nm_scope *path_end(const nm_scope *s) {
    const nm_scope *end = s->dump_next;
    while (end != NULL && compare_paths(s, end) == 0) end = end->dump_next;
    return end;
}

/* ---- labels ------------------------------------------------------------------------------------------------------- */

/* From the root down, though the links go up: in pieces, without memory for a path of any length. */
static void write_path(FILE *to, const nm_scope *s) {
    enum { PIECE = 64 };
    const nm_scope *piece[PIECE];
    size_t names = 0;
    for (const nm_scope *p = s; p != NULL; p = p->parent) names++;
    for (size_t done = 0; done < names;) {
        size_t count = nm__min(PIECE, names - done);
        const nm_scope *p = s;
        for (size_t below = names - done - count; below > 0; below--) p = p->parent;
        for (size_t i = count; i-- > 0; p = p->parent) piece[i] = p;
        for (size_t i = 0; i < count; i++) {
            if (done + i > 0) fputc('/', to);
            nm__write_label_text(to, piece[i]->name, true);
        }
        done += count;
    }
}

static void begin_sample(FILE *to, const char *metric, const nm_scope *s) {
    fprintf(to, "%s{scope=\"", metric);
    write_path(to, s);
    fputc('"', to);
}

static void end_sample(FILE *to, uint64_t value) { fprintf(to, "} %" PRIu64 "\n", value); }

static void write_kind(FILE *to, const nm_scope *s) {
    fprintf(to, ",kind=\"%s\"", nm__kind_name((nm_scope_kind)s->kind));
}

/* ---- scopes ------------------------------------------------------------------------------------------------------- */

static uint64_t sum_of(const nm__dump *d, const nm__dump_field *f, const nm_scope *from, const nm_scope *end) {
    uint64_t sum = 0;
    for (const nm_scope *s = from; s != end; s = s->dump_next) {
        nm__dump_row row;
        nm__dump_row_read(d, s, f->offset, &row);
        sum += nm__dump_value(&row, f);
    }
    return sum;
}

static void write_field(const nm__dump *d, const nm__dump_field *f, const nm_scope *list) {
    nm__write_metric(d->to, f->metric, f->is_counter ? "counter" : "gauge", f->help);
    for (const nm_scope *s = list, *end; s != NULL && !ferror(d->to); s = end) {
        end = series_end(s);
        if (f->of == NM__OF_ROOTS && s->parent != NULL) break; /* a root is the first */
        uint64_t sum = sum_of(d, f, s, end);
        if (f->of == NM__OF_LIMITED && sum == 0) continue;
        begin_sample(d->to, f->metric, s);
        write_kind(d->to, s);
        end_sample(d->to, sum);
    }
}

/* Of scopes that are one series, the first that was refused: status and scope are labels, and a sum has none. */
static void write_last_refusals(const nm__dump *d, const nm_scope *list) {
    static const char metric[] = "nebula_scope_last_refused_bytes";
    nm__write_metric(d->to, metric, "gauge", "Bytes that were wanted when the scope was refused last, and by whom.");
    for (const nm_scope *s = list, *end; s != NULL && !ferror(d->to); s = end) {
        end = series_end(s);
        nm_scope_stats st;
        nm__stats_read(s, &st);
        for (const nm_scope *next = s->dump_next; st.last_refusal.status == NM_OK && next != end;
             next = next->dump_next)
            nm__stats_read(next, &st);
        if (st.last_refusal.status == NM_OK) continue;
        begin_sample(d->to, metric, s);
        write_kind(d->to, s);
        fprintf(d->to, ",status=\"%s\",", nm_status_name(st.last_refusal.status));
        nm__write_label(d->to, "by", st.last_refusal.name);
        end_sample(d->to, st.last_refusal.wanted_bytes);
    }
}

/* ---- holders ------------------------------------------------------------------------------------------------------ */

/* Holders of the same path, part and name are one series too. They have no room for links, so the sums are made for the
 * names that come first in the alphabet, as many as lie here, then for those that come after. */
#define SUMS 256
typedef struct holder_sum {
    const char *part, *name;
    uint64_t used;
} holder_sum;
typedef struct holder_sums {
    size_t count;
    bool left_out; /* some came later in the alphabet than these */
    holder_sum sums[SUMS];
} holder_sums;

static int compare_holders(const holder_sum *a, const holder_sum *b) {
    int order = strcmp(a->part, b->part);
    return order != 0 ? order : strcmp(a->name, b->name);
}

static void add_holder(holder_sums *all, const holder_sum *one) {
    size_t low = 0, high = all->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = compare_holders(one, &all->sums[middle]);
        if (order == 0) {
            all->sums[middle].used += one->used;
            return;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    if (all->count == SUMS) {
        all->left_out = true;
        if (low == SUMS) return;
        all->count--;
    }
    memmove(&all->sums[low + 1], &all->sums[low], (all->count - low) * sizeof all->sums[0]);
    all->sums[low] = *one;
    all->count++;
}

static void write_holders_of_path(FILE *to, const nm_scope *from, const nm_scope *end) {
    static const char metric[] = "nebula_holder_used_bytes";
    holder_sum last = {"", "", 0}; /* before any part's name */
    holder_sums all;
    do {
        all.count = 0;
        all.left_out = false;
        for (const nm_scope *s = from; s != end; s = s->dump_next)
            for (const nm__holder *h = NULL; (h = nm__next_holder(s, h)) != NULL;) {
                holder_sum one = {h->class->part, h->name != NULL ? h->name : "", nm__holder_used(h)};
                if (compare_holders(&one, &last) > 0) add_holder(&all, &one);
            }
        for (size_t i = 0; i < all.count; i++) {
            begin_sample(to, metric, from);
            fprintf(to, ",part=\"%s\",", all.sums[i].part);
            nm__write_label(to, "name", all.sums[i].name);
            end_sample(to, all.sums[i].used);
        }
        if (all.count > 0) last = all.sums[all.count - 1];
    } while (all.left_out && !ferror(to));
}

static void write_holders(const nm__dump *d, const nm_scope *list) {
    nm__write_metric(d->to, "nebula_holder_used_bytes", "gauge",
                     "Bytes handed out by the arenas, pools and caches of this name.");
    for (const nm_scope *s = list, *end; s != NULL && !ferror(d->to); s = end) {
        end = path_end(s);
        write_holders_of_path(d->to, s, end);
    }
}

/* ---- sites -------------------------------------------------------------------------------------------------------- */

static void write_sites(const nm__dump *d, const char *metric, const char *help, size_t offset) {
    nm__write_metric(d->to, metric, "counter", help);
    for (size_t i = 0; i < d->site_count; i++) {
        uint64_t value;
        memcpy(&value, (const unsigned char *)&d->sites[i] + offset, sizeof value);
        begin_sample(d->to, metric, d->top);
        fputc(',', d->to);
        nm__write_label(d->to, "site", d->sites[i].site);
        end_sample(d->to, value);
    }
}

void nm__dump_prometheus(const nm__dump *d) {
    const nm_scope *list = sorted_list(d);
    for (size_t i = 0; i < nm__dump_field_count; i++)
        if (nm__dump_fields[i].metric != NULL) write_field(d, &nm__dump_fields[i], list);
    write_last_refusals(d, list);
    write_holders(d, list);
    write_sites(d, "nebula_site_bytes_total", "Bytes allocated at the call sites with most of them.",
                offsetof(nm__site_count, bytes));
    write_sites(d, "nebula_site_allocations_total", "Allocations at these call sites.",
                offsetof(nm__site_count, count));
}
