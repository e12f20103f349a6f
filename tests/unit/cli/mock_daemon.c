/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands for containerd-shim-stasis-v2 in the tests of the CLI: the same command line, socket and calls, but the
 * "guest" is this host and a container's process a child of this program. What it got is left in the bundle for the
 * tests to look at (update.json, checkpoint.txt, create.txt). A checkpoint is made of the fixtures' images; a restore
 * starts the spec's process. The annotation "mock" of the spec makes it misbehave: "die" (at Create), "fail" (Create
 * answers with an error), "hang" (Create is never answered), "nostart" (Start fails), "stall" (nor is Start), "nodump"
 * (Checkpoint fails). This file has the calls but those about snapshots and attaching (mock_snapshot.c); mock_process.c
 * has the processes.
 */
#include "mock.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "base/proc.h"
#include "message_text.h"
#include "oci/state.h"
#include "proto/metrics.pb-c.h"
#include "proto/sandbox.pb-c.h"
#include "proto/task.pb-c.h"

void mock_save(struct mock *m) {
    struct process *p = &m->processes[0];
    struct oci_container_state c = {
        .id = TEXT(m->id),
        .bundle = m->bundle,
        .rootfs = m->rootfs,
        .status = m->status,
        .pid = p->exited ? 0 : p->host_pid,
        .created_wall_usec = now_wall_usec(),
        .exit_status = p->status,
    };
    struct oci_sandbox_state s = {.id = TEXT(m->id), .daemon_pid = getpid(), .containers = &c, .n_containers = p->used};
    (void)proc_start_time(getpid(), &s.daemon_start);
    struct err err = ERR_INIT;
    if (oci_sandbox_state_save(m->dir, &s, &err) < 0)
        log_error("%s", err.msg);
}

void mock_fail(struct ttrpc_request *req, int code, const char *msg) {
    struct err err = ERR_INIT;
    err_set(&err, code, "%s", msg);
    ttrpc_fail(req, &err);
}

void mock_leave_text(const struct mock *m, const char *name, const char *text) {
    cleanup_free char *path = path_join(m->bundle, name);
    (void)file_write_atomic(path, text, strlen(text), 0600, false, NULL);
}

/* The Task service. */

static void handle_create(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct mock *m = userdata;
    const Containerd__Task__V2__CreateTaskRequest *in = (const void *)msg;
    Stasis__Sandbox__V1__CreateOptions *o =
        stasis__sandbox__v1__create_options__unpack(NULL, in->options->value.len, in->options->value.data);
    cleanup_free char *path = path_join(in->bundle, "config.json");
    cleanup_json json_t *config = NULL;
    if (!o || json_parse_file(path, &config, NULL) < 0)
        abort();
    const char *mode = json_string_value(json_object_get(json_object_get(config, "annotations"), "mock"));
    if (mode && strcmp(mode, "die") == 0) {
        log_error("the mock dies, as it was told");
        _exit(1);
    }
    m->bundle = strdup(in->bundle);
    m->rootfs = strdup(json_string_value(json_object_get(json_object_get(config, "root"), "path")));
    m->nodump = mode && strcmp(mode, "nodump") == 0;
    m->nostart = mode && strcmp(mode, "nostart") == 0;
    m->stall = mode && strcmp(mode, "stall") == 0;
    cleanup_free char *text = message_text(&o->base, in->checkpoint);
    mock_leave_text(m, "create.txt", text);
    struct process *p = process_add(m, "", json_incref(json_object_get(config, "process")), in->terminal, o->init_pid,
                                    o->width, o->height);
    process_take_stdio(p, req, in->stdin, in->stdout, in->stderr);
    stasis__sandbox__v1__create_options__free_unpacked(o, NULL);
    m->status = "creating";
    mock_save(m);
    if (mode && strcmp(mode, "hang") == 0)
        return;
    if (mode && strcmp(mode, "fail") == 0) {
        process_drop(p);
        mock_fail(req, EIO, "the mock fails, as it was told");
        return;
    }
    m->status = "created";
    mock_save(m);
    ttrpc_reply(req, NULL);
}

