/* SPDX-License-Identifier: Apache-2.0 */
/* image_dir.c: how images become a checkpoint, and what is a checkpoint to restore from. Needs root: files get an
 * owner, and full disks are small mounts. */
#include "image_dir_fixture.h"

#include <sys/sysmacros.h>

static int make_fails(struct fixture *f, const char *final, const char *parent_path) {
    f->err = (struct err)ERR_INIT;
    struct image_dir d = {0};
    int r = image_dir_make(final, parent_path, &d, &f->err);
    assert_true(r < 0);
    assert_int_equal(f->err.code, -r);
    assert_null(d.final); /* untouched */
    return r;
}

static void guest_dumps(struct fixture *f) {
    guest_writes(f->d.images, IMAGE_INVENTORY, "inventory");
    guest_writes(f->d.images, "pages-1.img", "pages");
}

static int commit(struct fixture *f) {
    f->err = (struct err)ERR_INIT;
    f->totals = (struct image_totals){.bytes = 99, .files = 99};
    return image_dir_commit(&f->d, &f->totals, &f->err);
}

static void must_commit(struct fixture *f) {
    if (commit(f) < 0)
        fail_msg("%s", f->err.msg);
}

/* A whole checkpoint at T/NAME, its parent T/PARENT; "" for none. */
static char *checkpoint(struct fixture *f, const char *name, const char *parent) {
    char *path = tmpdir_path(f->t, name);
    assert_int_equal(mkdir(path, 0700), 0);
    guest_writes(path, IMAGE_INVENTORY, name);
    if (*parent) {
        cleanup_free char *target = str_printf("../%s", parent);
        cleanup_free char *link = path_join(path, IMAGE_PARENT);
        assert_int_equal(symlink(target, link), 0);
    }
    return path;
}

