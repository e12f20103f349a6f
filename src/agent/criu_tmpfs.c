/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu_tmpfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BLOCK ((size_t)512)
#define ENTRIES_MAX ((size_t)256)
#define DEPTH_MAX 16
#define TAR_MAX ((ENTRIES_MAX + 2) * BLOCK) /* with the two empty blocks of its end */

#define GZIP_HEAD 10
#define GZIP_TAIL 8
#define STORED_HEAD 5
#define STORED_MAX ((size_t)65535)
#define GZIP_MAX (GZIP_HEAD + (TAR_MAX / STORED_MAX + 1) * STORED_HEAD + TAR_MAX + GZIP_TAIL)

static const unsigned char gzip_head[GZIP_HEAD] = {0x1f, 0x8b, 8, [9] = 3}; /* deflate; no time, no name; Unix */

/* All its numbers are octal digits. */
struct ustar {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
    char linkname[100], magic[6], version[2], uname[32], gname[32], devmajor[8], devminor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct ustar) == BLOCK, "a header is one block");

enum {
    TYPE_FILE = '0',
    TYPE_SYMLINK = '2',
    TYPE_CHAR = '3',
    TYPE_BLOCK = '4',
    TYPE_DIRECTORY = '5',
    TYPE_FIFO = '6',
};

/* The program that this is part of is forked from CRIU for one archive: no memory need be allocated or freed. */
static union {
    unsigned char bytes[TAR_MAX];
    struct ustar headers[ENTRIES_MAX + 2];
} tar;
static size_t n_entries;

static uint32_t crc32_of(const unsigned char *p, size_t n) {
    uint32_t crc = UINT32_MAX;
    while (n-- > 0) {
        crc ^= *p++;
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ UINT32_C(0xEDB88320) : crc >> 1;
    }
    return ~crc;
}

static unsigned checksum_of(const struct ustar *h) {
    const unsigned char *p = (const void *)h;
    const size_t field = offsetof(struct ustar, checksum);
    unsigned sum = 0;
    for (size_t i = 0; i < BLOCK; i++)
        sum += i >= field && i < field + sizeof(h->checksum) ? ' ' : p[i];
    return sum;
}

/* Saving. */

/* Whether it fits; digits and a NUL. */
static bool put_number(char *field, size_t size, uint64_t value) {
    char text[24];
    int n = snprintf(text, sizeof(text), "%0*llo", (int)size - 1, (unsigned long long)value);
    if ((size_t)n >= size)
        return false;
    memcpy(field, text, size);
    return true;
}

static char type_of(const struct stat *st) {
    switch (st->st_mode & S_IFMT) {
    case S_IFREG:
        return st->st_size == 0 ? TYPE_FILE : '\0';
    case S_IFLNK:
        return TYPE_SYMLINK;
    case S_IFCHR:
        return TYPE_CHAR;
    case S_IFBLK:
        return TYPE_BLOCK;
    case S_IFDIR:
        return TYPE_DIRECTORY;
    case S_IFIFO:
        return TYPE_FIFO;
    default:
        return '\0';
    }
}

static int put_entry(int dir, const char *name, const char *path, const struct stat *st) {
    char type = type_of(st);
    if (!type || n_entries >= ENTRIES_MAX || (type != TYPE_DIRECTORY && st->st_nlink > 1) || st->st_mtime < 0)
        return 0;
    struct ustar *h = &tar.headers[n_entries];
    *h = (struct ustar){.type = type, .magic = "ustar", .version = {'0', '0'}};
    if (strlen(path) >= sizeof(h->name))
        return 0;
    memcpy(h->name, path, strlen(path));
    bool device = type == TYPE_CHAR || type == TYPE_BLOCK;
    if (!put_number(h->mode, sizeof(h->mode), st->st_mode & 07777) || !put_number(h->uid, sizeof(h->uid), st->st_uid) ||
        !put_number(h->gid, sizeof(h->gid), st->st_gid) || !put_number(h->size, sizeof(h->size), 0) ||
        !put_number(h->mtime, sizeof(h->mtime), (uint64_t)st->st_mtime) ||
        !put_number(h->devmajor, sizeof(h->devmajor), device ? major(st->st_rdev) : 0) ||
        !put_number(h->devminor, sizeof(h->devminor), device ? minor(st->st_rdev) : 0))
        return 0;
    if (type == TYPE_SYMLINK) {
        ssize_t n = readlinkat(dir, name, h->linkname, sizeof(h->linkname));
        if (n < 0)
            return -errno;
        if ((size_t)n >= sizeof(h->linkname))
            return 0;
    }
    snprintf(h->checksum, sizeof(h->checksum), "%06o", checksum_of(h));
    h->checksum[7] = ' ';
    n_entries++;
    return 1;
}

