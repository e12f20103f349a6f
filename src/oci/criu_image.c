/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/criu_image.h"

#include <endian.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/path.h"

#define MAGIC_COMMON 0x54564319U
#define MAGIC_SERVICE 0x55105940U
#define NAME_SHOWN 64 /* bytes of a file's name in messages */

/* An unpacked message may take some thirty times its bytes (one record for each field, also for unknown ones), so each
 * kind has its own bound. */
static const struct kind {
    uint32_t head; /* before the kind's own magic; 0: none */
    uint32_t magic;
    size_t entry_max;
} kinds[] = {
    /* The inventory says of the others that they have two magic numbers, so it has one. */
    [CRIU_INVENTORY] = {0, 0x58313116, 64 << 10},           [CRIU_PSTREE] = {MAGIC_COMMON, 0x50273030, 1 << 20},
    [CRIU_CORE] = {MAGIC_COMMON, 0x55053847, 1 << 20},      [CRIU_IDS] = {MAGIC_COMMON, 0x54432030, 4 << 10},
    [CRIU_MM] = {MAGIC_COMMON, 0x57492820, CRIU_ENTRY_MAX}, [CRIU_PAGEMAP] = {MAGIC_COMMON, 0x56084025, 4 << 10},
    [CRIU_FDINFO] = {MAGIC_COMMON, 0x56213732, 64 << 10},   [CRIU_FILES] = {MAGIC_COMMON, 0x56303138, 256 << 10},
    [CRIU_STATS] = {MAGIC_SERVICE, 0x57093306, 4 << 10},
};
_Static_assert(ARRAY_SIZE(kinds) == CRIU_N_KINDS, "each kind needs a row");

struct criu_image {
    FILE *f;
    char name[NAME_SHOWN];
    const struct kind *kind;
    uint8_t *buf;
    size_t size;
    unsigned n; /* entries read */
};

struct criu_image *criu_image_close(struct criu_image *img) {
    if (!img)
        return NULL;
    if (img->f)
        (void)fclose(img->f);
    free(img->buf);
    free(img);
    return NULL;
}

int criu_image_error(const struct criu_image *img, int code, struct err *err, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return err_set(err, code, "%s: entry %u: %s", img->name, img->n, text);
}

/* Exactly len bytes. Returns 1, 0 at the end of the file, -EINVAL when it ends earlier. */
static int read_exactly(struct criu_image *img, void *buf, size_t len, struct err *err) {
    size_t n = fread(buf, 1, len, img->f);
    if (n == len)
        return 1;
    if (ferror(img->f))
        return err_errno(err, errno, "cannot read %s", img->name);
    if (n == 0)
        return 0;
    return err_set(err, EINVAL, "%s is cut off in entry %u", img->name, img->n);
}

static int check_magic(struct criu_image *img, struct err *err) {
    const uint32_t want[] = {img->kind->head, img->kind->magic};
    for (size_t i = img->kind->head ? 0 : 1; i < ARRAY_SIZE(want); i++) {
        uint32_t magic = 0;
        int r = read_exactly(img, &magic, sizeof(magic), err);
        if (r < 0)
            return r;
        if (r == 0 || le32toh(magic) != want[i])
            return err_set(err, EINVAL, "%s is not an image of CRIU: its magic number is 0x%08x instead of 0x%08x",
                           img->name, le32toh(magic), want[i]);
    }
    return 0;
}

int criu_image_open(int dirfd, const char *name, enum criu_kind kind, struct criu_image **ret, struct err *err) {
    cleanup_criu_image struct criu_image *img = calloc(1, sizeof(*img));
    if (!img)
        return err_set(err, ENOMEM, "out of memory");
    img->kind = &kinds[kind];
    snprintf(img->name, sizeof(img->name), "%s", name);
    /* Not blocking: a FIFO of that name must not hold us. */
    cleanup_fd int fd = path_open_beneath(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, err);
    if (fd < 0)
        return fd;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot read %s", name);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "%s is not a regular file", name);
    img->f = fdopen(fd, "re");
    if (!img->f)
        return err_errno(err, errno, "cannot read %s", name);
    (void)TAKE_FD(fd); /* owned by the stream now */
    int r = check_magic(img, err);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(img);
    return 0;
}

int criu_image_next(struct criu_image *img, const uint8_t **ret, size_t *ret_len, struct err *err) {
    uint32_t size = 0;
    img->n++;
    int r = read_exactly(img, &size, sizeof(size), err);
    if (r <= 0)
        return r;
    size = le32toh(size);
    if (img->n > CRIU_ENTRIES_MAX)
        return err_set(err, EFBIG, "%s has more than %u entries", img->name, CRIU_ENTRIES_MAX);
    if (size > img->kind->entry_max)
        return criu_image_error(img, EFBIG, err, "its length is %u, more than %zu bytes", size, img->kind->entry_max);
    if (size > img->size) {
        uint8_t *buf = realloc(img->buf, size);
        if (!buf)
            return err_set(err, ENOMEM, "%s: out of memory", img->name);
        img->buf = buf;
        img->size = size;
    }
    if (size && (r = read_exactly(img, img->buf, size, err)) <= 0)
        return r < 0 ? r : err_set(err, EINVAL, "%s is cut off in entry %u", img->name, img->n);
    *ret = img->buf;
    *ret_len = size;
    return 1;
}

int criu_image_next_message(struct criu_image *img, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret,
                            struct err *err) {
    const uint8_t *data;
    size_t len;
    int r = criu_image_next(img, &data, &len, err);
    if (r <= 0)
        return r;
    ProtobufCMessage *m = protobuf_c_message_unpack(type, NULL, len, data);
    if (!m)
        return criu_image_error(img, EINVAL, err, "not a %s message", type->short_name);
    *ret = m;
    return 1;
}

int criu_image_read_one(int dirfd, const char *name, enum criu_kind kind, const ProtobufCMessageDescriptor *type,
                        ProtobufCMessage **ret, struct err *err) {
    cleanup_criu_image struct criu_image *img = NULL;
    int r = criu_image_open(dirfd, name, kind, &img, err);
    if (r < 0 || !img)
        return r;
    r = criu_image_next_message(img, type, ret, err);
    if (r == 0)
        return err_set(err, EINVAL, "%s is cut off: it has no entry", img->name);
    return r < 0 ? r : 0;
}
