// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What changes an entry, in caches of every kind: the n-th grant, and the n-th system call, is refused, for every n until no more
 * are needed. Each time: a status that says why, the entry is what it was, nothing else has left, the books are right, and the next call works. */
#include "cache_check.h"
#include "nebula/cache.h"
#include "os_counter.h"
#include "scope/scope_internal.h"
#include "testing.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum { MANY_PINS = 64 }; /* a page of slots: one more pin needs another page */

static struct {
    nm_scope *root, *scope, *holder;
    nm_cache *cache;
    nm_entry entry, pins[MANY_PINS];
    unsigned told;
} x;

typedef enum what { GRANT, SYSTEM_CALL, LIMIT } what; /* once; once; for good */
static const char *const names[] = {"grant", "system call", "limit"};
static what refused_now;

static nm_status bare_refusal(void) { return refused_now == SYSTEM_CALL ? NM_ENOMEM : NM_EBUDGET; }

static void on_evict(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size, void *context) {
    (void)key, (void)key_len, (void)value, (void)size, (void)context;
    if (reason != NM_EVICT_CLOSED) x.told++;
}

/* ---- what is there before: little beside the first pages ---------------------------------------------------------- */

static const char value[3000] = "1";

static void open_cache(nm_cache_options o) {
    o.budget_bytes = 512 * KIB;
    o.shard_count = 1;
    assert_ok(nm_cache_open(&x.cache, x.scope, &o));
}
static void with_text(void) { assert_ok(nm_cache_put(x.cache, "key", 3, "99", 2)); }
static void plain(void) {
    open_cache(nm_cache_options_init());
    with_text();
}
static void large(void) { /* does not fit beside its copy in what is granted at first */
    open_cache(nm_cache_options_init());
    assert_ok(nm_cache_put(x.cache, "key", 3, value, sizeof value));
}
static void with_callback(void) {
    nm_cache_options o = nm_cache_options_init();
    o.on_evict = on_evict;
    open_cache(o);
    assert_ok(nm_cache_put(x.cache, "key", 3, value, sizeof value));
}
static void small_with_callback(void) {
    nm_cache_options o = nm_cache_options_init();
    o.on_evict = on_evict;
    open_cache(o);
    with_text();
}
static void elastic(void) {
    nm_cache_options o = nm_cache_options_init();
    o.elastic = true;
    open_cache(o);
    assert_ok(nm_cache_put(x.cache, "key", 3, value, sizeof value));
}
static void pinned(void) {
    large();
    assert_true(nm_cache_get(x.cache, "key", 3, &x.pins[0]));
}
static void number_of_many_digits(void) {
    static char digits[3000];
    memset(digits, ' ', sizeof digits);
    digits[0] = '1';
    open_cache(nm_cache_options_init());
    assert_ok(nm_cache_put(x.cache, "key", 3, digits, sizeof digits));
    assert_true(nm_cache_get(x.cache, "key", 3, &x.pins[0])); /* so that it is counted in a copy */
}
static void empty(void) { open_cache(nm_cache_options_init()); }
static void long_key(void) { open_cache(nm_cache_options_init()); }
static void many_pins(void) {
    open_cache(nm_cache_options_init());
    with_text();
    for (int i = 0; i < MANY_PINS; i++) assert_true(nm_cache_get(x.cache, "key", 3, &x.pins[i]));
}
static void reservation(void) {
    open_cache(nm_cache_options_init());
    assert_ok(nm_cache_reserve(x.cache, "key", 3, sizeof value, &x.entry));
    memcpy(x.entry.value, value, sizeof value);
}

/* ---- what may be refused ------------------------------------------------------------------------------------------ */

static char key_of_pages[20000] = "k";

