/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu_left.h"
#include "support.h"

/* A directory that stands for /proc, with one process. */
static void process(const struct tmpdir *t, const char *pid, const char *cmdline, size_t len, const char *cgroup) {
    cleanup_free char *dir = tmpdir_path(t, pid);
    cleanup_free char *a = path_join(dir, "cmdline");
    cleanup_free char *b = path_join(dir, "cgroup");
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(file_write_atomic(a, cmdline, len, 0600, false, NULL), 0);
    assert_int_equal(file_write_atomic(b, cgroup, strlen(cgroup), 0600, false, NULL), 0);
}
#define PROCESS(pid, cmdline, cgroup) process(f->dir, pid, cmdline, sizeof(cmdline), cgroup)

static void only_crius_of_ours(void **state) {
    struct fixture *f = *state;
    PROCESS("10", "criu\0swrk\0003", "0::/\n");
    PROCESS("11", "criu: dump --rpc -t 130 -D /share/c1", "0::/\n");
    PROCESS("12", "criu\0swrk\0003", "0::/stasis/c1\n"); /* in a container */
    PROCESS("13", "criu\0check", "0::/\n");
    PROCESS("14", "criu\0", "0::/\n");
    PROCESS("15", "", "0::/\n"); /* a zombie */
    PROCESS("16", "xcriu\0swrk\0003", "0::/\n");
    PROCESS("self", "criu\0swrk\0003", "0::/\n");
    assert_int_equal(criu_left_signal(f->dir->path, 0), 2);
    assert_int_equal(criu_left_signal("/nothing/there", 0), 0);
}

static void on_gone(void *userdata) {
    ++*(unsigned *)userdata;
}

static void none_is_no_wait(void **state) {
    struct fixture *f = *state;
    struct criu_left w;
    unsigned called = 0;
    assert_int_equal(criu_left_wait(&w, f->event, on_gone, &called, NULL), 0);
    assert_int_equal(called, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {FIXTURE_TEST(only_crius_of_ours), FIXTURE_TEST(none_is_no_wait)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
