/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "shim/config_body.h"

#define NAME "runtime options (config_body)"

static int parse(const char *text, struct config *c, struct err *err) {
    config_init(c);
    /* exactly as long as it says, for the sanitizer */
    size_t n = strlen(text);
    cleanup_free uint8_t *body = malloc(n + !n);
    memcpy(body, text, n);
    return config_body_parse(body, n, c, err);
}

static void both_forms_are_read(void **state) {
    (void)state;
    static const char *const texts[] = {
        /* stasis.conf's own */
        "[vm]\nmemory = 1G\ncpus: 3\nkernel_params = a=\"1\" # b\n[log]\nlevel=debug",
        /* containerd 1.7's: go-toml 1 */
        "ConfigPath = \"\"\nTypeUrl = \"x\"\n\n[log]\n  level = \"debug\"\n\n[vm]\n  cpus = 3\n  kernel_params = "
        "\"a=\\\"1\\\" # b\"\n  memory = \"1G\"\n",
        /* containerd 2's: go-toml 2 */
        "typeurl = 'x'\r\n[vm] # the machine\r\nmemory = '1G' # enough\r\ncpus = 3\r\nkernel_params = "
        "'a=\"1\" # b'\r\n[log]\r\nlevel=\"debug\"",
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct config c;
        struct err e = ERR_INIT;
        if (parse(texts[i], &c, &e) < 0)
            fail_msg("%s\n%s", texts[i], e.msg);
        assert_true(c.memory == 1 << 30);
        assert_int_equal(c.cpus, 3);
        assert_string_equal(c.kernel_params, "a=\"1\" # b");
        assert_int_equal(c.log_level, LOG_LEVEL_DEBUG);
    }
}

static void what_it_does_not_set_stays(void **state) {
    (void)state;
    static const char *const texts[] = {"", "\n", "# [vm]\n; cpus = 9", "TypeUrl = \"x\"\n", "[vm]\n"};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct config c, before;
        config_init(&before);
        assert_int_equal(parse(texts[i], &c, NULL), 0);
        assert_memory_equal(&c, &before, sizeof(c));
    }
    struct config c;
    config_init(&c);
    c.cpus = 7;
    assert_int_equal(config_body_parse((const uint8_t *)"[vm]\nmemory = 1G", 16, &c, NULL), 0);
    assert_int_equal(c.cpus, 7);
    assert_int_equal(config_body_parse(NULL, 0, &c, NULL), 0);
}

static void strings(void **state) {
    (void)state;
    static const struct {
        const char *value, *text;
    } cases[] = {
        {"\"\"", ""},
        {"''", ""},
        {"\"\" # x", ""},
        {"\"a;b\"", "a;b"},
        {"\"\\\\\\\"\\\\\"", "\\\"\\"},
        {"'\\n\"'", "\\n\""},
        {"\"it's\"", "it's"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct config c;
        struct err e = ERR_INIT;
        cleanup_free char *text = str_printf("[vm]\nkernel_params=%s", cases[i].value);
        if (parse(text, &c, &e) < 0)
            fail_msg("%s: %s", text, e.msg);
        assert_string_equal(c.kernel_params, cases[i].text);
    }
}

static void mistakes_name_the_line(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[vm]\n\ncpus = \"0\"", NAME ":3: cpus = \"0\" in [vm]: must be number, 1 to 255"},
        {"TypeUrl = 'x'\n[vm]\ncpus = 0", NAME ":3: cpus = \"0\" in [vm]: must be number, 1 to 255"},
        {"[vm]\ncpu = 1", NAME ":2: unknown key \"cpu\" in section [vm]"},
        {"BinaryName = \"x\"", NAME ":1: \"BinaryName\" stands before the first section"},
        {"TypeUr = \"x\"", NAME ":1: \"TypeUr\" stands before the first section"},
        {"[vm]\nTypeUrl = \"x\"", NAME ":2: unknown key \"TypeUrl\" in section [vm]"},
        {"[vm.x]\ncpus = 1", NAME ":2: unknown section [vm.x]; there are [vm], [agent], [container], [checkpoint], "
                                  "[snapshot], [network] and [log]"},
        {"[vm]\nkernel_params = \"a", NAME ":2: the string has no end"},
        {"[vm]\nkernel_params = \"a\\", NAME ":2: of the escapes in strings only \\\" and \\\\ are supported"},
        {"[vm]\nkernel_params = \"a\\\"", NAME ":2: the string has no end"},
        {"[vm]\nkernel_params = 'a\n'", NAME ":2: the string has no end"},
        {"[vm]\nkernel_params = \"a\\n\"", NAME ":2: of the escapes in strings only \\\" and \\\\ are supported"},
        {"[vm]\nkernel_params = \"a\" b", NAME ":2: there is more after the string"},
        {"[vm]\nkernel_params = \"\"\"\na\"\"\"", NAME ":2: strings of more than one line are not supported"},
        {"[vm]\nkernel_params = '''a'''", NAME ":2: strings of more than one line are not supported"},
        {"[vm]\nkernel_params = \"a ;b\"", NAME ":2: a value cannot hold a semicolon after a blank"},
        {"[vm]\nkernel_params = ';b'", NAME ":2: a value cannot hold a semicolon after a blank"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct config c, before;
        struct err e = ERR_INIT;
        config_init(&before);
        if (parse(cases[i].text, &c, &e) != -EINVAL)
            fail_msg("accepted: %s", cases[i].text);
        assert_string_equal(e.msg, cases[i].message);
        assert_memory_equal(&c, &before, sizeof(c));
    }
}

static void it_has_a_bound_and_is_text(void **state) {
    (void)state;
    struct config c;
    struct err e = ERR_INIT;
    config_init(&c);
    cleanup_free uint8_t *body = malloc(CONFIG_FILE_MAX + 1);
    memset(body, '\n', CONFIG_FILE_MAX + 1);
    assert_int_equal(config_body_parse(body, CONFIG_FILE_MAX, &c, &e), 0);
    assert_int_equal(config_body_parse(body, CONFIG_FILE_MAX + 1, &c, &e), -EFBIG);
    assert_string_equal(e.msg, NAME ": longer than 1048576 bytes");
    assert_int_equal(config_body_parse((const uint8_t *)"[vm]\n\0cpus = 1", 14, &c, &e), -EINVAL);
    assert_string_equal(e.msg, NAME ": is not text, it has a NUL byte");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_forms_are_read),
        cmocka_unit_test(what_it_does_not_set_stays),
        cmocka_unit_test(strings),
        cmocka_unit_test(mistakes_name_the_line),
        cmocka_unit_test(it_has_a_bound_and_is_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
