// SPDX-License-Identifier: Apache-2.0 OR MIT
/* chart.h: the miss ratio against the budget, as a picture. */
#ifndef REPLAY_CHART_H
#define REPLAY_CHART_H

#include "gnuplot.h"
#include "row.h"

/* Draws a panel for each trace and returns the whole SVG, to be freed. In each panel a policy has a solid line through what was
 * measured and, where its caches told of other budgets, a dashed one through what that of its middle budget predicted. What is
 * shown are missed objects or missed bytes, whichever the objective is. NULL: `why` says what is missing or wrong. */
char *chart_draw(const row *rows, size_t row_count, char why[GNUPLOT_WHY_BYTES]);

#endif
