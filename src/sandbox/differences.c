/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/differences.h"

#include "base/log.h"
#include "oci/network.h"
#include "oci/volume_acl.h"
#include "sandbox/container_impl.h"

/* text: a sentence; NULL: there is nothing to say. */
static int report(const struct container *c, const char *text, bool refuse, const char *key, struct err *err) {
    if (!text)
        return 0;
    if (refuse)
        return err_set(err, EOPNOTSUPP, "container %s: %s (%s)", c->id, text, key);
    log_warn("container %s: %s", c->id, text);
    return 0;
}

int container_check_differences(const struct container *c, struct err *err) {
    cleanup_free char *text = NULL;
    for (size_t i = 0; i < c->guest.notes.n; i++)
        log_warn("container %s: %s", c->id, c->guest.notes.v[i]);
    int r = volume_acl_ignored(&c->guest, &text, err);
    return r < 0 ? r : report(c, text, sandbox_config(c->sb)->acl_refuse, "[container] acl", err);
}

int container_check_network(const struct container *c, pid_t host_pid, struct err *err) {
    cleanup_free char *text = NULL;
    int r = c->pod_member ? 0 : oci_network_missing(c->spec, host_pid, &text, err);
    return r < 0 ? r : report(c, text, sandbox_config(c->sb)->network_refuse, "[network] missing", err);
}
