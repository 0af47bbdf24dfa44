// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "nebula/cache.h"

#include "cache_check.h"
#include "os_counter.h"
#include "testing.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static nm_scope *root, *scope;
static nm_cache *cache;

static int set_up(void **state) {
    (void)state;
    cache = NULL;
    os_counter_install();
    return nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "root")) == NM_OK &&
                   nm_scope_open(&scope, root, NM_SCOPE_OPTIONS(.name = "cache")) == NM_OK
               ? 0
               : -1;
}

static int tear_down(void **state) {
    (void)state;
    size_t leaks = nm_scope_close(scope, NULL) + nm_scope_close(root, NULL);
    return os_counter_remove() && leaks == 0 ? 0 : -1;
}

#define open_cache(...) assert_ok(nm_cache_open(&cache, scope, NM_CACHE_OPTIONS(__VA_ARGS__)))

static size_t granted_to(const nm_scope *s) {
    nm_scope_stats st;
    nm_scope_get_stats(s, &st);
    return st.granted_bytes;
}

static nm_cache_stats stats_of(const nm_cache *c) {
    nm_cache_stats st;
    nm_cache_get_stats(c, &st);
    return st;
}

/* A value whose every byte follows from its number and length. */
static void fill(unsigned char *to, uint64_t number, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) to[i] = (unsigned char)(number * 31 + i * 7 + bytes);
}

static bool filled(const unsigned char *at, uint64_t number, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != (unsigned char)(number * 31 + i * 7 + bytes)) return false;
    return true;
}

static nm_status put_number(uint64_t number, size_t bytes) {
    static unsigned char value[16 * MIB];
    assert_true(bytes <= sizeof value);
    fill(value, number, bytes);
    return nm_cache_put(cache, &number, sizeof number, value, bytes);
}

/* True on a hit, whose contents are checked. */
static bool get_number(uint64_t number) {
    nm_entry e;
    if (!nm_cache_get(cache, &number, sizeof number, &e)) return false;
    assert_true(filled(e.value, number, e.value_len));
    assert_memory_equal(e.key, &number, sizeof number);
    assert_int_equal(e.key_len, sizeof number);
    assert_int_equal((uintptr_t)e.value % (e.value_len != 0 && e.value_len % NM_ALIGN == 0 ? NM_ALIGN : 8), 0);
    nm_entry_release(&e);
    assert_null(e.slot);
    return true;
}

/* ---- opening ---- */

static void options_out_of_range_are_refused_and_leave_nothing(void **state) {
    (void)state;
    size_t before = granted_to(root);
    nm_cache *c;
#define REFUSED(...) assert_status(nm_cache_open(&c, scope, NM_CACHE_OPTIONS(__VA_ARGS__)), NM_EINVAL), assert_null(c)
    REFUSED(.budget_bytes = 0);
    REFUSED(.budget_bytes = 1);
    REFUSED(.budget_bytes = SIZE_MAX);
    REFUSED(.budget_bytes = SIZE_MAX / 2 + 1);
    REFUSED(.budget_bytes = MIB, .policy = (nm_cache_policy)7);
    REFUSED(.budget_bytes = MIB, .protected_percent = 100);
    REFUSED(.budget_bytes = MIB, .shard_count = 3);
    REFUSED(.budget_bytes = 64 * MIB, .shard_count = 512);
    REFUSED(.budget_bytes = MIB, .floor_bytes = MIB + 1);
    REFUSED(.budget_bytes = nm_cache_min_bytes(NM_CACHE_OPTIONS(.shard_count = 4)) - 1, .shard_count = 4);
    assert_status(nm_cache_open(&c, NULL, NM_CACHE_OPTIONS(.budget_bytes = MIB)), NM_EINVAL);
    assert_status(nm_cache_open(NULL, scope, NM_CACHE_OPTIONS(.budget_bytes = MIB)), NM_EINVAL);
    assert_status(nm_cache_open(&c, scope, NULL), NM_EINVAL);
    assert_int_equal(granted_to(root), before);
}

static void the_least_budget_opens_holds_an_entry_and_a_pin(void **state) {
    (void)state;
    for (unsigned shards = 1; shards <= 256; shards *= 16) {
        size_t least = nm_cache_min_bytes(NM_CACHE_OPTIONS(.shard_count = shards));
        if (shards == 1) assert_in_range(least, 4 * KIB, 64 * KIB);
        open_cache(.budget_bytes = least, .shard_count = shards);
        assert_int_equal(nm_cache_granted(cache), least);
        cache_law(cache, scope);
        for (uint64_t i = 0; i < 3000; i++) {
            assert_ok(put_number(i, 200));
            assert_true(get_number(i));
            cache_law(cache, scope);
        }
        cache_check(cache);
        assert_ok(nm_cache_close(cache));
        assert_int_equal(granted_to(scope), 0);
    }
}

