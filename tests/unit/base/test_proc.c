/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

#include "base/proc.h"
#include "tmpdir.h"

#define DEADLINE (20 * USEC_PER_SEC)

/* Runs a shell script to its end and returns its exit code. */
static int sh(struct proc_spec *spec, const char *script) {
    struct err e = ERR_INIT;
    struct proc p = PROC_NONE;
    char *argv[] = {(char *)"sh", (char *)"-c", (char *)(uintptr_t)script, NULL};
    spec->path = "/bin/sh";
    spec->argv = argv;
    if (proc_spawn(spec, &p, &e) < 0)
        fail_msg("%s", e.msg);
    int status = 0;
    assert_int_equal(proc_wait(&p, DEADLINE, &status), 0);
    assert_int_equal(p.pid, 0);
    assert_int_equal(p.pidfd, -1);
    return proc_exit_code(status);
}

static void exit_codes(void **state) {
    (void)state;
    assert_int_equal(sh(&(struct proc_spec){0}, "exit 0"), 0);
    assert_int_equal(sh(&(struct proc_spec){0}, "exit 41"), 41);
    assert_int_equal(sh(&(struct proc_spec){0}, "kill -TERM $$"), 128 + SIGTERM);
    assert_int_equal(sh(&(struct proc_spec){0}, "kill -KILL $$"), 128 + SIGKILL);
}

static void the_child_starts_clean(void **state) {
    (void)state;
    signal(SIGUSR1, SIG_IGN);
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, &old);
    int leaked = open("/dev/null", O_RDONLY); /* without close-on-exec, as a careless parent does it */
    assert_true(leaked >= 3);
    int low = fcntl(leaked, F_DUPFD, 20);

    assert_int_equal(sh(&(struct proc_spec){0}, "kill -TERM $$"), 128 + SIGTERM);
    assert_int_equal(sh(&(struct proc_spec){0}, "kill -USR1 $$"), 128 + SIGUSR1);
    /* only 0, 1 and 2, all /dev/null (ls has one more, of the directory) */
    assert_int_equal(sh(&(struct proc_spec){0}, "n=$(ls /proc/$$/fd | wc -l); test $n -le 4 && "
                                                "test $(readlink /proc/$$/fd/0) = /dev/null && "
                                                "test $(readlink /proc/$$/fd/1) = /dev/null && "
                                                "test $(readlink /proc/$$/fd/2) = /dev/null"),
                     0);
    close(leaked);
    close(low);
    sigprocmask(SIG_SETMASK, &old, NULL);
    signal(SIGUSR1, SIG_DFL);
}

