// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "prometheus_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { METRICS_MAX = 100, LABELS_MAX = 16, NAME_BYTES = 100 };

typedef struct piece {
    const char *at;
    size_t length;
} piece;

static char problem[200];
static size_t line_number;
static struct {
    char name[NAME_BYTES];
    bool has_help, has_type, is_counter, has_samples;
} metrics[METRICS_MAX];
static size_t metric_count; /* the last one is the one that is being read */
static char **series;
static size_t series_count, series_room;

static bool bad(const char *what) {
    snprintf(problem, sizeof problem, "line %zu: %s", line_number, what);
    return false;
}

/* ---- pieces of a line --------------------------------------------------------------------------------------------- */

/* Takes a name off *p: letters, digits after the first, '_', and of a metric ':'. */
static bool take_name(const char **p, bool of_metric, piece *out) {
    const char *from = *p;
    while ((**p >= 'a' && **p <= 'z') || (**p >= 'A' && **p <= 'Z') || **p == '_' || (of_metric && **p == ':') ||
           (**p >= '0' && **p <= '9' && *p != from))
        ++*p;
    *out = (piece){from, (size_t)(*p - from)};
    return out->length > 0 && out->length < NAME_BYTES;
}

static bool take(const char **p, const char *text) {
    size_t length = strlen(text);
    if (strncmp(*p, text, length) != 0) return false;
    *p += length;
    return true;
}

/* Up to the closing quote, which it takes. */
static bool take_label_value(const char **p, piece *out) {
    const char *from = *p;
    for (; **p != '"'; ++*p) {
        if (**p == 0) return bad("a label's value does not end");
        if (**p == '\\') {
            ++*p;
            if (**p == 0 || strchr("\\\"n", **p) == NULL) return bad("an unknown escape in a label's value");
        }
    }
    *out = (piece){from, (size_t)(*p - from)};
    ++*p;
    return true;
}

static bool is_utf8(const char *text) {
    for (const unsigned char *p = (const unsigned char *)text; *p != 0;) {
        unsigned more = *p < 0x80 ? 0 : *p >> 5 == 6 ? 1 : *p >> 4 == 14 ? 2 : *p >> 3 == 30 ? 3 : 9;
        unsigned long c = more == 0 ? *p : *p & (0x3fu >> more);
        if (more == 9) return false;
        for (unsigned i = 1; i <= more; i++) {
            if (p[i] >> 6 != 2) return false;
            c = c << 6 | (p[i] & 0x3fu);
        }
        static const unsigned long least[] = {0, 0x80, 0x800, 0x10000};
        if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return false;
        p += more + 1;
    }
    return true;
}

/* ---- metrics ------------------------------------------------------------------------------------------------------ */

static bool is_current(piece name) {
    return metric_count > 0 && strlen(metrics[metric_count - 1].name) == name.length &&
           memcmp(metrics[metric_count - 1].name, name.at, name.length) == 0;
}

/* Makes it the one that is being read, unless it is; a metric that was left does not come back. */
static bool enter(piece name) {
    if (is_current(name)) return true;
    for (size_t i = 0; i < metric_count; i++)
        if (strlen(metrics[i].name) == name.length && memcmp(metrics[i].name, name.at, name.length) == 0)
            return bad("the lines of a metric do not stand together");
    if (metric_count == METRICS_MAX) return bad("more metrics than this reader has room for");
    memset(&metrics[metric_count], 0, sizeof metrics[0]);
    memcpy(metrics[metric_count++].name, name.at, name.length);
    return true;
}

static bool read_help(const char *p) {
    piece name;
    if (!take_name(&p, true, &name) || !take(&p, " ") || *p == 0) return bad("HELP without a metric or a text");
    for (; *p != 0; p++)
        if (*p == '\\' && *++p != '\\' && *p != 'n') return bad("an unknown escape in HELP");
    if (!enter(name)) return false;
    if (metrics[metric_count - 1].has_help) return bad("a second HELP");
    if (metrics[metric_count - 1].has_samples) return bad("HELP after samples");
    metrics[metric_count - 1].has_help = true;
    return true;
}

static bool read_type(const char *p) {
    piece name;
    if (!take_name(&p, true, &name) || !take(&p, " ")) return bad("TYPE without a metric");
    bool counter = strcmp(p, "counter") == 0;
    if (!counter && strcmp(p, "gauge") != 0) return bad("TYPE is neither counter nor gauge");
    bool total = name.length > 6 && memcmp(name.at + name.length - 6, "_total", 6) == 0;
    if (counter != total) return bad("a counter, and only a counter, ends in _total");
    if (!enter(name)) return false;
    if (metrics[metric_count - 1].has_type) return bad("a second TYPE");
    if (metrics[metric_count - 1].has_samples) return bad("TYPE after samples");
    metrics[metric_count - 1].has_type = true;
    metrics[metric_count - 1].is_counter = counter;
    return true;
}

/* ---- samples ------------------------------------------------------------------------------------------------------ */

static int compare_pieces(const void *a, const void *b) {
    const piece *x = a, *y = b;
    int order = memcmp(x->at, y->at, x->length < y->length ? x->length : y->length);
    return order != 0 ? order : (x->length > y->length) - (x->length < y->length);
}

