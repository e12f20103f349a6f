/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/network.h"

#include <string.h>

#include "base/netns.h"
#include "base/util.h"

static const char *path_in_spec(const json_t *spec, size_t *ret_index) {
    const json_t *list = json_object_get(json_object_get(spec, "linux"), "namespaces");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *n = json_array_get(list, i);
        const char *type = json_string_value(json_object_get(n, "type"));
        const char *path = json_string_value(json_object_get(n, "path"));
        *ret_index = i;
        if (type && strcmp(type, "network") == 0)
            return path && *path ? path : NULL;
    }
    return NULL;
}

int oci_network_missing(const json_t *spec, pid_t pid, char **ret, struct err *err) {
    size_t index = 0;
    char own[40];
    cleanup_free char *names = NULL;
    const char *path = path_in_spec(spec, &index);
    if (!path && pid <= 0)
        return 0;
    snprintf(own, sizeof(own), "/proc/%d/ns/net", (int)pid);
    int r = netns_interfaces(path ? path : own, !path, &names, err);
    if (r == -ENOENT && !path) /* the process has ended: there is nothing that it could miss */
        return 0;
    if (path && (r == -EACCES || r == -EPERM)) { /* another's process, where we may not look: it may have interfaces */
        *ret = str_printf("the network namespace %s, into which we may not look, is not joined: the container has "
                          "loopback only",
                          path);
        return *ret ? 1 : err_set(err, ENOMEM, "out of memory");
    }
    if (r < 0)
        return path ? err_wrap(err, "linux.namespaces[%zu].path", index) : r;
    if (!*names)
        return 0;
    *ret = str_printf("the network namespace %s has %s, which the container does not get: it has loopback only",
                      path ? path : own, names);
    return *ret ? 1 : err_set(err, ENOMEM, "out of memory");
}
