/* SPDX-License-Identifier: Apache-2.0 */
/*
 * containerd-shim-stasis-v2: the sandbox daemon, one per VM.
 *
 * `… serve` is how the stasis CLI starts it: the listening socket is fd 3, the sandbox's directory is ROOT/ID. It ends
 * on Shutdown, on SIGTERM, and by itself when it has no container and nobody is connected: then whoever started it is
 * gone.
 */
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/config.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "shim/service.h"

#define LISTEN_FD 3
#define FIRST_CALL_USEC (UINT64_C(30) * USEC_PER_SEC)

struct options {
    const char *root, *id, *bundle, *config, *log, *log_format, *command;
    bool debug;
};

static int parse(int argc, char **argv, struct options *o, struct err *err) {
    /* containerd's shims take Go-style flags: one dash, long names. */
    enum { OPT_ROOT, OPT_ID, OPT_BUNDLE, OPT_CONFIG, OPT_LOG, OPT_LOG_FORMAT, OPT_DEBUG, OPT_VERSION };
    static const struct option table[] = {
        {"root", required_argument, NULL, OPT_ROOT},
        {"id", required_argument, NULL, OPT_ID},
        {"bundle", required_argument, NULL, OPT_BUNDLE},
        {"config", required_argument, NULL, OPT_CONFIG},
        {"log", required_argument, NULL, OPT_LOG},
        {"log-format", required_argument, NULL, OPT_LOG_FORMAT},
        {"debug", no_argument, NULL, OPT_DEBUG},
        {"v", no_argument, NULL, OPT_VERSION},
        {NULL, 0, NULL, 0},
    };
    int c;
    opterr = 0;
    while ((c = getopt_long_only(argc, argv, "+", table, NULL)) != -1)
        switch (c) {
        case OPT_ROOT:
            o->root = optarg;
            break;
        case OPT_ID:
            o->id = optarg;
            break;
        case OPT_BUNDLE:
            o->bundle = optarg;
            break;
        case OPT_CONFIG:
            o->config = optarg;
            break;
        case OPT_LOG:
            o->log = optarg;
            break;
        case OPT_LOG_FORMAT:
            o->log_format = optarg;
            break;
        case OPT_DEBUG:
            o->debug = true;
            break;
        case OPT_VERSION:
            o->command = "version";
            return 0;
        default:
            return err_set(err, EINVAL, "unknown option %s", argv[optind - 1]);
        }
    if (optind != argc - 1)
        return err_set(err, EINVAL,
                       "usage: containerd-shim-stasis-v2 -root DIR -id ID [-bundle DIR] [-config FILE] "
                       "[-log FILE] [-log-format text|json] [-debug] serve");
    o->command = argv[optind];
    return 0;
}

static int open_log(const struct options *o, const char *dir, const struct config *config, struct err *err) {
    enum log_format format;
    cleanup_free char *own = path_join(dir, "log");
    if (!own)
        return err_set(err, ENOMEM, "out of memory");
    log_set_level(o->debug ? LOG_LEVEL_DEBUG : config->log_level);
    log_set_id(o->id);
    if (o->log_format) {
        if (log_format_parse(o->log_format, &format) < 0)
            return err_set(err, EINVAL, "invalid log format \"%s\": text or json", o->log_format);
        log_set_format(format);
    }
    int r = log_open(o->log ? o->log : own, err);
    /* What others write to stderr, a failed assertion in a library say, belongs there too. Until now stderr was the
     * caller's, who shows it when this daemon could not even begin. */
    if (r >= 0 && dup2(log_get_fd(), STDERR_FILENO) < 0)
        r = err_errno(err, errno, "cannot redirect stderr to the log");
    return r;
}

/* Own mount namespace: what this daemon mounts is seen by nobody else and goes when it goes. Mounts made on the host
 * later still come in, for volumes. */
static int enter_namespace(int *ret_host, struct err *err) {
    *ret_host = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (*ret_host < 0)
        return err_errno(err, errno, "cannot open /proc/self/ns/mnt");
    if (unshare(CLONE_NEWNS) < 0)
        return err_errno(err, errno, "cannot make a mount namespace (stasis needs to be root)");
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return err_errno(err, errno, "cannot make the mount namespace a slave of the host's");
    return 0;
}

static void on_disconnect(void *userdata) {
    struct service *s = userdata;
    if (ttrpc_server_connections(s->server) == 0 && sandbox_count(s->sb) == 0) {
        log_debug("no container and nobody connected: ending");
        (void)sd_event_exit(s->event, 0);
    }
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

static int run(struct service *s, const struct sandbox_spec *spec, struct err *err) {
    int r = prepare_loop(s, err);
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
        r = ttrpc_server_listen(s->server, LISTEN_FD, err);
    }
    if (r == 0 && (r = sd_event_loop(s->event)) < 0)
        r = err_errno(err, -r, "event loop");
    /* The answer to Shutdown goes out before the socket closes. */
    if (s->server)
        (void)ttrpc_server_flush(s->server, USEC_PER_SEC);
    sandbox_free(s->sb);
    return r;
}

static int serve(const struct options *o, struct err *err) {
    struct config config;
    config_init(&config);
    int r = id_validate("sandbox id", o->id, err);
    if (r < 0)
        return r;
    if (!o->root || !path_is_normal(o->root))
        return err_set(err, EINVAL, "-root must be an absolute, normal path");
    cleanup_free char *dir = path_join(o->root, o->id);
    if (!dir)
        return err_set(err, ENOMEM, "out of memory");
    r = config_load(&config, o->config, err);
    if (o->debug)
        config.log_level = LOG_LEVEL_DEBUG;
    int logged = open_log(o, dir, &config, r < 0 ? NULL : err);
    if (r < 0 || (r = logged) < 0)
        return r;

    cleanup_fd int host_mntns = -1;
    struct service s = {.bundle = o->bundle};
    r = enter_namespace(&host_mntns, err);
    if (r < 0)
        return r;
    struct sandbox_spec spec = {.id = o->id, .dir = dir, .config = &config, .host_mntns_fd = host_mntns};
    r = run(&s, &spec, err);
    if (r < 0) /* whoever started this reads the log and removes the directory */
        return r;

    /* The directory goes before the socket closes: who sees the connection end finds the id free again. */
    cleanup_fd int root = open(o->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct err e = ERR_INIT;
    if (root < 0 || path_remove_tree(root, o->id, &e) < 0)
        log_error("cannot remove %s: %s", dir, root < 0 ? strerror(errno) : e.msg);
    ttrpc_server_free(s.server);
    sd_event_unref(s.event);
    return r;
}

int main(int argc, char **argv) {
    struct options o = {.command = ""};
    struct err err = ERR_INIT;
    int r = parse(argc, argv, &o, &err);
    if (r == 0 && strcmp(o.command, "version") == 0) {
        printf("containerd-shim-stasis-v2 %s\n", STASIS_VERSION);
        return 0;
    }
    if (r == 0 && strcmp(o.command, "serve") != 0)
        r = err_set(&err, EINVAL, "unknown command %s", o.command);
    if (r == 0)
        r = serve(&o, &err);
    if (r < 0)
        log_error("%s", err.msg);
    return r < 0 ? 1 : 0;
}
