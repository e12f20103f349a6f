/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/checkpoint_import.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/overlay.h"
#include "base/path.h"
#include "cli/lookup.h"
#include "cli/reach.h"
#include "cli/signals.h"
#include "oci/archive_extract.h"
#include "oci/rootfs_diff.h"

struct checkpoint_import {
    char *path, *dir, *images;
    char *rootfs;
    int dirfd, bundle, root;
    struct archive_contents contents;
    char *deleted; /* text of the list; NULL: none */
    size_t deleted_len;
    struct rootfs_undo *undo; /* while changes can be taken back */
};

struct checkpoint_import *checkpoint_import_free(struct checkpoint_import *i) {
    struct err err = ERR_INIT;
    if (!i)
        return NULL;
    if (i->dir && path_remove_tree(AT_FDCWD, i->dir, &err) < 0)
        log_warn("%s", err.msg);
    rootfs_undo_free(i->undo);
    archive_contents_clear(&i->contents);
    fd_close(i->dirfd);
    fd_close(i->bundle);
    fd_close(i->root);
    free(i->path);
    free(i->dir);
    free(i->images);
    free(i->rootfs);
    free(i->deleted);
    free(i);
    return NULL;
}

static void log_notes(const char *what, const struct strv *notes) {
    for (size_t i = 0; i < notes->n; i++)
        log_warn("%s: %s", what, notes->v[i]);
}

static int open_dir(const char *path, struct err *err) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "cannot open directory %s", path) : fd;
}

static int import_new(const char *path, const char *rootfs, struct checkpoint_import **ret, struct err *err) {
    cleanup_checkpoint_import struct checkpoint_import *i = calloc(1, sizeof(*i));
    if (!i)
        return err_set(err, ENOMEM, "out of memory");
    i->dirfd = i->bundle = i->root = -1;
    i->path = strdup(path);
    i->rootfs = strdup(rootfs);
    if (!i->path || !i->rootfs)
        return err_set(err, ENOMEM, "out of memory");
    *ret = TAKE_PTR(i);
    return 0;
}

static int make_dir(struct checkpoint_import *i, struct err *err) {
    const char *tmp = getenv("TMPDIR");
    i->dir = str_printf("%s/stasis-import.XXXXXX", tmp && *tmp == '/' ? tmp : "/var/tmp");
    if (!i->dir)
        return err_set(err, ENOMEM, "out of memory");
    if (!mkdtemp(i->dir)) {
        int r = err_errno(err, errno, "cannot make a directory to unpack into (%s)", i->dir);
        free(TAKE_PTR(i->dir));
        return r;
    }
    i->images = path_join(i->dir, ARCHIVE_CHECKPOINT);
    if (!i->images)
        return err_set(err, ENOMEM, "out of memory");
    i->dirfd = open_dir(i->dir, err);
    return i->dirfd < 0 ? i->dirfd : 0;
}

static int open_diff(const struct checkpoint_import *i, struct err *err) {
    int fd = openat(i->dirfd, ARCHIVE_ROOTFS_DIFF, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "cannot open " ARCHIVE_ROOTFS_DIFF) : fd;
}

/* Reads all that is to be done to the root. */
static int check_changes(struct checkpoint_import *i, char **ret_privileged, struct err *err) {
    int r = 0;
    if (i->contents.has_deleted)
        r = file_read_at(i->dirfd, ARCHIVE_DELETED, JSON_TEXT_MAX, &i->deleted, &i->deleted_len, err);
    if (r == 0 && i->deleted)
        r = rootfs_diff_check_deleted(i->deleted, i->deleted_len, err);
    if (r < 0 || !i->contents.has_rootfs_diff)
        return r;
    cleanup_fd int diff = open_diff(i, err);
    return diff < 0 ? diff : rootfs_diff_check(diff, ret_privileged, err);
}

static bool has_changes(const struct checkpoint_import *i) {
    return i->contents.has_rootfs_diff || i->contents.has_deleted;
}

struct usage {
    struct stat root;
    char *by; /* id of a container; NULL: none so far */
};

static int look_for_use(const struct oci_container_state *c, void *userdata) {
    struct usage *u = userdata;
    struct stat st;
    if (u->by || !c->rootfs || strcmp(c->status, "stopped") == 0 || stat(c->rootfs, &st) < 0 ||
        st.st_dev != u->root.st_dev || st.st_ino != u->root.st_ino)
        return 0;
    u->by = strdup(c->id);
    return u->by ? 0 : -ENOMEM;
}

static int check_unused(const struct cli *cli, const struct checkpoint_import *i, struct err *err) {
    struct usage u = {0};
    if (fstat(i->root, &u.root) < 0)
        return err_errno(err, errno, "cannot look at %s", i->rootfs);
    int r = lookup_each(cli, look_for_use, &u, err);
    if (r == 0 && u.by)
        r = err_set(err, EBUSY, "container %s has %s as its root, which the archive would change", u.by, i->rootfs);
    free(u.by);
    return r;
}

