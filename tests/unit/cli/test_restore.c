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
    RUN(p, NULL, 0, "", "", "restore", "-d", "--pid-file", pid_file, "--no-subreaper", "-b", b, "--image-path", images,
        "--work-path", work, "--tcp-established", "--tcp-close", "--ext-unix-sk", "--shell-job", "--file-locks",
        "--manage-cgroups-mode", "ignore", "--empty-ns", "network", "--lsm-profile", "p", "--lsm-mount-context", "m",
        "--auto-dedup", "--lazy-pages", "c1");
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

/* Root file systems and archives that change them: T/root.d is the bundle's root, T/tmp is where it is unpacked. */

static void shell(const struct program *p, const char *script) {
    cleanup_free char *text = str_printf("cd %s && %s", p->dir->path, script);
    int status = system(text); /* NOLINT: the scripts are below */
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s: %d", script, status);
}

/* All that can be seen of it; malloc'd. */
static char *looks(const struct program *p) {
    shell(p, "(cd root.d && find . -printf '%p %y %m %U %G %s %T@ %l\\n' | LC_ALL=C sort && "
             "find . -type f | LC_ALL=C sort | xargs -r cat) >looks");
    return text_of(p, "looks");
}

/* T/ck.tar, whose rootfs-diff.tar is what the script makes in a directory, and more with tar's options. */
static void make_archive(const struct program *p, const char *script, const char *options) {
    cleanup_free char *text = str_printf("rm -rf change diff ck2.tar && mkdir change diff && (cd change && %s) && "
                                         "tar -C change -cf diff/rootfs-diff.tar --transform 's,^[.]/,,' %s . && "
                                         "echo '[\"/gone\"]' >diff/deleted.files && cp ck.tar ck2.tar && "
                                         "tar -C diff -rf ck2.tar rootfs-diff.tar deleted.files",
                                         script, options);
    shell(p, text);
}

static void make_root(const struct program *p) {
    make_checkpoints(p);
    shell(p, "mkdir -p tmp root.d/etc root.d/gone/x && echo one >root.d/etc/one && echo x >root.d/gone/x/y && "
             "touch -d '2001-02-03 04:05:06.789' root.d/gone root.d/etc root.d");
    cleanup_free char *tmp = tmpdir_path(p->dir, "tmp");
    assert_int_equal(setenv("TMPDIR", tmp, 1), 0);
}

/* A bundle on T/root.d. */
static char *bundle_on_root(const struct program *p, const char *name, const char *mode, const char *script) {
    char *b = program_bundle(p, name, false, mode, script);
    cleanup_free char *edit =
        str_printf("sed -i 's,\"%s/rootfs\",\"%s/root.d\",' %s/config.json", p->dir->path, p->dir->path, name);
    shell(p, edit);
    return b;
}

static void assert_untouched(const struct program *p, const char *before, const char *bundle) {
    cleanup_free char *after = looks(p);
    cleanup_free char *journal = str_printf("%s/.stasis-restore", bundle);
    assert_string_equal(after, before);
    assert_false(is_there(p, journal));
    shell(p, "test -z \"$(ls -A tmp)\""); /* nor is anything of the archive left */
}

#define GOOD "mkdir etc && echo changed >etc/one && echo new >new && echo two >etc/two"
#define FIFTY "for i in $(seq 50); do echo $i >f$i; done"

static void changes_the_root(void **state) {
    const struct program *p = *state;
    make_root(p);
    make_archive(p, GOOD, "");
    cleanup_free char *b = bundle_on_root(p, "r", NULL, "exit 5");
    cleanup_free char *archive = tmpdir_path(p->dir, "ck2.tar");
    RUN(p, NULL, 5, "", NULL, "restore", "-b", b, "--import", archive, "c1");
    cleanup_free char *one = text_of(p, "root.d/etc/one"), *new = text_of(p, "root.d/new");
    assert_string_equal(one, "changed\n");
    assert_string_equal(new, "new\n");
    assert_false(is_there(p, "root.d/gone"));
    assert_false(is_there(p, "r/.stasis-restore"));
    shell(p, "test -z \"$(ls -A tmp)\" && test -z \"$(ls -d root.d/.stasis* 2>/dev/null)\"");
    assert_int_equal(unsetenv("TMPDIR"), 0);
}

