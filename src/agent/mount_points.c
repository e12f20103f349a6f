/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/mount_points.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/init.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "base/util.h"

#define DIR_MODE 01755 /* crun's */
#define FILE_MODE 0700 /* crun's */

struct maker {
    const char *share;
    const json_t *mounts;
    const char *root; /* path of the specification */
};

static const char *text(const json_t *obj, const char *key) {
    const char *s = json_string_value(json_object_get(obj, key));
    return s ? s : "";
}

static bool is_bind(const json_t *mount) {
    const json_t *options = json_object_get(mount, "options");
    bool bind = strcmp(text(mount, "type"), "bind") == 0;
    for (size_t i = 0; !bind && i < json_array_size(options); i++) {
        const char *s = json_string_value(json_array_get(options, i));
        bind = s && (strcmp(s, "bind") == 0 || strcmp(s, "rbind") == 0);
    }
    return bind;
}

/* Where a path of the share is here; NULL if it is none, or out of memory. */
static char *in_share(const struct maker *m, const char *path) {
    size_t n = strlen(INIT_SHARE_DIR);
    return strncmp(path, INIT_SHARE_DIR "/", n + 1) == 0 ? str_printf("%s%s", m->share, path + n) : NULL;
}

/* What of `path` is below `dir` ("" for the same); NULL: it is not. */
static const char *below(const char *path, const char *dir) {
    size_t n = strlen(dir);
    if (strcmp(dir, "/") == 0)
        return path + 1;
    if (strncmp(path, dir, n) != 0 || (path[n] && path[n] != '/'))
        return NULL;
    return path[n] ? path + n + 1 : path + n;
}

/* The source of what is mounted at `destination` when mount i is made there, and the rest of the path in it. NULL: not
 * of the share. */
static char *find_place(const struct maker *m, size_t i, const char *destination, const char **ret_rest) {
    while (i-- > 0) {
        const json_t *mount = json_array_get(m->mounts, i);
        const char *rest = below(destination, text(mount, "destination"));
        if (!rest)
            continue;
        *ret_rest = rest;
        return is_bind(mount) ? in_share(m, text(mount, "source")) : NULL;
    }
    *ret_rest = destination + 1;
    return in_share(m, m->root);
}

/* A bind of anything but a directory needs a file. */
static bool wants_file(const struct maker *m, const json_t *mount) {
    const char *source = text(mount, "source");
    cleanup_free char *here = in_share(m, source);
    struct stat st;
    return is_bind(mount) && stat(here ? here : source, &st) == 0 && !S_ISDIR(st.st_mode);
}

static int make(int place, const char *rest, bool file, struct err *err) {
    const char *slash = strrchr(rest, '/');
    cleanup_free char *dir = slash ? str_printf("%.*s", (int)(slash - rest), rest) : strdup(".");
    const char *name = slash ? slash + 1 : rest;
    if (!dir)
        return err_set(err, ENOMEM, "out of memory");
    cleanup_fd int parent = path_mkdirs_beneath(place, dir, DIR_MODE, err);
    if (parent < 0)
        return parent;
    cleanup_fd int fd =
        file ? openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE) : -1;
    if ((file ? fd : mkdirat(parent, name, DIR_MODE)) < 0)
        return err_errno(err, errno, "cannot make it");
    return 0;
}

static int make_one(const struct maker *m, size_t i, struct err *err) {
    const json_t *mount = json_array_get(m->mounts, i);
    const char *destination = text(mount, "destination"), *rest = NULL;
    struct err e = ERR_INIT;
    if (!path_is_normal(destination))
        return 0;
    cleanup_free char *source = find_place(m, i, destination, &rest);
    cleanup_fd int place = source && *rest ? open(source, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (place < 0)
        return 0;
    cleanup_fd int there = path_open_beneath(place, rest, O_PATH, 0, &e);
    if (there != -ENOENT)
        return 0; /* it is there, or not for us to make */
    int r = make(place, rest, wants_file(m, mount), &e);
    return r < 0 && r != -ELOOP ? err_set(err, -r, "mount point %s: %s", destination, e.msg) : 0;
}

int mount_points_make(const char *share, const char *spec, size_t len, struct err *err) {
    cleanup_json json_t *doc = NULL;
    int r = json_parse("config.json", spec, len, &doc, err);
    const struct maker m = {
        .share = share, .mounts = json_object_get(doc, "mounts"), .root = text(json_object_get(doc, "root"), "path")};
    for (size_t i = 0; r == 0 && i < json_array_size(m.mounts); i++)
        r = make_one(&m, i, err);
    return r;
}
