/* SPDX-License-Identifier: Apache-2.0 */
/* A small tmpfs, for writes that find no room: a directory of the test, mounted in a mount namespace of its own. */
#pragma once

#include <sched.h>
#include <sys/mount.h>

#include "tmpdir.h"

/* Setup for cmocka: as tmpdir_setup, with a tmpfs of SMALL_BYTES on it; -1 without root. */
#define SMALL_BYTES (1 << 20)
static inline int small_setup(void **state) {
    if (tmpdir_setup(state) < 0)
        return -1;
    struct tmpdir *t = *state;
    close(t->fd);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("small", t->path, "tmpfs", 0, "size=1m") < 0)
        return -1;
    t->fd = open(t->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return t->fd < 0 ? -1 : 0;
}

static inline int small_teardown(void **state) {
    struct tmpdir *t = *state;
    umount2(t->path, MNT_DETACH);
    return tmpdir_teardown(state);
}
