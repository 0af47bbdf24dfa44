// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What both ways of copying do with a request's result: short reads and writes, and a last block that is not full. */
#include <errno.h>
#include <string.h>

#include "copy.h"

volatile sig_atomic_t copy_signal;

void copy_fail(copy *c, const char *what, int error, const char *why) {
    if (c->what != NULL) return;
    c->what = what;
    c->error = error;
    c->why = why != NULL ? why : strerror(error);
}

static size_t padding(const stretch *s) { return (COPY_ALIGN - s->bytes % COPY_ALIGN) % COPY_ALIGN; }

static bool is_direct(const copy *c, const stretch *s) { return s->writing ? c->to_direct : c->from_direct; }

/* With O_DIRECT the last block is written whole, and the file cut to its length at the end. */
size_t stretch_end(const copy *c, const stretch *s) { return s->bytes + (is_direct(c, s) ? padding(s) : 0); }

stretch_step stretch_advance(copy *c, stretch *s, long result) {
    const char *file = s->writing ? c->to_name : c->from_name;
    if (result == -EINTR || result == -EAGAIN) return STRETCH_GOES_ON;
    if (result < 0) {
        copy_fail(c, file, (int)-result, NULL);
        return STRETCH_FAILED;
    }
    size_t done = s->done + (size_t)result;
    if (done < s->bytes) {
        /* Short. The next request must begin at a whole block again: what is beyond it is transferred once more. */
        if (is_direct(c, s)) done -= done % COPY_ALIGN;
        if (done == s->done) {
            if (s->writing)
                copy_fail(c, file, EIO, NULL);
            else
                copy_fail(c, file, 0, "is shorter than its size says");
            return STRETCH_FAILED;
        }
        s->done = done;
        return STRETCH_GOES_ON;
    }
    if (s->writing) return STRETCH_WRITTEN;
    memset(s->pad, 0, padding(s)); /* whatever lay in the buffer before stays out of the file */
    s->writing = true;
    s->done = 0;
    return STRETCH_GOES_ON;
}
