// SPDX-License-Identifier: Apache-2.0 OR MIT
/* nebula's cache, as a program uses it: get, copy, release; its own hash, which is keyed, and its own number of shards.
 *
 *   nebula               as it is
 *   nebula_plain_locks   the same with a lock around each read of a shard in place of reads that take none
 *   nebula_unsampled     the same without sampling for setting and curve; only if it is named
 *   nebula_slru, nebula_slru_unsampled
 *                        NM_CACHE_SLRU, with sampling for the curve and without; only if they are named
 *
 * A subject is left out where the library does not have its switch, which is declared below. */
#include "bench.h"

#include "cache/subject.h"
#include "nebula/memory.h"

typedef struct setup {
    nm_scope *root;
    nm_cache *cache;
} setup;

/* The hooks, called once, before the first use. */
void nm__cache_use_plain_locks(nm_cache *cache) __attribute__((__weak__));
void nm__sampler_stop(nm_cache *cache) __attribute__((__weak__));

typedef struct variant {
    const char *name;
    nm_cache_policy policy;
    bool needs_change, on_request;
    void (*change)(nm_cache *cache);
} variant;

static void *nebula_open(const cache_subject *self, const cache_room *room) {
    const variant *v = self->tag;
    setup *c = cache_must(malloc(sizeof *c));
    if (nm_scope_open(&c->root, NULL, NULL) != NM_OK ||
        nm_cache_open(&c->cache, c->root, NM_CACHE_OPTIONS(.budget_bytes = room->bytes, .policy = v->policy)) != NM_OK)
        return NULL;
    if (v->change != NULL) v->change(c->cache);
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
    static const variant variants[] = {
        {"nebula", NM_CACHE_DEFAULT, false, false, NULL},
        {"nebula_plain_locks", NM_CACHE_DEFAULT, true, false, nm__cache_use_plain_locks},
        {"nebula_unsampled", NM_CACHE_DEFAULT, true, true, nm__sampler_stop},
        {"nebula_slru", NM_CACHE_SLRU, false, true, NULL},
        {"nebula_slru_unsampled", NM_CACHE_SLRU, true, true, nm__sampler_stop},
    };
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        const variant *v = &variants[i];
        if (v->needs_change && v->change == NULL) continue;
        cache_list_add(list, &(cache_subject){.name = v->name,
                                              .tag = v,
                                              .on_request = v->on_request,
                                              .open = nebula_open,
                                              .close = nebula_close,
                                              .count = nebula_count,
                                              .serve = nebula_serve});
    }
}
