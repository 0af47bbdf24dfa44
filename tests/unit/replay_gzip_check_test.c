// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "../../tools/replay/gzip_check.c"

#include "testing.h"

/* A file that ends as a gzip member of "123456789" does: its CRC-32 is 0xCBF43926. */
static FILE *member_end(unsigned char crc_last) {
    const unsigned char trailer[8] = {0x26, 0x39, 0xf4, crc_last, 9, 0, 0, 0};
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(fwrite("packed", 1, 6, file), 6);
    assert_int_equal(fwrite(trailer, 1, 8, file), 8);
    assert_int_equal(fflush(file), 0);
    return file;
}

static void the_check_value_of_the_polynomial_holds(void **state) {
    (void)state;
    FILE *file = member_end(0xcb);
    gzip_check c;
    assert_true(gzip_check_start(&c, fileno(file), 0));
    gzip_check_add(&c, "12345", 5);
    assert_false(gzip_check_holds(&c));
    gzip_check_add(&c, "6789", 4);
    assert_true(gzip_check_holds(&c));
    gzip_check_add(&c, "0", 1);
    assert_false(gzip_check_holds(&c));
    fclose(file);
}

static void earlier_members_are_passed(void **state) {
    (void)state;
    FILE *file = member_end(0xcb);
    gzip_check c;
    assert_true(gzip_check_start(&c, fileno(file), 7));
    gzip_check_add(&c, "earli", 5);
    gzip_check_add(&c, "er12", 4);
    gzip_check_add(&c, "3456789", 7);
    assert_true(gzip_check_holds(&c));
    fclose(file);
}

static void another_checksum_does_not_hold(void **state) {
    (void)state;
    FILE *file = member_end(0xca);
    gzip_check c;
    assert_true(gzip_check_start(&c, fileno(file), 0));
    gzip_check_add(&c, "123456789", 9);
    assert_false(gzip_check_holds(&c));
    fclose(file);
}

static void a_file_too_short_for_an_end_is_refused(void **state) {
    (void)state;
    FILE *file = tmpfile();
    assert_non_null(file);
    gzip_check c;
    assert_false(gzip_check_start(&c, fileno(file), 0));
    fclose(file);
    assert_false(gzip_check_start(&c, -1, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_check_value_of_the_polynomial_holds),
        cmocka_unit_test(earlier_members_are_passed),
        cmocka_unit_test(another_checksum_does_not_hold),
        cmocka_unit_test(a_file_too_short_for_an_end_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
