/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/capture.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "sandbox/container_impl.h"
#include "sandbox/sandbox_impl.h"
#include "sandbox/snapshot.h"
#include "sandbox/worker.h"
#include "snapshot/store.h"

#define COPY_PROCESSES_MAX 4

/* What the workers find out; in memory that is shared with it. */
struct findings {
    uint64_t device_size;
    uint8_t device_sha256[MANIFEST_DIGEST_SIZE];
    struct root_findings {
        struct tree_totals totals;
        size_t lost_sockets;
    } roots[];
};

struct capture {
    struct sandbox *sb;
    struct store store;
    char *name, *tmp;
    bool stop, is_template, no_sync;
    bool frozen, stopped;
    int dir_fd, device_fd, memory_fd;
    int base_fd; /* borrowed; linked into the snapshot; -1: all of the memory is stored */
    struct manifest manifest;
    char **roots; /* directory to copy for each container of the manifest */
    struct findings *findings;
    size_t findings_size;
    struct worker *worker;
    struct sandbox_call *call;
    sd_event_source *deadline; /* of everything: the source does not stand still for ever for a disk that hangs */
    uint64_t frozen_usec;      /* since when */
    struct strv warnings;
    struct err err; /* what went wrong; code 0: nothing */
    capture_done_fn done;
    void *userdata;
};

static void commit(struct capture *c);
static void go_on(struct capture *c);

static void free_capture(struct capture *c) {
    sd_event_source_disable_unref(c->deadline);
    worker_cancel(c->worker);
    call_cancel(c->call);
    if (c->tmp)
        store_abort(&c->store, c->tmp);
    fd_close(c->dir_fd);
    fd_close(c->device_fd);
    fd_close(c->memory_fd);
    store_close(&c->store);
    for (size_t i = 0; c->roots && i < c->manifest.n_containers; i++)
        free(c->roots[i]);
    free(c->roots);
    manifest_clear(&c->manifest);
    if (c->findings)
        munmap(c->findings, c->findings_size);
    strv_clear(&c->warnings);
    free(c->name);
    free(c->tmp);
    free(c);
}

static void finish(struct capture *c) {
    struct sandbox *sb = c->sb;
    struct capture_outcome outcome = {.stopped_usec = c->manifest.stopped_usec,
                                      .memory_bytes = memory_image_data(c->manifest.memory),
                                      .shared_bytes = memory_image_shared(c->manifest.memory),
                                      .device_bytes = c->findings->device_size,
                                      .warnings = c->warnings};
    for (size_t i = 0; i < c->manifest.n_containers; i++)
        outcome.root_bytes += c->findings->roots[i].totals.bytes;
    bool end = c->stop && c->err.code == 0;
    sb->capture = NULL;
    if (c->tmp) { /* before anybody is told */
        store_abort(&c->store, c->tmp);
        free(c->tmp);
        c->tmp = NULL;
    }
    c->done(c->userdata, c->err.code ? NULL : &outcome, c->err.code ? &c->err : NULL);
    free_capture(c);
    if (end) {
        struct err err = ERR_INIT;
        err_set(&err, ECANCELED, "ended by a snapshot");
        sandbox_die(sb, &err);
    }
}

/* The first cause counts; then everything goes on as if nothing had been. */
static void failed(struct capture *c, const struct err *err) {
    if (c->err.code == 0) {
        c->err = *err;
        err_wrap(&c->err, "cannot save sandbox %s as %s", c->sb->id, c->name);
    }
    go_on(c);
}

/* Nobody can bring back a guest that does not go on. */
static void stuck(struct capture *c, const struct err *err) {
    struct err e = *err;
    err_wrap(&e, "it does not go on after a snapshot");
    if (c->err.code == 0)
        c->err = e;
    struct sandbox *sb = c->sb;
    c->stop = false;
    finish(c);
    sandbox_die(sb, &e);
}

