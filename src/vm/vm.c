/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vm.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"
#include "vm/child.h"
#include "vm/console.h"
#include "vm/jail.h"
#include "vm/memory.h"
#include "vm/migration.h"
#include "vm/qemu.h"
#include "vm/qmp.h"
#include "vm/tsc.h"
#include "vm/virtiofsd.h"

/* QEMU runs as a user of its own, which no other sandbox and no person has: pids are unique and below 2^22. */
#define QEMU_UID_BASE 0x50000000u

/* When one part of the machine ends, others follow, and the kernel may report them in any order. So long is waited for
 * the part that explains it. */
#define SETTLE_USEC (500 * USEC_PER_MSEC)

#define CONTINUE_USEC (30 * USEC_PER_SEC)

#define DIED_TAIL_MAX 3000 /* bytes of the console in died()'s message, which has ERR_MSG_MAX */

/* Numbers of the fds in QEMU and in virtiofsd. */
enum { QEMU_FD_MEMORY = 3, QEMU_FD_QMP, QEMU_FD_CONSOLE, QEMU_FD_AGENT, QEMU_FD_SHARE };
enum { VIRTIOFSD_FD_LISTEN = 3 };

struct vm {
    sd_event *event;
    const struct vm_ops *ops;
    void *userdata;
    char *id;
    int memory_fd;
    struct child *qemu, *virtiofsd;
    struct qmp *qmp;
    struct console *console;
    struct migration *migration;
    vm_done_fn moved, continued; /* of what is under way; NULL: nothing */
    void *moved_userdata, *continued_userdata;
    sd_event_source *settle;
    bool settled;      /* SETTLE_USEC are over */
    bool dead;         /* died() was called */
    char shutdown[64]; /* the reason QEMU gave when the guest ended; "" if it did not */
    char panic[256];   /* the guest kernel's last words */
    char qmp_end[256]; /* why the QMP connection is over */
    struct vm_timings timings;
};

/* The fds of one start that go to the children. */
struct wiring {
    int qmp, console, agent, share; /* QEMU's ends */
    int listen;                     /* virtiofsd's */
};

/* Sets err to why the machine is gone. Returns false if that cannot be told yet. */
static bool find_cause(struct vm *vm, struct err *err) {
    bool qemu = child_has_ended(vm->qemu), virtiofsd = child_has_ended(vm->virtiofsd);
    /* virtiofsd ends well when QEMU goes; QEMU does not end by a signal because virtiofsd went. */
    if (virtiofsd && child_failed(vm->virtiofsd) && !(qemu && child_was_killed(vm->qemu)) && !vm->shutdown[0]) {
        child_describe_end(vm->virtiofsd, err);
        return true;
    }
    if (qemu && child_failed(vm->qemu)) {
        child_describe_end(vm->qemu, err);
        return true;
    }
    if (vm->shutdown[0] && (qemu || vm->settled)) {
        if (vm->panic[0])
            err_set(err, EIO, "guest panic: %s", vm->panic);
        else
            err_set(err, EIO, "guest shut down (%s)", vm->shutdown);
        return true;
    }
    if (!vm->settled)
        return false;
    if (qemu)
        child_describe_end(vm->qemu, err);
    else if (virtiofsd)
        child_describe_end(vm->virtiofsd, err);
    else
        err_set(err, EIO, "%s", vm->qmp_end);
    return true;
}

/* Something that the machine cannot live without is gone. */
static void check_death(struct vm *vm) {
    struct err err = ERR_INIT;
    if (vm->dead)
        return;
    console_drain(vm->console); /* a panic's message may still be in there */
    if (!find_cause(vm, &err)) {
        if (sd_event_source_get_enabled(vm->settle, NULL) == 0) {
            sd_event_source_set_time_relative(vm->settle, SETTLE_USEC);
            sd_event_source_set_enabled(vm->settle, SD_EVENT_ONESHOT);
        }
        return;
    }
    vm->dead = true;
    sd_event_source_set_enabled(vm->settle, SD_EVENT_OFF);
    child_kill(vm->qemu);
    child_kill(vm->virtiofsd);
    const char *tail = console_tail(vm->console);
    size_t len = strlen(tail);
    if (len > DIED_TAIL_MAX) {
        /* from a whole line on */
        tail += len - DIED_TAIL_MAX;
        const char *line = strchr(tail, '\n');
        tail = line ? line + 1 : tail;
    }
    if (*tail)
        err_append(&err, "; the end of the guest's console:\n%s", tail);
    vm->ops->died(vm->userdata, &err);
}

