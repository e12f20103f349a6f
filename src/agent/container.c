/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/container.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/boot_id.h"
#include "agent/cgroup.h"
#include "agent/checkpoint.h"
#include "agent/init.h"
#include "agent/mount_paths.h"
#include "agent/namespaces.h"
#include "agent/trim.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/util.h"

/* A start or update under way. */
struct call {
    struct container *c;
    agent_done_fn fn;
    void *userdata;
};

/* A create under way. */
struct create {
    struct container *c;
    agent_pid_fn fn;
    void *userdata;
};

/* A create that failed, and whose remains are being removed. */
struct failure {
    struct err err;
    agent_pid_fn fn;
    void *userdata;
};

void container_set_state(struct container *c, enum container_state s) {
    if (c->state == s)
        return;
    if (!container_may_become(c->state, s)) {
        log_error("container %s: cannot become %s, it is %s", c->id, container_state_name(s),
                  container_state_name(c->state));
        return;
    }
    log_debug("container %s: %s, was %s", c->id, container_state_name(s), container_state_name(c->state));
    c->state = s;
}

struct container *container_find(struct agent *a, const char *id) {
    for (struct container *c = a->containers; c; c = c->next)
        if (strcmp(c->id, id) == 0)
            return c;
    return NULL;
}

struct container *container_get(struct agent *a, const char *id, struct err *err) {
    struct container *c = container_find(a, id);
    if (!c)
        err_set(err, ENOENT, "container \"%.*s\" does not exist in the guest", ID_MAX, id);
    return c;
}

struct process *container_process(struct container *c, const char *exec_id, struct err *err) {
    if (!*exec_id)
        return c->init;
    for (struct process *p = c->execs; p; p = p->next)
        if (strcmp(p->exec_id, exec_id) == 0)
            return p;
    err_set(err, ENOENT, "container %s has no exec \"%.*s\"", c->id, ID_MAX, exec_id);
    return NULL;
}

