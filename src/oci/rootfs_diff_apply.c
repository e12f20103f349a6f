/* SPDX-License-Identifier: Apache-2.0 */
/* Applying a rootfs-diff.tar to a root file system. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "oci/rootfs_diff.h"
#include "oci/rootfs_diff_read.h"

#define LIST_NAME "deleted.files"
#define NOTES_MAX 32
#define MODE_MAX 07777

struct apply {
    struct rootfs_diff_reader reader;
    int root;
    struct rootfs_undo *undo; /* may be NULL */
    struct strv *notes;       /* may be NULL */
    unsigned n_notes;
};

/* The place of an entry: `base` below the directory `parent`. */
struct place {
    int parent;
    const char *path, *base; /* base is in path */
};

static void close_place(struct place *p) {
    p->parent = fd_close(p->parent);
}
#define cleanup_place CLEANUP(close_place)

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
    return archive_tar_error(a->reader.tar, code, err, "%s: %s", what, strerror(code));
}

/* An error of elsewhere, with the entry's name. */
static int because(const struct apply *a, int code, const struct err *why, struct err *err) {
    return archive_tar_error(a->reader.tar, -code, err, "%s", why->msg);
}

/* Before something is made in the place. */
static int creating(const struct apply *a, const struct place *p, struct err *err) {
    struct err why = ERR_INIT;
    int r = rootfs_undo_creating(a->undo, p->path, p->parent, &why);
    return r < 0 ? because(a, r, &why, err) : 0;
}

/* Opens a directory of a path whose parent is open; what is missing is made. */
static int enter(const struct apply *a, int parent, const char *path, const char *name, struct err *err) {
    int fd = path_open_beneath(parent, name, O_PATH | O_DIRECTORY, 0, err);
    if (fd != -ENOENT)
        return fd;
    int r = rootfs_undo_creating(a->undo, path, parent, err);
    if (r < 0)
        return r;
    if (mkdirat(parent, name, 0755) < 0)
        return err_errno(err, errno, "cannot make the directory /%s", path);
    return path_open_beneath(parent, name, O_PATH | O_DIRECTORY, 0, err);
}

static int make_parents(const struct apply *a, const char *path, struct err *err) {
    char dir[ROOTFS_DIFF_PATH_MAX + 1];
    size_t start = 0, len;
    int at = path_open_beneath(a->root, ".", O_PATH | O_DIRECTORY, 0, err);
    for (; at >= 0 && path[start + (len = strcspn(path + start, "/"))]; start += len + 1) {
        memcpy(dir, path, start + len);
        dir[start + len] = '\0';
        int next = enter(a, at, dir, dir + start, err);
        fd_close(at);
        at = next;
    }
    return at;
}

/* Opens path's parent; what is missing of it is made if `make`. The place is the caller's to close. */
static int find_place(const struct apply *a, const char *path, bool make, struct place *place, struct err *err) {
    char dir[ROOTFS_DIFF_PATH_MAX + 1];
    snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash)
        *slash = '\0';
    struct err why = ERR_INIT;
    int fd = path_open_beneath(a->root, slash ? dir : ".", O_PATH | O_DIRECTORY, 0, &why);
    if (fd == -ENOENT && make)
        fd = make_parents(a, path, &why);
    if (fd < 0)
        return because(a, fd, &why, err);
    place->parent = fd;
    place->path = path;
    place->base = slash ? path + (slash - dir) + 1 : path;
    return 0;
}

/* Removes what is in the place, so that nothing is ever written through it. */
static int clear_place(const struct apply *a, const struct place *p, struct err *err) {
    struct err why = ERR_INIT;
    int r = rootfs_undo_remove(a->undo, p->path, p->parent, &why);
    return r < 0 ? because(a, r, &why, err) : 0;
}

/* there: the file was there before, what is changed of it is to be taken back. */
static int set_xattrs(struct apply *a, struct archive_entry *e, int fd, const char *path, bool there, struct err *err) {
    const char *name;
    const void *value;
    size_t len;
    bool dropped = false;
    (void)archive_entry_xattr_reset(e);
    while (archive_entry_xattr_next(e, &name, &value, &len) == ARCHIVE_OK) {
        if (!name || !rootfs_diff_xattr_allowed(name, len, archive_entry_filetype(e) == AE_IFREG)) {
            dropped = true;
            continue;
        }
        struct err why = ERR_INIT;
        int r = there ? rootfs_undo_setting(a->undo, path, fd, name, &why) : 0;
        if (r < 0)
            return because(a, r, &why, err);
        if (fsetxattr(fd, name, value, len, 0) < 0 && errno != EOPNOTSUPP)
            return failed(a, name, err);
    }
    return dropped ? add_note(a, path, "an extended attribute is not taken over", err) : 0;
}

