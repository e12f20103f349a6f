/* SPDX-License-Identifier: Apache-2.0 */
/* files.img: the open files of a checkpoint, whoever has them open. Texts are printable: whatever is not becomes '?'.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CRIU_FILES_MAX (1U << 18)
#define CRIU_TEXT_MAX 4096 /* bytes of a path or a socket's name */

struct criu_file {
    uint32_t id;         /* what descriptors refer to */
    const char *kind;    /* static: "file", "pipe", "fifo", "inet", "unix", "eventfd", … "unknown" */
    const char *proto;   /* static: "tcp", "udp", …; for unix: "stream", "dgram", "seqpacket"; NULL for the rest */
    const char *state;   /* static: a TCP state ("ESTABLISHED", "LISTEN", …); NULL: none, or not TCP */
    char *name;          /* owned: a path, or a unix socket's name ("@…" abstract, "" unnamed); NULL for the rest */
    char *source, *dest; /* owned: "127.0.0.1:80", "[::1]:80"; NULL unless inet */
    uint32_t pipe_id;    /* of a pipe or FIFO: both ends have the same */
};

struct criu_files {
    struct criu_file *v; /* by rising id; owned */
    size_t n;
};

/* Errors: criu_image_open()'s (-ENOENT: CRIU before 3.3 had other files), -EFBIG for more than CRIU_FILES_MAX, -EINVAL
 * for a damaged file or an id that comes twice. */
int criu_files_read(int dirfd, struct criu_files *ret, struct err *err);

/* NULL when there is none of that id. */
const struct criu_file *criu_files_find(const struct criu_files *files, uint32_t id);

/* malloc'd text of len bytes, at most CRIU_TEXT_MAX of them: a NUL becomes '@', and any byte that is not part of
 * printable UTF-8 becomes '?'. NULL when out of memory. */
char *criu_text(const void *bytes, size_t len);

void criu_files_clear(struct criu_files *files);
#define cleanup_criu_files CLEANUP(criu_files_clear)
