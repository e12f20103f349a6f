/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vm/qemu.h"

static const struct qemu_spec usual = {.id = "box-1",
                                       .accel = ACCEL_TCG,
                                       .memory = UINT64_C(2) << 30,
                                       .cpus = 2,
                                       .guest_dir = "/guest",
                                       .kernel_params = "",
                                       .memory_fd = 3,
                                       .qmp_fd = 4,
                                       .console_fd = 5,
                                       .agent_fd = 6,
                                       .virtiofsd_fd = 7};

/* The value after the n-th (from 0) occurrence of an option; NULL if there is none. */
static const char *value_of(const struct strv *a, const char *option, int n) {
    for (size_t i = 0; i + 1 < a->n; i++)
        if (!strcmp(a->v[i], option) && n-- == 0)
            return a->v[i + 1];
    return NULL;
}

static bool has(const struct strv *a, const char *arg) {
    for (size_t i = 0; i < a->n; i++)
        if (!strcmp(a->v[i], arg))
            return true;
    return false;
}

/* What the guest is told so that it need not measure it, where its clocks are emulated. */
static void the_frequency_of_the_tsc(void **state) {
    (void)state;
    struct qemu_spec s = usual;
    cleanup_strv struct strv none = {0}, tcg = {0}, kvm = {0};
    assert_int_equal(qemu_argv(&s, &none, NULL), 0);
    assert_null(strstr(value_of(&none, "-append", 0), "tsc"));
    s.tsc_khz = 2445406;
    assert_int_equal(qemu_argv(&s, &tcg, NULL), 0);
    assert_non_null(strstr(value_of(&tcg, "-append", 0), " tsc_early_khz=2445406"));
    s.accel = ACCEL_KVM;
    assert_int_equal(qemu_argv(&s, &kvm, NULL), 0);
    assert_null(strstr(value_of(&kvm, "-append", 0), "tsc"));
}

/* PCI devices are set up by one CPU, where the machine's memory map is QEMU's own. */
static void one_cpu_to_begin_with(void **state) {
    (void)state;
    struct qemu_spec s = usual;
    cleanup_strv struct strv tcg = {0}, measured = {0}, one = {0}, kvm = {0};
    s.cpus = 2;
    assert_int_equal(qemu_argv(&s, &tcg, NULL), 0);
    assert_non_null(strstr(value_of(&tcg, "-append", 0), " maxcpus=1 noreplace-smp"));
    assert_null(strstr(value_of(&tcg, "-append", 0), "lpj"));
    s.tsc_khz = 2445406;
    assert_int_equal(qemu_argv(&s, &measured, NULL), 0);
    assert_non_null(strstr(value_of(&measured, "-append", 0), " lpj=9781624"));
    s.cpus = 1;
    assert_int_equal(qemu_argv(&s, &one, NULL), 0);
    assert_null(strstr(value_of(&one, "-append", 0), "maxcpus"));
    s.cpus = 2;
    s.accel = ACCEL_KVM;
    assert_int_equal(qemu_argv(&s, &kvm, NULL), 0);
    assert_null(strstr(value_of(&kvm, "-append", 0), "maxcpus"));
}

static void usual_command_line(void **state) {
    (void)state;
    cleanup_strv struct strv a = {0};
    assert_int_equal(qemu_argv(&usual, &a, NULL), 0);
    assert_string_equal(a.v[0], QEMU_PATH);
    assert_null(a.v[a.n]);
    assert_string_equal(value_of(&a, "-name", 0), "guest=box-1,debug-threads=on");
    assert_string_equal(value_of(&a, "-m", 0), "2048M");
    assert_string_equal(value_of(&a, "-smp", 0), "2");
    assert_string_equal(value_of(&a, "-cpu", 0), "max,-erms,-fsrm");
    assert_non_null(strstr(value_of(&a, "-machine", 0), "q35,accel=tcg,"));
    assert_string_equal(value_of(&a, "-object", 0),
                        "memory-backend-file,id=mem,size=2048M,mem-path=/proc/self/fd/3,share=on,dump=off");
    assert_string_equal(value_of(&a, "-chardev", 0), "socket,id=qmp,fd=4");
    assert_string_equal(value_of(&a, "-add-fd", 0), "fd=5,set=1");
    assert_string_equal(value_of(&a, "-kernel", 0), "/guest/vmlinux");
    assert_non_null(strstr(value_of(&a, "-sandbox", 0), "spawn=deny"));
    assert_true(has(&a, "-nodefaults"));
    assert_true(has(&a, "-no-user-config"));
    assert_true(has(&a, "-no-reboot"));
    assert_true(has(&a, "virtserialport,chardev=agent,name=agent"));
    assert_true(has(&a, "vhost-user-fs-pci,chardev=share,tag=share"));
    assert_null(strstr(value_of(&a, "-append", 0), "agent.log"));
    /* each option once that may be there once */
    assert_null(value_of(&a, "-append", 1));
    assert_null(value_of(&a, "-mon", 1));
    assert_null(value_of(&a, "-name", 1));
}

