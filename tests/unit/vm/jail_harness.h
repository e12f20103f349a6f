/* SPDX-License-Identifier: Apache-2.0 */
/* A stand-in for the VMM root, with the program jailed.c in it, for tests that run as root. */
#pragma once

#include <stdbool.h>

#include "base/proc.h"
#include "vm/jail.h"

#define DEADLINE_USEC UINT64_C(20000000)

struct harness {
    char *dir; /* everything is below it, on a tmpfs that only this process's mount namespace has */
    char *root, *guest, *share;
};

/* Enters a mount namespace of its own and builds the root. For cmocka's group setup; without root's rights it leaves
 * *state NULL and the tests skip. */
int harness_setup(void **state);
int harness_teardown(void **state);

/* Writes DIR/NAME. */
void harness_write(const char *dir, const char *name, const char *text);

/* The helper in a jail, answering questions. */
struct prisoner {
    struct proc proc;
    int fd;
    char answer[65536];
};
int prisoner_start(const struct jail_spec *jail, struct prisoner *p, struct err *err);
/* Asks and returns the answer, valid until the next question. Fails the test when none comes. */
const char *ask(struct prisoner *p, const char *question);
void prisoner_end(struct prisoner *p);

/* True when the process is gone or only waits to be reaped, within the deadline. */
bool process_ends(pid_t pid);
