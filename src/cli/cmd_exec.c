/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/attach.h"
#include "cli/exec_id.h"
#include "cli/launch.h"
#include "cli/lookup.h"
#include "cli/monitor.h"
#include "cli/process_spec.h"
#include "cli/signals.h"
#include "cli/task.h"
#include "oci/spec.h"

struct options {
    struct process_options process;
    const char *console_socket, *pid_file, *cgroup;
    uint64_t preserve_fds;
    bool detach, ignore_paused;
};

#define ROW(kind, field, name, letter, help) OPTION(kind, struct options, field, name, letter, help)

static const struct option_row rows[] = {
    ROW(OPTION_TEXT, console_socket, "console-socket", 0,
        "path to an AF_UNIX socket which will receive a file descriptor referencing the master end of the console's "
        "pseudoterminal"),
    ROW(OPTION_TEXT, process.cwd, "cwd", 0, "current working directory in the container"),
    ROW(OPTION_LIST, process.env, "env", 'e', "set environment variables"),
    ROW(OPTION_FLAG, process.tty, "tty", 't', "allocate a pseudo-TTY"),
    ROW(OPTION_TEXT, process.user, "user", 'u', "UID (format: <uid>[:<gid>])"),
    ROW(OPTION_LIST, process.additional_gids, "additional-gids", 'g', "additional gids"),
    ROW(OPTION_TEXT, process.file, "process", 'p', "path to the process.json"),
    ROW(OPTION_FLAG, detach, "detach", 'd', "detach from the container's process"),
    ROW(OPTION_TEXT, pid_file, "pid-file", 0, "specify the file to write the process id to"),
    ROW(OPTION_TEXT, process.label, "process-label", 0, "accepted and ignored: the guest has no SELinux"),
    ROW(OPTION_TEXT, process.apparmor, "apparmor", 0, "accepted and ignored: the guest has no AppArmor"),
    ROW(OPTION_FLAG, process.no_new_privs, "no-new-privs", 0, "set the no new privileges value for the process"),
    ROW(OPTION_LIST, process.caps, "cap", 'c', "add a capability to all sets of the process"),
    ROW(OPTION_UINT, preserve_fds, "preserve-fds", 0,
        "refused unless 0: open files cannot be passed into a virtual machine"),
    ROW(OPTION_TEXT, cgroup, "cgroup", 0, "refused: the process runs in the container's cgroup"),
    ROW(OPTION_FLAG, ignore_paused, "ignore-paused", 0, "allow exec in a paused container"),
};

struct exec {
    const struct cli *cli;
    const struct options *options;
    const char *id;
    char exec_id[EXEC_ID_SIZE];
    struct lookup lookup;
    json_t *process; /* owned */
    struct io io;
    struct monitor monitor;
    struct session session;
    struct attach attach;
    bool detached;
};

/* What can be found wrong without the daemon. */
static int check(struct exec *e, int n_args, char **args, struct err *err) {
    const struct options *o = e->options;
    int r = launch_refuse_fds(o->preserve_fds, err);
    if (r == 0 && o->cgroup)
        r = err_set(err, EOPNOTSUPP, "--cgroup %s: the process runs in the container's cgroup", o->cgroup);
    if (r == 0)
        r = lookup_container(e->cli, e->id, &e->lookup, err);
    if (r != 0)
        return r;
    const char *status = e->lookup.container->status;
    if (strcmp(status, "stopped") == 0)
        return err_set(err, EBUSY, "cannot exec in a stopped container");
    if (strcmp(status, "paused") == 0 && !o->ignore_paused)
        return err_set(err, EBUSY, "cannot exec in a paused container (use --ignore-paused to override)");
    if (o->process.file)
        return process_spec_load(&o->process, &e->process, err);
    cleanup_json json_t *spec = NULL;
    r = oci_spec_load(e->lookup.container->bundle, &spec, err);
    return r < 0 ? r
                 : process_spec_build(json_object_get(spec, "process"), &o->process, n_args, args, &e->process, err);
}