/* A stranger's setuid file is only for where no other user can run it. */
static int check_reach(const struct checkpoint_import *i, const char *privileged, struct err *err) {
    cleanup_overlay struct overlay o = {0};
    int r = overlay_find(i->rootfs, &o, err);
    if (r < 0)
        return r;
    const char *const places[] = {i->rootfs, o.upper};
    for (size_t n = 0; n < ARRAY_SIZE(places); n++) {
        r = places[n] ? reach_by_others(places[n], err) : 0;
        if (r > 0)
            return err_set(
                err, EPERM,
                "it has a setuid, setgid or privileged file, /%s, and all users of this host could run it in "
                "%s: take their right to enter a directory above away first (chmod 700)",
                privileged, places[n]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_root(const struct cli *cli, struct checkpoint_import *i, struct err *err) {
    cleanup_free char *privileged = NULL;
    int r = check_changes(i, &privileged, err);
    if (r < 0)
        return r;
    r = check_unused(cli, i, err);
    return r == 0 && privileged ? check_reach(i, privileged, err) : r;
}

static int unpack(const struct cli *cli, struct checkpoint_import *i, const char *bundle, struct err *err) {
    const struct archive_extract_options options = {.stop = signals_end_pending};
    int r = make_dir(i, err);
    if (r == 0)
        r = archive_extract(i->path, i->dirfd, &options, &i->contents, err);
    if (r < 0)
        return r;
    log_notes(i->path, &i->contents.notes);
    i->root = open_dir(i->rootfs, err);
    i->bundle = i->root < 0 ? i->root : open_dir(bundle, err);
    if (i->bundle < 0)
        return i->bundle;
    return has_changes(i) ? check_root(cli, i, err) : 0;
}

int checkpoint_import_open(const struct cli *cli, const char *path, const char *bundle, const char *rootfs,
                           struct checkpoint_import **ret, struct err *err) {
    cleanup_checkpoint_import struct checkpoint_import *i = NULL;
    int r = import_new(path, rootfs, &i, err);
    if (r == 0)
        r = unpack(cli, i, bundle, err);
    if (r < 0)
        return err_wrap(err, "cannot import %s", path);
    *ret = TAKE_PTR(i);
    return 0;
}

const char *checkpoint_import_images(const struct checkpoint_import *i) {
    return i->images;
}

/* What a restore that was killed has left of its changes. */
static int recover(const struct checkpoint_import *i, struct err *err) {
    int r = rootfs_undo_recover(i->bundle, i->root, err);
    if (r == 2)
        log_warn("%s: a restore was killed while it changed another root that was here before: that is what it is now",
                 i->rootfs);
    else if (r > 0)
        log_warn("%s: a restore was killed while it changed it; that is taken back", i->rootfs);
    return r < 0 ? r : 0;
}

static int apply(struct checkpoint_import *i, struct err *err) {
    cleanup_strv struct strv notes = {0};
    int r = recover(i, err);
    if (r == 0 && has_changes(i))
        r = rootfs_undo_begin(i->bundle, i->root, &i->undo, err);
    /* First, as Podman lists a directory that was replaced as deleted, though it is there, and has files in the tar. */
    if (r == 0 && i->deleted)
        r = rootfs_diff_delete(i->deleted, i->deleted_len, i->root, i->undo, err);
    if (r == 0 && i->contents.has_rootfs_diff) {
        cleanup_fd int diff = open_diff(i, err);
        r = diff < 0 ? diff : rootfs_diff_apply(diff, i->root, i->undo, &notes, err);
    }
    log_notes("root file system", &notes);
    return r;
}

int checkpoint_import_apply(struct checkpoint_import *i, struct err *err) {
    int r = apply(i, err);
    return r < 0 ? err_wrap(err, "cannot import %s: cannot bring the root file system %s up to the checkpoint", i->path,
                            i->rootfs)
                 : 0;
}

void checkpoint_import_keep(struct checkpoint_import *i) {
    struct err err = ERR_INIT;
    if (i->undo && rootfs_undo_keep(i->undo, &err) < 0)
        log_warn("%s: cannot remove what the checkpoint has replaced: %s", i->rootfs, err.msg);
    i->undo = rootfs_undo_free(i->undo);
}

int checkpoint_import_undo(struct checkpoint_import *i, struct err *err) {
    int r = i->undo ? rootfs_undo_back(i->undo, err) : 0;
    i->undo = rootfs_undo_free(i->undo);
    return r < 0 ? err_wrap(err, "%s is not what it was before", i->rootfs) : 0;
}
