/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a tar (libarchive, pax): what the archive and the difference of the root file system within it share. */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/util.h"

#define ARCHIVE_SEGMENTS_MAX 16384 /* of a sparse file; what is behind the last is taken for one */

/* Takes the bytes of an archive as they come. Returns 0 or -errno. */
typedef int (*archive_sink_fn)(void *userdata, const void *data, size_t len, struct err *err);

struct archive_put;

/* Begins a tar whose bytes go to sink. filter: ARCHIVE_FILTER_NONE, _GZIP, _ZSTD. dry: the data of files is not read,
 * zeros stand for it: the result has the same length (filter none). `name` is used in messages. */
int archive_put_new(archive_sink_fn sink, void *userdata, int filter, bool dry, const char *name,
                    struct archive_put **ret, struct err *err);

/* The same with times in nanoseconds, which takes a header more for each entry. */
int archive_put_new_exact(archive_sink_fn sink, void *userdata, int filter, const char *name, struct archive_put **ret,
                          struct err *err);

DEFINE_CLEANUP(struct archive_entry *, archive_entry_free);
#define cleanup_entry CLEANUP(archive_entry_freep)

/* The header of an entry, without a size, and without when it was read, which is not the container's doing. NULL: no
 * memory. */
struct archive_entry *archive_put_header(const char *path, const struct stat *st);

/* An entry of its header only, or with len bytes of data. The entry's size is set here. */
int archive_put_entry(struct archive_put *p, struct archive_entry *e, const void *data, size_t len, struct err *err);

/* An entry with the data of a regular file (not owned); its size and holes are found here. -EIO when the file is
 * shorter than it was at first. */
int archive_put_file(struct archive_put *p, struct archive_entry *e, int fd, struct err *err);

/* How many bytes of the file archive_put_file() would put: without holes that are worth a map. -EFBIG for a file beyond
 * ARCHIVE_FILE_MAX; lseek's errors. */
int archive_put_measure(int fd, const struct stat *st, uint64_t *ret);

/* In parts: a header for `size` bytes, then the bytes. A file that gets fewer is an error of the next call. */
int archive_put_begin(struct archive_put *p, struct archive_entry *e, uint64_t size, struct err *err);
int archive_put_data(struct archive_put *p, const void *data, size_t len, struct err *err);

/* Writes the end marker and what the compressor still holds. */
int archive_put_finish(struct archive_put *p, struct err *err);

/* Accepts NULL; returns NULL. Without archive_put_finish() the sink has half an archive. */
struct archive_put *archive_put_free(struct archive_put *p);
DEFINE_CLEANUP(struct archive_put *, archive_put_free);
#define cleanup_archive_put CLEANUP(archive_put_freep)
