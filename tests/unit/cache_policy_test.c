// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The segments against a textbook segmented LRU that shares nothing with them, alone and inside a whole cache. */
#include "cache/policy.h"

#include "cache_check.h"
#include "nebula/cache.h"
#include "testing.h"

#define KEYS 5000u

/* ---- the textbook: two arrays of keys, most recent first, all of weight 1; nothing clever ---- */

typedef struct textbook {
    uint32_t probation[KEYS], protected[KEYS];
    size_t probation_count, protected_count, capacity, protected_capacity;
} textbook;

static bool take_out(uint32_t *list, size_t *count, uint32_t key) {
    for (size_t i = 0; i < *count; i++)
        if (list[i] == key) {
            memmove(list + i, list + i + 1, (*count - i - 1) * sizeof *list);
            (*count)--;
            return true;
        }
    return false;
}

static void put_front(uint32_t *list, size_t *count, uint32_t key) {
    memmove(list + 1, list, *count * sizeof *list);
    list[0] = key;
    (*count)++;
}

static bool textbook_request(textbook *t, uint32_t key) {
    if (take_out(t->protected, &t->protected_count, key)) {
        put_front(t->protected, &t->protected_count, key);
        return true;
    }
    if (take_out(t->probation, &t->probation_count, key)) {
        if (t->protected_capacity == 0) {
            put_front(t->probation, &t->probation_count, key);
            return true;
        }
        put_front(t->protected, &t->protected_count, key);
        while (t->protected_count > t->protected_capacity)
            put_front(t->probation, &t->probation_count, t->protected[--t->protected_count]);
        return true;
    }
    if (t->probation_count + t->protected_count == t->capacity) {
        if (t->probation_count > 0)
            t->probation_count--;
        else
            t->protected_count--;
    }
    if (t->protected_count < t->protected_capacity)
        put_front(t->protected, &t->protected_count, key);
    else
        put_front(t->probation, &t->probation_count, key);
    return false;
}

/* Mostly a skewed choice, now and then a scan: what tells SLRU from LRU. */
static uint32_t next_key(uint64_t *seed, uint32_t *scan) {
    uint64_t r = test_random(seed);
    if (*scan == 0 && r % 400 == 0) *scan = 300;
    if (*scan > 0) {
        (*scan)--;
        return KEYS / 2 + (uint32_t)((r >> 32) % (KEYS / 2));
    }
    double u = (double)(r >> 11) / 9007199254740992.0;
    return (uint32_t)(u * u * u * (KEYS / 2));
}

/* ---- the segments alone: nodes and nothing else, as a simulator uses them ---- */

typedef struct sim_node {
    nm__node node;
    uint32_t present;
} sim_node;
_Static_assert(sizeof(sim_node) == NM__UNIT_BYTES, "numbers count nodes");

static size_t weigh_one(const nm__node *node) {
    (void)node;
    return 1;
}

static void compare_alone(size_t capacity, size_t protected_capacity) {
    static sim_node nodes[KEYS + 1];
    static textbook book;
    nm__segments s;
    memset(nodes, 0, sizeof nodes);
    memset(&book, 0, sizeof book);
    book.capacity = capacity;
    book.protected_capacity = protected_capacity;
    nm__segments_open(&s, nodes, weigh_one);
    nm__segments_limit(&s, protected_capacity);
    uint64_t seed = test_seed();
    uint32_t scan = 0;
    for (int i = 0; i < 60000; i++) {
        uint32_t key = next_key(&seed, &scan), number = key + 1;
        bool hit = nodes[number].present;
        assert_int_equal(hit, textbook_request(&book, key));
        if (hit && i % 2 == 0) {
            nm__segments_hit(&s, number);
        } else if (hit) {
            nm__segments_pin(&s, number);
            nm__segments_unpin(&s, number);
        } else {
            if (s.bytes[0] + s.bytes[1] == capacity) {
                uint32_t victim = nm__segments_victim(&s);
                nm__segments_remove(&s, victim, false);
                nodes[victim].present = 0;
            }
            nm__segments_add(&s, number);
            nodes[number].present = 1;
        }
        assert_int_equal(s.bytes[NM__PROTECTED], book.protected_count);
        assert_int_equal(s.bytes[NM__PROBATION], book.probation_count);
    }
}

