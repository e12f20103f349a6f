/* SPDX-License-Identifier: Apache-2.0 */
#include "base/netns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tmpdir.h"

static void refuse(const char *path, int code) {
    char *names = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(netns_interfaces(path, false, &names, &err), code);
    assert_non_null(strstr(err.msg, path));
    assert_null(names);
}

static void what_is_no_network(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *fifo = tmpdir_path(t, "fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    refuse("/proc/self/ns/uts", -EINVAL);
    refuse("/proc/self/status", -EINVAL);
    refuse("/dev/null", -EINVAL);
    refuse(t->path, -EINVAL);
    refuse(fifo, -EINVAL); /* at once, though nobody writes to it */
    refuse("/proc/self/nothing", -ENOENT);
}

static void our_own_is_not_foreign(void **state) {
    (void)state;
    cleanup_free char *names = NULL;
    assert_int_equal(netns_interfaces("/proc/self/ns/net", true, &names, NULL), 0);
    assert_string_equal(names, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_no_network, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test(our_own_is_not_foreign),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
