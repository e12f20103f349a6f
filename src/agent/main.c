/* SPDX-License-Identifier: Apache-2.0 */
/* The start of PID 1. From here on there is no way back: a failure is a line on the console and the end of the machine,
 * which the daemon notices. */
#include <signal.h>
#include <stdlib.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/boot_id.h"
#include "agent/cgroup.h"
#include "agent/check.h"
#include "agent/criu_cgroups.h"
#include "agent/criu_work.h"
#include "agent/guest.h"
#include "agent/identity.h"
#include "agent/init.h"
#include "agent/rpc.h"
#include "agent/trim.h"
#include "base/log.h"
#include "base/util.h"

static uint64_t uptime_usec(void) {
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

static int boot(struct agent *a, struct err *err) {
    struct init_options options = {.log_level = LOG_LEVEL_ERROR};
    uint64_t begun = uptime_usec();
    int r = init_mount_proc(err);
    if (r == 0)
        r = init_read_options(&options, err);
    if (r < 0)
        return r;
    a->log_level = options.log_level;
    log_set_level(MAX(options.log_level, LOG_LEVEL_INFO));
    (void)reboot(RB_DISABLE_CAD); /* an old custom of the keyboard, which there is none of */
    r = init_system(err);
    if (r == 0)
        r = init_share(err);
    init_online_cpus();
    log_debug("begun %.1f ms after the kernel's start, set up after %.1f ms", (double)begun / (double)USEC_PER_MSEC,
              (double)uptime_usec() / (double)USEC_PER_MSEC);
    return r;
}

static int start(struct agent *a, struct err *err) {
    struct err unread = ERR_INIT;
    if (boot_id_keep_unread(&unread) < 0)
        log_warn("%s", unread.msg); /* only copies of a template have it in common then */
    int r = sd_event_new(&a->event);
    if (r < 0)
        return err_errno(err, -r, "cannot make the event loop");
    r = children_new(a->event, &a->children, err);
    if (r == 0)
        r = trim_new(a->event, &a->trim, err);
    if (r < 0)
        return r;
    a->bundle_dir = AGENT_BUNDLES;
    a->namespace_dir = AGENT_NAMESPACES;
    a->spare_network = -1;
    a->cgroup_root = CGROUP_ROOT;
    a->share_dir = INIT_SHARE_DIR;
    a->random_path = IDENTITY_RANDOM;
    a->criu_path = CRIU_PATH;
    a->needs_own_pids = true;
    a->criu.conf_path = CRIU_CONF;
    a->criu.work_path = CRIU_WORK;
    a->criu.yard_path = CRIU_YARD;
    a->criu.preload = CRIU_PRELOAD;
    a->crun = (struct crun){.event = a->event, .children = a->children, .path = CRUN_PATH, .dir = CRUN_DIR};
    int fd = init_open_port(INIT_PORT_NAME, INIT_PORT_TIMEOUT_USEC, err);
    if (fd < 0)
        return fd;
    r = rpc_start(a, fd, err);
    log_debug("ready after %.1f ms", (double)uptime_usec() / (double)USEC_PER_MSEC);
    return r;
}

int main(int argc, char **argv) {
    (void)argv;
    struct agent agent = {0};
    struct err err = ERR_INIT;
    log_set_format(LOG_FORMAT_CONSOLE);
    if (getpid() != 1 || argc < 1) {
        log_error("this is PID 1 of a stasis guest and does nothing elsewhere");
        return 1;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    /* The kernel gives PID 1 no PATH; crun, and CRIU through it, look for their helpers there. */
    (void)clearenv();
    (void)setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
    (void)setenv("HOME", "/root", 1);
    int r = boot(&agent, &err);
    if (r == 0)
        r = start(&agent, &err);
    /* A handler's failure is logged by sd-event's caller, that is here; the loop itself goes on. */
    while (r >= 0) {
        r = sd_event_run(agent.event, UINT64_MAX);
        if (r < 0)
            err_errno(&err, -r, "the event loop failed");
    }
    log_error("%s", err.msg);
    guest_power_off();
}
