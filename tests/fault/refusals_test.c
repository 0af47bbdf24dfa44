// SPDX-License-Identifier: Apache-2.0 OR MIT
/* For every public function that can be refused: its n-th grant, and its n-th system call, is refused, for every n until it
 * needs no more of them. Each time: a status that says why, nothing changed, nothing leaked, and the next call works. */
#include "nebula/memory.h"
#include "os_counter.h"
#include "scope/scope_internal.h"
#include "testing.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum { MANY_PINS = 64 }; /* a page of slots: one more pin needs another page */

static struct {
    nm_scope *root, *scope, *holder;
    nm_arena *arena;
    nm_pool *pool;
    nm_cache *cache;
    nm_lease lease;
    nm_entry entry, pins[MANY_PINS];
    void *old;
} x;

typedef enum what { GRANT, SYSTEM_CALL } what;
static what refused_now;

/* For calls that give no reason themselves. */
static nm_status bare_refusal(void) { return refused_now == GRANT ? NM_EBUDGET : NM_ENOMEM; }

static nm_status of_arena(const void *p) { return p != NULL ? NM_OK : nm_arena_status(x.arena); }

/* ---- what is there before ---------------------------------------------------------------------------------------- */

static void nothing(void) {}
static void arena(void) { assert_ok(nm_arena_open(&x.arena, x.scope, NULL)); }
static void arena_in_use(void) {
    arena();
    x.old = nm_arena_alloc(x.arena, 3000);
    assert_non_null(x.old);
}
static void arena_almost_full(void) {
    arena();
    while (nm_arena_used(x.arena) < 4032) assert_non_null(nm_arena_alloc(x.arena, 16));
}
static void pool(void) { assert_ok(nm_pool_open(&x.pool, x.scope, NM_POOL_OPTIONS(.chunk_bytes = 4096))); }
static void pool_with_buffers(void) {
    assert_ok(nm_pool_open(&x.pool, x.scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .prealloc_count = 2)));
}
static void cache(void) {
    assert_ok(nm_cache_open(&x.cache, x.scope, NM_CACHE_OPTIONS(.budget_bytes = 256 * KIB, .shard_count = 1)));
}
static void cache_with_entry(void) {
    cache();
    assert_ok(nm_cache_put(x.cache, "key", 3, "value", 5));
}
static void cache_that_is_full(void) {
    cache();
    static const char value[1000];
    for (int i = 0; i < 400; i++) {
        char key[16];
        assert_ok(nm_cache_put(x.cache, key, (size_t)snprintf(key, sizeof key, "%d", i), value, sizeof value));
    }
}
static void cache_with_many_pins(void) {
    cache_with_entry();
    for (int i = 0; i < MANY_PINS; i++) assert_true(nm_cache_get(x.cache, "key", 3, &x.pins[i]));
}
static void cache_with_reservation(void) {
    cache();
    /* without words for flags: the commit has to copy it, and the first page has no room for both */
    assert_ok(nm_cache_reserve(x.cache, "key", 3, 3000, &x.entry));
    memset(x.entry.value, 1, 3000);
}

/* ---- what may be refused ----------------------------------------------------------------------------------------- */

static void noop(void *arg) { (void)arg; }
static const unsigned char bytes[64 << 10];

