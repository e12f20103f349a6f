/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/rootfs_diff_read.h"

#include <limits.h>
#include <search.h>
#include <string.h>
#include <sys/stat.h>

#define TAR_NAME "rootfs-diff.tar"
#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh." /* of older union file systems, but for the opaque marker */
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define CAPABILITY "security.capability"
#define CAPABILITY_MAX 64 /* bytes; the kernel's largest has 24 */

static int compare_paths(const void *a, const void *b) {
    return strcmp(a, b);
}

void rootfs_diff_reader_close(struct rootfs_diff_reader *r) {
    tdestroy(r->filled, free);
    r->filled = NULL;
    r->tar = archive_tar_close(r->tar);
}

int rootfs_diff_reader_open(struct rootfs_diff_reader *r, int fd, struct err *err) {
    static const struct archive_limits limits = {.bytes_max = ROOTFS_DIFF_BYTES_MAX,
                                                 .entries_max = ROOTFS_DIFF_ENTRIES_MAX};
    return archive_tar_open(fd, TAR_NAME, true, &limits, &r->tar, err);
}

static int refuse(const struct rootfs_diff_reader *r, const char *why, struct err *err) {
    return archive_tar_error(r->tar, EINVAL, err, "%s", why);
}

/* Remembers that the directories above path got an entry. */
static int mark_filled(struct rootfs_diff_reader *r, const char *path, struct err *err) {
    char dir[ROOTFS_DIFF_PATH_MAX + 1];
    snprintf(dir, sizeof(dir), "%s", path);
    for (char *slash; (slash = strrchr(dir, '/'));) {
        *slash = '\0';
        if (tfind(dir, &r->filled, compare_paths))
            return 0;
        char *copy = strdup(dir);
        if (!copy || !tsearch(copy, &r->filled, compare_paths)) {
            free(copy);
            return err_set(err, ENOMEM, "out of memory");
        }
    }
    return 0;
}

bool rootfs_diff_xattr_allowed(const char *name, size_t len, bool regular) {
    if (strcmp(name, CAPABILITY) == 0)
        return regular && len <= CAPABILITY_MAX;
    /* An overlay mounted with userxattr would take orders from the latter. */
    return strncmp(name, "user.", 5) == 0 && strncmp(name, "user.overlay.", 13) != 0 && len <= ROOTFS_DIFF_XATTR_MAX;
}

static int check_entry(const struct rootfs_diff_reader *r, const struct rootfs_diff_entry *ret, struct err *err) {
    struct archive_entry *e = ret->e;
    unsigned depth = 0;
    for (const char *s = ret->path; (s = strchr(s, '/')); s++)
        depth++;
    if (depth > ROOTFS_DIFF_DEPTH_MAX)
        return archive_tar_error(r->tar, EFBIG, err, "more than %d directories deep", ROOTFS_DIFF_DEPTH_MAX);
    if (archive_entry_uid(e) < 0 || archive_entry_uid(e) >= UINT32_MAX || archive_entry_gid(e) < 0 ||
        archive_entry_gid(e) >= UINT32_MAX)
        return refuse(r, "an owner that there cannot be", err);
    if (archive_entry_xattr_reset(e) > ROOTFS_DIFF_XATTRS_MAX)
        return archive_tar_error(r->tar, EFBIG, err, "more than %d extended attributes", ROOTFS_DIFF_XATTRS_MAX);
    return 0;
}

