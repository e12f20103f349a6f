/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/boot.h"

#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "sandbox/worker.h"

#define CHANNEL_GRACE_USEC (2 * USEC_PER_SEC)

static void add_console_tail(struct sandbox *sb, struct err *err) {
    const char *tail = sb->vm ? vm_console_tail(sb->vm) : "";
    err_append(err, "%s%s", *tail ? "; the last lines of the guest's console:\n" : "; the guest's console is empty",
               tail);
}

void boot_tell_waiters(struct sandbox *sb, const struct err *err) {
    struct ready_waiter *waiters = TAKE_PTR(sb->waiters);
    size_t n = sb->n_waiters;
    sb->n_waiters = 0;
    for (size_t i = 0; i < n; i++)
        waiters[i].fn(waiters[i].userdata, err);
    free(waiters);
}

void boot_free(struct sandbox *sb) {
    struct boot *b = sb->boot;
    sb->boot = NULL;
    if (!b)
        return;
    worker_cancel(b->fill);
    sd_event_source_disable_unref(b->again);
    fd_close(b->source_fd);
    fd_close(b->device_fd);
    fd_close(b->memory_fd);
    fd_close(b->base_fd);
    fd_close(b->build_lock);
    manifest_clear(&b->manifest);
    free(b->source);
    free(b);
}

void boot_ready(struct sandbox *sb) {
    sb->boot_deadline = sd_event_source_disable_unref(sb->boot_deadline);
    if (lifecycle_move(&sandbox_lifecycle, &sb->state, SANDBOX_READY, sb->id, NULL) < 0)
        return;
    if (sb->boot->kind == BOOT_SNAPSHOT)
        sb->snapshot_fd = TAKE_FD(sb->boot->source_fd); /* its roots are lower directories of ours */
    /* Never a snapshot's own memory: who removes or exports one does not mean pages of another. */
    sb->base_fd = sb->boot->kind == BOOT_SNAPSHOT ? TAKE_FD(sb->boot->base_fd) : TAKE_FD(sb->boot->memory_fd);
    boot_free(sb);
    sandbox_save(sb);
    boot_tell_waiters(sb, NULL);
}

static void on_hello(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct sandbox *sb = userdata;
    if (err && !ttrpc_client_is_ready(sb->agent))
        return; /* on_agent_closed follows, and then the VM's own cause */
    if (err) {
        struct err e = *err;
        err_wrap(&e, "the agent did not come up");
        sandbox_die(sb, &e);
        return;
    }
    const Stasis__Agent__V1__HelloResponse *r = (const void *)*reply;
    if (r->version != 1) {
        struct err e = ERR_INIT;
        err_set(&e, EPROTONOSUPPORT,
                "the guest's agent speaks version %u of the protocol, this daemon 1: run make setup", r->version);
        sandbox_die(sb, &e);
        return;
    }
    snprintf(sb->agent_version, sizeof(sb->agent_version), "%s", r->agent_version);
    snprintf(sb->kernel_version, sizeof(sb->kernel_version), "%s", r->kernel_version);
    str_printable(sb->agent_version, "");
    str_printable(sb->kernel_version, "");
    sandbox_mark(sb, "agent");
    if (sb->boot->kind != BOOT_COLD) {
        boot_thaw(sb);
    } else if (sb->boot->build_store) {
        sb->boot_deadline = sd_event_source_disable_unref(sb->boot_deadline); /* it has booted; this has its own */
        template_make(sb);
    } else {
        boot_ready(sb);
    }
}

