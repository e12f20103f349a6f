/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "snapshot/store.h"
#include "support.h"

#define cleanup_store CLEANUP(store_close)

static struct store open_store(const struct tmpdir *t) {
    cleanup_free char *dir = tmpdir_path(t, "store");
    struct store s = {.fd = -1};
    struct err e = ERR_INIT;
    assert_int_equal(store_open(dir, true, &s, &e), 0);
    return s;
}

static void put_file(int dirfd, const char *name) {
    cleanup_fd int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "x", 1), 1);
}

static void make(const struct store *s, const char *name) {
    struct err e = ERR_INIT;
    cleanup_free char *tmp = NULL;
    cleanup_fd int fd = -1;
    assert_int_equal(store_begin(s, name, &fd, &tmp, &e), 0);
    put_file(fd, "manifest.json");
    assert_int_equal(store_commit(s, tmp, name, true, &e), 0);
}

/* All names in the store, hidden ones too. */
static unsigned entries(const struct store *s) {
    cleanup_dir DIR *d = opendir(s->dir);
    struct dirent *e;
    unsigned n = 0;
    while ((e = readdir(d)))
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    return n;
}

static bool there(const struct store *s, const char *name) {
    struct stat st;
    return fstatat(s->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void open_makes_it_private(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    struct store s = {.fd = -1};
    struct stat st;
    cleanup_free char *dir = tmpdir_path(t, "a/b/store"), *parent = tmpdir_path(t, "a");
    assert_int_equal(store_open(dir, false, &s, &e), -ENOENT);
    assert_non_null(strstr(e.msg, dir));
    assert_false(there(&(struct store){.fd = t->fd}, "a"));
    assert_int_equal(store_open(dir, true, &s, &e), 0);
    assert_int_equal(fstat(s.fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(stat(parent, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_string_equal(s.dir, dir);
    store_close(&s);
    store_close(&s);
    assert_int_equal(store_open(dir, true, &s, &e), 0);
    store_close(&s);
    store_close(&(struct store){0});
}

static void another_users_store_is_refused(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    struct store s = {.fd = -1};
    cleanup_free char *dir = tmpdir_path(t, "store");
    assert_int_equal(mkdir(dir, 0700), 0);
    static const mode_t bad[] = {0720, 0702, 0777, 01777};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(chmod(dir, bad[i]), 0);
        assert_int_equal(store_open(dir, true, &s, &e), -EPERM);
        assert_non_null(strstr(e.msg, dir));
    }
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(store_open(dir, false, &s, &e), 0);
    store_close(&s);
    assert_int_equal(chown(dir, 12345, 0), 0);
    assert_int_equal(store_open(dir, false, &s, &e), -EPERM);
    tmpdir_write(t, "file", "x");
    cleanup_free char *file = tmpdir_path(t, "file");
    assert_int_equal(store_open(file, true, &s, &e), -ENOTDIR);
}

static void names_are_checked(void **state) {
    struct tmpdir *t = *state;
    cleanup_store struct store s = open_store(t);
    static const char *const bad[] = {"", ".", "..", "a/b", "../x", ".new-x-abcdef", ".hidden", "-x", "a b"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct err e = ERR_INIT;
        int fd = -1;
        char *tmp = NULL;
        assert_int_equal(store_begin(&s, bad[i], &fd, &tmp, &e), -EINVAL);
        assert_int_equal(store_commit(&s, ".new-a-123456", bad[i], true, &e), -EINVAL);
        assert_int_equal(store_use(&s, bad[i], &fd, &e), -EINVAL);
        assert_int_equal(store_remove(&s, bad[i], &e), -EINVAL);
        assert_int_equal(fd, -1);
        assert_null(tmp);
    }
    assert_int_equal(entries(&s), 0);
    make(&s, "a");
    struct err e = ERR_INIT;
    assert_int_equal(store_commit(&s, "a", "b", true, &e), -EINVAL);
    store_abort(&s, "a");
    assert_true(there(&s, "a"));
}

static void one_is_visible_when_it_is_whole(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_store struct store s = open_store(t);
    cleanup_free char *tmp = NULL;
    cleanup_fd int fd = -1;
    int used = -1;
    assert_int_equal(store_begin(&s, "one", &fd, &tmp, &e), 0);
    assert_int_equal(strncmp(tmp, ".new-one-", 9), 0);
    put_file(fd, "f");
    cleanup_strv struct strv names = {0};
    assert_int_equal(store_list(&s, &names, &e), 0);
    assert_int_equal(names.n, 0);
    assert_int_equal(store_use(&s, "one", &used, &e), -ENOENT);
    assert_non_null(strstr(e.msg, "there is no snapshot one in "));
    assert_int_equal(store_commit(&s, tmp, "one", true, &e), 0);
    /* The maker still holds it. */
    assert_int_equal(store_remove(&s, "one", &e), -EBUSY);
    assert_int_equal(store_use(&s, "one", &used, &e), -EBUSY);
    assert_int_equal(flock(fd, LOCK_SH), 0);
    assert_int_equal(store_use(&s, "one", &used, &e), 0);
    assert_int_equal(faccessat(used, "f", F_OK, 0), 0);
    fd_close(used);
    assert_int_equal(entries(&s), 1);
}

static void abort_leaves_nothing(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_store struct store s = open_store(t);
    cleanup_free char *tmp = NULL;
    cleanup_fd int fd = -1;
    assert_int_equal(store_begin(&s, "one", &fd, &tmp, &e), 0);
    assert_int_equal(mkdirat(fd, "roots", 0700), 0);
    put_file(fd, "roots/f");
    store_abort(&s, tmp);
    assert_int_equal(entries(&s), 0);
    store_abort(&s, tmp);
    assert_int_equal(store_commit(&s, tmp, "one", true, &e), -ENOENT);
}

static void names_are_taken_once(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_store struct store s = open_store(t);
    cleanup_free char *first = NULL, *second = NULL, *third = NULL;
    cleanup_fd int fd1 = -1, fd2 = -1, fd3 = -1;
    assert_int_equal(store_begin(&s, "one", &fd1, &first, &e), 0);
    assert_int_equal(store_begin(&s, "one", &fd2, &second, &e), 0);
    assert_int_equal(store_commit(&s, second, "one", true, &e), 0);
    assert_int_equal(store_commit(&s, first, "one", true, &e), -EEXIST);
    assert_non_null(strstr(e.msg, "there is a snapshot one in "));
    assert_true(there(&s, first));
    assert_int_equal(store_begin(&s, "one", &fd3, &third, &e), -EEXIST);
    assert_null(third);
}

static void locks_keep_it(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_store struct store s = open_store(t);
    make(&s, "one");
    int a = -1, b = -1;
    assert_int_equal(store_use(&s, "one", &a, &e), 0);
    assert_int_equal(store_use(&s, "one", &b, &e), 0);
    assert_int_equal(store_remove(&s, "one", &e), -EBUSY);
    assert_string_equal(e.msg, "snapshot one is in use");
    fd_close(a);
    assert_int_equal(store_remove(&s, "one", &e), -EBUSY);
    fd_close(b);
    assert_int_equal(store_remove(&s, "one", &e), 0);
    assert_int_equal(entries(&s), 0);
    assert_int_equal(store_remove(&s, "one", &e), -ENOENT);
    assert_int_equal(store_use(&s, "one", &a, &e), -ENOENT);
}

/* A maker and a remover that were killed; one that lives is left alone. */
static void leftovers_are_swept(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_store struct store s = open_store(t);
    int p[2], status;
    char c;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct store mine = open_store(t);
        char *tmp;
        int fd;
        if (store_begin(&mine, "dead", &fd, &tmp, NULL) < 0 || mkdirat(fd, "roots", 0700) < 0 ||
            write(p[1], "x", 1) < 0)
            _exit(1);
        pause();
        _exit(1);
    }
    assert_int_equal(read(p[0], &c, 1), 1);
    cleanup_free char *mine = NULL, *next = NULL, *last = NULL;
    cleanup_fd int fd = -1, fd2 = -1, fd3 = -1;
    assert_int_equal(store_begin(&s, "mine", &fd, &mine, &e), 0);
    assert_int_equal(entries(&s), 2);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WTERMSIG(status), SIGKILL);
    assert_int_equal(mkdirat(s.fd, ".old-gone-abcdef", 0700), 0);
    assert_int_equal(mkdirat(s.fd, ".other", 0700), 0);
    assert_int_equal(store_begin(&s, "next", &fd2, &next, &e), 0);
    assert_int_equal(entries(&s), 3);
    assert_true(there(&s, mine) && there(&s, next) && there(&s, ".other"));
    assert_int_equal(store_begin(&s, "last", &fd3, &last, &e), 0);
    assert_int_equal(entries(&s), 4);
    close(p[0]);
    close(p[1]);
}

/* Many makers at once: each has its own directory until it commits, whoever sweeps; one name is taken once. */
static void makers_do_not_sweep_each_other(void **state) {
    struct tmpdir *t = *state;
    enum { MAKERS = 8, ROUNDS = 20 };
    cleanup_store struct store s = open_store(t);
    pid_t pids[MAKERS];
    for (unsigned i = 0; i < MAKERS; i++) {
        pids[i] = fork();
        if (pids[i] != 0)
            continue;
        struct store mine = open_store(t);
        for (unsigned k = 0; k < ROUNDS; k++) {
            struct err e = ERR_INIT;
            char name[32], *tmp;
            int fd;
            snprintf(name, sizeof(name), "n%u-%u", i, k);
            if (store_begin(&mine, name, &fd, &tmp, &e) < 0 || mkdirat(fd, "roots", 0700) < 0 ||
                (k % 2 ? renameat2(mine.fd, tmp, mine.fd, name, RENAME_NOREPLACE) : (store_abort(&mine, tmp), 0)) < 0)
                _exit(1);
            fd_close(fd);
        }
        _exit(0);
    }
    for (unsigned i = 0; i < MAKERS; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(entries(&s), MAKERS * ROUNDS / 2);
}

/* A user that opened it just before it was removed must not stand on what is going. */
static void use_and_remove_race(void **state) {
    struct tmpdir *t = *state;
    cleanup_store struct store s = open_store(t);
    for (unsigned round = 0; round < 30; round++) {
        make(&s, "one");
        pid_t pid = fork();
        if (pid == 0) {
            struct store mine = open_store(t);
            int r;
            while ((r = store_remove(&mine, "one", NULL)) == -EBUSY)
                ;
            _exit(r == 0 ? 0 : 1);
        }
        struct err e = ERR_INIT;
        int fd = -1, r = store_use(&s, "one", &fd, &e);
        assert_true(r == 0 || r == -ENOENT);
        if (r == 0)
            assert_int_equal(faccessat(fd, "manifest.json", F_OK, 0), 0);
        fd_close(fd);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    assert_int_equal(entries(&s), 0);
}

static void list_is_sorted_and_knows_what_is_one(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_store struct store s = open_store(t);
    make(&s, "b");
    make(&s, "a10");
    make(&s, "a1");
    put_file(s.fd, "file");
    assert_int_equal(symlinkat("a1", s.fd, "link"), 0);
    assert_int_equal(mkdirat(s.fd, "not valid", 0700), 0);
    assert_int_equal(mkdirat(s.fd, ".hidden", 0700), 0);
    cleanup_strv struct strv names = {0};
    assert_int_equal(store_list(&s, &names, &e), 0);
    assert_int_equal(names.n, 3);
    assert_string_equal(names.v[0], "a1");
    assert_string_equal(names.v[1], "a10");
    assert_string_equal(names.v[2], "b");
    int fd = -1;
    assert_int_equal(store_use(&s, "link", &fd, &e), -ENOTDIR);
    assert_int_equal(store_remove(&s, "file", &e), -ENOTDIR);
    assert_true(there(&s, "file"));
}

static void no_room_is_an_error(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    assert_int_equal(mount(NULL, t->path, NULL, MS_REMOUNT, "size=1m,nr_inodes=2"), 0);
    cleanup_store struct store s = open_store(t);
    int fd = -1;
    char *tmp = NULL;
    assert_int_equal(store_begin(&s, "one", &fd, &tmp, &e), -ENOSPC);
    assert_non_null(strstr(e.msg, "/store/.new-one-"));
    assert_int_equal(entries(&s), 0);
}

static void read_only_is_an_error(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_store struct store s = open_store(t);
    make(&s, "one");
    assert_int_equal(mount(NULL, t->path, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    int fd = -1;
    char *tmp = NULL;
    assert_int_equal(store_begin(&s, "two", &fd, &tmp, &e), -EROFS);
    assert_int_equal(store_remove(&s, "one", &e), -EROFS);
    assert_int_equal(store_use(&s, "one", &fd, &e), 0);
    fd_close(fd);
}

int main(void) {
#define WITH_DIR(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)
#define WITH_SMALL(f) cmocka_unit_test_setup_teardown(f, small_setup, small_teardown)
    const struct CMUnitTest tests[] = {
        WITH_DIR(open_makes_it_private),
        WITH_DIR(another_users_store_is_refused),
        WITH_DIR(names_are_checked),
        WITH_DIR(one_is_visible_when_it_is_whole),
        WITH_DIR(abort_leaves_nothing),
        WITH_DIR(names_are_taken_once),
        WITH_DIR(locks_keep_it),
        WITH_DIR(leftovers_are_swept),
        WITH_DIR(makers_do_not_sweep_each_other),
        WITH_SMALL(use_and_remove_race),
        WITH_DIR(list_is_sorted_and_knows_what_is_one),
        WITH_SMALL(no_room_is_an_error),
        WITH_SMALL(read_only_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
