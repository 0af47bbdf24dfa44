// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "record.h"

#include <string.h>

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static const char *parse_size(const char *text, size_t len, uint64_t *out) {
    uint64_t size = 0;
    if (text[0] == '-') return "the size is negative";
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') return "the size is not a decimal number";
        size = size * 10 + (uint64_t)(text[i] - '0');
        if (size > RECORD_SIZE_MAX) return "the size is above 2^40";
    }
    *out = size;
    return NULL;
}

static const char *parse_text(const char *line, size_t len, record *out) {
    if (len > RECORD_LINE_MAX) return "the line is longer than 65,600 bytes";
    if (memchr(line, '\0', len) != NULL) return "the line has a NUL byte (for a binary trace, see --format)";
    const char *field[2];
    size_t field_len[2];
    size_t count = 0, at = 0;
    for (;;) {
        while (at < len && is_space(line[at])) at++;
        if (at == len) break;
        if (count == 2) return "the line has more than two fields (key size)";
        size_t first = at;
        while (at < len && !is_space(line[at])) at++;
        field[count] = line + first;
        field_len[count] = at - first;
        count++;
    }
    if (count == 0) return "the line has no key";
    if (field_len[0] > RECORD_KEY_MAX) return "the key is longer than 65,535 bytes";
    out->key = field[0];
    out->key_len = field_len[0];
    out->has_size = count == 2;
    out->size = 0;
    return out->has_size ? parse_size(field[1], field_len[1], &out->size) : NULL;
}

static uint64_t little_endian(const char *bytes, unsigned count) {
    uint64_t value = 0;
    for (unsigned i = 0; i < count; i++) value |= (uint64_t)(unsigned char)bytes[i] << (8 * i);
    return value;
}

static const char *parse_oracle(const char *bytes, size_t len, record *out) {
    if (len != RECORD_ORACLE_BYTES) return "the record is cut short (24 bytes each)";
    uint64_t object = little_endian(bytes + 4, 8);
    size_t at = sizeof out->digits;
    do {
        out->digits[--at] = (char)('0' + object % 10);
        object /= 10;
    } while (object != 0);
    out->key = out->digits + at;
    out->key_len = sizeof out->digits - at;
    out->size = little_endian(bytes + 12, 4);
    out->has_size = true;
    return NULL;
}

const char *record_parse(record_format format, const char *line, size_t len, record *out) {
    return format == RECORD_ORACLE ? parse_oracle(line, len, out) : parse_text(line, len, out);
}
