/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: the sandbox object, shared by sandbox.c, boot.c and capture.c. */
#pragma once

#include "base/cgroup.h"
#include "sandbox/machine.h"
#include "sandbox/sandbox.h"
#include "sandbox/template.h"
#include "snapshot/manifest.h"
#include "snapshot/store.h"

#define CONSOLES_MAX 8

struct boot;
struct capture;

struct ready_waiter {
    sandbox_done_fn fn;
    void *userdata;
};

struct sandbox {
    sd_event *event;
    struct config config;
    char *id, *dir;
    struct host_namespaces host; /* not owned */
    unsigned state;              /* enum sandbox_state */
    struct machine machine;      /* once the VM has been started */
    struct share share;
    struct cgroup_place *cgroup; /* NULL: where it was started */
    struct vm *vm;
    struct boot *boot;                /* while BOOTING, or when a snapshot is to be loaded */
    struct template_outcome template; /* what became of it */
    struct capture *capture;          /* a snapshot is being taken */
    /* Of a copy of a snapshot: where its containers write. The directory goes with the sandbox. */
    struct store layers_store;
    char *layers_tmp; /* its name in the store; NULL: none */
    int layers_fd;    /* locked */
    int snapshot_fd;  /* of the snapshot it is a copy of, locked; -1: none */
    int base_fd;      /* memory of the template that it came from, if need be by way of snapshots; -1: none */
    int agent_fd;     /* of a VM that is being loaded; -1: none */
    struct ttrpc_client *agent;
    struct call_list calls;
    sd_event_source *boot_deadline;
    sd_event_source *grace; /* the channel closed: the VM's own end may say why */
    struct err channel_err;
    uint64_t console_logged; /* bytes that the guest's console takes in our log */
    sd_event_source *bury;   /* deferred end of a dead VM, which cannot be freed inside its own callback */
    struct err death;        /* code 0 while alive */
    char *death_cause;       /* without what it is said of; NULL: alive, or shut down */
    struct ready_waiter *waiters;
    size_t n_waiters;
    struct container **containers;
    size_t n_containers;
    struct process *consoles[CONSOLES_MAX];
    char agent_version[64], kernel_version[128];
    sd_event_source *unsaved; /* state.json could not be written, and is tried again; NULL: it is as it should be */
    struct sandbox_timing timings[SANDBOX_TIMINGS_MAX];
    size_t n_timings;
};

/* The VM is gone for good, or must go. The first cause stays; everything is told and freed from the loop. */
void sandbox_die(struct sandbox *sb, const struct err *cause);

/* boot.c: starts the VM: as a copy of a template, or by booting it. The state is BOOTING afterwards. */
int boot_start(struct sandbox *sb, struct err *err);
void boot_free(struct sandbox *sb);
void boot_tell_waiters(struct sandbox *sb, const struct err *err);