static nm_status touch(void) { return nm_cache_touch(x.cache, "key", 3, 100000); }
static nm_status mark_stale(void) { return nm_cache_mark_stale(x.cache, "key", 3, 0, 0); }
static nm_status increment(void) { return nm_cache_increment(x.cache, "key", 3, 1, NULL); }
static nm_status put_negative(void) { return nm_cache_put_negative(x.cache, key_of_pages, sizeof key_of_pages, 1000); }
static nm_status put_long_key(void) {
    return nm_cache_put(x.cache, key_of_pages, sizeof key_of_pages, value, sizeof value);
}
static nm_status put_larger(void) {
    static char larger[40000];
    return nm_cache_put(x.cache, "key", 3, larger, sizeof larger);
}
static nm_status get_touch(void) {
    bool hit = nm_cache_get_touch(x.cache, "key", 3, 100000, &x.entry);
    assert_int_equal(hit, x.entry.slot != NULL);
    return hit ? NM_OK : bare_refusal();
}
static nm_status next(void) {
    nm_cursor cursor = {0};
    nm_status st = nm_cache_next(x.cache, &cursor, &x.entry);
    assert_int_equal(st == NM_OK, x.entry.slot != NULL);
    return st == NM_ECAPACITY ? bare_refusal() : st;
}
static nm_status load(nm_cache *cache, const void *key, size_t key_len, nm_entry *room, nm_put_options *options,
                      void *arg) {
    (void)arg;
    nm_status st = nm_cache_reserve(cache, key, key_len, sizeof value, room);
    if (st == NM_OK) memcpy(room->value, value, sizeof value);
    options->ttl_ms = 100000; /* which the reservation has no words for: it is written anew */
    return st;
}
static nm_status get_or_load(void) {
    nm_status st = nm_cache_get_or_load(x.cache, "new", 3, load, NULL, UINT64_MAX, &x.entry);
    assert_int_equal(st == NM_OK, x.entry.slot != NULL);
    return st;
}
static nm_status commit(void) {
    nm_status st = nm_cache_commit(&x.entry, NM_PUT_OPTIONS(.flags = 7, .ttl_ms = 100000));
    assert_int_equal(st != NM_OK, x.entry.slot != NULL);
    return st;
}

typedef struct scenario {
    const char *name;
    void (*before)(void);
    nm_status (*act)(void);
    bool needs_more; /* than the first pages: it is refused where there are no others */
} scenario;

static const scenario scenarios[] = {
    {"touch", large, touch, true},
    {"touch of a pinned entry", pinned, touch, true},
    {"touch, with a callback", with_callback, touch, true},
    {"touch, elastic", elastic, touch, true},
    {"mark_stale", large, mark_stale, true},
    {"mark_stale of a pinned entry", pinned, mark_stale, true},
    {"get_touch", large, get_touch, true},
    {"increment of a pinned entry", number_of_many_digits, increment, true},
    {"put_negative", empty, put_negative, true},
    {"put of a long key", long_key, put_long_key, true},
    {"put of a larger value, with a callback", with_callback, put_larger, true},
    {"put of a larger value, elastic", elastic, put_larger, true},
    {"put of a larger value over a pinned one", pinned, put_larger, true},
    {"next", many_pins, next, true},
    {"get_or_load", plain, get_or_load, true},
    {"get_or_load, with a callback", small_with_callback, get_or_load, true},
    {"commit with words that it lacks", reservation, commit, true},
    {"increment in place", plain, increment, false},
};

/* ---- the loop ----------------------------------------------------------------------------------------------------- */

/* The entry as it can be seen from outside. Looking leaves no trace: no grant is made. */
typedef struct sight {
    bool present, stale;
    uint64_t cas, expires_ms;
    size_t value_len, count, used;
    uint64_t evictions;
    unsigned told;
} sight;

static sight look(void) {
    sight s;
    memset(&s, 0, sizeof s); /* compared by bytes */
    nm_cache_stats st;
    nm_entry e;
    nm_cache_get_stats(x.cache, &st);
    s.count = st.entry_count;
    s.used = st.used_bytes;
    s.evictions = st.evictions;
    s.told = x.told;
    s.present = nm_cache_contains(x.cache, "key", 3);
    if (x.pins[MANY_PINS - 1].slot != NULL || !nm_cache_get(x.cache, "key", 3, &e)) return s;
    s.stale = e.stale;
    s.cas = e.cas;
    s.expires_ms = e.expires_ms;
    s.value_len = e.value_len;
    nm_entry_release(&e);
    return s;
}

static void set_up(const scenario *s) {
    os_counter_install();
    memset(&x, 0, sizeof x);
    assert_ok(nm_scope_open(&x.root, NULL, NM_SCOPE_OPTIONS(.name = "root", .hard_bytes = 8 * MIB)));
    assert_ok(nm_scope_open(&x.scope, x.root, NM_SCOPE_OPTIONS(.name = "scope", .hard_bytes = 4 * MIB)));
    s->before();
}

