/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/cmdline.h"

#include <stddef.h>
#include <string.h>

#include "base/util.h"

#define USAGE                                                                                                          \
    "usage: %s -namespace NS -address SOCKET -publish-binary PROGRAM -id ID [-bundle DIR] [-debug] start|delete, "     \
    "%s -root DIR -id ID [-bundle DIR] [-config FILE] [-log FILE] [-log-format text|json] [-debug] serve, "            \
    "%s [-config FILE] -bundle DIR check-snapshot, %s -v, or %s -info"

/* Flags with a value, and where it goes. */
static const struct {
    const char *name;
    size_t offset;
} flags[] = {
    {"id", offsetof(struct cmdline, id)},
    {"bundle", offsetof(struct cmdline, bundle)},
    {"namespace", offsetof(struct cmdline, namespace)},
    {"address", offsetof(struct cmdline, address)},
    {"publish-binary", offsetof(struct cmdline, publish_binary)},
    {"socket", offsetof(struct cmdline, socket)},
    {"root", offsetof(struct cmdline, root)},
    {"config", offsetof(struct cmdline, config)},
    {"log", offsetof(struct cmdline, log)},
    {"log-format", offsetof(struct cmdline, log_format)},
};

/* Where the value of this flag goes; NULL: there is no such flag. */
static const char **find(struct cmdline *c, const char *name, size_t len) {
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        if (strlen(flags[i].name) == len && memcmp(flags[i].name, name, len) == 0)
            return (const char **)(void *)((char *)c + flags[i].offset);
    return NULL;
}

int cmdline_parse(int argc, char **argv, struct cmdline *ret, struct err *err) {
    struct cmdline c = {0};
    c.program = argc > 0 ? argv[0] : "";
    if (strrchr(c.program, '/'))
        c.program = strrchr(c.program, '/') + 1;
    int i = 1;
    /* Not getopt's: that takes any beginning of a name that is unique today. */
    for (; i < argc && argv[i][0] == '-'; i++) {
        const char *name = argv[i] + 1 + (argv[i][1] == '-');
        size_t len = strcspn(name, "=");
        const char **value = find(&c, name, len);
        if (value && (name[len] == '=' || i + 1 < argc))
            *value = name[len] == '=' ? name + len + 1 : argv[++i];
        else if (strcmp(name, "debug") == 0)
            c.debug = true;
        else if (strcmp(name, "v") == 0 || strcmp(name, "info") == 0)
            c.command = *name == 'i' ? "info" : "version";
        else
            return err_set(err, EINVAL, value ? "option %s: its value is missing" : "unknown option %s", argv[i]);
    }
    if (!c.command && i != argc - 1)
        return err_set(err, EINVAL, USAGE, c.program, c.program, c.program, c.program, c.program);
    if (!c.command)
        c.command = argv[i];
    *ret = c;
    return 0;
}
