/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/modules.h"

#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

#define BUILTIN_MAX ((size_t)1 << 20)

/* True if a path of len bytes ("kernel/net/xx-y.ko") is that of the module. */
static bool is_module(const char *path, size_t len, const char *name) {
    const char *slash = memrchr(path, '/', len);
    if (slash) {
        len -= (size_t)(slash + 1 - path);
        path = slash + 1;
    }
    size_t i = 0;
    for (; i < len && name[i]; i++) {
        char a = path[i] == '-' ? '_' : path[i], b = name[i] == '-' ? '_' : name[i];
        if (a != b)
            return false;
    }
    return !name[i] && len - i == 3 && strncmp(path + i, ".ko", 3) == 0;
}

/* Adds the words of a list in reverse. */
static int add_reversed(const char *list, size_t len, struct strv *ret) {
    while (len) {
        while (len && list[len - 1] == ' ')
            len--;
        size_t end = len;
        while (len && list[len - 1] != ' ')
            len--;
        if (end > len && strv_addf(ret, "%.*s", (int)(end - len), list + len) < 0)
            return -ENOMEM;
    }
    return 0;
}

int modules_parse_dep(const char *dep, const char *name, struct strv *ret, struct err *err) {
    for (const char *line = dep; *line;) {
        size_t len = strcspn(line, "\n");
        const char *colon = memchr(line, ':', len);
        size_t path_len = colon ? (size_t)(colon - line) : 0;
        if (colon && is_module(line, path_len, name)) {
            int r = add_reversed(colon + 1, len - path_len - 1, ret);
            if (r == 0)
                r = strv_addf(ret, "%.*s", (int)path_len, line);
            return r < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
        }
        line += len + (line[len] == '\n');
    }
    return err_set(err, ENOENT, "the guest has no kernel module %s", name);
}

static bool is_builtin(int dir, const char *name) {
    cleanup_free char *text = NULL;
    if (file_read_at(dir, "modules.builtin", BUILTIN_MAX, &text, NULL, NULL) < 0)
        return false;
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (is_module(line, strlen(line), name))
            return true;
    return false;
}

static int load_file(int dir, const char *path, struct err *err) {
    cleanup_fd int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "cannot open module %s", path);
    if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
        return err_errno(err, errno, "cannot load module %s", path);
    return 0;
}

static int load(int dir, const char *dep, const char *name, struct err *err) {
    cleanup_strv struct strv paths = {0};
    int r = modules_parse_dep(dep, name, &paths, err);
    if (r == -ENOENT && is_builtin(dir, name))
        return 0;
    for (size_t i = 0; r == 0 && i < paths.n; i++)
        r = load_file(dir, paths.v[i], err);
    return r;
}

int modules_load(const char *const *names, size_t n, struct err *err) {
    struct utsname u;
    if (uname(&u) < 0)
        return err_errno(err, errno, "uname");
    cleanup_free char *path = str_printf("%s/%s", MODULES_DIR, u.release), *dep = NULL;
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    cleanup_fd int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_errno(err, errno, "cannot open %s", path);
    int r = file_read_at(dir, "modules.dep", MODULES_DEP_MAX, &dep, NULL, err);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = load(dir, dep, names[i], err);
    return r;
}
