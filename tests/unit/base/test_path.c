/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <sys/mount.h>
#include <sys/resource.h>

#include "tmpdir.h"

static void ids(void **state) {
    (void)state;
    static const char *const good[] = {"a", "A-Z_0.9+x", "..a", "_", "...", "+"};
    static const char *const bad[] = {"",    ".",   "..",       "-a",  "a/b", "../x",
                                      "a b", "a\n", "\xc3\xa4", "a,b", "a=b", "a:b"};
    struct err e = ERR_INIT;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_int_equal(id_validate("container id", good[i], &e), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(id_validate("container id", bad[i], &e), -EINVAL);
    assert_int_equal(id_validate("exec id", NULL, &e), -EINVAL);
    assert_string_equal(e.msg, "invalid exec id: it is empty");

    char id[ID_MAX + 2];
    memset(id, 'x', sizeof(id));
    id[ID_MAX] = '\0';
    assert_int_equal(id_validate("id", id, &e), 0);
    id[ID_MAX] = 'x';
    id[ID_MAX + 1] = '\0';
    assert_int_equal(id_validate("id", id, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "longer than 128 bytes"));
}

static void join(void **state) {
    (void)state;
    static const char *const cases[][3] = {{"/a", "b", "/a/b"}, {"/a/", "/b", "/a/b"}, {"/a//", "//b/c", "/a/b/c"},
                                           {"/", "b", "/b"},    {"a", "b", "a/b"},     {"/a", "", "/a/"}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_free char *p = path_join(cases[i][0], cases[i][1]);
        assert_string_equal(p, cases[i][2]);
    }
}

static void normal(void **state) {
    (void)state;
    static const char *const good[] = {"/", "/a", "/a/b", "/...", "/.a", "/a..b", "/..a"};
    static const char *const bad[] = {"",      "a",  "./a", "//",   "//a",     "/a/",
                                      "/a//b", "/.", "/..", "/a/.", "/a/../b", "/./a"};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(path_is_normal(good[i]));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(path_is_normal(bad[i]));
    assert_false(path_is_normal(NULL));
}

static void make_link(const struct tmpdir *t, const char *target, const char *name) {
    assert_int_equal(symlinkat(target, t->fd, name), 0);
}

static void open_beneath_stays(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    assert_int_equal(mkdirat(t->fd, "d", 0700), 0);
    tmpdir_write(t, "d/f", "x");
    make_link(t, "d", "ld");
    make_link(t, "d/f", "lf");
    make_link(t, "/etc/passwd", "abs");
    make_link(t, "../../../../etc/passwd", "dots");

    static const char *const good[] = {"d/f", "/d/f", "//d//f", "d/../d/f", "d/./f"};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        cleanup_fd int fd = path_open_beneath(t->fd, good[i], O_RDONLY, 0, &e);
        assert_true(fd >= 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    }
    static const struct {
        const char *path;
        int r;
    } bad[] = {{"lf", -ELOOP},   {"ld/f", -ELOOP},    {"abs", -ELOOP},   {"dots", -ELOOP},   {"..", -EXDEV},
               {"../x", -EXDEV}, {"d/../..", -EXDEV}, {"none", -ENOENT}, {"d/f/g", -ENOTDIR}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(path_open_beneath(t->fd, bad[i].path, O_RDONLY, 0, &e), bad[i].r);
        assert_non_null(strstr(e.msg, bad[i].path));
    }
    cleanup_fd int top = path_open_beneath(t->fd, "/", O_PATH, 0, &e);
    assert_true(top >= 0);
    cleanup_fd int made = path_open_beneath(t->fd, "d/new", O_WRONLY | O_CREAT, 0640, &e);
    struct stat st;
    assert_int_equal(fstat(made, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    /* creating through a link to nowhere would make a file outside */
    make_link(t, "../escaped", "trap");
    assert_int_equal(path_open_beneath(t->fd, "trap", O_WRONLY | O_CREAT, 0600, &e), -ELOOP);
}

static void magic_links_are_refused(void **state) {
    (void)state;
    cleanup_fd int proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(path_open_beneath(proc, "cwd", O_RDONLY, 0, NULL), -ELOOP);
    assert_int_equal(path_open_beneath(proc, "root/etc", O_RDONLY, 0, NULL), -ELOOP);
}

static void mkdirs(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    struct stat st;
    cleanup_free char *p = tmpdir_path(t, "a/b/c");
    assert_int_equal(path_mkdirs(p, 0750, &e), 0);
    assert_int_equal(path_mkdirs(p, 0700, &e), 0);
    assert_int_equal(stat(p, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0750);
    cleanup_free char *slash = tmpdir_path(t, "a/s//t/");
    assert_int_equal(path_mkdirs(slash, 0700, &e), 0);
    assert_int_equal(path_mkdirs("/", 0700, &e), 0);

    tmpdir_write(t, "f", "");
    cleanup_free char *file = tmpdir_path(t, "f"), *below = tmpdir_path(t, "f/x");
    assert_int_equal(path_mkdirs(file, 0700, &e), -ENOTDIR);
    assert_int_equal(path_mkdirs(below, 0700, &e), -ENOTDIR);
    assert_int_equal(path_mkdirs("", 0700, &e), -ENOENT);
}

static void mkdirs_beneath(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    assert_int_equal(mkdirat(t->fd, "d", 0700), 0);
    make_link(t, "d", "link");
    make_link(t, "/tmp", "out");
    cleanup_fd int fd = path_mkdirs_beneath(t->fd, "x//y/z", 0700, &e);
    assert_true(fd >= 0);
    struct stat a, b;
    assert_int_equal(fstat(fd, &a), 0);
    assert_int_equal(fstatat(t->fd, "x/y/z", &b, 0), 0);
    assert_true(a.st_ino == b.st_ino);
    assert_int_equal(path_mkdirs_beneath(t->fd, "link/q", 0700, &e), -ELOOP);
    assert_int_equal(path_mkdirs_beneath(t->fd, "out/q", 0700, &e), -ELOOP);
    assert_int_equal(path_mkdirs_beneath(t->fd, "x/../../q", 0700, &e), -EXDEV);
    tmpdir_write(t, "f", "");
    assert_int_equal(path_mkdirs_beneath(t->fd, "f/q", 0700, &e), -ENOTDIR);
    cleanup_fd int top = path_mkdirs_beneath(t->fd, "", 0700, &e);
    assert_true(top >= 0);
}

static void remove_tree_removes_everything(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int d = path_mkdirs_beneath(t->fd, "x/a/b", 0700, &e);
    assert_int_equal(mknodat(d, "fifo", S_IFIFO | 0600, 0), 0);
    tmpdir_write(t, "x/a/f", "1");
    tmpdir_write(t, "keep", "1");
    assert_int_equal(symlinkat("../../keep", d, "to-file"), 0);
    assert_int_equal(symlinkat("/etc", d, "to-dir"), 0);
    assert_int_equal(path_remove_tree(t->fd, "x", &e), 0);
    assert_int_equal(faccessat(t->fd, "x", F_OK, AT_SYMLINK_NOFOLLOW), -1);
    assert_int_equal(faccessat(t->fd, "keep", F_OK, 0), 0);
    assert_int_equal(access("/etc/passwd", F_OK), 0);
    assert_int_equal(path_remove_tree(t->fd, "x", &e), 0);
    assert_int_equal(path_remove_tree(t->fd, "none/x", &e), 0);
    /* a link by itself, not what it points to */
    make_link(t, "keep", "l");
    assert_int_equal(path_remove_tree(t->fd, "l", &e), 0);
    assert_int_equal(faccessat(t->fd, "keep", F_OK, 0), 0);
}

static void remove_tree_stops_at_mounts(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int d = path_mkdirs_beneath(t->fd, "x/m", 0700, &e);
    cleanup_free char *m = tmpdir_path(t, "x/m");
    if (mount("tmpfs", m, "tmpfs", 0, "size=64k") < 0)
        skip(); /* no permission to mount here */
    tmpdir_write(t, "x/m/precious", "1");
    assert_int_equal(path_remove_tree(t->fd, "x", &e), -EXDEV);
    assert_non_null(strstr(e.msg, "something is mounted there"));
    assert_int_equal(faccessat(t->fd, "x/m/precious", F_OK, 0), 0);
    d = fd_close(d);
    assert_int_equal(umount(m), 0);
}

/* A guest may build a tree as deep as it likes: it is removed with a bounded number of directories open. */
static void deep_trees_go_as_well(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    int at = openat(t->fd, ".", O_PATH | O_CLOEXEC);
    for (int i = 0; i < 1500; i++) {
        assert_int_equal(mkdirat(at, "d", 0700), 0);
        assert_int_equal(mkdirat(at, ".deep-0", 0700), 0); /* a name that is used for what is moved */
        int file = openat(at, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(file >= 0);
        close(file);
        int next = openat(at, "d", O_PATH | O_CLOEXEC);
        close(at);
        at = next;
    }
    close(at);
    struct rlimit before, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = (struct rlimit){.rlim_cur = 300, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    if (path_remove_tree(t->fd, "d", &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(faccessat(t->fd, "d", F_OK, AT_SYMLINK_NOFOLLOW), -1);
}

static void own_dir(void **state) {
    (void)state;
    cleanup_free char *dir = NULL;
    assert_int_equal(path_own_dir(&dir, NULL), 0);
    assert_true(path_is_normal(dir));
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    exe[n] = '\0';
    assert_memory_equal(exe, dir, strlen(dir));
    assert_null(strchr(exe + strlen(dir) + 1, '/'));
}

#define T(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids),
        cmocka_unit_test(join),
        cmocka_unit_test(normal),
        T(open_beneath_stays),
        cmocka_unit_test(magic_links_are_refused),
        T(mkdirs),
        T(mkdirs_beneath),
        T(remove_tree_removes_everything),
        T(remove_tree_stops_at_mounts),
        T(deep_trees_go_as_well),
        cmocka_unit_test(own_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
