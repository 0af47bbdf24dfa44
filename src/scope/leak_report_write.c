// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A leak report for programs: as a JSON object, and for Prometheus. */
#include <inttypes.h>

#include "scope/print.h"

/* A report may come from anywhere, so its counts are not believed. */
static uint32_t filled(const nm_leak_report *r) {
    return r->site_count < NM_LEAK_SITES ? r->site_count : NM_LEAK_SITES;
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static void write_json(const nm_leak_report *r, FILE *to) {
    fputs("{\"scope_name\":", to);
    nm__write_json_string(to, r->scope_name);
    fprintf(to,
            ",\"scope_kind\":\"%s\",\"leaked_count\":%zu,\"leaked_bytes\":%zu,\"peak_bytes\":%zu,\"soft_bytes\":%zu,"
            "\"hard_bytes\":%zu,\"sites_omitted\":%zu,\"sites\":[",
            nm__kind_name(r->scope_kind), r->leaked_count, r->leaked_bytes, r->peak_bytes, r->soft_bytes, r->hard_bytes,
            r->sites_omitted);
    for (uint32_t i = 0; i < filled(r); i++) {
        const nm_leak_site *s = &r->sites[i];
        fprintf(to, "%s\n{\"kind\":\"%s\",\"name\":", i > 0 ? "," : "", nm__leak_kind_name(s->kind));
        nm__write_json_string(to, s->name);
        fprintf(to, ",\"count\":%zu,\"bytes\":%zu,\"site\":", s->count, s->bytes);
        nm__write_json_string(to, s->site);
        fputc('}', to);
    }
    fputs("]}\n", to);
}

/* ---- Prometheus -------------------------------------------------------------------------------------------------- */

static void begin_sample(const nm_leak_report *r, FILE *to, const char *metric) {
    fprintf(to, "%s{", metric);
    nm__write_label(to, "scope", r->scope_name);
    fprintf(to, ",scope_kind=\"%s\"", nm__kind_name(r->scope_kind));
}

static void write_sum(const nm_leak_report *r, FILE *to, const char *metric, const char *help, size_t value) {
    nm__write_metric(to, metric, "gauge", help);
    begin_sample(r, to, metric);
    fprintf(to, "} %zu\n", value);
}

static const char *site_of(const nm_leak_site *s) { return s->site != NULL ? s->site : "?"; }

static bool same_labels(const nm_leak_site *a, const nm_leak_site *b) {
    return strcmp(nm__leak_kind_name(a->kind), nm__leak_kind_name(b->kind)) == 0 && strcmp(a->name, b->name) == 0 &&
           strcmp(site_of(a), site_of(b)) == 0;
}

/* `offset`: of the count or the bytes. Leaks with the same labels are one sample, whoever filled in the report. */
static void write_sites(const nm_leak_report *r, FILE *to, const char *metric, const char *help, size_t offset) {
    nm__write_metric(to, metric, "gauge", help);
    for (uint32_t i = 0; i < filled(r); i++) {
        const nm_leak_site *s = &r->sites[i];
        size_t sum = 0;
        bool written = false;
        for (uint32_t other = 0; other < filled(r); other++) {
            if (!same_labels(s, &r->sites[other])) continue;
            if (other < i) written = true;
            size_t value;
            memcpy(&value, (const unsigned char *)&r->sites[other] + offset, sizeof value);
            sum += value;
        }
        if (written) continue;
        begin_sample(r, to, metric);
        fprintf(to, ",kind=\"%s\",", nm__leak_kind_name(s->kind));
        nm__write_label(to, "name", s->name);
        fputc(',', to);
        nm__write_label(to, "site", site_of(s));
        fprintf(to, "} %zu\n", sum);
    }
}

static void write_prometheus(const nm_leak_report *r, FILE *to) {
    write_sum(r, to, "nebula_closed_scope_leaks", "Leaks that the close of the scope found.", r->leaked_count);
    write_sum(r, to, "nebula_closed_scope_leaked_bytes", "Their bytes.", r->leaked_bytes);
    write_sum(r, to, "nebula_closed_scope_peak_bytes", "The most bytes that the scope was granted.", r->peak_bytes);
    write_sum(r, to, "nebula_closed_scope_soft_bytes", "Its soft limit; 0: none.", r->soft_bytes);
    write_sum(r, to, "nebula_closed_scope_hard_bytes", "Its own hard limit; 0: none.", r->hard_bytes);
    write_sum(r, to, "nebula_closed_scope_omitted_leaks", "Leaks at sites that found no room in the report.",
              r->sites_omitted);
    write_sites(r, to, "nebula_leaks", "Leaks by what leaked and where it was taken.", offsetof(nm_leak_site, count));
    write_sites(r, to, "nebula_leaked_bytes", "Their bytes.", offsetof(nm_leak_site, bytes));
}

nm_status nm_leak_report_write(const nm_leak_report *report, FILE *to, nm_dump_format format) {
    static void (*const writers[])(const nm_leak_report *, FILE *) = {nm_leak_report_print, write_json,
                                                                      write_prometheus};
    if (report == NULL || to == NULL || (unsigned)format >= sizeof writers / sizeof writers[0]) return NM_EINVAL;
    writers[format](report, to);
    return nm__flushed(to);
}