static int connect_daemon(struct exec *e, struct err *err) {
    const struct options *o = e->options;
    struct io_request req = {
        .terminal = json_is_true(json_object_get(e->process, "terminal")),
        .detach = o->detach,
        .console_socket = o->console_socket,
    };
    int r = oci_console_size(e->process, &req.width, &req.height, err);
    if (r == 0)
        r = io_check(&req, err);
    if (r == 0)
        r = exec_id_make(e->exec_id, err);
    if (r < 0)
        return r;
    signals_block();
    r = io_prepare(&req, &e->io, err);
    e->detached = o->detach;
    const struct monitor_spec spec = {.sandbox_id = e->lookup.dir.id,
                                      .container_id = e->id,
                                      .exec_id = e->exec_id,
                                      .title = json_object_get(e->process, "args"),
                                      .slave = e->detached ? e->io.slave : -1,
                                      .foreground = !e->detached};
    if (r == 0)
        r = monitor_fork(&spec, &e->monitor, err);
    if (r == 0)
        r = lookup_connect(e->cli, &e->lookup, &e->session, err);
    if (r == 0)
        r = monitor_attach(&e->monitor, &e->session, e->lookup.state.daemon_pid, e->lookup.state.daemon_start, err);
    if (r < 0)
        return r;
    e->attach =
        (struct attach){.session = &e->session, .id = e->id, .exec_id = e->exec_id, .io = e->detached ? NULL : &e->io};
    return attach_begin(&e->attach, err);
}

static int start(struct exec *e, struct err *err) {
    cleanup_free char *text = json_text(e->process, JSON_COMPACT);
    pid_t pid = e->monitor.pid;
    if (!text)
        return err_set(err, ENOMEM, "out of memory");
    int r = task_exec(&e->session, e->id, e->exec_id, text, pid, &e->io.pass, err);
    if (r < 0)
        return r;
    io_passed(&e->io);
    r = monitor_release(&e->monitor, err);
    if (r == 0 && !e->detached)
        r = attach_run(&e->attach, err);
    if (r == 0)
        r = task_start(&e->session, e->id, e->exec_id, 0, err);
    if (r == 0 && e->options->pid_file)
        r = launch_write_pid(e->options->pid_file, pid, err);
    return r;
}

static int exec(struct exec *e, int n_args, char **args, struct err *err) {
    uint32_t status = 0;
    int r = check(e, n_args, args, err);
    if (r == 0)
        r = connect_daemon(e, err);
    if (r == 0)
        r = start(e, err);
    if (r == 0 && !e->detached)
        r = attach_wait(&e->attach, &status, err);
    int interrupt = e->session.interrupt;
    attach_end(&e->attach);
    if (e->attach.vm_death.code)
        cli_report(e->cli, &e->attach.vm_death);
    /* One that could not be started, or was interrupted, is not left behind as a record in the daemon. */
    if (e->session.client && !e->session.closed && (!e->detached || r < 0)) {
        if (r < 0)
            (void)task_kill(&e->session, e->id, e->exec_id, 9, false, NULL);
        (void)task_delete(&e->session, e->id, e->exec_id, NULL, NULL);
    }
    if (r == -EINTR && interrupt) {
        cli_report(e->cli, err);
        return 128 + interrupt;
    }
    return r < 0 ? err_wrap(err, "exec failed") : (int)(status & 0xff);
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    struct exec e = {
        .cli = cli,
        .options = values,
        .id = args[0],
        .lookup = LOOKUP_NONE,
        .io = IO_NONE,
        .monitor = MONITOR_NONE,
    };
    int r = exec(&e, n_args - 1, args + 1, err);
    io_close(&e.io);
    session_close(&e.session);
    monitor_abort(&e.monitor);
    json_decref(e.process);
    lookup_clear(&e.lookup);
    return r;
}

const struct cli_command command_exec = {
    .name = "exec",
    .arguments = "<container-id> <command> [command options]  || -p process.json <container-id>",
    .summary = "execute new process inside the container",
    .description = "Where \"<command>\" is the command to be executed in the container. Without -p the\n"
                   "process is like the container's own (user, environment, capabilities, limits), changed\n"
                   "by the options.\n\n"
                   "In the foreground it ends with the exit code of the process (128 plus the signal if one\n"
                   "killed it), 127 if the command was not found, 126 if it could not be executed, and 255 for\n"
                   "every other failure.",
    .options = {rows, ARRAY_SIZE(rows), .stop_at_first = true},
    .values_size = sizeof(struct options),
    .min_args = 1,
    .max_args = -1,
    .runs_process = true,
    .failure_code = 255,
    .run = run,
};