static void handle_exec(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__ExecProcessRequest *in = (const void *)msg;
    Stasis__Sandbox__V1__ExecSpec *spec =
        stasis__sandbox__v1__exec_spec__unpack(NULL, in->spec->value.len, in->spec->value.data);
    json_t *process = NULL;
    if (!spec || json_parse("process", (const char *)spec->process.data, spec->process.len, &process, NULL) < 0)
        abort();
    struct process *p = process_add(userdata, in->exec_id, process, in->terminal, spec->pid, spec->width, spec->height);
    process_take_stdio(p, req, in->stdin, in->stdout, in->stderr);
    stasis__sandbox__v1__exec_spec__free_unpacked(spec, NULL);
    ttrpc_reply(req, NULL);
}

static void handle_start(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct mock *m = userdata;
    const Containerd__Task__V2__StartRequest *in = (const void *)msg;
    struct process *p = process_find_or_fail(m, in->exec_id, req);
    struct err err = ERR_INIT;
    if (!p)
        return;
    if (m->stall)
        return;
    if (m->nostart)
        err_set(&err, EIO, "the mock does not start it, as it was told");
    if (err.code || process_start(p, &err) < 0) {
        ttrpc_fail(req, &err);
        return;
    }
    if (!*in->exec_id) {
        m->status = "running";
        mock_save(m);
    }
    ttrpc_reply(req, NULL);
}

static void handle_wait(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__WaitRequest *in = (const void *)msg;
    struct process *p = process_find_or_fail(userdata, in->exec_id, req);
    if (!p)
        return;
    if (p->n_waiters == WAITERS_MAX)
        abort();
    p->waiters[p->n_waiters++] = req;
    process_tell(p);
}

static void handle_kill(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__KillRequest *in = (const void *)msg;
    struct process *p = process_find_or_fail(userdata, in->exec_id, req);
    if (!p)
        return;
    if (p->pid > 0 && !p->exited)
        kill(p->pid, (int)in->signal);
    ttrpc_reply(req, NULL);
}

static void handle_delete(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct mock *m = userdata;
    const Containerd__Task__V2__DeleteRequest *in = (const void *)msg;
    struct process *p = process_find_or_fail(m, in->exec_id, req);
    if (!p)
        return;
    process_drop(p);
    mock_save(m);
    ttrpc_reply(req, NULL);
}

static void signal_init(struct ttrpc_request *req, struct mock *m, int sig, const char *status) {
    kill(m->processes[0].pid, sig);
    m->status = status;
    mock_save(m);
    ttrpc_reply(req, NULL);
}

static void handle_pause(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    (void)msg;
    signal_init(req, userdata, SIGSTOP, "paused");
}

static void handle_resume(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    (void)msg;
    signal_init(req, userdata, SIGCONT, "running");
}

/* The images and logs of a dump; false when they cannot be written. */
static bool write_dump(const char *images, const char *work) {
    static const char *const names[] = {"core-1.img",    "core-7.img", "core-12.img",  "fdinfo-1.img",
                                        "files.img",     "ids-1.img",  "ids-7.img",    "ids-12.img",
                                        "pagemap-1.img", "pstree.img", "inventory.img"};
    static const char log[] = "(00.1) Version: 4.1.1 (gitid 0)\n";
    bool ok = path_mkdirs(images, 0700, NULL) == 0 && path_mkdirs(work, 0700, NULL) == 0;
    for (size_t i = 0; ok && i <= ARRAY_SIZE(names); i++) {
        const char *name = i < ARRAY_SIZE(names) ? names[i] : "stats-dump";
        cleanup_free char *from = path_join(FIXTURES "/criu", name);
        cleanup_free char *to = path_join(i < ARRAY_SIZE(names) ? images : work, name);
        cleanup_free char *data = NULL;
        size_t len;
        ok = file_read_at(AT_FDCWD, from, 1 << 20, &data, &len, NULL) == 0 &&
             file_write_atomic(to, data, len, 0600, false, NULL) == 0;
    }
    cleanup_free char *path = path_join(work, "dump.log");
    return ok && file_write_atomic(path, log, strlen(log), 0600, false, NULL) == 0;
}

static void handle_checkpoint(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct mock *m = userdata;
    const Containerd__Task__V2__CheckpointTaskRequest *in = (const void *)msg;
    Stasis__Sandbox__V1__CheckpointOptions *o =
        stasis__sandbox__v1__checkpoint_options__unpack(NULL, in->options->value.len, in->options->value.data);
    if (!o)
        abort();
    cleanup_free char *text = message_text(&o->base, in->path);
    mock_leave_text(m, "checkpoint.txt", text);
    bool ok = !m->nodump && write_dump(in->path, o->work_path);
    if (ok && !o->leave_running && !o->pre_dump)
        kill(m->processes[0].pid, SIGKILL);
    stasis__sandbox__v1__checkpoint_options__free_unpacked(o, NULL);
    if (ok)
        ttrpc_reply(req, NULL);
    else
        mock_fail(req, EIO, "CRIU says no, as the mock was told");
}

