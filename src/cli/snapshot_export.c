/* SPDX-License-Identifier: Apache-2.0 */
/* The snapshot's side of an export; the trees are snapshot_pack.c's. */
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "cli/snapshot_archive.h"
#include "cli/snapshot_pack.h"

#define FILES_WANTED (2 * TREE_DEPTH_MAX + 256)
#define MOUNT_OPTIONS_MAX 4000 /* the kernel takes a page */

void snapshot_archive_raise_limits(void) {
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < FILES_WANTED) {
        l.rlim_cur = MIN(l.rlim_max, (rlim_t)FILES_WANTED);
        (void)setrlimit(RLIMIT_NOFILE, &l); /* then a very deep tree is refused */
    }
}

/* Where a directory of ours may be made for a moment. */
static char *tmp_template(const char *what) {
    const char *tmp = getenv("TMPDIR");
    return str_printf("%s/stasis-%s.XXXXXX", tmp && *tmp == '/' ? tmp : "/var/tmp", what);
}

/* "lowerdir=…" of the upper directory and those below it, each by its fd, which keeps the text short. */
static int overlay_options(const struct manifest_root *root, int upper, int *fds, char **ret, struct err *err) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", upper);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_errno(err, errno, "cannot get a mount namespace");
    /* An overlay takes only directories of its own namespace: what was opened before is opened again. */
    fds[root->lowers.n] = realpath(link, path) ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fds[root->lowers.n] < 0)
        return err_errno(err, errno, "cannot open its copy");
    cleanup_free char *options = str_printf("lowerdir=/proc/self/fd/%d", fds[root->lowers.n]);
    for (size_t i = 0; options && i < root->lowers.n; i++) {
        fds[i] = open(root->lowers.v[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fds[i] < 0)
            return err_errno(err, errno, "cannot open its lower directory %s", root->lowers.v[i]);
        char *longer = str_printf("%s:/proc/self/fd/%d", options, fds[i]);
        free(options);
        options = longer;
    }
    if (!options)
        return err_set(err, ENOMEM, "out of memory");
    if (strlen(options) > MOUNT_OPTIONS_MAX)
        return err_set(err, E2BIG, "%zu lower directories are too many for one mount", root->lowers.n);
    *ret = TAKE_PTR(options);
    return 0;
}

/* The mount is seen by nobody else, and goes with its fd. */
static int mount_overlay(const char *options, struct err *err) {
    cleanup_free char *dir = tmp_template("export");
    if (!dir)
        return err_set(err, ENOMEM, "out of memory");
    if (!mkdtemp(dir))
        return err_errno(err, errno, "cannot make a directory (%s)", dir);
    int fd = -1, r = 0;
    if (mount("overlay", dir, "overlay", MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC, options) < 0)
        r = err_errno(err, errno, "cannot mount its directories over each other");
    else if ((fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        r = err_errno(err, errno, "cannot open %s", dir);
    (void)umount2(dir, MNT_DETACH);
    (void)rmdir(dir);
    return r < 0 ? r : fd;
}

/* The whole root of container n: its copy, or the upper directory over its lower ones. */
static int open_root(const struct snapshot *s, size_t n, struct err *err) {
    const struct manifest_root *root = &s->manifest.containers[n].root;
    char name[64];
    snprintf(name, sizeof(name), MANIFEST_ROOTS "/%zu", n);
    cleanup_fd int fd = path_open_beneath(s->fd, name, O_RDONLY | O_DIRECTORY, 0, err);
    if (fd < 0 || root->lowers.n == 0)
        return fd < 0 ? fd : TAKE_FD(fd);
    cleanup_free char *options = NULL;
    cleanup_free int *fds = malloc((root->lowers.n + 1) * sizeof(*fds));
    if (!fds)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i <= root->lowers.n; i++)
        fds[i] = -1;
    int r = overlay_options(root, fd, fds, &options, err);
    if (r == 0)
        r = mount_overlay(options, err);
    for (size_t i = 0; i <= root->lowers.n; i++)
        fd_close(fds[i]);
    return r < 0 ? err_wrap(err, "the root of container %s", s->manifest.containers[n].id) : r;
}

/* The manifest says what the archive holds: whole roots. Its text is made in a directory of ours. */
static int put_manifest(struct snapshot *s, bool changed, struct archive_writer *w, struct err *err) {
    cleanup_free char *text = NULL, *dir = changed ? tmp_template("export") : NULL;
    size_t len = 0;
    if (!changed) {
        int r = file_read_at(s->fd, MANIFEST_FILE, MANIFEST_MAX, &text, &len, err);
        return r < 0 ? r : archive_add_text(w, MANIFEST_FILE, text, len, err);
    }
    if (!dir)
        return err_set(err, ENOMEM, "out of memory");
    if (!mkdtemp(dir))
        return err_errno(err, errno, "cannot make a directory (%s)", dir);
    cleanup_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 ? err_errno(err, errno, "cannot open %s", dir) : manifest_write(fd, &s->manifest, err);
    if (r == 0)
        r = file_read_at(fd, MANIFEST_FILE, MANIFEST_MAX, &text, &len, err);
    (void)path_remove_tree(AT_FDCWD, dir, NULL);
    return r < 0 ? r : archive_add_text(w, MANIFEST_FILE, text, len, err);
}

int snapshot_export(struct snapshot *s, struct archive_writer *w, struct err *err) {
    struct manifest *m = &s->manifest;
    bool changed = false;
    int r = 0;
    cleanup_free int *roots = malloc((m->n_containers + 1) * sizeof(*roots));
    if (!roots)
        return err_set(err, ENOMEM, "out of memory");
    snapshot_archive_raise_limits();
    size_t n = 0;
    for (; r >= 0 && n < m->n_containers; n++) {
        struct manifest_root *root = &m->containers[n].root;
        r = roots[n] = open_root(s, n, err);
        if (r < 0 || root->lowers.n == 0)
            continue;
        changed = true;
        strv_clear(&root->lowers);
        r = tree_digest(roots[n], &root->totals, err);
    }
    if (r >= 0)
        r = put_manifest(s, changed, w, err);
    if (r == 0)
        r = archive_add_file(w, MANIFEST_DEVICE, s->fd, MANIFEST_DEVICE, err);
    if (r == 0)
        r = archive_add_file(w, MANIFEST_MEMORY, s->fd, MANIFEST_MEMORY, err);
    if (r == 0 && memory_image_shared(m->memory))
        r = archive_add_file(w, MANIFEST_BASE, s->fd, MANIFEST_BASE, err);
    for (size_t i = 0; r == 0 && i < n; i++) {
        char name[64];
        snprintf(name, sizeof(name), MANIFEST_ROOTS "/%zu", i);
        r = snapshot_pack_tree(archive_writer_put(w), roots[i], name, err);
    }
    for (size_t i = 0; i < n; i++)
        fd_close(roots[i]);
    return r < 0 ? r : 0;
}
