/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/criu_pages.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "oci/criu_checkpoint.h"
#include "oci/criu_image.h"

#define NAME_MAX_IMG 64
#define PAGES_MAX (UINT64_C(1) << 51) /* of 4 KiB: what an off_t can count */

/* What is looked at in all pagemaps together: a process with random writes has an entry for each few pages. Beyond it
 * CRIU has to find out. */
#define ENTRIES_MAX CRIU_ENTRIES_MAX

/* How many pages of these are in the file. */
static int count(const struct criu_image *img, const Criu__PagemapEntry *e, uint64_t *pages, struct err *err) {
    uint64_t n = criu_pages_count(e);
    if (!(criu_pages_flags(e) & CRIU_PAGES_PRESENT))
        return 0;
    if (n > PAGES_MAX - *pages)
        return criu_image_error(img, EINVAL, err, "more pages than there can be");
    *pages += n;
    return 0;
}

static int check_file(int dirfd, uint32_t id, uint64_t pages, const char *pagemap, struct err *err) {
    char name[NAME_MAX_IMG];
    struct stat st = {0};
    snprintf(name, sizeof(name), "pages-%u.img", id);
    if (pages == 0)
        return 0;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? err_set(err, EINVAL, "%s is missing, of which %s has pages", name, pagemap)
                               : err_errno(err, errno, "cannot look at %s", name);
    if ((uint64_t)st.st_size < pages * CRIU_PAGE_SIZE)
        return err_set(err, EINVAL, "%s is cut off: it has %lld bytes, and by %s it has to have %llu", name,
                       (long long)st.st_size, pagemap, (unsigned long long)(pages * CRIU_PAGE_SIZE));
    return 0;
}

static int check_pagemap(int dirfd, const char *name, size_t *entries, struct err *err) {
    cleanup_criu_image struct criu_image *img = NULL;
    cleanup_criu_message ProtobufCMessage *head = NULL;
    uint64_t pages = 0;
    int r = criu_image_open(dirfd, name, CRIU_PAGEMAP, &img, err);
    if (r == 0)
        r = criu_image_next_message(img, &criu__pagemap_head__descriptor, &head, err);
    if (r >= 0 && !head)
        return err_set(err, EINVAL, "%s is cut off: it has no entry", name);
    while (r >= 0) {
        cleanup_criu_message ProtobufCMessage *m = NULL;
        if (++*entries >= ENTRIES_MAX)
            return 0;
        r = criu_image_next_message(img, &criu__pagemap_entry__descriptor, &m, err);
        if (r == 0)
            return check_file(dirfd, ((const Criu__PagemapHead *)head)->pages_id, pages, name, err);
        if (r > 0)
            r = count(img, (const Criu__PagemapEntry *)m, &pages, err);
    }
    return r;
}

int criu_pages_check(int dirfd, struct err *err) {
    int copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_dir DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir) {
        int code = errno;
        fd_close(copy);
        return err_errno(err, code, "cannot read the images");
    }
    for (size_t entries = 0;;) {
        errno = 0;
        const struct dirent *d = readdir(dir);
        if (!d)
            return errno ? err_errno(err, errno, "cannot read the images") : 0;
        /* Of processes, and of memory that they share: pagemap-shmem-<n>.img. */
        if (strncmp(d->d_name, "pagemap-", strlen("pagemap-")) != 0 || strlen(d->d_name) >= NAME_MAX_IMG)
            continue;
        int r = check_pagemap(dirfd, d->d_name, &entries, err);
        if (r < 0)
            return r;
    }
}
