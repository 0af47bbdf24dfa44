// SPDX-License-Identifier: Apache-2.0 OR MIT
/* One root, one scope, one cache, and a clock that stands still unless a test moves it. */
#ifndef NM_TESTS_SUPPORT_CACHE_FIXTURE_H
#define NM_TESTS_SUPPORT_CACHE_FIXTURE_H

#include "cache_check.h"
#include "nebula/cache.h"
#include "os_counter.h"
#include "testing.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static nm_scope *root, *scope;
static nm_cache *cache;
static NM_ATOMIC(uint64_t) clock_ms;
static nm__os clock_table;

static uint64_t clock_read(void) { return nm_atomic_load(&clock_ms, NM_RELAXED); }
static inline void pass_ms(uint64_t ms) { nm_atomic_add(&clock_ms, ms, NM_RELAXED); }

static int set_up(void **state) {
    (void)state;
    cache = NULL;
    os_counter_install();
    nm_atomic_store(&clock_ms, (uint64_t)1000000, NM_RELAXED);
    clock_table = *nm__os_get();
    clock_table.clock_coarse_ms = clock_read;
    nm__os_replace(&clock_table);
    return nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "root")) == NM_OK &&
                   nm_scope_open(&scope, root, NM_SCOPE_OPTIONS(.name = "cache")) == NM_OK
               ? 0
               : -1;
}

static int tear_down(void **state) {
    (void)state;
    nm_leak_report report;
    size_t leaks = nm_scope_close(scope, &report);
    if (leaks != 0) nm_leak_report_print(&report, stderr);
    leaks += nm_scope_close(root, NULL);
    return os_counter_remove() && leaks == 0 ? 0 : -1;
}

#define TEST(f)         cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define open_cache(...) assert_ok(nm_cache_open(&cache, scope, NM_CACHE_OPTIONS(__VA_ARGS__)))

static inline void close_cache(void) {
    cache_check(cache);
    assert_ok(nm_cache_close(cache));
    cache = NULL;
}

static inline nm_cache_stats stats(void) {
    nm_cache_stats st;
    nm_cache_get_stats(cache, &st);
    return st;
}

/* ---- entries whose key is a number, and whose bytes follow from number and length ---- */

static inline void fill(unsigned char *to, uint64_t number, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) to[i] = (unsigned char)(number * 31 + i * 7 + bytes);
}
static inline bool filled(const unsigned char *at, uint64_t number, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != (unsigned char)(number * 31 + i * 7 + bytes)) return false;
    return true;
}
static inline nm_status put_number_for(uint64_t number, size_t bytes, uint64_t ttl_ms) {
    unsigned char on_stack[4096], *value = bytes <= sizeof on_stack ? on_stack : malloc(bytes);
    assert_non_null(value);
    fill(value, number, bytes);
    nm_status st = nm_cache_put_with(cache, &number, sizeof number, value, bytes, NM_PUT_OPTIONS(.ttl_ms = ttl_ms));
    if (value != on_stack) free(value);
    return st;
}
static inline nm_status put_number(uint64_t number, size_t bytes) { return put_number_for(number, bytes, 0); }
static inline bool has_number(uint64_t number) { return nm_cache_contains(cache, &number, sizeof number); }
static inline nm_status remove_number(uint64_t number) { return nm_cache_remove(cache, &number, sizeof number); }
static inline bool pin_number(uint64_t number, nm_entry *out) {
    return nm_cache_get(cache, &number, sizeof number, out);
}
/* True on a hit, whose contents are checked. */
static inline bool get_number(uint64_t number) {
    nm_entry e;
    if (!pin_number(number, &e)) return false;
    assert_true(filled(e.value, number, e.value_len));
    assert_int_equal(e.key_len, sizeof number);
    assert_memory_equal(e.key, &number, sizeof number);
    nm_entry_release(&e);
    return true;
}

/* ---- entries that are text ---- */

static inline nm_status put_text(const char *key, const char *value) {
    return nm_cache_put(cache, key, strlen(key), value, strlen(value));
}
static inline bool pin_text(const char *key, nm_entry *out) { return nm_cache_get(cache, key, strlen(key), out); }
static inline bool has_text(const char *key) { return nm_cache_contains(cache, key, strlen(key)); }
static inline void assert_value(const nm_entry *e, const char *value) {
    assert_int_equal(e->value_len, strlen(value));
    assert_memory_equal(e->value, value, strlen(value));
}
static inline void assert_text(const char *key, const char *value) {
    nm_entry e;
    assert_true(pin_text(key, &e));
    assert_value(&e, value);
    assert_int_equal(e.key_len, strlen(key));
    assert_memory_equal(e.key, key, strlen(key));
    nm_entry_release(&e);
}
static inline uint64_t version_of(const char *key) {
    nm_entry e;
    assert_true(pin_text(key, &e));
    uint64_t cas = e.cas;
    nm_entry_release(&e);
    return cas;
}

#endif
