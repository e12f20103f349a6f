/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/archive_create.h"

#include <signal.h>
#include <sys/resource.h>

#include "archive_support.h"
#include "oci/archive_extract.h"

/* A checkpoint directory of two images, one of them mostly hole. */
static int make_images(const struct tmpdir *t) {
    int fd = make_dir(t, "images");
    tmpdir_write(t, "images/inventory.img", "inventory");
    tmpdir_write(t, "images/pages-1.img", "");
    cleanup_fd int pages = openat(fd, "pages-1.img", O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(pages, "first", 5, 0), 5);
    assert_int_equal(pwrite(pages, "middle", 6, 5 << 20), 6);
    assert_int_equal(ftruncate(pages, 10 << 20), 0);
    return fd;
}

static struct archive_writer *begin(const char *path) {
    struct archive_writer *w = NULL;
    enum archive_compression compression;
    struct err e = ERR_INIT;
    if (archive_compression_of(path, &compression, &e) < 0 || archive_create(path, compression, &w, &e) < 0)
        fail_msg("%s", e.msg);
    return w;
}

static void round_trip(void **state) {
    struct tmpdir *t = *state;
    static const char *const names[] = {"a.tar", "a.tar.gz", "a.tgz", "a.tar.zst"};
    cleanup_fd int images = make_images(t);
    tmpdir_write(t, "log", "a line\n");
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        cleanup_free char *path = tmpdir_path(t, names[i]);
        cleanup_archive_writer struct archive_writer *w = begin(path);
        cleanup_archive_contents struct archive_contents c = {0};
        struct err e = ERR_INIT;
        struct stat st;
        if (archive_add_text(w, ARCHIVE_CONFIG, "{}", 2, &e) < 0 || archive_add_text(w, ARCHIVE_SPEC, "", 0, &e) < 0 ||
            archive_add_checkpoint(w, images, &e) < 0 || archive_add_file(w, ARCHIVE_LOG, t->fd, "log", &e) < 0)
            fail_msg("%s", e.msg);
        assert_int_equal(fstatat(t->fd, names[i], &st, 0), -1);
        if (archive_finish(w, &e) < 0)
            fail_msg("%s", e.msg);
        assert_int_equal(fstatat(t->fd, names[i], &st, 0), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
        assert_true(st.st_size < 64 << 10); /* the holes are not in it */

        cleanup_fd int out = make_dir(t, "out");
        if (archive_extract(path, out, &(struct archive_extract_options){0}, &c, &e) < 0)
            fail_msg("%s", e.msg);
        assert_int_equal(c.n_images, 2);
        assert_text(out, "config.dump", "{}");
        assert_text(out, "spec.dump", "");
        assert_text(out, "dump.log", "a line\n");
        assert_text(out, "checkpoint/inventory.img", "inventory");
        cleanup_fd int pages = openat(out, "checkpoint/pages-1.img", O_RDONLY | O_CLOEXEC);
        char bytes[8] = "";
        assert_int_equal(fstat(pages, &st), 0);
        assert_int_equal(st.st_size, 10 << 20);
        assert_true(st.st_blocks < 4096);
        assert_int_equal(pread(pages, bytes, 6, 5 << 20), 6);
        assert_string_equal(bytes, "middle");
        assert_int_equal(path_remove_tree(t->fd, "out", NULL), 0);
    }
    assert_int_equal(count_entries(t->fd), 2 + ARRAY_SIZE(names));
}

