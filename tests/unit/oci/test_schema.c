/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/schema.h"
#include "support.h"

static const struct field inner[] = {
    {"a", FIELD_INT, .required = true, .min = 1, .max = 2},
    {"b", FIELD_STR, FIELD_NOTE, .why = "because"},
    {NULL},
};

static const struct field table[] = {
    {"str", FIELD_STR},
    {"bool", FIELD_BOOL},
    {"int", FIELD_INT, .min = -1, .max = 1},
    {"obj", FIELD_OBJ, .fields = inner},
    {"strs", FIELD_STRS, .max = 2},
    {"objs", FIELD_OBJS, .max = 2, .fields = inner},
    {"ints", FIELD_INTS, .max = 2},
    {"map", FIELD_STRMAP, .max = 2},
    {"dropped", FIELD_OBJ, FIELD_DROP},
    {"rewritten", FIELD_STR, FIELD_REWRITE},
    {"noted", FIELD_BOOL, FIELD_NOTE, .why = "it means nothing here"},
    {NULL},
};

static json_t *load(const char *text) {
    json_t *v = json_loads(text, 0, NULL);
    assert_non_null(v);
    return v;
}

static void check_finds_what_is_wrong(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\"str\":1}", "x.str: must be a string"},
        {"{\"bool\":0}", "x.bool: must be true or false"},
        {"{\"int\":2}", "x.int: must be a whole number from -1 to 1"},
        {"{\"int\":1.0}", "x.int: must be a whole number from -1 to 1"},
        {"{\"obj\":[]}", "x.obj: must be an object"},
        {"{\"obj\":{}}", "x.obj.a: is missing"},
        {"{\"obj\":{\"a\":null}}", "x.obj.a: is missing"},
        {"{\"obj\":{\"a\":3}}", "x.obj.a: must be a whole number from 1 to 2"},
        {"{\"strs\":{}}", "x.strs: must be an array"},
        {"{\"strs\":[\"\",null]}", "x.strs[1]: must be a string"},
        {"{\"strs\":[\"\",\"\",\"\"]}", "x.strs: more than 2 elements"},
        {"{\"objs\":[1]}", "x.objs[0]: must be an object"},
        {"{\"objs\":[{\"a\":1},{\"a\":0}]}", "x.objs[1].a: must be a whole number from 1 to 2"},
        {"{\"objs\":[{\"a\":1},{\"a\":1},{\"a\":1}]}", "x.objs: more than 2 elements"},
        {"{\"ints\":[0,-1]}", "x.ints[1]: must be a whole number from 0 to 2147483647"},
        {"{\"ints\":[0,2147483648]}", "x.ints[1]: must be a whole number from 0 to 2147483647"},
        {"{\"ints\":[true]}", "x.ints[0]: must be a whole number from 0 to 2147483647"},
        {"{\"map\":[]}", "x.map: must be an object"},
        {"{\"map\":{\"k\":1}}", "x.map[\"k\"]: must be a string"},
        {"{\"map\":{\"k\":\"\",\"l\":\"\",\"m\":\"\"}}", "x.map: more than 2 entries"},
        {"{\"noted\":1}", "x.noted: must be true or false"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_json json_t *v = load(cases[i].text);
        struct err e = ERR_INIT;
        assert_int_equal(fields_check(v, "x", table, &e), -EINVAL);
        assert_string_equal(e.msg, cases[i].message);
    }
}

static void check_accepts(void **state) {
    (void)state;
    cleanup_json json_t *v = load(
        "{\"str\":\"\",\"bool\":true,\"int\":-1,\"obj\":{\"a\":1,\"z\":[]},\"strs\":[\"\"],\"objs\":[],\"ints\":[0],"
        "\"map\":{\"k\":\"v\"},\"unknown\":{},\"rewritten\":null}");
    assert_int_equal(fields_check(v, "", table, NULL), 0);
    cleanup_json json_t *empty = json_object();
    assert_int_equal(fields_check(empty, "", table, NULL), 0);
}

static void copy_passes_only_what_it_knows(void **state) {
    (void)state;
    cleanup_json json_t *v =
        load("{\"str\":\"s\",\"strs\":[],\"obj\":{\"a\":1,\"b\":\"x\",\"z\":[1]},\"objs\":[{\"a\":2,\"b\":\"\"}],"
             "\"dropped\":{\"x\":1},\"rewritten\":\"r\",\"noted\":true,\"int\":null,\"new\":1}");
    cleanup_json json_t *before = json_deep_copy(v), *copy = NULL;
    cleanup_strv struct strv notes = {0};
    assert_int_equal(fields_copy(v, "", table, &copy, &notes, NULL), 0);
    cleanup_free char *text = json_text(copy, JSON_COMPACT);
    assert_string_equal(text, "{\"str\":\"s\",\"strs\":[],\"obj\":{\"a\":1},\"objs\":[{\"a\":2}]}");
    assert_true(json_equal(v, before));
    static const char *const expected[] = {"obj.b: because, ignored", "obj.z: is not known to stasis, ignored",
                                           "noted: it means nothing here, ignored",
                                           "new: is not known to stasis, ignored"};
    assert_int_equal(notes.n, ARRAY_SIZE(expected));
    for (size_t i = 0; i < notes.n; i++)
        assert_string_equal(notes.v[i], expected[i]);

    /* the copy is its own */
    json_object_set_new(json_object_get(copy, "obj"), "a", json_integer(9));
    json_array_append_new(json_object_get(copy, "strs"), json_true());
    assert_true(json_equal(v, before));
}

static void nothing_said(void **state) {
    (void)state;
    static const struct {
        const char *json;
        bool nothing;
    } cases[] = {{"null", true}, {"{}", true},     {"[]", true},    {"\"\"", true},      {"0", true},
                 {"0.0", true},  {"false", true},  {"true", false}, {"1", false},        {"-1", false},
                 {"0.5", false}, {"\"x\"", false}, {"[0]", false},  {"{\"a\":0}", false}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_json json_t *v = json_loads(cases[i].json, JSON_DECODE_ANY, NULL);
        assert_int_equal(json_says_nothing(v), cases[i].nothing);
    }
    assert_true(json_says_nothing(NULL));
}

static void out_of_memory_is_reported(void **state) {
    (void)state;
    cleanup_json json_t *v = json_object(), *list = json_array();
    struct err e = ERR_INIT;
    /* jansson's constructors return NULL when they get no memory */
    assert_int_equal(json_put(v, "k", NULL, &e), -ENOMEM);
    assert_int_equal(json_push(list, NULL, &e), -ENOMEM);
    assert_int_equal(json_put(NULL, "k", json_true(), &e), -ENOMEM);
    assert_int_equal(json_push(NULL, json_true(), &e), -ENOMEM);
    assert_int_equal(json_put(v, "k", json_true(), &e), 0);
    assert_int_equal(json_push(list, json_true(), &e), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_finds_what_is_wrong),      cmocka_unit_test(check_accepts),
        cmocka_unit_test(copy_passes_only_what_it_knows), cmocka_unit_test(nothing_said),
        cmocka_unit_test(out_of_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
