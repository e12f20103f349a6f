/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/serve.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/config.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "shim/home.h"
#include "shim/notify.h"
#include "shim/service.h"
#include "shim/start.h"

#define FIRST_CALL_USEC (UINT64_C(30) * USEC_PER_SEC)
#define PUBLISH_USEC (2 * USEC_PER_SEC) /* for the last events, at the end */

static int open_log(const struct cmdline *c, const char *dir, const struct config *config, struct err *err) {
    enum log_format format;
    cleanup_free char *own = path_join(dir, "log");
    if (!own)
        return err_set(err, ENOMEM, "out of memory");
    log_set_level(c->debug ? LOG_LEVEL_DEBUG : config->log_level);
    log_set_id(c->id);
    if (c->log_format) {
        if (log_format_parse(c->log_format, &format) < 0)
            return err_set(err, EINVAL, "invalid log format \"%s\": text or json", c->log_format);
        log_set_format(format);
    }
    const char *path = c->log ? c->log : own;
    int r = FAULT(DIR_LOG) ? err_errno(err, errno, "cannot open log %s", path) : log_open(path, err);
    /* Until this daemon is up, what the log does not take still reaches the one that started it. */
    log_set_spare(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
    /* What others write to stderr, a failed assertion in a library say, belongs there too. Until now stderr was the
     * caller's, who shows it when this daemon could not even begin. */
    if (r >= 0 && dup2(log_get_fd(), STDERR_FILENO) < 0)
        r = err_errno(err, errno, "cannot redirect stderr to the log");
    return r;
}

/* containerd reads a FIFO in the bundle and writes what it finds there to its own log. Open for reading as well, so
 * that neither opening nor writing minds containerd being away; what does not fit meanwhile is dropped. */
static void tee_log(const struct cmdline *c) {
    cleanup_free char *path = c->bundle ? path_join(c->bundle, "log") : NULL;
    int fd = path ? open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY) : -1;
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode)) {
        log_set_tee(fd, c->debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN);
        return;
    }
    log_info("there is no FIFO \"log\" in the bundle: containerd's log will have nothing from this sandbox");
    fd_close(fd);
}

/* Own mount namespace: what this daemon mounts is seen by nobody else and goes when it goes. Mounts made on the host
 * later still come in, for volumes. */
static int enter_namespaces(struct host_namespaces *ret_host, struct err *err) {
    int r = host_namespaces_open(ret_host, err);
    if (r < 0)
        return r;
    if (unshare(CLONE_NEWNS) < 0)
        return err_errno(err, errno, "cannot make a mount namespace (stasis needs to be root)");
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return err_errno(err, errno, "cannot make the mount namespace a slave of the host's");
    /* Engines and hooks configure the network of the pid they get, which is in this daemon's network namespace: it
     * must not be the host's. */
    if (unshare(CLONE_NEWNET) < 0)
        return err_errno(err, errno, "cannot make a network namespace");
    return 0;
}

void service_end_if_unused(struct service *s) {
    if (ttrpc_server_connections(s->server) == 0 && sandbox_count(s->sb) == 0) {
        log_debug("no container and nobody connected: ending");
        (void)sd_event_exit(s->event, 0);
    }
}

static void on_disconnect(void *userdata) {
    service_end_if_unused(userdata);
}

static int on_first_call_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    on_disconnect(userdata);
    return 0;
}

static int on_sigterm(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
    (void)si;
    (void)userdata;
    log_info("ending on a signal");
    return sd_event_exit(sd_event_source_get_event(source), 0);
}

static int prepare_loop(struct service *s, struct err *err) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    int r = sd_event_new(&s->event);
    if (r >= 0)
        r = sd_event_add_signal(s->event, NULL, SIGTERM, on_sigterm, NULL);
    if (r >= 0)
        r = sd_event_add_signal(s->event, NULL, SIGINT, on_sigterm, NULL);
    if (r >= 0)
        r = sd_event_add_time_relative(s->event, NULL, CLOCK_MONOTONIC, FIRST_CALL_USEC, 0, on_first_call_timeout, s);
    return r < 0 ? err_errno(err, -r, "cannot set up the event loop") : 0;
}

