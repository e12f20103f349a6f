/* SPDX-License-Identifier: Apache-2.0 */
/* inotify: watches on a directory, of a tmpfs or of where INOTIFY_AT says, still report. */
#include "workload.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>

static char directory[64], file[80];
static int inotify, watch;

void set_up(void) {
    const char *at = getenv("INOTIFY_AT");
    (void)snprintf(directory, sizeof(directory), "%s/watched", at ? at : "/tmpfs");
    (void)snprintf(file, sizeof(file), "%s/file", directory);
    must(!mkdir(directory, 0700));
    must((inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) >= 0);
    must((watch = inotify_add_watch(inotify, directory, IN_CREATE | IN_DELETE)) >= 0);
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
    must((fd = open(file, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600)) >= 0 && !close(fd));
    expect(IN_CREATE);
    must(!unlink(file));
    expect(IN_DELETE);
}
