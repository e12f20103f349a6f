/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/notify.h"

#include <string.h>

#include "base/log.h"
#include "base/path.h"
#include "proto/agent.pb-c.h"
#include "ttrpc/client.h"

struct watched {
    struct watched *next;
    struct service *s;
    char id[ID_MAX + 1], exec_id[ID_MAX + 1];
    uint32_t pid;
    bool starting, started;
    bool gone; /* `exit` is valid, and still to be told */
    struct process_exit exit;
};

static void forget(struct watched *w) {
    for (struct watched **at = &w->s->watched; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    free(w);
}

static void tell_exit(struct watched *w) {
    if (!*w->exec_id || w->started)
        events_task_exit(w->s->publisher, w->id, *w->exec_id ? w->exec_id : w->id, w->pid, w->exit.status,
                         w->exit.wall_usec);
    forget(w);
}

static void on_exit_of(void *userdata, const struct process_exit *ex) {
    struct watched *w = userdata;
    w->gone = true;
    w->exit = *ex;
    if (!w->starting)
        tell_exit(w);
}

static void watch(struct service *s, struct process *p) {
    struct err err = ERR_INIT;
    struct watched *w = calloc(1, sizeof(*w));
    if (w) {
        w->s = s;
        w->pid = (uint32_t)process_host_pid(p);
        snprintf(w->id, sizeof(w->id), "%s", container_id(process_container(p)));
        snprintf(w->exec_id, sizeof(w->exec_id), "%s", process_exec_id(p));
    } else {
        err_set(&err, ENOMEM, "out of memory");
    }
    if (!w || process_wait(p, on_exit_of, w, &err) < 0) {
        log_error("containerd will not be told when %s ends: %s", container_id(process_container(p)), err.msg);
        free(w);
        return;
    }
    w->next = s->watched;
    s->watched = w;
}

static struct watched *find(struct service *s, const char *id, const char *exec_id) {
    for (struct watched *w = s->watched; w; w = w->next)
        if (strcmp(w->id, id) == 0 && strcmp(w->exec_id, exec_id) == 0)
            return w;
    return NULL;
}

void notify_created(struct service *s, struct container *c, struct events_create *e) {
    struct process *init = container_find(c, "");
    if (!s->publisher)
        return;
    e->container_id = container_id(c);
    e->bundle = container_bundle(c);
    e->pid = (uint32_t)process_host_pid(init);
    events_task_create(s->publisher, e);
    watch(s, init);
}

void notify_exec_added(struct service *s, struct process *p) {
    if (!s->publisher)
        return;
    events_task_exec_added(s->publisher, container_id(process_container(p)), process_exec_id(p));
    watch(s, p);
}

void notify_starting(struct service *s, const char *id, const char *exec_id) {
    struct watched *w = find(s, id, exec_id);
    if (w)
        w->starting = true;
}

void notify_started(struct service *s, const char *id, const char *exec_id, uint32_t pid, bool ok) {
    struct watched *w = find(s, id, exec_id);
    if (ok && *exec_id)
        events_task_exec_started(s->publisher, id, exec_id, pid);
    else if (ok)
        events_task_start(s->publisher, id, pid);
    if (!w)
        return;
    w->starting = false;
    w->started = ok;
    if (w->gone)
        tell_exit(w);
}

void notify_deleted(struct service *s, const char *id, uint32_t pid, const struct process_exit *ex) {
    events_task_delete(s->publisher, id, "", pid, ex->status, ex->wall_usec);
}

/* OOM kills: a long poll, asked again after each answer, at once or when the rate allows it. */

static void ask_oom(struct service *s);

static int on_oom_pause_over(sd_event_source *source, uint64_t usec, void *userdata) {
    struct service *s = userdata;
    (void)source;
    (void)usec;
    s->oom_pause = sd_event_source_disable_unref(s->oom_pause);
    ask_oom(s);
    return 0;
}

static void ask_oom_again(struct service *s) {
    /* Each answer moves it on by what one may cost; it may be ahead of the clock by a burst. */
    const uint64_t now = now_usec(), burst = NOTIFY_OOM_BURST * NOTIFY_OOM_USEC;
    s->oom_due_usec = MAX(s->oom_due_usec, now) + NOTIFY_OOM_USEC;
    if (s->oom_due_usec <= now + burst) {
        ask_oom(s);
        return;
    }
    int r = sd_event_add_time_relative(s->event, &s->oom_pause, CLOCK_MONOTONIC, s->oom_due_usec - now - burst, 0,
                                       on_oom_pause_over, s);
    if (r < 0)
        log_warn("containerd will not be told of OOM kills: cannot set a timer: %s", strerror(-r));
}

static void on_oom(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct service *s = userdata;
    s->oom_call = NULL;
    if (err) {
        log_debug("OOM events: %s", err->msg);
        return;
    }
    const Stasis__Agent__V1__EventResponse *r = (const void *)*reply;
    /* Only of a container we know: the guest's word is not passed on as it is. */
    if (sandbox_find(s->sb, r->container_id))
        events_task_oom(s->publisher, r->container_id);
    ask_oom_again(s);
}

static void ask_oom(struct service *s) {
    Stasis__Agent__V1__ContainerRequest req = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    struct err err = ERR_INIT;
    if (sandbox_get_state(s->sb) != SANDBOX_READY)
        return;
    if (ttrpc_client_call(sandbox_agent(s->sb), &stasis__agent__v1__agent__descriptor, "Events", &req.base,
                          TTRPC_NO_DEADLINE, on_oom, s, &s->oom_call, &err) < 0)
        log_warn("containerd will not be told of OOM kills: %s", err.msg);
}

void notify_watch_oom(struct service *s) {
    if (s->publisher && !s->oom_call && !s->oom_pause)
        ask_oom(s);
}

void notify_clear(struct service *s) {
    while (s->watched)
        forget(s->watched);
    s->oom_pause = sd_event_source_disable_unref(s->oom_pause);
}
