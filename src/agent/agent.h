/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent: PID 1 of the guest, which does what the sandbox daemon asks.
 *
 * Theory of operation. One loop. The daemon's calls come in through rpc.c, which knows the protocol and nothing else; a
 * call ends in a container (container.h), a process (process.h) or the guest itself, and is answered by a callback.
 * What takes time is a child process (job.h), above all crun (crun.h). Nothing here decides: the specification was
 * checked and rewritten by the daemon, ids were validated; they are checked again where a mistake would reach beyond
 * its container.
 *
 *   rpc → container → process → stream       container → crun → job → children
 *         console, check, stats, ps                oom, cgroup, freezer
 *                     checkpoint, restore → criu → crun
 *         snapshot → caches, deleted, identity, boot_id
 *
 * Bounds: AGENT_CONTAINERS_MAX, CONTAINER_EXECS_MAX, PROCESS_WAITERS_MAX, STREAM_CHUNK_MAX, CRUN_LOG_MAX, …; each is
 * named where it is applied. When the channel begins a new session, agent_void_calls() abandons what the old one asked
 * for; containers, processes and their unread output stay as they are.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "agent/criu.h"
#include "agent/crun.h"
#include "agent/oom.h"
#include "agent/snapshot.h"
#include "base/log.h"

#define AGENT_PROTOCOL_VERSION 1
#define AGENT_CONTAINERS_MAX 256
#define AGENT_CONSOLES_MAX 16
#define AGENT_RUN_DIR "/run/stasis"
#define AGENT_BUNDLES AGENT_RUN_DIR "/bundles"
#define AGENT_NAMESPACES AGENT_RUN_DIR "/ns"

struct check_result;
struct children;
struct container;
struct process;
struct trim;
struct ttrpc_server;

struct agent {
    sd_event *event;
    struct children *children;
    struct crun crun;
    struct ttrpc_server *server;
    struct trim *trim;            /* NULL in tests */
    struct container *containers; /* list */
    size_t n_containers;
    struct process *consoles; /* list */
    size_t n_consoles;
    enum log_level log_level; /* of the kernel's command line; error if it says nothing */
    bool console_allowed;
    bool checking;             /* a self-check is under way */
    const char *bundle_dir;    /* AGENT_BUNDLES */
    const char *namespace_dir; /* AGENT_NAMESPACES */
    int spare_network;         /* made for the next container that gets one; -1: none */
    const char *cgroup_root;   /* CGROUP_ROOT */
    struct oom_waiters oom;
    struct criu_queue criu;
    struct check_result *criu_check; /* that CRIU works here, once it is known; NULL before */
    const char *criu_path;           /* CRIU_PATH */
    const char *share_dir;           /* INIT_SHARE_DIR */
    bool needs_own_pids;             /* a checkpoint is of a container with pids of its own; false in tests */
    struct snapshot snapshot;
    const char *random_path; /* IDENTITY_RANDOM */
    bool own_boot_id;        /* boot_id.h */
};

/* How every operation that takes time answers; err is NULL on success. */
typedef void (*agent_done_fn)(void *userdata, const struct err *err);
/* The same for those that make a process. */
typedef void (*agent_pid_fn)(void *userdata, pid_t pid, const struct err *err);
