/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "tmpdir.h"

static int parse(const char *text, json_t **ret, struct err *err) {
    return json_parse("f.json", text, strlen(text), ret, err);
}

static json_t *must_parse(const char *text) {
    json_t *v = NULL;
    struct err e = ERR_INIT;
    if (parse(text, &v, &e) < 0)
        fail_msg("%s", e.msg);
    return v;
}

static void parse_refuses(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "f.json: line 1, column 0: '[' or '{' expected near end of file"},
        {"{\n \"a\": }", "f.json: line 2, column 7: unexpected token near '}'"},
        {"[1]", "f.json: must be a JSON object"},
        {"{\"a\":1,\"a\":2}", "f.json: line 1, column 10: duplicate object key near '\"a\"'"},
        {"{} x", "f.json: line 1, column 4: end of file expected near 'x'"},
        {"{\"a\":\"\\u0000\"}",
         "f.json: line 1, column 13: \\u0000 is not allowed without JSON_ALLOW_NUL near '\"\\u0000\"'"},
        {"{\"a\":\"\xff\"}", NULL},
        {"{\"a\":18446744073709551616}", NULL},
        {"{\"a\":-9223372036854775809}", NULL},
        {"{\"a\":9223372036854775808", NULL},
        {"{\"a\":1e999}", NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err e = ERR_INIT;
        json_t *v = (json_t *)1;
        assert_int_equal(parse(cases[i].text, &v, &e), -EINVAL);
        assert_ptr_equal(v, (json_t *)1);
        if (cases[i].message)
            assert_string_equal(e.msg, cases[i].message);
    }
}

static void parse_has_bounds(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    json_t *v = NULL;
    size_t n = JSON_TEXT_MAX + 1;
    char *big = malloc(n);
    memset(big, ' ', n);
    memcpy(big, "{}", 2);
    assert_int_equal(json_parse("big", big, n, &v, &e), -EFBIG);
    assert_non_null(strstr(e.msg, "big: larger than"));
    assert_int_equal(json_parse("big", big, n - 1, &v, &e), 0);
    json_decref(v);

    /* depth: the parser must refuse it rather than use up the stack */
    size_t deep = 1000000;
    memcpy(big, "{\"a\":", 5);
    memset(big + 5, '[', deep);
    assert_int_equal(json_parse("deep", big, 5 + deep, &v, &e), -EINVAL);
    free(big);
}

