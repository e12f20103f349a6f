/* SPDX-License-Identifier: Apache-2.0 */
/* The difference of a root file system, from an overlay's upper directory. (Applying one: rootfs_diff_apply.c) */
#include "oci/rootfs_diff.h"

#include <fcntl.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "oci/archive_links.h"
#include "oci/archive_tar.h"

#define LINKS_MAX (1U << 16) /* files with several names that we wait for the rest of */
#define NOTES_MAX 32
#define OVERLAY "trusted.overlay."
#define OVERLAY_USER "user.overlay." /* the same, of an overlay mounted with userxattr */

struct walk {
    struct archive_put *put;
    struct strv *deleted, *notes; /* may be NULL */
    uint32_t n_entries, n_notes;
    uint64_t bytes;
    struct archive_links links;
    char *xattr; /* ROOTFS_DIFF_XATTR_MAX bytes */
    char *list;  /* XATTR_LIST_MAX bytes */
};

/* One directory, above and below. */
struct level {
    int upper, lower; /* lower -1: there is none, or it is not known */
    bool lower_known;
    bool hides;       /* nothing of the lower one is seen */
    const char *path; /* from the root, "" for it */
    unsigned depth;
};

static int walk_dir(struct walk *w, const struct level *l, struct err *err);

static int out_of_memory(struct err *err) {
    return err_set(err, ENOMEM, "out of memory");
}

static int add_note(struct walk *w, const char *path, const char *why, struct err *err) {
    int r = 0;
    w->n_notes++;
    if (w->notes && w->n_notes < NOTES_MAX)
        r = strv_addf(w->notes, "/%s: %s", path, why);
    else if (w->notes && w->n_notes == NOTES_MAX)
        r = strv_add(w->notes, "and more of the kind");
    return r < 0 ? out_of_memory(err) : 0;
}

/* Deleted: a path in the list; where JSON cannot say it, an OCI whiteout. */
static int put_deleted(struct walk *w, const char *dir, const char *name, struct err *err) {
    static const struct stat nothing = {.st_mode = S_IFREG | 0600};
    bool text = utf8_valid(dir, strlen(dir)) && utf8_valid(name, strlen(name));
    cleanup_free char *path = str_printf("%s%s%s%s", dir, *dir ? "/" : "", text ? "" : ".wh.", name);
    if (!path)
        return out_of_memory(err);
    if (!text) {
        cleanup_entry struct archive_entry *e = archive_put_header(path, &nothing);
        return e ? archive_put_entry(w->put, e, NULL, 0, err) : out_of_memory(err);
    }
    if (!w->deleted)
        return 0;
    if (w->deleted->n == ROOTFS_DIFF_DELETED_MAX)
        return err_set(err, EFBIG, "more than %u files were deleted", ROOTFS_DIFF_DELETED_MAX);
    return strv_addf(w->deleted, "/%s", path) < 0 ? out_of_memory(err) : 0;
}

/* True if fd has the extended attribute, also without a value. */
static bool has_xattr(int fd, const char *name) {
    return fgetxattr(fd, name, NULL, 0) >= 0;
}

/* "x" would mean something else: that there are whiteouts made of attributes in it. */
static bool is_opaque(int fd) {
    char value[2];
    return fgetxattr(fd, OVERLAY "opaque", value, sizeof(value)) == 1 && value[0] == 'y';
}

static bool xattr_wanted(const char *name) {
    if (strncmp(name, OVERLAY_USER, strlen(OVERLAY_USER)) == 0)
        return false;
    return strncmp(name, "user.", 5) == 0 || strcmp(name, "security.capability") == 0;
}

/* Those that every file may have without anybody having set them. */
static bool xattr_ours(const char *name) {
    return strncmp(name, OVERLAY, strlen(OVERLAY)) == 0 || strncmp(name, OVERLAY_USER, strlen(OVERLAY_USER)) == 0 ||
           strcmp(name, "security.selinux") == 0;
}

static int add_xattrs(struct walk *w, struct archive_entry *e, int fd, const char *path, struct err *err) {
    ssize_t len = flistxattr(fd, w->list, XATTR_LIST_MAX);
    if (len < 0)
        return errno == EOPNOTSUPP ? 0 : err_errno(err, errno, "cannot read the attributes of /%s", path);
    unsigned n = 0;
    for (const char *name = w->list; name < w->list + len; name += strlen(name) + 1) {
        if (!xattr_wanted(name)) {
            int r = xattr_ours(name) ? 0 : add_note(w, path, "an extended attribute is not taken along", err);
            if (r < 0)
                return r;
            continue;
        }
        ssize_t size = fgetxattr(fd, name, w->xattr, ROOTFS_DIFF_XATTR_MAX);
        if (size < 0)
            return err_errno(err, errno, "cannot read the attribute %s of /%s", name, path);
        if (n++ == ROOTFS_DIFF_XATTRS_MAX)
            return err_set(err, EFBIG, "/%s has more than %d extended attributes", path, ROOTFS_DIFF_XATTRS_MAX);
        archive_entry_xattr_add_entry(e, name, w->xattr, (size_t)size);
    }
    return 0;
}

