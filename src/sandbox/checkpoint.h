/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoint and restore of a container.
 *
 * Theory of operation of a checkpoint. The guest cannot make the directories CRIU writes to, since the share is
 * read-only to it: the host makes them (image_dir.h) and mounts them into the share for this one operation. The agent
 * has crun and CRIU write into them; the mounts are taken away; a worker checks what came, makes it durable and puts it
 * into place. The container is always dumped so that it could go on, and is killed, if that was asked for, when the
 * checkpoint is on the disk: until then every failure leaves it what it was, running or paused.
 *
 * Of a restore. Create prepares all but the processes; Start has the agent make them of the images, which it sees
 * read-only. The configuration is the request's, never the checkpoint's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/agent.pb-c.h"
#include "sandbox/container.h"
#include "sandbox/image_dir.h"

struct checkpoint_spec {
    const char *image_path;  /* where it is to appear; absolute */
    const char *work_path;   /* for logs and statistics; absolute; "": <sandbox's directory>/criu.work/<id> */
    const char *parent_path; /* image_dir_plan(); "": none */
    bool leave_running, pre_dump;
    bool wait_execs; /* wait until the processes exec'd into it have ended; without, they are a reason to refuse */
    const Stasis__Agent__V1__CriuOptions *options; /* NULL: none */
};

struct checkpoint_outcome {
    struct image_totals images;
    char work_path[PATH_MAX];
    char criu_version[32];
    uint64_t agent_usec; /* of crun and CRIU */
};

/* outcome is valid also on failure (then only its work_path). */
typedef void (*checkpoint_done_fn)(void *userdata, const struct checkpoint_outcome *outcome, const struct err *err);

/* Of a running or paused container. Without leave_running (and pre_dump) it has been killed when done is called. The
 * error carries CRIU's own reason and names the work directory with its log. */
int container_checkpoint(struct container *c, const struct checkpoint_spec *spec, checkpoint_done_fn done,
                         void *userdata, struct err *err);

/* The caller wants it no more, for the reason `why`: it ends with that error, and the container goes on. `userdata` is
 * that of the call; when it is over, or cannot be undone any more because its images are about to appear, nothing
 * happens. CRIU cannot be stopped in the midst of a dump; its result is thrown away then. May call `done` at once. */
void container_checkpoint_abandon(struct container *c, const void *userdata, const struct err *why);

/* Whether one that was abandoned waits for CRIU. */
bool container_checkpoint_waits(const struct container *c);

struct restore_spec {
    const char *image_path; /* absolute */
    const char *work_path;  /* as above */
    const Stasis__Agent__V1__CriuOptions *options;
};

/* The directory where a checkpoint or restore leaves its logs when none was named: malloc'd, NULL when out of memory.
 */
char *checkpoint_default_work_path(const struct container *c);

/* For the container's object. */
struct restore;
int restore_new(const struct restore_spec *spec, struct restore **ret, struct err *err);
int restore_run(struct container *c, struct err *err); /* calls container_started() */
/* As container_checkpoint_abandon(), of a Start that restores: what CRIU makes of it is deleted. */
bool container_is_restoring(const struct container *c);
void container_restore_abandon(struct container *c, const struct err *why);
void restore_free(struct container *c);
char *checkpoint_scratch(const struct container *c); /* its directory beside the final one; NULL: none is under way */
void checkpoint_cancel(struct container *c);         /* the container goes: done is called with -ECANCELED */
