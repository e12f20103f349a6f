/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's memory before it is copied: what is written goes to the host, and what can be had again is dropped. Each
 * inode that the guest still knows the host's file server must find again for the copy, so few of them is what counts.
 * These take their time and belong in a child process.
 */
#pragma once

#include "base/err.h"

/* Writes all that is dirty to the host. */
void caches_sync(void);

/* Waits until the host's file server has taken what it was told before: which inodes are forgotten. share: a directory
 * of it. */
int caches_tell_host(const char *share, struct err *err);

/* Drops page cache, names and inodes that nobody uses, and waits until the host has heard of it. */
int caches_drop(const char *share, struct err *err);

/* Makes the rest of the memory small. */
int caches_shrink(struct err *err);

/* Waits for what the kernel has put off until nobody can look at it any more (RCU): every copy would do it again. */
void caches_settle(void);

/* Lets crun make a container and delete it, so that what every start needs is read again. What is not read now is read
 * later. */
void caches_warm(const char *crun);
