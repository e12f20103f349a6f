/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/util.h"

static void set_formats_and_returns_the_code(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    assert_int_equal(err_set(&e, ENOENT, "%s is missing", "x"), -ENOENT);
    assert_int_equal(e.code, ENOENT);
    assert_string_equal(e.msg, "x is missing");
    assert_int_equal(err_set(NULL, EINVAL, "nobody reads this"), -EINVAL);
}

/* A code that is no errno must not turn a failure into a success. */
static void set_never_returns_success(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    assert_int_equal(err_set(&e, 0, "x"), -EIO);
    assert_int_equal(err_set(&e, -5, "x"), -EIO);
    assert_int_equal(err_errno(&e, 0, "x"), -EIO);
    assert_int_equal(e.code, EIO);
}

static void errno_appends_its_text(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    assert_int_equal(err_errno(&e, EACCES, "cannot open %s", "/x"), -EACCES);
    assert_string_equal(e.msg, "cannot open /x: Permission denied");
}

static void wrap_puts_the_context_before(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    err_set(&e, EBUSY, "cause");
    assert_int_equal(err_wrap(&e, "inner %d", 1), -EBUSY);
    assert_int_equal(err_wrap(&e, "outer"), -EBUSY);
    assert_string_equal(e.msg, "outer: inner 1: cause");

    struct err unset = ERR_INIT;
    assert_int_equal(err_wrap(&unset, "alone"), -EIO);
    assert_string_equal(unset.msg, "alone");
    assert_int_equal(unset.code, EIO);
    assert_int_equal(err_wrap(NULL, "x"), -EIO);
}

static void wrap_once_does_not_repeat(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    err_set(&e, EIO, "the machine died");
    assert_int_equal(err_wrap_once(&e, "cannot freeze box", "b1"), -EIO);
    assert_string_equal(e.msg, "cannot freeze box b1: the machine died");
    assert_int_equal(err_wrap_once(&e, "cannot freeze box", "b1"), -EIO);
    assert_string_equal(e.msg, "cannot freeze box b1: the machine died");
    err_wrap_once(&e, "cannot freeze box", "b2");
    assert_string_equal(e.msg, "cannot freeze box b2: cannot freeze box b1: the machine died");
}

static void append_puts_details_last(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    err_set(&e, EIO, "failed");
    assert_int_equal(err_append(&e, ": line %d", 3), -EIO);
    assert_string_equal(e.msg, "failed: line 3");
    assert_int_equal(err_append(NULL, "x"), -EIO);
}

static void long_messages_are_cut(void **state) {
    (void)state;
    static char big[2 * ERR_MSG_MAX];
    memset(big, 'x', sizeof(big) - 1);
    struct err e = ERR_INIT;
    err_set(&e, EIO, "%s", big);
    assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
    err_errno(&e, EIO, "%s", big);
    assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
    err_wrap(&e, "%s", big);
    assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
    err_append(&e, "%s", big);
    assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
}

static void control_characters_do_not_reach_a_terminal(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    err_set(&e, EIO, "a\033[2Jb\rc\x7f\nd\te");
    assert_string_equal(e.msg, "a?[2Jb?c?\nd\te");
    err_wrap(&e, "\033");
    assert_string_equal(e.msg, "?: a?[2Jb?c?\nd\te");
    err_append(&e, "\a");
    assert_string_equal(e.msg, "?: a?[2Jb?c?\nd\te?");
    err_set(&e, EIO,
            "\xc2\x9b"
            "2J \xff \xc3\xa4");
    assert_string_equal(e.msg, "??2J ? \xc3\xa4");
}

static void copy_accepts_null(void **state) {
    (void)state;
    struct err a = ERR_INIT, b = ERR_INIT;
    err_set(&a, EPERM, "no");
    assert_int_equal(err_copy(&b, &a), -EPERM);
    assert_string_equal(b.msg, "no");
    assert_int_equal(err_copy(NULL, &a), -EPERM);
    assert_int_equal(err_copy(&b, NULL), -EIO);
    assert_int_equal(b.code, EIO);
    assert_int_not_equal(b.msg[0], '\0');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_formats_and_returns_the_code),
        cmocka_unit_test(set_never_returns_success),
        cmocka_unit_test(errno_appends_its_text),
        cmocka_unit_test(wrap_puts_the_context_before),
        cmocka_unit_test(wrap_once_does_not_repeat),
        cmocka_unit_test(append_puts_details_last),
        cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(control_characters_do_not_reach_a_terminal),
        cmocka_unit_test(copy_accepts_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
