/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/start.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "base/proc.h"
#include "oci/pod.h"
#include "oci/spec.h"
#include "shim/bootstrap.h"
#include "shim/home.h"

#define INPUT_USEC (5 * USEC_PER_SEC)

/* A terminal would never end, and nobody types this. */
static int read_input(uint8_t **ret, size_t *ret_len, struct err *err) {
    *ret = NULL;
    *ret_len = 0;
    if (isatty(STDIN_FILENO))
        return 0;
    uint8_t *buf = NULL;
    size_t len = 0;
    uint64_t end = now_usec() + INPUT_USEC;
    for (;;) {
        uint8_t *more = len % 4096 == 0 ? realloc(buf, len + 4096) : buf;
        if (!more) {
            free(buf);
            return err_set(err, ENOMEM, "out of memory");
        }
        buf = more;
        uint64_t now = now_usec();
        ssize_t n = now < end && fd_wait(STDIN_FILENO, POLLIN, end - now) > 0
                        ? read(STDIN_FILENO, buf + len, 4096 - len % 4096)
                        : -1;
        if (n <= 0 || len > BOOTSTRAP_INPUT_MAX) {
            if (n == 0)
                break;
            free(buf);
            return n > 0 ? err_set(err, EFBIG, "more than %zu bytes on stdin", BOOTSTRAP_INPUT_MAX)
                         : err_set(err, ETIMEDOUT, "stdin does not end");
        }
        len += (size_t)n;
    }
    *ret = buf;
    *ret_len = len;
    return 0;
}

static char *dup_or_empty(const char *s) {
    return strdup(s ? s : "");
}

static int gather(const struct cmdline *c, struct bootstrap *b, struct err *err) {
    const char *max = getenv("MAX_SHIM_VERSION");
    uint64_t version = 2;
    cleanup_free uint8_t *input = NULL;
    size_t len;
    if (max && parse_u64(max, UINT32_MAX, &version) < 0)
        return err_set(err, EINVAL, "MAX_SHIM_VERSION=%s: must be a number", max);
    b->version = (unsigned)MIN(version, (uint64_t)BOOTSTRAP_TASK_VERSION_MAX);
    b->namespace = dup_or_empty(c->namespace);
    b->grpc_address = dup_or_empty(c->address);
    b->publish_binary = dup_or_empty(c->publish_binary);
    b->ttrpc_address = dup_or_empty(getenv("TTRPC_ADDRESS"));
    if (!b->namespace || !b->grpc_address || !b->publish_binary || !b->ttrpc_address)
        return err_set(err, ENOMEM, "out of memory");
    int r = read_input(&input, &len, err);
    if (r == 0)
        r = bootstrap_apply(b, c->id, input, len, err);
    if (r == 0 && !*b->namespace)
        r = err_set(err, EINVAL, "no -namespace was given");
    return r;
}

static int spawn_daemon(const struct cmdline *c, const struct bootstrap *b, const struct home *h, const char *bundle,
                        const char *address, int listen_fd, struct proc *ret, struct err *err) {
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0)
        return err_errno(err, errno, "cannot read /proc/self/exe");
    self[n] = '\0';
    cleanup_strv struct strv argv = {0};
    const char *const words[] = {
        c->program,        "-namespace", b->namespace, "-id",   c->id,   "-address", b->grpc_address, "-publish-binary",
        b->publish_binary, "-bundle",    bundle,       "-root", h->root, "-socket",  address};
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(words); i++)
        r = strv_add(&argv, words[i]);
    if (r == 0 && c->debug)
        r = strv_add(&argv, "-debug");
    if (r == 0)
        r = strv_add(&argv, "serve");
    if (r < 0 || setenv("TTRPC_ADDRESS", b->ttrpc_address, 1) < 0)
        return err_set(err, ENOMEM, "out of memory");
    struct proc_spec spec = {
        .path = self,
        .argv = argv.v,
        .cwd = "/",
        .fds = {{.from = listen_fd, .to = SHIM_LISTEN_FD}, {.from = h->lock_fd, .to = SHIM_LOCK_FD}},
        .n_fds = 2,
        .new_session = true,
        .outlive_parent = true,
    };
    return proc_spawn(&spec, ret, err);
}

/* containerd finds the daemon again by this file after a restart. */
static int write_address(const char *bundle, const char *address, struct err *err) {
    cleanup_free char *path = path_join(bundle, "address");
    return path ? file_write_atomic(path, address, strlen(address), 0600, false, err)
                : err_set(err, ENOMEM, "out of memory");
}

static int start_sandbox(const struct cmdline *c, const struct bootstrap *b, const char *bundle, const char *address,
                         struct err *err) {
    cleanup_home struct home h = HOME_NONE;
    cleanup_fd int fd = -1;
    struct proc daemon = PROC_NONE;
    struct config config;
    /* The daemon reads it again; here, somebody sees what is wrong with it. */
    int r = config_load(&config, NULL, err);
    if (r == 0)
        r = home_name(b->namespace, c->id, &h, err);
    if (r == 0)
        r = home_take(&h, err);
    if (r < 0)
        return r;
    r = fd = home_listen(address, err);
    if (r >= 0)
        r = home_link_socket(&h, home_socket_path(address), err);
    if (r == 0)
        r = write_address(bundle, address, err);
    if (r == 0)
        r = spawn_daemon(c, b, &h, bundle, address, fd, &daemon, err);
    if (r < 0) {
        if (fd >= 0)
            (void)unlink(home_socket_path(address));
        (void)home_clear(&h, NULL); /* the error that led here is the one that counts */
    }
    fd_close(daemon.pidfd);
    return r;
}

static int join_pod(const struct oci_pod *pod, const char *bundle, const char *address, struct err *err) {
    cleanup_fd int fd = home_connect(address, err);
    if (fd < 0)
        return err_wrap(err, "sandbox %s, which this container belongs to, is not running", pod->sandbox_id);
    return write_address(bundle, address, err);
}

int shim_start(const struct cmdline *c, struct err *err) {
    cleanup_bootstrap struct bootstrap b = {0};
    cleanup_json json_t *spec = NULL;
    cleanup_free char *bundle = realpath(c->bundle ? c->bundle : ".", NULL);
    cleanup_free char *answer = NULL;
    struct oci_pod pod = {0};
    char address[BOOTSTRAP_ADDRESS_MAX];
    if (!bundle)
        return err_errno(err, errno, "bundle %s", c->bundle ? c->bundle : "(the working directory)");
    int r = id_validate("container id", c->id ? c->id : "", err);
    if (r == 0)
        r = gather(c, &b, err);
    if (r == 0)
        r = oci_spec_load(bundle, &spec, err);
    if (r == 0)
        r = oci_pod_role(spec, &pod, err);
    bool member = pod.role == OCI_POD_MEMBER;
    if (r == 0)
        r = bootstrap_address(&b, member ? pod.sandbox_id : c->id, address, err);
    if (r == 0)
        r = member ? join_pod(&pod, bundle, address, err) : start_sandbox(c, &b, bundle, address, err);
    if (r < 0)
        return r;
    answer = bootstrap_answer(&b, address);
    r = answer ? fd_write_all(STDOUT_FILENO, answer, strlen(answer)) : -ENOMEM;
    return r < 0 ? err_errno(err, -r, "cannot print the address") : 0;
}
