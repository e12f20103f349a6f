/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "snapshot/tree_socket.h"
#include "trees.h"

static struct stat stat_at(int dirfd, const char *name) {
    struct stat st;
    assert_int_equal(fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
    return st;
}

static void set_xattr(const struct tmpdir *t, const char *name, const char *key, const char *value) {
    cleanup_free char *path = tmpdir_path(t, name);
    assert_int_equal(lsetxattr(path, key, value, strlen(value), 0), 0);
}

static void assert_xattr(const struct tmpdir *t, const char *name, const char *key, const char *value) {
    char buf[256];
    cleanup_free char *path = tmpdir_path(t, name);
    assert_int_equal(lgetxattr(path, key, buf, sizeof(buf)), strlen(value));
    assert_memory_equal(buf, value, strlen(value));
}

static void assert_same_attributes(int a, int b, const char *name) {
    struct stat x = stat_at(a, name), y = stat_at(b, name);
    assert_int_equal(x.st_mode, y.st_mode);
    assert_int_equal(x.st_uid, y.st_uid);
    assert_int_equal(x.st_gid, y.st_gid);
    assert_int_equal(x.st_rdev, y.st_rdev);
    assert_memory_equal(&x.st_mtim, &y.st_mtim, sizeof(x.st_mtim));
    if (!S_ISDIR(x.st_mode))
        assert_int_equal(x.st_size, y.st_size);
}

/* cap_net_bind_service=ep, as the kernel keeps it (struct vfs_cap_data): a change of the owner removes it. */
static const uint8_t capability[20] = {1, 0, 0, 2, 0, 4};

/* Everything that is kept, in one tree. */
static void make_everything(const struct tmpdir *t, int src) {
    static const struct timespec times[2] = {{1000000001, 123456789}, {1000000002, 987654321}};
    tree_file(src, "file", "contents");
    tree_file(src, "empty", "");
    tree_file(src, "setuid", "program");
    assert_int_equal(fchownat(src, "setuid", 1234, 5678, 0), 0);
    assert_int_equal(fchmodat(src, "setuid", 06755, 0), 0);
    cleanup_free char *program = tmpdir_path(t, "src/setuid");
    assert_int_equal(setxattr(program, "security.capability", capability, sizeof(capability), 0), 0);
    assert_int_equal(mkdirat(src, "dir", 0700), 0);
    assert_int_equal(mkdirat(src, "dir/sub", 0700), 0);
    tree_file(src, "dir/sub/deep", "down here");
    assert_int_equal(fchmodat(src, "dir", 01777, 0), 0);
    set_xattr(t, "src/dir", "trusted.overlay.opaque", "y");
    set_xattr(t, "src/file", "user.comment", "hello");
    assert_int_equal(symlinkat("/etc/passwd", src, "link"), 0);
    assert_int_equal(fchownat(src, "link", 7, 8, AT_SYMLINK_NOFOLLOW), 0);
    set_xattr(t, "src/link", "trusted.test", "on a link");
    assert_int_equal(symlinkat("nowhere", src, "broken"), 0);
    assert_int_equal(mkfifoat(src, "fifo", 0640), 0);
    assert_int_equal(mknodat(src, "socket", S_IFSOCK | 0620, 0), 0);
    set_xattr(t, "src/socket", "trusted.test", "on a socket");
    assert_int_equal(linkat(src, "socket", src, "socket2", 0), 0);
    assert_int_equal(mknodat(src, "whiteout", S_IFCHR, makedev(0, 0)), 0);
    assert_int_equal(linkat(src, "whiteout", src, "whiteout2", 0), 0);
    assert_int_equal(mknodat(src, "block", S_IFBLK | 0600, makedev(259, 70000)), 0);
    set_xattr(t, "src/fifo", "trusted.test", "on a FIFO");
    assert_int_equal(linkat(src, "file", src, "dir/same", 0), 0);
    assert_int_equal(linkat(src, "link", src, "same-link", 0), 0);
    assert_int_equal(utimensat(src, "file", times, 0), 0);
    assert_int_equal(utimensat(src, "link", times, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(utimensat(src, "fifo", times, 0), 0);
    assert_int_equal(utimensat(src, "dir", times, 0), 0);
    assert_int_equal(fchmod(src, 0711), 0);
    assert_int_equal(fchown(src, 11, 22), 0);
}

static void all_is_kept(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int src = tree_dir(t, "src"), dst = tree_dir(t, "dst");
    struct tree_totals copied, source, again;
    make_everything(t, src);
    assert_int_equal(tree_copy(src, dst, NULL, &copied, &e), 0);
    assert_int_equal(tree_digest(src, &source, &e), 0);
    assert_int_equal(tree_digest(dst, &again, &e), 0);
    assert_true(tree_same(&copied, &source));
    assert_true(tree_same(&copied, &again));
    assert_int_equal(copied.entries, 16);
    assert_int_equal(copied.bytes, strlen("contents") + strlen("program") + strlen("down here"));
    static const char *const names[] = {"file",     "empty",     "setuid", "dir",      "dir/sub",   "dir/sub/deep",
                                        "link",     "broken",    "fifo",   "whiteout", "whiteout2", "block",
                                        "dir/same", "same-link", "socket", "socket2"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_same_attributes(src, dst, names[i]);
    struct stat st;
    assert_int_equal(fstat(dst, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0711);
    assert_int_equal(st.st_uid, 11);
    assert_int_equal(stat_at(dst, "file").st_ino, stat_at(dst, "dir/same").st_ino);
    assert_int_equal(stat_at(dst, "file").st_nlink, 2);
    assert_int_equal(stat_at(dst, "link").st_ino, stat_at(dst, "same-link").st_ino);
    assert_int_equal(stat_at(dst, "whiteout").st_ino, stat_at(dst, "whiteout2").st_ino);
    assert_xattr(t, "dst/file", "user.comment", "hello");
    assert_xattr(t, "dst/dir", "trusted.overlay.opaque", "y");
    assert_xattr(t, "dst/link", "trusted.test", "on a link");
    assert_xattr(t, "dst/fifo", "trusted.test", "on a FIFO");
    char target[64] = "", caps[64];
    cleanup_free char *program = tmpdir_path(t, "dst/setuid");
    assert_int_equal(getxattr(program, "security.capability", caps, sizeof(caps)), sizeof(capability));
    assert_memory_equal(caps, capability, sizeof(capability));
    assert_int_equal(readlinkat(dst, "link", target, sizeof(target)), strlen("/etc/passwd"));
    assert_string_equal(target, "/etc/passwd");
}

static void an_empty_tree(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int src = tree_dir(t, "src"), dst = tree_dir(t, "dst");
    struct tree_totals totals;
    assert_int_equal(tree_copy(src, dst, NULL, &totals, &e), 0);
    assert_int_equal(totals.entries, 0);
    assert_int_equal(totals.bytes, 0);
    assert_int_equal(tree_copy(src, dst, NULL, NULL, &e), 0);
}

/* A link whose other names are not in the tree is a file like any other. */
static void links_out_of_the_tree(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int src = tree_dir(t, "src"), dst = tree_dir(t, "dst");
    struct tree_totals copied, source;
    tree_file(src, "a", "1");
    tree_file(src, "b", "2");
    assert_int_equal(linkat(src, "a", src, "c", 0), 0);
    assert_int_equal(linkat(src, "b", t->fd, "outside", 0), 0);
    assert_int_equal(tree_copy(src, dst, NULL, &copied, &e), 0);
    assert_int_equal(tree_digest(src, &source, &e), 0);
    assert_true(tree_same(&copied, &source));
    assert_int_equal(stat_at(dst, "b").st_nlink, 1);
    assert_int_equal(stat_at(dst, "a").st_nlink, 2);
}

/* The kernel that has one bound looks for it by this. Each copy takes the number that the next one wants. */
static void sockets_are_found_again(void **state) {
    enum { COPIES = 40, SOCKETS = 6 };
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int src = tree_dir(t, "src");
    char name[32];
    for (int i = 0; i < SOCKETS; i++) {
        snprintf(name, sizeof(name), "socket%d", i);
        assert_int_equal(mknodat(src, name, S_IFSOCK | 0600, 0), 0);
    }
    for (int n = 0; n < COPIES; n++) {
        snprintf(name, sizeof(name), "dst%d", n);
        cleanup_fd int dst = tree_dir(t, name);
        size_t lost = 1;
        assert_int_equal(tree_copy(src, dst, &lost, NULL, &e), 0);
        assert_int_equal(lost, 0);
        for (int i = 0; i < SOCKETS; i++) {
            snprintf(name, sizeof(name), "socket%d", i);
            assert_int_equal(tree_socket_number(stat_at(dst, name).st_ino),
                             tree_socket_number(stat_at(src, name).st_ino));
        }
        assert_int_equal(stat_at(dst, ".").st_nlink, 2); /* what it took is gone */
    }
}

/* Beyond the bound any number will do, and that is said. */
static void sockets_are_bounded(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    struct tree_sockets s;
    cleanup_fd int src = tree_dir(t, "src"), dst = tree_dir(t, "dst");
    unsigned misfits = 0;
    char name[32];
    assert_int_equal(tree_sockets_begin(&s, src, &e), 0);
    bool fits = false;
    assert_int_equal(tree_sockets_make(&s, 0, dst, "first", &fits, &e), 0);
    assert_true(fits);
    assert_int_equal(tree_sockets_make(&s, 0, dst, "first", &fits, &e), -EEXIST);
    s = (struct tree_sockets){.dir = s.dir, .random = s.random, .dirs = s.dirs, .names = TREE_SOCKETS_MAX};
    for (unsigned i = 0; i < 8; i++) {
        snprintf(name, sizeof(name), "s%u", i);
        assert_int_equal(tree_sockets_make(&s, (uint8_t)(i * 5), dst, name, &fits, &e), 0);
        misfits += !fits;
    }
    assert_true(misfits > 0 && s.names <= TREE_SOCKETS_MAX + 8);
}

static void holes_are_kept(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int src = tree_dir(t, "src"), dst = tree_dir(t, "dst"), other = tree_dir(t, "other");
    enum { SIZE = 1 << 30 };
    cleanup_fd int fd = openat(src, "sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cleanup_free char *data = malloc(1 << 20);
    memset(data, 'x', 1 << 20);
    assert_int_equal(pwrite(fd, data, 1 << 20, 300 << 20), 1 << 20);
    assert_int_equal(pwrite(fd, "end", 3, SIZE - 4), 3);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    struct tree_totals copied, full, source;
    assert_int_equal(tree_copy(src, dst, NULL, &copied, &e), 0);
    struct stat st = stat_at(dst, "sparse");
    assert_int_equal(st.st_size, SIZE);
    assert_true(st.st_blocks * 512 < 4 << 20);
    assert_int_equal(copied.bytes, (1 << 20) + 4096);
    assert_int_equal(tree_digest(src, &source, &e), 0);
    assert_true(tree_same(&copied, &source));

    /* Zeros that are written are as good as holes. */
    memset(data, 0, 1 << 20);
    assert_int_equal(pwrite(fd, data, 1 << 20, 200 << 20), 1 << 20);
    struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(futimens(fd, times), 0);
    assert_int_equal(tree_copy(src, other, NULL, &full, &e), 0);
    assert_true(tree_same(&copied, &full));
}

/* Each change of what is kept changes the digest; what is not kept does not. */
static void digest_sees_every_change(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int src = tree_dir(t, "src");
    struct tree_totals before, after;
    make_everything(t, src);
    static const struct timespec times[2] = {{1, 1}, {1, 1}};
#define CHANGED(change, want)                                                                                          \
    do {                                                                                                               \
        assert_int_equal(tree_digest(src, &before, &e), 0);                                                            \
        assert_int_equal((change), 0);                                                                                 \
        assert_int_equal(tree_digest(src, &after, &e), 0);                                                             \
        if ((memcmp(before.sha256, after.sha256, 32) != 0) != (want))                                                  \
            fail_msg("%s", #change);                                                                                   \
    } while (0)
    CHANGED(fchmodat(src, "file", 0600, 0), true);
    CHANGED(fchmodat(src, "dir", 0700, 0), true);
    CHANGED(fchmod(src, 0700), true);
    CHANGED(fchownat(src, "file", 1, 0, 0), true);
    CHANGED(fchownat(src, "link", 7, 9, AT_SYMLINK_NOFOLLOW), true);
    CHANGED(utimensat(src, "file", times, 0), true);
    CHANGED(utimensat(src, "dir", times, 0), false);
    CHANGED(renameat(src, "fifo", src, "fifo2"), true);
    CHANGED(renameat(src, "dir/sub/deep", src, "dir/deep"), true);
    CHANGED(unlinkat(src, "same-link", 0), true);
    CHANGED((set_xattr(t, "src/file", "user.comment", "hallo"), 0), true);
    CHANGED((set_xattr(t, "src/file", "user.more", ""), 0), true);
    CHANGED((set_xattr(t, "src/dir", "trusted.overlay.origin", "x"), 0), false);
    CHANGED((set_xattr(t, "src/dir", "trusted.overlay.impure", "y"), 0), false);
    CHANGED((set_xattr(t, "src/dir", "trusted.overlay.redirect", "y"), 0), true);
    CHANGED((tree_file(src, "file", "Contents"), utimensat(src, "file", times, 0)), true);
    CHANGED((unlinkat(src, "broken", 0), symlinkat("nowhere2", src, "broken")), true);
    CHANGED((unlinkat(src, "block", 0), mknodat(src, "block", S_IFBLK | 0600, makedev(259, 70001))), true);
    CHANGED(mkdirat(src, "new", 0755), true);
    CHANGED(0, false);
}

static void no_room_names_the_file(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int dst = tree_dir(t, "dst");
    char big[] = "/tmp/stasis-test-big-XXXXXX";
    assert_non_null(mkdtemp(big));
    cleanup_fd int src = open(big, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(src, "a", 0755), 0);
    cleanup_free char *text = malloc(2 * SMALL_BYTES);
    memset(text, 'x', 2 * SMALL_BYTES - 1);
    text[2 * SMALL_BYTES - 1] = '\0';
    tree_file(src, "a/big", text);
    int r = tree_copy(src, dst, NULL, NULL, &e);
    assert_int_equal(path_remove_tree(AT_FDCWD, big, NULL), 0);
    assert_int_equal(r, -ENOSPC);
    assert_string_equal(e.msg, "cannot copy ./a/big: No space left on device");
}

int main(void) {
#define WITH_DIR(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)
    const struct CMUnitTest tests[] = {
        WITH_DIR(all_is_kept),
        WITH_DIR(an_empty_tree),
        WITH_DIR(links_out_of_the_tree),
        WITH_DIR(sockets_are_found_again),
        WITH_DIR(sockets_are_bounded),
        WITH_DIR(holes_are_kept),
        WITH_DIR(digest_sees_every_change),
        cmocka_unit_test_setup_teardown(no_room_names_the_file, small_setup, small_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
