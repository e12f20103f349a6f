/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two readers of libarchive in a row: the first knows only the decompressor, the second only tar, and the callback
 * between them counts. A tar's headers are read (and kept) by libarchive before it returns anything to refuse, so the
 * bound has to be in front of it.
 */
#include "oci/archive_tar.h"

#include <archive.h>
#include <fcntl.h>
#include <locale.h>
#include <stdarg.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"

#define BLOCK ((size_t)64 << 10)
#define PAGE UINT64_C(4096)
#define SNIFF 4                         /* bytes that tell the compression */
#define FREE_CHECK ((uint64_t)64 << 20) /* bytes written between two looks at the free space */
#define OVERHEAD UINT64_C(8192)         /* bytes of headers and padding that each entry may have beside its data */

struct archive_tar {
    int fd;
    char name[ARCHIVE_SHOWN];
    enum archive_compression compression;
    struct archive_limits limits;
    locale_t locale;
    struct archive *inner; /* NULL: plain */
    struct archive *outer;
    struct archive_entry *entry; /* of outer; NULL before the first */
    uint8_t *buf;                /* plain: what was read, else unused */
    uint8_t sniffed[SNIFF];
    size_t n_sniffed, sniffed_at;
    size_t budget;  /* bytes that this call of libarchive may still take */
    uint64_t total; /* decompressed so far */
    uint64_t bytes; /* data of entries so far */
    uint32_t entries;
    uint64_t end; /* in the current entry: where the last block ended */
    bool eof, entry_done;
    struct err err; /* of a callback */
};

struct archive_tar *archive_tar_close(struct archive_tar *t) {
    if (!t)
        return NULL;
    archive_read_free(t->outer);
    archive_read_free(t->inner);
    if (t->locale)
        freelocale(t->locale);
    free(t->buf);
    free(t);
    return NULL;
}

enum archive_compression archive_tar_compression(const struct archive_tar *t) {
    return t->compression;
}

int archive_tar_error(const struct archive_tar *t, int code, struct err *err, const char *fmt, ...) {
    char text[512];
    const char *entry = t->entry ? archive_entry_pathname(t->entry) : NULL;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return err_set(err, code, "%s: entry \"%.*s\": %s", t->name, ARCHIVE_SHOWN, entry ? entry : "", text);
}

int archive_tar_path(const struct archive_tar *t, const char *name, char *buf, size_t size, struct err *err) {
    if (!name)
        return archive_tar_error(t, EINVAL, err, "it has no name");
    if (strncmp(name, "./", 2) == 0)
        name += 2;
    size_t len = strlen(name);
    if (len > 1 && name[len - 1] == '/')
        len--;
    if (len >= size)
        return archive_tar_error(t, EINVAL, err, "its name is longer than %zu bytes", size - 1);
    cleanup_free char *full = str_printf("/%.*s", (int)len, name);
    if (!full)
        return err_set(err, ENOMEM, "out of memory");
    /* As a path from a root it must be nothing but names. */
    if (!path_is_normal(full))
        return archive_tar_error(t, EINVAL, err, "its name leads out of the archive");
    memcpy(buf, name, len);
    buf[len] = '\0';
    return 0;
}

/* What libarchive says, or the callback's own reason. */
static int library_error(const struct archive_tar *t, struct archive *a, struct err *err) {
    if (t->err.code)
        return err_copy(err, &t->err);
    const char *why = archive_error_string(a);
    int code = archive_errno(a) == ENOMEM ? ENOMEM : EINVAL;
    return err_set(err, code, "%s is damaged: %s", t->name, why ? why : "no reason given");
}

