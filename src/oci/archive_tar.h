/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a tar that somebody else made (libarchive), within bounds. Only tar is read, plain, or compressed once by
 * gzip or zstd; no other format or filter of libarchive can be reached. Between the decompressor and the tar reader
 * every byte is counted, so that neither a bomb nor headers without end cost more than the bounds below.
 */
#pragma once

#include <archive_entry.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"

#define ARCHIVE_STEP_MAX ((size_t)2 << 20)        /* decompressed bytes of one entry's headers, or of one block */
#define ARCHIVE_FREE_RESERVE ((uint64_t)64 << 20) /* bytes that are left free on the file system written to */
#define ARCHIVE_FILE_MAX (UINT64_C(1) << 50)      /* bytes of one file, holes counted: work for each GiB */
#define ARCHIVE_SHOWN 256                         /* bytes of an entry's name in messages */

enum archive_compression { ARCHIVE_PLAIN, ARCHIVE_GZIP, ARCHIVE_ZSTD };

struct archive_limits {
    uint64_t bytes_max; /* of all files in it, without holes; with holes each may have ARCHIVE_FILE_MAX */
    uint32_t entries_max;
    int (*stop)(void); /* asked at every block: not 0 ends the reading with -EINTR; NULL: never */
};

struct archive_tar;

/* Reads from fd (a regular file or a pipe; not owned, must stay open) at its position; `name` is used in messages.
 * compressed: gzip and zstd are accepted too, by their magic numbers. Errors: -EINVAL when it is nothing of that. */
int archive_tar_open(int fd, const char *name, bool compressed, const struct archive_limits *limits,
                     struct archive_tar **ret, struct err *err);

/* The next entry, valid until the next call; what was not read of the last one is skipped. Its names are bytes as they
 * stand in the archive. Returns 1, or 0 at the end. Errors: -EINVAL when the archive is damaged or cut off (one without
 * its end marker is), -EFBIG beyond a bound. */
int archive_tar_next(struct archive_tar *t, struct archive_entry **ret, struct err *err);

/* The next bytes of the entry and where they belong, always behind those before and within the entry's size; between
 * them are holes. Returns 1, or 0 at the end. */
int archive_tar_block(struct archive_tar *t, const void **ret, size_t *ret_len, uint64_t *ret_offset, struct err *err);

/* Writes the entry's data to fd, an empty regular file, holes and pages of zeros as holes. -ENOSPC also when less than
 * ARCHIVE_FREE_RESERVE would be left. */
int archive_tar_save(struct archive_tar *t, int fd, struct err *err);

/* Reads the entry's data into a malloc'd, NUL-terminated buffer; -EFBIG when it has more than max bytes. */
int archive_tar_read(struct archive_tar *t, size_t max, char **ret, size_t *ret_len, struct err *err);

/* Copies a name of the current entry (its own, or a link's target) to buf as a path from the archive's top: without a
 * leading "./" and a trailing slash, "" for the top itself. -EINVAL when it is absolute, leads out of the archive, has
 * empty components, or is longer than size - 1 bytes. */
int archive_tar_path(const struct archive_tar *t, const char *name, char *buf, size_t size, struct err *err);

/* How the archive was compressed. */
enum archive_compression archive_tar_compression(const struct archive_tar *t);

/* Accepts NULL; returns NULL. */
struct archive_tar *archive_tar_close(struct archive_tar *t);
DEFINE_CLEANUP(struct archive_tar *, archive_tar_close);
#define cleanup_archive_tar CLEANUP(archive_tar_closep)

/* Sets -code and "<archive>: entry \"<name>\": …" for what is wrong with the current entry. */
int archive_tar_error(const struct archive_tar *t, int code, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
