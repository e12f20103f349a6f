/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The template of all VMs of one kind: an idle guest whose agent is ready, saved. Every start is a copy of it (boot.h).
 *
 * It is made of the first VM that boots, before that has heard of any container, so it holds nothing of anybody; one
 * maker at a time has the lock of the store, others boot meanwhile. Its name has a digest of all that shapes the guest:
 * another QEMU, kernel, agent, size or CPU has another template.
 */
#pragma once

#include "base/path.h"
#include "sandbox/sandbox.h"

struct template_outcome {
    char name[ID_MAX + 1];
    bool built; /* false: it was there */
    uint64_t memory_bytes;
    struct err err; /* why none was made; code 0: there is one */
};

#define TEMPLATES_MAX 8 /* that are kept: those that were used last */

/* outcome is NULL when err is not. */
typedef void (*template_done_fn)(void *userdata, const struct template_outcome *outcome, const struct err *err);

/* Of a NEW sandbox: boots its VM and makes the template in `store` unless it is there (or anyway: rebuild). */
int template_build(struct sandbox *sb, const char *store, bool rebuild, template_done_fn done, void *userdata,
                   struct err *err);
