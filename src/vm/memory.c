/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"

int memory_create(const char *id, uint64_t size, struct err *err) {
    if (size < MEMORY_MIN || size > MEMORY_MAX || size % MEMORY_STEP)
        return err_set(err, EINVAL,
                       "sandbox %s: memory of %llu bytes: must be a multiple of 2 MiB from 64 MiB to 16 TiB", id,
                       (unsigned long long)size);
    char name[128];
    snprintf(name, sizeof(name), "stasis-%.100s", id);
    cleanup_fd int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return err_errno(err, errno, "sandbox %s: cannot make the guest's memory", id);
    if (ftruncate(fd, (off_t)size) < 0)
        return err_errno(err, errno, "sandbox %s: cannot size the guest's memory to %llu bytes", id,
                         (unsigned long long)size);
    /* QEMU opens it again through /proc/self/fd, as another user: the mode must let it, the path is in no one else's
     * reach. */
    if (fchmod(fd, 0666) < 0)
        return err_errno(err, errno, "sandbox %s: cannot set the mode of the guest's memory", id);
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return err_errno(err, errno, "sandbox %s: cannot seal the guest's memory", id);
    return TAKE_FD(fd);
}
