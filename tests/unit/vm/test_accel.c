/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "vm/accel.h"
#include "vm/vm.h"

static char path[64];

static const char *cpuinfo(const char *flags) {
    snprintf(path, sizeof(path), "/tmp/test_accel.%d", getpid());
    cleanup_file FILE *f = fopen(path, "we");
    assert_non_null(f);
    fprintf(f, "processor\t: 0\nvendor_id\t: X\nflags\t\t: %s\nvmx flags\t: vmx svm\n\nprocessor\t: 1\n", flags);
    return path;
}

static int teardown(void **state) {
    (void)state;
    unlink(path);
    return 0;
}

static void auto_takes_kvm_where_it_is_real(void **state) {
    (void)state;
    enum accel a = ACCEL_AUTO;
    const char *why = NULL;
    assert_int_equal(accel_resolve_from(cpuinfo("fpu vmx sse"), "/dev/null", ACCEL_AUTO, &a, &why, NULL), 0);
    assert_int_equal(a, ACCEL_KVM);
    assert_non_null(why);
    assert_int_equal(accel_resolve_from(cpuinfo("svm"), "/dev/null", ACCEL_AUTO, &a, NULL, NULL), 0);
    assert_int_equal(a, ACCEL_KVM);
}

static void auto_falls_back(void **state) {
    (void)state;
    enum accel a = ACCEL_AUTO;
    const char *why = NULL;
    /* /dev/kvm opens, but the CPU cannot: the trap of design.md */
    assert_int_equal(accel_resolve_from(cpuinfo("fpu vmxx avmx sse"), "/dev/null", ACCEL_AUTO, &a, &why, NULL), 0);
    assert_int_equal(a, ACCEL_TCG);
    assert_non_null(strstr(why, "vmx"));
    assert_int_equal(accel_resolve_from(cpuinfo("vmx"), "/nonexistent/kvm", ACCEL_AUTO, &a, &why, NULL), 0);
    assert_int_equal(a, ACCEL_TCG);
    assert_non_null(strstr(why, "/dev/kvm"));
    assert_int_equal(accel_resolve_from("/nonexistent/cpuinfo", "/dev/null", ACCEL_AUTO, &a, &why, NULL), 0);
    assert_int_equal(a, ACCEL_TCG);
}

static void kvm_is_refused_with_the_reason(void **state) {
    (void)state;
    enum accel a = ACCEL_AUTO;
    struct err err = ERR_INIT;
    assert_int_equal(accel_resolve_from(cpuinfo("fpu"), "/dev/null", ACCEL_KVM, &a, NULL, &err), -ENODEV);
    assert_non_null(strstr(err.msg, "neither vmx nor svm"));
    assert_int_equal(accel_resolve_from(cpuinfo("vmx"), "/nonexistent/kvm", ACCEL_KVM, &a, NULL, &err), -ENODEV);
    assert_non_null(strstr(err.msg, "No such file"));
    assert_int_equal(a, ACCEL_AUTO);
}

static void tcg_needs_nothing(void **state) {
    (void)state;
    enum accel a = ACCEL_AUTO;
    assert_int_equal(accel_resolve_from(cpuinfo("vmx"), "/dev/null", ACCEL_TCG, &a, NULL, NULL), 0);
    assert_int_equal(a, ACCEL_TCG);
    a = ACCEL_AUTO;
    assert_int_equal(accel_resolve(ACCEL_TCG, &a, NULL, NULL), 0);
    assert_int_equal(a, ACCEL_TCG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(auto_takes_kvm_where_it_is_real, teardown),
        cmocka_unit_test_teardown(auto_falls_back, teardown),
        cmocka_unit_test_teardown(kvm_is_refused_with_the_reason, teardown),
        cmocka_unit_test_teardown(tcg_needs_nothing, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
