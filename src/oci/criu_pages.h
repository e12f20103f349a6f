/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the memory of a checkpoint is all there: CRIU does not look, and waits for ever for what is not. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "proto/criu.pb-c.h"

/* Where the pages of an entry of a pagemap are: in the parent's images, fetched later, in these images. */
#define CRIU_PAGES_PARENT 1U
#define CRIU_PAGES_LAZY 2U
#define CRIU_PAGES_PRESENT 4U

/* Before it had flags, a pagemap said what is in the parent, and the rest was present. */
static inline uint32_t criu_pages_flags(const Criu__PagemapEntry *e) {
    return e->has_flags ? e->flags : e->in_parent ? CRIU_PAGES_PARENT : CRIU_PAGES_PRESENT;
}

static inline uint64_t criu_pages_count(const Criu__PagemapEntry *e) {
    return e->has_nr_pages ? e->nr_pages : e->compat_nr_pages;
}

/* Compares each pages-<n>.img below dirfd with what the pagemaps say of it, as far as these have no more than a million
 * entries together. -EINVAL, with the file's name, when one is
 * too short or missing, or a pagemap is damaged; open's and read's errors. */
int criu_pages_check(int dirfd, struct err *err);
