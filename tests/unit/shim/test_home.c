/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/proc.h"
#include "oci/state.h"
#include "shim/home.h"
#include "tmpdir.h"

#define DEADLINE (20 * USEC_PER_SEC)

#define ASSERT_SAYS(err, text)                                                                                         \
    do {                                                                                                               \
        if (!strstr((err)->msg, text))                                                                                 \
            fail_msg("\"%s\" does not say \"%s\"", (err)->msg, text);                                                  \
    } while (0)

struct fixture {
    struct tmpdir *t;
    char *root; /* of the namespace */
    char *dir;  /* of the sandbox */
    char *sock; /* a path for one */
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    if (tmpdir_setup((void **)&f->t) < 0)
        return -1;
    f->root = tmpdir_path(f->t, "ns");
    f->dir = tmpdir_path(f->t, "ns/c1");
    f->sock = tmpdir_path(f->t, "s/sock");
    *state = f;
    return setenv(HOME_ROOT_ENV, f->t->path, 1);
}

static int teardown(void **state) {
    struct fixture *f = *state;
    unsetenv(HOME_ROOT_ENV);
    free(f->root);
    free(f->dir);
    free(f->sock);
    int r = tmpdir_teardown((void **)&f->t);
    free(f);
    return r;
}

static bool exists(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}

static struct home named(void) {
    struct home h = HOME_NONE;
    struct err err = ERR_INIT;
    if (home_name("ns", "c1", &h, &err) < 0)
        fail_msg("%s", err.msg);
    return h;
}

/* A process that does nothing until it is killed, at the latest with this one. */
static pid_t sleeper(uint64_t *ret_start) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        for (prctl(PR_SET_PDEATHSIG, SIGKILL);;)
            pause();
    assert_int_equal(proc_start_time(pid, ret_start), 0);
    return pid;
}

static void write_state(struct fixture *f, pid_t pid, uint64_t start) {
    struct oci_sandbox_state st = {.id = (char *)(uintptr_t) "c1", .daemon_pid = pid, .daemon_start = start};
    struct err err = ERR_INIT;
    if (oci_sandbox_state_save(f->dir, &st, &err) < 0)
        fail_msg("%s", err.msg);
}

static void age(const char *dir, time_t seconds) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct timespec times[2] = {{.tv_sec = now.tv_sec - seconds}, {.tv_sec = now.tv_sec - seconds}};
    assert_int_equal(utimensat(AT_FDCWD, dir, times, 0), 0);
}

/* ---- names ---- */

static void names(void **state) {
    struct fixture *f = *state;
    cleanup_home struct home h = named();
    assert_string_equal(h.root, f->root);
    assert_string_equal(h.id, "c1");
    assert_int_equal(h.lock_fd, -1);
    assert_false(exists(f->root));
    cleanup_home struct home other = HOME_NONE;
    assert_int_equal(unsetenv(HOME_ROOT_ENV), 0);
    assert_int_equal(home_name("k8s.io", "c1", &other, NULL), 0);
    assert_string_equal(other.root, "/run/stasis/k8s.io");
    home_close(&other);
    assert_int_equal(setenv(HOME_ROOT_ENV, "", 1), 0);
    assert_int_equal(home_name("k8s.io", "c1", &other, NULL), 0);
    assert_string_equal(other.root, "/run/stasis/k8s.io");
}

static void bad_names(void **state) {
    (void)state;
    static const struct {
        const char *namespace, *id, *root, *says;
    } cases[] = {
        {"", "c1", "/r", "namespace"},          {"..", "c1", "/r", "namespace"},
        {"a/b", "c1", "/r", "namespace"},       {"ns", "", "/r", "container id"},
        {"_cli", "c1", "/r", "namespace"},      {".ns", "c1", "/r", "namespace"},
        {"ns", "../x", "/r", "container id"},   {"ns", "c1", "r", HOME_ROOT_ENV "=r"},
        {"ns", "c1", "/r/../x", HOME_ROOT_ENV}, {"ns", "c1", "//r", HOME_ROOT_ENV},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct home h = HOME_NONE;
        struct err err = ERR_INIT;
        assert_int_equal(setenv(HOME_ROOT_ENV, cases[i].root, 1), 0);
        assert_int_equal(home_name(cases[i].namespace, cases[i].id, &h, &err), -EINVAL);
        ASSERT_SAYS(&err, cases[i].says);
        assert_null(h.root);
    }
}

