/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

static void refusals(void **state) {
    static const struct refusal cases[] = {
        {{{"linux.resources", "[]"}}, -EINVAL, "linux.resources: must be an object"},
        {{{"linux.resources.memory.limit", "\"1G\""}},
         -EINVAL,
         "linux.resources.memory.limit: must be a whole number from -9223372036854775808 to 9223372036854775807"},
        {{{"linux.resources.cpu.shares", "-1"}},
         -EINVAL,
         "linux.resources.cpu.shares: must be a whole number from 0 to 9223372036854775807"},
        {{{"linux.resources.cpu.shares", "1.5"}},
         -EINVAL,
         "linux.resources.cpu.shares: must be a whole number from 0 to 9223372036854775807"},
        {{{"linux.resources.devices.0.allow", NULL}}, -EINVAL, "linux.resources.devices[0].allow: is missing"},
        {{{"linux.resources.devices.0.type", "\"x\""}},
         -EINVAL,
         "linux.resources.devices[0].type: must be a, b or c, not \"x\""},
        {{{"linux.resources.devices.0.type", "\"ab\""}},
         -EINVAL,
         "linux.resources.devices[0].type: must be a, b or c, not \"ab\""},
        {{{"linux.resources.devices.0.access", "\"rx\""}},
         -EINVAL,
         "linux.resources.devices[0].access: must be made of r, w and m, not \"rx\""},
        {{{"linux.resources.devices.0.major", "-2"}},
         -EINVAL,
         "linux.resources.devices[0].major: must be a whole number from -1 to 2147483647"},
        {{{"linux.resources.hugepageLimits.+", "{\"pageSize\":\"../x\",\"limit\":1}"}},
         -EINVAL,
         "linux.resources.hugepageLimits[0].pageSize: must be like \"2MB\", not \"../x\""},
        {{{"linux.resources.hugepageLimits.+", "{\"pageSize\":\"2\",\"limit\":1}"}},
         -EINVAL,
         "linux.resources.hugepageLimits[0].pageSize: must be like \"2MB\", not \"2\""},
        {{{"linux.resources.hugepageLimits.+", "{\"pageSize\":\"2MB\"}"}},
         -EINVAL,
         "linux.resources.hugepageLimits[0].limit: is missing"},
        {{{"linux.resources.unified", "{\"../cgroup.procs\":\"1\"}"}},
         -EINVAL,
         "linux.resources.unified[\"../cgroup.procs\"]: is not a cgroup file's name"},
        {{{"linux.resources.unified", "{\"memory/high\":\"1\"}"}},
         -EINVAL,
         "linux.resources.unified[\"memory/high\"]: is not a cgroup file's name"},
        {{{"linux.resources.unified", "{\"memory..high\":\"1\"}"}},
         -EINVAL,
         "linux.resources.unified[\"memory..high\"]: is not a cgroup file's name"},
        {{{"linux.resources.unified", "{\"\":\"1\"}"}},
         -EINVAL,
         "linux.resources.unified[\"\"]: is not a cgroup file's name"},
        {{{"linux.resources.unified", "{\"memory.high\":1}"}},
         -EINVAL,
         "linux.resources.unified[\"memory.high\"]: must be a string"},
    };
    check_refusals(*state, cases, ARRAY_SIZE(cases));
}

