/* SPDX-License-Identifier: Apache-2.0 */
/* What the two walks over a tree share: listing, opening, attributes, hard links. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "snapshot/tree.h"

#define TREE_XATTR_MAX 65536 /* bytes of a list of names and of a value: the kernel's bounds */
#define TREE_PATH_MAX ((size_t)(TREE_DEPTH_MAX + 2) * 256)

/* Names of a directory, sorted; one allocation each for the bytes and the pointers. */
struct tree_names {
    char *bytes;
    size_t used, room;
    size_t *at; /* offsets into bytes */
    size_t n, n_room;
};

struct tree_link {
    uint64_t dev, ino;
    uint64_t number; /* 0: a free slot */
};

struct tree_walk {
    char *path; /* of the current entry, for messages; TREE_PATH_MAX */
    size_t path_len;
    char *list, *value; /* of extended attributes, TREE_XATTR_MAX each */
    uint64_t entries;
    size_t names_bytes; /* held now */
    unsigned depth;
    struct tree_link *links; /* a hash table of links_room (a power of two) slots */
    size_t links_n, links_room;
};

int tree_walk_init(struct tree_walk *w, struct err *err);
void tree_walk_clear(struct tree_walk *w);

/* Error with the current path: "cannot WHAT ./a/b: …". */
int tree_fail(const struct tree_walk *w, int code, const char *what, struct err *err);

/* Adds a name to the path and takes it off again. Returns the length to give to tree_leave(). */
size_t tree_enter(struct tree_walk *w, const char *name);
void tree_leave(struct tree_walk *w, size_t path_len);

/* Reads all names of a directory and sorts them; counts depth, names and entries against the bounds. */
int tree_list(struct tree_walk *w, int fd, struct tree_names *ret, struct err *err);
void tree_unlist(struct tree_walk *w, struct tree_names *names);
const char *tree_name(const struct tree_names *names, size_t i);

/* Opens an entry as it is (O_PATH) and looks at it. Returns the fd. */
int tree_open(struct tree_walk *w, int dirfd, const char *name, struct stat *ret_st, struct err *err);

/* Opens a file or directory that tree_open() has opened, to be read. */
int tree_reopen(struct tree_walk *w, int fd, int flags, struct err *err);

/* Calls fn for every attribute of what fd is, in byte order of the names; any kind of fd. */
typedef int (*tree_xattr_fn)(struct tree_walk *w, const char *name, const void *value, size_t len, void *userdata,
                             struct err *err);
int tree_xattrs(struct tree_walk *w, int fd, tree_xattr_fn fn, void *userdata, struct err *err);

/* Path of an fd for calls that take no O_PATH fd. */
struct tree_fd_path {
    char text[40];
};
struct tree_fd_path tree_fd_path(int fd);

/* The number of an inode with several names: `number` (not 0) when it is seen for the first time (*ret_new), else the
 * one that was given then. */
int tree_link_number(struct tree_walk *w, const struct stat *st, uint64_t number, uint64_t *ret, bool *ret_new,
                     struct err *err);
