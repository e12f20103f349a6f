/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/task.h"

#include <string.h>

#include "base/log.h"

#define TYPE_CREATE_OPTIONS "stasis.sandbox.v1.CreateOptions"
#define TYPE_CHECKPOINT_OPTIONS "stasis.sandbox.v1.CheckpointOptions"
#define TYPE_EXEC_SPEC "stasis.sandbox.v1.ExecSpec"
#define TYPE_RESOURCES "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"

/* protobuf-c's messages have no const strings; they are only read from. */
#define TEXT(s) ((char *)(s))

static const ProtobufCServiceDescriptor *const task = &containerd__task__v2__task__descriptor;
static const ProtobufCServiceDescriptor *const sandbox = &stasis__sandbox__v1__sandbox__descriptor;

static int call(struct session *s, const char *method, const ProtobufCMessage *request, struct err *err) {
    return session_call(s, task, method, request, NULL, 0, 0, NULL, err);
}

/* Puts a message into an Any; the caller frees any->value.data. */
static int pack(Containerd__Task__V2__Any *any, const char *type, const ProtobufCMessage *m, struct err *err) {
    any->type_url = TEXT(type);
    any->value.len = protobuf_c_message_get_packed_size(m);
    any->value.data = malloc(any->value.len + 1); /* an empty message is no failure */
    if (!any->value.data)
        return err_set(err, ENOMEM, "out of memory");
    protobuf_c_message_pack(m, any->value.data);
    return 0;
}

int task_create(struct session *s, const char *id, const char *bundle, pid_t host_pid, const struct task_stdio *io,
                const struct task_restore *restore, uint64_t timeout, struct err *err) {
    Stasis__Sandbox__V1__CreateOptions options = STASIS__SANDBOX__V1__CREATE_OPTIONS__INIT;
    Containerd__Task__V2__Any any = CONTAINERD__TASK__V2__ANY__INIT;
    Containerd__Task__V2__CreateTaskRequest req = CONTAINERD__TASK__V2__CREATE_TASK_REQUEST__INIT;
    options.init_pid = (uint32_t)host_pid;
    options.width = io->width;
    options.height = io->height;
    options.relayed = io->relayed;
    if (restore) {
        options.work_path = TEXT(restore->work);
        options.criu = (Stasis__Agent__V1__CriuOptions *)(uintptr_t)restore->criu;
        req.checkpoint = TEXT(restore->images);
    }
    req.id = TEXT(id);
    req.bundle = TEXT(bundle);
    req.terminal = io->terminal;
    req.stdin = TEXT(io->in);
    req.stdout = TEXT(io->out);
    req.stderr = TEXT(io->err);
    req.options = &any;
    int r = pack(&any, TYPE_CREATE_OPTIONS, &options.base, err);
    if (r == 0)
        r = session_call(s, task, "Create", &req.base, io->fds, io->n_fds, timeout, NULL, err);
    free(any.value.data);
    return r;
}

int task_exec(struct session *s, const char *id, const char *exec_id, const char *process_json, pid_t host_pid,
              const struct task_stdio *io, struct err *err) {
    Stasis__Sandbox__V1__ExecSpec spec = STASIS__SANDBOX__V1__EXEC_SPEC__INIT;
    Containerd__Task__V2__Any any = CONTAINERD__TASK__V2__ANY__INIT;
    Containerd__Task__V2__ExecProcessRequest req = CONTAINERD__TASK__V2__EXEC_PROCESS_REQUEST__INIT;
    spec.process.data = (uint8_t *)TEXT(process_json);
    spec.process.len = strlen(process_json);
    spec.pid = (uint32_t)host_pid;
    spec.width = io->width;
    spec.height = io->height;
    spec.relayed = io->relayed;
    req.id = TEXT(id);
    req.exec_id = TEXT(exec_id);
    req.terminal = io->terminal;
    req.stdin = TEXT(io->in);
    req.stdout = TEXT(io->out);
    req.stderr = TEXT(io->err);
    req.spec = &any;
    int r = pack(&any, TYPE_EXEC_SPEC, &spec.base, err);
    if (r == 0)
        r = session_call(s, task, "Exec", &req.base, io->fds, io->n_fds, 0, NULL, err);
    free(any.value.data);
    return r;
}

int task_console(struct session *s, const char *exec_id, const struct task_stdio *io, struct err *err) {
    Stasis__Sandbox__V1__ConsoleRequest req = STASIS__SANDBOX__V1__CONSOLE_REQUEST__INIT;
    req.exec_id = TEXT(exec_id);
    req.stdin = TEXT(io->in);
    req.stdout = TEXT(io->out);
    req.width = io->width;
    req.height = io->height;
    return session_call(s, sandbox, "Console", &req.base, io->fds, io->n_fds, 0, NULL, err);
}

