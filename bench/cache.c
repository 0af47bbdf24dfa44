// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What does the cache cost per call and per entry, against the least that a table could do and what everybody writes first?
 *
 * limit: an open-addressing table of fixed room for all keys, with key and value inline: no eviction, no order, no lock, a
 * hash that anybody can flood. malloc_lru: chained hash, LRU list and a mutex, each entry a block of glibc's malloc, bounded
 * by the number of entries that nebula held. All look up keys of 16 bytes, chosen by Zipf's law, and copy a value of 100
 * bytes out; a miss is put. At the end the bytes per entry beyond key and value, of a full cache: more than 60 is a failure. */
#include "bench.h"

#include <math.h>
#include <pthread.h>

#include "nebula/memory.h"

#define KEYS        1000000u
#define KEY_BYTES   16u
#define VALUE_BYTES 100u
#define OPERATIONS  2000000u
#define SKEW        0.99

static uint32_t *requests; /* key numbers */
static unsigned char (*keys)[KEY_BYTES];
static unsigned char sink[VALUE_BYTES], source[VALUE_BYTES];
static bool with_puts; /* one request in ten is a put */

static void fail(const char *what) {
    fprintf(stderr, "bench/cache: %s\n", what);
    exit(1);
}

static void *must(void *p) {
    if (p == NULL) fail("out of memory");
    return p;
}

/* Ranks by inversion of the sum; a random order of keys, so that neighbours in rank are none in memory. */
static void make_requests(void) {
    double *sums = must(malloc(KEYS * sizeof *sums)), sum = 0;
    uint32_t *order = must(malloc(KEYS * sizeof *order));
    uint64_t seed = 42;
    for (uint32_t i = 0; i < KEYS; i++) sums[i] = sum += 1 / pow(i + 1, SKEW);
    for (uint32_t i = 0; i < KEYS; i++) order[i] = i;
    for (uint32_t i = KEYS - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(bench_random(&seed) % (i + 1)), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    requests = must(malloc(OPERATIONS * sizeof *requests));
    keys = must(malloc((size_t)KEYS * KEY_BYTES));
    for (uint32_t i = 0; i < KEYS; i++) {
        uint64_t a = bench_random(&seed), b = i;
        memcpy(keys[i], &a, 8);
        memcpy(keys[i] + 8, &b, 8);
    }
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        double u = (double)(bench_random(&seed) >> 11) / 9007199254740992.0 * sum;
        uint32_t low = 0, high = KEYS - 1;
        while (low < high) {
            uint32_t middle = (low + high) / 2;
            if (sums[middle] < u)
                low = middle + 1;
            else
                high = middle;
        }
        requests[i] = order[low];
    }
    free(sums);
    free(order);
}

static uint64_t cheap_hash(const unsigned char *key) {
    uint64_t a, b;
    memcpy(&a, key, 8);
    memcpy(&b, key + 8, 8);
    return (a ^ b * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;
}

/* ---- limit ---- */

#define TABLE (KEYS * 2)

typedef struct cell {
    unsigned char key[KEY_BYTES], value[VALUE_BYTES];
    uint32_t full;
} cell;

static cell *table;

static cell *table_find(const unsigned char *key) {
    size_t i = (size_t)((unsigned __int128)cheap_hash(key) * TABLE >> 64);
    while (table[i].full && memcmp(table[i].key, key, KEY_BYTES) != 0) i = i + 1 == TABLE ? 0 : i + 1;
    return &table[i];
}

static void table_put(const unsigned char *key) {
    cell *c = table_find(key);
    memcpy(c->key, key, KEY_BYTES);
    memcpy(c->value, source, VALUE_BYTES);
    c->full = 1;
}

static void run_table(void *context) {
    (void)context;
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        const unsigned char *key = keys[requests[i]];
        cell *c = with_puts && i % 10 == 0 ? NULL : table_find(key);
        if (c != NULL && c->full)
            memcpy(sink, c->value, VALUE_BYTES);
        else
            table_put(key);
        bench_keep(sink);
    }
}

/* ---- malloc ---- */

typedef struct node {
    struct node *chain, *next, *previous;
    unsigned char key[KEY_BYTES];
    unsigned char *value;
} node;

static struct {
    pthread_mutex_t lock;
    node **buckets;
    size_t mask, count, limit;
    node list; /* ring; next is the most recent */
} lru = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void lru_link(node *n) {
    n->next = lru.list.next;
    n->previous = &lru.list;
    n->next->previous = lru.list.next = n;
}

static void lru_unlink(node *n) {
    n->next->previous = n->previous;
    n->previous->next = n->next;
}

static node **lru_find(const unsigned char *key) {
    node **at = &lru.buckets[cheap_hash(key) >> 20 & lru.mask];
    while (*at != NULL && memcmp((*at)->key, key, KEY_BYTES) != 0) at = &(*at)->chain;
    return at;
}

static void lru_put(const unsigned char *key) {
    pthread_mutex_lock(&lru.lock);
    node *n = *lru_find(key);
    if (n != NULL) {
        lru_unlink(n);
    } else {
        if (lru.count == lru.limit) {
            node *victim = lru.list.previous, **at = lru_find(victim->key);
            *at = victim->chain;
            lru_unlink(victim);
            free(victim->value);
            free(victim);
            lru.count--;
        }
        n = must(malloc(sizeof *n));
        n->value = must(malloc(VALUE_BYTES));
        memcpy(n->key, key, KEY_BYTES);
        node **at = lru_find(key);
        n->chain = *at;
        *at = n;
        lru.count++;
    }
    memcpy(n->value, source, VALUE_BYTES);
    lru_link(n);
    pthread_mutex_unlock(&lru.lock);
}

