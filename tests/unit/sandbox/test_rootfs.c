/* SPDX-License-Identifier: Apache-2.0 */
/* Needs root: mounts for real, in a mount namespace of its own. */
#include "sandbox/rootfs.h"
#include "support.h"

#include <limits.h>
#include <sys/statvfs.h>

#define MAX_LAYERS 60

struct fixture {
    struct tmpdir *tmp;
    char *base; /* a tmpfs: overlays need one that is no overlay itself */
    char *dir;  /* BASE/bundle/rootfs, not made */
};

static char *in(const struct fixture *f, const char *name) {
    char *path = path_join(f->base, name);
    assert_non_null(path);
    return path;
}

static char *make_dir(const struct fixture *f, const char *name) {
    char *path = in(f, name);
    struct err err = ERR_INIT;
    if (path_mkdirs(path, 0755, &err) < 0)
        fail_msg("%s", err.msg);
    return path;
}

static void need_dir(const struct fixture *f, const char *name) {
    cleanup_free char *path = make_dir(f, name);
    assert_non_null(path);
}

static void make_file(const struct fixture *f, const char *name, const char *text) {
    cleanup_free char *path = in(f, name);
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    void *tmp = NULL;
    if (tmpdir_setup(&tmp) < 0)
        return -1;
    f->tmp = tmp;
    f->base = tmpdir_path(f->tmp, "base");
    if (mkdir(f->base, 0755) < 0 || mount("base", f->base, "tmpfs", 0, "size=32m") < 0)
        return -1;
    f->dir = in(f, "bundle/rootfs");
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    void *tmp = f->tmp;
    int left = (int)count_mounts(f->dir);
    if (left)
        fprintf(stderr, "%d mounts are left\n", left);
    umount2(f->base, MNT_DETACH);
    free(f->base);
    free(f->dir);
    free(f);
    return tmpdir_teardown(&tmp) < 0 || left ? -1 : 0;
}