static void charge_is_what_used_grows_by(void **state) {
    (void)state;
    nm_cache_options o = nm_cache_options_init();
    o.budget_bytes = MIB;
    for (int ttl = 0; ttl < 2; ttl++) {
        o.ttl_ms = ttl ? 100000 : 0;
        assert_ok(nm_cache_open(&cache, scope, &o));
        static const size_t lengths[] = {0, 1, 7, 8, 9, 100, 101, 4096, 100000};
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            size_t before = nm_cache_used(cache);
            assert_ok(put_number(i, lengths[i]));
            assert_int_equal(nm_cache_used(cache) - before, nm_cache_charge(&o, 8, lengths[i]));
        }
        assert_ok(nm_cache_close(cache));
    }
    assert_int_equal(nm_cache_charge(NULL, 16, 100), 136);
    assert_int_equal(nm_cache_charge(NULL, 0, 100), SIZE_MAX);
    assert_int_equal(nm_cache_charge(NULL, NM_CACHE_KEY_MAX + 1, 100), SIZE_MAX);
    assert_int_equal(nm_cache_charge(NULL, 1, SIZE_MAX), SIZE_MAX);
    assert_int_equal(nm_cache_charge(NULL, 1, SIZE_MAX / 2 + 1), SIZE_MAX);
    assert_int_equal(nm_cache_min_bytes(NM_CACHE_OPTIONS(.shard_count = 5)), 0);
}

/* ---- bad arguments ---- */

static void bad_arguments_are_refused_and_change_nothing(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB);
    nm_entry e;
    static char key[NM_CACHE_KEY_MAX + 1];
    assert_status(nm_cache_put(NULL, "k", 1, "v", 1), NM_EINVAL);
    assert_status(nm_cache_put(cache, NULL, 1, "v", 1), NM_EINVAL);
    assert_status(nm_cache_put(cache, "k", 0, "v", 1), NM_EINVAL);
    assert_status(nm_cache_put(cache, "k", 1, NULL, 1), NM_EINVAL);
    assert_status(nm_cache_put(cache, key, sizeof key, "v", 1), NM_ETOOLARGE);
    assert_status(nm_cache_put(cache, "k", 1, "v", SIZE_MAX), NM_ETOOLARGE);
    assert_status(nm_cache_put(cache, "k", 1, "v", SIZE_MAX / 2 + 1), NM_ETOOLARGE);
    assert_status(nm_cache_put_object(cache, "k", 1, key, SIZE_MAX), NM_ETOOLARGE);
    assert_status(nm_cache_put_object(cache, "k", 1, key, SIZE_MAX / 2 + 1), NM_ETOOLARGE);
    assert_status(nm_cache_put_with(cache, "k", 1, "v", 1, NM_PUT_OPTIONS(.mode = (nm_put_mode)9)), NM_EINVAL);
    assert_status(nm_cache_reserve(cache, "k", 1, SIZE_MAX, &e), NM_ETOOLARGE);
    assert_status(nm_cache_reserve(cache, "k", 1, SIZE_MAX / 2 + 1, &e), NM_ETOOLARGE);
    assert_status(nm_cache_reserve(cache, NULL, 1, 1, &e), NM_EINVAL);
    assert_status(nm_cache_reserve(cache, "k", 1, 1, NULL), NM_EINVAL);
    assert_status(nm_cache_remove(cache, NULL, 1), NM_EINVAL);
    assert_false(nm_cache_get(cache, NULL, 1, &e));
    assert_false(nm_cache_get(cache, "k", 0, &e));
    assert_false(nm_cache_get(cache, key, SIZE_MAX, &e));
    assert_false(nm_cache_contains(cache, NULL, 1));
    assert_ok(nm_cache_put(cache, key, NM_CACHE_KEY_MAX, NULL, 0));
    assert_true(nm_cache_contains(cache, key, NM_CACHE_KEY_MAX));
    assert_int_equal(nm_cache_count(cache), 1);
    nm_cache_clear(NULL);
    assert_ok(nm_cache_close(NULL));
}

/* ---- put and get ---- */

