/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of its own for each test, removed afterwards. Use as cmocka's setup and teardown. */
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/util.h"

struct tmpdir {
    char path[64];
    int fd;
};

static inline int tmpdir_setup(void **state) {
    struct tmpdir *t = calloc(1, sizeof(*t));
    snprintf(t->path, sizeof(t->path), "/tmp/stasis-test-XXXXXX");
    if (!mkdtemp(t->path) || (t->fd = open(t->path, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        return -1;
    *state = t;
    return 0;
}

static inline int tmpdir_teardown(void **state) {
    struct tmpdir *t = *state;
    close(t->fd);
    int r = path_remove_tree(AT_FDCWD, t->path, NULL);
    free(t);
    return r;
}

/* malloc'd path of name in it. */
static inline char *tmpdir_path(const struct tmpdir *t, const char *name) {
    return path_join(t->path, name);
}

static inline void tmpdir_write(const struct tmpdir *t, const char *name, const char *text) {
    cleanup_free char *path = tmpdir_path(t, name);
    cleanup_file FILE *f = fopen(path, "we");
    if (!f || fputs(text, f) < 0)
        abort();
}
