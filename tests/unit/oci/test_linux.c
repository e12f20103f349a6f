/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#define NS(list) "linux.namespaces", "[" list "]"
#define PID "{\"type\":\"pid\"},"
#define NET "{\"type\":\"network\"},"
#define IPC "{\"type\":\"ipc\"},"
#define UTS "{\"type\":\"uts\"},"
#define MNT "{\"type\":\"mount\"}"

static void refusals(void **state) {
    static const struct refusal cases[] = {
        {{{NS(PID IPC UTS MNT)}},
         -EOPNOTSUPP,
         "linux.namespaces: no network namespace: the host's network cannot be shared with a VM"},
        {{{"linux", NULL}, {"hostname", NULL}},
         -EOPNOTSUPP,
         "linux.namespaces: no network namespace: the host's network cannot be shared with a VM"},
        {{{NS(PID IPC UTS "{\"type\":\"network\"}")}},
         -EOPNOTSUPP,
         "linux.namespaces: no mount namespace: the host's mounts cannot be shared with a VM"},
        {{{"linux.namespaces.0.path", "\"/proc/1/ns/pid\""}},
         -EOPNOTSUPP,
         "linux.namespaces[0].path: a pid namespace of the host cannot be joined from a VM"},
        {{{"linux.namespaces.4.path", "\"/x\""}},
         -EOPNOTSUPP,
         "linux.namespaces[4].path: a mount namespace of the host cannot be joined from a VM"},
        {{{"linux.namespaces.+", "{\"type\":\"foo\"}"}},
         -EINVAL,
         "linux.namespaces[5].type: unknown namespace \"foo\""},
        {{{"linux.namespaces.+", "{\"type\":\"pid\"}"}}, -EINVAL, "linux.namespaces[5].type: pid is there twice"},
        {{{"linux.namespaces.+", "{}"}}, -EINVAL, "linux.namespaces[5].type: is missing"},
        {{{"linux.namespaces", "{}"}}, -EINVAL, "linux.namespaces: must be an array"},
        {{{"linux", "7"}}, -EINVAL, "linux: must be an object"},

        {{{"linux.uidMappings.+", "{\"containerID\":0,\"hostID\":0,\"size\":1}"}},
         -EINVAL,
         "linux.uidMappings: needs a user namespace in linux.namespaces"},
        {{{"linux.namespaces.+", "{\"type\":\"user\"}"},
          {"linux.gidMappings.+", "{\"containerID\":1,\"hostID\":0,\"size\":4294967295}"},
          {"linux.gidMappings.+", "{\"containerID\":2,\"hostID\":0,\"size\":4294967295}"}},
         -EINVAL,
         "linux.gidMappings[1]: goes beyond id 4294967295"},
        {{{"linux.uidMappings.+", "{\"containerID\":0,\"hostID\":0,\"size\":0}"}},
         -EINVAL,
         "linux.uidMappings[0].size: must be a whole number from 1 to 4294967295"},

        {{{"linux.devices.+", "{\"path\":\"/dev/null\",\"type\":\"c\",\"major\":1,\"minor\":3}"},
          {"linux.devices.+", "{\"path\":\"/dev/tty\",\"type\":\"c\",\"major\":5,\"minor\":0}"},
          {"linux.devices.+", "{\"path\":\"/dev/sda\",\"type\":\"b\",\"major\":8,\"minor\":0}"}},
         -EOPNOTSUPP,
         "linux.devices[2] /dev/sda: host devices cannot be used in a VM"},
        {{{"linux.devices.+", "{\"path\":\"/dev/kvm\",\"type\":\"c\",\"major\":10,\"minor\":232}"}},
         -EOPNOTSUPP,
         "linux.devices[0] /dev/kvm: host devices cannot be used in a VM"},
        {{{"linux.devices.+", "{\"path\":\"/dev/x\",\"type\":\"b\",\"major\":1,\"minor\":3}"}},
         -EOPNOTSUPP,
         "linux.devices[0] /dev/x: host devices cannot be used in a VM"},
        {{{"linux.devices.+", "{\"path\":\"/dev/x\",\"type\":\"c\",\"major\":1}"}},
         -EINVAL,
         "linux.devices[0] /dev/x: major and minor must be given"},
        {{{"linux.devices.+", "{\"path\":\"/dev/x\",\"type\":\"char\",\"major\":1,\"minor\":3}"}},
         -EINVAL,
         "linux.devices[0].type: must be one of b, c, u and p, not \"char\""},
        {{{"linux.devices.+", "{\"path\":\"/dev/x\",\"type\":\"\"}"}},
         -EINVAL,
         "linux.devices[0].type: must be one of b, c, u and p, not \"\""},
        {{{"linux.devices.+", "{\"path\":\"dev/x\",\"type\":\"c\",\"major\":1,\"minor\":3}"}},
         -EINVAL,
         "linux.devices[0].path: must be an absolute path, not \"dev/x\""},
        {{{"linux.devices.+", "{\"path\":\"/dev/x\",\"type\":\"c\",\"major\":-1,\"minor\":3}"}},
         -EINVAL,
         "linux.devices[0].major: must be a whole number from 0 to 2147483647"},

        {{{"linux.seccomp", "{}"}}, -EINVAL, "linux.seccomp.defaultAction: is missing"},
        {{{"linux.seccomp", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerPath\":\"/run/l.sock\"}"}},
         -EOPNOTSUPP,
         "linux.seccomp.listenerPath: is not supported, the listener would be on the host and the container is in a "
         "VM"},
        {{{"linux.seccomp", "{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}"}},
         -EOPNOTSUPP,
         "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY is not supported, the listener would be on the host and the "
         "container is in a VM"},
        {{{"linux.seccomp", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mount\"],\"action\":"
                            "\"SCMP_ACT_NOTIFY\"}]}"}},
         -EOPNOTSUPP,
         "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY is not supported, the listener would be on the host and "
         "the container is in a VM"},
        {{{"linux.seccomp", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"action\":\"SCMP_ACT_LOG\"}]}"}},
         -EINVAL,
         "linux.seccomp.syscalls[0].names: is missing"},
        {{{"linux.seccomp", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"a\"],\"action\":\"x\","
                            "\"args\":[{\"index\":6,\"value\":1,\"op\":\"SCMP_CMP_EQ\"}]}]}"}},
         -EINVAL,
         "linux.seccomp.syscalls[0].args[0].index: must be a whole number from 0 to 5"},

        {{{"linux.sysctl", "{\"net.ipv4.ip_forward\":1}"}},
         -EINVAL,
         "linux.sysctl[\"net.ipv4.ip_forward\"]: must be a string"},
        {{{"linux.sysctl", "{\"../kernel/core_pattern\":\"x\"}"}},
         -EINVAL,
         "linux.sysctl[\"../kernel/core_pattern\"]: is not a sysctl's name"},
        {{{"linux.sysctl", "{\"net..kernel\":\"x\"}"}},
         -EINVAL,
         "linux.sysctl[\"net..kernel\"]: is not a sysctl's name"},
        {{{"linux.sysctl", "{\"\":\"x\"}"}}, -EINVAL, "linux.sysctl[\"\"]: is not a sysctl's name"},
        {{{"linux.rootfsPropagation", "\"weird\""}}, -EINVAL, "linux.rootfsPropagation: unknown propagation \"weird\""},
        {{{"linux.maskedPaths.0", "1"}}, -EINVAL, "linux.maskedPaths[0]: must be a string"},
        {{{"linux.personality", "{}"}}, -EINVAL, "linux.personality.domain: is missing"},
        {{{"linux.timeOffsets", "{\"monotonic\":{\"secs\":\"1\"}}"}},
         -EINVAL,
         "linux.timeOffsets.monotonic.secs: must be a whole number from -9223372036854775808 to 9223372036854775807"},
    };
    check_refusals(*state, cases, ARRAY_SIZE(cases));
}

