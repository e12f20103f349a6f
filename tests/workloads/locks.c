/* SPDX-License-Identifier: Apache-2.0 */
/* File locks: flock, POSIX and open file description ones keep others out. */
#include "workload.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>

static int whole, range, description;

static int open_file(const char *name) {
    int fd;
    must((fd = open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0600)) >= 0);
    return fd;
}

void set_up(void) {
    whole = open_file("flock");
    range = open_file("posix");
    description = open_file("ofd");
    must(!flock(whole, LOCK_EX));
    must(!fcntl(range, F_SETLK, &(struct flock){.l_type = F_WRLCK, .l_start = 100, .l_len = 50}));
    must(!fcntl(description, F_OFD_SETLK, &(struct flock){.l_type = F_WRLCK, .l_start = 7, .l_len = 9}));
}

/* From another process, by other descriptors. */
static void try_as_another(void) {
    int fd = open_file("flock");
    must(flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK);
    fd = open_file("posix");
    struct flock l = {.l_type = F_RDLCK, .l_start = 0, .l_len = 0};
    must(!fcntl(fd, F_GETLK, &l) && l.l_type == F_WRLCK && l.l_start == 100 && l.l_len == 50 && l.l_pid == getppid());
    must(!fcntl(fd, F_SETLK, &(struct flock){.l_type = F_WRLCK, .l_start = 0, .l_len = 100}));
    fd = open_file("ofd");
    l = (struct flock){.l_type = F_RDLCK};
    must(!fcntl(fd, F_OFD_GETLK, &l) && l.l_type == F_WRLCK && l.l_start == 7 && l.l_len == 9);
}

void check(void) {
    int status;
    pid_t pid;
    must((pid = fork_bound()) >= 0);
    if (pid == 0) {
        try_as_another();
        _exit(0);
    }
    must(waitpid(pid, &status, 0) == pid);
    if (status)
        _exit(1); /* it has said why */
}
