/* SPDX-License-Identifier: Apache-2.0 */
/* virtiofsd's command line, capabilities and socket. */
#pragma once

#include <linux/capability.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"

#define VIRTIOFSD_PATH "/usr/libexec/virtiofsd" /* inside the VMM root */

/* The capabilities it is started with: what it serves files with, and what it takes to enter its own sandbox (the last
 * two), which it gives up there. No CAP_MKNOD: the guest cannot make a device node that the host would honour.
 *
 * They stay in effect while it makes a file with the id of a guest's user (jail_spec.keep_caps), so that the guest's
 * kernel alone judges who may: it knows the user's groups and capabilities. virtiofsd knows of one supplementary group
 * for each request, and of none after a load, because its saved state lacks part of what FUSE_INIT negotiated. */
#define VIRTIOFSD_CAPS                                                                                                 \
    (UINT64_C(1) << CAP_CHOWN | UINT64_C(1) << CAP_DAC_OVERRIDE | UINT64_C(1) << CAP_FOWNER |                          \
     UINT64_C(1) << CAP_FSETID | UINT64_C(1) << CAP_SETGID | UINT64_C(1) << CAP_SETUID | UINT64_C(1) << CAP_SETFCAP |  \
     UINT64_C(1) << CAP_SETPCAP | UINT64_C(1) << CAP_SYS_ADMIN)

/* Fills argv. listen_fd is the listening unix socket's number in virtiofsd, share_dir the directory as it sees it. */
int virtiofsd_argv(int listen_fd, const char *share_dir, struct strv *argv, struct err *err);

/* Makes the vhost-user connection: a listening socket for virtiofsd, and a socket that is connected to it for QEMU. The
 * address exists on a file system that is mounted nowhere, so no one else can connect, and nothing is left to remove.
 */
int virtiofsd_socket(int *ret_listen, int *ret_connected, struct err *err);
