/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest sees of the host: DIR/share, and below it one directory for each container.
 *
 * Theory of operation. The share is a tiny tmpfs, mounted in this daemon's own mount namespace with shared propagation;
 * virtiofsd's jail has a slave copy whose top is read-only. What the host mounts below it later shows up in the guest.
 * A container may write only to what is mounted read-write for it: its root and its volumes. All of it vanishes with
 * the namespace when the daemon dies, however it dies. The guest can write to nothing that the host walks through when
 * it mounts or unmounts (the tmpfs is read-only to it), so a path below the share cannot be swapped under the daemon.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/util.h"
#include "oci/spec.h"

struct share {
    char *dir;            /* DIR/share */
    int fd;               /* of it, O_PATH */
    unsigned checkpoints; /* so far */
    struct strv removed;  /* paths below it that the guest may still know; for whoever tells it to clear */
};

/* Mounts the share at DIR/share. This process must be in a mount namespace of its own. */
int share_open(const char *dir, struct share *ret, struct err *err);
void share_close(struct share *s); /* unmounts all; accepts a zeroed one */

/* Mounts the container's root at <id>/rootfs and its volumes at <id>/mounts/<n>. On failure nothing is left. */
int share_add_container(struct share *s, const char *id, const struct oci_guest_spec *spec, struct err *err);

/* Unmounts and removes what share_add_container made. It is no error if there is nothing. Adds to share.removed. */
int share_remove_container(struct share *s, const char *id, struct err *err);

/* What a container has in the share while a checkpoint or restore of it runs: below <id>/checkpoint, one mount each. */
struct share_checkpoint {
    const char *images; /* directory of the host */
    bool images_read_only;
    const char *work;           /* directory of the host; read-write */
    const struct strv *parents; /* directories of the dumps before, read-only, under their own names; NULL: none */
};

/* Names of the mounts for images and work. No directory of a user's may have them (image_dir.h), and they are new each
 * time: the guest remembers names for a moment. */
struct share_checkpoint_names {
    char images[32], work[32];
};

/* Mounts them. On failure nothing is left. */
int share_add_checkpoint(struct share *s, const char *id, const struct share_checkpoint *what,
                         struct share_checkpoint_names *ret, struct err *err);

/* Takes all of them away. It is no error if there is nothing. Adds to share.removed. <id>/checkpoint itself stays,
 * empty: the guest would still look for the next ones in the one that is gone. */
int share_remove_checkpoint(struct share *s, const char *id, struct err *err);