static void on_agent_ready(struct ttrpc_client *c, void *userdata) {
    struct sandbox *sb = userdata;
    if (sb->state != SANDBOX_BOOTING)
        return;
    struct utsname host;
    sandbox_mark(sb, "channel");
    Stasis__Agent__V1__HelloRequest req = STASIS__AGENT__V1__HELLO_REQUEST__INIT;
    req.wall_usec = now_wall_usec();
    req.log_level = (uint32_t)sb->config.log_level;
    req.console = sb->config.debug_console;
    /* A container that sets none, or that has no uts namespace of its own, shows the host's name, as with runc. */
    if (uname(&host) == 0 && *host.nodename && strcmp(host.nodename, "(none)") != 0)
        req.hostname = host.nodename;
    struct err err = ERR_INIT;
    if (ttrpc_client_call(c, &stasis__agent__v1__agent__descriptor, "Hello", &req.base, sb->config.rpc_timeout,
                          on_hello, sb, NULL, &err) < 0)
        sandbox_die(sb, &err);
}

static int on_grace_over(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    struct sandbox *sb = userdata;
    add_console_tail(sb, &sb->channel_err);
    sandbox_die(sb, &sb->channel_err);
    return 0;
}

static void on_agent_closed(struct ttrpc_client *c, const struct err *err, void *userdata) {
    (void)c;
    struct sandbox *sb = userdata;
    struct err e = *err;
    if (e.code == 0)
        err_set(&e, ECONNRESET, "closed by the guest");
    err_wrap(&e, "the channel to the agent is lost");
    /* When the guest panics or QEMU dies, the channel goes first and the cause comes a moment later. */
    sb->channel_err = e;
    if (sb->grace || sb->death.code)
        return;
    if (sd_event_add_time_relative(sb->event, &sb->grace, CLOCK_MONOTONIC, CHANNEL_GRACE_USEC, 0, on_grace_over, sb) <
        0)
        sandbox_die(sb, &e);
}

static const struct ttrpc_client_ops agent_ops = {.ready = on_agent_ready, .closed = on_agent_closed};

int boot_connect(struct sandbox *sb, int agent_fd, struct err *err) {
    return ttrpc_client_new_channel(sb->event, agent_fd, 0, &agent_ops, sb, &sb->agent, err);
}

static void on_vm_died(void *userdata, const struct err *err) {
    struct sandbox *sb = userdata;
    /* Who kills a part of the machine means the machine, not its template. */
    if (sb->state == SANDBOX_BOOTING && sb->boot && sb->boot->kind == BOOT_TEMPLATE && err->code != ECANCELED) {
        boot_fall_back(sb, err);
        return;
    }
    struct err e = *err;
    if (e.code == ECANCELED)
        e.code = EIO;
    sandbox_die(sb, &e);
}

static void on_console_line(void *userdata, const char *line) {
    struct sandbox *sb = userdata;
    if (sb->config.guest_console)
        log_within(sb->config.guest_log_max, &sb->console_logged, LOG_LEVEL_INFO, "guest", line);
}

static const struct vm_ops vm_callbacks = {.died = on_vm_died, .console_line = on_console_line};

static int on_boot_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    struct sandbox *sb = userdata;
    struct err err = ERR_INIT;
    err_set(&err, ETIMEDOUT, "the agent did not answer within %.0f s ([vm] boot_timeout)",
            (double)sb->config.boot_timeout / (double)USEC_PER_SEC);
    add_console_tail(sb, &err);
    if (sb->boot && sb->boot->kind == BOOT_TEMPLATE)
        boot_fall_back(sb, &err);
    else
        sandbox_die(sb, &err);
    return 0;
}

