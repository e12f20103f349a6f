/* SPDX-License-Identifier: Apache-2.0 */
/* What writing and reading of a manifest share. */
#pragma once

#include "base/path.h"
#include "snapshot/manifest.h"

/* The canonical form that the digest is of. */
#define MANIFEST_JSON_FLAGS (JSON_COMPACT | JSON_SORT_KEYS)

/* The strings of a struct manifest_machine, in the order in which differences are looked for. */
#define MANIFEST_MACHINE_TEXTS 6
struct manifest_text {
    const char *key, *what;
    size_t offset;
    size_t max; /* bytes */
    bool is_id;
};
extern const struct manifest_text manifest_machine_texts[MANIFEST_MACHINE_TEXTS];
char **manifest_machine_text(const struct manifest_machine *m, size_t i);

/* SHA-256 of the canonical form; -ENOMEM. */
int manifest_digest_json(const json_t *v, uint8_t ret[MANIFEST_DIGEST_SIZE]);
