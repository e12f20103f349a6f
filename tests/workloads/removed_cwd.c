/* SPDX-License-Identifier: Apache-2.0 */
/* A working directory, on the tmpfs, that has been removed. */
#include "workload.h"

#include <sys/stat.h>

void set_up(void) {
    must(!mkdir("/tmpfs/gone", 0700) && !chdir("/tmpfs/gone") && !rmdir("/tmpfs/gone"));
}

void check(void) {
    struct stat st;
    char path[64];
    must(!stat(".", &st) && S_ISDIR(st.st_mode) && st.st_nlink == 0);
    must(!getcwd(path, sizeof(path)) && errno == ENOENT);
    must(access("/tmpfs/gone", F_OK) < 0);
}