static void assert_content(const struct fixture *f, const char *name, const char *expected) {
    cleanup_free char *text = NULL, *path = path_join(f->dir, name);
    struct err err = ERR_INIT;
    if (file_read_at(AT_FDCWD, path, 4096, &text, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(text, expected);
}

/* 0 or the errno of making a file in the root. */
static int write_error(const struct fixture *f, const char *name) {
    cleanup_free char *path = path_join(f->dir, name);
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    return fd < 0 ? errno : 0;
}

static bool has_option(const char *options, const char *option) {
    char wanted[32];
    assert_non_null(options);
    snprintf(wanted, sizeof(wanted), ",%s,", option);
    return strstr(options, wanted) != NULL;
}

/* One mount whose options are written with blanks between them. */
struct one {
    struct strv options;
    struct rootfs_mount m;
};

static void one_clear(struct one *o) {
    strv_clear(&o->options);
}

static struct one one(const char *type, const char *source, const char *options) {
    struct one o = {0};
    cleanup_free char *copy = strdup(options);
    for (char *save = NULL, *s = strtok_r(copy, " ", &save); s; s = strtok_r(NULL, " ", &save))
        assert_int_equal(strv_add(&o.options, s), 0);
    o.m = (struct rootfs_mount){.type = type, .source = source, .options = o.options.v, .n_options = o.options.n};
    return o;
}
#define cleanup_one CLEANUP(one_clear)

static void assert_mount(const struct fixture *f, const struct rootfs_mount *mounts, size_t n) {
    struct err err = ERR_INIT;
    if (rootfs_mount(mounts, n, f->dir, &err) < 0)
        fail_msg("%s", err.msg);
}

static void assert_unmount(const struct fixture *f) {
    struct err err = ERR_INIT;
    if (rootfs_unmount(f->dir, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(count_mounts(f->dir), 0);
}

static void test_overlay(void **state) {
    struct fixture *f = *state;
    cleanup_free char *l1 = make_dir(f, "l1"), *l2 = make_dir(f, "l2"), *up = make_dir(f, "up");
    cleanup_free char *work = make_dir(f, "work");
    make_file(f, "l1/a", "upper");
    make_file(f, "l2/a", "lower");
    make_file(f, "l2/b", "lower");
    cleanup_free char *rw = str_printf("workdir=%s upperdir=%s lowerdir=%s:%s", work, up, l1, l2);
    cleanup_one struct one o = one("overlay", "overlay", rw);
    assert_mount(f, &o.m, 1);
    assert_content(f, "a", "upper");
    assert_content(f, "b", "lower");
    assert_int_equal(write_error(f, "new"), 0);
    cleanup_free char *in_upper = in(f, "up/new");
    assert_int_equal(access(in_upper, F_OK), 0);
    assert_unmount(f);

    cleanup_free char *ro = str_printf("lowerdir=%s:%s:%s", up, l1, l2);
    cleanup_one struct one view = one("overlay", "overlay", ro);
    assert_mount(f, &view.m, 1);
    assert_content(f, "new", "");
    assert_int_equal(write_error(f, "other"), EROFS);
    assert_unmount(f);
    /* The directory stays, what was mounted is as it was. */
    assert_int_equal(access(f->dir, F_OK), 0);
    assert_int_equal(access(in_upper, F_OK), 0);
}

/* Flags hold for a bind mount, in the recursive form for all that is below it, and nothing happens to the source. */
static void test_bind(void **state) {
    struct fixture *f = *state;
    cleanup_free char *src = make_dir(f, "src"), *below = make_dir(f, "src/below");
    cleanup_free char *at_below = path_join(f->dir, "below");
    assert_int_equal(mount("below", below, "tmpfs", MS_NOEXEC, "size=64k"), 0);
    make_file(f, "src/a", "a");
    make_file(f, "src/below/b", "b");
    static const struct {
        const char *type, *options;
        bool below;
        int error;
    } cases[] = {
        {"bind", "rbind ro", true, EROFS}, {"bind", "rbind rw", true, 0},
        {"bind", "bind ro", false, EROFS}, {"bind", "", false, 0},
        {"", "rbind ro", true, EROFS},     {"none", "bind", false, 0},
        {"bind", "ro rbind rw", true, 0},  {"bind", "index=off nosuid rbind ro noatime", true, EROFS},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_one struct one o = one(cases[i].type, src, cases[i].options);
        assert_mount(f, &o.m, 1);
        assert_content(f, "a", "a");
        assert_int_equal(write_error(f, "a"), cases[i].error);
        assert_int_equal(mount_options(at_below) != NULL, cases[i].below);
        if (cases[i].below) {
            assert_content(f, "below/b", "b");
            assert_int_equal(write_error(f, "below/b"), cases[i].error);
            assert_true(has_option(mount_options(at_below), "noexec"));
        }
        assert_unmount(f);
    }
    cleanup_one struct one flags = one("bind", src, "rbind nosuid nodev noatime rslave X-containerd.x=y");
    assert_mount(f, &flags.m, 1);
    assert_true(has_option(mount_options(f->dir), "nosuid"));
    assert_true(has_option(mount_options(at_below), "nodev"));
    assert_true(has_option(mount_options(at_below), "noatime"));
    assert_unmount(f);
    assert_false(has_option(mount_options(below), "ro"));
    assert_false(has_option(mount_options(below), "nodev"));
    cleanup_one struct one missing = one("bind", "/no/such/place", "rbind ro");
    struct err err = ERR_INIT;
    assert_int_equal(rootfs_mount(&missing.m, 1, f->dir, &err), -ENOENT);
    ASSERT_SAYS(&err, "/no/such/place");
    ASSERT_SAYS(&err, "rbind,ro");
    ASSERT_SAYS(&err, f->dir);
}

/* Flags, what is for the file system, what is for nobody, and propagation. */
static void test_options(void **state) {
    struct fixture *f = *state;
    cleanup_one struct one o = one(
        "tmpfs", "root", "defaults noexec exec ro rw nosuid nodev size=64k shared mode=0711 X-containerd.a=b noatime");
    assert_mount(f, &o.m, 1);
    const char *options = mount_options(f->dir);
    static const char *const yes[] = {"nosuid", "nodev", "noatime", "rw"};
    for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
        assert_true(has_option(options, yes[i]));
    assert_false(has_option(options, "noexec"));
    struct statvfs fs;
    struct stat st;
    assert_int_equal(statvfs(f->dir, &fs), 0);
    assert_int_equal(fs.f_blocks * fs.f_frsize, 64 << 10);
    assert_int_equal(stat(f->dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0711);
    char line[4096];
    bool shared = false;
    cleanup_file FILE *table = fopen("/proc/self/mountinfo", "re");
    while (fgets(line, sizeof(line), table))
        shared = shared || (strstr(line, f->dir) && strstr(line, "shared:"));
    assert_true(shared);
    assert_unmount(f);

    static const struct {
        const char *type, *options;
        int result;
        const char *says;
    } bad[] = {
        {"tmpfs", "nosuchoption=1", -EINVAL, "nosuchoption=1"},
        {"tmpfs", "ro remount", -EINVAL, "options[1]: remount"},
        {"nosuchfs", "ro", -ENODEV, "nosuchfs"},
        {"fuse3.x", "", -ENOTSUP, "fuse3.x"},
        {"ext4", "loop", -ENOENT, "some-source"},
        {"bind", "rbind uidmap=0:1000:65536", -ENOTSUP, "options[1]: id-mapped"},
        {"overlay", "gidmap=0:1000:65536", -ENOTSUP, "options[0]: id-mapped"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        cleanup_one struct one m = one(bad[i].type, "some-source", bad[i].options);
        struct err err = ERR_INIT;
        assert_int_equal(rootfs_mount(&m.m, 1, f->dir, &err), bad[i].result);
        ASSERT_SAYS(&err, bad[i].says);
        ASSERT_SAYS(&err, "rootfs[0]");
        ASSERT_SAYS(&err, "some-source");
        ASSERT_SAYS(&err, f->dir);
        assert_int_equal(count_mounts(f->dir), 0);
    }
}

static void run(const char *command) {
    int status = system(command);
    if (status != 0)
        fail_msg("%s: status %d", command, status);
}

static void test_loop(void **state) {
    struct fixture *f = *state;
    if (access("/dev/loop-control", F_OK) < 0 || system("command -v mke2fs >/dev/null") != 0)
        skip();
    cleanup_free char *content = make_dir(f, "content"), *image = in(f, "image");
    make_file(f, "content/a", "ext4");
    cleanup_free char *command = str_printf("mke2fs -q -t ext4 -d %s %s 4m", content, image);
    run(command);
    cleanup_one struct one rw = one("ext4", image, "loop rw nodev");
    assert_mount(f, &rw.m, 1);
    assert_content(f, "a", "ext4");
    assert_int_equal(write_error(f, "new"), 0);
    assert_unmount(f);

    cleanup_one struct one ro = one("ext4", image, "ro loop");
    assert_mount(f, &ro.m, 1);
    assert_content(f, "new", "");
    assert_int_equal(write_error(f, "other"), EROFS);
    assert_unmount(f);

    /* What cannot be mounted leaves no device behind. */
    cleanup_one struct one wrong = one("xfs", image, "loop");
    struct err err = ERR_INIT;
    assert_true(rootfs_mount(&wrong.m, 1, f->dir, &err) < 0);
    ASSERT_SAYS(&err, image);
    char line[4096];
    cleanup_file FILE *p = popen("losetup -l -n -O BACK-FILE 2>/dev/null", "re");
    while (p && fgets(line, sizeof(line), p))
        assert_null(strstr(line, image));
    assert_true(p && pclose(TAKE_PTR(p)) == 0);
}

/* "lowerdir=DIR/snapshots/…/0:…" of n layers, each with a file of its number. */
static char *layers(const struct fixture *f, unsigned n, const char *slash) {
    char *list = NULL;
    for (unsigned i = 0; i < n; i++) {
        /* Long names, so that 60 of them are longer than a page. */
        cleanup_free char *name =
            str_printf("var/io.containerd.snapshotter.v1.overlayfs/and-a-name-that-is-even-longer/snapshots/%u/fs", i);
        cleanup_free char *file = str_printf("%s/f%u", name, i);
        cleanup_free char *path = make_dir(f, name), *old = list;
        make_file(f, file, "x");
        char *digits = strstr(path, "/snapshots/");
        list = str_printf("%s%.*s%s%s", old ? old : "lowerdir=", (int)(digits - path), path, slash, digits + 1);
        if (i + 1 < n) {
            cleanup_free char *longer = list;
            list = str_printf("%s:", longer);
        }
    }
    return list;
}

static void test_long_lowerdir(void **state) {
    struct fixture *f = *state;
    char before[PATH_MAX], after[PATH_MAX];
    assert_non_null(getcwd(before, sizeof(before)));
    cleanup_free char *up = make_dir(f, "up"), *work = make_dir(f, "work"), *list = layers(f, MAX_LAYERS, "//");
    assert_true(strlen(list) > (size_t)sysconf(_SC_PAGESIZE));
    cleanup_free char *options = str_printf("workdir=%s %s upperdir=%s", work, list, up);
    cleanup_one struct one o = one("overlay", "overlay", options);
    assert_mount(f, &o.m, 1);
    for (unsigned i = 0; i < MAX_LAYERS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "f%u", i);
        assert_content(f, name, "x");
    }
    assert_int_equal(write_error(f, "new"), 0);
    assert_unmount(f);

    /* Failing there, the working directory is as before, too. */
    cleanup_free char *bad = str_printf("%s:%s/missing upperdir=%s workdir=%s", list, f->base, up, work);
    cleanup_one struct one missing = one("overlay", "overlay", bad);
    struct err err = ERR_INIT;
    assert_int_equal(rootfs_mount(&missing.m, 1, f->dir, &err), -E2BIG); /* their common parent is not long enough */
    assert_non_null(getcwd(after, sizeof(after)));
    assert_string_equal(before, after);
    cleanup_free char *snapshots = strndup(list + strlen("lowerdir="), strcspn(list, ":") - strlen("lowerdir=0/fs"));
    cleanup_free char *gone = str_printf("%s:%s999/fs", list, snapshots);
    cleanup_one struct one late = one("overlay", "overlay", gone);
    assert_int_equal(rootfs_mount(&late.m, 1, f->dir, &err), -ENOENT);
    assert_non_null(getcwd(after, sizeof(after)));
    assert_string_equal(before, after);

    /* No common parent, another type: refused, not cut. */
    cleanup_free char *relative = str_printf("%s:relative", list);
    cleanup_one struct one mixed = one("overlay", "overlay", relative);
    assert_int_equal(rootfs_mount(&mixed.m, 1, f->dir, &err), -E2BIG);
    cleanup_one struct one other = one("tmpfs", "tmpfs", list);
    assert_int_equal(rootfs_mount(&other.m, 1, f->dir, &err), -E2BIG);
    assert_int_equal(count_mounts(f->dir), 0);
}

/* A list is mounted in order, and a target lies in what came before. */
static void test_target(void **state) {
    struct fixture *f = *state;
    need_dir(f, "src/sub/deep");
    cleanup_free char *top = in(f, "src"), *sub = path_join(f->dir, "sub");
    cleanup_free char *deep = path_join(f->dir, "sub/deep");
    cleanup_one struct one a = one("bind", top, "rbind"), b = one("tmpfs", "b", "mode=0750"), c = one("tmpfs", "c", "");
    b.m.target = "/sub";
    c.m.target = "sub/deep";
    struct rootfs_mount mounts[] = {a.m, c.m, b.m};
    assert_mount(f, mounts, 3);
    assert_non_null(mount_options(sub));
    assert_non_null(mount_options(deep)); /* under the one at sub */
    assert_unmount(f);

    /* All of them stacked at one place, and below a root that is no mount. */
    b.m.target = "";
    c.m.target = "/";
    struct rootfs_mount stacked[] = {a.m, b.m, c.m};
    assert_mount(f, stacked, 3);
    assert_int_equal(count_mounts(f->dir), 3);
    assert_unmount(f);
    assert_int_equal(mkdir(sub, 0755), 0);
    b.m.target = "sub";
    assert_mount(f, &b.m, 1);
    assert_non_null(mount_options(sub));
    assert_unmount(f);
    assert_int_equal(rmdir(sub), 0);
}

static void test_target_refused(void **state) {
    struct fixture *f = *state;
    cleanup_free char *src = make_dir(f, "src"), *outside = make_dir(f, "outside"), *link = in(f, "src/link");
    cleanup_free char *relative = in(f, "src/relative");
    need_dir(f, "src/dir");
    assert_int_equal(symlink(outside, link), 0);
    assert_int_equal(symlink("dir", relative), 0);
    static const struct {
        const char *target;
        int result;
    } cases[] = {
        {"..", -EXDEV},       {"../../outside", -EXDEV}, {"dir/../../../outside", -EXDEV},
        {"/..", -EXDEV},      {"link", -ELOOP},          {"link/x", -ELOOP},
        {"relative", -ELOOP}, {"missing", -ENOENT},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_one struct one a = one("bind", src, "rbind"), b = one("tmpfs", "b", "");
        struct rootfs_mount mounts[] = {a.m, b.m};
        mounts[1].target = cases[i].target;
        struct err err = ERR_INIT;
        size_t before = count_mounts(f->base);
        assert_int_equal(rootfs_mount(mounts, 2, f->dir, &err), cases[i].result);
        ASSERT_SAYS(&err, "rootfs[1]");
        ASSERT_SAYS(&err, "target");
        assert_int_equal(count_mounts(f->base), before);
    }
}

/* threats.md 1 and 2: the root is a symbolic link. */
static void test_link(void **state) {
    struct fixture *f = *state;
    need_dir(f, "bundle");
    cleanup_free char *victim = make_dir(f, "victim");
    assert_int_equal(mount("victim", victim, "tmpfs", 0, "size=64k"), 0);
    assert_int_equal(symlink(victim, f->dir), 0);
    cleanup_one struct one o = one("tmpfs", "x", "");
    struct err err = ERR_INIT;
    assert_int_equal(rootfs_mount(&o.m, 1, f->dir, &err), -ENOTDIR);
    ASSERT_SAYS(&err, f->dir);
    assert_int_equal(rootfs_unmount(f->dir, &err), -ENOTDIR);
    assert_int_equal(count_mounts(victim), 1);
    assert_int_equal(unlink(f->dir), 0);

    /* A link above it is fine: /var/run. */
    cleanup_free char *alias = in(f, "alias"), *dir = in(f, "alias/rootfs");
    assert_int_equal(symlink("bundle", alias), 0);
    assert_int_equal(rootfs_mount(&o.m, 1, dir, &err), 0);
    assert_int_equal(count_mounts(f->dir), 1);
    assert_int_equal(rootfs_unmount(dir, &err), 0);
    assert_int_equal(count_mounts(f->dir), 0);
}

static void test_all_or_nothing(void **state) {
    struct fixture *f = *state;
    need_dir(f, "src/sub");
    cleanup_free char *top = in(f, "src"), *mine = make_dir(f, "bundle/rootfs");
    /* What was there before stays. */
    assert_int_equal(mount("before", mine, "tmpfs", 0, "size=64k"), 0);
    cleanup_one struct one a = one("bind", top, "rbind"), b = one("tmpfs", "b", ""), c = one("tmpfs", "c", "size=x");
    b.m.target = "sub";
    struct rootfs_mount mounts[] = {a.m, b.m, c.m};
    struct err err = ERR_INIT;
    assert_int_equal(rootfs_mount(mounts, 3, f->dir, &err), -EINVAL);
    ASSERT_SAYS(&err, "rootfs[2]");
    ASSERT_SAYS(&err, "size=x");
    assert_null(strstr(err.msg, "then:"));
    assert_int_equal(count_mounts(f->dir), 1);
    assert_unmount(f);
}

static void test_bounds(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct rootfs_mount many[ROOTFS_MOUNTS_MAX + 1] = {0};
    for (size_t i = 0; i < ARRAY_SIZE(many); i++)
        many[i] = (struct rootfs_mount){.type = "tmpfs", .source = "x"};
    assert_int_equal(rootfs_mount(many, ROOTFS_MOUNTS_MAX + 1, f->dir, &err), -EINVAL);
    assert_int_equal(access(f->dir, F_OK), -1);
    assert_mount(f, many, ROOTFS_MOUNTS_MAX);
    assert_int_equal(count_mounts(f->dir), ROOTFS_MOUNTS_MAX);
    assert_unmount(f);

    char ro[] = "ro", *options[ROOTFS_OPTIONS_MAX + 1];
    for (size_t i = 0; i < ARRAY_SIZE(options); i++)
        options[i] = ro;
    struct rootfs_mount m = {.type = "tmpfs", .source = "x", .options = options, .n_options = ROOTFS_OPTIONS_MAX};
    assert_mount(f, &m, 1);
    assert_unmount(f);
    m.n_options++;
    assert_int_equal(rootfs_mount(&m, 1, f->dir, &err), -EINVAL);
    ASSERT_SAYS(&err, "options: more than");

    cleanup_free char *big = calloc(1, ROOTFS_OPTION_MAX + 2);
    memset(big, 'a', ROOTFS_OPTION_MAX + 1);
    options[0] = big;
    m.n_options = 1;
    err = (struct err)ERR_INIT;
    assert_int_equal(rootfs_mount(&m, 1, f->dir, &err), -EINVAL);
    ASSERT_SAYS(&err, "options[0]: longer");
    big[ROOTFS_OPTION_MAX] = '\0';
    assert_int_equal(rootfs_mount(&m, 1, f->dir, &err), -E2BIG);
    m = (struct rootfs_mount){.type = "tmpfs", .source = big};
    assert_int_equal(rootfs_mount(&m, 1, f->dir, &err), -EINVAL);
    ASSERT_SAYS(&err, "source");
    m = (struct rootfs_mount){.type = "tmpfs", .target = big};
    assert_int_equal(rootfs_mount(&m, 1, f->dir, &err), -EINVAL);
    m = (struct rootfs_mount){.type = big};
    assert_int_equal(rootfs_mount(&m, 1, f->dir, &err), -EINVAL);

    static const char *const dirs[] = {"", "/", "relative", "/a/../b", "/a/./b", "/a//b", "/a/"};
    m = (struct rootfs_mount){.type = "tmpfs"};
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        assert_int_equal(rootfs_mount(&m, 1, dirs[i], &err), -EINVAL);
}

static void test_unmount(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    assert_int_equal(rootfs_unmount(f->dir, &err), 0); /* missing */
    assert_int_equal(err.code, 0);
    cleanup_free char *dir = make_dir(f, "bundle/rootfs"), *beside = make_dir(f, "bundle/rootfs2");
    assert_int_equal(rootfs_unmount(dir, &err), 0); /* nothing mounted */
    assert_int_equal(mount("beside", beside, "tmpfs", 0, "size=64k"), 0);
    /* In use, with blanks in the name, and one mount hidden by another. */
    cleanup_free char *a = make_dir(f, "bundle/rootfs/a b/c");
    cleanup_free char *over = in(f, "bundle/rootfs/a b");
    assert_int_equal(mount("x", a, "tmpfs", 0, "size=64k"), 0);
    assert_int_equal(mount("y", over, "tmpfs", 0, "size=64k"), 0);
    cleanup_fd int used = open(over, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(used >= 0);
    assert_unmount(f);
    assert_int_equal(count_mounts(beside), 1);
    assert_int_equal(rootfs_unmount("/", &err), -EINVAL);

    /* The bound. */
    for (int i = 0; i <= ROOTFS_UNMOUNTS_MAX; i++)
        assert_int_equal(mount("x", dir, "tmpfs", 0, "size=4k"), 0);
    assert_int_equal(rootfs_unmount(dir, &err), -ELOOP);
    assert_int_equal(count_mounts(dir), 1);
    assert_unmount(f);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(test_overlay),        TEST(test_bind),   TEST(test_options),        TEST(test_loop),
        TEST(test_long_lowerdir),  TEST(test_target), TEST(test_target_refused), TEST(test_link),
        TEST(test_all_or_nothing), TEST(test_bounds), TEST(test_unmount),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
