// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "footprint.h"

#include <stdio.h>

#include "keyset.h"

#define UPDATE_EVERY 4096

static bool refuse_line(trace *t, const trace_line *line, const char *why) {
    snprintf(t->error, sizeof t->error, "%s %llu: %s", t->format == RECORD_ORACLE ? "record" : "line",
             (unsigned long long)line->number, why);
    return false;
}

/* Collects the distinct keys. *any_size: a line had a size; *all_ones: all of these were 1. */
static bool collect(footprint *out, keyset *keys, trace *t, uint64_t default_size, bool skip_bad, progress *bar) {
    bool any_size = false, all_ones = true;
    for (;;) {
        trace_line line;
        trace_status status = trace_next(t, &line);
        if (status == TRACE_ERROR) return false;
        if (status == TRACE_END) break;
        record r;
        const char *why = record_parse(t->format, line.text, line.len, &r);
        if (why != NULL) {
            if (!skip_bad) return refuse_line(t, &line, why);
            out->bad_count++;
            continue;
        }
        any_size |= r.has_size;
        all_ones &= !r.has_size || r.size == 1;
        if (!keyset_add(keys, r.key, r.key_len, r.has_size ? r.size : default_size))
            return refuse_line(t, &line, "out of memory for the table of keys");
        if (++out->request_count % UPDATE_EVERY == 0) progress_update(bar, out->request_count);
    }
    out->all_ones = any_size && all_ones;
    if (keys->count > 0) return true;
    if (out->bad_count == 0)
        snprintf(t->error, sizeof t->error, "is empty: no request in it");
    else
        snprintf(t->error, sizeof t->error, "has no request: all of its %llu lines are broken",
                 (unsigned long long)out->bad_count);
    return false;
}

bool footprint_measure(footprint *out, trace *t, const nm_cache_options *options, uint64_t default_size, bool skip_bad,
                       progress *bar) {
    *out = (footprint){0};
    keyset keys = {0};
    bool ok = trace_rewind(t) && collect(out, &keys, t, default_size, skip_bad, bar);
    if (ok) {
        size_t at = 0, key_len;
        uint64_t size;
        while (keyset_next(&keys, &at, &key_len, &size)) {
            if (out->all_ones) size = default_size;
            size_t charge = nm_cache_charge(options, key_len, size);
            /* what no cache can hold is rejected at any budget; it counts with its bare bytes */
            if (charge == SIZE_MAX) charge = key_len + size;
            if (__builtin_add_overflow(out->bytes, charge, &out->bytes)) out->bytes = UINT64_MAX;
        }
        out->key_count = keys.count;
        out->average_bytes = out->bytes / keys.count > 0 ? out->bytes / keys.count : 1;
    }
    keyset_clear(&keys);
    return ok;
}
