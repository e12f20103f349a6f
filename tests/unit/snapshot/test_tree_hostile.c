/* SPDX-License-Identifier: Apache-2.0 */
/* Trees that somebody made to do harm, or changes while they are copied. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "trees.h"

static int count_fds(void) {
    cleanup_dir DIR *d = opendir("/proc/self/fd");
    int n = 0;
    while (readdir(d))
        n++;
    return n;
}

/* Directories one in the other; the last one's fd. */
static int make_deep(int top, unsigned depth) {
    int fd = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (unsigned i = 0; i < depth; i++) {
        assert_int_equal(mkdirat(fd, "d", 0755), 0);
        int next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(fd);
        fd = next;
    }
    return fd;
}

static void depth_has_a_bound(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int src = tree_dir(t, "src"), dst = tree_dir(t, "dst"), dst2 = tree_dir(t, "dst2");
    struct tree_totals totals;
    /* The usual limit of a process must do. */
    struct rlimit old, usual = {.rlim_cur = 1024, .rlim_max = 1024};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    usual.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
    int before = count_fds();
    cleanup_fd int last = make_deep(src, TREE_DEPTH_MAX - 1);
    assert_int_equal(tree_copy(src, dst, NULL, &totals, &e), 0);
    assert_int_equal(totals.entries, TREE_DEPTH_MAX - 1);
    assert_int_equal(mkdirat(last, "d", 0755), 0);
    assert_int_equal(tree_copy(src, dst2, NULL, NULL, &e), -ELOOP);
    assert_int_equal(strncmp(e.msg, "./d/d/d/", 8), 0);
    assert_int_equal(tree_digest(src, &totals, &e), -ELOOP);
    last = fd_close(last);
    assert_int_equal(count_fds(), before);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

static void a_large_directory(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    enum { N = 100000 };
    /* In memory: 200000 files on a disk that others use take minutes. */
    assert_int_equal(mount(NULL, t->path, NULL, MS_REMOUNT, "size=1g,nr_inodes=0"), 0);
    cleanup_fd int src = tree_dir(t, "src"), dst = tree_dir(t, "dst");
    struct tree_totals totals;
    for (unsigned i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof(name), "%u", i * 7919 % N);
        assert_int_equal(mknodat(src, name, S_IFREG | 0600, 0), 0);
    }
    assert_int_equal(tree_copy(src, dst, NULL, &totals, &e), 0);
    assert_int_equal(totals.entries, N);
}

static void a_mount_is_not_entered(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int src = tree_dir(t, "src"), dst = tree_dir(t, "dst");
    struct tree_totals totals;
    assert_int_equal(mkdirat(src, "m", 0755), 0);
    cleanup_free char *path = tmpdir_path(t, "src/m");
    assert_int_equal(mount("x", path, "tmpfs", 0, NULL), 0);
    int r = tree_copy(src, dst, NULL, NULL, &e), r2 = tree_digest(src, &totals, NULL);
    assert_int_equal(umount2(path, MNT_DETACH), 0);
    assert_int_equal(r, -EXDEV);
    assert_string_equal(e.msg, "./m: something is mounted there");
    assert_int_equal(r2, -EXDEV);
}

static void large_attributes(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int src = tree_dir(t, "src"), dst = tree_dir(t, "dst");
    cleanup_free char *value = malloc(65536), *back = malloc(65536), *from = tmpdir_path(t, "src/f"),
                      *to = tmpdir_path(t, "dst/f");
    memset(value, 'v', 65536);
    tree_file(src, "f", "x");
    /* As large as this file system takes, and many. */
    size_t size = 65536;
    while (size && setxattr(from, "user.big", value, size, 0) < 0)
        size /= 2;
    assert_true(size >= 1024);
    unsigned n = 0;
    for (char name[32]; n < 100; n++) {
        snprintf(name, sizeof(name), "user.n%u", n);
        if (setxattr(from, name, "1", 1, 0) < 0)
            break;
    }
    struct tree_totals copied, source;
    assert_int_equal(tree_copy(src, dst, NULL, &copied, &e), 0);
    assert_int_equal(getxattr(to, "user.big", back, 65536), size);
    assert_memory_equal(back, value, size);
    assert_int_equal(tree_digest(src, &source, &e), 0);
    assert_true(tree_same(&copied, &source));
}

