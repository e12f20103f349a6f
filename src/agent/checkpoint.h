/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoint: a container's processes become files.
 *
 * Theory of operation. Everything that can be known beforehand is looked at first, in /proc and the share, and a
 * refusal leaves the container alone. Then the container is CONTAINER_CHECKPOINTING, which nothing else may begin in
 * but a delete, waits for its turn (criu.h), and crun runs. CRIU cannot be stopped half-way: killed while its code is
 * inside of the processes, it leaves them broken. So nobody kills it; a caller whose time is up is told so, and the
 * operation goes on to its end, after which the container is in the state it should be in.
 *
 * crun deletes the container it has dumped, unless it leaves it running; for us it has then stopped, and is deleted by
 * the host like any other.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/container.h"
#include "agent/criu.h"

#define CHECKPOINT_TIMEOUT_USEC (UINT64_C(3600) * 1000000) /* when the caller names none */
#define CHECKPOINT_EXECS_NAMED_MAX 8                       /* in a message */

struct checkpoint_request {
    const char *image_dir, *work_dir; /* one name each, in SHARE/<id>/checkpoint */
    const char *parent_dir;           /* one name beside image_dir; "": none */
    bool leave_running, pre_dump, allow_execs;
    struct criu_options options;
    uint64_t timeout_usec; /* until the caller is answered */
};

struct checkpoint_result {
    const char *criu_version; /* "" when it is not known */
    uint64_t duration_usec;
};

typedef void (*checkpoint_fn)(void *userdata, const struct checkpoint_result *result, const struct err *err);

/* As the functions of container.h that take a callback. Of a container that stays, the state is afterwards what it was
 * before; one that does not has ended when fn is called. Errors: -EBUSY with the reason when it cannot be dumped as it
 * is. */
int container_checkpoint(struct container *c, const struct checkpoint_request *req, checkpoint_fn fn, void *userdata,
                         struct err *err);

/* For the container's object: its init has ended. */
void checkpoint_init_exited(struct container *c);
