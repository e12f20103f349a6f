/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Out-of-memory kills, told to whoever asked (Events, a long poll). A count is told once; what happens while nobody
 * asks is told to the next who does. If that answer is lost with its session, so is the news, but not the count.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define OOM_WAITERS_MAX 16

struct agent;
struct container;

/* kills: all since the container was created. err: abandoned, or the container was deleted. */
typedef void (*oom_fn)(void *userdata, const char *container_id, uint64_t kills, const struct err *err);

struct oom_waiter {
    struct container *container; /* NULL: any */
    oom_fn fn;
    void *userdata;
};

struct oom_waiters {
    struct oom_waiter v[OOM_WAITERS_MAX];
    size_t n;
    uint64_t told; /* counts what was told, so that the containers take turns */
    bool held;
};

/* Begins to watch a container's memory.events. */
int oom_watch(struct container *c, struct err *err);

/* The container goes: ends the watch, and the calls that wait for it with -ENOENT. */
void oom_forget(struct container *c);

/* Reads the count anew, and tells it. */
void oom_update(struct container *c);

/* Waits for a kill in one container, or in any (NULL). May call fn from within. -EBUSY when too many wait. */
int oom_wait(struct agent *a, struct container *c, oom_fn fn, void *userdata, struct err *err);

/* While held, nobody is told. */
void oom_hold(struct agent *a, bool on);

/* Abandons all. */
void oom_void(struct agent *a);
