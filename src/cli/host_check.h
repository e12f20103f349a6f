/* SPDX-License-Identifier: Apache-2.0 */
/* The list that `stasis check` prints, and those of its items that need no guest. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/config.h"
#include "base/err.h"
#include "base/util.h"

#define CHECK_ITEMS_MAX 256

enum check_status { CHECK_OK, CHECK_WARN, CHECK_FAIL };

struct check_item {
    char *name, *detail; /* owned */
    enum check_status status;
};

struct check_list {
    struct check_item items[CHECK_ITEMS_MAX];
    size_t n;
};

void check_list_clear(struct check_list *l);
#define cleanup_check_list CLEANUP(check_list_clear)

/* More than CHECK_ITEMS_MAX are dropped. */
void check_add(struct check_list *l, enum check_status status, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

bool check_has_failed(const struct check_list *l);
const char *check_status_name(enum check_status status);

/* "ok    name: detail", one line each. */
void check_print(const struct check_list *l, FILE *out);

/* Root, VMM root, virtiofsd, guest, vsock, tun, cgroup. Returns true if a guest can be started at all. */
bool check_host(struct check_list *l, const struct config *config);
