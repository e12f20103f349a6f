/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/tree_socket.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>

#include "base/fd.h"

#define NAME_SIZE 64
#define DIRS_PER_SOCKET 16

int tree_sockets_begin(struct tree_sockets *s, int dir, struct err *err) {
    *s = (struct tree_sockets){.dir = dir};
    /* The place of a directory depends on its name. */
    if (getrandom(&s->random, sizeof(s->random), 0) != (ssize_t)sizeof(s->random))
        return err_errno(err, errno, "getrandom");
#ifdef FS_TOPDIR_FL
    /* What is made in such a directory has nothing to do with each other, ext4 thinks, and spreads it. */
    int flags = 0;
    if (ioctl(dir, FS_IOC_GETFLAGS, &flags) == 0) {
        flags |= FS_TOPDIR_FL;
        (void)ioctl(dir, FS_IOC_SETFLAGS, &flags); /* other file systems do not know it */
    } else if (errno != ENOTTY && errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS) {
        return err_errno(err, errno, "cannot ask for the flags of a directory");
    }
#endif
    return 0;
}

static void path_of(const struct tree_sockets *s, unsigned dir, unsigned name, char ret[NAME_SIZE]) {
    snprintf(ret, NAME_SIZE, "%016llx-%u/%u", (unsigned long long)s->random, dir, name);
}

/* Makes one more name, and tells its number. */
static int make_one(struct tree_sockets *s, struct tree_socket_spare *ret, uint8_t *ret_number) {
    char path[NAME_SIZE];
    struct stat st;
    path_of(s, s->dirs, ++s->names, path);
    if (mknodat(s->dir, path, S_IFSOCK | 0600, 0) < 0 || fstatat(s->dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    *ret = (struct tree_socket_spare){.dir = s->dirs, .name = s->names};
    *ret_number = tree_socket_number(st.st_ino);
    return 0;
}

static int next_dir(struct tree_sockets *s) {
    char path[NAME_SIZE];
    path_of(s, ++s->dirs, 0, path);
    *strchr(path, '/') = '\0';
    return mkdirat(s->dir, path, 0700) < 0 ? -errno : 0;
}

/* A name with that number, or any if there is none. */
static int find(struct tree_sockets *s, uint8_t number, struct tree_socket_spare *ret) {
    uint8_t got = (uint8_t)~number;
    int r = 0;
    for (unsigned d = 0; d < DIRS_PER_SOCKET && got != number && r == 0; d++) {
        /* Where a sequence has begun, it is gone on with. */
        if (s->dirs == 0 || d > 0)
            r = next_dir(s);
        for (unsigned i = 0; i < TREE_SOCKET_NUMBERS && got != number && r == 0; i++) {
            if (s->names >= TREE_SOCKETS_MAX && ret->name)
                return 0;
            r = make_one(s, ret, &got);
            if (r == 0 && got != number)
                s->spare[got] = *ret;
        }
    }
    return r;
}

int tree_sockets_make(struct tree_sockets *s, uint8_t number, int dst_fd, const char *name, bool *ret_fits,
                      struct err *err) {
    struct tree_socket_spare found = s->spare[number];
    char path[NAME_SIZE];
    struct stat st;
    int r = found.name ? 0 : find(s, number, &found);
    if (r < 0)
        return err_errno(err, -r, "cannot create a socket's name");
    path_of(s, found.dir, found.name, path);
    if (fstatat(s->dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        renameat2(s->dir, path, dst_fd, name, RENAME_NOREPLACE) < 0)
        return err_errno(err, errno, "cannot create a socket's name");
    uint8_t got = tree_socket_number(st.st_ino);
    s->spare[got] = (struct tree_socket_spare){0};
    *ret_fits = got == number;
    return 0;
}
