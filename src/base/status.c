// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "nebula/base.h"

const char *nm_status_name(nm_status status) {
    switch (status) {
#define NM__STATUS_NAME(name, value, text)                                                                             \
    case name: return #name;
        NM_STATUS_LIST(NM__STATUS_NAME)
#undef NM__STATUS_NAME
    }
    return "NM_UNKNOWN";
}

const char *nm_status_text(nm_status status) {
    switch (status) {
#define NM__STATUS_TEXT(name, value, text)                                                                             \
    case name: return text;
        NM_STATUS_LIST(NM__STATUS_TEXT)
#undef NM__STATUS_TEXT
    }
    return "unknown status";
}

const char *nm_version(void) { return NM_VERSION; }
