/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/checkpoint_archive.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/overlay.h"
#include "base/path.h"
#include "oci/archive_config.h"
#include "oci/archive_create.h"
#include "oci/rootfs_diff.h"

static void remove_dir(const char *dir) {
    struct err err = ERR_INIT;
    if (dir && path_remove_tree(AT_FDCWD, dir, &err) < 0)
        log_warn("%s", err.msg);
}

static int open_dir(const char *path, struct err *err) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "cannot open directory %s", path) : fd;
}

static void log_notes(const char *what, const struct strv *notes) {
    for (size_t i = 0; i < notes->n; i++)
        log_warn("%s: %s", what, notes->v[i]);
}

/* Export. */

struct checkpoint_archive {
    char *path, *dir, *images;
    enum archive_compression compression;
};

int checkpoint_archive_begin(const char *path, struct checkpoint_archive **ret, struct err *err) {
    struct checkpoint_archive *a = calloc(1, sizeof(*a));
    if (!a)
        return err_set(err, ENOMEM, "out of memory");
    const char *slash = strrchr(path, '/');
    struct stat st;
    int r = archive_compression_of(path, &a->compression, err);
    if (r == 0 && lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
        r = err_set(err, EEXIST, "--export %s: it is there and is no regular file", path);
    a->path = strdup(path);
    a->dir = str_printf("%.*s.stasis-export.XXXXXX", slash ? (int)(slash + 1 - path) : 0, path);
    if (r == 0 && (!a->path || !a->dir))
        r = err_set(err, ENOMEM, "out of memory");
    if (r == 0 && a->dir && !mkdtemp(a->dir)) {
        r = err_errno(err, errno, "--export %s: cannot make a directory beside it", path);
        free(TAKE_PTR(a->dir));
    }
    if (r == 0) {
        a->images = path_join(a->dir, "images");
        if (!a->images)
            r = err_set(err, ENOMEM, "out of memory");
    }
    if (r < 0) {
        checkpoint_archive_free(a);
        return r;
    }
    *ret = a;
    return 0;
}

const char *checkpoint_archive_images(const struct checkpoint_archive *a) {
    return a->images;
}

struct checkpoint_archive *checkpoint_archive_free(struct checkpoint_archive *a) {
    if (!a)
        return NULL;
    remove_dir(a->dir);
    free(a->path);
    free(a->dir);
    free(a->images);
    free(a);
    return NULL;
}

/* All lower directories as one; -1 if they are not to be had: then only the names of what was deleted below a directory
 * that was replaced are missing. */
static int open_lower(const struct checkpoint_archive *a, const struct overlay *o, const char *rootfs, bool quiet) {
    struct err why = ERR_INIT;
    cleanup_free char *dir = path_join(a->dir, "lower");
    int fd = !dir                                      ? err_set(&why, ENOMEM, "out of memory")
             : mkdir(dir, 0700) < 0 && errno != EEXIST ? err_errno(&why, errno, "cannot make %s", dir)
                                                       : overlay_open_lower(o, dir, &why);
    if (fd >= 0 || quiet)
        return fd;
    log_warn("the overlay %s: %s: what was deleted in directories that were replaced is marked as in layers of images; "
             "Podman and CRI-O do not understand that",
             rootfs, why.msg);
    return -1;
}

/* Opens what the difference is made of. 0: the root is no overlay. */
static int open_source(const struct checkpoint_archive *a, const char *rootfs, bool quiet,
                       struct rootfs_diff_source *ret, struct err *err) {
    cleanup_overlay struct overlay o = {0};
    int r = overlay_find(rootfs, &o, err);
    if (r < 0 || !o.upper)
        return r;
    ret->upper_fd = open_dir(o.upper, err);
    if (ret->upper_fd < 0)
        return ret->upper_fd;
    ret->lower_fd = open_lower(a, &o, rootfs, quiet);
    return 1;
}

static void close_source(struct rootfs_diff_source *src) {
    fd_close(src->upper_fd);
    fd_close(src->lower_fd);
}

static int add_rootfs_diff(const struct checkpoint_archive *a, struct archive_writer *w, const char *rootfs,
                           struct err *err) {
    struct rootfs_diff_source src = {.upper_fd = -1, .lower_fd = -1};
    cleanup_strv struct strv notes = {0};
    int r = open_source(a, rootfs, false, &src, err);
    if (r == 0)
        log_warn(
            "the container's root %s is no overlay: what it changed there is not in the archive, restore it with the "
            "same root",
            rootfs);
    else if (r > 0)
        r = archive_add_rootfs_diff(w, &src, &notes, err);
    close_source(&src);
    log_notes("root file system", &notes);
    return r;
}

/* The texts of config.dump and spec.dump; malloc'd. */
static int make_config(const struct oci_container_state *c, const char *image, char **ret_config, char **ret_spec,
                       struct err *err) {
    cleanup_archive_config struct archive_config config = {
        .id = strdup(c->id),
        .runtime = strdup("stasis"),
        .rootfs_image_name = image ? strdup(image) : NULL,
        .created_wall_usec = c->created_wall_usec,
        .checkpointed_wall_usec = now_wall_usec(),
    };
    cleanup_json json_t *spec = NULL;
    cleanup_free char *path = path_join(c->bundle, "config.json");
    cleanup_free char *spec_text = NULL, *dump = NULL;
    size_t len;
    if (!path || !config.id || !config.runtime || (image && !config.rootfs_image_name))
        return err_set(err, ENOMEM, "out of memory");
    int r = file_read_at(AT_FDCWD, path, JSON_TEXT_MAX, &spec_text, &len, err);
    if (r == 0)
        r = json_parse(path, spec_text, len, &spec, err);
    if (r == 0)
        r = archive_config_from_spec(spec, &config, err);
    if (r == 0 && !config.name && !(config.name = strdup(c->id)))
        r = err_set(err, ENOMEM, "out of memory");
    if (r == 0 && config.rootfs_image_name && !config.rootfs_image_id &&
        !(config.rootfs_image_id = strdup(config.rootfs_image_name)))
        r = err_set(err, ENOMEM, "out of memory");
    if (r == 0)
        r = archive_spec_annotate(spec_text, config.name, &dump, err);
    if (r < 0)
        return r;
    cleanup_free char *text = archive_config_text(&config);
    if (!text || !dump)
        return err_set(err, ENOMEM, "out of memory");
    *ret_config = TAKE_PTR(text);
    *ret_spec = TAKE_PTR(dump);
    return 0;
}

static int add_config(struct archive_writer *w, const struct oci_container_state *c, const char *image,
                      struct err *err) {
    cleanup_free char *config = NULL, *spec = NULL;
    int r = make_config(c, image, &config, &spec, err);
    if (r == 0)
        r = archive_add_text(w, ARCHIVE_CONFIG, config, strlen(config), err);
    return r < 0 ? r : archive_add_text(w, ARCHIVE_SPEC, spec, strlen(spec), err);
}

/* A log that is not there is no failure. */
static int add_log(struct archive_writer *w, int work, const char *name, struct err *err) {
    struct err e = ERR_INIT;
    int r = archive_add_file(w, name, work, name, &e);
    return r < 0 && r != -ENOENT ? err_copy(err, &e) : 0;
}

static int drop_bytes(void *userdata, const void *data, size_t len, struct err *err) {
    (void)userdata;
    (void)data;
    (void)len;
    (void)err;
    return 0;
}

/* As it will be read for the archive, but for the contents of files. */
static int check_rootfs_diff(const struct checkpoint_archive *a, const char *rootfs, struct err *err) {
    struct rootfs_diff_source src = {.upper_fd = -1, .lower_fd = -1};
    cleanup_strv struct strv deleted = {0};
    cleanup_free char *json = NULL;
    int r = open_source(a, rootfs, true, &src, err);
    if (r > 0)
        r = rootfs_diff_write(&src, true, drop_bytes, NULL, &deleted, NULL, err);
    if (r == 0)
        r = rootfs_diff_deleted_json(&deleted, &json, err);
    close_source(&src);
    return r;
}

int checkpoint_archive_check(const struct checkpoint_archive *a, const struct oci_container_state *c, const char *image,
                             struct err *err) {
    cleanup_free char *config = NULL, *spec = NULL;
    int r = make_config(c, image, &config, &spec, err);
    if (r == 0)
        r = check_rootfs_diff(a, c->rootfs, err);
    return r < 0 ? err_wrap(err, "cannot export the checkpoint to %s", a->path) : 0;
}

int checkpoint_archive_finish(struct checkpoint_archive *a, const struct oci_container_state *c, const char *image,
                              const char *work, struct err *err) {
    cleanup_archive_writer struct archive_writer *w = NULL;
    cleanup_fd int images = open_dir(a->images, err);
    cleanup_fd int logs = images < 0 ? images : open_dir(work, err);
    if (logs < 0)
        return logs;
    int r = archive_create(a->path, a->compression, &w, err);
    if (r == 0)
        r = add_config(w, c, image, err);
    if (r == 0)
        r = archive_add_checkpoint(w, images, err);
    if (r == 0)
        r = add_log(w, logs, ARCHIVE_STATS, err);
    if (r == 0)
        r = add_log(w, logs, ARCHIVE_LOG, err);
    if (r == 0)
        r = add_rootfs_diff(a, w, c->rootfs, err);
    if (r == 0)
        r = archive_finish(w, err);
    return r < 0 ? err_wrap(err, "cannot export the checkpoint to %s", a->path) : 0;
}
