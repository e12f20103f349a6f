/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include "support.h"

struct values {
    const char *text;
    struct strv list;
    uint64_t number;
    bool flag, other;
};

static const struct option_row rows[] = {
    OPTION(OPTION_TEXT, struct values, text, "pid-file", 0, "a text"),
    OPTION(OPTION_LIST, struct values, list, "env", 'e', "a list"),
    OPTION(OPTION_UINT, struct values, number, "preserve-fds", 0, "a number"),
    OPTION(OPTION_FLAG, struct values, flag, "detach", 'd', "a flag"),
    {.name = "other", .alias = "others", .kind = OPTION_FLAG, .offset = offsetof(struct values, other), .help = "x"},
};

static const struct option_table table = {rows, ARRAY_SIZE(rows), .stop_at_first = false};
static const struct option_table first = {rows, ARRAY_SIZE(rows), .stop_at_first = true};

/* Parses "prog" and the words given. */
static int parse(const struct option_table *t, struct values *v, bool *help, struct err *err, char **argv) {
    int argc = 0;
    while (argv[argc])
        argc++;
    *v = (struct values){.number = 7};
    return options_parse(t, v, argc, argv, help, err);
}
#define ARGV(...)                                                                                                      \
    (char *[]) {                                                                                                       \
        (char *)"prog", __VA_ARGS__, NULL                                                                              \
    }

static void sets_every_kind(void **state) {
    (void)state;
    struct values v;
    struct err err = ERR_INIT;
    bool help;
    char *argv[] = {"prog",     "--pid-file",     "a", "--env=A=1", "-e", "B=2", "-d",
                    "--others", "--preserve-fds", "3", "name",      NULL};
    int at = parse(&table, &v, &help, &err, argv);
    assert_int_equal(at, 10);
    assert_string_equal(argv[at], "name");
    assert_string_equal(v.text, "a");
    assert_int_equal(v.list.n, 2);
    assert_string_equal(v.list.v[0], "A=1");
    assert_string_equal(v.list.v[1], "B=2");
    assert_int_equal(v.number, 3);
    assert_true(v.flag);
    assert_true(v.other);
    assert_false(help);
    options_clear(&table, &v);
    assert_int_equal(v.list.n, 0);
}

static void keeps_what_is_not_given(void **state) {
    (void)state;
    struct values v;
    bool help;
    assert_int_equal(parse(&table, &v, &help, NULL, ARGV("name")), 1);
    assert_null(v.text);
    assert_int_equal(v.number, 7);
    assert_false(v.flag);
}

static void takes_options_after_arguments(void **state) {
    (void)state;
    struct values v;
    bool help;
    char *argv[] = {"prog", "name", "-d", NULL};
    int at = parse(&table, &v, &help, NULL, argv);
    assert_int_equal(at, 2);
    assert_string_equal(argv[at], "name");
    assert_true(v.flag);
}

static void stops_at_first_argument(void **state) {
    (void)state;
    struct values v;
    bool help;
    char *argv[] = {"prog", "-d", "name", "ls", "-e", "--help", NULL};
    int at = parse(&first, &v, &help, NULL, argv);
    assert_int_equal(at, 2);
    assert_string_equal(argv[4], "-e");
    assert_int_equal(v.list.n, 0);
    assert_false(help);
}

static void flags_take_values(void **state) {
    (void)state;
    struct values v;
    struct err err = ERR_INIT;
    bool help;
    assert_int_equal(parse(&table, &v, &help, &err, ARGV("--detach=true")), 2);
    assert_true(v.flag);
    assert_int_equal(parse(&table, &v, &help, &err, ARGV("-d", "--detach=false")), 3);
    assert_false(v.flag);
    assert_int_equal(parse(&table, &v, &help, &err, ARGV("--detach=maybe")), -EINVAL);
    assert_message(&err, "invalid boolean value \"maybe\" for -detach");
}

static void finds_help(void **state) {
    (void)state;
    struct values v;
    bool help;
    assert_true(parse(&table, &v, &help, NULL, ARGV("-h")) > 0 && help);
    assert_true(parse(&table, &v, &help, NULL, ARGV("name", "--help")) > 0 && help);
}

static void refuses_with_the_words_of_runc(void **state) {
    (void)state;
    struct values v;
    struct err err = ERR_INIT;
    bool help;
    assert_int_equal(parse(&table, &v, &help, &err, ARGV("--bogus")), -EINVAL);
    assert_string_equal(err.msg, "flag provided but not defined: -bogus");
    assert_int_equal(parse(&table, &v, &help, &err, ARGV("--bogus=5")), -EINVAL);
    assert_string_equal(err.msg, "flag provided but not defined: -bogus");
    assert_int_equal(parse(&table, &v, &help, &err, ARGV("-x")), -EINVAL);
    assert_string_equal(err.msg, "flag provided but not defined: -x");
    assert_int_equal(parse(&table, &v, &help, &err, ARGV("name", "--pid-file")), -EINVAL);
    assert_string_equal(err.msg, "flag needs an argument: -pid-file");
    assert_int_equal(parse(&table, &v, &help, &err, ARGV("-e")), -EINVAL);
    assert_string_equal(err.msg, "flag needs an argument: -env");
    assert_int_equal(parse(&table, &v, &help, &err, ARGV("--preserve-fds", "-1")), -EINVAL);
    assert_message(&err, "invalid value \"-1\" for flag -preserve-fds");
}

static void refuses_too_large_a_table(void **state) {
    (void)state;
    struct option_row many[OPTIONS_MAX + 1];
    for (size_t i = 0; i < ARRAY_SIZE(many); i++)
        many[i] = rows[0];
    struct option_table t = {many, ARRAY_SIZE(many), false};
    struct values v;
    bool help;
    assert_int_equal(parse(&t, &v, &help, NULL, ARGV("name")), -E2BIG);
}

static void prints_aligned_help(void **state) {
    (void)state;
    CAPTURE(text, options_print(&table, out));
    assert_string_equal(text, "   --pid-file value       a text\n"
                              "   --env value, -e value  a list\n"
                              "   --preserve-fds value   a number\n"
                              "   --detach, -d           a flag\n"
                              "   --other                x\n"
                              "   --help, -h             show help\n");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_every_kind),
        cmocka_unit_test(keeps_what_is_not_given),
        cmocka_unit_test(takes_options_after_arguments),
        cmocka_unit_test(stops_at_first_argument),
        cmocka_unit_test(flags_take_values),
        cmocka_unit_test(finds_help),
        cmocka_unit_test(refuses_with_the_words_of_runc),
        cmocka_unit_test(refuses_too_large_a_table),
        cmocka_unit_test(prints_aligned_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
