/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/archive_extract.h"

#include "archive_support.h"

#define INVENTORY                                                                                                      \
    { .name = "checkpoint/inventory.img", .data = "inventory" }
#define MEMBERS_MAX 8

static const struct member whole[] = {
    {.name = "config.dump", .data = "{}"},
    {.name = "spec.dump", .data = "{\"a\":1}"},
    {.name = "checkpoint/", .type = AE_IFDIR},
    INVENTORY,
    {.name = "checkpoint/pages-1.img", .data = "pages!"},
    {.name = "./checkpoint/core-1.img", .data = "core"},
    {.name = "rootfs-diff.tar", .data = "diff"},
    {.name = "deleted.files", .data = "[]"},
    {.name = "stats-dump", .data = "stats"},
    {.name = "dump.log", .data = "log", .mode = 04777, .uid = 1000},
    {.name = "network.status", .data = "x"},
    {.name = "volumes/", .type = AE_IFDIR},
    {.name = "volumes/v.tar", .data = "x"},
    {0},
};

static int extract(const struct tmpdir *t, const char *name, int dirfd, struct archive_contents *c, struct err *e) {
    cleanup_free char *path = tmpdir_path(t, name);
    return archive_extract(path, dirfd, &(struct archive_extract_options){0}, c, e);
}

/* The members are refused with this message behind "ARCHIVE: "; nothing is left in the directory. */
static void refuses(const struct tmpdir *t, const struct member *m, int r, const char *message) {
    cleanup_free char *path = tmpdir_path(t, "a.tar");
    cleanup_archive_contents struct archive_contents c = {0};
    cleanup_fd int dirfd = make_dir(t, "out");
    struct err e = ERR_INIT;
    tar_write(path, ARCHIVE_FILTER_NONE, m);
    int got = extract(t, "a.tar", dirfd, &c, &e);
    if (got != r)
        fail_msg("%s: %d (%s)", m->name, got, e.msg);
    if (!strstr(e.msg, path) || !strstr(e.msg, message))
        fail_msg("%s: \"%s\" instead of \"%s\"", m->name, e.msg, message);
    assert_int_equal(count_entries(dirfd), 0);
    assert_int_equal(unlinkat(t->fd, "out", AT_REMOVEDIR), 0);
}

static void extracts_all_forms(void **state) {
    struct tmpdir *t = *state;
    static const struct {
        int filter;
        enum archive_compression compression;
    } forms[] = {
        {ARCHIVE_FILTER_NONE, ARCHIVE_PLAIN}, {ARCHIVE_FILTER_GZIP, ARCHIVE_GZIP}, {ARCHIVE_FILTER_ZSTD, ARCHIVE_ZSTD}};
    cleanup_free char *path = tmpdir_path(t, "a");
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        cleanup_archive_contents struct archive_contents c = {0};
        cleanup_fd int dirfd = make_dir(t, i == 0 ? "0" : i == 1 ? "1" : "2");
        struct err e = ERR_INIT;
        struct stat st;
        tar_write(path, forms[i].filter, whole);
        if (extract(t, "a", dirfd, &c, &e) < 0)
            fail_msg("%s", e.msg);
        assert_int_equal(c.compression, forms[i].compression);
        assert_true(c.has_config && c.has_spec && c.has_rootfs_diff && c.has_deleted && c.has_stats && c.has_log);
        assert_false(c.flat);
        assert_int_equal(c.n_images, 3);
        assert_int_equal(c.images_bytes, 9 + 6 + 4);
        assert_int_equal(c.pages_bytes, 6);
        assert_int_equal(c.rootfs_diff_bytes, 4);
        assert_int_equal(c.notes.n, 2);
        assert_string_equal(c.notes.v[0], "network.status: not used (1 bytes)");
        assert_string_equal(c.notes.v[1], "volumes/v.tar: not used (1 bytes)");
        assert_text(dirfd, "checkpoint/pages-1.img", "pages!");
        assert_text(dirfd, "checkpoint/core-1.img", "core");
        assert_text(dirfd, "dump.log", "log");
        assert_int_equal(count_entries(dirfd), 7);
        assert_int_equal(fstatat(dirfd, "dump.log", &st, 0), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
        assert_int_equal(st.st_uid, geteuid());
    }
}

