/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc.h"

#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "agent/check.h"
#include "agent/console.h"
#include "agent/container.h"
#include "agent/forget.h"
#include "agent/guest.h"
#include "agent/ps.h"
#include "agent/rpc_impl.h"
#include "agent/stats.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/agent.pb-c.h"
#include "ttrpc/server.h"

/* Shorter names of what protobuf-c generates. */
#define MSG(name) Stasis__Agent__V1__##name

uint64_t rpc_time(const struct ttrpc_request *req, uint64_t max_usec) {
    uint64_t deadline = ttrpc_request_deadline(req), now = now_usec();
    if (deadline == 0)
        return max_usec;
    uint64_t left = deadline > now ? deadline - now : 0;
    return MAX(MIN(left - left / 16, max_usec), USEC_PER_MSEC);
}

static uint64_t crun_time(const struct ttrpc_request *req) {
    return rpc_time(req, ttrpc_request_deadline(req) ? CRUN_TIMEOUT_MAX_USEC : CRUN_TIMEOUT_USEC);
}

static void answer(void *userdata, const struct err *err) {
    struct ttrpc_request *req = userdata;
    if (err)
        ttrpc_fail(req, err);
    else
        ttrpc_reply(req, NULL);
}

/* What a function that calls back returned: a failure is answered here, all else comes by the callback. */
static void answer_failure(struct ttrpc_request *req, int r, const struct err *err) {
    if (r < 0)
        ttrpc_fail(req, err);
}

static void answer_now(struct ttrpc_request *req, int r, const struct err *err) {
    answer(req, r < 0 ? err : NULL);
}

/* The process that an id names, or NULL, answered. */
static struct process *find_process(struct agent *a, struct ttrpc_request *req, const MSG(ProcessId) * id) {
    struct err err = ERR_INIT;
    struct process *p = NULL;
    if (!id) {
        err_set(&err, EINVAL, "the request names no process");
    } else if (!*id->container_id) {
        p = console_get(a, id->exec_id, &err);
    } else {
        struct container *c = container_get(a, id->container_id, &err);
        p = c ? container_process(c, id->exec_id, &err) : NULL;
    }
    if (!p)
        ttrpc_fail(req, &err);
    return p;
}

struct container *rpc_find_container(struct agent *a, struct ttrpc_request *req, const char *id) {
    struct err err = ERR_INIT;
    struct container *c = container_get(a, id, &err);
    if (!c)
        ttrpc_fail(req, &err);
    return c;
}

/* Guest. */

static void on_hello(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct agent *a = userdata;
    const MSG(HelloRequest) *m = (const void *)in;
    struct guest_hello hello = {.wall_usec = m->wall_usec, .hostname = m->hostname, .log_level = m->log_level};
    struct utsname u;
    struct timespec up;
    struct err err = ERR_INIT;
    if (guest_hello(a, &hello, &err) < 0) {
        ttrpc_fail(req, &err);
        return;
    }
    a->console_allowed = m->console;
    uname(&u);
    clock_gettime(CLOCK_BOOTTIME, &up);
    MSG(HelloResponse) out = STASIS__AGENT__V1__HELLO_RESPONSE__INIT;
    out.version = AGENT_PROTOCOL_VERSION;
    out.agent_version = (char *)STASIS_VERSION;
    out.kernel_version = u.release;
    out.uptime_usec = (uint64_t)up.tv_sec * USEC_PER_SEC + (uint64_t)up.tv_nsec / 1000;
    ttrpc_reply(req, &out.base);
}

static void on_forget(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ForgetRequest) *m = (const void *)in;
    struct err err = ERR_INIT;
    answer_failure(req, forget_paths(userdata, m->paths, m->n_paths, answer, req, &err), &err);
}

static void on_shutdown(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    (void)in;
    struct agent *a = userdata;
    ttrpc_reply(req, NULL);
    guest_shutdown_begin(a);
}

static void check_done(void *userdata, const struct check_result *result, const struct err *err) {
    struct ttrpc_request *req = userdata;
    if (err) {
        ttrpc_fail(req, err);
        return;
    }
    MSG(CheckItem) items[CHECK_ITEMS_MAX], *list[CHECK_ITEMS_MAX];
    MSG(CheckResponse) out = STASIS__AGENT__V1__CHECK_RESPONSE__INIT;
    for (size_t i = 0; i < result->n; i++) {
        items[i] = (MSG(CheckItem))STASIS__AGENT__V1__CHECK_ITEM__INIT;
        items[i].name = (char *)result->items[i].name;
        items[i].status = result->items[i].status;
        items[i].detail = (char *)result->items[i].detail;
        list[i] = &items[i];
    }
    out.n_items = result->n;
    out.items = list;
    out.criu_version = (char *)result->criu_version;
    out.checkpoint_works = check_passed(result);
    ttrpc_reply(req, &out.base);
}

