// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "base/options.h"

#include <string.h>

#include "base/math.h"

/* No options struct is this large: a struct_size above it is not one that our macros filled in. */
#define NM__OPTIONS_BYTES_MAX ((size_t)4096)

nm_status nm__options_read(void *own, size_t own_bytes, const void *options) {
    if (options == NULL) return NM_OK;
    size_t given;
    memcpy(&given, options, sizeof given);
    if (given < sizeof given || given > NM__OPTIONS_BYTES_MAX) return NM_EINVAL;
    const unsigned char *bytes = options;
    for (size_t i = own_bytes; i < given; i++)
        if (bytes[i] != 0) return NM_EINVAL;
    memcpy(own, options, nm__min(given, own_bytes));
    memcpy(own, &own_bytes, sizeof own_bytes);
    return NM_OK;
}

void nm__struct_write(void *out, size_t out_bytes, const void *own, size_t own_bytes) {
    size_t both = nm__min(out_bytes, own_bytes);
    memcpy(out, own, both);
    if (out_bytes > both) memset((unsigned char *)out + both, 0, out_bytes - both);
}

void nm__name_copy(char out[NM_NAME_BYTES], const char *name) {
    strncpy(out, name != NULL ? name : "", NM_NAME_BYTES - 1); /* fills up with zeros */
    out[NM_NAME_BYTES - 1] = 0;
}
