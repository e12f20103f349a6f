/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where QEMU and virtiofsd run.
 *
 * Theory of operation. The child starts in new mount, pid, ipc, uts and net namespaces, as init of its pid namespace,
 * so that killing it kills all it may have started. It puts a copy of the VMM root's mount, read-only, in the place of
 * the root (pivot_root) with a /proc that shows only its own processes and a /dev of three nodes, and throws the host's
 * mounts away. It then gives up everything it does not need and becomes the program. Nothing of this is seen outside:
 * all mounts are in the child's namespace and vanish with it.
 *
 * What a program taken over by the guest can reach is thus: the files of the VMM root (read-only, the same everywhere),
 * what the spec binds in, the fds it was given. No network, no host process, no other sandbox.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/proc.h"

#define JAIL_NOFILE_QEMU 4096 /* fds: a handful, and one for each memory slot and migration */

struct jail_spec {
    const char *root;      /* directory of the VMM root; has /proc, /dev, and /guest and /share where those are bound */
    const char *guest_dir; /* bound at /guest, read-only; NULL: not */
    /* Bound at /share with all that is mounted below, now and later; its top is read-only, the mounts below are as
     * their maker set them. NULL: not. */
    const char *share_dir;
    bool proc_sys;   /* /proc has more than the pid directories; read-only in any case */
    bool kvm;        /* /dev/kvm is there, for the jail's user only */
    uid_t uid;       /* user and group; 0: root, with caps and no more */
    uint64_t caps;   /* capabilities (bit n: capability n) for uid 0 */
    bool keep_caps;  /* they stay in effect while the program acts with another user's id */
    uint64_t nofile; /* limit of open files; UINT64_MAX: as high as this process may */
};

/* Fills in spec's clone_flags, new_session, env, setup and userdata and spawns. spec->path is looked up in the jail;
 * jail must live until the call returns. Errors name what could not be set up. */
int jail_spawn(const struct jail_spec *jail, const struct proc_spec *spec, struct proc *ret, struct err *err);
