/* SPDX-License-Identifier: Apache-2.0 */
#include <archive_entry.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "cli/snapshot_archive.h"
#include "cli/snapshot_unpack.h"

#define MEMBER_MODE 0600

struct import {
    const char *file;
    const struct snapshot_import *o;
    struct archive_tar *tar;
    uint64_t bytes_max;
    int dirfd;
    struct manifest manifest;
    struct snapshot_unpack roots;
};

static int save(const struct import *x, const char *name, struct archive_entry *e, uint64_t size, struct err *err) {
    if (archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e))
        return archive_tar_error(x->tar, EINVAL, err, "it must be a regular file");
    if ((uint64_t)archive_entry_size(e) != size)
        return archive_tar_error(x->tar, EINVAL, err, "it has %lld bytes, the manifest says %llu",
                                 (long long)archive_entry_size(e), (unsigned long long)size);
    /* Its holes are hashed as zeros are. */
    if (size > x->bytes_max)
        return archive_tar_error(x->tar, EFBIG, err, "it has %llu bytes, more than %llu", (unsigned long long)size,
                                 (unsigned long long)x->bytes_max);
    cleanup_fd int fd = openat(x->dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, MEMBER_MODE);
    if (fd < 0 && errno == EEXIST)
        return archive_tar_error(x->tar, EINVAL, err, "it comes twice");
    if (fd < 0)
        return archive_tar_error(x->tar, errno, err, "cannot create it: %s", strerror(errno));
    return archive_tar_save(x->tar, fd, err);
}

/* What could not be restored here is refused before the rest is unpacked. */
static int check_manifest(const struct import *x, struct err *err) {
    const struct manifest *m = &x->manifest;
    if (m->is_template)
        return err_set(err, EINVAL, "%s holds a template: it is of use only where it was made", x->file);
    if (m->n_containers == 0)
        return err_set(err, EINVAL, "%s: its manifest has no container", x->file);
    for (size_t i = 0; i < m->n_containers; i++)
        if (m->containers[i].root.lowers.n)
            return err_set(err, EINVAL, "%s: the root of container %s stands on directories of another host", x->file,
                           m->containers[i].id);
    return 0;
}

/* The first entry: it says what there may be else. */
static int take_manifest(struct import *x, struct err *err) {
    struct archive_entry *e;
    char path[SNAPSHOT_PATH_MAX + 1];
    int r = archive_tar_next(x->tar, &e, err);
    if (r == 0)
        return err_set(err, EINVAL, "%s is empty", x->file);
    if (r > 0)
        r = archive_tar_path(x->tar, archive_entry_pathname(e), path, sizeof(path), err);
    if (r < 0)
        return r;
    if (strcmp(path, MANIFEST_FILE) != 0)
        return archive_tar_error(x->tar, EINVAL, err, "no snapshot begins like this, but with " MANIFEST_FILE);
    if ((uint64_t)archive_entry_size(e) > MANIFEST_MAX)
        return archive_tar_error(x->tar, EFBIG, err, "larger than %zu bytes", MANIFEST_MAX);
    r = save(x, MANIFEST_FILE, e, (uint64_t)archive_entry_size(e), err);
    if (r == 0 && (r = manifest_read(x->dirfd, &x->manifest, err)) < 0)
        return err_wrap(err, "%s", x->file);
    if (r == 0)
        r = check_manifest(x, err);
    if (r == 0 && x->o->check_name)
        r = x->o->check_name(x->o->userdata, x->o->rename ? x->o->rename : x->manifest.name, err);
    return r;
}

