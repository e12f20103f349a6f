/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/exec.h"

#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "oci/spec.h"
#include "sandbox/container.h"

struct exec {
    struct exec *next;
    struct container *container;
    struct process *process;
    char *json; /* rewritten for the guest; freed once started */
    struct sandbox_call *call;
    sandbox_done_fn done; /* of a start under way */
    void *userdata;
};

static struct exec *find(const struct exec_list *l, const struct process *p) {
    for (struct exec *e = l->first; e; e = e->next)
        if (e->process == p)
            return e;
    return NULL;
}

static void free_exec(struct exec *e) {
    call_cancel(e->call);
    process_free(e->process);
    if (e->done) {
        struct err err = ERR_INIT;
        err_set(&err, ECANCELED, "the container was removed");
        e->done(e->userdata, &err);
    }
    free(e->json);
    free(e);
}

/* The guest's form of a process object. */
static int rewrite(struct container *c, const json_t *process, struct process_stdio *io, char **ret, struct err *err) {
    cleanup_json json_t *guest = NULL;
    cleanup_strv struct strv notes = {0};
    int r = oci_process_validate(process, "process", err);
    if (r == 0)
        r = process_default_size(io, process, err);
    if (r == 0)
        r = oci_process_for_guest(process, &guest, &notes, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < notes.n; i++)
        log_warn("container %s: exec: %s", container_id(c), notes.v[i]);
    /* The request decides, as in runc: its flag and the object may differ. */
    if (json_object_set_new(guest, "terminal", json_boolean(io->terminal)) < 0 ||
        !(*ret = json_text(guest, JSON_COMPACT)))
        return err_set(err, ENOMEM, "out of memory");
    return 0;
}

int exec_add(struct exec_list *l, struct container *c, const char *exec_id, const char *process_json, size_t len,
             pid_t host_pid, struct process_stdio *io, struct err *err) {
    cleanup_json json_t *process = NULL;
    struct exec *e = calloc(1, sizeof(*e));
    if (!e) {
        process_stdio_close(io);
        return err_set(err, ENOMEM, "out of memory");
    }
    e->container = c;
    int r = id_validate("exec id", exec_id, err);
    if (r == 0 && exec_find(l, exec_id))
        r = err_set(err, EEXIST, "exec %s of container %s already exists", exec_id, container_id(c));
    if (r == 0 && l->n >= CONTAINER_EXECS_MAX)
        r = err_set(err, ENOSPC, "container %s already has %d exec processes", container_id(c), CONTAINER_EXECS_MAX);
    if (r == 0)
        r = json_parse("process", process_json, len, &process, err);
    if (r == 0)
        r = rewrite(c, process, io, &e->json, err);
    if (r == 0)
        r = process_new(container_sandbox(c), c, exec_id, host_pid, io, NULL, &e->process, err);
    if (r == 0 && !host_pid)
        r = process_make_monitor(e->process, json_object_get(process, "args"), err);
    if (r < 0) {
        process_stdio_close(io);
        free_exec(e);
        return r;
    }
    e->next = l->first;
    l->first = e;
    l->n++;
    return 0;
}

int exec_adopt(struct exec_list *l, struct container *c, struct process *p, struct err *err) {
    struct exec *e = l->n < CONTAINER_EXECS_MAX ? calloc(1, sizeof(*e)) : NULL;
    if (!e)
        return err_set(err, ENOMEM, "no room for the exec processes of container %s", container_id(c));
    *e = (struct exec){.next = l->first, .container = c, .process = p};
    l->first = e;
    l->n++;
    return 0;
}

int exec_each(const struct exec_list *l, int (*fn)(struct process *p, void *userdata, struct err *err), void *userdata,
              struct err *err) {
    int r = 0;
    for (struct exec *e = l->first, *next; e && r >= 0; e = next) {
        next = e->next;
        r = fn(e->process, userdata, err);
    }
    return r;
}