static void kvm_uses_the_hosts_cpu(void **state) {
    (void)state;
    struct qemu_spec s = usual;
    s.accel = ACCEL_KVM;
    cleanup_strv struct strv a = {0};
    assert_int_equal(qemu_argv(&s, &a, NULL), 0);
    assert_string_equal(value_of(&a, "-cpu", 0), "host");
    assert_non_null(strstr(value_of(&a, "-machine", 0), "accel=kvm"));
    /* the work-arounds for CPU bugs are for real CPUs */
    assert_null(strstr(value_of(&a, "-append", 0), "mitigations=off"));
    assert_non_null(strstr(value_of(&a, "-append", 0), " lsm=lockdown,"));
    assert_null(strstr(value_of(&a, "-append", 0), "landlock"));
}

static void commas_and_equals_signs_add_no_option(void **state) {
    (void)state;
    struct qemu_spec s = usual;
    s.id = "a,process=evil,guest=b";
    s.guest_dir = "/x,y=1,read-only=off";
    cleanup_strv struct strv a = {0}, plain = {0};
    assert_int_equal(qemu_argv(&s, &a, NULL), 0);
    assert_int_equal(qemu_argv(&usual, &plain, NULL), 0);
    assert_int_equal(a.n, plain.n);
    assert_string_equal(value_of(&a, "-name", 0), "guest=a,,process=evil,,guest=b,debug-threads=on");
    assert_string_equal(
        value_of(&a, "-blockdev", 0),
        "driver=file,node-name=root-file,filename=/x,,y=1,,read-only=off/root.img,read-only=on,locking=off");
    /* these two are plain file names, not option lists */
    assert_string_equal(value_of(&a, "-kernel", 0), "/x,y=1,read-only=off/vmlinux");
    assert_string_equal(value_of(&a, "-initrd", 0), "/x,y=1,read-only=off/initramfs");
}

static void an_id_cannot_be_an_option(void **state) {
    (void)state;
    struct qemu_spec s = usual;
    s.id = "-monitor";
    cleanup_strv struct strv a = {0};
    assert_int_equal(qemu_argv(&s, &a, NULL), 0);
    assert_false(has(&a, "-monitor"));
}

static void escape(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"", ""},        {"a", "a"},     {",", ",,"},
                                           {"a,b", "a,,b"}, {",,", ",,,,"}, {"x=y", "x=y"}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_free char *out = qemu_escape(cases[i][0]);
        assert_string_equal(out, cases[i][1]);
    }
}

static void kernel_command_line(void **state) {
    (void)state;
    struct qemu_spec s = usual;
    s.kernel_params = "foo=a,b -device x";
    s.agent_debug = true;
    cleanup_strv struct strv a = {0};
    assert_int_equal(qemu_argv(&s, &a, NULL), 0);
    const char *line = value_of(&a, "-append", 0);
    assert_non_null(strstr(line, "console=ttyS0 panic=-1 reboot=t quiet"));
    assert_non_null(strstr(line, " agent.log=debug foo=a,b -device x"));

    struct err err = ERR_INIT;
    s.kernel_params = "a\nb";
    assert_int_equal(qemu_argv(&s, &a, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "box-1"));

    char longest[KERNEL_CMDLINE_MAX + 1];
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    s.kernel_params = longest;
    assert_int_equal(qemu_argv(&s, &a, &err), -EINVAL);
    assert_int_equal(qemu_argv(&s, &a, NULL), -EINVAL);
    longest[KERNEL_CMDLINE_MAX - 300] = '\0';
    assert_int_equal(qemu_argv(&s, &a, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_cpu_to_begin_with),
        cmocka_unit_test(usual_command_line),
        cmocka_unit_test(the_frequency_of_the_tsc),
        cmocka_unit_test(kvm_uses_the_hosts_cpu),
        cmocka_unit_test(commas_and_equals_signs_add_no_option),
        cmocka_unit_test(an_id_cannot_be_an_option),
        cmocka_unit_test(escape),
        cmocka_unit_test(kernel_command_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
