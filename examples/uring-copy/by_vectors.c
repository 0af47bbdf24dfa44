// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The copy where io_uring is refused: as many buffers as there are, filled by one call and written by another. */
#include <errno.h>

#include "copy.h"

/* The stretch lies in several buffers, one block in each. */
static long transfer(const copy *c, const stretch *s, const nm_lease *leases, struct iovec *pieces) {
    size_t end = stretch_end(c, s);
    int count = 0;
    for (size_t at = s->done; at < end;) {
        size_t inside = at % c->block_bytes, n = c->block_bytes - inside;
        if (n > end - at) n = end - at;
        pieces[count++] = (struct iovec){(unsigned char *)leases[at / c->block_bytes].data + inside, n};
        at += n;
    }
    off_t offset = (off_t)(s->offset + s->done);
    ssize_t n = s->writing ? pwritev(c->to, pieces, count, offset) : preadv(c->from, pieces, count, offset);
    return n >= 0 ? n : -errno;
}

void copy_by_vectors(copy *c) {
    nm_lease *leases = NM_NEW_ARRAY(c->arena, nm_lease, c->depth);
    struct iovec *pieces = NM_NEW_ARRAY(c->arena, struct iovec, c->depth);
    if (leases == NULL || pieces == NULL) {
        copy_fail(c, "buffers", 0, nm_status_text(nm_arena_status(c->arena)));
        return;
    }
    for (uint64_t next = 0; next < c->bytes && !copy_failed(c);) {
        uint64_t left = c->bytes - next, blocks = (left - 1) / c->block_bytes + 1;
        size_t count = nm_pool_lease_many(c->pool, leases, blocks < c->depth ? (size_t)blocks : c->depth);
        if (count == 0) {
            copy_fail(c, "buffer", 0, "none is free, though none is at work");
            return;
        }
        if (count > c->peak) c->peak = count;
        size_t room = count * c->block_bytes, bytes = left < room ? (size_t)left : room;
        unsigned char *last = leases[(bytes - 1) / c->block_bytes].data;
        stretch s = {.offset = next, .bytes = bytes, .pad = last + (bytes - 1) % c->block_bytes + 1};
        while (stretch_advance(c, &s, transfer(c, &s, leases, pieces)) == STRETCH_GOES_ON)
            if (copy_signal != 0) {
                copy_fail(c, c->to_name, 0, "stopped by a signal");
                break;
            }
        nm_lease_release_many(leases, count);
        next += bytes;
    }
}