static void tear_down(const scenario *s) {
    for (int i = 0; i < MANY_PINS; i++) nm_entry_release(&x.pins[i]);
    if (s->act == commit)
        nm_cache_abort(&x.entry);
    else
        nm_entry_release(&x.entry);
    cache_check(x.cache);
    assert_ok(nm_cache_close(x.cache));
    assert_int_equal(nm_scope_close(x.scope, NULL), 0);
    assert_int_equal(nm_scope_close(x.root, NULL), 0);
    assert_true(os_counter_remove());
}

static void assert_same(const scenario *s, what refused, uint64_t n, const sight *was, const sight *is) {
    if (memcmp(was, is, sizeof *was) == 0) return;
    fail_msg("%s, %s %llu: refused, and present %d -> %d, stale %d -> %d, version %llu -> %llu, bytes %zu -> %zu, "
             "count %zu -> %zu, used %zu -> %zu, evictions %llu -> %llu, told %u -> %u",
             s->name, names[refused], (unsigned long long)n, was->present, is->present, was->stale, is->stale,
             (unsigned long long)was->cas, (unsigned long long)is->cas, was->value_len, is->value_len, was->count,
             is->count, was->used, is->used, (unsigned long long)was->evictions, (unsigned long long)is->evictions,
             was->told, is->told);
}

static bool is_right(what refused, nm_status st) {
    return refused == SYSTEM_CALL ? st == NM_ENOMEM || st == NM_ESYSTEM : st == NM_EBUDGET;
}

/* Returns false when the n-th did not come: the scenario needs fewer. */
static bool try_with(const scenario *s, what refused, uint64_t n, uint64_t *refusals) {
    refused_now = refused;
    set_up(s);
    if (refused == LIMIT) nm__sampler_stop(x.cache); /* its memory would be another way */
    sight was = look();
    nm_scope_stats scope;
    nm_scope_get_stats(x.scope, &scope);
    if (refused == GRANT) nm_scope_fail_after(x.root, n);
    if (refused == SYSTEM_CALL) os_counter_fail_after(n);
    if (refused == LIMIT) assert_ok(nm_scope_set_budget(x.scope, 0, scope.granted_bytes));
    nm_status st = s->act();
    bool came = refused == GRANT ? nm_atomic_load(&x.root->fail_after, NM_RELAXED) == 0
                                 : refused == LIMIT || os_counter_failed();
    if (refused == LIMIT && s->needs_more && st == NM_OK) fail_msg("%s was not refused", s->name);
    if (refused == LIMIT) assert_ok(nm_scope_set_budget(x.scope, 0, 4 * MIB));
    nm_scope_fail_after(x.root, 0);
    os_counter_fail_after(0);
    cache_check(x.cache);
    if (st != NM_OK) {
        ++*refusals;
        if (!came || !is_right(refused, st))
            fail_msg("%s, %s %llu: %s", s->name, names[refused], (unsigned long long)n, nm_status_name(st));
        sight is = look();
        assert_same(s, refused, n, &was, &is);
        nm_scope_stats root;
        nm_scope_get_stats(x.root, &root);
        assert_int_equal(root.granted_bytes, os_counter_committed());
        nm_status again = s->act();
        if (again != NM_OK) fail_msg("%s: the next call gives %s", s->name, nm_status_name(again));
    }
    tear_down(s);
    return came && refused != LIMIT;
}

static void run_all(what refused) {
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        uint64_t n = 1, refusals = 0;
        while (try_with(&scenarios[i], refused, n, &refusals)) {
            n++;
            assert_true(n < 1000);
        }
        if (refused == LIMIT)
            print_message("  %-42s %s\n", scenarios[i].name, refusals ? "refused" : "not refused");
        else
            print_message("  %-42s %" PRIu64 " of %" PRIu64 " %ss refused it\n", scenarios[i].name, refusals, n - 1,
                          names[refused]);
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

/* Refused once, a cache finds another way; here there is none. */
static void where_the_scope_has_no_more(void **state) {
    (void)state;
    run_all(LIMIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_grant_refused),
        cmocka_unit_test(every_system_call_refused),
        cmocka_unit_test(where_the_scope_has_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
