/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRIU's images as a guest may write them. The input replaces some of a small checkpoint's files: each piece is a byte
 * (which file), two bytes (length) and what stands behind the file's magic numbers.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "oci/criu_checkpoint.h"
#include "oci/criu_image.h"
#include "oci/criu_pages.h"
#include "oci/criu_stats.h"
#include "proto/criu.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COMMON 0x54564319U
#define BYTES(s) s, sizeof(s) - 1

static const struct image {
    const char *name;
    uint32_t magic[2];
    const char *valid; /* entries */
    size_t len;
} images[] = {
    {"inventory.img", {0x58313116, 0}, BYTES("\x04\0\0\0\x08\x02\x1a\0")},
    {"pstree.img",
     {COMMON, 0x50273030},
     BYTES("\x0a\0\0\0\x08\1\x10\0\x18\1\x20\1\x28\1"
           "\x0a\0\0\0\x08\2\x10\1\x18\1\x20\1\x28\2")},
    {"core-1.img", {COMMON, 0x55053847}, BYTES("\x0f\0\0\0\x08\1\x1a\7\x08\1\x10\0\x32\1x\x22\2\x10\1")},
    {"core-2.img", {COMMON, 0x55053847}, BYTES("\x0b\0\0\0\x08\1\x1a\7\x08\6\x10\0\x32\1y")},
    {"ids-2.img", {COMMON, 0x54432030}, BYTES("\x02\0\0\0\x10\1")},
    {"mm-1.img", {COMMON, 0x57492820}, BYTES("\x02\0\0\0\x60\1")},
    {"pagemap-1.img", {COMMON, 0x56084025}, BYTES("\x02\0\0\0\x08\1\x06\0\0\0\x08\0\x10\3\x20\4")},
    {"fdinfo-1.img", {COMMON, 0x56213732}, BYTES("\x08\0\0\0\x08\1\x10\0\x18\1\x20\3")},
    {"files.img", {COMMON, 0x56303138}, BYTES("\x09\0\0\0\x08\1\x10\1\x1a\3\x32\1/")},
    {"stats-dump", {0x55105940, 0x57093306}, BYTES("\x02\0\0\0\x12\0")},
};

static void require(bool good) {
    if (!good)
        abort();
}

static int work_dir(void) {
    static int fd = -1;
    if (fd < 0) {
        char path[] = "/dev/shm/stasis-fuzz-XXXXXX"; /* memory is faster */
        require(mkdtemp(path) != NULL);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        require(fd >= 0);
    }
    return fd;
}

static void write_image(const struct image *img, const void *data, size_t len) {
    cleanup_fd int fd = openat(work_dir(), img->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    require(fd >= 0 && fd_write_all(fd, img->magic, img->magic[1] ? 8 : 4) == 0 && fd_write_all(fd, data, len) == 0);
}

/* Parents before children, descriptors of files that are there, texts that can be printed. */
static void check(const struct criu_checkpoint *c) {
    require(c->n_processes > 0 && c->n_processes <= CRIU_PROCESSES_MAX);
    for (size_t i = 0; i < c->n_processes; i++) {
        const struct criu_process *p = &c->processes[i];
        require(p->parent < i || (i == 0 && p->parent == 0));
        require(p->comm && p->state && utf8_valid(p->comm, strlen(p->comm)));
        for (size_t k = 0; k < p->n_fds; k++)
            require(criu_files_find(&c->files, p->fds[k].file_id) != NULL);
    }
    for (size_t i = 0; i < c->files.n; i++) {
        const struct criu_file *f = &c->files.v[i];
        require(f->kind && (!f->name || utf8_valid(f->name, strlen(f->name))));
        for (const char *s = f->name ? f->name : ""; *s; s++)
            require((unsigned char)*s >= ' ' && *s != 0x7f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool spoilt[ARRAY_SIZE(images)] = {[0 ... ARRAY_SIZE(images) - 1] = true}; /* by the last input */
    for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
        if (spoilt[i])
            write_image(&images[i], images[i].valid, images[i].len);
        spoilt[i] = false;
    }
    while (size >= 3) {
        size_t len = MIN((size_t)data[1] | (size_t)data[2] << 8, size - 3), i = data[0] % ARRAY_SIZE(images);
        write_image(&images[i], data + 3, len);
        spoilt[i] = true;
        data += 3 + len;
        size -= 3 + len;
    }
    cleanup_criu_checkpoint struct criu_checkpoint c = {0};
    struct criu_stats stats;
    struct err err = ERR_INIT;
    if (criu_checkpoint_read(work_dir(), &c, &err) == 0)
        check(&c);
    else
        require(strstr(err.msg, ".img") != NULL);
    if (criu_pages_check(work_dir(), &err) < 0)
        require(strstr(err.msg, ".img") != NULL);
    if (criu_stats_read(work_dir(), CRIU_STATS_DUMP, &stats, &err) < 0)
        require(strstr(err.msg, CRIU_STATS_DUMP) != NULL);
    return 0;
}
