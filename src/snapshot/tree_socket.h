/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies of names of unix sockets.
 *
 * Theory of operation. A kernel that has a bound socket in memory finds it by the inode of its name, and only among
 * those whose inode number had the same low byte when they were bound (unix_find_socket_byinode() and UNIX_HASH_MOD in
 * the kernel's net/unix/af_unix.c). A copied name has another number, and who connects to it in a copied VM would be
 * refused. So names are made until a number fits; those that do not are kept for later ones, and go with the directory
 * they are in. File systems give numbers out in sequence, from what is free near the directory: where many copies are,
 * that is anything but the byte that each of them took. ext4 is asked for a place far from them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"

#define TREE_SOCKET_NUMBERS 256     /* UNIX_HASH_SIZE of the kernel */
#define TREE_SOCKETS_MAX (1U << 16) /* names that are made for all sockets of a tree; then any number will do */

struct tree_sockets {
    int dir; /* where names are made first; not owned */
    uint64_t random;
    unsigned dirs, names; /* made so far */
    struct tree_socket_spare {
        unsigned dir, name; /* counted from 1; 0: there is none */
    } spare[TREE_SOCKET_NUMBERS];
};

/* `dir`: a directory open for reading, empty, on the file system of the copy; the caller removes it when all is made.
 */
int tree_sockets_begin(struct tree_sockets *s, int dir, struct err *err);

/* Which sockets a kernel looks through for one with this inode number. */
static inline uint8_t tree_socket_number(uint64_t ino) {
    return (uint8_t)(ino % TREE_SOCKET_NUMBERS);
}

/* Makes a socket's name, mode 0600, in directory dst_fd. *ret_fits is false when it has another number. -EEXIST,
 * -ENOSPC and the like; the error does not name the entry. */
int tree_sockets_make(struct tree_sockets *s, uint8_t number, int dst_fd, const char *name, bool *ret_fits,
                      struct err *err);
