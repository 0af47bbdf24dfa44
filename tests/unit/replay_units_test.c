// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "../../tools/replay/units.c"

#include "testing.h"

static bool parse(const char *text, uint64_t *out) { return units_parse_bytes(text, strlen(text), out); }

static void sizes_are_read_with_and_without_units(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"0", 0},
        {"4096", 4096},
        {"1B", 1},
        {"64KiB", 65536},
        {"64K", 65536},
        {"64MiB", UINT64_C(64) << 20},
        {"1.5GiB", UINT64_C(3) << 29},
        {"1.5 GiB", UINT64_C(3) << 29},
        {"2T", UINT64_C(2) << 40},
        {"3kB", 3000},
        {"3KB", 3000},
        {"2.5MB", 2500000},
        {"1GB", 1000000000},
        {"0.0009KiB", 0},
        {"0.001KiB", 1},
        {"1.9999999999999999999KiB", 2047},
        {"9223372036854775807", INT64_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bytes = 99;
        if (!parse(cases[i].text, &bytes) || bytes != cases[i].bytes)
            fail_msg("%s gave %" PRIu64, cases[i].text, bytes);
    }
}

static void what_is_no_size_is_refused_and_changes_nothing(void **state) {
    (void)state;
    static const char *const cases[] = {"",
                                        " 1",
                                        "-1",
                                        "+1",
                                        "1.5",
                                        "1.5B",
                                        "1.",
                                        ".5K",
                                        "1..5K",
                                        "1e3",
                                        "0x10",
                                        "4KiBs",
                                        "4 k",
                                        "KiB",
                                        "1,000",
                                        "nan",
                                        "8388608TiB",
                                        "9223372036854775808",
                                        "18446744073709551616",
                                        "99999999999T",
                                        "5%"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bytes = 77;
        if (parse(cases[i], &bytes)) fail_msg("\"%s\" was taken for %" PRIu64 " bytes", cases[i], bytes);
        assert_int_equal(bytes, 77);
    }
}

static void a_size_ends_where_its_length_says(void **state) {
    (void)state;
    uint64_t bytes;
    assert_true(units_parse_bytes("64KiB,128KiB", 5, &bytes));
    assert_int_equal(bytes, 65536);
}

static void percentages_are_above_0_and_up_to_1000(void **state) {
    (void)state;
    double percent = 0;
    assert_true(units_parse_percent("5%", 2, &percent) && percent == 5.0);
    assert_true(units_parse_percent("0.25%", 5, &percent) && percent == 0.25);
    assert_true(units_parse_percent("1000%", 5, &percent) && percent == 1000.0);
    percent = 7;
    static const char *const cases[] = {"%",    "0%", "0.0%", "-1%", "1001%",  "inf%", "0x1%",
                                        "1e1%", "5",  "5%%",  ".%",  "1.2.3%", "5 %"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (units_parse_percent(cases[i], strlen(cases[i]), &percent)) fail_msg("%s was taken", cases[i]);
    assert_true(percent == 7);
    assert_false(units_parse_percent("1.000000000000000000000000000000000000%", 39, &percent));
}

static void sizes_durations_and_rates_have_three_digits(void **state) {
    (void)state;
    char text[UNITS_TEXT_BYTES];
    assert_string_equal(units_bytes(text, 0), "0 B");
    assert_string_equal(units_bytes(text, 1023), "1023 B");
    assert_string_equal(units_bytes(text, 1024), "1.00 KiB");
    assert_string_equal(units_bytes(text, 10239), "10.0 KiB");
    assert_string_equal(units_bytes(text, UINT64_C(123) << 20), "123 MiB");
    assert_string_equal(units_bytes(text, UINT64_MAX), "16.0 EiB");
    assert_string_equal(units_duration(text, 999), "999 ns");
    assert_string_equal(units_duration(text, 1234), "1.23 us");
    assert_string_equal(units_duration(text, 999600), "1.00 ms");
    assert_string_equal(units_duration(text, UINT64_C(73) * 1000000000), "73.0 s");
    assert_string_equal(units_rate(text, 12.0), "12");
    assert_string_equal(units_rate(text, 434400.0), "434 k");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_read_with_and_without_units),
        cmocka_unit_test(what_is_no_size_is_refused_and_changes_nothing),
        cmocka_unit_test(a_size_ends_where_its_length_says),
        cmocka_unit_test(percentages_are_above_0_and_up_to_1000),
        cmocka_unit_test(sizes_durations_and_rates_have_three_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
