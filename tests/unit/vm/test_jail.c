/* SPDX-License-Identifier: Apache-2.0 */
/* What a jailed program sees and may do, asked of a program in there. */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "jail_harness.h"

#define SOME_UID 0x50000123u

#define NEED_ROOT(h)                                                                                                   \
    struct harness *h = *state;                                                                                        \
    if (!h) {                                                                                                          \
        skip();                                                                                                        \
        return;                                                                                                        \
    }                                                                                                                  \
    struct needs_semicolon_

static struct jail_spec like_qemu(const struct harness *h) {
    return (struct jail_spec){.root = h->root, .guest_dir = h->guest, .uid = SOME_UID, .nofile = JAIL_NOFILE_QEMU};
}

static struct jail_spec like_virtiofsd(const struct harness *h) {
    return (struct jail_spec){.root = h->root,
                              .share_dir = h->share,
                              .proc_sys = true,
                              .caps = UINT64_C(1) << CAP_CHOWN | UINT64_C(1) << CAP_SYS_ADMIN,
                              .nofile = UINT64_MAX};
}

static void start(const struct jail_spec *jail, struct prisoner *p) {
    struct err err = ERR_INIT;
    if (prisoner_start(jail, p, &err) < 0)
        fail_msg("%s", err.msg);
}

static void only_the_jails_root_is_there(void **state) {
    NEED_ROOT(h);
    struct jail_spec jail = like_qemu(h);
    static struct prisoner p;
    harness_write(h->guest, "vmlinux", "kernel\n");
    start(&jail, &p);
    assert_string_equal(ask(&p, "list /"), "dev guest proc share tmp usr ");
    assert_string_equal(ask(&p, "list /usr/bin"), "jailed qemu-system-x86_64 ");
    assert_string_equal(ask(&p, "list /dev"), "null urandom zero ");
    assert_string_equal(ask(&p, "list /share"), "");
    assert_string_equal(ask(&p, "cat /guest/vmlinux"), "kernel|");
    assert_string_equal(ask(&p, "list /.."), "dev guest proc share tmp usr ");
    assert_string_equal(ask(&p, "list /proc/1/root/"), "dev guest proc share tmp usr ");
    /* four mounts, none of the host's */
    const char *mounts = ask(&p, "cat /proc/self/mountinfo");
    unsigned n = 0;
    for (const char *c = mounts; *c; c++)
        n += *c == '|';
    assert_int_equal(n, 4);
    assert_null(strstr(mounts, "shared:"));
    assert_null(strstr(mounts, "master:"));
    prisoner_end(&p);
}

static void nothing_can_be_written(void **state) {
    NEED_ROOT(h);
    struct jail_spec specs[] = {like_qemu(h), like_virtiofsd(h)};
    static struct prisoner p;
    harness_write(h->guest, "root.img", "image\n");
    for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
        start(&specs[i], &p);
        static const char *const tries[] = {"create /x",       "create /tmp/x",   "create /dev/x",
                                            "create /guest/x", "create /share/x", "mkdir /proc/x"};
        for (size_t t = 0; t < ARRAY_SIZE(tries); t++)
            assert_string_not_equal(ask(&p, tries[t]), "ok");
        assert_string_not_equal(ask(&p, "write /guest/root.img"), "ok");
        assert_string_not_equal(ask(&p, "write /usr/bin/jailed"), "ok");
        assert_string_not_equal(ask(&p, "write /proc/sys/kernel/core_pattern"), "ok");
        assert_string_not_equal(ask(&p, "write /proc/sysrq-trigger"), "ok");
        assert_string_not_equal(ask(&p, "mknod /tmp/x"), "ok");
        /* devices are no files: they are written in spite of the read-only mount */
        assert_string_equal(ask(&p, "write /dev/null"), "ok");
        prisoner_end(&p);
    }
}

