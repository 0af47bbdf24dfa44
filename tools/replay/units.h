// SPDX-License-Identifier: Apache-2.0 OR MIT
/* units.h: byte sizes, budgets and durations as people write and read them. Pure functions, any thread. */
#ifndef REPLAY_UNITS_H
#define REPLAY_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for any text that the functions below write, its final 0 included. */
#define UNITS_TEXT_BYTES 32

/* Reads "4096", "64KiB", "1.5GiB": a decimal number and an optional unit. B, KiB, MiB, GiB, TiB (or K, M, G, T) count in
 * powers of 1024; kB, KB, MB, GB, TB in powers of 1000. A fraction needs a unit and is rounded down to whole bytes.
 * False: anything else, or 2^63 bytes and more; *bytes is unchanged then. */
bool units_parse_bytes(const char *text, size_t len, uint64_t *bytes);

/* The largest share of a footprint that can be asked for, in percent. */
#define UNITS_PERCENT_MAX 1000.0

/* Reads "5%", "0.25%". False: no such text, 0, or above UNITS_PERCENT_MAX; *percent is unchanged then. */
bool units_parse_percent(const char *text, size_t len, double *percent);

/* Write "1.50 GiB", "12.3 us", "1.20 M" into text and return it. */
const char *units_bytes(char text[UNITS_TEXT_BYTES], uint64_t bytes);
const char *units_duration(char text[UNITS_TEXT_BYTES], uint64_t ns);
const char *units_rate(char text[UNITS_TEXT_BYTES], double per_second);

#endif
