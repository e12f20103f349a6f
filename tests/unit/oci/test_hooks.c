/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>

#include "base/log.h"
#include "oci/hooks.h"
#include "support.h"

#define DEADLINE (20 * USEC_PER_SEC)

struct fixture {
    struct tmpdir *t;
    sd_event *event;
    json_t *spec;
    char *state; /* the container's, JSON */
    struct host_namespaces host;
    unsigned called;
    struct err err; /* done's; code 0: none */
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    if (tmpdir_setup((void **)&f->t) < 0 || sd_event_new(&f->event) < 0)
        return -1;
    f->spec = json_object();
    f->host = HOST_NAMESPACES_NONE;
    f->state = str_printf("{\"id\":\"c\",\"bundle\":\"%s\",\"pid\":7}", f->t->path);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    sd_event_unref(f->event);
    json_decref(f->spec);
    free(f->state);
    int r = tmpdir_teardown((void **)&f->t);
    free(f);
    return r;
}

/* Adds a hook: a shell script in the bundle that runs `body`. */
static json_t *add_hook(struct fixture *f, const char *kind, const char *name, const char *body) {
    cleanup_free char *path = tmpdir_path(f->t, name), *text = str_printf("#!/bin/sh\n%s\n", body);
    tmpdir_write(f->t, name, text);
    assert_int_equal(chmod(path, 0755), 0);
    json_t *hooks = json_object_get(f->spec, "hooks");
    if (!hooks) {
        hooks = json_object();
        json_object_set_new(f->spec, "hooks", hooks);
    }
    json_t *list = json_object_get(hooks, kind);
    if (!list) {
        list = json_array();
        json_object_set_new(hooks, kind, list);
    }
    json_t *hook = json_pack("{s:s}", "path", path);
    json_array_append_new(list, hook);
    return hook;
}

static void on_done(void *userdata, const struct err *err) {
    struct fixture *f = userdata;
    f->called++;
    if (err)
        f->err = *err;
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
    (void)s, (void)usec, (void)userdata;
    fail_msg("the hooks did not end");
    return 0;
}

static void run_loop_until_called(struct fixture *f, unsigned times) {
    sd_event_source *deadline = NULL;
    assert_true(sd_event_add_time_relative(f->event, &deadline, CLOCK_MONOTONIC, DEADLINE, 0, on_deadline, NULL) >= 0);
    while (f->called < times)
        assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
    sd_event_source_disable_unref(deadline);
}