static void on_check(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    (void)in;
    struct err err = ERR_INIT;
    answer_failure(req, check_run(userdata, check_done, req, &err), &err);
}

static void on_console(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ExecRequest) *m = (const void *)in;
    MSG(ExecResponse) out = STASIS__AGENT__V1__EXEC_RESPONSE__INIT;
    struct err err = ERR_INIT;
    int r = m->id ? console_start(userdata, m->id->exec_id, m->width, m->height, &err)
                  : err_set(&err, EINVAL, "the request names no console");
    if (r < 0) {
        ttrpc_fail(req, &err);
        return;
    }
    out.pid = (uint32_t)r;
    ttrpc_reply(req, &out.base);
}

/* Containers. */

void rpc_created(void *userdata, pid_t pid, const struct err *err) {
    MSG(CreateContainerResponse) out = STASIS__AGENT__V1__CREATE_CONTAINER_RESPONSE__INIT;
    out.pid = (uint32_t)pid;
    if (err)
        ttrpc_fail(userdata, err);
    else
        ttrpc_reply(userdata, &out.base);
}

static void on_create(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(CreateContainerRequest) *m = (const void *)in;
    struct process_streams streams = {.terminal = m->terminal,
                                      .in = m->stdin,
                                      .out = m->stdout,
                                      .err = m->stderr,
                                      .width = m->width,
                                      .height = m->height,
                                      .relayed = m->relayed};
    const struct container_request request = {.id = m->id,
                                              .spec = m->spec.data,
                                              .len = m->spec.len,
                                              .streams = &streams,
                                              .make_network = m->make_network,
                                              .pin_namespaces = m->pin_namespaces,
                                              .timeout_usec = crun_time(req)};
    struct err err = ERR_INIT;
    answer_failure(req, container_create(userdata, &request, rpc_created, req, &err), &err);
}

static void on_start(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ContainerRequest) *m = (const void *)in;
    struct err err = ERR_INIT;
    struct container *c = rpc_find_container(userdata, req, m->id);
    if (c)
        answer_failure(req, container_start(c, crun_time(req), answer, req, &err), &err);
}

static void on_delete(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ContainerRequest) *m = (const void *)in;
    struct err err = ERR_INIT;
    struct container *c = rpc_find_container(userdata, req, m->id);
    if (!c)
        return;
    c->delete_timeout_usec = crun_time(req);
    answer_failure(req, container_delete(c, answer, req, &err), &err);
}

static void on_pause(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ContainerRequest) *m = (const void *)in;
    struct err err = ERR_INIT;
    struct container *c = rpc_find_container(userdata, req, m->id);
    if (c)
        answer_failure(req, container_pause(c, answer, req, &err), &err);
}

static void on_resume(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ContainerRequest) *m = (const void *)in;
    struct err err = ERR_INIT;
    struct container *c = rpc_find_container(userdata, req, m->id);
    if (c)
        answer_now(req, container_resume(c, &err), &err);
}

static void on_update(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(UpdateRequest) *m = (const void *)in;
    struct err err = ERR_INIT;
    struct container *c = rpc_find_container(userdata, req, m->id);
    if (c)
        answer_failure(req, container_update(c, m->resources.data, m->resources.len, crun_time(req), answer, req, &err),
                       &err);
}

static void on_stats(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ContainerRequest) *m = (const void *)in;
    MSG(StatsResponse) out = STASIS__AGENT__V1__STATS_RESPONSE__INIT;
    struct err err = ERR_INIT;
    struct container *c = rpc_find_container(userdata, req, m->id);
    if (!c)
        return;
    cleanup_free uint8_t *metrics = NULL;
    int r = container_check_action(ACTION_INSPECT, c->state, c->id, &err);
    if (r == 0)
        r = stats_read(c->cgroup_fd, &metrics, &out.metrics.len, &err);
    if (r < 0) {
        ttrpc_fail(req, &err);
        return;
    }
    out.metrics.data = metrics;
    ttrpc_reply(req, &out.base);
}

