/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/process_spec.h"

#include "base/json.h"
#include "support.h"
#include "tmpdir.h"

static void parses_users(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    uint32_t uid = 1, gid = 2;
    assert_int_equal(process_parse_user("1000", &uid, &gid, &err), 0);
    assert_int_equal(uid, 1000);
    assert_int_equal(gid, 2);
    assert_int_equal(process_parse_user("0:4294967294", &uid, &gid, &err), 0);
    assert_int_equal(uid, 0);
    assert_int_equal(gid, 4294967294u);
    static const char *const bad[] = {"", "root", "-1", "1:", ":1", "1:2:3", "4294967295", "1:x", " 1", "0x1"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(process_parse_user(bad[i], &uid, &gid, &err), -EINVAL);
    assert_int_equal(process_parse_user("12x", &uid, &gid, &err), -EINVAL);
    assert_message(&err, "12x");
    assert_int_equal(process_parse_user("1:7z", &uid, &gid, &err), -EINVAL);
    assert_message(&err, "parsing 7z as int for gid failed");
}

static void parses_caps(void **state) {
    (void)state;
    char name[64];
    struct err err = ERR_INIT;
    static const char *const good[] = {"CAP_NET_ADMIN", "net_admin", "cap_Net_Admin", "NET_ADMIN"};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(process_parse_cap(good[i], name, sizeof(name), &err), 0);
        assert_string_equal(name, "CAP_NET_ADMIN");
    }
    static const char *const bad[] = {"",          "CAP_",
                                      "net admin", "a/b",
                                      "sys-admin", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(process_parse_cap(bad[i], name, sizeof(name), &err), -EINVAL);
}

static json_t *container(void) {
    return json_pack("{s:b, s:{s:i, s:i, s:[i]}, s:[s], s:[s], s:s, s:{s:[s]}, s:[{s:s, s:i, s:i}], s:{s:i, s:i}}",
                     "terminal", 1, "user", "uid", 5, "gid", 6, "additionalGids", 8, "args", "sh", "env", "A=1", "cwd",
                     "/", "capabilities", "bounding", "CAP_KILL", "rlimits", "type", "RLIMIT_NOFILE", "hard", 10,
                     "soft", 10, "consoleSize", "width", 3, "height", 4);
}

static void add(struct strv *s, const char *text) {
    assert_int_equal(strv_add(s, text), 0);
}

static const char *text_at(const json_t *o, const char *key, size_t i) {
    return json_string_value(json_array_get(json_object_get(o, key), i));
}

static void is_like_the_container_unless_told(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    cleanup_json json_t *base = container();
    cleanup_json json_t *p = NULL;
    struct process_options o = {0};
    char *args[] = {"ls", "-l"};
    assert_int_equal(process_spec_build(base, &o, 2, args, &p, &err), 0);
    assert_string_equal(text_at(p, "args", 0), "ls");
    assert_string_equal(text_at(p, "args", 1), "-l");
    assert_int_equal(json_array_size(json_object_get(p, "args")), 2);
    assert_string_equal(text_at(p, "env", 0), "A=1");
    assert_string_equal(json_string_value(json_object_get(p, "cwd")), "/");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(p, "user"), "uid")), 5);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(p, "user"), "gid")), 6);
    assert_non_null(json_object_get(p, "rlimits"));
    assert_true(json_is_false(json_object_get(p, "terminal")));
    assert_non_null(json_object_get(p, "consoleSize"));
    /* The container's own object is not touched. */
    assert_string_equal(text_at(base, "args", 0), "sh");
    assert_true(json_is_true(json_object_get(base, "terminal")));
}

