/* SPDX-License-Identifier: Apache-2.0 */
/* Applying a rootfs-diff.tar to a root file system. */
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "oci/archive_tar.h"
#include "oci/rootfs_diff.h"

#define TAR_NAME "rootfs-diff.tar"
#define LIST_NAME "deleted.files"
#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh." /* of older union file systems, but for the opaque marker */
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define NOTES_MAX 32
#define MODE_MAX 07777
#define CAPABILITY_MAX 64 /* bytes of security.capability; the kernel's largest has 24 */

struct apply {
    struct archive_tar *tar;
    int root;
    struct strv *notes; /* may be NULL */
    unsigned n_notes;
    void *filled; /* a tree (tsearch) of the paths of directories that got entries */
};

/* The place of an entry: `base` below the directory `parent`. */
struct place {
    int parent;
    const char *base;
};

static void close_place(struct place *p) {
    p->parent = fd_close(p->parent);
}
#define cleanup_place CLEANUP(close_place)

static int compare_paths(const void *a, const void *b) {
    return strcmp(a, b);
}

static int add_note(struct apply *a, const char *path, const char *why, struct err *err) {
    int r = 0;
    a->n_notes++;
    if (a->notes && a->n_notes < NOTES_MAX)
        r = strv_addf(a->notes, "/%s: %s", path, why);
    else if (a->notes && a->n_notes == NOTES_MAX)
        r = strv_add(a->notes, "and more of the kind");
    return r < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

static int failed(const struct apply *a, const char *what, struct err *err) {
    int code = errno;
    return archive_tar_error(a->tar, code, err, "%s: %s", what, strerror(code));
}

/* Remembers that the directories above path got an entry. */
static int mark_filled(struct apply *a, const char *path, struct err *err) {
    char dir[ROOTFS_DIFF_PATH_MAX + 1];
    snprintf(dir, sizeof(dir), "%s", path);
    for (char *slash; (slash = strrchr(dir, '/'));) {
        *slash = '\0';
        if (tfind(dir, &a->filled, compare_paths))
            return 0;
        char *copy = strdup(dir);
        if (!copy || !tsearch(copy, &a->filled, compare_paths)) {
            free(copy);
            return err_set(err, ENOMEM, "out of memory");
        }
    }
    return 0;
}

/* Opens path's parent, making what is missing of it. The place is the caller's to close. */
static int find_place(const struct apply *a, const char *path, struct place *place, struct err *err) {
    char dir[ROOTFS_DIFF_PATH_MAX + 1];
    snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash)
        *slash = '\0';
    struct err why = ERR_INIT;
    int fd = path_open_beneath(a->root, slash ? dir : ".", O_PATH | O_DIRECTORY, 0, &why);
    if (fd == -ENOENT)
        fd = path_mkdirs_beneath(a->root, dir, 0755, &why);
    if (fd < 0)
        return archive_tar_error(a->tar, -fd, err, "%s", why.msg);
    place->parent = fd;
    place->base = slash ? path + (slash - dir) + 1 : path;
    return 0;
}

/* Removes what is in the place, so that nothing is ever written through it. */
static int clear_place(const struct apply *a, const struct place *p, struct err *err) {
    if (unlinkat(p->parent, p->base, 0) == 0 || errno == ENOENT)
        return 0;
    struct err why = ERR_INIT;
    int r = path_remove_tree(p->parent, p->base, &why);
    return r < 0 ? archive_tar_error(a->tar, -r, err, "%s", why.msg) : 0;
}

static bool xattr_allowed(const char *name, size_t len, bool regular) {
    if (strcmp(name, "security.capability") == 0)
        return regular && len <= CAPABILITY_MAX;
    /* An overlay mounted with userxattr would take orders from the latter. */
    return strncmp(name, "user.", 5) == 0 && strncmp(name, "user.overlay.", 13) != 0 && len <= ROOTFS_DIFF_XATTR_MAX;
}

