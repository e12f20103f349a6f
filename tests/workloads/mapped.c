/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapped FILE [stay]: fills a file through a shared mapping and ends, without a word to the kernel that it
 * should be written. With "stay" a child does it, which still has it mapped when this one ends.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (3UL << 20)

static int fill(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || ftruncate(fd, SIZE) < 0)
        return 1;
    char *bytes = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED)
        return 1;
    memset(bytes, 'm', SIZE);
    return 0;
}

int main(int argc, char **argv) {
    int done[2];
    char byte;
    if (argc < 2 || pipe(done) < 0)
        return 2;
    if (argc == 2)
        return fill(argv[1]);
    if (fork() == 0) {
        if (fill(argv[1]) == 0 && write(done[1], "", 1) == 1)
            for (;;)
                pause();
        _exit(1);
    }
    close(done[1]);
    return read(done[0], &byte, 1) != 1;
}