/* Runs the hooks of a kind to the end. Returns done's result. */
static int run(struct fixture *f, const char *kind) {
    struct err e = ERR_INIT;
    f->called = 0;
    f->err = (struct err)ERR_INIT;
    if (oci_hooks_run(f->event, f->spec, kind, f->state, &f->host, on_done, f, NULL, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(f->called, 0); /* never from within */
    run_loop_until_called(f, 1);
    while (sd_event_run(f->event, 0) > 0) {
    }
    assert_int_equal(f->called, 1);
    return -f->err.code;
}

static const char *text_of(const struct fixture *f, const char *name) {
    static char *text;
    free(text);
    text = NULL;
    cleanup_free char *path = tmpdir_path(f->t, name);
    return file_read_at(AT_FDCWD, path, 1 << 20, &text, NULL, NULL) < 0 ? NULL : text;
}

static int count_fds(void) {
    cleanup_dir DIR *d = opendir("/proc/self/fd");
    int n = 0;
    while (readdir(d))
        n++;
    return n;
}

static void no_hooks(void **state) {
    struct fixture *f = *state;
    assert_int_equal(run(f, "prestart"), 0);
    json_object_set_new(f->spec, "hooks", json_pack("{s:[]}", "prestart"));
    assert_int_equal(run(f, "prestart"), 0);
    json_object_set_new(f->spec, "hooks", json_null());
    assert_int_equal(run(f, "poststop"), 0);
}

static void in_order_with_the_state(void **state) {
    struct fixture *f = *state;
    assert_int_equal(run(f, "poststart"), 0); /* the loop makes its timer's fd at the first use */
    int fds = count_fds();
    add_hook(f, "prestart", "a", "sleep 0.1; echo a >>order; cat >state-a; pwd >cwd");
    add_hook(f, "prestart", "b", "echo b >>order; cat >state-b");
    add_hook(f, "prestart", "c", "echo c >>order");
    add_hook(f, "poststop", "d", "echo d >>order");
    assert_int_equal(run(f, "prestart"), 0);
    assert_string_equal(text_of(f, "order"), "a\nb\nc\n");
    assert_string_equal(text_of(f, "state-a"), f->state);
    assert_string_equal(text_of(f, "state-b"), f->state);
    cleanup_free char *cwd = str_printf("%s\n", f->t->path);
    assert_string_equal(text_of(f, "cwd"), cwd);
    assert_int_equal(run(f, "poststop"), 0);
    assert_string_equal(text_of(f, "order"), "a\nb\nc\nd\n");
    assert_int_equal(count_fds(), fds);
}

static void args_and_env(void **state) {
    struct fixture *f = *state;
    setenv("FROM_PARENT", "yes", 1);
    json_t *hook = add_hook(f, "createRuntime", "a", "echo \"$1|$2|$X|$FROM_PARENT\" >out");
    assert_int_equal(run(f, "createRuntime"), 0);
    assert_string_equal(text_of(f, "out"), "|||yes\n");
    json_object_set_new(hook, "args", json_pack("[sss]", "name", "one", "t w o"));
    json_object_set_new(hook, "env", json_pack("[ss]", "X=1=2", "PATH=/usr/bin:/bin"));
    assert_int_equal(run(f, "createRuntime"), 0);
    assert_string_equal(text_of(f, "out"), "one|t w o|1=2|\n");
    json_object_set_new(hook, "env", json_array());
    assert_int_equal(run(f, "createRuntime"), 0);
    assert_string_equal(text_of(f, "out"), "one|t w o||\n");
}

static void a_failure_stops_what_comes_before_the_start(void **state) {
    struct fixture *f = *state;
    static const char *const kinds[] = {"prestart", "createRuntime"};
    for (size_t i = 0; i < 2; i++) {
        add_hook(f, kinds[i], "good", "exit 0");
        add_hook(f, kinds[i], "bad", "echo noise; echo 'no such network' >&2; exit 7");
        add_hook(f, kinds[i], "never", "touch ran");
        assert_int_equal(run(f, kinds[i]), -EIO);
        cleanup_free char *expected =
            str_printf("hooks.%s[1] %s/bad: failed with exit code 7: no such network", kinds[i], f->t->path);
        assert_string_equal(f->err.msg, expected);
        assert_null(text_of(f, "ran"));
    }
}

static void a_failure_later_is_only_logged(void **state) {
    struct fixture *f = *state;
    static const char *const kinds[] = {"poststart", "poststop"};
    cleanup_free char *log = tmpdir_path(f->t, "log");
    cleanup_fd int fd = open(log, O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
    log_set_fd(fd);
    for (size_t i = 0; i < 2; i++) {
        add_hook(f, kinds[i], "bad", "kill -TERM $$");
        json_array_append_new(json_object_get(json_object_get(f->spec, "hooks"), kinds[i]),
                              json_pack("{s:s}", "path", "/nonexistent/hook"));
        add_hook(f, kinds[i], "next", "echo x >>ran");
        assert_int_equal(run(f, kinds[i]), 0);
    }
    log_set_fd(2);
    assert_string_equal(text_of(f, "ran"), "x\nx\n");
    const char *text = text_of(f, "log");
    assert_non_null(strstr(text, "level=warning msg=\"hooks.poststart[0] "));
    assert_non_null(strstr(text, "/bad: was killed by signal 15\""));
    assert_non_null(strstr(text, "hooks.poststop[1] /nonexistent/hook: cannot run /nonexistent/hook: No such file"));
}

static void programs_that_cannot_run(void **state) {
    struct fixture *f = *state;
    json_object_set_new(f->spec, "hooks", json_pack("{s:[{s:s}]}", "prestart", "path", "/nonexistent/hook"));
    assert_int_equal(run(f, "prestart"), -ENOENT);
    assert_string_equal(f->err.msg,
                        "hooks.prestart[0] /nonexistent/hook: cannot run /nonexistent/hook: No such file or "
                        "directory");
}

static bool is_gone(pid_t pid) {
    uint64_t end = now_usec() + DEADLINE;
    while (kill(pid, 0) == 0) {
        char path[64];
        cleanup_free char *stat = NULL;
        snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        if (file_read_at(AT_FDCWD, path, 4096, &stat, NULL, NULL) == 0 && strstr(stat, ") Z"))
            return true; /* dead; whoever adopted it has not reaped it */
        if (now_usec() > end)
            return false;
        usleep(1000);
    }
    return true;
}

static void a_timeout_kills_it_with_its_children(void **state) {
    struct fixture *f = *state;
    json_t *hook = add_hook(f, "prestart", "slow", "echo started; sleep 1000 & echo $! >pid; wait");
    json_object_set_new(hook, "timeout", json_integer(1));
    uint64_t start = now_usec();
    assert_int_equal(run(f, "prestart"), -ETIMEDOUT);
    assert_true(now_usec() - start >= USEC_PER_SEC);
    cleanup_free char *expected =
        str_printf("hooks.prestart[0] %s/slow: did not end in time and was killed: started", f->t->path);
    assert_string_equal(f->err.msg, expected);
    assert_true(is_gone((pid_t)atoi(text_of(f, "pid"))));
}

/* It keeps the hook's output open, but the hook itself has ended. */
static void a_process_left_behind_keeps_nobody(void **state) {
    struct fixture *f = *state;
    add_hook(f, "prestart", "a", "sleep 30 & echo $! >pid; exit 0");
    uint64_t start = now_usec();
    assert_int_equal(run(f, "prestart"), 0);
    assert_true(now_usec() - start < 15 * USEC_PER_SEC);
    pid_t pid = (pid_t)atoi(text_of(f, "pid"));
    assert_int_equal(kill(pid, 0), 0); /* a hook may start a helper */
    kill(pid, SIGKILL);
}

static void much_output_and_a_large_state(void **state) {
    struct fixture *f = *state;
    enum { BIG = 1 << 20 };
    char *big = malloc(BIG + 1);
    memset(big, 'x', BIG);
    big[BIG] = '\0';
    free(f->state);
    f->state = str_printf("{\"bundle\":\"%s\",\"annotations\":{\"a\":\"%s\"}}", f->t->path, big);
    free(big);
    add_hook(f, "prestart", "deaf", "exit 0");
    add_hook(f, "prestart", "count", "wc -c >size");
    add_hook(f, "prestart", "loud", "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo the end >&2; exit 1");
    assert_int_equal(run(f, "prestart"), -EIO);
    assert_int_equal(strtoul(text_of(f, "size"), NULL, 10), strlen(f->state));
    assert_non_null(strstr(f->err.msg, "failed with exit code 1: the end"));
    assert_true(strlen(f->err.msg) < 300);
}

static void a_bundle_that_is_gone(void **state) {
    struct fixture *f = *state;
    free(f->state);
    f->state = strdup("{\"bundle\":\"/nonexistent\"}");
    cleanup_free char *script = str_printf("pwd >%s/cwd", f->t->path);
    add_hook(f, "poststop", "a", script);
    assert_int_equal(run(f, "poststop"), 0);
    assert_string_equal(text_of(f, "cwd"), "/\n");
}

static void cancel_kills_and_is_silent(void **state) {
    struct fixture *f = *state;
    assert_int_equal(run(f, "poststart"), 0); /* the loop makes its timer's fd at the first use */
    f->called = 0;
    int fds = count_fds();
    struct oci_hooks_run *handle = NULL;
    add_hook(f, "prestart", "a", "echo $$ >pid.new; mv pid.new pid; sleep 1000");
    /* before it has begun */
    assert_int_equal(oci_hooks_run(f->event, f->spec, "prestart", f->state, &f->host, on_done, f, &handle, NULL), 0);
    assert_null(oci_hooks_cancel(handle));
    /* while it runs */
    assert_int_equal(oci_hooks_run(f->event, f->spec, "prestart", f->state, &f->host, on_done, f, &handle, NULL), 0);
    uint64_t end = now_usec() + DEADLINE;
    while (!text_of(f, "pid") && now_usec() < end)
        sd_event_run(f->event, 1000);
    pid_t pid = (pid_t)atoi(text_of(f, "pid"));
    assert_null(oci_hooks_cancel(handle));
    assert_true(is_gone(pid));
    while (sd_event_run(f->event, 0) > 0) {
    }
    assert_int_equal(f->called, 0);
    assert_int_equal(count_fds(), fds);
    assert_null(oci_hooks_cancel(NULL));
}

static void on_first_done(void *userdata, const struct err *err) {
    struct fixture *f = userdata;
    assert_null(err);
    assert_int_equal(oci_hooks_run(f->event, f->spec, "createRuntime", f->state, &f->host, on_done, f, NULL, NULL), 0);
}

static void done_may_start_the_next_kind(void **state) {
    struct fixture *f = *state;
    add_hook(f, "prestart", "a", "echo a >>order");
    add_hook(f, "createRuntime", "b", "echo b >>order");
    assert_int_equal(oci_hooks_run(f->event, f->spec, "prestart", f->state, &f->host, on_first_done, f, NULL, NULL), 0);
    run_loop_until_called(f, 1);
    assert_string_equal(text_of(f, "order"), "a\nb\n");
}

static void in_another_mount_namespace(void **state) {
    struct fixture *f = *state;
    cleanup_free char *inner = tmpdir_path(f->t, "inner"), *seen = tmpdir_path(f->t, "inner/seen");
    assert_int_equal(mkdir(inner, 0700), 0);
    int p[2];
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        bool good = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                    mount("tmpfs", inner, "tmpfs", 0, "size=64k") == 0 && open(seen, O_CREAT | O_WRONLY, 0600) >= 0;
        if (write(p[1], good ? "y" : "n", 1) == 1)
            pause();
        _exit(0);
    }
    char c = 'n';
    assert_int_equal(read(p[0], &c, 1), 1);
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
    cleanup_fd int ns = open(path, O_RDONLY | O_CLOEXEC);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(p[0]);
    close(p[1]);
    if (c != 'y')
        skip(); /* no permission to make a mount namespace here */
    add_hook(f, "prestart", "a", "test -e inner/seen");
    assert_int_equal(run(f, "prestart"), -EIO);
    f->host.mnt = ns;
    assert_int_equal(run(f, "prestart"), 0);

    cleanup_fd int not_ns = open("/dev/null", O_RDONLY | O_CLOEXEC);
    f->host.mnt = not_ns;
    assert_int_equal(run(f, "prestart"), -EINVAL);
    assert_non_null(strstr(f->err.msg, "cannot enter the host's mount namespace"));
}

/* The daemon's network namespace is the sandbox's; a hook that sets up a network works on the host's. */
static void runs_in_network_namespace(void **state) {
    struct fixture *f = *state;
    char here[64] = "", script[128];
    assert_true(readlink("/proc/self/ns/net", here, sizeof(here) - 1) > 0);
    snprintf(script, sizeof(script), "test \"$(readlink /proc/self/ns/net)\" = '%s'", here);
    struct err err = ERR_INIT;
    assert_int_equal(host_namespaces_open(&f->host, &err), 0);
    cleanup_fd int own = fcntl(f->host.net, F_DUPFD_CLOEXEC, 3);
    bool moved = unshare(CLONE_NEWNET) == 0;
    add_hook(f, "prestart", "a", script);
    f->host.mnt = fd_close(f->host.mnt);
    int r = run(f, "prestart");
    int fd = TAKE_FD(f->host.net);
    int other = run(f, "prestart");
    fd_close(fd);
    assert_true(!moved || setns(own, CLONE_NEWNET) == 0);
    if (!moved)
        skip();
    assert_int_equal(r, 0);
    assert_int_equal(other, -EIO);
}

static void malformed_hooks(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *hooks, *message;
    } cases[] = {
        {"[]", "hooks: must be an object"},
        {"{\"prestart\":{}}", "hooks.prestart: must be an array"},
        {"{\"prestart\":[1]}", "hooks.prestart[0]: must be an object"},
        {"{\"prestart\":[{}]}", "hooks.prestart[0].path: must be an absolute path"},
        {"{\"prestart\":[{\"path\":\"x\"}]}", "hooks.prestart[0].path: must be an absolute path"},
        {"{\"prestart\":[{\"path\":\"/x\",\"args\":[1]}]}", "hooks.prestart[0].args[0]: must be a string"},
        {"{\"prestart\":[{\"path\":\"/x\",\"env\":\"\"}]}", "hooks.prestart[0].env: must be an array"},
        {"{\"prestart\":[{\"path\":\"/x\",\"timeout\":-1}]}",
         "hooks.prestart[0].timeout: must be a whole number from 1 to 2147483647"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err e = ERR_INIT;
        json_object_set_new(f->spec, "hooks", json_loads(cases[i].hooks, 0, NULL));
        assert_int_equal(oci_hooks_run(f->event, f->spec, "prestart", f->state, &f->host, on_done, f, NULL, &e),
                         -EINVAL);
        assert_string_equal(e.msg, cases[i].message);
    }
    assert_int_equal(f->called, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(no_hooks),
        T(in_order_with_the_state),
        T(args_and_env),
        T(a_failure_stops_what_comes_before_the_start),
        T(a_failure_later_is_only_logged),
        T(programs_that_cannot_run),
        T(a_timeout_kills_it_with_its_children),
        T(a_process_left_behind_keeps_nobody),
        T(much_output_and_a_large_state),
        T(a_bundle_that_is_gone),
        T(cancel_kills_and_is_silent),
        T(done_may_start_the_next_kind),
        T(in_another_mount_namespace),
        T(runs_in_network_namespace),
        T(malformed_hooks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