/* What other engines see: plain names in our order, files of root, one time. */
static void members_are_normal(void **state) {
    struct tmpdir *t = *state;
    cleanup_fd int images = make_images(t);
    cleanup_free char *path = tmpdir_path(t, "a.tar");
    cleanup_archive_writer struct archive_writer *w = begin(path);
    assert_int_equal(fchmodat(images, "inventory.img", 04777, 0), 0);
    assert_int_equal(archive_add_text(w, ARCHIVE_CONFIG, "{}", 2, NULL), 0);
    assert_int_equal(archive_add_checkpoint(w, images, NULL), 0);
    assert_int_equal(archive_finish(w, NULL), 0);
    struct archive *a = archive_read_new();
    struct archive_entry *e;
    unsigned n = 0;
    archive_read_support_format_tar(a);
    assert_int_equal(archive_read_open_filename(a, path, 10240), ARCHIVE_OK);
    for (; archive_read_next_header(a, &e) == ARCHIVE_OK; n++) {
        const char *name = archive_entry_pathname(e);
        if (n == 0)
            assert_string_equal(name, "config.dump");
        else if (n == 1)
            assert_string_equal(name, "checkpoint/");
        else
            assert_int_equal(strncmp(name, "checkpoint/", 11), 0);
        assert_int_equal(archive_entry_perm(e), n == 1 ? 0700 : 0600);
        assert_int_equal(archive_entry_uid(e), 0);
        assert_true(archive_entry_mtime(e) > 1700000000);
    }
    assert_int_equal(n, 4);
    archive_read_free(a);
}

static void names_tell_the_compression(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int r;
        enum archive_compression compression;
    } cases[] = {
        {"/a/b.tar", 0, ARCHIVE_PLAIN}, {"b.tar.gz", 0, ARCHIVE_GZIP},
        {"b.tgz", 0, ARCHIVE_GZIP},     {"b.c.tar.zst", 0, ARCHIVE_ZSTD},
        {"b.tar.xz", -EINVAL, 0},       {"b", -EINVAL, 0},
        {".tar", -EINVAL, 0},           {"", -EINVAL, 0},
        {"b.tar.gz.txt", -EINVAL, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        enum archive_compression c = ARCHIVE_PLAIN;
        assert_int_equal(archive_compression_of(cases[i].name, &c, NULL), cases[i].r);
        if (cases[i].r == 0)
            assert_int_equal(c, cases[i].compression);
    }
}

static void unfinished_leaves_nothing(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "a.tar");
    tmpdir_write(t, "a.tar", "older");
    struct archive_writer *w = begin(path);
    assert_int_equal(archive_add_text(w, ARCHIVE_CONFIG, "{}", 2, NULL), 0);
    assert_null(archive_writer_free(w));
    assert_int_equal(count_entries(t->fd), 1);
    assert_text(t->fd, "a.tar", "older");
}

static void replaces_a_regular_file_only(void **state) {
    struct tmpdir *t = *state;
    assert_int_equal(mkdirat(t->fd, "dir.tar", 0755), 0);
    assert_int_equal(symlinkat("elsewhere", t->fd, "link.tar"), 0);
    assert_int_equal(mkfifoat(t->fd, "fifo.tar", 0600), 0);
    static const struct {
        const char *name;
        int r;
    } cases[] = {{"dir.tar", -EEXIST}, {"link.tar", -EEXIST}, {"fifo.tar", -EEXIST}, {"absent/a.tar", -ENOENT}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_free char *path = tmpdir_path(t, cases[i].name);
        struct archive_writer *w = NULL;
        struct err e = ERR_INIT;
        assert_int_equal(archive_create(path, ARCHIVE_PLAIN, &w, &e), cases[i].r);
        assert_non_null(strstr(e.msg, path));
        assert_null(w);
    }
    assert_int_equal(count_entries(t->fd), 3);
}