/* The sources and the targets overlap: 1 and 2 change places. */
static void fds_are_placed_even_when_they_cross(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *a = tmpdir_path(t, "a"), *b = tmpdir_path(t, "b");
    int fa = open(a, O_CREAT | O_WRONLY | O_CLOEXEC, 0600), fb = open(b, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    struct proc_spec spec = {.fds = {{fa, fb}, {fb, fa}, {-1, 9}}, .n_fds = 3};
    char script[128];
    snprintf(script, sizeof(script), "echo to-a >&%d; echo to-b >&%d; test $(readlink /proc/$$/fd/9) = /dev/null", fb,
             fa);
    assert_int_equal(sh(&spec, script), 0);
    close(fa);
    close(fb);
    cleanup_free char *ta = NULL, *tb = NULL;
    assert_int_equal(file_read_at(AT_FDCWD, a, 100, &ta, NULL, NULL), 0);
    assert_int_equal(file_read_at(AT_FDCWD, b, 100, &tb, NULL, NULL), 0);
    assert_string_equal(ta, "to-a\n");
    assert_string_equal(tb, "to-b\n");
}

static void cwd_env_and_session(void **state) {
    struct tmpdir *t = *state;
    char *env[] = {(char *)"ONLY=this", NULL};
    char script[256];
    snprintf(script, sizeof(script), "test \"$(pwd)\" = %s && test \"$ONLY\" = this && test -z \"$HOME\"", t->path);
    assert_int_equal(sh(&(struct proc_spec){.cwd = t->path, .env = env}, script), 0);
    assert_int_equal(sh(&(struct proc_spec){.new_session = true}, "set -- $(cat /proc/$$/stat); test $6 = $$"), 0);
    setenv("INHERITED", "yes", 1);
    assert_int_equal(sh(&(struct proc_spec){0}, "test \"$INHERITED\" = yes"), 0);
}

static void spawn_fails(const struct proc_spec *spec, int r, const char *message) {
    struct err e = ERR_INIT;
    struct proc p = PROC_NONE;
    assert_int_equal(proc_spawn(spec, &p, &e), r);
    assert_string_equal(e.msg, message);
    assert_int_equal(p.pid, 0);
}

static int refuse(void *userdata, struct err *err) {
    return err_set(err, EXDEV, "setup says %s", (const char *)userdata);
}

static void failures_before_exec_are_named(void **state) {
    struct tmpdir *t = *state;
    char *argv[] = {(char *)"x", NULL};
    char path[96], message[256];
    spawn_fails(&(struct proc_spec){.path = "/nonexistent/x", .argv = argv}, -ENOENT,
                "cannot run /nonexistent/x: No such file or directory");
    tmpdir_write(t, "x", "no program");
    snprintf(path, sizeof(path), "%s/x", t->path);
    snprintf(message, sizeof(message), "cannot run %s: Permission denied", path);
    spawn_fails(&(struct proc_spec){.path = path, .argv = argv}, -EACCES, message);
    spawn_fails(&(struct proc_spec){.path = "/bin/true", .argv = argv, .cwd = "/nonexistent"}, -ENOENT,
                "/bin/true: cannot change to directory /nonexistent: No such file or directory");
    spawn_fails(&(struct proc_spec){.path = "/bin/true", .argv = argv, .setup = refuse, .userdata = (char *)"no"},
                -EXDEV, "/bin/true: setup says no");
    spawn_fails(&(struct proc_spec){.path = "no-such-program-here", .argv = argv}, -ENOENT,
                "cannot run no-such-program-here: No such file or directory");
}

static void wait_times_out_and_kill_ends_it(void **state) {
    (void)state;
    struct proc p = PROC_NONE;
    char *argv[] = {(char *)"sleep", (char *)"1000", NULL};
    assert_int_equal(proc_spawn(&(struct proc_spec){.path = "sleep", .argv = argv}, &p, NULL), 0);
    pid_t pid = p.pid;
    int status;
    assert_int_equal(proc_wait(&p, 1000, &status), -ETIMEDOUT);
    assert_int_equal(p.pid, pid);
    proc_kill(&p);
    assert_int_equal(p.pid, 0);
    assert_int_equal(p.pidfd, -1);
    assert_int_equal(kill(pid, 0), -1);
    proc_kill(&p);
}

static void run_reports_the_last_words(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    char *good[] = {(char *)"sh", (char *)"-c", (char *)"echo noise >&2", NULL};
    char *bad[] = {(char *)"sh", (char *)"-c", (char *)"echo first >&2; echo the cause >&2; exit 3", NULL};
    char *killed[] = {(char *)"sh", (char *)"-c", (char *)"kill -SEGV $$", NULL};
    assert_int_equal(proc_run(&(struct proc_spec){.path = "/bin/sh", .argv = good}, DEADLINE, &e), 0);
    assert_int_equal(proc_run(&(struct proc_spec){.path = "/bin/sh", .argv = bad}, DEADLINE, &e), -EIO);
    assert_string_equal(e.msg, "/bin/sh failed with exit code 3: the cause");
    assert_int_equal(proc_run(&(struct proc_spec){.path = "/bin/sh", .argv = killed}, DEADLINE, &e), -EIO);
    assert_string_equal(e.msg, "/bin/sh failed with signal 11");
}

static void run_drains_and_cuts_a_talkative_program(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    char *argv[] = {(char *)"sh", (char *)"-c",
                    (char *)"head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2; exit 1", NULL};
    assert_int_equal(proc_run(&(struct proc_spec){.path = "/bin/sh", .argv = argv}, DEADLINE, &e), -EIO);
    assert_string_equal(e.msg, "/bin/sh failed with exit code 1: end");
}

static void run_has_a_deadline(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    char *argv[] = {(char *)"sleep", (char *)"1000", NULL};
    uint64_t start = now_usec();
    assert_int_equal(proc_run(&(struct proc_spec){.path = "sleep", .argv = argv}, 50000, &e), -ETIMEDOUT);
    assert_true(now_usec() - start < DEADLINE);
    assert_string_equal(e.msg, "sleep did not end within 0.1 s");
}

/* A process that the program left behind keeps its fd 2 open; that must not keep us. */
static void run_does_not_wait_for_descendants(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    char *argv[] = {(char *)"sh", (char *)"-c", (char *)"sleep 30 & exit 0", NULL};
    uint64_t start = now_usec();
    assert_int_equal(proc_run(&(struct proc_spec){.path = "/bin/sh", .argv = argv}, DEADLINE, &e), 0);
    assert_true(now_usec() - start < 15 * USEC_PER_SEC);
}

static void children_die_with_the_parent(void **state) {
    (void)state;
    int p[2];
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    pid_t parent = fork();
    if (parent == 0) {
        char *argv[] = {(char *)"sleep", (char *)"1000", NULL};
        struct proc child = PROC_NONE;
        struct proc_spec spec = {.path = "sleep", .argv = argv, .fds = {{p[1], 1}}, .n_fds = 1};
        if (proc_spawn(&spec, &child, NULL) < 0)
            _exit(1);
        _exit(0);
    }
    close(p[1]);
    waitpid(parent, NULL, 0);
    char c;
    assert_true(fd_wait(p[0], POLLIN, DEADLINE) & POLLHUP); /* sleep held the other end */
    assert_int_equal(read(p[0], &c, 1), 0);
    close(p[0]);
}

static void start_time_names_a_process(void **state) {
    (void)state;
    uint64_t a = 0, b = 0;
    assert_int_equal(proc_start_time(getpid(), &a), 0);
    assert_int_equal(proc_start_time(getpid(), &b), 0);
    assert_true(a == b && a > 0);
    assert_int_equal(proc_start_time(0x7ffffff0, &a), -ESRCH);

    /* a name that looks like the fields that follow it */
    prctl(PR_SET_NAME, "a) R 1 (b");
    assert_int_equal(proc_start_time(getpid(), &b), 0);
    assert_true(a == b);

    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(proc_start_time(pid, &b), -ESRCH); /* a zombie */
    waitpid(pid, NULL, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit_codes),
        cmocka_unit_test(the_child_starts_clean),
        T(fds_are_placed_even_when_they_cross),
        T(cwd_env_and_session),
        T(failures_before_exec_are_named),
        cmocka_unit_test(wait_times_out_and_kill_ends_it),
        cmocka_unit_test(run_reports_the_last_words),
        cmocka_unit_test(run_drains_and_cuts_a_talkative_program),
        cmocka_unit_test(run_has_a_deadline),
        cmocka_unit_test(run_does_not_wait_for_descendants),
        cmocka_unit_test(children_die_with_the_parent),
        cmocka_unit_test(start_time_names_a_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
