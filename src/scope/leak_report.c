// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <inttypes.h>

#include "base/options.h"
#include "scope/print.h"
#include "scope/scope_internal.h"

void nm__leaks_note(nm__leaks *leaks, nm_leak_kind kind, const char *name, size_t count, size_t bytes,
                    const char *site) {
    if (leaks->mode == NM_LEAKS_OFF || count == 0) return;
    nm_leak_report *r = &leaks->report;
    r->leaked_count += count;
    r->leaked_bytes += count * bytes;
    for (uint32_t i = 0; i < r->site_count; i++) {
        nm_leak_site *s = &r->sites[i];
        /* sites are compared as text: the same line compiled into two objects is one line to its reader */
        bool same_site = s->site == site || (s->site != NULL && site != NULL && strcmp(s->site, site) == 0);
        if (s->kind != kind || !same_site || strncmp(s->name, name, NM_NAME_BYTES - 1) != 0) continue;
        s->count += count;
        s->bytes += count * bytes;
        return;
    }
    if (r->site_count == NM_LEAK_SITES) {
        r->sites_omitted += count;
        return;
    }
    nm_leak_site *s = &r->sites[r->site_count++];
    s->kind = kind;
    s->count = count;
    s->bytes = count * bytes;
    s->site = site;
    nm__name_copy(s->name, name);
}

static void print_site(const nm_leak_site *s, FILE *to) {
    static const char *const part[] = {"scope", "pool", "cache", "cache", "malloc"};
    static const char *const done[] = {"opened", "leased", "pinned", "reserved", "allocated"};
    bool known = (unsigned)s->kind < sizeof part / sizeof part[0];
    char each[NM__GROUPED_BYTES], name[NM_NAME_BYTES], quoted[NM_NAME_BYTES + 2];
    snprintf(quoted, sizeof quoted, "\"%s\"", nm__printable(name, s->name));
    fprintf(to, "  %4zu x %10s  %-5s %-12s %s at %s\n", s->count,
            nm__grouped(each, s->count > 0 ? s->bytes / s->count : 0), known ? part[s->kind] : "?", quoted,
            known ? done[s->kind] : "taken", s->site != NULL ? s->site : "?");
}

void nm_leak_report_print(const nm_leak_report *report, FILE *to) {
    if (report == NULL || to == NULL) return;
    char a[NM__GROUPED_BYTES], b[NM__GROUPED_BYTES], c[NM__GROUPED_BYTES], name[NM_NAME_BYTES];
    fprintf(to, "scope \"%s\" (kind %s) closed with %zu allocation%s, %s bytes still held\n",
            nm__printable(name, report->scope_name), nm__kind_name(report->scope_kind), report->leaked_count,
            report->leaked_count == 1 ? "" : "s", nm__grouped(a, report->leaked_bytes));
    for (uint32_t i = 0; i < report->site_count && i < NM_LEAK_SITES; i++) print_site(&report->sites[i], to);
    if (report->sites_omitted > 0) fprintf(to, "  %4zu more at other sites\n", report->sites_omitted);
    fprintf(to, "peak %s of soft %s / hard %s bytes\n", nm__grouped(a, report->peak_bytes),
            report->soft_bytes != 0 ? nm__grouped(b, report->soft_bytes) : "-",
            report->hard_bytes != 0 ? nm__grouped(c, report->hard_bytes) : "-");
}
