// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "../../tools/replay/record.c"

#include "testing.h"

static const char *parse(const char *line, record *out) { return record_parse(RECORD_TEXT, line, strlen(line), out); }

static void assert_record(const char *line, const char *key, bool has_size, uint64_t size) {
    record r;
    const char *why = parse(line, &r);
    if (why != NULL) fail_msg("\"%s\": %s", line, why);
    assert_int_equal(r.key_len, strlen(key));
    assert_memory_equal(r.key, key, r.key_len);
    assert_int_equal(r.has_size, has_size);
    if (has_size) assert_int_equal(r.size, size);
}

static void a_line_is_a_key_and_perhaps_a_size(void **state) {
    (void)state;
    assert_record("17 4096", "17", true, 4096);
    assert_record("17", "17", false, 0);
    assert_record("k 0", "k", true, 0);
    assert_record("k 1099511627776", "k", true, RECORD_SIZE_MAX);
    assert_record("k 000000000000000000000000000005", "k", true, 5);
    assert_record("-5 5", "-5", true, 5);
    assert_record("\xc3\xa9t\xc3\xa9 12", "\xc3\xa9t\xc3\xa9", true, 12);
}

static void white_space_of_any_kind_may_stand_around(void **state) {
    (void)state;
    assert_record("  17\t\t4096  ", "17", true, 4096);
    assert_record("17 4096\r", "17", true, 4096);
    assert_record("\v17\f", "17", false, 0);
}

static void a_broken_line_says_what_is_wrong(void **state) {
    (void)state;
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"", "the line has no key"},
        {" \t\r", "the line has no key"},
        {"a b c", "the line has more than two fields (key size)"},
        {"a 1 1", "the line has more than two fields (key size)"},
        {"a b", "the size is not a decimal number"},
        {"a 1.5", "the size is not a decimal number"},
        {"a +1", "the size is not a decimal number"},
        {"a 1k", "the size is not a decimal number"},
        {"a -1", "the size is negative"},
        {"a 1099511627777", "the size is above 2^40"},
        {"a 99999999999999999999999999", "the size is above 2^40"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        record r;
        const char *why = parse(cases[i].line, &r);
        if (why == NULL) fail_msg("\"%s\" was taken", cases[i].line);
        assert_string_equal(why, cases[i].why);
    }
}

static void a_nul_byte_points_at_the_format(void **state) {
    (void)state;
    record r;
    assert_non_null(strstr(record_parse(RECORD_TEXT, "a\0b 1", 5, &r), "--format"));
}

static void the_longest_key_is_taken_and_a_longer_one_is_not(void **state) {
    (void)state;
    static char line[RECORD_LINE_MAX + 2];
    record r;
    memset(line, 'k', RECORD_KEY_MAX);
    memcpy(line + RECORD_KEY_MAX, " 7", 2);
    assert_null(record_parse(RECORD_TEXT, line, RECORD_KEY_MAX + 2, &r));
    assert_int_equal(r.key_len, RECORD_KEY_MAX);
    assert_int_equal(r.size, 7);
    memset(line, 'k', sizeof line);
    assert_string_equal(record_parse(RECORD_TEXT, line, RECORD_KEY_MAX + 1, &r), "the key is longer than 65,535 bytes");
    assert_string_equal(record_parse(RECORD_TEXT, line, RECORD_LINE_MAX + 1, &r),
                        "the line is longer than 65,600 bytes");
    memset(line, ' ', sizeof line);
    line[0] = 'k';
    assert_null(record_parse(RECORD_TEXT, line, RECORD_LINE_MAX, &r));
}

static void an_oracle_record_has_its_object_as_decimal_text(void **state) {
    (void)state;
    static const char bytes[RECORD_ORACLE_BYTES] = {1,  0,   0,  0,                   /* time */
                                                    21, -51, 91, 7,  0,  0,  0,  0,   /* object 123456789 */
                                                    0,  16,  0,  0,                   /* size 4096 */
                                                    -1, -1,  -1, -1, -1, -1, -1, -1}; /* next access */
    record r;
    assert_null(record_parse(RECORD_ORACLE, bytes, sizeof bytes, &r));
    assert_int_equal(r.key_len, 9);
    assert_memory_equal(r.key, "123456789", 9);
    assert_true(r.has_size);
    assert_int_equal(r.size, 4096);
}

static void oracle_numbers_of_all_lengths_are_read(void **state) {
    (void)state;
    char bytes[RECORD_ORACLE_BYTES] = {0};
    record r;
    assert_null(record_parse(RECORD_ORACLE, bytes, sizeof bytes, &r));
    assert_int_equal(r.key_len, 1);
    assert_memory_equal(r.key, "0", 1);
    memset(bytes, 0xff, sizeof bytes);
    assert_null(record_parse(RECORD_ORACLE, bytes, sizeof bytes, &r));
    assert_int_equal(r.key_len, 20);
    assert_memory_equal(r.key, "18446744073709551615", 20);
    assert_int_equal(r.size, UINT32_MAX);
    assert_non_null(record_parse(RECORD_ORACLE, bytes, sizeof bytes - 1, &r));
}

/* Whatever the bytes, the answer is a sentence or a key that lies inside the line. */
static void random_lines_are_answered(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    static const char alphabet[] = "a1 9\t-.\r0\0k";
    for (int round = 0; round < 200000; round++) {
        char line[40];
        size_t len = test_below(&seed, sizeof line);
        for (size_t i = 0; i < len; i++) line[i] = alphabet[test_below(&seed, sizeof alphabet - 1)];
        record r;
        if (record_parse(RECORD_TEXT, line, len, &r) != NULL) continue;
        assert_true(r.key_len > 0);
        assert_true(r.key >= line && r.key + r.key_len <= line + len);
        assert_null(memchr(r.key, ' ', r.key_len));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_a_key_and_perhaps_a_size),
        cmocka_unit_test(white_space_of_any_kind_may_stand_around),
        cmocka_unit_test(a_broken_line_says_what_is_wrong),
        cmocka_unit_test(a_nul_byte_points_at_the_format),
        cmocka_unit_test(the_longest_key_is_taken_and_a_longer_one_is_not),
        cmocka_unit_test(an_oracle_record_has_its_object_as_decimal_text),
        cmocka_unit_test(oracle_numbers_of_all_lengths_are_read),
        cmocka_unit_test(random_lines_are_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
