/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Restore: a container out of the images of a checkpoint. It is made like a new one, with the bundle and the streams of
 * the request, and runs when it is done: crun connects the pipes, or the terminal, that the images know of to the new
 * ones. A failure leaves nothing of it.
 */
#pragma once

#include "agent/container.h"
#include "agent/criu.h"

struct restore_request {
    struct container_request container; /* what has come of it when its time is over is removed */
    const char *image_dir, *work_dir;   /* one name each, in SHARE/<id>/checkpoint */
    struct criu_options options;
};

/* As container_create(). */
int container_restore(struct agent *a, const struct restore_request *req, agent_pid_fn fn, void *userdata,
                      struct err *err);