static int take_entry(struct import *x, struct archive_entry *e, struct err *err) {
    static const char below[] = MANIFEST_ROOTS "/";
    char path[SNAPSHOT_PATH_MAX + 1] = "";
    int r = archive_tar_path(x->tar, archive_entry_pathname(e), path, sizeof(path), err);
    if (r < 0)
        return r;
    if (strcmp(path, MANIFEST_DEVICE) == 0)
        return save(x, path, e, x->manifest.device_size, err);
    if (strcmp(path, MANIFEST_MEMORY) == 0)
        return save(x, path, e, x->manifest.memory->size, err);
    if (strcmp(path, MANIFEST_BASE) == 0 && memory_image_shared(x->manifest.memory))
        return save(x, path, e, x->manifest.memory->size, err);
    if (strcmp(path, MANIFEST_ROOTS) == 0 || strncmp(path, below, strlen(below)) == 0)
        return snapshot_unpack_entry(&x->roots, e, path, err);
    return archive_tar_error(x->tar, EINVAL, err, "it is no part of a snapshot");
}

static int unpack(struct import *x, const struct snapshot_import *o, struct err *err) {
    struct archive_entry *e;
    int r = take_manifest(x, err);
    if (r < 0)
        return r;
    x->roots = (struct snapshot_unpack){.tar = x->tar,
                                        .dirfd = x->dirfd,
                                        .n_roots = x->manifest.n_containers,
                                        .allow_devices = o->allow_devices,
                                        .roots_fd = -1,
                                        .sockets_fd = -1};
    r = snapshot_unpack_begin(&x->roots, err);
    while (r >= 0 && (r = archive_tar_next(x->tar, &e, err)) > 0)
        r = take_entry(x, e, err);
    if (r == 0)
        r = snapshot_unpack_end(&x->roots, err);
    if (r == 0 && x->roots.lost_sockets)
        log_warn("%s: nobody can connect by name to %zu of the unix sockets in it in a copy", x->file,
                 x->roots.lost_sockets);
    snapshot_unpack_clear(&x->roots);
    return r;
}

/* Ours says that it came from elsewhere, and its name here. */
static int mark(struct import *x, const char *name, struct err *err) {
    cleanup_fd int fd =
        openat(x->dirfd, SNAPSHOT_IMPORTED, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, MEMBER_MODE);
    if (fd < 0)
        return err_errno(err, errno, "cannot make " SNAPSHOT_IMPORTED);
    if (!name || strcmp(name, x->manifest.name) == 0)
        return 0;
    char *copy = strdup(name);
    if (!copy)
        return err_set(err, ENOMEM, "out of memory");
    free(x->manifest.name);
    x->manifest.name = copy;
    if (unlinkat(x->dirfd, MANIFEST_FILE, 0) < 0)
        return err_errno(err, errno, "cannot write " MANIFEST_FILE);
    return manifest_write(x->dirfd, &x->manifest, err);
}

int snapshot_import(int fd, const char *file, int dirfd, const struct snapshot_import *o, unsigned processes,
                    char **ret_name, struct err *err) {
    cleanup_archive_tar struct archive_tar *tar = NULL;
    const struct archive_limits limits = {.bytes_max = o->bytes_max ? o->bytes_max : SNAPSHOT_BYTES_MAX,
                                          .entries_max = o->entries_max ? o->entries_max : SNAPSHOT_ENTRIES_MAX};
    struct import x = {.file = file,
                       .o = o,
                       .bytes_max = limits.bytes_max,
                       .dirfd = dirfd,
                       .roots = {.roots_fd = -1, .sockets_fd = -1}};
    int r = archive_tar_open(fd, file, true, &limits, &tar, err);
    if (r < 0)
        return r;
    snapshot_archive_raise_limits();
    x.tar = tar;
    r = unpack(&x, o, err);
    if (r == 0 && (r = manifest_verify(dirfd, &x.manifest, processes, err)) < 0)
        err_wrap(err, "%s", file);
    if (r == 0)
        r = mark(&x, o->rename, err);
    if (r == 0 && !(*ret_name = strdup(x.manifest.name)))
        r = err_set(err, ENOMEM, "out of memory");
    manifest_clear(&x.manifest);
    return r;
}
