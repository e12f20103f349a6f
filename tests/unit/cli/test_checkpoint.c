/* SPDX-License-Identifier: Apache-2.0 */
/* `stasis checkpoint`: the program itself, with mock_daemon.c. */
#include "checkpoints.h"

#include <sched.h>
#include <sys/mount.h>

static void helps(void **state) {
    const struct program *p = *state;
    /* Podman and CRI-O ask so whether a runtime can checkpoint at all. */
    RUN(p, NULL, 0, NULL, NULL, "checkpoint", "--help");
    RUN(p, NULL, 0, NULL, NULL, "checkpoint", "-h");
    cleanup_result struct result r = program_run(p, NULL, "checkpoint", "--help", NULL);
    static const char *const flags[] = {
        "--image-path value",
        "--work-path value",
        "--parent-path value",
        "--leave-running",
        "--tcp-established",
        "--tcp-skip-in-flight",
        "--tcp-close",
        "--ext-unix-sk",
        "--shell-job",
        "--lazy-pages",
        "--page-server value",
        "--file-locks",
        "--pre-dump",
        "--manage-cgroups-mode value",
        "--empty-ns value",
        "--auto-dedup",
        "--link-remap",
        "--network-lock value",
        "--lsm-profile value",
        "--print-stats",
        "--export value, -e value",
        "--rootfs-image value",
        "--wait-exec",
    };
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        if (!strstr(r.out, flags[i]))
            fail_msg("%s is not in the help", flags[i]);
}

static void flags_reach_the_daemon(void **state) {
    const struct program *p = *state;
    cleanup_free char *images = tmpdir_path(p->dir, "img/ck");
    cleanup_free char *work = tmpdir_path(p->dir, "wk");
    run_container(p, NULL);
    RUN(p, NULL, 0, "", NULL, "checkpoint", "--image-path", images, "--work-path", work, "--parent-path", "../pre",
        "--leave-running", "--pre-dump", "--wait-exec", "--empty-ns", "network", "--manage-cgroups-mode", "soft",
        "--network-lock", "skip", "--lsm-profile", "p", "--page-server", "1.2.3.4:5", "c1");
    assert_told(p, "b/checkpoint.txt",
                "path=T/img/ck\nwork_path=T/wk\nparent_path=../pre\nleave_running=true\npre_dump=true\n"
                "wait_execs=true\ncriu.manage_cgroups_mode=soft\ncriu.network_lock=skip\ncriu.lsm_profile=p\n"
                "criu.empty_ns=network\ncriu.page_server=1.2.3.4:5\n");
    RUN(p, NULL, 0, "", NULL, "checkpoint", "--image-path", images, "--work-path", work, "--pre-dump",
        "--tcp-established", "--tcp-skip-in-flight", "--tcp-close", "--ext-unix-sk", "--shell-job", "--file-locks",
        "--auto-dedup", "--lazy-pages", "--link-remap", "c1");
    /* A pre-dump leaves it running whether or not it was told so. */
    assert_told(p, "b/checkpoint.txt",
                "path=T/img/ck\nwork_path=T/wk\nleave_running=true\npre_dump=true\ncriu.tcp_established=true\n"
                "criu.tcp_skip_in_flight=true\ncriu.tcp_close=true\ncriu.ext_unix_sk=true\ncriu.shell_job=true\n"
                "criu.file_locks=true\ncriu.auto_dedup=true\ncriu.lazy_pages=true\ncriu.link_remap=true\n");
    assert_true(STATUS_IS(p, "c1", "running"));
    remove_container(p);
}

