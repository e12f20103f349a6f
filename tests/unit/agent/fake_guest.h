/* SPDX-License-Identifier: Apache-2.0 */
/* An agent on this machine: a program that stands for crun, and a directory of plain files that stands for the cgroup
 * that all its processes are in. */
#pragma once

#include "agent/cgroup.h"
#include "agent/container.h"
#include "support.h"

struct guest {
    struct fixture *f;
    struct agent a;
    char *crun, *ops, *bundles, *root, *share, *conf, *work, *yard, *criu;
    struct tmpdir cgroup; /* path only as far as it fits; fd is what counts */
};

static inline int guest_setup(void **state) {
    void *fixture = NULL;
    if (fixture_setup(&fixture) < 0)
        return -1;
    struct guest *g = calloc(1, sizeof(*g));
    struct fixture *f = g->f = fixture;
    g->crun = write_fake_crun(f->dir);
    g->ops = tmpdir_path(f->dir, "op");
    g->bundles = tmpdir_path(f->dir, "bundles");
    g->root = tmpdir_path(f->dir, "cgroup");
    g->share = tmpdir_path(f->dir, "share");
    g->conf = tmpdir_path(f->dir, "criu/default.conf");
    g->work = tmpdir_path(f->dir, "criu/work");
    g->yard = tmpdir_path(f->dir, "criu/cgroups");
    g->criu = tmpdir_path(f->dir, "fake-criu");
    g->a = (struct agent){
        .event = f->event,
        .children = f->children,
        .crun = {.event = f->event, .children = f->children, .path = g->crun, .dir = g->ops},
        .bundle_dir = g->bundles,
        .namespace_dir = g->bundles,
        .spare_network = -1,
        .cgroup_root = g->root,
        .criu = {.conf_path = g->conf, .work_path = g->work, .yard_path = g->yard},
        .criu_path = g->criu,
        .share_dir = g->share,
    };
    /* As if CRIU's yard were mounted already. */
    cleanup_free char *unified = path_join(g->yard, "unified/cgroup.procs");
    if (path_mkdirs(unified, 0755, NULL) < 0)
        abort();
    /* The path of this process's own cgroup, which that of its children is, too. */
    cleanup_free char *text = NULL, *path = NULL, *full = NULL;
    if (file_read_at(AT_FDCWD, "/proc/self/cgroup", 65536, &text, NULL, NULL) < 0 || cgroup_path_parse(text, &path) < 0)
        path = strdup("/");
    full = path_join(g->root, path);
    if (path_mkdirs(full, 0755, NULL) < 0 || mkdir(g->ops, 0700) < 0 || mkdir(g->bundles, 0700) < 0)
        abort();
    g->cgroup.fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    static const char *const files[] = {"cgroup.procs", "cgroup.kill", "cgroup.freeze", "memory.events"};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        close(openat(g->cgroup.fd, files[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    *state = g;
    return g->cgroup.fd >= 0 ? 0 : -1;
}

static inline void guest_write(struct guest *g, const char *file, const char *text) {
    cleanup_fd int fd = openat(g->cgroup.fd, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        abort();
}

static inline bool guest_file_is(struct guest *g, const char *file, const char *want) {
    cleanup_free char *text = NULL;
    return file_read_at(g->cgroup.fd, file, 4096, &text, NULL, NULL) == 0 && strcmp(text, want) == 0;
}

/* Whatever the test left is killed. */
static inline void guest_clear(struct guest *g) {
    while (g->a.containers) {
        struct container *c = g->a.containers;
        (void)process_signal(c->init, SIGKILL, NULL);
        for (struct process *p = c->execs; p; p = p->next)
            (void)process_signal(p, SIGKILL, NULL);
        container_free(c);
    }
}

/* Nothing of it may be left on disk. */
static inline int guest_teardown(void **state) {
    struct guest *g = *state;
    void *fixture = g->f;
    guest_clear(g);
    int r = rmdir(g->bundles) < 0 || rmdir(g->ops) < 0 ? -1 : 0;
    close(g->cgroup.fd);
    free(g->crun);
    free(g->ops);
    free(g->bundles);
    free(g->root);
    free(g->share);
    free(g->conf);
    free(g->work);
    free(g->yard);
    free(g->criu);
    free(g->a.criu_check);
    free(g);
    return fixture_teardown(&fixture) < 0 ? -1 : r;
}

#define GUEST_TEST(fn) cmocka_unit_test_setup_teardown(fn, guest_setup, guest_teardown)

struct outcome {
    int n, code;
    pid_t pid;
    char msg[200];
};

static inline void on_outcome(void *userdata, const struct err *err) {
    struct outcome *o = userdata;
    o->n++;
    o->code = err ? err->code : 0;
    snprintf(o->msg, sizeof(o->msg), "%.190s", err ? err->msg : "");
}

static inline void on_pid(void *userdata, pid_t pid, const struct err *err) {
    struct outcome *o = userdata;
    on_outcome(userdata, err);
    o->pid = pid;
}

static inline void on_wait(void *userdata, const struct process_exit *ex, const struct err *err) {
    struct outcome *o = userdata;
    on_outcome(userdata, err);
    o->pid = (pid_t)ex->code + (ex->oom_killed ? 1000 : 0);
}

static inline int guest_create(struct guest *g, const char *id, struct outcome *o) {
    const struct process_streams streams = {.out = true};
    const struct container_request req = {.id = id, .spec = "{}", .len = 2, .streams = &streams};
    return container_create(&g->a, &req, on_pid, o, NULL);
}

static inline int guest_exec(struct container *c, const char *id, struct outcome *o) {
    const struct process_streams streams = {.out = true};
    return container_exec(c, id, "{}", 2, &streams, 0, on_pid, o, NULL);
}

/* A container that runs. */
static inline struct container *guest_container(struct guest *g, const char *id) {
    struct outcome created = {0}, started = {0};
    assert_int_equal(guest_create(g, id, &created), 0);
    RUN_UNTIL(g->f->event, created.n);
    if (created.code)
        fail_msg("create: %s", created.msg);
    struct container *c = container_find(&g->a, id);
    assert_non_null(c);
    assert_int_equal(c->state, CONTAINER_CREATED);
    assert_int_equal(container_start(c, 0, on_outcome, &started, NULL), 0);
    assert_int_equal(c->state, CONTAINER_STARTING);
    RUN_UNTIL(g->f->event, started.n);
    assert_int_equal(started.code, 0);
    assert_int_equal(c->state, CONTAINER_RUNNING);
    return c;
}

static inline void guest_delete(struct guest *g, struct container *c) {
    struct outcome o = {0};
    assert_int_equal(container_delete(c, on_outcome, &o, NULL), 0);
    RUN_UNTIL(g->f->event, o.n);
    if (o.code)
        fail_msg("delete: %s", o.msg);
}

/* What the host makes before a checkpoint or restore of c1: images/ and work/ in the share, and a criu that works. */
static inline void guest_make_share(struct guest *g) {
    static const char *const dirs[] = {"share/c1/checkpoint/images", "share/c1/checkpoint/work",
                                       "share/c1/checkpoint/parent"};
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        close(path_mkdirs_beneath(g->f->dir->fd, dirs[i], 0755, NULL));
    cleanup_free char *criu = str_printf("#!/bin/sh\n"
                                         "echo \"criu $1\" >>%s/calls\n"
                                         "[ $1 = --version ] && echo 'Version: 4.2.1'\n"
                                         "[ $1 = check ] || exit 0\n"
                                         "[ -e %s/fail-check ] && { echo 'no such kernel feature'; exit 1; }\n"
                                         "echo 'Looks good.'\n",
                                         g->f->dir->path, g->f->dir->path);
    tmpdir_write(g->f->dir, "fake-criu", criu);
    if (fchmodat(g->f->dir->fd, "fake-criu", 0755, 0) < 0)
        abort();
}

/* A file of the test's directory; "" if there is none. malloc'd. */
static inline char *guest_read(struct guest *g, const char *name) {
    char *text = NULL;
    return file_read_at(g->f->dir->fd, name, 1 << 20, &text, NULL, NULL) < 0 ? strdup("") : text;
}

static inline bool guest_file_has(struct guest *g, const char *name, const char *text) {
    cleanup_free char *have = guest_read(g, name);
    return strstr(have, text);
}
