// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "gzip_check.h"

#include <sys/stat.h>
#include <unistd.h>

#define TRAILER_BYTES 8

/* CRC-32 of the polynomial 0xEDB88320, four bits at a time: unpacking costs more than this. */
static uint32_t crc_step(uint32_t crc, unsigned char byte) {
    static const uint32_t table[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
        0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
    };
    crc ^= byte;
    crc = crc >> 4 ^ table[crc & 15];
    return crc >> 4 ^ table[crc & 15];
}

static uint32_t little_endian(const unsigned char *b) {
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

bool gzip_check_start(gzip_check *c, int fd, uint64_t skip) {
    struct stat info;
    unsigned char trailer[TRAILER_BYTES];
    if (fstat(fd, &info) != 0 || info.st_size < TRAILER_BYTES) return false;
    if (pread(fd, trailer, TRAILER_BYTES, info.st_size - TRAILER_BYTES) != TRAILER_BYTES) return false;
    *c = (gzip_check){
        .wanted_crc = little_endian(trailer),
        .wanted_len = little_endian(trailer + 4),
        .skip = skip,
        .crc = UINT32_MAX,
    };
    return true;
}

void gzip_check_add(gzip_check *c, const void *bytes, size_t len) {
    const unsigned char *p = bytes;
    size_t passed = c->skip < len ? (size_t)c->skip : len;
    c->skip -= passed;
    c->total += len - passed;
    for (size_t i = passed; i < len; i++) c->crc = crc_step(c->crc, p[i]);
}

bool gzip_check_holds(const gzip_check *c) {
    return c->skip == 0 && (uint32_t)c->total == c->wanted_len && ~c->crc == c->wanted_crc;
}
