/* SPDX-License-Identifier: Apache-2.0 */
/* Needs root: namespaces are mounted for real, in a mount namespace of the test's own. */
#include "support.h"

#include <sched.h>
#include <sys/mount.h>

#include "agent/namespaces.h"
#include "base/json.h"

#define EXIT_SKIPPED 77 /* meson: the test could not run here */

static const char *const kinds[] = {"ipc", "net", "pid", "uts"};

struct pinned {
    struct tmpdir *t;
    char *dir;
    pid_t pid; /* a process with namespaces of its own */
};

/* In namespaces of its own, until it is killed, at the latest with this process. */
static pid_t spawn_isolated(void) {
    int ready[2];
    char b;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (unshare(CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS) < 0 || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &b, 1), 1);
    close(ready[0]);
    return pid;
}

static void end(struct pinned *p) {
    if (p->pid > 0) {
        kill(p->pid, SIGKILL);
        assert_int_equal(waitpid(p->pid, NULL, 0), p->pid);
    }
    p->pid = 0;
}

static int setup(void **state) {
    struct pinned *p = calloc(1, sizeof(*p));
    if (tmpdir_setup((void **)&p->t) < 0)
        return -1;
    p->dir = tmpdir_path(p->t, "ns");
    p->pid = spawn_isolated();
    *state = p;
    return 0;
}

static int teardown(void **state) {
    struct pinned *p = *state;
    end(p);
    namespaces_unpin(p->dir, "c1");
    free(p->dir);
    int r = tmpdir_teardown((void **)&p->t);
    free(p);
    return r;
}

/* What `path` is: the inode of a namespace, or of a file. */
static ino_t inode(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? st.st_ino : 0;
}

static ino_t pinned_inode(const struct pinned *p, const char *id, const char *kind) {
    cleanup_free char *path = str_printf("%s/%s/%s", p->dir, id, kind);
    return inode(path);
}

static bool nothing_left(const struct pinned *p, const char *id) {
    cleanup_free char *own = path_join(p->dir, id);
    return inode(own) == 0;
}

