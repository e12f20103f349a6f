/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/launch.h"

#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "cli/attach.h"
#include "cli/criu_flags.h"
#include "cli/io.h"
#include "cli/monitor.h"
#include "cli/new_sandbox.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/task.h"
#include "oci/rootfs_undo.h"
#include "oci/spec.h"

/* Everything of one launch; the fields are in the order in which they come to be. */
struct launch {
    const struct cli *cli;
    const struct launch_options *options;
    const char *id;
    char *bundle, *rootfs; /* absolute; owned */
    json_t *args;          /* process.args; owned */
    struct config config;
    struct io_request io_request;
    struct new_sandbox sandbox;
    struct monitor monitor;
    struct io io;
    struct attach attach;
    bool wrote_pid;
    bool applied, kept; /* what an import has changed */
};

int launch_refuse_fds(uint64_t preserve_fds, struct err *err) {
    if (preserve_fds > 0)
        return err_set(err, EOPNOTSUPP, "--preserve-fds %llu: open files cannot be passed into a virtual machine",
                       (unsigned long long)preserve_fds);
    const char *listen_fds = getenv("LISTEN_FDS");
    if (listen_fds && *listen_fds)
        log_warn("LISTEN_FDS is ignored: open files cannot be passed into a virtual machine");
    return 0;
}

int launch_write_pid(const char *path, pid_t pid, struct err *err) {
    char text[16];
    int n = snprintf(text, sizeof(text), "%d", (int)pid);
    int r = file_write_atomic(path, text, (size_t)n, 0644, false, err);
    return r < 0 ? err_wrap(err, "--pid-file") : 0;
}

/* A restore --import takes it back itself. */
static void warn_of_journal(const struct launch *l) {
    cleanup_free char *journal = path_join(l->bundle, ROOTFS_UNDO_JOURNAL);
    if (journal && access(journal, F_OK) == 0 && !(l->options->restore && l->options->restore->import))
        log_warn(
            "%s: a restore of the bundle was killed while it changed the root file system, or is at work: the next "
            "restore --import takes its changes back",
            journal);
}

/* Finds what is wrong with the bundle before anything is made. */
static int check_bundle(struct launch *l, struct err *err) {
    const char *bundle = l->options->bundle ? l->options->bundle : ".";
    cleanup_json json_t *spec = NULL;
    cleanup_guest_spec struct oci_guest_spec guest = {0};
    json_t *process = NULL;
    l->bundle = realpath(bundle, NULL);
    if (!l->bundle)
        return err_errno(err, errno, "bundle %s", bundle);
    int r = oci_spec_load(l->bundle, &spec, err);
    if (r == 0)
        r = oci_spec_validate(spec, err);
    if (r == 0)
        r = oci_spec_for_guest(spec, l->id, l->bundle, &guest, err);
    if (r < 0)
        return r;
    const char *rootfs = guest.rootfs ? guest.rootfs : "";
    if (access(rootfs, F_OK) < 0)
        return err_errno(err, errno, "invalid rootfs: %s", rootfs);
    warn_of_journal(l);
    if (!(l->rootfs = strdup(rootfs)))
        return err_set(err, ENOMEM, "out of memory");
    /* The daemon logs them as warnings, where they stay. */
    for (size_t i = 0; i < guest.notes.n; i++)
        log_info("%s", guest.notes.v[i]);
    r = cli_check_network(&l->config, spec, 0, err);
    if (r == 0)
        r = cli_check_acls(&l->config, &guest, err);
    if (r < 0)
        return r;
    l->io_request.terminal = guest.terminal;
    r = json_get_obj(spec, "", "process", &process, err);
    l->args = json_incref(json_object_get(process, "args"));
    return r > 0 ? oci_console_size(process, &l->io_request.width, &l->io_request.height, err) : r;
}

