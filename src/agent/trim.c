/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/trim.h"

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

struct trim {
    sd_event_source *timer;
};

/* Only what is executable and not writable: it is never changed, so nothing can be lost. */
static int drop_text(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    const uintptr_t page = *(const uintptr_t *)data;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        if (h->p_type != PT_LOAD || (h->p_flags & (PF_X | PF_W)) != PF_X)
            continue;
        uintptr_t start = (info->dlpi_addr + h->p_vaddr) & ~(page - 1);
        uintptr_t end = (info->dlpi_addr + h->p_vaddr + h->p_memsz + page - 1) & ~(page - 1);
        (void)syscall(SYS_madvise, start, end - start, MADV_DONTNEED); /* only an economy */
    }
    return 0;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    (void)userdata;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    (void)malloc_trim(0);
    (void)dl_iterate_phdr(drop_text, &page);
    return 0;
}

int trim_new(sd_event *event, struct trim **ret, struct err *err) {
    struct trim *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(err, ENOMEM, "out of memory");
    int r = sd_event_add_time_relative(event, &t->timer, CLOCK_MONOTONIC, TRIM_DELAY_USEC, USEC_PER_SEC, on_time, t);
    if (r < 0) {
        free(t);
        return err_errno(err, -r, "cannot make a timer");
    }
    (void)sd_event_source_set_priority(t->timer, SD_EVENT_PRIORITY_IDLE);
    *ret = t;
    return 0;
}

void trim_later(struct trim *t) {
    int enabled = SD_EVENT_ON;
    if (!t || sd_event_source_get_enabled(t->timer, &enabled) < 0 || enabled != SD_EVENT_OFF)
        return;
    if (sd_event_source_set_time_relative(t->timer, TRIM_DELAY_USEC) >= 0)
        (void)sd_event_source_set_enabled(t->timer, SD_EVENT_ONESHOT);
}
