/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CRIU says in its log, and the account of an attempt that is left beside it. All of it may have been shaped by
 * the container: it is for people to read.
 */
#pragma once

#include <stddef.h>

#include "agent/check.h"
#include "base/err.h"

#define CRIU_LOG_TAIL ((size_t)256 << 10) /* bytes at the log's end that are looked at */
#define CRIU_LOG_ERRORS 4                 /* lines in a message */
#define CRIU_LOG_LINE_MAX 300             /* bytes of a line in a message */
#define CRIU_LOG_LINES 50                 /* at the log's end, in the diagnosis */
#define CRIU_DIAGNOSIS "criu-diagnostic.log"
#define CRIU_MOUNTS_MAX ((size_t)256 << 10)
#define CRIU_OUTPUT_MAX ((size_t)16 << 10) /* of crun's and CRIU's output */

/* Appends the last errors in a log of len bytes to err, printable, without what CRIU says for itself when nothing is
 * wrong. No harm if there are none. */
void criu_log_append_errors(const char *log, size_t len, struct err *err);

/* Where the last n lines begin. */
size_t criu_log_last_lines(const char *log, size_t len, unsigned n);

/* Reads the end of the log `name` in a directory (CRIU_LOG_TAIL); malloc'd, NULL when it cannot be read. */
char *criu_log_read(int dirfd, const char *name, size_t *ret_len);

/* An attempt, for the diagnosis. */
struct criu_attempt {
    const char *what; /* "checkpoint", "restore" */
    const char *id;
    const char *command;              /* crun's command line */
    const char *conf;                 /* CRIU's configuration file */
    const struct check_result *check; /* NULL: none was made */
    const char *mounts;               /* of the container, as in mountinfo; NULL: not known */
    const char *log_name;             /* "dump.log", "restore.log" */
    int output;                       /* fd of what crun and CRIU printed */
    int status;                       /* as waitpid() gives it */
    const struct err *err;            /* NULL: it worked */
};

/* Writes CRIU_DIAGNOSIS in a directory of the share. Errors: open's and write's. */
int criu_diagnosis_write(int dirfd, const struct criu_attempt *a, struct err *err);
