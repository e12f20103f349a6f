/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's self-check: will checkpointing work here? The kernel's options, the guest's own set-up, and CRIU's
 * opinion of the kernel, feature by feature.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/agent.h"
#include "base/err.h"

#define CHECK_KERNEL_CONFIG "/usr/lib/stasis/kernel-config"
#define CHECK_ITEMS_MAX 128
#define CHECK_TIMEOUT_USEC (UINT64_C(30) * 1000000) /* of one run of criu */
#define CRIU_PATH "/usr/sbin/criu"
/* Older ones restore processes that draw the same random numbers, and do not know our plugin's interface. */
#define CRIU_LEAST_MAJOR 4
#define CRIU_LEAST_MINOR 2

enum check_status { CHECK_OK, CHECK_WARN, CHECK_FAIL };

struct check_item {
    char name[64];
    enum check_status status;
    char detail[256];
};

struct check_result {
    struct check_item items[CHECK_ITEMS_MAX];
    size_t n;
    char criu_version[32]; /* "" if CRIU does not run */
};

/* True if nothing failed. */
bool check_passed(const struct check_result *r);

/* Adds an item for each kernel option CRIU and containers need, by the text of the kernel's configuration. */
void check_kernel_config(const char *config, struct check_result *r);

/* "4.2.1" out of "Version: 4.2.1\n…". */
void check_parse_version(const char *text, char out[32]);

/* False also for what is no version. */
bool check_version_suffices(const char *version);

/* The last line that says something, for an item's detail. */
void check_last_line(const char *text, char *out, size_t size);

/* result is valid during the call; err instead of it when the check itself could not be made. */
typedef void (*check_fn)(void *userdata, const struct check_result *result, const struct err *err);

/* Calls fn from the loop after some seconds. -EBUSY while another check is under way. A result without a failure is
 * kept as agent.criu_check. */
int check_run(struct agent *a, check_fn fn, void *userdata, struct err *err);

/* The same with no more than CRIU's version and its opinion of the kernel as a whole, which is one or two seconds. */
int check_run_brief(struct agent *a, check_fn fn, void *userdata, struct err *err);
