/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast a guest's memory becomes a file and a file memory (snapshot/memory_image.h), beside a plain sparse copy.
 *
 * Usage: memory_image DIR MIB [PROCESSES]. Makes MIB mebibytes of data, in runs of a quarter to four mebibytes, in 2
 * GiB of memory, and prints for each operation the best of five in ms and MB/s of data. Files are made in DIR and
 * removed; nothing is synced, so what is measured is the copy and not the disk.
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/util.h"
#include "snapshot/memory_image.h"

#define ROUNDS 5
#define MIB ((uint64_t)1 << 20)
#define SIZE (2048 * MIB)

extern char **environ;

static void die(const char *what, const struct err *err) {
    fprintf(stderr, "memory_image: %s: %s\n", what, err ? err->msg : strerror(errno));
    exit(1);
}

static int make_memory(void) {
    int fd = memfd_create("bench", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)SIZE) < 0)
        die("memfd", NULL);
    return fd;
}

static uint64_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void fill(int memory, uint64_t data) {
    uint64_t state = 1, at = 0, left = data, gaps = SIZE - data;
    cleanup_free uint64_t *bytes = malloc(4 * MIB);
    if (!bytes)
        die("malloc", NULL);
    while (left) {
        uint64_t run = MIB / 4 * (1 + next_random(&state) % 16), len = MIN(left, run);
        for (uint64_t i = 0; i < len / sizeof(*bytes); i++)
            bytes[i] = next_random(&state) | 1;
        if (pwrite(memory, bytes, len, (off_t)at) != (ssize_t)len)
            die("pwrite", NULL);
        left -= len;
        at += len + (uint64_t)((double)gaps * (double)len / (double)data) / MEMORY_PAGE * MEMORY_PAGE;
    }
}

static void report(const char *what, uint64_t usec, uint64_t data) {
    printf("%-24s %7.1f ms %7.0f MB/s\n", what, (double)usec / 1e3, (double)data / (double)MAX(usec, 1));
}

static void copy_with_cp(int memory, const char *to) {
    char from[64];
    snprintf(from, sizeof(from), "/proc/%d/fd/%d", getpid(), memory);
    char *argv[] = {"cp", "--sparse=always", from, (char *)(uintptr_t)to, NULL};
    pid_t pid;
    int status;
    if (posix_spawnp(&pid, "cp", NULL, NULL, argv, environ) != 0 || waitpid(pid, &status, 0) < 0 || status != 0)
        die("cp", NULL);
}

int main(int argc, char **argv) {
    uint64_t mib, processes = 2, save = UINT64_MAX, load = UINT64_MAX, verify = UINT64_MAX, cp = UINT64_MAX, t;
    struct err err = ERR_INIT;
    struct memory_image *m = NULL;
    if (argc < 3 || parse_u64(argv[2], SIZE / MIB, &mib) < 0 || mib == 0 ||
        (argc > 3 && parse_u64(argv[3], MEMORY_PROCESSES_MAX, &processes) < 0)) {
        fprintf(stderr, "usage: memory_image DIR MIB [PROCESSES]\n");
        return 2;
    }
    cleanup_free char *path = str_printf("%s/memory_image.%d", argv[1], getpid());
    int memory = make_memory();
    fill(memory, mib * MIB);
    if (!path || memory_image_new(SIZE, &m, &err) < 0)
        die("image", &err);
    for (int i = 0; i < ROUNDS; i++) {
        t = now_usec();
        copy_with_cp(memory, path);
        cp = MIN(cp, now_usec() - t);
        unlink(path);
        int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        t = now_usec();
        if (file < 0 || memory_image_save(memory, file, -1, (unsigned)processes, m, &err) < 0)
            die("save", &err);
        save = MIN(save, now_usec() - t);
        t = now_usec();
        if (memory_image_verify(file, -1, m, (unsigned)processes, &err) < 0)
            die("verify", &err);
        verify = MIN(verify, now_usec() - t);
        int back = make_memory();
        t = now_usec();
        if (memory_image_load(file, -1, m, back, (unsigned)processes, &err) < 0)
            die("load", &err);
        load = MIN(load, now_usec() - t);
        fd_close(back);
        fd_close(file);
        unlink(path);
    }
    uint64_t data = memory_image_data(m);
    printf("%llu MiB of data, %llu processes\n", (unsigned long long)(data / MIB), (unsigned long long)processes);
    report("save", save, data);
    report("load", load, data);
    report("verify", verify, data);
    report("cp --sparse=always", cp, data);
    memory_image_free(m);
    fd_close(memory);
    return 0;
}
