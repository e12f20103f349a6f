/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/sizing.h"
#include "support.h"

#define CRI "io.kubernetes.cri."
#define SANDBOX "\"" CRI "container-type\":\"sandbox\",\"" CRI "sandbox-id\":\"p1\""
#define MEMBER "\"" CRI "container-type\":\"container\",\"" CRI "sandbox-id\":\"p1\""
#define MEM(v) "\"" CRI "sandbox-memory\":\"" v "\""
#define QUOTA(v) "\"" CRI "sandbox-cpu-quota\":\"" v "\""
#define PERIOD(v) "\"" CRI "sandbox-cpu-period\":\"" v "\""
#define SHARES(v) "\"" CRI "sandbox-cpu-shares\":\"" v "\""
#define VM_MEM(v) "\"io.stasis.vm.memory\":\"" v "\""
#define VM_CPUS(v) "\"io.stasis.vm.cpus\":\"" v "\""

/* 512M and 2 CPUs, at most 4G and 8 CPUs. */
static const struct oci_sizing host = {.memory = 512 << 20, .cpus = 2, .memory_max = UINT64_C(4) << 30, .cpus_max = 8};

static void sizes(void **state) {
    (void)state;
    static const struct {
        const char *annotations;
        unsigned mib, cpus;
    } cases[] = {
        {"", 512, 2},
        {"\"io.stasis\":\"x\",\"io.stasisx.y\":\"z\",\"IO.STASIS.vm.cpus\":\"3\"", 512, 2},
        {VM_MEM("128M"), 128, 2},
        {VM_MEM("4G"), 4096, 2},
        {VM_MEM("134217728"), 128, 2},
        {VM_MEM("1GiB") "," VM_CPUS("1"), 1024, 1},
        {VM_CPUS("8"), 512, 8},
        /* without a pod the CRI's say nothing, whatever they are */
        {MEM("1000000000") "," QUOTA("x"), 512, 2},
        {SANDBOX, 512, 2},
        {SANDBOX "," MEM("0") "," QUOTA("0") "," PERIOD("0") "," SHARES("0"), 512, 2},
        {SANDBOX "," MEM("-1") "," QUOTA("-1") "," PERIOD("100000") "," SHARES("2"), 512, 2},
        {SANDBOX "," MEM("1"), 258, 2},
        {SANDBOX "," MEM("2097152"), 258, 2},
        {SANDBOX "," MEM("2097153"), 260, 2},
        {SANDBOX "," MEM("4026531840"), 4096, 2},
        {SANDBOX "," QUOTA("1") "," PERIOD("100000"), 512, 1},
        {SANDBOX "," QUOTA("100000") "," PERIOD("100000"), 512, 1},
        {SANDBOX "," QUOTA("100001") "," PERIOD("100000"), 512, 2},
        {SANDBOX "," QUOTA("800000") "," PERIOD("100000"), 512, 8},
        {SANDBOX "," QUOTA("800000"), 512, 2},
        {SANDBOX "," QUOTA("800000") "," PERIOD("-1"), 512, 2},
        {SANDBOX "," SHARES("9223372036854775807"), 512, 2},
        /* a person's word counts more, also when the CRI's sum is above the limit */
        {SANDBOX "," MEM("9223372036854775807") "," VM_MEM("256M"), 256, 2},
        {SANDBOX "," QUOTA("9223372036854775807") "," PERIOD("1") "," VM_CPUS("3"), 512, 3},
        {SANDBOX "," MEM("1") "," VM_CPUS("3"), 258, 3},
        /* a member, of a VM of 512M and 2 CPUs */
        {MEMBER, 512, 2},
        {MEMBER "," MEM("x"), 512, 2},
        {MEMBER "," VM_MEM("512M") "," VM_CPUS("2"), 512, 2},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_free char *text = str_printf("{\"annotations\":{%s}}", cases[i].annotations);
        cleanup_json json_t *spec = json_loads(text, 0, NULL);
        struct oci_sizing s = host;
        struct err e = ERR_INIT;
        if (oci_sizing_apply(spec, &s, &e) != 0)
            fail_msg("%s: %s", text, e.msg);
        if (s.memory != (uint64_t)cases[i].mib << 20 || s.cpus != cases[i].cpus)
            fail_msg("%s: %lluM, %u CPUs", text, (unsigned long long)(s.memory >> 20), s.cpus);
        assert_true(s.memory_max == host.memory_max && s.cpus_max == host.cpus_max);
    }
}

