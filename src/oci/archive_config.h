/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.dump and spec.dump: what an archive says of the container it was made from. For showing and for choosing an
 * image; the configuration of a restored container never comes from here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"
#include "base/util.h"

#define ARCHIVE_CONFIG_MAX ((size_t)1 << 20) /* bytes of config.dump; Podman's holds its whole configuration */
#define ARCHIVE_TEXT_MAX 1024                /* bytes of one string in it */

struct archive_config {
    char *id, *name;        /* owned, as all strings here; NULL: not there */
    char *rootfs_image;     /* the reference as the user gave it */
    char *rootfs_image_ref; /* with a digest */
    char *rootfs_image_name;
    char *rootfs_image_id; /* written only: what Podman looks for in its storage, where a name does as well */
    char *runtime;
    uint64_t created_wall_usec, checkpointed_wall_usec, restored_wall_usec; /* 0: not there, or no time */
    bool restored;
    bool own_shm; /* written only: /dev/shm is the container's own, so that Podman makes none for it */
};

/* Errors: -EINVAL with the key, -EFBIG. Unknown keys are skipped. Strings with control characters are refused. */
int archive_config_parse(const char *text, size_t len, struct archive_config *ret, struct err *err);

/* The JSON text; malloc'd, NULL when out of memory. */
char *archive_config_text(const struct archive_config *c);

void archive_config_clear(struct archive_config *c);
#define cleanup_archive_config CLEANUP(archive_config_clear)

/* Fills from a container's specification what is not set: name and image, from the annotations that CRI-O and
 * containerd's CRI have for them; own_shm. Errors: -EINVAL for what archive_config_parse() would refuse. */
int archive_config_from_spec(const json_t *spec, struct archive_config *c, struct err *err);

/*
 * Adds to a specification's text the annotations that readers of a spec.dump need, where it has them not; all else
 * stays as it is written, so that no number changes. *ret is malloc'd. io.container.manager             who made it:
 * "stasis" io.kubernetes.cri-o.Annotations  CRI-O restores nothing without it: "{}" io.kubernetes.cri.container-name
 * the name that checkpointctl shows; not when Podman or CRI-O has made it
 */
int archive_spec_annotate(const char *text, const char *name, char **ret, struct err *err);

/* The engine that made the checkpoint, from the text of its spec.dump: "podman", "cri-o", "stasis", or "containerd" for
 * all that do not name themselves. Static. Errors: -EINVAL, -EFBIG. */
int archive_engine(const char *spec, size_t len, const char **ret, struct err *err);

/* "2026-01-02T03:04:05.123456789+02:00", as Go writes times; before 1970 (Go's zero time is): 0. -EINVAL if it is none.
 */
int archive_time_parse(const char *text, uint64_t *ret_wall_usec);
