/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>

#include "base/util.h"

static void take_hands_over(void **state) {
    (void)state;
    char *p = strdup("x"), *q = TAKE_PTR(p);
    assert_null(p);
    free(q);
    int fd = 7;
    assert_int_equal(TAKE_FD(fd), 7);
    assert_int_equal(fd, -1);
}

static void clocks(void **state) {
    (void)state;
    uint64_t a = now_usec(), b = now_usec();
    assert_true(b >= a);
    assert_true(now_wall_usec() > UINT64_C(1700000000) * USEC_PER_SEC);
}

static void rfc3339(void **state) {
    (void)state;
    char buf[32];
    assert_string_equal(format_rfc3339(0, buf, sizeof(buf)), "1970-01-01T00:00:00.000000000Z");
    assert_string_equal(format_rfc3339(UINT64_C(1767323045123456), buf, sizeof(buf)), "2026-01-02T03:04:05.123456000Z");
    format_rfc3339(UINT64_MAX, buf, sizeof(buf)); /* no date, but no overrun either */
    assert_true(strlen(buf) < sizeof(buf));
}

static void printf_allocates(void **state) {
    (void)state;
    cleanup_free char *s = str_printf("%s-%d", "a", 5);
    assert_string_equal(s, "a-5");
}

static void strv_grows(void **state) {
    (void)state;
    cleanup_strv struct strv s = {0};
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(i % 2 ? strv_addf(&s, "%d", i) : strv_add(&s, "even"), 0);
        assert_int_equal(s.n, i + 1);
        assert_null(s.v[s.n]);
    }
    assert_string_equal(s.v[0], "even");
    assert_string_equal(s.v[999], "999");
    strv_clear(&s);
    assert_null(s.v);
    assert_int_equal(s.n, 0);
    strv_clear(&s);
}

