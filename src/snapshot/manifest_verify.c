/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <nettle/sha2.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/path.h"
#include "snapshot/manifest.h"

#define BUFFER_SIZE ((size_t)256 << 10)

int manifest_digest_file(int fd, uint64_t *ret_size, uint8_t ret_sha256[MANIFEST_DIGEST_SIZE], struct err *err) {
    cleanup_free uint8_t *buffer = malloc(BUFFER_SIZE);
    struct sha256_ctx sha;
    uint64_t at = 0;
    ssize_t n;
    if (!buffer)
        return err_set(err, ENOMEM, "out of memory");
    sha256_init(&sha);
    while ((n = pread(fd, buffer, BUFFER_SIZE, (off_t)at)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, errno, "cannot read at 0x%llx", (unsigned long long)at);
        sha256_update(&sha, (size_t)n, buffer);
        at += (uint64_t)n;
    }
    sha256_digest(&sha, MANIFEST_DIGEST_SIZE, ret_sha256);
    *ret_size = at;
    return 0;
}

int manifest_open_file(int dirfd, const char *name, struct err *err) {
    struct stat st;
    cleanup_fd int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT && errno != ELOOP && errno != ENXIO)
        return err_errno(err, errno, "cannot open %s", name);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(err, EBADMSG, "%s: must be a regular file, and is not", name);
    return TAKE_FD(fd);
}

static int verify_device(int dirfd, const struct manifest *m, struct err *err) {
    uint8_t sha256[MANIFEST_DIGEST_SIZE];
    uint64_t size = 0;
    cleanup_fd int fd = manifest_open_file(dirfd, MANIFEST_DEVICE, err);
    if (fd < 0)
        return fd;
    int r = manifest_digest_file(fd, &size, sha256, err);
    if (r < 0)
        return err_wrap(err, "%s", MANIFEST_DEVICE);
    if (size != m->device_size)
        return err_set(err, EBADMSG, "%s: has %llu bytes, and the manifest says %llu", MANIFEST_DEVICE,
                       (unsigned long long)size, (unsigned long long)m->device_size);
    if (memcmp(sha256, m->device_sha256, sizeof(sha256)) != 0)
        return err_set(err, EBADMSG, "%s: the contents do not fit the digest", MANIFEST_DEVICE);
    return 0;
}

static int verify_root(int dirfd, size_t index, const struct manifest_container *c, struct err *err) {
    char name[32];
    struct tree_totals t;
    snprintf(name, sizeof(name), "%s/%zu", MANIFEST_ROOTS, index);
    cleanup_fd int fd = path_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY, 0, err);
    if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP || fd == -EXDEV)
        return err_set(err, EBADMSG, "%s of container %s: must be a directory, and is not", name, c->id);
    if (fd < 0)
        return fd;
    int r = tree_digest(fd, &t, err);
    if (r < 0)
        return err_wrap(err, "%s of container %s", name, c->id);
    if (t.entries != c->root.totals.entries)
        return err_set(err, EBADMSG, "%s of container %s: has %llu entries, and the manifest says %llu", name, c->id,
                       (unsigned long long)t.entries, (unsigned long long)c->root.totals.entries);
    if (t.bytes != c->root.totals.bytes)
        return err_set(err, EBADMSG, "%s of container %s: has %llu bytes, and the manifest says %llu", name, c->id,
                       (unsigned long long)t.bytes, (unsigned long long)c->root.totals.bytes);
    if (memcmp(t.sha256, c->root.totals.sha256, sizeof(t.sha256)) != 0)
        return err_set(err, EBADMSG, "%s of container %s: the contents do not fit the digest", name, c->id);
    return 0;
}

int manifest_verify(int dirfd, const struct manifest *m, unsigned processes, struct err *err) {
    int r = verify_device(dirfd, m, err);
    if (r < 0)
        return r;
    cleanup_fd int memory = manifest_open_file(dirfd, MANIFEST_MEMORY, err);
    if (memory < 0)
        return memory;
    cleanup_fd int base = -1;
    if (memory_image_shared(m->memory) && (base = manifest_open_file(dirfd, MANIFEST_BASE, err)) < 0)
        return base;
    r = memory_image_verify(memory, base, m->memory, processes, err);
    for (size_t i = 0; r == 0 && i < m->n_containers; i++)
        r = verify_root(dirfd, i, &m->containers[i], err);
    return r;
}
