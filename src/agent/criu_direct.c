/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library that is loaded before others into the CRIU of a checkpoint or restore (LD_PRELOAD), and nowhere else.
 *
 * Theory of operation. CRIU moves the pages of a container between its memory and the images, most of a checkpoint,
 * with a few large requests. On virtiofs they would go through the guest's page cache: a copy by the guest's CPU, the
 * slowest part of all where that is emulated, and memory for pages that nobody reads again. So the files of pages are
 * set to O_DIRECT as they are opened, whereupon the host's virtiofsd reads and writes the container's memory itself.
 * The host still has its own page cache, thus no rule about alignment. CRIU 4.2 has no option for it; where the file
 * system refuses, all is as without this library.
 *
 * Small reads are another matter: each would be a trip to the host, where the page cache reads ahead. CRIU does them
 * with the C library's functions, so the first one switches that open file back. Its large reads of a restore are
 * system calls of its own, on a file opened for them.
 *
 * What it keeps of a tmpfs CRIU has tar write and read, in a process that it forks for it. Where that can be done
 * without tar (criu_tmpfs.h), that process does it.
 *
 * The functions here stand in for the C library's, and are as those but for that.
 */
#undef _FORTIFY_SOURCE /* its inline functions have the names of those here */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent/criu_tmpfs.h"

#define PAGES_PREFIX "pages-" /* CRIU's names are pages-<n>.img */
#define PROGRAM "criu"
#define TAR "tar"
#define SMALL ((size_t)128 << 10) /* bytes; the kernel's usual read-ahead, so nothing is lost below */

/* What CRIU runs (ip, iptables, tar) is not its business. crun must hand it on. */
static void __attribute__((constructor)) not_for_helpers(void) {
    if (strcmp(program_invocation_short_name, PROGRAM) == 0)
        unsetenv("LD_PRELOAD");
}

static void set_direct(int fd, bool on) {
    int saved = errno;
    int flags = fcntl(fd, F_GETFL);
    /* A file system that cannot do it refuses, and then it is only slower. */
    if (flags >= 0 && !(flags & O_DIRECT) == on)
        (void)fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT);
    errno = saved;
}

int openat64(int dir, const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
    const char *slash = strrchr(path, '/');
    if (fd >= 0 && strncmp(slash ? slash + 1 : path, PAGES_PREFIX, strlen(PAGES_PREFIX)) == 0)
        set_direct(fd, true);
    return fd;
}

/* The value of tar's --directory; NULL if it is not asked for what `mode` says. */
static const char *tar_directory(char *const argv[], const char *mode) {
    if (!argv[1] || strcmp(argv[1], mode) != 0)
        return NULL;
    for (size_t i = 2; argv[i] && argv[i + 1]; i++)
        if (strcmp(argv[i], "--directory") == 0)
            return argv[i + 1];
    return NULL;
}

int execvp(const char *file, char *const argv[]) {
    int r = 0;
    if (strcmp(file, TAR) == 0) {
        const char *to = tar_directory(argv, "--extract");
        if (to)
            r = criu_tmpfs_load(STDIN_FILENO, to);
        else if (tar_directory(argv, "--create"))
            r = criu_tmpfs_save(STDIN_FILENO, STDOUT_FILENO); /* it is the directory */
    }
    if (r < 0)
        fprintf(stderr, "Error (stasis): " TAR " in CRIU's own process: %s\n", strerror(-r));
    if (r != 0)
        _exit(r < 0);
    return execvpe(file, argv, environ);
}

ssize_t pread64(int fd, void *buf, size_t n, off64_t offset) {
    if (n < SMALL)
        set_direct(fd, false);
    return syscall(SYS_pread64, fd, buf, n, offset);
}

ssize_t preadv64(int fd, const struct iovec *iov, int n, off64_t offset) {
    size_t total = 0;
    for (int i = 0; i < n; i++)
        total += iov[i].iov_len;
    if (total < SMALL)
        set_direct(fd, false);
    return syscall(SYS_preadv, fd, iov, n, offset, 0);
}
