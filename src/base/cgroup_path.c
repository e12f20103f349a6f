/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cgroup_path.h"

#include <limits.h>
#include <string.h>

#define SLICE_SUFFIX ".slice"
#define DEFAULT_SLICE "system.slice"
#define ROOT_SLICE "-.slice"

static int add(struct strv *names, const char *name, size_t len, const char *path, struct err *err) {
    if ((len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
        return err_set(err, EINVAL, "cgroup path \"%s\": . and .. are not allowed", path);
    if (len > NAME_MAX)
        return err_set(err, ENAMETOOLONG, "cgroup path \"%.256s…\": a name is longer than %d bytes", path, NAME_MAX);
    if (names->n == CGROUP_DEPTH_MAX)
        return err_set(err, ENAMETOOLONG, "cgroup path \"%.256s…\": deeper than %d", path, CGROUP_DEPTH_MAX);
    return strv_addf(names, "%.*s", (int)len, name) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

static int split_plain(const char *path, struct strv *names, struct err *err) {
    for (const char *p = path; *p;) {
        size_t len = strcspn(p, "/");
        int r = len ? add(names, p, len, path, err) : 0;
        if (r < 0)
            return r;
        p += len + (p[len] == '/');
    }
    return names->n ? 0 : err_set(err, EINVAL, "cgroup path \"%s\": it names the root", path);
}

/* "a-b-c.slice" is a.slice/a-b.slice/a-b-c.slice. */
static int split_slice(const char *slice, const char *path, struct strv *names, struct err *err) {
    size_t len = strlen(slice), suffix = strlen(SLICE_SUFFIX);
    if (strcmp(slice, ROOT_SLICE) == 0)
        return 0;
    if (len <= suffix || strcmp(slice + len - suffix, SLICE_SUFFIX) != 0 || strchr(slice, '/'))
        return err_set(err, EINVAL, "cgroup path \"%s\": \"%s\" is no slice", path, slice);
    len -= suffix;
    if (len + suffix > NAME_MAX)
        return err_set(err, ENAMETOOLONG, "cgroup path \"%.256s…\": a name is longer than %d bytes", path, NAME_MAX);
    for (size_t i = 0; i <= len; i++) {
        if (i < len && slice[i] != '-')
            continue;
        if (i == 0 || slice[i - 1] == '-')
            return err_set(err, EINVAL, "cgroup path \"%s\": the slice \"%s\" has an empty part", path, slice);
        char name[NAME_MAX + 1];
        int n = snprintf(name, sizeof(name), "%.*s%s", (int)i, slice, SLICE_SUFFIX);
        int r = add(names, name, (size_t)n, path, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int split_systemd(const char *path, struct strv *names, struct err *err) {
    cleanup_free char *copy = strdup(path);
    if (!copy)
        return err_set(err, ENOMEM, "out of memory");
    char *rest = copy, *slice = strsep(&rest, ":"), *prefix = strsep(&rest, ":"), *name = rest;
    if (!*name || strchr(name, '/') || strchr(prefix, '/'))
        return err_set(err, EINVAL, "cgroup path \"%s\": \"%s\" and \"%s\" make no scope", path, prefix, name);
    int r = split_slice(*slice ? slice : DEFAULT_SLICE, path, names, err);
    if (r < 0)
        return r;
    cleanup_free char *scope = str_printf("%s%s%s.scope", prefix, *prefix ? "-" : "", name);
    return scope ? add(names, scope, strlen(scope), path, err) : err_set(err, ENOMEM, "out of memory");
}

int cgroup_path_split(const char *cgroups_path, struct strv *ret, struct err *err) {
    size_t len = strlen(cgroups_path), total = 0, colons = 0;
    if (len > CGROUP_PATH_MAX)
        return err_set(err, ENAMETOOLONG, "cgroup path \"%.256s…\": longer than %d bytes", cgroups_path,
                       CGROUP_PATH_MAX);
    for (const char *p = cgroups_path; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return err_set(err, EINVAL, "cgroup path: it has a control character at byte %td", p - cgroups_path);
        colons += *p == ':';
    }
    bool systemd = colons == 2 && cgroups_path[0] != '/';
    int r = systemd ? split_systemd(cgroups_path, ret, err) : split_plain(cgroups_path, ret, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < ret->n; i++)
        total += strlen(ret->v[i]) + 1;
    if (total > CGROUP_PATH_MAX)
        return err_set(err, ENAMETOOLONG, "cgroup path \"%.256s…\": it stands for more than %d bytes", cgroups_path,
                       CGROUP_PATH_MAX);
    return 0;
}
