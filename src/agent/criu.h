/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRIU's options, and its turn.
 *
 * Theory of operation. crun drives CRIU and has flags for most options. For the others there is CRIU's configuration
 * file, of which there is one for all of the guest: it holds the options of the operation under way and is gone when
 * that is over. Hence one operation at a time; the next begins when the one before has ended (criu_enter, criu_leave).
 * What crun itself tells CRIU wins over the file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"

#define CRIU_CONF "/run/criu/default.conf" /* the guest's /etc/criu is a link to /run/criu */
#define CRIU_CONF_MAX 4096
#define CRIU_PRELOAD "/usr/lib/stasis/criu-direct.so"
#define CRIU_LOG_LEVEL 4 /* what crun sets, come what may */
/* A deleted file that is open is kept in the images with its content, if it is not larger than this (CRIU's own limit
 * is 1 MiB). */
#define CRIU_GHOST_LIMIT (UINT64_C(64) << 20)

enum criu_operation { CRIU_DUMP, CRIU_RESTORE };

/* Borrowed strings; NULL is "". */
struct criu_options {
    bool tcp_established, tcp_skip_in_flight, tcp_close, ext_unix_sk, shell_job, file_locks, auto_dedup, lazy_pages,
        link_remap;
    const char *manage_cgroups_mode, *network_lock, *lsm_profile, *lsm_mount_context, *page_server;
    char *const *empty_ns;
    size_t n_empty_ns;
    bool own_network;      /* restore: it gets a network namespace of its own */
    bool check_cpu;        /* restore: the images say what the CPU had that they were made on */
    unsigned dump_seconds; /* dump: what stopping the processes may take; 0: CRIU's own limit, 10 */
    uint32_t log_level;
};

/* Refuses, by its name, what cannot be honoured: -EINVAL for a value there is not, -EOPNOTSUPP for the rest. */
int criu_options_check(const struct criu_options *o, enum criu_operation op, struct err *err);

/* Adds crun's flags. Returns 0 or -ENOMEM. */
int criu_options_argv(const struct criu_options *o, enum criu_operation op, struct strv *argv);

/* The text of the configuration file, for options that were checked. */
void criu_options_conf(const struct criu_options *o, enum criu_operation op, char out[CRIU_CONF_MAX]);

/* A place in the queue; lives in its owner, zero-initialise. */
struct criu_turn {
    struct criu_turn *next;
    void (*fn)(void *userdata); /* it is this one's turn; NULL: not in the queue */
    void *userdata;
    char conf[CRIU_CONF_MAX];
};

struct criu_queue {
    struct criu_turn *head; /* the one whose turn it is */
    const char *conf_path;  /* CRIU_CONF; its directory is made when it is needed */
    const char *work_path;  /* CRIU_WORK */
    const char *yard_path;  /* CRIU_YARD */
    const char *preload;    /* CRIU_PRELOAD (criu_direct.c); NULL: CRIU runs without it */
};

/* Calls fn when all before have left, perhaps from within. t->conf is set. fn writes the file with criu_write_conf().
 */
void criu_enter(struct criu_queue *q, struct criu_turn *t, void (*fn)(void *userdata), void *userdata);
int criu_write_conf(const struct criu_queue *q, const struct criu_turn *t, struct err *err);

/* Leaves the queue, from whatever place in it, and lets the next begin; removes the file. No harm if not in it. */
void criu_leave(struct criu_queue *q, struct criu_turn *t);