static void qemu_has_a_user_of_its_own_and_no_capability(void **state) {
    NEED_ROOT(h);
    struct jail_spec jail = like_qemu(h);
    static struct prisoner p;
    start(&jail, &p);
    cleanup_free char *ids = str_printf("%u\t%u\t%u\t%u", SOME_UID, SOME_UID, SOME_UID, SOME_UID);
    assert_string_equal(ask(&p, "status Uid"), ids);
    assert_string_equal(ask(&p, "status Gid"), ids);
    assert_string_equal(ask(&p, "status Groups"), "");
    static const char *const sets[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"};
    for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
        cleanup_free char *question = str_printf("status %s", sets[i]);
        assert_string_equal(ask(&p, question), "0000000000000000");
    }
    assert_string_equal(ask(&p, "status NoNewPrivs"), "1");
    assert_string_equal(ask(&p, "setuid"), "EPERM");
    assert_string_equal(ask(&p, "remount /"), "EPERM");
    assert_string_equal(ask(&p, "umount /guest"), "EPERM");
    prisoner_end(&p);
}

static void kvm_is_there_when_asked_for(void **state) {
    NEED_ROOT(h);
    struct jail_spec jail = like_qemu(h);
    static struct prisoner p;
    if (access("/dev/kvm", F_OK) < 0)
        skip();
    jail.kvm = true;
    start(&jail, &p);
    assert_string_equal(ask(&p, "list /dev"), "kvm null urandom zero ");
    assert_string_equal(ask(&p, "write /dev/kvm"), "ok");
    prisoner_end(&p);
}

static void virtiofsd_has_the_capabilities_it_is_given(void **state) {
    NEED_ROOT(h);
    struct jail_spec jail = like_virtiofsd(h);
    static struct prisoner p;
    start(&jail, &p);
    assert_string_equal(ask(&p, "status Uid"), "0\t0\t0\t0");
    assert_string_equal(ask(&p, "status Groups"), "");
    assert_string_equal(ask(&p, "status CapInh"), "0000000000000000");
    assert_string_equal(ask(&p, "status CapPrm"), "0000000000200001");
    assert_string_equal(ask(&p, "status CapEff"), "0000000000200001");
    assert_string_equal(ask(&p, "status CapBnd"), "0000000000200001");
    assert_string_equal(ask(&p, "status CapAmb"), "0000000000000000");
    assert_string_equal(ask(&p, "status NoNewPrivs"), "1");
    assert_string_equal(ask(&p, "securebits"), "0");
    assert_string_equal(ask(&p, "mknod /tmp/x"), "EROFS");
    prisoner_end(&p);
}

static void capabilities_outlast_a_change_of_user_if_asked(void **state) {
    NEED_ROOT(h);
    struct jail_spec jail = like_virtiofsd(h);
    static struct prisoner p;
    jail.keep_caps = true;
    jail.caps |= UINT64_C(1) << CAP_SETUID;
    start(&jail, &p);
    cleanup_free char *bits = str_printf("%u", SECBIT_NO_SETUID_FIXUP);
    assert_string_equal(ask(&p, "securebits"), bits);
    assert_string_equal(ask(&p, "seteuid"), "ok");
    assert_string_equal(ask(&p, "status Uid"), "0\t1000\t0\t1000");
    assert_string_equal(ask(&p, "status CapEff"), "0000000000200081");
    prisoner_end(&p);
}

static void namespaces_are_its_own(void **state) {
    NEED_ROOT(h);
    struct jail_spec jail = like_qemu(h);
    static const char *const kinds[] = {"mnt", "pid", "ipc", "uts", "net"};
    static struct prisoner p;
    start(&jail, &p);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        char path[64], here[64] = "";
        cleanup_free char *question = str_printf("namespace %s", kinds[i]);
        snprintf(path, sizeof(path), "/proc/self/ns/%s", kinds[i]);
        assert_true(readlink(path, here, sizeof(here) - 1) > 0);
        assert_non_null(strstr(ask(&p, question), kinds[i]));
        assert_string_not_equal(p.answer, here);
    }
    assert_string_equal(ask(&p, "pid"), "1");
    assert_string_equal(ask(&p, "ppid"), "0");
    assert_string_equal(ask(&p, "networks"), "lo ");
    assert_string_equal(ask(&p, "hostname"), "stasis");
    /* no process but itself, and of the kernel's settings nothing */
    const char *proc = ask(&p, "list /proc");
    assert_memory_equal(proc, "1 ", 2);
    assert_null(strstr(proc, "sys"));
    prisoner_end(&p);
}

