/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/sandbox_impl.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/proc.h"
#include "oci/state.h"
#include "sandbox/capture.h"
#include "sandbox/container.h"
#include "sandbox/process.h"

#define SAVE_AGAIN_USEC USEC_PER_SEC
#define FORGET_MAX 64 /* paths of one request */

/* Start. */

void sandbox_mark(struct sandbox *sb, const char *step) {
    uint64_t now = now_usec();
    if (sb->n_timings < SANDBOX_TIMINGS_MAX)
        sb->timings[sb->n_timings++] = (struct sandbox_timing){.step = step, .usec = now};
    log_debug("timing: %s at %llu us", step, (unsigned long long)now);
}

int sandbox_when_ready(struct sandbox *sb, sandbox_done_fn fn, void *userdata, struct err *err) {
    if (sb->state == SANDBOX_STOPPED)
        return err_copy(err, &sb->death);
    if (sb->state == SANDBOX_NEW) {
        int r = boot_start(sb, err);
        if (r < 0)
            return err_wrap(err, "cannot start the VM of sandbox %s", sb->id);
        (void)lifecycle_move(&sandbox_lifecycle, &sb->state, SANDBOX_BOOTING, sb->id, NULL);
        sandbox_save(sb);
    }
    if (sb->state == SANDBOX_READY) {
        fn(userdata, NULL);
        return 0;
    }
    if (sb->n_waiters >= SANDBOX_WAITERS_MAX)
        return err_set(err, EBUSY, "sandbox %s: too many calls wait for its VM", sb->id);
    struct ready_waiter *w = reallocarray(sb->waiters, sb->n_waiters + 1, sizeof(*w));
    if (!w)
        return err_set(err, ENOMEM, "out of memory");
    sb->waiters = w;
    sb->waiters[sb->n_waiters++] = (struct ready_waiter){.fn = fn, .userdata = userdata};
    return 0;
}

/* End. */

static int on_bury(sd_event_source *source, void *userdata) {
    (void)source;
    struct sandbox *sb = userdata;
    capture_cancel(sb, &sb->death);
    boot_free(sb);
    sb->agent = ttrpc_client_free(sb->agent);
    calls_fail(&sb->calls, &sb->death);
    sb->vm = vm_free(sb->vm);
    for (size_t i = 0; i < sb->n_containers; i++)
        container_lost(sb->containers[i]);
    for (size_t i = 0; i < CONSOLES_MAX; i++)
        if (sb->consoles[i])
            process_lost(sb->consoles[i]);
    struct err death = sb->death;
    sandbox_save(sb);
    boot_tell_waiters(sb, &death);
    return 0;
}

/* The first cause stays. Callbacks of the VM and the client come here, so both are freed later, from the loop. */
void sandbox_die(struct sandbox *sb, const struct err *cause) {
    if (sb->death.code)
        return;
    sb->death = *cause;
    if (sb->death.code == 0)
        sb->death.code = EIO;
    sb->death_cause = strdup(sb->death.msg);
    err_wrap(&sb->death, "the VM of sandbox %s", sb->id);
    log_error("%s", sb->death.msg);
    sb->boot_deadline = sd_event_source_disable_unref(sb->boot_deadline);
    sb->grace = sd_event_source_disable_unref(sb->grace);
    (void)lifecycle_move(&sandbox_lifecycle, &sb->state, SANDBOX_STOPPED, sb->id, NULL);
    (void)sd_event_source_set_enabled(sb->bury, SD_EVENT_ONESHOT);
}

int sandbox_new(sd_event *event, const struct sandbox_spec *spec, struct sandbox **ret, struct err *err) {
    cleanup_sandbox struct sandbox *sb = calloc(1, sizeof(*sb));
    if (!sb)
        return err_set(err, ENOMEM, "out of memory");
    sb->event = sd_event_ref(event);
    sb->config = *spec->config;
    sb->host = spec->host;
    sb->share.fd = sb->snapshot_fd = sb->base_fd = sb->agent_fd = sb->layers_store.fd = sb->layers_fd = -1;
    sb->id = strdup(spec->id);
    sb->dir = strdup(spec->dir);
    if (!sb->id || !sb->dir)
        return err_set(err, ENOMEM, "out of memory");
    int r = sd_event_add_defer(event, &sb->bury, on_bury, sb);
    if (r >= 0)
        r = sd_event_source_set_enabled(sb->bury, SD_EVENT_OFF);
    if (r < 0)
        return err_errno(err, -r, "sandbox %s: event loop", sb->id);
    r = share_open(sb->dir, &sb->share, err);
    if (r < 0)
        return r;
    sandbox_save(sb); /* names this process to whoever has to end it; the first container must be recorded */
    *ret = TAKE_PTR(sb);
    return 0;
}

