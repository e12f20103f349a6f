/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. One hook runs at a time. Its stdin is a memfd with the container's state, so nothing has to be
 * fed to it; what it writes goes to a pipe of which the last bytes are kept for the message. It has ended when its
 * pidfd says so, not when the pipe does: a hook may leave a process behind that keeps the pipe open. Every step, also
 * the first, happens in an event source, so done() is never called from within oci_hooks_run().
 */
#include "oci/hooks.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/proc.h"
#include "oci/spec.h"

#define OUTPUT_TAIL 1024 /* bytes of a hook's output that are kept */
#define OUTPUT_READS 16  /* per wake-up, so that a hook that never stops writing does not keep the loop busy */
#define OUTPUT_ROUNDS 16 /* at the end; with OUTPUT_READS that is twice what a pipe holds, 64 KiB */

struct oci_hooks_run {
    sd_event *event;
    json_t *hooks; /* the list of this kind; NULL: none */
    char kind[32];
    size_t index; /* of the hook that runs */
    bool stop_on_failure;
    char *state, *bundle;
    struct host_namespaces host;
    oci_hooks_done_fn done;
    void *userdata;

    struct proc proc;
    int output_fd;
    char output[OUTPUT_TAIL];
    size_t output_len;
    sd_event_source *step, *exited, *readable, *timeout;
};

/* Ends what belongs to one hook: its process group, its fds and event sources. */
static void hook_clear(struct oci_hooks_run *run) {
    run->exited = sd_event_source_disable_unref(run->exited);
    run->readable = sd_event_source_disable_unref(run->readable);
    run->timeout = sd_event_source_disable_unref(run->timeout);
    if (run->proc.pid > 0)
        kill(-run->proc.pid, SIGKILL); /* its children too: it leads a session */
    proc_kill(&run->proc);
    run->output_fd = fd_close(run->output_fd);
    run->output_len = 0;
}

struct oci_hooks_run *oci_hooks_cancel(struct oci_hooks_run *run) {
    if (!run)
        return NULL;
    hook_clear(run);
    sd_event_source_disable_unref(run->step);
    sd_event_unref(run->event);
    json_decref(run->hooks);
    host_namespaces_close(&run->host);
    free(run->state);
    free(run->bundle);
    free(run);
    return NULL;
}

/* Frees the run before the caller hears of it, who may start the next one at once. */
static void finish(struct oci_hooks_run *run, const struct err *e) {
    oci_hooks_done_fn done = run->done;
    void *userdata = run->userdata;
    oci_hooks_cancel(run);
    done(userdata, e);
}

static void next(struct oci_hooks_run *run);

/* The hook that ran has failed with e. */
static void hook_failed(struct oci_hooks_run *run, struct err *e) {
    const char *path = json_string_value(json_object_get(json_array_get(run->hooks, run->index), "path"));
    hook_clear(run);
    err_wrap(e, "hooks.%s[%zu] %s", run->kind, run->index, path);
    if (run->stop_on_failure) {
        finish(run, e);
        return;
    }
    log_warn("%s", e->msg);
    run->index++;
    next(run);
}

static void read_output(struct oci_hooks_run *run) {
    for (int i = 0; i < OUTPUT_READS && run->output_fd >= 0; i++) {
        if (run->output_len == sizeof(run->output)) {
            memmove(run->output, run->output + OUTPUT_TAIL / 2, OUTPUT_TAIL / 2);
            run->output_len = OUTPUT_TAIL / 2;
        }
        ssize_t n = read(run->output_fd, run->output + run->output_len, sizeof(run->output) - run->output_len);
        if (n < 0)
            return; /* EAGAIN: nothing more for now */
        if (n == 0) {
            run->readable = sd_event_source_disable_unref(run->readable);
            run->output_fd = fd_close(run->output_fd);
            return;
        }
        run->output_len += (size_t)n;
    }
}

/* The last line that the hook wrote, "" if none. */
static void append_output(struct oci_hooks_run *run, struct err *e) {
    /* All that a pipe can hold: the line that says why comes last. */
    for (int i = 0; i < OUTPUT_ROUNDS && run->output_fd >= 0; i++)
        read_output(run);
    size_t end = run->output_len;
    while (end && strchr("\n\r ", run->output[end - 1]))
        end--;
    size_t start = end;
    while (start && run->output[start - 1] != '\n')
        start--;
    if (end > start)
        err_append(e, ": %.*s", (int)(end - start), run->output + start);
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *userdata) {
    (void)source, (void)fd, (void)events;
    read_output(userdata);
    return 0;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source, (void)usec;
    struct oci_hooks_run *run = userdata;
    struct err e = ERR_INIT;
    err_set(&e, ETIMEDOUT, "did not end in time and was killed");
    append_output(run, &e);
    hook_failed(run, &e);
    return 0;
}

