/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of a sandbox: its containers in the manifest, and a sandbox made of a snapshot (capture.h takes one).
 *
 * A container's entry has its spec, the copy of its root (or of its overlay's upper directory), and in `state`:
 *   {"status": "running", "created": µs, "pod_sandbox": false, "root": PATH, "terminal": false,
 *    "mounts": [{"index": N, "source": PATH, "read_only": false, "recursive": false, "top_only": false}],
 *    "processes": [{"exec_id": "", "pid": N, "state": "running", "stdin": true, "stdout": true, "stderr": true,
 *                   "width": 0, "height": 0, "exit": {"status": N, "time": µs}}]}
 * A mount's source is a path of the host that the snapshot was made on. Restored, a root is an overlay with the copy as
 * a lower directory, so a snapshot is never written to and any number of copies stand on it.
 */
#pragma once

#include "sandbox/container.h"
#include "sandbox/sandbox.h"
#include "snapshot/manifest.h"

/* Fills ret (cleared by manifest_clear()) and names the directory that is to be copied (malloc'd). -EBUSY for one in a
 * state that cannot be saved. */
int snapshot_describe_container(const struct container *c, struct manifest_container *ret, char **ret_root,
                                struct err *err);

struct snapshot_container {
    const char *id;      /* from now on */
    const char *bundle;  /* absolute */
    pid_t host_pid;      /* its monitor; 0: this daemon makes one */
    char *const *mounts; /* the sources of its mounts here, in the order of state.mounts; absolute */
    size_t n_mounts;
};

struct snapshot_restore_spec {
    const char *store, *name;
    bool new_identity;                           /* the copy gets an identity of its own */
    bool force;                                  /* although files that are in use are gone, or were replaced */
    const struct snapshot_container *containers; /* in the manifest's order */
    size_t n_containers;
};

/* Makes a NEW sandbox of a snapshot; done is called when its containers run on. On failure (either way) the sandbox is
 * of no use. Errors: -ENOENT, -EBADMSG (what is damaged or does not fit here), -EINVAL, -EBUSY (files). */
int snapshot_restore(struct sandbox *sb, const struct snapshot_restore_spec *spec, sandbox_done_fn done, void *userdata,
                     struct err *err);
