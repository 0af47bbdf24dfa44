// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What a C programmer writes with GLib: a GHashTable of entries, a GQueue of their links in the order of use, and one
 * mutex. The hash table is a set, so that an entry costs it 12 bytes; key, value and links lie in one block. */
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "cache/subject.h"

typedef struct entry {
    uint64_t key[2]; /* first: a pointer to an entry is one to its key */
    GList link;
    unsigned char value[CACHE_VALUE_BYTES];
} entry;

typedef struct setup {
    GMutex lock;
    GHashTable *table;
    GQueue order; /* the most recent first */
    size_t entries;
} setup;

static guint hash_key(gconstpointer key) { return (guint)cache_keyed_hash(key); }

static gboolean same_key(gconstpointer a, gconstpointer b) { return memcmp(a, b, CACHE_KEY_BYTES) == 0; }

static void *glib_open(const cache_subject *self, const cache_room *room) {
    (void)self;
    setup *c = g_new0(setup, 1);
    g_mutex_init(&c->lock);
    c->table = g_hash_table_new(hash_key, same_key);
    g_queue_init(&c->order);
    c->entries = room->entries;
    return c;
}

static void drop_last(setup *c) {
    entry *e = g_queue_pop_tail_link(&c->order)->data;
    g_hash_table_remove(c->table, e);
    g_free(e);
}

static void glib_close(void *context) {
    setup *c = context;
    while (c->order.length > 0) drop_last(c);
    g_hash_table_destroy(c->table);
    g_mutex_clear(&c->lock);
    g_free(c);
}

static size_t glib_count(void *context) { return ((setup *)context)->order.length; }

static void use(setup *c, entry *e) {
    g_queue_unlink(&c->order, &e->link);
    g_queue_push_head_link(&c->order, &e->link);
}

static bool get(setup *c, const cache_request *r, unsigned char *copy) {
    g_mutex_lock(&c->lock);
    entry *e = g_hash_table_lookup(c->table, r->key);
    if (e != NULL) {
        memcpy(copy, e->value, CACHE_VALUE_BYTES);
        use(c, e);
    }
    g_mutex_unlock(&c->lock);
    return e != NULL;
}

static void put(setup *c, const cache_request *r) {
    g_mutex_lock(&c->lock);
    entry *e = g_hash_table_lookup(c->table, r->key);
    if (e != NULL) {
        use(c, e);
    } else {
        if (c->order.length >= c->entries) drop_last(c);
        e = g_malloc(sizeof *e);
        memcpy(e->key, r->key, CACHE_KEY_BYTES);
        e->link = (GList){.data = e};
        g_hash_table_add(c->table, e);
        g_queue_push_head_link(&c->order, &e->link);
    }
    memcpy(e->value, cache_value(r), CACHE_VALUE_BYTES);
    g_mutex_unlock(&c->lock);
}

static void glib_serve(void *context, const cache_request *requests, size_t n, cache_tally *tally) {
    unsigned char copy[CACHE_VALUE_BYTES];
    for (const cache_request *r = requests; r < requests + n; r++) {
        tally->gets += !r->put;
        if (!r->put && get(context, r, copy))
            cache_hit(tally, r, copy);
        else
            put(context, r);
    }
}

void cache_add_glib(cache_list *list) {
    cache_subject subject = {
        .name = "glib", .open = glib_open, .close = glib_close, .count = glib_count, .serve = glib_serve};
    cache_list_add(list, &subject);
}