static void values_of_every_length_come_back(void **state) {
    (void)state;
    open_cache(.budget_bytes = 4 * MIB);
    for (size_t bytes = 0; bytes < 600; bytes++) assert_ok(put_number(bytes, bytes));
    for (size_t bytes = 0; bytes < 600; bytes++) {
        nm_entry e;
        uint64_t number = bytes;
        assert_true(nm_cache_get(cache, &number, sizeof number, &e));
        assert_int_equal(e.value_len, bytes);
        assert_true(filled(e.value, number, bytes));
        assert_int_equal(e.expires_ms, NM_TTL_NEVER);
        nm_entry_release(&e);
    }
    cache_check(cache);
}

static void a_put_replaces_and_versions_move_on(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB);
    uint64_t first, second;
    assert_ok(nm_cache_put_with(cache, "k", 1, "one", 3, NM_PUT_OPTIONS(.cas_out = &first)));
    assert_ok(nm_cache_put_with(cache, "k", 1, "another", 7, NM_PUT_OPTIONS(.cas_out = &second)));
    assert_true(second != first && first != 0);
    assert_int_equal(nm_cache_count(cache), 1);
    nm_entry e;
    assert_true(nm_cache_get(cache, "k", 1, &e));
    assert_int_equal(e.cas, second);
    assert_memory_equal(e.value, "another", 7);
    nm_entry_release(&e);
    assert_int_equal(nm_cache_used(cache), nm_cache_charge(NULL, 1, 7));
    assert_ok(nm_cache_remove(cache, "k", 1));
    assert_status(nm_cache_remove(cache, "k", 1), NM_ENOTFOUND);
    assert_int_equal(nm_cache_used(cache), 0);
}

static void modes_and_versions_refuse_as_they_say(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB);
    uint64_t cas;
    assert_status(nm_cache_put_with(cache, "k", 1, "v", 1, NM_PUT_OPTIONS(.mode = NM_PUT_REPLACE)), NM_ENOTFOUND);
    assert_status(nm_cache_put_with(cache, "k", 1, "v", 1, NM_PUT_OPTIONS(.cas = 1)), NM_ENOTFOUND);
    assert_ok(
        nm_cache_put_with(cache, "k", 1, "v", 1, NM_PUT_OPTIONS(.mode = NM_PUT_ADD, .flags = 77, .cas_out = &cas)));
    assert_status(nm_cache_put_with(cache, "k", 1, "w", 1, NM_PUT_OPTIONS(.mode = NM_PUT_ADD)), NM_EEXISTS);
    assert_status(nm_cache_put_with(cache, "k", 1, "w", 1, NM_PUT_OPTIONS(.cas = cas + 1)), NM_ESTALE);
    nm_entry e;
    assert_true(nm_cache_get(cache, "k", 1, &e));
    assert_memory_equal(e.value, "v", 1);
    assert_int_equal(e.flags, 77);
    nm_entry_release(&e);
    assert_ok(nm_cache_put_with(cache, "k", 1, "w", 1, NM_PUT_OPTIONS(.cas = cas, .mode = NM_PUT_REPLACE)));
    assert_true(nm_cache_get(cache, "k", 1, &e));
    assert_int_equal(e.flags, 0);
    nm_entry_release(&e);
}

static uint64_t fake_ms;
static uint64_t fake_clock(void) { return fake_ms; }

static void time_to_live_ends_entries_for_all_calls(void **state) {
    (void)state;
    nm__os table = *nm__os_get();
    const nm__os *before = nm__os_get();
    fake_ms = 1000;
    table.clock_coarse_ms = fake_clock;
    nm__os_replace(&table);
    open_cache(.budget_bytes = MIB, .ttl_ms = 500);
    nm_entry e;
    assert_ok(nm_cache_put(cache, "a", 1, "v", 1));
    assert_ok(nm_cache_put_with(cache, "b", 1, "v", 1, NM_PUT_OPTIONS(.ttl_ms = NM_TTL_NEVER)));
    assert_ok(nm_cache_put_with(cache, "c", 1, "v", 1, NM_PUT_OPTIONS(.ttl_ms = NM_TTL_NEVER - 1)));
    assert_ok(nm_cache_put_with(cache, "d", 1, "v", 1, NM_PUT_OPTIONS(.ttl_ms = 100)));
    fake_ms += 99;
    assert_true(nm_cache_get(cache, "d", 1, &e));
    assert_int_equal(e.expires_ms, 1);
    nm_entry_release(&e);
    fake_ms += 1;
    assert_false(nm_cache_contains(cache, "d", 1));
    assert_false(nm_cache_get(cache, "d", 1, &e));
    assert_int_equal(stats_of(cache).expirations, 1);
    fake_ms += 400;
    assert_status(nm_cache_put_with(cache, "a", 1, "w", 1, NM_PUT_OPTIONS(.mode = NM_PUT_REPLACE)), NM_ENOTFOUND);
    assert_ok(nm_cache_put_with(cache, "a", 1, "w", 1, NM_PUT_OPTIONS(.mode = NM_PUT_ADD)));
    fake_ms += 500;
    assert_status(nm_cache_remove(cache, "a", 1), NM_ENOTFOUND);
    assert_int_equal(stats_of(cache).expirations, 3);
    assert_true(nm_cache_contains(cache, "b", 1));
    assert_true(nm_cache_get(cache, "c", 1, &e));
    nm_entry_release(&e);
    cache_check(cache);
    assert_ok(nm_cache_close(cache));
    nm__os_replace(before);
}