static int on_exited(sd_event_source *source, int fd, uint32_t events, void *userdata) {
    (void)fd, (void)events;
    struct oci_hooks_run *run = userdata;
    struct err e = ERR_INIT;
    int status = 0;
    /* Before the pidfd is closed: a moment later its number may be another's. */
    (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
    int r = proc_wait(&run->proc, USEC_PER_SEC, &status);
    if (r < 0) {
        err_errno(&e, -r, "cannot wait for it");
    } else if (status == 0) {
        hook_clear(run);
        run->index++;
        next(run);
        return 0;
    } else if (WIFSIGNALED(status)) {
        err_set(&e, EIO, "was killed by signal %d", WTERMSIG(status));
    } else {
        err_set(&e, EIO, "failed with exit code %d", WEXITSTATUS(status));
    }
    append_output(run, &e);
    hook_failed(run, &e);
    return 0;
}

/* In the child: the hook runs where the container's runtime would, in its bundle. */
static int hook_setup(void *userdata, struct err *err) {
    const struct oci_hooks_run *run = userdata;
    int r = host_namespaces_enter(&run->host, err);
    if (r < 0)
        return r;
    /* The bundle may be gone by the time of poststop. */
    if ((!run->bundle || chdir(run->bundle) < 0) && chdir("/") < 0)
        return err_errno(err, errno, "cannot change to directory /");
    return 0;
}

static int fill_strv(struct strv *to, const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strv_add(to, json_string_value(json_array_get(list, i))) < 0)
            return -ENOMEM;
    return 0;
}