/* Ends it too, if it runs. */
static void forget_in_guest(struct exec *e) {
    Stasis__Agent__V1__ProcessId id = process_agent_id(e->process);
    (void)sandbox_call(container_sandbox(e->container), "DeleteProcess", &id.base, call_ignore, NULL, NULL, NULL);
}

static void on_exec(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct exec *e = userdata;
    e->call = NULL;
    struct err failed = ERR_INIT;
    if (err) {
        failed = *err;
    } else {
        const Stasis__Agent__V1__ExecResponse *r = (const void *)*reply;
        (void)process_move(e->process, PROCESS_RUNNING, NULL);
        if (process_host_is_gone(e->process)) /* before there was anything to kill with it */
            err_set(&failed, ECANCELED, "its monitor process (pid %d) has exited", (int)process_host_pid(e->process));
        else if (process_watch(e->process, r->pid, &failed) == 0)
            failed.code = 0;
    }
    if (failed.code) {
        process_lost(e->process);
        if (!err || err->code == ETIMEDOUT) /* it may run, now or later, and nobody waits for it */
            forget_in_guest(e);
    }
    sandbox_done_fn done = e->done;
    e->done = NULL;
    if (done)
        done(e->userdata, failed.code ? &failed : NULL);
}

int exec_start(struct exec_list *l, struct process *p, sandbox_done_fn done, void *userdata, struct err *err) {
    struct exec *e = find(l, p);
    int r = process_move(p, PROCESS_STARTING, err);
    if (r < 0)
        return r;
    Stasis__Agent__V1__ProcessId id = process_agent_id(p);
    Stasis__Agent__V1__ExecRequest req = STASIS__AGENT__V1__EXEC_REQUEST__INIT;
    struct process_streams io;
    process_describe_stdio(p, &io);
    req.id = &id;
    req.process.data = (uint8_t *)e->json;
    req.process.len = strlen(e->json);
    req.terminal = process_is_terminal(p);
    req.stdin = io.in;
    req.stdout = io.out;
    req.stderr = io.err;
    req.width = io.width;
    req.height = io.height;
    req.relayed = io.relayed;
    r = sandbox_call(container_sandbox(e->container), "Exec", &req.base, on_exec, e, &e->call, err);
    if (r < 0) {
        (void)process_move(p, PROCESS_CREATED, NULL);
        return r;
    }
    e->done = done;
    e->userdata = userdata;
    return 0;
}

int exec_delete(struct exec_list *l, struct process *p, struct err *err) {
    enum process_state state = process_get_state(p);
    if (state != PROCESS_EXITED && state != PROCESS_CREATED)
        return err_set(err, EBUSY, "exec %s is running", process_exec_id(p));
    for (struct exec **at = &l->first; *at; at = &(*at)->next) {
        struct exec *e = *at;
        if (e->process != p)
            continue;
        if (state == PROCESS_EXITED)
            forget_in_guest(e);
        *at = e->next;
        l->n--;
        free_exec(e);
        return 0;
    }
    return err_set(err, ENOENT, "no such exec process");
}

struct process *exec_find(const struct exec_list *l, const char *exec_id) {
    for (struct exec *e = l->first; e; e = e->next)
        if (strcmp(process_exec_id(e->process), exec_id) == 0)
            return e->process;
    return NULL;
}

struct process *exec_find_running(const struct exec_list *l) {
    for (struct exec *e = l->first; e; e = e->next)
        if (process_get_state(e->process) == PROCESS_RUNNING || process_get_state(e->process) == PROCESS_STARTING)
            return e->process;
    return NULL;
}

void exec_lost(struct exec_list *l) {
    for (struct exec *e = l->first; e; e = e->next)
        process_lost(e->process);
}

void exec_clear(struct exec_list *l) {
    while (l->first) {
        struct exec *e = l->first;
        l->first = e->next;
        free_exec(e);
    }
    l->n = 0;
}