/* Too many are no reason to fail: the container goes on with files of its own. */
static int find_link(struct walk *w, struct archive_entry *e, const char *path, const struct stat *st,
                     struct err *err) {
    struct err e_links = ERR_INIT;
    int r = archive_links_find(&w->links, e, path, st, &e_links);
    if (r == -EFBIG)
        return add_note(w, path, "becomes a file of its own, it had other names", err);
    return r < 0 ? err_copy(err, &e_links) : r;
}

static int put_regular(struct walk *w, const struct level *l, const char *name, const char *path, struct err *err) {
    struct stat st;
    /* Not blocking: what was a file may be a FIFO by now. */
    cleanup_fd int fd = path_open_beneath(l->upper, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, err);
    if (fd < 0)
        return err_wrap(err, "/%s", path);
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot read /%s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EIO, "/%s changed while it was read", path);
    if (has_xattr(fd, OVERLAY "metacopy"))
        return err_set(err, EOPNOTSUPP, "/%s is without its data (overlay's metacopy)", path);
    if (st.st_size == 0 && has_xattr(fd, OVERLAY "whiteout"))
        return put_deleted(w, l->path, name, err);
    uint64_t bytes = 0;
    int r = archive_put_measure(fd, &st, &bytes);
    if (r == -EFBIG)
        return err_set(err, EFBIG, "/%s has more than %llu bytes, holes counted", path,
                       (unsigned long long)ARCHIVE_FILE_MAX);
    if (r < 0)
        return err_errno(err, -r, "cannot read /%s", path);
    if (bytes > ROOTFS_DIFF_BYTES_MAX - w->bytes)
        return err_set(err, EFBIG, "with /%s the changed files have more than %llu bytes", path,
                       (unsigned long long)ROOTFS_DIFF_BYTES_MAX);
    cleanup_entry struct archive_entry *e = archive_put_header(path, &st);
    if (!e)
        return out_of_memory(err);
    r = find_link(w, e, path, &st, err);
    if (r != 0)
        return r < 0 ? r : archive_put_entry(w->put, e, NULL, 0, err);
    w->bytes += bytes;
    if ((r = add_xattrs(w, e, fd, path, err)) < 0)
        return r;
    return archive_put_file(w->put, e, fd, err);
}

static int put_other(struct walk *w, const struct level *l, const char *name, const char *path, const struct stat *st,
                     struct err *err) {
    char target[PATH_MAX];
    if (!S_ISLNK(st->st_mode) && !S_ISFIFO(st->st_mode))
        return add_note(w, path, S_ISSOCK(st->st_mode) ? "a socket is not taken along" : "a device is not taken along",
                        err);
    cleanup_entry struct archive_entry *e = archive_put_header(path, st);
    if (!e)
        return out_of_memory(err);
    if (S_ISLNK(st->st_mode)) {
        ssize_t n = readlinkat(l->upper, name, target, sizeof(target) - 1);
        if (n < 0)
            return err_errno(err, errno, "cannot read /%s", path);
        target[n] = '\0';
        archive_entry_copy_symlink(e, target);
    }
    return archive_put_entry(w->put, e, NULL, 0, err);
}