static void slru_equals_the_textbook_at_every_request(void **state) {
    (void)state;
    compare_alone(500, 400);
    compare_alone(500, 50);
    compare_alone(10, 8);
}

static void lru_is_the_textbook_without_a_protected_segment(void **state) {
    (void)state;
    compare_alone(500, 0);
    compare_alone(1, 0);
}

static void pinned_nodes_are_no_victims_and_come_back_at_the_head(void **state) {
    (void)state;
    static sim_node nodes[8];
    nm__segments s;
    memset(nodes, 0, sizeof nodes);
    nm__segments_open(&s, nodes, weigh_one);
    for (uint32_t i = 1; i <= 3; i++) nm__segments_add(&s, i);
    assert_int_equal(nm__segments_victim(&s), 1);
    for (uint32_t i = 1; i <= 3; i++) nm__segments_pin(&s, i);
    assert_int_equal(nm__segments_victim(&s), 0);
    nm__segments_unpin(&s, 3);
    nm__segments_unpin(&s, 1);
    assert_int_equal(nm__segments_victim(&s), 3);
    nm__segments_remove(&s, 2, true);
    nm__segments_remove(&s, 3, false);
    assert_int_equal(nm__segments_victim(&s), 1);
    assert_int_equal(s.bytes[0] + s.bytes[1], 1);
}

/* ---- inside a cache ---- */

static bool request(nm_cache *cache, uint32_t key) {
    char name[17], value[100] = {0};
    snprintf(name, sizeof name, "key-%012" PRIu32, key);
    nm_entry e;
    if (nm_cache_get(cache, name, 16, &e)) {
        nm_entry_release(&e);
        return true;
    }
    assert_ok(nm_cache_put(cache, name, 16, value, sizeof value));
    return false;
}

static void compare_inside(nm_cache_policy policy) {
    static textbook book;
    nm_scope *root;
    nm_cache *cache;
    assert_ok(nm_scope_open(&root, NULL, NULL));
    assert_ok(
        nm_cache_open(&cache, root, NM_CACHE_OPTIONS(.budget_bytes = 160 << 10, .shard_count = 1, .policy = policy)));
    /* What is left for entries once the tables have grown: filled, counted, emptied. */
    for (uint32_t key = 0; key < KEYS; key++) request(cache, key);
    memset(&book, 0, sizeof book);
    book.capacity = nm_cache_count(cache);
    book.protected_capacity = cache->shards[0].segments.protected_limit / nm_cache_charge(NULL, 16, 100);
    assert_in_range(book.capacity, 600, 1100);
    nm_cache_clear(cache);
    uint64_t seed = test_seed();
    uint32_t scan = 0;
    long hits = 0, wanted = 0, count = 200000;
    for (long i = 0; i < count; i++) {
        uint32_t key = next_key(&seed, &scan);
        hits += request(cache, key);
        wanted += textbook_request(&book, key);
    }
    print_message("hit ratio %.4f, textbook %.4f\n", (double)hits / (double)count, (double)wanted / (double)count);
    assert_true(labs(hits - wanted) <= count / 500);
    cache_check(cache);
    nm_scope_close(root, NULL);
}

static void a_cache_of_equal_entries_hits_as_the_textbook_slru(void **state) {
    (void)state;
    compare_inside(NM_CACHE_SLRU);
}

static void a_cache_of_equal_entries_hits_as_the_textbook_lru(void **state) {
    (void)state;
    compare_inside(NM_CACHE_LRU);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slru_equals_the_textbook_at_every_request),
        cmocka_unit_test(lru_is_the_textbook_without_a_protected_segment),
        cmocka_unit_test(pinned_nodes_are_no_victims_and_come_back_at_the_head),
        cmocka_unit_test(a_cache_of_equal_entries_hits_as_the_textbook_slru),
        cmocka_unit_test(a_cache_of_equal_entries_hits_as_the_textbook_lru),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