static bool is_there(const struct fixture *f, const char *name) {
    return faccessat(f->t->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- make ---- */

static void makes_hidden_directories_beside_it(void **state) {
    struct fixture *f = *state;
    struct stat st;
    make(f, "");
    assert_string_equal(f->d.final, f->final);
    assert_null(f->d.parent);
    assert_int_equal(stat(f->d.images, &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0700);
    assert_int_equal(stat(f->d.work, &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0700);
    cleanup_free char *prefix = tmpdir_path(f->t, ".ck.");
    assert_memory_equal(f->d.tmp, prefix, strlen(prefix));
    assert_false(is_there(f, "ck"));
    assert_int_equal(count_in(f->t->path), 1);
    image_dir_clear(&f->d);
    assert_int_equal(count_in(f->t->path), 0);
    image_dir_clear(&f->d);
}

static void makes_the_directories_above(void **state) {
    struct fixture *f = *state;
    cleanup_free char *deep = tmpdir_path(f->t, "a/b/ck");
    assert_int_equal(image_dir_make(deep, "", &f->d, &f->err), 0);
    guest_dumps(f);
    must_commit(f);
    assert_file(f, "a/b/ck/pages-1.img", "pages");
}

static void refuses_bad_places(void **state) {
    struct fixture *f = *state;
    static const char *const bad[] = {"", "ck", "/", "/tmp/../ck", "/tmp/ck/", "/tmp//ck", "/tmp/./ck"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(make_fails(f, bad[i], ""), -EINVAL);
        ASSERT_SAYS(&f->err, "must be an absolute, normal path");
    }
    tmpdir_write(f->t, "file", "");
    cleanup_free char *file = tmpdir_path(f->t, "file");
    assert_int_equal(make_fails(f, file, ""), -ENOTDIR);
    ASSERT_SAYS(&f->err, file);
    cleanup_free char *below = tmpdir_path(f->t, "file/ck");
    assert_int_equal(make_fails(f, below, ""), -ENOTDIR);
    /* A link is not followed: what it leads to is not replaced. */
    cleanup_free char *victim = checkpoint(f, "victim", "");
    assert_int_equal(symlink(victim, f->final), 0);
    assert_true(make_fails(f, f->final, "") < 0);
    assert_file(f, "victim/" IMAGE_INVENTORY, "victim");
    /* Something that is no checkpoint. */
    cleanup_free char *other = tmpdir_path(f->t, "other");
    assert_int_equal(mkdir(other, 0755), 0);
    tmpdir_write(f->t, "other/letter", "dear");
    assert_int_equal(make_fails(f, other, ""), -EEXIST);
    ASSERT_SAYS(&f->err, "is not empty and has no checkpoint");
    ASSERT_SAYS(&f->err, other);
    assert_int_equal(count_in(f->t->path), 4); /* no hidden one */
}

static void parent_paths(void **state) {
    struct fixture *f = *state;
    cleanup_free char *pre = checkpoint(f, "pre", "");
    make(f, "../pre");
    assert_string_equal(f->d.parent, pre);
    assert_string_equal(f->d.parent_name, "pre");
    image_dir_clear(&f->d);
    char overlong[IMAGE_NAME_MAX + 8] = "../";
    memset(overlong + 3, 'x', IMAGE_NAME_MAX + 1);
    const struct {
        const char *path;
        int r;
        const char *says;
    } cases[] = {
        {"pre", -EINVAL, "must be \"../NAME\""},
        {pre, -EINVAL, "must be \"../NAME\""},
        {"..", -EINVAL, "must be \"../NAME\""},
        {"../", -EINVAL, "must be \"../NAME\""},
        {"../..", -EINVAL, "must be \"../NAME\""},
        {"../../pre", -EINVAL, "must be \"../NAME\""},
        {"../pre/", -EINVAL, "must be \"../NAME\""},
        {"../.pre", -EINVAL, "must be \"../NAME\""},
        {"../p re", -EINVAL, "must be \"../NAME\""},
        {"../images+1", -EINVAL, "must be \"../NAME\""}, /* a name of the share's */
        {overlong, -EINVAL, "must be \"../NAME\""},
        {"../ck", -EINVAL, "is the image directory"},
        {"../absent", -ENOENT, "absent"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(make_fails(f, f->final, cases[i].path), cases[i].r);
        ASSERT_SAYS(&f->err, cases[i].says);
    }
    assert_int_equal(mkdirat(f->t->fd, "empty", 0700), 0);
    assert_int_equal(make_fails(f, f->final, "../empty"), -ENOENT);
    ASSERT_SAYS(&f->err, "has no " IMAGE_INVENTORY);
    assert_int_equal(count_in(f->t->path), 2);
}

/* ---- commit ---- */

static void commits(void **state) {
    struct fixture *f = *state;
    make(f, "");
    guest_dumps(f);
    cleanup_free char *image = path_join(f->d.images, "pages-1.img");
    assert_int_equal(chown(image, 1000, 1000), 0);
    assert_int_equal(chmod(image, 06777), 0);
    must_commit(f);
    assert_int_equal(f->totals.files, 2);
    assert_int_equal(f->totals.bytes, 14);
    assert_file(f, "ck/" IMAGE_INVENTORY, "inventory");
    assert_file(f, "ck/pages-1.img", "pages");
    struct stat st;
    assert_int_equal(fstatat(f->t->fd, "ck", &st, 0), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0700);
    assert_int_equal(fstatat(f->t->fd, "ck/pages-1.img", &st, 0), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_int_equal(st.st_uid, 0);
    assert_int_equal(st.st_gid, 0);
    image_dir_clear(&f->d);
    assert_int_equal(count_in(f->t->path), 1);
    cleanup_free char *ck = tmpdir_path(f->t, "ck");
    assert_int_equal(image_dir_check(ck, &f->err), 0);
}

/* An empty directory is filled (mktemp -d, and ctr, make one before), an older checkpoint exchanged as a whole. */
static void takes_the_place_of_what_was_there(void **state) {
    struct fixture *f = *state;
    assert_int_equal(mkdir(f->final, 0755), 0);
    make(f, "");
    guest_dumps(f);
    must_commit(f);
    image_dir_clear(&f->d);
    tmpdir_write(f->t, "ck/old", "of the first");
    make(f, "");
    guest_dumps(f);
    assert_true(is_there(f, "ck/old")); /* until the new one is whole */
    must_commit(f);
    assert_false(is_there(f, "ck/old"));
    assert_true(is_there(f, "ck/pages-1.img"));
    image_dir_clear(&f->d);
    assert_int_equal(count_in(f->t->path), 1);
}

/* Between the check and the end somebody puts something there. */
static void does_not_replace_what_came_meanwhile(void **state) {
    struct fixture *f = *state;
    make(f, "");
    guest_dumps(f);
    assert_int_equal(mkdir(f->final, 0755), 0);
    tmpdir_write(f->t, "ck/letter", "dear");
    assert_int_equal(commit(f), -EEXIST);
    assert_file(f, "ck/letter", "dear");
    assert_int_equal(f->totals.files, 99); /* untouched */
}

static void commit_links_the_parent(void **state) {
    struct fixture *f = *state;
    cleanup_free char *pre = checkpoint(f, "pre", "");
    char target[64] = "";
    make(f, "../pre");
    guest_dumps(f);
    /* CRIU's own link, as the guest sees it, or what a hostile guest makes of it: never taken over. */
    cleanup_free char *link = path_join(f->d.images, IMAGE_PARENT);
    assert_int_equal(symlink("/etc", link), 0);
    must_commit(f);
    assert_true(readlinkat(f->t->fd, "ck/parent", target, sizeof(target) - 1) > 0);
    assert_string_equal(target, "../pre");
    assert_int_equal(f->totals.files, 2);
    cleanup_strv struct strv chain = {0};
    assert_int_equal(image_dir_chain(f->final, &chain, &f->err), 0);
    assert_int_equal(chain.n, 2);
    assert_string_equal(chain.v[0], f->final);
    assert_string_equal(chain.v[1], pre);
}

/* threats.md 6 and 8: what the guest may leave besides images. Each is made by a function in images/ (its fd). */
static void leave_inventory_symlink(int dir) {
    assert_int_equal(unlinkat(dir, IMAGE_INVENTORY, 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", dir, IMAGE_INVENTORY), 0);
}
static void leave_fifo(int dir) {
    assert_int_equal(mkfifoat(dir, "core-1.img", 0600), 0);
}
static void leave_device(int dir) {
    assert_int_equal(mknodat(dir, "core-1.img", S_IFCHR | 0600, makedev(1, 3)), 0);
}
static void leave_socket(int dir) {
    assert_int_equal(mknodat(dir, "core-1.img", S_IFSOCK | 0600, 0), 0);
}
static void leave_hard_link(int dir) {
    assert_int_equal(linkat(dir, "pages-1.img", dir, "pages-2.img", 0), 0);
}
static void leave_directory(int dir) {
    assert_int_equal(mkdirat(dir, "core-1.img", 0700), 0);
    assert_int_equal(mkdirat(dir, "core-1.img/below", 0700), 0);
}
static void leave_escape(int dir) {
    assert_int_equal(mknodat(dir, "\x1b[2J", S_IFREG, 0), 0);
}
static void leave_long_name(int dir) {
    char name[IMAGE_NAME_MAX + 2] = "";
    memset(name, 'x', IMAGE_NAME_MAX + 1);
    assert_int_equal(mknodat(dir, name, S_IFREG, 0), 0);
}
static void leave_parent(int dir) {
    assert_int_equal(symlinkat("../other", dir, IMAGE_PARENT), 0);
}
static void leave_no_inventory(int dir) {
    assert_int_equal(unlinkat(dir, IMAGE_INVENTORY, 0), 0);
}

static void refuses_what_is_no_image(void **state) {
    struct fixture *f = *state;
    static const struct {
        void (*leave)(int dir);
        int r;
        const char *says;
    } cases[] = {
        {leave_symlink, -EINVAL, "image core-1.img: is not a regular file of its own"},
        {leave_inventory_symlink, -EINVAL, "image inventory.img: is not a regular file of its own"},
        {leave_fifo, -EINVAL, "image core-1.img: is not a regular file of its own"},
        {leave_device, -EINVAL, "image core-1.img: is not a regular file of its own"},
        {leave_socket, -EINVAL, "image core-1.img: is not a regular file of its own"},
        {leave_hard_link, -EINVAL, "is not a regular file of its own"},
        {leave_directory, -EINVAL, "image core-1.img: is not a regular file of its own"},
        {leave_hidden, -EINVAL, "the guest left an image with the name \".hidden\""},
        {leave_escape, -EINVAL, "the guest left an image with the name"},
        {leave_long_name, -EINVAL, "the guest left an image with the name"},
        {leave_parent, -EINVAL, "the guest left a link to a parent that was not asked for"},
        {leave_no_inventory, -EINVAL, "the guest left no " IMAGE_INVENTORY},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        make(f, "");
        guest_dumps(f);
        cleanup_fd int dir = open(f->d.images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        cases[i].leave(dir);
        if (commit(f) != cases[i].r)
            fail_msg("case %zu: %s", i, f->err.msg);
        ASSERT_SAYS(&f->err, cases[i].says);
        ASSERT_SAYS(&f->err, f->final);
        assert_false(is_there(f, "ck"));
        image_dir_clear(&f->d);
        assert_int_equal(count_in(f->t->path), 0);
    }
}

/* A terminal that shows the error is not written to by the guest. */
static void names_are_shown_printable(void **state) {
    struct fixture *f = *state;
    make(f, "");
    guest_dumps(f);
    cleanup_fd int dir = open(f->d.images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    leave_escape(dir);
    assert_int_equal(commit(f), -EINVAL);
    assert_null(strchr(f->err.msg, '\x1b'));
}

/* In a file system of its own, whose removal costs nothing. */
static void counts_are_bounded(void **state) {
    struct fixture *f = *state;
    char name[16];
    assert_int_equal(mount("many", f->t->path, "tmpfs", 0, "size=64m,nr_inodes=200k"), 0);
    make(f, "");
    guest_dumps(f);
    {
        cleanup_fd int dir = open(f->d.images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        for (unsigned i = 0; i < IMAGE_FILES_MAX; i++) {
            snprintf(name, sizeof(name), "%x", i);
            assert_int_equal(mknodat(dir, name, S_IFREG | 0600, 0), 0);
        }
    }
    assert_int_equal(image_dir_check(f->d.images, &f->err), -EFBIG);
    ASSERT_SAYS(&f->err, "has more than 65536 files");
    assert_int_equal(commit(f), -EFBIG);
    ASSERT_SAYS(&f->err, "the guest left more than 65536 images");
    assert_true(access(f->final, F_OK) < 0);
    assert_int_equal(umount2(f->t->path, MNT_DETACH), 0);
}

/* ---- a full disk ---- */

static void full(struct fixture *f, const char *options) {
    assert_int_equal(mount("tiny", f->t->path, "tmpfs", 0, options), 0);
}

static void make_on_a_full_disk(void **state) {
    struct fixture *f = *state;
    /* Room for 1, 2 directories of the three that are needed (the root is one inode). */
    for (int inodes = 2; inodes <= 3; inodes++) {
        char options[32];
        snprintf(options, sizeof(options), "nr_inodes=%d", inodes);
        full(f, options);
        assert_int_equal(make_fails(f, f->final, ""), -ENOSPC);
        ASSERT_SAYS(&f->err, strerror(ENOSPC));
        ASSERT_SAYS(&f->err, f->t->path);
        assert_int_equal(count_in(f->t->path), 0);
        assert_int_equal(umount2(f->t->path, MNT_DETACH), 0);
    }
}

static void commit_on_a_full_disk(void **state) {
    struct fixture *f = *state;
    full(f, "nr_inodes=5"); /* root, tmp, images, work and one file */
    make(f, "");
    guest_writes(f->d.images, IMAGE_INVENTORY, "inventory");
    assert_int_equal(commit(f), -ENOSPC);
    ASSERT_SAYS(&f->err, strerror(ENOSPC));
    ASSERT_SAYS(&f->err, f->final);
    image_dir_clear(&f->d);
    assert_int_equal(count_in(f->t->path), 0);
    assert_int_equal(umount2(f->t->path, MNT_DETACH), 0);
}

static void read_only_disk(void **state) {
    struct fixture *f = *state;
    full(f, "ro");
    assert_int_equal(make_fails(f, f->final, ""), -EROFS);
    assert_int_equal(umount2(f->t->path, MNT_DETACH), 0);
    full(f, "");
    make(f, "");
    guest_dumps(f);
    assert_int_equal(mount(NULL, f->t->path, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    assert_int_equal(commit(f), -EROFS);
    ASSERT_SAYS(&f->err, f->final);
    assert_int_equal(umount2(f->t->path, MNT_DETACH), 0);
}

/* ---- check and parents ---- */

static void check_fails(struct fixture *f, const char *path, int want, const char *says) {
    f->err = (struct err)ERR_INIT;
    assert_int_equal(image_dir_check(path, &f->err), want);
    ASSERT_SAYS(&f->err, says);
    ASSERT_SAYS(&f->err, path);
}

static void checks_before_a_restore(void **state) {
    struct fixture *f = *state;
    cleanup_free char *ck = checkpoint(f, "good", "nowhere");
    assert_int_equal(image_dir_check(ck, &f->err), 0); /* where the link leads is image_dir_parents()'s affair */
    check_fails(f, f->final, -ENOENT, strerror(ENOENT));
    static void (*const leaves[])(int) = {leave_symlink, leave_fifo, leave_device, leave_socket, leave_directory};
    for (size_t i = 0; i < ARRAY_SIZE(leaves); i++) {
        cleanup_free char *bad = checkpoint(f, "bad", "");
        cleanup_fd int dir = open(bad, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        leaves[i](dir);
        check_fails(f, bad, -EINVAL, "core-1.img: is not a regular file");
        assert_int_equal(path_remove_tree(f->t->fd, "bad", NULL), 0);
    }
    cleanup_free char *bad = checkpoint(f, "bad", "");
    assert_int_equal(mkdirat(f->t->fd, "bad/parent", 0700), 0);
    check_fails(f, bad, -EINVAL, "parent: is not a regular file");
    assert_int_equal(unlinkat(f->t->fd, "bad/" IMAGE_INVENTORY, 0), 0);
    check_fails(f, bad, -ENOENT, "has no " IMAGE_INVENTORY);
    assert_int_equal(mkdirat(f->t->fd, "bad/" IMAGE_INVENTORY, 0700), 0);
    check_fails(f, bad, -EINVAL, "is not a regular file");
}

static void follows_the_parents(void **state) {
    struct fixture *f = *state;
    cleanup_free char *a = checkpoint(f, "a", "");
    cleanup_free char *b = checkpoint(f, "b", "a");
    cleanup_free char *c = checkpoint(f, "c", "b");
    cleanup_free char *d = checkpoint(f, "d", "c");
    cleanup_strv struct strv got = {0}, chain = {0}, none = {0};
    assert_int_equal(image_dir_parents(d, &got, &f->err), 0);
    assert_int_equal(got.n, 3);
    assert_string_equal(got.v[0], c);
    assert_string_equal(got.v[1], b);
    assert_string_equal(got.v[2], a);
    assert_int_equal(image_dir_chain(d, &chain, &f->err), 0);
    assert_int_equal(chain.n, 4);
    assert_string_equal(chain.v[0], d);
    assert_int_equal(image_dir_parents(a, &none, &f->err), 0);
    assert_int_equal(none.n, 0);
}

static void refuses_bad_parents(void **state) {
    struct fixture *f = *state;
    cleanup_free char *ck = checkpoint(f, "ck", "");
    cleanup_free char *link = path_join(ck, IMAGE_PARENT);
    const struct {
        const char *target;
        int r;
    } cases[] = {
        {"/etc", -EINVAL},        {"a", -EINVAL},         {"..", -EINVAL},        {"../..", -EINVAL},
        {"../../etc", -EINVAL},   {"../a/", -EINVAL},     {"../a/../b", -EINVAL}, {"../.hidden", -EINVAL},
        {"../images+1", -EINVAL}, {"../absent", -ENOENT},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_strv struct strv got = {0};
        f->err = (struct err)ERR_INIT;
        assert_int_equal(symlink(cases[i].target, link), 0);
        if (image_dir_parents(ck, &got, &f->err) != cases[i].r)
            fail_msg("%s: %s", cases[i].target, f->err.msg);
        ASSERT_SAYS(&f->err, f->t->path);
        assert_int_equal(unlink(link), 0);
    }
    /* Longer than what is read of it. */
    char overlong[1024] = "../";
    memset(overlong + 3, 'x', sizeof(overlong) - 4);
    cleanup_strv struct strv got = {0};
    assert_int_equal(symlink(overlong, link), 0);
    assert_int_equal(image_dir_parents(ck, &got, &f->err), -EINVAL);
    assert_int_equal(unlink(link), 0);
    /* A file of that name. */
    tmpdir_write(f->t, "ck/parent", "");
    assert_true(image_dir_parents(ck, &got, &f->err) < 0);
    ASSERT_SAYS(&f->err, link);
}

/* threats.md 29. */
static void cycles_end(void **state) {
    struct fixture *f = *state;
    cleanup_free char *self = checkpoint(f, "self", "self");
    cleanup_free char *a = checkpoint(f, "a", "b");
    cleanup_free char *b = checkpoint(f, "b", "a");
    const char *const starts[] = {self, a, b};
    for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
        cleanup_strv struct strv got = {0};
        assert_int_equal(image_dir_parents(starts[i], &got, &f->err), -ELOOP);
        ASSERT_SAYS(&f->err, starts[i]);
        assert_true(got.n <= IMAGE_PARENTS_MAX);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(makes_hidden_directories_beside_it),
        TEST(makes_the_directories_above),
        TEST(refuses_bad_places),
        TEST(parent_paths),
        TEST(commits),
        TEST(takes_the_place_of_what_was_there),
        TEST(does_not_replace_what_came_meanwhile),
        TEST(commit_links_the_parent),
        TEST(refuses_what_is_no_image),
        TEST(names_are_shown_printable),
        TEST(counts_are_bounded),
        TEST(make_on_a_full_disk),
        TEST(commit_on_a_full_disk),
        TEST(read_only_disk),
        TEST(checks_before_a_restore),
        TEST(follows_the_parents),
        TEST(refuses_bad_parents),
        TEST(cycles_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
