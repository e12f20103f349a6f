/* SPDX-License-Identifier: Apache-2.0 */
/* In place of the sandbox and the container, for the tests of process.c. */
#pragma once

#include "sandbox/container.h"
#include "sandbox/process.h"
#include "sandbox/sandbox.h"

struct sandbox {
    sd_event *event;
    struct ttrpc_client *client;
    struct process *killed;
    size_t n_kills;
};

sd_event *sandbox_event(const struct sandbox *sb) {
    return sb->event;
}

struct ttrpc_client *sandbox_agent(const struct sandbox *sb) {
    return sb->client;
}

void sandbox_kill_quietly(struct sandbox *sb, struct process *p) {
    sb->killed = p;
    sb->n_kills++;
}

void sandbox_signal_quietly(struct sandbox *sb, struct process *p, int sig, bool all) {
    (void)sig;
    (void)all;
    sandbox_kill_quietly(sb, p);
}

#define CREATED_WALL_USEC 500

uint64_t container_created_wall_usec(const struct container *c) {
    (void)c;
    return CREATED_WALL_USEC;
}

bool container_kill_unrestored(struct container *c) {
    (void)c;
    return false;
}

const char *container_id(const struct container *c) {
    (void)c;
    return "c1";
}

const char *container_guest_id(const struct container *c) {
    (void)c;
    return "c1";
}

struct process *container_find(const struct container *c, const char *exec_id) {
    (void)c;
    (void)exec_id;
    return NULL;
}
