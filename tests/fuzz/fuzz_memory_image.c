/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's memory saved over a base and loaded again. The input says which pages are zero, the base's or others, and
 * then what is damaged: bytes of the image, of the base, of the digests, and which pages are the base's. What is loaded
 * without an error is the memory that was saved.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "snapshot/memory_image.h"

#define PAGES_MAX 64
#define DAMAGES_MAX 8

static void require(bool ok) {
    if (!ok)
        abort();
}

static int file_of(uint64_t size) {
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    require(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    return fd;
}

static void put_page(int fd, unsigned page, uint8_t fill) {
    static uint8_t bytes[MEMORY_PAGE];
    memset(bytes, fill, sizeof(bytes));
    bytes[page % MEMORY_PAGE] ^= 1; /* no page is another's */
    require(pwrite(fd, bytes, sizeof(bytes), (off_t)(page * MEMORY_PAGE)) == (ssize_t)sizeof(bytes));
}

static bool same(int a, int b, uint64_t size) {
    static uint8_t x[PAGES_MAX * MEMORY_PAGE], y[PAGES_MAX * MEMORY_PAGE];
    require(pread(a, x, size, 0) == (ssize_t)size && pread(b, y, size, 0) == (ssize_t)size);
    return memcmp(x, y, size) == 0;
}

static void flip(int fd, uint64_t at, uint8_t bits) {
    uint8_t byte = 0;
    require(pread(fd, &byte, 1, (off_t)at) == 1);
    byte ^= bits;
    require(pwrite(fd, &byte, 1, (off_t)at) == 1);
}

/* d: which, two bytes of place, bits */
static void damage(const uint8_t d[4], struct memory_image *m, int file, int base) {
    uint64_t place = (uint64_t)d[1] << 8 | d[2];
    switch (d[0] % 5) {
    case 0:
        flip(file, place * 4 % m->size, d[3]);
        break;
    case 1:
        flip(base, place * 4 % m->size, d[3]);
        break;
    case 2:
        m->segments[0].digest[place % MEMORY_DIGEST_SIZE] ^= d[3];
        break;
    case 3:
        m->base[place % memory_image_chunks(m, 0)] ^= (uint64_t)1 << d[3] % 64;
        break;
    default:
        m->segments[0].data ^= (uint64_t)d[3] << place % 24;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct err err = ERR_INIT;
    if (size < 2)
        return 0;
    unsigned pages = data[0] % PAGES_MAX + 1;
    uint64_t bytes = pages * MEMORY_PAGE;
    cleanup_memory_image struct memory_image *m = NULL;
    cleanup_fd int memory = file_of(bytes), base = file_of(bytes), file = file_of(0), loaded = file_of(bytes);
    require(memory_image_new(bytes, &m, &err) == 0);
    data++;
    size--;
    for (unsigned i = 0; i < pages && size > 0; i++, data++, size--) {
        if (*data & 1)
            put_page(base, i, (uint8_t)(*data >> 4));
        if (*data & 2)
            put_page(memory, i, (uint8_t)(*data & 4 ? *data >> 4 : *data));
    }
    require(memory_image_save(memory, file, base, 1, m, &err) == 0);
    require(memory_image_data(m) <= bytes && memory_image_shared(m) <= memory_image_data(m));
    require(memory_image_load(file, base, m, loaded, 1, &err) == 0 && same(memory, loaded, bytes));
    for (int i = 0; i < DAMAGES_MAX && size >= 4; i++, data += 4, size -= 4)
        damage(data, m, file, base);
    require(ftruncate(loaded, 0) == 0 && ftruncate(loaded, (off_t)bytes) == 0);
    if (memory_image_load(file, base, m, loaded, 1, &err) == 0)
        require(same(memory, loaded, bytes));
    else
        require(err.code != 0 && *err.msg);
    return 0;
}