static int set_xattrs(struct apply *a, struct archive_entry *e, int fd, const char *path, struct err *err) {
    const char *name;
    const void *value;
    size_t len;
    bool dropped = false;
    if (archive_entry_xattr_reset(e) > ROOTFS_DIFF_XATTRS_MAX)
        return archive_tar_error(a->tar, EFBIG, err, "more than %d extended attributes", ROOTFS_DIFF_XATTRS_MAX);
    while (archive_entry_xattr_next(e, &name, &value, &len) == ARCHIVE_OK) {
        if (!name || !xattr_allowed(name, len, archive_entry_filetype(e) == AE_IFREG)) {
            dropped = true;
            continue;
        }
        if (fsetxattr(fd, name, value, len, 0) < 0 && errno != EOPNOTSUPP)
            return failed(a, name, err);
    }
    return dropped ? add_note(a, path, "an extended attribute is not taken over", err) : 0;
}

/* The owner first: changing it takes setuid and capabilities away. */
static int set_attributes(struct apply *a, struct archive_entry *e, int fd, const char *path, struct err *err) {
    if (fchown(fd, (uid_t)archive_entry_uid(e), (gid_t)archive_entry_gid(e)) < 0)
        return failed(a, "cannot set its owner", err);
    if (fchmod(fd, archive_entry_perm(e) & MODE_MAX) < 0)
        return failed(a, "cannot set its mode", err);
    return set_xattrs(a, e, fd, path, err);
}

static struct timespec entry_time(struct archive_entry *e) {
    if (!archive_entry_mtime_is_set(e))
        return (struct timespec){.tv_nsec = UTIME_OMIT};
    long nsec = archive_entry_mtime_nsec(e);
    return (struct timespec){.tv_sec = archive_entry_mtime(e), .tv_nsec = nsec >= 0 && nsec < 1000000000 ? nsec : 0};
}

