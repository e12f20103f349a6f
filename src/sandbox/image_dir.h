/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's directories of one checkpoint: where CRIU in the guest writes, and how what it wrote becomes a checkpoint.
 *
 * Theory of operation. The guest gets two fresh directories, images/ and work/, in a hidden one beside the final place
 * (and so on its file system). When it is done and the mounts are gone, the files are taken out of its reach one by
 * one, into a directory it never saw: only regular files with plain names and one link, with owner and mode set;
 * anything else is refused. They are synced, the directory is renamed to its final name, and that is synced too. So the
 * final name shows a whole checkpoint or nothing, whatever the guest does meanwhile with what it still has open.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"

#define IMAGE_FILES_MAX 65536
#define IMAGE_NAME_MAX 200 /* bytes */
#define IMAGE_PARENTS_MAX 64
#define IMAGE_INVENTORY "inventory.img"
#define IMAGE_PARENT "parent" /* CRIU's link from a dump to the one before */

struct image_dir {
    char *final;       /* where the checkpoint is to appear; absolute */
    char *tmp;         /* beside it: images/, work/ */
    char *images;      /* TMP/images */
    char *work;        /* TMP/work */
    char *parent;      /* of an iterative dump: the directory of the one before, absolute; NULL: none */
    char *parent_name; /* its last component */
    bool created;      /* TMP is ours */
};

/* Names them, and makes nothing: who cleans up after a killed process has to know the names first. parent_path:
 * "../NAME", the dump before, a sibling of `final`, or "" (as runc's --parent-path, which is relative to the image
 * directory). final may exist if it is empty or has a checkpoint, which is replaced at the end. Errors: -EEXIST (it has
 * something else), -EINVAL (parent_path), -ENOENT (no such parent). */
int image_dir_plan(const char *final, const char *parent_path, struct image_dir *ret, struct err *err);

/* Makes them, and what is missing of the path to them. mkdir's errors; what is there then goes with image_dir_clear().
 */
int image_dir_create(struct image_dir *d, struct err *err);

/* Both. */
int image_dir_make(const char *final, const char *parent_path, struct image_dir *ret, struct err *err);

/* Removes what is left of them and frees. Accepts a zeroed one. */
void image_dir_clear(struct image_dir *d);
/* So that clearing it removes nothing. */
void image_dir_abandon(struct image_dir *d);

/* The directories that `parent` links lead to from the checkpoint in `dir`, nearest first; each must be "../NAME", a
 * checkpoint. -EINVAL, -ELOOP (more than IMAGE_PARENTS_MAX). */
int image_dir_parents(const char *dir, struct strv *ret, struct err *err);

/* The same, beginning with `dir` itself. */
int image_dir_chain(const char *dir, struct strv *ret, struct err *err);

struct image_totals {
    uint64_t bytes, files;
    /* For who kills the process that commits: whether it may have got its final name, and whether it has it for good.
     */
    bool named, committed;
    bool cancelled; /* set by that one: no name is given any more */
};

/* Takes the images out of the guest's reach, checks and syncs them and puts them into place. Slow: for a worker. */
int image_dir_commit(const struct image_dir *d, struct image_totals *ret, struct err *err);

/* Copies the logs and statistics of work/ to the directory `to` (made if missing); files of the same name there are
 * replaced, anything but regular files is left behind. log_level: [checkpoint] criu_log_level; crun has CRIU write all
 * there is, so that dump.log and restore.log are cut down here: to errors (0 and 1), or errors and warnings (2). 3 and
 * 4 are all, for CRIU does not mark what is only for debugging. */
int image_dir_collect_work(const struct image_dir *d, const char *to, uint32_t log_level, struct err *err);

/* A directory to restore from has an inventory, nothing but regular files (and the link to a parent), and all the
 * memory that it speaks of (oci/criu_pages.h); -ENOENT, -EINVAL with the name of what does not belong there or is cut.
 */
int image_dir_check(const char *dir, struct err *err);