static void on_thawed(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    (void)reply;
    struct capture *c = userdata;
    c->call = NULL;
    if (err) {
        stuck(c, err);
        return;
    }
    c->frozen = false;
    c->manifest.stopped_usec = now_usec() - c->frozen_usec;
    if (c->err.code || c->stop)
        finish(c);
    else
        commit(c);
}

static void thaw(struct capture *c) {
    Stasis__Agent__V1__ThawRequest req = STASIS__AGENT__V1__THAW_REQUEST__INIT;
    struct err err = ERR_INIT;
    if (call_start(&c->sb->calls, c->sb->agent, "Thaw", &req.base, c->sb->config.rpc_timeout, on_thawed, c, &c->call,
                   &err) < 0)
        stuck(c, &err);
}

static void on_continued(void *userdata, const struct err *err) {
    struct capture *c = userdata;
    if (err) {
        stuck(c, err);
        return;
    }
    c->stopped = false;
    thaw(c);
}

/* The CPUs, then the containers. */
static void go_on(struct capture *c) {
    struct err err = ERR_INIT;
    if (c->stopped) {
        if (vm_continue(c->sb->vm, on_continued, c, &err) < 0)
            stuck(c, &err);
    } else if (c->frozen) {
        thaw(c);
    } else {
        finish(c);
    }
}

static void on_committed(void *userdata, const struct err *err) {
    struct capture *c = userdata;
    c->worker = NULL;
    if (err) {
        failed(c, err);
        return;
    }
    free(c->tmp);
    c->tmp = NULL;
    c->dir_fd = fd_close(c->dir_fd); /* and its lock: others may use it from now on */
    (void)FAULT(SNAPSHOT_COMMITTED);
    finish(c);
}

/* The copies change no more, so what they hold is found out when the source has gone on. */
static int digest_roots(struct capture *c, struct err *err) {
    for (size_t i = 0; i < c->manifest.n_containers; i++) {
        char path[64];
        snprintf(path, sizeof(path), MANIFEST_ROOTS "/%zu", i);
        cleanup_fd int fd = path_open_beneath(c->dir_fd, path, O_RDONLY | O_DIRECTORY, 0, err);
        int r = fd < 0 ? fd : tree_digest(fd, &c->findings->roots[i].totals, err);
        if (r < 0)
            return r;
        c->manifest.containers[i].root.totals = c->findings->roots[i].totals;
    }
    return 0;
}

static int commit_in_worker(void *arg, struct err *err) {
    struct capture *c = arg;
    int r = digest_roots(c, err);
    if (r == 0 && FAULT(SNAPSHOT_MANIFEST))
        r = err_errno(err, errno, "cannot write " MANIFEST_FILE);
    if (r == 0)
        r = manifest_write(c->dir_fd, &c->manifest, err);
    return r == 0 ? store_commit(&c->store, c->tmp, c->name, !c->no_sync, err) : r;
}

/* Makes it durable, unless nobody waits for that, and visible. */
static void commit(struct capture *c) {
    struct err err = ERR_INIT;
    c->manifest.device_size = c->findings->device_size;
    memcpy(c->manifest.device_sha256, c->findings->device_sha256, sizeof(c->manifest.device_sha256));
    if (worker_start(c->sb->event, "completing the snapshot", commit_in_worker, c, on_committed, c, &c->worker, &err) <
        0)
        failed(c, &err);
}

static void warn_of_sockets(struct capture *c) {
    for (size_t i = 0; i < c->manifest.n_containers; i++)
        if (c->findings->roots[i].lost_sockets &&
            strv_addf(&c->warnings,
                      "container %s: nobody can connect by name to %zu of the unix sockets in its root in a copy",
                      c->manifest.containers[i].id, c->findings->roots[i].lost_sockets) < 0)
            log_warn("out of memory");
}

static void on_copied(void *userdata, const struct err *err) {
    struct capture *c = userdata;
    struct err e = ERR_INIT;
    c->worker = NULL;
    if (err || FAULT(SNAPSHOT_COPIED)) {
        if (!err)
            err_errno(&e, errno, "copying the memory");
        failed(c, err ? err : &e);
        return;
    }
    c->manifest.stopped_usec = now_usec() - c->frozen_usec;
    warn_of_sockets(c);
    if (c->stop)
        commit(c);
    else
        go_on(c);
}

