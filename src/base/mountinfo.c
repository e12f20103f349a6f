/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mountinfo.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"

int mountinfo_open(const char *path, struct mountinfo *ret, struct err *err) {
    char *text = NULL;
    int r = file_read_at(AT_FDCWD, path, MOUNTINFO_MAX, &text, NULL, err);
    if (r < 0)
        return r;
    *ret = (struct mountinfo){.text = text, .next = text};
    return 0;
}

void mountinfo_close(struct mountinfo *m) {
    free(m->text);
    *m = (struct mountinfo){0};
}

static bool is_octal(char c) {
    return c >= '0' && c <= '7';
}

/* The kernel writes blanks, tabs, newlines and backslashes as \ooo. In place: it only gets shorter. */
static char *unescape(char *s) {
    char *to = s;
    for (const char *from = s; *from;) {
        if (from[0] == '\\' && is_octal(from[1]) && is_octal(from[2]) && is_octal(from[3])) {
            *to++ = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
    return s;
}

/* "ID PARENT DEV ROOT MOUNT_POINT OPTIONS [TAG…] - TYPE SOURCE SUPER_OPTIONS" */
static bool parse_line(char *line, struct mountinfo_entry *ret) {
    char *save = NULL, *field[6], *super[3];
    for (size_t i = 0; i < ARRAY_SIZE(field); i++)
        if (!(field[i] = strtok_r(i == 0 ? line : NULL, " ", &save)))
            return false;
    const char *tag;
    do
        tag = strtok_r(NULL, " ", &save);
    while (tag && strcmp(tag, "-") != 0);
    if (!tag || !(super[0] = strtok_r(NULL, " ", &save)))
        return false;
    /* The source may be the empty string, and then there are two blanks: the options are what comes last. */
    if (!(super[1] = strtok_r(NULL, " ", &save)))
        return false;
    super[2] = strtok_r(NULL, " ", &save);
    *ret = (struct mountinfo_entry){
        .dev = field[2],
        .root = unescape(field[3]),
        .mount_point = unescape(field[4]),
        .type = super[0],
        .super_options = super[2] ? super[2] : super[1],
    };
    return true;
}

bool mountinfo_next(struct mountinfo *m, struct mountinfo_entry *ret) {
    while (m->next && *m->next) {
        char *line = m->next, *end = strchr(line, '\n');
        m->next = end ? end + 1 : NULL;
        if (end)
            *end = '\0';
        if (parse_line(line, ret))
            return true;
    }
    return false;
}