/* As runc's: ./checkpoint, and logs with the container's state. The container ends. */
static void defaults_of_paths(void **state) {
    const struct program *p = *state;
    run_container(p, NULL);
    cleanup_fd int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(chdir(p->dir->path), 0);
    RUN(p, NULL, 0, "", NULL, "checkpoint", "c1");
    assert_told(p, "b/checkpoint.txt", "path=T/checkpoint\nwork_path=T/root/c1/criu.work/c1\n");
    assert_true(is_there(p, "checkpoint/inventory.img"));
    assert_false(is_there(p, "root/c1")); /* and is deleted, as runc does it */
    /* Relative ones, with a slash at the end and through a link: what the daemon gets is absolute and normal. */
    run_container(p, NULL);
    assert_int_equal(mkdirat(p->dir->fd, "real", 0755), 0);
    assert_int_equal(symlinkat("real", p->dir->fd, "link"), 0);
    RUN(p, NULL, 0, "", NULL, "checkpoint", "--leave-running", "--image-path", "link/new/ck//", "--work-path",
        "./link/../wk", "c1");
    assert_told(p, "b/checkpoint.txt", "path=T/real/new/ck\nwork_path=T/wk\nleave_running=true\n");
    assert_int_equal(fchdir(before), 0);
    remove_container(p);
}

static void refuses(void **state) {
    const struct program *p = *state;
    cleanup_free char *bad = tmpdir_path(p->dir, "x.zip");
    cleanup_free char *good = tmpdir_path(p->dir, "x.tar");
    cleanup_free char *nowhere = tmpdir_path(p->dir, "no/such/x.tar");
    RUN(p, NULL, 1, "", "container does not exist", "checkpoint", "c1");
    RUN(p, NULL, 1, NULL, "flag needs an argument: -image-path", "checkpoint", "--image-path");
    RUN(p, NULL, 1, NULL, "flag provided but not defined: -bogus", "checkpoint", "--bogus", "c1");
    RUN(p, NULL, 1, "", "takes one container id, or \"inspect\" and a file or directory", "checkpoint", "a", "b");
    run_container(p, NULL);
    RUN(p, NULL, 1, "", ".tar.zst", "checkpoint", "--export", bad, "c1");
    RUN(p, NULL, 1, "", nowhere, "checkpoint", "--export", nowhere, "c1");
    static const char *const conflicts[][2] = {{"--pre-dump", NULL}, {"--parent-path", "../x"}, {"--image-path", "/x"}};
    for (size_t i = 0; i < ARRAY_SIZE(conflicts); i++)
        RUN(p, NULL, 1, "", "--export cannot be used with --pre-dump, --parent-path or --image-path", "checkpoint",
            "--export", good, "c1", conflicts[i][0], conflicts[i][1]);
    RUN(p, NULL, 1, "", "--rootfs-image: needs a name, and --export", "checkpoint", "--rootfs-image", "x", "c1");
    RUN(p, NULL, 1, "", "--rootfs-image: needs a name, and --export", "checkpoint", "--export", good, "--rootfs-image",
        "", "c1");
    RUN(p, NULL, 1, "", "--manage-cgroups-mode: must be soft, full, strict or ignore", "checkpoint",
        "--manage-cgroups-mode", "", "c1");
    static const char *const paths[] = {"", ".", "..", "/", "/tmp/.."};
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        RUN(p, NULL, 1, "", "its last component must be a name", "checkpoint", "--image-path", paths[i], "c1");
    assert_false(is_there(p, "b/checkpoint.txt")); /* the daemon was asked nothing */
    assert_int_equal(count_named(p, "export"), 0);
    assert_true(STATUS_IS(p, "c1", "running"));
    remove_container(p);
}

static void of_a_container_that_does_not_run(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, SLEEPS);
    RUN(p, NULL, 0, "", NULL, "create", "-b", b, "c1");
    RUN(p, NULL, 1, "", "cannot checkpoint container c1: it is created", "checkpoint", "c1");
    remove_container(p);
}

static void prints_statistics(void **state) {
    const struct program *p = *state;
    cleanup_free char *images = tmpdir_path(p->dir, "ck");
    cleanup_json json_t *doc = NULL;
    run_container(p, NULL);
    cleanup_result struct result r =
        program_run(p, NULL, "checkpoint", "--leave-running", "--image-path", images, "--print-stats", "c1", NULL);
    assert_int_equal(r.code, 0);
    assert_int_equal(json_parse("stats", r.out, strlen(r.out), &doc, NULL), 0);
    static const char *const keys[] = {"freezing_time", "frozen_time",          "memdump_time",  "memwrite_time",
                                       "pages_scanned", "pages_skipped_parent", "pages_written", "bytes_written"};
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        assert_true(json_is_integer(json_object_get(doc, keys[i])));
    assert_int_equal(json_object_size(doc), ARRAY_SIZE(keys));
    assert_int_equal(json_integer_value(json_object_get(doc, "bytes_written")),
                     4096 * json_integer_value(json_object_get(doc, "pages_written")));
    remove_container(p);
}

