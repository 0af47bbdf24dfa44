// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A process of one's own that is asked and answers line by line. It dies with the thread that started it. */
#ifndef NM_BENCH_CACHE_CHILD_H
#define NM_BENCH_CACHE_CHILD_H

#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

typedef struct cache_child {
    const char *name; /* for errors */
    pid_t pid;
    FILE *to, *from;
} cache_child;

/* argv[0] is the program's path; argv ends with NULL. A child that cannot be started or talked to ends this program. */
void cache_child_start(cache_child *child, const char *name, char *const argv[]);
/* Writes a line. */
void cache_child_say(cache_child *child, const char *format, ...) __attribute__((__format__(__printf__, 2, 3)));
/* Reads a line of what `format` says, with exactly `count` conversions. */
void cache_child_hear(cache_child *child, int count, const char *format, ...)
    __attribute__((__format__(__scanf__, 3, 4)));
/* Copies the rest of what the child writes to stdout, and returns its exit status; 128 if a signal ended it. */
int cache_child_end(cache_child *child);

#endif
