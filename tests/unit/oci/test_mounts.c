/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "support.h"

static void refusals(void **state) {
    static const struct refusal cases[] = {
        {{{"mounts.+", "{\"type\":\"tmpfs\"}"}}, -EINVAL, "mounts[7].destination: is missing"},
        {{{"mounts.+", "{\"destination\":\"\",\"type\":\"tmpfs\"}"}},
         -EINVAL,
         "mounts[7].destination: must not be empty"},
        {{{"mounts.0.type", "\"overlay\""}},
         -EOPNOTSUPP,
         "mounts[0].type: \"overlay\" is not supported; use bind, tmpfs, proc, sysfs, devpts, mqueue or cgroup"},
        {{{"mounts.0.type", "\"none\""}},
         -EOPNOTSUPP,
         "mounts[0].type: \"none\" is not supported; use bind, tmpfs, proc, sysfs, devpts, mqueue or cgroup"},
        {{{"mounts.0.type", NULL}},
         -EOPNOTSUPP,
         "mounts[0].type: \"\" is not supported; use bind, tmpfs, proc, sysfs, devpts, mqueue or cgroup"},
        {{{"mounts.0.type", "\"9p\""}},
         -EOPNOTSUPP,
         "mounts[0].type: \"9p\" is not supported; use bind, tmpfs, proc, sysfs, devpts, mqueue or cgroup"},
        {{{"mounts.0.options.+", "\"foo\""}}, -EINVAL, "mounts[0].options[0]: unknown option \"foo\" for proc"},
        {{{"mounts.0.options.+", "\"size=1m\""}}, -EINVAL, "mounts[0].options[0]: unknown option \"size=1m\" for proc"},
        {{{"mounts.1.options.+", "\"sizes=1\""}},
         -EINVAL,
         "mounts[1].options[4]: unknown option \"sizes=1\" for tmpfs"},
        {{{"mounts.1.options.0", "\"remount\""}}, -EOPNOTSUPP, "mounts[1].options[0]: \"remount\" is not supported"},
        {{{"mounts.1.options.0", "\"nosymfollow\""}},
         -EOPNOTSUPP,
         "mounts[1].options[0]: \"nosymfollow\" is not supported"},
        {{{"mounts.1.options.0", "3"}}, -EINVAL, "mounts[1].options[0]: must be a string"},
        {{{"mounts.1.options", "\"ro\""}}, -EINVAL, "mounts[1].options: must be an array"},

        {{{"mounts.+", "{\"destination\":\"/x\",\"type\":\"bind\"}"}}, -EINVAL, "mounts[7].source: is missing"},
        {{{"mounts.+", "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"\"}"}},
         -EINVAL,
         "mounts[7].source: is missing"},
        {{{"mounts.+", "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"none\"}"}},
         -ENOENT,
         "mounts[7].source: cannot use #/none: No such file or directory"},
        {{{"mounts.+", "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"#/file\",\"options\":[\"size=1m\"]}"}},
         -EINVAL,
         "mounts[7].options[0]: unknown option \"size=1m\" for a bind mount"},
        {{{"mounts.+", "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"#/file\",\"options\":[\"tmpcopyup\"]}"}},
         -EINVAL,
         "mounts[7].options[0]: \"tmpcopyup\" is only for tmpfs"},
        {{{"mounts.+", "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"#/file\",\"options\":[\"idmap\"]}"}},
         -EOPNOTSUPP,
         "mounts[7].options[0]: \"idmap\" is not supported"},
        {{{"mounts.+", "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"#/file\",\"uidMappings\":[{}]}"}},
         -EOPNOTSUPP,
         "mounts[7].uidMappings: id-mapped mounts are not supported"},
        {{{"mounts.+", "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"#/sock\"}"}},
         -EOPNOTSUPP,
         "mounts[7].source: #/sock is a socket of the host, which has no other end in a VM; only files and directories "
         "can be mounted"},
        {{{"mounts.+", "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"#/fifo\"}"}},
         -EOPNOTSUPP,
         "mounts[7].source: #/fifo is a FIFO of the host, which has no other end in a VM; only files and directories "
         "can be mounted"},
        {{{"mounts.+", "{\"destination\":\"/host/proc\",\"type\":\"bind\",\"source\":\"/proc\"}"}},
         -EOPNOTSUPP,
         "mounts[7].source: /proc belongs to the host's kernel and cannot be used in a VM"},
        {{{"mounts.+", "{\"destination\":\"/proc/sys\",\"type\":\"bind\",\"source\":\"/proc/sys\"}"}},
         -EOPNOTSUPP,
         "mounts[7].source: /proc/sys belongs to the host's kernel and cannot be used in a VM"},
        {{{"mounts.+", "{\"destination\":\"/dev\",\"type\":\"bind\",\"source\":\"/dev\"}"}},
         -EOPNOTSUPP,
         "mounts[7].source: /dev belongs to the host's kernel and cannot be used in a VM"},
        {{{"mounts.+", "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"#/disk\"}"}},
         -EOPNOTSUPP,
         "mounts[7].source: #/disk is a device of the host and cannot be used in a VM"},
        {{{"mounts.+", "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"#/to-proc\"}"}},
         -EOPNOTSUPP,
         "mounts[7].source: #/to-proc belongs to the host's kernel and cannot be used in a VM"},
    };
    struct tmpdir *t = *state;
    assert_int_equal(symlinkat("/proc/sys/kernel", t->fd, "to-proc"), 0);
    if (mknodat(t->fd, "disk", S_IFBLK | 0600, makedev(8, 0)) < 0)
        skip(); /* no permission to make device nodes here */
    check_refusals(t, cases, ARRAY_SIZE(cases));
}

static void rules(void **state) {
    static const struct rule cases[] = {
        {{{"mounts.0.type", "\"proc\""}},
         "mounts.0",
         "{\"destination\":\"/proc\",\"options\":[],\"source\":\"proc\",\"type\":\"proc\"}"},
        {{{"mounts.0.options", "[\"nosuid\",\"hidepid=2\",\"gid=5\",\"subset=pid\"]"}},
         "mounts.0.options",
         "[\"nosuid\",\"hidepid=2\",\"gid=5\",\"subset=pid\"]"},
        {{{"mounts.1.options",
           "[\"size=1m\",\"nr_inodes=5\",\"nr_blocks=5\",\"mode=700\",\"uid=1\",\"gid=2\",\"tmpcopyup\",\"noswap\"]"}},
         "mounts.1.options",
         "[\"size=1m\",\"nr_inodes=5\",\"nr_blocks=5\",\"mode=700\",\"uid=1\",\"gid=2\",\"tmpcopyup\",\"noswap\"]"},
        {{{"mounts.1.source", NULL}}, "mounts.1.source", "\"tmpfs\""},
        {{{"mounts.1.destination", "\"rel/ative\""}}, "mounts.1.destination", "\"/rel/ative\""},
        {{{"mounts.1.options", "[\"ro\",\"silent\",\"loud\",\"noexec\"]"}}, "mounts.1.options", "[\"ro\",\"noexec\"]"},
        {{{"mounts.1.options", "[\"lazytime\"]"}},
         "mounts.1.options",
         "[]",
         "mounts[1].options[0]: \"lazytime\" is not supported, ignored"},
        {{{"mounts.1.options", "[\"context=\\\"system_u:object_r:x\\\"\",\"ro\"]"}},
         "mounts.1.options",
         "[\"ro\"]",
         "mounts[1].options[0]: the guest has no SELinux, ignored"},
        {{{"mounts.6.type", "\"cgroup2\""}, {"mounts.6.source", "\"cgroup2\""}},
         "mounts.6",
         "{\"destination\":\"/sys/fs/cgroup\",\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"relatime\",\"ro\"],"
         "\"source\":\"cgroup\",\"type\":\"cgroup\"}"},
        {{{"mounts", NULL}}, "mounts", "[]"},

        /* binds: by type, by option, by both; a type that says something else does not count */
        {{{"mounts.+", "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"#/file\"}"}},
         "mounts.7",
         "{\"destination\":\"/x\",\"options\":[\"bind\"],\"source\":\"/share/ctr1/mounts/0\",\"type\":\"bind\"}"},
        {{{"mounts.+",
           "{\"destination\":\"/x\",\"type\":\"none\",\"source\":\"#/dir\",\"options\":[\"rbind\",\"rw\"]}"}},
         "mounts.7",
         "{\"destination\":\"/x\",\"options\":[\"rbind\",\"rw\"],\"source\":\"/share/ctr1/mounts/"
         "0\",\"type\":\"bind\"}"},
        {{{"mounts.+", "{\"destination\":\"/x\",\"source\":\"#/dir\",\"options\":[\"ro\",\"bind\",\"nosuid\",\"nodev\","
                       "\"noexec\",\"rprivate\",\"relatime\"]}"}},
         "mounts.7",
         "{\"destination\":\"/"
         "x\",\"options\":[\"bind\",\"ro\",\"nosuid\",\"nodev\",\"noexec\",\"rprivate\",\"relatime\"],"
         "\"source\":\"/share/ctr1/mounts/0\",\"type\":\"bind\"}"},
        {{{"mounts.+", "{\"destination\":\"/x\",\"type\":\"tmpfs\",\"source\":\"#/dir\",\"options\":[\"rbind\"]}"}},
         "mounts.7",
         "{\"destination\":\"/x\",\"options\":[\"rbind\"],\"source\":\"/share/ctr1/mounts/0\",\"type\":\"bind\"}"},
        {{{"mounts.+", "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"dir/sub\",\"uidMappings\":[]}"}},
         "mounts.7.source",
         "\"/share/ctr1/mounts/0\""},

        /* the host's kernel file systems in their own places are the guest's */
        {{{"mounts.+", "{\"destination\":\"/proc\",\"type\":\"bind\",\"source\":\"/proc\",\"options\":[\"rbind\","
                       "\"nosuid\"]}"}},
         "mounts.7",
         "{\"destination\":\"/proc\",\"options\":[\"nosuid\"],\"source\":\"proc\",\"type\":\"proc\"}",
         "mounts[7]: /proc is the guest's own, not the host's"},
        {{{"mounts.+",
           "{\"destination\":\"/sys\",\"type\":\"bind\",\"source\":\"/sys\",\"options\":[\"rbind\",\"ro\"]}"}},
         "mounts.7",
         "{\"destination\":\"/sys\",\"options\":[\"ro\"],\"source\":\"sysfs\",\"type\":\"sysfs\"}",
         "mounts[7]: /sys is the guest's own, not the host's"},
        {{{"mounts.+",
           "{\"destination\":\"/sys/fs/cgroup\",\"type\":\"bind\",\"source\":\"/sys/fs/cgroup\",\"options\":"
           "[\"rbind\",\"rslave\"]}"}},
         "mounts.7",
         "{\"destination\":\"/sys/fs/cgroup\",\"options\":[\"rslave\"],\"source\":\"cgroup\",\"type\":\"cgroup\"}",
         "mounts[7]: /sys/fs/cgroup is the guest's own, not the host's"},
        {{{"mounts.+", "{\"destination\":\"/n\",\"type\":\"bind\",\"source\":\"/dev/null\",\"options\":[\"rbind\"]}"}},
         "mounts.7",
         "{\"destination\":\"/n\",\"options\":[\"bind\"],\"source\":\"/dev/null\",\"type\":\"bind\"}",
         "mounts[7]: device /dev/null is the guest's own, not the host's"},
    };
    check_rules(*state, cases, ARRAY_SIZE(cases));
}

static void shares(void **state) {
    struct tmpdir *t = *state;
    static const struct {
        const char *options;
        bool read_only, recursive;
    } cases[] = {
        {"[]", false, false},
        {"[\"bind\"]", false, false},
        {"[\"rbind\"]", false, true},
        {"[\"bind\",\"rbind\"]", false, true},
        {"[\"rbind\",\"bind\"]", false, false},
        {"[\"ro\"]", true, false},
        {"[\"rbind\",\"rro\"]", true, true},
        {"[\"ro\",\"rw\"]", false, false},
        {"[\"rw\",\"ro\"]", true, false},
        {"[\"rro\",\"rrw\"]", false, false},
    };
    assert_int_equal(symlinkat("dir", t->fd, "link"), 0);
    json_t *spec = oci_spec_default();
    /* between them one that is not a share: the numbers are the shares' own */
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char m[256];
        snprintf(m, sizeof(m), "{\"destination\":\"/d%zu\",\"type\":\"bind\",\"source\":\"%s\",\"options\":%s}", i,
                 i % 2 ? "link/sub" : "#/file", cases[i].options);
        change_spec(spec, &(struct change){"mounts.+", m}, t->path);
        change_spec(spec, &(struct change){"mounts.+", "{\"destination\":\"/t\",\"type\":\"tmpfs\"}"}, t->path);
    }
    cleanup_guest_spec struct oci_guest_spec g = {0};
    assert_int_equal(oci_spec_for_guest(spec, "ctr1", t->path, &g, NULL), 0);
    assert_int_equal(g.n_mounts, ARRAY_SIZE(cases));
    for (size_t i = 0; i < g.n_mounts; i++) {
        cleanup_free char *source = tmpdir_path(t, i % 2 ? "dir/sub" : "file"); /* without the link */
        assert_string_equal(g.mounts[i].source, source);
        assert_int_equal(g.mounts[i].read_only, cases[i].read_only);
        assert_int_equal(g.mounts[i].recursive, cases[i].recursive);
        assert_int_equal(g.mounts[i].index, i);
        assert_int_equal(g.mounts[i].spec_index, 7 + 2 * i);
        char expected[64];
        snprintf(expected, sizeof(expected), "/share/ctr1/mounts/%zu", i);
        const json_t *m = json_array_get(json_object_get(g.spec, "mounts"), 7 + 2 * i);
        assert_string_equal(json_string_value(json_object_get(m, "source")), expected);
    }
    json_decref(spec);
}

/* An engine's /dev/shm is storage, though it is below /dev. */
static void dev_shm_of_the_host_is_storage(void **state) {
    struct tmpdir *t = *state;
    struct change changes[CHANGES_MAX] = {
        {"mounts.+",
         "{\"destination\":\"/dev/shm\",\"type\":\"bind\",\"source\":\"/dev/shm\",\"options\":[\"bind\"]}"}};
    cleanup_json json_t *spec = changed_spec(changes, t->path);
    cleanup_guest_spec struct oci_guest_spec g = {0};
    assert_int_equal(oci_spec_for_guest(spec, "ctr1", t->path, &g, NULL), 0);
    assert_int_equal(g.n_mounts, 1);
    assert_int_equal(g.notes.n, 0);
}

/* Wherever the node is on the host, in the guest it is in its usual place. */
static void devices_are_known_by_their_numbers(void **state) {
    struct tmpdir *t = *state;
    if (mknodat(t->fd, "my-tun", S_IFCHR | 0600, makedev(10, 200)) < 0)
        skip(); /* no permission to make device nodes here */
    struct change changes[CHANGES_MAX] = {
        {"mounts.+", "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"#/my-tun\"}"}};
    cleanup_json json_t *spec = changed_spec(changes, t->path);
    cleanup_guest_spec struct oci_guest_spec g = {0};
    assert_int_equal(oci_spec_for_guest(spec, "ctr1", t->path, &g, NULL), 0);
    const json_t *m = json_array_get(json_object_get(g.spec, "mounts"), 7);
    assert_string_equal(json_string_value(json_object_get(m, "source")), "/dev/net/tun");
    assert_int_equal(g.n_mounts, 0);
}

/* It is what is there that counts, not what it is called. */
static void kernel_file_systems_are_known_anywhere(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *dir = tmpdir_path(t, "dir");
    if (mount("proc", dir, "proc", 0, NULL) < 0)
        skip(); /* no permission to mount here */
    struct change changes[CHANGES_MAX] = {
        {"mounts.+", "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"#/dir/sys\"}"}};
    cleanup_json json_t *spec = changed_spec(changes, t->path);
    struct oci_guest_spec g = {0};
    struct err e = ERR_INIT;
    int r = oci_spec_for_guest(spec, "ctr1", t->path, &g, &e);
    assert_int_equal(umount(dir), 0);
    assert_int_equal(r, -EOPNOTSUPP);
    assert_non_null(strstr(e.msg, "belongs to the host's kernel"));
}

static void there_is_a_bound(void **state) {
    struct tmpdir *t = *state;
    for (int over = 0; over < 2; over++) {
        cleanup_json json_t *spec = oci_spec_default();
        json_t *list = json_array();
        for (int i = 0; i < OCI_MOUNTS_MAX + over; i++)
            json_array_append_new(list, json_pack("{s:s, s:s}", "destination", "/t", "type", "tmpfs"));
        json_object_set_new(spec, "mounts", list);
        cleanup_guest_spec struct oci_guest_spec g = {0};
        struct err e = ERR_INIT;
        assert_int_equal(oci_spec_for_guest(spec, "ctr1", t->path, &g, &e), over ? -EINVAL : 0);
        if (over)
            assert_string_equal(e.msg, "mounts: more than 1024 elements");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        BUNDLE_TEST(refusals),
        BUNDLE_TEST(rules),
        BUNDLE_TEST(shares),
        BUNDLE_TEST(dev_shm_of_the_host_is_storage),
        BUNDLE_TEST(devices_are_known_by_their_numbers),
        BUNDLE_TEST(kernel_file_systems_are_known_anywhere),
        BUNDLE_TEST(there_is_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
