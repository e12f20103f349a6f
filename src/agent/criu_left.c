/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu_left.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

#define POLL_USEC (20 * USEC_PER_MSEC)
#define PROC_FILE_MAX ((size_t)4096)
#define GIVE_UP_USEC (5 * USEC_PER_SEC) /* from SIGKILL on: what then still is there hangs in the kernel */

/* libcriu runs `criu swrk FD`, which later calls itself "criu: dump …"; `criu check` is another one. */
static bool is_name(const char *cmdline, size_t len) {
    static const char began[] = "criu\0swrk", later[] = "criu: ";
    return (len >= sizeof(began) && memcmp(cmdline, began, sizeof(began)) == 0) ||
           strncmp(cmdline, later, sizeof(later) - 1) == 0;
}

/* In a container anything may have the name. */
static bool is_criu(int proc, const char *pid) {
    char path[300];
    cleanup_free char *cmdline = NULL;
    cleanup_free char *cgroup = NULL;
    size_t len = 0;
    snprintf(path, sizeof(path), "%s/cmdline", pid);
    if (file_read_at(proc, path, PROC_FILE_MAX, &cmdline, &len, NULL) < 0 || !is_name(cmdline, len))
        return false;
    snprintf(path, sizeof(path), "%s/cgroup", pid);
    return file_read_at(proc, path, PROC_FILE_MAX, &cgroup, NULL, NULL) == 0 && strcmp(cgroup, "0::/\n") == 0;
}

unsigned criu_left_signal(const char *proc, int sig) {
    cleanup_dir DIR *dir = opendir(proc);
    unsigned n = 0;
    const struct dirent *e;
    while (dir && (e = readdir(dir))) {
        uint64_t pid;
        if (parse_u64(e->d_name, INT32_MAX, &pid) < 0 || !is_criu(dirfd(dir), e->d_name))
            continue;
        n++;
        if (sig)
            (void)kill((pid_t)pid, sig); /* ours to reap, so the number is still its own */
    }
    return n;
}

unsigned criu_left_kill(void) {
    return criu_left_signal("/proc", SIGKILL);
}

static void done(struct criu_left *w) {
    w->timer = sd_event_source_disable_unref(w->timer);
    w->fn(w->userdata);
}

static int on_poll(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)usec;
    struct criu_left *w = userdata;
    bool late = now_usec() >= w->end;
    if (criu_left_signal("/proc", late ? SIGKILL : 0) == 0) {
        done(w);
        return 0;
    }
    if (now_usec() >= w->end + GIVE_UP_USEC) {
        log_error("CRIU cannot be killed");
        done(w);
        return 0;
    }
    int r = sd_event_source_set_time_relative(source, POLL_USEC);
    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int criu_left_wait(struct criu_left *w, sd_event *event, void (*fn)(void *userdata), void *userdata, struct err *err) {
    *w = (struct criu_left){.end = now_usec() + CRIU_LEFT_USEC, .fn = fn, .userdata = userdata};
    if (criu_left_signal("/proc", 0) == 0) {
        fn(userdata);
        return 0;
    }
    log_warn("crun has ended before its CRIU, which is waited for");
    int r = sd_event_add_time_relative(event, &w->timer, CLOCK_MONOTONIC, POLL_USEC, 0, on_poll, w);
    return r < 0 ? err_errno(err, -r, "cannot wait for CRIU") : 0;
}
