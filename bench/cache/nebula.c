// SPDX-License-Identifier: Apache-2.0 OR MIT
/* nebula's cache, as a program uses it: get, copy, release; its own hash, which is keyed, and its own number of shards.
 *
 *   nebula               as it is
 *   nebula_plain_locks   the same with a lock around each read of a shard in place of reads that take none; only where
 *                        the library has the switch that is declared below */
#include "bench.h"

#include "cache/subject.h"
#include "nebula/memory.h"

typedef struct setup {
    nm_scope *root;
    nm_cache *cache;
} setup;

/* The hook: a library that defines this function has the second subject. It is called once, before the first use. */
void nm__cache_use_plain_locks(nm_cache *cache) __attribute__((__weak__));

static const char plain_locks; /* its address is the tag of the second subject */

static void *nebula_open(const cache_subject *self, const cache_room *room) {
    setup *c = cache_must(malloc(sizeof *c));
    if (nm_scope_open(&c->root, NULL, NULL) != NM_OK ||
        nm_cache_open(&c->cache, c->root, NM_CACHE_OPTIONS(.budget_bytes = room->bytes)) != NM_OK)
        return NULL;
    if (self->tag == &plain_locks) nm__cache_use_plain_locks(c->cache);
    return c;
}

static void nebula_close(void *context) {
    setup *c = context;
    if (nm_cache_close(c->cache) != NM_OK || nm_scope_close(c->root, NULL) != 0) cache_fail("nebula", "leaked");
    free(c);
}

static size_t nebula_count(void *context) { return nm_cache_count(((setup *)context)->cache); }

static void nebula_serve(void *context, const cache_request *requests, size_t n, cache_tally *tally) {
    nm_cache *cache = ((setup *)context)->cache;
    unsigned char copy[CACHE_VALUE_BYTES];
    for (const cache_request *r = requests; r < requests + n; r++) {
        nm_entry e;
        tally->gets += !r->put;
        if (!r->put && nm_cache_get(cache, r->key, CACHE_KEY_BYTES, &e)) {
            memcpy(copy, e.value, CACHE_VALUE_BYTES);
            nm_entry_release(&e);
            cache_hit(tally, r, copy);
        } else if (nm_cache_put(cache, r->key, CACHE_KEY_BYTES, cache_value(r), CACHE_VALUE_BYTES) != NM_OK) {
            cache_fail("nebula", "a put was refused");
        }
    }
}

void cache_add_nebula(cache_list *list) {
    cache_subject subject = {
        .name = "nebula", .open = nebula_open, .close = nebula_close, .count = nebula_count, .serve = nebula_serve};
    cache_list_add(list, &subject);
    if (nm__cache_use_plain_locks != NULL) {
        subject.name = "nebula_plain_locks";
        subject.tag = &plain_locks;
        cache_list_add(list, &subject);
    }
}
