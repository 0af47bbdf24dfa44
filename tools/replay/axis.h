// SPDX-License-Identifier: Apache-2.0 OR MIT
/* axis.h: where an axis begins and ends, and where its ticks stand, so that people can read it. Pure functions. */
#ifndef REPLAY_AXIS_H
#define REPLAY_AXIS_H

#include <stdbool.h>
#include <stddef.h>

#include "units.h"

#define AXIS_TICKS_MAX 80

typedef struct axis_tick {
    double at;
    char label[UNITS_TEXT_BYTES]; /* "": a tick without a label */
} axis_tick;

typedef struct axis {
    double low, high; /* low < high */
    bool log;
    size_t tick_count;
    axis_tick ticks[AXIS_TICKS_MAX];
} axis;

/* An axis of byte sizes from `least` (above 0) to `most`, with a little room at both ends. It is logarithmic with a tick at
 * each power of two if these are a factor of AXIS_LOG_FACTOR or more apart, or the same; else it has round steps. */
#define AXIS_LOG_FACTOR 4
void axis_bytes(axis *out, double least, double most);

/* An axis of shares from `least` to `most`, both of 0 to 1, in percent. It begins at 0 unless that would leave more than two
 * thirds of it empty, and is never less than one percent long: the noise of a run is not to look like a finding. */
void axis_percent(axis *out, double least, double most);

#endif
