/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's services over a socket pair, in the test's own loop. The sandbox is the real one; its VM is a
 * stand-in (vm.h is implemented here) whose agent is mock_agent.h.
 */
#pragma once

#include "../sandbox/mock_agent.h"
#include "../sandbox/support.h"

#include "base/json.h"
#include "oci/spec.h"
#include "proto/sandbox.pb-c.h"
#include "proto/task.pb-c.h"
#include "sandbox/container.h"
#include "sandbox/process.h"
#include "shim/service.h"
#include "vm/vm.h"
#include "vm_no_snapshots.h"

#define TASK (&containerd__task__v2__task__descriptor)
#define SANDBOX (&stasis__sandbox__v1__sandbox__descriptor)

struct daemon {
    struct tmpdir *dir;
    sd_event *event;
    struct service s;
    struct config config;
    struct ttrpc_client *client;
    char *bundle;
    struct err err; /* of the last call */
};

struct vm {
    const struct vm_ops *ops;
    void *userdata;
    struct mock_agent *agent;
};

/* What vm_start() is to do, and what it did. */
static struct {
    bool fail;
    size_t n_started;
    uint64_t memory; /* of the last one */
    uint64_t log_max;
    uint32_t cpus;
    struct vm *vm; /* NULL: none is running */
} fake_vm;

int vm_start(sd_event *event, const struct vm_spec *spec, const struct vm_ops *ops, void *userdata, struct vm **ret,
             int *ret_agent_fd, struct err *err) {
    int fds[2];
    assert_non_null(spec->share_dir);
    fake_vm.n_started++;
    fake_vm.memory = spec->memory;
    fake_vm.cpus = spec->cpus;
    fake_vm.log_max = spec->log_max;
    if (fake_vm.fail)
        return err_set(err, EIO, "QEMU would not start");
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct vm *vm = calloc(1, sizeof(*vm));
    assert_non_null(vm);
    *vm = (struct vm){.ops = ops, .userdata = userdata, .agent = mock_agent_new(event, fds[0], true)};
    *ret_agent_fd = fds[1];
    *ret = fake_vm.vm = vm;
    return 0;
}

struct vm *vm_free(struct vm *vm) {
    if (!vm)
        return NULL;
    assert_ptr_equal(vm, fake_vm.vm);
    fake_vm.vm = NULL;
    mock_agent_free(vm->agent);
    free(vm);
    return NULL;
}

pid_t vm_qemu_pid(const struct vm *vm) {
    (void)vm;
    return 1234567;
}

pid_t vm_virtiofsd_pid(const struct vm *vm) {
    (void)vm;
    return 1234568;
}

const char *vm_console_tail(struct vm *vm) {
    (void)vm;
    return "";
}

static inline void vm_dies(const char *why) {
    struct err err = ERR_INIT;
    err_set(&err, EIO, "%s", why);
    assert_non_null(fake_vm.vm);
    fake_vm.vm->ops->died(fake_vm.vm->userdata, &err);
}

static inline struct mock_agent *the_agent(void) {
    assert_non_null(fake_vm.vm);
    return fake_vm.vm->agent;
}

/* Writes the bundle's config.json: the default one without a terminal. */
static inline void write_spec(struct daemon *d) {
    cleanup_json json_t *spec = oci_spec_default();
    assert_int_equal(json_object_set_new(json_object_get(spec, "process"), "terminal", json_false()), 0);
    cleanup_free char *text = json_text(spec, JSON_COMPACT);
    tmpdir_write(d->dir, "bundle/config.json", text);
}

/* A new connection to the daemon. */
static inline struct ttrpc_client *daemon_connect(struct daemon *d) {
    struct ttrpc_client *c = NULL;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(ttrpc_server_add_plain(d->s.server, fds[0], &d->err), 0);
    assert_int_equal(ttrpc_client_new_plain(d->event, fds[1], NULL, NULL, &c, &d->err), 0);
    return c;
}

