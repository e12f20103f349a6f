/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "shim/cmdline.h"

#define PROGRAM "/usr/local/bin/containerd-shim-stasis-v2"
#define WORDS_MAX 24

static int parse(const char *const *words, struct cmdline *c, struct err *err) {
    char *argv[WORDS_MAX + 2] = {(char *)(uintptr_t)PROGRAM};
    int n = 1;
    for (; words[n - 1]; n++) {
        assert_true(n <= WORDS_MAX);
        argv[n] = (char *)(uintptr_t)words[n - 1];
    }
    return cmdline_parse(n, argv, c, err);
}
#define PARSE(c, err, ...) parse((const char *const[]){__VA_ARGS__, NULL}, c, err)

/* The command line is refused, and says so; what was in ret stays. */
#define REFUSED(says, ...)                                                                                             \
    do {                                                                                                               \
        struct cmdline c_ = {.id = "untouched"};                                                                       \
        struct err e_ = ERR_INIT;                                                                                      \
        assert_int_equal(PARSE(&c_, &e_, __VA_ARGS__), -EINVAL);                                                       \
        if (!strstr(e_.msg, says))                                                                                     \
            fail_msg("\"%s\" does not say \"%s\"", e_.msg, says);                                                      \
        assert_string_equal(c_.id, "untouched");                                                                       \
        assert_null(c_.command);                                                                                       \
    } while (0)

static void as_containerd_calls_it(void **state) {
    (void)state;
    struct cmdline c = {0};
    struct err err = ERR_INIT;
    assert_int_equal(PARSE(&c, &err, "-namespace", "k8s.io", "-address", "/run/containerd/containerd.sock",
                           "-publish-binary", "/usr/bin/containerd", "-id", "c1", "-debug", "start"),
                     0);
    assert_string_equal(c.program, "containerd-shim-stasis-v2");
    assert_string_equal(c.command, "start");
    assert_string_equal(c.id, "c1");
    assert_string_equal(c.namespace, "k8s.io");
    assert_string_equal(c.address, "/run/containerd/containerd.sock");
    assert_string_equal(c.publish_binary, "/usr/bin/containerd");
    assert_true(c.debug);
    assert_null(c.bundle);
    assert_null(c.root);
    assert_int_equal(PARSE(&c, &err, "-namespace", "k8s.io", "-address", "", "-publish-binary", "", "-id", "c1",
                           "-bundle", "/b", "delete"),
                     0);
    assert_string_equal(c.command, "delete");
    assert_string_equal(c.bundle, "/b");
    assert_string_equal(c.address, "");
    assert_false(c.debug);
}

/* Each flag in each of the forms that Go's flag package takes, and at the end, where its value is missing. */
static void every_flag(void **state) {
    (void)state;
    static const struct {
        const char *name;
        size_t offset;
    } flags[] = {
        {"id", offsetof(struct cmdline, id)},
        {"bundle", offsetof(struct cmdline, bundle)},
        {"namespace", offsetof(struct cmdline, namespace)},
        {"address", offsetof(struct cmdline, address)},
        {"publish-binary", offsetof(struct cmdline, publish_binary)},
        {"socket", offsetof(struct cmdline, socket)},
        {"root", offsetof(struct cmdline, root)},
        {"config", offsetof(struct cmdline, config)},
        {"log", offsetof(struct cmdline, log)},
        {"log-format", offsetof(struct cmdline, log_format)},
    };
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        for (unsigned form = 0; form < 4; form++) {
            char flag[64], joined[96];
            struct cmdline c = {0};
            struct err err = ERR_INIT;
            snprintf(flag, sizeof(flag), "%s%s", form & 1 ? "--" : "-", flags[i].name);
            snprintf(joined, sizeof(joined), "%s=the value", flag);
            int r = form & 2 ? PARSE(&c, &err, joined, "serve") : PARSE(&c, &err, flag, "the value", "serve");
            if (r < 0)
                fail_msg("%s: %s", flag, err.msg);
            const char *set = *(const char **)(void *)((char *)&c + flags[i].offset);
            assert_non_null(set);
            assert_string_equal(set, "the value");
            /* and no other field */
            *(const char **)(void *)((char *)&c + flags[i].offset) = NULL;
            struct cmdline none = {.program = c.program, .command = c.command};
            assert_memory_equal(&c, &none, sizeof(c));
            assert_string_equal(c.command, "serve");
            REFUSED("its value is missing", flag);
        }
    /* The last one counts. */
    struct cmdline c = {0};
    assert_int_equal(PARSE(&c, NULL, "-id", "a", "--id=b", "start"), 0);
    assert_string_equal(c.id, "b");
}

static void print_and_exit(void **state) {
    (void)state;
    static const struct {
        const char *flag, *command;
    } cases[] = {{"-v", "version"}, {"--v", "version"}, {"-info", "info"}, {"--info", "info"}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct cmdline c = {0};
        struct err err = ERR_INIT;
        assert_int_equal(PARSE(&c, &err, cases[i].flag), 0);
        assert_string_equal(c.command, cases[i].command);
        /* containerd 2 gives a namespace and so on before it. */
        assert_int_equal(PARSE(&c, &err, "-namespace", "ns", "-id", "x", cases[i].flag), 0);
        assert_string_equal(c.command, cases[i].command);
        assert_string_equal(c.id, "x");
    }
}

static void refusals(void **state) {
    (void)state;
    REFUSED("usage: containerd-shim-stasis-v2 ", NULL);
    REFUSED("usage: ", "-id", "c1");
    REFUSED("usage: ", "-id", "c1", "start", "delete");
    REFUSED("usage: ", "start", "-id", "c1"); /* flags first, as in Go */
    REFUSED("unknown option -x", "-x", "start");
    REFUSED("unknown option --pid-file", "--pid-file", "/x", "start");
    REFUSED("unknown option -debug=", "-debug=perhaps", "start");
    REFUSED("unknown option --", "--", "start");
    REFUSED("unknown option -", "-", "start");
    /* getopt would take these for -namespace, -id and -info. */
    REFUSED("-names", "-names", "ns", "start");
    REFUSED("-i", "-i", "x", "start");
    REFUSED("-inf", "-inf");
}

/* Which commands there are is for main() to say. */
static void any_word_is_a_command(void **state) {
    (void)state;
    struct cmdline c = {0};
    assert_int_equal(PARSE(&c, NULL, "frobnicate"), 0);
    assert_string_equal(c.command, "frobnicate");
    char *argv[] = {NULL};
    struct err err = ERR_INIT;
    assert_int_equal(cmdline_parse(0, argv, &c, &err), -EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_containerd_calls_it), cmocka_unit_test(every_flag),
        cmocka_unit_test(print_and_exit),         cmocka_unit_test(refusals),
        cmocka_unit_test(any_word_is_a_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
