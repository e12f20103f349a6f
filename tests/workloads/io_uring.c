/* SPDX-License-Identifier: Apache-2.0 */
/* An io_uring: CRIU cannot dump one. */
#include "workload.h"

#include <linux/io_uring.h>
#include <sys/syscall.h>

static int ring;

void set_up(void) {
    struct io_uring_params params = {0};
    must((ring = (int)syscall(SYS_io_uring_setup, 4, &params)) >= 0);
}

void check(void) {
    must(syscall(SYS_io_uring_enter, ring, 0, 0, 0, NULL, 0) == 0);
}
