/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/size_text.h"

#include <stdio.h>

#include "base/util.h"

char *size_text(uint64_t bytes, char buf[SIZE_TEXT_MAX]) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes / 1024;
    size_t i = 0;
    if (bytes < 1024) {
        snprintf(buf, SIZE_TEXT_MAX, "%u B", (unsigned)bytes);
        return buf;
    }
    /* What would be printed as 1024.0 is one of the next unit. */
    for (; v >= 1023.95 && i + 1 < ARRAY_SIZE(units); i++)
        v /= 1024;
    snprintf(buf, SIZE_TEXT_MAX, "%.1f %s", v, units[i]);
    return buf;
}

char *time_text(uint64_t usec, char buf[SIZE_TEXT_MAX]) {
    if (usec < USEC_PER_SEC)
        snprintf(buf, SIZE_TEXT_MAX, "%.*f ms", usec < 10 * USEC_PER_MSEC ? 1 : 0, (double)usec / 1000);
    else
        snprintf(buf, SIZE_TEXT_MAX, "%.1f s", (double)usec / 1000000);
    return buf;
}
