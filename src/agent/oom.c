/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/oom.h"

#include <sys/inotify.h>

#include "agent/cgroup.h"
#include "agent/container.h"
#include "base/log.h"
#include "base/util.h"

/* Answers all waiters that `container` concerns (NULL: all there are). */
static void answer(struct agent *a, const struct container *container, bool any, const struct err *err) {
    struct oom_waiter now[OOM_WAITERS_MAX];
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < a->oom.n; i++) {
        struct oom_waiter *w = &a->oom.v[i];
        if (!container || w->container == container || (any && !w->container))
            now[n++] = *w;
        else
            a->oom.v[kept++] = *w;
    }
    a->oom.n = kept;
    for (size_t i = 0; i < n; i++)
        now[i].fn(now[i].userdata, container ? container->id : "", container ? container->oom_kills : 0, err);
}

static bool awaited(const struct agent *a, const struct container *c) {
    for (size_t i = 0; i < a->oom.n; i++)
        if (!a->oom.v[i].container || a->oom.v[i].container == c)
            return true;
    return false;
}

static void tell(struct container *c) {
    c->oom_told = c->oom_kills;
    c->oom_turn = ++c->agent->oom.told;
    answer(c->agent, c, true, NULL);
}

void oom_update(struct container *c) {
    uint64_t kills;
    if (c->cgroup_fd < 0 || cgroup_read_key(c->cgroup_fd, "memory.events", "oom_kill", &kills) < 0)
        return;
    if (kills > c->oom_kills)
        log_info("container %s: the kernel killed %llu of its processes for lack of memory", c->id,
                 (unsigned long long)(kills - c->oom_kills));
    c->oom_kills = kills;
    if (c->oom_kills > c->oom_told && !c->agent->oom.held && awaited(c->agent, c))
        tell(c);
}

static int on_memory_event(sd_event_source *source, const struct inotify_event *event, void *userdata) {
    (void)source;
    (void)event;
    oom_update(userdata);
    return 0;
}

int oom_watch(struct container *c, struct err *err) {
    cleanup_free char *path = str_printf("%s/memory.events", c->cgroup_path);
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    int r = sd_event_add_inotify(c->agent->event, &c->oom_source, path, IN_MODIFY, on_memory_event, c);
    /* A kernel without the memory controller kills for no cgroup's sake. */
    if (r == -ENOENT)
        return 0;
    return r < 0 ? err_errno(err, -r, "cannot watch %s", path) : 0;
}

void oom_forget(struct container *c) {
    c->oom_source = sd_event_source_disable_unref(c->oom_source);
    struct err err = ERR_INIT;
    err_set(&err, ENOENT, "container %s was deleted", c->id);
    answer(c->agent, c, false, &err);
}

int oom_wait(struct agent *a, struct container *c, oom_fn fn, void *userdata, struct err *err) {
    if (a->oom.n == OOM_WAITERS_MAX)
        return err_set(err, EBUSY, "%d calls wait for events already", OOM_WAITERS_MAX);
    a->oom.v[a->oom.n++] = (struct oom_waiter){.container = c, .fn = fn, .userdata = userdata};
    /* Of several the one that was told of longest ago: the next may be a while, and one must not crowd out the others.
     */
    struct container *next = NULL;
    for (struct container *i = a->containers; i; i = i->next)
        if (i->oom_kills > i->oom_told && (!c || c == i) && (!next || i->oom_turn < next->oom_turn))
            next = i;
    if (next)
        tell(next);
    return 0;
}

void oom_hold(struct agent *a, bool on) {
    a->oom.held = on;
    for (struct container *c = a->containers; c && !on; c = c->next)
        oom_update(c);
}

void oom_void(struct agent *a) {
    struct err err = ERR_INIT;
    err_set(&err, ECANCELED, "the call was abandoned");
    answer(a, NULL, true, &err);
}
