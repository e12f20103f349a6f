/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's console: whatever it writes becomes bounded, printable lines. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm/console.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_line(void *userdata, const char *line) {
    (void)userdata;
    size_t len = strlen(line);
    if (len == 0 || len > CONSOLE_LINE_MAX)
        abort();
    for (size_t i = 0; i < len; i++)
        if (line[i] < ' ' || line[i] > '~')
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sd_event *event = NULL;
    struct console *c = NULL;
    int p[2];
    if (sd_event_new(&event) < 0 || pipe2(p, O_CLOEXEC) < 0 || console_new(event, p[0], on_line, NULL, &c, NULL) < 0)
        abort();
    for (size_t off = 0; off < size; off += 7)
        console_feed(c, (const char *)data + off, size - off < 7 ? size - off : 7);
    close(p[1]);
    console_drain(c);
    unsigned lines = 1;
    for (const char *t = console_tail(c); *t; t++)
        lines += *t == '\n';
    if (lines > CONSOLE_TAIL_LINES)
        abort();
    console_free(c);
    sd_event_unref(event);
    return 0;
}