/* Keeps the series with its labels in the alphabet's order, for the search of doubles at the end. */
static void keep_series(piece name, piece *labels, size_t n) {
    qsort(labels, n, sizeof labels[0], compare_pieces);
    size_t bytes = name.length + 1;
    for (size_t i = 0; i < n; i++) bytes += labels[i].length + 1;
    char *text = malloc(bytes), *end = text;
    if (series_count == series_room) {
        series_room = series_room * 2 + 64;
        series = realloc(series, series_room * sizeof series[0]);
    }
    if (text == NULL || series == NULL) abort();
    memcpy(end, name.at, name.length);
    end += name.length;
    for (size_t i = 0; i < n; i++) {
        *end++ = ',';
        memcpy(end, labels[i].at, labels[i].length);
        end += labels[i].length;
    }
    *end = 0;
    series[series_count++] = text;
}

static bool read_value(const char *p, bool of_counter) {
    static const char *const words[] = {"NaN", "+Inf", "-Inf"};
    double value = 0;
    bool word = false;
    for (size_t i = 0; i < 3; i++)
        if (strcmp(p, words[i]) == 0) word = true, value = i == 2 ? -INFINITY : i == 1 ? INFINITY : NAN;
    if (!word) {
        char *end;
        /* strtod also takes white space, "inf", "nan" and hexadecimal: not here */
        if (*p == 0 || strspn(p, "0123456789+-.eE") != strlen(p)) return bad("not a value");
        value = strtod(p, &end);
        if (*end != 0 || end == p) return bad("not a value");
    }
    if (of_counter && !(value >= 0)) return bad("a counter is negative or not a number");
    return true;
}

static bool read_sample(const char *p) {
    piece name, labels[LABELS_MAX];
    size_t n = 0;
    if (!take_name(&p, true, &name)) return bad("not a metric's name");
    if (!enter(name)) return false;
    if (!metrics[metric_count - 1].has_help || !metrics[metric_count - 1].has_type)
        return bad("a sample before HELP and TYPE");
    metrics[metric_count - 1].has_samples = true;
    if (take(&p, "{")) {
        do {
            piece label, value;
            if (n == LABELS_MAX) return bad("more labels than this reader has room for");
            if (!take_name(&p, false, &label)) return bad("not a label's name");
            if (label.length >= 2 && memcmp(label.at, "__", 2) == 0) return bad("a reserved label");
            for (size_t i = 0; i < n; i++)
                if (strncmp(labels[i].at, label.at, label.length) == 0 && labels[i].at[label.length] == '=')
                    return bad("a label twice");
            if (!take(&p, "=\"")) return bad("a label without a value");
            if (!take_label_value(&p, &value)) return false;
            labels[n++] = (piece){label.at, (size_t)(p - label.at)};
        } while (take(&p, ","));
        if (!take(&p, "}")) return bad("the labels do not end");
    }
    if (!take(&p, " ")) return bad("no space before the value");
    keep_series(name, labels, n);
    return read_value(p, metrics[metric_count - 1].is_counter);
}

/* ---- the whole ---------------------------------------------------------------------------------------------------- */

static int compare_series(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static bool no_series_twice(void) {
    if (series_count > 0) qsort(series, series_count, sizeof series[0], compare_series);
    for (size_t i = 1; i < series_count; i++)
        if (strcmp(series[i - 1], series[i]) == 0) {
            snprintf(problem, sizeof problem, "a series twice: %.150s", series[i]);
            return false;
        }
    return true;
}

static bool read_lines(char *text, size_t length) {
    if (length == 0 || text[length - 1] != '\n') return bad("the text does not end with a newline");
    if (memchr(text, 0, length) != NULL) return bad("a byte 0");
    if (!is_utf8(text)) return bad("not UTF-8");
    /* memchr, not strchr: the address sanitizer may look at all of a string that it is given */
    for (char *line = text, *end; line < text + length; line = end + 1) {
        line_number++;
        end = memchr(line, '\n', (size_t)(text + length - line));
        *end = 0;
        const char *p = line;
        bool ok = take(&p, "# HELP ")   ? read_help(p)
                  : take(&p, "# TYPE ") ? read_type(p)
                  : *p == '#'           ? bad("a comment that is neither HELP nor TYPE")
                                        : read_sample(p);
        if (!ok) return false;
    }
    for (size_t i = 0; i < metric_count; i++)
        if (!metrics[i].has_help || !metrics[i].has_type) return bad("a metric without HELP or TYPE");
    return no_series_twice();
}

const char *prometheus_check(const char *text, size_t length) {
    line_number = metric_count = series_count = series_room = 0;
    char *copy = malloc(length + 1);
    if (copy == NULL) abort();
    memcpy(copy, text, length);
    copy[length] = 0;
    bool ok = read_lines(copy, length);
    for (size_t i = 0; i < series_count; i++) free(series[i]);
    free(series);
    series = NULL;
    free(copy);
    return ok ? NULL : problem;
}

bool prometheus_value(const char *text, const char *wanted, double *value) {
    size_t length = strlen(wanted);
    const char *end = text + strlen(text);
    for (const char *line = text, *next; line < end; line = next) {
        next = memchr(line, '\n', (size_t)(end - line));
        next = next != NULL ? next + 1 : end;
        if ((size_t)(next - line) <= length + 1 || memcmp(line, wanted, length) != 0 || line[length] != ' ') continue;
        *value = strtod(line + length, NULL);
        return true;
    }
    return false;
}