/* Numbers as Go writes them; 64 bits without a sign. */
static void big_numbers_are_folded(void **state) {
    (void)state;
    static const struct {
        const char *text, *out;
    } cases[] = {
        {"{\"a\":18446744073709551615}", "{\"a\":-1}"},
        {"{\"a\":9223372036854775807}", "{\"a\":9223372036854775807}"},
        {"{\"a\":9223372036854775808}", "{\"a\":-9223372036854775808}"},
        {"{\"a\":[18446744073709551615,18446744073709551614, 9223372036854775809]}",
         "{\"a\":[-1,-2,-9223372036854775807]}"},
        {"{\"a\":\"18446744073709551615\"}", "{\"a\":\"18446744073709551615\"}"},
        {"{\"\\\"\":\"\\\\\",\"b\":18446744073709551615}", "{\"\\\"\":\"\\\\\",\"b\":-1}"},
        {"{\"a\":\"\\\"18446744073709551615\"}", "{\"a\":\"\\\"18446744073709551615\"}"},
        {"{\"a\":18446744073709551615.0}", "{\"a\":1.8446744073709552e19}"},
        {"{\"a\":18446744073709551615e0}", "{\"a\":1.8446744073709552e19}"},
        {"{\"a\":0.9375000000000000000}", "{\"a\":0.9375}"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_json json_t *v = must_parse(cases[i].text);
        cleanup_free char *text = json_text(v, JSON_COMPACT);
        assert_string_equal(text, cases[i].out);
    }
    /* not numbers before, nor after */
    static const char *const bad[] = {"{\"a\":-18446744073709551615}", "{\"a\":09446744073709551615}",
                                      "{\"a\":118446744073709551615}", "{\"a\":18446744073709551615x}",
                                      "{\"a\":18446744073709551615"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        json_t *v = NULL;
        assert_int_equal(parse(bad[i], &v, NULL), -EINVAL);
    }
}

/* The text need not end with a NUL. */
static void parse_stays_within_its_length(void **state) {
    (void)state;
    char *text = malloc(25);
    memcpy(text, "{\"a\":18446744073709551615", 25);
    json_t *v = NULL;
    assert_int_equal(json_parse("x", text, 25, &v, NULL), -EINVAL);
    memcpy(text, "{\"a\":\"844674407370955161\\", 25);
    assert_int_equal(json_parse("x", text, 25, &v, NULL), -EINVAL);
    free(text);
}

static void parse_file_names_the_file(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    json_t *v = NULL;
    cleanup_free char *path = tmpdir_path(t, "c.json");
    assert_int_equal(json_parse_file(path, &v, &e), -ENOENT);
    tmpdir_write(t, "c.json", "{\"a\": true}");
    assert_int_equal(json_parse_file(path, &v, &e), 0);
    assert_true(json_is_true(json_object_get(v, "a")));
    json_decref(v);
    tmpdir_write(t, "c.json", "{");
    assert_int_equal(json_parse_file(path, &v, &e), -EINVAL);
    assert_memory_equal(e.msg, path, strlen(path));
}

#define DOC "{\"s\":\"x\",\"b\":true,\"i\":7,\"o\":{},\"a\":[\"p\",\"q\"],\"m\":[\"p\",1],\"r\":1.5,\"n\":null}"

static void getters_find(void **state) {
    (void)state;
    cleanup_json json_t *v = must_parse(DOC);
    struct err e = ERR_INIT;
    const char *s = NULL;
    bool b = false;
    int64_t i = 0;
    json_t *o = NULL;
    assert_int_equal(json_get_str(v, "", "s", &s, &e), 1);
    assert_string_equal(s, "x");
    assert_int_equal(json_get_bool(v, "", "b", &b, &e), 1);
    assert_true(b);
    assert_int_equal(json_get_i64(v, "", "i", 7, 7, &i, &e), 1);
    assert_int_equal(i, 7);
    assert_int_equal(json_get_obj(v, "", "o", &o, &e), 1);
    assert_int_equal(json_get_array(v, "", "a", &o, &e), 1);
    assert_int_equal(json_get_str_array(v, "", "a", &o, &e), 1);
    assert_int_equal(json_array_size(o), 2);
}

static void getters_leave_missing_and_null(void **state) {
    (void)state;
    cleanup_json json_t *v = must_parse(DOC);
    static const char *const keys[] = {"absent", "n"};
    for (size_t k = 0; k < 2; k++) {
        const char *s = "old";
        bool b = true;
        int64_t i = 5;
        json_t *o = (json_t *)1;
        assert_int_equal(json_get_str(v, "", keys[k], &s, NULL), 0);
        assert_int_equal(json_get_bool(v, "", keys[k], &b, NULL), 0);
        assert_int_equal(json_get_i64(v, "", keys[k], 0, 1, &i, NULL), 0);
        assert_int_equal(json_get_obj(v, "", keys[k], &o, NULL), 0);
        assert_int_equal(json_get_array(v, "", keys[k], &o, NULL), 0);
        assert_int_equal(json_get_str_array(v, "", keys[k], &o, NULL), 0);
        assert_string_equal(s, "old");
        assert_true(b);
        assert_int_equal(i, 5);
        assert_ptr_equal(o, (json_t *)1);
    }
    /* of no object at all, too */
    const char *s = "old";
    assert_int_equal(json_get_str(NULL, "", "s", &s, NULL), 0);
}

static void getters_name_the_place(void **state) {
    (void)state;
    cleanup_json json_t *v = must_parse(DOC);
    struct err e = ERR_INIT;
    const char *s;
    bool b;
    int64_t i;
    json_t *o;
    assert_int_equal(json_get_str(v, "", "i", &s, &e), -EINVAL);
    assert_string_equal(e.msg, "i: must be a string");
    assert_int_equal(json_get_str(v, "process", "b", &s, &e), -EINVAL);
    assert_string_equal(e.msg, "process.b: must be a string");
    assert_int_equal(json_get_bool(v, "x", "i", &b, &e), -EINVAL);
    assert_string_equal(e.msg, "x.i: must be true or false");
    assert_int_equal(json_get_obj(v, "mounts[3]", "a", &o, &e), -EINVAL);
    assert_string_equal(e.msg, "mounts[3].a: must be an object");
    assert_int_equal(json_get_array(v, "x", "o", &o, &e), -EINVAL);
    assert_string_equal(e.msg, "x.o: must be an array");
    assert_int_equal(json_get_str_array(v, "x", "m", &o, &e), -EINVAL);
    assert_string_equal(e.msg, "x.m[1]: must be a string");
    static const struct {
        const char *key;
        int64_t min, max;
    } ranges[] = {{"i", 8, 9}, {"i", 0, 6}, {"r", 0, 9}, {"s", 0, 9}, {"b", 0, 9}};
    for (size_t k = 0; k < ARRAY_SIZE(ranges); k++)
        assert_int_equal(json_get_i64(v, "x", ranges[k].key, ranges[k].min, ranges[k].max, &i, &e), -EINVAL);
    assert_string_equal(e.msg, "x.b: must be a whole number from 0 to 9");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_refuses),
        cmocka_unit_test(parse_has_bounds),
        cmocka_unit_test(big_numbers_are_folded),
        cmocka_unit_test(parse_stays_within_its_length),
        cmocka_unit_test_setup_teardown(parse_file_names_the_file, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test(getters_find),
        cmocka_unit_test(getters_leave_missing_and_null),
        cmocka_unit_test(getters_name_the_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
