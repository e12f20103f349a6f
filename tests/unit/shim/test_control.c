/* SPDX-License-Identifier: Apache-2.0 */
/* Needs root: the share is mounted for real. */
#include "daemon.h"

#include <sys/mman.h>

#include "base/log.h"

static void test_info(void **state) {
    struct daemon *d = *state;
    Stasis__Sandbox__V1__Empty req = STASIS__SANDBOX__V1__EMPTY__INIT;
    Stasis__Sandbox__V1__InfoResponse *out = NULL;
    assert_int_equal(daemon_call_fds(d, SANDBOX, "Info", &req.base, NULL, 0, &out), 0);
    assert_string_equal(out->id, "box");
    assert_int_equal(out->daemon_pid, getpid());
    assert_int_equal(out->qemu_pid, 0);
    assert_int_equal(fake_vm.n_started, 0);
    stasis__sandbox__v1__info_response__free_unpacked(out, NULL);

    /* Check starts the VM. */
    Stasis__Agent__V1__CheckResponse *checked = NULL;
    assert_int_equal(daemon_call_fds(d, SANDBOX, "Check", &req.base, NULL, 0, &checked), 0);
    stasis__agent__v1__check_response__free_unpacked(checked, NULL);
    assert_int_equal(fake_vm.n_started, 1);
    assert_int_equal(daemon_call_fds(d, SANDBOX, "Info", &req.base, NULL, 0, &out), 0);
    assert_int_equal(out->qemu_pid, 1234567);
    assert_int_equal(out->virtiofsd_pid, 1234568);
    assert_string_equal(out->accel, "tcg");
    assert_string_equal(out->agent_version, "mock");
    assert_string_equal(out->kernel_version, "6.12-mock");
    assert_true(out->n_timings > 0);
    stasis__sandbox__v1__info_response__free_unpacked(out, NULL);
}

static void test_check_fails(void **state) {
    struct daemon *d = *state;
    Stasis__Sandbox__V1__Empty req = STASIS__SANDBOX__V1__EMPTY__INIT;
    fake_vm.fail = true;
    assert_int_equal(daemon_call_fds(d, SANDBOX, "Check", &req.base, NULL, 0, NULL), -EIO);
    ASSERT_SAYS(&d->err, "QEMU would not start");
}

static Stasis__Sandbox__V1__ConsoleRequest console_request(void) {
    Stasis__Sandbox__V1__ConsoleRequest req = STASIS__SANDBOX__V1__CONSOLE_REQUEST__INIT;
    req.exec_id = text("con");
    return req;
}

/* Boots the VM, without which there is no console. */
static void boot(struct daemon *d) {
    Stasis__Sandbox__V1__Empty req = STASIS__SANDBOX__V1__EMPTY__INIT;
    assert_int_equal(daemon_call_fds(d, SANDBOX, "Check", &req.base, NULL, 0, NULL), 0);
}

/* Short lines cost more in the log than in the guest. */
static void test_guest_log(void **state) {
    struct daemon *d = *state;
    struct config *config = (struct config *)(uintptr_t)sandbox_config(d->s.sb);
    config->guest_log_max = 64 << 10;
    boot(d);
    assert_int_equal(fake_vm.log_max, 64 << 10); /* for the errors of QEMU and virtiofsd */
    cleanup_fd int log = memfd_create("log", MFD_CLOEXEC);
    assert_true(log >= 0);
    log_set_fd(log);
    for (size_t i = 0; i < 64 << 10; i++)
        fake_vm.vm->ops->console_line(fake_vm.vm->userdata, "x");
    log_set_fd(STDERR_FILENO);
    off_t size = lseek(log, 0, SEEK_END);
    assert_true(size > 64 << 10 && size < 65 << 10);
}

static int delete_console(struct daemon *d) {
    Containerd__Task__V2__DeleteRequest req = CONTAINERD__TASK__V2__DELETE_REQUEST__INIT;
    req.exec_id = text("con");
    return daemon_call(d, "Delete", &req.base, NULL);
}

