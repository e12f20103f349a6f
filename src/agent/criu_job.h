/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What checkpoint and restore have in common: the directories in the share, crun's arguments, the account of it. CRIU
 * itself works in a directory of the guest (criu_work.h); what it leaves there is brought to the share afterwards.
 *
 * The host makes both directories before it asks; nothing here makes any. What is missing, or cannot be written, is
 * told by its path before crun runs, as the share is read-only but for these.
 */
#pragma once

#include "agent/agent.h"
#include "agent/criu.h"
#include "base/err.h"
#include "base/path.h"

#define CRIU_DIR "checkpoint" /* SHARE/<id>/checkpoint/{images,work} */

struct criu_job {
    struct agent *agent;
    char id[ID_MAX + 1];
    enum criu_operation op;
    struct criu_turn turn;
    int work_fd; /* -1: not open */
    int output;  /* memfd of what crun and CRIU print */
    char *image_path, *work_path;
    bool began;       /* CRIU's own directory is this one's */
    struct strv argv; /* crun's command and options */
    char *mounts;     /* of the container, before a dump */
    int status;       /* of crun, as waitpid() gives it; -1: it did not run */
};

/* Fills it; then it must be cleared, also after a failure. image_dir and work_dir are one name each, in
 * SHARE/<id>/checkpoint. Checks the options, that the directories are there, and that they can be written (the images
 * of a restore: that there are some). */
int criu_job_init(struct criu_job *j, struct agent *a, const char *id, enum criu_operation op, const char *image_dir,
                  const char *work_dir, const struct criu_options *o, struct err *err);

/* Its turn has come: writes CRIU's configuration and makes the directory that CRIU works in. */
int criu_job_begin(struct criu_job *j, struct err *err);

/* Brings what CRIU has left there, its log and statistics, to the work directory. */
void criu_job_collect(const struct criu_job *j);

/* The arguments of a crun_request, and its time. They point into the job. */
void criu_job_args(const struct criu_job *j, struct crun_request *req);

/* Remembers the mounts that pid sees. */
void criu_job_read_mounts(struct criu_job *j, pid_t pid);

/* crun has failed with this error: appends what CRIU's log says. */
void criu_job_explain(const struct criu_job *j, struct err *err);

/* Leaves the account in the work directory. err NULL: it worked. No harm if there is no work directory. */
void criu_job_report(const struct criu_job *j, const struct err *err);

/* Leaves the queue as well. */
void criu_job_clear(struct criu_job *j);
