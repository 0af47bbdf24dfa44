// SPDX-License-Identifier: Apache-2.0 OR MIT
/* progress.h: one line on standard error that tells how far a pass is, if that is a terminal. One thread at a time. */
#ifndef REPLAY_PROGRESS_H
#define REPLAY_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct progress {
    bool on;
    char label[64];
    uint64_t total; /* 0: not known */
    uint64_t drawn_ns;
} progress;

/* `quiet`: never draws. */
void progress_start(progress *p, bool quiet, uint64_t total, const char *trace, const char *what);

/* Draws ten times a second at most. */
void progress_update(progress *p, uint64_t done);

/* Wipes the line. */
void progress_end(progress *p);

#endif