static void on_child_ended(void *userdata) {
    check_death(userdata);
}

static int on_settled(sd_event_source *s, uint64_t usec, void *userdata) {
    struct vm *vm = userdata;
    (void)s;
    (void)usec;
    vm->settled = true;
    check_death(vm);
    return 0;
}

static void on_qmp_ready(void *userdata) {
    struct vm *vm = userdata;
    vm->timings.qmp_ready = now_usec();
}

static void on_qmp_event(void *userdata, const char *name, const json_t *data) {
    struct vm *vm = userdata;
    const char *reason = json_string_value(json_object_get(data, "reason"));
    migration_event(vm->migration, name, data);
    if (strcmp(name, "SHUTDOWN") != 0 && strcmp(name, "GUEST_PANICKED") != 0)
        return;
    snprintf(vm->shutdown, sizeof(vm->shutdown), "%s",
             !strcmp(name, "GUEST_PANICKED") ? "guest-panic"
             : reason                        ? reason
                                             : "unknown");
    if (!strcmp(vm->shutdown, "guest-panic") && !vm->panic[0])
        snprintf(vm->panic, sizeof(vm->panic), "reported by the guest's kernel");
    check_death(vm);
}

static void on_qmp_closed(void *userdata, const struct err *err) {
    struct vm *vm = userdata;
    snprintf(vm->qmp_end, sizeof(vm->qmp_end), "%.*s", (int)sizeof(vm->qmp_end) - 1, err->msg);
    check_death(vm);
}

static const struct qmp_ops qmp_ops = {.ready = on_qmp_ready, .event = on_qmp_event, .closed = on_qmp_closed};

static void on_console_line(void *userdata, const char *line) {
    static const char panic[] = "Kernel panic - not syncing: ";
    struct vm *vm = userdata;
    const char *p = strstr(line, panic);
    /* The guest's word, so for the message only. */
    if (p && !vm->panic[0])
        snprintf(vm->panic, sizeof(vm->panic), "%s", p + strlen(panic));
    if (vm->ops->console_line)
        vm->ops->console_line(vm->userdata, line);
}

/* What the guest's serial port sends, byte by byte: a pipe joins them in pages, a socket would keep a buffer for each.
 */
static int console_pipe(int *ret_ours, int *ret_theirs, struct err *err) {
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(err, errno, "cannot make a pipe for the console");
    *ret_ours = p[0];
    *ret_theirs = p[1];
    return 0;
}

/* Two ends of a stream: ours, and the one for QEMU. */
static int socket_pair(int *ret_ours, int *ret_theirs, struct err *err) {
    int s[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0)
        return err_errno(err, errno, "cannot make a socket pair for QEMU");
    *ret_ours = s[0];
    *ret_theirs = s[1];
    return 0;
}

static int start_virtiofsd(struct vm *vm, const struct vm_spec *spec, const struct wiring *w, struct err *err) {
    cleanup_strv struct strv argv = {0};
    int r = virtiofsd_argv(VIRTIOFSD_FD_LISTEN, "/share", &argv, err);
    if (r < 0)
        return r;
    struct jail_spec jail = {.root = spec->vmm_root,
                             .share_dir = spec->share_dir,
                             .proc_sys = true, /* it reads fs/nr_open */
                             .caps = VIRTIOFSD_CAPS,
                             .keep_caps = true,
                             .nofile = UINT64_MAX};
    struct proc_spec proc = {
        .path = VIRTIOFSD_PATH, .argv = argv.v, .fds = {{.from = w->listen, .to = VIRTIOFSD_FD_LISTEN}}, .n_fds = 1};
    struct child_spec child = {.name = "virtiofsd", .log_max = spec->log_max, .jail = &jail, .proc = &proc};
    r = child_start(vm->event, &child, on_child_ended, vm, &vm->virtiofsd, err);
    vm->timings.virtiofsd_started = now_usec();
    return r;
}