static nm_status scope_open(void) {
    nm_scope *s = NULL;
    nm_status st = nm_scope_open(&s, x.scope, NULL);
    assert_int_equal(st == NM_OK, s != NULL);
    return st;
}
static nm_status scope_set_budget(void) { return nm_scope_set_budget(x.root, 0, NM_BYTES_AUTO); }
static nm_status scope_defer(void) { return nm_scope_defer(x.scope, noop, NULL); }
static nm_status arena_open(void) {
    nm_status st = nm_arena_open(&x.arena, x.scope, NULL);
    assert_int_equal(st == NM_OK, x.arena != NULL);
    return st;
}
static nm_status arena_alloc(void) { return of_arena(nm_arena_alloc(x.arena, 100)); }
static nm_status arena_alloc_nothing(void) { return of_arena(nm_arena_alloc(x.arena, 0)); }
static nm_status arena_alloc_large(void) { return of_arena(nm_arena_alloc(x.arena, 300 * KIB)); }
static nm_status arena_alloc_aligned(void) { return of_arena(nm_arena_alloc_aligned(x.arena, 100, 4096)); }
static nm_status arena_zalloc(void) { return of_arena(nm_arena_zalloc(x.arena, 100)); }
static nm_status arena_new_array(void) { return of_arena(NM_NEW_ARRAY(x.arena, double, 100)); }
static nm_status arena_realloc(void) { return of_arena(nm_arena_realloc(x.arena, x.old, 3000, 40000)); }
static nm_status arena_strdup(void) { return of_arena(nm_arena_strdup(x.arena, "a string that is long enough")); }
static nm_status arena_strndup(void) { return of_arena(nm_arena_strndup(x.arena, "a string that is long enough", 20)); }
static nm_status arena_memdup(void) { return of_arena(nm_arena_memdup(x.arena, bytes, sizeof bytes)); }
static nm_status arena_printf(void) { return of_arena(nm_arena_printf(x.arena, "%0200d", 1)); }
static nm_status arena_defer(void) { return nm_arena_defer(x.arena, noop, NULL); }
static nm_status arena_mark(void) { return of_arena(nm_arena_mark(x.arena).record); }
static nm_status pool_open(void) {
    nm_status st = nm_pool_open(&x.pool, x.scope, NM_POOL_OPTIONS(.chunk_bytes = 1000, .prealloc_count = 100));
    assert_int_equal(st == NM_OK, x.pool != NULL);
    return st;
}
static nm_status pool_try_lease(void) {
    nm_status st = nm_pool_try_lease(x.pool, &x.lease);
    assert_int_equal(st == NM_OK, nm_lease_ok(x.lease));
    return st;
}
static nm_status pool_lease(void) {
    x.lease = nm_pool_lease(x.pool);
    return nm_lease_ok(x.lease) ? NM_OK : bare_refusal();
}
static nm_status pool_lease_in(void) {
    nm_status st = nm_pool_lease_in(x.pool, x.holder, &x.lease);
    assert_int_equal(st == NM_OK, nm_lease_ok(x.lease));
    return st;
}
static nm_status cache_open(void) {
    nm_status st = nm_cache_open(&x.cache, x.scope, NM_CACHE_OPTIONS(.budget_bytes = 256 * KIB, .shard_count = 2));
    assert_int_equal(st == NM_OK, x.cache != NULL);
    return st;
}
static nm_status cache_put(void) {
    nm_status st = nm_cache_put(x.cache, "key", 3, bytes, 40000);
    assert_int_equal(nm_cache_contains(x.cache, "key", 3), st == NM_OK);
    return st;
}
static nm_status cache_replace(void) {
    nm_status st = nm_cache_put(x.cache, "key", 3, bytes, 40000);
    nm_entry e;
    assert_true(nm_cache_get(x.cache, "key", 3, &e)); /* the old one stays after a refusal */
    assert_int_equal(e.value_len, st == NM_OK ? 40000 : 5);
    nm_entry_release(&e);
    return st;
}
static nm_status cache_put_with(void) {
    return nm_cache_put_with(x.cache, "key", 3, bytes, 20000, NM_PUT_OPTIONS(.mode = NM_PUT_ADD, .ttl_ms = 100000));
}
static nm_status cache_put_object(void) {
    nm_status st = nm_cache_put_object(x.cache, "key", 3, &x, 50000);
    assert_int_equal(nm_cache_contains(x.cache, "key", 3), st == NM_OK);
    return st;
}
static nm_status cache_get(void) {
    bool hit = nm_cache_get(x.cache, "key", 3, &x.entry);
    assert_int_equal(hit, x.entry.slot != NULL);
    return hit ? NM_OK : bare_refusal();
}
static nm_status cache_get_in(void) {
    bool hit = nm_cache_get_in(x.cache, x.holder, "key", 3, &x.entry);
    assert_int_equal(hit, x.entry.slot != NULL);
    return hit ? NM_OK : bare_refusal();
}
static nm_status cache_reserve(void) {
    nm_status st = nm_cache_reserve(x.cache, "key", 3, 40000, &x.entry);
    assert_int_equal(st == NM_OK, x.entry.slot != NULL);
    return st;
}
static nm_status cache_reserve_in(void) {
    nm_status st = nm_cache_reserve_in(x.cache, x.holder, "key", 3, 40000, &x.entry);
    assert_int_equal(st == NM_OK, x.entry.slot != NULL);
    return st;
}
static nm_status cache_commit(void) {
    nm_status st = nm_cache_commit(&x.entry, NM_PUT_OPTIONS(.flags = 7, .ttl_ms = 100000));
    assert_int_equal(st != NM_OK, x.entry.slot != NULL);
    return st;
}
static nm_status cache_grow(void) { return nm_cache_resize(x.cache, MIB); }
static nm_status cache_shrink(void) { return nm_cache_resize(x.cache, 64 * KIB); }