static void applies_options(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    cleanup_json json_t *base = container();
    cleanup_json json_t *p = NULL;
    struct process_options o = {.cwd = "/tmp", .user = "7:9", .tty = true, .no_new_privs = true, .apparmor = "x"};
    add(&o.env, "B=2");
    add(&o.caps, "kill");
    add(&o.caps, "CAP_SYS_PTRACE");
    add(&o.additional_gids, "11");
    char *args[] = {"sh"};
    assert_int_equal(process_spec_build(base, &o, 1, args, &p, &err), 0);
    assert_string_equal(text_at(p, "env", 0), "A=1");
    assert_string_equal(text_at(p, "env", 1), "B=2");
    assert_string_equal(json_string_value(json_object_get(p, "cwd")), "/tmp");
    const json_t *user = json_object_get(p, "user");
    assert_int_equal(json_integer_value(json_object_get(user, "uid")), 7);
    assert_int_equal(json_integer_value(json_object_get(user, "gid")), 9);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(user, "additionalGids"), 0)), 8);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(user, "additionalGids"), 1)), 11);
    const json_t *caps = json_object_get(p, "capabilities");
    assert_int_equal(json_array_size(json_object_get(caps, "bounding")), 2); /* CAP_KILL is not doubled */
    static const char *const sets[] = {"effective", "permitted", "ambient"};
    for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
        assert_string_equal(text_at(caps, sets[i], 0), "CAP_KILL");
        assert_string_equal(text_at(caps, sets[i], 1), "CAP_SYS_PTRACE");
    }
    assert_true(json_is_true(json_object_get(p, "terminal")));
    assert_true(json_is_true(json_object_get(p, "noNewPrivileges")));
    assert_string_equal(json_string_value(json_object_get(p, "apparmorProfile")), "x");
    strv_clear(&o.env);
    strv_clear(&o.caps);
    strv_clear(&o.additional_gids);
}

static void refuses_what_is_wrong(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    cleanup_json json_t *base = container();
    json_t *p = NULL;
    char *args[] = {"sh"};
    char *bad[] = {"\xff"};
    struct process_options o = {0};
    assert_int_equal(process_spec_build(base, &o, 0, args, &p, &err), -EINVAL);
    assert_string_equal(err.msg, "process args cannot be empty");
    assert_int_equal(process_spec_build(base, &o, 1, bad, &p, &err), -EINVAL);
    o.user = "me";
    assert_int_equal(process_spec_build(base, &o, 1, args, &p, &err), -EINVAL);
    o.user = NULL;
    add(&o.additional_gids, "-3");
    assert_int_equal(process_spec_build(base, &o, 1, args, &p, &err), -EINVAL);
    strv_clear(&o.additional_gids);
    o.cwd = "relative";
    assert_int_equal(process_spec_build(base, &o, 1, args, &p, &err), -EINVAL);
    assert_message(&err, "process.cwd");
    assert_null(p);
}

static void loads_a_file(void **state) {
    const struct tmpdir *t = *state;
    struct err err = ERR_INIT;
    cleanup_json json_t *p = NULL;
    cleanup_free char *path = tmpdir_path(t, "p.json");
    cleanup_free char *missing = tmpdir_path(t, "none");
    struct process_options o = {.file = path, .tty = true};
    tmpdir_write(t, "p.json", "{\"args\":[\"id\"],\"cwd\":\"/\",\"user\":{\"uid\":1,\"gid\":2}}");
    assert_int_equal(process_spec_load(&o, &p, &err), 0);
    assert_true(json_is_true(json_object_get(p, "terminal")));
    tmpdir_write(t, "p.json", "{\"cwd\":\"/\"}");
    json_t *none = NULL;
    assert_int_equal(process_spec_load(&o, &none, &err), -EINVAL);
    assert_message(&err, path);
    o.file = missing;
    assert_int_equal(process_spec_load(&o, &none, &err), -ENOENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_users),
        cmocka_unit_test(parses_caps),
        cmocka_unit_test(is_like_the_container_unless_told),
        cmocka_unit_test(applies_options),
        cmocka_unit_test(refuses_what_is_wrong),
        cmocka_unit_test_setup_teardown(loads_a_file, tmpdir_setup, tmpdir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