static int start_qemu(struct vm *vm, const struct vm_spec *spec, const struct wiring *w, struct err *err) {
    cleanup_strv struct strv argv = {0};
    struct qemu_spec qemu = {.id = spec->id,
                             .accel = spec->accel,
                             .memory = spec->memory,
                             .cpus = spec->cpus,
                             .guest_dir = "/guest",
                             .tsc_khz = spec->accel == ACCEL_TCG && !spec->incoming ? tsc_khz() : 0,
                             .kernel_params = spec->kernel_params,
                             .agent_debug = spec->agent_debug,
                             .incoming = spec->incoming,
                             .memory_fd = QEMU_FD_MEMORY,
                             .qmp_fd = QEMU_FD_QMP,
                             .console_fd = QEMU_FD_CONSOLE,
                             .agent_fd = QEMU_FD_AGENT,
                             .virtiofsd_fd = QEMU_FD_SHARE};
    int r = qemu_argv(&qemu, &argv, err);
    if (r < 0)
        return r;
    struct jail_spec jail = {.root = spec->vmm_root,
                             .guest_dir = spec->guest_dir,
                             .kvm = spec->accel == ACCEL_KVM,
                             .uid = QEMU_UID_BASE + (uid_t)getpid(),
                             .nofile = JAIL_NOFILE_QEMU};
    struct proc_spec proc = {.path = QEMU_PATH,
                             .argv = argv.v,
                             .fds = {{.from = vm->memory_fd, .to = QEMU_FD_MEMORY},
                                     {.from = w->qmp, .to = QEMU_FD_QMP},
                                     {.from = w->console, .to = QEMU_FD_CONSOLE},
                                     {.from = w->agent, .to = QEMU_FD_AGENT},
                                     {.from = w->share, .to = QEMU_FD_SHARE}},
                             .n_fds = 5};
    struct child_spec child = {.name = "QEMU", .log_max = spec->log_max, .jail = &jail, .proc = &proc};
    r = child_start(vm->event, &child, on_child_ended, vm, &vm->qemu, err);
    vm->timings.qemu_started = now_usec();
    return r;
}

/* Makes the streams, and puts our ends to use. */
static int connect_parts(struct vm *vm, struct wiring *w, int *ret_agent_fd, struct err *err) {
    cleanup_free char *qmp_name = str_printf("QMP of sandbox %s", vm->id);
    if (!qmp_name)
        return err_set(err, ENOMEM, "out of memory");
    int qmp_fd = -1, console_fd = -1;
    int r = socket_pair(&qmp_fd, &w->qmp, err);
    if (r >= 0)
        r = qmp_new(vm->event, qmp_fd, qmp_name, &qmp_ops, vm, &vm->qmp, err);
    if (r >= 0)
        r = console_pipe(&console_fd, &w->console, err);
    if (r >= 0)
        r = console_new(vm->event, console_fd, on_console_line, vm, &vm->console, err);
    if (r >= 0)
        r = socket_pair(ret_agent_fd, &w->agent, err);
    if (r >= 0)
        r = virtiofsd_socket(&w->listen, &w->share, err);
    if (r >= 0) {
        r = sd_event_add_time(vm->event, &vm->settle, CLOCK_MONOTONIC, UINT64_MAX, USEC_PER_MSEC, on_settled, vm);
        if (r >= 0)
            r = sd_event_source_set_enabled(vm->settle, SD_EVENT_OFF);
        if (r < 0)
            err_errno(err, -r, "cannot add a timer");
    }
    return r;
}

static void wiring_close(struct wiring *w) {
    fd_close(w->qmp);
    fd_close(w->console);
    fd_close(w->agent);
    fd_close(w->share);
    fd_close(w->listen);
}

