// SPDX-License-Identifier: Apache-2.0 OR MIT
/* gzip_check.h: the checksum of a gzip file, which libarchive reads over (xz and zstd it checks itself).
 *
 * A gzip member ends with the CRC-32 and the length of what it unpacks to (RFC 1952). Nearly all files are one member; of a
 * file of several only the last one is checked, for their borders cannot be seen from outside. */
#ifndef REPLAY_GZIP_CHECK_H
#define REPLAY_GZIP_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gzip_check {
    uint32_t wanted_crc, wanted_len; /* from the end of the file; the length modulo 2^32 */
    uint64_t skip;                   /* bytes of earlier members, not yet passed */
    uint64_t total;                  /* unpacked bytes so far, without these */
    uint32_t crc;
} gzip_check;

/* Reads what is wanted from the end of the file; its offset stays. False: too short to be gzip. */
bool gzip_check_start(gzip_check *c, int fd, uint64_t skip);

/* Adds unpacked bytes. O(len). */
void gzip_check_add(gzip_check *c, const void *bytes, size_t len);

/* True if all is as wanted. */
bool gzip_check_holds(const gzip_check *c);

#endif