int sandbox_configure(struct sandbox *sb, const struct config *config, struct err *err) {
    if (sb->state != SANDBOX_NEW)
        return err_set(err, EBUSY, "sandbox %s: its VM has been started", sb->id);
    sb->config = *config;
    return 0;
}

int sandbox_enter_cgroup(struct sandbox *sb, const char *cgroups_path, struct err *err) {
    if (sb->cgroup || !*cgroups_path)
        return 0;
    int r = cgroup_enter(cgroups_path, &sb->cgroup, err);
    return r < 0 ? err_wrap(err, "linux.cgroupsPath: %s", cgroups_path) : 0;
}

struct sandbox *sandbox_free(struct sandbox *sb) {
    if (!sb)
        return NULL;
    if (sb->death.code == 0)
        err_set(&sb->death, ECANCELED, "sandbox %s was shut down", sb->id);
    sb->state = SANDBOX_STOPPED;
    capture_cancel(sb, &sb->death);
    boot_tell_waiters(sb, &sb->death);
    boot_free(sb);
    for (size_t i = 0; i < CONSOLES_MAX; i++)
        sb->consoles[i] = process_free(sb->consoles[i]);
    sb->agent = ttrpc_client_free(sb->agent);
    calls_fail(&sb->calls, &sb->death);
    while (sb->n_containers)
        sandbox_remove(sb, sb->containers[sb->n_containers - 1]);
    free(sb->containers);
    sb->vm = vm_free(sb->vm);
    fd_close(sb->agent_fd);
    share_close(&sb->share);
    free(sb->death_cause);
    if (sb->layers_tmp)
        store_abort(&sb->layers_store, sb->layers_tmp);
    free(sb->layers_tmp);
    fd_close(sb->layers_fd);
    store_close(&sb->layers_store);
    fd_close(sb->snapshot_fd);
    fd_close(sb->base_fd);
    machine_clear(&sb->machine);
    cgroup_leave(sb->cgroup);
    sd_event_source_disable_unref(sb->boot_deadline);
    sd_event_source_disable_unref(sb->grace);
    sd_event_source_disable_unref(sb->bury);
    sd_event_source_disable_unref(sb->unsaved);
    sd_event_unref(sb->event);
    free(sb->id);
    free(sb->dir);
    free(sb);
    return NULL;
}

/* Access. */

sd_event *sandbox_event(const struct sandbox *sb) {
    return sb->event;
}

const char *sandbox_id(const struct sandbox *sb) {
    return sb->id;
}

const char *sandbox_dir(const struct sandbox *sb) {
    return sb->dir;
}

const struct config *sandbox_config(const struct sandbox *sb) {
    return &sb->config;
}

enum sandbox_state sandbox_get_state(const struct sandbox *sb) {
    return (enum sandbox_state)sb->state;
}

struct share *sandbox_share(struct sandbox *sb) {
    return &sb->share;
}

const struct host_namespaces *sandbox_host(const struct sandbox *sb) {
    return &sb->host;
}

struct vm *sandbox_vm(struct sandbox *sb) {
    return sb->vm;
}

struct ttrpc_client *sandbox_agent(const struct sandbox *sb) {
    return sb->agent;
}

const char *sandbox_agent_version(const struct sandbox *sb) {
    return sb->agent_version;
}

bool sandbox_is_being_saved(const struct sandbox *sb) {
    return sb->capture != NULL;
}

const char *sandbox_death_cause(const struct sandbox *sb) {
    return sb->death_cause;
}

const char *sandbox_kernel_version(const struct sandbox *sb) {
    return sb->kernel_version;
}

const char *sandbox_accel_name(const struct sandbox *sb) {
    return sb->machine.accel == ACCEL_KVM ? "kvm" : "tcg";
}

