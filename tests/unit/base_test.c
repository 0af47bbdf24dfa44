// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "base/math.h"
#include "base/options.h"
#include "check/check.h"
#include "os/os.h"
#include "testing.h"

static void every_status_has_its_name_and_a_text_of_its_own(void **state) {
    (void)state;
    assert_string_equal(nm_status_name(NM_OK), "NM_OK");
    assert_string_equal(nm_status_name(NM_EBUDGET), "NM_EBUDGET");
    assert_string_equal(nm_status_text(NM_EBUDGET), "the scope's hard limit refused the bytes");
    static const nm_status all[] = {
#define VALUE(name, value, text) name,
        NM_STATUS_LIST(VALUE)
#undef VALUE
    };
    size_t count = sizeof all / sizeof all[0];
    assert_int_equal(count, 14);
    for (size_t i = 0; i < count; i++) {
        assert_true(i == 0 ? all[i] == 0 : all[i] < 0);
        for (size_t j = 0; j < i; j++) assert_string_not_equal(nm_status_text(all[i]), nm_status_text(all[j]));
    }
}

static void an_unknown_status_is_answered_too(void **state) {
    (void)state;
    assert_string_equal(nm_status_name((nm_status)-99), "NM_UNKNOWN");
    assert_non_null(nm_status_text((nm_status)77));
}

static void the_version_linked_is_the_headers(void **state) {
    (void)state;
    assert_string_equal(nm_version(), NM_VERSION);
    assert_string_equal(NM_VERSION, "0.1.0");
}

static void a_site_is_file_and_line_in_one_constant(void **state) {
    (void)state;
    const char *site = NM_SITE;
    const char *colon = strrchr(site, ':');
    assert_non_null(colon);
    assert_int_equal(atoi(colon + 1), __LINE__ - 3);
}

static void sizes_round_and_overflow_is_seen(void **state) {
    (void)state;
    assert_int_equal(nm__round_up(0, 16), 0);
    assert_int_equal(nm__round_up(1, 16), 16);
    assert_int_equal(nm__round_up(4096, 4096), 4096);
    assert_int_equal(nm__round_down(4097, 4096), 4096);
    assert_int_equal(nm__log2_floor(1), 0);
    assert_int_equal(nm__log2_floor(SIZE_MAX), 63);
    assert_int_equal(nm__log2_ceil(1), 0);
    assert_int_equal(nm__log2_ceil(4097), 13);
    assert_false(nm__is_power_of_two(0));
    assert_true(nm__is_power_of_two((size_t)1 << 63));
    size_t out;
    assert_true(nm__add_overflows(SIZE_MAX, (size_t)1, &out));
    assert_true(nm__mul_overflows(SIZE_MAX / 2 + 1, (size_t)2, &out));
    assert_false(nm__mul_overflows(SIZE_MAX, (size_t)1, &out));
    assert_int_equal(nm__min(1, 2), 1);
    assert_int_equal(nm__max(1, 2), 2);
}

typedef struct probe {
    size_t struct_size;
    int first;
    int second;
} probe;

static void options_of_an_older_caller_keep_the_newer_defaults(void **state) {
    (void)state;
    probe own = {sizeof own, 10, 20};
    struct {
        size_t struct_size;
        int first;
    } old = {offsetof(probe, second), 7};
    assert_ok(nm__options_read(&own, sizeof own, &old));
    assert_int_equal(own.first, 7);
    assert_int_equal(own.second, 20);
    assert_int_equal(own.struct_size, sizeof own);
}

static void options_of_a_younger_caller_must_not_ask_for_what_is_unknown(void **state) {
    (void)state;
    struct {
        probe known;
        uint64_t unknown;
    } young = {{sizeof young, 1, 2}, 0};
    probe own = {sizeof own, 0, 0};
    assert_ok(nm__options_read(&own, sizeof own, &young));
    assert_int_equal(own.second, 2);
    young.unknown = 1;
    assert_status(nm__options_read(&own, sizeof own, &young), NM_EINVAL);
}

