// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The policies: SLRU against a textbook that shares nothing with it, all of them against a model of what is there. */
#define _DEFAULT_SOURCE /* popen, in textbook.h */
#include "cache/eviction.h"

#include "textbook.h"

#define KEYS TEXTBOOK_KEYS

/* ---- the owner's side: keys with a weight each, number = 2 * key ---- */

typedef struct place {
    nm__node node;
    uint32_t weight; /* 0: absent */
} place;

static place places[2 * KEYS + 2]; /* the upper half: where the lower may be moved to */
static bool held[2 * KEYS + 2];
static size_t used;
static nm__policy policy;

static size_t weight_of(void *context, uint32_t number) {
    assert_ptr_equal(context, places);
    assert_true(places[number / 2].weight != 0);
    return places[number / 2].weight;
}
static uint64_t hash_of_key(uint32_t key) {
    uint64_t state = key;
    return test_random(&state);
}
static uint64_t hash_of(void *context, uint32_t number) {
    assert_ptr_equal(context, places);
    return hash_of_key(number / 2 % KEYS);
}
static const nm__policy_owner owner = {.weight = weight_of, .hash = hash_of};

static _Alignas(64) unsigned char tables[1 << 16];

static void open_policy(nm_cache_policy which, nm_cache_objective objective, size_t room) {
    memset(places, 0, sizeof places);
    memset(held, 0, sizeof held);
    memset(tables, 0, sizeof tables);
    used = 0;
    size_t bytes = nm__policy_tables_bytes(which, room, 2000);
    assert_true(bytes <= sizeof tables && bytes <= 2000 * 5 / 2 + 64);
    nm__policy_open(&policy, &owner, places, places, which, objective, 80, tables, bytes);
    nm__policy_set_room(&policy, room);
}

static void take_out(uint32_t at) {
    nm__policy_remove(&policy, at * 2);
    used -= places[at].weight;
    memset(&places[at], 0, sizeof places[at]);
    held[at] = false;
}

/* As a cache of `room` bytes would; true: a hit. */
static bool request(uint32_t key, uint32_t weight, size_t room) {
    if (places[key].weight != 0) {
        nm__policy_hit(&policy, key * 2, hash_of_key(key));
        return true;
    }
    while (used + weight > room) take_out(nm__policy_victim(&policy, weight) / 2);
    places[key].weight = weight;
    used += weight;
    nm__policy_add(&policy, key * 2, hash_of_key(key));
    return false;
}

static textbook book;

static void open_both(nm_cache_policy which, size_t capacity) {
    open_policy(which, NM_OBJECTIVE_HITS, capacity);
    textbook_open(&book, capacity, which == NM_CACHE_LRU ? 0 : 80);
}

/* Mostly a skewed choice, now and then a scan: what tells SLRU from LRU. */
static uint32_t next_key(uint64_t *seed, uint32_t *scan) {
    uint64_t r = test_random(seed);
    if (*scan == 0 && r % 400 == 0) *scan = 300;
    if (*scan > 0) {
        (*scan)--;
        return 3000 + (uint32_t)((r >> 32) % 3000);
    }
    double u = (double)(r >> 11) / 9007199254740992.0;
    return 1 + (uint32_t)(u * u * u * 2500);
}

static void compare(nm_cache_policy which, size_t capacity) {
    uint64_t seed = test_seed();
    uint32_t scan = 0;
    open_both(which, capacity);
    for (int i = 0; i < 40000; i++) {
        uint32_t key = next_key(&seed, &scan);
        assert_int_equal(request(key, 1, capacity), textbook_request(&book, key));
        assert_int_equal(nm__policy_bytes(&policy, NM__PROTECTED), book.protected_count);
        assert_int_equal(nm__policy_bytes(&policy, NM__PROBATION), book.probation_count);
    }
}

static void slru_equals_the_textbook_at_every_request(void **state) {
    (void)state;
    compare(NM_CACHE_SLRU, 500);
    compare(NM_CACHE_SLRU, 10);
}

static void lru_is_the_textbook_without_a_protected_segment(void **state) {
    (void)state;
    compare(NM_CACHE_LRU, 500);
    compare(NM_CACHE_LRU, 1);
}

/* Public traces without sizes, where NEBULA_TRACES says they lie. */
static void slru_hits_as_the_textbook_on_real_traces(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint32_t keys;
    } traces[] = {{"cache2k-web07", 20484}, {"lirs-2_pools", 9939}, {"lirs-multi2", 5684}, {"lirs-gli", 2529}};
    if (!trace_folder()) skip();
    for (size_t t = 0; t < sizeof traces / sizeof *traces; t++) {
        size_t capacity = traces[t].keys / 20;
        long wanted = 0, hits = 0, count = 0;
        FILE *from = trace_open(traces[t].name);
        open_both(NM_CACHE_SLRU, capacity);
        for (uint32_t key; (key = trace_next(from)) != 0; count++) {
            hits += request(key, 1, capacity);
            wanted += textbook_request(&book, key);
        }
        trace_close(from);
        assert_true(count > 5000);
        print_message("%s: %ld of %ld hit, textbook %ld\n", traces[t].name, hits, count, wanted);
        assert_true((double)labs(hits - wanted) <= 0.002 * (double)count);
    }
}

