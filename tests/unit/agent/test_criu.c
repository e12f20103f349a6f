/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu.h"
#include "agent/criu_cgroups.h"
#include "support.h"

#define FULL_DUMP                                                                                                      \
    {                                                                                                                  \
        .tcp_established = true, .tcp_skip_in_flight = true, .tcp_close = true, .ext_unix_sk = true,                   \
        .shell_job = true, .file_locks = true, .manage_cgroups_mode = "soft", .network_lock = "nftables",              \
        .log_level = CRIU_LOG_LEVEL                                                                                    \
    }

static bool has(const struct strv *v, const char *s) {
    for (size_t i = 0; i < v->n; i++)
        if (strcmp(v->v[i], s) == 0)
            return true;
    return false;
}

/* The options, and what every restore has. */
static bool is_restore_conf(const char *conf, const char *options) {
    char wanted[CRIU_CONF_MAX];
    int n = snprintf(wanted, sizeof(wanted), "%sexternal mnt[/dev/null]:/dev/null\n", options);
    criu_cgroups_conf(wanted + n, sizeof(wanted) - (size_t)n);
    return strcmp(conf, wanted) == 0;
}

/* Each option goes one way or the other, and none gets lost. */
static void test_dump(void **state) {
    (void)state;
    char *ns[] = {(char *)"network"};
    struct criu_options o = FULL_DUMP;
    o.empty_ns = ns;
    o.n_empty_ns = 1;
    o.dump_seconds = 600;
    cleanup_strv struct strv argv = {0};
    char conf[CRIU_CONF_MAX];
    assert_int_equal(criu_options_check(&o, CRIU_DUMP, NULL), 0);
    assert_int_equal(criu_options_argv(&o, CRIU_DUMP, &argv), 0);
    static const char *const wanted[] = {"--tcp-established", "--ext-unix-sk", "--shell-job",           "--file-locks",
                                         "--network-lock",    "nftables",      "--manage-cgroups-mode", "soft"};
    assert_int_equal(argv.n, ARRAY_SIZE(wanted));
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
        assert_true(has(&argv, wanted[i]));
    criu_options_conf(&o, CRIU_DUMP, conf);
    assert_string_equal(conf,
                        "skip-in-flight\ntcp-close\nempty-ns net\ncpu-cap ins\ntimeout 600\nghost-limit 67108864\n");
}

static void test_nothing(void **state) {
    (void)state;
    const struct criu_options o = {.manage_cgroups_mode = "", .network_lock = NULL, .lsm_profile = ""};
    cleanup_strv struct strv argv = {0};
    char conf[CRIU_CONF_MAX];
    assert_int_equal(criu_options_check(&o, CRIU_DUMP, NULL), 0);
    assert_int_equal(criu_options_check(&o, CRIU_RESTORE, NULL), 0);
    assert_int_equal(criu_options_argv(&o, CRIU_DUMP, &argv), 0);
    assert_int_equal(criu_options_argv(&o, CRIU_RESTORE, &argv), 0);
    assert_int_equal(argv.n, 0);
    criu_options_conf(&o, CRIU_RESTORE, conf);
    assert_true(is_restore_conf(conf, ""));
}

static void test_restore(void **state) {
    (void)state;
    const struct criu_options o = {
        .tcp_close = true, .lsm_profile = "apparmor:x", .lsm_mount_context = "y", .network_lock = "skip"};
    cleanup_strv struct strv argv = {0};
    char conf[CRIU_CONF_MAX];
    assert_int_equal(criu_options_check(&o, CRIU_RESTORE, NULL), 0);
    assert_int_equal(criu_options_argv(&o, CRIU_RESTORE, &argv), 0);
    assert_int_equal(argv.n, 7);
    assert_string_equal(argv.v[3], "--lsm-profile");
    assert_string_equal(argv.v[4], "apparmor:x");
    /* crun sets it either way: what the file says would not count. */
    assert_true(has(&argv, "--tcp-close") && has(&argv, "--lsm-mount-context") && has(&argv, "y"));
    criu_options_conf(&o, CRIU_RESTORE, conf);
    assert_true(is_restore_conf(conf, ""));
    struct criu_options checked = o;
    checked.check_cpu = true;
    criu_options_conf(&checked, CRIU_RESTORE, conf);
    assert_true(is_restore_conf(conf, "cpu-cap ins\n"));
}