/* Whatever is wrong: the root is what it was. */
static void a_root_is_changed_by_a_restore_that_succeeds_only(void **state) {
    const struct program *p = *state;
    make_root(p);
    cleanup_free char *archive = tmpdir_path(p->dir, "ck2.tar");
    cleanup_free char *before = looks(p);
    static const struct {
        const char *mode, *change, *options, *id, *message;
    } cases[] = {
        {NULL, GOOD, "", "in/valid", "invalid"},
        {NULL, FIFTY, "--transform 's,^f50$,../x,'", "c1", "its name leads out of the archive"},
        {NULL, FIFTY " && mknod z c 1 3", "", "c1", "a device is not allowed"},
        {NULL, GOOD " && mkdir sub && ln -s etc sub/l", "--transform 's,^sub/l$,sub/.wh.,'", "c1",
         "a whiteout of nothing"},
        {"fail", GOOD, "", "c1", "the mock fails"},
        {"die", GOOD, "", "c1", "the sandbox daemon of c1 died"},
        {"nostart", GOOD, "", "c1", "the mock does not start it"},
        /* Only the root shows that: etc is a directory there, etc/one is none. */
        {NULL, "mkdir -p etc/one && echo x >etc/two && echo x >etc/one/x", "--no-recursion etc/two etc/one/x", "c1",
         "cannot bring the root file system"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        make_archive(p, cases[i].change, cases[i].options);
        cleanup_free char *b = bundle_on_root(p, "r", cases[i].mode, SLEEPS);
        RUN(p, NULL, 1, "", cases[i].message, "restore", "-d", "-b", b, "--import", archive, cases[i].id);
        assert_untouched(p, before, "r");
        assert_false(is_there(p, "root/c1"));
    }
    /* deleted.files is looked at first as well. */
    make_archive(p, GOOD, "");
    shell(p, "echo '[\"/gone\", \"/../x\"]' >diff/deleted.files && cp ck.tar ck2.tar && "
             "tar -C diff -rf ck2.tar rootfs-diff.tar deleted.files");
    cleanup_free char *b = bundle_on_root(p, "r", NULL, SLEEPS);
    RUN(p, NULL, 1, "", "is no path below the root", "restore", "-d", "-b", b, "--import", archive, "c1");
    assert_untouched(p, before, "r");
    /* And a configuration that cannot be used. */
    make_archive(p, GOOD, "");
    shell(p, "echo '{}' >r/config.json");
    RUN(p, NULL, 1, "", "restore failed: ", "restore", "-d", "-b", b, "--import", archive, "c1");
    assert_untouched(p, before, "r");
    assert_int_equal(unsetenv("TMPDIR"), 0);
}

static void a_root_in_use_is_left_alone(void **state) {
    const struct program *p = *state;
    make_root(p);
    make_archive(p, GOOD, "");
    cleanup_free char *archive = tmpdir_path(p->dir, "ck2.tar");
    cleanup_free char *before = looks(p);
    cleanup_free char *b = bundle_on_root(p, "r", NULL, SLEEPS);
    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "c1");
    RUN(p, NULL, 1, "", "container with given ID already exists", "restore", "-d", "-b", b, "--import", archive, "c1");
    assert_untouched(p, before, "r");
    RUN(p, NULL, 1, "", "container c1 has ", "restore", "-d", "-b", b, "--import", archive, "c2");
    assert_untouched(p, before, "r");
    assert_true(STATUS_IS(p, "c1", "running"));
    /* An archive that changes nothing there may be restored beside it. */
    cleanup_free char *plain = tmpdir_path(p->dir, "ck.tar");
    RUN(p, NULL, 0, "", NULL, "restore", "-d", "-b", b, "--import", plain, "c2");
    RUN(p, NULL, 0, "", NULL, "delete", "-f", "c2");
    remove_container(p);
    assert_int_equal(unsetenv("TMPDIR"), 0);
}

static void setuid_files_need_a_root_that_other_users_do_not_reach(void **state) {
    const struct program *p = *state;
    struct stat st;
    make_root(p);
    cleanup_free char *archive = tmpdir_path(p->dir, "ck2.tar");
    cleanup_free char *before = looks(p);
    cleanup_free char *b = bundle_on_root(p, "r", NULL, "exit 0");
    static const char *const scripts[] = {
        "echo x >tool && chmod 4755 tool",
        "echo x >tool && chmod 2755 tool",
    };
    for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
        make_archive(p, scripts[i], "");
        assert_int_equal(chmod(p->dir->path, 0755), 0);
        RUN(p, NULL, 1, "", "it has a setuid, setgid or privileged file, /tool", "restore", "-b", b, "--import",
            archive, "c1");
        assert_untouched(p, before, "r");
    }
    assert_int_equal(chmod(p->dir->path, 0700), 0);
    RUN(p, NULL, 0, "", NULL, "restore", "-b", b, "--import", archive, "c1");
    assert_int_equal(fstatat(p->dir->fd, "root.d/tool", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 02755);
    assert_int_equal(unsetenv("TMPDIR"), 0);
}

/* Killed while the root was changed: said by other commands, taken back by the next restore. */
static void a_killed_restore_is_taken_back_by_the_next(void **state) {
    const struct program *p = *state;
    make_root(p);
    make_archive(p, GOOD, "");
    cleanup_free char *archive = tmpdir_path(p->dir, "ck2.tar");
    cleanup_free char *before = looks(p);
    cleanup_free char *b = bundle_on_root(p, "r", "stall", SLEEPS);
    pid_t pid = program_spawn(p, (int[]){-1, -1, -1}, "restore", "-d", "-b", b, "--import", archive, "c1", NULL);
    WAIT_FOR(is_there(p, "root.d/etc/two"));
    shell(p, "test $(stat -c %a root.d/.stasis-restore.*) = 700 && test $(stat -c %a r/.stasis-restore) = 600");
    kill(pid, SIGKILL);
    (void)program_wait(pid);
    remove_container(p);
    shell(p, "rm -r tmp && mkdir tmp"); /* what it had unpacked */
    assert_true(is_there(p, "root.d/etc/two"));
    cleanup_free char *plain = bundle_on_root(p, "r", NULL, "exit 0");
    RUN(p, NULL, 0, "", "a restore of the bundle was killed", "run", "-b", plain, "c1");
    cleanup_free char *fails = bundle_on_root(p, "r", "nostart", "exit 0");
    RUN(p, NULL, 1, "", "that is taken back", "restore", "-b", fails, "--import", archive, "c1");
    assert_untouched(p, before, "r");
    assert_int_equal(unsetenv("TMPDIR"), 0);
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
        TEST(changes_the_root),
        TEST(a_root_is_changed_by_a_restore_that_succeeds_only),
        TEST(a_root_in_use_is_left_alone),
        TEST(setuid_files_need_a_root_that_other_users_do_not_reach),
        TEST(a_killed_restore_is_taken_back_by_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
