/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/rootfs_diff.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "archive_support.h"

#define OPAQUE "trusted.overlay.opaque"
#define MEMBERS_MAX 8

static int to_file(void *userdata, const void *data, size_t len, struct err *err) {
    (void)err;
    return fd_write_all(*(int *)userdata, data, len);
}

static int to_count(void *userdata, const void *data, size_t len, struct err *err) {
    (void)data;
    (void)err;
    *(uint64_t *)userdata += len;
    return 0;
}

static int to_nothing(void *userdata, const void *data, size_t len, struct err *err) {
    (void)userdata;
    (void)data;
    (void)len;
    return err_set(err, ENOSPC, "the sink is full");
}

/* The difference of t/upper (and t/lower, if there is one) as t/diff.tar. */
static void write_diff(const struct tmpdir *t, struct strv *deleted, struct strv *notes) {
    cleanup_fd int upper = openat(t->fd, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_fd int lower = openat(t->fd, "lower", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_fd int out = openat(t->fd, "diff.tar", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    const struct rootfs_diff_source src = {.upper_fd = upper, .lower_fd = lower};
    struct err e = ERR_INIT;
    struct stat st;
    uint64_t size = 0;
    if (rootfs_diff_write(&src, true, to_count, &size, NULL, NULL, &e) < 0 ||
        rootfs_diff_write(&src, false, to_file, &out, deleted, notes, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(fstat(out, &st), 0);
    assert_int_equal(st.st_size, size);
}

static int apply(const struct tmpdir *t, struct strv *notes, struct err *e) {
    cleanup_fd int root = openat(t->fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    cleanup_fd int diff = openat(t->fd, "diff.tar", O_RDONLY | O_CLOEXEC);
    return rootfs_diff_apply(diff, root, NULL, notes, e);
}

static void apply_members(const struct tmpdir *t, const struct member *m, int r, const char *message) {
    cleanup_free char *path = tmpdir_path(t, "diff.tar");
    struct err e = ERR_INIT;
    tar_write(path, ARCHIVE_FILTER_NONE, m);
    int got = apply(t, NULL, &e);
    if (got != r || (message && !strstr(e.msg, message)))
        fail_msg("%s: %d (%s) instead of %d (%s)", m->name, got, e.msg, r, message ? message : "");
}

/* t/root: usr/bin/tool, usr/keep, bin -> usr/bin, out -> the directory t/outside with a file in it, etc/f. */
static int setup(void **state) {
    if (tmpdir_setup(state) < 0)
        return -1;
    struct tmpdir *t = *state;
    static const char *const dirs[] = {"upper", "outside", "root", "root/usr", "root/usr/bin", "root/etc"};
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        if (mkdirat(t->fd, dirs[i], 0755) < 0)
            return -1;
    tmpdir_write(t, "root/usr/bin/tool", "tool");
    tmpdir_write(t, "root/usr/keep", "keep");
    tmpdir_write(t, "root/etc/f", "f");
    tmpdir_write(t, "outside/file", "outside");
    cleanup_free char *outside = tmpdir_path(t, "outside");
    return symlinkat("usr/bin", t->fd, "root/bin") | symlinkat(outside, t->fd, "root/out");
}

static void round_trip(void **state) {
    struct tmpdir *t = *state;
    cleanup_strv struct strv deleted = {0}, notes = {0};
    struct err e = ERR_INIT;
    struct stat st, other;
    char buf[64] = "";
    cleanup_free char *file = tmpdir_path(t, "upper/dir/file"), *dir = tmpdir_path(t, "upper/dir");
    assert_int_equal(mkdirat(t->fd, "upper/dir", 0), 0);
    assert_int_equal(fchmodat(t->fd, "upper/dir", 01770, 0), 0);
    tmpdir_write(t, "upper/dir/file", "text");
    assert_int_equal(fchownat(t->fd, "upper/dir/file", 1000, 2000, 0), 0);
    assert_int_equal(fchmodat(t->fd, "upper/dir/file", 04755, 0), 0);
    assert_int_equal(linkat(t->fd, "upper/dir/file", t->fd, "upper/dir/name2", 0), 0);
    assert_int_equal(symlinkat("/nowhere/at/all", t->fd, "upper/link"), 0);
    assert_int_equal(mkfifoat(t->fd, "upper/fifo", 0640), 0);
    tmpdir_write(t, "upper/\xc3\xa9t\xc3\xa9", "utf8");
    tmpdir_write(t, "upper/\xff\xfe", "bytes");
    cleanup_fd int sparse = openat(t->fd, "upper/sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(pwrite(sparse, "end", 3, 32 << 20), 3);
    bool user_xattr = setxattr(file, "user.a", "b", 1, 0) == 0 && setxattr(dir, "user.overlay.x", "y", 1, 0) == 0;

    write_diff(t, &deleted, &notes);
    assert_int_equal(deleted.n, 0);
    assert_int_equal(notes.n, 0);
    assert_int_equal(fstatat(t->fd, "diff.tar", &st, 0), 0);
    assert_true(st.st_size < 256 << 10);
    if (apply(t, &notes, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(notes.n, 0);
    assert_text(t->fd, "root/dir/file", "text");
    assert_text(t->fd, "root/\xc3\xa9t\xc3\xa9", "utf8");
    assert_text(t->fd, "root/\xff\xfe", "bytes");
    assert_text(t->fd, "root/usr/keep", "keep");
    assert_int_equal(fstatat(t->fd, "root/dir", &st, 0), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 01770);
    assert_int_equal(fstatat(t->fd, "root/dir/file", &st, 0), 0);
    assert_int_equal(fstatat(t->fd, "root/dir/name2", &other, 0), 0);
    assert_int_equal(st.st_mode, S_IFREG | 04755);
    assert_int_equal(st.st_uid, 1000);
    assert_int_equal(st.st_gid, 2000);
    assert_int_equal(st.st_ino, other.st_ino);
    assert_int_equal(fstatat(t->fd, "upper/dir/file", &other, 0), 0);
    assert_int_equal(st.st_mtime, other.st_mtime);
    assert_int_equal(readlinkat(t->fd, "root/link", buf, sizeof(buf) - 1), 15);
    assert_string_equal(buf, "/nowhere/at/all");
    assert_int_equal(fstatat(t->fd, "root/fifo", &st, 0), 0);
    assert_int_equal(st.st_mode, S_IFIFO | 0640);
    assert_int_equal(fstatat(t->fd, "root/sparse", &st, 0), 0);
    assert_int_equal(st.st_size, (32 << 20) + 3);
    assert_true(st.st_blocks < 1024);
    cleanup_free char *applied = tmpdir_path(t, "root/dir/file"), *applied_dir = tmpdir_path(t, "root/dir");
    if (user_xattr) {
        assert_int_equal(getxattr(applied, "user.a", buf, sizeof(buf)), 1);
        assert_int_equal(getxattr(applied_dir, "user.overlay.x", buf, sizeof(buf)), -1);
    }
}

static void whiteouts_become_a_list(void **state) {
    struct tmpdir *t = *state;
    cleanup_strv struct strv deleted = {0}, notes = {0};
    cleanup_free char *json = NULL;
    struct err e = ERR_INIT;
    assert_int_equal(mkdirat(t->fd, "upper/usr", 0755), 0);
    assert_int_equal(mknodat(t->fd, "upper/usr/bin", S_IFCHR, 0), 0);
    assert_int_equal(mknodat(t->fd, "upper/out", S_IFCHR, 0), 0);
    assert_int_equal(mknodat(t->fd, "upper/\xff", S_IFCHR, 0), 0);
    tmpdir_write(t, "root/\xff", "no text");
    write_diff(t, &deleted, &notes);
    assert_int_equal(deleted.n, 2);
    assert_int_equal(rootfs_diff_deleted_json(&deleted, &json, NULL), 0);
    cleanup_fd int root = openat(t->fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (apply(t, &notes, &e) < 0 || rootfs_diff_delete(json, strlen(json), root, NULL, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(faccessat(t->fd, "root/usr/bin", F_OK, 0), -1);
    assert_int_equal(faccessat(t->fd, "root/out", F_OK, AT_SYMLINK_NOFOLLOW), -1);
    assert_int_equal(faccessat(t->fd, "root/\xff", F_OK, 0), -1);
    assert_text(t->fd, "root/usr/keep", "keep");
    assert_text(t->fd, "outside/file", "outside");
}

/* An opaque directory hides what is below. With the lower tree at hand, that is listed; else there is a marker. */
static void opaque_directories(void **state) {
    struct tmpdir *t = *state;
    for (int known = 0; known < 2; known++) {
        cleanup_strv struct strv deleted = {0};
        struct err e = ERR_INIT;
        cleanup_free char *usr = tmpdir_path(t, "upper/usr");
        (void)mkdirat(t->fd, "upper/usr", 0755);
        if (setxattr(usr, OPAQUE, "y", 1, 0) < 0)
            skip();
        tmpdir_write(t, "upper/usr/keep", "new");
        if (known)
            assert_int_equal(mkdirat(t->fd, "lower", 0755) | mkdirat(t->fd, "lower/usr", 0755) |
                                 mkdirat(t->fd, "lower/usr/bin", 0755) |
                                 mknodat(t->fd, "lower/usr/keep", S_IFREG | 0600, 0),
                             0);
        write_diff(t, &deleted, NULL);
        assert_int_equal(deleted.n, known);
        if (known) {
            assert_string_equal(deleted.v[0], "/usr/bin");
            continue;
        }
        if (apply(t, NULL, &e) < 0)
            fail_msg("%s", e.msg);
        assert_text(t->fd, "root/usr/keep", "new");
        assert_int_equal(faccessat(t->fd, "root/usr/bin", F_OK, 0), -1);
        assert_text(t->fd, "root/etc/f", "f");
    }
}

/* Overlay marks the topmost directory alone: what those below it hide has to be listed too. */
static void directories_in_an_opaque_one(void **state) {
    struct tmpdir *t = *state;
    cleanup_strv struct strv deleted = {0};
    cleanup_free char *usr = tmpdir_path(t, "upper/usr");
    static const char *const dirs[] = {"upper/usr", "upper/usr/bin", "upper/usr/bin/deep", "lower",
                                       "lower/usr", "lower/usr/bin", "lower/usr/bin/deep"};
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        assert_int_equal(mkdirat(t->fd, dirs[i], 0755), 0);
    if (setxattr(usr, OPAQUE, "y", 1, 0) < 0)
        skip();
    tmpdir_write(t, "lower/usr/bin/tool", "");
    tmpdir_write(t, "lower/usr/bin/deep/old", "");
    tmpdir_write(t, "upper/usr/bin/deep/new", "");
    write_diff(t, &deleted, NULL);
    assert_int_equal(deleted.n, 2);
    assert_string_equal(deleted.v[0], "/usr/bin/tool");
    assert_string_equal(deleted.v[1], "/usr/bin/deep/old");
}

static void what_cannot_be_taken_along(void **state) {
    struct tmpdir *t = *state;
    cleanup_strv struct strv notes = {0};
    assert_int_equal(mknodat(t->fd, "upper/sock", S_IFSOCK | 0600, 0), 0);
    assert_int_equal(mknodat(t->fd, "upper/null", S_IFCHR | 0600, makedev(1, 3)), 0);
    tmpdir_write(t, "upper/.wh.x", "");
    write_diff(t, NULL, &notes);
    assert_int_equal(notes.n, 3);
    struct stat st;
    assert_int_equal(fstatat(t->fd, "diff.tar", &st, 0), 0);
    assert_int_equal(st.st_size, 1024); /* nothing but the end */
}

static void refuses_overlays_that_split_files(void **state) {
    struct tmpdir *t = *state;
    static const struct {
        const char *attribute, *message;
    } cases[] = {{"trusted.overlay.redirect", "/d was renamed (overlay's redirect_dir)"},
                 {"trusted.overlay.metacopy", "/f is without its data (overlay's metacopy)"}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_fd int upper = openat(t->fd, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        cleanup_free char *path = tmpdir_path(t, i == 0 ? "upper/d" : "upper/f");
        const struct rootfs_diff_source src = {.upper_fd = upper, .lower_fd = -1};
        uint64_t size = 0;
        struct err e = ERR_INIT;
        if (i == 0)
            assert_int_equal(mkdirat(upper, "d", 0755), 0);
        else
            assert_int_equal(mknodat(upper, "f", S_IFREG | 0600, 0), 0);
        if (setxattr(path, cases[i].attribute, "/x", 2, 0) < 0)
            skip();
        assert_int_equal(rootfs_diff_write(&src, true, to_count, &size, NULL, NULL, &e), -EOPNOTSUPP);
        assert_string_equal(e.msg, cases[i].message);
        assert_int_equal(path_remove_tree(upper, i == 0 ? "d" : "f", NULL), 0);
    }
}

static void writing_is_bounded(void **state) {
    struct tmpdir *t = *state;
    cleanup_fd int upper = openat(t->fd, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct rootfs_diff_source src = {.upper_fd = upper, .lower_fd = -1};
    uint64_t size = 0;
    struct err e = ERR_INIT;
    /* What is behind so many pieces is taken for data, holes or not. */
    cleanup_fd int fd = openat(upper, "large", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    for (off_t i = 0; i < ARCHIVE_SEGMENTS_MAX; i++)
        assert_int_equal(pwrite(fd, "x", 1, i * 8192), 1);
    assert_int_equal(ftruncate(fd, (off_t)ROOTFS_DIFF_BYTES_MAX + (1 << 30)), 0);
    assert_int_equal(rootfs_diff_write(&src, true, to_count, &size, NULL, NULL, &e), -EFBIG);
    assert_non_null(strstr(e.msg, "with /large the changed files have more than"));
    assert_int_equal(unlinkat(upper, "large", 0), 0);

    int at = dup(upper);
    for (unsigned i = 0; i <= ROOTFS_DIFF_DEPTH_MAX; i++) {
        assert_int_equal(mkdirat(at, "d", 0755), 0);
        int next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = next;
    }
    close(at);
    assert_int_equal(rootfs_diff_write(&src, true, to_count, &size, NULL, NULL, &e), -ELOOP);
    assert_non_null(strstr(e.msg, "more than 256 directories deep"));
    assert_int_equal(path_remove_tree(upper, "d/d/d/d/d", NULL), 0); /* the teardown has the same bound */
}

/* A file of 4 TiB with 5 bytes in it is a file of 5 bytes. */
static void holes_do_not_count(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    struct stat st;
    char end[8] = "";
    const off_t at = (off_t)4 << 40;
    if (mount("base", t->path, "tmpfs", 0, "size=256m") < 0)
        skip();
    close(t->fd);
    t->fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(t->fd, "upper", 0755) | mkdirat(t->fd, "root", 0755), 0);
    cleanup_fd int fd = openat(t->fd, "upper/huge", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(pwrite(fd, "begin", 5, 1 << 20), 5);
    assert_int_equal(pwrite(fd, "end", 3, at), 3);
    fd = fd_close(fd);
    fd = openat(t->fd, "upper/hole", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, at), 0);
    uint64_t begun = now_usec();
    write_diff(t, NULL, NULL);
    assert_int_equal(fstatat(t->fd, "diff.tar", &st, 0), 0);
    assert_true(st.st_size < 64 << 10);
    char *privileged = NULL;
    cleanup_fd int diff = openat(t->fd, "diff.tar", O_RDONLY | O_CLOEXEC);
    if (rootfs_diff_check(diff, &privileged, &e) < 0 || apply(t, NULL, &e) < 0)
        fail_msg("%s", e.msg);
    assert_true(now_usec() - begun < 20 * USEC_PER_SEC);
    cleanup_fd int got = openat(t->fd, "root/huge", O_RDONLY | O_CLOEXEC);
    assert_int_equal(fstat(got, &st), 0);
    assert_int_equal(st.st_size, at + 3);
    assert_true(st.st_blocks < 64);
    assert_int_equal(pread(got, end, sizeof(end), at), 3);
    assert_string_equal(end, "end");
    assert_int_equal(pread(got, end, 5, 1 << 20), 5);
    assert_string_equal(end, "begin");
    assert_int_equal(fstatat(t->fd, "root/hole", &st, 0), 0);
    assert_int_equal(st.st_size, at);
    /* There is a bound, as there is work for each GiB. */
    assert_int_equal(ftruncate(fd, (off_t)ARCHIVE_FILE_MAX + 1), 0);
    uint64_t size = 0;
    cleanup_fd int upper = openat(t->fd, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct rootfs_diff_source src = {.upper_fd = upper, .lower_fd = -1};
    assert_int_equal(rootfs_diff_write(&src, true, to_count, &size, NULL, NULL, &e), -EFBIG);
    assert_non_null(strstr(e.msg, "/hole has more than"));
}

static int unmount(void **state) {
    struct tmpdir *t = *state;
    close(t->fd);
    t->fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    (void)umount2(t->path, MNT_DETACH); /* none, if it was skipped */
    return tmpdir_teardown(state);
}

static void a_failing_sink_is_named(void **state) {
    struct tmpdir *t = *state;
    cleanup_fd int upper = openat(t->fd, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct rootfs_diff_source src = {.upper_fd = upper, .lower_fd = -1};
    struct err e = ERR_INIT;
    cleanup_fd int fd = openat(upper, "large", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(posix_fallocate(fd, 0, 1 << 20), 0);
    assert_int_equal(rootfs_diff_write(&src, false, to_nothing, NULL, NULL, NULL, &e), -ENOSPC);
    assert_non_null(strstr(e.msg, "the sink is full"));
}

static void refuses_entries(void **state) {
    struct tmpdir *t = *state;
    static const struct {
        struct member m[MEMBERS_MAX];
        int r;
        const char *message;
    } cases[] = {
        {{{.name = "/etc/x"}}, -EINVAL, "entry \"/etc/x\": its name leads out of the archive"},
        {{{.name = "../x"}}, -EINVAL, "its name leads out of the archive"},
        {{{.name = "etc/../../x"}}, -EINVAL, "its name leads out of the archive"},
        {{{.name = "etc//x"}}, -EINVAL, "its name leads out of the archive"},
        {{{.name = "x", .type = AE_IFCHR, .major = 1, .minor = 3}}, -EINVAL, "entry \"x\": a device is not allowed"},
        {{{.name = "x", .type = AE_IFBLK, .major = 8}}, -EINVAL, "a device is not allowed"},
        {{{.name = "x", .type = AE_IFBLK}}, -EINVAL, "a device is not allowed"},
        {{{.name = "x", .hole = INT64_C(1) << 62}}, -EFBIG, "it has more than 1125899906842624 bytes, holes counted"},
        {{{.name = "x", .uid = INT64_C(1) << 32}}, -EINVAL, "an owner that there cannot be"},
        {{{.name = "x", .gid = UINT32_MAX}}, -EINVAL, "an owner that there cannot be"},
        {{{.name = "etc/f", .link = "etc/f", .hard = true}}, -EINVAL, "a hard link to itself"},
        {{{.name = "x", .link = "../outside/file", .hard = true}}, -EINVAL, "its name leads out of the archive"},
        {{{.name = "x", .link = "/etc/passwd", .hard = true}}, -EINVAL, "its name leads out of the archive"},
        {{{.name = "x", .link = "out/file", .hard = true}}, -ELOOP, "entry \"x\": cannot open out"},
        {{{.name = "x", .link = "out", .hard = true}}, -EINVAL, "a hard link to what is not a regular file"},
        {{{.name = "x", .link = "nothing", .hard = true}}, -ENOENT, "a hard link to what is not there"},
        {{{.name = "etc/.wh."}}, -EINVAL, "a whiteout of nothing"},
        {{{.name = "etc/.wh.."}}, -EINVAL, "a whiteout of nothing"},
        {{{.name = "etc/.wh..."}}, -EINVAL, "a whiteout of nothing"},
        {{{.name = ".wh..wh..opq"}}, -EINVAL, "the whole root would be removed"},
        {{{.name = "usr/keep", .data = "1"}, {.name = "usr/.wh..wh..opq"}},
         -EINVAL,
         "it comes behind entries of its directory"},
        {{{.name = "usr/a/b", .data = "1"}, {.name = "usr/.wh..wh..opq"}},
         -EINVAL,
         "it comes behind entries of its directory"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        apply_members(t, cases[i].m, cases[i].r, cases[i].message);
    assert_text(t->fd, "outside/file", "outside");
}

/* Links are made as they stand, and lead nowhere while the archive is applied. */
static void nothing_is_written_through_a_link(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *outside = tmpdir_path(t, "outside"), *file = tmpdir_path(t, "outside/file");
    const struct {
        struct member m[MEMBERS_MAX];
        int r;
        const char *message;
    } cases[] = {
        {{{.name = "evil", .type = AE_IFLNK, .link = outside}, {.name = "evil/file", .data = "x"}},
         -ELOOP,
         "evil/file"},
        {{{.name = "evil", .type = AE_IFLNK, .link = "../outside"}, {.name = "evil/new/f", .data = "x"}},
         -ELOOP,
         "evil/new/f"},
        {{{.name = "out/file", .data = "x"}}, -ELOOP, "out/file"},
        {{{.name = "out/.wh.file"}}, -ELOOP, "out/.wh.file"},
        {{{.name = "out/.wh..wh..opq"}}, -ELOOP, "out"},
        {{{.name = "bin/tool", .data = "x"}}, -ELOOP, "bin/tool"},
        {{{.name = "f", .type = AE_IFLNK, .link = file}, {.name = "f", .data = "new"}}, 0, NULL},
        {{{.name = "g", .type = AE_IFLNK, .link = file}, {.name = "h", .link = "g", .hard = true}},
         -EINVAL,
         "a hard link to what is not a regular file"},
        {{{.name = "d", .type = AE_IFLNK, .link = outside},
          {.name = "d/", .type = AE_IFDIR},
          {.name = "d/file", .data = "new"}},
         0,
         NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        apply_members(t, cases[i].m, cases[i].r, cases[i].message);
        assert_text(t->fd, "outside/file", "outside");
    }
    assert_text(t->fd, "root/f", "new");
    assert_text(t->fd, "root/d/file", "new");
    assert_text(t->fd, "root/usr/bin/tool", "tool");
    cleanup_fd int dir = openat(t->fd, "outside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(count_entries(dir), 1);
}

/* A second name for a file of the image must not let a later entry change that file. */
static void hard_links_are_not_written_through(void **state) {
    struct tmpdir *t = *state;
    apply_members(t,
                  (const struct member[]){
                      {.name = "alias", .link = "usr/bin/tool", .hard = true}, {.name = "alias", .data = "new"}, {0}},
                  0, NULL);
    assert_text(t->fd, "root/alias", "new");
    assert_text(t->fd, "root/usr/bin/tool", "tool");
}

static void kinds_replace_each_other(void **state) {
    struct tmpdir *t = *state;
    struct stat st;
    apply_members(t,
                  (const struct member[]){{.name = "usr", .data = "now a file"},
                                          {.name = "etc/f/", .type = AE_IFDIR, .mode = 0700},
                                          {.name = "out/", .type = AE_IFDIR},
                                          {.name = "bin", .type = AE_IFIFO},
                                          {.name = "new/deep/er/file", .data = "x"},
                                          {0}},
                  0, NULL);
    assert_text(t->fd, "root/usr", "now a file");
    assert_text(t->fd, "root/new/deep/er/file", "x");
    assert_int_equal(fstatat(t->fd, "root/etc/f", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0700);
    assert_int_equal(fstatat(t->fd, "root/out", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(fstatat(t->fd, "root/bin", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISFIFO(st.st_mode));
    assert_text(t->fd, "outside/file", "outside");
}

/* containerd's layers. */
static void oci_whiteouts(void **state) {
    struct tmpdir *t = *state;
    apply_members(t,
                  (const struct member[]){{.name = "etc/.wh.f"},
                                          {.name = "etc/.wh.absent"},
                                          {.name = ".wh.out"},
                                          {.name = "usr/.wh..wh.plnk"},
                                          {.name = "usr/bin/.wh..wh..opq"},
                                          {.name = "usr/bin/other", .data = "x"},
                                          {.name = "bin", .type = AE_IFCHR},
                                          {0}},
                  0, NULL);
    assert_int_equal(faccessat(t->fd, "root/etc/f", F_OK, 0), -1);
    assert_int_equal(faccessat(t->fd, "root/out", F_OK, AT_SYMLINK_NOFOLLOW), -1);
    assert_int_equal(faccessat(t->fd, "root/bin", F_OK, AT_SYMLINK_NOFOLLOW), -1);
    assert_int_equal(faccessat(t->fd, "root/usr/bin/tool", F_OK, 0), -1);
    assert_text(t->fd, "root/usr/bin/other", "x");
    assert_text(t->fd, "root/usr/keep", "keep");
    assert_text(t->fd, "outside/file", "outside");
}

static void attributes_are_chosen(void **state) {
    struct tmpdir *t = *state;
    cleanup_strv struct strv notes = {0};
    cleanup_free char *path = tmpdir_path(t, "diff.tar"), *x = tmpdir_path(t, "root/x"), *y = tmpdir_path(t, "root/y");
    struct err e = ERR_INIT;
    char v[8];
    tar_write(path, ARCHIVE_FILTER_NONE,
              (const struct member[]){{.name = "x", .data = "x", .xattr = "trusted.overlay.opaque"},
                                      {.name = "y", .data = "y", .xattr = "user.overlay.opaque"},
                                      {.name = "z", .data = "y", .xattr = "security.ima"},
                                      {.name = "d", .type = AE_IFDIR, .xattr = "security.capability"},
                                      {0}});
    if (apply(t, &notes, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(notes.n, 4);
    assert_string_equal(notes.v[0], "/x: an extended attribute is not taken over");
    assert_int_equal(getxattr(x, "trusted.overlay.opaque", v, sizeof(v)), -1);
    assert_int_equal(getxattr(y, "user.overlay.opaque", v, sizeof(v)), -1);
}

static void lists_of_deleted_files(void **state) {
    struct tmpdir *t = *state;
    cleanup_fd int root = openat(t->fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    static const struct {
        const char *json;
        int r;
        const char *message;
    } cases[] = {
        {"[]", 0, ""},
        {"[\"/absent\",\"/usr/absent/x\",\"/usr/keep/x\"]", 0, ""},
        {"[\"etc/f\"]", 0, ""},
        {"{}", -EINVAL, "deleted.files: must be a list"},
        {"[1]", -EINVAL, "deleted.files: [0] must be a string"},
        {"[\"a\"", -EINVAL, "deleted.files: line 1"},
        {"[\"\"]", -EINVAL, "deleted.files: \"\" is no path below the root"},
        {"[\"/\"]", -EINVAL, "deleted.files: \"/\" is no path below the root"},
        {"[\"/../outside\"]", -EINVAL, "deleted.files: \"/../outside\" is no path below the root"},
        {"[\"/usr/..\"]", -EINVAL, "is no path below the root"},
        {"[\"//x\"]", -EINVAL, "is no path below the root"},
        {"[\"/out/file\"]", -ELOOP, "deleted.files: cannot open"},
        {"[\"/out\"]", 0, ""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err e = ERR_INIT;
        int r = rootfs_diff_delete(cases[i].json, strlen(cases[i].json), root, NULL, &e);
        if (r != cases[i].r || (r < 0 && !strstr(e.msg, cases[i].message)))
            fail_msg("%s: %d (%s)", cases[i].json, r, e.msg);
    }
    assert_text(t->fd, "outside/file", "outside");
    assert_int_equal(faccessat(t->fd, "root/etc/f", F_OK, 0), -1);
    assert_int_equal(faccessat(t->fd, "root/out", F_OK, AT_SYMLINK_NOFOLLOW), -1);

    cleanup_free char *many = malloc((size_t)4 * (ROOTFS_DIFF_DELETED_MAX + 2));
    size_t n = 0;
    for (unsigned i = 0; i <= ROOTFS_DIFF_DELETED_MAX; i++)
        n += (size_t)sprintf(many + n, "%s\"a\"", i ? "," : "[");
    many[n++] = ']';
    struct err e = ERR_INIT;
    assert_int_equal(rootfs_diff_delete(many, n, root, NULL, &e), -EFBIG);
    assert_string_equal(e.msg, "deleted.files: more than 65536 files");
}

static void truncated_anywhere(void **state) {
    struct tmpdir *t = *state;
    size_t len;
    cleanup_free char *path = tmpdir_path(t, "diff.tar");
    tar_write(
        path, ARCHIVE_FILTER_NONE,
        (const struct member[]){{.name = "a", .data = "a"}, {.name = "b/c", .data = "c", .xattr = "user.x"}, {0}});
    cleanup_free char *data = slurp(path, &len);
    for (size_t cut = 0; cut < len; cut += 64) {
        struct err e = ERR_INIT;
        spill(path, data, cut);
        int r = apply(t, NULL, &e);
        if (r != -EINVAL || !strstr(e.msg, "rootfs-diff.tar"))
            fail_msg("cut at %zu of %zu: %d (%s)", cut, len, r, e.msg);
    }
}

static void too_deep(void **state) {
    struct tmpdir *t = *state;
    char name[2 * ROOTFS_DIFF_DEPTH_MAX + 8] = "";
    for (unsigned i = 0; i <= ROOTFS_DIFF_DEPTH_MAX; i++)
        memcpy(name + 2 * i, "d/", 3);
    strcat(name, "f");
    apply_members(t, (const struct member[]){{.name = name, .data = "x"}, {0}}, -EFBIG,
                  "more than 256 directories deep");
    char large[ROOTFS_DIFF_PATH_MAX + 2];
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    apply_members(t, (const struct member[]){{.name = large, .data = "x"}, {0}}, -EINVAL,
                  "its name is longer than 4096 bytes");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, tmpdir_teardown)

int main(void) {
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        T(round_trip),
        T(whiteouts_become_a_list),
        T(opaque_directories),
        T(directories_in_an_opaque_one),
        T(what_cannot_be_taken_along),
        T(refuses_overlays_that_split_files),
        T(writing_is_bounded),
        cmocka_unit_test_setup_teardown(holes_do_not_count, setup, unmount),
        T(a_failing_sink_is_named),
        T(refuses_entries),
        T(nothing_is_written_through_a_link),
        T(hard_links_are_not_written_through),
        T(kinds_replace_each_other),
        T(oci_whiteouts),
        T(attributes_are_chosen),
        T(lists_of_deleted_files),
        T(truncated_anywhere),
        T(too_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