typedef struct scenario {
    const char *name;
    void (*before)(void);
    nm_status (*act)(void);
} scenario;

static const scenario scenarios[] = {
    {"nm_scope_open", nothing, scope_open},
    {"nm_scope_set_budget from the system", nothing, scope_set_budget},
    {"nm_scope_defer", nothing, scope_defer},
    {"nm_arena_open", nothing, arena_open},
    {"nm_arena_alloc, the first", arena, arena_alloc},
    {"nm_arena_alloc, the next block", arena_almost_full, arena_alloc},
    {"nm_arena_alloc of 0 bytes", arena, arena_alloc_nothing},
    {"nm_arena_alloc, large", arena_in_use, arena_alloc_large},
    {"nm_arena_alloc_aligned", arena_almost_full, arena_alloc_aligned},
    {"nm_arena_zalloc", arena_almost_full, arena_zalloc},
    {"NM_NEW_ARRAY", arena_almost_full, arena_new_array},
    {"nm_arena_realloc", arena_in_use, arena_realloc},
    {"nm_arena_strdup", arena, arena_strdup},
    {"nm_arena_strndup", arena, arena_strndup},
    {"nm_arena_memdup", arena, arena_memdup},
    {"nm_arena_printf", arena_almost_full, arena_printf},
    {"nm_arena_defer", arena, arena_defer},
    {"nm_arena_mark", arena, arena_mark},
    {"nm_pool_open", nothing, pool_open},
    {"nm_pool_lease", pool, pool_lease},
    {"nm_pool_try_lease", pool, pool_try_lease},
    {"nm_pool_lease_in, growing", pool, pool_lease_in},
    {"nm_pool_lease_in", pool_with_buffers, pool_lease_in},
    {"nm_cache_open", nothing, cache_open},
    {"nm_cache_put", cache, cache_put},
    {"nm_cache_put over an entry", cache_with_entry, cache_replace},
    {"nm_cache_put_with", cache, cache_put_with},
    {"nm_cache_put_object", cache, cache_put_object},
    {"nm_cache_get", cache_with_many_pins, cache_get},
    {"nm_cache_get_in", cache_with_entry, cache_get_in},
    {"nm_cache_reserve", cache, cache_reserve},
    {"nm_cache_reserve_in", cache, cache_reserve_in},
    {"nm_cache_commit", cache_with_reservation, cache_commit},
    {"nm_cache_resize, larger", cache_that_is_full, cache_grow},
    {"nm_cache_resize, smaller", cache_that_is_full, cache_shrink},
};

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static void set_up(const scenario *s) {
    os_counter_install();
    memset(&x, 0, sizeof x);
    assert_ok(nm_scope_open(&x.root, NULL, NM_SCOPE_OPTIONS(.name = "root", .hard_bytes = 8 * MIB)));
    assert_ok(nm_scope_open(&x.scope, x.root, NM_SCOPE_OPTIONS(.name = "scope", .hard_bytes = 4 * MIB)));
    assert_ok(nm_scope_open(&x.holder, x.scope, NM_SCOPE_OPTIONS(.name = "holder", .kind = NM_SCOPE_REQUEST)));
    s->before();
}

