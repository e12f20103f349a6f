/* SPDX-License-Identifier: Apache-2.0 */
/* An open device, /dev/fuse, that CRIU cannot dump. */
#include "workload.h"

#include <fcntl.h>
#include <sys/stat.h>

static int device;

void set_up(void) {
    must((device = open("/dev/fuse", O_RDWR | O_CLOEXEC)) >= 0);
}

void check(void) {
    struct stat st;
    must(!fstat(device, &st) && S_ISCHR(st.st_mode));
}