static void remove_bundle(struct container *c) {
    cleanup_fd int dir = open(c->agent->bundle_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct err err = ERR_INIT;
    if (dir >= 0 && path_remove_tree(dir, c->id, &err) < 0)
        log_warn("container %s: %s", c->id, err.msg);
}

struct container *container_free(struct container *c) {
    struct agent *a = c->agent;
    for (struct container **p = &a->containers; *p; p = &(*p)->next)
        if (*p == c) {
            *p = c->next;
            a->n_containers--;
            break;
        }
    oom_forget(c);
    if (c->pin_namespaces || c->make_network)
        namespaces_unpin(c->agent->namespace_dir, c->id);
    remove_bundle(c);
    while (c->execs) {
        struct process *p = c->execs;
        c->execs = p->next;
        process_free(p);
    }
    process_free(c->init);
    sd_event_source_disable_unref(c->kill_timer);
    sd_event_source_disable_unref(c->frozen_source);
    sd_event_source_disable_unref(c->freeze_timer);
    fd_close(c->cgroup_fd);
    free(c->cgroup_path);
    free(c);
    return NULL;
}

void container_op_begin(struct container *c) {
    c->ops++;
}

void container_op_end(struct container *c) {
    c->ops--;
    trim_later(c->agent->trim);
    if (c->state == CONTAINER_PAUSING)
        container_pause_step(c);
    else if (c->state == CONTAINER_DELETING)
        container_delete_step(c);
}

static struct call *call_new(struct container *c, agent_done_fn fn, void *userdata, struct err *err) {
    struct call *call = calloc(1, sizeof(*call));
    if (!call) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    call->c = c;
    call->fn = fn;
    call->userdata = userdata;
    return call;
}

/* Create. */

static void on_init_exited(struct process *p, void *userdata) {
    struct container *c = userdata;
    oom_update(c);
    p->exit.oom_killed = p->exit.code == 128 + 9 && c->oom_kills > 0;
    checkpoint_init_exited(c);
    if (c->state == CONTAINER_DELETING) {
        container_delete_step(c);
        return;
    }
    container_set_state(c, CONTAINER_STOPPED);
    struct err err = ERR_INIT;
    err_set(&err, ESRCH, "container %s has ended", c->id);
    container_pause_end(c, &err);
}

/* The specification with real destinations, malloc'd; NULL: it is right as it is. */
static int real_spec(const void *spec, size_t len, char **ret, struct err *err) {
    cleanup_json json_t *parsed = NULL;
    bool changed = false;
    int r = json_parse("the specification", spec, len, &parsed, err);
    if (r == 0)
        r = mount_paths_resolve(parsed, &changed, err);
    if (r < 0 || !changed)
        return r;
    *ret = json_dumps(parsed, JSON_COMPACT);
    return *ret ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int write_bundle(struct container *c, const void *spec, size_t len, struct err *err) {
    cleanup_free char *real = NULL;
    cleanup_free char *dir = path_join(c->agent->bundle_dir, c->id);
    cleanup_free char *file = dir ? path_join(dir, "config.json") : NULL;
    if (!file)
        return err_set(err, ENOMEM, "out of memory");
    remove_bundle(c); /* of an earlier agent's life there is none, but a leftover must not be mixed in */
    if (mkdir(dir, 0700) < 0)
        return err_errno(err, errno, "cannot create the bundle %s", dir);
    int r = real_spec(spec, len, &real, err);
    if (r < 0)
        return r;
    if (real) {
        spec = real;
        len = strlen(real);
    }
    cleanup_fd int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    r = fd < 0 ? -errno : fd_write_all(fd, spec, len);
    return r < 0 ? err_errno(err, -r, "cannot write %s", file) : 0;
}

/* The sysctls of a new container are set by crun, those of one that is restored by nobody else. */
static int make_network(struct container *c, const struct container_request *req, struct err *err) {
    cleanup_json json_t *spec = NULL;
    if (c->state != CONTAINER_RESTORING)
        return namespaces_make_network(c->agent->namespace_dir, c->id, NULL, &c->agent->spare_network, err);
    int r = json_parse("the specification", req->spec, req->len, &spec, err);
    if (r < 0)
        return r;
    const json_t *sysctls = json_object_get(json_object_get(spec, "linux"), "sysctl");
    return namespaces_make_network(c->agent->namespace_dir, c->id, sysctls, &c->agent->spare_network, err);
}

/* What a failed create left has been removed, or could not be. The first error is the answer. */
static void on_remains_removed(void *userdata, const struct err *err) {
    struct failure *f = userdata;
    if (err)
        log_error("after a failed create: %s", err->msg);
    f->fn(f->userdata, 0, &f->err);
    free(f);
}

/* Nothing of the container stays. Answers fn. */
static void remove_failed(struct container *c, bool remains, const struct err *err, agent_pid_fn fn, void *userdata) {
    struct failure *f = remains ? malloc(sizeof(*f)) : NULL;
    if (f) {
        *f = (struct failure){.err = *err, .fn = fn, .userdata = userdata};
        if (container_delete(c, on_remains_removed, f, NULL) == 0)
            return;
        free(f);
    }
    container_free(c);
    fn(userdata, 0, err);
}

/* crun's part succeeded: takes over what it made. */
static int adopt(struct container *c, struct crun_result *result, struct err *err) {
    int r = FAULT(AGENT_ADOPT)
                ? err_errno(err, errno, "cannot open the cgroup of process %d", (int)result->pid)
                : cgroup_open_of(c->agent->cgroup_root, result->pid, &c->cgroup_fd, &c->cgroup_path, err);
    if (r < 0) {
        children_kill(result->pid);
        return r;
    }
    r = process_started(c->init, result->pid, TAKE_FD(result->tty), err);
    if (r == 0)
        r = oom_watch(c, err);
    return r;
}

void container_created(struct container *c, struct crun_result *result, enum container_state next, bool remains,
                       agent_pid_fn fn, void *userdata) {
    struct err err = ERR_INIT;
    if (init_restore_cgroup_options(c->agent->cgroup_root, &err) < 0)
        log_warn("%s", err.msg);
    if (result->err) {
        err_copy(&err, result->err);
        children_kill(result->pid);
    } else if (adopt(c, result, &err) == 0 &&
               (!c->pin_namespaces || namespaces_pin(c->agent->namespace_dir, c->id, result->pid, &err) == 0)) {
        err.code = 0;
    }
    if (c->state == CONTAINER_DELETING) {
        /* Somebody gave up waiting for it: the delete goes on with what there is now. */
        if (c->cgroup_fd >= 0)
            (void)cgroup_kill(c->cgroup_fd, NULL);
        if (!err.code)
            err_set(&err, ECANCELED, "container %s was deleted while it was being created", c->id);
        fn(userdata, result->pid, &err);
        container_op_end(c);
        return;
    }
    c->ops--;
    trim_later(c->agent->trim);
    if (err.code) {
        /* crun removes what it made, unless it was killed, or failed after its work was done. */
        remove_failed(c, remains || result->timed_out || result->pid, &err, fn, userdata);
        return;
    }
    boot_id_lay(c);
    if (c->init->state == PROCESS_RUNNING)
        container_set_state(c, next);
    fn(userdata, result->pid, NULL);
}

int container_new(struct agent *a, const struct container_request *req, enum container_state s, struct container **ret,
                  struct err *err) {
    const char *id = req->id;
    int r = id_validate("container id", id, err);
    if (r < 0)
        return r;
    if (container_find(a, id))
        return err_set(err, EEXIST, "container %s already exists in the guest", id);
    if (a->n_containers >= AGENT_CONTAINERS_MAX)
        return err_set(err, ENOSPC, "cannot create container %s: the guest has %d already", id, AGENT_CONTAINERS_MAX);
    struct container *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, ENOMEM, "out of memory");
    c->agent = a;
    c->cgroup_fd = -1;
    c->state = s;
    c->make_network = req->make_network;
    c->pin_namespaces = req->pin_namespaces;
    snprintf(c->id, sizeof(c->id), "%s", id);
    c->next = a->containers;
    a->containers = c;
    a->n_containers++;
    r = process_new(a->event, a->children, "", req->streams, on_init_exited, c, &c->init, err);
    if (r == 0)
        r = write_bundle(c, req->spec, req->len, err);
    if (r == 0 && c->make_network)
        r = make_network(c, req, err);
    if (r < 0) {
        container_free(c);
        return err_wrap(err, "cannot create container %s", id);
    }
    *ret = c;
    return 0;
}

int container_run_crun(struct container *c, struct crun_request *req, crun_done_fn done, void *userdata,
                       struct err *err) {
    int fds[3];
    int r = process_pipes(c->init, fds, err);
    if (r < 0)
        return r;
    req->id = c->id;
    req->makes_process = true;
    req->terminal = c->init->streams.terminal;
    memcpy(req->stdio, fds, sizeof(fds));
    r = crun_run(&c->agent->crun, req, done, userdata, err);
    process_close_fds(fds);
    return r;
}

static void on_created(void *userdata, struct crun_result *result) {
    struct create *create = userdata;
    container_created(create->c, result, CONTAINER_CREATED, false, create->fn, create->userdata);
    free(create);
}

int container_create(struct agent *a, const struct container_request *request, agent_pid_fn fn, void *userdata,
                     struct err *err) {
    struct container *c = NULL;
    int r = container_new(a, request, CONTAINER_CREATING, &c, err);
    if (!c)
        return r;
    cleanup_free char *bundle = path_join(a->bundle_dir, c->id);
    cleanup_free struct create *create = malloc(sizeof(*create));
    struct crun_request req = CRUN_REQUEST_INIT;
    req.args[0] = "create";
    req.args[1] = "--bundle";
    req.args[2] = bundle;
    req.timeout_usec = request->timeout_usec;
    if (create)
        *create = (struct create){.c = c, .fn = fn, .userdata = userdata};
    r = bundle && create ? container_run_crun(c, &req, on_created, create, err) : err_set(err, ENOMEM, "out of memory");
    if (r < 0) {
        container_free(c);
        return err_wrap(err, "cannot create container %s", request->id);
    }
    (void)TAKE_PTR(create); /* on_created's */
    container_op_begin(c);
    return 0;
}

/* Start and update. */

static void on_started(void *userdata, struct crun_result *result) {
    struct call *call = userdata;
    struct container *c = call->c;
    /* If init has ended meanwhile, it is stopped, or being deleted, and stays so. */
    if (c->state == CONTAINER_STARTING)
        container_set_state(c, result->err ? CONTAINER_CREATED : CONTAINER_RUNNING);
    call->fn(call->userdata, result->err);
    free(call);
    container_op_end(c);
}

int container_start(struct container *c, uint64_t timeout_usec, agent_done_fn fn, void *userdata, struct err *err) {
    int r = container_check_action(ACTION_START, c->state, c->id, err);
    if (r < 0)
        return r;
    struct call *call = call_new(c, fn, userdata, err);
    if (!call)
        return -ENOMEM;
    struct crun_request req = CRUN_REQUEST_INIT;
    req.args[0] = "start";
    req.id = c->id;
    req.timeout_usec = timeout_usec;
    r = crun_run(&c->agent->crun, &req, on_started, call, err);
    if (r < 0) {
        free(call);
        return r;
    }
    container_set_state(c, CONTAINER_STARTING);
    container_op_begin(c);
    return 0;
}

static void on_updated(void *userdata, struct crun_result *result) {
    struct call *call = userdata;
    struct container *c = call->c;
    call->fn(call->userdata, result->err);
    free(call);
    container_op_end(c);
}

int container_update(struct container *c, const void *resources, size_t len, uint64_t timeout_usec, agent_done_fn fn,
                     void *userdata, struct err *err) {
    int r = container_check_action(ACTION_UPDATE, c->state, c->id, err);
    if (r < 0)
        return r;
    struct call *call = call_new(c, fn, userdata, err);
    if (!call)
        return -ENOMEM;
    struct crun_request req = CRUN_REQUEST_INIT;
    req.args[0] = "update";
    req.id = c->id;
    req.option = "--resources";
    req.data = resources;
    req.len = len;
    req.timeout_usec = timeout_usec;
    r = crun_run(&c->agent->crun, &req, on_updated, call, err);
    if (r < 0) {
        free(call);
        return r;
    }
    container_op_begin(c);
    return 0;
}
