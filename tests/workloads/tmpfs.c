/* SPDX-License-Identifier: Apache-2.0 */
/* What lies on a tmpfs: contents, modes, owners, times, links, a FIFO, holes, an open file with its offset. */
#include "workload.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#define TOP "/tmpfs/workload"
#define SIZE (1 << 20)
static int open_file;
static char *contents;

static void write_file(const char *path, mode_t mode) {
    int fd;
    must((fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, mode)) >= 0);
    must(write(fd, contents, SIZE) == SIZE && !close(fd));
}

void set_up(void) {
    must((contents = malloc(SIZE)));
    pattern_fill(contents, SIZE, 1);
    must(!mkdir(TOP, 0750) && !mkdir(TOP "/sub", 0700) && !chmod(TOP "/sub", 02775));
    write_file(TOP "/sub/file", 0640);
    write_file(TOP "/deleted", 0600);
    must(!link(TOP "/sub/file", TOP "/hard") && !symlink("sub/file", TOP "/soft") && !mkfifo(TOP "/fifo", 0600));
    must(!truncate(TOP "/deleted", (off_t)SIZE * 8));
    struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1111111111}};
    must(!utimensat(AT_FDCWD, TOP "/sub/file", times, 0));
    must((open_file = open(TOP "/sub/file", O_RDWR | O_CLOEXEC)) >= 0 && lseek(open_file, 4096, SEEK_SET) == 4096);
    must(!chown(TOP "/sub/file", 1000, 2000));
}

void check(void) {
    struct stat st, hard;
    char buf[8], text[16] = "";
    must(!stat(TOP "/sub/file", &st) && st.st_mode == (S_IFREG | 0640) && st.st_size == SIZE);
    must(st.st_uid == 1000 && st.st_gid == 2000 && st.st_mtime == 1111111111);
    must(!stat(TOP "/hard", &hard) && hard.st_ino == st.st_ino && hard.st_nlink == 2);
    must(readlink(TOP "/soft", text, sizeof(text) - 1) == 8 && !strcmp(text, "sub/file"));
    must(!stat(TOP "/fifo", &st) && st.st_mode == (S_IFIFO | 0600));
    must(!stat(TOP "/sub", &st) && (st.st_mode & 07777) == 02775);
    must(!stat(TOP "/deleted", &st) && st.st_size == (off_t)SIZE * 8 && st.st_blocks * 512 < SIZE * 2);
    must(lseek(open_file, 0, SEEK_CUR) == 4096);
    must(read(open_file, buf, sizeof(buf)) == sizeof(buf) && !memcmp(buf, contents + 4096, sizeof(buf)));
    must(pread(open_file, contents, SIZE, 0) == SIZE && pattern_is(contents, SIZE, 1));
    must(lseek(open_file, 4096, SEEK_SET) == 4096);
}
