/* SPDX-License-Identifier: Apache-2.0 */
#include "criu_support.h"

static void open_fails(const struct tmpdir *t, const char *name, enum criu_kind kind, int r, const char *message) {
    struct criu_image *img = NULL;
    struct err e = ERR_INIT;
    int got = criu_image_open(t->fd, name, kind, &img, &e);
    if (got != r)
        fail_msg("%s: %d (%s)", name, got, e.msg);
    if (!strstr(e.msg, message) || !strstr(e.msg, name))
        fail_msg("\"%s\" does not say %s", e.msg, message);
    assert_null(img);
}

static void reads_entries(void **state) {
    struct tmpdir *t = *state;
    criu_write_all(t);
    cleanup_criu_image struct criu_image *img = NULL;
    const uint8_t *data;
    size_t len;
    unsigned n = 0;
    assert_int_equal(criu_image_open(t->fd, "pstree.img", CRIU_PSTREE, &img, NULL), 0);
    while (criu_image_next(img, &data, &len, NULL) == 1)
        n++;
    assert_int_equal(n, 3);
}

static void every_kind_has_its_magic(void **state) {
    struct tmpdir *t = *state;
    static const char *const names[CRIU_N_KINDS] = {[CRIU_INVENTORY] = "inventory.img",
                                                    [CRIU_PSTREE] = "pstree.img",
                                                    [CRIU_CORE] = "core-1.img",
                                                    [CRIU_IDS] = "ids-1.img",
                                                    [CRIU_MM] = NULL,
                                                    [CRIU_PAGEMAP] = "pagemap-1.img",
                                                    [CRIU_FDINFO] = "fdinfo-1.img",
                                                    [CRIU_FILES] = "files.img",
                                                    [CRIU_STATS] = "stats-dump"};
    criu_write_all(t);
    for (int name = 0; name < CRIU_N_KINDS; name++)
        for (int kind = 0; names[name] && kind < CRIU_N_KINDS; kind++) {
            cleanup_criu_image struct criu_image *img = NULL;
            if (kind == name)
                assert_int_equal(criu_image_open(t->fd, names[name], (enum criu_kind)kind, &img, NULL), 0);
            else
                open_fails(t, names[name], (enum criu_kind)kind, -EINVAL, "magic number");
        }
}

/* Whatever else may lie there under the name of an image. */
static void opens_regular_files_only(void **state) {
    struct tmpdir *t = *state;
    criu_write_all(t);
    assert_int_equal(mkdirat(t->fd, "dir", 0700), 0);
    assert_int_equal(mkfifoat(t->fd, "fifo", 0600), 0);
    assert_int_equal(symlinkat("pstree.img", t->fd, "link"), 0);
    open_fails(t, "absent", CRIU_PSTREE, -ENOENT, "No such file");
    open_fails(t, "dir", CRIU_PSTREE, -EINVAL, "not a regular file");
    open_fails(t, "fifo", CRIU_PSTREE, -EINVAL, "not a regular file");
    open_fails(t, "link", CRIU_PSTREE, -ELOOP, "symbolic link");
    open_fails(t, "../../etc/passwd", CRIU_PSTREE, -EXDEV, "cross-device");
}

/* At each byte: the file says that it is cut off, unless it ends between two entries. */
static void truncated_anywhere(void **state) {
    struct tmpdir *t = *state;
    size_t len;
    cleanup_free char *whole = criu_fixture("pstree.img", &len);
    for (size_t cut = 0; cut < len; cut++) {
        cleanup_criu_image struct criu_image *img = NULL;
        struct err e = ERR_INIT;
        const uint8_t *data;
        size_t n, at = MAGICS;
        criu_write(t, "pstree.img", whole, cut);
        int r = criu_image_open(t->fd, "pstree.img", CRIU_PSTREE, &img, &e);
        assert_int_equal(r, cut < MAGICS ? -EINVAL : 0);
        if (r < 0)
            continue;
        while ((r = criu_image_next(img, &data, &n, &e)) == 1)
            at += 4 + n;
        assert_int_equal(r, at == cut ? 0 : -EINVAL);
        if (r < 0)
            assert_non_null(strstr(e.msg, "pstree.img is cut off in entry "));
    }
}

