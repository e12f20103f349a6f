/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open files, on the root file system and on the volume: offsets, flags, one shared by two descriptors and a child;
 * deleted ones (unless FILES_DELETED=no); mappings, shared and private; a named pipe; an open directory.
 */
#include "workload.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SIZE (256 << 10)
#define HALF (SIZE / 2)

struct place {
    int fd, twin, append, deleted, fifo, directory;
    char *shared, *private;
    char path[64];
};
static struct place places[2];
static char pattern[SIZE];
static unsigned rounds;
static bool with_deleted;

static int open_at(const struct place *p, const char *name, int flags) {
    char path[128];
    int fd;
    (void)snprintf(path, sizeof(path), "%s/%s", p->path, name);
    if (!strcmp(name, "fifo"))
        must(!mkfifo(path, 0600));
    must((fd = open(path, flags | O_CLOEXEC, 0644)) >= 0);
    if (!strcmp(name, "deleted"))
        must(!unlink(path));
    return fd;
}

static void set_up_at(struct place *p, const char *path) {
    (void)snprintf(p->path, sizeof(p->path), "%s", path);
    must(!mkdir(path, 0755));
    p->fd = open_at(p, "file", O_CREAT | O_EXCL | O_RDWR);
    must(write(p->fd, pattern, SIZE) == SIZE && lseek(p->fd, 1000, SEEK_SET) == 1000);
    must((p->twin = dup(p->fd)) >= 0);
    p->append = open_at(p, "log", O_CREAT | O_WRONLY | O_APPEND | O_NONBLOCK);
    if (with_deleted) {
        p->deleted = open_at(p, "deleted", O_CREAT | O_EXCL | O_RDWR);
        must(write(p->deleted, pattern, SIZE) == SIZE && lseek(p->deleted, 5, SEEK_SET) == 5);
    }
    p->fifo = open_at(p, "fifo", O_RDWR | O_NONBLOCK);
    must(write(p->fifo, "queued", 6) == 6);
    p->directory = open_at(p, ".", O_RDONLY | O_DIRECTORY);
    must((p->shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0)) != MAP_FAILED);
    must((p->private = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, p->fd, 0)) != MAP_FAILED);
    pattern_fill(p->private, HALF, 9);
}

void set_up(void) {
    const char *deleted = getenv("FILES_DELETED");
    with_deleted = !deleted || strcmp(deleted, "no") != 0;
    pattern_fill(pattern, SIZE, 8);
    set_up_at(&places[0], "files");
    set_up_at(&places[1], "/volume/files");
}

static void check_at(struct place *p) {
    char buf[SIZE];
    must(lseek(p->fd, 0, SEEK_CUR) == 1000 && lseek(p->twin, 8, SEEK_CUR) == 1008 &&
         lseek(p->fd, -8, SEEK_CUR) == 1000);
    must((fcntl(p->append, F_GETFL) & (O_APPEND | O_NONBLOCK | O_ACCMODE)) == (O_APPEND | O_NONBLOCK | O_WRONLY));
    must(fcntl(p->fd, F_GETFD) == FD_CLOEXEC && fcntl(p->twin, F_GETFD) == 0);
    must(write(p->append, "line\n", 5) == 5);
    must(lseek(p->append, 0, SEEK_END) == 5 * ((off_t)rounds + 1));

    if (with_deleted) {
        struct stat st;
        must(!fstat(p->deleted, &st) && st.st_size == SIZE && st.st_nlink == 0);
        must(lseek(p->deleted, 0, SEEK_CUR) == 5 && pread(p->deleted, buf, SIZE, 0) == SIZE);
        must(!memcmp(buf, pattern, SIZE));
    }
    must(faccessat(p->directory, "deleted", F_OK, 0) < 0 && !faccessat(p->directory, "file", F_OK, 0));

    must(reads(p->fifo, "queued", 6) && read(p->fifo, buf, 1) < 0 && errno == EAGAIN);
    must(write(p->fifo, "queued", 6) == 6);

    must(pattern_is(p->shared, SIZE, 8) && pattern_is(p->private, HALF, 9));
    must(pattern_continues(p->private, HALF, SIZE, 8));
    p->shared[SIZE - 1] ^= 1; /* seen by both mappings and by read */
    must(pread(p->fd, buf, 1, SIZE - 1) == 1 && buf[0] == p->shared[SIZE - 1] && p->private[SIZE - 1] == buf[0]);
    p->shared[SIZE - 1] ^= 1;
}

void check(void) {
    for (size_t i = 0; i < 2; i++)
        check_at(&places[i]);
    rounds++;
}
