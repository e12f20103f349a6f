/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's command line. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/err.h"
#include "base/util.h"

#define QEMU_PATH "/usr/bin/qemu-system-x86_64" /* inside the VMM root */

#define KERNEL_CMDLINE_MAX 2047 /* x86's COMMAND_LINE_SIZE less the NUL */

struct qemu_spec {
    const char *id;
    enum accel accel;
    uint64_t memory; /* bytes */
    uint32_t cpus;
    const char *guest_dir; /* as QEMU sees it: "/guest" */
    unsigned tsc_khz;      /* under TCG: the guest need not measure it; 0: it does */
    const char *kernel_params;
    bool agent_debug;
    bool incoming; /* waits for the state of another one, with the same spec, in place of booting */
    /* Numbers in QEMU: */
    int memory_fd;    /* the memfd */
    int qmp_fd;       /* a stream socket */
    int console_fd;   /* the writing end of a pipe */
    int agent_fd;     /* a stream socket */
    int virtiofsd_fd; /* a stream socket, connected to virtiofsd's listening one */
};

/* Fills argv. Text of the caller's goes through the option escape, so it can add no option. Errors: -EINVAL for a
 * kernel command line that is too long or has a control character, -ENOMEM. */
int qemu_argv(const struct qemu_spec *spec, struct strv *argv, struct err *err);

/* malloc'd value for QEMU's key=value options: commas are doubled, which is all their parser needs. NULL: no memory. */
char *qemu_escape(const char *value);