/* The owner first: changing it takes setuid and capabilities away. */
static int set_attributes(struct apply *a, struct archive_entry *e, int fd, const char *path, bool there,
                          struct err *err) {
    if (fchown(fd, (uid_t)archive_entry_uid(e), (gid_t)archive_entry_gid(e)) < 0)
        return failed(a, "cannot set its owner", err);
    if (fchmod(fd, archive_entry_perm(e) & MODE_MAX) < 0)
        return failed(a, "cannot set its mode", err);
    return set_xattrs(a, e, fd, path, there, err);
}

static struct timespec entry_time(struct archive_entry *e) {
    if (!archive_entry_mtime_is_set(e))
        return (struct timespec){.tv_nsec = UTIME_OMIT};
    long nsec = archive_entry_mtime_nsec(e);
    return (struct timespec){.tv_sec = archive_entry_mtime(e), .tv_nsec = nsec >= 0 && nsec < 1000000000 ? nsec : 0};
}

static int make_dir(struct apply *a, struct archive_entry *e, const struct place *p, struct err *err) {
    struct stat st;
    struct err why = ERR_INIT;
    bool there = fstatat(p->parent, p->base, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
    int r = there ? 0 : clear_place(a, p, err);
    if (r == 0 && !there)
        r = creating(a, p, err);
    if (r < 0)
        return r;
    if (!there && mkdirat(p->parent, p->base, 0700) < 0)
        return failed(a, "cannot create it", err);
    cleanup_fd int fd = path_open_beneath(p->parent, p->base, O_RDONLY | O_DIRECTORY, 0, err);
    if (fd < 0)
        return fd;
    if (there && (r = rootfs_undo_changing(a->undo, p->path, fd, &why)) < 0)
        return because(a, r, &why, err);
    return set_attributes(a, e, fd, p->path, there, err);
}

static int make_file(struct apply *a, struct archive_entry *e, const struct place *p, struct err *err) {
    int r = clear_place(a, p, err);
    if (r < 0 || (r = creating(a, p, err)) < 0)
        return r;
    cleanup_fd int fd = openat(p->parent, p->base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(a, "cannot create it", err);
    if ((r = archive_tar_save(a->reader.tar, fd, err)) < 0 || (r = set_attributes(a, e, fd, p->path, false, err)) < 0)
        return r;
    const struct timespec times[] = {entry_time(e), entry_time(e)};
    return futimens(fd, times) < 0 ? failed(a, "cannot set its time", err) : 0;
}

/* Symbolic links and FIFOs: made, and never opened. */
static int make_special(struct apply *a, struct archive_entry *e, const struct place *p, struct err *err) {
    int r = clear_place(a, p, err);
    if (r < 0 || (r = creating(a, p, err)) < 0)
        return r;
    bool link = archive_entry_filetype(e) == AE_IFLNK;
    if ((link ? symlinkat(archive_entry_symlink(e), p->parent, p->base) : mkfifoat(p->parent, p->base, 0600)) < 0)
        return failed(a, "cannot create it", err);
    if (fchownat(p->parent, p->base, (uid_t)archive_entry_uid(e), (gid_t)archive_entry_gid(e), AT_SYMLINK_NOFOLLOW) < 0)
        return failed(a, "cannot set its owner", err);
    /* Only now that it is a FIFO for sure: nobody else is at work here. */
    if (!link && fchmodat(p->parent, p->base, archive_entry_perm(e) & MODE_MAX, 0) < 0)
        return failed(a, "cannot set its mode", err);
    const struct timespec times[] = {entry_time(e), entry_time(e)};
    return utimensat(p->parent, p->base, times, AT_SYMLINK_NOFOLLOW) < 0 ? failed(a, "cannot set its time", err) : 0;
}

static int make_hard_link(struct apply *a, const char *to, const struct place *p, struct err *err) {
    struct stat st;
    cleanup_place struct place target = {.parent = -1, .path = "", .base = ""};
    int r = find_place(a, to, false, &target, err);
    if (r < 0)
        return r;
    if (fstatat(target.parent, target.base, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return failed(a, "a hard link to what is not there", err);
    if (!S_ISREG(st.st_mode))
        return archive_tar_error(a->reader.tar, EINVAL, err, "a hard link to what is not a regular file");
    if ((r = clear_place(a, p, err)) < 0 || (r = creating(a, p, err)) < 0)
        return r;
    return linkat(target.parent, target.base, p->parent, p->base, 0) < 0 ? failed(a, "cannot create it", err) : 0;
}

/* Everything in the directory goes: it stands for the lower layers' files. */
static int empty_directory(struct apply *a, const char *path, struct err *err) {
    cleanup_free char *first = str_printf("%s/x", path);
    cleanup_place struct place p = {.parent = -1, .path = "", .base = ""};
    if (!first)
        return err_set(err, ENOMEM, "out of memory");
    int r = find_place(a, first, true, &p, err);
    if (r < 0)
        return r;
    cleanup_fd int fd = path_open_beneath(p.parent, ".", O_RDONLY | O_DIRECTORY, 0, err);
    if (fd < 0)
        return fd;
    cleanup_dir DIR *dir = fdopendir(fd);
    if (!dir)
        return failed(a, "cannot read its directory", err);
    (void)TAKE_FD(fd); /* owned by dir now */
    for (const struct dirent *d; (d = readdir(dir));) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        cleanup_free char *name = str_printf("%s/%s", path, d->d_name);
        if (!name)
            return err_set(err, ENOMEM, "out of memory");
        const struct place child = {.parent = p.parent, .path = name, .base = d->d_name};
        if ((r = clear_place(a, &child, err)) < 0)
            return r;
    }
    return 0;
}

static int apply_entry(struct apply *a, const struct rootfs_diff_entry *entry, struct err *err) {
    cleanup_place struct place p = {.parent = -1, .path = "", .base = ""};
    if (entry->kind == ROOTFS_DIFF_NOTHING)
        return 0;
    if (entry->kind == ROOTFS_DIFF_EMPTY)
        return empty_directory(a, entry->path, err);
    int r = find_place(a, entry->path, true, &p, err);
    if (r < 0)
        return r;
    switch (entry->kind) {
    case ROOTFS_DIFF_FILE:
        return make_file(a, entry->e, &p, err);
    case ROOTFS_DIFF_DIR:
        return make_dir(a, entry->e, &p, err);
    case ROOTFS_DIFF_SPECIAL:
        return make_special(a, entry->e, &p, err);
    case ROOTFS_DIFF_LINK:
        return make_hard_link(a, entry->target, &p, err);
    default:
        return clear_place(a, &p, err);
    }
}

int rootfs_diff_apply(int fd, int root_fd, struct rootfs_undo *undo, struct strv *notes, struct err *err) {
    struct apply a = {.root = root_fd, .undo = undo, .notes = notes};
    cleanup_free struct rootfs_diff_entry *entry = malloc(sizeof(*entry));
    int r = entry ? rootfs_diff_reader_open(&a.reader, fd, err) : err_set(err, ENOMEM, "out of memory");
    while (r >= 0 && (r = rootfs_diff_reader_next(&a.reader, entry, err)) > 0)
        r = apply_entry(&a, entry, err);
    rootfs_diff_reader_close(&a.reader);
    return r;
}

/* The path as it must be: normal, below the root. */
static int listed_path(const char *listed, char **ret, struct err *err) {
    cleanup_free char *path = str_printf("%s%s", listed[0] == '/' ? "" : "/", listed);
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    if (strlen(path) > ROOTFS_DIFF_PATH_MAX || !path_is_normal(path) || !path[1])
        return err_set(err, EINVAL, LIST_NAME ": \"%.256s\" is no path below the root", listed);
    *ret = TAKE_PTR(path);
    return 0;
}

static int delete_path(const char *path, int root_fd, struct rootfs_undo *undo, struct err *err) {
    const char *slash = strrchr(path, '/');
    cleanup_free char *dir = slash == path ? strdup(".") : str_printf("%.*s", (int)(slash - path - 1), path + 1);
    if (!dir)
        return err_set(err, ENOMEM, "out of memory");
    cleanup_fd int parent = path_open_beneath(root_fd, dir, O_PATH | O_DIRECTORY, 0, err);
    if (parent == -ENOENT || parent == -ENOTDIR)
        return 0; /* gone with its directory */
    if (parent < 0)
        return err_wrap(err, LIST_NAME);
    int r = rootfs_undo_remove(undo, path + 1, parent, err);
    return r < 0 ? err_wrap(err, LIST_NAME ": %s", path) : 0;
}

static int read_list(const char *json, size_t len, json_t **ret, struct err *err) {
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
    *ret = TAKE_PTR(list);
    return 0;
}

/* root_fd -1: only looks at the list. */
static int each_deleted(const char *json, size_t len, int root_fd, struct rootfs_undo *undo, struct err *err) {
    cleanup_json json_t *list = NULL;
    int r = read_list(json, len, &list, err);
    for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
        cleanup_free char *path = NULL;
        const char *listed = json_string_value(json_array_get(list, i));
        r = listed ? listed_path(listed, &path, err) : err_set(err, EINVAL, LIST_NAME ": [%zu] must be a string", i);
        if (r == 0 && root_fd >= 0)
            r = delete_path(path, root_fd, undo, err);
    }
    return r;
}

int rootfs_diff_check_deleted(const char *json, size_t len, struct err *err) {
    return each_deleted(json, len, -1, NULL, err);
}

int rootfs_diff_delete(const char *json, size_t len, int root_fd, struct rootfs_undo *undo, struct err *err) {
    return each_deleted(json, len, root_fd, undo, err);
}
