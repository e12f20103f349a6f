/* SPDX-License-Identifier: Apache-2.0 */
/* Needs root: mounts for real, in a mount namespace of its own. */
#include "base/overlay.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "oci/rootfs_diff.h"
#include "tmpdir.h"

/* A tmpfs, as an overlay cannot lie on an overlay; larger than what unpacking leaves free. */
static int setup(void **state) {
    if (tmpdir_setup(state) < 0)
        return -1;
    struct tmpdir *t = *state;
    return mount("base", t->path, "tmpfs", 0, "size=256m") < 0 || chdir(t->path) < 0 ? -1 : 0;
}

static int teardown(void **state) {
    struct tmpdir *t = *state;
    if (chdir("/") < 0 || umount2(t->path, MNT_DETACH) < 0)
        return -1;
    return tmpdir_teardown(state);
}

/* In the test's directory. */
static void shell(const char *script) {
    int status = system(script); /* NOLINT: the scripts are below */
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s: %d", script, status);
}

static void mounted(const char *layers, const char *name) {
    cleanup_free char *script =
        str_printf("mkdir %s.upper %s.work %s && mount -t overlay overlay -o lowerdir=%s,upperdir=$PWD/%s.upper,"
                   "workdir=$PWD/%s.work %s",
                   name, name, name, layers, name, name, name);
    shell(script);
}

#define LAYERS "$PWD/low2:$PWD/low1"

/* What a container may do with the files of two layers. */
static void make_changes(void) {
    shell("mkdir -p low1/d/sub low1/rep low1/gone low2/d/sub low2/swap hole && "
          "for f in d/a d/sub/old rep/x gone/f file change both; do echo low1 >low1/$f; done && "
          "for f in d/b d/sub/old2 swap/y both; do echo low2 >low2/$f; done");
    mounted(LAYERS, "box");
    shell("cd box && echo added >added && echo more >>change && rm file both && rm -r gone && "
          "rm -r d && mkdir -p d/sub && echo new >d/sub/new && echo b2 >d/b && "
          "rm -r rep && echo now-a-file >rep && rm -r swap && ln -s /nowhere swap && "
          "mkdir -p new/er && chmod 700 new && echo x >new/er/x && rm change && mkdir change && echo y >change/y");
}

static int open_source(const char *rootfs, struct rootfs_diff_source *ret) {
    cleanup_overlay struct overlay o = {0};
    struct err e = ERR_INIT;
    assert_int_equal(overlay_find(rootfs, &o, &e), 0);
    assert_non_null(o.upper);
    ret->upper_fd = open(o.upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(ret->upper_fd >= 0);
    ret->lower_fd = overlay_open_lower(&o, "hole", &e);
    if (ret->lower_fd < 0)
        print_message("%s\n", e.msg);
    return ret->lower_fd;
}

static int to_file(void *userdata, const void *data, size_t len, struct err *err) {
    (void)err;
    return fd_write_all(*(int *)userdata, data, len);
}

/* Everything that was done comes back on a fresh overlay, with and without the lower tree at hand. */
static void round_trip(void **state) {
    (void)state;
    make_changes();
    for (int known = 0; known < 2; known++) {
        struct rootfs_diff_source src;
        cleanup_strv struct strv deleted = {0}, notes = {0};
        cleanup_free char *json = NULL;
        struct err e = ERR_INIT;
        assert_true(open_source("box", &src) >= 0);
        cleanup_fd int upper = src.upper_fd, lower = src.lower_fd;
        if (!known)
            src.lower_fd = -1;
        cleanup_fd int out = open("diff.tar", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (rootfs_diff_write(&src, false, to_file, &out, &deleted, &notes, &e) < 0 ||
            rootfs_diff_deleted_json(&deleted, &json, &e) < 0)
            fail_msg("%s", e.msg);
        /* What only names can say is in the list; Podman takes the markers for files. */
        shell(known ? "! tar -tf diff.tar | grep -F .wh." : "tar -tf diff.tar | grep -F d/.wh..wh..opq");
        mounted(LAYERS, known ? "again1" : "again0");
        cleanup_fd int root = open(known ? "again1" : "again0", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(lseek(out, 0, SEEK_SET), 0);
        if (rootfs_diff_apply(out, root, NULL, &notes, &e) < 0 ||
            rootfs_diff_delete(json, strlen(json), root, NULL, &e) < 0)
            fail_msg("%s", e.msg);
        assert_int_equal(notes.n, 0);
        shell(known ? "diff -r --no-dereference box again1" : "diff -r --no-dereference box again0");
        shell(known ? "test $(stat -c %a again1/new) = 700" : "test $(stat -c %a again0/new) = 700");
        assert_true(upper >= 0 && lower >= 0);
    }
    /* The moment's mount is gone. */
    shell("! grep -F /hole /proc/self/mounts");
}

static void of_one_layer(void **state) {
    (void)state;
    struct rootfs_diff_source src;
    shell("mkdir 'low,1' 'lo:w\\2' hole && touch 'low,1/x' 'lo:w\\2/y'");
    mounted("$PWD/'low\\,1'", "box");
    assert_true(open_source("box", &src) >= 0);
    assert_int_equal(faccessat(src.lower_fd, "x", F_OK, 0), 0);
    fd_close(src.upper_fd);
    fd_close(src.lower_fd);
    mounted("$PWD/'lo\\:w\\\\2'", "box2");
    assert_true(open_source("box2", &src) >= 0);
    assert_int_equal(faccessat(src.lower_fd, "y", F_OK, 0), 0);
    fd_close(src.upper_fd);
    fd_close(src.lower_fd);
}

static void of_layers_with_odd_names(void **state) {
    (void)state;
    struct rootfs_diff_source src;
    shell("mkdir 'a b' 'lo:w' hole && touch 'a b/x' 'lo:w/y'");
    mounted("$PWD/'a b':$PWD/'lo\\:w'", "box");
    assert_true(open_source("box", &src) >= 0);
    assert_int_equal(faccessat(src.lower_fd, "x", F_OK, 0), 0);
    assert_int_equal(faccessat(src.lower_fd, "y", F_OK, 0), 0);
    fd_close(src.upper_fd);
    fd_close(src.lower_fd);
}

static void none(void **state) {
    (void)state;
    cleanup_overlay struct overlay o = {0};
    struct err e = ERR_INIT;
    assert_int_equal(overlay_find(".", &o, &e), 0);
    assert_null(o.upper);
    assert_null(o.lower);
    assert_true(overlay_open_lower(&o, ".", &e) == -EOPNOTSUPP);
    assert_int_equal(overlay_find("nowhere", &o, &e), -ENOENT);
}

static void lower_directories_that_cannot_be_found(void **state) {
    (void)state;
    struct rootfs_diff_source src;
    shell("mkdir low1 low2 hole");
    mounted("low2:low1", "box");
    assert_int_equal(open_source("box", &src), -EOPNOTSUPP);
    fd_close(src.upper_fd);
    struct overlay o = {.lower = malloc(6000)};
    struct err e = ERR_INIT;
    memset(o.lower, 'x', 5999);
    o.lower[5999] = '\0';
    o.lower[0] = o.lower[4000] = '/';
    o.lower[3999] = ':';
    assert_int_equal(overlay_open_lower(&o, "hole", &e), -E2BIG);
    overlay_clear(&o);
}

int main(void) {
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        perror("a mount namespace");
        return 1;
    }
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(round_trip),
        TEST(of_one_layer),
        TEST(of_layers_with_odd_names),
        TEST(none),
        TEST(lower_directories_that_cannot_be_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
