// SPDX-License-Identifier: Apache-2.0 OR MIT
/* points.h: the runs that are still to be made of a trace. Grows while it is worked off. */
#ifndef REPLAY_POINTS_H
#define REPLAY_POINTS_H

#include "run.h"

typedef struct points {
    run_plan *plans;
    size_t count, room;
    bool no_memory; /* something was not added */
} points;           /* all zero: empty */

void points_add(points *list, const run_plan *plan);

/* Adds, for each budget that the run's cache told of, a plan that differs in the budget alone; not what is in the list. */
void points_add_curve(points *list, const run_plan *plan, const run_result *result);

/* Frees it; it is empty then. */
void points_clear(points *list);

#endif
