/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/guest.h"

#include <sys/reboot.h>
#include <unistd.h>

#include "agent/init.h"
#include "base/log.h"
#include "base/util.h"
#include "ttrpc/server.h"

#define FLUSH_USEC (UINT64_C(1) * USEC_PER_SEC)

int guest_hello(struct agent *a, const struct guest_hello *h, struct err *err) {
    if (h->log_level > LOG_LEVEL_DEBUG)
        return err_set(err, EINVAL, "there is no log level %u", h->log_level);
    int r = h->wall_usec ? init_set_clock(h->wall_usec, err) : 0;
    if (r == 0 && *h->hostname)
        r = init_set_hostname(h->hostname, err);
    if (r == 0)
        log_set_level(MAX((enum log_level)h->log_level, a->log_level));
    return r;
}

void guest_power_off(void) {
    sync();
    /* The message of a failure is of no use to anybody; the next attempt is. */
    (void)reboot(RB_POWER_OFF);
    (void)reboot(RB_AUTOBOOT);
    for (;;)
        pause();
}

static int on_shutdown(sd_event_source *source, void *userdata) {
    struct agent *a = userdata;
    sd_event_source_disable_unref(source);
    log_info("powering off");
    if (ttrpc_server_flush(a->server, FLUSH_USEC) < 0)
        log_warn("the answer to Shutdown could not be sent");
    guest_power_off();
}

void guest_shutdown_begin(struct agent *a) {
    sd_event_source *source = NULL;
    if (sd_event_add_defer(a->event, &source, on_shutdown, a) < 0)
        guest_power_off();
}