static void check_refused(const struct oci_sizing *limits, const char *annotations, const char *message) {
    cleanup_free char *text = str_printf("{\"annotations\":{%s}}", annotations);
    cleanup_json json_t *spec = json_loads(text, 0, NULL);
    struct oci_sizing s = *limits;
    struct err e = ERR_INIT;
    if (oci_sizing_apply(spec, &s, &e) != -EINVAL)
        fail_msg("accepted: %s", text);
    assert_int_equal(e.code, EINVAL);
    assert_string_equal(e.msg, message);
    assert_memory_equal(&s, limits, sizeof(s));
    assert_int_equal(oci_sizing_apply(spec, &s, NULL), -EINVAL);
}

#define BAD_SIZE(v)                                                                                                    \
    { VM_MEM(v), "annotations.io.stasis.vm.memory = \"" v "\": must be a size of at least 128M, a multiple of 2M" }
#define BAD_CPUS(v)                                                                                                    \
    { VM_CPUS(v), "annotations.io.stasis.vm.cpus = \"" v "\": must be a number from 1 to 255" }
#define BAD_NUMBER(f, name, v)                                                                                         \
    { SANDBOX "," f(v), "annotations." CRI name ": must be a decimal number, not \"" v "\"" }
#define UNKNOWN(k)                                                                                                     \
    { "\"" k "\":\"1\"", "annotations." k ": is not known; there are io.stasis.vm.memory and io.stasis.vm.cpus" }