static void lengths_are_bounded(void **state) {
    struct tmpdir *t = *state;
    static const uint32_t lengths[] = {(1 << 20) + 1, INT32_MAX, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        cleanup_criu_bytes struct criu_bytes b = {0};
        cleanup_criu_image struct criu_image *img = NULL;
        struct err e = ERR_INIT;
        const uint8_t *data;
        size_t len;
        criu_begin(&b, "pstree.img");
        criu_append(&b, &lengths[i], sizeof(lengths[i]));
        criu_write(t, "pstree.img", b.data, b.len);
        assert_int_equal(criu_image_open(t->fd, "pstree.img", CRIU_PSTREE, &img, NULL), 0);
        assert_int_equal(criu_image_next(img, &data, &len, &e), -EFBIG);
        assert_non_null(strstr(e.msg, "pstree.img: entry 1: its length is "));
    }
}

static void entries_are_bounded(void **state) {
    struct tmpdir *t = *state;
    cleanup_criu_image struct criu_image *img = NULL;
    struct err e = ERR_INIT;
    const uint8_t *data;
    size_t len;
    int r;
    unsigned n = 0;
    criu_write_all(t);
    /* Sparse: entries of no bytes. */
    cleanup_fd int fd = openat(t->fd, "pstree.img", O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, MAGICS), 0);
    assert_int_equal(ftruncate(fd, INT64_C(1) << 40), 0);
    assert_int_equal(criu_image_open(t->fd, "pstree.img", CRIU_PSTREE, &img, NULL), 0);
    while ((r = criu_image_next(img, &data, &len, &e)) == 1)
        n++;
    assert_int_equal(r, -EFBIG);
    assert_int_equal(n, CRIU_ENTRIES_MAX);
    assert_string_equal(e.msg, "pstree.img has more than 1048576 entries");
}

static void not_a_message(void **state) {
    struct tmpdir *t = *state;
    static const struct {
        const char *bytes;
        uint32_t len;
    } bad[] = {
        {"", 0},                                                      /* required fields are missing */
        {"\x08\x01\x10\x01\x18\x01", 6},                              /* one of them is */
        {"\x08\x01\x10\x01\x18\x01\x20", 7},                          /* cut off in a number */
        {"\x08\x01\x10\x01\x18\x01\x20\x01\x2a\xff\xff\xff\x7f", 13}, /* packed threads longer than the message */
        {"\x0b\x0b\x0b\x0b", 4},                                      /* groups */
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11},         /* a tag without end */
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        cleanup_criu_bytes struct criu_bytes b = {0};
        cleanup_criu_message ProtobufCMessage *m = NULL;
        struct err e = ERR_INIT;
        criu_begin(&b, "pstree.img");
        criu_append(&b, &bad[i].len, sizeof(bad[i].len));
        criu_append(&b, bad[i].bytes, bad[i].len);
        criu_write(t, "pstree.img", b.data, b.len);
        assert_int_equal(criu_image_read_one(t->fd, "pstree.img", CRIU_PSTREE, &criu__pstree__descriptor, &m, &e),
                         -EINVAL);
        assert_string_equal(e.msg, "pstree.img: entry 1: not a Pstree message");
    }
}

static void an_empty_image_has_no_first_entry(void **state) {
    struct tmpdir *t = *state;
    cleanup_criu_bytes struct criu_bytes b = {0};
    cleanup_criu_message ProtobufCMessage *m = NULL;
    struct err e = ERR_INIT;
    criu_begin(&b, "pstree.img");
    criu_write(t, "pstree.img", b.data, b.len);
    assert_int_equal(criu_image_read_one(t->fd, "pstree.img", CRIU_PSTREE, &criu__pstree__descriptor, &m, &e), -EINVAL);
    assert_string_equal(e.msg, "pstree.img is cut off: it has no entry");
}

#define T(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(reads_entries),
        T(every_kind_has_its_magic),
        T(opens_regular_files_only),
        T(truncated_anywhere),
        T(lengths_are_bounded),
        T(entries_are_bounded),
        T(not_a_message),
        T(an_empty_image_has_no_first_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
