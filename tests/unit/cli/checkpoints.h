/* SPDX-License-Identifier: Apache-2.0 */
/* Containers that run, for `checkpoint`, and checkpoints for `restore`; what the daemon was told is in files of the
 * bundle (mock_daemon.c). */
#pragma once

#include "program.h"

#define SLEEPS "exec sleep 1000"

/* malloc'd text of a file below the test's directory. */
static inline char *text_of(const struct program *p, const char *name) {
    char *text = NULL;
    struct err err = ERR_INIT;
    if (file_read_at(p->dir->fd, name, 1 << 20, &text, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    return text;
}

/* What the daemon got, with T for the test's directory. */
static inline void assert_told(const struct program *p, const char *name, const char *want) {
    cleanup_free char *got = text_of(p, name);
    cleanup_free char *plain = calloc(1, strlen(got) + 1);
    size_t len = strlen(p->dir->path), n = 0;
    for (const char *at = got; *at;) {
        bool is_dir = strncmp(at, p->dir->path, len) == 0;
        plain[n++] = is_dir ? 'T' : *at;
        at += is_dir ? len : 1;
    }
    assert_string_equal(plain, want);
}

static inline bool is_there(const struct program *p, const char *name) {
    return faccessat(p->dir->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Entries of the test's directory whose name has `part` in it. */
static inline size_t count_named(const struct program *p, const char *part) {
    size_t n = 0;
    cleanup_dir DIR *d = opendir(p->dir->path);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));)
        n += strstr(e->d_name, part) != NULL;
    return n;
}

/* A container "c1" that runs. mode: for the mock. */
static inline void run_container(const struct program *p, const char *mode) {
    cleanup_free char *b = program_bundle(p, "b", false, mode, SLEEPS);
    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "c1");
}

static inline void remove_container(const struct program *p) {
    RUN(p, NULL, 0, "", NULL, "delete", "-f", "c1");
}