static void tells_of_a_failure(void **state) {
    const struct program *p = *state;
    cleanup_free char *images = tmpdir_path(p->dir, "ck");
    cleanup_free char *archive = tmpdir_path(p->dir, "x.tar");
    run_container(p, "nodump");
    RUN(p, NULL, 1, "", "CRIU says no", "checkpoint", "--image-path", images, "c1");
    assert_true(STATUS_IS(p, "c1", "running"));
    /* It was paused for the archive; it goes on, and nothing is left. */
    RUN(p, NULL, 1, "", "CRIU says no", "checkpoint", "--export", archive, "c1");
    assert_true(STATUS_IS(p, "c1", "running"));
    assert_int_equal(count_named(p, "x.tar"), 0);
    /* Paused before: it stays so. */
    RUN(p, NULL, 0, "", NULL, "pause", "c1");
    RUN(p, NULL, 1, "", "CRIU says no", "checkpoint", "--export", archive, "c1");
    assert_true(STATUS_IS(p, "c1", "paused"));
    remove_container(p);
}

static void exports(void **state) {
    const struct program *p = *state;
    static const char *const names[] = {"x.tar", "x.tar.gz", "x.tgz", "x.tar.zst"};
    cleanup_free char *b = program_bundle(p, "b", false, NULL, SLEEPS);
    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "c1");
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        cleanup_free char *archive = tmpdir_path(p->dir, names[i]);
        struct stat st;
        RUN(p, NULL, 0, "", "the container's root", "checkpoint", "--leave-running", "-e", archive, "c1");
        assert_true(STATUS_IS(p, "c1", "running"));
        assert_int_equal(stat(archive, &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
        assert_int_equal(count_named(p, names[i]), 1);
        assert_int_equal(count_named(p, "stasis-export"), 0);
    }
    /* Dumped so that it could go on, whatever was asked for; without --leave-running it then ends. */
    cleanup_free char *last = tmpdir_path(p->dir, "last.tar");
    RUN(p, NULL, 0, "", "the container's root", "checkpoint", "--export", last, "c1");
    cleanup_free char *told = text_of(p, "b/checkpoint.txt");
    assert_non_null(strstr(told, "leave_running=true"));
    assert_true(is_there(p, "last.tar"));
    assert_false(is_there(p, "root/c1"));
}

/* The archive cannot be written: the container goes on. */
static void export_to_a_taken_name(void **state) {
    const struct program *p = *state;
    cleanup_free char *archive = tmpdir_path(p->dir, "x.tar");
    assert_int_equal(mkdirat(p->dir->fd, "x.tar", 0755), 0);
    run_container(p, NULL);
    RUN(p, NULL, 1, "", archive, "checkpoint", "--export", archive, "c1");
    assert_true(STATUS_IS(p, "c1", "running"));
    assert_int_equal(count_named(p, "stasis-export"), 0);
    assert_false(is_there(p, "b/checkpoint.txt")); /* nothing was dumped */
    remove_container(p);
}

static void shell(const struct program *p, const char *script) {
    cleanup_free char *text = str_printf("cd %s && %s", p->dir->path, script);
    int status = system(text); /* NOLINT: the scripts are below */
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s: %d", script, status);
}

