/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An archive of a tmpfs among the images of a checkpoint. The input is the tar archive in it; it is also taken for the
 * whole. Whatever it says, nothing comes to be outside the directory.
 */
#include <dirent.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/criu_tmpfs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BLOCK 512
#define TAR_MAX 60000 /* one stored block */

static char outside[] = "/tmp/stasis-fuzz.XXXXXX", inside[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_tree(const char *path) {
    nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static int entries_of(const char *path) {
    int n = 0;
    DIR *dir = opendir(path);
    for (const struct dirent *e; dir && (e = readdir(dir));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    if (dir)
        closedir(dir);
    return n;
}

static void at_exit(void) {
    remove_tree(outside);
}

static uint32_t crc32_of(const uint8_t *p, size_t n) {
    uint32_t crc = UINT32_MAX;
    while (n-- > 0) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xEDB88320U : crc >> 1;
    }
    return ~crc;
}

/* The sums of headers are made right: none that is wrong gets far. */
static void mend_checksums(uint8_t *tar, size_t size) {
    for (uint8_t *h = tar; h + BLOCK <= tar + size; h += BLOCK) {
        unsigned sum = 0;
        memset(h + 148, ' ', 8);
        for (size_t i = 0; i < BLOCK; i++)
            sum += h[i];
        snprintf((char *)h + 148, 7, "%06o", sum);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t archive[TAR_MAX + 4096];
    if (!inside[0]) {
        if (!mkdtemp(outside))
            abort();
        atexit(at_exit);
        snprintf(inside, sizeof(inside), "%s/in", outside);
    }
    if (mkdir(inside, 0700) < 0)
        abort();
    (void)criu_tmpfs_extract(data, size, inside);
    if (size <= TAR_MAX - 2 * BLOCK) {
        size_t len = (size + BLOCK - 1) / BLOCK * BLOCK;
        uint8_t *p = archive + 15;
        memset(archive, 0, sizeof(archive));
        memcpy(p, data, size);
        mend_checksums(p, len);
        len += 2 * BLOCK;
        const uint8_t head[15] = {0x1f,
                                  0x8b,
                                  8,
                                  [9] = 3,
                                  [10] = 1,
                                  [11] = (uint8_t)len,
                                  (uint8_t)(len >> 8),
                                  (uint8_t)~len,
                                  (uint8_t)(~len >> 8)};
        memcpy(archive, head, sizeof(head));
        uint32_t crc = crc32_of(p, len);
        for (int i = 0; i < 4; i++) {
            p[len + (size_t)i] = (uint8_t)(crc >> 8 * i);
            p[len + 4 + (size_t)i] = (uint8_t)(len >> 8 * i);
        }
        (void)criu_tmpfs_extract(archive, 15 + len + 8, inside);
    }
    if (entries_of(outside) != 1)
        abort();
    remove_tree(inside);
    return 0;
}
