// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "scope/print.h"

#include "base/options.h"

const char *nm__grouped(char out[NM__GROUPED_BYTES], size_t n) {
    char *p = out + NM__GROUPED_BYTES;
    *--p = 0;
    for (int digits = 0; digits == 0 || n != 0; digits++, n /= 10) {
        if (digits != 0 && digits % 3 == 0) *--p = ',';
        *--p = (char)('0' + n % 10);
    }
    return p;
}

const char *nm__kind_name(nm_scope_kind kind) {
    static const char *const names[] = {"default", "process", "service", "session", "request", "task"};
    return (unsigned)kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}

const char *nm__leak_kind_name(nm_leak_kind kind) {
    static const char *const names[] = {"scope", "lease", "pin", "reservation", "malloc"};
    return (unsigned)kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}

static bool is_control(unsigned char c) { return c < 0x20 || c == 0x7f; }

const char *nm__printable(char out[NM_NAME_BYTES], const char *name) {
    nm__name_copy(out, name);
    for (char *p = out; *p != 0; p++)
        if (is_control((unsigned char)*p)) *p = '?';
    return out;
}

/* ---- UTF-8 ------------------------------------------------------------------------------------------------------- */

/* Bytes of the character at p, which is not the final 0. Where there is none, *valid is false and the length is that of
 * what could have begun one: the piece for which Unicode recommends one U+FFFD. */
static size_t character(const unsigned char *p, bool *valid) {
    unsigned char first = p[0], low = 0x80, high = 0xbf; /* of the second byte; the others have the whole range */
    *valid = true;
    if (first < 0x80) return 1;
    *valid = false;
    size_t length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (length == 0) return 1;
    if (first == 0xe0) low = 0xa0;  /* below: too long a form */
    if (first == 0xed) high = 0x9f; /* above: surrogates */
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f; /* above: past U+10FFFF */
    for (size_t i = 1; i < length; i++) {
        if (p[i] < low || p[i] > high) return i; /* the final 0 ends up here too */
        low = 0x80, high = 0xbf;
    }
    *valid = true;
    return length;
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

void nm__write_json_string(FILE *to, const char *text) {
    if (text == NULL) {
        fputs("null", to);
        return;
    }
    fputc('"', to);
    for (const unsigned char *p = (const unsigned char *)text; *p != 0;) {
        bool valid;
        size_t length = character(p, &valid);
        if (!valid)
            fputs("\xef\xbf\xbd", to);
        else if (*p == '"' || *p == '\\')
            fprintf(to, "\\%c", *p);
        else if (is_control(*p))
            fprintf(to, "\\u%04x", *p);
        else
            fwrite(p, 1, length, to);
        p += length;
    }
    fputc('"', to);
}

/* ---- Prometheus -------------------------------------------------------------------------------------------------- */

void nm__write_metric(FILE *to, const char *metric, const char *type, const char *help) {
    fprintf(to, "# HELP %s %s\n# TYPE %s %s\n", metric, help, metric, type);
}

void nm__write_label_text(FILE *to, const char *text, bool in_path) {
    for (const unsigned char *p = (const unsigned char *)text; *p != 0;) {
        bool valid;
        size_t length = character(p, &valid);
        if (!valid || *p == '%' || (in_path && *p == '/'))
            for (size_t i = 0; i < length; i++) fprintf(to, "%%%02X", p[i]);
        else if (*p == '"' || *p == '\\')
            fprintf(to, "\\%c", *p);
        else if (*p == '\n')
            fputs("\\n", to);
        else
            fwrite(p, 1, length, to);
        p += length;
    }
}

void nm__write_label(FILE *to, const char *label, const char *text) {
    fprintf(to, "%s=\"", label);
    nm__write_label_text(to, text, false);
    fputc('"', to);
}

nm_status nm__flushed(FILE *to) { return fflush(to) == 0 && !ferror(to) ? NM_OK : NM_ESYSTEM; }
