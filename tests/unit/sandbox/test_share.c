/* SPDX-License-Identifier: Apache-2.0 */
/* Needs root: mounts for real, in a mount namespace of its own. */
#include "sandbox/share.h"
#include "support.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

/* What is done as soon as a directory has been made, as another process would that is quick enough. */
static struct { const char *name, *target; /* NULL: nothing */ } exchange;

/* In the place of the C library's. */
int mkdirat(int dirfd, const char *name, mode_t mode) {
    int r = (int)syscall(SYS_mkdirat, dirfd, name, mode);
    if (r == 0 && exchange.name && strcmp(name, exchange.name) == 0) {
        if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 || symlinkat(exchange.target, dirfd, name) < 0)
            abort();
        exchange.name = NULL;
    }
    return r;
}

struct fixture {
    struct tmpdir *dir;
    char *rootfs, *volume, *file; /* host directories and a file of the "user" */
    struct share share;
};

static char *make_dir(const struct tmpdir *t, const char *name) {
    char *path = tmpdir_path(t, name);
    assert_non_null(path);
    assert_int_equal(mkdir(path, 0755), 0);
    return path;
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    void *dir = NULL;
    if (tmpdir_setup(&dir) < 0)
        return -1;
    f->dir = dir;
    f->rootfs = make_dir(f->dir, "rootfs");
    f->volume = make_dir(f->dir, "volume");
    f->file = tmpdir_path(f->dir, "file");
    tmpdir_write(f->dir, "rootfs/hello", "root");
    tmpdir_write(f->dir, "volume/data", "volume");
    tmpdir_write(f->dir, "file", "file");
    struct err err = ERR_INIT;
    if (share_open(f->dir->path, &f->share, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return -1;
    }
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    void *dir = f->dir;
    share_close(&f->share);
    size_t left = count_mounts(f->dir->path);
    free(f->rootfs);
    free(f->volume);
    free(f->file);
    free(f);
    return left ? -1 : tmpdir_teardown(&dir);
}

/* malloc'd DIR/share/<name>; "" is the share itself. */
static char *in_share(const struct fixture *f, const char *name) {
    char *path = *name ? path_join(f->share.dir, name) : strdup(f->share.dir);
    assert_non_null(path);
    return path;
}

static bool exists(const struct fixture *f, const char *name) {
    return faccessat(f->share.fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void assert_content(const struct fixture *f, const char *name, const char *expected) {
    cleanup_free char *text = NULL;
    struct err err = ERR_INIT;
    if (file_read_at(f->share.fd, name, 4096, &text, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(text, expected);
}

static bool has_option(const char *options, const char *option) {
    char wanted[32];
    assert_non_null(options);
    snprintf(wanted, sizeof(wanted), ",%s,", option);
    return strstr(options, wanted) != NULL;
}

/* The mount is there, has what every mount in the share has, and is read-only or not. */
static void assert_mounted(const struct fixture *f, const char *name, bool read_only) {
    cleanup_free char *path = in_share(f, name);
    const char *options = mount_options(path);
    if (!options)
        fail_msg("nothing is mounted at %s", path);
    assert_true(has_option(options, "nosuid"));
    assert_true(has_option(options, "nodev"));
    assert_true(has_option(options, "noexec"));
    assert_int_equal(has_option(options, "ro"), read_only);
}

static void assert_only_share(const struct fixture *f) {
    assert_int_equal(count_mounts(f->share.dir), 1);
    cleanup_dir DIR *d = opendir(f->share.dir);
    assert_non_null(d);
    struct dirent *e;
    while ((e = readdir(d)))
        if (e->d_name[0] != '.')
            fail_msg("left in the share: %s", e->d_name);
}

static void test_open(void **state) {
    struct fixture *f = *state;
    assert_mounted(f, "", false);
    struct stat st;
    assert_int_equal(fstat(f->share.fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(fcntl(f->share.fd, F_GETFD), FD_CLOEXEC);
    /* Small: nobody keeps data in it. */
    struct statvfs fs;
    assert_int_equal(statvfs(f->share.dir, &fs), 0);
    assert_true(fs.f_blocks * fs.f_frsize <= (1 << 20));
    assert_true(fs.f_files <= 16384);
    assert_only_share(f);
    share_close(&f->share);
    assert_null(f->share.dir);
    assert_int_equal(f->share.fd, -1);
    cleanup_free char *path = tmpdir_path(f->dir, "share");
    assert_int_equal(access(path, F_OK), -1);
    share_close(&f->share);
}

static void test_open_fails(void **state) {
    struct fixture *f = *state;
    struct share s = {.fd = -1};
    struct err err = ERR_INIT;
    /* A file is where the directory would be. */
    assert_int_equal(share_open(f->file, &s, &err), -ENOTDIR);
    ASSERT_SAYS(&err, f->file);
    assert_null(s.dir);
    assert_int_equal(s.fd, -1);
}

static void test_add_remove(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct oci_share_mount mounts[] = {
        {.source = f->volume, .index = 0, .recursive = true, .spec_index = 4},
        {.source = f->file, .index = 1, .read_only = true, .spec_index = 5},
        {.source = f->volume, .index = 2, .read_only = true, .recursive = true, .spec_index = 6},
        {.source = f->file, .index = 3, .spec_index = 7},
    };
    struct oci_guest_spec spec = {.rootfs = f->rootfs, .mounts = mounts, .n_mounts = ARRAY_SIZE(mounts)};
    if (share_add_container(&f->share, "c1", &spec, &err) < 0)
        fail_msg("%s", err.msg);
    assert_mounted(f, "c1/rootfs", false);
    assert_mounted(f, "c1/mounts/0", false);
    assert_mounted(f, "c1/mounts/1", true);
    assert_mounted(f, "c1/mounts/2", true);
    assert_mounted(f, "c1/mounts/3", false);
    assert_content(f, "c1/rootfs/hello", "root");
    assert_content(f, "c1/mounts/0/data", "volume");
    assert_content(f, "c1/mounts/1", "file");
    /* Written through a read-write one it is the host's; a read-only one refuses (threats.md 4). */
    int fd = openat(f->share.fd, "c1/mounts/0/new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    close(fd);
    assert_true(faccessat(f->dir->fd, "volume/new", F_OK, 0) == 0);
    assert_int_equal(openat(f->share.fd, "c1/mounts/2/other", O_WRONLY | O_CREAT | O_CLOEXEC, 0644), -1);
    assert_int_equal(errno, EROFS);
    assert_int_equal(openat(f->share.fd, "c1/mounts/1", O_WRONLY | O_CLOEXEC), -1);
    assert_int_equal(errno, EROFS);

    /* A second one beside it, without volumes; each goes alone. */
    struct oci_guest_spec plain = {.rootfs = f->rootfs};
    assert_int_equal(share_add_container(&f->share, "c2", &plain, &err), 0);
    assert_false(exists(f, "c2/mounts"));
    assert_int_equal(share_remove_container(&f->share, "c1", &err), 0);
    assert_false(exists(f, "c1"));
    assert_mounted(f, "c2/rootfs", false);
    assert_int_equal(share_remove_container(&f->share, "c2", &err), 0);
    assert_only_share(f);
    /* What was bound is as it was. */
    assert_true(faccessat(f->dir->fd, "rootfs/hello", F_OK, 0) == 0);
    assert_true(faccessat(f->dir->fd, "volume/data", F_OK, 0) == 0);
    /* Nothing there: nothing to do. */
    assert_int_equal(share_remove_container(&f->share, "c1", &err), 0);
}

/* rbind takes the mounts below the source along, with the flags; bind does not. */
static void test_recursive(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    cleanup_free char *below = make_dir(f->dir, "volume/below");
    assert_int_equal(mount("below", below, "tmpfs", 0, "size=64k"), 0);
    tmpdir_write(f->dir, "volume/below/deep", "deep");
    struct oci_share_mount mounts[] = {
        {.source = f->volume, .index = 0, .read_only = true, .recursive = true},
        {.source = f->volume, .index = 1, .read_only = true},
        {.source = f->volume, .index = 2, .read_only = true, .recursive = true, .top_only = true},
    };
    struct oci_guest_spec spec = {.rootfs = f->volume, .mounts = mounts, .n_mounts = ARRAY_SIZE(mounts)};
    assert_int_equal(share_add_container(&f->share, "c1", &spec, &err), 0);
    assert_mounted(f, "c1/rootfs/below", false);
    assert_mounted(f, "c1/mounts/0/below", true);
    assert_content(f, "c1/mounts/0/below/deep", "deep");
    assert_int_equal(openat(f->share.fd, "c1/mounts/0/below/new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644), -1);
    assert_int_equal(errno, EROFS);
    assert_mounted(f, "c1/mounts/2", true);
    assert_mounted(f, "c1/mounts/2/below", false);
    assert_true(exists(f, "c1/mounts/1/below"));
    assert_false(exists(f, "c1/mounts/1/below/deep"));
    assert_int_equal(share_remove_container(&f->share, "c1", &err), 0);
    assert_only_share(f);
    /* The source's own mount stays, and is writable. */
    assert_non_null(mount_options(below));
    assert_false(has_option(mount_options(below), "ro"));
    assert_int_equal(umount2(below, MNT_DETACH), 0);
}

static void test_add_fails(void **state) {
    struct fixture *f = *state;
    cleanup_free char *missing = tmpdir_path(f->dir, "missing");
    struct oci_share_mount good_then_bad[] = {{.source = f->volume, .index = 0, .spec_index = 2},
                                              {.source = f->file, .index = 1, .spec_index = 3},
                                              {.source = missing, .index = 2, .spec_index = 9}};
    const struct {
        struct oci_guest_spec spec;
        int result;
        const char *says, *path;
    } cases[] = {
        {{.rootfs = missing}, -ENOENT, "root.path", missing},
        {{.rootfs = f->file}, -ENOTDIR, "root.path", f->file},
        {{.rootfs = f->rootfs, .mounts = good_then_bad, .n_mounts = 3}, -ENOENT, "mounts[9]", missing},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(share_add_container(&f->share, "c1", &cases[i].spec, &err), cases[i].result);
        assert_int_equal(err.code, -cases[i].result);
        ASSERT_SAYS(&err, cases[i].says);
        ASSERT_SAYS(&err, cases[i].path);
        assert_only_share(f);
    }
}

/* An id that is taken is refused, and the one that has it stays whole. */
static void test_add_twice(void **state) {
    struct fixture *f = *state;
    struct oci_guest_spec spec = {.rootfs = f->rootfs};
    struct err err = ERR_INIT;
    assert_int_equal(share_add_container(&f->share, "c1", &spec, &err), 0);
    assert_int_equal(share_add_container(&f->share, "c1", &spec, &err), -EEXIST);
    ASSERT_SAYS(&err, "c1");
    assert_content(f, "c1/rootfs/hello", "root");
    /* share_close takes it along. */
}

/* threats.md 1 to 3: what stands at a name is not what was made there. Nothing outside the share is touched. */
static void test_symlinks(void **state) {
    struct fixture *f = *state;
    struct oci_guest_spec spec = {.rootfs = f->rootfs};
    struct err err = ERR_INIT;
    /* A mount outside that an unmount through a link would hit, and a tree that a removal would. */
    cleanup_free char *victim = make_dir(f->dir, "victim");
    cleanup_free char *victim_root = make_dir(f->dir, "victim/rootfs");
    cleanup_free char *victim_mounts = make_dir(f->dir, "victim/mounts");
    cleanup_free char *victim_volume = make_dir(f->dir, "victim/mounts/0");
    assert_int_equal(mount("victim", victim_root, "tmpfs", 0, "size=64k"), 0);
    assert_int_equal(mount("victim", victim_volume, "tmpfs", 0, "size=64k"), 0);

    /* The container's directory is a link: add and remove both refuse. */
    assert_int_equal(symlinkat(victim, f->share.fd, "c1"), 0);
    assert_int_equal(share_add_container(&f->share, "c1", &spec, &err), -EEXIST);
    assert_int_equal(share_remove_container(&f->share, "c1", &err), -ELOOP);
    ASSERT_SAYS(&err, "c1");
    assert_int_equal(unlinkat(f->share.fd, "c1", 0), 0);

    /* Its rootfs is a link: only the link goes. */
    assert_int_equal(mkdirat(f->share.fd, "c2", 0755), 0);
    assert_int_equal(symlinkat(victim_root, f->share.fd, "c2/rootfs"), 0);
    assert_int_equal(symlinkat(victim_mounts, f->share.fd, "c2/mounts"), 0);
    assert_int_equal(share_remove_container(&f->share, "c2", &err), 0);

    /* A volume's mount point is a link, and one is a link to a directory with files in it. */
    assert_int_equal(mkdirat(f->share.fd, "c3", 0755), 0);
    assert_int_equal(mkdirat(f->share.fd, "c3/mounts", 0755), 0);
    assert_int_equal(symlinkat(victim_volume, f->share.fd, "c3/mounts/0"), 0);
    assert_int_equal(symlinkat(f->volume, f->share.fd, "c3/mounts/1"), 0);
    assert_int_equal(share_remove_container(&f->share, "c3", &err), 0);

    assert_only_share(f);
    assert_non_null(mount_options(victim_root));
    assert_non_null(mount_options(victim_volume));
    assert_true(faccessat(f->dir->fd, "volume/data", F_OK, 0) == 0);
    assert_int_equal(umount2(victim_root, MNT_DETACH), 0);
    assert_int_equal(umount2(victim_volume, MNT_DETACH), 0);
}

/* threats.md 3: what was made is a link to somewhere else by the time it is opened. Nothing is made or mounted there.
 */
static void test_exchanged(void **state) {
    struct fixture *f = *state;
    static const char *const names[] = {"c1", "rootfs", "mounts", "0", "checkpoint", "images+1"};
    cleanup_free char *victim = make_dir(f->dir, "victim");
    tmpdir_write(f->dir, "victim/own", "own");
    struct oci_share_mount m = {.source = f->volume, .recursive = true};
    struct oci_guest_spec spec = {.rootfs = f->rootfs, .mounts = &m, .n_mounts = 1};
    const struct share_checkpoint dump = {.images = f->volume, .work = f->volume};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct share_checkpoint_names at;
        struct err err = ERR_INIT;
        bool in_checkpoint = i >= 4;
        if (in_checkpoint) {
            assert_int_equal(share_add_container(&f->share, "c1", &spec, &err), 0);
            f->share.checkpoints = 0;
        }
        exchange.name = names[i];
        exchange.target = victim;
        int r = in_checkpoint ? share_add_checkpoint(&f->share, "c1", &dump, &at, &err)
                              : share_add_container(&f->share, "c1", &spec, &err);
        assert_null(exchange.name);
        assert_true(r == -ELOOP || r == -ENOTDIR);
        ASSERT_SAYS(&err, names[i]);
        cleanup_dir DIR *d = opendir(victim);
        size_t n = 0;
        for (const struct dirent *e; d && (e = readdir(d));)
            n++;
        assert_int_equal(n, 3); /* with . and .. */
        assert_int_equal(count_mounts(victim), 0);
        (void)unlinkat(f->share.fd, "c1/checkpoint", 0);
        (void)unlinkat(f->share.fd, "c1", 0);
        (void)share_remove_container(&f->share, "c1", NULL);
        assert_only_share(f);
    }
}

/* The same where a link has stood from the beginning. */
static void test_checkpoint_symlinks(void **state) {
    struct fixture *f = *state;
    struct share_checkpoint_names at;
    const struct share_checkpoint dump = {.images = f->volume, .work = f->volume};
    struct err err = ERR_INIT;
    cleanup_free char *victim = make_dir(f->dir, "victim");
    cleanup_free char *victim_checkpoint = make_dir(f->dir, "victim/checkpoint");
    cleanup_free char *victim_mount = make_dir(f->dir, "victim/checkpoint/images");
    assert_int_equal(mount("victim", victim_mount, "tmpfs", 0, "size=64k"), 0);
    assert_int_equal(symlinkat(victim, f->share.fd, "c1"), 0);
    assert_int_equal(share_add_checkpoint(&f->share, "c1", &dump, &at, &err), -ELOOP);
    assert_int_equal(share_remove_checkpoint(&f->share, "c1", &err), -ELOOP);

    assert_int_equal(mkdirat(f->share.fd, "c2", 0755), 0);
    assert_int_equal(symlinkat(victim_checkpoint, f->share.fd, "c2/checkpoint"), 0);
    assert_int_equal(share_add_checkpoint(&f->share, "c2", &dump, &at, &err), -ELOOP);
    assert_int_equal(share_remove_checkpoint(&f->share, "c2", &err), -ELOOP);
    assert_non_null(mount_options(victim_mount));
    assert_int_equal(count_mounts(victim), 1);
    assert_int_equal(umount2(victim_mount, MNT_DETACH), 0);
}

/* The guest's side of it: a copy of the share that is a slave of it (virtiofsd's jail) gets what is mounted later and
 * loses what is unmounted, and nothing comes back from it. */
static void test_propagation(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct oci_guest_spec spec = {.rootfs = f->rootfs};
    cleanup_free char *copy = make_dir(f->dir, "copy");
    cleanup_free char *copy_root = tmpdir_path(f->dir, "copy/c1/rootfs");
    cleanup_free char *hello = tmpdir_path(f->dir, "copy/c1/rootfs/hello");
    assert_int_equal(mount(f->share.dir, copy, NULL, MS_BIND | MS_REC, NULL), 0);
    assert_int_equal(mount(NULL, copy, NULL, MS_SLAVE | MS_REC, NULL), 0);

    assert_int_equal(share_add_container(&f->share, "c1", &spec, &err), 0);
    assert_non_null(mount_options(copy_root));
    assert_true(has_option(mount_options(copy_root), "nosuid"));
    assert_int_equal(access(hello, F_OK), 0);
    assert_int_equal(mount("x", copy_root, "tmpfs", 0, NULL), 0);
    assert_content(f, "c1/rootfs/hello", "root");
    assert_int_equal(umount2(copy_root, MNT_DETACH), 0);

    assert_int_equal(share_remove_container(&f->share, "c1", &err), 0);
    assert_int_equal(count_mounts(copy), 1);
    assert_int_equal(access(copy_root, F_OK), -1);
    assert_int_equal(umount2(copy, MNT_DETACH), 0);
}

/* ---- checkpoints ---- */

/* Host directories of one checkpoint. */
struct dump {
    char *images, *work, *first, *second;
    struct strv parents;
    struct share_checkpoint what;
    struct share_checkpoint_names names;
};

static void make_dump(struct fixture *f, struct dump *d) {
    struct oci_guest_spec spec = {.rootfs = f->rootfs};
    struct err err = ERR_INIT;
    *d = (struct dump){.images = make_dir(f->dir, "images"), .work = make_dir(f->dir, "work")};
    d->first = make_dir(f->dir, "first");
    d->second = make_dir(f->dir, "second");
    tmpdir_write(f->dir, "first/pages-1.img", "first");
    assert_int_equal(strv_add(&d->parents, d->first), 0);
    assert_int_equal(strv_add(&d->parents, d->second), 0);
    d->what = (struct share_checkpoint){.images = d->images, .work = d->work, .parents = &d->parents};
    assert_int_equal(share_add_container(&f->share, "c1", &spec, &err), 0);
}

static void clear_dump(struct dump *d) {
    free(d->images);
    free(d->work);
    free(d->first);
    free(d->second);
    strv_clear(&d->parents);
}

/* c1/checkpoint/NAME, valid until the next call. */
static const char *in_checkpoint(const char *name) {
    static char path[128];
    snprintf(path, sizeof(path), "c1/checkpoint/%s", name);
    return path;
}

static bool guest_can_write(const struct fixture *f, const char *name) {
    char path[160];
    snprintf(path, sizeof(path), "%s/new", in_checkpoint(name));
    cleanup_fd int fd = openat(f->share.fd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0 || errno == EROFS);
    return fd >= 0;
}

/* Its directory stays, empty: the guest would still look for the next ones in the one that is gone. */
static void assert_no_checkpoint(const struct fixture *f) {
    cleanup_free char *path = in_share(f, "c1/checkpoint");
    cleanup_dir DIR *d = opendir(path);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.')
            fail_msg("left in c1/checkpoint: %s", e->d_name);
    assert_int_equal(count_mounts(f->share.dir), 2); /* the share, and c1's root */
}

/* It is the same directory for the next checkpoint. */
static void test_checkpoint_directory_stays(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct dump d;
    struct stat before, after;
    make_dump(f, &d);
    assert_int_equal(share_add_checkpoint(&f->share, "c1", &d.what, &d.names, &err), 0);
    assert_int_equal(fstatat(f->share.fd, "c1/checkpoint", &before, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(share_remove_checkpoint(&f->share, "c1", &err), 0);
    assert_int_equal(share_add_checkpoint(&f->share, "c1", &d.what, &d.names, &err), 0);
    assert_int_equal(fstatat(f->share.fd, "c1/checkpoint", &after, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(share_remove_checkpoint(&f->share, "c1", &err), 0);
    clear_dump(&d);
}

static void test_checkpoint(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct dump d;
    make_dump(f, &d);
    if (share_add_checkpoint(&f->share, "c1", &d.what, &d.names, &err) < 0)
        fail_msg("%s", err.msg);
    assert_mounted(f, in_checkpoint(d.names.images), false);
    assert_mounted(f, in_checkpoint(d.names.work), false);
    assert_mounted(f, in_checkpoint("first"), true);
    assert_mounted(f, in_checkpoint("second"), true);
    assert_content(f, in_checkpoint("first/pages-1.img"), "first");
    assert_true(guest_can_write(f, d.names.images));
    assert_true(guest_can_write(f, d.names.work));
    assert_false(guest_can_write(f, "first"));
    assert_int_equal(faccessat(f->dir->fd, "images/new", F_OK, 0), 0);
    /* Where CRIU's link in images/ leads: to the parent beside it. */
    assert_int_equal(symlinkat("../first", f->dir->fd, "images/parent"), 0);
    char path[160];
    snprintf(path, sizeof(path), "%s/parent/pages-1.img", in_checkpoint(d.names.images));
    assert_int_equal(faccessat(f->share.fd, path, F_OK, 0), 0);

    assert_int_equal(share_remove_checkpoint(&f->share, "c1", &err), 0);
    assert_no_checkpoint(f);
    assert_content(f, "c1/rootfs/hello", "root");
    assert_int_equal(faccessat(f->dir->fd, "images/new", F_OK, 0), 0);
    assert_int_equal(faccessat(f->dir->fd, "first/pages-1.img", F_OK, 0), 0);
    assert_int_equal(share_remove_checkpoint(&f->share, "c1", &err), 0); /* nothing there: nothing to do */
    assert_int_equal(share_remove_checkpoint(&f->share, "ghost", &err), 0);
    clear_dump(&d);
}

/* A restore's: the guest may not change what it is restored from. */
static void test_checkpoint_read_only(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct dump d;
    make_dump(f, &d);
    d.what.images_read_only = true;
    d.what.parents = NULL;
    assert_int_equal(share_add_checkpoint(&f->share, "c1", &d.what, &d.names, &err), 0);
    assert_mounted(f, in_checkpoint(d.names.images), true);
    assert_mounted(f, in_checkpoint(d.names.work), false);
    assert_false(guest_can_write(f, d.names.images));
    assert_true(guest_can_write(f, d.names.work));
    assert_false(exists(f, in_checkpoint("first")));
    /* The container goes with it. */
    assert_int_equal(share_remove_container(&f->share, "c1", &err), 0);
    assert_only_share(f);
    assert_int_equal(faccessat(f->dir->fd, "work/new", F_OK, 0), 0);
    clear_dump(&d);
}

static void test_checkpoint_names(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct dump d;
    char seen[8][2][32];
    make_dump(f, &d);
    for (size_t i = 0; i < ARRAY_SIZE(seen); i++) {
        assert_int_equal(share_add_checkpoint(&f->share, "c1", &d.what, &d.names, &err), 0);
        assert_non_null(strchr(d.names.images, '+')); /* which no directory of a user's may have */
        assert_non_null(strchr(d.names.work, '+'));
        assert_string_not_equal(d.names.images, d.names.work);
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(d.names.images, seen[k][0]);
            assert_string_not_equal(d.names.work, seen[k][1]);
        }
        memcpy(seen[i][0], d.names.images, sizeof(seen[i][0]));
        memcpy(seen[i][1], d.names.work, sizeof(seen[i][1]));
        assert_int_equal(share_remove_checkpoint(&f->share, "c1", &err), 0);
    }
    clear_dump(&d);
}

static void test_checkpoint_fails(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct dump d;
    cleanup_free char *missing = tmpdir_path(f->dir, "missing");
    make_dump(f, &d);
    const struct share_checkpoint good = d.what;
    struct strv twice = {0};
    assert_int_equal(strv_add(&twice, d.first), 0);
    assert_int_equal(strv_add(&twice, d.first), 0);
    struct share_checkpoint cases[] = {good, good, good};
    cases[0].images = missing;
    cases[1].work = missing;
    cases[2].parents = &twice; /* a name for two */
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_true(share_add_checkpoint(&f->share, "c1", &cases[i], &d.names, &err) < 0);
        ASSERT_SAYS(&err, i < 2 ? missing : d.first);
        assert_no_checkpoint(f);
    }
    assert_int_equal(share_add_checkpoint(&f->share, "ghost", &good, &d.names, &err), -ENOENT);
    ASSERT_SAYS(&err, "ghost");
    strv_clear(&twice);
    clear_dump(&d);
}

static bool was_removed(const struct fixture *f, const char *path) {
    for (size_t i = 0; i < f->share.removed.n; i++)
        if (strcmp(f->share.removed.v[i], path) == 0)
            return true;
    return false;
}

/* What the guest is to forget: each mount of a checkpoint, a container as a whole. */
static void test_removed_paths(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct dump d;
    make_dump(f, &d);
    assert_int_equal(share_add_checkpoint(&f->share, "c1", &d.what, &d.names, &err), 0);
    assert_int_equal(f->share.removed.n, 0);
    assert_int_equal(share_remove_checkpoint(&f->share, "c1", &err), 0);
    assert_int_equal(f->share.removed.n, 4);
    assert_true(was_removed(f, in_checkpoint(d.names.images)));
    assert_true(was_removed(f, in_checkpoint(d.names.work)));
    assert_true(was_removed(f, in_checkpoint("first")));
    assert_true(was_removed(f, in_checkpoint("second")));
    assert_int_equal(share_remove_container(&f->share, "c1", &err), 0);
    assert_true(was_removed(f, "c1"));
    assert_int_equal(f->share.removed.n, 5);
    clear_dump(&d);
}

/* Closing takes all of it, whatever is still mounted; nobody else's files go with it. */
static void test_close(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct oci_share_mount m = {.source = f->volume, .recursive = true};
    struct oci_guest_spec spec = {.rootfs = f->rootfs, .mounts = &m, .n_mounts = 1};
    for (int i = 0; i < 20; i++) {
        char id[8];
        snprintf(id, sizeof(id), "c%d", i);
        assert_int_equal(share_add_container(&f->share, id, &spec, &err), 0);
    }
    cleanup_free char *dir = in_share(f, "");
    share_close(&f->share);
    assert_int_equal(count_mounts(f->dir->path), 0);
    assert_int_equal(access(dir, F_OK), -1);
    assert_true(faccessat(f->dir->fd, "volume/data", F_OK, 0) == 0);
    assert_true(faccessat(f->dir->fd, "rootfs/hello", F_OK, 0) == 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(test_open),
        TEST(test_open_fails),
        TEST(test_add_remove),
        TEST(test_recursive),
        TEST(test_add_fails),
        TEST(test_add_twice),
        TEST(test_symlinks),
        TEST(test_exchanged),
        TEST(test_checkpoint_symlinks),
        TEST(test_removed_paths),
        TEST(test_propagation),
        TEST(test_checkpoint),
        TEST(test_checkpoint_read_only),
        TEST(test_checkpoint_names),
        TEST(test_checkpoint_directory_stays),
        TEST(test_checkpoint_fails),
        TEST(test_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
