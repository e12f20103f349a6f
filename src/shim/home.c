/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/home.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/proc.h"
#include "oci/remains.h"
#include "oci/state.h"

#define TAKE_TRIES 3
#define YOUNG_SEC 10 /* a directory without state that is younger may be about to get its daemon */
#define UNIX_SCHEME "unix://"

void home_close(struct home *h) {
    free(h->root);
    free(h->id);
    fd_close(h->lock_fd);
    *h = HOME_NONE;
}

/* Whatever the locale says. */
static bool is_alnum(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

int home_name(const char *namespace, const char *id, struct home *ret, struct err *err) {
    const char *top = getenv(HOME_ROOT_ENV);
    if (!top || !*top)
        top = HOME_ROOT_DEFAULT;
    int r = id_validate("namespace", namespace, err);
    /* As containerd has it; what begins otherwise may be the stasis CLI's directory. */
    if (r == 0 && !is_alnum(namespace[0]))
        r = err_set(err, EINVAL, "invalid namespace \"%s\": it must begin with a letter or a digit", namespace);
    if (r == 0)
        r = id_validate("container id", id, err);
    if (r == 0 && !path_is_normal(top))
        r = err_set(err, EINVAL, "%s=%s: must be an absolute, normal path", HOME_ROOT_ENV, top);
    if (r < 0)
        return r;
    struct home h = HOME_NONE;
    h.root = path_join(top, namespace);
    h.id = strdup(id);
    if (!h.root || !h.id) {
        home_close(&h);
        return err_set(err, ENOMEM, "out of memory");
    }
    *ret = h;
    return 0;
}

static char *dir_of(const struct home *h) {
    return path_join(h->root, h->id);
}

static int remove_dir(const struct home *h, struct err *err) {
    cleanup_fd int root = open(h->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "cannot open %s", h->root);
    return path_remove_tree(root, h->id, err);
}

/* Whether the daemon of this directory is alive, by what it wrote; -1: it wrote nothing. */
static int daemon_alive(const char *dir) {
    cleanup_sandbox_state struct oci_sandbox_state st = {0};
    return oci_sandbox_state_load(dir, &st, NULL) < 0 ? -1 : oci_sandbox_daemon_alive(&st);
}

/* The directory exists and its lock is free: was it left, or is somebody between making and locking it? */
static bool is_left(const char *dir, int fd) {
    struct stat st;
    int alive = daemon_alive(dir);
    if (alive >= 0)
        return !alive;
    return fstat(fd, &st) == 0 && now_wall_usec() / USEC_PER_SEC > (uint64_t)st.st_mtim.tv_sec + YOUNG_SEC;
}

/* 1: taken; 0: it was left by somebody and is removed now. */
static int try_take(struct home *h, const char *dir, struct err *err) {
    bool made = !FAULT(DIR_MAKE) && mkdir(dir, 0700) == 0;
    if (!made && errno != EEXIST)
        return err_errno(err, errno, "cannot create directory %s", dir);
    cleanup_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "cannot open %s", dir);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0 || (!made && !is_left(dir, fd)))
        return err_set(err, EEXIST, "sandbox %s is running already (its directory is %s)", h->id, dir);
    if (!made) {
        int r = remove_dir(h, err);
        return r < 0 ? err_wrap(err, "cannot clear what sandbox %s left", h->id) : 0;
    }
    h->lock_fd = TAKE_FD(fd);
    return 1;
}

int home_take(struct home *h, struct err *err) {
    cleanup_free char *dir = dir_of(h);
    if (!dir)
        return err_set(err, ENOMEM, "out of memory");
    int r = path_mkdirs(h->root, 0700, err);
    for (int i = 0; r == 0 && i < TAKE_TRIES; i++)
        r = try_take(h, dir, err);
    if (r == 0)
        r = err_set(err, EBUSY, "cannot take the directory %s: others keep removing it", dir);
    return MIN(r, 0);
}

int home_link_socket(const struct home *h, const char *path, struct err *err) {
    return FAULT(DIR_SOCKET) || symlinkat(path, h->lock_fd, "api.sock") < 0
               ? err_errno(err, errno, "cannot link api.sock to %s", path)
               : 0;
}

int home_daemon_pid(const struct home *h) {
    cleanup_free char *dir = dir_of(h);
    cleanup_sandbox_state struct oci_sandbox_state st = {0};
    return dir && oci_sandbox_state_load(dir, &st, NULL) == 0 ? (int)st.daemon_pid : 0;
}

int home_clear(const struct home *h, struct err *err) {
    cleanup_free char *dir = dir_of(h);
    if (!dir)
        return err_set(err, ENOMEM, "out of memory");
    cleanup_sandbox_state struct oci_sandbox_state st = {0};
    int r = oci_sandbox_state_load(dir, &st, NULL) == 0 ? sandbox_remains_clear(&st, err) : 0;
    return r < 0 ? r : remove_dir(h, err);
}

/* Sockets. */

const char *home_socket_path(const char *address) {
    return strncmp(address, UNIX_SCHEME, strlen(UNIX_SCHEME)) == 0 ? address + strlen(UNIX_SCHEME) : address;
}

static int socket_address(const char *address, struct sockaddr_un *ret, struct err *err) {
    const char *path = home_socket_path(address);
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(ret->sun_path) || path[0] != '/')
        return err_set(err, EINVAL, "socket %s: must be an absolute path of less than %zu bytes", path,
                       sizeof(ret->sun_path));
    memcpy(ret->sun_path, path, strlen(path) + 1);
    return 0;
}

int home_connect(const char *address, struct err *err) {
    struct sockaddr_un addr;
    int r = socket_address(address, &addr, err);
    if (r < 0)
        return r;
    /* A daemon whose queue is full for long is as good as none. */
    cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return err_errno(err, errno, "cannot connect to %s", addr.sun_path);
    return TAKE_FD(fd);
}

static int bind_socket(const struct sockaddr_un *addr) {
    cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    mode_t mask = umask(0177);
    int r = bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ? -errno : 0;
    umask(mask);
    if (r == 0 && listen(fd, SOMAXCONN) < 0)
        r = -errno;
    return r < 0 ? r : TAKE_FD(fd);
}

int home_listen(const char *address, struct err *err) {
    struct sockaddr_un addr;
    int r = socket_address(address, &addr, err);
    if (r < 0)
        return r;
    cleanup_free char *dir = strdup(addr.sun_path);
    if (!dir)
        return err_set(err, ENOMEM, "out of memory");
    *strrchr(dir, '/') = '\0';
    r = path_mkdirs(dir, 0711, err);
    if (r < 0)
        return r;
    int fd = bind_socket(&addr);
    if (fd == -EADDRINUSE) {
        cleanup_fd int peer = home_connect(address, NULL);
        /* Only a refusal says that nobody is there: one whose queue is full for the moment answers -EAGAIN. */
        if (peer != -ECONNREFUSED && peer != -ENOENT)
            return err_set(err, EADDRINUSE, "socket %s is served by somebody already", addr.sun_path);
        (void)unlink(addr.sun_path); /* if it fails, so does bind */
        fd = bind_socket(&addr);
    }
    return fd < 0 ? err_errno(err, -fd, "cannot listen on %s", addr.sun_path) : fd;
}
