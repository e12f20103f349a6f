/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot id of a copied guest.
 *
 * Theory of operation. The kernel draws its boot id when it is first read, and nothing sets it again. A guest that was
 * copied after that lays a file with a new one over /proc/sys/kernel/random/boot_id: in its own mount namespace and in
 * those of all containers, those made later too (a container mounts a proc of its own, in which the kernel's shows). It
 * is one file, in the guest's memory, so a copy of a copy only writes it anew. CRIU refuses a mount that was not made
 * by the container's specification, so the file is taken away for a checkpoint and laid again afterwards; whoever reads
 * the boot id in the moment in between sees the original's.
 *
 * A template's guest has never read its boot id, so each of its clones draws its own and nothing is laid over it. That
 * takes care: libsystemd's event loop reads it (to spread timers over machines), so it is shown another one.
 */
#pragma once

#include <sys/types.h>

#include "agent/agent.h"
#include "base/err.h"

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_FILE AGENT_RUN_DIR "/boot_id"
#define BOOT_ID_NAMESPACES_MAX 1024 /* mount namespaces of one container that are looked at */

/* Before the first event loop: lets libsystemd read, once and for all, an id that is not the kernel's. */
int boot_id_keep_unread(struct err *err);

/* Draws a new one, and lays it over the kernel's in the guest itself and in all containers. Is in their mount
 * namespaces meanwhile, for which the caller may share its root with nobody (unshare(CLONE_FS)); after an error perhaps
 * for good. */
int boot_id_renew(const struct agent *a, struct err *err);

/* If the guest has a boot id of its own: lays it in, or takes it from, all mount namespaces of one container, in a
 * child process that is waited for. A failure to lay is logged; after one to take CRIU will say what it thinks of it.
 */
void boot_id_lay(const struct container *c);
void boot_id_take(const struct container *c);
