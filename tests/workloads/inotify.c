/* SPDX-License-Identifier: Apache-2.0 */
/* inotify: a watch on a directory of a tmpfs still reports. */
#include "workload.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#define DIRECTORY "/tmpfs/watched"
static int inotify, watch;

void set_up(void) {
    must(!mkdir(DIRECTORY, 0700));
    must((inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) >= 0);
    must((watch = inotify_add_watch(inotify, DIRECTORY, IN_CREATE | IN_DELETE)) >= 0);
}

static void expect(uint32_t mask) {
    union {
        struct inotify_event event;
        char bytes[4096];
    } got;
    must(readable(inotify) && read(inotify, &got, sizeof(got)) > 0);
    must(got.event.wd == watch && got.event.mask == mask && !strcmp(got.event.name, "file"));
}

void check(void) {
    int fd;
    char drop[4096];
    while (read(inotify, drop, sizeof(drop)) > 0) /* what the restore itself did there */
        ;
    must((fd = open(DIRECTORY "/file", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600)) >= 0 && !close(fd));
    expect(IN_CREATE);
    must(!unlink(DIRECTORY "/file"));
    expect(IN_DELETE);
}