/* Starts the processes; what is loaded is loaded beside that. */
static int start_vm(struct sandbox *sb, struct err *err) {
    struct vm_spec spec;
    machine_vm_spec(&sb->machine, &spec);
    spec.id = sb->id;
    spec.share_dir = sb->share.dir;
    spec.log_max = sb->config.guest_log_max;
    spec.incoming = sb->boot->kind != BOOT_COLD;
    cleanup_fd int agent_fd = -1;
    sandbox_mark(sb, "daemon");
    int r = vm_start(sb->event, &spec, &vm_callbacks, sb, &sb->vm, &agent_fd, err);
    if (r < 0)
        return r;
    sandbox_mark(sb, "spawned");
    if (sb->boot->kind == BOOT_COLD) {
        r = boot_connect(sb, TAKE_FD(agent_fd), err);
    } else {
        sb->agent_fd = TAKE_FD(agent_fd);
        r = boot_load(sb, err);
    }
    if (r == 0) {
        sb->boot_deadline = sd_event_source_disable_unref(sb->boot_deadline);
        int e = sd_event_add_time_relative(sb->event, &sb->boot_deadline, CLOCK_MONOTONIC, sb->config.boot_timeout, 0,
                                           on_boot_deadline, sb);
        if (e < 0)
            r = err_errno(err, -e, "cannot set a timer");
    }
    return r;
}

static int on_again(sd_event_source *source, void *userdata) {
    (void)source;
    struct sandbox *sb = userdata;
    struct boot *b = sb->boot;
    struct err err = ERR_INIT;
    log_warn("the template %s cannot be used, and the VM boots: %s", b->source, b->failure.msg);
    b->again = sd_event_source_disable_unref(b->again);
    b->fill = worker_cancel(b->fill);
    sb->grace = sd_event_source_disable_unref(sb->grace);
    sb->agent = ttrpc_client_free(sb->agent);
    sb->vm = vm_free(sb->vm);
    sb->agent_fd = fd_close(sb->agent_fd);
    b->device_fd = fd_close(b->device_fd);
    b->memory_fd = fd_close(b->memory_fd); /* a template has no base */
    template_discard(sb);
    b->kind = BOOT_COLD;
    if (start_vm(sb, &err) < 0)
        sandbox_die(sb, &err);
    return 0;
}

void boot_fall_back(struct sandbox *sb, const struct err *why) {
    struct boot *b = sb->boot;
    if (b->again || sb->death.code)
        return;
    b->failure = *why;
    if (sd_event_add_defer(sb->event, &b->again, on_again, sb) < 0)
        sandbox_die(sb, why);
}

static struct boot *boot_new(void) {
    struct boot *b = calloc(1, sizeof(*b));
    if (b)
        b->source_fd = b->device_fd = b->memory_fd = b->base_fd = b->build_lock = -1;
    return b;
}

int boot_prepare_snapshot(struct sandbox *sb, int dir_fd, const char *path, struct manifest *manifest,
                          bool new_identity, bool check_files, struct err *err) {
    if (sb->state != SANDBOX_NEW || sb->boot)
        return err_set(err, EBUSY, "sandbox %s: its VM has been started", sb->id);
    int r = machine_like(&sb->config, &manifest->machine, &sb->machine, err);
    if (r < 0)
        return r;
    struct boot *b = boot_new();
    if (!b || !(b->source = strdup(path))) {
        free(b);
        return err_set(err, ENOMEM, "out of memory");
    }
    b->kind = BOOT_SNAPSHOT;
    b->source_fd = dir_fd;
    b->manifest = *manifest;
    *manifest = (struct manifest){0};
    b->new_identity = new_identity;
    b->check_files = check_files;
    sb->boot = b;
    return 0;
}

int boot_start(struct sandbox *sb, struct err *err) {
    int r = 0;
    struct err e = ERR_INIT;
    if (!sb->boot) {
        sb->boot = boot_new();
        if (!sb->boot)
            return err_set(err, ENOMEM, "out of memory");
        machine_clear(&sb->machine);
        r = machine_here(&sb->config, &sb->machine, err);
        if (r == 0 && sb->config.use_template && template_find(sb, &e) < 0 && e.code != ENOENT)
            log_warn("no template is used: %s", e.msg);
    }
    if (r == 0)
        r = start_vm(sb, err);
    if (r < 0) {
        boot_free(sb);
        sb->agent = ttrpc_client_free(sb->agent);
        sb->agent_fd = fd_close(sb->agent_fd);
        sb->vm = vm_free(sb->vm);
    }
    return r;
}
