/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

static void refusals(void **state) {
    static const struct refusal cases[] = {
        {{{"process", NULL}}, -EINVAL, "process: is missing"},
        {{{"process", "null"}}, -EINVAL, "process: is missing"},
        {{{"process", "[]"}}, -EINVAL, "process: must be an object"},
        {{{"process.args", NULL}}, -EINVAL, "process.args: must have at least one element"},
        {{{"process.args", "[]"}}, -EINVAL, "process.args: must have at least one element"},
        {{{"process.args.+", "7"}}, -EINVAL, "process.args[1]: must be a string"},
        {{{"process.args", "\"sh\""}}, -EINVAL, "process.args: must be an array"},
        {{{"process.cwd", NULL}}, -EINVAL, "process.cwd: is missing"},
        {{{"process.cwd", "\"tmp\""}}, -EINVAL, "process.cwd: must be an absolute path, not \"tmp\""},
        {{{"process.cwd", "\"\""}}, -EINVAL, "process.cwd: must be an absolute path, not \"\""},
        {{{"process.env.+", "\"FOO\""}}, -EINVAL, "process.env[2]: must be NAME=VALUE, not \"FOO\""},
        {{{"process.env.+", "\"=x\""}}, -EINVAL, "process.env[2]: must be NAME=VALUE, not \"=x\""},
        {{{"process.terminal", "1"}}, -EINVAL, "process.terminal: must be true or false"},
        {{{"process.user.uid", "2147483648"}},
         -EINVAL,
         "process.user.uid: must be a whole number from 0 to 2147483647"},
        {{{"process.user.gid", "4294967295"}},
         -EINVAL,
         "process.user.gid: must be a whole number from 0 to 2147483647"},
        {{{"process.user.uid", "-1"}}, -EINVAL, "process.user.uid: must be a whole number from 0 to 2147483647"},
        {{{"process.user.uid", "\"root\""}}, -EINVAL, "process.user.uid: must be a whole number from 0 to 2147483647"},
        {{{"process.user.additionalGids", "[1,2147483648]"}},
         -EINVAL,
         "process.user.additionalGids[1]: must be a whole number from 0 to 2147483647"},
        {{{"process.user.umask", "512"}}, -EINVAL, "process.user.umask: must be a whole number from 0 to 511"},
        {{{"process.oomScoreAdj", "1001"}}, -EINVAL, "process.oomScoreAdj: must be a whole number from -1000 to 1000"},
        {{{"process.rlimits.+", "{\"type\":\"RLIMIT_FOO\",\"hard\":1,\"soft\":1}"}},
         -EINVAL,
         "process.rlimits[1].type: unknown limit \"RLIMIT_FOO\""},
        {{{"process.rlimits.+", "{\"type\":\"RLIMIT_NOFILE\",\"hard\":1,\"soft\":1}"}},
         -EINVAL,
         "process.rlimits[1].type: RLIMIT_NOFILE is there twice"},
        {{{"process.rlimits.0.soft", "1025"}},
         -EINVAL,
         "process.rlimits[0].soft: must not be above the hard limit (RLIMIT_NOFILE)"},
        {{{"process.rlimits.0.soft", "-1"}}, /* unlimited, as json_parse() gives it */
         -EINVAL,
         "process.rlimits[0].soft: must not be above the hard limit (RLIMIT_NOFILE)"},
        {{{"process.rlimits.0.hard", NULL}}, -EINVAL, "process.rlimits[0].hard: is missing"},
        {{{"process.rlimits.0", "1"}}, -EINVAL, "process.rlimits[0]: must be an object"},
        {{{"process.capabilities.bounding", "\"CAP_KILL\""}},
         -EINVAL,
         "process.capabilities.bounding: must be an array"},
        {{{"process.capabilities.ambient.0", "1"}}, -EINVAL, "process.capabilities.ambient[0]: must be a string"},
        {{{"process.scheduler", "{}"}}, -EINVAL, "process.scheduler.policy: is missing"},
        {{{"process.ioPriority", "{\"class\":\"IOPRIO_CLASS_BE\",\"priority\":8}"}},
         -EINVAL,
         "process.ioPriority.priority: must be a whole number from 0 to 7"},
    };
    check_refusals(*state, cases, ARRAY_SIZE(cases));
}