/* Takes fd. path ends with a slash. */
static int put_directory(int fd, dev_t dev, const char *path, unsigned depth) {
    struct stat st;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int saved = errno;
        close(fd);
        return -saved;
    }
    int r = fstat(fd, &st) < 0 ? -errno : st.st_dev != dev || depth > DEPTH_MAX ? 0 : put_entry(fd, "", path, &st);
    const struct dirent *e;
    while (r > 0 && (errno = 0, e = readdir(dir))) {
        char below[sizeof(tar.headers[0].name)];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            r = -errno;
            break;
        }
        bool is_dir = S_ISDIR(st.st_mode);
        if ((size_t)snprintf(below, sizeof(below), "%s%s%s", path, e->d_name, is_dir ? "/" : "") >= sizeof(below)) {
            r = 0;
        } else if (is_dir) {
            int sub = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            r = sub < 0 ? -errno : put_directory(sub, dev, below, depth + 1);
        } else {
            r = put_entry(fd, e->d_name, below, &st);
        }
    }
    if (r > 0 && errno)
        r = -errno;
    closedir(dir);
    return r;
}

static void put_le(unsigned char *to, uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++)
        to[i] = (unsigned char)(value >> 8 * i);
}

static size_t compress(unsigned char *to, const unsigned char *from, size_t len) {
    unsigned char *p = to;
    memcpy(p, gzip_head, sizeof(gzip_head));
    p += sizeof(gzip_head);
    for (size_t at = 0; at < len;) {
        size_t n = len - at < STORED_MAX ? len - at : STORED_MAX;
        *p = at + n == len; /* the last one; type 0 */
        put_le(p + 1, n, 2);
        put_le(p + 3, ~n, 2);
        memcpy(p + STORED_HEAD, from + at, n);
        p += STORED_HEAD + n;
        at += n;
    }
    put_le(p, crc32_of(from, len), 4);
    put_le(p + 4, len, 4);
    return (size_t)(p + GZIP_TAIL - to);
}

static int write_all(int fd, const unsigned char *p, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno != EINTR)
            return -errno;
        p += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int criu_tmpfs_save(int dir, int out) {
    static unsigned char archive[GZIP_MAX];
    struct stat st;
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    n_entries = 0;
    int r = put_directory(fd, st.st_dev, "./", 0);
    if (r <= 0)
        return r;
    memset(&tar.headers[n_entries], 0, 2 * BLOCK);
    r = write_all(out, archive, compress(archive, tar.bytes, (n_entries + 2) * BLOCK));
    return r < 0 ? r : 1;
}

/* Loading. Everything is looked at before anything is made. */

static uint64_t get_le(const unsigned char *p, unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)p[i] << 8 * i;
    return value;
}

/* Into tar; its length, 0 for a case for tar. */
static size_t decompress(const unsigned char *p, size_t len) {
    const unsigned char *end = p + len;
    size_t n = 0;
    bool last = false;
    if (len < sizeof(gzip_head) || memcmp(p, gzip_head, sizeof(gzip_head)) != 0)
        return 0;
    p += sizeof(gzip_head);
    while (!last) {
        if (end - p < STORED_HEAD || *p > 1)
            return 0;
        last = *p;
        size_t block = get_le(p + 1, 2);
        bool sure = (get_le(p + 3, 2) ^ block) == STORED_MAX;
        p += STORED_HEAD;
        if (!sure || block > (size_t)(end - p) || block > TAR_MAX - n)
            return 0;
        memcpy(tar.bytes + n, p, block);
        n += block;
        p += block;
    }
    return end - p == GZIP_TAIL && get_le(p, 4) == crc32_of(tar.bytes, n) && get_le(p + 4, 4) == n ? n : 0;
}

static bool get_number(const char *field, size_t size, uint64_t *ret) {
    *ret = 0;
    for (size_t i = 0; i < size && field[i] && field[i] != ' '; i++) {
        if (field[i] < '0' || field[i] > '7')
            return false;
        *ret = *ret << 3 | (uint64_t)(field[i] - '0');
    }
    return true;
}

struct entry {
    char name[100]; /* without the leading "./" and the slash of a directory; "." for the root */
    char link[100];
    char type;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    time_t mtime;
    dev_t dev;
};

static bool is_safe(const char *name) {
    if (name[0] == '/')
        return false;
    for (const char *p = name; p; p = strchr(p, '/')) {
        p += *p == '/';
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return false;
    }
    return true;
}

