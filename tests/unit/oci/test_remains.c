/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/remains.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/proc.h"
#include "base/util.h"
#include "support.h"
#include "tmpdir.h"

#define GONE_USEC (5 * USEC_PER_SEC)

static void what_is_outside_goes(void **state) {
    struct tmpdir *t = *state;
    assert_int_equal(mkdirat(t->fd, ".scratch", 0700), 0);
    assert_int_equal(mkdirat(t->fd, "stays", 0700), 0);
    tmpdir_write(t, ".scratch/pages-1.img", "half");
    cleanup_free char *scratch = tmpdir_path(t, ".scratch");
    struct oci_container_state c = {.id = (char *)(uintptr_t) "c1", .scratch = scratch};
    struct oci_sandbox_state s = {.containers = &c, .n_containers = 1};
    assert_int_equal(sandbox_remains_clear(&s, NULL), 0);
    assert_int_equal(faccessat(t->fd, ".scratch", F_OK, 0), -1);
    assert_int_equal(faccessat(t->fd, "stays", F_OK, 0), 0);
    assert_int_equal(sandbox_remains_clear(&s, NULL), 0); /* nothing is no error */
}

/* A daemon with a worker, both standing still; *ret_worker's end is seen at the pipe that it holds. */
static pid_t hanging_daemon(int *ret_end) {
    int up[2], end[2];
    char c;
    assert_int_equal(pipe(up), 0);
    assert_int_equal(pipe2(end, O_CLOEXEC), 0);
    pid_t daemon = fork();
    if (daemon == 0) {
        close(up[0]);
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            (void)!write(up[1], "x", 1);
            for (;;)
                pause();
        }
        close(end[1]);
        close(up[1]);
        for (;;)
            pause();
    }
    close(up[1]);
    close(end[1]);
    assert_int_equal(read(up[0], &c, 1), 1);
    close(up[0]);
    assert_int_equal(kill(daemon, SIGSTOP), 0);
    *ret_end = end[0];
    return daemon;
}

static void a_hanging_daemon_is_killed(void **state) {
    (void)state;
    int end = -1, status;
    char c;
    pid_t daemon = hanging_daemon(&end);
    struct oci_sandbox_state s = {.daemon_pid = daemon};
    struct err err = ERR_INIT;
    assert_int_equal(proc_start_time(daemon, &s.daemon_start), 0);
    uint64_t begun = now_usec();
    assert_int_equal(sandbox_remains_clear(&s, &err), 0);
    assert_true(now_usec() - begun < GONE_USEC);
    /* The worker has ended as well: without a wait here. */
    assert_int_equal(fcntl(end, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(read(end, &c, 1), 0);
    close(end);
    assert_int_equal(waitpid(daemon, &status, WNOHANG), daemon);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* The number is another process's by now. */
static void a_stranger_is_not(void **state) {
    (void)state;
    int end = -1;
    pid_t other = hanging_daemon(&end);
    struct oci_sandbox_state s = {.daemon_pid = other};
    assert_int_equal(proc_start_time(other, &s.daemon_start), 0);
    s.daemon_start--;
    assert_int_equal(sandbox_remains_clear(&s, NULL), 0);
    assert_int_equal(waitpid(other, NULL, WNOHANG), 0);
    assert_int_equal(kill(other, SIGKILL), 0);
    assert_int_equal(waitpid(other, NULL, 0), other);
    close(end);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_outside_goes, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test(a_hanging_daemon_is_killed),
        cmocka_unit_test(a_stranger_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