static void flat_archives_are_containerds(void **state) {
    struct tmpdir *t = *state;
    static const struct member flat[] = {{.name = "inventory.img", .data = "i"},
                                         {.name = "pages-1.img", .data = "p"},
                                         {.name = "descriptors.json", .data = "[]"},
                                         {.name = "stats-dump", .data = "s"},
                                         {0}};
    cleanup_free char *path = tmpdir_path(t, "a");
    cleanup_archive_contents struct archive_contents c = {0};
    cleanup_fd int dirfd = make_dir(t, "out");
    struct err e = ERR_INIT;
    tar_write(path, ARCHIVE_FILTER_NONE, flat);
    if (extract(t, "a", dirfd, &c, &e) < 0)
        fail_msg("%s", e.msg);
    assert_true(c.flat);
    assert_int_equal(c.n_images, 3);
    assert_text(dirfd, "checkpoint/inventory.img", "i");
    assert_text(dirfd, "checkpoint/descriptors.json", "[]");
    assert_text(dirfd, "stats-dump", "s");
}

static void inspection_leaves_the_bulk_out(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "a");
    cleanup_archive_contents struct archive_contents c = {0};
    cleanup_fd int dirfd = make_dir(t, "out");
    struct stat st;
    tar_write(path, ARCHIVE_FILTER_ZSTD, whole);
    assert_int_equal(archive_extract(path, dirfd, &(struct archive_extract_options){.inspect = true}, &c, NULL), 0);
    assert_int_equal(fstatat(dirfd, "checkpoint/pages-1.img", &st, 0), 0);
    assert_int_equal(st.st_size, 6);
    assert_int_equal(st.st_blocks, 0);
    assert_int_equal(c.rootfs_diff_bytes, 4);
    assert_text(dirfd, "checkpoint/core-1.img", "core");
}

