/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a checkpoint's archive (not trusted) to what a restore needs: --import.
 *
 * Theory of operation. First all of the archive is read and checked, in a directory of mode 0700 below $TMPDIR or
 * /var/tmp, and nothing else is touched. The root of the bundle is changed only when the container is created, so that
 * whatever can be refused has been: the changes are noted (oci/rootfs_undo.h), and taken back when the container does
 * not start. A restore that is killed meanwhile is taken back by the next one of the bundle.
 */
#pragma once

#include "base/err.h"
#include "base/util.h"
#include "cli/cli.h"

struct checkpoint_import;

/* Unpacks the archive at path and checks it and the root: -EBUSY when a running container of cli's root directory, or
 * another restore, has that root; -EPERM when the archive has setuid files and other users reach the root. bundle and
 * rootfs are absolute. */
int checkpoint_import_open(const struct cli *cli, const char *path, const char *bundle, const char *rootfs,
                           struct checkpoint_import **ret, struct err *err);
const char *checkpoint_import_images(const struct checkpoint_import *i);

/* Applies what the container had changed in its root file system. */
int checkpoint_import_apply(struct checkpoint_import *i, struct err *err);

/* After checkpoint_import_apply(), whether that failed or not: the changes stay, or are taken back. */
void checkpoint_import_keep(struct checkpoint_import *i);
int checkpoint_import_undo(struct checkpoint_import *i, struct err *err);

/* Accepts NULL; returns NULL. */
struct checkpoint_import *checkpoint_import_free(struct checkpoint_import *i);
DEFINE_CLEANUP(struct checkpoint_import *, checkpoint_import_free);
#define cleanup_checkpoint_import CLEANUP(checkpoint_import_freep)
