// SPDX-License-Identifier: Apache-2.0 OR MIT
/* gnuplot.h: the plotting program, found on the PATH when it is wanted. One thread at a time. */
#ifndef REPLAY_GNUPLOT_H
#define REPLAY_GNUPLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define GNUPLOT_WHY_BYTES 256

/* True if it is there and can write SVG. False: `why` says what is missing. */
bool gnuplot_check(char why[GNUPLOT_WHY_BYTES]);

/* Runs a script, from the beginning of the file, and returns what it wrote to its standard output, ended by a 0 and to be
 * freed. NULL: `why` says what failed. */
char *gnuplot_run(FILE *script, char why[GNUPLOT_WHY_BYTES]);

#endif