static int check(struct launch *l, struct err *err) {
    const struct launch_options *o = l->options;
    int r = id_validate("container id", l->id, err);
    if (r == 0)
        r = launch_refuse_fds(o->preserve_fds, err);
    if (r == 0)
        r = cli_load_config(l->cli, &l->config, err);
    if (r < 0)
        return r;
    l->io_request.detach = o->detach || !o->start;
    l->io_request.console_socket = o->console_socket;
    r = check_bundle(l, err);
    if (r >= 0)
        r = io_check(&l->io_request, err);
    if (r < 0)
        return r;
    if (o->no_pivot)
        log_warn("--no-pivot is ignored: the guest's root is not a ramdisk");
    if (o->no_new_keyring)
        log_debug("--no-new-keyring is ignored: the caller's session keyring does not reach into the guest");
    return 0;
}

static int make_sandbox(struct launch *l, struct err *err) {
    bool detach = l->io_request.detach;
    int r = io_prepare(&l->io_request, &l->io, err);
    struct monitor_spec spec = {.sandbox_id = l->id,
                                .container_id = l->id,
                                .exec_id = "",
                                .title = l->args,
                                .slave = detach ? l->io.slave : -1,
                                .foreground = !detach};
    if (r == 0)
        r = monitor_fork(&spec, &l->monitor, err);
    if (r == 0)
        r = new_sandbox_start(&l->sandbox, l->cli, l->bundle, l->config.rpc_timeout, err);
    if (r == 0)
        r = monitor_attach(&l->monitor, &l->sandbox.session, l->sandbox.daemon.pid, l->sandbox.daemon_start, err);
    if (r < 0)
        return r;
    l->attach =
        (struct attach){.session = &l->sandbox.session, .id = l->id, .exec_id = "", .io = detach ? NULL : &l->io};
    return attach_begin(&l->attach, err);
}

static int make_container(struct launch *l, struct err *err) {
    pid_t pid = l->monitor.pid;
    struct task_restore restore = {0};
    if (l->options->restore)
        restore = (struct task_restore){.images = l->options->restore->images,
                                        .work = l->options->restore->work,
                                        .criu = l->options->restore->criu};
    int r = task_create(&l->sandbox.session, l->id, l->bundle, pid, &l->io.pass, restore.images ? &restore : NULL,
                        config_start_limit(&l->config), err);
    if (r < 0)
        return r;
    io_passed(&l->io);
    r = monitor_release(&l->monitor, err);
    if (r == 0 && l->options->pid_file) {
        r = launch_write_pid(l->options->pid_file, pid, err);
        l->wrote_pid = r == 0;
    }
    return r;
}

static const struct launch_import *import_of(const struct launch *l) {
    return l->options->restore ? l->options->restore->import : NULL;
}

static int prepare_import(const struct launch *l, struct err *err) {
    const struct launch_import *import = import_of(l);
    return import ? import->prepare(import->userdata, l->bundle, l->rootfs, err) : 0;
}

static int apply_import(struct launch *l, struct err *err) {
    const struct launch_import *import = import_of(l);
    l->applied = import != NULL;
    return import ? import->apply(import->userdata, err) : 0;
}

static void keep_import(struct launch *l) {
    const struct launch_import *import = import_of(l);
    l->kept = true;
    if (import)
        import->keep(import->userdata);
}

/* The container has never run, and is gone. err: why, or NULL if that was said already. */
static void undo_import(struct launch *l, struct err *err) {
    const struct launch_import *import = import_of(l);
    struct err e = ERR_INIT;
    if (!l->applied || l->kept || import->undo(import->userdata, &e) == 0)
        return;
    if (err)
        err_append(err, "; and %s", e.msg);
    else
        log_error("%s", e.msg);
}

