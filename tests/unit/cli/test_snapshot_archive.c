/* SPDX-License-Identifier: Apache-2.0 */
/* Export and import: what comes back is what went out, and nothing else gets in. */
#include "cli/snapshot_archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/xattr.h>

#include "oci/archive_put.h"
#include "snapshot/tree_socket.h"
#include "snapshots.h"
#include "tmpdir.h"

static void fill_odd_root(int root) {
    fill_file(root, "file", "text\n");
    assert_int_equal(mkdirat(root, "dir", 0751), 0);
    cleanup_fd int dir = openat(root, "dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fill_file(dir, "setuid", "x");
    assert_int_equal(fchownat(dir, "setuid", 1000, 2000, 0), 0);
    assert_int_equal(fchmodat(dir, "setuid", 04755, 0), 0);
    assert_int_equal(linkat(dir, "setuid", root, "hard", 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", root, "absolute"), 0);
    assert_int_equal(symlinkat("../../../..", dir, "up"), 0);
    assert_int_equal(mkfifoat(root, "fifo", 0600), 0);
    assert_int_equal(mknodat(root, "socket", S_IFSOCK, 0), 0);
    assert_int_equal(fchmodat(root, "socket", 0660, 0), 0);
    assert_int_equal(fchownat(root, "socket", 33, 44, 0), 0);
    assert_int_equal(linkat(root, "socket", dir, "socket", 0), 0);
    fill_file(root, "not \xff utf-8", "");
    cleanup_fd int big = openat(root, "sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(big, (off_t)4 << 40), 0); /* beyond all bounds, if holes counted */
    assert_int_equal(pwrite(big, "x", 1, 5 << 20), 1);
    (void)fsetxattr(big, "user.color", "blue", 4, 0); /* where the file system has them */
}

struct places {
    struct tmpdir *t;
    char *store, *file, *out;
    int dirfd; /* of out */
};

static struct places prepare(void **state) {
    struct places p = {.t = *state};
    p.store = tmpdir_path(p.t, "store");
    p.file = tmpdir_path(p.t, "x.tar.zst");
    p.out = tmpdir_path(p.t, "out");
    assert_int_equal(mkdir(p.out, 0700), 0);
    p.dirfd = open(p.out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return p;
}

static void done(struct places *p) {
    fd_close(p->dirfd);
    free(p->store);
    free(p->file);
    free(p->out);
}

static int export(const struct places *p, const char *name, struct err *err) {
    cleanup_snapshot struct snapshot s = SNAPSHOT_NONE;
    cleanup_archive_writer struct archive_writer *w = NULL;
    enum archive_compression compression;
    int r = snapshot_open(SNAPSHOT_KIND_SNAPSHOT, p->store, name, &s, err);
    if (r == 0)
        r = archive_compression_of(p->file, &compression, err);
    if (r == 0)
        r = archive_create_exact(-1, p->file, compression, &w, err);
    if (r == 0)
        r = snapshot_export(&s, w, err);
    return r == 0 ? archive_finish(w, err) : r;
}

static int import(const struct places *p, const struct snapshot_import *o, struct err *err) {
    static const struct snapshot_import none = {0};
    cleanup_free char *name = NULL;
    cleanup_fd int fd = open(p->file, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return snapshot_import(fd, "x.tar", p->dirfd, o ? o : &none, 1, &name, err);
}

static void comes_back_as_it_was(void **state) {
    struct places p = prepare(state);
    const struct snapshot_recipe recipe = {.sandbox = "pod", .containers = {"pod", "app"}, .fill = fill_odd_root};
    const struct snapshot_import o = {.rename = "second"};
    struct err err = ERR_INIT;
    snapshot_make(p.store, "first", &recipe);
    if (export(&p, "first", &err) < 0 || import(&p, &o, &err) < 0)
        fail_msg("%s", err.msg);
    struct stat a, b;
    assert_int_equal(fstatat(p.dirfd, "roots/1/dir/setuid", &a, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(fstatat(p.dirfd, "roots/1/hard", &b, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(a.st_ino == b.st_ino && a.st_mode == (S_IFREG | 04755) && a.st_uid == 1000 && a.st_gid == 2000);
    cleanup_free char *source = str_printf("%s/first/roots/1/socket", p.store);
    assert_int_equal(fstatat(AT_FDCWD, source, &a, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(fstatat(p.dirfd, "roots/1/socket", &b, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(b.st_mode == (S_IFSOCK | 0660) && b.st_uid == 33 && b.st_gid == 44);
    assert_int_equal(tree_socket_number(a.st_ino), tree_socket_number(b.st_ino));
    assert_int_equal(fstatat(p.dirfd, "roots/1/dir/socket", &a, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(a.st_ino == b.st_ino && faccessat(p.dirfd, ".sockets", F_OK, 0) < 0);
    assert_int_equal(fstatat(p.dirfd, "roots/0/sparse", &a, 0), 0);
    assert_true(a.st_size == (off_t)4 << 40 && a.st_blocks * 512 < 1 << 20);
    assert_int_equal(fstatat(p.dirfd, "memory", &a, 0), 0);
    assert_true(a.st_size == (off_t)SNAPSHOT_MEMORY && a.st_blocks * 512 < 1 << 20);
    assert_int_equal(faccessat(p.dirfd, SNAPSHOT_IMPORTED, F_OK, 0), 0);
    cleanup_manifest struct manifest m = {0};
    assert_int_equal(manifest_read(p.dirfd, &m, NULL), 0);
    assert_string_equal(m.name, "second");
    done(&p);
}

static void fill_upper(int root) {
    fill_file(root, "new", "above\n");
    (void)mknodat(root, "gone", S_IFCHR | 0600, 0); /* a whiteout */
}

/* Needs to mount an overlay: as root only. */
static void an_overlay_becomes_whole(void **state) {
    struct places p = prepare(state);
    cleanup_free char *lower = tmpdir_path(p.t, "lower");
    const struct snapshot_recipe recipe = {.fill = fill_upper, .lower = lower};
    struct err err = ERR_INIT;
    if (geteuid() != 0)
        skip();
    assert_int_equal(mkdir(lower, 0755), 0);
    tmpdir_write(p.t, "lower/old", "below\n");
    tmpdir_write(p.t, "lower/gone", "below\n");
    snapshot_make(p.store, "first", &recipe);
    if (export(&p, "first", &err) < 0 || import(&p, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(faccessat(p.dirfd, "roots/0/old", F_OK, 0), 0);
    assert_int_equal(faccessat(p.dirfd, "roots/0/new", F_OK, 0), 0);
    assert_int_equal(faccessat(p.dirfd, "roots/0/gone", F_OK, AT_SYMLINK_NOFOLLOW), -1);
    cleanup_manifest struct manifest m = {0};
    assert_int_equal(manifest_read(p.dirfd, &m, NULL), 0);
    assert_int_equal(m.containers[0].root.lowers.n, 0);
    done(&p);
}

static void a_damaged_one_is_refused(void **state) {
    struct places p = prepare(state);
    const struct snapshot_recipe recipe = {0};
    struct err err = ERR_INIT;
    snapshot_make(p.store, "first", &recipe);
    cleanup_free char *file = str_printf("%s/first/roots/0/file", p.store);
    cleanup_fd int fd = open(file, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "IN", 2, 0), 2);
    assert_int_equal(export(&p, "first", &err), 0);
    assert_int_equal(import(&p, NULL, &err), -EBADMSG);
    assert_message(&err, "root");
    done(&p);
}

static void is_bounded(void **state) {
    struct places p = prepare(state);
    const struct snapshot_recipe recipe = {0};
    struct snapshot_import o = {.bytes_max = 1 << 20};
    struct err err = ERR_INIT;
    snapshot_make(p.store, "first", &recipe);
    assert_int_equal(export(&p, "first", &err), 0);
    assert_int_equal(import(&p, &o, &err), -EFBIG);
    done(&p);
}

static void a_template_is_of_no_use_elsewhere(void **state) {
    struct places p = prepare(state);
    const struct snapshot_recipe recipe = {.is_template = true};
    struct err err = ERR_INIT;
    snapshot_make(p.store, "first", &recipe);
    assert_int_equal(export(&p, "first", &err), -EINVAL);
    assert_message(&err, "is a template");
    done(&p);
}

/* For the next import. */
static void empty_out(struct places *p) {
    assert_int_equal(path_remove_tree(AT_FDCWD, p->out, NULL), 0);
    assert_int_equal(mkdir(p->out, 0700), 0);
    fd_close(p->dirfd);
    p->dirfd = open(p->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* An entry of a hostile archive, behind a manifest that is in order. */
struct hostile {
    const char *path;
    unsigned type;
    const char *target; /* of a link; hard: type is AE_IFREG */
    const char *xattr;
    unsigned rdev;
    const char *want;  /* in the message */
    const char *value; /* of the attribute; NULL: "x" */
};

static int to_fd(void *userdata, const void *data, size_t len, struct err *err) {
    (void)err;
    return fd_write_all(*(int *)userdata, data, len);
}

static void put_hostile(struct archive_put *put, const struct hostile *h) {
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, h->path);
    archive_entry_set_filetype(e, h->type);
    archive_entry_set_perm(e, 0700);
    archive_entry_set_size(e, 0);
    if (h->target && h->type == AE_IFLNK)
        archive_entry_set_symlink(e, h->target);
    else if (h->target)
        archive_entry_set_hardlink(e, h->target);
    if (h->xattr)
        archive_entry_xattr_add_entry(e, h->xattr, h->value ? h->value : "x", h->value ? strlen(h->value) : 1);
    if (h->rdev)
        archive_entry_set_rdevmajor(e, h->rdev);
    assert_int_equal(archive_put_entry(put, e, NULL, 0, NULL), 0);
    archive_entry_free(e);
}

static void refuse_entries(struct places *p, const struct hostile *list, size_t n) {
    cleanup_free char *manifest = str_printf("%s/first/" MANIFEST_FILE, p->store), *text = NULL;
    cleanup_archive_put struct archive_put *put = NULL;
    struct archive_entry *e = archive_entry_new();
    struct err err = ERR_INIT;
    size_t len;
    cleanup_fd int fd = open(p->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(file_read_at(AT_FDCWD, manifest, 1 << 20, &text, &len, NULL), 0);
    assert_int_equal(archive_put_new(to_fd, &fd, ARCHIVE_FILTER_NONE, false, "x", &put, NULL), 0);
    archive_entry_set_pathname(e, MANIFEST_FILE);
    archive_entry_set_filetype(e, AE_IFREG);
    assert_int_equal(archive_put_entry(put, e, text, len, NULL), 0);
    archive_entry_free(e);
    for (size_t i = 0; i < n; i++)
        put_hostile(put, &list[i]);
    assert_int_equal(archive_put_finish(put, NULL), 0);
    if (import(p, NULL, &err) >= 0)
        fail_msg("%s was taken", list[n - 1].path);
    assert_message(&err, list[n - 1].want);
    empty_out(p);
}

#define ROOT                                                                                                           \
    { "roots/0", AE_IFDIR, NULL, NULL, 0, NULL }
#define REFUSE(...)                                                                                                    \
    do {                                                                                                               \
        const struct hostile list_[] = {__VA_ARGS__};                                                                  \
        refuse_entries(&p, list_, ARRAY_SIZE(list_));                                                                  \
    } while (0)

static void hostile_entries_are_refused(void **state) {
    struct places p = prepare(state);
    const struct snapshot_recipe recipe = {0};
    snapshot_make(p.store, "first", &recipe);
    REFUSE({"../x", AE_IFREG, NULL, NULL, 0, "leads out"});
    REFUSE({"/etc/x", AE_IFREG, NULL, NULL, 0, "leads out"});
    REFUSE({"roots/0/../../x", AE_IFREG, NULL, NULL, 0, "leads out"});
    REFUSE({"other", AE_IFREG, NULL, NULL, 0, "no part of a snapshot"});
    REFUSE({SNAPSHOT_IMPORTED, AE_IFREG, NULL, NULL, 0, "no part of a snapshot"});
    REFUSE({MANIFEST_FILE, AE_IFREG, NULL, NULL, 0, "no part of a snapshot"});
    REFUSE({"memory", AE_IFLNK, "/dev/sda", NULL, 0, "must be a regular file"});
    REFUSE({"device", AE_IFREG, NULL, NULL, 0, "the manifest says"});
    REFUSE({"roots/1", AE_IFDIR, NULL, NULL, 0, "no container has this root"});
    REFUSE({"roots/00", AE_IFDIR, NULL, NULL, 0, "no container has this root"});
    REFUSE({"roots/0", AE_IFLNK, "/", NULL, 0, "no container has this root"});
    REFUSE({"roots/0/x", AE_IFREG, NULL, NULL, 0, "right behind its directory"});
    REFUSE(ROOT, {"roots/0", AE_IFDIR, NULL, NULL, 0, "comes twice"});
    REFUSE(ROOT, {"roots/0/l", AE_IFLNK, "/", NULL, 0, NULL}, {"roots/0/l/x", AE_IFREG, NULL, NULL, 0, "right behind"});
    REFUSE(ROOT, {"roots/0/l", AE_IFLNK, "/", NULL, 0, NULL}, {"roots/0/l", AE_IFREG, NULL, NULL, 0, "comes twice"});
    REFUSE(ROOT, {"roots/0/h", AE_IFREG, "memory", NULL, 0, "out of its root"});
    REFUSE(ROOT, {"roots/0/h", AE_IFREG, "roots/0/../../manifest.json", NULL, 0, "leads out"});
    REFUSE(ROOT, {"roots/0/l", AE_IFLNK, "../..", NULL, 0, NULL},
           {"roots/0/h", AE_IFREG, "roots/0/l/manifest.json", NULL, 0, "not there"});
    REFUSE(ROOT, {"roots/0/d", AE_IFBLK, NULL, NULL, 8, "a device is not allowed"});
    REFUSE(ROOT, {"roots/0/d", AE_IFCHR, NULL, NULL, 1, "a device is not allowed"});
    REFUSE(ROOT, {"roots/0/x", AE_IFREG, NULL, "trusted.overlay.redirect", 0, "is not allowed"});
    REFUSE(ROOT, {"roots/0/x", AE_IFREG, NULL, "security.evm", 0, "is not allowed"});
    REFUSE(ROOT, {"roots/0/x", AE_IFREG, NULL, SNAPSHOT_SOCKET, 0, "is not allowed"});
    static const char *const numbers[] = {"x", "256", "", "-1", "0000000001"};
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        REFUSE(ROOT, {"roots/0/x", AE_IFIFO, NULL, SNAPSHOT_SOCKET, 0, "a socket without a number", numbers[i]});
    done(&p);
}

/* The file `name` of the snapshot "first", as it is. */
static void put_member(const struct places *p, struct archive_put *put, const char *name) {
    cleanup_free char *path = str_printf("%s/first/%s", p->store, name);
    cleanup_entry struct archive_entry *e = archive_entry_new();
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    archive_entry_set_pathname(e, name);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0644);
    assert_int_equal(archive_put_file(put, e, fd, NULL), 0);
}

/* A whole archive of the snapshot "first", its manifest as it is: an export would have no lower directories. */
static void pack_as_it_is(const struct places *p) {
    static const struct hostile roots[] = {{.path = "roots/0", .type = AE_IFDIR},
                                           {.path = "roots/1", .type = AE_IFDIR}};
    cleanup_archive_put struct archive_put *put = NULL;
    cleanup_fd int fd = open(p->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(archive_put_new(to_fd, &fd, ARCHIVE_FILTER_NONE, false, "x", &put, NULL), 0);
    put_member(p, put, MANIFEST_FILE);
    put_member(p, put, MANIFEST_DEVICE);
    put_member(p, put, MANIFEST_MEMORY);
    for (size_t i = 0; i < ARRAY_SIZE(roots); i++)
        put_hostile(put, &roots[i]);
    assert_int_equal(archive_put_finish(put, NULL), 0);
}

static void no_files(int root) {
    assert_int_equal(fchmod(root, 0700), 0); /* as put_hostile() has them */
}

static void first_stands_on_etc(struct manifest *m) {
    assert_int_equal(strv_add(&m->containers[0].root.lowers, "/etc"), 0);
}

static void second_stands_on_the_top(struct manifest *m) {
    assert_int_equal(strv_add(&m->containers[1].root.lowers, "/"), 0);
}

static void second_stands_on_many(struct manifest *m) {
    for (size_t i = 0; i < MANIFEST_LOWERS_MAX; i++)
        assert_int_equal(strv_add(&m->containers[1].root.lowers, i ? "/not/there" : "/root"), 0);
}

/* Else a restore would mount the host's directories as a container's root. */
static void directories_of_the_host_are_refused(void **state) {
    static const struct {
        void (*spoil)(struct manifest *m);
        const char *container;
    } lowers[] = {
        {NULL, NULL}, {first_stands_on_etc, "pod"}, {second_stands_on_the_top, "app"}, {second_stands_on_many, "app"}};
    struct places p = prepare(state);
    for (size_t i = 0; i < ARRAY_SIZE(lowers); i++) {
        const struct snapshot_recipe recipe = {
            .sandbox = "pod", .containers = {"pod", "app"}, .fill = no_files, .spoil = lowers[i].spoil};
        struct err err = ERR_INIT;
        snapshot_make(p.store, "first", &recipe);
        pack_as_it_is(&p);
        int r = import(&p, NULL, &err);
        if (!lowers[i].spoil) { /* it is what the others are, but for that */
            if (r < 0)
                fail_msg("%s", err.msg);
        } else {
            cleanup_free char *want =
                str_printf("the root of container %s stands on directories of another host", lowers[i].container);
            assert_int_equal(r, -EINVAL);
            assert_message(&err, want);
            /* Before anything else is unpacked. */
            assert_int_equal(faccessat(p.dirfd, MANIFEST_DEVICE, F_OK, 0), -1);
            assert_int_equal(faccessat(p.dirfd, MANIFEST_ROOTS, F_OK, 0), -1);
        }
        empty_out(&p);
        assert_int_equal(path_remove_tree(AT_FDCWD, p.store, NULL), 0);
    }
    done(&p);
}

static void what_is_no_archive(void **state) {
    struct places p = prepare(state);
    static const char *const texts[] = {"", "hello", "{}"};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        tmpdir_write(p.t, "x.tar.zst", texts[i]);
        assert_true(import(&p, NULL, NULL) < 0);
    }
    done(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(comes_back_as_it_was, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(an_overlay_becomes_whole, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(a_damaged_one_is_refused, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(is_bounded, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(a_template_is_of_no_use_elsewhere, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(hostile_entries_are_refused, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(directories_of_the_host_are_refused, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(what_is_no_archive, tmpdir_setup, tmpdir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