/* ---- room ---- */

static void the_budget_holds_at_every_step_of_a_random_mix(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (int round = 0; round < 6; round++) {
        unsigned shards = 1u << round % 3;
        open_cache(.budget_bytes = 300 * KIB + round * 12345, .shard_count = shards,
                   .policy = round % 2 ? NM_CACHE_LRU : NM_CACHE_SLRU);
        for (int step = 0; step < 30000; step++) {
            uint64_t r = test_random(&seed), number = (r >> 32) % 3000;
            if (r % 16 < 9) {
                size_t bytes = (r >> 8) % (r % 64 == 0 ? 60000 : r % 16 == 1 ? 3000 : 200);
                nm_status st = put_number(number, bytes);
                assert_ok(st);
                assert_true(get_number(number));
            } else if (r % 16 < 14) {
                get_number(number);
            } else if (r % 16 == 14) {
                (void)nm_cache_remove(cache, &number, sizeof number);
            } else if (r % 1024 == 15) {
                nm_cache_clear(cache);
                assert_int_equal(nm_cache_count(cache), 0);
            }
            cache_law(cache, scope);
            if (step % 500 == 0) cache_check(cache);
        }
        cache_check(cache);
        assert_ok(nm_cache_close(cache));
        assert_int_equal(granted_to(scope), 0);
    }
}

#define MIX_BUDGET (TEST_SLOW ? MIB / 2 : 4 * MIB)
#define MIX_MARGIN (TEST_SLOW ? 0.05 : 0.025) /* fewer entries, more chance */

/* A look-aside run over skewed keys whose values take about four times the budget; the hit ratio after so many turns. */
static double run_sizes(uint64_t base, size_t bytes, unsigned turns, uint64_t seed) {
    uint64_t keys = 4 * MIX_BUDGET / (bytes + 56), turn = nm__max(keys * 2, MIX_BUDGET / 200), hits = 0;
    for (uint64_t i = 0; i < (turns + 1) * turn; i++) {
        double u = (double)(test_random(&seed) >> 11) / 9007199254740992.0;
        uint64_t number = base + (uint64_t)(u * u * u * (double)keys);
        bool hit = get_number(number);
        if (!hit) assert_ok(put_number(number, bytes));
        if (i >= turns * turn) hits += hit;
    }
    cache_check(cache);
    return (double)hits / (double)turn;
}