static int start_process(struct launch *l, struct err *err) {
    const struct launch_restore *restore = l->options->restore;
    struct progress progress = {0};
    if (!restore)
        return task_start(&l->sandbox.session, l->id, "", 0, err);
    cleanup_free char *what = str_printf("restoring %s", l->id);
    progress_begin(&progress, l->sandbox.session.event, what ? what : "restoring");
    int r = task_start(&l->sandbox.session, l->id, "", l->config.checkpoint_timeout + l->config.rpc_timeout, err);
    progress_end(&progress);
    if (r == 0)
        keep_import(l);
    struct err e = ERR_INIT;
    /* It runs: that its figures cannot be shown is no reason to end it. */
    if (r == 0 && restore->print_stats && criu_flags_print_stats(restore->work, true, &e) < 0)
        log_warn("--print-stats: %s", e.msg);
    return r;
}

static int start(struct launch *l, uint32_t *ret_status, struct err *err) {
    bool foreground = !l->io_request.detach;
    int r = foreground ? attach_run(&l->attach, err) : 0;
    if (r == 0)
        r = start_process(l, err);
    if (!foreground)
        return r;
    if (r == 0)
        r = attach_wait(&l->attach, ret_status, err);
    if (l->attach.vm_death.code) {
        attach_end(&l->attach);
        cli_report(l->cli, &l->attach.vm_death);
    }
    if (r == -ECONNRESET) {
        /* The container was running, or about to, and was killed with its daemon: an exit like any other. */
        attach_end(&l->attach);
        cli_report(l->cli, err);
        *ret_status = MONITOR_LOST;
        return 0;
    }
    return r;
}

/* The sandbox and the monitor go; what they left is logged, the error that led here is the caller's. */
static void tear_down(struct launch *l) {
    new_sandbox_remove(&l->sandbox);
    monitor_abort(&l->monitor);
    if (l->wrote_pid && l->io_request.detach)
        (void)unlink(l->options->pid_file);
}

static void clear(struct launch *l) {
    attach_end(&l->attach);
    io_close(&l->io);
    monitor_abort(&l->monitor);
    new_sandbox_close(&l->sandbox);
    free(l->bundle);
    free(l->rootfs);
    json_decref(l->args);
}

/* The container has ended in the foreground: it is removed unless it is to be kept. */
static void remove_ended(struct launch *l) {
    struct err problem = ERR_INIT;
    if (l->options->keep)
        return;
    struct session *s = &l->sandbox.session;
    int r = s->closed ? 0 : task_delete(s, l->id, "", NULL, &problem);
    /* A `checkpoint` may have been faster. */
    if (r < 0 && r != -ENOENT && !s->closed)
        log_warn("cannot delete container %s: %s", l->id, problem.msg);
    tear_down(l);
}

int launch(struct cli *cli, const struct launch_options *options, const char *id, struct err *err) {
    struct launch l = {
        .cli = cli,
        .options = options,
        .id = id,
        .sandbox = NEW_SANDBOX_NONE,
        .monitor = MONITOR_NONE,
        .io = IO_NONE,
    };
    uint32_t status = 0;
    int r = check(&l, err);
    if (r == 0) {
        signals_block();
        r = sandbox_dir_make(cli->root, id, &l.sandbox.dir, err);
    }
    if (r == 0) {
        r = prepare_import(&l, err);
        if (r == 0)
            r = make_sandbox(&l, err);
        if (r == 0)
            r = make_container(&l, err);
        if (r == 0)
            r = apply_import(&l, err);
        if (r == 0 && options->start)
            r = start(&l, &status, err);
        int interrupt = l.sandbox.session.interrupt ? l.sandbox.session.interrupt : signals_end_pending();
        attach_end(&l.attach);
        if (r < 0)
            tear_down(&l);
        else if (options->start && !l.io_request.detach)
            remove_ended(&l);
        undo_import(&l, r < 0 ? err : NULL);
        if (r == -EINTR && interrupt) {
            cli_report(cli, err);
            r = 0;
            status = 128 + (uint32_t)interrupt;
        }
    }
    clear(&l);
    return r < 0 ? err_wrap(err, options->restore ? "restore failed"
                                 : options->start ? "run failed"
                                                  : "create failed")
                 : (int)(status & 0xff);
}
