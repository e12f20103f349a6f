/* SPDX-License-Identifier: Apache-2.0 */
/* The directories of one checkpoint and a guest that writes into them, for the tests of image_dir.c. */
#pragma once

#include "sandbox/image_dir.h"
#include "support.h"

struct fixture {
    struct tmpdir *t;
    char *final; /* T/ck */
    struct image_dir d;
    struct image_totals totals;
    struct err err;
};

static inline int fixture_setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    void *dir = NULL;
    if (tmpdir_setup(&dir) < 0)
        return -1;
    f->t = dir;
    f->final = tmpdir_path(f->t, "ck");
    *state = f;
    return 0;
}

static inline int fixture_teardown(void **state) {
    struct fixture *f = *state;
    void *dir = f->t;
    image_dir_clear(&f->d);
    free(f->final);
    free(f);
    return tmpdir_teardown(&dir);
}

static inline void make(struct fixture *f, const char *parent_path) {
    if (image_dir_make(f->final, parent_path, &f->d, &f->err) < 0)
        fail_msg("%s", f->err.msg);
}

/* The guest writes NAME into images/ or work/. */
static inline void guest_writes(const char *dir, const char *name, const char *text) {
    cleanup_free char *path = path_join(dir, name);
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0666, false, NULL), 0);
}

/* threats.md 6 and 8: what the guest may leave besides images and logs, in either directory (its fd). */
static inline void leave_symlink(int dir) {
    assert_int_equal(symlinkat("/etc/passwd", dir, "core-1.img"), 0);
}

static inline void leave_hidden(int dir) {
    assert_int_equal(mknodat(dir, ".hidden", S_IFREG, 0), 0);
}

static inline size_t count_in(const char *path) {
    size_t n = 0;
    cleanup_dir DIR *d = opendir(path);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    return n;
}

static inline void assert_file(const struct fixture *f, const char *name, const char *want) {
    cleanup_free char *text = NULL;
    struct err err = ERR_INIT;
    if (file_read_at(f->t->fd, name, 1 << 20, &text, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(text, want);
}
