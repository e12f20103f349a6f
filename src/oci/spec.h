/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OCI runtime specification's config.json (opencontainers/runtime-spec, config.md and config-linux.md): read,
 * check, and rewrite for the guest.
 *
 * Theory of operation. The user's spec speaks of the host. The guest gets a spec of its own, built from it: the root is
 * the container's directory in the share, every bind mount becomes a bind from the share/<ctr>/mounts/<n> that the host
 * prepares, the cgroup path is the container's in the guest's cgroup v2 tree, and what makes no sense in a guest is
 * refused (error with its JSON path) or dropped with a note that the caller logs. Nothing is passed on that this file
 * does not know: an unknown namespace, mount option or device is refused, unknown keys are left out.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/util.h"

#define OCI_VERSION "1.1.0"
#define OCI_MOUNTS_MAX 1024
#define OCI_ARGS_MAX 65536       /* elements of process.args and of process.env */
#define OCI_HOOKS_MAX 64         /* per kind */
#define OCI_GUEST_SHARE "/share" /* where the guest has the share mounted */

/* Reads BUNDLE/config.json and checks its form. Errors name file, line or JSON path: -ENOENT, -EINVAL, -EFBIG. */
int oci_spec_load(const char *bundle, json_t **ret, struct err *err);

/* Checks what every use needs: ociVersion 1.x, process.args, root.path, types of all fields this file reads. */
int oci_spec_validate(const json_t *spec, struct err *err);

/* Checks an OCI process object (of the spec or of exec); `path` is where it stands, for messages ("process"). */
int oci_process_validate(const json_t *process, const char *path, struct err *err);

/* One mount the host must make at share/<ctr>/mounts/<index> before the guest may create the container. */
struct oci_share_mount {
    char *source;   /* absolute host path with links resolved; relative ones of the spec are taken from the bundle */
    bool read_only; /* the host makes its own mount read-only, whatever the guest does */
    bool recursive; /* rbind */
    bool top_only;  /* with both: what is mounted below the source stays as it is ("ro", not "rro") */
    unsigned index;
    unsigned spec_index; /* in the user's mounts[], for messages */
};

struct oci_guest_spec {
    json_t *spec; /* for the guest; owned */
    char *rootfs; /* absolute host path of the root; owned */
    bool root_read_only;
    bool terminal;
    struct oci_share_mount *mounts; /* owned */
    size_t n_mounts;
    struct strv notes; /* what was dropped, one sentence each: "linux.seccompX: …, ignored" */
};

void oci_guest_spec_clear(struct oci_guest_spec *g); /* accepts a zeroed one */
#define cleanup_guest_spec CLEANUP(oci_guest_spec_clear)

/*
 * Rewrites `spec` (validated, not changed) of container `id` in `bundle` (absolute).
 *
 * Errors (-EINVAL with the JSON path, -EOPNOTSUPP for what a VM cannot honour): no network namespace in the list (the
 * host's network cannot be shared), a namespace with a path other than network, host devices, createContainer hooks,
 * user ids above 2^31, source of a bind missing (-ENOENT).
 */
int oci_spec_for_guest(const json_t *spec, const char *id, const char *bundle, struct oci_guest_spec *ret,
                       struct err *err);

/* The pod that a container joins: its sandbox container, whose namespaces the agent keeps at OCI_GUEST_NAMESPACES. */
#define OCI_GUEST_NAMESPACES "/run/stasis/ns" /* in the guest: …/<sandbox container>/{ipc,net,pid,uts} */
struct oci_pod_host {
    const char *sandbox_id;
    pid_t pid; /* on the host, that containerd was told for the sandbox container */
};

/* The same for a member of a pod (NULL: of none). A network namespace with a path is the pod's; a pid, ipc or uts
 * namespace with the path /proc/<pod->pid>/ns/… is that of the sandbox container. Any other path is refused. */
int oci_spec_for_pod(const json_t *spec, const char *id, const char *bundle, const struct oci_pod_host *pod,
                     struct oci_guest_spec *ret, struct err *err);

/*
 * Lets the container have, of its own, a network namespace that the agent makes at OCI_GUEST_NAMESPACES/<id>/net, where
 * g->spec says that it is to get a new one: CRIU then takes it for external, and neither looks into it at a checkpoint
 * nor fills it at a restore, which is slow. So that nothing is lost, only where the container cannot change its network
 * (CAP_NET_ADMIN, CAP_SYS_ADMIN, a user namespace of its own, a /proc/sys that it can write), or at a restore
 * (`always`), where the images tell which of the two they are of. Returns 1 if the agent has to make it, 0 if not.
 */
int oci_guest_make_network(struct oci_guest_spec *g, const char *id, bool always, struct err *err);

/* consoleSize of a process object, in characters; 0 and 0 where it says nothing. */
int oci_console_size(const json_t *process, uint32_t *ret_width, uint32_t *ret_height, struct err *err);

/* linux.resources.pids.limit of g->spec, if that has none: neither a number nor -1 or 0, which are "unlimited".
 * limit 0: it stays without. */
int oci_guest_limit_pids(struct oci_guest_spec *g, uint32_t limit, struct err *err);

/* The process object of exec rewritten for the guest: AppArmor and SELinux labels dropped with a note. `base` is the
 * container's process (may be NULL): fields that are absent in `process` (user, cwd, capabilities, env's PATH, …) are
 * not filled in; the caller decides. ret is owned by the caller. */
int oci_process_for_guest(const json_t *process, json_t **ret, struct strv *notes, struct err *err);

/* The resources object (linux.resources, or that of an update) rewritten for the guest: limits that cgroup v2 does not
 * have or that name CPUs and devices of the host are dropped with a note. ret is owned by the caller. */
int oci_resources_for_guest(const json_t *resources, json_t **ret, struct strv *notes, struct err *err);

/* A new spec as `runc spec` writes it (args ["sh"], terminal true). ret is owned by the caller; NULL when out of
 * memory. */
json_t *oci_spec_default(void);

/* The features document (runtime-spec features.md) of this runtime. Owned by the caller. */
json_t *oci_features(void);