static void refuses_what_is_not_a_file(void **state) {
    struct tmpdir *t = *state;
    static const struct {
        struct member m[MEMBERS_MAX];
        const char *message;
    } cases[] = {
        {{INVENTORY, {.name = "checkpoint/a.img", .type = AE_IFLNK, .link = "/etc/passwd"}},
         "entry \"checkpoint/a.img\": a symbolic link is not allowed"},
        {{INVENTORY, {.name = "checkpoint", .type = AE_IFLNK, .link = "/tmp"}}, "a symbolic link is not allowed"},
        {{{.name = "checkpoint", .type = AE_IFLNK, .link = "/tmp"}, INVENTORY}, "a symbolic link is not allowed"},
        {{INVENTORY, {.name = "config.dump", .type = AE_IFLNK, .link = "x"}}, "a symbolic link is not allowed"},
        {{INVENTORY, {.name = "volumes/v", .type = AE_IFLNK, .link = "x"}}, "a symbolic link is not allowed"},
        {{INVENTORY, {.name = "config.dump", .link = "checkpoint/inventory.img", .hard = true}},
         "entry \"config.dump\": a hard link is not allowed"},
        {{INVENTORY, {.name = "checkpoint/a.img", .type = AE_IFIFO}}, "a FIFO is not allowed"},
        {{INVENTORY, {.name = "checkpoint/a.img", .type = AE_IFCHR, .major = 1, .minor = 3}},
         "a device is not allowed"},
        {{INVENTORY, {.name = "checkpoint/a.img", .type = AE_IFBLK, .major = 8}}, "a device is not allowed"},
        {{INVENTORY, {.name = "checkpoint/sub/", .type = AE_IFDIR}}, "CRIU does not name its files so"},
        {{INVENTORY, {.name = "checkpoint/sub/a.img"}}, "CRIU does not name its files so"},
        {{INVENTORY, {.name = "checkpoint/a b.img"}}, "CRIU does not name its files so"},
        {{INVENTORY, {.name = "config.dump", .type = AE_IFDIR}}, "it must be a regular file"},
        {{{.name = "checkpoint", .data = "x"}}, "it must be a directory"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        refuses(t, cases[i].m, -EINVAL, cases[i].message);
}

static void refuses_names(void **state) {
    struct tmpdir *t = *state;
    static const struct {
        const char *name, *message;
    } cases[] = {
        {"../checkpoint/a.img", "its name leads out of the archive"},
        {"checkpoint/../../a.img", "its name leads out of the archive"},
        {"checkpoint/..", "its name leads out of the archive"},
        {"..", "its name leads out of the archive"},
        {"/etc/passwd", "its name leads out of the archive"},
        {"//x", "its name leads out of the archive"},
        {"checkpoint//a.img", "its name leads out of the archive"},
        {"checkpoint/./a.img", "its name leads out of the archive"},
        {".//config.dump", "its name leads out of the archive"},
        {"checkpoint/\xff.img", "its name is not UTF-8"},
        {"volumes/\xc3\x28", "its name is not UTF-8"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        refuses(t, (const struct member[]){INVENTORY, {.name = cases[i].name, .data = "x"}, {0}}, -EINVAL,
                cases[i].message);
    char large[ARCHIVE_NAME_MAX + 2];
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    refuses(t, (const struct member[]){INVENTORY, {.name = large}, {0}}, -EINVAL, "its name is longer than 1024 bytes");
    memcpy(large, "checkpoint/", 11);
    large[11 + 256] = '\0';
    refuses(t, (const struct member[]){INVENTORY, {.name = large}, {0}}, -EINVAL, "CRIU does not name its files so");
}

static void refuses_duplicates_and_mixtures(void **state) {
    struct tmpdir *t = *state;
    static const struct {
        struct member m[MEMBERS_MAX];
        const char *message;
    } cases[] = {
        {{INVENTORY, INVENTORY}, "entry \"checkpoint/inventory.img\": it comes twice"},
        {{INVENTORY, {.name = "./checkpoint/inventory.img"}}, "it comes twice"},
        {{{.name = "config.dump"}, {.name = "config.dump"}, INVENTORY}, "entry \"config.dump\": it comes twice"},
        {{INVENTORY, {.name = "core-1.img"}}, "images both at the top and in checkpoint/"},
        {{{.name = "core-1.img"}, INVENTORY}, "images both at the top and in checkpoint/"},
        {{{.name = "config.dump"}}, "is no checkpoint: it has no checkpoint/inventory.img"},
        {{{.name = "checkpoint/core-1.img"}}, "is no checkpoint: it has no checkpoint/inventory.img"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        refuses(t, cases[i].m, -EINVAL, cases[i].message);
}

static void refuses_bombs(void **state) {
    struct tmpdir *t = *state;
    refuses(t, (const struct member[]){INVENTORY, {.name = "checkpoint/pages-1.img", .hole = INT64_C(1) << 62}, {0}},
            -EFBIG, "entry \"checkpoint/pages-1.img\": it has more than 1125899906842624 bytes, holes counted");
    refuses(t, (const struct member[]){INVENTORY, {.name = "volumes/v.tar", .hole = INT64_C(1) << 62}, {0}}, -EFBIG,
            "holes counted");
}

/* Bounds are of data. */
static void holes_take_no_room(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "a.tar");
    cleanup_archive_contents struct archive_contents c = {0};
    cleanup_fd int dirfd = make_dir(t, "out");
    struct stat st;
    struct err e = ERR_INIT;
    tar_write(path, ARCHIVE_FILTER_NONE,
              (const struct member[]){INVENTORY,
                                      {.name = "checkpoint/pages-1.img", .hole = INT64_C(40) << 30},
                                      {.name = "checkpoint/pages-2.img", .hole = INT64_C(40) << 30},
                                      {0}});
    if (extract(t, "a.tar", dirfd, &c, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(fstatat(dirfd, "checkpoint/pages-2.img", &st, 0), 0);
    assert_int_equal(st.st_size, INT64_C(40) << 30);
    assert_true(st.st_blocks < 64);
}

static void the_limit_is_the_callers(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "a");
    cleanup_fd int dirfd = make_dir(t, "out");
    tar_write(path, ARCHIVE_FILTER_NONE, whole);
    uint64_t total = 0;
    for (const struct member *m = whole; m->name; m++)
        total += m->data ? strlen(m->data) : 0;
    for (uint64_t max = total - 1; max <= total; max++) {
        cleanup_archive_contents struct archive_contents c = {0};
        const struct archive_extract_options o = {.bytes_max = max};
        assert_int_equal(archive_extract(path, dirfd, &o, &c, NULL), max < total ? -EFBIG : 0);
    }
}

static int stop_now(void) {
    return 15;
}

static void can_be_interrupted(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "a.tar.zst");
    cleanup_archive_contents struct archive_contents c = {0};
    cleanup_fd int dirfd = make_dir(t, "out");
    struct err e = ERR_INIT;
    tar_write(path, ARCHIVE_FILTER_ZSTD, whole);
    const struct archive_extract_options o = {.stop = stop_now};
    assert_int_equal(archive_extract(path, dirfd, &o, &c, &e), -EINTR);
    assert_non_null(strstr(e.msg, "interrupted"));
    assert_int_equal(count_entries(dirfd), 0);
}

static void refuses_millions_of_entries(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "a.tar");
    cleanup_archive_contents struct archive_contents c = {0};
    cleanup_fd int dirfd = make_dir(t, "out");
    struct err e = ERR_INIT;
    struct archive *a = tar_new(path, ARCHIVE_FILTER_ZSTD);
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, "volumes/x");
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_size(entry, 0);
    for (unsigned i = 0; i <= ARCHIVE_ENTRIES_MAX; i++)
        assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    archive_entry_free(entry);
    archive_write_close(a);
    archive_write_free(a);
    assert_int_equal(extract(t, "a.tar", dirfd, &c, &e), -EFBIG);
    assert_non_null(strstr(e.msg, "has more than 69632 entries"));
    assert_int_equal(count_entries(dirfd), 0);
}

/* Wherever it ends: refused, with the archive's name, and nothing is left. */
static void truncated_anywhere(void **state) {
    struct tmpdir *t = *state;
    static const int filters[] = {ARCHIVE_FILTER_NONE, ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD};
    cleanup_free char *path = tmpdir_path(t, "a.tar");
    cleanup_fd int dirfd = make_dir(t, "out");
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
        size_t len;
        tar_write(path, filters[i], whole);
        cleanup_free char *data = slurp(path, &len);
        size_t step = filters[i] == ARCHIVE_FILTER_NONE ? 256 : 7;
        for (size_t cut = 0; cut < len; cut += step) {
            cleanup_archive_contents struct archive_contents c = {0};
            struct err e = ERR_INIT;
            spill(path, data, cut);
            int r = extract(t, "a.tar", dirfd, &c, &e);
            if (r != -EINVAL || !strstr(e.msg, path) || count_entries(dirfd) != 0)
                fail_msg("filter %d cut at %zu of %zu: %d (%s)", filters[i], cut, len, r, e.msg);
        }
    }
}

static void any_byte_may_be_wrong(void **state) {
    struct tmpdir *t = *state;
    static const int filters[] = {ARCHIVE_FILTER_NONE, ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD};
    cleanup_free char *path = tmpdir_path(t, "a.tar");
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
        size_t len;
        tar_write(path, filters[i], whole);
        cleanup_free char *data = slurp(path, &len);
        for (size_t k = 0; k < len; k += filters[i] == ARCHIVE_FILTER_NONE ? 61 : 7) {
            cleanup_archive_contents struct archive_contents c = {0};
            cleanup_fd int dirfd = make_dir(t, "out");
            struct err e = ERR_INIT;
            data[k] ^= (char)(1 << (k % 8));
            spill(path, data, len);
            int r = extract(t, "a.tar", dirfd, &c, &e);
            if (r < 0 && (!strstr(e.msg, path) || count_entries(dirfd) != 0))
                fail_msg("filter %d, byte %zu: %d (%s)", filters[i], k, r, e.msg);
            data[k] ^= (char)(1 << (k % 8));
            assert_int_equal(path_remove_tree(t->fd, "out", NULL), 0);
        }
    }
}

static void refuses_other_formats(void **state) {
    struct tmpdir *t = *state;
    cleanup_fd int dirfd = make_dir(t, "out");
    cleanup_free char *path = tmpdir_path(t, "a");
    struct err e = ERR_INIT;
    cleanup_archive_contents struct archive_contents c = {0};
    static const int formats[] = {ARCHIVE_FORMAT_ZIP, ARCHIVE_FORMAT_CPIO_POSIX, ARCHIVE_FORMAT_7ZIP,
                                  ARCHIVE_FORMAT_ISO9660, ARCHIVE_FORMAT_SHAR};
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        struct archive *a = archive_write_new();
        assert_int_equal(archive_write_set_format(a, formats[i]), ARCHIVE_OK);
        assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
        tar_add(a, &(struct member)INVENTORY);
        archive_write_close(a);
        archive_write_free(a);
        assert_int_equal(extract(t, "a", dirfd, &c, &e), -EINVAL);
    }
    /* Compressed by something else, or twice. */
    static const int filters[][2] = {{ARCHIVE_FILTER_XZ, ARCHIVE_FILTER_NONE},
                                     {ARCHIVE_FILTER_BZIP2, ARCHIVE_FILTER_NONE},
                                     {ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_GZIP},
                                     {ARCHIVE_FILTER_ZSTD, ARCHIVE_FILTER_GZIP}};
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
        struct archive *a = archive_write_new();
        archive_write_set_format_pax_restricted(a);
        assert_int_equal(archive_write_add_filter(a, filters[i][0]), ARCHIVE_OK);
        if (filters[i][1] != ARCHIVE_FILTER_NONE)
            assert_int_equal(archive_write_add_filter(a, filters[i][1]), ARCHIVE_OK);
        assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
        tar_add(a, &(struct member)INVENTORY);
        archive_write_close(a);
        archive_write_free(a);
        assert_int_equal(extract(t, "a", dirfd, &c, &e), -EINVAL);
        assert_non_null(strstr(e.msg, "is damaged"));
    }
    tmpdir_write(t, "inner", "");
    assert_int_equal(extract(t, "inner", dirfd, &c, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "is not an archive: it has only 0 bytes"));
    tmpdir_write(t, "inner", "Gibberish that is longer than a header of four bytes.");
    assert_int_equal(extract(t, "inner", dirfd, &c, &e), -EINVAL);
    assert_int_equal(count_entries(dirfd), 0);
}

