/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a sandbox as JSON: the answer of its daemon to Describe, and the file state.json, for those that cannot
 * ask because the daemon has died or hangs. The file is written (atomically) at every transition, and must be before
 * anything is made that a daemon that dies leaves outside of the directory; a state that could not be written is
 * written later, so its statuses may be old. Both hold the fields of the OCI state (runtime.md) and our own.
 *
 * A sandbox directory is ROOT/<sandbox id>/ with state.json, api.sock, log. For containers made by the CLI the sandbox
 * id and the container id are the same.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/util.h"

#define STATE_CONTAINERS_MAX 256

struct oci_container_state {
    char *id, *bundle, *rootfs; /* owned */
    const char *status;         /* static: creating, created, running, paused, stopped */
    pid_t pid;                  /* of its monitor on the host; 0 when stopped */
    uint64_t created_wall_usec;
    uint32_t exit_status; /* valid when stopped */
    uid_t owner;
    json_t *annotations; /* may be NULL; owned */
    /* What is outside the sandbox's directory while the daemon lives. Owned; NULL: nothing. */
    char *cgroups_path; /* linux.cgroupsPath */
    char *scratch;      /* of a checkpoint under way: a hidden directory beside the final one */
};

struct oci_sandbox_state {
    char *id; /* owned */
    pid_t daemon_pid;
    uint64_t daemon_start; /* proc_start_time(): together with the pid it names the process for good */
    pid_t qemu_pid, virtiofsd_pid;
    struct oci_container_state *containers; /* owned */
    size_t n_containers;
};

void oci_container_state_clear(struct oci_container_state *c);
void oci_sandbox_state_clear(struct oci_sandbox_state *s);
#define cleanup_sandbox_state CLEANUP(oci_sandbox_state_clear)

/* As text: malloc'd. NULL with err set: -EINVAL, -EFBIG, -ENOMEM. */
char *oci_sandbox_state_text(const struct oci_sandbox_state *s, struct err *err);

/* Writes DIR/state.json. */
int oci_sandbox_state_save(const char *dir, const struct oci_sandbox_state *s, struct err *err);

/* Reads it. -ENOENT when there is none; -EINVAL when it is damaged. If the daemon is no longer alive, every container's
 * status is "stopped", pid 0 and exit status 137 unless it was stopped before. */
int oci_sandbox_state_load(const char *dir, struct oci_sandbox_state *ret, struct err *err);

/* Reads the text of a daemon's answer; `what` names it in messages. -EINVAL when it is damaged. */
int oci_sandbox_state_parse(const char *what, const char *text, size_t len, struct oci_sandbox_state *ret,
                            struct err *err);

bool oci_sandbox_daemon_alive(const struct oci_sandbox_state *s);

/* The OCI state document (as `runc state` prints it) of one container: ociVersion, id, pid, status, bundle, rootfs,
 * created, owner, annotations. Owned by the caller. */
json_t *oci_container_state_json(const struct oci_container_state *c);

/* The name of a uid, or its number. */
const char *oci_owner_name(uid_t uid, char buf[64]);