/* ---- what is there, whatever happens ---- */

static void check_lists(size_t present, size_t total) {
    assert_int_equal(policy.bytes[0] + policy.bytes[1] + policy.bytes[2], total);
    assert_int_equal(policy.count, present);
    assert_int_equal(nm__policy_any(&policy) != 0, present != 0);
}

static void any_order_of_calls(nm_cache_policy which, nm_cache_objective objective) {
    enum { LIVE = 600, STEPS = 60000 };
    const size_t room = 40000;
    uint64_t seed = test_seed();
    size_t present = 0;
    open_policy(which, objective, room);
    for (int step = 0; step < STEPS; step++) {
        uint32_t at = 1 + (uint32_t)test_below(&seed, LIVE), key = at;
        if (places[at].weight == 0 && places[at + KEYS].weight != 0) at += KEYS; /* it was moved */
        uint32_t number = at * 2;
        switch (test_below(&seed, 10)) {
        case 0: /* leaves for no reason of the policy's */
            if (places[at].weight == 0) break;
            take_out(at);
            present--;
            break;
        case 1:
            if (places[at].weight == 0) break;
            if (held[at])
                nm__policy_unhold(&policy, number);
            else
                nm__policy_hold(&policy, number);
            held[at] = !held[at];
            break;
        case 2: { /* moved */
            uint32_t to = at < KEYS ? at + KEYS : at - KEYS;
            if (places[at].weight == 0) break;
            places[to] = places[at];
            held[to] = held[at];
            memset(&places[at], 0xff, sizeof places[at]);
            nm__policy_moved(&policy, to * 2);
            memset(&places[at], 0, sizeof places[at]);
            held[at] = false;
            break;
        }
        case 3: { /* replaced by one of another weight */
            if (places[at].weight == 0) break;
            uint32_t old = nm__node_state(&places[at].node);
            take_out(at);
            places[at].weight = 1 + (uint32_t)test_below(&seed, 700);
            nm__node_set_state(&places[at].node, 0xabcd0000u);
            used += places[at].weight;
            nm__policy_add_as(&policy, number, old);
            assert_int_equal(nm__node_state(&places[at].node) >> 16, 0xabcd);
            break;
        }
        case 4:
            if (test_below(&seed, 500) == 0) nm__policy_set_room(&policy, room / (1 + test_below(&seed, 3)));
            if (which == NM_CACHE_ADAPTIVE && test_below(&seed, 100) == 0) {
                nm__setting setting = {.choice = (uint8_t)test_below(&seed, 3), .protected_percent = 80};
                for (unsigned i = 0; i < NM__RANKS * NM__AGE_BINS; i++)
                    setting.worth[i / NM__AGE_BINS][i % NM__AGE_BINS] = (float)test_below(&seed, 100);
                nm__policy_set(&policy, &setting);
            }
            break;
        default:
            if (held[at]) break;
            if (places[at].weight != 0) {
                nm__policy_hit(&policy, number, hash_of_key(key));
                break;
            }
            uint32_t weight = 1 + (uint32_t)test_below(&seed, 700), victim = 1;
            while (used + weight > room && (victim = nm__policy_victim(&policy, weight)) != 0) {
                assert_true(places[victim / 2].weight != 0);
                assert_false(held[victim / 2]);
                assert_int_equal(nm__policy_victim(&policy, weight), victim);
                take_out(victim / 2);
                present--;
            }
            if (victim == 0) break; /* all are held */
            places[at].weight = weight;
            used += weight;
            present++;
            nm__policy_add(&policy, number, hash_of_key(key));
        }
        check_lists(present, used);
    }
    nm__list all;
    nm__policy_clear_to(&policy, &all);
    size_t count = 0;
    uint32_t last = 0;
    for (uint32_t at = all.head; at != 0; last = at, at = places[at / 2].node.next, count++) {
        assert_true(places[at / 2].weight != 0);
        assert_int_equal(places[at / 2].node.prev, last);
    }
    assert_int_equal(last, all.tail);
    assert_int_equal(count, present);
    check_lists(0, 0);
    assert_int_equal(nm__policy_victim(&policy, 1), 0);
}

static void counts_stay_right_in_any_order_of_calls(void **state) {
    (void)state;
    any_order_of_calls(NM_CACHE_SLRU, NM_OBJECTIVE_HITS);
    any_order_of_calls(NM_CACHE_LRU, NM_OBJECTIVE_HITS);
    any_order_of_calls(NM_CACHE_S3FIFO, NM_OBJECTIVE_HITS);
    any_order_of_calls(NM_CACHE_ADAPTIVE, NM_OBJECTIVE_HITS);
    any_order_of_calls(NM_CACHE_ADAPTIVE, NM_OBJECTIVE_BYTES);
}

/* ---- what is chosen ---- */