/* turns: until the level and the ratio are looked at. */
static void change_sizes(nm_cache_policy policy, unsigned most_shards, unsigned turns) {
    static const size_t sizes[] = {100, 10 * 1024, 1024, 100, 100000, 1, 5000};
    uint64_t seed =
        getenv("NEBULA_SEED") != NULL ? test_seed() : 1; /* the same, if none is given: margins are of chance */
    for (unsigned shards = 1; shards <= most_shards; shards *= 4) {
        nm_cache *changing;
        open_cache(.budget_bytes = MIX_BUDGET, .shard_count = shards, .policy = policy);
        changing = cache;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            cache = changing;
            double ratio = run_sizes((i + 1) << 32, sizes[i], turns, seed);
            double level = (double)nm_cache_used(cache) / (double)nm_cache_granted(cache);
            double reach = (double)nm_cache_granted(cache) / ((double)MIX_BUDGET);
            open_cache(.budget_bytes = MIX_BUDGET, .shard_count = shards, .policy = policy);
            double fresh = run_sizes((i + 1) << 32, sizes[i], turns, seed);
            double fresh_level = (double)nm_cache_used(cache) / (double)nm_cache_granted(cache);
            assert_ok(nm_cache_close(cache));
            print_message("%u shards, %6zu bytes: hit ratio %.3f, of a fresh cache %.3f; used/granted %.3f, %.3f; "
                          "granted/budget %.3f\n",
                          shards, sizes[i], ratio, fresh, level, fresh_level, reach);
            /* A shard that holds a handful of entries has neither a level nor a ratio to speak of. */
            if (sizes[i] * 32 > MIX_BUDGET / shards) continue;
            /* The index is a third of the smallest entries. */
            assert_true(level >= 0.8 || level >= fresh_level - 0.05);
            /* What is best is learned from samples, of a few dozen entries by chance. */
            bool learned = policy == NM_CACHE_ADAPTIVE;
            if (!learned || sizes[i] * 128 <= MIX_BUDGET / shards)
                assert_true(ratio >= fresh - (learned ? 2 : 1) * MIX_MARGIN);
            assert_true(reach >= 0.9);
        }
        assert_ok(nm_cache_close(changing));
    }
}

static void no_size_starves_another_when_the_sizes_change(void **state) {
    (void)state;
    change_sizes(NM_CACHE_SLRU, 4, 1);
    change_sizes(NM_CACHE_ADAPTIVE, 1, TEST_SLOW ? 2 : 5); /* it has to learn anew */
}

/* Fills it with new entries of that size. */
static void refill(uint64_t *next, size_t bytes, size_t total) {
    for (size_t put = 0; put < total; put += bytes + 56) assert_ok(put_number((*next)++, bytes));
    cache_check(cache);
}

static void any_entry_up_to_the_budget_fits_by_evicting(void **state) {
    (void)state;
    static const nm_cache_policy policies[] = {NM_CACHE_SLRU, NM_CACHE_S3FIFO, NM_CACHE_ADAPTIVE};
    for (unsigned run = 0; run < 9; run++) {
        unsigned shards = 1u << run % 3 * 2;
        open_cache(.budget_bytes = 4 * MIB, .shard_count = shards, .policy = policies[run / 3]);
        size_t least = nm_cache_min_bytes(NM_CACHE_OPTIONS(.budget_bytes = 4 * MIB, .shard_count = shards));
        size_t most = 4 * MIB - least + NM__PAGE_BYTES - 2 * NM__UNIT_BYTES - sizeof(nm__entry) - 8;
        most -= sizeof(uint32_t);       /* the gap in front of the key */
        most -= most % 16 == 0 ? 1 : 0; /* such a value may be shifted */
        uint64_t next = 0;
        for (int round = 0; round < 3; round++) {
            for (int i = 0; i < (TEST_SLOW ? 15000 : 60000); i++) assert_ok(put_number(next++, 60));
            size_t count = nm_cache_count(cache);
            assert_status(put_number(next, most + 1), NM_ETOOLARGE);
            assert_int_equal(nm_cache_count(cache), count);
            assert_ok(put_number(next, most - (size_t)round * 100000));
            assert_true(get_number(next));
            cache_law(cache, scope);
            cache_check(cache);
            next++;
        }
        assert_ok(nm_cache_close(cache));
    }
}

static void a_shard_that_was_emptied_gets_its_share_back(void **state) {
    (void)state;
    open_cache(.budget_bytes = 4 * MIB, .shard_count = 8);
    uint64_t next = 0;
    assert_ok(put_number(next++, 3 * MIB)); /* one shard holds nearly all */
    for (int i = 0; i < 60000; i++) assert_ok(put_number(next++, 100));
    for (unsigned i = 0; i < 8; i++) assert_true(nm__heap_bytes(&cache->shards[i].heap) > 4 * MIB / 8 / 3);
    cache_check(cache);
}

static void objects_count_what_they_declare(void **state) {
    (void)state;
    open_cache(.budget_bytes = MIB, .shard_count = 1, .policy = NM_CACHE_SLRU); /* which keeps what came last */
    int thing = 0;
    for (uint64_t i = 0; i < 200; i++) {
        assert_ok(nm_cache_put_object(cache, &i, sizeof i, &thing, 50000));
        assert_ok(put_number(1000 + i, 2000));
        cache_law(cache, scope);
        nm_entry e;
        assert_true(nm_cache_get(cache, &i, sizeof i, &e));
        assert_ptr_equal(e.value, &thing);
        assert_int_equal(e.value_len, 50000);
        nm_entry_release(&e);
    }
    cache_check(cache);
    assert_true(nm_cache_used(cache) > MIB / 2);
    assert_ok(nm_cache_put_object(cache, "all", 3, &thing, 900000));
    cache_check(cache);
    assert_ok(nm_cache_put_object(cache, "none", 4, NULL, 0));
    nm_cache_clear(cache);
    assert_int_equal(nm_cache_used(cache), 0);
    cache_check(cache);
}