static void handle_resize(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__ResizePtyRequest *in = (const void *)msg;
    struct process *p = process_find_or_fail(userdata, in->exec_id, req);
    if (!p)
        return;
    p->size = (struct winsize){.ws_col = (unsigned short)in->width, .ws_row = (unsigned short)in->height};
    if (p->master >= 0)
        ioctl(p->master, TIOCSWINSZ, &p->size);
    ttrpc_reply(req, NULL);
}

static void handle_update(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct mock *m = userdata;
    const Containerd__Task__V2__UpdateTaskRequest *in = (const void *)msg;
    cleanup_free char *path = path_join(m->bundle, "update.json");
    (void)file_write_atomic(path, in->resources->value.data, in->resources->value.len, 0600, false, NULL);
    ttrpc_reply(req, NULL);
}

static void handle_processes(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    (void)msg;
    (void)userdata;
    Stasis__Agent__V1__ProcessDetails d = STASIS__AGENT__V1__PROCESS_DETAILS__INIT, *list = &d;
    Stasis__Agent__V1__ProcessesResponse out = STASIS__AGENT__V1__PROCESSES_RESPONSE__INIT;
    d.pid = 42;
    d.tty = TEXT("?");
    d.command = TEXT("/bin/mocked");
    out.processes = &list;
    out.n_processes = 1;
    ttrpc_reply(req, &out.base);
}

/* Each call tells of one OOM kill more. */
static void handle_stats(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    (void)msg;
    (void)userdata;
    static uint64_t kills;
    uint8_t buf[256];
    Io__Containerd__Cgroups__V2__PidsStat pids = IO__CONTAINERD__CGROUPS__V2__PIDS_STAT__INIT;
    Io__Containerd__Cgroups__V2__MemoryEvents events = IO__CONTAINERD__CGROUPS__V2__MEMORY_EVENTS__INIT;
    Io__Containerd__Cgroups__V2__Metrics metrics = IO__CONTAINERD__CGROUPS__V2__METRICS__INIT;
    Containerd__Task__V2__Any any = CONTAINERD__TASK__V2__ANY__INIT;
    Containerd__Task__V2__StatsResponse out = CONTAINERD__TASK__V2__STATS_RESPONSE__INIT;
    pids.current = 3;
    events.oom_kill = kills++;
    metrics.pids = &pids;
    metrics.memory_events = &events;
    any.type_url = TEXT("io.containerd.cgroups.v2.Metrics");
    any.value.data = buf;
    any.value.len = protobuf_c_message_pack(&metrics.base, buf);
    out.stats = &any;
    ttrpc_reply(req, &out.base);
}

static void handle_connect(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    (void)msg;
    (void)userdata;
    ttrpc_reply(req, NULL);
}

static void handle_shutdown(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    (void)msg;
    struct mock *m = userdata;
    ttrpc_reply(req, NULL);
    (void)sd_event_exit(m->event, 0);
}

static void handle_state(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__StateRequest *in = (const void *)msg;
    const struct process *p = process_find_or_fail(userdata, in->exec_id, req);
    if (!p)
        return;
    Containerd__Task__V2__StateResponse out = CONTAINERD__TASK__V2__STATE_RESPONSE__INIT;
    out.id = in->id;
    out.terminal = p->terminal;
    ttrpc_reply(req, &out.base);
}

/* The sandbox service. */

static void handle_info(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    (void)msg;
    (void)userdata;
    Stasis__Sandbox__V1__InfoResponse out = STASIS__SANDBOX__V1__INFO_RESPONSE__INIT;
    out.qemu_pid = 1;
    out.accel = TEXT("tcg");
    out.agent_version = TEXT("mock");
    out.kernel_version = TEXT("6.mock");
    ttrpc_reply(req, &out.base);
}

static void handle_check(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    (void)msg;
    (void)userdata;
    Stasis__Agent__V1__CheckItem item = STASIS__AGENT__V1__CHECK_ITEM__INIT, *items[] = {&item};
    Stasis__Agent__V1__CheckResponse out = STASIS__AGENT__V1__CHECK_RESPONSE__INIT;
    item.name = TEXT("criu check");
    item.detail = TEXT("Looks \x1b[1mgood.");
    out.items = items;
    out.n_items = 1;
    out.criu_version = TEXT("4.mock");
    out.checkpoint_works = true;
    ttrpc_reply(req, &out.base);
}

