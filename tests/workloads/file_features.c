/* SPDX-License-Identifier: Apache-2.0 */
/* file_features DIR: says of some features of files whether they are there, one line each. */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <errno.h>

static void say(const char *what, int r) {
    printf("%s: %s\n", what, r < 0 ? strerrorname_np(errno) : "there");
}

static int set_flags(int fd) {
    int flags = FS_NOATIME_FL;
    return ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

int main(int argc, char **argv) {
    if (argc != 2 || chdir(argv[1]) < 0)
        return 2;
    int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return 1;
    say("nameless", open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    say("trusted", fsetxattr(fd, "trusted.test", "x", 1, 0));
    say("flags", set_flags(fd));
    say("landlock", (int)syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* its version */));
    return 0;
}