static bool lru_get(const unsigned char *key) {
    pthread_mutex_lock(&lru.lock);
    node *n = *lru_find(key);
    if (n != NULL) {
        memcpy(sink, n->value, VALUE_BYTES);
        lru_unlink(n);
        lru_link(n);
    }
    pthread_mutex_unlock(&lru.lock);
    return n != NULL;
}

static void run_lru(void *context) {
    (void)context;
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        const unsigned char *key = keys[requests[i]];
        if ((with_puts && i % 10 == 0) || !lru_get(key)) lru_put(key);
        bench_keep(sink);
    }
}

static void lru_open(size_t limit) {
    lru.mask = ((size_t)1 << 20) - 1;
    lru.buckets = must(calloc(lru.mask + 1, sizeof *lru.buckets));
    lru.limit = limit;
    lru.list.next = lru.list.previous = &lru.list;
}

/* ---- nebula ---- */

static void nebula_put(nm_cache *cache, const unsigned char *key) {
    if (nm_cache_put(cache, key, KEY_BYTES, source, VALUE_BYTES) != NM_OK) fail("put refused");
}

static void run_nebula(void *context) {
    nm_cache *cache = context;
    nm_entry e;
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        const unsigned char *key = keys[requests[i]];
        if (!(with_puts && i % 10 == 0) && nm_cache_get(cache, key, KEY_BYTES, &e)) {
            memcpy(sink, e.value, VALUE_BYTES);
            nm_entry_release(&e);
        } else {
            nebula_put(cache, key);
        }
        bench_keep(sink);
    }
}

static nm_cache *open_cache(nm_scope *root, size_t budget, unsigned shards) {
    nm_cache *cache;
    if (nm_cache_open(&cache, root, NM_CACHE_OPTIONS(.budget_bytes = budget, .shard_count = shards)) != NM_OK)
        fail("the cache does not open");
    return cache;
}

static double overhead(nm_scope *root) {
    /* Enough that about a million entries fit; a quarter more are put, so that it is full and has evicted. */
    size_t charge = nm_cache_charge(NULL, KEY_BYTES, VALUE_BYTES), budget = KEYS * (charge + 8);
    nm_cache *cache = open_cache(root, budget, 0);
    for (uint64_t i = 0; i < KEYS + KEYS / 4; i++) {
        unsigned char key[KEY_BYTES] = {0};
        memcpy(key, &i, sizeof i);
        nebula_put(cache, key);
    }
    size_t count = nm_cache_count(cache), granted = nm_cache_granted(cache), used = nm_cache_used(cache);
    double bytes = (double)granted / (double)count - KEY_BYTES - VALUE_BYTES;
    printf(
        "\nentries,budget_bytes,granted_bytes,used_bytes,bytes_per_entry_beyond_key_and_value\n%zu,%zu,%zu,%zu,%.1f\n",
        count, budget, granted, used, bytes);
    if (nm_cache_close(cache) != NM_OK) fail("the cache does not close");
    return bytes;
}

int main(int argc, char **argv) {
    nm_scope *root;
    size_t rounds = bench_rounds(argc, argv);
    if (nm_scope_open(&root, NULL, NULL) != NM_OK) fail("no root");
    bench_pin(0);
    make_requests();
    table = must(calloc(TABLE, sizeof *table));
    /* A quarter of the keys' bytes. */
    size_t budget = (size_t)KEYS / 4 * nm_cache_charge(NULL, KEY_BYTES, VALUE_BYTES);
    nm_cache *quarter = open_cache(root, budget, 0), *whole = open_cache(root, 5 * budget, 0);
    lru_open(KEYS);
    for (uint32_t i = 0; i < KEYS; i++) {
        table_put(keys[i]);
        lru_put(keys[i]);
        nebula_put(whole, keys[i]);
    }
    bench_header();
    bench_compare(
        "hit", OPERATIONS, rounds,
        (bench_subject[]){{"limit", run_table, NULL}, {"malloc_lru", run_lru, NULL}, {"nebula", run_nebula, whole}}, 3);
    while (lru.count > KEYS / 4) { /* the same room as the cache at a quarter */
        node *victim = lru.list.previous, **at = lru_find(victim->key);
        *at = victim->chain;
        lru_unlink(victim);
        free(victim->value);
        free(victim);
        lru.count--;
    }
    run_nebula(quarter);
    lru.limit = nm_cache_count(quarter);
    with_puts = true;
    bench_compare(
        "quarter_90_10", OPERATIONS, rounds,
        (bench_subject[]){{"limit", run_table, NULL}, {"malloc_lru", run_lru, NULL}, {"nebula", run_nebula, quarter}},
        3);
    if (nm_cache_close(quarter) != NM_OK || nm_cache_close(whole) != NM_OK) fail("the cache does not close");
    bool small = overhead(root) <= 60;
    nm_scope_close(root, NULL);
    if (!small) fail("more than 60 bytes an entry beyond key and value");
    return 0;
}