static void rules(void **state) {
    static const struct rule cases[] = {
        {{{"linux.cgroupsPath", "\"/user/says\""}}, "linux.cgroupsPath", "\"/stasis/ctr1\""},
        {{{"linux.cgroupsPath", "\"machine.slice:libpod:x\""}}, "linux.cgroupsPath", "\"/stasis/ctr1\""},
        {{{"linux.namespaces.+", "{\"type\":\"cgroup\"}"}, {"linux.namespaces.+", "{\"type\":\"time\"}"}},
         "linux.namespaces",
         "[{\"type\":\"pid\"},{\"type\":\"network\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},{\"type\":\"mount\"},{"
         "\"type\":\"cgroup\"},{\"type\":\"time\"}]"},
        {{{"linux.namespaces.1.path", "\"/run/netns/n1\""}},
         "linux.namespaces.1",
         "{\"type\":\"network\"}",
         "linux.namespaces[1].path: /run/netns/n1 is on the host, the container gets loopback only, ignored"},
        {{{"linux.namespaces.0.path", "\"\""}}, "linux.namespaces.0", "{\"type\":\"pid\"}"},
        {{{NS(NET IPC UTS MNT)}},
         "linux.namespaces",
         "[{\"type\":\"network\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},{\"type\":\"mount\"},{\"type\":\"cgroup\"}]",
         "linux.namespaces: no pid namespace: the container shares the guest's, not the host's"},
        {{{NS(NET PID UTS MNT)}},
         "hostname",
         "\"stasis\"",
         "linux.namespaces: no ipc namespace: the container shares the guest's, not the host's"},
        {{{NS(NET PID IPC MNT)}, {"hostname", NULL}},
         "hostname",
         NULL,
         "linux.namespaces: no uts namespace: the container shares the guest's, not the host's"},
        {{{"linux.namespaces.+", "{\"type\":\"user\"}"},
          {"linux.uidMappings.+", "{\"containerID\":0,\"hostID\":2147483647,\"size\":65536}"}},
         "linux.uidMappings",
         "[{\"containerID\":0,\"hostID\":2147483647,\"size\":65536}]"},
        {{{"linux.devices.+",
           "{\"path\":\"/dev/fuse\",\"type\":\"c\",\"major\":10,\"minor\":229,\"fileMode\":438,\"uid\":0,\"gid\":5}"},
          {"linux.devices.+", "{\"path\":\"/dev/net/tun\",\"type\":\"u\",\"major\":10,\"minor\":200}"},
          {"linux.devices.+", "{\"path\":\"/dev/pipe\",\"type\":\"p\"}"}},
         "linux.devices",
         "[{\"fileMode\":438,\"gid\":5,\"major\":10,\"minor\":229,\"path\":\"/dev/fuse\",\"type\":\"c\",\"uid\":0},{"
         "\"major\":10,\"minor\":200,\"path\":\"/dev/net/tun\",\"type\":\"u\"},{\"path\":\"/dev/"
         "pipe\",\"type\":\"p\"}]"},
        {{{"linux.seccomp",
           "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38,\"architectures\":[\"SCMP_ARCH_X86_64\"],"
           "\"flags\":[],\"listenerPath\":\"\",\"syscalls\":[{\"names\":[\"clone\"],\"action\":\"SCMP_ACT_ALLOW\","
           "\"args\":[{\"index\":0,\"value\":2114060288,\"valueTwo\":0,\"op\":\"SCMP_CMP_MASKED_EQ\"}],\"comment\":"
           "\"\",\"includes\":{},\"excludes\":{}}]}"}},
         "linux.seccomp",
         "{\"architectures\":[\"SCMP_ARCH_X86_64\"],\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38,"
         "\"flags\":[],\"syscalls\":[{\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"op\":"
         "\"SCMP_CMP_MASKED_EQ\",\"value\":2114060288,\"valueTwo\":0}],\"names\":[\"clone\"]}]}"},
        {{{"linux.sysctl", "{\"net.ipv4.ping_group_range\":\"0 0\"}"}},
         "linux.sysctl",
         "{\"net.ipv4.ping_group_range\":\"0 0\"}"},
        {{{"linux.maskedPaths", "[\"/proc/x\"]"}}, "linux.maskedPaths", "[\"/proc/x\"]"},
        {{{"linux.readonlyPaths", "[\"/proc/y\"]"}}, "linux.readonlyPaths", "[\"/proc/y\"]"},
        {{{"linux.rootfsPropagation", "\"rslave\""}}, "linux.rootfsPropagation", "\"rslave\""},
        {{{"linux.personality", "{\"domain\":\"LINUX32\"}"}}, "linux.personality", "{\"domain\":\"LINUX32\"}"},
        {{{"linux.timeOffsets", "{\"boottime\":{\"secs\":-5,\"nanosecs\":1}}"}},
         "linux.timeOffsets",
         "{\"boottime\":{\"nanosecs\":1,\"secs\":-5}}"},
        {{{"linux.mountLabel", "\"system_u\""}},
         "linux.mountLabel",
         NULL,
         "linux.mountLabel: the guest has no SELinux, ignored"},
        {{{"linux.intelRdt", "{\"closID\":\"x\"}"}},
         "linux.intelRdt",
         NULL,
         "linux.intelRdt: the guest has no resctrl, ignored"},
        {{{"linux.netDevices", "{\"eth0\":{}}"}},
         "linux.netDevices",
         NULL,
         "linux.netDevices: the host's network devices cannot be used in a VM, ignored"},
        {{{"linux.memoryPolicy", "{\"mode\":\"x\"}"}},
         "linux.memoryPolicy",
         NULL,
         "linux.memoryPolicy: is not known to stasis, ignored"},
        {{{"linux.seccomp", "null"}}, "linux.seccomp", NULL},
    };
    check_rules(*state, cases, ARRAY_SIZE(cases));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        BUNDLE_TEST(refusals),
        BUNDLE_TEST(rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