static void answer_processes(void *userdata, const struct ps_entry *entries, size_t n, const struct err *failure) {
    struct ttrpc_request *req = userdata;
    struct err err = ERR_INIT;
    if (failure) {
        ttrpc_fail(req, failure);
        return;
    }
    /* The messages, and after them the list of pointers to them. */
    cleanup_free MSG(ProcessDetails) *details = calloc(n + 1, sizeof(*details) + sizeof(void *));
    if (!details) {
        err_set(&err, ENOMEM, "out of memory");
        ttrpc_fail(req, &err);
        return;
    }
    MSG(ProcessDetails) **list = (void *)(details + n);
    struct timespec up;
    clock_gettime(CLOCK_BOOTTIME, &up);
    uint64_t boot = now_wall_usec() - (uint64_t)up.tv_sec * USEC_PER_SEC - (uint64_t)up.tv_nsec / 1000;
    for (size_t i = 0; i < n; i++) {
        const struct ps_entry *e = &entries[i];
        details[i] = (MSG(ProcessDetails))STASIS__AGENT__V1__PROCESS_DETAILS__INIT;
        details[i].pid = (uint32_t)e->pid;
        details[i].ppid = (uint32_t)e->ppid;
        details[i].uid = e->uid;
        details[i].tty = (char *)e->tty;
        details[i].start_wall_usec = boot + ps_ticks_to_usec(e->start_ticks);
        details[i].cpu_usec = ps_ticks_to_usec(e->cpu_ticks);
        details[i].command = (char *)e->command;
        list[i] = &details[i];
    }
    MSG(ProcessesResponse) out = STASIS__AGENT__V1__PROCESSES_RESPONSE__INIT;
    out.n_processes = n;
    out.processes = list;
    ttrpc_reply(req, &out.base);
}

static void on_processes(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ContainerRequest) *m = (const void *)in;
    struct err err = ERR_INIT;
    struct container *c = rpc_find_container(userdata, req, m->id);
    if (!c)
        return;
    int r = container_check_action(ACTION_INSPECT, c->state, c->id, &err);
    if (r == 0)
        r = ps_list(c->agent->event, c->agent->children, c->cgroup_fd, rpc_time(req, PS_TIMEOUT_USEC), answer_processes,
                    req, &err);
    answer_failure(req, r, &err);
}

static void happened(void *userdata, const char *container_id, uint64_t kills, const struct err *err) {
    MSG(EventResponse) out = STASIS__AGENT__V1__EVENT_RESPONSE__INIT;
    out.container_id = (char *)container_id;
    out.oom_kills = kills;
    if (err)
        ttrpc_fail(userdata, err);
    else
        ttrpc_reply(userdata, &out.base);
}

static void on_events(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ContainerRequest) *m = (const void *)in;
    struct err err = ERR_INIT;
    struct container *c = NULL;
    if (*m->id && !(c = rpc_find_container(userdata, req, m->id)))
        return;
    answer_failure(req, oom_wait(userdata, c, happened, req, &err), &err);
}

/* Processes. */

static void execed(void *userdata, pid_t pid, const struct err *err) {
    MSG(ExecResponse) out = STASIS__AGENT__V1__EXEC_RESPONSE__INIT;
    out.pid = (uint32_t)pid;
    if (err)
        ttrpc_fail(userdata, err);
    else
        ttrpc_reply(userdata, &out.base);
}

static void on_exec(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ExecRequest) *m = (const void *)in;
    struct process_streams streams = {.terminal = m->terminal,
                                      .in = m->stdin,
                                      .out = m->stdout,
                                      .err = m->stderr,
                                      .width = m->width,
                                      .height = m->height,
                                      .relayed = m->relayed};
    struct err err = ERR_INIT;
    const MSG(ProcessId) none = STASIS__AGENT__V1__PROCESS_ID__INIT, *id = m->id ? m->id : &none;
    struct container *c = rpc_find_container(userdata, req, id->container_id);
    if (c)
        answer_failure(req,
                       container_exec(c, id->exec_id, m->process.data, m->process.len, &streams, crun_time(req), execed,
                                      req, &err),
                       &err);
}

static void on_delete_process(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ProcessId) *m = (const void *)in;
    struct err err = ERR_INIT;
    if (!*m->container_id) {
        answer_now(req, console_delete(userdata, m->exec_id, &err), &err);
        return;
    }
    struct container *c = rpc_find_container(userdata, req, m->container_id);
    if (c)
        answer_now(req, container_delete_exec(c, m->exec_id, &err), &err);
}

static void on_signal(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(SignalRequest) *m = (const void *)in;
    struct err err = ERR_INIT;
    if (m->all) {
        struct container *c = rpc_find_container(userdata, req, m->id ? m->id->container_id : "");
        if (c)
            answer_now(req, container_signal_all(c, (int)MIN(m->signal, 65u), &err), &err);
        return;
    }
    struct process *p = find_process(userdata, req, m->id);
    if (p)
        answer_now(req, process_signal(p, (int)MIN(m->signal, 65u), &err), &err);
}

static void exited(void *userdata, const struct process_exit *ex, const struct err *err) {
    if (err) {
        ttrpc_fail(userdata, err);
        return;
    }
    MSG(WaitResponse) out = STASIS__AGENT__V1__WAIT_RESPONSE__INIT;
    out.exit_code = ex->code;
    out.exited_wall_usec = ex->wall_usec;
    out.oom_killed = ex->oom_killed;
    ttrpc_reply(userdata, &out.base);
}

