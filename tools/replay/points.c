// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "points.h"

#include <stdlib.h>

void points_add(points *list, const run_plan *plan) {
    if (list->count == list->room) {
        size_t room = list->room == 0 ? 16 : list->room * 2;
        run_plan *plans = realloc(list->plans, room * sizeof *plans);
        if (plans == NULL) {
            list->no_memory = true;
            return;
        }
        list->plans = plans;
        list->room = room;
    }
    list->plans[list->count++] = *plan;
}

static bool has(const points *list, const run_plan *plan) {
    for (size_t i = 0; i < list->count; i++)
        if (list->plans[i].policy == plan->policy && list->plans[i].budget_bytes == plan->budget_bytes) return true;
    return false;
}

void points_add_curve(points *list, const run_plan *plan, const run_result *result) {
    for (size_t i = 0; i < result->curve_count; i++) {
        run_plan further = *plan;
        further.budget_bytes = result->curve[i].budget_bytes;
        further.for_curve = true;
        if (!has(list, &further)) points_add(list, &further);
    }
}

void points_clear(points *list) {
    free(list->plans);
    *list = (points){0};
}
