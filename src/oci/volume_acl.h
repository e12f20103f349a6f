/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POSIX ACLs on a volume do not count in the guest: its kernel does not look at them on a mount below the share (the
 * super block of a virtiofs submount lacks SB_POSIXACL), whatever virtiofsd passes on. Modes count. So a volume is
 * looked at for them, and what is found is said.
 */
#pragma once

#include "base/err.h"
#include "base/util.h"
#include "oci/spec.h"

#define VOLUME_ACL_ENTRIES_MAX 1000              /* that are looked at */
#define VOLUME_ACL_USEC_MAX (50 * USEC_PER_MSEC) /* and for how long: a volume may be on a slow network */

/* The first file or directory found with an ACL, its own or a default one: source itself, or what is below it, the
 * nearest first. Returns 1 and its path in *ret (the caller's), 0 if there is none among those that were looked at.
 * What cannot be read has none. No link is followed but source itself. Errors: -ENOMEM. */
int volume_find_acl(const char *source, char **ret, struct err *err);

/* The same for the volumes of a container. Returns 1 and a sentence for the user, which names the mount and the file,
 * in *ret (the caller's), 0 if there is none. Errors: -ENOMEM. */
int volume_acl_ignored(const struct oci_guest_spec *guest, char **ret, struct err *err);
