/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory that CRIU works in: its log and its statistics.
 *
 * It is in the guest's memory. CRIU writes its log line by line, thousands of them, while the container is frozen, and
 * each line through the share is a call to the host: measured under emulation 7 ms a line, nine tenths of the time
 * frozen. So the files go to the share when CRIU is done, each at once. (The images it writes there itself, in pieces
 * that are large.)
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

#define CRIU_WORK "/run/criu/work"
#define CRIU_WORK_FILES_MAX 16                   /* CRIU makes two or three */
#define CRIU_WORK_FILE_MAX (UINT64_C(256) << 20) /* bytes of one; what is beyond is not kept */

/* Makes it, empty. */
int criu_work_make(const char *path, struct err *err);

/* Copies its regular files to the directory to_dir, over those of the same name. May be called while CRIU still runs.
 */
int criu_work_collect(const char *path, int to_dir, struct err *err);

/* No harm if it is not there. */
void criu_work_remove(const char *path);
