/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/reach.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/util.h"

/* True if only root can enter the directory, and say that others can. */
static bool keeps_out(const char *path, const struct stat *st) {
    if (st->st_uid != 0 || (st->st_mode & S_IXOTH))
        return false;
    /* With an access control list the group's bits are the bound for all users that it names. */
    return !(st->st_mode & S_IXGRP) || (st->st_gid == 0 && getxattr(path, "system.posix_acl_access", NULL, 0) < 0);
}

int reach_by_others(const char *path, struct err *err) {
    cleanup_free char *real = realpath(path, NULL);
    struct stat st;
    if (!real)
        return err_errno(err, errno, "cannot resolve %s", path);
    for (;;) {
        if (stat(real, &st) < 0)
            return err_errno(err, errno, "cannot look at %s", real);
        if (keeps_out(real, &st))
            return 0;
        char *slash = strrchr(real, '/');
        if (!slash || !slash[1])
            return 1;
        slash[slash == real] = '\0';
    }
}