static int open_publisher(struct service *s, const struct cmdline *c, struct err *err) {
    if (!c->namespace)
        return 0;
    const char *ttrpc = getenv("TTRPC_ADDRESS");
    struct publisher_spec spec = {
        .ttrpc_address = ttrpc ? ttrpc : "",
        .grpc_address = c->address ? c->address : "",
        .namespace = c->namespace,
        .publish_binary = c->publish_binary ? c->publish_binary : "",
    };
    return publisher_new(s->event, &spec, &s->publisher, err);
}

static int run(struct service *s, const struct cmdline *c, const struct sandbox_spec *spec, struct err *err) {
    int r = prepare_loop(s, err);
    if (r == 0)
        r = open_publisher(s, c, err);
    if (r == 0)
        r = sandbox_new(s->event, spec, &s->sb, err);
    if (r == 0)
        r = ttrpc_server_new(s->event, &s->server, err);
    if (r == 0)
        r = service_add_task(s, err);
    if (r == 0)
        r = service_add_control(s, err);
    if (r == 0) {
        ttrpc_server_on_disconnect(s->server, on_disconnect, s);
        r = ttrpc_server_listen(s->server, SHIM_LISTEN_FD, err);
    }
    if (r == 0)
        log_set_spare(-1);
    if (r == 0 && (r = sd_event_loop(s->event)) < 0)
        r = err_errno(err, -r, "event loop");
    /* The answer to Shutdown goes out before the socket closes. */
    if (s->server)
        (void)ttrpc_server_flush(s->server, USEC_PER_SEC);
    s->sb = sandbox_free(s->sb);
    notify_clear(s);
    publisher_flush(s->publisher, PUBLISH_USEC);
    s->publisher = publisher_free(s->publisher);
    return r;
}

/* Both go before the socket closes: who sees the connection end finds the id free again. */
static void remove_traces(const struct cmdline *c, const char *dir) {
    cleanup_fd int root = open(c->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct err e = ERR_INIT;
    if (c->socket && unlink(home_socket_path(c->socket)) < 0 && errno != ENOENT)
        log_error("cannot remove %s: %s", c->socket, strerror(errno));
    if (root < 0 || path_remove_tree(root, c->id, &e) < 0)
        log_error("cannot remove %s: %s", dir, root < 0 ? strerror(errno) : e.msg);
}

int shim_serve(const struct cmdline *c, struct err *err) {
    struct config config;
    config_init(&config);
    int r = id_validate("sandbox id", c->id ? c->id : "", err);
    if (r < 0)
        return r;
    if (!c->root || !path_is_normal(c->root))
        return err_set(err, EINVAL, "-root must be an absolute, normal path");
    cleanup_free char *dir = path_join(c->root, c->id);
    if (!dir)
        return err_set(err, ENOMEM, "out of memory");
    r = config_load(&config, c->config, err);
    if (c->debug)
        config.log_level = LOG_LEVEL_DEBUG;
    int logged = open_log(c, dir, &config, r < 0 ? NULL : err);
    if (c->namespace && logged == 0)
        tee_log(c);
    if (r < 0 || (r = logged) < 0)
        return r;

    struct host_namespaces host = HOST_NAMESPACES_NONE;
    struct service s = {.namespace = c->namespace, .config = &config};
    r = enter_namespaces(&host, err);
    if (r < 0)
        return r;
    if (c->namespace)
        (void)fd_set_cloexec(SHIM_LOCK_FD, true);
    struct sandbox_spec spec = {.id = c->id, .dir = dir, .config = &config, .host = host};
    r = run(&s, c, &spec, err);
    if (r < 0) /* whoever started this reads the log and removes the directory */
        return r;
    remove_traces(c, dir);
    ttrpc_server_free(s.server);
    sd_event_unref(s.event);
    return r;
}
