/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A system call in the name of a process that CRIU has stopped: what a process can only ask or say for itself
 * (prctl, personality). For the library that CRIU loads; see criu_attributes.h.
 */
#pragma once

#include <sys/types.h>

/* By their numbers in both of the CPU's modes; a program of 32 bits makes the second. */
struct inject_call {
    long number, number_32;
    unsigned long args[2]; /* the other arguments are 0 */
};

/* Has the thread make the call; it is a ptrace-stopped tracee of the calling thread and afterwards in the state that it
 * was in. *ret is what the call returned, -errno on failure. Returns 0, or -errno when it could not be made: -ENXIO
 * when the process has no vDSO, where the instruction for it is. */
int inject_call(pid_t tid, const struct inject_call *call, long *ret);
