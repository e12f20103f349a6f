/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual machine: QEMU, its virtiofsd, the guest's memory (a memfd of this process), the QMP connection, the
 * serial console and the agent's channel.
 *
 * Theory of operation. vm_start() makes the memfd, the socket pairs and the two jails and spawns virtiofsd and QEMU
 * side by side; neither gets a path of the host's, only fds and what is mounted in its jail. Both die with this process
 * (PR_SET_PDEATHSIG in the jail's init). When either ends, or QMP reports a panic or shutdown, the other is killed and
 * died() is called once, with the cause and the last lines of the console. Everything is driven by the event loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/config.h"
#include "base/err.h"

struct vm;

struct vm_spec {
    const char *id;        /* sandbox id, only for messages and QEMU's -name */
    const char *vmm_root;  /* directory of the VMM root (…/vmm/<hash>/root) */
    const char *guest_dir; /* vmlinux, initramfs, root.img */
    const char *share_dir; /* mounted in this process's mount namespace with shared propagation; the guest sees its top
                              read-only */
    const char *kernel_params; /* appended to the command line; "" */
    uint64_t memory;           /* bytes, multiple of 2 MiB */
    uint32_t cpus;
    enum accel accel; /* ACCEL_KVM or ACCEL_TCG (accel_resolve), not AUTO */
    bool agent_debug; /* agent.log=debug */
    bool incoming;    /* waits for vm_load() in place of booting */
    uint64_t log_max; /* bytes that the error output of QEMU, and that of virtiofsd, may take of the log */
};

struct vm_ops {
    /* The VM is gone, by itself or by a failure; vm_free() is still to be called (not from within). The code is
     * ECANCELED when somebody killed QEMU or virtiofsd. */
    void (*died)(void *userdata, const struct err *err);
    /* A line of the guest's console, without newline, printable, at most 1024 bytes. May be NULL. */
    void (*console_line)(void *userdata, const char *line);
};

/* Starts the machine. On success the guest is booting; *ret_agent_fd is the host's end of the agent's channel
 * (caller's). */
int vm_start(sd_event *event, const struct vm_spec *spec, const struct vm_ops *ops, void *userdata, struct vm **ret,
             int *ret_agent_fd, struct err *err);

/* Kills both processes, reaps them and frees everything. died() is not called. Accepts NULL; returns NULL. */
struct vm *vm_free(struct vm *vm);

/* The memory, to be copied while the CPUs are stopped, or to be filled before vm_load(); sealed; borrowed. */
int vm_memory_fd(const struct vm *vm);

/* err is NULL on success. Called once, from the loop; not when the machine dies or is freed meanwhile: then died() is
 * all there is. */
typedef void (*vm_done_fn)(void *userdata, const struct err *err);

/* Stops the CPUs and writes the device state (QEMU's and virtiofsd's) to state_fd, an empty file opened write-only.
 * They stay stopped, also on failure, until vm_continue(). -EBUSY when a transfer is under way. */
int vm_save(struct vm *vm, int state_fd, vm_done_fn done, void *userdata, struct err *err);

/* Of a machine started with `incoming` whose memory has been filled: takes the device state from state_fd (read-only).
 * The CPUs are stopped until vm_continue(). When QEMU cannot load it, it ends: died(). */
int vm_load(struct vm *vm, int state_fd, vm_done_fn done, void *userdata, struct err *err);

int vm_continue(struct vm *vm, vm_done_fn done, void *userdata, struct err *err);

pid_t vm_qemu_pid(const struct vm *vm);
pid_t vm_virtiofsd_pid(const struct vm *vm);

/* The last lines of the console (at most 20, newline-separated), for error messages. Valid until the next call. */
const char *vm_console_tail(struct vm *vm);

/* When a step was over (monotonic µs, 0: not yet). */
struct vm_timings {
    uint64_t virtiofsd_started, qemu_started, qmp_ready, console_first;
};
void vm_get_timings(const struct vm *vm, struct vm_timings *ret);

/* accel.c: decides for ACCEL_AUTO (design.md: on x86 KVM only if /proc/cpuinfo shows vmx or svm, and /dev/kvm opens).
 * Asking for KVM where it is not usable is an error (-ENODEV) that says why. ret_reason (may be NULL): static text. */
int accel_resolve(enum accel want, enum accel *ret, const char **ret_reason, struct err *err);