static bool parse(const struct ustar *h, struct entry *e) {
    uint64_t mode, uid, gid, size, mtime, checksum, dev_major, dev_minor;
    if (memcmp(h->magic, "ustar", sizeof(h->magic)) != 0 || h->prefix[0] || h->name[sizeof(h->name) - 1] ||
        h->linkname[sizeof(h->linkname) - 1] || !get_number(h->checksum, sizeof(h->checksum), &checksum) ||
        checksum != checksum_of(h) || !get_number(h->mode, sizeof(h->mode), &mode) || mode > 07777 ||
        !get_number(h->uid, sizeof(h->uid), &uid) || !get_number(h->gid, sizeof(h->gid), &gid) ||
        !get_number(h->size, sizeof(h->size), &size) || size != 0 || !get_number(h->mtime, sizeof(h->mtime), &mtime) ||
        mtime > INT64_MAX >> 1 || !get_number(h->devmajor, sizeof(h->devmajor), &dev_major) ||
        !get_number(h->devminor, sizeof(h->devminor), &dev_minor) || h->name[0] != '.' || h->name[1] != '/' ||
        !strchr("023456", h->type) || !h->type)
        return false;
    *e = (struct entry){.type = h->type,
                        .mode = (mode_t)mode,
                        .uid = (uid_t)uid,
                        .gid = (gid_t)gid,
                        .mtime = (time_t)mtime,
                        .dev = makedev((unsigned)dev_major, (unsigned)dev_minor)};
    memcpy(e->link, h->linkname, sizeof(e->link));
    memcpy(e->name, h->name + 2, sizeof(e->name) - 2);
    size_t n = strlen(e->name);
    if (n == 0 && e->type == TYPE_DIRECTORY) {
        e->name[0] = '.';
        return true;
    }
    if (n > 0 && e->name[n - 1] == '/' && e->type == TYPE_DIRECTORY)
        e->name[n - 1] = '\0';
    return is_safe(e->name) && (e->type != TYPE_SYMLINK || e->link[0]);
}

/* Opens the directory that e is to be in, by no symbolic link; *ret_name is the rest. */
static int open_parent(int root, const struct entry *e, const char **ret_name) {
    const struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    char path[sizeof(e->name)] = ".";
    const char *slash = strrchr(e->name, '/');
    *ret_name = slash ? slash + 1 : e->name;
    if (slash)
        snprintf(path, sizeof(path), "%.*s", (int)(slash - e->name), e->name);
    int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
    return fd < 0 ? -errno : fd;
}

static int make(int dir, const char *name, const struct entry *e) {
    static const struct {
        char type;
        mode_t mode;
    } nodes[] = {{TYPE_FILE, S_IFREG}, {TYPE_CHAR, S_IFCHR}, {TYPE_BLOCK, S_IFBLK}, {TYPE_FIFO, S_IFIFO}};
    struct stat st;
    int r = -1;
    if (e->type == TYPE_DIRECTORY) {
        if (mkdirat(dir, name, 0700) < 0 && (errno != EEXIST || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
                                             (errno = EEXIST, !S_ISDIR(st.st_mode))))
            return -errno;
        return 0;
    }
    if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
        return -errno;
    if (e->type == TYPE_SYMLINK)
        return symlinkat(e->link, dir, name) < 0 ? -errno : 0;
    for (size_t i = 0; i < sizeof(nodes) / sizeof(*nodes); i++)
        if (nodes[i].type == e->type)
            r = mknodat(dir, name, nodes[i].mode | 0600, e->dev);
    return r < 0 ? -errno : 0;
}

/* Owner, then mode (a change of owner clears bits of it), then time. */
static int set_attributes(int dir, const char *name, const struct entry *e) {
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = e->mtime}};
    if (fchownat(dir, name, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        (e->type != TYPE_SYMLINK && fchmodat(dir, name, e->mode, 0) < 0) ||
        utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return 0;
}

static int apply(int root, const struct entry *e, bool attributes) {
    const char *name;
    int dir = open_parent(root, e, &name);
    int r = dir < 0 ? dir : 0;
    if (r == 0 && !attributes && strcmp(name, ".") != 0)
        r = make(dir, name, e);
    if (r == 0 && attributes == (e->type == TYPE_DIRECTORY))
        r = set_attributes(dir, name, e);
    if (dir >= 0)
        close(dir);
    return r;
}

int criu_tmpfs_extract(const unsigned char *archive, size_t len, const char *directory) {
    static struct entry entries[ENTRIES_MAX];
    static const unsigned char nothing[2 * BLOCK];
    size_t size = decompress(archive, len), n = 0;
    if (size < 2 * BLOCK || size % BLOCK != 0)
        return 0;
    for (; memcmp(tar.bytes + n * BLOCK, nothing, BLOCK) != 0; n++)
        if (n + 2 >= size / BLOCK || n >= ENTRIES_MAX || !parse(&tar.headers[n], &entries[n]))
            return 0;
    int root = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = root < 0 ? -errno : 0;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = apply(root, &entries[i], false);
    /* What is made in a directory changes its time. */
    for (size_t i = n; r == 0 && i-- > 0;)
        if (entries[i].type == TYPE_DIRECTORY)
            r = apply(root, &entries[i], true);
    if (root >= 0)
        close(root);
    return r < 0 ? r : 1;
}

int criu_tmpfs_load(int in, const char *directory) {
    static unsigned char archive[GZIP_MAX];
    off_t start = lseek(in, 0, SEEK_CUR);
    struct stat st;
    if (start < 0 || fstat(in, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size - start > (off_t)sizeof(archive))
        return 0;
    size_t size = 0;
    while (size < sizeof(archive)) {
        ssize_t n = pread(in, archive + size, sizeof(archive) - size, start + (off_t)size);
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        size += (size_t)n;
    }
    return criu_tmpfs_extract(archive, size, directory);
}
