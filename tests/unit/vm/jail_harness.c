/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "jail_harness.h"

void harness_write(const char *dir, const char *name, const char *text) {
    cleanup_free char *path = path_join(dir, name);
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0644, false, NULL), 0);
}

/* Copies the helper into the root under this name. */
static void install(const struct harness *h, const char *name) {
    const char *helper = getenv("JAILED");
    cleanup_free char *path = path_join(h->root, name), *data = NULL;
    size_t len = 0;
    if (!helper)
        fail_msg("JAILED must name the helper program (meson sets it)");
    assert_int_equal(file_read_at(AT_FDCWD, helper, (size_t)64 << 20, &data, &len, NULL), 0);
    assert_int_equal(file_write_atomic(path, data, len, 0755, false, NULL), 0);
}

int harness_setup(void **state) {
    static const char *const dirs[] = {"usr/bin", "usr/libexec", "proc", "dev", "tmp", "guest", "share"};
    *state = NULL;
    if (geteuid() != 0)
        return 0;
    struct harness *h = calloc(1, sizeof(*h));
    assert_non_null(h);
    /* Something the jailed one must not inherit. */
    const gid_t groups[] = {4, 24};
    assert_int_equal(setgroups(2, groups), 0);
    assert_true(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "of-the-host") >= 0 || errno == ENOSYS);
    h->dir = strdup("/tmp/stasis-vm-test-XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    assert_int_equal(unshare(CLONE_NEWNS), 0);
    assert_int_equal(mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL), 0);
    assert_int_equal(mount("tmpfs", h->dir, "tmpfs", 0, "mode=755"), 0);
    h->root = path_join(h->dir, "root");
    h->guest = path_join(h->dir, "guest");
    h->share = path_join(h->dir, "share");
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        cleanup_free char *path = path_join(h->root, dirs[i]);
        assert_int_equal(path_mkdirs(path, 0755, NULL), 0);
    }
    install(h, "usr/bin/jailed");
    install(h, "usr/bin/qemu-system-x86_64");
    install(h, "usr/libexec/virtiofsd");
    assert_int_equal(mkdir(h->guest, 0755), 0);
    assert_int_equal(mkdir(h->share, 0755), 0);
    assert_int_equal(mount("tmpfs", h->share, "tmpfs", 0, "mode=755"), 0);
    assert_int_equal(mount(NULL, h->share, NULL, MS_SHARED, NULL), 0);
    *state = h;
    return 0;
}

int harness_teardown(void **state) {
    struct harness *h = *state;
    if (!h)
        return 0;
    assert_int_equal(umount2(h->dir, MNT_DETACH), 0);
    assert_int_equal(rmdir(h->dir), 0);
    free(h->dir);
    free(h->root);
    free(h->guest);
    free(h->share);
    free(h);
    return 0;
}

int prisoner_start(const struct jail_spec *jail, struct prisoner *p, struct err *err) {
    char name[] = "jailed", *argv[] = {name, NULL};
    int s[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
    struct proc_spec spec = {
        .path = "/usr/bin/jailed", .argv = argv, .fds = {{.from = s[1], .to = 3}, {.from = 2, .to = 2}}, .n_fds = 2};
    *p = (struct prisoner){.proc = PROC_NONE, .fd = s[0]};
    int r = jail_spawn(jail, &spec, &p->proc, err);
    fd_close(s[1]);
    if (r < 0)
        p->fd = fd_close(p->fd);
    return r;
}

const char *ask(struct prisoner *p, const char *question) {
    size_t len = 0;
    uint64_t end = now_usec() + DEADLINE_USEC;
    assert_int_equal(fd_write_all(p->fd, question, strlen(question)), 0);
    assert_int_equal(fd_write_all(p->fd, "\n", 1), 0);
    while (len == 0 || p->answer[len - 1] != '\n') {
        if (now_usec() > end || fd_wait(p->fd, POLLIN, DEADLINE_USEC) <= 0)
            fail_msg("no answer to \"%s\"", question);
        ssize_t n = read(p->fd, p->answer + len, sizeof(p->answer) - 1 - len);
        if (n <= 0)
            fail_msg("the helper ended instead of answering \"%s\"", question);
        len += (size_t)n;
    }
    p->answer[len - 1] = '\0';
    return p->answer;
}

void prisoner_end(struct prisoner *p) {
    proc_kill(&p->proc);
    p->fd = fd_close(p->fd);
}

bool process_ends(pid_t pid) {
    uint64_t start, end = now_usec() + DEADLINE_USEC;
    while (proc_start_time(pid, &start) == 0) {
        if (now_usec() > end)
            return false;
        poll(NULL, 0, 5); /* it is no child of ours, so there is nothing to wait on */
    }
    return true;
}