/* What the container did in its root can be known before the dump; a file of 4 TiB that is all hole is nothing. */
static void export_of_a_root_is_checked_first(void **state) {
    const struct program *p = *state;
    cleanup_free char *archive = tmpdir_path(p->dir, "x.tar");
    shell(p, "mkdir layers && mount -t tmpfs -o size=64m layers layers && mkdir layers/low layers/up layers/work && "
             "mount -t overlay overlay -o lowerdir=$PWD/layers/low,upperdir=$PWD/layers/up,workdir=$PWD/layers/work "
             "rootfs && truncate -s 1025T rootfs/huge && echo text >rootfs/file");
    run_container(p, NULL);
    RUN(p, NULL, 1, "", "/huge has more than", "checkpoint", "--export", archive, "c1");
    assert_true(STATUS_IS(p, "c1", "running"));
    assert_false(is_there(p, "b/checkpoint.txt"));
    assert_int_equal(count_named(p, "x.tar"), 0);
    shell(p, "truncate -s 4T rootfs/huge && mv b/config.json b/away");
    RUN(p, NULL, 1, "", "config.json", "checkpoint", "--export", archive, "c1");
    assert_false(is_there(p, "b/checkpoint.txt"));
    shell(p, "mv b/away b/config.json");
    RUN(p, NULL, 0, "", NULL, "checkpoint", "--export", archive, "c1");
    shell(p, "test $(stat -c %s x.tar) -lt 1000000 && umount rootfs layers");
}

/* Its id is free at once; a client that waits for it sees it killed. */
static void deletes_the_container(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, SLEEPS);
    cleanup_free char *images = tmpdir_path(p->dir, "ck");
    for (unsigned i = 0; i < 3; i++) {
        cleanup_fd int err = program_file(p, "run.err");
        pid_t run = program_spawn(p, (int[]){-1, -1, err}, "run", "-b", b, "c1", NULL);
        WAIT_FOR(STATUS_IS(p, "c1", "running"));
        RUN(p, NULL, 0, "", NULL, "checkpoint", "--image-path", images, "c1");
        assert_int_equal(program_wait(run), 128 + SIGKILL);
        cleanup_free char *said = program_read(err);
        assert_string_equal(said, "");
        assert_false(is_there(p, "root/c1"));
    }
    /* The monitor of a detached one is a child of this test. */
    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "c1");
    pid_t monitor = 0;
    assert_string_equal(program_status(p, "c1", &monitor, NULL), "running");
    RUN(p, NULL, 0, "", NULL, "checkpoint", "--image-path", images, "c1");
    assert_int_equal(program_wait(monitor), 128 + SIGKILL);
    assert_false(is_there(p, "root/c1"));
    RUN(p, NULL, 0, "", NULL, "restore", "-d", "-b", b, "--image-path", images, "c1");
    /* A container that keeps running is kept. */
    RUN(p, NULL, 0, "", NULL, "checkpoint", "--image-path", images, "--pre-dump", "c1");
    RUN(p, NULL, 0, "", NULL, "checkpoint", "--image-path", images, "--leave-running", "c1");
    assert_true(STATUS_IS(p, "c1", "running"));
    /* Statistics are read before their directory goes. */
    RUN(p, NULL, 0, NULL, NULL, "checkpoint", "--image-path", images, "--print-stats", "c1");
    assert_false(is_there(p, "root/c1"));
}

/* containerd deletes what is its own. */
static void leaves_a_task_of_containerd(void **state) {
    const struct program *p = *state;
    cleanup_free char *images = tmpdir_path(p->dir, "ck");
    run_container(p, NULL);
    assert_int_equal(renameat(p->dir->fd, "root/c1/api.sock", p->dir->fd, "its.sock"), 0);
    assert_int_equal(symlinkat("../../its.sock", p->dir->fd, "root/c1/api.sock"), 0);
    RUN(p, NULL, 0, "", NULL, "checkpoint", "--image-path", images, "c1");
    WAIT_FOR(STATUS_IS(p, "c1", "stopped"));
    remove_container(p);
}

int main(void) {
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return 1;
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, program_setup, program_teardown)
    const struct CMUnitTest tests[] = {
        TEST(helps),
        TEST(flags_reach_the_daemon),
        TEST(defaults_of_paths),
        TEST(refuses),
        TEST(of_a_container_that_does_not_run),
        TEST(prints_statistics),
        TEST(tells_of_a_failure),
        TEST(exports),
        TEST(export_to_a_taken_name),
        TEST(export_of_a_root_is_checked_first),
        TEST(deletes_the_container),
        TEST(leaves_a_task_of_containerd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
