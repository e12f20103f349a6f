/* SPDX-License-Identifier: Apache-2.0 */
/* `stasis restore`: the program itself, with mock_daemon.c, which starts the bundle's process. */
#include "checkpoints.h"

/* T/ck, made by a container that has ended, and T/ck.tar. */
static void make_checkpoints(const struct program *p) {
    cleanup_free char *images = tmpdir_path(p->dir, "ck");
    cleanup_free char *archive = tmpdir_path(p->dir, "ck.tar");
    run_container(p, NULL);
    RUN(p, NULL, 0, "", NULL, "checkpoint", "--leave-running", "--image-path", images, "c1");
    RUN(p, NULL, 0, "", "the container's root", "checkpoint", "--export", archive, "c1");
    remove_container(p);
}

static void helps(void **state) {
    const struct program *p = *state;
    RUN(p, NULL, 0, NULL, NULL, "restore", "--help");
    /* Podman finds out so whether a runtime knows the flag. */
    RUN(p, NULL, 1, NULL, "flag needs an argument: -lsm-mount-context", "restore", "--lsm-mount-context");
}

static void ends_as_its_process(void **state) {
    const struct program *p = *state;
    make_checkpoints(p);
    cleanup_free char *tmp = tmpdir_path(p->dir, "tmp");
    assert_int_equal(mkdir(tmp, 0700), 0);
    assert_int_equal(setenv("TMPDIR", tmp, 1), 0);
    cleanup_free char *b = program_bundle(p, "r", false, NULL, "echo again; exit 7");
    cleanup_free char *images = tmpdir_path(p->dir, "ck");
    RUN(p, NULL, 7, "again\n", NULL, "restore", "-b", b, "--image-path", images, "c1");
    cleanup_free char *told = text_of(p, "r/create.txt");
    assert_non_null(strstr(told, "/ck\n"));
    assert_non_null(strstr(told, "work_path=")); /* one of its own, for the logs of a failure */
    assert_non_null(strstr(told, "/tmp/stasis-restore."));
    assert_false(is_there(p, "root/c1")); /* removed, as run does it */
    assert_int_equal(unsetenv("TMPDIR"), 0);
    assert_int_equal(unlinkat(p->dir->fd, "tmp", AT_REMOVEDIR), 0); /* and so are its logs */
}

static void flags_reach_the_daemon(void **state) {
    const struct program *p = *state;
    make_checkpoints(p);
    cleanup_free char *b = program_bundle(p, "r", false, NULL, SLEEPS);
    cleanup_free char *images = tmpdir_path(p->dir, "ck");
    cleanup_free char *work = tmpdir_path(p->dir, "wk");
    cleanup_free char *pid_file = tmpdir_path(p->dir, "pid");
    RUN(p, NULL, 0, "", "--manage-cgroups-mode is ignored", "restore", "-d", "--pid-file", pid_file, "--no-subreaper",
        "-b", b, "--image-path", images, "--work-path", work, "--tcp-established", "--tcp-close", "--ext-unix-sk",
        "--shell-job", "--file-locks", "--manage-cgroups-mode", "ignore", "--empty-ns", "network", "--lsm-profile", "p",
        "--lsm-mount-context", "m", "--auto-dedup", "--lazy-pages", "c1");
    cleanup_free char *pid = text_of(p, "pid");
    cleanup_free char *want = str_printf("path=T/ck\ninit_pid=%s\nwork_path=T/wk\ncriu.tcp_established=true\n"
                                         "criu.tcp_close=true\ncriu.ext_unix_sk=true\ncriu.shell_job=true\n"
                                         "criu.file_locks=true\ncriu.auto_dedup=true\ncriu.lazy_pages=true\n"
                                         "criu.manage_cgroups_mode=ignore\ncriu.lsm_profile=p\n"
                                         "criu.lsm_mount_context=m\ncriu.empty_ns=network\n",
                                         pid);
    assert_told(p, "r/create.txt", want);
    assert_true(STATUS_IS(p, "c1", "running"));
    remove_container(p);
}

static void default_of_the_path(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "r", false, NULL, "true");
    cleanup_fd int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(chdir(p->dir->path), 0);
    RUN(p, NULL, 1, "", "restore failed: directory checkpoint: No such file or directory", "restore", "-b", b, "c1");
    assert_int_equal(mkdirat(p->dir->fd, "checkpoint", 0700), 0);
    RUN(p, NULL, 0, "", NULL, "restore", "-b", b, "c1");
    assert_int_equal(fchdir(before), 0);
    cleanup_free char *told = text_of(p, "r/create.txt");
    assert_non_null(strstr(told, "/checkpoint\n"));
}

static void imports(void **state) {
    const struct program *p = *state;
    make_checkpoints(p);
    cleanup_free char *b = program_bundle(p, "r", false, NULL, "exit 5");
    cleanup_free char *archive = tmpdir_path(p->dir, "ck.tar");
    cleanup_free char *tmp = tmpdir_path(p->dir, "tmp");
    assert_int_equal(mkdir(tmp, 0700), 0);
    assert_int_equal(setenv("TMPDIR", tmp, 1), 0);
    RUN(p, NULL, 5, "", NULL, "restore", "-b", b, "--import", archive, "c1");
    cleanup_free char *told = text_of(p, "r/create.txt");
    assert_non_null(strstr(told, "/tmp/stasis-import."));
    assert_non_null(strstr(told, "/checkpoint\n"));
    /* Damaged, or none. */
    cleanup_free char *bad = tmpdir_path(p->dir, "bad.tar");
    tmpdir_write(p->dir, "bad.tar", "no archive");
    RUN(p, NULL, 1, "", "restore failed: cannot import ", "restore", "-b", b, "--import", bad, "c1");
    RUN(p, NULL, 1, "", "/no/such", "restore", "-b", b, "-i", "/no/such", "c1");
    assert_int_equal(unsetenv("TMPDIR"), 0);
    assert_int_equal(unlinkat(p->dir->fd, "tmp", AT_REMOVEDIR), 0); /* nothing of them is left */
}

static void refuses(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "r", false, NULL, "true");
    cleanup_free char *fails = program_bundle(p, "fails", false, "fail", "true");
    RUN(p, NULL, 1, "", "--import cannot be used with --image-path", "restore", "-b", b, "--import", "x",
        "--image-path", "y", "c1");
    RUN(p, NULL, 1, "", "restore failed: the mock fails", "restore", "-b", fails, "--image-path", b, "c1");
    RUN(p, NULL, 1, "", "restore failed: bundle /no/such", "restore", "-b", "/no/such", "--image-path", b, "c1");
}

/* Figures that cannot be shown are no reason to end what runs. */
static void statistics_are_missing(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "r", false, NULL, "exit 4");
    cleanup_free char *work = tmpdir_path(p->dir, "wk");
    RUN(p, NULL, 4, "", "--print-stats: ", "restore", "-b", b, "--image-path", b, "--work-path", work, "--print-stats",
        "c1");
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, program_setup, program_teardown)
    const struct CMUnitTest tests[] = {
        TEST(helps),
        TEST(ends_as_its_process),
        TEST(flags_reach_the_daemon),
        TEST(default_of_the_path),
        TEST(imports),
        TEST(refuses),
        TEST(statistics_are_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
