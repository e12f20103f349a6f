/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device state out of QEMU and into it. The guest's memory takes no part (x-ignore-shared): it is a file of this
 * process's, so what QEMU writes is a few hundred KB, virtiofsd's state among them. Steps are QMP commands, one after
 * the other; the end is a MIGRATION event. Only for QEMU to be ready to go on after a save there is none, so that is
 * asked.
 */
#pragma once

#include <jansson.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "vm/qmp.h"

#define MIGRATION_USEC (UINT64_C(60) * 1000000) /* the whole of it */

struct migration;

/* err is NULL on success. Called once, from the loop. */
typedef void (*migration_done_fn)(void *userdata, const struct err *err);

enum migration_direction {
    MIGRATION_SAVE, /* stops the CPUs first; they stay stopped */
    MIGRATION_LOAD, /* of a QEMU started with -incoming defer; the CPUs stay stopped */
};

/* state_fd: a file at its start, opened write-only (save) or read-only (load); stays the caller's, who may close it
 * after the call. `q` must live until done is called or migration_free(). */
int migration_start(sd_event *event, struct qmp *q, enum migration_direction direction, int state_fd,
                    migration_done_fn done, void *userdata, struct migration **ret, struct err *err);

/* A QMP event: only MIGRATION matters. */
void migration_event(struct migration *m, const char *name, const json_t *data);

/* done is not called. Accepts NULL; returns NULL. */
struct migration *migration_free(struct migration *m);
