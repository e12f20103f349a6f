/* SPDX-License-Identifier: Apache-2.0 */
/* `stasis spec`: the configuration that `runc spec` writes, in its order. */
#include "oci/spec.h"

static json_t *default_process(void) {
    json_t *caps = json_object();
    static const char *const sets[] = {"bounding", "effective", "permitted", "ambient"};
    for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
        json_object_set_new(caps, sets[i], json_pack("[sss]", "CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"));
    return json_pack("{s:b, s:{s:i, s:i}, s:[s], s:[ss], s:s, s:o, s:[{s:s, s:i, s:i}], s:b}", "terminal", 1, "user",
                     "uid", 0, "gid", 0, "args", "sh", "env",
                     "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", "cwd", "/",
                     "capabilities", caps, "rlimits", "type", "RLIMIT_NOFILE", "hard", 1024, "soft", 1024,
                     "noNewPrivileges", 1);
}

static json_t *default_mounts(void) {
    static const struct {
        const char *destination, *type, *source;
        const char *options[8];
    } mounts[] = {
        {"/proc", "proc", "proc", {NULL}},
        {"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}},
        {"/dev/pts", "devpts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
        {"/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
        {"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}},
        {"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}},
        {"/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}},
    };
    json_t *list = json_array();
    for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
        json_t *m = json_pack("{s:s, s:s, s:s}", "destination", mounts[i].destination, "type", mounts[i].type, "source",
                              mounts[i].source);
        json_t *options = mounts[i].options[0] ? json_array() : NULL;
        for (size_t k = 0; options && mounts[i].options[k]; k++)
            json_array_append_new(options, json_string(mounts[i].options[k]));
        if (options)
            json_object_set_new(m, "options", options);
        json_array_append_new(list, m);
    }
    return list;
}

static json_t *default_linux(void) {
    json_t *namespaces = json_pack("[{s:s}, {s:s}, {s:s}, {s:s}, {s:s}]", "type", "pid", "type", "network", "type",
                                   "ipc", "type", "uts", "type", "mount");
    json_t *masked =
        json_pack("[ssssssssss]", "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                  "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi");
    json_t *readonly = json_pack("[sssss]", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger");
    return json_pack("{s:{s:[{s:b, s:s}]}, s:o, s:o, s:o}", "resources", "devices", "allow", 0, "access", "rwm",
                     "namespaces", namespaces, "maskedPaths", masked, "readonlyPaths", readonly);
}

/* Out of memory anywhere shows as a NULL that jansson hands on to the last call. */
json_t *oci_spec_default(void) {
    return json_pack("{s:s, s:o, s:{s:s, s:b}, s:s, s:o, s:o}", "ociVersion", OCI_VERSION, "process", default_process(),
                     "root", "path", "rootfs", "readonly", 1, "hostname", "stasis", "mounts", default_mounts(), "linux",
                     default_linux());
}
