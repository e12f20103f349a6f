/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/archive_put.h"

#include <locale.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/archive_tar.h"

#define CHUNK ((size_t)256 << 10)
#define HOLE_STEP ((size_t)1 << 30)   /* bytes of holes that libarchive is given at once; it does not look at them */
#define HOLES_MIN ((int64_t)64 << 10) /* fewer bytes of holes are not worth a map */

struct archive_put {
    struct archive *a;
    char name[256];
    archive_sink_fn sink;
    void *userdata;
    bool dry, done;
    bool aborted;     /* nothing goes to the sink any more */
    uint64_t missing; /* bytes that the open entry still needs */
    locale_t locale;
    uint8_t *buf;
    uint8_t *zeros; /* HOLE_STEP; takes no memory */
    struct err err; /* of the sink */
};

struct archive_put *archive_put_free(struct archive_put *p) {
    if (!p)
        return NULL;
    if (p->a && !p->done) {
        /* Failed, it does not fill up the open entry; closed, it frees its buffers, which it forgets otherwise. */
        p->aborted = true;
        (void)archive_write_fail(p->a);
        (void)archive_write_close(p->a);
    }
    archive_write_free(p->a);
    if (p->locale)
        freelocale(p->locale);
    free(p->buf);
    if (p->zeros)
        munmap(p->zeros, HOLE_STEP);
    free(p);
    return NULL;
}

struct archive_entry *archive_put_header(const char *path, const struct stat *st) {
    struct archive_entry *e = archive_entry_new();
    if (!e)
        return NULL;
    archive_entry_copy_stat(e, st);
    archive_entry_copy_pathname(e, path);
    archive_entry_set_size(e, 0);
    archive_entry_unset_atime(e);
    archive_entry_unset_ctime(e);
    return e;
}

static int library_error(const struct archive_put *p, struct archive_entry *e, struct err *err) {
    const char *entry = e ? archive_entry_pathname(e) : NULL, *why = archive_error_string(p->a);
    int code = archive_errno(p->a);
    if (p->err.code) {
        err_copy(err, &p->err);
        return entry ? err_wrap(err, "%s", entry) : -p->err.code;
    }
    return err_set(err, code > 0 ? code : EIO, "cannot write %s%s%s to %s: %s", entry ? "\"" : "",
                   entry ? entry : "the rest", entry ? "\"" : "", p->name, why ? why : "no reason given");
}

static la_ssize_t on_write(struct archive *a, void *userdata, const void *data, size_t len) {
    struct archive_put *p = userdata;
    if (p->aborted)
        return (la_ssize_t)len;
    if (p->sink(p->userdata, data, len, &p->err) < 0) {
        archive_set_error(a, p->err.code, "%s", p->err.msg);
        return ARCHIVE_FATAL;
    }
    return (la_ssize_t)len;
}

static int open_archive(struct archive_put *p, int filter, bool exact, struct err *err) {
    p->a = archive_write_new();
    if (!p->a)
        return err_set(err, ENOMEM, "out of memory");
    /* A program in the place of a library (a warning) is not what we want. */
    if (archive_write_add_filter(p->a, filter) != ARCHIVE_OK ||
        (exact ? archive_write_set_format_pax(p->a) : archive_write_set_format_pax_restricted(p->a)) != ARCHIVE_OK ||
        (filter == ARCHIVE_FILTER_GZIP && archive_write_set_options(p->a, "gzip:!timestamp") != ARCHIVE_OK) ||
        archive_write_set_bytes_in_last_block(p->a, 1) != ARCHIVE_OK ||
        archive_write_open(p->a, p, NULL, on_write, NULL) != ARCHIVE_OK)
        return library_error(p, NULL, err);
    return 0;
}

static int put_new(archive_sink_fn sink, void *userdata, int filter, bool dry, bool exact, const char *name,
                   struct archive_put **ret, struct err *err) {
    cleanup_archive_put struct archive_put *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(err, ENOMEM, "out of memory");
    p->sink = sink;
    p->userdata = userdata;
    p->dry = dry;
    snprintf(p->name, sizeof(p->name), "%s", name);
    /* libarchive takes names for text in the locale's charset, and writes UTF-8. */
    p->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
    if (!p->locale)
        return err_errno(err, errno, "the locale C.UTF-8 is missing");
    p->buf = malloc(CHUNK);
    p->zeros = mmap(NULL, HOLE_STEP, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->zeros == MAP_FAILED)
        p->zeros = NULL;
    if (!p->buf || !p->zeros)
        return err_set(err, ENOMEM, "out of memory");
    int r = open_archive(p, filter, exact, err);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(p);
    return 0;
}

int archive_put_new(archive_sink_fn sink, void *userdata, int filter, bool dry, const char *name,
                    struct archive_put **ret, struct err *err) {
    return put_new(sink, userdata, filter, dry, false, name, ret, err);
}

int archive_put_new_exact(archive_sink_fn sink, void *userdata, int filter, const char *name, struct archive_put **ret,
                          struct err *err) {
    return put_new(sink, userdata, filter, false, true, name, ret, err);
}

