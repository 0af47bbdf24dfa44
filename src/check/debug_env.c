// SPDX-License-Identifier: Apache-2.0 OR MIT
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* secure_getenv */
#endif
#include "check/debug_env.h"

#include <stdlib.h>
#include <string.h>

#include "base/math.h"

/* A piece of the text. */
typedef struct word {
    const char *at;
    size_t length;
} word;

static bool is(word w, const char *text) { return w.length == strlen(text) && memcmp(w.at, text, w.length) == 0; }

static bool begins(word w, const char *text, word *rest) {
    size_t length = strlen(text);
    if (w.length < length || memcmp(w.at, text, length) != 0) return false;
    *rest = (word){w.at + length, w.length - length};
    return true;
}

/* Reads the digits at the start of *w, and moves it behind them. False: none, or too many. */
static bool read_number(word *w, uint64_t *out) {
    uint64_t n = 0;
    size_t digits = 0;
    for (; digits < w->length && w->at[digits] >= '0' && w->at[digits] <= '9'; digits++)
        if (nm__mul_overflows(n, 10u, &n) || nm__add_overflows(n, (uint64_t)(w->at[digits] - '0'), &n)) return false;
    *w = (word){w->at + digits, w->length - digits};
    *out = n;
    return digits > 0;
}

static bool read_bytes(word w, size_t *out) {
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {{"", 1}, {"B", 1}, {"KiB", 1u << 10}, {"MiB", 1u << 20}, {"GiB", 1u << 30}};
    uint64_t n;
    if (!read_number(&w, &n)) return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        uint64_t bytes;
        if (!is(w, units[i].name) || nm__mul_overflows(n, units[i].bytes, &bytes) || bytes > NM__BYTES_MAX) continue;
        *out = bytes;
        return true;
    }
    return false;
}

static void read_word(word w, nm__debug_env *env) {
    static const struct {
        const char *name;
        unsigned flag;
    } flags[] = {{"trace", NM_DEBUG_TRACE},
                 {"fill", NM_DEBUG_FILL},
                 {"quarantine", NM_DEBUG_QUARANTINE},
                 {"guard", NM_DEBUG_GUARD}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (is(w, flags[i].name)) env->flags |= flags[i].flag;
    word value;
    size_t bytes;
    uint64_t n;
    if (begins(w, "sample=", &value) && read_bytes(value, &bytes)) env->sample_bytes = bytes;
    if (begins(w, "fail=", &value) && read_number(&value, &n) && value.length == 0) env->fail_after = n;
}

nm__debug_env nm__debug_parse(const char *text) {
    nm__debug_env env = {0, 0, 0};
    while (text != NULL && *text != '\0') {
        size_t length = strcspn(text, ",");
        read_word((word){text, length}, &env);
        text += length;
        if (*text == ',') text++;
    }
    return env;
}

nm__debug_env nm__debug_from_environment(void) { return nm__debug_parse(secure_getenv("NM_DEBUG")); }