static void on_wait(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ProcessId) *m = (const void *)in;
    struct err err = ERR_INIT;
    struct process *p = find_process(userdata, req, m);
    if (p)
        answer_failure(req, process_wait(p, exited, req, &err), &err);
}

static void has_read(void *userdata, const uint8_t *data, size_t len, const struct err *err) {
    if (err) {
        ttrpc_fail(userdata, err);
        return;
    }
    MSG(ReadResponse) out = STASIS__AGENT__V1__READ_RESPONSE__INIT;
    out.data.data = (uint8_t *)data;
    out.data.len = len;
    out.eof = len == 0;
    ttrpc_reply(userdata, &out.base);
}

static void on_read(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ReadRequest) *m = (const void *)in;
    struct err err = ERR_INIT;
    struct process *p = find_process(userdata, req, m->id);
    if (!p)
        return;
    struct reader *r = process_reader(p, (int)m->stream);
    int ret = r ? reader_read(r, m->max, has_read, req, &err)
                : err_set(&err, EINVAL, "stream %d cannot be read", (int)m->stream);
    answer_failure(req, ret, &err);
}

static void on_close_output(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ReadRequest) *m = (const void *)in;
    struct process *p = find_process(userdata, req, m->id);
    if (!p)
        return;
    process_close_output(p, (int)m->stream);
    ttrpc_reply(req, NULL);
}

static void has_written(void *userdata, size_t written, const struct err *err) {
    MSG(WriteResponse) out = STASIS__AGENT__V1__WRITE_RESPONSE__INIT;
    out.written = written;
    if (err)
        ttrpc_fail(userdata, err);
    else
        ttrpc_reply(userdata, &out.base);
}

static void on_write(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(WriteRequest) *m = (const void *)in;
    struct err err = ERR_INIT;
    struct process *p = find_process(userdata, req, m->id);
    /* The data belongs to the request, which lives until it is answered. */
    if (p)
        answer_failure(req, writer_write(&p->in, m->data.data, m->data.len, has_written, req, &err), &err);
}

static void on_close_stdin(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ProcessId) *m = (const void *)in;
    struct process *p = find_process(userdata, req, m);
    if (!p)
        return;
    process_close_stdin(p);
    ttrpc_reply(req, NULL);
}

static void on_resize(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ResizeRequest) *m = (const void *)in;
    struct err err = ERR_INIT;
    struct process *p = find_process(userdata, req, m->id);
    if (p)
        answer_now(req, process_resize(p, m->width, m->height, &err), &err);
}

static const struct ttrpc_handler handlers[] = {
    {"Hello", on_hello},
    {"CreateContainer", on_create},
    {"StartContainer", on_start},
    {"DeleteContainer", on_delete},
    {"Exec", on_exec},
    {"DeleteProcess", on_delete_process},
    {"Signal", on_signal},
    {"Wait", on_wait},
    {"Read", on_read},
    {"CloseOutput", on_close_output},
    {"Write", on_write},
    {"CloseStdin", on_close_stdin},
    {"Resize", on_resize},
    {"Pause", on_pause},
    {"Resume", on_resume},
    {"Update", on_update},
    {"Processes", on_processes},
    {"Stats", on_stats},
    {"Events", on_events},
    {"Check", on_check},
    {"Console", on_console},
    {"Checkpoint", rpc_on_checkpoint},
    {"Restore", rpc_on_restore},
    {"Freeze", rpc_on_freeze},
    {"Thaw", rpc_on_thaw},
    {"Forget", on_forget},
    {"Inspect", rpc_on_inspect},
    {"Shutdown", on_shutdown},
    {NULL, NULL},
};

static const struct ttrpc_service service = {.desc = &stasis__agent__v1__agent__descriptor, .handlers = handlers};

/* What the session before asked for is void; its requests were cut off already, so the answers go nowhere. */
static void on_session(void *userdata) {
    struct agent *a = userdata;
    log_debug("a new session");
    snapshot_void(a);
    oom_void(a);
    for (struct container *c = a->containers; c; c = c->next) {
        process_void(c->init);
        for (struct process *p = c->execs; p; p = p->next)
            process_void(p);
    }
    for (struct process *p = a->consoles; p; p = p->next)
        process_void(p);
}

int rpc_start(struct agent *a, int fd, struct err *err) {
    int r = ttrpc_server_new(a->event, &a->server, err);
    if (r == 0)
        r = ttrpc_server_add(a->server, &service, a, err);
    if (r < 0) {
        fd_close(fd);
        return r;
    }
    ttrpc_server_on_session(a->server, on_session, a);
    return ttrpc_server_add_channel(a->server, fd, err);
}