static void refusals(void **state) {
    (void)state;
    static const struct {
        const char *annotations, *message;
    } cases[] = {
        BAD_SIZE(""),
        BAD_SIZE("0"),
        BAD_SIZE("-1"),
        BAD_SIZE("126M"),
        BAD_SIZE("129M"),
        BAD_SIZE("1G "),
        BAD_SIZE("99999999999T"),
        BAD_CPUS(""),
        BAD_CPUS("0"),
        BAD_CPUS("256"),
        BAD_CPUS("2,sockets=9"),
        {VM_MEM("4098M"), "annotations.io.stasis.vm.memory = \"4098M\": makes a VM of 4098M, and the limit is 4096M "
                          "([vm] memory_max)"},
        {VM_CPUS("9"),
         "annotations.io.stasis.vm.cpus = \"9\": makes a VM of 9 CPUs, and the limit is 8 ([vm] cpus_max)"},
        {"\"io.stasis.vm.memory\":1", "annotations.io.stasis.vm.memory: must be a string"},
        {"\"io.stasis.vm.cpus\":[]", "annotations.io.stasis.vm.cpus: must be a string"},
        UNKNOWN("io.stasis."),
        UNKNOWN("io.stasis.vm.memory2"),
        UNKNOWN("io.stasis.vm.kernel"),
        UNKNOWN("io.stasis.vm.kernel_params"),
        UNKNOWN("io.stasis.vm.memory_max"),
        UNKNOWN("io.stasis.qemu"),
        {MEMBER ",\"io.stasis.x\":\"\"",
         "annotations.io.stasis.x: is not known; there are io.stasis.vm.memory and io.stasis.vm.cpus"},
        BAD_NUMBER(MEM, "sandbox-memory", ""),
        BAD_NUMBER(MEM, "sandbox-memory", "-"),
        BAD_NUMBER(MEM, "sandbox-memory", "1G"),
        BAD_NUMBER(MEM, "sandbox-memory", "--1"),
        BAD_NUMBER(MEM, "sandbox-memory", "9223372036854775808"),
        BAD_NUMBER(QUOTA, "sandbox-cpu-quota", "1.5"),
        BAD_NUMBER(PERIOD, "sandbox-cpu-period", "+1"),
        BAD_NUMBER(SHARES, "sandbox-cpu-shares", "many"),
        {SANDBOX ",\"" CRI "sandbox-memory\":7", "annotations." CRI "sandbox-memory: must be a string"},
        {SANDBOX "," MEM("4026531841"),
         "annotations." CRI "sandbox-memory = \"4026531841\": makes a VM of 4098M, and the limit is 4096M "
         "([vm] memory_max)"},
        {SANDBOX "," MEM("9223372036854775807"),
         "annotations." CRI "sandbox-memory = \"9223372036854775807\": makes a VM of 8796093022464M, and the limit is "
         "4096M ([vm] memory_max)"},
        {SANDBOX "," QUOTA("800001") "," PERIOD("100000"),
         "annotations." CRI "sandbox-cpu-quota = \"800001\": makes a VM of 9 CPUs, and the limit is 8 ([vm] cpus_max)"},
        {SANDBOX "," QUOTA("9223372036854775807") "," PERIOD("1"),
         "annotations." CRI "sandbox-cpu-quota = \"9223372036854775807\": makes a VM of 9223372036854775807 CPUs, and "
         "the limit is 8 ([vm] cpus_max)"},
        {MEMBER "," VM_MEM("514M"), "annotations.io.stasis.vm.memory: the VM of the pod is running already, with 512M; "
                                    "put it on the pod"},
        {MEMBER "," VM_MEM("64G"), "annotations.io.stasis.vm.memory: the VM of the pod is running already, with 512M; "
                                   "put it on the pod"},
        {MEMBER "," VM_CPUS("1"), "annotations.io.stasis.vm.cpus: the VM of the pod is running already, with 2 CPUs; "
                                  "put it on the pod"},
        {"\"" CRI "container-type\":\"x\"",
         "annotations." CRI "container-type: must be sandbox or container, not \"x\""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        check_refused(&host, cases[i].annotations, cases[i].message);
}

/* Whatever the host has, a VM is no larger than stasis can make it. */
static void the_host_may_be_larger_than_any_vm(void **state) {
    (void)state;
    struct oci_sizing big = host;
    big.memory_max = UINT64_C(1) << 50;
    big.cpus_max = 4096;
    check_refused(&big, VM_MEM("2T"),
                  "annotations.io.stasis.vm.memory = \"2T\": makes a VM of 2097152M, and the limit is 1048576M ([vm] "
                  "memory_max)");
    check_refused(&big, SANDBOX "," QUOTA("256") "," PERIOD("1"),
                  "annotations." CRI "sandbox-cpu-quota = \"256\": makes a VM of 256 CPUs, and the limit is 255 ([vm] "
                  "cpus_max)");
}

/* The limits are for what a spec asks for, not for the host's own configuration. */
static void no_annotations(void **state) {
    (void)state;
    struct oci_sizing s = {.memory = UINT64_C(2) << 30, .cpus = 2, .memory_max = UINT64_C(1) << 30, .cpus_max = 1};
    cleanup_json json_t *spec = json_object();
    assert_int_equal(oci_sizing_apply(spec, &s, NULL), 0);
    assert_true(s.memory == UINT64_C(2) << 30);
    assert_int_equal(s.cpus, 2);
    json_object_set_new(spec, "annotations", json_array());
    assert_int_equal(oci_sizing_apply(spec, &s, NULL), -EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(refusals),
        cmocka_unit_test(the_host_may_be_larger_than_any_vm),
        cmocka_unit_test(no_annotations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