static void rules(void **state) {
    static const struct rule cases[] = {
        {{{"linux.resources", NULL}}, "linux.resources", NULL},
        {{{"linux.resources", "{}"}}, "linux.resources", "{}"},
        {{{"linux.resources.devices.+", "{\"allow\":true,\"type\":\"c\",\"major\":10,\"minor\":-1,\"access\":\"rw\"}"}},
         "linux.resources.devices",
         "[{\"access\":\"rwm\",\"allow\":false},{\"access\":\"rw\",\"allow\":true,\"major\":10,\"minor\":-1,\"type\":"
         "\"c\"}]"},
        {{{"linux.resources.memory", "{\"limit\":67108864,\"reservation\":1,\"swap\":-1,\"checkBeforeUpdate\":true}"}},
         "linux.resources.memory",
         "{\"checkBeforeUpdate\":true,\"limit\":67108864,\"reservation\":1,\"swap\":-1}"},
        {{{"linux.resources.memory", "{\"limit\":5,\"kernel\":1}"}},
         "linux.resources.memory",
         "{\"limit\":5}",
         "linux.resources.memory.kernel: cgroup v2 has no such limit, ignored"},
        {{{"linux.resources.memory", "{\"kernelTCP\":1}"}},
         "linux.resources.memory",
         "{}",
         "linux.resources.memory.kernelTCP: cgroup v2 has no such limit, ignored"},
        {{{"linux.resources.memory", "{\"swappiness\":60}"}},
         "linux.resources.memory",
         "{}",
         "linux.resources.memory.swappiness: cgroup v2 has no such limit, ignored"},
        {{{"linux.resources.memory", "{\"disableOOMKiller\":true}"}},
         "linux.resources.memory",
         "{}",
         "linux.resources.memory.disableOOMKiller: cgroup v2 cannot do that, ignored"},
        {{{"linux.resources.memory", "{\"disableOOMKiller\":false,\"useHierarchy\":true,\"kernel\":0}"}},
         "linux.resources.memory",
         "{}"},
        {{{"linux.resources.cpu", "{\"shares\":512,\"quota\":-1,\"period\":100000,\"burst\":0,\"idle\":1}"}},
         "linux.resources.cpu",
         "{\"burst\":0,\"idle\":1,\"period\":100000,\"quota\":-1,\"shares\":512}"},
        {{{"linux.resources.cpu", "{\"cpus\":\"0-3\"}"}},
         "linux.resources.cpu",
         "{}",
         "linux.resources.cpu.cpus: its numbers mean the host's CPUs, ignored"},
        {{{"linux.resources.cpu", "{\"mems\":\"0\",\"cpus\":\"\"}"}},
         "linux.resources.cpu",
         "{}",
         "linux.resources.cpu.mems: its numbers mean the host's memory nodes, ignored"},
        {{{"linux.resources.cpu", "{\"realtimeRuntime\":1}"}},
         "linux.resources.cpu",
         "{}",
         "linux.resources.cpu.realtimeRuntime: cgroup v2 has no such limit, ignored"},
        {{{"linux.resources.cpu", "{\"realtimePeriod\":0}"}}, "linux.resources.cpu", "{}"},
        {{{"linux.resources.pids", "{\"limit\":2048}"}}, "linux.resources.pids", "{\"limit\":2048}"},
        {{{"linux.resources.unified", "{\"memory.high\":\"1\"}"}},
         "linux.resources.unified",
         "{\"memory.high\":\"1\"}"},
        {{{"linux.resources.hugepageLimits.+", "{\"pageSize\":\"2MB\",\"limit\":9223372036854775807}"},
          {"linux.resources.hugepageLimits.+", "{\"pageSize\":\"1GB\",\"limit\":0}"}},
         "linux.resources.hugepageLimits",
         "[{\"limit\":9223372036854775807,\"pageSize\":\"2MB\"}]"},
        {{{"linux.resources.blockIO", "{\"weight\":10}"}},
         "linux.resources.blockIO",
         NULL,
         "linux.resources.blockIO: the container's files are not on a block device of the guest, ignored"},
        {{{"linux.resources.blockIO", "{}"}}, "linux.resources.blockIO", NULL},
        {{{"linux.resources.network", "{\"classID\":1}"}},
         "linux.resources.network",
         NULL,
         "linux.resources.network: cgroup v2 has no such limit, ignored"},
        {{{"linux.resources.rdma", "{\"mlx\":{}}"}},
         "linux.resources.rdma",
         NULL,
         "linux.resources.rdma: the guest has no RDMA devices, ignored"},
        {{{"linux.resources.future", "1"}},
         "linux.resources.future",
         NULL,
         "linux.resources.future: is not known to stasis, ignored"},
    };
    check_rules(*state, cases, ARRAY_SIZE(cases));
}

static void limit_of_pids(void **state) {
    const struct tmpdir *t = *state;
    static const struct {
        struct change changes[CHANGES_MAX];
        uint32_t limit;
        const char *pids; /* NULL: there is no such object */
    } cases[] = {
        {{{0}}, 100, "{\"limit\":100}"},
        {{{"linux.resources", NULL}}, 100, "{\"limit\":100}"},
        {{{"linux.resources.pids", "{}"}}, 100, "{\"limit\":100}"},
        {{{"linux.resources.pids", "null"}}, 100, "{\"limit\":100}"},
        {{{"linux.resources.pids", "{\"limit\":5}"}}, 100, "{\"limit\":5}"},
        {{{"linux.resources.pids", "{\"limit\":0}"}}, 100, "{\"limit\":0}"},
        {{{"linux.resources.pids", "{\"limit\":-1}"}}, 100, "{\"limit\":-1}"},
        {{{"linux.resources.unified", "{\"pids.max\":\"7\"}"}}, 100, NULL},
        {{{0}}, 0, NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_json json_t *spec = changed_spec(cases[i].changes, t->path);
        cleanup_guest_spec struct oci_guest_spec g = {0};
        struct err err = ERR_INIT;
        if (oci_spec_for_guest(spec, "c1", t->path, &g, &err) < 0)
            fail_msg("%zu: %s", i, err.msg);
        assert_int_equal(oci_guest_limit_pids(&g, cases[i].limit, &err), 0);
        const json_t *resources = json_object_get(json_object_get(g.spec, "linux"), "resources");
        cleanup_free char *out = json_dumps(json_object_get(resources, "pids"), JSON_COMPACT);
        if (!cases[i].pids != !out || (out && strcmp(out, cases[i].pids) != 0))
            fail_msg("%zu: %s instead of %s", i, out, cases[i].pids);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        BUNDLE_TEST(refusals),
        BUNDLE_TEST(rules),
        BUNDLE_TEST(limit_of_pids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
