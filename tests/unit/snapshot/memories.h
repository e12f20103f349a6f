/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for the tests of its image, and what they ask of both. Include after cmocka.h. */
#pragma once

#include <string.h>
#include <sys/mman.h>

#include "snapshot/memory_image.h"
#include "support.h"

#define SEG MEMORY_SEGMENT
#define PAGE MEMORY_PAGE

static inline int new_memory(uint64_t size) {
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    return fd;
}

static inline int new_file(const struct tmpdir *t, const char *name) {
    int fd = openat(t->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

/* Bytes without a zero page, different for every seed. */
static inline void put(int fd, uint64_t at, size_t len, unsigned seed) {
    cleanup_free uint8_t *b = malloc(len);
    for (size_t i = 0; i < len; i++)
        b[i] = (uint8_t)((i * 7 + i / 4096 + seed) % 255 + 1);
    assert_int_equal(pwrite(fd, b, len, (off_t)at), len);
}

static inline void put_zeros(int fd, uint64_t at, size_t len) {
    cleanup_free uint8_t *b = calloc(1, len);
    assert_int_equal(pwrite(fd, b, len, (off_t)at), len);
}

static inline uint8_t *map(int fd, uint64_t size) {
    uint8_t *p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(p != MAP_FAILED);
    return p;
}

/* Looking at a hole of a memfd fills it. */
static inline void assert_same(int a, int b, uint64_t size) {
    uint8_t *x = map(a, size), *y = map(b, size);
    assert_int_equal(memcmp(x, y, size), 0);
    munmap(x, size);
    munmap(y, size);
}

static inline uint64_t allocated(int fd) {
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* Something of everything: a whole segment, single pages, a run over the borders of chunks and segments, zeros that
 * were written, a last segment that is not whole. Returns the memory. */
#define MIXED_SIZE (4 * SEG + 3 * PAGE)
static inline int mixed_memory(void) {
    int fd = new_memory(MIXED_SIZE);
    put(fd, 0, SEG, 1);
    put(fd, SEG + 5 * PAGE, PAGE, 2);
    put_zeros(fd, SEG + 6 * PAGE, 3 * PAGE);
    put(fd, SEG + 9 * PAGE, 2 * PAGE, 3);
    put(fd, 3 * SEG - MEMORY_CHUNK - PAGE, MEMORY_CHUNK + 3 * PAGE, 4);
    put(fd, 4 * SEG + 2 * PAGE, PAGE, 5);
    return fd;
}
#define MIXED_DATA (SEG + 3 * PAGE + MEMORY_CHUNK + 3 * PAGE + PAGE)

static inline struct memory_image *image_of(int memory, int file, unsigned processes) {
    struct memory_image *m = NULL;
    struct err e = ERR_INIT;
    struct stat st;
    assert_int_equal(fstat(memory, &st), 0);
    assert_int_equal(memory_image_new((uint64_t)st.st_size, &m, &e), 0);
    assert_int_equal(memory_image_save(memory, file, -1, processes, m, &e), 0);
    return m;
}
