/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "manifests.h"
#include "trees.h"

/* A snapshot's directory that the sample's manifest fits. */
static struct manifest make_snapshot(const struct tmpdir *t, int dir) {
    struct manifest m = sample_manifest();
    struct err e = ERR_INIT;
    (void)t;
    tree_file(dir, MANIFEST_DEVICE, "device state");
    cleanup_fd int device = openat(dir, MANIFEST_DEVICE, O_RDONLY | O_CLOEXEC);
    assert_int_equal(manifest_digest_file(device, &m.device_size, m.device_sha256, &e), 0);
    assert_int_equal(m.device_size, strlen("device state"));
    cleanup_fd int memory = openat(dir, "guest", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cleanup_fd int file = openat(dir, MANIFEST_MEMORY, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(memory, SAMPLE_MEMORY), 0);
    assert_int_equal(pwrite(memory, "page", 4, MEMORY_SEGMENT), 4);
    assert_int_equal(memory_image_save(memory, file, -1, 1, m.memory, &e), 0);
    assert_int_equal(mkdirat(dir, MANIFEST_ROOTS, 0700), 0);
    for (unsigned i = 0; i < 2; i++) {
        char name[32];
        snprintf(name, sizeof(name), MANIFEST_ROOTS "/%u", i);
        assert_int_equal(mkdirat(dir, name, 0755), 0);
        cleanup_fd int root = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        tree_file(root, "file", i ? "one" : "zero");
        assert_int_equal(tree_digest(root, &m.containers[i].root.totals, &e), 0);
    }
    return m;
}

static void expect_bad(int dir, const struct manifest *m, const char *message) {
    struct err e = ERR_INIT;
    assert_int_equal(manifest_verify(dir, m, 2, &e), -EBADMSG);
    assert_string_equal(e.msg, message);
}

static void what_differs_is_named(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int dir = tree_dir(t, "snapshot");
    cleanup_manifest struct manifest m = make_snapshot(t, dir);
    assert_int_equal(manifest_verify(dir, &m, 2, &e), 0);

    tree_file(dir, "roots/1/file", "two");
    expect_bad(dir, &m, "roots/1 of container c2: the contents do not fit the digest");
    tree_file(dir, "roots/1/file", "four");
    expect_bad(dir, &m, "roots/1 of container c2: has 4 bytes, and the manifest says 3");
    tree_file(dir, "roots/0/more", "x");
    expect_bad(dir, &m, "roots/0 of container c1: has 2 entries, and the manifest says 1");
    assert_int_equal(renameat(dir, "roots/0", dir, "elsewhere"), 0);
    expect_bad(dir, &m, "roots/0 of container c1: must be a directory, and is not");
    assert_int_equal(symlinkat("../elsewhere", dir, "roots/0"), 0);
    expect_bad(dir, &m, "roots/0 of container c1: must be a directory, and is not");

    cleanup_fd int memory = openat(dir, MANIFEST_MEMORY, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(memory, "P", 1, MEMORY_SEGMENT), 1);
    expect_bad(dir, &m, "memory at 0x1000000: the contents do not fit the digest");
    assert_int_equal(unlinkat(dir, MANIFEST_MEMORY, 0), 0);
    expect_bad(dir, &m, "memory: must be a regular file, and is not");

    tree_file(dir, MANIFEST_DEVICE, "Device state");
    expect_bad(dir, &m, "device: the contents do not fit the digest");
    tree_file(dir, MANIFEST_DEVICE, "device");
    expect_bad(dir, &m, "device: has 6 bytes, and the manifest says 12");
    assert_int_equal(unlinkat(dir, MANIFEST_DEVICE, 0), 0);
    assert_int_equal(mkfifoat(dir, MANIFEST_DEVICE, 0600), 0);
    expect_bad(dir, &m, "device: must be a regular file, and is not");
}

static void errors_of_reading(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    uint64_t size;
    uint8_t sha256[MANIFEST_DIGEST_SIZE];
    assert_int_equal(manifest_digest_file(-1, &size, sha256, &e), -EBADF);
    assert_string_equal(e.msg, "cannot read at 0x0: Bad file descriptor");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_differs_is_named, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test(errors_of_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
