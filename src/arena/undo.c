// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What happens to the contents of memory that is undone, where more than moving `ptr` is asked for. */
#include "arena/watch.h"

/* The compiler may not see that nobody reads what is written. */
static void fill(unsigned char *p, int byte, size_t bytes) {
    memset(p, byte, bytes);
    __asm__ volatile("" : : "r"(p) : "memory");
}

void nm__arena_undo(nm__arena *a, unsigned char *p, size_t bytes) {
    if (bytes == 0) return;
    if (a->secret) {
        if (a->checked) nm__check_unpoison(p, bytes); /* padding and red zones too */
        fill(p, 0, bytes);
    } else if (a->watch != NULL && a->watch->burying) {
        fill(p, NM__FILL_UNDONE, bytes);
    }
    if (a->checked) nm__check_poison(p, bytes);
}

void nm__arena_undo_chain(nm__arena *a) {
    size_t end = nm__arena_chain_bytes(a);
    for (nm__arena_block *b = a->block; b != NULL; b = b->previous) {
        nm__arena_undo(a, nm__arena_payload(b), end - b->used_before);
        end = b->used_before;
    }
}
