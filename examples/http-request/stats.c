// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A dump looks at the whole tree, and what it is printed into must not grow in that tree meanwhile. So the memory is there
 * before; where it does not do, the dump has told how much would, and is printed once more. */
#include "stats.h"

#include <stdio.h>

enum { TRIES = 4 };

struct page {
    unsigned char *at;
    size_t room;
    size_t bytes; /* printed; beyond the room they are only counted */
};

static ssize_t write_page(void *cookie, const char *data, size_t n) {
    struct page *p = cookie;
    if (p->bytes < p->room) memcpy(p->at + p->bytes, data, n < p->room - p->bytes ? n : p->room - p->bytes);
    p->bytes += n;
    return (ssize_t)n;
}

static nm_status print(const nm_scope *root, nm_dump_format format, struct page *p) {
    p->bytes = 0;
    FILE *to = fopencookie(p, "w", (cookie_io_functions_t){.write = write_page});
    if (to == NULL) return NM_ENOMEM;
    nm_status st = nm_scope_dump(root, to, format);
    if (fclose(to) != 0 && st == NM_OK) st = NM_ESYSTEM;
    return st;
}

nm_status stats_print(request *r, nm_dump_format format, const void **out, size_t *bytes) {
    struct page page = {.at = r->buffer.data, .room = r->buffer.size};
    for (int i = 0; i < TRIES; i++) {
        nm_status st = print(r->session->service->root, format, &page);
        if (st != NM_OK) return st;
        if (page.bytes <= page.room) {
            *out = page.at;
            *bytes = page.bytes;
            return NM_OK;
        }
        page.room = page.bytes + page.bytes / 8; /* sessions may be opened meanwhile */
        page.at = nm_arena_alloc(r->arena, page.room);
        if (page.at == NULL) return nm_arena_status(r->arena);
    }
    return NM_EBUSY;
}