int archive_put_begin(struct archive_put *p, struct archive_entry *e, uint64_t size, struct err *err) {
    if (p->missing)
        return err_set(err, EIO, "cannot write %s: an entry before \"%s\" is %llu bytes short", p->name,
                       archive_entry_pathname(e), (unsigned long long)p->missing);
    if (archive_entry_filetype(e) == AE_IFREG && !archive_entry_hardlink(e))
        archive_entry_set_size(e, (la_int64_t)size);
    locale_t before = uselocale(p->locale);
    int r = archive_write_header(p->a, e);
    uselocale(before);
    /* A warning: a name that is no UTF-8 was written as the bytes it is. */
    if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
        return library_error(p, e, err);
    p->missing = size;
    return 0;
}

int archive_put_data(struct archive_put *p, const void *data, size_t len, struct err *err) {
    if (len > p->missing)
        return err_set(err, EIO, "cannot write %s: an entry has more bytes than it said", p->name);
    for (const uint8_t *at = data; len;) {
        la_ssize_t n = archive_write_data(p->a, at, len);
        if (n <= 0)
            return library_error(p, NULL, err);
        at += n;
        len -= (size_t)n;
        p->missing -= (uint64_t)n;
    }
    return 0;
}

int archive_put_entry(struct archive_put *p, struct archive_entry *e, const void *data, size_t len, struct err *err) {
    int r = archive_put_begin(p, e, len, err);
    if (r == 0)
        r = archive_put_data(p, data, len, err);
    return r;
}

/* Calls fn for each piece of the file that has data, if there are holes that are worth it, and returns 1; else 0. */
static int each_segment(int fd, const struct stat *st, void (*fn)(void *userdata, off_t at, off_t len),
                        void *userdata) {
    if ((uint64_t)st->st_size > ARCHIVE_FILE_MAX)
        return -EFBIG;
    if (st->st_size - (int64_t)st->st_blocks * 512 < HOLES_MIN)
        return 0;
    off_t at = 0;
    for (unsigned n = 1; at < st->st_size; n++) {
        off_t data = lseek(fd, at, SEEK_DATA), end = st->st_size;
        if (data < 0 || data >= st->st_size) /* ENXIO: only a hole is left */
            break;
        if (n < ARCHIVE_SEGMENTS_MAX && (end = lseek(fd, data, SEEK_HOLE)) < 0)
            return -errno;
        end = MIN(end, st->st_size);
        fn(userdata, data, end - data);
        at = end;
    }
    return 1;
}

static void add_to_map(void *userdata, off_t at, off_t len) {
    archive_entry_sparse_add_entry(userdata, at, len);
}

static void add_to_sum(void *userdata, off_t at, off_t len) {
    (void)at;
    *(uint64_t *)userdata += (uint64_t)len;
}

/* Tells libarchive where the data is, if there are holes worth it. */
static int find_holes(int fd, const struct stat *st, struct archive_entry *e) {
    archive_entry_set_size(e, st->st_size); /* or the map is not taken */
    int r = each_segment(fd, st, add_to_map, e);
    if (r > 0 && archive_entry_sparse_count(e) == 0)
        archive_entry_sparse_add_entry(e, st->st_size, 0);
    return r < 0 ? r : 0;
}

int archive_put_measure(int fd, const struct stat *st, uint64_t *ret) {
    uint64_t sum = 0;
    int r = each_segment(fd, st, add_to_sum, &sum);
    if (r >= 0)
        *ret = r > 0 ? sum : (uint64_t)st->st_size;
    return r < 0 ? r : 0;
}

/* Up to `end`, which is in the file or a hole's end. */
static int put_range(struct archive_put *p, int fd, uint64_t at, uint64_t end, bool hole, struct err *err) {
    while (at < end) {
        size_t want = (size_t)MIN(end - at, (uint64_t)(hole ? HOLE_STEP : CHUNK));
        const uint8_t *data = p->zeros;
        if (!hole && !p->dry) {
            ssize_t n = pread(fd, p->buf, want, (off_t)at);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return err_errno(err, errno, "cannot read it");
            if (n == 0)
                return err_set(err, EIO, "it became shorter while it was read");
            want = (size_t)n;
            data = p->buf;
        }
        int r = archive_put_data(p, data, want, err);
        if (r < 0)
            return r;
        at += want;
    }
    return 0;
}

int archive_put_file(struct archive_put *p, struct archive_entry *e, int fd, struct err *err) {
    struct stat st;
    int r = fstat(fd, &st) < 0 ? -errno : find_holes(fd, &st, e);
    if (r < 0)
        return err_errno(err, -r, "cannot read \"%s\"", archive_entry_pathname(e));
    uint64_t size = (uint64_t)st.st_size, at = 0;
    if ((r = archive_put_begin(p, e, size, err)) < 0)
        return r;
    la_int64_t start, len;
    bool sparse = archive_entry_sparse_reset(e) > 0;
    while (r == 0 && sparse && archive_entry_sparse_next(e, &start, &len) == ARCHIVE_OK) {
        r = put_range(p, fd, at, (uint64_t)start, true, err);
        if (r == 0)
            r = put_range(p, fd, (uint64_t)start, (uint64_t)(start + len), false, err);
        at = (uint64_t)(start + len);
    }
    if (r == 0)
        r = put_range(p, fd, at, size, sparse, err);
    return r < 0 ? err_wrap(err, "%s", archive_entry_pathname(e)) : 0;
}

int archive_put_finish(struct archive_put *p, struct err *err) {
    if (p->missing)
        return err_set(err, EIO, "cannot write %s: its last entry is %llu bytes short", p->name,
                       (unsigned long long)p->missing);
    p->done = true;
    if (archive_write_close(p->a) != ARCHIVE_OK)
        return library_error(p, NULL, err);
    return 0;
}