static int copy_root(const struct capture *c, size_t i, struct err *err) {
    char path[64];
    snprintf(path, sizeof(path), MANIFEST_ROOTS "/%zu", i);
    cleanup_fd int dst = path_mkdirs_beneath(c->dir_fd, path, 0755, err);
    if (dst < 0)
        return dst;
    cleanup_fd int src = open(c->roots[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = src < 0 ? err_errno(err, errno, "cannot open %s", c->roots[i])
                    : tree_copy(src, dst, &c->findings->roots[i].lost_sockets, NULL, err);
    return r < 0 ? err_wrap(err, "the root of container %s", c->manifest.containers[i].id) : 0;
}

static int digest_device(const struct capture *c, struct err *err) {
    cleanup_fd int fd = path_open_beneath(c->dir_fd, MANIFEST_DEVICE, O_RDONLY, 0, err);
    return fd < 0 ? fd : manifest_digest_file(fd, &c->findings->device_size, c->findings->device_sha256, err);
}

static int copy_in_worker(void *arg, struct err *err) {
    struct capture *c = arg;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (FAULT(SNAPSHOT_COPY))
        return err_errno(err, errno, "cannot copy the memory");
    int r = memory_image_save(vm_memory_fd(c->sb->vm), c->memory_fd, c->base_fd,
                              (unsigned)MAX(1, MIN(cpus, COPY_PROCESSES_MAX)), c->manifest.memory, err);
    if (r == 0 && c->base_fd >= 0 && memory_image_shared(c->manifest.memory) == 0 &&
        unlinkat(c->dir_fd, MANIFEST_BASE, 0) < 0)
        r = err_errno(err, errno, "cannot remove " MANIFEST_BASE);
    for (size_t i = 0; r == 0 && i < c->manifest.n_containers; i++)
        r = copy_root(c, i, err);
    return r == 0 ? digest_device(c, err) : r;
}

static void on_saved(void *userdata, const struct err *err) {
    struct capture *c = userdata;
    struct err e = ERR_INIT;
    c->stopped = true; /* perhaps, also on failure */
    if (!err && FAULT(SNAPSHOT_SAVED))
        err_errno(&e, errno, "cannot save the state of the devices");
    if (c->err.code) /* abandoned meanwhile */
        go_on(c);
    else if (err || e.code)
        failed(c, err ? err : &e);
    else if (worker_start(c->sb->event, "copying the memory", copy_in_worker, c, on_copied, c, &c->worker, &e) < 0)
        failed(c, &e);
}

int capture_warn_of_deleted(const Stasis__Agent__V1__FreezeResponse *r, struct strv *warnings) {
    size_t n = MIN(r->n_deleted, (size_t)CAPTURE_DELETED_MAX);
    for (size_t i = 0; i < n; i++) {
        const Stasis__Agent__V1__DeletedFile *d = r->deleted[i];
        if (strv_addf(warnings, "container %.*s, pid %u (%.*s): %.*s is deleted and gives errors in a copy", ID_MAX,
                      d->container_id, d->pid, CAPTURE_DELETED_COMMAND_MAX, d->command, CAPTURE_DELETED_PATH_MAX,
                      d->path) < 0)
            return -ENOMEM;
        str_printable(warnings->v[warnings->n - 1], "");
    }
    return r->n_deleted > n ? strv_addf(warnings, "%zu more deleted files give errors in a copy", r->n_deleted - n) : 0;
}

static void on_frozen(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct capture *c = userdata;
    struct err e = ERR_INIT;
    c->call = NULL;
    if (err) {
        /* A late answer would leave it frozen; a guest that is not takes a Thaw too. */
        c->frozen = err->code == ETIMEDOUT;
        failed(c, err);
        return;
    }
    c->frozen = true;
    if (c->err.code) { /* abandoned meanwhile */
        go_on(c);
        return;
    }
    if (capture_warn_of_deleted((const void *)*reply, &c->warnings) < 0)
        log_warn("out of memory");
    int n = FAULT(SNAPSHOT_FROZEN) ? err_errno(&e, errno, "cannot stop the CPUs")
                                   : vm_save(c->sb->vm, c->device_fd, on_saved, c, &e);
    if (n < 0)
        failed(c, &e);
}

static uint64_t time_limit(const struct capture *c) {
    return c->is_template ? c->sb->config.boot_timeout : c->sb->config.checkpoint_timeout;
}

/* It may have got as far as to give the snapshot its name. */
static void stop_worker(struct capture *c) {
    struct err err = ERR_INIT;
    c->worker = worker_cancel(c->worker);
    if (c->tmp && store_take_back(&c->store, c->dir_fd, c->name, c->tmp, &err) < 0)
        log_error("%s", err.msg);
}

/* Calls and QEMU's steps have deadlines of their own. */
static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    struct capture *c = userdata;
    struct err err = ERR_INIT;
    if (!c->worker)
        return 0;
    stop_worker(c);
    err_set(&err, ETIMEDOUT, "it was not written within %.0f s (%s)", (double)time_limit(c) / (double)USEC_PER_SEC,
            c->is_template ? "[vm] boot_timeout" : "[checkpoint] timeout");
    failed(c, &err);
    return 0;
}

static int set_deadline(struct capture *c, struct err *err) {
    int r = sd_event_add_time_relative(c->sb->event, &c->deadline, CLOCK_MONOTONIC, time_limit(c), 0, on_deadline, c);
    return r < 0 ? err_errno(err, -r, "cannot set a timer") : 0;
}

/* What the sandbox was a copy of may be gone by now, or on another file system, or have too many links. */
static void link_base(struct capture *c) {
    char path[32];
    if (c->is_template || c->sb->base_fd < 0)
        return;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", c->sb->base_fd);
    if (linkat(AT_FDCWD, path, c->dir_fd, MANIFEST_BASE, AT_SYMLINK_FOLLOW) == 0)
        c->base_fd = c->sb->base_fd;
    else
        log_debug("snapshot %s shares no memory: %s", c->name, strerror(errno));
}

static int open_files(struct capture *c, const struct capture_spec *spec, struct err *err) {
    int r = store_open(spec->store, true, &c->store, err);
    if (r == 0)
        r = store_begin(&c->store, spec->name, &c->dir_fd, &c->tmp, err);
    if (r < 0)
        return r;
    c->device_fd = openat(c->dir_fd, MANIFEST_DEVICE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    c->memory_fd = openat(c->dir_fd, MANIFEST_MEMORY, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (c->device_fd < 0 || c->memory_fd < 0 || FAULT(SNAPSHOT_BEGIN))
        return err_errno(err, errno, "cannot make a file in %s", spec->store);
    link_base(c);
    return 0;
}

static int copy_machine(const struct manifest_machine *m, struct manifest_machine *ret, struct err *err) {
    *ret = *m;
    ret->vmm = strdup(m->vmm);
    ret->guest = strdup(m->guest);
    ret->type = strdup(m->type);
    ret->accel = strdup(m->accel);
    ret->cpu = strdup(m->cpu);
    ret->kernel_params = strdup(m->kernel_params);
    if (!ret->vmm || !ret->guest || !ret->type || !ret->accel || !ret->cpu || !ret->kernel_params)
        return err_set(err, ENOMEM, "out of memory");
    return 0;
}

static int describe(struct capture *c, struct err *err) {
    struct sandbox *sb = c->sb;
    struct manifest *m = &c->manifest;
    size_t n = c->is_template ? 0 : sb->n_containers;
    m->is_template = c->is_template;
    m->name = strdup(c->name);
    m->sandbox_id = strdup(c->is_template ? "template" : sb->id);
    m->stasis_version = strdup(STASIS_VERSION);
    m->created_wall_usec = now_wall_usec();
    m->containers = calloc(MAX(n, 1), sizeof(*m->containers));
    c->roots = calloc(MAX(n, 1), sizeof(*c->roots));
    c->findings_size = sizeof(struct findings) + n * sizeof(struct root_findings);
    void *p = mmap(NULL, c->findings_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    c->findings = p == MAP_FAILED ? NULL : p;
    if (!m->name || !m->sandbox_id || !m->stasis_version || !m->containers || !c->roots || !c->findings)
        return err_set(err, ENOMEM, "out of memory");
    int r = copy_machine(&sb->machine.made, &m->machine, err);
    if (r == 0)
        r = memory_image_new(m->machine.memory, &m->memory, err);
    for (size_t i = 0; r == 0 && i < n; i++) {
        m->n_containers++;
        r = snapshot_describe_container(sb->containers[i], &m->containers[i], &c->roots[i], err);
    }
    return r;
}

int capture_start(struct sandbox *sb, const struct capture_spec *spec, capture_done_fn done, void *userdata,
                  struct err *err) {
    if (spec->stop && spec->no_sync)
        return err_set(err, EINVAL, "sandbox %s: it is not ended for a snapshot that may not be on the disk", sb->id);
    if (sb->capture)
        return err_set(err, EBUSY, "sandbox %s: a snapshot is under way", sb->id);
    if (!sb->agent || !ttrpc_client_is_ready(sb->agent))
        return err_set(err, EBUSY, "sandbox %s: its VM is not running", sb->id);
    for (size_t i = 0; i < sb->n_containers && !spec->is_template; i++)
        if (container_is_busy(sb->containers[i]))
            return err_set(err, EBUSY, "container %s: an operation is under way", container_id(sb->containers[i]));
    struct capture *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, ENOMEM, "out of memory");
    *c = (struct capture){.sb = sb,
                          .store = {.fd = -1},
                          .name = strdup(spec->name),
                          .stop = spec->stop,
                          .is_template = spec->is_template,
                          .no_sync = spec->no_sync,
                          .dir_fd = -1,
                          .device_fd = -1,
                          .memory_fd = -1,
                          .base_fd = -1,
                          .done = done,
                          .userdata = userdata};
    int r = c->name ? 0 : err_set(err, ENOMEM, "out of memory");
    if (r == 0)
        r = open_files(c, spec, err);
    if (r == 0)
        r = describe(c, err);
    if (r == 0)
        r = set_deadline(c, err);
    if (r == 0) {
        Stasis__Agent__V1__FreezeRequest req = STASIS__AGENT__V1__FREEZE_REQUEST__INIT;
        req.allow_deleted = spec->force;
        req.for_template = spec->is_template;
        c->frozen_usec = now_usec();
        r = FAULT(SNAPSHOT_FREEZE) ? err_errno(err, errno, "cannot call the agent")
                                   : call_start(&sb->calls, sb->agent, "Freeze", &req.base, sb->config.rpc_timeout,
                                                on_frozen, c, &c->call, err);
    }
    if (r < 0) {
        free_capture(c);
        return r;
    }
    sb->capture = c;
    return 0;
}

void capture_abandon(struct sandbox *sb, const void *userdata, const struct err *why) {
    struct capture *c = sb->capture;
    if (!c || c->userdata != userdata || c->err.code)
        return;
    if (c->worker) {
        stop_worker(c);
        failed(c, why);
        return;
    }
    /* What is under way, a call or a step of QEMU, ends soon, and goes back from there. */
    c->err = *why;
    err_wrap(&c->err, "cannot save sandbox %s as %s", c->sb->id, c->name);
}

void capture_cancel(struct sandbox *sb, const struct err *why) {
    struct capture *c = sb->capture;
    if (!c)
        return;
    sb->capture = NULL;
    c->done(c->userdata, NULL, c->err.code ? &c->err : why);
    free_capture(c);
}
