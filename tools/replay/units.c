// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct unit {
    const char *name;
    uint64_t bytes;
} units[] = {
    {"", 1},
    {"B", 1},
    {"K", UINT64_C(1) << 10},
    {"KiB", UINT64_C(1) << 10},
    {"M", UINT64_C(1) << 20},
    {"MiB", UINT64_C(1) << 20},
    {"G", UINT64_C(1) << 30},
    {"GiB", UINT64_C(1) << 30},
    {"T", UINT64_C(1) << 40},
    {"TiB", UINT64_C(1) << 40},
    {"kB", 1000},
    {"KB", 1000},
    {"MB", 1000000},
    {"GB", 1000000000},
    {"TB", 1000000000000},
};

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static const struct unit *find_unit(const char *text, size_t len) {
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strlen(units[i].name) == len && memcmp(units[i].name, text, len) == 0) return &units[i];
    return NULL;
}

bool units_parse_bytes(const char *text, size_t len, uint64_t *bytes) {
    size_t at = 0;
    uint64_t whole = 0;
    while (at < len && is_digit(text[at])) {
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(text[at] - '0'), &whole))
            return false;
        at++;
    }
    if (at == 0) return false;

    uint64_t fraction = 0, scale = 1;
    bool has_fraction = at < len && text[at] == '.';
    if (has_fraction) {
        size_t first = ++at;
        while (at < len && is_digit(text[at])) {
            /* digits beyond the ninth are worth less than a byte up to a GiB: read, but without weight */
            if (scale < 1000000000) {
                fraction = fraction * 10 + (uint64_t)(text[at] - '0');
                scale *= 10;
            }
            at++;
        }
        if (at == first) return false;
    }
    while (at < len && text[at] == ' ') at++;

    const struct unit *unit = find_unit(text + at, len - at);
    if (unit == NULL || (has_fraction && unit->bytes == 1)) return false;
    uint64_t sum;
    if (__builtin_mul_overflow(whole, unit->bytes, &sum)) return false;
    unsigned __int128 part = (unsigned __int128)fraction * unit->bytes / scale;
    if (__builtin_add_overflow(sum, (uint64_t)part, &sum) || sum > INT64_MAX) return false;
    *bytes = sum;
    return true;
}

bool units_parse_percent(const char *text, size_t len, double *percent) {
    char digits[UNITS_TEXT_BYTES];
    if (len < 2 || len > sizeof digits || text[len - 1] != '%') return false;
    /* strtod also takes signs, exponents, hexadecimal digits and "inf"; a percentage is none of these */
    for (size_t i = 0; i + 1 < len; i++)
        if (!is_digit(text[i]) && text[i] != '.') return false;
    memcpy(digits, text, len - 1);
    digits[len - 1] = '\0';
    char *end;
    double value = strtod(digits, &end);
    if (*end != '\0' || end == digits || !(value > 0) || value > UNITS_PERCENT_MAX) return false;
    *percent = value;
    return true;
}

/* Three significant digits, and a unit. */
static const char *scaled(char text[UNITS_TEXT_BYTES], double value, double step, const char *const *names,
                          size_t count) {
    size_t i = 0;
    /* 999.5 would be printed as 1000 */
    while (i + 1 < count && value >= (step == 1000.0 ? 999.5 : 1023.5)) {
        value /= step;
        i++;
    }
    int decimals = i == 0 ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(text, UNITS_TEXT_BYTES, "%.*f%s%s", decimals, value, *names[i] != '\0' ? " " : "", names[i]);
    return text;
}

const char *units_bytes(char text[UNITS_TEXT_BYTES], uint64_t bytes) {
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    return scaled(text, (double)bytes, 1024.0, names, sizeof names / sizeof *names);
}

const char *units_duration(char text[UNITS_TEXT_BYTES], uint64_t ns) {
    static const char *const names[] = {"ns", "us", "ms", "s"};
    return scaled(text, (double)ns, 1000.0, names, sizeof names / sizeof *names);
}

const char *units_rate(char text[UNITS_TEXT_BYTES], double per_second) {
    static const char *const names[] = {"", "k", "M", "G"};
    return scaled(text, per_second, 1000.0, names, sizeof names / sizeof *names);
}
