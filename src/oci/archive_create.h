/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a checkpoint archive, in the layout that Podman, CRI-O, containerd and checkpointctl read. It is streamed:
 * nothing is staged, and memory stays below 32 MiB whatever the size.
 *
 *     archive_create, archive_add_* (config.dump and spec.dump first, so that readers find them early), archive_finish
 *
 * Until archive_finish() nothing is to be seen under the archive's name; whatever fails before leaves nothing behind.
 */
#pragma once

#include "base/err.h"
#include "base/util.h"
#include "oci/archive_tar.h"
#include "oci/rootfs_diff.h"

/* Names of an archive's members. */
#define ARCHIVE_CONFIG "config.dump"
#define ARCHIVE_SPEC "spec.dump"
#define ARCHIVE_CHECKPOINT "checkpoint" /* a directory */
#define ARCHIVE_ROOTFS_DIFF "rootfs-diff.tar"
#define ARCHIVE_DELETED "deleted.files"
#define ARCHIVE_STATS "stats-dump"
#define ARCHIVE_LOG "dump.log"
#define ARCHIVE_INVENTORY "inventory.img" /* in the directory: without it there is no checkpoint */

#define ARCHIVE_IMAGES_MAX 65536 /* files in the checkpoint directory */

struct archive_writer;

/* By the end of the name: .tar, .tar.gz or .tgz, .tar.zst. -EINVAL for another, with the possible ones. */
int archive_compression_of(const char *path, enum archive_compression *ret, struct err *err);

/* Begins an archive that will be path (trusted), mode 0600; a regular file of that name will be replaced. Errors:
 * -EEXIST when the name is taken by something else; open's. */
int archive_create(const char *path, enum archive_compression compression, struct archive_writer **ret,
                   struct err *err);

/* The same, or (fd not negative) to a pipe, which must stay open and is not owned: what is written cannot be taken
 * back, and path is for messages. Times are kept in nanoseconds. */
int archive_create_exact(int fd, const char *path, enum archive_compression compression, struct archive_writer **ret,
                         struct err *err);

/* For members of other kinds. */
struct archive_put *archive_writer_put(struct archive_writer *w);

/* Adds a member from memory. */
int archive_add_text(struct archive_writer *w, const char *name, const void *data, size_t len, struct err *err);

/* Adds a member from the regular file `file` below dirfd, never through a symbolic link. -ENOENT if it is not there;
 * nothing was written then, the archive can go on. */
int archive_add_file(struct archive_writer *w, const char *name, int dirfd, const char *file, struct err *err);

/* Adds every file of the directory as checkpoint/<name>. Errors: -EINVAL when it holds anything but regular files with
 * names that archive_extract() takes, so also when it stands on a parent checkpoint; -ENOENT without inventory.img;
 * -EFBIG beyond ARCHIVE_IMAGES_MAX. */
int archive_add_checkpoint(struct archive_writer *w, int dirfd, struct err *err);

/* Adds rootfs-diff.tar and deleted.files. The source is walked twice, first for the tar's length, and must not change
 * meanwhile: -EIO if it does. notes as rootfs_diff_write(). */
int archive_add_rootfs_diff(struct archive_writer *w, const struct rootfs_diff_source *src, struct strv *notes,
                            struct err *err);

/* Ends the archive, makes it durable and gives it its name. An archive that had the name is removed last: a process
 * that is killed before that leaves it as NAME.tmp.<pid>. The writer is still to be freed. */
int archive_finish(struct archive_writer *w, struct err *err);

/* Removes what a process that was killed in the midst of it left of the archive `path`. */
void archive_remove_unfinished(const char *path, pid_t pid);

/* Removes what was not finished. Accepts NULL; returns NULL. */
struct archive_writer *archive_writer_free(struct archive_writer *w);
DEFINE_CLEANUP(struct archive_writer *, archive_writer_free);
#define cleanup_archive_writer CLEANUP(archive_writer_freep)

/* True for a name of the characters that CRIU gives its files: 1 to 255 of [A-Za-z0-9._-], not "." or "..". */
bool archive_image_name_valid(const char *name);