/* A memfd rather than a pipe: the state may be larger than a pipe holds, and a hook need not read it. */
static int state_fd(const struct oci_hooks_run *run, struct err *err) {
    cleanup_fd int fd = memfd_create("hook-state", MFD_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "cannot make its stdin");
    int r = fd_write_all(fd, run->state, strlen(run->state));
    if (r < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return err_errno(err, r < 0 ? -r : errno, "cannot write its stdin");
    return TAKE_FD(fd);
}

static int hook_spawn(struct oci_hooks_run *run, const json_t *hook, struct err *err) {
    const char *path = json_string_value(json_object_get(hook, "path"));
    const json_t *env_list = json_object_get(hook, "env");
    cleanup_strv struct strv args = {0}, env = {0};
    if (fill_strv(&args, json_object_get(hook, "args")) < 0 || (args.n == 0 && strv_add(&args, path) < 0) ||
        fill_strv(&env, env_list) < 0)
        return err_set(err, ENOMEM, "out of memory");
    static char *const no_env[] = {NULL};
    cleanup_fd int in = state_fd(run, err);
    if (in < 0)
        return in;
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(err, errno, "cannot make a pipe for its output");
    run->output_fd = p[0];
    cleanup_fd int out = p[1];
    int r = fd_set_nonblock(run->output_fd, true);
    if (r < 0)
        return err_errno(err, -r, "cannot make a pipe for its output");

    struct proc_spec spec = {
        .path = path,
        .argv = args.v,
        .env = !json_is_array(env_list) ? NULL
               : env.v                  ? env.v
                                        : no_env, /* as runc: without a list it inherits ours */
        .fds = {{in, STDIN_FILENO}, {out, STDOUT_FILENO}, {out, STDERR_FILENO}},
        .n_fds = 3,
        .new_session = true,
        .setup = hook_setup,
        .userdata = run,
    };
    return proc_spawn(&spec, &run->proc, err);
}

static int hook_watch(struct oci_hooks_run *run, const json_t *hook, struct err *err) {
    const json_t *t = json_object_get(hook, "timeout");
    uint64_t usec = json_is_integer(t) ? (uint64_t)json_integer_value(t) * USEC_PER_SEC : OCI_HOOK_TIMEOUT_USEC;
    int r;
    if ((r = sd_event_add_io(run->event, &run->exited, run->proc.pidfd, EPOLLIN, on_exited, run)) < 0 ||
        (r = sd_event_add_io(run->event, &run->readable, run->output_fd, EPOLLIN, on_readable, run)) < 0 ||
        (r = sd_event_add_time_relative(run->event, &run->timeout, CLOCK_MONOTONIC, usec, 0, on_timeout, run)) < 0)
        return err_errno(err, -r, "cannot watch it");
    return 0;
}

static int on_step(sd_event_source *source, void *userdata) {
    (void)source;
    struct oci_hooks_run *run = userdata;
    struct err e = ERR_INIT;
    run->step = sd_event_source_disable_unref(run->step);
    if (run->index >= json_array_size(run->hooks)) {
        finish(run, NULL);
        return 0;
    }
    const json_t *hook = json_array_get(run->hooks, run->index);
    if (hook_spawn(run, hook, &e) < 0 || hook_watch(run, hook, &e) < 0)
        hook_failed(run, &e);
    return 0;
}

/* Goes on with the hook at run->index, or to the end, in the next turn of the loop. May free run. */
static void next(struct oci_hooks_run *run) {
    int r = sd_event_add_defer(run->event, &run->step, on_step, run);
    if (r < 0) {
        struct err e = ERR_INIT;
        err_errno(&e, -r, "hooks.%s", run->kind);
        finish(run, &e);
    }
}

static int check_hook(const json_t *hook, const char *at, struct err *err) {
    json_t *list = NULL;
    const char *path = NULL;
    int64_t timeout = 0;
    int r;
    if (!json_is_object(hook))
        return err_set(err, EINVAL, "%s: must be an object", at);
    if ((r = json_get_str(hook, at, "path", &path, err)) < 0 ||
        (r = json_get_str_array(hook, at, "args", &list, err)) < 0 ||
        (r = json_get_str_array(hook, at, "env", &list, err)) < 0 ||
        (r = json_get_i64(hook, at, "timeout", 1, INT32_MAX, &timeout, err)) < 0)
        return r;
    if (!path || path[0] != '/')
        return err_set(err, EINVAL, "%s.path: must be an absolute path", at);
    return 0;
}

static int check_hooks(const json_t *list, const char *kind, struct err *err) {
    if (json_array_size(list) > OCI_HOOKS_MAX)
        return err_set(err, EINVAL, "hooks.%s: more than %d", kind, OCI_HOOKS_MAX);
    for (size_t i = 0; i < json_array_size(list); i++) {
        char at[64];
        snprintf(at, sizeof(at), "hooks.%.32s[%zu]", kind, i);
        int r = check_hook(json_array_get(list, i), at, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static char *bundle_of(const char *state_json) {
    cleanup_json json_t *state = NULL;
    if (json_parse("state", state_json, strlen(state_json), &state, NULL) < 0)
        return NULL;
    const char *bundle = json_string_value(json_object_get(state, "bundle"));
    return bundle && bundle[0] == '/' ? strdup(bundle) : NULL;
}

static int run_start(struct oci_hooks_run *run, const struct host_namespaces *host, struct err *err) {
    if (!run->state)
        return err_set(err, ENOMEM, "out of memory");
    int r = host_namespaces_dup(host, 3, &run->host, err);
    if (r < 0)
        return err_wrap(err, "hooks.%s", run->kind);
    r = sd_event_add_defer(run->event, &run->step, on_step, run);
    return r < 0 ? err_errno(err, -r, "hooks.%s: cannot be run", run->kind) : 0;
}

int oci_hooks_run(sd_event *event, const json_t *spec, const char *kind, const char *state_json,
                  const struct host_namespaces *host, oci_hooks_done_fn done, void *userdata,
                  struct oci_hooks_run **ret, struct err *err) {
    json_t *list = NULL, *hooks = NULL;
    int r;
    if ((r = json_get_obj(spec, "", "hooks", &hooks, err)) < 0 ||
        (hooks && (r = json_get_array(hooks, "hooks", kind, &list, err)) < 0) || (r = check_hooks(list, kind, err)) < 0)
        return r;
    struct oci_hooks_run *run = calloc(1, sizeof(*run));
    if (!run)
        return err_set(err, ENOMEM, "out of memory");
    *run = (struct oci_hooks_run){
        .event = sd_event_ref(event),
        .hooks = json_incref(list),
        .stop_on_failure = strncmp(kind, "post", 4) != 0,
        .state = strdup(state_json),
        .bundle = bundle_of(state_json),
        .host = HOST_NAMESPACES_NONE,
        .done = done,
        .userdata = userdata,
        .proc = PROC_NONE,
        .output_fd = -1,
    };
    snprintf(run->kind, sizeof(run->kind), "%s", kind);
    r = run_start(run, host, err);
    if (r < 0) {
        oci_hooks_cancel(run);
        return r;
    }
    if (ret)
        *ret = run;
    return 0;
}
