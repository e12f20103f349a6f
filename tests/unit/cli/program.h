/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the stasis program itself, with mock_daemon.c in place of the sandbox daemon. STASIS and MOCK are the paths of
 * the two programs. */
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "base/proc.h"
#include "oci/state.h"
#include "support.h"
#include "tmpdir.h"

#define ARGS_MAX 32

struct program {
    struct tmpdir *dir;
    char *stasis, *root; /* the program and its --root */
};

static inline void program_copy(const char *from, const char *to) {
    char *argv[] = {(char *)"cp", (char *)from, (char *)(uintptr_t)to, NULL};
    struct proc_spec spec = {.path = "cp", .argv = argv};
    assert_int_equal(proc_run(&spec, TEST_DEADLINE, NULL), 0);
}

static inline int program_setup(void **state) {
    struct program *p = calloc(1, sizeof(*p));
    void *dir = NULL;
    /* Monitors and daemons end up here, as with conmon. */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || tmpdir_setup(&dir) < 0)
        return -1;
    p->dir = dir;
    cleanup_free char *daemon = tmpdir_path(p->dir, "containerd-shim-stasis-v2");
    cleanup_free char *rootfs = tmpdir_path(p->dir, "rootfs");
    p->stasis = tmpdir_path(p->dir, "stasis");
    p->root = tmpdir_path(p->dir, "root");
    mkdir(rootfs, 0755);
    program_copy(STASIS, p->stasis);
    program_copy(MOCK, daemon);
    *state = p;
    return 0;
}

/* Nothing of a test may be left: no sandbox, no process. */
static inline int program_teardown(void **state) {
    struct program *p = *state;
    cleanup_dir DIR *dir = opendir(p->root);
    struct dirent *e;
    while (dir && (e = readdir(dir)))
        if (e->d_name[0] != '.')
            fail_msg("%s/%s is left behind", p->root, e->d_name);
    WAIT_FOR(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
    void *t = p->dir;
    free(p->stasis);
    free(p->root);
    free(p);
    return tmpdir_teardown(&t);
}

/* Makes a bundle whose process is /bin/sh -c SCRIPT, or (script with a leading "/") a program by its path. `mode` is
 * for the mock; NULL: none. Returns its path. */
static inline char *program_bundle(const struct program *p, const char *name, bool terminal, const char *mode,
                                   const char *script) {
    char *path = tmpdir_path(p->dir, name);
    cleanup_free char *file = str_printf("%s/config.json", name);
    cleanup_free char *rootfs = tmpdir_path(p->dir, "rootfs");
    cleanup_json json_t *args =
        *script == '/' ? json_pack("[s]", script) : json_pack("[s, s, s]", "/bin/sh", "-c", script);
    cleanup_json json_t *spec =
        json_pack("{s:s, s:{s:b, s:{s:i, s:i}, s:O, s:[s], s:s}, s:{s:s}, s:{s:[{s:s}, {s:s}, {s:s}]}, s:{s:s}}",
                  "ociVersion", "1.0.2", "process", "terminal", terminal, "user", "uid", 0, "gid", 0, "args", args,
                  "env", "PATH=/usr/bin:/bin", "cwd", "/", "root", "path", rootfs, "linux", "namespaces", "type", "pid",
                  "type", "mount", "type", "network", "annotations", "mock", mode ? mode : "none");
    cleanup_free char *text = json_text(spec, JSON_INDENT(1));
    assert_non_null(text);
    mkdir(path, 0755);
    tmpdir_write(p->dir, file, text);
    return path;
}

/* Starts `stasis --root ROOT ARGS…`. An fd of -1 is /dev/null. `ap` ends with NULL. */
static inline pid_t program_vspawn(const struct program *p, const int fds[3], va_list ap) {
    char *argv[ARGS_MAX] = {p->stasis, (char *)"--root", p->root};
    size_t n = 3;
    while ((argv[n] = va_arg(ap, char *)))
        assert_true(++n < ARGS_MAX);
    struct proc_spec spec = {.path = p->stasis, .argv = argv};
    for (int i = 0; i < 3; i++)
        spec.fds[spec.n_fds++] = (struct proc_fd){.from = fds[i], .to = i};
    struct proc child = PROC_NONE;
    struct err err = ERR_INIT;
    if (proc_spawn(&spec, &child, &err) < 0)
        fail_msg("%s", err.msg);
    fd_close(child.pidfd);
    return child.pid;
}

static inline pid_t program_spawn(const struct program *p, const int fds[3], ...) {
    va_list ap;
    va_start(ap, fds);
    pid_t pid = program_vspawn(p, fds, ap);
    va_end(ap);
    return pid;
}

static inline int program_wait(pid_t pid) {
    int status = 0;
    WAIT_FOR(waitpid(pid, &status, WNOHANG) == pid);
    return proc_exit_code(status);
}

struct result {
    int code;
    char *out, *err; /* owned */
};

static inline void result_clear(struct result *r) {
    free(r->out);
    free(r->err);
}
#define cleanup_result CLEANUP(result_clear)

static inline int program_file(const struct program *p, const char *name) {
    cleanup_free char *path = tmpdir_path(p->dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static inline char *program_read(int fd) {
    char *text = NULL;
    lseek(fd, 0, SEEK_SET);
    assert_int_equal(fd_read_all(fd, 1 << 20, &text, NULL, NULL), 0);
    return text;
}

/* Runs to the end; in: text for stdin, NULL: /dev/null. */
static inline struct result program_run(const struct program *p, const char *in, ...) {
    cleanup_fd int out = program_file(p, ".out"), err = program_file(p, ".err"), from = -1;
    if (in) {
        from = program_file(p, ".in");
        assert_int_equal(fd_write_all(from, in, strlen(in)), 0);
        lseek(from, 0, SEEK_SET);
    }
    va_list ap;
    va_start(ap, in);
    pid_t pid = program_vspawn(p, (int[]){from, out, err}, ap);
    va_end(ap);
    struct result r = {.code = program_wait(pid)};
    r.out = program_read(out);
    r.err = program_read(err);
    return r;
}

/* Runs and expects exit code and the whole of stdout (NULL: any), and a part of stderr (NULL: it is empty). */
#define RUN(p, in, want_code, want_out, want_err, ...)                                                                 \
    do {                                                                                                               \
        cleanup_result struct result res_ = program_run(p, in, __VA_ARGS__, NULL);                                     \
        const char *want_out_ = (want_out), *want_err_ = (want_err);                                                   \
        if (res_.code != (want_code) || (want_out_ && strcmp(res_.out, want_out_) != 0) ||                             \
            (want_err_ ? !strstr(res_.err, want_err_) : *res_.err != '\0'))                                            \
            fail_msg("exit code %d, stdout \"%s\", stderr \"%s\"", res_.code, res_.out, res_.err);                     \
    } while (0)

/* The status of a container as its state.json says, "" when there is none. */
static inline const char *program_status(const struct program *p, const char *id, pid_t *ret_pid, pid_t *ret_daemon) {
    cleanup_free char *dir = path_join(p->root, id);
    cleanup_sandbox_state struct oci_sandbox_state s = {0};
    if (oci_sandbox_state_load(dir, &s, NULL) < 0 || s.n_containers == 0)
        return "";
    if (ret_pid)
        *ret_pid = s.containers[0].pid;
    if (ret_daemon)
        *ret_daemon = s.daemon_pid;
    return s.containers[0].status;
}
#define STATUS_IS(p, id, want) (strcmp(program_status(p, id, NULL, NULL), want) == 0)