static void tear_down(const scenario *s, size_t opened) {
    for (int i = 0; i < MANY_PINS; i++) nm_entry_release(&x.pins[i]);
    if (s->act == cache_reserve || s->act == cache_reserve_in || s->act == cache_commit)
        nm_cache_abort(&x.entry);
    else
        nm_entry_release(&x.entry);
    nm_lease_release(&x.lease);
    assert_int_equal(nm_scope_close(x.holder, NULL), 0);
    nm_leak_report report;
    if (nm_scope_close(x.scope, &report) != opened) {
        nm_leak_report_print(&report, stderr);
        fail_msg("%s left something behind", s->name);
    }
    assert_int_equal(nm_scope_close(x.root, NULL), 0);
    assert_true(os_counter_remove());
}

static bool is_right(what refused, nm_status st) {
    if (refused == GRANT) return st == NM_EBUDGET;
    return st == NM_ENOMEM || st == NM_ESYSTEM;
}

/* Returns false when the n-th did not come: the scenario needs fewer. */
static bool try_with(const scenario *s, what refused, uint64_t n) {
    refused_now = refused;
    set_up(s);
    size_t before = nm__granted(x.scope), holder_before = nm__granted(x.holder);
    if (refused == GRANT)
        nm_scope_fail_after(x.root, n);
    else
        os_counter_fail_after(n);
    nm_status st = s->act();
    bool came = refused == GRANT ? nm_atomic_load(&x.root->fail_after, NM_RELAXED) == 0 : os_counter_failed();
    nm_scope_fail_after(x.root, 0);
    os_counter_fail_after(0);
    if (st != NM_OK) {
        if (!came || !is_right(refused, st))
            fail_msg("%s, %s %llu: %s", s->name, refused == GRANT ? "grant" : "system call", (unsigned long long)n,
                     nm_status_name(st));
        if (nm__granted(x.scope) != before || nm__granted(x.holder) != holder_before)
            fail_msg("%s, %s %llu: refused, and the scope went from %zu to %zu bytes", s->name,
                     refused == GRANT ? "grant" : "system call", (unsigned long long)n, before, nm__granted(x.scope));
        nm_scope_stats root;
        nm_scope_get_stats(x.root, &root);
        assert_int_equal(root.granted_bytes, os_counter_committed());
        nm_status again = s->act();
        if (again != NM_OK) fail_msg("%s: the next call gives %s", s->name, nm_status_name(again));
    }
    tear_down(s, s->act == scope_open ? 1 : 0);
    return came;
}

static void run_all(what refused) {
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        uint64_t n = 1;
        while (try_with(&scenarios[i], refused, n)) {
            n++;
            assert_true(n < 1000);
        }
        print_message("  %-32s %" PRIu64 " %s\n", scenarios[i].name, n - 1,
                      refused == GRANT ? "grants refused" : "system calls refused");
    }
}

static void every_grant_refused(void **state) {
    (void)state;
    run_all(GRANT);
}

static void every_system_call_refused(void **state) {
    (void)state;
    run_all(SYSTEM_CALL);
}

/* A root has no scope above it to refuse a grant; the system can refuse each of its calls. */
static void every_system_call_of_a_root_refused(void **state) {
    (void)state;
    for (uint64_t n = 1;; n++) {
        os_counter_install();
        nm_scope *root = NULL;
        os_counter_fail_after(n);
        nm_status st = nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.hard_bytes = NM_BYTES_AUTO));
        bool came = os_counter_failed();
        os_counter_fail_after(0);
        assert_int_equal(st == NM_OK, root != NULL);
        if (st != NM_OK) {
            assert_true(st == NM_ENOMEM || st == NM_ESYSTEM);
            assert_int_equal(os_counter_reserved(), 0);
            assert_ok(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.hard_bytes = NM_BYTES_AUTO)));
        }
        nm_scope_close(root, NULL);
        assert_true(os_counter_remove());
        if (!came) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_grant_refused),
        cmocka_unit_test(every_system_call_refused),
        cmocka_unit_test(every_system_call_of_a_root_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
