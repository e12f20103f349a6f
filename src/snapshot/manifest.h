/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.json of a snapshot or template: what it was made of and with, and the digests of all else in its directory.
 * It is written last.
 *
 *   manifest.json
 *   device         QEMU's device state (with virtiofsd's)
 *   memory         memory_image.h
 *   base           if pages are shared: its base, a link to the memory of a template (imported: a copy)
 *   roots/<n>/     of container n (in the manifest's order): its root's copy, or of an overlay its upper directory's
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"
#include "snapshot/memory_image.h"
#include "snapshot/tree.h"

#define MANIFEST_VERSION 4
#define MANIFEST_FILE "manifest.json"
#define MANIFEST_DEVICE "device"
#define MANIFEST_MEMORY "memory"
#define MANIFEST_BASE "base"
#define MANIFEST_ROOTS "roots"
#define MANIFEST_MAX ((size_t)64 << 20) /* bytes of the file */
#define MANIFEST_CONTAINERS_MAX 256
#define MANIFEST_LOWERS_MAX 500
#define MANIFEST_PATH_MAX 4095 /* bytes of a lower directory's path */
#define MANIFEST_WORD_MAX 64   /* bytes of type, accel and stasis_version */
#define MANIFEST_TEXT_MAX 8192 /* bytes of cpu and kernel_params */
#define MANIFEST_CPUS_MAX 255
#define MANIFEST_DIGEST_SIZE 32

/* What must be the same for the saved state to run: each is compared, and a difference is named. Owned strings. */
struct manifest_machine {
    char *vmm;   /* name of the VMM root's directory: a digest of its packages */
    char *guest; /* name of the guest's directory: a digest of its packages, kernel and agent */
    char *type;  /* "q35" */
    char *accel; /* "kvm", "tcg" */
    char *cpu;   /* QEMU's CPU model; for "host" with a digest of the host's CPU and its flags behind a colon */
    char *kernel_params;
    bool agent_debug;
    uint64_t memory; /* bytes */
    uint32_t cpus;
};

/* The root of one container. */
struct manifest_root {
    struct strv
        lowers; /* lower directories of its overlay, on the host it was made on, topmost first; none: whole copy */
    struct tree_totals totals;
};

struct manifest_container {
    char *id;       /* as the host knew it */
    char *guest_id; /* as the guest does: also its directory in the share */
    json_t *spec;   /* config.json of the host */
    json_t *state;  /* what else the sandbox keeps of it; sandbox/snapshot.c knows it */
    struct manifest_root root;
};

struct manifest {
    bool is_template;
    char *name;
    char *sandbox_id;
    char *stasis_version;
    uint64_t created_wall_usec;
    uint64_t stopped_usec; /* how long the source stood still */
    struct manifest_machine machine;
    uint64_t device_size;
    uint8_t device_sha256[32];
    struct memory_image *memory;
    struct manifest_container *containers;
    size_t n_containers;
};

void manifest_clear(struct manifest *m); /* accepts a zeroed one */
#define cleanup_manifest CLEANUP(manifest_clear)

/* Writes DIRFD/manifest.json, which must not exist, with a digest of itself in it (key sha256: over the compact JSON
 * text with sorted keys and without that key); not synced. What manifest_read() would refuse is -EINVAL, too large
 * -EFBIG. */
int manifest_write(int dirfd, const struct manifest *m, struct err *err);

/* Reads and checks it: form, bounds, its own digest. -ENOENT when there is none, -EBADMSG with what is wrong. Every
 * text is untrusted all the same (an imported snapshot): ids are valid ids, paths absolute and normal, nothing more. */
int manifest_read(int dirfd, struct manifest *ret, struct err *err);

/* The same from text, and from JSON without asking for the digest (what fuzzing can reach). */
int manifest_parse(const char *text, size_t len, struct manifest *ret, struct err *err);
int manifest_from_json(const json_t *root, struct manifest *ret, struct err *err);

/* -EBADMSG "… was made with X, here is Y" for the first item that differs. */
int manifest_check_machine(const struct manifest_machine *made, const struct manifest_machine *here, struct err *err);

/* What manifest_write() writes but the digest; for `inspect --json`. NULL: no memory. */
json_t *manifest_json(const struct manifest *m);

/* Size and SHA-256 of a file from its beginning: of the device state. Errors: of read. */
int manifest_digest_file(int fd, uint64_t *ret_size, uint8_t ret_sha256[MANIFEST_DIGEST_SIZE], struct err *err);

/* Opens MANIFEST_DEVICE, MANIFEST_MEMORY or MANIFEST_BASE for reading. -EBADMSG "NAME: …" if it is not there, or no
 * regular file. */
int manifest_open_file(int dirfd, const char *name, struct err *err);

/* Checks the digests of device state, memory and every root: what differs is named (-EBADMSG). `processes` as in
 * memory_image.h. */
int manifest_verify(int dirfd, const struct manifest *m, unsigned processes, struct err *err);