static void rules(void **state) {
    static const struct rule cases[] = {
        {{{"process.user", "{\"uid\":2147483647,\"gid\":5,\"umask\":18,\"additionalGids\":[1,2]}"}},
         "process.user",
         "{\"additionalGids\":[1,2],\"gid\":5,\"uid\":2147483647,\"umask\":18}"},
        {{{"process.consoleSize", "{\"height\":1,\"width\":2}"}}, "process.consoleSize", NULL},
        {{{"process.apparmorProfile", "\"docker-default\""}},
         "process.apparmorProfile",
         NULL,
         "process.apparmorProfile: the guest has no AppArmor, ignored"},
        {{{"process.selinuxLabel", "\"system_u:system_r:container_t\""}},
         "process.selinuxLabel",
         NULL,
         "process.selinuxLabel: the guest has no SELinux, ignored"},
        {{{"process.selinuxLabel", "\"\""}}, "process.selinuxLabel", NULL},
        {{{"process.execCPUAffinity", "{\"initial\":\"0\"}"}},
         "process.execCPUAffinity",
         NULL,
         "process.execCPUAffinity: its numbers mean the host's CPUs, ignored"},
        {{{"process.future", "{\"x\":1}"}}, "process.future", NULL, "process.future: is not known to stasis, ignored"},
        {{{"process.user.future", "1"}},
         "process.user",
         "{\"gid\":0,\"uid\":0}",
         "process.user.future: is not known to stasis, ignored"},
        {{{"process.capabilities.bounding", "[\"CAP_FOO\",\"CAP_CHOWN\"]"}},
         "process.capabilities.bounding",
         "[\"CAP_CHOWN\"]",
         "process.capabilities.bounding[0]: unknown capability \"CAP_FOO\", ignored"},
        {{{"process.capabilities", "{\"ambient\":[]}"}}, "process.capabilities", "{\"ambient\":[]}"},
        {{{"process.capabilities", NULL}}, "process.capabilities", NULL},
        {{{"process.rlimits.0.hard", "-1"}},
         "process.rlimits.0",
         "{\"hard\":-1,\"soft\":1024,\"type\":\"RLIMIT_NOFILE\"}"},
        {{{"process.scheduler", "{\"policy\":\"SCHED_BATCH\",\"nice\":3,\"flags\":[]}"}},
         "process.scheduler",
         "{\"flags\":[],\"nice\":3,\"policy\":\"SCHED_BATCH\"}"},
        {{{"process.ioPriority", "{\"class\":\"IOPRIO_CLASS_IDLE\"}"}},
         "process.ioPriority",
         "{\"class\":\"IOPRIO_CLASS_IDLE\"}"},
        {{{"process.noNewPrivileges", "false"}}, "process.noNewPrivileges", "false"},
        {{{"process.oomScoreAdj", "-998"}}, "process.oomScoreAdj", "-998"},
        {{{"process.args", "[\"\",\"a b\",\"\\u20ac\"]"}}, "process.args", "[\"\",\"a b\",\"\u20ac\"]"},
        {{{"process.env", "[\"A=\",\"B=c=d\"]"}}, "process.env", "[\"A=\",\"B=c=d\"]"},
        {{{"process.env", NULL}}, "process.env", NULL},
        {{{"process.user", NULL}}, "process.user", NULL},
        {{{"process.cwd", "\"/a/../b\""}}, "process.cwd", "\"/a/../b\""},
    };
    check_rules(*state, cases, ARRAY_SIZE(cases));
}

static void the_terminal_is_told(void **state) {
    struct tmpdir *t = *state;
    for (int i = 0; i < 2; i++) {
        struct change changes[CHANGES_MAX] = {{"process.terminal", i ? "true" : "false"}};
        cleanup_json json_t *spec = changed_spec(changes, t->path);
        cleanup_guest_spec struct oci_guest_spec g = {0};
        assert_int_equal(oci_spec_for_guest(spec, "c", t->path, &g, NULL), 0);
        assert_int_equal(g.terminal, i);
    }
}

/* exec's: messages say where it stands, and what is missing stays missing. */
static void exec_processes(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    cleanup_json json_t *p = json_loads("{\"args\":[\"ls\"],\"apparmorProfile\":\"x\"}", 0, NULL);
    assert_int_equal(oci_process_validate(p, "p.json", &e), 0);
    cleanup_json json_t *out = NULL;
    cleanup_strv struct strv notes = {0};
    assert_int_equal(oci_process_for_guest(p, &out, &notes, &e), 0);
    cleanup_free char *text = json_text(out, JSON_COMPACT);
    assert_string_equal(text, "{\"args\":[\"ls\"]}");
    assert_int_equal(notes.n, 1);
    assert_string_equal(notes.v[0], "process.apparmorProfile: the guest has no AppArmor, ignored");

    json_object_set_new(p, "cwd", json_string("rel"));
    assert_int_equal(oci_process_validate(p, "p.json", &e), -EINVAL);
    assert_string_equal(e.msg, "p.json.cwd: must be an absolute path, not \"rel\"");
    json_t *untouched = (json_t *)1;
    assert_int_equal(oci_process_for_guest(p, &untouched, &notes, &e), -EINVAL);
    assert_ptr_equal(untouched, (json_t *)1);
    assert_int_equal(oci_process_validate(NULL, "", &e), -EINVAL);
    assert_string_equal(e.msg, "process: must be an object");
}

static void there_are_bounds(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    cleanup_json json_t *p = json_object();
    json_t *args = json_array();
    json_object_set_new(p, "args", args);
    for (int i = 0; i < OCI_ARGS_MAX; i++)
        json_array_append_new(args, json_string("x"));
    assert_int_equal(oci_process_validate(p, "process", &e), 0);
    json_array_append_new(args, json_string("x"));
    assert_int_equal(oci_process_validate(p, "process", &e), -EINVAL);
    assert_string_equal(e.msg, "process.args: more than 65536 elements");

    char *big = malloc(131073);
    memset(big, 'x', 131072);
    big[131071] = '\0';
    json_array_clear(args);
    json_array_append_new(args, json_string(big));
    assert_int_equal(oci_process_validate(p, "process", &e), 0);
    big[131071] = 'x';
    big[131072] = '\0';
    json_array_append_new(args, json_string(big));
    assert_int_equal(oci_process_validate(p, "process", &e), -EINVAL);
    assert_string_equal(e.msg, "process.args[1]: longer than 131071 bytes");
    free(big);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        BUNDLE_TEST(refusals),
        BUNDLE_TEST(rules),
        BUNDLE_TEST(the_terminal_is_told),
        cmocka_unit_test(exec_processes),
        cmocka_unit_test(there_are_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
