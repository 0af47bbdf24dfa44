// SPDX-License-Identifier: Apache-2.0 OR MIT
/* obstack, of glibc: chunks from malloc, by default of a page; a mark is the address of an empty object. Its own functions are
 * macros, so that the allocation is inlined here and costs one call. */
#include "peers/peers.h"

#include <malloc.h>
#include <obstack.h>
#include <stdlib.h>

#define obstack_chunk_alloc malloc
#define obstack_chunk_free  free

typedef struct region {
    struct obstack obstack;
    void *first; /* an empty object before all others */
} region;

static void *region_open(const peer_need *need) {
    region *r = malloc(sizeof *r);
    if (r == NULL) return NULL;
    /* a refused chunk ends the process with a message: obstack's own way */
    if (need->block_bytes != 0)
        obstack_begin(&r->obstack, need->block_bytes);
    else
        obstack_init(&r->obstack);
    r->first = obstack_alloc(&r->obstack, 0);
    return r;
}

static void *region_alloc(void *self, size_t n) {
    region *r = self;
    return obstack_alloc(&r->obstack, n);
}

static void *region_reset(void *self) {
    region *r = self;
    obstack_free(&r->obstack, r->first);
    r->first = obstack_alloc(&r->obstack, 0);
    return r;
}

static void *region_mark(void *self, void **mark) {
    region *r = self;
    *mark = obstack_alloc(&r->obstack, 0);
    return r;
}

static void region_rewind(void *self, void *mark) {
    region *r = self;
    obstack_free(&r->obstack, mark);
}

static void region_close(void *self) {
    region *r = self;
    obstack_free(&r->obstack, NULL);
    free(r);
}

static void region_tidy(void) { malloc_trim(0); }

void peer_obstack(peer_region *out) {
    *out = (peer_region){"obstack",   region_open,   region_alloc, region_reset,
                         region_mark, region_rewind, region_close, region_tidy};
}