static void options_without_a_size_are_refused(void **state) {
    (void)state;
    probe own = {sizeof own, 5, 6}, given = {0, 1, 2};
    assert_status(nm__options_read(&own, sizeof own, &given), NM_EINVAL);
    given.struct_size = SIZE_MAX;
    assert_status(nm__options_read(&own, sizeof own, &given), NM_EINVAL);
    assert_int_equal(own.first, 5);
    assert_ok(nm__options_read(&own, sizeof own, NULL));
    assert_int_equal(own.second, 6);
}

static void only_what_the_caller_has_room_for_is_written(void **state) {
    (void)state;
    probe own = {1, 2, 3};
    struct {
        probe p;
        int guard;
    } out = {{0, 0, 9}, 77};
    nm__struct_write(&out, offsetof(probe, second), &own, sizeof own);
    assert_int_equal(out.p.first, 2);
    assert_int_equal(out.p.second, 9);
    nm__struct_write(&out, sizeof out, &own, sizeof own);
    assert_int_equal(out.p.second, 3);
    assert_int_equal(out.guard, 0);
}

static void a_long_name_is_cut_and_ends(void **state) {
    (void)state;
    char name[NM_NAME_BYTES];
    nm__name_copy(name, "0123456789012345678901234567890123456789");
    assert_int_equal(strlen(name), NM_NAME_BYTES - 1);
    nm__name_copy(name, NULL);
    assert_string_equal(name, "");
    nm__name_copy(name, "short");
    assert_string_equal(name, "short");
}

static void remember(const nm_misuse *misuse, void *context) { *(const char **)context = misuse->what; }

static void a_misuse_handler_that_returns_is_called_and_replaced(void **state) {
    (void)state;
    const char *what = NULL;
    nm_set_misuse_handler(remember, &what);
    nm__misuse(&(nm_misuse){.what = "test"});
    nm_set_misuse_handler(NULL, NULL);
    assert_string_equal(what, "test");
}

static void the_system_gives_and_takes_address_space_and_pages(void **state) {
    (void)state;
    const nm__os *os = nm__os_get();
    assert_int_equal(os->page_bytes(), NM__PAGE_BYTES);
    assert_null(os->reserve(SIZE_MAX, 4096));
    assert_null(os->reserve(SIZE_MAX / 2 + 1, (size_t)2 << 20));
    size_t bytes = (size_t)3 << 20;
    unsigned char *p = os->reserve(bytes, (size_t)2 << 20);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % ((size_t)2 << 20), 0);
    assert_true(os->commit(p, 8192));
    assert_int_equal(p[8191], 0);
    p[0] = p[8191] = 1;
    assert_true(os->commit(p, 8192));
    assert_int_equal(p[0], 1);
    assert_true(os->decommit(p, 4096));
    assert_int_equal(p[0], 0);
    assert_int_equal(p[8191], 1);
    os->unreserve(p, bytes);
    uint64_t before = os->clock_ns();
    assert_true(os->clock_ns() >= before);
    assert_true(os->clock_coarse_ms() > 0);
    unsigned char random[600] = {0}, zero[600] = {0};
    assert_true(os->random(random, sizeof random));
    assert_memory_not_equal(random, zero, sizeof zero);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_name_and_a_text_of_its_own),
        cmocka_unit_test(an_unknown_status_is_answered_too),
        cmocka_unit_test(the_version_linked_is_the_headers),
        cmocka_unit_test(a_site_is_file_and_line_in_one_constant),
        cmocka_unit_test(sizes_round_and_overflow_is_seen),
        cmocka_unit_test(options_of_an_older_caller_keep_the_newer_defaults),
        cmocka_unit_test(options_of_a_younger_caller_must_not_ask_for_what_is_unknown),
        cmocka_unit_test(options_without_a_size_are_refused),
        cmocka_unit_test(only_what_the_caller_has_room_for_is_written),
        cmocka_unit_test(a_long_name_is_cut_and_ends),
        cmocka_unit_test(a_misuse_handler_that_returns_is_called_and_replaced),
        cmocka_unit_test(the_system_gives_and_takes_address_space_and_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