/* An entry whose name, `base` in ret->path, is an order: what it removes becomes ret->path. */
static int read_whiteout(const struct rootfs_diff_reader *r, struct rootfs_diff_entry *ret, char *base,
                         struct err *err) {
    const char *hidden = base + strlen(WHITEOUT);
    if (strcmp(base, WHITEOUT_OPAQUE) == 0) {
        if (base == ret->path)
            return refuse(r, "the whole root would be removed", err);
        base[-1] = '\0';
        if (tfind(ret->path, (void *const *)&r->filled, compare_paths))
            return refuse(r, "it comes behind entries of its directory", err);
        ret->kind = ROOTFS_DIFF_EMPTY;
        return 0;
    }
    if (strncmp(base, WHITEOUT_META, strlen(WHITEOUT_META)) == 0)
        return 0;
    if (!*hidden || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
        return refuse(r, "a whiteout of nothing", err);
    memmove(base, hidden, strlen(hidden) + 1);
    ret->kind = ROOTFS_DIFF_REMOVE;
    return 0;
}

static int read_link(const struct rootfs_diff_reader *r, struct rootfs_diff_entry *ret, struct err *err) {
    int code = archive_tar_path(r->tar, archive_entry_hardlink(ret->e), ret->target, sizeof(ret->target), err);
    if (code < 0)
        return code;
    if (!*ret->target || strcmp(ret->target, ret->path) == 0)
        return refuse(r, "a hard link to itself", err);
    ret->kind = ROOTFS_DIFF_LINK;
    return 0;
}

static int read_symlink(const struct rootfs_diff_reader *r, struct rootfs_diff_entry *ret, struct err *err) {
    const char *target = archive_entry_symlink(ret->e);
    if (!target || !*target || strlen(target) >= PATH_MAX)
        return refuse(r, "a symbolic link to nothing, or to too much", err);
    ret->kind = ROOTFS_DIFF_SPECIAL;
    return 0;
}

static int read_kind(const struct rootfs_diff_reader *r, struct rootfs_diff_entry *ret, struct err *err) {
    if (archive_entry_hardlink(ret->e))
        return read_link(r, ret, err);
    switch (archive_entry_filetype(ret->e)) {
    case AE_IFREG:
        ret->kind = ROOTFS_DIFF_FILE;
        return 0;
    case AE_IFDIR:
        ret->kind = ROOTFS_DIFF_DIR;
        return 0;
    case AE_IFLNK:
        return read_symlink(r, ret, err);
    case AE_IFIFO:
        ret->kind = ROOTFS_DIFF_SPECIAL;
        return 0;
    case AE_IFCHR:
        /* The form that a whiteout has in an overlay. */
        if (archive_entry_rdevmajor(ret->e) == 0 && archive_entry_rdevminor(ret->e) == 0) {
            ret->kind = ROOTFS_DIFF_REMOVE;
            return 0;
        }
        return refuse(r, "a device is not allowed", err);
    default:
        return refuse(r, "a device is not allowed", err);
    }
}

int rootfs_diff_reader_next(struct rootfs_diff_reader *r, struct rootfs_diff_entry *ret, struct err *err) {
    int code = archive_tar_next(r->tar, &ret->e, err);
    if (code <= 0)
        return code;
    ret->kind = ROOTFS_DIFF_NOTHING;
    ret->path[0] = ret->target[0] = '\0';
    code = archive_tar_path(r->tar, archive_entry_pathname(ret->e), ret->path, sizeof(ret->path), err);
    if (code < 0 || (code = check_entry(r, ret, err)) < 0)
        return code;
    if (!*ret->path) /* the root itself */
        return archive_entry_filetype(ret->e) == AE_IFDIR ? 1 : refuse(r, "it must be a directory", err);
    char *slash = strrchr(ret->path, '/'), *base = slash ? slash + 1 : ret->path;
    if (strncmp(base, WHITEOUT, strlen(WHITEOUT)) == 0)
        code = read_whiteout(r, ret, base, err);
    else if ((code = mark_filled(r, ret->path, err)) == 0)
        code = read_kind(r, ret, err);
    return code < 0 ? code : 1;
}

/* True for what gives a user who runs it the rights of another. */
static bool is_privileged(const struct rootfs_diff_entry *entry) {
    const char *name;
    const void *value;
    size_t len;
    if (entry->kind != ROOTFS_DIFF_FILE)
        return false;
    if (archive_entry_perm(entry->e) & (S_ISUID | S_ISGID))
        return true;
    (void)archive_entry_xattr_reset(entry->e);
    while (archive_entry_xattr_next(entry->e, &name, &value, &len) == ARCHIVE_OK)
        if (name && strcmp(name, CAPABILITY) == 0 && rootfs_diff_xattr_allowed(name, len, true))
            return true;
    return false;
}

int rootfs_diff_check(int fd, char **ret_privileged, struct err *err) {
    cleanup_rootfs_diff_reader struct rootfs_diff_reader reader = {0};
    cleanup_free struct rootfs_diff_entry *entry = malloc(sizeof(*entry));
    cleanup_free char *privileged = NULL;
    int r = entry ? rootfs_diff_reader_open(&reader, fd, err) : err_set(err, ENOMEM, "out of memory");
    if (r < 0)
        return r;
    while ((r = rootfs_diff_reader_next(&reader, entry, err)) > 0)
        if (!privileged && is_privileged(entry) && !(privileged = strdup(entry->path)))
            return err_set(err, ENOMEM, "out of memory");
    if (r == 0)
        *ret_privileged = TAKE_PTR(privileged);
    return r;
}