int vm_start(sd_event *event, const struct vm_spec *spec, const struct vm_ops *ops, void *userdata, struct vm **ret,
             int *ret_agent_fd, struct err *err) {
    struct vm *vm = calloc(1, sizeof(*vm));
    if (!vm)
        return err_set(err, ENOMEM, "sandbox %s: out of memory", spec->id);
    *vm = (struct vm){
        .event = sd_event_ref(event), .ops = ops, .userdata = userdata, .id = strdup(spec->id), .memory_fd = -1};
    struct wiring w CLEANUP(wiring_close) = {-1, -1, -1, -1, -1};
    cleanup_fd int agent_fd = -1;
    int r = vm->id ? 0 : err_set(err, ENOMEM, "out of memory");
    if (r >= 0)
        r = vm->memory_fd = memory_create(spec->id, spec->memory, err);
    if (r >= 0)
        r = connect_parts(vm, &w, &agent_fd, err);
    if (r >= 0)
        r = start_virtiofsd(vm, spec, &w, err);
    if (r >= 0)
        r = start_qemu(vm, spec, &w, err);
    if (r < 0) {
        err_wrap(err, "sandbox %s: cannot start the VM", spec->id);
        vm_free(vm);
        return r;
    }
    *ret = vm;
    *ret_agent_fd = TAKE_FD(agent_fd);
    return 0;
}

struct vm *vm_free(struct vm *vm) {
    if (!vm)
        return NULL;
    vm->dead = true; /* nobody is told any more */
    child_free(vm->qemu);
    child_free(vm->virtiofsd);
    qmp_free(vm->qmp);
    migration_free(vm->migration);
    console_free(vm->console);
    sd_event_source_disable_unref(vm->settle);
    fd_close(vm->memory_fd);
    sd_event_unref(vm->event);
    free(vm->id);
    free(vm);
    return NULL;
}

int vm_memory_fd(const struct vm *vm) {
    return vm->memory_fd;
}

/* QEMU is gone: died() follows, and says why. */
static bool is_lost(const struct err *err) {
    return err && err->code == ENOTCONN;
}

static void on_moved(void *userdata, const struct err *err) {
    struct vm *vm = userdata;
    vm_done_fn done = vm->moved;
    vm->moved = NULL;
    if (done && !vm->dead && !is_lost(err))
        done(vm->moved_userdata, err);
}

static int move(struct vm *vm, enum migration_direction direction, int state_fd, vm_done_fn done, void *userdata,
                struct err *err) {
    if (vm->moved)
        return err_set(err, EBUSY, "sandbox %s: its state is being saved or loaded", vm->id);
    vm->migration = migration_free(vm->migration);
    vm->moved = done;
    vm->moved_userdata = userdata;
    int r = migration_start(vm->event, vm->qmp, direction, state_fd, on_moved, vm, &vm->migration, err);
    if (r < 0)
        vm->moved = NULL;
    return r < 0 ? err_wrap(err, "sandbox %s", vm->id) : 0;
}

int vm_save(struct vm *vm, int state_fd, vm_done_fn done, void *userdata, struct err *err) {
    return move(vm, MIGRATION_SAVE, state_fd, done, userdata, err);
}

int vm_load(struct vm *vm, int state_fd, vm_done_fn done, void *userdata, struct err *err) {
    return move(vm, MIGRATION_LOAD, state_fd, done, userdata, err);
}

static void on_continued(void *userdata, const json_t *ret, const struct err *err) {
    struct vm *vm = userdata;
    (void)ret;
    vm_done_fn done = vm->continued;
    vm->continued = NULL;
    if (done && !vm->dead && !is_lost(err))
        done(vm->continued_userdata, err);
}

int vm_continue(struct vm *vm, vm_done_fn done, void *userdata, struct err *err) {
    if (vm->continued)
        return err_set(err, EBUSY, "sandbox %s: its CPUs are being started", vm->id);
    vm->continued = done;
    vm->continued_userdata = userdata;
    int r = qmp_command(vm->qmp, "cont", NULL, CONTINUE_USEC, on_continued, vm, err);
    if (r < 0)
        vm->continued = NULL;
    return r < 0 ? err_wrap(err, "sandbox %s: cannot start its CPUs", vm->id) : 0;
}

pid_t vm_qemu_pid(const struct vm *vm) {
    return child_pid(vm->qemu);
}

pid_t vm_virtiofsd_pid(const struct vm *vm) {
    return child_pid(vm->virtiofsd);
}

const char *vm_console_tail(struct vm *vm) {
    return console_tail(vm->console);
}

void vm_get_timings(const struct vm *vm, struct vm_timings *ret) {
    *ret = vm->timings;
    ret->console_first = console_first_usec(vm->console);
}
