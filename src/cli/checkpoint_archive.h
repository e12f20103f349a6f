/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints as archives: from a dump to the file (--export); the other way is checkpoint_import.h. The work is done
 * in a directory of its own that is removed at the end, however it comes.
 */
#pragma once

#include "base/err.h"
#include "base/util.h"
#include "oci/state.h"

struct checkpoint_archive;

/* Checks the name (archive_compression_of; -EEXIST when something that is no file has it) and makes a directory beside
 * it for the images. */
int checkpoint_archive_begin(const char *path, struct checkpoint_archive **ret, struct err *err);

const char *checkpoint_archive_images(const struct checkpoint_archive *a); /* does not exist yet */

/* Before the dump, of a container that stands still: refuses what checkpoint_archive_finish() would refuse whatever is
 * dumped (its specification, and what it changed in its root). */
int checkpoint_archive_check(const struct checkpoint_archive *a, const struct oci_container_state *c, const char *image,
                             struct err *err);

/* Writes the archive of what was dumped there: images, config.dump, spec.dump, what the container changed in an overlay
 * root, logs from `work`. image: the name of the root's image, NULL for what the specification says. It has its name
 * only when it is whole and on the disk. */
int checkpoint_archive_finish(struct checkpoint_archive *a, const struct oci_container_state *c, const char *image,
                              const char *work, struct err *err);

struct checkpoint_archive *checkpoint_archive_free(struct checkpoint_archive *a); /* accepts NULL; returns NULL */