static void refuses_what_is_no_checkpoint(void **state) {
    struct tmpdir *t = *state;
    static const struct {
        const char *name;
        mode_t type;
        const char *message;
    } cases[] = {
        {"parent", S_IFLNK, "it stands on a parent checkpoint, an archive must be complete"},
        {"a.img", S_IFLNK, "a.img"},
        {"a.img", S_IFIFO, "it is not a regular file"},
        {"a.img", S_IFDIR, "it is not a regular file"},
        {"a b.img", S_IFREG, "CRIU does not name its files so"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_fd int images = make_images(t);
        cleanup_free char *path = tmpdir_path(t, "a.tar");
        struct err e = ERR_INIT;
        int r = cases[i].type == S_IFLNK   ? symlinkat("/etc/passwd", images, cases[i].name)
                : cases[i].type == S_IFDIR ? mkdirat(images, cases[i].name, 0700)
                                           : mknodat(images, cases[i].name, cases[i].type | 0600, 0);
        assert_int_equal(r, 0);
        struct archive_writer *w = begin(path);
        assert_true(archive_add_checkpoint(w, images, &e) < 0);
        if (!strstr(e.msg, cases[i].message))
            fail_msg("\"%s\" does not say %s", e.msg, cases[i].message);
        archive_writer_free(w);
        assert_int_equal(path_remove_tree(t->fd, "images", NULL), 0);
        assert_int_equal(count_entries(t->fd), 0);
    }
    cleanup_fd int empty = make_dir(t, "empty");
    cleanup_free char *path = tmpdir_path(t, "a.tar");
    cleanup_archive_writer struct archive_writer *w = begin(path);
    struct err e = ERR_INIT;
    assert_int_equal(archive_add_checkpoint(w, empty, &e), -ENOENT);
    assert_non_null(strstr(e.msg, "it has no inventory.img"));
    assert_int_equal(archive_add_file(w, ARCHIVE_LOG, empty, "dump.log", &e), -ENOENT);
}

/* A disk that is full, as far as a process can make one for itself. */
static void a_failing_write_names_the_file(void **state) {
    struct tmpdir *t = *state;
    cleanup_fd int images = make_images(t);
    cleanup_free char *path = tmpdir_path(t, "a.tar");
    static char noise[256 << 10];
    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (char)random();
    cleanup_free char *pages = tmpdir_path(t, "images/pages-2.img");
    spill(pages, noise, sizeof(noise));
    struct rlimit old, low;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; i < 2; i++) {
        struct archive_writer *w = NULL;
        struct err e = ERR_INIT;
        low = (struct rlimit){.rlim_cur = 64 << 10, .rlim_max = old.rlim_max};
        assert_int_equal(archive_create(path, i ? ARCHIVE_ZSTD : ARCHIVE_PLAIN, &w, NULL), 0);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
        int r = archive_add_checkpoint(w, images, &e);
        if (r == 0)
            r = archive_finish(w, &e);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        archive_writer_free(w);
        assert_int_equal(r, -EFBIG);
        assert_non_null(strstr(e.msg, path));
        assert_non_null(strstr(e.msg, "File too large"));
        assert_int_equal(count_entries(t->fd), 1);
    }
}

static void takes_the_root_file_system_along(void **state) {
    struct tmpdir *t = *state;
    cleanup_fd int images = make_images(t);
    cleanup_fd int upper = make_dir(t, "upper");
    cleanup_fd int root = make_dir(t, "root");
    cleanup_free char *path = tmpdir_path(t, "a.tar.zst");
    cleanup_archive_writer struct archive_writer *w = begin(path);
    cleanup_archive_contents struct archive_contents c = {0};
    struct err e = ERR_INIT;
    tmpdir_write(t, "upper/changed", "new");
    tmpdir_write(t, "root/gone", "old");
    assert_int_equal(mknodat(upper, "gone", S_IFCHR, 0), 0);
    const struct rootfs_diff_source src = {.upper_fd = upper, .lower_fd = -1};
    if (archive_add_checkpoint(w, images, &e) < 0 || archive_add_rootfs_diff(w, &src, NULL, &e) < 0 ||
        archive_finish(w, &e) < 0)
        fail_msg("%s", e.msg);
    cleanup_fd int out = make_dir(t, "out");
    if (archive_extract(path, out, &(struct archive_extract_options){0}, &c, &e) < 0)
        fail_msg("%s", e.msg);
    assert_true(c.has_rootfs_diff && c.has_deleted);
    cleanup_fd int diff = openat(out, "rootfs-diff.tar", O_RDONLY | O_CLOEXEC);
    cleanup_free char *deleted = text_at(out, "deleted.files");
    if (rootfs_diff_apply(diff, root, NULL, NULL, &e) < 0 ||
        rootfs_diff_delete(deleted, strlen(deleted), root, NULL, &e) < 0)
        fail_msg("%s", e.msg);
    assert_text(root, "changed", "new");
    assert_int_equal(count_entries(root), 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(round_trip),
        T(members_are_normal),
        T(names_tell_the_compression),
        T(unfinished_leaves_nothing),
        T(replaces_a_regular_file_only),
        T(refuses_what_is_no_checkpoint),
        T(a_failing_write_names_the_file),
        T(takes_the_root_file_system_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