static void test_console(void **state) {
    struct daemon *d = *state;
    Stasis__Sandbox__V1__ConsoleRequest req = console_request();
    assert_int_equal(daemon_call_fds(d, SANDBOX, "Console", &req.base, NULL, 0, NULL), -ECONNRESET);
    ASSERT_SAYS(&d->err, "not running");
    boot(d);
    req.exec_id = text("../x");
    assert_int_equal(daemon_call_fds(d, SANDBOX, "Console", &req.base, NULL, 0, NULL), -EINVAL);
    req.exec_id = text("con");
    req.stdin = text("/dev/null");
    assert_int_equal(daemon_call_fds(d, SANDBOX, "Console", &req.base, NULL, 0, NULL), -ENOSYS);
    req.stdin = text("");
    assert_int_equal(daemon_call_fds(d, SANDBOX, "Console", &req.base, NULL, 0, NULL), 0);
    assert_int_equal(daemon_call_fds(d, SANDBOX, "Console", &req.base, NULL, 0, NULL), -EEXIST);
    Containerd__Task__V2__WaitRequest wait_req = CONTAINERD__TASK__V2__WAIT_REQUEST__INIT;
    struct later w = {0};
    wait_req.exec_id = text("con");
    start_call(d, d->client, TASK, "Wait", &wait_req.base, &w);
    RUN_UNTIL(d->event, the_agent()->waiter);
    assert_string_equal(the_agent()->last, "/con");
    mock_exit(the_agent(), 3, 1000, false);
    RUN_UNTIL(d->event, w.n);
    assert_int_equal(((Containerd__Task__V2__WaitResponse *)w.reply)->exit_status, 3);
    protobuf_c_message_free_unpacked(w.reply, NULL);
    assert_int_equal(delete_console(d), 0);
    assert_int_equal(delete_console(d), -ENOENT);
}

static void test_console_off(void **state) {
    struct daemon *d = *state;
    struct config *config = (struct config *)(uintptr_t)sandbox_config(d->s.sb);
    Stasis__Sandbox__V1__ConsoleRequest req = console_request();
    config->debug_console = false;
    assert_int_equal(daemon_call_fds(d, SANDBOX, "Console", &req.base, NULL, 0, NULL), -EPERM);
    ASSERT_SAYS(&d->err, "debug_console");
}

static void test_console_refused(void **state) {
    struct daemon *d = *state;
    Stasis__Sandbox__V1__ConsoleRequest req = console_request();
    boot(d);
    the_agent()->fail = ENOENT;
    assert_int_equal(daemon_call_fds(d, SANDBOX, "Console", &req.base, NULL, 0, NULL), -ENOENT);
    the_agent()->fail = 0;
    assert_int_equal(delete_console(d), -ENOENT);
}

/* Deleted, or the daemon ended, before the agent has answered. */
static void start_console(struct daemon *d, struct later *l) {
    Stasis__Sandbox__V1__ConsoleRequest req = console_request();
    boot(d);
    the_agent()->hold = true;
    start_call(d, d->client, SANDBOX, "Console", &req.base, l);
    RUN_UNTIL(d->event, the_agent()->kept);
    the_agent()->hold = false;
}

static void test_console_deleted(void **state) {
    struct daemon *d = *state;
    struct later l = {0};
    start_console(d, &l);
    assert_int_equal(delete_console(d), 0);
    ttrpc_reply(TAKE_PTR(the_agent()->kept), NULL);
    RUN_UNTIL(d->event, l.n);
    assert_int_equal(l.err.code, ECANCELED);
}

static void test_console_end(void **state) {
    struct daemon *d = *state;
    struct later l = {0};
    start_console(d, &l);
    d->s.sb = sandbox_free(d->s.sb);
    RUN_UNTIL(d->event, l.n);
    assert_int_equal(l.err.code, ECANCELED);
}

static void test_console_vm_dies(void **state) {
    struct daemon *d = *state;
    struct later l = {0};
    start_console(d, &l);
    vm_dies("the guest panicked");
    RUN_UNTIL(d->event, l.n);
    ASSERT_SAYS(&l.err, "the guest panicked");
    assert_int_equal(delete_console(d), -ENOENT);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, daemon_setup, daemon_teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(test_guest_log),       TEST(test_info),        TEST(test_check_fails),
        TEST(test_console),         TEST(test_console_off), TEST(test_console_refused),
        TEST(test_console_deleted), TEST(test_console_end), TEST(test_console_vm_dies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
