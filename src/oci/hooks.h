/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OCI hooks that run in the runtime's namespaces, which here is the host: prestart, createRuntime, poststart, poststop.
 * (startContainer runs in the guest, by crun; createContainer is refused by oci_spec_for_guest.)
 */
#pragma once

#include <jansson.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "base/host_namespaces.h"

#define OCI_HOOK_TIMEOUT_USEC (UINT64_C(60) * 1000000) /* where the hook names none */

struct oci_hooks_run;

/* err is NULL when all ran. */
typedef void (*oci_hooks_done_fn)(void *userdata, const struct err *err);

/*
 * Runs the hooks of one kind ("prestart", …) one after the other without blocking the loop; each gets the container's
 * state (JSON) on stdin, its args and env, and is killed when its timeout (seconds in the spec) has passed. The first
 * failure stops (prestart, createRuntime) or is logged and skipped (poststart, poststop), as the spec says. done is
 * called from the loop, also when there is no hook. host: the namespaces to run in; copied.
 * ret (may be NULL) can be given to oci_hooks_cancel.
 */
int oci_hooks_run(sd_event *event, const json_t *spec, const char *kind, const char *state_json,
                  const struct host_namespaces *host, oci_hooks_done_fn done, void *userdata,
                  struct oci_hooks_run **ret, struct err *err);

/* Kills the running hook; done is not called. Accepts NULL; returns NULL. */
struct oci_hooks_run *oci_hooks_cancel(struct oci_hooks_run *run);
