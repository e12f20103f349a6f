/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding a container by its id. The directory says which sandboxes there are; what is in one and how that is going its
 * daemon is asked, as long as it lives: state.json may be old (oci/state.h). For one that does not answer within
 * LOOKUP_TIMEOUT the file counts, with a warning.
 */
#pragma once

#include "base/config.h"
#include "base/err.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/sandbox_dir.h"
#include "cli/session.h"
#include "oci/state.h"

#define LOOKUP_TIMEOUT (5 * USEC_PER_SEC)

struct lookup {
    struct sandbox_dir dir;
    struct oci_sandbox_state state;
    struct oci_container_state *container; /* in state */
    bool silent;                           /* the daemon lives and does not answer */
};
#define LOOKUP_NONE                                                                                                    \
    (struct lookup) {                                                                                                  \
        .dir = SANDBOX_DIR_NONE                                                                                        \
    }

/* Looks in ROOT/ID first, then through the containers of all other sandboxes (a pod's sandbox holds several). -ENOENT:
 * "container does not exist". */
int lookup_container(const struct cli *cli, const char *id, struct lookup *ret, struct err *err);
void lookup_clear(struct lookup *l); /* accepts LOOKUP_NONE */
#define cleanup_lookup CLEANUP(lookup_clear)

/* Calls fn for each container of each sandbox in the root; sandboxes whose state cannot be read are logged and skipped.
 * Stops at the first negative return. No root is no error. */
int lookup_each(const struct cli *cli, int (*fn)(const struct oci_container_state *c, void *userdata), void *userdata,
                struct err *err);

/* As lookup_container; refuses a stopped one with "container not running". */
int lookup_running(const struct cli *cli, const char *id, struct lookup *ret, struct err *err);

/* Connects to the daemon of what was looked up, with the configured deadline for calls. */
int lookup_connect(const struct cli *cli, const struct lookup *l, struct session *s, struct err *err);