static void handle_console(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Stasis__Sandbox__V1__ConsoleRequest *in = (const void *)msg;
    struct process *p = process_add(userdata, in->exec_id,
                                    json_pack("{s:[s], s:[s], s:s}", "args", "/bin/sh", "env", "PS1=# ", "cwd", "/"),
                                    true, 0, in->width, in->height);
    struct err err = ERR_INIT;
    process_take_stdio(p, req, in->stdin, in->stdout, "");
    if (process_start(p, &err) < 0)
        ttrpc_fail(req, &err);
    else
        ttrpc_reply(req, NULL);
}

static const struct ttrpc_handler task_handlers[] = {
    {"Create", handle_create},
    {"Start", handle_start},
    {"Delete", handle_delete},
    {"Pause", handle_pause},
    {"Resume", handle_resume},
    {"Kill", handle_kill},
    {"Checkpoint", handle_checkpoint},
    {"Exec", handle_exec},
    {"Wait", handle_wait},
    {"Update", handle_update},
    {"ResizePty", handle_resize},
    {"Stats", handle_stats},
    {"Connect", handle_connect},
    {"Shutdown", handle_shutdown},
    {"State", handle_state},
    {NULL, NULL},
};
static const struct ttrpc_handler sandbox_handlers[] = {{"Info", handle_info},
                                                        {"Check", handle_check},
                                                        {"Console", handle_console},
                                                        {"Processes", handle_processes},
                                                        {"Snapshot", handle_snapshot},
                                                        {"RestoreSnapshot", handle_restore_snapshot},
                                                        {"Attach", handle_attach},
                                                        {"Detach", handle_detach},
                                                        {"BuildTemplate", handle_build_template},
                                                        {NULL, NULL}};
static const struct ttrpc_service task_service = {.desc = &containerd__task__v2__task__descriptor,
                                                  .handlers = task_handlers};
static const struct ttrpc_service sandbox_service = {.desc = &stasis__sandbox__v1__sandbox__descriptor,
                                                     .handlers = sandbox_handlers};

/* A snapshot with a file of this name is not for the mock. */
static int check_snapshot(const char *dir) {
    cleanup_free char *path = path_join(dir, "misfit");
    if (access(path, F_OK) < 0)
        return 0;
    fputs("the machine does not fit\n", stderr);
    return 1;
}

int main(int argc, char **argv) {
    struct mock m = {.status = "stopped"};
    struct err err = ERR_INIT;
    if (argc > 3 && strcmp(argv[1], "-bundle") == 0 && strcmp(argv[argc - 1], "check-snapshot") == 0)
        return check_snapshot(argv[2]);
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "-root") == 0)
            m.root = argv[i + 1];
        else if (strcmp(argv[i], "-id") == 0)
            m.id = argv[i + 1];
        else if (strcmp(argv[i], "-log") == 0)
            m.log = argv[i + 1];
    }
    if (!m.root || !m.id || !m.log || strcmp(argv[argc - 1], "serve") != 0 || log_open(m.log, &err) < 0)
        return 2;
    m.dir = path_join(m.root, m.id);
    signal(SIGPIPE, SIG_IGN);
    int r = sd_event_new(&m.event);
    if (r >= 0)
        r = ttrpc_server_new(m.event, &m.server, &err);
    if (r >= 0)
        r = ttrpc_server_add(m.server, &task_service, &m, &err);
    if (r >= 0)
        r = ttrpc_server_add(m.server, &sandbox_service, &m, &err);
    if (r >= 0)
        r = ttrpc_server_listen(m.server, 3, &err);
    if (r >= 0)
        r = sd_event_loop(m.event);
    if (r < 0)
        log_error("%s", err.msg);
    for (size_t i = 0; i < PROCESSES_MAX; i++)
        if (m.processes[i].used)
            process_drop(&m.processes[i]);
    (void)ttrpc_server_flush(m.server, USEC_PER_SEC);
    ttrpc_server_free(m.server);
    sd_event_unref(m.event);
    free(m.bundle);
    free(m.rootfs);
    free(m.dir);
    return r < 0 ? 1 : 0;
}
