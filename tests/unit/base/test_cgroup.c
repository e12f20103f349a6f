/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Needs root. Real hierarchies are mounted for the tests: one of version 1 without controllers, which nobody else
 * knows, in a mount namespace of its own. What no machine offers on demand (cpuset, read-only, many at once) is a tree
 * of plain files with a mount table that names it. The machine's own hierarchies are used in test_machine only, and
 * only those in which nobody has put this process anywhere: it must not step out of somebody's limit.
 */
#include "../sandbox/support.h"
#include "base/cgroup.h"

#include <ftw.h>

#include "base/log.h"
#include "base/mountinfo.h"

struct fixture {
    struct tmpdir *tmp;
    char *mountinfo, *self;
    struct cgroup_host host;
    char *v1;      /* where a hierarchy of our own is mounted */
    char name[64]; /* "name=stasis-test-PID" */
    bool real;     /* this kernel has them */
};

static char *in(const struct fixture *f, const char *name) {
    char *path = tmpdir_path(f->tmp, name);
    assert_non_null(path);
    return path;
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    void *tmp = NULL;
    if (tmpdir_setup(&tmp) < 0)
        return -1;
    f->tmp = tmp;
    f->mountinfo = in(f, "mountinfo");
    f->self = in(f, "self");
    f->host = (struct cgroup_host){.mountinfo = f->mountinfo, .self = f->self};
    f->v1 = in(f, "v1");
    tmpdir_write(f->tmp, "mountinfo", "");
    tmpdir_write(f->tmp, "self", "");
    snprintf(f->name, sizeof(f->name), "name=stasis-test-%d", (int)getpid());
    cleanup_free char *options = str_printf("none,%s", f->name);
    if (mkdir(f->v1, 0755) < 0)
        return -1;
    f->real = mount("cgroup", f->v1, "cgroup", 0, options) == 0;
    *state = f;
    return 0;
}

static int remove_group(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st;
    if (type == FTW_DP && ftw->level > 0 && rmdir(path) < 0)
        fprintf(stderr, "cannot remove %s: %s\n", path, strerror(errno));
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    void *tmp = f->tmp;
    if (f->real) {
        /* A hierarchy with groups in it would outlive its mount. */
        file_write_at(f->tmp->fd, "v1/cgroup.procs", "0", NULL);
        nftw(f->v1, remove_group, 8, FTW_DEPTH | FTW_PHYS);
        umount2(f->v1, 0);
    }
    free(f->mountinfo);
    free(f->self);
    free(f->v1);
    free(f);
    return tmpdir_teardown(&tmp);
}

static void append(const struct fixture *f, const char *name, const char *text) {
    cleanup_free char *path = in(f, name);
    cleanup_file FILE *file = fopen(path, "ae");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
}

/* Names a hierarchy in the mount table, and in the list of where this process is, at `home` of it. */
static void add_hierarchy(const struct fixture *f, const char *dir, const char *root, const char *list,
                          const char *home) {
    static unsigned id = 100;
    bool v2 = *list == '\0';
    cleanup_free char *at = in(f, dir);
    cleanup_free char *mount = str_printf("%u 1 0:%u %s %s rw - %s none rw%s%s\n", id, id, root, at,
                                          v2 ? "cgroup2" : "cgroup", v2 ? "" : ",", list);
    cleanup_free char *self = str_printf("%u:%s:%s\n", v2 ? 0 : id, list, home);
    id++;
    append(f, "mountinfo", mount);
    append(f, "self", self);
}

/* A directory of a tree of plain files, as the kernel would fill it. */
static void make_group(const struct fixture *f, const char *name) {
    cleanup_free char *dir = in(f, name), *procs = str_printf("%s/cgroup.procs", name);
    struct err err = ERR_INIT;
    if (path_mkdirs(dir, 0755, &err) < 0)
        fail_msg("%s", err.msg);
    tmpdir_write(f->tmp, procs, "");
}

static void write_file(const struct fixture *f, const char *dir, const char *file, const char *text) {
    cleanup_free char *name = str_printf("%s/%s", dir, file);
    tmpdir_write(f->tmp, name, text);
}

