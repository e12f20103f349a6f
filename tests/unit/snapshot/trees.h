/* SPDX-License-Identifier: Apache-2.0 */
/* Trees to copy: "src" and "dst" of a test's directory. */
#pragma once

#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "snapshot/tree.h"
#include "support.h"

static inline int tree_dir(const struct tmpdir *t, const char *name) {
    if (mkdirat(t->fd, name, 0755) < 0 && errno != EEXIST)
        abort();
    int fd = openat(t->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        abort();
    return fd;
}

static inline void tree_file(int dirfd, const char *name, const char *text) {
    cleanup_fd int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        abort();
}

static inline bool tree_same(const struct tree_totals *a, const struct tree_totals *b) {
    return a->entries == b->entries && a->bytes == b->bytes && memcmp(a->sha256, b->sha256, sizeof(a->sha256)) == 0;
}
