/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <stdio.h>
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
