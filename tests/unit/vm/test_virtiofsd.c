/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "vm/virtiofsd.h"

static bool has(const struct strv *a, const char *arg) {
    for (size_t i = 0; i < a->n; i++)
        if (!strcmp(a->v[i], arg))
            return true;
    return false;
}

static void command_line(void **state) {
    (void)state;
    cleanup_strv struct strv a = {0};
    assert_int_equal(virtiofsd_argv(3, "/share", &a, NULL), 0);
    assert_string_equal(a.v[0], VIRTIOFSD_PATH);
    assert_null(a.v[a.n]);
    assert_true(has(&a, "--fd=3"));
    assert_true(has(&a, "--shared-dir=/share"));
    assert_true(has(&a, "--sandbox=namespace"));
    assert_true(has(&a, "--seccomp=kill"));
    assert_true(has(&a, "--modcaps=-mknod"));
    assert_true(has(&a, "--inode-file-handles=never"));
    assert_true(has(&a, "--killpriv-v2"));
}

static void a_directory_is_never_an_option(void **state) {
    (void)state;
    cleanup_strv struct strv a = {0};
    assert_int_equal(virtiofsd_argv(3, "--sandbox=none,x=1", &a, NULL), 0);
    assert_true(has(&a, "--shared-dir=--sandbox=none,x=1"));
    assert_false(has(&a, "--sandbox=none,x=1"));
}

static void no_dangerous_capability(void **state) {
    (void)state;
    const int refused[] = {CAP_MKNOD,     CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_SYS_RAWIO, CAP_SYS_MODULE,
                           CAP_NET_ADMIN, CAP_SYS_CHROOT,      CAP_SYS_BOOT,   CAP_BPF,       CAP_KILL};
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
        assert_false(VIRTIOFSD_CAPS >> refused[i] & 1);
}

static void socket_is_connected(void **state) {
    (void)state;
    if (geteuid() != 0)
        skip(); /* it takes a file system of its own */
    struct err err = ERR_INIT;
    cleanup_fd int listener = -1, client = -1;
    if (virtiofsd_socket(&listener, &client, &err) < 0)
        fail_msg("%s", err.msg);
    assert_true(fcntl(listener, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(client, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(write(client, "hello", 5), 5);
    cleanup_fd int server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(server >= 0);
    char buf[8];
    assert_int_equal(read(server, buf, sizeof(buf)), 5);
    /* nobody else is in the queue */
    assert_int_equal(fd_wait(listener, POLLIN, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(command_line),
        cmocka_unit_test(a_directory_is_never_an_option),
        cmocka_unit_test(no_dangerous_capability),
        cmocka_unit_test(socket_is_connected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