int task_start(struct session *s, const char *id, const char *exec_id, uint64_t timeout, struct err *err) {
    Containerd__Task__V2__StartRequest req = CONTAINERD__TASK__V2__START_REQUEST__INIT;
    req.id = TEXT(id);
    req.exec_id = TEXT(exec_id);
    return session_call(s, task, "Start", &req.base, NULL, 0, timeout, NULL, err);
}

int task_checkpoint(struct session *s, const char *id, const char *path,
                    const Stasis__Sandbox__V1__CheckpointOptions *options, uint64_t timeout, struct err *err) {
    Containerd__Task__V2__Any any = CONTAINERD__TASK__V2__ANY__INIT;
    Containerd__Task__V2__CheckpointTaskRequest req = CONTAINERD__TASK__V2__CHECKPOINT_TASK_REQUEST__INIT;
    req.id = TEXT(id);
    req.path = TEXT(path);
    req.options = &any;
    int r = pack(&any, TYPE_CHECKPOINT_OPTIONS, &options->base, err);
    if (r == 0)
        r = session_call(s, task, "Checkpoint", &req.base, NULL, 0, timeout, NULL, err);
    free(any.value.data);
    return r;
}

int task_delete(struct session *s, const char *id, const char *exec_id, uint32_t *ret_status, struct err *err) {
    Containerd__Task__V2__DeleteRequest req = CONTAINERD__TASK__V2__DELETE_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.id = TEXT(id);
    req.exec_id = TEXT(exec_id);
    int r = session_call(s, task, "Delete", &req.base, NULL, 0, 0, &reply, err);
    if (r < 0)
        return r;
    if (ret_status)
        *ret_status = ((const Containerd__Task__V2__DeleteResponse *)reply)->exit_status;
    protobuf_c_message_free_unpacked(reply, NULL);
    return 0;
}

int task_kill(struct session *s, const char *id, const char *exec_id, int sig, bool all, struct err *err) {
    Containerd__Task__V2__KillRequest req = CONTAINERD__TASK__V2__KILL_REQUEST__INIT;
    req.id = TEXT(id);
    req.exec_id = TEXT(exec_id);
    req.signal = (uint32_t)sig;
    req.all = all;
    return call(s, "Kill", &req.base, err);
}

int task_pause(struct session *s, const char *id, struct err *err) {
    Containerd__Task__V2__PauseRequest req = CONTAINERD__TASK__V2__PAUSE_REQUEST__INIT;
    req.id = TEXT(id);
    return call(s, "Pause", &req.base, err);
}

int task_resume(struct session *s, const char *id, struct err *err) {
    Containerd__Task__V2__ResumeRequest req = CONTAINERD__TASK__V2__RESUME_REQUEST__INIT;
    req.id = TEXT(id);
    return call(s, "Resume", &req.base, err);
}

int task_update(struct session *s, const char *id, const char *resources_json, struct err *err) {
    Containerd__Task__V2__Any any = CONTAINERD__TASK__V2__ANY__INIT;
    Containerd__Task__V2__UpdateTaskRequest req = CONTAINERD__TASK__V2__UPDATE_TASK_REQUEST__INIT;
    any.type_url = TEXT(TYPE_RESOURCES);
    any.value.data = (uint8_t *)TEXT(resources_json);
    any.value.len = strlen(resources_json);
    req.id = TEXT(id);
    req.resources = &any;
    return call(s, "Update", &req.base, err);
}

static Containerd__Task__V2__WaitRequest wait_request(const char *id, const char *exec_id) {
    Containerd__Task__V2__WaitRequest req = CONTAINERD__TASK__V2__WAIT_REQUEST__INIT;
    req.id = TEXT(id);
    req.exec_id = TEXT(exec_id);
    return req;
}

int task_wait(struct session *s, const char *id, const char *exec_id, uint64_t timeout, uint32_t *ret_status,
              struct err *err) {
    Containerd__Task__V2__WaitRequest req = wait_request(id, exec_id);
    ProtobufCMessage *reply = NULL;
    int r = session_call(s, task, "Wait", &req.base, NULL, 0, timeout, &reply, err);
    if (r < 0)
        return r;
    if (ret_status)
        *ret_status = ((const Containerd__Task__V2__WaitResponse *)reply)->exit_status;
    protobuf_c_message_free_unpacked(reply, NULL);
    return 0;
}

int task_wait_async(struct session *s, const char *id, const char *exec_id, ttrpc_reply_fn fn, void *userdata,
                    struct err *err) {
    Containerd__Task__V2__WaitRequest req = wait_request(id, exec_id);
    return ttrpc_client_call(s->client, task, "Wait", &req.base, TTRPC_NO_DEADLINE, fn, userdata, NULL, err);
}

int task_shutdown(struct session *s, const char *id, bool now, uint64_t timeout, struct err *err) {
    Containerd__Task__V2__ShutdownRequest req = CONTAINERD__TASK__V2__SHUTDOWN_REQUEST__INIT;
    req.id = TEXT(id);
    req.now = now;
    return session_call(s, task, "Shutdown", &req.base, NULL, 0, timeout, NULL, err);
}

