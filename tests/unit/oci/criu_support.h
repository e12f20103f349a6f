/* SPDX-License-Identifier: Apache-2.0 */
/* Image files for the tests of CRIU's readers: those of tests/fixtures/criu (written by CRIU's own crit), changed. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oci/criu_image.h"
#include "proto/criu.pb-c.h"
#include "tmpdir.h"

#define FIXTURES_CRIU FIXTURES "/criu"
#define CRIU_FIXTURE_PAGES 5 /* that pagemap-1.img says are in pages-1.img */
#define MAGICS 8             /* bytes before the first entry, in all images but the inventory */

static const char *const criu_fixtures[] = {
    "core-1.img", "core-7.img", "core-12.img",   "fdinfo-1.img",  "files.img",  "ids-1.img",
    "ids-7.img",  "ids-12.img", "inventory.img", "pagemap-1.img", "pstree.img", "stats-dump",
};

/* malloc'd bytes of a fixture. */
static inline char *criu_fixture(const char *name, size_t *len) {
    cleanup_free char *path = path_join(FIXTURES_CRIU, name);
    char *data = NULL;
    struct err e = ERR_INIT;
    if (file_read_at(AT_FDCWD, path, CRIU_ENTRY_MAX, &data, len, &e) < 0)
        fail_msg("%s", e.msg);
    return data;
}

static inline void criu_write(const struct tmpdir *t, const char *name, const void *data, size_t len) {
    cleanup_free char *path = tmpdir_path(t, name);
    assert_int_equal(file_write_atomic(path, data, len, 0600, false, NULL), 0);
}

/* The whole checkpoint of the fixtures. */
static inline void criu_write_all(const struct tmpdir *t) {
    for (size_t i = 0; i < ARRAY_SIZE(criu_fixtures); i++) {
        size_t len;
        cleanup_free char *data = criu_fixture(criu_fixtures[i], &len);
        criu_write(t, criu_fixtures[i], data, len);
    }
    cleanup_free char *path = tmpdir_path(t, "pages-1.img");
    cleanup_fd int pages = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(pages, CRIU_FIXTURE_PAGES * 4096), 0);
}

/* An image as it grows: its magic numbers are those of a fixture. */
struct criu_bytes {
    uint8_t *data;
    size_t len, size;
};

static inline void criu_bytes_clear(struct criu_bytes *b) {
    free(b->data);
}
#define cleanup_criu_bytes CLEANUP(criu_bytes_clear)

static inline void criu_append(struct criu_bytes *b, const void *data, size_t len) {
    if (b->len + len > b->size) {
        b->size = 2 * (b->len + len);
        b->data = realloc(b->data, b->size);
    }
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

static inline void criu_begin(struct criu_bytes *b, const char *like) {
    size_t len;
    cleanup_free char *data = criu_fixture(like, &len);
    b->len = 0;
    criu_append(b, data, MAGICS);
}

static inline void criu_entry(struct criu_bytes *b, const void *message) {
    const ProtobufCMessage *m = message;
    uint32_t size = (uint32_t)protobuf_c_message_get_packed_size(m);
    cleanup_free uint8_t *data = malloc(size + 1);
    protobuf_c_message_pack(m, data);
    criu_append(b, &size, sizeof(size));
    criu_append(b, data, size);
}