static void pins(void **state) {
    struct pinned *p = *state;
    struct err err = ERR_INIT;
    ino_t before[ARRAY_SIZE(kinds)];
    if (namespaces_pin(p->dir, "c1", p->pid, &err) < 0)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        cleanup_free char *of = str_printf("/proc/%d/ns/%s", (int)p->pid, kinds[i]);
        before[i] = inode(of);
        assert_true(before[i] != 0);
        assert_true(pinned_inode(p, "c1", kinds[i]) == before[i]);
        cleanup_free char *ours = str_printf("/proc/self/ns/%s", kinds[i]);
        if (strcmp(kinds[i], "pid") != 0) /* the one it is in, not that of its children to come */
            assert_true(inode(ours) != before[i]);
    }
    struct stat st;
    cleanup_free char *own = path_join(p->dir, "c1");
    assert_int_equal(stat(own, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    /* They outlive the process, and can be entered. */
    end(p);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        assert_true(pinned_inode(p, "c1", kinds[i]) == before[i]);
    pid_t joiner = fork();
    if (joiner == 0) {
        cleanup_free char *uts = str_printf("%s/c1/uts", p->dir);
        int fd = open(uts, O_RDONLY | O_CLOEXEC);
        _exit(fd >= 0 && setns(fd, CLONE_NEWUTS) == 0 && inode("/proc/self/ns/uts") == before[3] ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(joiner, &status, 0), joiner);
    assert_int_equal(status, 0);
    namespaces_unpin(p->dir, "c1");
    assert_true(nothing_left(p, "c1"));
}

static void unpins_what_is_not_there(void **state) {
    struct pinned *p = *state;
    struct err err = ERR_INIT;
    namespaces_unpin(p->dir, "c1");
    assert_int_equal(inode(p->dir), 0);
    assert_int_equal(path_mkdirs(p->dir, 0700, &err), 0);
    namespaces_unpin(p->dir, "c1");
    /* Half of it: files that nothing is mounted on. */
    assert_int_equal(mkdirat(p->t->fd, "ns/c1", 0700), 0);
    tmpdir_write(p->t, "ns/c1/net", "");
    namespaces_unpin(p->dir, "c1");
    assert_true(nothing_left(p, "c1"));
    assert_true(inode(p->dir) != 0);
}

static void a_dead_process(void **state) {
    struct pinned *p = *state;
    struct err err = ERR_INIT;
    pid_t pid = p->pid;
    end(p);
    assert_int_equal(namespaces_pin(p->dir, "c1", pid, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "/ns/ipc"));
    assert_true(nothing_left(p, "c1"));
}

/* One container's do not touch another's. */
static void two(void **state) {
    struct pinned *p = *state;
    struct err err = ERR_INIT;
    assert_int_equal(namespaces_pin(p->dir, "c1", p->pid, &err), 0);
    assert_int_equal(namespaces_pin(p->dir, "c2", getpid(), &err), 0);
    assert_true(pinned_inode(p, "c1", "net") != pinned_inode(p, "c2", "net"));
    namespaces_unpin(p->dir, "c2");
    assert_true(nothing_left(p, "c2"));
    assert_true(pinned_inode(p, "c1", "net") != 0);
}

/* Runs a command in the network namespace that was made. */
static int in_network(const struct pinned *p, const char *id, const char *command) {
    cleanup_free char *line = str_printf("nsenter --net=%s/%s/net sh -c '%s'", p->dir, id, command);
    return system(line);
}

static void a_network_is_made(void **state) {
    struct pinned *p = *state;
    struct err err = ERR_INIT;
    ino_t own = inode("/proc/self/ns/net");
    cleanup_json json_t *sysctls = json_pack("{s:s, s:s, s:s}", "net.ipv4.ip_unprivileged_port_start", "7",
                                             "net/ipv4/ip_forward", "1", "kernel.msgmax", "not of the network");
    int spare = -1;
    if (namespaces_make_network(p->dir, "c1", sysctls, &spare, &err) < 0)
        fail_msg("%s", err.msg);
    ino_t made = pinned_inode(p, "c1", "net");
    assert_true(made != 0 && made != own);
    assert_true(inode("/proc/self/ns/net") == own);
    assert_int_equal(in_network(p, "c1", "ip -o link show lo | grep -q LOOPBACK,UP"), 0);
    assert_int_equal(in_network(p, "c1", "grep -qx 7 /proc/sys/net/ipv4/ip_unprivileged_port_start"), 0);
    assert_int_equal(in_network(p, "c1", "grep -qx 1 /proc/sys/net/ipv4/ip_forward"), 0);
    /* Those of a pod's first container take its place. */
    assert_int_equal(namespaces_pin(p->dir, "c1", p->pid, &err), 0);
    assert_true(pinned_inode(p, "c1", "net") != made);
    namespaces_unpin(p->dir, "c1");
    assert_true(nothing_left(p, "c1"));
    /* One that was made ahead, and then there is none any more. */
    spare = namespaces_make_spare(&err);
    assert_true(spare >= 0 && inode("/proc/self/ns/net") == own);
    for (int i = 0; i < 2; i++) {
        struct stat st = {0};
        assert_int_equal(fstat(spare, &st), i ? -1 : 0);
        assert_int_equal(namespaces_make_network(p->dir, "c2", sysctls, &spare, &err), 0);
        assert_int_equal(spare, -1);
        assert_true((pinned_inode(p, "c2", "net") == st.st_ino) == !i);
        assert_int_equal(in_network(p, "c2", "ip -o link show lo | grep -q LOOPBACK,UP"), 0);
        assert_int_equal(in_network(p, "c2", "grep -qx 7 /proc/sys/net/ipv4/ip_unprivileged_port_start"), 0);
        namespaces_unpin(p->dir, "c2");
        assert_true(nothing_left(p, "c2"));
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static void a_closed_network(void **state) {
    const struct pinned *p = *state;
    static const char head[] =
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n";
    char table[512];
    snprintf(table, sizeof(table), "%s    lo:       0       0    0    0\n", head);
    assert_true(namespaces_is_only_loopback(table));
    snprintf(table, sizeof(table), "%s    lo:       0       0\n  eth0:       0       0\n", head);
    assert_false(namespaces_is_only_loopback(table));
    snprintf(table, sizeof(table), "%s   lo2:       0       0\n", head);
    assert_false(namespaces_is_only_loopback(table));
    assert_false(namespaces_is_only_loopback(head));
    assert_false(namespaces_is_only_loopback(""));

    assert_true(namespaces_network_is_closed(p->pid));
    assert_false(namespaces_network_is_closed(getpid()));
    assert_false(namespaces_network_is_closed(0x3fffffff));
}

int main(void) {
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(pins), TEST(a_network_is_made), TEST(unpins_what_is_not_there), TEST(a_dead_process),
        TEST(two),  TEST(a_closed_network),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