int sandbox_call(struct sandbox *sb, const char *method, const ProtobufCMessage *request, ttrpc_reply_fn fn,
                 void *userdata, struct sandbox_call **ret_call, struct err *err) {
    return sandbox_call_within(sb, method, request, sb->config.rpc_timeout, fn, userdata, ret_call, err);
}

int sandbox_call_within(struct sandbox *sb, const char *method, const ProtobufCMessage *request, uint64_t timeout_usec,
                        ttrpc_reply_fn fn, void *userdata, struct sandbox_call **ret_call, struct err *err) {
    if (sb->death.code)
        return err_copy(err, &sb->death);
    if (!sb->agent)
        return err_set(err, ENOTCONN, "sandbox %s: its VM is not running", sb->id);
    return call_start(&sb->calls, sb->agent, method, request, timeout_usec, fn, userdata, ret_call, err);
}

struct container *sandbox_find(const struct sandbox *sb, const char *id) {
    for (size_t i = 0; i < sb->n_containers; i++)
        if (strcmp(container_id(sb->containers[i]), id) == 0)
            return sb->containers[i];
    return NULL;
}

int sandbox_add(struct sandbox *sb, struct container *c, struct err *err) {
    if (sandbox_find(sb, container_id(c)))
        return err_set(err, EEXIST, "container %s already exists", container_id(c));
    if (sb->n_containers >= SANDBOX_CONTAINERS_MAX)
        return err_set(err, ENOSPC, "sandbox %s already has %d containers", sb->id, SANDBOX_CONTAINERS_MAX);
    struct container **v = reallocarray(sb->containers, sb->n_containers + 1, sizeof(struct container *));
    if (!v)
        return err_set(err, ENOMEM, "out of memory");
    sb->containers = v;
    sb->containers[sb->n_containers++] = c;
    return 0;
}

void sandbox_remove(struct sandbox *sb, struct container *c) {
    for (size_t i = 0; i < sb->n_containers; i++)
        if (sb->containers[i] == c) {
            sb->containers[i] = sb->containers[--sb->n_containers];
            break;
        }
    struct err err = ERR_INIT;
    if (share_remove_container(&sb->share, container_guest_id(c), &err) < 0)
        log_error("container %s: %s", container_id(c), err.msg);
    if (sb->n_containers) /* else the guest most likely ends, too */
        sandbox_forget(sb);
    container_free(c);
}

struct container *sandbox_nth(const struct sandbox *sb, size_t n) {
    return sb->containers[n];
}

size_t sandbox_count(const struct sandbox *sb) {
    return sb->n_containers;
}

struct process *sandbox_find_console(const struct sandbox *sb, const char *exec_id) {
    for (size_t i = 0; i < CONSOLES_MAX; i++)
        if (sb->consoles[i] && strcmp(process_exec_id(sb->consoles[i]), exec_id) == 0)
            return sb->consoles[i];
    return NULL;
}

int sandbox_add_console(struct sandbox *sb, struct process *p, struct err *err) {
    if (sandbox_find_console(sb, process_exec_id(p)))
        return err_set(err, EEXIST, "console %s already exists", process_exec_id(p));
    for (size_t i = 0; i < CONSOLES_MAX; i++)
        if (!sb->consoles[i]) {
            sb->consoles[i] = p;
            return 0;
        }
    return err_set(err, EBUSY, "sandbox %s already has %d consoles", sb->id, CONSOLES_MAX);
}

void sandbox_remove_console(struct sandbox *sb, struct process *p) {
    for (size_t i = 0; i < CONSOLES_MAX; i++)
        if (sb->consoles[i] == p)
            sb->consoles[i] = NULL;
    Stasis__Agent__V1__ProcessId id = process_agent_id(p);
    struct err err = ERR_INIT;
    if (sandbox_call(sb, "DeleteProcess", &id.base, call_ignore, NULL, NULL, &err) < 0)
        log_debug("%s", err.msg);
    process_free(p);
}

static void on_forgotten(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    const struct sandbox *sb = userdata;
    (void)reply;
    if (err && !sb->death.code)
        log_warn("sandbox %s: %s", sb->id, err->msg);
}