/* ---- the directory ---- */

static void take(void **state) {
    struct fixture *f = *state;
    cleanup_home struct home h = named();
    struct err err = ERR_INIT;
    struct stat st;
    assert_int_equal(home_take(&h, &err), 0);
    assert_true(h.lock_fd >= 0);
    assert_int_equal(stat(f->dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(fcntl(h.lock_fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    /* ... and nobody else may, however old and empty it is. */
    age(f->dir, 3600);
    cleanup_home struct home other = named();
    assert_int_equal(home_take(&other, &err), -EEXIST);
    ASSERT_SAYS(&err, "c1");
    ASSERT_SAYS(&err, f->dir);
    assert_int_equal(other.lock_fd, -1);
    assert_true(exists(f->dir));
}

/* Between mkdir and flock of another `start`. */
static void young_is_not_taken(void **state) {
    struct fixture *f = *state;
    cleanup_home struct home h = named();
    struct err err = ERR_INIT;
    assert_int_equal(path_mkdirs(f->dir, 0700, &err), 0);
    assert_int_equal(home_take(&h, &err), -EEXIST);
    assert_true(exists(f->dir));
    age(f->dir, 60);
    assert_int_equal(home_take(&h, &err), 0);
}

/* The daemon of the directory was killed: what it left goes. */
static void left_is_taken(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    uint64_t start;
    cleanup_home struct home h = named();
    assert_int_equal(home_take(&h, &err), 0);
    tmpdir_write(f->t, "ns/c1/leftover", "x");
    pid_t pid = sleeper(&start);
    write_state(f, pid, start);
    home_close(&h);

    /* Without the lock, but alive: it is the CLI's. */
    cleanup_home struct home other = named();
    age(f->dir, 3600);
    assert_int_equal(home_take(&other, &err), -EEXIST);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(home_take(&other, &err), 0);
    cleanup_free char *leftover = tmpdir_path(f->t, "ns/c1/leftover");
    assert_false(exists(leftover));
    assert_true(exists(f->dir));
    assert_int_equal(home_daemon_pid(&other), 0);
}

/* The pid is another process's by now. */
static void another_of_that_pid(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    uint64_t start;
    pid_t pid = sleeper(&start);
    assert_int_equal(path_mkdirs(f->dir, 0700, &err), 0);
    write_state(f, pid, start + 1);
    cleanup_home struct home h = named();
    assert_int_equal(home_clear(&h, &err), 0);
    assert_false(exists(f->dir));
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_link_is_not_followed(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    cleanup_home struct home h = named();
    assert_int_equal(mkdirat(f->t->fd, "ns", 0700), 0);
    assert_int_equal(mkdirat(f->t->fd, "elsewhere", 0700), 0);
    assert_int_equal(symlinkat("../elsewhere", f->t->fd, "ns/c1"), 0);
    assert_true(home_take(&h, &err) < 0);
    assert_int_equal(home_clear(&h, &err), 0);
    cleanup_free char *elsewhere = tmpdir_path(f->t, "elsewhere");
    assert_true(exists(elsewhere));
}

static void clear(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    uint64_t start;
    int status;
    cleanup_home struct home h = named();
    /* There is nothing. */
    assert_int_equal(home_clear(&h, &err), 0);
    assert_int_equal(home_daemon_pid(&h), 0);
    assert_int_equal(path_mkdirs(f->dir, 0700, &err), 0);
    /* A daemon that hangs. */
    pid_t pid = sleeper(&start);
    write_state(f, pid, start);
    tmpdir_write(f->t, "ns/c1/log", "x");
    assert_int_equal(home_daemon_pid(&h), pid);
    assert_int_equal(home_clear(&h, &err), 0);
    assert_false(exists(f->dir));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    /* The namespace's directory is others' too. */
    assert_true(exists(f->root));
    assert_int_equal(path_mkdirs(f->dir, 0700, &err), 0);
    tmpdir_write(f->t, "ns/c1/state.json", "{\"damaged\":");
    assert_int_equal(home_daemon_pid(&h), 0);
    assert_int_equal(home_clear(&h, &err), 0);
    assert_false(exists(f->dir));
}

static void link_socket(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    cleanup_home struct home h = named();
    char to[64];
    assert_int_equal(home_take(&h, &err), 0);
    assert_int_equal(home_link_socket(&h, "/run/containerd/s/x", &err), 0);
    cleanup_free char *link = tmpdir_path(f->t, "ns/c1/api.sock");
    ssize_t n = readlink(link, to, sizeof(to));
    assert_int_equal(n, strlen("/run/containerd/s/x"));
    assert_memory_equal(to, "/run/containerd/s/x", (size_t)n);
    assert_int_equal(home_link_socket(&h, "/other", &err), -EEXIST);
    ASSERT_SAYS(&err, "/other");
}

/* ---- sockets ---- */

static void socket_path(void **state) {
    (void)state;
    assert_string_equal(home_socket_path("unix:///a/b"), "/a/b");
    assert_string_equal(home_socket_path("/a/b"), "/a/b");
}

static void listens(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    cleanup_free char *address = str_printf("unix://%s", f->sock);
    struct stat st;
    mode_t mask = umask(0);
    int fd = home_listen(address, &err);
    assert_int_equal(umask(mask), 0); /* as it was */
    if (fd < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(stat(f->sock, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0600);
    cleanup_free char *dir = tmpdir_path(f->t, "s");
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0711);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);

    int client = home_connect(address, &err);
    assert_true(client >= 0);
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(peer >= 0);
    close(peer);
    close(client);
    /* Served: by either form of the address. */
    assert_int_equal(home_listen(f->sock, &err), -EADDRINUSE);
    ASSERT_SAYS(&err, f->sock);
    assert_int_equal(home_listen(address, &err), -EADDRINUSE);
    assert_true(exists(f->sock));
    /* Its daemon was killed. */
    close(fd);
    assert_true(exists(f->sock));
    assert_int_equal(home_connect(address, &err), -ECONNREFUSED);
    fd = home_listen(address, &err);
    assert_true(fd >= 0);
    client = home_connect(address, &err);
    assert_true(client >= 0);
    close(client);
    close(fd);
}

/* Whoever serves it may be slow for a moment: its queue is full. It is not to be replaced. */
static void served_by_a_slow_one(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int clients[8], n = 0, r = 0;
    assert_int_equal(mkdirat(f->t->fd, "s", 0700), 0);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", f->sock);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 0), 0);
    while (n < (int)ARRAY_SIZE(clients) && (r = home_connect(f->sock, &err)) >= 0)
        clients[n++] = r;
    assert_int_equal(r, -EAGAIN);
    assert_int_equal(home_listen(f->sock, &err), -EADDRINUSE);
    assert_true(exists(f->sock));
    while (n > 0)
        close(clients[--n]);
    close(fd);
}

static void not_a_socket(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char path[200];
    assert_int_equal(mkdirat(f->t->fd, "s", 0700), 0);
    /* A directory stays. */
    assert_int_equal(mkdirat(f->t->fd, "s/sock", 0700), 0);
    assert_int_equal(home_listen(f->sock, &err), -EADDRINUSE);
    assert_true(exists(f->sock));
    assert_true(home_connect(f->sock, &err) < 0);
    memset(path, 'x', sizeof(path) - 1);
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(home_listen(path, &err), -EINVAL);
    assert_int_equal(home_connect(path, &err), -EINVAL);
    assert_int_equal(home_listen("unix://s", &err), -EINVAL);
    assert_int_equal(home_connect("", &err), -EINVAL);
    assert_int_equal(home_connect("unix:///nonexistent/s", &err), -ENOENT);
    ASSERT_SAYS(&err, "/nonexistent/s");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(names),
        TEST(bad_names),
        TEST(take),
        TEST(young_is_not_taken),
        TEST(left_is_taken),
        TEST(another_of_that_pid),
        TEST(a_link_is_not_followed),
        TEST(clear),
        TEST(link_socket),
        TEST(socket_path),
        TEST(listens),
        TEST(served_by_a_slow_one),
        TEST(not_a_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