static int make_dir(struct apply *a, struct archive_entry *e, const struct place *p, const char *path,
                    struct err *err) {
    struct stat st;
    bool there = fstatat(p->parent, p->base, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
    int r = there ? 0 : clear_place(a, p, err);
    if (r < 0)
        return r;
    if (!there && mkdirat(p->parent, p->base, 0700) < 0)
        return failed(a, "cannot create it", err);
    cleanup_fd int fd = path_open_beneath(p->parent, p->base, O_RDONLY | O_DIRECTORY, 0, err);
    if (fd < 0)
        return fd;
    return set_attributes(a, e, fd, path, err);
}

static int make_file(struct apply *a, struct archive_entry *e, const struct place *p, const char *path,
                     struct err *err) {
    int r = clear_place(a, p, err);
    if (r < 0)
        return r;
    cleanup_fd int fd = openat(p->parent, p->base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(a, "cannot create it", err);
    if ((r = archive_tar_save(a->tar, fd, err)) < 0 || (r = set_attributes(a, e, fd, path, err)) < 0)
        return r;
    const struct timespec times[] = {entry_time(e), entry_time(e)};
    return futimens(fd, times) < 0 ? failed(a, "cannot set its time", err) : 0;
}

/* Symbolic links and FIFOs: made, and never opened. */
static int make_special(struct apply *a, struct archive_entry *e, const struct place *p, struct err *err) {
    int r = clear_place(a, p, err);
    if (r < 0)
        return r;
    bool link = archive_entry_filetype(e) == AE_IFLNK;
    const char *target = link ? archive_entry_symlink(e) : "";
    if (link && (!target || !*target || strlen(target) >= PATH_MAX))
        return archive_tar_error(a->tar, EINVAL, err, "a symbolic link to nothing, or to too much");
    if ((link ? symlinkat(target, p->parent, p->base) : mkfifoat(p->parent, p->base, 0600)) < 0)
        return failed(a, "cannot create it", err);
    if (fchownat(p->parent, p->base, (uid_t)archive_entry_uid(e), (gid_t)archive_entry_gid(e), AT_SYMLINK_NOFOLLOW) < 0)
        return failed(a, "cannot set its owner", err);
    /* Only now that it is a FIFO for sure: nobody else is at work here. */
    if (!link && fchmodat(p->parent, p->base, archive_entry_perm(e) & MODE_MAX, 0) < 0)
        return failed(a, "cannot set its mode", err);
    const struct timespec times[] = {entry_time(e), entry_time(e)};
    return utimensat(p->parent, p->base, times, AT_SYMLINK_NOFOLLOW) < 0 ? failed(a, "cannot set its time", err) : 0;
}

static int make_hard_link(struct apply *a, struct archive_entry *e, const struct place *p, const char *path,
                          struct err *err) {
    char to[ROOTFS_DIFF_PATH_MAX + 1] = "";
    struct stat st;
    int r = archive_tar_path(a->tar, archive_entry_hardlink(e), to, sizeof(to), err);
    if (r < 0)
        return r;
    if (!*to || strcmp(to, path) == 0)
        return archive_tar_error(a->tar, EINVAL, err, "a hard link to itself");
    cleanup_place struct place target = {.parent = -1, .base = ""};
    if ((r = find_place(a, to, &target, err)) < 0)
        return r;
    if (fstatat(target.parent, target.base, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return failed(a, "a hard link to what is not there", err);
    if (!S_ISREG(st.st_mode))
        return archive_tar_error(a->tar, EINVAL, err, "a hard link to what is not a regular file");
    if ((r = clear_place(a, p, err)) < 0)
        return r;
    return linkat(target.parent, target.base, p->parent, p->base, 0) < 0 ? failed(a, "cannot create it", err) : 0;
}

/* Everything in the directory goes: it stands for the lower layers' files. */
static int empty_directory(struct apply *a, const struct place *p, const char *path, struct err *err) {
    char dir_path[ROOTFS_DIFF_PATH_MAX + 1];
    snprintf(dir_path, sizeof(dir_path), "%s", path);
    char *slash = strrchr(dir_path, '/');
    if (!slash)
        return archive_tar_error(a->tar, EINVAL, err, "the whole root would be removed");
    *slash = '\0';
    if (tfind(dir_path, &a->filled, compare_paths))
        return archive_tar_error(a->tar, EINVAL, err, "it comes behind entries of its directory");
    cleanup_fd int fd = path_open_beneath(p->parent, ".", O_RDONLY | O_DIRECTORY, 0, err);
    if (fd < 0)
        return fd;
    cleanup_dir DIR *dir = fdopendir(fd);
    if (!dir)
        return failed(a, "cannot read its directory", err);
    (void)TAKE_FD(fd); /* owned by dir now */
    for (const struct dirent *d; (d = readdir(dir));) {
        const struct place child = {.parent = p->parent, .base = d->d_name};
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        int r = clear_place(a, &child, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int apply_whiteout(struct apply *a, const struct place *p, const char *path, struct err *err) {
    if (strcmp(p->base, WHITEOUT_OPAQUE) == 0)
        return empty_directory(a, p, path, err);
    if (strncmp(p->base, WHITEOUT_META, strlen(WHITEOUT_META)) == 0)
        return 0;
    const struct place hidden = {.parent = p->parent, .base = p->base + strlen(WHITEOUT)};
    if (!*hidden.base || strcmp(hidden.base, ".") == 0 || strcmp(hidden.base, "..") == 0)
        return archive_tar_error(a->tar, EINVAL, err, "a whiteout of nothing");
    return clear_place(a, &hidden, err);
}

static int check_entry(const struct apply *a, struct archive_entry *e, const char *path, struct err *err) {
    unsigned depth = 0;
    for (const char *s = path; (s = strchr(s, '/')); s++)
        depth++;
    if (depth > ROOTFS_DIFF_DEPTH_MAX)
        return archive_tar_error(a->tar, EFBIG, err, "more than %d directories deep", ROOTFS_DIFF_DEPTH_MAX);
    if (archive_entry_uid(e) < 0 || archive_entry_uid(e) >= UINT32_MAX || archive_entry_gid(e) < 0 ||
        archive_entry_gid(e) >= UINT32_MAX)
        return archive_tar_error(a->tar, EINVAL, err, "an owner that there cannot be");
    return 0;
}

static int make_entry(struct apply *a, struct archive_entry *e, const struct place *p, const char *path,
                      struct err *err) {
    if (archive_entry_hardlink(e))
        return make_hard_link(a, e, p, path, err);
    switch (archive_entry_filetype(e)) {
    case AE_IFREG:
        return make_file(a, e, p, path, err);
    case AE_IFDIR:
        return make_dir(a, e, p, path, err);
    case AE_IFLNK:
    case AE_IFIFO:
        return make_special(a, e, p, err);
    case AE_IFCHR:
        /* The form that a whiteout has in an overlay. */
        if (archive_entry_rdevmajor(e) == 0 && archive_entry_rdevminor(e) == 0)
            return clear_place(a, p, err);
        return archive_tar_error(a->tar, EINVAL, err, "a device is not allowed");
    default:
        return archive_tar_error(a->tar, EINVAL, err, "a device is not allowed");
    }
}

static int apply_entry(struct apply *a, struct archive_entry *e, struct err *err) {
    char path[ROOTFS_DIFF_PATH_MAX + 1] = "";
    cleanup_place struct place p = {.parent = -1, .base = ""};
    int r = archive_tar_path(a->tar, archive_entry_pathname(e), path, sizeof(path), err);
    if (r < 0 || (r = check_entry(a, e, path, err)) < 0)
        return r;
    if (!*path) /* the root itself */
        return archive_entry_filetype(e) == AE_IFDIR ? 0
                                                     : archive_tar_error(a->tar, EINVAL, err, "it must be a directory");
    if ((r = find_place(a, path, &p, err)) < 0)
        return r;
    if (strncmp(p.base, WHITEOUT, strlen(WHITEOUT)) == 0)
        return apply_whiteout(a, &p, path, err);
    if ((r = mark_filled(a, path, err)) < 0)
        return r;
    return make_entry(a, e, &p, path, err);
}

int rootfs_diff_apply(int fd, int root_fd, struct strv *notes, struct err *err) {
    static const struct archive_limits limits = {.bytes_max = ROOTFS_DIFF_BYTES_MAX,
                                                 .entries_max = ROOTFS_DIFF_ENTRIES_MAX};
    cleanup_archive_tar struct archive_tar *tar = NULL;
    struct archive_entry *e;
    int r = archive_tar_open(fd, TAR_NAME, true, &limits, &tar, err);
    if (r < 0)
        return r;
    struct apply a = {.tar = tar, .root = root_fd, .notes = notes};
    while ((r = archive_tar_next(tar, &e, err)) > 0)
        if ((r = apply_entry(&a, e, err)) < 0)
            break;
    tdestroy(a.filled, free);
    return r;
}

static int delete_path(const char *listed, int root_fd, struct err *err) {
    cleanup_free char *path = str_printf("%s%s", listed[0] == '/' ? "" : "/", listed);
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    if (strlen(path) > ROOTFS_DIFF_PATH_MAX || !path_is_normal(path) || !path[1])
        return err_set(err, EINVAL, LIST_NAME ": \"%.256s\" is no path below the root", listed);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    cleanup_fd int parent = path_open_beneath(root_fd, path, O_PATH | O_DIRECTORY, 0, err);
    if (parent == -ENOENT || parent == -ENOTDIR)
        return 0; /* gone with its directory */
    if (parent < 0)
        return err_wrap(err, LIST_NAME);
    int r = path_remove_tree(parent, slash + 1, err);
    return r < 0 ? err_wrap(err, LIST_NAME ": %s", listed) : 0;
}

int rootfs_diff_delete(const char *json, size_t len, int root_fd, struct err *err) {
    json_error_t je;
    if (len > JSON_TEXT_MAX)
        return err_set(err, EFBIG, LIST_NAME ": larger than %zu bytes", JSON_TEXT_MAX);
    cleanup_json json_t *list = json_load_whole(json, len, &je);
    if (!list)
        return err_set(err, EINVAL, LIST_NAME ": line %d: %s", je.line, je.text);
    if (!json_is_array(list))
        return err_set(err, EINVAL, LIST_NAME ": must be a list");
    if (json_array_size(list) > ROOTFS_DIFF_DELETED_MAX)
        return err_set(err, EFBIG, LIST_NAME ": more than %u files", ROOTFS_DIFF_DELETED_MAX);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *path = json_string_value(json_array_get(list, i));
        if (!path)
            return err_set(err, EINVAL, LIST_NAME ": [%zu] must be a string", i);
        int r = delete_path(path, root_fd, err);
        if (r < 0)
            return r;
    }
    return 0;
}
