// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Segmented LRU as a textbook has it, which shares nothing with the library, and public traces to run it on. Before it: _DEFAULT_SOURCE. */
#ifndef NM_TESTS_SUPPORT_TEXTBOOK_H
#define NM_TESTS_SUPPORT_TEXTBOOK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testing.h"

#define TEXTBOOK_KEYS 30000u

/* Two arrays of keys, most recent first, all of weight 1; nothing clever. */

typedef struct textbook {
    uint32_t probation[TEXTBOOK_KEYS], protected[TEXTBOOK_KEYS];
    size_t probation_count, protected_count, capacity, protected_capacity;
} textbook;

static inline bool leaves(uint32_t *list, size_t *count, uint32_t key) {
    for (size_t i = 0; i < *count; i++)
        if (list[i] == key) {
            memmove(list + i, list + i + 1, (*count - i - 1) * sizeof *list);
            (*count)--;
            return true;
        }
    return false;
}

static inline void put_front(uint32_t *list, size_t *count, uint32_t key) {
    memmove(list + 1, list, *count * sizeof *list);
    list[0] = key;
    (*count)++;
}

static inline bool textbook_request(textbook *t, uint32_t key) {
    if (leaves(t->protected, &t->protected_count, key)) {
        put_front(t->protected, &t->protected_count, key);
        return true;
    }
    if (leaves(t->probation, &t->probation_count, key)) {
        if (t->protected_capacity == 0) {
            put_front(t->probation, &t->probation_count, key);
            return true;
        }
        put_front(t->protected, &t->protected_count, key);
        while (t->protected_count > t->protected_capacity)
            put_front(t->probation, &t->probation_count, t->protected[--t->protected_count]);
        return true;
    }
    if (t->probation_count + t->protected_count == t->capacity) {
        if (t->probation_count > 0)
            t->probation_count--;
        else
            t->protected_count--;
    }
    if (t->protected_count < t->protected_capacity)
        put_front(t->protected, &t->protected_count, key);
    else
        put_front(t->probation, &t->probation_count, key);
    return false;
}

static inline void textbook_open(textbook *t, size_t capacity, unsigned protected_percent) {
    memset(t, 0, sizeof *t);
    t->capacity = capacity;
    t->protected_capacity = capacity * protected_percent / 100;
}

/* ---- traces without sizes, where NEBULA_TRACES says they lie ---- */

static inline bool trace_folder(void) {
    bool there = getenv("NEBULA_TRACES") != NULL && !TEST_SLOW;
    if (!there) print_message("skipped: NEBULA_TRACES is not set, or a sanitizer is on\n");
    return there;
}

static inline FILE *trace_open(const char *name) {
    char command[512];
    assert_in_range(snprintf(command, sizeof command, "exec zstd -dcq '%s/%s.txt.zst'", getenv("NEBULA_TRACES"), name),
                    1, sizeof command - 1);
    FILE *from = popen(command, "r");
    assert_non_null(from);
    return from;
}

/* The next key; 0: the trace has ended. */
static inline uint32_t trace_next(FILE *from) {
    unsigned key, size;
    if (fscanf(from, "%u %u", &key, &size) != 2) return 0;
    assert_in_range(key, 1, TEXTBOOK_KEYS - 1);
    return key;
}

static inline void trace_close(FILE *from) { assert_int_equal(pclose(from), 0); }

#endif