static inline int daemon_setup(void **state) {
    struct daemon *d = calloc(1, sizeof(*d));
    void *dir = NULL;
    signal(SIGPIPE, SIG_IGN);
    memset(&fake_vm, 0, sizeof(fake_vm));
    if (tmpdir_setup(&dir) < 0 || sd_event_new(&d->event) < 0)
        return -1;
    d->dir = dir;
    d->s.event = d->event;
    d->s.config = &d->config;
    d->bundle = tmpdir_path(d->dir, "bundle");
    cleanup_free char *box = tmpdir_path(d->dir, "box");
    if (mkdirat(d->dir->fd, "box", 0700) < 0 || mkdirat(d->dir->fd, "bundle", 0700) < 0 ||
        mkdirat(d->dir->fd, "bundle/rootfs", 0755) < 0)
        return -1;
    write_spec(d);
    config_init(&d->config);
    d->config.use_template = false;
    d->config.accel = ACCEL_TCG;
    d->config.debug_console = true;
    snprintf(d->config.vmm_root, sizeof(d->config.vmm_root), "%s", d->dir->path);
    snprintf(d->config.guest_dir, sizeof(d->config.guest_dir), "%s", d->dir->path);
    struct sandbox_spec spec = {.id = "box", .dir = box, .config = &d->config, .host = HOST_NAMESPACES_NONE};
    if (sandbox_new(d->event, &spec, &d->s.sb, &d->err) < 0 || ttrpc_server_new(d->event, &d->s.server, &d->err) < 0 ||
        service_add_task(&d->s, &d->err) < 0 || service_add_control(&d->s, &d->err) < 0) {
        fprintf(stderr, "%s\n", d->err.msg);
        return -1;
    }
    d->client = daemon_connect(d);
    *state = d;
    return 0;
}

static inline int daemon_teardown(void **state) {
    struct daemon *d = *state;
    void *dir = d->dir;
    d->s.sb = sandbox_free(d->s.sb);
    ttrpc_client_free(d->client);
    ttrpc_server_free(d->s.server);
    bool clean = !fake_vm.vm && count_mounts(d->dir->path) == 0;
    sd_event_unref(d->event);
    free(d->bundle);
    free(d);
    return tmpdir_teardown(&dir) < 0 || !clean ? -1 : 0;
}

/* Calls and waits. The error is in d->err. ret may be NULL; else the caller frees it. */
static inline int daemon_call_fds(struct daemon *d, const ProtobufCServiceDescriptor *service, const char *method,
                                  const ProtobufCMessage *req, const int *fds, size_t n_fds, void *ret) {
    d->err = (struct err)ERR_INIT;
    return ttrpc_client_call_sync(d->client, service, method, req, fds, n_fds, TEST_DEADLINE, ret, &d->err);
}

static inline int daemon_call(struct daemon *d, const char *method, const ProtobufCMessage *req, void *ret) {
    return daemon_call_fds(d, TASK, method, req, NULL, 0, ret);
}

/* A call that the test does not wait for. */
struct later {
    size_t n;
    struct err err;
    ProtobufCMessage *reply; /* the caller frees it */
};

static inline void on_later(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct later *l = userdata;
    l->n++;
    if (err)
        l->err = *err;
    else
        l->reply = TAKE_PTR(*reply);
}

static inline void start_call(struct daemon *d, struct ttrpc_client *client, const ProtobufCServiceDescriptor *service,
                              const char *method, const ProtobufCMessage *req, struct later *l) {
    assert_int_equal(ttrpc_client_call(client, service, method, req, TEST_DEADLINE, on_later, l, NULL, &d->err), 0);
}

/* The pid that engines get for a container: its monitor's. */
static inline uint32_t monitor_of(const struct daemon *d, const char *id) {
    struct container *c = sandbox_find(d->s.sb, id);
    assert_non_null(c);
    pid_t pid = process_host_pid(container_find(c, ""));
    assert_true(pid > 1 && pid != getpid());
    return (uint32_t)pid;
}

static inline char *text(const char *s) {
    return (char *)(uintptr_t)s;
}

static inline bool share_is_empty(const struct daemon *d) {
    return count_mounts(sandbox_share(d->s.sb)->dir) == 1;
}