int task_processes(struct session *s, const char *id, Stasis__Agent__V1__ProcessesResponse **ret, struct err *err) {
    Stasis__Sandbox__V1__ProcessesRequest req = STASIS__SANDBOX__V1__PROCESSES_REQUEST__INIT;
    req.id = TEXT(id);
    return session_call(s, sandbox, "Processes", &req.base, NULL, 0, 0, (ProtobufCMessage **)(void *)ret, err);
}

int task_execs(struct session *s, const char *id, Stasis__Sandbox__V1__ExecsResponse **ret, struct err *err) {
    Stasis__Sandbox__V1__ProcessesRequest req = STASIS__SANDBOX__V1__PROCESSES_REQUEST__INIT;
    req.id = TEXT(id);
    return session_call(s, sandbox, "Execs", &req.base, NULL, 0, 0, (ProtobufCMessage **)ret, err);
}

int task_stats(struct session *s, const char *id, Containerd__Task__V2__StatsResponse **ret, struct err *err) {
    Containerd__Task__V2__StatsRequest req = CONTAINERD__TASK__V2__STATS_REQUEST__INIT;
    req.id = TEXT(id);
    return session_call(s, task, "Stats", &req.base, NULL, 0, 0, (ProtobufCMessage **)ret, err);
}

int task_describe(struct session *s, Stasis__Sandbox__V1__DescribeResponse **ret, struct err *err) {
    Stasis__Sandbox__V1__Empty req = STASIS__SANDBOX__V1__EMPTY__INIT;
    return session_call(s, sandbox, "Describe", &req.base, NULL, 0, 0, (ProtobufCMessage **)ret, err);
}

int task_info(struct session *s, Stasis__Sandbox__V1__InfoResponse **ret, struct err *err) {
    Stasis__Sandbox__V1__Empty req = STASIS__SANDBOX__V1__EMPTY__INIT;
    return session_call(s, sandbox, "Info", &req.base, NULL, 0, 0, (ProtobufCMessage **)ret, err);
}

int task_has_terminal(struct session *s, const char *id, const char *exec_id, bool *ret, struct err *err) {
    Containerd__Task__V2__StateRequest req = CONTAINERD__TASK__V2__STATE_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.id = TEXT(id);
    req.exec_id = TEXT(exec_id);
    int r = session_call(s, task, "State", &req.base, NULL, 0, 0, &reply, err);
    if (r < 0)
        return r;
    *ret = ((const Containerd__Task__V2__StateResponse *)reply)->terminal;
    protobuf_c_message_free_unpacked(reply, NULL);
    return 0;
}

int task_check(struct session *s, uint64_t timeout, Stasis__Agent__V1__CheckResponse **ret, struct err *err) {
    Stasis__Sandbox__V1__Empty req = STASIS__SANDBOX__V1__EMPTY__INIT;
    return session_call(s, sandbox, "Check", &req.base, NULL, 0, timeout, (ProtobufCMessage **)ret, err);
}

static void on_async(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    (void)reply;
    if (err)
        log_debug("%s: %s", (const char *)userdata, err->msg);
}

static void call_async(struct session *s, const char *method, const ProtobufCMessage *request) {
    struct err err = ERR_INIT;
    if (ttrpc_client_call(s->client, task, method, request, s->timeout, on_async, TEXT(method), NULL, &err) < 0)
        log_debug("%s: %s", method, err.msg);
}

void task_hold_async(struct session *s, const char *id, const char *scratch) {
    Stasis__Sandbox__V1__HoldRequest req = STASIS__SANDBOX__V1__HOLD_REQUEST__INIT;
    struct err err = ERR_INIT;
    req.id = TEXT(id);
    req.scratch = TEXT(scratch);
    if (ttrpc_client_call(s->client, sandbox, "Hold", &req.base, TTRPC_NO_DEADLINE, on_async, TEXT("Hold"), NULL,
                          &err) < 0)
        log_debug("Hold: %s", err.msg);
}

void task_kill_async(struct session *s, const char *id, const char *exec_id, int sig) {
    Containerd__Task__V2__KillRequest req = CONTAINERD__TASK__V2__KILL_REQUEST__INIT;
    req.id = TEXT(id);
    req.exec_id = TEXT(exec_id);
    req.signal = (uint32_t)sig;
    call_async(s, "Kill", &req.base);
}

void task_resize_async(struct session *s, const char *id, const char *exec_id, uint32_t width, uint32_t height) {
    Containerd__Task__V2__ResizePtyRequest req = CONTAINERD__TASK__V2__RESIZE_PTY_REQUEST__INIT;
    req.id = TEXT(id);
    req.exec_id = TEXT(exec_id);
    req.width = width;
    req.height = height;
    call_async(s, "ResizePty", &req.base);
}