/* A ustar header by hand, for what libarchive would not write. */
static void raw_header(struct archive *a, const char *name, char type, unsigned size) {
    char header[512] = "";
    unsigned sum = 0;
    snprintf(header, 100, "%s", name);
    snprintf(header + 100, 8, "%07o", 0644);
    snprintf(header + 124, 12, "%011o", size);
    header[156] = type;
    memcpy(header + 257, "ustar\00000", 8);
    memset(header + 148, ' ', 8);
    for (size_t k = 0; k < sizeof(header); k++)
        sum += (unsigned char)header[k];
    snprintf(header + 148, 8, "%06o", sum);
    assert_int_equal(archive_write_data(a, header, sizeof(header)), sizeof(header));
}

static struct archive *raw_new(const char *path) {
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    archive_write_add_filter_zstd(a);
    archive_write_set_format_raw(a);
    assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_pathname(entry, "x");
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    archive_entry_free(entry);
    return a;
}

/* A few KiB that grow to a GiB of headers: they are read as a whole before anything can be refused. */
static void refuses_header_bombs(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "a.tar"), *block = calloc(1, 1 << 20);
    cleanup_fd int dirfd = make_dir(t, "out");
    static const char types[] = {'x', 'g', 'L', 'K'};
    for (size_t i = 0; i < sizeof(types); i++) {
        cleanup_archive_contents struct archive_contents c = {0};
        struct err e = ERR_INIT;
        struct archive *a = raw_new(path);
        raw_header(a, "x", types[i], 1U << 30);
        for (unsigned k = 0; k < 16; k++)
            archive_write_data(a, block, 1 << 20);
        archive_write_close(a);
        archive_write_free(a);
        int r = extract(t, "a.tar", dirfd, &c, &e);
        if (r != -EINVAL && r != -EFBIG)
            fail_msg("%c: %d (%s)", types[i], r, e.msg);
        assert_int_equal(count_entries(dirfd), 0);
    }
}