static void u64(void **state) {
    (void)state;
    static const struct {
        const char *s;
        uint64_t max;
        int r;
        uint64_t v;
    } cases[] = {
        {"0", 0, 0, 0},
        {"255", 255, 0, 255},
        {"007", 10, 0, 7},
        {"18446744073709551615", UINT64_MAX, 0, UINT64_MAX},
        {"256", 255, -ERANGE, 0},
        {"18446744073709551616", UINT64_MAX, -ERANGE, 0},
        {"99999999999999999999999", UINT64_MAX, -ERANGE, 0},
        {"", 9, -EINVAL, 0},
        {"-1", 9, -EINVAL, 0},
        {"+1", 9, -EINVAL, 0},
        {" 1", 9, -EINVAL, 0},
        {"1 ", 9, -EINVAL, 0},
        {"0x1", 9, -EINVAL, 0},
        {"1.5", 9, -EINVAL, 0},
        {NULL, 9, -EINVAL, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t v = 12345;
        assert_int_equal(parse_u64(cases[i].s, cases[i].max, &v), cases[i].r);
        assert_true(v == (cases[i].r == 0 ? cases[i].v : 12345));
    }
}

static void sizes(void **state) {
    (void)state;
    static const struct {
        const char *s;
        int r;
        uint64_t v;
    } cases[] = {
        {"0", 0, 0},
        {"1024", 0, 1024},
        {"1K", 0, 1024},
        {"1k", 0, 1024},
        {"2M", 0, 2 << 20},
        {"3GiB", 0, UINT64_C(3) << 30},
        {"4TB", 0, UINT64_C(4) << 40},
        {"5b", 0, 5},
        {"16777215T", 0, UINT64_C(16777215) << 40},
        {"16777216T", -ERANGE, 0},
        {"18446744073709551616", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"K", -EINVAL, 0},
        {"-1K", -EINVAL, 0},
        {"1P", -EINVAL, 0},
        {"1 K", -EINVAL, 0},
        {"1KK", -EINVAL, 0},
        {"1.5G", -EINVAL, 0},
        {"1i", -EINVAL, 0},
        {"1Ki ", -EINVAL, 0},
        {NULL, -EINVAL, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t v = 12345;
        assert_int_equal(parse_size(cases[i].s, &v), cases[i].r);
        assert_true(v == (cases[i].r == 0 ? cases[i].v : 12345));
    }
}

static void signals(void **state) {
    (void)state;
    static const struct {
        const char *s;
        int r;
    } cases[] = {
        {"TERM", SIGTERM},
        {"SIGTERM", SIGTERM},
        {"sigterm", SIGTERM},
        {"kill", SIGKILL},
        {"9", 9},
        {"64", 64},
        {"WINCH", SIGWINCH},
        {"IOT", SIGABRT},
        {"CLD", SIGCHLD},
        {"RTMIN", 34},
        {"SIGRTMIN+3", 37},
        {"RTMIN+30", 64},
        {"RTMAX", 64},
        {"RTMAX-30", 34},
        {"0", -EINVAL},
        {"65", -EINVAL},
        {"-9", -EINVAL},
        {"", -EINVAL},
        {"SIG", -EINVAL},
        {"FOO", -EINVAL},
        {"RTMIN+31", -EINVAL},
        {"RTMIN+", -EINVAL},
        {"RTMIN3", -EINVAL},
        {"RTMAX+1", -EINVAL},
        {NULL, -EINVAL},
        {"TERM ", -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(parse_signal(cases[i].s), cases[i].r);
}

static void utf8(void **state) {
    (void)state;
    static const char *const good[] = {
        "", "abc", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf", "\x7f"};
    static const char *const bad[] = {
        "\x80",             /* continuation alone */
        "\xc3",             /* cut */
        "\xe2\x82",         /* cut */
        "\xc0\x80",         /* overlong NUL */
        "\xc1\xbf",         /* overlong */
        "\xe0\x9f\xbf",     /* overlong */
        "\xf0\x8f\xbf\xbf", /* overlong */
        "\xed\xa0\x80",     /* surrogate */
        "\xf4\x90\x80\x80", /* above U+10FFFF */
        "\xf5\x80\x80\x80",
        "\xff",
        "\xe2\x28\xa1",
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(utf8_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(utf8_valid(bad[i], strlen(bad[i])));
    assert_false(utf8_valid("a\0b", 3));
}

static void printable(void **state) {
    (void)state;
    static const struct {
        const char *in, *keep, *out;
    } rows[] = {{"", "", ""},
                {"plain \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", "", "plain \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80"},
                {"\x1b[2J\x07\x7f", "\n\t", "?[2J??"},
                {"a\nb\tc\rd", "", "a?b?c?d"},
                {"a\nb\tc\rd", "\n\t", "a\nb\tc?d"},
                {"\xc2\x9b"
                 "2J \xc2\x80 \xc2\xa0",
                 "\n\t", "??2J ?? \xc2\xa0"}, /* CSI as one character */
                {"\x9b"
                 "2J \xff",
                 "", "?2J ?"},
                {"cut \xf0\x9f\x98", "", "cut ???"}};
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_free char *s = strdup(rows[i].in);
        assert_non_null(s);
        str_printable(s, rows[i].keep);
        assert_string_equal(s, rows[i].out);
    }
}

static void hex_digits(void **state) {
    (void)state;
    char text[9] = "xxxxxxxx";
    hex_format("\x00\x1f\xa0\xff", 4, text);
    assert_string_equal(text, "001fa0ff");
    hex_format("", 0, text);
    assert_string_equal(text, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hex_digits),
        cmocka_unit_test(take_hands_over),
        cmocka_unit_test(clocks),
        cmocka_unit_test(rfc3339),
        cmocka_unit_test(printf_allocates),
        cmocka_unit_test(strv_grows),
        cmocka_unit_test(u64),
        cmocka_unit_test(sizes),
        cmocka_unit_test(signals),
        cmocka_unit_test(utf8),
        cmocka_unit_test(printable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