/* The directory hides the lower one. What was in that, and is not in this, was deleted. */
static int put_hidden(struct walk *w, const struct level *l, struct err *err) {
    static const struct stat nothing = {.st_mode = S_IFREG | 0600};
    struct stat st;
    if (!l->lower_known) {
        cleanup_free char *path = str_printf("%s/.wh..wh..opq", l->path);
        cleanup_entry struct archive_entry *e = path ? archive_put_header(path, &nothing) : NULL;
        return e ? archive_put_entry(w->put, e, NULL, 0, err) : out_of_memory(err);
    }
    if (l->lower < 0)
        return 0;
    cleanup_fd int fd = path_open_beneath(l->lower, ".", O_RDONLY | O_DIRECTORY, 0, err);
    cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return err_errno(err, errno, "cannot read the lower directory of /%s", l->path);
    (void)TAKE_FD(fd); /* owned by dir now */
    for (;;) {
        errno = 0;
        const struct dirent *d = readdir(dir);
        if (!d)
            return errno ? err_errno(err, errno, "cannot read the lower directory of /%s", l->path) : 0;
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
            fstatat(l->upper, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            continue;
        int r = put_deleted(w, l->path, d->d_name, err);
        if (r < 0)
            return r;
    }
}

static int put_dir(struct walk *w, const struct level *l, const char *name, const char *path, struct err *err) {
    struct stat st;
    cleanup_fd int fd = path_open_beneath(l->upper, name, O_RDONLY | O_DIRECTORY, 0, err);
    if (fd < 0)
        return err_wrap(err, "/%s", path);
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot read /%s", path);
    if (has_xattr(fd, OVERLAY "redirect"))
        return err_set(err, EOPNOTSUPP, "/%s was renamed (overlay's redirect_dir)", path);
    cleanup_entry struct archive_entry *e = archive_put_header(path, &st);
    if (!e)
        return out_of_memory(err);
    int r = add_xattrs(w, e, fd, path, err);
    if (r < 0 || (r = archive_put_entry(w->put, e, NULL, 0, err)) < 0)
        return r;
    cleanup_fd int lower = l->lower < 0 ? -1 : path_open_beneath(l->lower, name, O_RDONLY | O_DIRECTORY, 0, NULL);
    /* Below a directory that hides the lower one, no other says that it does. */
    struct level next = {.upper = fd,
                         .lower = lower,
                         .lower_known = l->lower_known,
                         .hides = l->hides || is_opaque(fd),
                         .path = path,
                         .depth = l->depth + 1};
    /* A marker takes all below with it, names do not. */
    if (next.hides && (l->lower_known || !l->hides) && (r = put_hidden(w, &next, err)) < 0)
        return r;
    return walk_dir(w, &next, err);
}

static int put_child(struct walk *w, const struct level *l, const char *name, struct err *err) {
    struct stat st;
    cleanup_free char *path = *l->path ? path_join(l->path, name) : strdup(name);
    if (!path)
        return out_of_memory(err);
    if (w->n_entries++ == ROOTFS_DIFF_ENTRIES_MAX)
        return err_set(err, EFBIG, "more than %u files were changed", ROOTFS_DIFF_ENTRIES_MAX);
    if (strlen(path) > ROOTFS_DIFF_PATH_MAX)
        return err_set(err, EFBIG, "/%.256s…: longer than %d bytes", path, ROOTFS_DIFF_PATH_MAX);
    if (fstatat(l->upper, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "cannot read /%s", path);
    if (S_ISCHR(st.st_mode) && st.st_rdev == 0)
        return put_deleted(w, l->path, name, err);
    /* In the tar such a name would be an order. */
    if (strncmp(name, ".wh.", 4) == 0)
        return add_note(w, path, "has a name that is reserved in archives, not taken along", err);
    if (S_ISDIR(st.st_mode))
        return put_dir(w, l, name, path, err);
    if (S_ISREG(st.st_mode))
        return put_regular(w, l, name, path, err);
    return put_other(w, l, name, path, &st, err);
}

static int walk_dir(struct walk *w, const struct level *l, struct err *err) {
    if (l->depth > ROOTFS_DIFF_DEPTH_MAX)
        return err_set(err, ELOOP, "/%.256s…: more than %d directories deep", l->path, ROOTFS_DIFF_DEPTH_MAX);
    cleanup_fd int fd = path_open_beneath(l->upper, ".", O_RDONLY | O_DIRECTORY, 0, err);
    if (fd < 0)
        return err_wrap(err, "/%s", l->path);
    cleanup_dir DIR *dir = fdopendir(fd);
    if (!dir)
        return err_errno(err, errno, "cannot read /%s", l->path);
    (void)TAKE_FD(fd); /* owned by dir now */
    for (;;) {
        errno = 0;
        const struct dirent *d = readdir(dir);
        if (!d)
            return errno ? err_errno(err, errno, "cannot read /%s", l->path) : 0;
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        int r = put_child(w, l, d->d_name, err);
        if (r < 0)
            return r;
    }
}

int rootfs_diff_write(const struct rootfs_diff_source *src, bool dry, archive_sink_fn sink, void *userdata,
                      struct strv *deleted, struct strv *notes, struct err *err) {
    cleanup_archive_put struct archive_put *put = NULL;
    cleanup_free char *xattr = malloc(ROOTFS_DIFF_XATTR_MAX), *list = malloc(XATTR_LIST_MAX);
    struct walk w = {.links = {.max = LINKS_MAX}, .deleted = deleted, .notes = notes, .xattr = xattr, .list = list};
    const struct level top = {
        .upper = src->upper_fd, .lower = src->lower_fd, .lower_known = src->lower_fd >= 0, .path = ""};
    if (!xattr || !list)
        return out_of_memory(err);
    int r = archive_put_new(sink, userdata, ARCHIVE_FILTER_NONE, dry, "rootfs-diff.tar", &put, err);
    if (r < 0)
        return r;
    w.put = put;
    r = walk_dir(&w, &top, err);
    archive_links_clear(&w.links);
    return r < 0 ? r : archive_put_finish(put, err);
}

int rootfs_diff_deleted_json(const struct strv *deleted, char **ret, struct err *err) {
    cleanup_json json_t *list = json_array();
    for (size_t i = 0; i < deleted->n; i++)
        if (json_array_append_new(list, json_string(deleted->v[i])) < 0)
            return out_of_memory(err);
    cleanup_free char *text = list ? json_text(list, JSON_INDENT(1)) : NULL;
    if (!text)
        return out_of_memory(err);
    if (strlen(text) > JSON_TEXT_MAX)
        return err_set(err, EFBIG, "the list of deleted files is larger than %zu bytes", JSON_TEXT_MAX);
    *ret = TAKE_PTR(text);
    return 0;
}