static void nothing_is_inherited(void **state) {
    NEED_ROOT(h);
    struct jail_spec jail = like_qemu(h);
    static struct prisoner p;
    int leak = open("/dev/null", O_RDONLY); /* without close-on-exec, as a careless library would */
    assert_true(leak >= 0);
    setenv("SECRET", "x", 1);
    start(&jail, &p);
    close(leak);
    assert_string_equal(ask(&p, "fds"), "0 1 2 3 ");
    assert_string_equal(ask(&p, "env SECRET"), "unset");
    assert_string_equal(ask(&p, "limit core"), "0");
    assert_string_equal(ask(&p, "limit nofile"), "4096");
    assert_null(strstr(ask(&p, "keyring"), "of-the-host"));
    prisoner_end(&p);
}

static void the_file_limit_is_as_high_as_may_be(void **state) {
    NEED_ROOT(h);
    struct jail_spec jail = like_virtiofsd(h);
    struct rlimit here;
    static struct prisoner p;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &here), 0);
    start(&jail, &p);
    assert_true(strtoull(ask(&p, "limit nofile"), NULL, 10) >= here.rlim_max);
    prisoner_end(&p);
}

/* Attaches a copy of source, read-only or not, at share/name: the way the daemon does it. */
static void mount_in_share(const struct harness *h, const char *source, const char *name, bool read_only) {
    cleanup_free char *target = path_join(h->share, name);
    assert_int_equal(mkdir(target, 0755), 0);
    cleanup_fd int tree = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    assert_true(tree >= 0);
    struct mount_attr attr = {.attr_set = read_only ? MOUNT_ATTR_RDONLY : 0};
    assert_int_equal(mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)), 0);
    assert_int_equal(move_mount(tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH), 0);
}

static void unmount_from_share(const struct harness *h, const char *name) {
    cleanup_free char *target = path_join(h->share, name);
    assert_int_equal(umount2(target, MNT_DETACH), 0);
    assert_int_equal(rmdir(target), 0);
}

static void the_share_receives_mounts(void **state) {
    NEED_ROOT(h);
    struct jail_spec jail = like_virtiofsd(h);
    static struct prisoner p;
    cleanup_free char *data = path_join(h->dir, "data");
    assert_int_equal(mkdir(data, 0755), 0);
    harness_write(data, "file", "text\n");
    harness_write(h->share, "top", "of the share\n");

    mount_in_share(h, data, "before", false);
    start(&jail, &p);
    assert_string_equal(ask(&p, "cat /share/top"), "of the share|");
    assert_string_equal(ask(&p, "cat /share/before/file"), "text|");
    mount_in_share(h, data, "rw", false);
    mount_in_share(h, data, "ro", true);

    assert_string_equal(ask(&p, "cat /share/rw/file"), "text|");
    assert_string_equal(ask(&p, "cat /share/ro/file"), "text|");
    assert_string_equal(ask(&p, "create /share/before/a"), "ok");
    assert_string_equal(ask(&p, "create /share/rw/b"), "ok");
    assert_string_equal(ask(&p, "create /share/ro/c"), "EROFS");
    assert_string_equal(ask(&p, "create /share/d"), "EROFS");
    assert_string_equal(ask(&p, "mkdir /share/d"), "EROFS");
    assert_string_equal(ask(&p, "write /share/top"), "EROFS");

    unmount_from_share(h, "rw");
    assert_string_equal(ask(&p, "list /share"), "before ro top ");
    /* what the jailed one does with its mounts stays there */
    assert_string_equal(ask(&p, "umount /share/ro"), "ok");
    cleanup_free char *still = path_join(h->share, "ro/file");
    assert_int_equal(access(still, F_OK), 0);
    prisoner_end(&p);
    unmount_from_share(h, "ro");
    unmount_from_share(h, "before");
}

