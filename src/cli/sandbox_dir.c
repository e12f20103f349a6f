/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/sandbox_dir.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"

#define DAEMON_NAME "containerd-shim-stasis-v2"
#define DAEMON_LISTEN_FD 3
#define SOCKET_NAME "api.sock"
#define LOG_NAME "log"
#define LOG_READ_MAX ((size_t)8 << 20)
#define LOG_TAIL_LINES 10
#define CONNECT_SEC 5
#define SPARES 4 /* the root, the directory, its contents, and one more */
#define CHECK_FD 3
#define CHECK_TIMEOUT (UINT64_C(60) * USEC_PER_SEC)

static void spare_let_go(const struct sandbox_dir *d) {
    for (size_t i = 0; d->spare && i < SPARES; i++)
        d->spare[i] = fd_close(d->spare[i]);
}

static int spare_take(struct sandbox_dir *d, struct err *err) {
    d->spare = malloc(SPARES * sizeof(*d->spare));
    if (!d->spare)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < SPARES; i++)
        d->spare[i] = -1;
    for (size_t i = 0; i < SPARES; i++)
        if ((d->spare[i] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
            return err_errno(err, errno, "cannot open /dev/null");
    return 0;
}

void sandbox_dir_close(struct sandbox_dir *d) {
    spare_let_go(d);
    free(d->spare);
    free(d->root);
    free(d->id);
    fd_close(d->fd);
    fd_close(d->stderr_fd);
    *d = SANDBOX_DIR_NONE;
}

char *sandbox_dir_path(const struct sandbox_dir *d) {
    return path_join(d->root, d->id);
}

static int fill(const char *root, const char *id, struct sandbox_dir *d, struct err *err) {
    d->root = realpath(root, NULL);
    if (!d->root)
        return err_errno(err, errno, "cannot use the state directory %s", root);
    d->id = strdup(id);
    if (!d->id)
        return err_set(err, ENOMEM, "out of memory");
    return 0;
}

static int open_dir(struct sandbox_dir *d) {
    cleanup_free char *path = sandbox_dir_path(d);
    d->fd = path ? open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    return d->fd < 0 ? -errno : 0;
}

int sandbox_dir_make(const char *root, const char *id, struct sandbox_dir *ret, struct err *err) {
    cleanup_sandbox_dir struct sandbox_dir d = SANDBOX_DIR_NONE;
    int r = id_validate("container id", id, err);
    if (r == 0)
        r = path_mkdirs(root, 0700, err);
    if (r == 0)
        r = fill(root, id, &d, err);
    if (r == 0)
        r = spare_take(&d, err);
    if (r < 0)
        return r;
    cleanup_free char *path = sandbox_dir_path(&d);
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    if (FAULT(DIR_MAKE) || mkdir(path, 0700) < 0)
        return errno == EEXIST ? err_set(err, EEXIST, "container with given ID already exists")
                               : err_errno(err, errno, "cannot create directory %s", path);
    r = open_dir(&d);
    if (r < 0) {
        (void)rmdir(path);
        return err_errno(err, -r, "cannot open %s", path);
    }
    *ret = d;
    d = SANDBOX_DIR_NONE;
    return 0;
}

int sandbox_dir_open(const char *root, const char *id, struct sandbox_dir *ret, struct err *err) {
    cleanup_sandbox_dir struct sandbox_dir d = SANDBOX_DIR_NONE;
    int r = id_validate("container id", id, err);
    if (r < 0)
        return r;
    if (access(root, F_OK) < 0 && errno == ENOENT)
        return err_set(err, ENOENT, "container does not exist");
    r = fill(root, id, &d, err);
    if (r < 0)
        return r;
    r = open_dir(&d);
    if (r == -ENOENT || r == -ENOTDIR)
        return err_set(err, ENOENT, "container does not exist");
    if (r < 0)
        return err_errno(err, -r, "cannot open %s/%s", d.root, id);
    *ret = d;
    d = SANDBOX_DIR_NONE;
    return 0;
}

int sandbox_dir_remove(const struct sandbox_dir *d, struct err *err) {
    spare_let_go(d);
    cleanup_fd int root = open(d->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "cannot open %s", d->root);
    /* The daemon removes it when it ends in order, and then the id is free: what has the name now may be another's. */
    struct stat ours, there;
    if (fstat(d->fd, &ours) < 0 || fstatat(root, d->id, &there, AT_SYMLINK_NOFOLLOW) < 0 ||
        ours.st_dev != there.st_dev || ours.st_ino != there.st_ino)
        return 0;
    int r = path_remove_tree(root, d->id, err);
    return r < 0 ? err_wrap(err, "cannot remove the sandbox's directory in %s", d->root) : 0;
}

char *sandbox_dir_log_tail(const struct sandbox_dir *d) {
    cleanup_free char *text = NULL;
    spare_let_go(d); /* what is told here is the end of it */
    if (file_read_at(d->fd, LOG_NAME, LOG_READ_MAX, &text, NULL, NULL) < 0)
        return strdup("");
    char *end = text + strlen(text);
    while (end > text && end[-1] == '\n')
        *--end = '\0';
    char *start = end;
    for (unsigned lines = 0; start > text; start--)
        if (start[-1] == '\n' && ++lines == LOG_TAIL_LINES)
            break;
    return strdup(start);
}

void sandbox_dir_add_log_tail(const struct sandbox_dir *d, struct err *err) {
    cleanup_free char *tail = sandbox_dir_log_tail(d);
    if (tail && *tail)
        err_append(err, "; the last lines of %s/%s/" LOG_NAME ":\n%s", d->root, d->id, tail);
}

/* The socket's address by way of the directory's fd. */
static void socket_address(const struct sandbox_dir *d, struct sockaddr_un *ret) {
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", d->fd, SOCKET_NAME);
}

static int listen_socket(const struct sandbox_dir *d, struct err *err) {
    struct sockaddr_un addr;
    socket_address(d, &addr);
    cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask = umask(0177);
    int r = fd < 0 || FAULT(DIR_SOCKET) ? -1 : bind(fd, (struct sockaddr *)&addr, sizeof(addr));
    int saved = errno;
    umask(mask);
    errno = saved;
    if (r < 0 || listen(fd, SOMAXCONN) < 0)
        return err_errno(err, errno, "cannot listen on %s/%s/" SOCKET_NAME, d->root, d->id);
    return TAKE_FD(fd);
}

int sandbox_connect(const struct sandbox_dir *d, struct err *err) {
    struct sockaddr_un addr;
    socket_address(d, &addr);
    cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* A daemon that hangs may have its queue full. */
    const struct timeval limit = {.tv_sec = CONNECT_SEC};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
        connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return err_errno(err, errno, "cannot connect to the sandbox daemon of %s", d->id);
    return TAKE_FD(fd);
}

/* Beside this program when installed; in the build tree the daemon has a folder of its own. */
static int find_daemon(char **ret, struct err *err) {
    static const char *const places[] = {"", "/../shim"};
    cleanup_free char *own = NULL;
    int r = path_own_dir(&own, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        cleanup_free char *path = str_printf("%s%s/" DAEMON_NAME, own, places[i]);
        if (path && access(path, X_OK) == 0) {
            *ret = TAKE_PTR(path);
            return 0;
        }
    }
    return err_set(err, ENOENT, "no " DAEMON_NAME " in %s: the installation is incomplete", own);
}

int sandbox_check_snapshot(const struct cli *cli, int dir, struct err *err) {
    cleanup_free char *program = NULL;
    cleanup_free char *config = cli->config ? realpath(cli->config, NULL) : NULL;
    cleanup_strv struct strv argv = {0};
    cleanup_fd int complaints = memfd_create("complaints", MFD_CLOEXEC);
    char text[ERR_MSG_MAX];
    int r = find_daemon(&program, err);
    if (r < 0)
        return r;
    if (complaints < 0)
        return err_errno(err, errno, "cannot make a memory file");
    r = strv_add(&argv, DAEMON_NAME);
    r |= strv_add(&argv, "-bundle");
    r |= strv_addf(&argv, "/proc/self/fd/%d", CHECK_FD);
    if (config) {
        r |= strv_add(&argv, "-config");
        r |= strv_add(&argv, config);
    }
    r |= strv_add(&argv, "check-snapshot");
    if (r)
        return err_set(err, ENOMEM, "out of memory");
    struct proc_spec spec = {
        .path = program,
        .argv = argv.v,
        .fds = {{.from = dir, .to = CHECK_FD}, {.from = complaints, .to = STDERR_FILENO}},
        .n_fds = 2,
    };
    struct err e = ERR_INIT;
    r = proc_run(&spec, CHECK_TIMEOUT, &e);
    ssize_t n = r == -EIO ? pread(complaints, text, sizeof(text) - 1, 0) : 0; /* it ended, and says why */
    if (n <= 0)
        return r < 0 ? err_copy(err, &e) : 0;
    text[n - (text[n - 1] == '\n')] = '\0';
    return err_set(err, EBADMSG, "%s", text);
}

int sandbox_start_daemon(struct sandbox_dir *d, const struct cli *cli, const char *bundle, struct proc *ret,
                         int *ret_connection, struct err *err) {
    cleanup_free char *program = NULL;
    cleanup_free char *path = sandbox_dir_path(d);
    cleanup_strv struct strv argv = {0};
    int r = find_daemon(&program, err);
    if (r < 0)
        return r;
    cleanup_fd int fd = listen_socket(d, err);
    if (fd < 0)
        return fd;
    /* Before there is a daemon: one that dies at once then closes this connection, and is told apart from none. */
    cleanup_fd int connection = sandbox_connect(d, err);
    if (connection < 0)
        return connection;
    const char *const fixed[] = {DAEMON_NAME, "-root", d->root, "-id", d->id, "-bundle", bundle};
    for (size_t i = 0; i < ARRAY_SIZE(fixed) && r == 0; i++)
        r = strv_add(&argv, fixed[i]);
    cleanup_free char *config = cli->config ? realpath(cli->config, NULL) : NULL;
    if (r == 0 && config && (r = strv_add(&argv, "-config")) == 0)
        r = strv_add(&argv, config);
    /* Its log is always in the sandbox's directory: callers such as Podman read --log as the one error of one command,
     * which the lines of a daemon that lives on would spoil. */
    if (r == 0 && (r = strv_add(&argv, "-log")) == 0)
        r = strv_addf(&argv, "%s/" LOG_NAME, path);
    if (r == 0 && cli->log_format && (r = strv_add(&argv, "-log-format")) == 0)
        r = strv_add(&argv, cli->log_format);
    if (r == 0 && cli->debug)
        r = strv_add(&argv, "-debug");
    if (r == 0)
        r = strv_add(&argv, "serve");
    if (r < 0 || !path)
        return err_set(err, ENOMEM, "out of memory");
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_errno(err, errno, "cannot make a pipe");
    d->stderr_fd = ends[0];
    cleanup_fd int complaints = ends[1];
    struct proc_spec spec = {
        .path = program,
        .argv = argv.v,
        .cwd = "/",
        .fds = {{.from = fd, .to = DAEMON_LISTEN_FD}, {.from = complaints, .to = STDERR_FILENO}},
        .n_fds = 2,
        .new_session = true,
        .outlive_parent = true,
    };
    r = proc_spawn(&spec, ret, err);
    if (r == 0)
        *ret_connection = TAKE_FD(connection);
    return r;
}

bool sandbox_await_daemon(pid_t pid, uint64_t start, uint64_t timeout_usec) {
    uint64_t now_start = 0;
    cleanup_fd int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (pidfd < 0)
        return pid <= 0 || errno == ESRCH;
    /* Opened first, compared then: the fd is of the process whose start time this is. */
    int r = proc_start_time(pid, &now_start);
    return r == -ESRCH || (r == 0 && now_start != start) || fd_wait(pidfd, POLLIN, timeout_usec) != 0;
}