void sandbox_forget(struct sandbox *sb) {
    struct strv *gone = &sb->share.removed;
    for (size_t i = 0; sb->state == SANDBOX_READY && sb->agent && i < gone->n; i += FORGET_MAX) {
        Stasis__Agent__V1__ForgetRequest req = STASIS__AGENT__V1__FORGET_REQUEST__INIT;
        struct err err = ERR_INIT;
        req.n_paths = MIN(gone->n - i, (size_t)FORGET_MAX);
        req.paths = &gone->v[i];
        if (sandbox_call(sb, "Forget", &req.base, on_forgotten, sb, NULL, &err) < 0)
            log_debug("%s", err.msg);
    }
    strv_clear(gone);
}

void sandbox_signal_quietly(struct sandbox *sb, struct process *p, int sig, bool all) {
    Stasis__Agent__V1__ProcessId id = process_agent_id(p);
    Stasis__Agent__V1__SignalRequest req = STASIS__AGENT__V1__SIGNAL_REQUEST__INIT;
    req.id = &id;
    req.signal = (uint32_t)sig;
    req.all = all;
    struct err err = ERR_INIT;
    if (sandbox_call(sb, "Signal", &req.base, call_ignore, NULL, NULL, &err) < 0)
        log_debug("%s", err.msg);
}

void sandbox_kill_quietly(struct sandbox *sb, struct process *p) {
    sandbox_signal_quietly(sb, p, SIGKILL, *process_exec_id(p) == '\0');
}

/* Calls fn with a description whose strings are borrowed from the containers. */
static int with_state(struct sandbox *sb,
                      int (*fn)(const struct oci_sandbox_state *st, void *userdata, struct err *err), void *userdata,
                      struct err *err) {
    struct oci_sandbox_state st = {.id = sb->id, .daemon_pid = getpid()};
    int r = proc_start_time(getpid(), &st.daemon_start);
    if (r < 0) /* without it this daemon would count as dead */
        return err_errno(err, -r, "cannot find out when this process was started");
    if (sb->vm) {
        st.qemu_pid = vm_qemu_pid(sb->vm);
        st.virtiofsd_pid = vm_virtiofsd_pid(sb->vm);
    }
    cleanup_free struct oci_container_state *cs = calloc(MAX(sb->n_containers, 1), sizeof(*cs));
    if (!cs)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < sb->n_containers; i++)
        container_describe(sb->containers[i], &cs[i]);
    st.containers = cs;
    st.n_containers = sb->n_containers;
    return fn(&st, userdata, err);
}

static int make_text(const struct oci_sandbox_state *st, void *userdata, struct err *err) {
    char **ret = userdata;
    *ret = oci_sandbox_state_text(st, err);
    return *ret ? 0 : -EIO;
}

char *sandbox_state_text(struct sandbox *sb, struct err *err) {
    char *text = NULL;
    (void)with_state(sb, make_text, &text, err);
    return text;
}

static int write_state(const struct oci_sandbox_state *st, void *userdata, struct err *err) {
    return oci_sandbox_state_save(userdata, st, err);
}

int sandbox_record(struct sandbox *sb, struct err *err) {
    int r = with_state(sb, write_state, sb->dir, err);
    if (r == 0 && sb->unsaved) {
        log_info("sandbox %s: its state is written again", sb->id);
        sb->unsaved = sd_event_source_disable_unref(sb->unsaved);
    }
    return r;
}

static int on_save_again(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)usec;
    struct sandbox *sb = userdata;
    struct err err = ERR_INIT;
    if (sandbox_record(sb, &err) == 0)
        return 0;
    log_debug("%s", err.msg);
    if (sd_event_source_set_time_relative(source, SAVE_AGAIN_USEC) < 0 ||
        sd_event_source_set_enabled(source, SD_EVENT_ONESHOT) < 0)
        sb->unsaved = sd_event_source_disable_unref(sb->unsaved); /* the next transition tries again */
    return 0;
}

void sandbox_save(struct sandbox *sb) {
    struct err err = ERR_INIT;
    if (sandbox_record(sb, &err) == 0 || sb->unsaved)
        return;
    log_error("%s; it is tried again", err.msg);
    if (sd_event_add_time_relative(sb->event, &sb->unsaved, CLOCK_MONOTONIC, SAVE_AGAIN_USEC, 0, on_save_again, sb) < 0)
        sb->unsaved = NULL; /* the next transition tries again */
}

size_t sandbox_timings(const struct sandbox *sb, struct sandbox_timing ret[SANDBOX_TIMINGS_MAX]) {
    memcpy(ret, sb->timings, sb->n_timings * sizeof(*ret));
    return sb->n_timings;
}