/* ---- resize ---- */

static void resize_shrinks_and_grows_within_its_range(void **state) {
    (void)state;
    for (unsigned shards = 1; shards <= 4; shards *= 4) {
        open_cache(.budget_bytes = 2 * MIB, .shard_count = shards);
        size_t least = nm_cache_min_bytes(NM_CACHE_OPTIONS(.budget_bytes = 2 * MIB, .shard_count = shards));
        uint64_t next = 0;
        refill(&next, 200, 4 * MIB);
        assert_status(nm_cache_resize(cache, least - 1), NM_EINVAL);
        assert_status(nm_cache_resize(cache, 0), NM_EINVAL);
        assert_status(nm_cache_resize(cache, 32 * MIB + 1), NM_ECAPACITY);
        assert_status(nm_cache_resize(cache, SIZE_MAX), NM_ECAPACITY);
        assert_status(nm_cache_resize(NULL, MIB), NM_EINVAL);
        assert_int_equal(nm_cache_budget(cache), 2 * MIB);
        assert_ok(nm_cache_resize(cache, 500001));
        assert_int_equal(nm_cache_budget(cache), 500001);
        cache_check(cache);
        cache_law(cache, scope);
        assert_true(nm_cache_used(cache) > 250000);
        assert_ok(nm_cache_resize(cache, 8 * MIB));
        refill(&next, 1000, 16 * MIB);
        assert_true(nm_cache_used(cache) > 6 * MIB);
        assert_ok(nm_cache_resize(cache, least));
        assert_int_equal(nm_cache_granted(cache), least);
        cache_check(cache);
        assert_ok(nm_cache_resize(cache, 32 * MIB));
        assert_ok(nm_cache_close(cache));
    }
}

/* ---- callbacks ---- */

#define NUMBERS 4096u
static unsigned left_count[NUMBERS], put_count[NUMBERS];
static unsigned reasons[6];
static bool reenter;

static void on_evict(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size, void *context) {
    uint64_t number;
    assert_int_equal(key_len, sizeof number);
    memcpy(&number, key, sizeof number);
    assert_true(number < NUMBERS);
    assert_true(filled(value, number, size));
    assert_ptr_equal(context, &reasons);
    left_count[number]++;
    reasons[reason]++;
    if (reenter && number % 7 == 0) {
        uint64_t other = number ^ 1;
        nm_entry e;
        if (nm_cache_get(cache, &other, sizeof other, &e)) nm_entry_release(&e);
        (void)nm_cache_remove(cache, &other, sizeof other);
    }
}

static void on_evict_is_called_once_for_each_entry_that_left(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (int round = 0; round < 4; round++) {
        memset(left_count, 0, sizeof left_count);
        memset(put_count, 0, sizeof put_count);
        memset(reasons, 0, sizeof reasons);
        reenter = round % 2 == 1;
        open_cache(.budget_bytes = 400 * KIB, .shard_count = 1u << round % 3, .on_evict = on_evict,
                   .context = &reasons);
        nm_entry pins[20] = {{0}};
        for (int step = 0; step < 30000; step++) {
            uint64_t r = test_random(&seed), number = (r >> 32) % NUMBERS;
            if (r % 8 < 5) {
                assert_ok(put_number(number, (r >> 8) % (r % 32 == 0 ? 20000 : 300)));
                put_count[number]++;
            } else if (r % 8 == 5) {
                (void)nm_cache_remove(cache, &number, sizeof number);
            } else if (r % 8 == 6) {
                nm_entry *pin = &pins[(r >> 20) % 20];
                nm_entry_release(pin);
                if (!nm_cache_get(cache, &number, sizeof number, pin)) assert_null(pin->slot);
            } else if (r % 4096 == 7) {
                nm_cache_clear(cache);
            } else if (r % 4096 == 15) {
                nm_status st = nm_cache_resize(cache, 300 * KIB + (r >> 32) % (300 * KIB));
                assert_true(st == NM_OK || st == NM_EBUSY);
            }
            cache_law(cache, scope);
            if (step % 1000 == 0) cache_check(cache);
        }
        for (int i = 0; i < 20; i++) nm_entry_release(&pins[i]);
        cache_check(cache);
        for (uint64_t i = 0; i < NUMBERS; i++)
            assert_int_equal(left_count[i] + nm_cache_contains(cache, &i, sizeof i), put_count[i]);
        assert_ok(nm_cache_close(cache));
        for (unsigned i = 0; i < NUMBERS; i++) assert_int_equal(left_count[i], put_count[i]);
        assert_true(reasons[NM_EVICT_SPACE] > 0 && reasons[NM_EVICT_REPLACED] > 0 && reasons[NM_EVICT_CLOSED] > 0);
    }
}

