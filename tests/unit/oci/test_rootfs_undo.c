/* SPDX-License-Identifier: Apache-2.0 */
/* Needs root: sets owners, and mounts an overlay in a mount namespace of its own. */
#include "oci/rootfs_undo.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "archive_support.h"
#include "oci/rootfs_diff.h"
#include "oci/rootfs_move.h"

#define MEMBERS_MAX 16

/* t/root over two layers on a tmpfs (`overlay`), or as a directory. */
struct place {
    struct tmpdir *t;
    int bundle, root;
};

/* In the test's directory. */
static void shell(const struct tmpdir *t, const char *script) {
    cleanup_free char *text = str_printf("cd %s && %s", t->path, script);
    int status = system(text); /* NOLINT: the scripts are below */
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s: %d", script, status);
}

/* All that can be seen of t/root; malloc'd. */
static char *looks(const struct tmpdir *t) {
    cleanup_free char *out = tmpdir_path(t, "looks");
    size_t len;
    /* The size of a directory is its file system's own affair. */
    shell(t, "(cd root && find . ! -type d -printf '%p %y %m %U %G %s %T@ %l\\n' -o "
             "-printf '%p %y %m %U %G %T@\\n' | LC_ALL=C sort && "
             "find . -type f | LC_ALL=C sort | xargs -r cat) >looks");
    return slurp(out, &len);
}

static const char tree[] =
    "mkdir -p usr/bin usr/share/doc etc empty deep/a/b/c && echo tool >usr/bin/tool && echo doc >usr/share/doc/x && "
    "echo one >etc/one && echo two >etc/two && ln etc/two etc/hard && ln -s usr/bin bin && mkfifo etc/fifo && "
    "echo c >deep/a/b/c/file && chmod 1777 deep/a && chown 12:34 deep/a/b && chmod 4755 usr/bin/tool && "
    "touch -d '2001-02-03 04:05:06.789' deep deep/a deep/a/b deep/a/b/c usr usr/bin etc empty .";

