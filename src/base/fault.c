/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"

#define FILE_SIZE 256
#define ERRNO_MAX 133
#define HOLD_POLL_NSEC 20000000L

#define FAULT_POINT_NAME(id, name) name,
static const char *const names[] = {FAULT_POINTS(FAULT_POINT_NAME)};

/* The action that the file has for this point; false when it has none, or there is no file. */
static bool read_action(const char *file, const char *name, char action[FILE_SIZE]) {
    char text[FILE_SIZE];
    struct statx stx;
    cleanup_fd int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    /* On virtiofs the guest would go by the size that it remembers. */
    if (fd < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_SIZE, &stx) < 0)
        return false;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    text[MAX(n, (ssize_t)0)] = '\0';
    size_t len = strlen(name);
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (strncmp(line, name, len) == 0 && line[len] == ' ') {
            snprintf(action, FILE_SIZE, "%s", line + len + 1);
            return true;
        }
    return false;
}

static void write_mark(const char *file, const char *name) {
    cleanup_free char *path = str_printf("%s.hit", file);
    cleanup_fd int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
    if (fd >= 0)
        dprintf(fd, "%s %d\n", name, (int)getpid());
}

static int errno_of(const char *text) {
    for (int e = 1; e <= ERRNO_MAX; e++) {
        const char *name = strerrorname_np(e);
        if (name && strcmp(name, text) == 0)
            return e;
    }
    return EINVAL; /* an action that there is not: a test will see it */
}

bool fault_hit(enum fault_point point) {
    const struct timespec pause = {.tv_nsec = HOLD_POLL_NSEC};
    const char *file = getenv(FAULT_FILE_ENV), *name = names[point];
    char action[FILE_SIZE];
    if (!file || !read_action(file, name, action))
        return false;
    write_mark(file, name);
    if (strcmp(action, "kill") == 0) {
        (void)kill(getpid(), SIGKILL);
        _exit(1); /* PID 1 cannot be killed */
    }
    if (strcmp(action, "hold") == 0) {
        while (read_action(file, name, action) && strcmp(action, "hold") == 0)
            nanosleep(&pause, NULL);
        return false;
    }
    errno = errno_of(action);
    return true;
}

void fault_cmdline(const char *word) {
    static const char key[] = "agent.fault=";
    if (strncmp(word, key, strlen(key)) == 0)
        (void)setenv(FAULT_FILE_ENV, word + strlen(key), 1);
}