/* A thread comes to its reader after some look-ups, and a full cache gives up what that takes: but not what is looked up. */
static void what_was_put_last_stays_when_its_reader_is_made(void **state) {
    (void)state;
    for (uint64_t before = 0; before < 20; before++) {
        open_cache(.budget_bytes = 2 * MIB, .shard_count = 1);
        for (uint64_t i = 0; i < 4000; i++) assert_ok(put_number(i, 600));
        for (uint64_t i = 0; i < before; i++) (void)get_number(i);
        assert_ok(put_number(4001, 1700000));
        assert_true(get_number(4001));
        cache_check(cache);
        assert_ok(nm_cache_close(cache));
    }
}

static void a_cache_that_fills_its_scope_has_readers(void **state) {
    (void)state;
    nm_scope *tight;
    assert_ok(nm_scope_open(&tight, root, NM_SCOPE_OPTIONS(.hard_bytes = 2 * MIB)));
    assert_ok(nm_cache_open(&cache, tight, NM_CACHE_OPTIONS(.budget_bytes = 2 * MIB)));
    for (uint64_t i = 0; i < 30000; i++) assert_ok(put_number(i, 100));
    for (uint64_t i = 0; i < 100; i++) (void)get_number(29999 - i);
    assert_non_null(cache->desk.readers);
    cache_check(cache);
    assert_int_equal(nm_scope_close(tight, NULL), 0);
}

static void large_entries_find_room_under_a_callback(void **state) {
    (void)state;
    memset(left_count, 0, sizeof left_count);
    reenter = false;
    for (unsigned shards = 1; shards <= 4; shards *= 4) {
        open_cache(.budget_bytes = 2 * MIB, .shard_count = shards, .on_evict = on_evict, .context = &reasons);
        for (uint64_t round = 0; round < 8; round++) {
            for (uint64_t i = 0; i < 4000; i++) assert_ok(put_number(i, 100 + i % 700));
            assert_ok(put_number(4001, 100000 + (size_t)round * 200000));
            assert_true(get_number(4001));
            cache_check(cache);
        }
        assert_ok(nm_cache_close(cache));
    }
}

static void the_scopes_close_closes_the_cache_and_is_no_leak(void **state) {
    (void)state;
    memset(left_count, 0, sizeof left_count);
    reenter = false;
    open_cache(.budget_bytes = MIB, .on_evict = on_evict, .context = &reasons);
    for (uint64_t i = 0; i < 100; i++) assert_ok(put_number(i, 100));
    assert_int_equal(nm_scope_close(scope, NULL), 0);
    scope = NULL;
    for (unsigned i = 0; i < 100; i++) assert_int_equal(left_count[i], 1);
}

/* ---- the scope refuses ---- */

static void a_scope_smaller_than_the_budget_makes_it_evict_its_own(void **state) {
    (void)state;
    nm_scope *small;
    assert_ok(nm_scope_open(&small, scope, NM_SCOPE_OPTIONS(.name = "small", .hard_bytes = 200 * KIB)));
    assert_ok(nm_cache_open(&cache, small, NM_CACHE_OPTIONS(.budget_bytes = MIB)));
    uint64_t seed = test_seed();
    for (uint64_t i = 0; i < 20000; i++) {
        assert_ok(put_number(i, (size_t)(test_random(&seed) % 500)));
        cache_law(cache, small);
        assert_true(granted_to(small) <= 200 * KIB);
    }
    cache_check(cache);
    assert_true(nm_cache_used(cache) > 150 * KIB);
    assert_status(put_number(1, 300 * KIB), NM_EBUDGET);
    assert_true(nm_cache_used(cache) > 150 * KIB);
    assert_true(get_number(19999));
    assert_int_equal(nm_scope_close(small, NULL), 0);
}

