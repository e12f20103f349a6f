/* SPDX-License-Identifier: Apache-2.0 */
/* Archives as an attacker would make them, built by libarchive directly. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>

#include "oci/archive_tar.h"
#include "tmpdir.h"

/* One entry: a regular file with `data` unless `type` says otherwise. */
struct member {
    const char *name;
    const char *data; /* NULL: empty */
    unsigned type;    /* AE_IF…; 0: AE_IFREG */
    const char *link; /* target of a symbolic link; of a hard link if hard */
    bool hard;
    unsigned mode; /* 0: 0644 */
    int64_t uid, gid;
    unsigned major, minor;
    int64_t hole;      /* a sparse file of this size, all hole */
    const char *xattr; /* with the value "v" */
};

static inline struct archive *tar_new(const char *path, int filter) {
    struct archive *a = archive_write_new();
    assert_int_equal(archive_write_add_filter(a, filter), ARCHIVE_OK);
    assert_int_equal(archive_write_set_format_pax_restricted(a), ARCHIVE_OK);
    assert_int_equal(archive_write_set_bytes_in_last_block(a, 1), ARCHIVE_OK);
    assert_int_equal(archive_write_set_options(a, "hdrcharset=BINARY"), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
    return a;
}

static inline void tar_add(struct archive *a, const struct member *m) {
    struct archive_entry *e = archive_entry_new();
    size_t len = m->data ? strlen(m->data) : 0;
    archive_entry_copy_pathname(e, m->name);
    archive_entry_set_filetype(e, m->type ? m->type : AE_IFREG);
    archive_entry_set_perm(e, m->mode ? m->mode : 0644);
    archive_entry_set_uid(e, m->uid);
    archive_entry_set_gid(e, m->gid);
    archive_entry_set_mtime(e, 1700000000, 0);
    archive_entry_set_rdevmajor(e, m->major);
    archive_entry_set_rdevminor(e, m->minor);
    archive_entry_set_size(e, m->hole ? m->hole : (la_int64_t)len);
    if (m->hole)
        archive_entry_sparse_add_entry(e, m->hole, 0);
    if (m->hard)
        archive_entry_copy_hardlink(e, m->link);
    else if (m->link)
        archive_entry_copy_symlink(e, m->link);
    if (m->xattr)
        archive_entry_xattr_add_entry(e, m->xattr, "v", 1);
    if (archive_write_header(a, e) < ARCHIVE_WARN)
        fail_msg("%s: %s", m->name, archive_error_string(a));
    if (len)
        assert_int_equal(archive_write_data(a, m->data, len), len);
    /* libarchive writes the map of holes with the first byte, even if that is in a hole. */
    if (m->hole)
        assert_int_equal(archive_write_data(a, "", 1), 1);
    archive_entry_free(e);
}

/* A tar of these members, up to the first without a name. */
static inline void tar_write(const char *path, int filter, const struct member *m) {
    struct archive *a = tar_new(path, filter);
    for (; m->name; m++)
        tar_add(a, m);
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
}

/* malloc'd bytes of a file. */
static inline char *slurp(const char *path, size_t *len) {
    char *data = NULL;
    struct err e = ERR_INIT;
    if (file_read_at(AT_FDCWD, path, (size_t)64 << 20, &data, len, &e) < 0)
        fail_msg("%s", e.msg);
    return data;
}

static inline void spill(const char *path, const void *data, size_t len) {
    assert_int_equal(file_write_atomic(path, data, len, 0600, false, NULL), 0);
}

/* The text of a file below dirfd, or NULL. */
static inline char *text_at(int dirfd, const char *name) {
    char *data = NULL;
    return file_read_at(dirfd, name, (size_t)1 << 20, &data, NULL, NULL) < 0 ? NULL : data;
}

static inline void assert_text(int dirfd, const char *name, const char *want) {
    cleanup_free char *got = text_at(dirfd, name);
    if (!got || strcmp(got, want) != 0)
        fail_msg("%s holds \"%s\" instead of \"%s\"", name, got ? got : "(nothing)", want);
}

/* A new directory below t, open. */
static inline int make_dir(const struct tmpdir *t, const char *name) {
    assert_int_equal(mkdirat(t->fd, name, 0755), 0);
    int fd = openat(t->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static inline unsigned count_entries(int dirfd) {
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    cleanup_dir DIR *dir = fdopendir(fd);
    unsigned n = 0;
    for (const struct dirent *d; (d = readdir(dir));)
        n += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
    return n;
}
