// SPDX-License-Identifier: Apache-2.0 OR MIT
/* record.h: one request of a trace, from a line of text or from a binary record. Pure functions, any thread. */
#ifndef REPLAY_RECORD_H
#define REPLAY_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_KEY_MAX  65535               /* NM_CACHE_KEY_MAX */
#define RECORD_SIZE_MAX (UINT64_C(1) << 40) /* a larger object is a broken line, not a request */
#define RECORD_LINE_MAX (RECORD_KEY_MAX + 65)

typedef enum record_format {
    RECORD_TEXT = 0, /* "key size" or "key"; white space between and around */
    RECORD_ORACLE,   /* libCacheSim's oracleGeneral: RECORD_ORACLE_BYTES each */
} record_format;

/* u32 time, u64 object, u32 size, i64 next access; packed, little endian. */
#define RECORD_ORACLE_BYTES 24

typedef struct record {
    const char *key; /* points into the line, or to `digits` */
    size_t key_len;  /* 1 to RECORD_KEY_MAX */
    uint64_t size;   /* bytes, if has_size */
    bool has_size;
    char digits[20]; /* a binary object number, as decimal text: one trace has the same keys in both formats */
} record;

/* Reads a line without its newline, or a binary record. NULL: *out is filled in, and lives as long as the line. Else a
 * sentence that says what is wrong, a constant; *out is undefined then. */
const char *record_parse(record_format format, const char *line, size_t len, record *out);

#endif
