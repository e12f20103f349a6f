/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu_inject.h"

#include <signal.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

#define PERSONALITY_32 136

/* Ends with 0 when it has read a byte, and its registers were its own all the time. */
static pid_t start(int *ret_in) {
    int in[2];
    assert_int_equal(pipe(in), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        close(in[1]);
        int wanted = personality(0xffffffff) | SHORT_INODE;
        /* A call that is made again after a stop. */
        ssize_t n = read(in[0], &c, 1);
        _exit(n == 1 && c == 'x' && personality(0xffffffff) == wanted ? 0 : 1);
    }
    close(in[0]);
    *ret_in = in[1];
    return pid;
}

static void stop(pid_t pid) {
    int status;
    assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
    assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, &status, __WALL), pid);
    assert_true(WIFSTOPPED(status));
}

static void test_calls(void **state) {
    (void)state;
    int in, status;
    long value = -1;
    pid_t pid = start(&in);
    stop(pid);
    assert_int_equal(inject_call(pid, &(struct inject_call){SYS_getpid, 20, {0}}, &value), 0);
    assert_int_equal(value, pid);
    /* A signal that comes meanwhile waits. */
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_int_equal(inject_call(pid, &(struct inject_call){SYS_personality, PERSONALITY_32, {0xffffffff}}, &value), 0);
    const struct inject_call set = {SYS_personality, PERSONALITY_32, {(unsigned long)value | SHORT_INODE}};
    assert_int_equal(inject_call(pid, &set, &value), 0);
    assert_int_equal(inject_call(pid, &(struct inject_call){SYS_close, 6, {1000000}}, &value), 0);
    assert_int_equal(value, -EBADF);
    assert_int_equal(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
    assert_int_equal(write(in, "x", 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(in);
}

static void test_failures(void **state) {
    (void)state;
    int in, status;
    long value;
    const struct inject_call call = {SYS_getpid, 20, {0}};
    pid_t pid = start(&in);
    assert_int_equal(inject_call(pid, &call, &value), -ESRCH); /* it is not stopped */
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(inject_call(pid, &call, &value), -ENOENT);
    close(in);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
