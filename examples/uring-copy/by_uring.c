// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The copy through io_uring. The pool's buffers are registered once, so the kernel maps and pins their pages once and not with
 * every request; a lease's index is the number of its buffer there. */
#include <errno.h>
#include <liburing.h>

#include "copy.h"

/* One for each buffer, found by the buffer's index: a buffer has one request at a time. */
typedef struct request {
    nm_lease lease;
    stretch at;
} request;

static void ask(const copy *c, struct io_uring *ring, request *r) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring); /* the ring has as many as there are buffers */
    unsigned char *data = (unsigned char *)r->lease.data + r->at.done;
    unsigned length = (unsigned)(stretch_end(c, &r->at) - r->at.done);
    uint64_t offset = r->at.offset + r->at.done;
    int index = (int)nm_lease_index(&r->lease);
    if (r->at.writing)
        io_uring_prep_write_fixed(sqe, c->to, data, length, offset, index);
    else
        io_uring_prep_read_fixed(sqe, c->from, data, length, offset, index);
    io_uring_sqe_set_data(sqe, r);
}

/* Begins with as many blocks as there are free buffers; returns how many. */
static size_t begin(copy *c, struct io_uring *ring, request *requests, uint64_t *next) {
    size_t begun = 0;
    while (*next < c->bytes && !copy_failed(c)) {
        nm_lease lease;
        nm_status st = nm_pool_try_lease(c->pool, &lease);
        if (st == NM_ECAPACITY) break; /* all of them are at work */
        if (st != NM_OK) {
            copy_fail(c, "buffer", 0, nm_status_text(st));
            break;
        }
        request *r = &requests[nm_lease_index(&lease)];
        uint64_t left = c->bytes - *next;
        size_t bytes = left < c->block_bytes ? (size_t)left : c->block_bytes;
        *r = (request){lease, {.offset = *next, .bytes = bytes, .pad = (unsigned char *)lease.data + bytes}};
        ask(c, ring, r);
        *next += bytes;
        begun++;
    }
    return begun;
}

/* Takes what is finished; returns how many buffers came free. After a failure nothing new is asked for, but what the kernel
 * still works at is waited for. */
static size_t reap(copy *c, struct io_uring *ring) {
    size_t ended = 0;
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(ring, &cqe) == 0) {
        request *r = io_uring_cqe_get_data(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(ring, cqe);
        if (!copy_failed(c) && stretch_advance(c, &r->at, result) == STRETCH_GOES_ON) {
            ask(c, ring, r);
        } else {
            nm_lease_release(&r->lease);
            ended++;
        }
    }
    return ended;
}

static void run(copy *c, struct io_uring *ring, request *requests) {
    uint64_t next = 0;
    size_t at_work = 0;
    for (;;) {
        at_work += begin(c, ring, requests, &next);
        if (at_work > c->peak) c->peak = at_work;
        if (at_work == 0) break;
        int submitted = io_uring_submit_and_wait(ring, 1);
        if (submitted < 0 && submitted != -EINTR) {
            copy_fail(c, "io_uring", -submitted, NULL);
            return;
        }
        if (copy_signal != 0) copy_fail(c, c->to_name, 0, "stopped by a signal");
        at_work -= reap(c, ring);
    }
    if (next < c->bytes) copy_fail(c, "buffer", 0, "none is free, though none is at work");
}

/* What a system answers that has no io_uring, or does not let this process have it, or not lock so much memory. */
static bool is_refusal(int error) { return error == ENOSYS || error == EPERM || error == EACCES || error == ENOMEM; }

bool copy_by_uring(copy *c, int *error_out) {
    request *requests = NM_NEW_ARRAY(c->arena, request, c->depth);
    struct iovec *buffers = NM_NEW_ARRAY(c->arena, struct iovec, c->depth);
    if (requests == NULL || buffers == NULL) {
        copy_fail(c, "requests", 0, nm_status_text(nm_arena_status(c->arena)));
        return true;
    }
    if (nm_pool_iovecs(c->pool, buffers, c->depth) != c->depth) {
        copy_fail(c, "pool", 0, "its buffers are not all in memory");
        return true;
    }
    struct io_uring ring;
    int error = -io_uring_queue_init((unsigned)c->depth, &ring, 0);
    if (error == 0) {
        error = -io_uring_register_buffers(&ring, buffers, (unsigned)c->depth);
        if (error == 0) run(c, &ring, requests);
        io_uring_queue_exit(&ring);
        /* what was still out when the ring failed */
        for (size_t i = 0; i < c->depth; i++) nm_lease_release(&requests[i].lease);
    }
    if (is_refusal(error)) {
        *error_out = error;
        return false;
    }
    if (error != 0) copy_fail(c, "io_uring", error, NULL);
    return true;
}
