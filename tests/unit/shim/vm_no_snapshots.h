/* SPDX-License-Identifier: Apache-2.0 */
/* For a stand-in of the VM: snapshots are for the integration tests, nothing here has a memory that could be saved. */
#pragma once

#include "vm/vm.h"

int vm_memory_fd(const struct vm *vm) {
    (void)vm;
    return -1;
}

static int no_snapshots(struct err *err) {
    return err_set(err, EOPNOTSUPP, "the VM is a stand-in");
}

int vm_save(struct vm *vm, int state_fd, vm_done_fn done, void *userdata, struct err *err) {
    (void)vm, (void)state_fd, (void)done, (void)userdata;
    return no_snapshots(err);
}

int vm_load(struct vm *vm, int state_fd, vm_done_fn done, void *userdata, struct err *err) {
    (void)vm, (void)state_fd, (void)done, (void)userdata;
    return no_snapshots(err);
}

int vm_continue(struct vm *vm, vm_done_fn done, void *userdata, struct err *err) {
    (void)vm, (void)done, (void)userdata;
    return no_snapshots(err);
}