/* A file of 100 bytes with millions of holes of none: the map, too, is read as a whole. */
static void refuses_a_map_of_holes_without_end(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "a.tar"), *block = malloc(1 << 20);
    cleanup_fd int dirfd = make_dir(t, "out");
    cleanup_archive_contents struct archive_contents c = {0};
    struct err e = ERR_INIT;
    static const char records[512] = "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
                                     "42 GNU.sparse.name=checkpoint/pages-1.img\n27 GNU.sparse.realsize=100\n";
    for (size_t i = 0; i < 1 << 20; i++)
        block[i] = i % 2 ? '\n' : '0';
    struct archive *a = raw_new(path);
    raw_header(a, "x", 'x', (unsigned)strlen(records));
    archive_write_data(a, records, sizeof(records));
    raw_header(a, "x", '0', 64 << 20);
    archive_write_data(a, "8000000\n", 8);
    for (unsigned k = 0; k < 64; k++)
        archive_write_data(a, block, 1 << 20);
    archive_write_close(a);
    archive_write_free(a);
    assert_int_equal(extract(t, "a.tar", dirfd, &c, &e), -EFBIG);
    assert_non_null(strstr(e.msg, "more than 2097152 bytes of headers"));
    assert_int_equal(count_entries(dirfd), 0);
}

