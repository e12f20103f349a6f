/* SPDX-License-Identifier: Apache-2.0 */
/* `stasis features` (runtime-spec features.md, features-linux.md): what oci_spec_for_guest() honours. */
#include "oci/rewrite.h"

static json_t *string_list(const char *const *list) {
    json_t *out = json_array();
    for (; *list; list++)
        json_array_append_new(out, json_string(*list));
    return out;
}

static json_t *mount_options(void) {
    json_t *out = json_array();
    const char *name;
    for (size_t i = 0; (name = oci_mount_option_name(i)); i++)
        json_array_append_new(out, json_string(name));
    return out;
}

/* The guest's libseccomp; SCMP_ACT_NOTIFY would need a listener there. */
static json_t *seccomp_features(void) {
    static const char *const actions[] = {"SCMP_ACT_ALLOW",        "SCMP_ACT_ERRNO",       "SCMP_ACT_KILL",
                                          "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG",
                                          "SCMP_ACT_TRACE",        "SCMP_ACT_TRAP",        NULL};
    static const char *const operators[] = {"SCMP_CMP_EQ", "SCMP_CMP_GE",        "SCMP_CMP_GT", "SCMP_CMP_LE",
                                            "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE", NULL};
    static const char *const archs[] = {"SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64", NULL};
    static const char *const flags[] = {"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                                        "SECCOMP_FILTER_FLAG_TSYNC", NULL};
    return json_pack("{s:b, s:o, s:o, s:o, s:o, s:o}", "enabled", 1, "actions", string_list(actions), "operators",
                     string_list(operators), "archs", string_list(archs), "knownFlags", string_list(flags),
                     "supportedFlags", string_list(flags));
}

static json_t *linux_features(void) {
    return json_pack("{s:o, s:o, s:{s:b, s:b, s:b, s:b, s:b}, s:o, s:{s:b}, s:{s:b}, s:{s:b}, s:{s:{s:b}}}",
                     "namespaces", string_list(oci_namespace_names), "capabilities", string_list(oci_capability_names),
                     "cgroup", "v1", 0, "v2", 1, "systemd", 0, "systemdUser", 0, "rdma", 0, "seccomp",
                     seccomp_features(), "apparmor", "enabled", 0, "selinux", "enabled", 0, "intelRdt", "enabled", 0,
                     "mountExtensions", "idmap", "enabled", 0);
}

json_t *oci_features(void) {
    static const char *const hooks[] = {"prestart", "createRuntime", "startContainer", "poststart", "poststop", NULL};
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:{s:s}, s:[]}", "ociVersionMin", "1.0.0", "ociVersionMax", OCI_VERSION,
                     "hooks", string_list(hooks), "mountOptions", mount_options(), "linux", linux_features(),
                     "annotations", "stasis.version", STASIS_VERSION, "potentiallyUnsafeConfigAnnotations");
}
