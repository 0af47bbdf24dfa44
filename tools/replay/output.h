// SPDX-License-Identifier: Apache-2.0 OR MIT
/* output.h: files that appear whole or not at all. */
#ifndef REPLAY_OUTPUT_H
#define REPLAY_OUTPUT_H

#include <stdbool.h>
#include <stdio.h>

/* Writes all there is to `to`. False: it cannot, and errno says why. */
typedef bool output_fn(FILE *to, const void *what);

/* True if `path` could be written now: so that a long replay does not end with rows that nobody gets. Prints the error. */
bool output_check(const char *path);

/* Writes a file; "-" is standard output. It is written under another name beside its place, and renamed. False: not written,
 * an older file is as it was, and the error is printed. */
bool output_write(const char *path, output_fn *write, const void *what);

#endif
