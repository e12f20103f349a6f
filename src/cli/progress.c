/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

static int on_second(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)usec;
    struct progress *p = userdata;
    p->seconds++;
    dprintf(STDERR_FILENO, "\r%s: %u s", p->what, p->seconds);
    int r = sd_event_source_set_time_relative(source, USEC_PER_SEC);
    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

void progress_begin(struct progress *p, sd_event *event, const char *what) {
    p->what = what;
    if (isatty(STDERR_FILENO))
        (void)sd_event_add_time_relative(event, &p->timer, CLOCK_MONOTONIC, USEC_PER_SEC, 0, on_second, p);
}

void progress_end(struct progress *p) {
    if (p->seconds)
        dprintf(STDERR_FILENO, "\r\033[K");
    p->timer = sd_event_source_disable_unref(p->timer);
    p->seconds = 0;
}

static void __attribute__((noreturn)) show(pid_t parent, const char *what) {
    struct progress p = {0};
    sd_event *event = NULL;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent && sd_event_new(&event) >= 0) {
        progress_begin(&p, event, what);
        (void)sd_event_loop(event);
    }
    _exit(0);
}

int progress_while(const char *what, int (*fn)(void *userdata, struct err *err), void *userdata, struct err *err) {
    uint64_t begun = now_usec();
    pid_t self = getpid(), pid = isatty(STDERR_FILENO) ? fork() : -1;
    if (pid == 0)
        show(self, what);
    int r = fn(userdata, err);
    if (pid < 0)
        return r;
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (now_usec() - begun >= USEC_PER_SEC)
        dprintf(STDERR_FILENO, "\r\033[K");
    return r;
}
