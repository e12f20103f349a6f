/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One image file of CRIU: a head of one or two 32-bit magic numbers, then entries, each a 32-bit size and a protobuf
 * message of that size, to the end of the file. All numbers are little-endian. The files come from a guest or from an
 * archive: nothing in them is believed, and every error names the file.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"

#define CRIU_ENTRY_MAX ((size_t)4 << 20) /* bytes; the largest we know are mm-<pid>.img with 65,530 mappings */
#define CRIU_ENTRIES_MAX (1U << 20)      /* in one file */

/* The kinds of images that are read, and the names that CRIU gives them. */
enum criu_kind {
    CRIU_INVENTORY, /* inventory.img */
    CRIU_PSTREE,    /* pstree.img */
    CRIU_CORE,      /* core-<tid>.img */
    CRIU_IDS,       /* ids-<pid>.img */
    CRIU_MM,        /* mm-<pid>.img */
    CRIU_PAGEMAP,   /* pagemap-<pid>.img */
    CRIU_FDINFO,    /* fdinfo-<files id>.img */
    CRIU_FILES,     /* files.img */
    CRIU_STATS,     /* stats-dump, stats-restore */
};
#define CRIU_N_KINDS 9

struct criu_image;

/* Opens name below dirfd, a regular file, never through a symbolic link, and checks its magic numbers. Owned by the
 * caller. Errors: -ENOENT; -EINVAL when it is no regular file or no image of that kind; open's and read's. */
int criu_image_open(int dirfd, const char *name, enum criu_kind kind, struct criu_image **ret, struct err *err);

/* The next entry: *ret is valid until the next call. Returns 1, or 0 at the end of the file. Errors: -EINVAL when the
 * file ends inside the entry, -EFBIG when the entry is larger than its kind may be, or has too many before it. */
int criu_image_next(struct criu_image *img, const uint8_t **ret, size_t *ret_len, struct err *err);

/* The same, unpacked; *ret is freed by the caller (protobuf_c_message_free_unpacked). -EINVAL when it is no message of
 * that type. */
int criu_image_next_message(struct criu_image *img, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret,
                            struct err *err);

/* For files of a single entry: opens, unpacks the first entry, closes. -EINVAL when there is none. */
int criu_image_read_one(int dirfd, const char *name, enum criu_kind kind, const ProtobufCMessageDescriptor *type,
                        ProtobufCMessage **ret, struct err *err);

/* Sets -code and "<file>: entry <number of the last one>: …", for what a reader finds wrong in a message. */
int criu_image_error(const struct criu_image *img, int code, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Accepts NULL; returns NULL. */
struct criu_image *criu_image_close(struct criu_image *img);
DEFINE_CLEANUP(struct criu_image *, criu_image_close);
#define cleanup_criu_image CLEANUP(criu_image_closep)

static inline void criu_message_freep(void *p) {
    ProtobufCMessage *m = *(ProtobufCMessage **)p;
    if (m)
        protobuf_c_message_free_unpacked(m, NULL);
}
#define cleanup_criu_message CLEANUP(criu_message_freep)
