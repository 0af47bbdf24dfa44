// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A strict reader of Prometheus' text exposition format 0.0.4, independent of the library's writer. */
#ifndef NM_TESTS_SUPPORT_PROMETHEUS_CHECK_H
#define NM_TESTS_SUPPORT_PROMETHEUS_CHECK_H

#include <stdbool.h>
#include <stddef.h>

/* NULL if the text is an exposition of counters and gauges in which every metric has HELP and TYPE before its samples, all
 * samples of a metric stand together, and no series is there twice; else what is wrong, with its line, good until the next
 * call. Stricter than the format: no plain comments, no empty lines, one space where white space may be, no reserved
 * labels, no time stamps, no histograms; a counter is not negative and ends in _total, and only a counter does. */
const char *prometheus_check(const char *text, size_t length);

/* The value of the series written exactly so ("metric{label=\"value\"}"). False: it is not there. */
bool prometheus_value(const char *text, const char *series, double *value);

#endif
