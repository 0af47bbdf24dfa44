// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Small things that the reports share: numbers and names for people, strings for JSON, labels for Prometheus.
 *
 * Names are bytes: whoever named a scope after what a client sent has put the client's bytes there. What is written is
 * always one line where it should be one, and valid UTF-8 where the format wants that. */
#ifndef NM_SRC_SCOPE_PRINT_H
#define NM_SRC_SCOPE_PRINT_H

#include "nebula/scope.h"

/* n in decimal with commas between the thousands; returns a pointer into out. */
#define NM__GROUPED_BYTES 28
const char *nm__grouped(char out[NM__GROUPED_BYTES], size_t n);

/* "request" for NM_SCOPE_REQUEST, ...; "lease" for NM_LEAK_LEASE, ...; "unknown" for what is none. */
const char *nm__kind_name(nm_scope_kind kind);
const char *nm__leak_kind_name(nm_leak_kind kind);

/* The name with '?' for control characters; returns out. */
const char *nm__printable(char out[NM_NAME_BYTES], const char *name);

/* A JSON string with its quotes; what is not UTF-8 becomes U+FFFD. NULL: null. */
void nm__write_json_string(FILE *to, const char *text);

/* "# HELP" and "# TYPE" of a metric. */
void nm__write_metric(FILE *to, const char *metric, const char *type, const char *help);

/* The inside of a label's value. So that different bytes stay different, what is not UTF-8 is written as %XX, and so is
 * '%', and '/' where `in_path`, for there it separates names. */
void nm__write_label_text(FILE *to, const char *text, bool in_path);
/* label="text" */
void nm__write_label(FILE *to, const char *label, const char *text);

/* Whether the stream has taken all that was written to it, out to the system. */
nm_status nm__flushed(FILE *to);

#endif