static void every_refusal_on_the_way_leaves_all_in_order(void **state) {
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        for (uint64_t n = 1;; n++) {
            if (kind == 0)
                nm_scope_fail_after(scope, n);
            else
                os_counter_fail_after(n);
            nm_cache *c;
            nm_status st = nm_cache_open(&c, scope, NM_CACHE_OPTIONS(.budget_bytes = 100 * KIB, .shard_count = 2));
            if (st != NM_OK) {
                assert_null(c);
                assert_true(st == NM_EBUDGET || st == NM_ENOMEM || st == NM_ESYSTEM);
                assert_int_equal(granted_to(scope), 0);
                continue;
            }
            cache = c;
            for (uint64_t i = 0; i < 500; i++) {
                st = put_number(i, 150);
                assert_true(st == NM_OK || st == NM_EBUDGET || st == NM_ENOMEM);
                if (st != NM_OK) assert_ok(put_number(i, 150));
                assert_true(get_number(i));
            }
            assert_ok(put_number(501, 60000));
            st = nm_cache_resize(cache, 50 * KIB);
            assert_true(st == NM_OK || st == NM_EBUSY);
            cache_check(cache);
            assert_ok(nm_cache_close(cache));
            assert_int_equal(granted_to(scope), 0);
            if (n > 60) break;
        }
        nm_scope_fail_after(scope, 0);
        os_counter_fail_after(0);
    }
}

static void stats_say_what_happened(void **state) {
    (void)state;
    open_cache(.budget_bytes = 256 * KIB, .name = "a name that is much longer than thirty-one bytes");
    for (uint64_t i = 0; i < 5000; i++) assert_ok(put_number(i, 100));
    assert_true(get_number(4999));
    assert_false(get_number(999999));
    assert_status(put_number(1, MIB), NM_ETOOLARGE);
    nm_cache_stats st = stats_of(cache);
    assert_int_equal(st.hits, 1);
    assert_int_equal(st.misses, 1);
    assert_int_equal(st.puts, 5000);
    assert_int_equal(st.rejections, 1);
    assert_int_equal(st.entry_count, nm_cache_count(cache));
    assert_int_equal(st.evictions, 5000 - st.entry_count);
    assert_int_equal(st.probation_bytes + st.protected_bytes, st.used_bytes);
    assert_true(st.protected_bytes > st.probation_bytes);
    assert_int_equal(st.policy, NM_CACHE_ADAPTIVE);
    assert_int_equal(st.shard_count, 1);
    assert_int_equal(strlen(st.name), NM_NAME_BYTES - 1);
    assert_true(st.index_bytes >= 4096);
    nm_scope_stats of_scope;
    nm_scope_get_stats(scope, &of_scope);
    assert_int_equal(of_scope.used_bytes, st.used_bytes);
    uint64_t only_hits = 7;
    (nm_cache_get_stats_sized)(cache, (nm_cache_stats *)(void *)&only_hits, sizeof only_hits);
    assert_int_equal(only_hits, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(options_out_of_range_are_refused_and_leave_nothing),
        TEST(the_least_budget_opens_holds_an_entry_and_a_pin),
        TEST(charge_is_what_used_grows_by),
        TEST(bad_arguments_are_refused_and_change_nothing),
        TEST(values_of_every_length_come_back),
        TEST(a_put_replaces_and_versions_move_on),
        TEST(modes_and_versions_refuse_as_they_say),
        TEST(time_to_live_ends_entries_for_all_calls),
        TEST(the_budget_holds_at_every_step_of_a_random_mix),
        TEST(no_size_starves_another_when_the_sizes_change),
        TEST(any_entry_up_to_the_budget_fits_by_evicting),
        TEST(a_shard_that_was_emptied_gets_its_share_back),
        TEST(objects_count_what_they_declare),
        TEST(resize_shrinks_and_grows_within_its_range),
        TEST(on_evict_is_called_once_for_each_entry_that_left),
        TEST(what_was_put_last_stays_when_its_reader_is_made),
        TEST(a_cache_that_fills_its_scope_has_readers),
        TEST(large_entries_find_room_under_a_callback),
        TEST(the_scopes_close_closes_the_cache_and_is_no_leak),
        TEST(a_scope_smaller_than_the_budget_makes_it_evict_its_own),
        TEST(every_refusal_on_the_way_leaves_all_in_order),
        TEST(stats_say_what_happened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
