/* SPDX-License-Identifier: Apache-2.0 */
/* What a VM is made of and with, so that a saved one is only ever loaded into its like. */
#pragma once

#include "base/config.h"
#include "base/err.h"
#include "base/path.h"
#include "base/util.h"
#include "snapshot/manifest.h"
#include "vm/vm.h"

struct machine {
    char *vmm_root, *guest_dir; /* absolute, links resolved; owned */
    enum accel accel;
    struct manifest_machine made; /* owned */
};

void machine_clear(struct machine *m); /* accepts a zeroed one */
#define cleanup_machine CLEANUP(machine_clear)

/* What the configuration asks for on this host. Errors: -ENOENT (no VMM root, no guest), -ENODEV (accelerator). */
int machine_here(const struct config *config, struct machine *ret, struct err *err);

/* This host's with the sizes, parameters, VMM root and guest of a saved machine, if they are installed. -EBADMSG when
 * it could not run here, with the item that differs. */
int machine_like(const struct config *config, const struct manifest_machine *saved, struct machine *ret,
                 struct err *err);

/* Whether the snapshot in directory fd `dir` is of a machine that could run here; errors as of machine_like(), and of
 * manifest_read(). */
int machine_check_snapshot(const struct config *config, int dir, struct err *err);

/* For vm_start(); borrowed from m. */
void machine_vm_spec(const struct machine *m, struct vm_spec *ret);

/* The name of the template for such a machine: readable, and with a digest of everything that shapes the guest. */
void machine_template_name(const struct machine *m, char ret[ID_MAX + 1]);
