/* SPDX-License-Identifier: Apache-2.0 */
/* Further processes in a running container, and signals to all of it. */
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/container.h"
#include "agent/tty.h"
#include "base/fd.h"
#include "base/util.h"

struct call {
    struct container *c;
    struct process *p;
    agent_pid_fn fn;
    void *userdata;
};

static void forget(struct container *c, struct process *p) {
    for (struct process **at = &c->execs; *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            c->n_execs--;
            break;
        }
    process_free(p);
}

/* Not when it ends: its owner is in the middle of telling that. */
static void forget_abandoned(struct container *c) {
    for (struct process *p = c->execs, *next; p; p = next) {
        next = p->next;
        if (p->abandoned && p->state == PROCESS_EXITED)
            forget(c, p);
    }
}

static void on_exec_exited(struct process *p, void *userdata) {
    struct container *c = userdata;
    if (p->exit.code == 128 + SIGKILL) {
        oom_update(c);
        p->exit.oom_killed = c->oom_kills > 0;
    }
    if (c->state == CONTAINER_DELETING)
        container_delete_step(c);
}

static void on_exec_done(void *userdata, struct crun_result *result) {
    struct call *call = userdata;
    struct container *c = call->c;
    struct err err = ERR_INIT;
    if (result->err) {
        children_kill(result->pid);
        err_copy(&err, result->err);
    } else if (process_started(call->p, result->pid, TAKE_FD(result->tty), &err) == 0) {
        err.code = 0;
    }
    /* A delete meanwhile has killed the cgroup, perhaps before this process was in it. */
    if (c->state == CONTAINER_DELETING || call->p->abandoned)
        (void)process_signal(call->p, SIGKILL, NULL);
    if (err.code) {
        (void)process_signal(call->p, SIGKILL, NULL);
        forget(c, call->p);
    }
    call->fn(call->userdata, result->pid, err.code ? &err : NULL);
    free(call);
    container_op_end(c);
}

/* crun runs the program before we have its terminal, which therefore must be ready when crun opens it. */
static void set_up_terminal(const struct container *c, const struct process *p, struct crun_request *req) {
    const struct process_streams *s = &p->streams;
    bool sized = s->width > 0 && s->width <= TTY_SIZE_MAX && s->height > 0 && s->height <= TTY_SIZE_MAX;
    if (!s->terminal || !c->agent->criu.preload || (!sized && !s->relayed))
        return;
    req->preload = c->agent->criu.preload;
    snprintf(req->tty, sizeof(req->tty), TTY_SETUP_FORMAT, sized ? s->width : 0, sized ? s->height : 0, s->relayed);
}

static int start(struct container *c, struct process *p, const void *process, size_t len, uint64_t timeout_usec,
                 struct call *call, struct err *err) {
    int fds[3];
    int r = process_pipes(p, fds, err);
    if (r < 0)
        return r;
    struct crun_request req = CRUN_REQUEST_INIT;
    req.args[0] = "exec";
    req.args[1] = "--detach";
    req.id = c->id;
    req.makes_process = true;
    req.terminal = p->streams.terminal;
    set_up_terminal(c, p, &req);
    req.option = "--process";
    req.data = process;
    req.len = len;
    req.timeout_usec = timeout_usec;
    memcpy(req.stdio, fds, sizeof(fds));
    r = crun_run(&c->agent->crun, &req, on_exec_done, call, err);
    process_close_fds(fds);
    return r;
}

int container_exec(struct container *c, const char *exec_id, const void *process, size_t len,
                   const struct process_streams *streams, uint64_t timeout_usec, agent_pid_fn fn, void *userdata,
                   struct err *err) {
    int r = id_validate("exec id", exec_id, err);
    if (r == 0)
        r = container_check_action(ACTION_EXEC, c->state, c->id, err);
    if (r < 0)
        return r;
    forget_abandoned(c);
    if (container_process(c, exec_id, NULL))
        return err_set(err, EEXIST, "container %s already has an exec %s", c->id, exec_id);
    if (c->n_execs >= CONTAINER_EXECS_MAX)
        return err_set(err, ENOSPC, "container %s has %d execs already", c->id, CONTAINER_EXECS_MAX);

    cleanup_free struct call *call = calloc(1, sizeof(*call));
    if (!call)
        return err_set(err, ENOMEM, "out of memory");
    *call = (struct call){.c = c, .fn = fn, .userdata = userdata};
    r = process_new(c->agent->event, c->agent->children, exec_id, streams, on_exec_exited, c, &call->p, err);
    if (r < 0)
        return r;
    r = start(c, call->p, process, len, timeout_usec, call, err);
    if (r < 0) {
        process_free(call->p);
        return err_wrap(err, "cannot exec in container %s", c->id);
    }
    call->p->next = c->execs;
    c->execs = call->p;
    c->n_execs++;
    container_op_begin(c);
    (void)TAKE_PTR(call); /* on_exec_done's */
    return 0;
}

int container_delete_exec(struct container *c, const char *exec_id, struct err *err) {
    struct process *p = container_process(c, exec_id, err);
    if (!p)
        return -ENOENT;
    if (p == c->init)
        return err_set(err, EINVAL, "the init of container %s goes with the container", c->id);
    if (p->state == PROCESS_EXITED) {
        forget(c, p);
        return 0;
    }
    p->abandoned = true;
    (void)process_signal(p, SIGKILL, NULL); /* -EBUSY: it has not begun, and is killed when it has */
    return 0;
}

int container_signal_all(struct container *c, int signal, struct err *err) {
    int r = container_check_action(ACTION_SIGNAL_ALL, c->state, c->id, err);
    if (r < 0)
        return r;
    if (signal < 1 || signal >= NSIG)
        return err_set(err, EINVAL, "there is no signal %d", signal);
    if (signal == SIGKILL)
        return cgroup_kill(c->cgroup_fd, err);
    cleanup_free pid_t *pids = NULL;
    size_t n = 0;
    r = cgroup_pids(c->cgroup_fd, &pids, &n, err);
    if (r < 0)
        return err_wrap(err, "container %s", c->id);
    for (size_t i = 0; i < n; i++)
        /* One that has ended since the list was read is no error. Its pid cannot be another's already: the kernel
         * hands out all the others first. */
        (void)kill(pids[i], signal);
    return 0;
}
