/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu.h"
#include "agent/criu_scan.h"
#include "support.h"

#include <sys/mman.h>
#include <sys/syscall.h>

static bool bad(struct criu_file f) {
    return criu_scan_judge(&f);
}

static void test_judge(void **state) {
    (void)state;
    const uint64_t large = CRIU_GHOST_LIMIT + 1;
    assert_false(bad((struct criu_file){.target = "/a", .mode = S_IFREG, .links = 1, .size = large}));
    assert_false(bad((struct criu_file){.target = "pipe:[1]", .mode = S_IFIFO}));
    assert_false(bad((struct criu_file){.target = "anon_inode:[eventpoll]"}));
    assert_true(bad((struct criu_file){.target = "anon_inode:[io_uring]"}));
    assert_true(bad((struct criu_file){.target = "anon_inode:bpf-prog"}));
    /* Devices. */
    assert_true(bad((struct criu_file){.target = "/dev/vda", .mode = S_IFBLK, .major = 254}));
    assert_true(bad((struct criu_file){.target = "/dev/fuse", .mode = S_IFCHR, .major = 10, .minor = 229}));
    assert_false(bad((struct criu_file){.target = "/dev/net/tun", .mode = S_IFCHR, .major = 10, .minor = 200}));
    assert_false(bad((struct criu_file){.target = "/dev/null", .mode = S_IFCHR, .major = 1, .minor = 3}));
    assert_false(bad((struct criu_file){.target = "/dev/pts/0", .mode = S_IFCHR, .major = 136}));
    assert_false(bad((struct criu_file){.target = "/dev/ptmx", .mode = S_IFCHR, .major = 5, .minor = 2}));
    /* Deleted files: small ones are kept in the images; not those with other names. */
    struct criu_file f = {.target = "/a (deleted)", .mode = S_IFREG, .on_mount = true};
    assert_false(bad(f));
    f.size = large;
    assert_true(bad(f));
    f.links = 1;
    assert_true(bad(f));
    f.on_mount = false; /* a memfd */
    assert_false(bad(f));
    f = (struct criu_file){.target = " (deleted)", .mode = S_IFREG, .links = 1, .on_mount = true};
    assert_false(bad(f));
}

static void test_parse(void **state) {
    (void)state;
    assert_int_equal(criu_scan_mount_id("pos:\t15\nflags:\t0100002\nmnt_id:\t47\nino:\t5423864\n"), 47);
    assert_int_equal(criu_scan_mount_id("pos:\t15\n"), -1);
    assert_int_equal(criu_scan_mount_id("mnt_id:\t\n"), -1);
    assert_int_equal(criu_scan_mount_id("mnt_id:\t99999999999999999999\n"), -1);
    static const char mounts[] = "47 34 0:31 / / rw - virtiofs none rw\n56 47 0:37 / /mnt rw - virtiofs none rw\n";
    assert_true(criu_scan_has_mount(mounts, 47));
    assert_true(criu_scan_has_mount(mounts, 56));
    assert_false(criu_scan_has_mount(mounts, 34));
    assert_false(criu_scan_has_mount(mounts, 5));
    assert_false(criu_scan_has_mount("", 5));
}

/* This process itself, with one of each. */
static void test_scan(void **state) {
    struct tmpdir *t = *state;
    struct err err = ERR_INIT;
    pid_t pids[] = {getpid(), 0x3fffffff};
    tmpdir_write(t, "file\x1b", "x");
    tmpdir_write(t, "small", "x");
    assert_int_equal(linkat(t->fd, "file\x1b", t->fd, "other", 0), 0);
    cleanup_fd int linked = openat(t->fd, "file\x1b", O_RDONLY | O_CLOEXEC);
    cleanup_fd int small = openat(t->fd, "small", O_RDONLY | O_CLOEXEC);
    cleanup_fd int memory = memfd_create("memory", MFD_CLOEXEC);
    assert_true(linked >= 0 && small >= 0 && memory >= 0);
    assert_int_equal(criu_scan(pids, 2, &err), 0);
    tmpdir_remove(t, "small");
    assert_int_equal(criu_scan(pids, 2, &err), 0);
    tmpdir_remove(t, "file\x1b");
    assert_int_equal(criu_scan(pids, 2, &err), -EBUSY);
    char want[160];
    snprintf(want, sizeof(want), "pid %d, fd %d, %s/file? (deleted)", (int)getpid(), linked, t->path);
    if (!strstr(err.msg, want))
        fail_msg("no \"%s\" in: %s", want, err.msg);
}

/* Many findings are counted, not listed. */
static void test_many(void **state) {
    struct tmpdir *t = *state;
    struct err err = ERR_INIT;
    int fds[CRIU_SCAN_NAMED_MAX + 3];
    pid_t pid = getpid();
    tmpdir_write(t, "file", "x");
    assert_int_equal(linkat(t->fd, "file", t->fd, "other", 0), 0);
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = openat(t->fd, "file", O_RDONLY | O_CLOEXEC);
    tmpdir_remove(t, "file");
    assert_int_equal(criu_scan(&pid, 1, &err), -EBUSY);
    assert_non_null(strstr(err.msg, "and 3 more"));
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        close(fds[i]);
}

/* The kernel's names for its objects are as we know them. */
static void test_io_uring(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    char params[256] = "";
    pid_t pid = getpid();
    cleanup_fd int fd = (int)syscall(SYS_io_uring_setup, 4, params);
    if (fd < 0)
        skip(); /* this kernel, or its policy, has none */
    assert_int_equal(criu_scan(&pid, 1, &err), -EBUSY);
    assert_non_null(strstr(err.msg, "io_uring"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_parse),
        cmocka_unit_test_setup_teardown(test_scan, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(test_many, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test(test_io_uring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
