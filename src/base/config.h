/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stasis.conf (INI, read with libinih). Keys are one table in config.c, which docs/configuration.md is tested against.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"

#define CONFIG_DEFAULT_PATH "/etc/stasis/stasis.conf"
#define CONFIG_FILE_MAX ((size_t)1 << 20)

enum accel { ACCEL_AUTO, ACCEL_KVM, ACCEL_TCG };
enum channel_kind { CHANNEL_VIRTIO_SERIAL, CHANNEL_VSOCK };

struct config {
    /* [vm] */
    enum accel accel;         /* accel = auto|kvm|tcg */
    uint32_t cpus;            /* cpus = N; default 2, 1 … 255 */
    uint64_t memory;          /* memory = SIZE, bytes; default 2G, 128M … 1T */
    uint64_t memory_max;      /* memory_max = SIZE that a spec may ask for, bytes; default 0: what the host has */
    uint32_t cpus_max;        /* cpus_max = N that a spec may ask for; default 0: what the host has */
    char kernel_params[1024]; /* kernel_params = text appended to the guest's command line */
    char vmm_root[1024];      /* vmm_root = DIR; default: found beside the program */
    char guest_dir[1024];     /* guest = DIR; default: found beside the program */
    uint64_t boot_timeout;    /* boot_timeout = seconds, kept in µs; default 60 */
    bool use_template;        /* template = true|false; default true */
    /* [agent] */
    uint64_t rpc_timeout; /* timeout = seconds, kept in µs; default 60 */
    bool debug_console;   /* debug_console = true|false; default false */
    /* [container] */
    uint32_t pids_limit; /* pids_limit = N of a container whose spec has none; default 2048; 0: unlimited */
    bool acl_refuse;     /* acl = warn|refuse; default warn */
    /* [checkpoint] */
    bool checkpoint_enable;      /* enable = true|false; default true */
    uint64_t checkpoint_timeout; /* timeout = seconds, kept in µs; default 600 */
    uint32_t criu_log_level;     /* criu_log_level = 0 … 4; default 4 */
    /* [snapshot] */
    char snapshot_dir[1024]; /* dir = DIR; default /var/lib/stasis/snapshots */
    char template_dir[1024]; /* templates = DIR; default /var/lib/stasis/templates */
    /* [network] */
    bool network_refuse; /* missing = warn|refuse; default warn */
    /* [log] */
    enum log_level log_level; /* level = error|warn|info|debug; default info */
    bool guest_console;       /* guest_console = true|false: the guest's console in the sandbox's log; default true */
    uint64_t guest_log_max;   /* guest_log_max = SIZE, bytes of the log; default 1M, 64K … 1G */
};

/* The defaults. */
void config_init(struct config *c);

/* Reads path over the defaults; NULL: CONFIG_DEFAULT_PATH, which need not exist. Unknown sections and keys, duplicate
 * keys and values out of range are errors (-EINVAL) that name file, line, key and what is allowed. */
int config_load(struct config *c, const char *path, struct err *err);

/* The same from memory, over what c holds already. `name` stands for the file in messages. */
int config_parse(struct config *c, const char *name, const char *text, struct err *err);

/* µs after which a start has certainly ended, one way or the other: a template may be tried, the VM boot, a template be
 * made of it, and the agent be asked. */
uint64_t config_start_limit(const struct config *c);

/* The table, for the documentation's test and `stasis check`. */
struct config_key {
    const char *section, *key, *type, *default_text, *help;
};
const struct config_key *config_keys(size_t *ret_n);