static int setup(void **state) {
    struct place *p = calloc(1, sizeof(*p));
    if (!p || tmpdir_setup((void **)&p->t) < 0 || mount("base", p->t->path, "tmpfs", 0, "size=256m") < 0)
        return -1;
    close(p->t->fd);
    p->t->fd = open(p->t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    shell(p->t, "mkdir root bundle low1 low2 upper work");
    p->bundle = openat(p->t->fd, "bundle", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    p->root = -1;
    *state = p;
    return 0;
}

static int setup_dir(void **state) {
    int r = setup(state);
    struct place *p = *state;
    cleanup_free char *script = str_printf("cd root && %s", tree);
    shell(p->t, script);
    p->root = openat(p->t->fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return r;
}

static int setup_overlay(void **state) {
    int r = setup(state);
    struct place *p = *state;
    cleanup_free char *script =
        str_printf("(cd low1 && %s) && mkdir -p low2/deep/a low2/etc && echo low2 >low2/etc/one && "
                   "echo more >low2/deep/a/more && mount -t overlay overlay -o lowerdir=low2:low1,"
                   "upperdir=upper,workdir=work root && echo upper >root/etc/upper",
                   tree);
    shell(p->t, script);
    p->root = openat(p->t->fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return r;
}

static int teardown(void **state) {
    struct place *p = *state;
    cleanup_free char *root = tmpdir_path(p->t, "root");
    close(p->bundle);
    close(p->root);
    (void)umount2(root, MNT_DETACH);
    close(p->t->fd);
    p->t->fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (umount2(p->t->path, MNT_DETACH) < 0)
        return -1;
    void *t = p->t;
    free(p);
    return tmpdir_teardown(&t);
}

/* Changes of every kind, then one that is refused when the rest is done. */
static const struct member members[] = {
    {.name = "etc/one", .data = "changed", .uid = 5, .mode = 04755},
    {.name = "etc/new", .data = "new"},
    {.name = "etc/new", .data = "again"},
    {.name = "usr", .data = "now a file"},
    {.name = "deep/", .type = AE_IFDIR, .mode = 0700, .uid = 7, .xattr = "user.x"},
    {.name = "deep/a/.wh..wh..opq"},
    {.name = "deep/a/other/x/y", .data = "y"},
    {.name = "etc/link", .type = AE_IFLNK, .link = "/nowhere"},
    {.name = "etc/two2", .link = "etc/two", .hard = true},
    {.name = "etc/.wh.fifo"},
    {.name = "empty", .type = AE_IFIFO},
    {.name = "made/on/the/way", .data = "x"},
    {.name = "bin/through/a/link", .data = "x"},
    {0},
};
static const char deleted[] = "[\"/deep/a/b\", \"/etc/hard\", \"/nothing\", \"/nothing/below\"]";

static int change(const struct place *p, struct rootfs_undo *u) {
    cleanup_free char *path = tmpdir_path(p->t, "diff.tar");
    struct err e = ERR_INIT;
    tar_write(path, ARCHIVE_FILTER_NONE, members);
    if (rootfs_diff_delete(deleted, strlen(deleted), p->root, u, &e) < 0)
        fail_msg("%s", e.msg);
    cleanup_fd int diff = open(path, O_RDONLY | O_CLOEXEC);
    return rootfs_diff_apply(diff, p->root, u, NULL, &e);
}

static void assert_nothing_left(const struct place *p) {
    assert_int_equal(count_entries(p->bundle), 0);
    assert_int_equal(faccessat(p->root, ROOTFS_UNDO_ASIDE "*", F_OK, 0), -1);
}

static void assert_same(const struct place *p, const char *before) {
    cleanup_free char *after = looks(p->t);
    if (strcmp(before, after) != 0)
        fail_msg("before:\n%s\nafter:\n%s", before, after);
    assert_nothing_left(p);
}

static struct rootfs_undo *begin(const struct place *p) {
    struct rootfs_undo *u = NULL;
    struct err e = ERR_INIT;
    if (rootfs_undo_begin(p->bundle, p->root, &u, &e) < 0)
        fail_msg("%s", e.msg);
    return u;
}

static void taken_back(void **state) {
    const struct place *p = *state;
    cleanup_free char *before = looks(p->t);
    cleanup_rootfs_undo struct rootfs_undo *u = begin(p);
    struct err e = ERR_INIT;
    assert_int_equal(change(p, u), -ELOOP);
    assert_text(p->root, "usr", "now a file");
    assert_text(p->root, "deep/a/other/x/y", "y");
    assert_int_equal(faccessat(p->root, "deep/a/b", F_OK, 0), -1);
    if (rootfs_undo_back(u, &e) < 0)
        fail_msg("%s", e.msg);
    assert_same(p, before);
    cleanup_free char *deep = tmpdir_path(p->t, "root/deep");
    char v[8];
    assert_int_equal(getxattr(deep, "user.x", v, sizeof(v)), -1);
}

static void kept(void **state) {
    const struct place *p = *state;
    cleanup_rootfs_undo struct rootfs_undo *u = begin(p);
    struct err e = ERR_INIT;
    assert_int_equal(change(p, u), -ELOOP);
    if (rootfs_undo_keep(u, &e) < 0)
        fail_msg("%s", e.msg);
    assert_text(p->root, "usr", "now a file");
    assert_text(p->root, "etc/new", "again");
    assert_text(p->root, "made/on/the/way", "x");
    assert_nothing_left(p);
    cleanup_free char *now = looks(p->t);
    assert_null(strstr(now, ROOTFS_UNDO_ASIDE));
    assert_int_equal(rootfs_undo_recover(p->bundle, p->root, &e), 0);
}

/* A process that ends without having decided; its journal is cut off at every record on the way back as well. */
static void recovered(void **state) {
    const struct place *p = *state;
    cleanup_free char *before = looks(p->t);
    struct rootfs_undo *u = begin(p), *other = NULL;
    struct err e = ERR_INIT;
    assert_int_equal(change(p, u), -ELOOP);
    assert_int_equal(rootfs_undo_recover(p->bundle, p->root, &e), -EBUSY);
    assert_non_null(strstr(e.msg, "another restore is at work"));
    assert_int_equal(rootfs_undo_begin(p->bundle, p->root, &other, &e), -EEXIST);
    rootfs_undo_free(u);
    if (rootfs_undo_recover(p->bundle, p->root, &e) != 1)
        fail_msg("%s", e.msg);
    assert_same(p, before);
    assert_int_equal(rootfs_undo_recover(p->bundle, p->root, &e), 0);
}

/* Each record is written before its change: what it says may not have been done. */
static void killed_before_the_change(void **state) {
    const struct place *p = *state;
    cleanup_free char *before = looks(p->t);
    struct rootfs_undo *u = begin(p);
    struct err e = ERR_INIT;
    cleanup_fd int etc = openat(p->root, "etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(rootfs_undo_creating(u, "etc/absent", etc, &e), 0);
    assert_int_equal(rootfs_undo_changing(u, "etc", etc, &e), 0);
    assert_int_equal(rootfs_undo_setting(u, "etc", etc, "user.none", &e), 0);
    rootfs_undo_free(u);
    if (rootfs_undo_recover(p->bundle, p->root, &e) != 1)
        fail_msg("%s", e.msg);
    assert_same(p, before);
}

/* Another root in its place (a fresh overlay) has nothing to be taken back in it. */
static void of_another_root(void **state) {
    const struct place *p = *state;
    struct rootfs_undo *u = begin(p);
    struct err e = ERR_INIT;
    assert_int_equal(change(p, u), -ELOOP);
    rootfs_undo_free(u);
    shell(p->t, "mkdir another && echo x >another/usr");
    cleanup_fd int other = openat(p->t->fd, "another", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(rootfs_undo_recover(p->bundle, other, &e), 2);
    assert_int_equal(rootfs_undo_recover(p->bundle, other, &e), 0);
    assert_text(other, "usr", "x\n");
    assert_int_equal(count_entries(p->bundle), 0);
}

/* What a container that ran may have done meanwhile. */
static void hostile(void **state) {
    const struct place *p = *state;
    struct err e = ERR_INIT;
    cleanup_rootfs_undo struct rootfs_undo *u = begin(p);
    shell(p->t, "mkdir out && echo outside >out/new && echo outside >out/one && chmod 700 out");
    assert_int_equal(change(p, u), -ELOOP);
    cleanup_free char *script =
        str_printf("cd root && rm -rf deep && ln -s %s/out deep && rm -rf made && ln -s ../out made && "
                   "rm etc/one && mkdir -p etc/one/x && rm usr && mkdir -p usr/bin && echo mine >usr/bin/mine",
                   p->t->path);
    shell(p->t, script);
    int r = rootfs_undo_back(u, &e);
    assert_text(p->t->fd, "out/new", "outside\n");
    assert_text(p->t->fd, "out/one", "outside\n");
    struct stat st;
    assert_int_equal(fstatat(p->t->fd, "out", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    cleanup_fd int out = openat(p->t->fd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(count_entries(out), 2);
    /* What was in deep has no place to go to any more, and is not thrown away; the rest is back. */
    assert_int_equal(r, -ENOENT);
    assert_non_null(strstr(e.msg, "/deep/a/b"));
    assert_text(p->root, "etc/one", "one\n");
    assert_text(p->root, "usr/bin/tool", "tool\n");
    assert_int_equal(count_entries(p->bundle), 0);
    shell(p->t, "test $(find root -path '*/" ROOTFS_UNDO_ASIDE "*/file' | wc -l) = 1");
}

static void damaged(void **state) {
    const struct place *p = *state;
    struct err e = ERR_INIT;
    static const char *const scripts[] = {
        "truncate -s -1 bundle/" ROOTFS_UNDO_JOURNAL,
        "printf x | dd of=bundle/" ROOTFS_UNDO_JOURNAL " conv=notrunc bs=1 seek=3 2>/dev/null",
        "printf x | dd of=bundle/" ROOTFS_UNDO_JOURNAL " conv=notrunc bs=1 seek=40 2>/dev/null",
        "truncate -s 20 bundle/" ROOTFS_UNDO_JOURNAL,
        "chmod 644 bundle/" ROOTFS_UNDO_JOURNAL,
        "chown 1000 bundle/" ROOTFS_UNDO_JOURNAL,
        "cd bundle && ln " ROOTFS_UNDO_JOURNAL " second",
        "cd bundle && mv " ROOTFS_UNDO_JOURNAL " second && mkfifo -m 600 " ROOTFS_UNDO_JOURNAL,
    };
    for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
        rootfs_undo_free(begin(p));
        shell(p->t, scripts[i]);
        int r = rootfs_undo_recover(p->bundle, p->root, &e);
        if (r != -EINVAL || !strstr(e.msg, ROOTFS_UNDO_JOURNAL))
            fail_msg("%s: %d (%s)", scripts[i], r, e.msg);
        shell(p->t, "rm -rf bundle/" ROOTFS_UNDO_JOURNAL " bundle/second root/" ROOTFS_UNDO_ASIDE "*");
    }
    shell(p->t, "ln -s /etc/passwd bundle/" ROOTFS_UNDO_JOURNAL);
    assert_int_equal(rootfs_undo_recover(p->bundle, p->root, &e), -ELOOP);
}

/* A journal that has no room: the change is not made, and what was made goes back. */
static void no_room_for_the_journal(void **state) {
    const struct place *p = *state;
    struct err e = ERR_INIT;
    shell(p->t, "mkdir small && mount -t tmpfs -o size=4k small small");
    cleanup_fd int small = openat(p->t->fd, "small", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_free char *before = looks(p->t);
    cleanup_rootfs_undo struct rootfs_undo *u = NULL;
    assert_int_equal(rootfs_undo_begin(small, p->root, &u, &e), 0);
    cleanup_fd int etc = openat(p->root, "etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = 0;
    for (unsigned i = 0; r == 0 && i < 1000; i++)
        r = rootfs_undo_setting(u, "etc", etc, "user.some", &e);
    assert_int_equal(r, -ENOSPC);
    assert_int_equal(rootfs_undo_remove(u, "etc/one", etc, &e), -ENOSPC);
    assert_int_equal(faccessat(etc, "one", F_OK, 0), 0);
    if (rootfs_undo_back(u, &e) < 0)
        fail_msg("%s", e.msg);
    assert_same(p, before);
    assert_int_equal(count_entries(small), 0);
    u = rootfs_undo_free(u);
    small = fd_close(small);
    shell(p->t, "umount small");
}

/* A directory of a lower layer cannot be renamed: it is taken apart, and put together. */
static void trees_of_lower_layers(void **state) {
    const struct place *p = *state;
    struct err e = ERR_INIT;
#define TOUCH "touch -d '2001-02-03 04:05:06.789' "
    shell(p->t, TOUCH "root root/deep");
    cleanup_free char *before = looks(p->t);
    assert_int_equal(renameat(p->root, "deep", p->root, "deep2"), -1);
    assert_int_equal(errno, EXDEV); /* or this tests nothing */
    if (rootfs_move(p->root, "deep", p->root, "deep2", &e) < 0 ||
        rootfs_move_back(p->root, "deep2", p->root, "deep", &e) < 0)
        fail_msg("%s", e.msg);
    shell(p->t, TOUCH "root");
    cleanup_free char *after = looks(p->t);
    assert_string_equal(after, before);
    /* In parts. */
    shell(p->t, "cd root && mkdir half && mv deep/a half/a");
    if (rootfs_move_back(p->root, "half", p->root, "deep", &e) < 0)
        fail_msg("%s", e.msg);
    shell(p->t, TOUCH "root root/deep");
    cleanup_free char *whole = looks(p->t);
    assert_string_equal(whole, before);
}

#define DIR(f) cmocka_unit_test_setup_teardown(f, setup_dir, teardown)
#define OVERLAY(f)                                                                                                     \
    { "overlay: " #f, f, setup_overlay, teardown, NULL }

int main(void) {
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        DIR(taken_back),
        OVERLAY(taken_back),
        DIR(kept),
        OVERLAY(kept),
        DIR(recovered),
        OVERLAY(recovered),
        DIR(killed_before_the_change),
        DIR(of_another_root),
        DIR(hostile),
        DIR(damaged),
        DIR(no_room_for_the_journal),
        OVERLAY(trees_of_lower_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