static void assert_file(const struct fixture *f, const char *name, const char *expected) {
    cleanup_free char *text = NULL;
    struct err err = ERR_INIT;
    if (file_read_at(f->tmp->fd, name, 4096, &text, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(text, expected);
}

static bool exists(const struct fixture *f, const char *name) {
    return faccessat(f->tmp->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Where the kernel says this process is in the hierarchy with that list of controllers; malloc'd. */
static char *kernel_place(const char *list) {
    cleanup_free char *text = NULL, *wanted = str_printf(":%s:", list);
    assert_true(file_read_at(AT_FDCWD, "/proc/self/cgroup", 1 << 16, &text, NULL, NULL) >= 0);
    char *at = strstr(text, wanted);
    assert_non_null(at);
    at += strlen(wanted);
    return strndup(at, strcspn(at, "\n"));
}

static void assert_place(const char *list, const char *expected) {
    cleanup_free char *place = kernel_place(list);
    assert_string_equal(place, expected);
}

static struct cgroup_place *enter(const struct fixture *f, const char *path) {
    struct cgroup_place *p = NULL;
    struct err err = ERR_INIT;
    if (cgroup_enter_host(&f->host, path, &p, &err) < 0)
        fail_msg("%s", err.msg);
    assert_non_null(p);
    return p;
}

static void test_real(void **state) {
    struct fixture *f = *state;
    if (!f->real)
        skip();
    add_hierarchy(f, "v1", "/", f->name, "/");
    struct cgroup_place *p = enter(f, "/a/b/c");
    assert_place(f->name, "/a/b/c");
    /* A child is born there, and is waited for when it is going. */
    pid_t pid = fork();
    if (pid == 0) {
        cleanup_free char *place = kernel_place(f->name);
        _exit(strcmp(place, "/a/b/c") != 0);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    cgroup_leave(p);
    assert_place(f->name, "/");
    assert_false(exists(f, "v1/a"));

    /* The systemd form, below a slice that is somebody else's and stays. */
    assert_int_equal(mkdirat(f->tmp->fd, "v1/kubepods.slice", 0755), 0);
    p = enter(f, "kubepods-pod1.slice:cri-containerd:abc");
    assert_place(f->name, "/kubepods.slice/kubepods-pod1.slice/cri-containerd-abc.scope");
    cgroup_leave(p);
    assert_place(f->name, "/");
    assert_true(exists(f, "v1/kubepods.slice"));
    assert_false(exists(f, "v1/kubepods.slice/kubepods-pod1.slice"));

    /* All of it was there: nothing is removed. */
    assert_int_equal(mkdirat(f->tmp->fd, "v1/kubepods.slice/pod", 0755), 0);
    p = enter(f, "kubepods.slice/pod");
    cgroup_leave(p);
    assert_place(f->name, "/");
    assert_true(exists(f, "v1/kubepods.slice/pod"));
    cgroup_leave(NULL);
}

/* Back to where it was, which need not be the top; what others have put below stays, with its parents. */
static void test_real_home(void **state) {
    struct fixture *f = *state;
    if (!f->real)
        skip();
    assert_int_equal(mkdirat(f->tmp->fd, "v1/home", 0755), 0);
    assert_int_equal(file_write_at(f->tmp->fd, "v1/home/cgroup.procs", "0", NULL), 0);
    add_hierarchy(f, "v1", "/", f->name, "/home");
    struct cgroup_place *p = enter(f, "/x/y");
    assert_place(f->name, "/x/y");
    assert_int_equal(mkdirat(f->tmp->fd, "v1/x/other", 0755), 0);
    cgroup_leave(p);
    assert_place(f->name, "/home");
    assert_false(exists(f, "v1/x/y"));
    assert_true(exists(f, "v1/x/other"));

    p = enter(f, "/z");
    assert_int_equal(mkdirat(f->tmp->fd, "v1/z/other", 0755), 0);
    cgroup_leave(p);
    assert_place(f->name, "/home");
    assert_true(exists(f, "v1/z/other"));
    assert_int_equal(file_write_at(f->tmp->fd, "v1/cgroup.procs", "0", NULL), 0);
}

static void test_real_remove(void **state) {
    struct fixture *f = *state;
    if (!f->real)
        skip();
    struct err err = ERR_INIT;
    add_hierarchy(f, "v1", "/", f->name, "/");
    assert_int_equal(cgroup_remove_host(&f->host, "/a/b", &err), 0); /* missing */
    /* A daemon that was killed leaves its directories; its leaf goes once it is gone. */
    cleanup_fd int in_pipe = -1;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct cgroup_place *p = NULL;
        int r = cgroup_enter_host(&f->host, "/a/b", &p, NULL);
        if (r < 0 || write(fds[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(fds[1]);
    in_pipe = fds[0];
    char c;
    assert_int_equal(read(in_pipe, &c, 1), 1);
    uint64_t start = now_usec();
    assert_int_equal(cgroup_remove_host(&f->host, "/a/b", &err), -EBUSY);
    assert_true(now_usec() - start >= CGROUP_REMOVE_USEC);
    ASSERT_SAYS(&err, "v1/a/b");
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    err = (struct err)ERR_INIT;
    if (cgroup_remove_host(&f->host, "/a/b", &err) < 0)
        fail_msg("%s", err.msg);
    assert_false(exists(f, "v1/a/b"));
    assert_true(exists(f, "v1/a"));
    assert_int_equal(cgroup_remove_host(&f->host, "/a/../b", &err), -EINVAL);
}

/* Version 2 alone, a part of the hierarchy mounted: the way back is relative to that part. */
static void test_v2(void **state) {
    struct fixture *f = *state;
    make_group(f, "v2");
    make_group(f, "v2/own");
    make_group(f, "v2/a/b");
    add_hierarchy(f, "v2", "/docker/1", "", "/docker/1/own");
    struct cgroup_place *p = enter(f, "/a/b");
    assert_file(f, "v2/a/b/cgroup.procs", "0");
    assert_file(f, "v2/own/cgroup.procs", "");
    cgroup_leave(p);
    assert_file(f, "v2/own/cgroup.procs", "0");
    assert_true(exists(f, "v2/a/b"));

    /* There is no other hierarchy: what fails is the error, and nothing that was made is left. */
    struct err err = ERR_INIT;
    p = NULL;
    assert_int_equal(cgroup_enter_host(&f->host, "/new/one", &p, &err), -ENOENT); /* no cgroup.procs in it */
    ASSERT_SAYS(&err, "v2/new/one");
    assert_null(p);
    assert_false(exists(f, "v2/new"));
    tmpdir_write(f->tmp, "v2/file", "");
    assert_int_equal(cgroup_enter_host(&f->host, "/file/a", &p, &err), -ENOTDIR);
    ASSERT_SAYS(&err, "v2/file/a");
    assert_null(p);
}

/* A process whose place is outside of what is mounted goes back to the top of it. */
static void test_home_outside(void **state) {
    struct fixture *f = *state;
    static const char *const homes[] = {"/docker/10/own", "/elsewhere", "/../x", "/docker"};
    for (size_t i = 0; i < ARRAY_SIZE(homes); i++) {
        tmpdir_write(f->tmp, "mountinfo", "");
        tmpdir_write(f->tmp, "self", "");
        make_group(f, "v2");
        make_group(f, "v2/a");
        add_hierarchy(f, "v2", "/docker/1", "", homes[i]);
        cgroup_leave(enter(f, "/a"));
        assert_file(f, "v2/cgroup.procs", "0");
    }
}

/* A hybrid host: each hierarchy by its list, mounted twice or not. */
static void test_v1(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *dir, *list;
    } all[] = {{"cpu", "cpu,cpuacct"}, {"systemd", "name=systemd"}, {"memory", "memory"}, {"unified", ""}};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        cleanup_free char *home = str_printf("%s/home%zu", all[i].dir, i), *leaf = str_printf("%s/s/c", all[i].dir);
        cleanup_free char *at = str_printf("/home%zu", i);
        make_group(f, all[i].dir);
        make_group(f, home);
        make_group(f, leaf);
        add_hierarchy(f, all[i].dir, "/", all[i].list, at);
    }
    append(f, "mountinfo", "200 1 0:200 / /proc rw - proc proc rw,cpu\n");
    struct cgroup_place *p = enter(f, "s/c");
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        cleanup_free char *procs = str_printf("%s/s/c/cgroup.procs", all[i].dir);
        assert_file(f, procs, "0");
    }
    cgroup_leave(p);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        cleanup_free char *procs = str_printf("%s/home%zu/cgroup.procs", all[i].dir, i);
        assert_file(f, procs, "0");
    }
}

/* One of several fails: a warning that names it, and nothing of it is left. */
static void test_some_fail(void **state) {
    struct fixture *f = *state;
    make_group(f, "good/c");
    make_group(f, "good");
    make_group(f, "bad");
    cleanup_free char *bad = in(f, "bad"), *log = in(f, "log"), *text = NULL;
    assert_int_equal(mount("bad", bad, "tmpfs", MS_RDONLY, "size=64k"), 0);
    add_hierarchy(f, "bad", "/", "memory", "/");
    add_hierarchy(f, "good", "/", "pids", "/");
    add_hierarchy(f, "missing", "/", "cpu", "/");
    cleanup_fd int fd = open(log, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    log_set_fd(fd);
    struct cgroup_place *p = enter(f, "/c");
    log_set_fd(2);
    assert_true(file_read_at(AT_FDCWD, log, 1 << 16, &text, NULL, NULL) >= 0);
    cleanup_free char *named = str_printf("not counted in %s", bad);
    assert_non_null(strstr(text, named));
    assert_non_null(strstr(text, "Read-only file system"));
    assert_non_null(strstr(text, "/missing"));
    assert_null(strstr(text, "/good"));
    assert_file(f, "good/c/cgroup.procs", "0");
    cgroup_leave(p);
    assert_file(f, "good/cgroup.procs", "0");
    struct err err = ERR_INIT;
    assert_int_equal(cgroup_remove_host(&f->host, "/none", &err), 0); /* read-only, and missing */

    /* None can be entered: the first one's error. */
    p = NULL;
    err = (struct err)ERR_INIT;
    assert_int_equal(cgroup_enter_host(&f->host, "/d", &p, &err), -EROFS);
    ASSERT_SAYS(&err, "bad/d");
    assert_null(p);
    assert_false(exists(f, "good/d"));
    assert_int_equal(umount2(bad, MNT_DETACH), 0);
}

static void test_none(void **state) {
    struct fixture *f = *state;
    struct cgroup_place *p = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(cgroup_enter_host(&f->host, "/a", &p, &err), -ENOENT);
    ASSERT_SAYS(&err, "no cgroup hierarchy");
    assert_int_equal(cgroup_enter_host(&f->host, "/a/..", &p, &err), -EINVAL);
    assert_int_equal(cgroup_remove_host(&f->host, "/a", &err), 0);
    /* Mounted, but this process is not listed there. */
    make_group(f, "v1x/a");
    add_hierarchy(f, "v1x", "/", "pids", "/");
    tmpdir_write(f->tmp, "self", "garbage\n3:pid:/\n4:\n0::/\n");
    err = (struct err)ERR_INIT;
    assert_int_equal(cgroup_enter_host(&f->host, "/a", &p, &err), -ENODATA);
    ASSERT_SAYS(&err, "v1x");
    /* The bound. */
    for (int i = 0; i < CGROUP_HIERARCHIES_MAX; i++)
        add_hierarchy(f, "v1x", "/", "pids", "/");
    assert_int_equal(cgroup_enter_host(&f->host, "/a", &p, &err), -E2BIG);
    assert_null(p);
}

/* Empty lists are filled in from above, on the whole way down; others are left alone. */
static void test_cpuset(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *dir, *cpus, *mems;
    } groups[] = {
        {"cpuset", "0-3\n", "0\n"}, {"cpuset/a", "\n", "\n"}, {"cpuset/a/b", "1\n", ""}, {"cpuset/a/b/c", "\n", "\n"}};
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        make_group(f, groups[i].dir);
        write_file(f, groups[i].dir, "cpuset.cpus", groups[i].cpus);
        write_file(f, groups[i].dir, "cpuset.mems", groups[i].mems);
    }
    add_hierarchy(f, "cpuset", "/", "cpuset", "/");
    cgroup_leave(enter(f, "/a/b/c"));
    assert_file(f, "cpuset/a/cpuset.cpus", "0-3\n");
    assert_file(f, "cpuset/a/cpuset.mems", "0\n");
    assert_file(f, "cpuset/a/b/cpuset.cpus", "1\n");
    assert_file(f, "cpuset/a/b/c/cpuset.cpus", "1\n");
    assert_file(f, "cpuset/a/b/c/cpuset.mems", "0\n");
    assert_file(f, "cpuset/a/b/c/cgroup.procs", "0");
    assert_file(f, "cpuset/cgroup.procs", "0");
}

/* The machine's hierarchies, as far as this process is at their top. Returns how many. */
static size_t free_hierarchies(const struct fixture *f) {
    cleanup_free char *self = NULL;
    assert_true(file_read_at(AT_FDCWD, "/proc/self/cgroup", 1 << 16, &self, NULL, NULL) >= 0);
    append(f, "self", self);
    struct mountinfo m = {0};
    struct mountinfo_entry e;
    size_t n = 0;
    assert_int_equal(mountinfo_open(MOUNTINFO_SELF, &m, NULL), 0);
    while (mountinfo_next(&m, &e)) {
        bool v2 = strcmp(e.type, "cgroup2") == 0;
        if ((!v2 && strcmp(e.type, "cgroup") != 0) || strcmp(e.mount_point, f->v1) == 0)
            continue;
        const char *last = strrchr(e.super_options, ',');
        cleanup_free char *line = v2 ? strdup("0::/\n") : str_printf(":%s:/\n", last ? last + 1 : "?");
        if (!strstr(self, line) || access(e.mount_point, W_OK) < 0)
            continue;
        cleanup_free char *entry =
            str_printf("1 1 %s %s %s rw - %s none %s\n", e.dev, e.root, e.mount_point, e.type, e.super_options);
        append(f, "mountinfo", entry);
        n++;
    }
    mountinfo_close(&m);
    return n;
}

static void test_machine(void **state) {
    struct fixture *f = *state;
    if (free_hierarchies(f) == 0)
        skip();
    char path[128], parent[64];
    snprintf(parent, sizeof(parent), "/stasis-unit-test-%d", (int)getpid());
    snprintf(path, sizeof(path), "%s/leaf", parent);
    cleanup_free char *before = NULL, *during = NULL, *after = NULL;
    assert_true(file_read_at(AT_FDCWD, "/proc/self/cgroup", 1 << 16, &before, NULL, NULL) >= 0);
    struct cgroup_place *p = enter(f, path);
    assert_true(file_read_at(AT_FDCWD, "/proc/self/cgroup", 1 << 16, &during, NULL, NULL) >= 0);
    cgroup_leave(p);
    assert_true(file_read_at(AT_FDCWD, "/proc/self/cgroup", 1 << 16, &after, NULL, NULL) >= 0);
    assert_non_null(strstr(during, path));
    assert_string_equal(before, after);
    /* Nothing is left, in any of them. */
    struct mountinfo m = {0};
    struct mountinfo_entry e;
    size_t n = 0;
    assert_int_equal(mountinfo_open(f->mountinfo, &m, NULL), 0);
    while (mountinfo_next(&m, &e)) {
        cleanup_free char *made = path_join(e.mount_point, parent);
        assert_int_equal(access(made, F_OK), -1);
        n++;
    }
    mountinfo_close(&m);
    assert_true(n > 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(test_real), TEST(test_real_home), TEST(test_real_remove), TEST(test_v2),     TEST(test_home_outside),
        TEST(test_v1),   TEST(test_some_fail), TEST(test_none),        TEST(test_cpuset), TEST(test_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
