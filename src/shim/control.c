/* SPDX-License-Identifier: Apache-2.0 */
/* stasis.sandbox.v1.Sandbox: what the CLI asks beyond the Task service. */
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "proto/sandbox.pb-c.h"
#include "sandbox/container.h"
#include "sandbox/process.h"
#include "shim/service.h"
#include "vm/vm.h"

struct call {
    struct service *s;
    struct ttrpc_request *req;
    struct process *console;
    char exec_id[ID_MAX + 1]; /* of it */
};

int service_take_stdio(struct ttrpc_request *req, const char *uri, const char *what, int *ret, struct err *err) {
    if (*uri == '\0') {
        *ret = -1;
        return 0;
    }
    if (strcmp(uri, "fd://") != 0)
        return err_set(err, EOPNOTSUPP, "%s: \"%.64s\" cannot be used", what, uri);
    int fd = ttrpc_request_take_fd(req);
    if (fd == -ENOENT)
        return err_set(err, EINVAL, "%s: no file descriptor came with the request", what);
    if (fd < 0)
        return err_errno(err, -fd, "%s: the file descriptors of the request were lost", what);
    *ret = fd;
    return 0;
}

static struct call *call_new(struct service *s, struct ttrpc_request *req) {
    struct call *c = calloc(1, sizeof(*c));
    if (!c) {
        struct err err = ERR_INIT;
        err_set(&err, ENOMEM, "out of memory");
        ttrpc_fail(req, &err);
        return NULL;
    }
    c->s = s;
    c->req = req;
    return c;
}

static void call_fail(struct call *c, const struct err *err) {
    ttrpc_fail(c->req, err);
    free(c);
}

static void handle_info(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    (void)msg;
    struct service *s = userdata;
    struct sandbox_timing timings[SANDBOX_TIMINGS_MAX];
    size_t n = sandbox_timings(s->sb, timings);
    Stasis__Sandbox__V1__Timing t[SANDBOX_TIMINGS_MAX], *list[SANDBOX_TIMINGS_MAX];
    for (size_t i = 0; i < n; i++) {
        stasis__sandbox__v1__timing__init(&t[i]);
        t[i].step = (char *)(uintptr_t)timings[i].step;
        t[i].usec = timings[i].usec;
        list[i] = &t[i];
    }
    Stasis__Sandbox__V1__InfoResponse out = STASIS__SANDBOX__V1__INFO_RESPONSE__INIT;
    struct vm *vm = sandbox_vm(s->sb);
    out.id = (char *)(uintptr_t)sandbox_id(s->sb);
    out.daemon_pid = (uint32_t)getpid();
    out.qemu_pid = vm ? (uint32_t)vm_qemu_pid(vm) : 0;
    out.virtiofsd_pid = vm ? (uint32_t)vm_virtiofsd_pid(vm) : 0;
    out.accel = (char *)(uintptr_t)sandbox_accel_name(s->sb);
    out.agent_version = (char *)(uintptr_t)sandbox_agent_version(s->sb);
    out.kernel_version = (char *)(uintptr_t)sandbox_kernel_version(s->sb);
    out.n_timings = n;
    out.timings = list;
    ttrpc_reply(req, &out.base);
}

static void handle_describe(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    (void)msg;
    const struct service *s = userdata;
    struct err err = ERR_INIT;
    Stasis__Sandbox__V1__DescribeResponse out = STASIS__SANDBOX__V1__DESCRIBE_RESPONSE__INIT;
    cleanup_free char *text = sandbox_state_text(s->sb, &err);
    if (!text) {
        ttrpc_fail(req, &err);
        return;
    }
    out.state = text;
    ttrpc_reply(req, &out.base);
}

static void on_checked(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct call *c = userdata;
    if (err) {
        call_fail(c, err);
        return;
    }
    ttrpc_reply(c->req, *reply);
    free(c);
}

static void on_ready_to_check(void *userdata, const struct err *err) {
    struct call *c = userdata;
    struct err e = ERR_INIT;
    Stasis__Agent__V1__Empty in = STASIS__AGENT__V1__EMPTY__INIT;
    if (err)
        call_fail(c, err);
    else if (sandbox_call(c->s->sb, "Check", &in.base, on_checked, c, NULL, &e) < 0)
        call_fail(c, &e);
}

static void handle_check(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    (void)msg;
    struct call *c = call_new(userdata, req);
    struct err err = ERR_INIT;
    if (c && sandbox_when_ready(c->s->sb, on_ready_to_check, c, &err) < 0)
        call_fail(c, &err);
}

static void on_console(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct call *c = userdata;
    struct err e = ERR_INIT;
    /* It may have been deleted, or the sandbox with it, before the agent answered. */
    if (sandbox_find_console(c->s->sb, c->exec_id) != c->console) {
        err_set(&e, ECANCELED, "console %s was removed", c->exec_id);
        call_fail(c, &e);
        return;
    }
    if (err) {
        e = *err;
    } else {
        const Stasis__Agent__V1__ExecResponse *r = (const void *)*reply;
        (void)process_move(c->console, PROCESS_RUNNING, NULL);
        if (process_watch(c->console, r->pid, &e) == 0)
            e.code = 0;
    }
    if (e.code) {
        sandbox_remove_console(c->s->sb, c->console);
        call_fail(c, &e);
        return;
    }
    ttrpc_reply(c->req, NULL);
    free(c);
}

