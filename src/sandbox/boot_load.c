/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/boot.h"
#include "sandbox/container_impl.h"
#include "sandbox/worker.h"

#define FILL_PROCESSES_MAX 4
#define ENTROPY_SIZE 64

/* For a template there is always the other way. */
static void failed(struct sandbox *sb, const struct err *err) {
    struct err e = *err;
    if (sb->boot->kind == BOOT_TEMPLATE) {
        boot_fall_back(sb, &e);
        return;
    }
    err_wrap(&e, "%s", sb->boot->source);
    sandbox_die(sb, &e);
}

static void on_thawed(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    (void)reply;
    struct sandbox *sb = userdata;
    struct err e = ERR_INIT;
    if (err && !ttrpc_client_is_ready(sb->agent))
        return; /* the channel's end follows */
    if (err) {
        e = *err;
        err_wrap(&e, "the copy could not be made a machine of its own");
        failed(sb, &e);
        return;
    }
    sandbox_mark(sb, "thawed");
    boot_ready(sb);
}

void boot_thaw(struct sandbox *sb) {
    struct boot *b = sb->boot;
    struct err err = ERR_INIT;
    uint8_t entropy[ENTROPY_SIZE];
    Stasis__Agent__V1__ThawRequest req = STASIS__AGENT__V1__THAW_REQUEST__INIT;
    Stasis__Agent__V1__ContainerIdentity ids[SANDBOX_CONTAINERS_MAX], *list[SANDBOX_CONTAINERS_MAX];
    if (getrandom(entropy, sizeof(entropy), 0) != (ssize_t)sizeof(entropy)) {
        err_set(&err, EIO, "no random bytes for the copy");
        failed(sb, &err);
        return;
    }
    req.entropy.data = entropy;
    req.entropy.len = sizeof(entropy);
    req.wall_usec = now_wall_usec();
    req.new_identity = b->new_identity;
    for (size_t i = 0; b->new_identity && i < sb->n_containers; i++) {
        stasis__agent__v1__container_identity__init(&ids[i]);
        ids[i].id = (char *)(uintptr_t)container_guest_id(sb->containers[i]);
        ids[i].hostname = (char *)(uintptr_t)container_id(sb->containers[i]);
        list[i] = &ids[i];
        req.n_containers = i + 1;
    }
    /* Roots are complete; what others may have changed since is volumes. */
    for (size_t i = 0; b->check_files && i < sb->n_containers; i++)
        req.check_files |= sb->containers[i]->guest.n_mounts > 0;
    req.containers = list;
    int r = FAULT(LOAD_THAW) ? err_errno(&err, errno, "cannot call the agent")
                             : ttrpc_client_call(sb->agent, &stasis__agent__v1__agent__descriptor, "Thaw", &req.base,
                                                 sb->config.rpc_timeout, on_thawed, sb, NULL, &err);
    explicit_bzero(entropy, sizeof(entropy));
    if (r < 0)
        failed(sb, &err);
}

static void on_running(void *userdata, const struct err *err) {
    struct sandbox *sb = userdata;
    struct err e = ERR_INIT;
    if (err)
        failed(sb, err);
    else if (boot_connect(sb, TAKE_FD(sb->agent_fd), &e) < 0)
        failed(sb, &e);
    else
        sandbox_mark(sb, "resumed");
}

static void on_loaded(void *userdata, const struct err *err) {
    struct sandbox *sb = userdata;
    struct err e = ERR_INIT;
    if (err) {
        failed(sb, err);
        return;
    }
    sandbox_mark(sb, "loaded");
    if (FAULT(LOAD_LOADED)) {
        err_errno(&e, errno, "cannot load the state of the devices");
        failed(sb, &e);
    } else if (vm_continue(sb->vm, on_running, sb, &e) < 0)
        failed(sb, &e);
}

static void on_filled(void *userdata, const struct err *err) {
    struct sandbox *sb = userdata;
    struct boot *b = sb->boot;
    struct err e = ERR_INIT;
    b->fill = NULL;
    if (err) {
        failed(sb, err);
        return;
    }
    sandbox_mark(sb, "filled");
    if (FAULT(LOAD_FILLED)) {
        err_errno(&e, errno, "cannot load the memory");
        failed(sb, &e);
    } else if (vm_load(sb->vm, b->device_fd, on_loaded, sb, &e) < 0)
        failed(sb, &e);
}

static int check_device(const struct boot *b, struct err *err) {
    uint8_t digest[MANIFEST_DIGEST_SIZE];
    uint64_t size = 0;
    /* The file that QEMU gets, whatever has its name by now; its place stays. */
    int r = manifest_digest_file(b->device_fd, &size, digest, err);
    if (r < 0)
        return r;
    if (size != b->manifest.device_size || memcmp(digest, b->manifest.device_sha256, sizeof(digest)) != 0)
        return err_set(err, EBADMSG, MANIFEST_DEVICE ": the state of the devices is damaged");
    return 0;
}

static int check_roots(const struct boot *b, struct err *err) {
    for (size_t i = 0; i < b->manifest.n_containers; i++) {
        char path[64];
        struct tree_totals t = {0};
        snprintf(path, sizeof(path), MANIFEST_ROOTS "/%zu", i);
        cleanup_fd int fd = path_open_beneath(b->source_fd, path, O_RDONLY | O_DIRECTORY, 0, err);
        int r = fd < 0 ? fd : tree_digest(fd, &t, err);
        if (r < 0)
            return err_wrap(err, "%s", path);
        if (memcmp(t.sha256, b->manifest.containers[i].root.totals.sha256, sizeof(t.sha256)) != 0)
            return err_set(err, EBADMSG, "%s: the root of container %s is damaged", path, b->manifest.containers[i].id);
    }
    return 0;
}

/* In the worker: all that is read is checked. */
static int fill(void *arg, struct err *err) {
    struct sandbox *sb = arg;
    struct boot *b = sb->boot;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (FAULT(LOAD_FILL))
        return err_errno(err, errno, "cannot load the memory");
    int r = check_device(b, err);
    if (r == 0)
        r = memory_image_load(b->memory_fd, b->base_fd, b->manifest.memory, vm_memory_fd(sb->vm),
                              (unsigned)MAX(1, MIN(cpus, FILL_PROCESSES_MAX)), err);
    return r == 0 ? check_roots(b, err) : r;
}

static int open_files(struct boot *b, struct err *err) {
    b->device_fd = manifest_open_file(b->source_fd, MANIFEST_DEVICE, err);
    if (b->device_fd < 0)
        return b->device_fd;
    b->memory_fd = manifest_open_file(b->source_fd, MANIFEST_MEMORY, err);
    if (b->memory_fd < 0)
        return b->memory_fd;
    if (memory_image_shared(b->manifest.memory) == 0)
        return 0;
    b->base_fd = manifest_open_file(b->source_fd, MANIFEST_BASE, err);
    return b->base_fd < 0 ? b->base_fd : 0;
}

int boot_load(struct sandbox *sb, struct err *err) {
    struct boot *b = sb->boot;
    int r = open_files(b, err);
    if (r == 0)
        r = worker_start(sb->event, "loading the memory", fill, sb, on_filled, sb, &b->fill, err);
    if (r == 0 || b->kind != BOOT_TEMPLATE)
        return r;
    boot_fall_back(sb, err);
    return 0;
}