static void no_mount_is_left_on_the_host(void **state) {
    NEED_ROOT(h);
    struct jail_spec jail = like_virtiofsd(h);
    static struct prisoner p;
    cleanup_free char *before = NULL, *during = NULL;
    assert_int_equal(file_read_at(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &before, NULL, NULL), 0);
    start(&jail, &p);
    assert_int_equal(file_read_at(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &during, NULL, NULL), 0);
    assert_string_equal(before, during);
    prisoner_end(&p);
}

/* The daemon of the next test: starts the jailed one and hands the test its pid and its channel. */
static void __attribute__((noreturn)) be_daemon(const struct jail_spec *jail, int sock) {
    static struct prisoner p;
    if (prisoner_start(jail, &p, NULL) < 0 || fd_send(sock, &p.proc.pid, sizeof(pid_t), &p.fd, 1) < 0)
        _exit(1);
    for (;;)
        pause();
}

static void it_dies_with_its_parent(void **state) {
    NEED_ROOT(h);
    struct jail_spec specs[] = {like_qemu(h), like_virtiofsd(h)};
    static struct prisoner p;
    for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
        int s[2], fds[FD_PASS_MAX];
        size_t n = 0;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
        pid_t daemon = fork();
        if (daemon == 0)
            be_daemon(&specs[i], s[1]);
        close(s[1]);
        assert_true(fd_wait(s[0], POLLIN, DEADLINE_USEC) > 0);
        assert_int_equal(fd_receive(s[0], &p.proc.pid, sizeof(pid_t), fds, &n), sizeof(pid_t));
        assert_int_equal(n, 1);
        p.fd = fds[0];
        assert_string_equal(ask(&p, "pid"), "1");
        assert_int_equal(kill(daemon, SIGKILL), 0);
        assert_int_equal(waitpid(daemon, NULL, 0), daemon);
        /* its channel is open still, so nothing but the death of its parent can end it */
        assert_true(process_ends(p.proc.pid));
        close(p.fd);
        close(s[0]);
    }
}

static void failures_name_what_is_missing(void **state) {
    NEED_ROOT(h);
    static struct prisoner p;
    struct err err = ERR_INIT;
    struct jail_spec jail = like_qemu(h);
    jail.root = "/nonexistent/root";
    assert_int_equal(prisoner_start(&jail, &p, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "/nonexistent/root"));

    jail = like_qemu(h);
    jail.guest_dir = "/nonexistent/guest";
    assert_int_equal(prisoner_start(&jail, &p, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "/nonexistent/guest"));

    /* a root without the mount points */
    jail = like_qemu(h);
    jail.root = h->guest;
    assert_int_equal(prisoner_start(&jail, &p, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "/proc"));

    /* and without the program */
    char name[] = "x", *argv[] = {name, NULL};
    struct proc_spec spec = {.path = "/bin/sh", .argv = argv};
    struct proc proc = PROC_NONE;
    jail = like_qemu(h);
    assert_int_equal(jail_spawn(&jail, &spec, &proc, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "/bin/sh"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_jails_root_is_there),
        cmocka_unit_test(nothing_can_be_written),
        cmocka_unit_test(qemu_has_a_user_of_its_own_and_no_capability),
        cmocka_unit_test(kvm_is_there_when_asked_for),
        cmocka_unit_test(virtiofsd_has_the_capabilities_it_is_given),
        cmocka_unit_test(capabilities_outlast_a_change_of_user_if_asked),
        cmocka_unit_test(namespaces_are_its_own),
        cmocka_unit_test(nothing_is_inherited),
        cmocka_unit_test(the_file_limit_is_as_high_as_may_be),
        cmocka_unit_test(the_share_receives_mounts),
        cmocka_unit_test(no_mount_is_left_on_the_host),
        cmocka_unit_test(it_dies_with_its_parent),
        cmocka_unit_test(failures_name_what_is_missing),
    };
    return cmocka_run_group_tests(tests, harness_setup, harness_teardown);
}