static int open_console(struct call *c, const Stasis__Sandbox__V1__ConsoleRequest *in, struct err *err) {
    struct sandbox *sb = c->s->sb;
    if (!sandbox_config(sb)->debug_console)
        return err_set(err, EACCES,
                       "the debug console is off: set debug_console = true under [agent] in the configuration, "
                       "before the sandbox is started");
    struct process_stdio io = PROCESS_STDIO_NONE;
    io.terminal = true;
    io.width = in->width;
    io.height = in->height;
    int r = id_validate("console id", in->exec_id, err);
    if (r == 0)
        r = service_take_stdio(c->req, in->stdin, "stdin", &io.in, err);
    if (r == 0)
        r = service_take_stdio(c->req, in->stdout, "stdout", &io.out, err);
    if (r < 0) {
        process_stdio_close(&io);
        return r;
    }
    struct process *p = NULL;
    r = process_new(sb, NULL, in->exec_id, 0, &io, NULL, &p, err);
    if (r < 0)
        return r;
    r = sandbox_add_console(sb, p, err);
    if (r < 0) {
        process_free(p);
        return r;
    }
    (void)process_move(p, PROCESS_STARTING, NULL);
    c->console = p;
    snprintf(c->exec_id, sizeof(c->exec_id), "%s", in->exec_id);
    Stasis__Agent__V1__ProcessId id = process_agent_id(p);
    Stasis__Agent__V1__ExecRequest out = STASIS__AGENT__V1__EXEC_REQUEST__INIT;
    out.id = &id;
    out.terminal = out.stdin = out.stdout = true;
    out.width = in->width;
    out.height = in->height;
    r = sandbox_call(sb, "Console", &out.base, on_console, c, NULL, err);
    if (r < 0)
        sandbox_remove_console(sb, p);
    return r;
}

static void handle_console(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct call *c = call_new(userdata, req);
    struct err err = ERR_INIT;
    if (c && open_console(c, (const void *)msg, &err) < 0)
        call_fail(c, &err);
}

static void on_processes(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct call *c = userdata;
    if (err) {
        call_fail(c, err);
        return;
    }
    ttrpc_reply(c->req, *reply);
    free(c);
}

static void handle_processes(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Stasis__Sandbox__V1__ProcessesRequest *in = (const void *)msg;
    struct call *c = call_new(userdata, req);
    struct err err = ERR_INIT;
    if (!c)
        return;
    Stasis__Agent__V1__ContainerRequest out = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    struct container *ctr = sandbox_find(c->s->sb, in->id);
    int r = 0;
    if (!ctr)
        r = err_set(&err, ENOENT, "container %s does not exist", in->id);
    else if (container_get_state(ctr) == CONTAINER_STOPPED)
        r = err_set(&err, EBUSY, "container %s is not running", in->id);
    if (r == 0)
        out.id = (char *)(uintptr_t)container_guest_id(ctr);
    if (r == 0)
        r = sandbox_call(c->s->sb, "Processes", &out.base, on_processes, c, NULL, &err);
    if (r < 0)
        call_fail(c, &err);
}

struct execs {
    Stasis__Sandbox__V1__Exec *all, **list; /* of n; list NULL: they are only counted */
    size_t n;
};

static int add_exec(struct process *p, void *userdata, struct err *err) {
    struct execs *e = userdata;
    (void)err;
    if (process_get_state(p) != PROCESS_RUNNING)
        return 0;
    if (e->list) {
        stasis__sandbox__v1__exec__init(&e->all[e->n]);
        e->all[e->n].id = (char *)(uintptr_t)process_exec_id(p);
        e->all[e->n].pid = process_guest_pid(p);
        e->list[e->n] = &e->all[e->n];
    }
    e->n++;
    return 0;
}

static void handle_execs(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Stasis__Sandbox__V1__ProcessesRequest *in = (const void *)msg;
    const struct service *s = userdata;
    const struct container *ctr = sandbox_find(s->sb, in->id);
    struct execs e = {0};
    struct err err = ERR_INIT;
    if (!ctr) {
        err_set(&err, ENOENT, "container %s does not exist", in->id);
        ttrpc_fail(req, &err);
        return;
    }
    (void)container_each_exec(ctr, add_exec, &e, NULL);
    cleanup_free Stasis__Sandbox__V1__Exec *all = e.all = calloc(MAX(e.n, 1), sizeof(*all));
    cleanup_free Stasis__Sandbox__V1__Exec **list = e.list = calloc(MAX(e.n, 1), sizeof(void *));
    if (!all || !list) {
        err_set(&err, ENOMEM, "out of memory");
        ttrpc_fail(req, &err);
        return;
    }
    e.n = 0;
    (void)container_each_exec(ctr, add_exec, &e, NULL);
    Stasis__Sandbox__V1__ExecsResponse out = STASIS__SANDBOX__V1__EXECS_RESPONSE__INIT;
    out.execs = list;
    out.n_execs = e.n;
    ttrpc_reply(req, &out.base);
}

static const struct ttrpc_handler handlers[] = {{"Info", handle_info},
                                                {"Describe", handle_describe},
                                                {"Cancel", service_handle_cancel},
                                                {"Hold", service_handle_hold},
                                                {"Check", handle_check},
                                                {"Console", handle_console},
                                                {"Processes", handle_processes},
                                                {"Execs", handle_execs},
                                                {"Snapshot", service_handle_snapshot},
                                                {"RestoreSnapshot", service_handle_restore_snapshot},
                                                {"Attach", service_handle_attach},
                                                {"Detach", service_handle_detach},
                                                {"BuildTemplate", service_handle_build_template},
                                                {"Remove", service_handle_remove},
                                                {NULL, NULL}};

static const struct ttrpc_service control_service = {
    .desc = &stasis__sandbox__v1__sandbox__descriptor,
    .name = "stasis.sandbox.v1.Sandbox",
    .handlers = handlers,
};

int service_add_control(struct service *s, struct err *err) {
    return ttrpc_server_add(s->server, &control_service, s, err);
}