static void refuses_what_goes_on_behind_its_end(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "a.tar");
    cleanup_fd int dirfd = make_dir(t, "out");
    cleanup_archive_contents struct archive_contents c = {0};
    struct err e = ERR_INIT;
    tar_write(path, ARCHIVE_FILTER_NONE, whole);
    assert_int_equal(truncate(path, 16 << 20), 0);
    assert_int_equal(extract(t, "a.tar", dirfd, &c, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "goes on behind its end"));
    assert_int_equal(count_entries(dirfd), 0);
}

static void checks_its_arguments(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "a.tar");
    cleanup_fd int dirfd = make_dir(t, "out");
    cleanup_archive_contents struct archive_contents c = {0};
    struct err e = ERR_INIT;
    assert_int_equal(extract(t, "absent", dirfd, &c, &e), -ENOENT);
    assert_int_equal(extract(t, "out", dirfd, &c, &e), -EINVAL);
    assert_int_equal(mkfifoat(t->fd, "fifo", 0600), 0);
    assert_int_equal(extract(t, "fifo", dirfd, &c, &e), -EINVAL);
    tar_write(path, ARCHIVE_FILTER_NONE, whole);
    assert_int_equal(mkdirat(dirfd, "mine", 0700), 0);
    assert_int_equal(extract(t, "a.tar", dirfd, &c, &e), -ENOTEMPTY);
    assert_int_equal(count_entries(dirfd), 1);
}

static void notes_are_bounded(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "a.tar");
    cleanup_fd int dirfd = make_dir(t, "out");
    cleanup_archive_contents struct archive_contents c = {0};
    struct archive *a = tar_new(path, ARCHIVE_FILTER_NONE);
    tar_add(a, &(struct member)INVENTORY);
    for (unsigned i = 0; i < 2 * ARCHIVE_NOTES_MAX; i++)
        tar_add(a, &(struct member){.name = "ctr.log"});
    archive_write_close(a);
    archive_write_free(a);
    assert_int_equal(extract(t, "a.tar", dirfd, &c, NULL), 0);
    assert_int_equal(c.notes.n, ARCHIVE_NOTES_MAX);
    assert_string_equal(c.notes.v[ARCHIVE_NOTES_MAX - 1], "more files are not used");
}

#define T(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(extracts_all_forms),
        T(flat_archives_are_containerds),
        T(inspection_leaves_the_bulk_out),
        T(refuses_what_is_not_a_file),
        T(refuses_names),
        T(refuses_duplicates_and_mixtures),
        T(refuses_bombs),
        T(holes_take_no_room),
        T(the_limit_is_the_callers),
        T(can_be_interrupted),
        T(refuses_millions_of_entries),
        T(truncated_anywhere),
        T(any_byte_may_be_wrong),
        T(refuses_other_formats),
        T(refuses_header_bombs),
        T(refuses_a_map_of_holes_without_end),
        T(refuses_what_goes_on_behind_its_end),
        T(checks_its_arguments),
        T(notes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