static void s3fifo_keeps_what_was_used_and_lets_a_scan_pass(void **state) {
    (void)state;
    open_policy(NM_CACHE_S3FIFO, NM_OBJECTIVE_HITS, 1000);
    for (int round = 0; round < 4; round++)
        for (uint32_t key = 1; key <= 500; key++) request(key, 1, 1000);
    for (uint32_t key = 1000; key < 4000; key++) request(key, 1, 1000);
    size_t kept = 0;
    for (uint32_t key = 1; key <= 500; key++) kept += places[key].weight != 0;
    assert_in_range(kept, 490, 500);
    /* What left the small queue unused and comes back soon goes to the main one. */
    uint32_t ghost = 3850;
    assert_int_equal(places[ghost].weight, 0);
    size_t before = nm__policy_bytes(&policy, NM__PROBATION);
    take_out(4000 - 1);
    request(ghost, 1, 1000);
    assert_int_equal(nm__policy_bytes(&policy, NM__PROBATION), before + 1);
}

static void set_choice(nm__setting setting) { nm__policy_set(&policy, &setting); }

static void adaptive_by_age_is_lru_but_for_the_grain_of_time(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    uint32_t scan = 0;
    open_both(NM_CACHE_LRU, 500);
    open_policy(NM_CACHE_ADAPTIVE, NM_OBJECTIVE_HITS, 500);
    set_choice((nm__setting){.choice = NM__BY_AGE});
    long hits = 0, wanted = 0;
    for (int i = 0; i < 60000; i++) {
        uint32_t key = next_key(&seed, &scan);
        hits += request(key, 1, 500);
        wanted += textbook_request(&book, key);
    }
    print_message("%ld hits, textbook %ld\n", hits, wanted);
    assert_true(labs(hits - wanted) < 60000 / 100);
}

static void adaptive_by_worth_takes_the_least_by_byte(void **state) {
    (void)state;
    nm__setting setting = {.choice = NM__BY_WORTH};
    for (unsigned bin = 0; bin < NM__AGE_BINS; bin++)
        for (unsigned rank = 0; rank < NM__RANKS; rank++) setting.worth[rank][bin] = (float)(rank + 1);
    open_policy(NM_CACHE_ADAPTIVE, NM_OBJECTIVE_HITS, 100000);
    set_choice(setting);
    request(1, 64, 100000);
    request(2, 1024, 100000); /* a sixteenth of the worth by byte */
    request(3, 64, 100000);
    assert_int_equal(nm__policy_victim(&policy, 1), 2 * 2);
    take_out(2);
    request(1, 64, 100000); /* used twice: worth twice as much */
    assert_int_equal(nm__policy_victim(&policy, 1), 3 * 2);
    nm__policy_hold(&policy, 3 * 2);
    assert_int_equal(nm__policy_victim(&policy, 1), 1 * 2);
    /* Where the bytes of hits count, sizes do not matter, and the older goes. */
    open_policy(NM_CACHE_ADAPTIVE, NM_OBJECTIVE_BYTES, 100000);
    set_choice(setting);
    request(1, 64, 100000);
    request(2, 1024, 100000);
    assert_int_equal(nm__policy_victim(&policy, 1), 1 * 2);
}

/* ---- ghosts ---- */

static void ghosts_are_remembered_once_with_their_uses(void **state) {
    (void)state;
    static _Alignas(64) unsigned char memory[4096], larger[8192];
    nm__ghosts g = {0};
    unsigned newer;
    nm__ghosts_put(&g, 1, 3); /* no memory: nothing happens */
    assert_int_equal(nm__ghosts_take(&g, 1, &newer), 0);
    memset(memory, 0, sizeof memory);
    memset(larger, 0, sizeof larger);
    nm__ghosts_set_memory(&g, memory, sizeof memory);
    size_t known = 0, strangers = 0;
    for (uint32_t key = 1; key <= 1000; key++) nm__ghosts_put(&g, hash_of_key(key), 1 + key % 15);
    nm__ghosts_set_memory(&g, larger, sizeof larger); /* they are carried over */
    memset(memory, 0xee, sizeof memory);
    for (uint32_t key = 1; key <= 1000; key++) {
        unsigned uses = nm__ghosts_take(&g, hash_of_key(key), &newer);
        known += uses == 1 + key % 15;
        assert_in_range(newer, 0, NM__GHOST_LINE - 1);
    }
    assert_in_range(known, 950, 1000);
    for (uint32_t key = 1; key <= 1000; key++) strangers += nm__ghosts_take(&g, hash_of_key(key + 5000), &newer) != 0;
    assert_in_range(strangers, 0, 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slru_equals_the_textbook_at_every_request),
        cmocka_unit_test(lru_is_the_textbook_without_a_protected_segment),
        cmocka_unit_test(slru_hits_as_the_textbook_on_real_traces),
        cmocka_unit_test(counts_stay_right_in_any_order_of_calls),
        cmocka_unit_test(s3fifo_keeps_what_was_used_and_lets_a_scan_pass),
        cmocka_unit_test(adaptive_by_age_is_lru_but_for_the_grain_of_time),
        cmocka_unit_test(adaptive_by_worth_takes_the_least_by_byte),
        cmocka_unit_test(ghosts_are_remembered_once_with_their_uses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
