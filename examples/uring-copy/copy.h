// SPDX-License-Identifier: Apache-2.0 OR MIT
/* uring-copy: the copy itself, in two ways: through io_uring, and through preadv and pwritev where that is refused. Both use
 * the buffers of one pool, and hold a lease only while the kernel reads or writes that buffer. */
#ifndef URING_COPY_COPY_H
#define URING_COPY_COPY_H

#include <nebula/memory.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* O_DIRECT wants addresses, offsets and lengths in whole blocks of the device; no usual one has larger blocks. */
#define COPY_ALIGN ((size_t)4096)

typedef struct copy {
    const char *from_name, *to_name;
    int from, to;
    bool from_direct, to_direct; /* opened past the page cache */
    uint64_t bytes;              /* of FROM, when it was opened */
    size_t block_bytes;          /* a multiple of COPY_ALIGN */
    size_t depth;                /* buffers of the pool, so most that are at work */
    size_t peak;                 /* most that were */
    nm_arena *arena;
    nm_pool *pool;
    const char *what, *why; /* the first failure; what NULL: none */
    int error;              /* its errno; 0: it has none */
} copy;

/* Set by the signal that asks for an end; 0: none has. */
extern volatile sig_atomic_t copy_signal;

/* Notes a failure, if none is noted yet. why NULL: the text of `error`. */
void copy_fail(copy *c, const char *what, int error, const char *why);
static inline bool copy_failed(const copy *c) { return c->what != NULL; }

/* A stretch of the file on its way: it is read, then it is written. */
typedef struct stretch {
    uint64_t offset;
    size_t bytes;       /* of the file */
    size_t done;        /* of these, read, or written */
    unsigned char *pad; /* behind the last byte in its buffer */
    bool writing;
} stretch;

typedef enum stretch_step { STRETCH_GOES_ON, STRETCH_WRITTEN, STRETCH_FAILED } stretch_step;

/* How far the next request for it goes. */
size_t stretch_end(const copy *c, const stretch *s);
/* Takes a request's result: bytes, or -errno. */
stretch_step stretch_advance(copy *c, stretch *s, long result);

/* False: io_uring is not to be had here, and error_out says why; nothing is copied. Else all is copied, or copy_failed. */
bool copy_by_uring(copy *c, int *error_out);
void copy_by_vectors(copy *c);

#endif