static void refused(const struct criu_options *o, enum criu_operation op, int code, const char *name) {
    struct err err = ERR_INIT;
    assert_int_equal(criu_options_check(o, op, &err), -code);
    if (!strstr(err.msg, name))
        fail_msg("\"%s\" does not name %s", err.msg, name);
}

static void test_refused(void **state) {
    (void)state;
    char *ns[] = {(char *)"network", (char *)"mount"};
    refused(&(struct criu_options){.lazy_pages = true}, CRIU_DUMP, EOPNOTSUPP, "lazy-pages");
    refused(&(struct criu_options){.lazy_pages = true}, CRIU_RESTORE, EOPNOTSUPP, "lazy-pages");
    refused(&(struct criu_options){.page_server = "1.2.3.4:5"}, CRIU_DUMP, EOPNOTSUPP, "page-server");
    refused(&(struct criu_options){.lsm_profile = "x:y"}, CRIU_DUMP, EOPNOTSUPP, "lsm-profile");
    refused(&(struct criu_options){.log_level = 2}, CRIU_DUMP, EOPNOTSUPP, "log level");
    refused(&(struct criu_options){.manage_cgroups_mode = "none"}, CRIU_DUMP, EINVAL, "manage-cgroups-mode");
    refused(&(struct criu_options){.network_lock = "x\nghost"}, CRIU_DUMP, EINVAL, "network-lock");
    refused(&(struct criu_options){.empty_ns = ns, .n_empty_ns = 2}, CRIU_RESTORE, EOPNOTSUPP, "mount");
    refused(&(struct criu_options){.auto_dedup = true}, CRIU_DUMP, EOPNOTSUPP, "auto-dedup");
    refused(&(struct criu_options){.link_remap = true}, CRIU_DUMP, EOPNOTSUPP, "link-remap");
    refused(&(struct criu_options){.tcp_skip_in_flight = true}, CRIU_RESTORE, EOPNOTSUPP, "tcp-skip-in-flight");
}

static void count(void *userdata) {
    (*(int *)userdata)++;
}

static void test_queue(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "a/b/default.conf");
    struct criu_queue q = {.conf_path = path};
    struct criu_turn a = {0}, b = {0}, c = {.conf = "tcp-close\n"};
    int n_a = 0, n_b = 0, n_c = 0;
    criu_enter(&q, &a, count, &n_a);
    criu_enter(&q, &b, count, &n_b);
    criu_enter(&q, &c, count, &n_c);
    assert_int_equal(n_a + n_b + n_c, 1);
    /* One with nothing to say writes nothing. */
    assert_int_equal(criu_write_conf(&q, &a, NULL), 0);
    assert_int_equal(access(path, F_OK), -1);
    /* One that gives up before its turn begins nobody else's. */
    criu_leave(&q, &b);
    assert_int_equal(n_c, 0);
    criu_leave(&q, &b);
    criu_leave(&q, &a);
    assert_int_equal(n_c, 1);
    assert_int_equal(n_b, 0);
    assert_int_equal(criu_write_conf(&q, &c, NULL), 0);
    cleanup_free char *text = NULL;
    assert_int_equal(file_read_at(AT_FDCWD, path, 100, &text, NULL, NULL), 0);
    assert_string_equal(text, "tcp-close\n");
    criu_leave(&q, &c);
    assert_int_equal(access(path, F_OK), -1);
    assert_null(q.head);
    /* A file that cannot be written is an error, not an option that got lost. */
    q.conf_path = "/proc/nowhere/default.conf";
    assert_true(criu_write_conf(&q, &c, NULL) < 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dump),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_restore),
        cmocka_unit_test(test_refused),
        cmocka_unit_test_setup_teardown(test_queue, tmpdir_setup, tmpdir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
