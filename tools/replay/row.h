// SPDX-License-Identifier: Apache-2.0 OR MIT
#ifndef REPLAY_ROW_H
#define REPLAY_ROW_H

#include "run.h"

/* A run that came to its end: a row of the table and of the files. */
typedef struct row {
    const char *trace; /* rows of one trace have the same pointer, and follow one another */
    run_plan plan;
    run_result result;
} row;

#endif
