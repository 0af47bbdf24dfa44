// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "axis.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>

/* As many labels fit side by side below a chart, and above one another beside it. */
#define LABELS_WIDE 8
#define LABELS_HIGH 6

static const char *const unit_names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
#define UNIT_COUNT (sizeof unit_names / sizeof *unit_names)

static void add_tick(axis *a, double at, const char *label) {
    if (a->tick_count == AXIS_TICKS_MAX) return;
    axis_tick *tick = &a->ticks[a->tick_count++];
    tick->at = at;
    snprintf(tick->label, sizeof tick->label, "%s", label);
}

/* Steps of exponents that leave the labels round in units of 1024: 1 4 16 64 256 1, 1 32 1, 1 1. */
static int exponent_step(int count) {
    static const int steps[] = {1, 2, 5, 10, 20};
    size_t i = 0;
    while (i + 1 < sizeof steps / sizeof *steps && (count + steps[i] - 1) / steps[i] > LABELS_WIDE) i++;
    return steps[i];
}

static void log_bytes(axis *a, double least, double most) {
    /* An eighth of the octave beyond the outer points, or a whole one about a single point. */
    double room = least == most ? 2.0 : exp2(0.125);
    a->log = true;
    a->low = least / room;
    a->high = most * room;
    int first = (int)ceil(log2(a->low)), last = (int)floor(log2(a->high));
    if (first < 0) first = 0;
    int step = exponent_step(last - first + 1);
    for (int e = first; e <= last; e++) {
        char label[UNITS_TEXT_BYTES] = "";
        if (e % step == 0 && (size_t)e / 10 < UNIT_COUNT)
            snprintf(label, sizeof label, "%d %s", 1 << e % 10, unit_names[e / 10]);
        add_tick(a, exp2(e), label);
    }
}

/* 1, 2 or 5 times a power of ten: the least such step with at most `count` steps in `span`. */
static double round_step(double span, int count) {
    double raw = span / count, power = pow(10, floor(log10(raw)));
    double share = raw / power;
    return power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
}

/* Multiples of `step` (given in units of `unit`) within the axis. */
static void linear_ticks(axis *a, double step, double unit, const char *format, const char *name) {
    int decimals = step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9);
    double slack = step * 1e-6; /* of sums of rounded numbers */
    for (int64_t i = (int64_t)ceil(a->low / unit / step - 1e-6); (double)i * step <= a->high / unit + slack; i++) {
        char label[UNITS_TEXT_BYTES];
        snprintf(label, sizeof label, format, decimals, (double)i * step, name);
        if (a->tick_count == AXIS_TICKS_MAX) break;
        add_tick(a, (double)i * step * unit, label);
    }
}

static void linear_bytes(axis *a, double least, double most) {
    double room = (most - least) / 20;
    a->low = least - room;
    a->high = most + room;
    size_t unit = 0;
    while (unit + 1 < UNIT_COUNT && most >= exp2(10.0 * (double)(unit + 1))) unit++;
    double bytes = exp2(10.0 * (double)unit);
    double step = round_step((a->high - a->low) / bytes, LABELS_WIDE);
    if (unit == 0 && step < 1) step = 1;
    linear_ticks(a, step, bytes, "%.*f %s", unit_names[unit]);
}

void axis_bytes(axis *out, double least, double most) {
    *out = (axis){0};
    if (least == most || most / least >= AXIS_LOG_FACTOR)
        log_bytes(out, least, most);
    else
        linear_bytes(out, least, most);
}

void axis_percent(axis *out, double least, double most) {
    *out = (axis){0};
    double low = least * 100, high = most * 100;
    if (high - low < 1) {
        double middle = (low + high) / 2;
        low = fmax(middle - 0.5, 0);
        high = fmin(low + 1, 100);
        low = fmin(low, high - 1);
    }
    if (low < high * 2 / 3) low = 0;
    double step = round_step(high - low, LABELS_HIGH);
    /* What is a rounding error beyond a tick is on it; the ends themselves stay inside. */
    out->low = fmin(floor(low / step + 1e-6) * step, low);
    out->high = fmax(fmin(ceil(high / step - 1e-6) * step, 100), high);
    linear_ticks(out, step, 1, "%.*f%s", "");
}
