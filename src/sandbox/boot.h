/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internal: how a sandbox's VM comes to be.
 *
 * Theory of operation. Three ways. A cold boot starts QEMU with a kernel and waits for the agent. A copy of a template
 * or of a snapshot starts QEMU without one, fills its memory in a worker at the same time, loads the device state, and
 * has the agent make the copy a machine of its own (Thaw) before anything in it runs on. The template is made by the
 * first cold boot, when its agent is ready and before it has heard of any container; a damaged one is removed, with a
 * warning, and the VM boots.
 */
#pragma once

#include "sandbox/machine.h"
#include "sandbox/sandbox_impl.h"

struct worker;

enum boot_kind { BOOT_COLD, BOOT_TEMPLATE, BOOT_SNAPSHOT };

struct boot {
    enum boot_kind kind;
    int source_fd;                     /* the directory of what is loaded, locked; -1: none */
    char *source;                      /* its path, for messages */
    int device_fd, memory_fd, base_fd; /* of it; base_fd -1: its memory has none */
    struct manifest manifest;          /* of it */
    bool new_identity;                 /* a snapshot's copy under another id */
    bool check_files;                  /* those in use in it are to be there */
    struct worker *fill;
    sd_event_source *again;  /* deferred cold boot after a template failed */
    struct err failure;      /* of the template */
    const char *build_store; /* where a template is to be made of this VM; NULL: nowhere */
    int build_lock;          /* while it is; -1: not */
};

/* For a sandbox that is NEW: its VM is to be a copy of this snapshot. dir_fd is taken on success, the manifest moved.
 */
int boot_prepare_snapshot(struct sandbox *sb, int dir_fd, const char *path, struct manifest *manifest,
                          bool new_identity, bool check_files, struct err *err);

/* boot_load.c: fills memory and loads the state; goes on with boot_connect(). */
int boot_load(struct sandbox *sb, struct err *err);
/* The template cannot be used: the VM boots, from the loop. */
void boot_fall_back(struct sandbox *sb, const struct err *why);
/* Connects to the agent of a VM that runs. */
int boot_connect(struct sandbox *sb, int agent_fd, struct err *err);
/* The agent has said Hello to a copy. */
void boot_thaw(struct sandbox *sb);
/* Everything is there: tells the waiters. */
void boot_ready(struct sandbox *sb);

/* template.c */
/* Opens the template for sb->machine, if there is one: boot.kind is then BOOT_TEMPLATE. */
int template_find(struct sandbox *sb, struct err *err);
/* The one that was found is of no use: removes it. */
void template_discard(struct sandbox *sb);
/* Makes it of the VM, whose agent is ready; goes on with boot_ready(), whatever becomes of it. */
void template_make(struct sandbox *sb);
