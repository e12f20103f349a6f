/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/mount_paths.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"

/* A path on its way to one without links. */
struct walk {
    char done[PATH_MAX]; /* "" is the root */
    char rest[PATH_MAX];
};

static bool is_bind(const json_t *mount) {
    const char *type = json_string_value(json_object_get(mount, "type"));
    const json_t *options = json_object_get(mount, "options");
    if (type && strcmp(type, "bind") == 0)
        return true;
    for (size_t i = 0; i < json_array_size(options); i++) {
        const char *o = json_string_value(json_array_get(options, i));
        if (o && (strcmp(o, "bind") == 0 || strcmp(o, "rbind") == 0))
            return true;
    }
    return false;
}

/* Whether one of the paths, which may be NULL, is this one. */
static bool is_mounted(char *const *mounted, size_t n, const char *path) {
    for (size_t i = 0; i < n; i++)
        if (mounted[i] && strcmp(mounted[i], path) == 0)
            return true;
    return false;
}

/* The next name of the rest; "" at its end. */
static void take_name(struct walk *w, char name[NAME_MAX + 1]) {
    const char *p = w->rest + strspn(w->rest, "/");
    size_t len = strcspn(p, "/");
    snprintf(name, NAME_MAX + 1, "%.*s", (int)MIN(len, (size_t)NAME_MAX), p);
    memmove(w->rest, p + len, strlen(p + len) + 1);
}

static void go_up(struct walk *w) {
    char *slash = strrchr(w->done, '/');
    if (slash)
        *slash = '\0';
}

static int go_down(struct walk *w, const char *name) {
    size_t len = strlen(w->done);
    return (size_t)snprintf(w->done + len, sizeof(w->done) - len, "/%s", name) < sizeof(w->done) - len ? 0
                                                                                                       : -ENAMETOOLONG;
}

/* If w->done is a link: its text goes before the rest, and w->done to where that counts from. */
static int follow(int root, struct walk *w, unsigned *links) {
    char text[PATH_MAX], rest[PATH_MAX];
    ssize_t n = readlinkat(root, w->done + 1, text, sizeof(text) - 1);
    if (n < 0)
        return 0; /* no link, or nothing there, or not for us to say */
    text[n] = '\0';
    if (++*links > MOUNT_PATHS_LINKS_MAX)
        return -ELOOP;
    memcpy(rest, w->rest, strlen(w->rest) + 1);
    if ((size_t)snprintf(w->rest, sizeof(w->rest), "%s%s", text, rest) >= sizeof(w->rest))
        return -ENAMETOOLONG;
    go_up(w);
    if (text[0] == '/')
        w->done[0] = '\0';
    return 0;
}

/* To w->done, from w->rest. */
static int resolve(int root, struct walk *w, char *const *mounted, size_t n) {
    char name[NAME_MAX + 1];
    unsigned links = 0;
    int r = 0;
    for (take_name(w, name); r == 0 && name[0]; take_name(w, name)) {
        if (strcmp(name, ".") == 0)
            continue;
        if (strcmp(name, "..") == 0) {
            go_up(w);
            continue;
        }
        r = go_down(w, name);
        if (r == 0 && is_mounted(mounted, n, w->done)) {
            size_t at = strlen(w->done), room = sizeof(w->done) - at;
            return (size_t)snprintf(w->done + at, room, "%s", w->rest) < room ? 0 : -ENAMETOOLONG;
        }
        if (r == 0)
            r = follow(root, w, &links);
    }
    return r;
}

static int resolve_all(int root, const json_t *mounts, char **mounted, bool *changed, struct err *err) {
    for (size_t i = 0; i < json_array_size(mounts); i++) {
        json_t *mount = json_array_get(mounts, i);
        const char *to = json_string_value(json_object_get(mount, "destination"));
        struct walk w = {.done = ""};
        if (!to || to[0] != '/' || strlen(to) >= sizeof(w.rest))
            continue;
        memcpy(w.rest, to, strlen(to) + 1);
        if (resolve(root, &w, mounted, i) < 0 || !w.done[0])
            continue;
        mounted[i] = strdup(w.done);
        if (!mounted[i])
            return err_set(err, ENOMEM, "out of memory");
        if (!is_bind(mount) || strcmp(w.done, to) == 0)
            continue;
        if (json_object_set_new(mount, "destination", json_string(w.done)) < 0)
            return err_set(err, ENOMEM, "out of memory");
        *changed = true;
    }
    return 0;
}

static bool has_bind(const json_t *mounts) {
    for (size_t i = 0; i < json_array_size(mounts); i++)
        if (is_bind(json_array_get(mounts, i)))
            return true;
    return false;
}

int mount_paths_resolve(json_t *spec, bool *ret_changed, struct err *err) {
    const json_t *mounts = json_object_get(spec, "mounts");
    const char *path = json_string_value(json_object_get(json_object_get(spec, "root"), "path"));
    size_t n = json_array_size(mounts);
    *ret_changed = false;
    if (!path || !has_bind(mounts))
        return 0;
    cleanup_fd int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return 0; /* crun says so */
    char **mounted = calloc(n, sizeof(*mounted));
    if (!mounted)
        return err_set(err, ENOMEM, "out of memory");
    int r = resolve_all(root, mounts, mounted, ret_changed, err);
    for (size_t i = 0; i < n; i++)
        free(mounted[i]);
    free(mounted);
    return r;
}
