/* SPDX-License-Identifier: Apache-2.0 */
#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <nettle/sha2.h>
#include <string.h>

#include "base/fd.h"
#include "snapshot/tree_impl.h"

#define CHUNK ((off_t)256 << 10)
#define BLOCK ((off_t)4096)

/* The digest is over records, each of a kind and numbers and texts in a fixed order, so that no two trees give the same
 * bytes: texts go with their lengths, lists end with a mark. */
struct digest {
    struct tree_walk walk;
    struct sha256_ctx sha;
    struct tree_totals totals;
    uint8_t *buffer; /* CHUNK */
};

static void put_number(struct digest *d, uint64_t v) {
    uint64_t le = htole64(v);
    sha256_update(&d->sha, sizeof(le), (const uint8_t *)&le);
}

static void put_bytes(struct digest *d, const void *bytes, size_t len) {
    put_number(d, len);
    sha256_update(&d->sha, len, bytes);
}

static bool is_local(const char *name) {
    static const char *const local[] = {"trusted.overlay.origin", "trusted.overlay.impure", "trusted.overlay.uuid",
                                        "trusted.overlay.nlink"};
    for (size_t i = 0; i < ARRAY_SIZE(local); i++)
        if (strcmp(local[i], name) == 0)
            return true;
    return false;
}

static int put_xattr(struct tree_walk *w, const char *name, const void *value, size_t len, void *userdata,
                     struct err *err) {
    (void)w;
    (void)err;
    struct digest *d = userdata;
    if (is_local(name))
        return 0;
    put_number(d, 'x');
    put_bytes(d, name, strlen(name));
    put_bytes(d, value, len);
    return 0;
}

static bool is_zero(const uint8_t *p, size_t len) {
    return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

/* One chunk from `at`, a multiple of CHUNK: its blocks that are not zero, with their offsets. */
static int put_chunk(struct digest *d, int fd, off_t at, off_t size, struct err *err) {
    size_t want = (size_t)MIN(CHUNK, size - at), have = 0;
    while (have < want) {
        ssize_t n = pread(fd, d->buffer + have, want - have, at + (off_t)have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return tree_fail(&d->walk, errno, "read", err);
        if (n == 0)
            return err_set(err, EIO, "%s: it became shorter while it was read", d->walk.path);
        have += (size_t)n;
    }
    for (size_t i = 0; i < have;) {
        size_t first = i;
        while (i < have && !is_zero(d->buffer + i, MIN((size_t)BLOCK, have - i)))
            i += MIN((size_t)BLOCK, have - i);
        if (i > first) {
            put_number(d, 'd');
            put_number(d, (uint64_t)at + first);
            put_bytes(d, d->buffer + first, i - first);
            d->totals.bytes += i - first;
        } else
            i += MIN((size_t)BLOCK, have - i);
    }
    return 0;
}

static int put_file(struct digest *d, int from, const struct stat *st, struct err *err) {
    put_number(d, (uint64_t)st->st_size);
    if (st->st_size == 0)
        return 0;
    cleanup_fd int fd = tree_reopen(&d->walk, from, O_RDONLY | O_NOATIME, err);
    if (fd < 0)
        return fd;
    for (off_t at = 0, end = 0; at < st->st_size; at += CHUNK) {
        if (at >= end) {
            off_t data = lseek(fd, at, SEEK_DATA);
            if (data < 0 && errno == ENXIO)
                break;
            if (data < 0 || (end = lseek(fd, data, SEEK_HOLE)) < 0)
                return tree_fail(&d->walk, errno, "find the data of", err);
            at = MAX(at, data / CHUNK * CHUNK);
            if (at >= st->st_size)
                break;
        }
        int r = put_chunk(d, fd, at, st->st_size, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int put_dir(struct digest *d, int fd, struct err *err);

static int put_link(struct digest *d, int fd, struct err *err) {
    char target[PATH_MAX];
    ssize_t n = readlinkat(fd, "", target, sizeof(target));
    if (n < 0)
        return tree_fail(&d->walk, errno, "read the link", err);
    put_bytes(d, target, (size_t)n);
    return 0;
}

static int put_contents(struct digest *d, int fd, const struct stat *st, struct err *err) {
    if (S_ISREG(st->st_mode))
        return put_file(d, fd, st, err);
    if (S_ISLNK(st->st_mode))
        return put_link(d, fd, err);
    if (S_ISDIR(st->st_mode)) {
        cleanup_fd int dir = tree_reopen(&d->walk, fd, O_RDONLY | O_DIRECTORY | O_NOATIME, err);
        return dir < 0 ? dir : put_dir(d, dir, err);
    }
    if (S_ISBLK(st->st_mode) || S_ISCHR(st->st_mode))
        put_number(d, st->st_rdev);
    return 0;
}

/* The attributes of an entry, or of the top. */
static int put_attributes(struct digest *d, int fd, const struct stat *st, struct err *err) {
    put_number(d, st->st_mode);
    put_number(d, st->st_uid);
    put_number(d, st->st_gid);
    if (!S_ISDIR(st->st_mode)) {
        put_number(d, (uint64_t)st->st_mtim.tv_sec);
        put_number(d, (uint64_t)st->st_mtim.tv_nsec);
    }
    int r = tree_xattrs(&d->walk, fd, put_xattr, d, err);
    put_number(d, 'e');
    return r;
}

static int put_entry(struct digest *d, int dirfd, const char *name, struct err *err) {
    struct stat st;
    uint64_t number = 0;
    bool first = true;
    cleanup_fd int fd = tree_open(&d->walk, dirfd, name, &st, err);
    if (fd < 0)
        return fd;
    int r = 0;
    d->totals.entries++;
    if (!S_ISDIR(st.st_mode) && st.st_nlink > 1)
        r = tree_link_number(&d->walk, &st, d->totals.entries, &number, &first, err);
    if (r < 0)
        return r;
    put_number(d, first ? 'n' : 'h');
    put_bytes(d, name, strlen(name));
    if (!first) {
        put_number(d, number);
        return 0;
    }
    r = put_attributes(d, fd, &st, err);
    if (r == 0)
        r = put_contents(d, fd, &st, err);
    put_number(d, 'e');
    return r;
}

static int put_dir(struct digest *d, int fd, struct err *err) {
    struct tree_names names;
    int r = tree_list(&d->walk, fd, &names, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < names.n && r == 0; i++) {
        size_t len = tree_enter(&d->walk, tree_name(&names, i));
        r = put_entry(d, fd, tree_name(&names, i), err);
        tree_leave(&d->walk, len);
    }
    tree_unlist(&d->walk, &names);
    return r;
}

static int digest_top(struct digest *d, int fd, struct err *err) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return tree_fail(&d->walk, errno, "stat", err);
    int r = put_attributes(d, fd, &st, err);
    if (r == 0)
        r = put_dir(d, fd, err);
    sha256_digest(&d->sha, sizeof(d->totals.sha256), d->totals.sha256);
    return r;
}

int tree_digest(int fd, struct tree_totals *ret, struct err *err) {
    struct digest d = {.buffer = malloc((size_t)CHUNK)};
    int r = d.buffer ? tree_walk_init(&d.walk, err) : err_set(err, ENOMEM, "out of memory");
    if (r == 0) {
        sha256_init(&d.sha);
        r = digest_top(&d, fd, err);
        tree_walk_clear(&d.walk);
    }
    free(d.buffer);
    if (r == 0)
        *ret = d.totals;
    return r;
}