static void attributes_without_room(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int src = tree_dir(t, "src");
    cleanup_fd int dst = open("/proc/self/fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    tree_file(src, "f", "x");
    /* Where nothing can be made at all. */
    assert_true(tree_copy(src, dst, NULL, NULL, &e) < 0);
    assert_non_null(strstr(e.msg, "cannot create the copy of ./f"));
}

/* Somebody swaps a file, a link to a file outside, a FIFO and a directory for each other all the time. Nothing from
 * outside may get in, nothing may hang, and whatever comes must be the name's, or an error. */
static pid_t swapper(int src) {
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (symlinkat("../secret", src, "link") < 0 || symlinkat("../secretdir", src, "dirlink") < 0)
        _exit(1);
    (void)mkfifoat(src, "fifo", 0600);
    tree_file(src, "plain", "plain");
    (void)mkdirat(src, "dir", 0755);
    tree_file(src, "dir/inner", "plain");
    for (;;) {
        static const char *const names[] = {"link", "dirlink", "fifo", "plain", "dir"};
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
            (void)renameat2(src, names[i], src, "victim", RENAME_EXCHANGE);
    }
}

static void assert_no_secret(int dirfd) {
    int own = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_dir DIR *d = fdopendir(own);
    struct dirent *de;
    while ((de = readdir(d))) {
        struct stat st;
        assert_true(strcmp(de->d_name, "inside-secret") != 0);
        assert_int_equal(fstatat(dirfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW), 0);
        if (!S_ISREG(st.st_mode))
            continue;
        cleanup_free char *text = NULL;
        assert_int_equal(file_read_at(dirfd, de->d_name, 100, &text, NULL, NULL), 0);
        assert_string_not_equal(text, "secret");
    }
}

static void swapped_entries(void **state) {
    struct tmpdir *t = *state;
    cleanup_fd int src = tree_dir(t, "src"), secretdir = tree_dir(t, "secretdir");
    tmpdir_write(t, "secret", "secret");
    tree_file(secretdir, "inside-secret", "secret");
    tree_file(src, "victim", "plain");
    pid_t pid = swapper(src);
    unsigned good = 0;
    uint64_t end = now_usec() + 2 * USEC_PER_SEC;
    for (unsigned i = 0; now_usec() < end; i++) {
        struct err e = ERR_INIT;
        char name[16];
        struct tree_totals totals;
        snprintf(name, sizeof(name), "dst%u", i);
        cleanup_fd int dst = tree_dir(t, name);
        int r = tree_copy(src, dst, NULL, i % 2 ? &totals : NULL, &e);
        assert_true(r == 0 || e.code == -r);
        good += r == 0;
        assert_no_secret(dst);
        assert_int_equal(path_remove_tree(t->fd, name, NULL), 0);
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(good > 0);
}

/* A file that grows and shrinks, and names that come and go. */
static void a_tree_that_moves(void **state) {
    struct tmpdir *t = *state;
    cleanup_fd int src = tree_dir(t, "src");
    for (unsigned i = 0; i < 50; i++) {
        char name[16];
        snprintf(name, sizeof(name), "f%u", i);
        tree_file(src, name, "text");
    }
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int fd = openat(src, "f0", O_RDWR | O_CLOEXEC);
        for (unsigned i = 0;; i++) {
            char name[16];
            snprintf(name, sizeof(name), "f%u", 1 + i % 49);
            (void)!ftruncate(fd, i % 2 ? 3 << 20 : 10);
            (void)unlinkat(src, name, 0);
            tree_file(src, name, "text");
        }
    }
    uint64_t end = now_usec() + USEC_PER_SEC;
    for (unsigned i = 0; now_usec() < end; i++) {
        struct err e = ERR_INIT;
        char name[16];
        snprintf(name, sizeof(name), "dst%u", i);
        cleanup_fd int dst = tree_dir(t, name);
        struct tree_totals totals;
        assert_int_equal(tree_copy(src, dst, NULL, &totals, &e), 0);
        assert_int_equal(path_remove_tree(t->fd, name, NULL), 0);
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void) {
#define WITH_DIR(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)
    const struct CMUnitTest tests[] = {
        WITH_DIR(depth_has_a_bound),
        cmocka_unit_test_setup_teardown(a_large_directory, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(a_mount_is_not_entered, small_setup, small_teardown),
        WITH_DIR(large_attributes),
        WITH_DIR(attributes_without_room),
        WITH_DIR(swapped_entries),
        WITH_DIR(a_tree_that_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
