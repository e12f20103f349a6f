/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/loop.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/fd.h"

#define LOOP_CONTROL "/dev/loop-control"
#define LOOP_TRIES_MAX 64 /* free devices that somebody else takes before us */

int loop_attach(const char *file, bool read_only, char name[LOOP_NAME_MAX], struct err *err) {
    int mode = read_only ? O_RDONLY : O_RDWR;
    cleanup_fd int back = open(file, mode | O_CLOEXEC);
    if (back < 0)
        return err_errno(err, errno, "cannot open %s", file);
    cleanup_fd int control = open(LOOP_CONTROL, O_RDWR | O_CLOEXEC);
    if (control < 0)
        return err_errno(err, errno, "cannot open %s (is the kernel module loop loaded?)", LOOP_CONTROL);
    struct loop_config config = {
        .fd = (uint32_t)back,
        .info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0),
    };
    /* Only what `losetup` prints; a long path is cut there. */
    snprintf((char *)config.info.lo_file_name, sizeof(config.info.lo_file_name), "%s", file);

    for (unsigned i = 0; i < LOOP_TRIES_MAX; i++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            return err_errno(err, errno, "cannot get a free loop device for %s", file);
        char path[LOOP_NAME_MAX];
        snprintf(path, sizeof(path), "/dev/loop%d", number);
        cleanup_fd int fd = open(path, mode | O_CLOEXEC);
        if (fd < 0)
            return err_errno(err, errno, "cannot open %s for %s", path, file);
        if (ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
            memcpy(name, path, sizeof(path));
            return TAKE_FD(fd);
        }
        /* Between the two calls another process took the device. */
        if (errno != EBUSY)
            return err_errno(err, errno, "cannot attach %s to %s", file, path);
    }
    return err_set(err, EBUSY, "cannot attach %s: every free loop device was taken by others", file);
}