static ssize_t read_fd(struct archive_tar *t, void *buf, size_t len) {
    for (;;) {
        ssize_t n = read(t->fd, buf, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(&t->err, errno, "cannot read %s", t->name);
        return n;
    }
}

/* The bytes that were looked at first, then the file's. */
static la_ssize_t on_read_file(struct archive *a, void *userdata, const void **ret) {
    struct archive_tar *t = userdata;
    (void)a;
    if (t->sniffed_at < t->n_sniffed) {
        *ret = t->sniffed + t->sniffed_at;
        size_t n = t->n_sniffed - t->sniffed_at;
        t->sniffed_at = t->n_sniffed;
        return (la_ssize_t)n;
    }
    *ret = t->buf;
    ssize_t n = read_fd(t, t->buf, BLOCK);
    return n < 0 ? ARCHIVE_FATAL : n;
}

/* Decompressed bytes, from the first reader. */
static la_ssize_t read_inner(struct archive_tar *t, const void **ret) {
    size_t len = 0;
    la_int64_t offset;
    int r;
    do
        r = archive_read_data_block(t->inner, ret, &len, &offset);
    while (r == ARCHIVE_OK && len == 0);
    if (r == ARCHIVE_EOF)
        return 0;
    if (r != ARCHIVE_OK) {
        library_error(t, t->inner, &t->err);
        return ARCHIVE_FATAL;
    }
    return (la_ssize_t)len;
}

static la_ssize_t on_read(struct archive *a, void *userdata, const void **ret) {
    struct archive_tar *t = userdata;
    if (t->budget == 0) {
        archive_tar_error(t, EFBIG, &t->err, "more than %zu bytes of headers here or behind it", ARCHIVE_STEP_MAX);
        return ARCHIVE_FATAL;
    }
    if (t->limits.stop && t->limits.stop()) {
        err_set(&t->err, EINTR, "%s: interrupted", t->name);
        return ARCHIVE_FATAL;
    }
    la_ssize_t n = t->inner ? read_inner(t, ret) : on_read_file(a, t, ret);
    if (n < 0)
        return n;
    t->eof = n == 0;
    t->budget -= MIN(t->budget, (size_t)n);
    t->total += (uint64_t)n;
    uint64_t room = t->limits.bytes_max + t->limits.entries_max * OVERHEAD;
    if (t->total > MAX(room, t->limits.bytes_max)) {
        err_set(&t->err, EFBIG, "%s holds more than %llu bytes", t->name, (unsigned long long)t->limits.bytes_max);
        return ARCHIVE_FATAL;
    }
    return n;
}

static int sniff(struct archive_tar *t, bool compressed, struct err *err) {
    static const uint8_t gzip[] = {0x1f, 0x8b}, zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
    while (t->n_sniffed < SNIFF) {
        ssize_t n = read_fd(t, t->sniffed + t->n_sniffed, SNIFF - t->n_sniffed);
        if (n < 0)
            return err_copy(err, &t->err);
        if (n == 0)
            return err_set(err, EINVAL, "%s is not an archive: it has only %zu bytes", t->name, t->n_sniffed);
        t->n_sniffed += (size_t)n;
    }
    if (compressed && memcmp(t->sniffed, gzip, sizeof(gzip)) == 0)
        t->compression = ARCHIVE_GZIP;
    else if (compressed && memcmp(t->sniffed, zstd, sizeof(zstd)) == 0)
        t->compression = ARCHIVE_ZSTD;
    return 0;
}

static int open_inner(struct archive_tar *t, struct err *err) {
    struct archive_entry *entry;
    int filter = t->compression == ARCHIVE_GZIP ? ARCHIVE_FILTER_GZIP : ARCHIVE_FILTER_ZSTD;
    t->inner = archive_read_new();
    if (!t->inner)
        return err_set(err, ENOMEM, "out of memory");
    /* A named filter, not a guessed one, so that there is exactly one of them. */
    if (archive_read_support_format_raw(t->inner) != ARCHIVE_OK ||
        archive_read_append_filter(t->inner, filter) != ARCHIVE_OK ||
        archive_read_open(t->inner, t, NULL, on_read_file, NULL) != ARCHIVE_OK ||
        archive_read_next_header(t->inner, &entry) != ARCHIVE_OK)
        return library_error(t, t->inner, err);
    return 0;
}

static int open_outer(struct archive_tar *t, struct err *err) {
    t->outer = archive_read_new();
    if (!t->outer)
        return err_set(err, ENOMEM, "out of memory");
    t->budget = ARCHIVE_STEP_MAX;
    if (archive_read_support_format_tar(t->outer) != ARCHIVE_OK ||
        archive_read_append_filter(t->outer, ARCHIVE_FILTER_NONE) != ARCHIVE_OK ||
        archive_read_open(t->outer, t, NULL, on_read, NULL) != ARCHIVE_OK)
        return library_error(t, t->outer, err);
    return 0;
}

int archive_tar_open(int fd, const char *name, bool compressed, const struct archive_limits *limits,
                     struct archive_tar **ret, struct err *err) {
    cleanup_archive_tar struct archive_tar *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(err, ENOMEM, "out of memory");
    t->fd = fd;
    t->limits = *limits;
    t->entry_done = true;
    snprintf(t->name, sizeof(t->name), "%s", name);
    /* libarchive converts the names of pax headers, which are UTF-8, to the locale's charset. */
    t->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
    if (!t->locale)
        return err_errno(err, errno, "the locale C.UTF-8 is missing");
    t->buf = malloc(BLOCK);
    if (!t->buf)
        return err_set(err, ENOMEM, "out of memory");
    int r = sniff(t, compressed, err);
    if (r < 0 || (t->compression != ARCHIVE_PLAIN && (r = open_inner(t, err)) < 0) || (r = open_outer(t, err)) < 0)
        return r;
    *ret = TAKE_PTR(t);
    return 0;
}

/* Behind the end marker is only padding; reading it also makes the decompressor check what it can. */
static int check_end(struct archive_tar *t, struct err *err) {
    if (t->eof)
        return err_set(err, EINVAL, "%s is cut off: it has no end marker", t->name);
    const void *data;
    t->budget = ARCHIVE_STEP_MAX;
    for (la_ssize_t n; (n = on_read(NULL, t, &data)) != 0;)
        if (n < 0)
            return t->budget == 0 ? err_set(err, EINVAL, "%s goes on behind its end", t->name) : err_copy(err, &t->err);
    return 0;
}

/* What the entry says that is in the archive of it: all, or what its map of holes leaves. */
static uint64_t data_size(struct archive_entry *e) {
    la_int64_t at, len;
    uint64_t sum = 0;
    if (archive_entry_sparse_reset(e) == 0)
        return (uint64_t)archive_entry_size(e);
    while (archive_entry_sparse_next(e, &at, &len) == ARCHIVE_OK)
        sum = len < 0 || sum + (uint64_t)len < sum ? UINT64_MAX : sum + (uint64_t)len;
    return sum;
}

static int count_entry(struct archive_tar *t, struct err *err) {
    int64_t size = archive_entry_size(t->entry);
    if (++t->entries > t->limits.entries_max)
        return err_set(err, EFBIG, "%s has more than %u entries", t->name, t->limits.entries_max);
    if (size < 0)
        return archive_tar_error(t, EINVAL, err, "a negative size");
    if ((uint64_t)size > ARCHIVE_FILE_MAX)
        return archive_tar_error(t, EFBIG, err, "it has more than %llu bytes, holes counted",
                                 (unsigned long long)ARCHIVE_FILE_MAX);
    uint64_t data = data_size(t->entry);
    if (data > t->limits.bytes_max - t->bytes)
        return archive_tar_error(t, EFBIG, err, "with its %llu bytes the archive holds more than %llu",
                                 (unsigned long long)data, (unsigned long long)t->limits.bytes_max);
    t->bytes += data;
    return 0;
}

int archive_tar_next(struct archive_tar *t, struct archive_entry **ret, struct err *err) {
    const void *data = NULL;
    size_t len = 0;
    uint64_t offset = 0;
    int r = 0;
    while (!t->entry_done)
        if ((r = archive_tar_block(t, &data, &len, &offset, err)) < 0)
            return r;
    t->budget = ARCHIVE_STEP_MAX;
    t->end = 0;
    locale_t before = uselocale(t->locale);
    r = archive_read_next_header(t->outer, &t->entry);
    uselocale(before);
    if (r == ARCHIVE_EOF) {
        t->entry = NULL;
        return check_end(t, err);
    }
    /* A warning is a header that libarchive could only read in part: not one to act on. */
    if (r != ARCHIVE_OK) {
        if (r != ARCHIVE_WARN)
            t->entry = NULL;
        return library_error(t, t->outer, err);
    }
    t->entry_done = false;
    if ((r = count_entry(t, err)) < 0)
        return r;
    *ret = t->entry;
    return 1;
}

int archive_tar_block(struct archive_tar *t, const void **ret, size_t *ret_len, uint64_t *ret_offset, struct err *err) {
    const void *data;
    size_t len = 0;
    la_int64_t offset = 0;
    if (t->entry_done)
        return 0;
    t->budget = ARCHIVE_STEP_MAX;
    int r = archive_read_data_block(t->outer, &data, &len, &offset);
    if (r == ARCHIVE_EOF) {
        t->entry_done = true;
        return 0;
    }
    if (r != ARCHIVE_OK)
        return library_error(t, t->outer, err);
    uint64_t size = (uint64_t)archive_entry_size(t->entry), at = (uint64_t)offset;
    if (offset < 0 || at < t->end || at > size || len > size - at)
        return archive_tar_error(t, EINVAL, err, "its data does not fit its size");
    t->end = at + len;
    *ret = data;
    *ret_len = len;
    *ret_offset = at;
    return 1;
}

static int check_free(const struct archive_tar *t, int fd, uint64_t need, struct err *err) {
    struct statvfs v;
    if (fstatvfs(fd, &v) < 0)
        return archive_tar_error(t, errno, err, "%s", strerror(errno));
    uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
    if (room < ARCHIVE_FREE_RESERVE || room - ARCHIVE_FREE_RESERVE < need)
        return archive_tar_error(t, ENOSPC, err, "only %llu bytes are free where it is unpacked to",
                                 (unsigned long long)room);
    return 0;
}

static bool is_zero(const uint8_t *data, size_t len) {
    return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

/* The number of bytes, up to a page's end in the file, that are one thing: zeros, or not. */
static size_t run_of(const uint8_t *data, size_t len, uint64_t offset, bool *ret_zero) {
    size_t n = 0;
    while (n < len) {
        size_t piece = MIN(len - n, (size_t)(PAGE - (offset + n) % PAGE));
        bool zero = is_zero(data + n, piece);
        if (n && zero != *ret_zero)
            break;
        *ret_zero = zero;
        n += piece;
    }
    return n;
}

static int write_run(const struct archive_tar *t, int fd, const uint8_t *data, size_t len, uint64_t offset,
                     struct err *err) {
    while (len) {
        ssize_t n = pwrite(fd, data, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return archive_tar_error(t, errno, err, "cannot write it: %s", strerror(errno));
        data += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

/* Pages of zeros become holes: what was one may have been written out on the way. */
static int write_at(const struct archive_tar *t, int fd, const uint8_t *data, size_t len, uint64_t offset,
                    struct err *err) {
    int r = 0;
    for (size_t at = 0, n; r == 0 && at < len; at += n) {
        bool zero = false;
        n = run_of(data + at, len - at, offset + at, &zero);
        if (!zero)
            r = write_run(t, fd, data + at, n, offset + at, err);
    }
    return r;
}

int archive_tar_save(struct archive_tar *t, int fd, struct err *err) {
    uint64_t checked = 0; /* bytes that may still be written before the next look */
    const void *data = NULL;
    size_t len = 0;
    uint64_t offset = 0;
    int r;
    while ((r = archive_tar_block(t, &data, &len, &offset, err)) > 0) {
        if (len > checked) {
            checked = MAX(FREE_CHECK, (uint64_t)len);
            /* A small file needs no more than its size. */
            uint64_t need = MIN(checked, (uint64_t)archive_entry_size(t->entry) - offset);
            if ((r = check_free(t, fd, need, err)) < 0)
                return r;
        }
        checked -= len;
        if ((r = write_at(t, fd, data, len, offset, err)) < 0)
            return r;
    }
    if (r < 0)
        return r;
    if (ftruncate(fd, (off_t)archive_entry_size(t->entry)) < 0)
        return archive_tar_error(t, errno, err, "cannot write it: %s", strerror(errno));
    return 0;
}

int archive_tar_read(struct archive_tar *t, size_t max, char **ret, size_t *ret_len, struct err *err) {
    uint64_t size = (uint64_t)archive_entry_size(t->entry);
    if (size > max)
        return archive_tar_error(t, EFBIG, err, "larger than %zu bytes", max);
    cleanup_free char *buf = calloc(1, (size_t)size + 1);
    if (!buf)
        return err_set(err, ENOMEM, "out of memory");
    const void *data = NULL;
    size_t len = 0;
    uint64_t offset = 0;
    int r;
    while ((r = archive_tar_block(t, &data, &len, &offset, err)) > 0)
        if (data)
            memcpy(buf + offset, data, len);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(buf);
    *ret_len = (size_t)size;
    return 0;
}
